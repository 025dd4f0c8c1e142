#include "stoq/ranges.h"

#include <string.h>

#include "base/err.h"

bool stoq_ranges_has(const stoq_ranges *r, uint64_t pn)
{
    if (pn < r->floor)
        return true;
    for (uint32_t i = 0; i < r->count && r->at[i].hi >= pn; i++)
        if (r->at[i].lo <= pn)
            return true;
    return false;
}

static void erase(stoq_ranges *r, uint32_t i)
{
    memmove(&r->at[i], &r->at[i + 1], (r->count - i - 1) * sizeof r->at[0]);
    r->count--;
}

void stoq_ranges_add(stoq_ranges *r, uint64_t pn)
{
    uint32_t i = 0;
    while (i < r->count && r->at[i].lo > pn + 1)
        i++;
    if (i < r->count && r->at[i].lo == pn + 1) { // just below range i
        r->at[i].lo = pn;
        if (i + 1 < r->count && r->at[i + 1].hi + 1 == pn) {
            r->at[i].lo = r->at[i + 1].lo;
            erase(r, i + 1);
        }
        return;
    }
    if (i < r->count && r->at[i].hi + 1 == pn) { // just above it
        r->at[i].hi = pn;
        return;
    }
    hm_assert(i == r->count || r->at[i].hi < pn);
    if (r->count == STOQ_RANGES_MAX) {
        if (i == r->count) { // older than all that is remembered
            if (pn + 1 > r->floor)
                r->floor = pn + 1;
            return;
        }
        r->floor = r->at[r->count - 1].hi + 1;
        r->count--;
    }
    memmove(&r->at[i + 1], &r->at[i], (r->count - i) * sizeof r->at[0]);
    r->at[i].lo = r->at[i].hi = pn;
    r->count++;
}
