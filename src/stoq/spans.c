#include "stoq/spans.h"

#include <stdlib.h>

void stoq_spans_free(stoq_spans *s)
{
    free(s->at);
    *s = (stoq_spans){0};
}

static hm_err make_room(stoq_spans *s)
{
    if (s->count < s->cap)
        return HM_OK;
    if (s->cap >= STOQ_SPANS_MAX)
        return HM_E_LIMIT;
    uint32_t cap = s->cap ? s->cap * 2 : 8;
    stoq_span *at = realloc(s->at, cap * sizeof *at);
    if (at == NULL)
        return HM_E_NOMEM;
    s->at = at;
    s->cap = cap;
    return HM_OK;
}

// The first span that ends at or after x.
static uint32_t find(const stoq_spans *s, uint64_t x)
{
    uint32_t a = 0, b = s->count;
    while (a < b) {
        uint32_t m = (a + b) / 2;
        if (s->at[m].hi < x)
            a = m + 1;
        else
            b = m;
    }
    return a;
}

static hm_err insert(stoq_spans *s, uint32_t i, uint64_t lo, uint64_t hi)
{
    HM_TRY(make_room(s));
    memmove(&s->at[i + 1], &s->at[i], (s->count - i) * sizeof s->at[0]);
    s->at[i] = (stoq_span){lo, hi};
    s->count++;
    return HM_OK;
}

static void erase(stoq_spans *s, uint32_t from, uint32_t to)
{
    if (from < to) {
        memmove(&s->at[from], &s->at[to], (s->count - to) * sizeof s->at[0]);
        s->count -= to - from;
    }
}

hm_err stoq_spans_add(stoq_spans *s, uint64_t lo, uint64_t hi)
{
    if (lo >= hi)
        return HM_OK;
    uint32_t i = find(s, lo);
    if (i == s->count || s->at[i].lo > hi)
        return insert(s, i, lo, hi);
    uint32_t j = i;
    while (j < s->count && s->at[j].lo <= hi)
        j++;
    stoq_span *t = &s->at[i];
    if (lo < t->lo)
        t->lo = lo;
    t->hi = s->at[j - 1].hi > hi ? s->at[j - 1].hi : hi;
    erase(s, i + 1, j);
    return HM_OK;
}

bool stoq_spans_remove(stoq_spans *s, uint64_t lo, uint64_t hi)
{
    uint32_t i = find(s, lo);
    if (i < s->count && s->at[i].hi == lo)
        i++;
    if (i < s->count && s->at[i].lo < lo) {
        uint64_t end = s->at[i].hi;
        if (end > hi && insert(s, i + 1, hi, end) != HM_OK)
            return false;
        s->at[i].hi = lo;
        if (end >= hi)
            return true;
        i++;
    }
    uint32_t j = i;
    while (j < s->count && s->at[j].hi <= hi)
        j++;
    erase(s, i, j);
    if (i < s->count && s->at[i].lo < hi)
        s->at[i].lo = hi;
    return true;
}
