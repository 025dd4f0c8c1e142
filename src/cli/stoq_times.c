// How long things took: the lowest, the highest, and what so many of a hundred stayed below.
#include <stdio.h>
#include <stdlib.h>

#include "cli/stoq.h"

hm_err times_add(times *t, uint64_t us)
{
    if (t->count == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 1024;
        uint64_t *more = realloc(t->us, cap * sizeof(uint64_t));
        if (!more)
            return HM_E_NOMEM;
        t->us = more;
        t->cap = cap;
    }
    t->us[t->count++] = us;
    return HM_OK;
}

void times_free(times *t)
{
    free(t->us);
    *t = (times){0};
}

static int by_time(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

#define MARKS 6u
static const char *const marks[MARKS] = {"min", "avg", "p50", "p99", "p999", "max"};

static void times_marks(times *t, uint64_t out[MARKS])
{
    uint64_t sum = 0;
    qsort(t->us, t->count, sizeof(uint64_t), by_time);
    for (size_t i = 0; i < t->count; i++)
        sum += t->us[i];
    out[0] = t->us[0];
    out[1] = sum / t->count;
    out[2] = t->us[t->count / 2];
    out[3] = t->us[t->count * 99 / 100];
    out[4] = t->us[t->count * 999 / 1000];
    out[5] = t->us[t->count - 1];
}

void times_json(times *t, hm_buf *b)
{
    uint64_t v[MARKS];
    char name[16];
    if (t->count == 0)
        return;
    times_marks(t, v);
    for (size_t i = 0; i < MARKS; i++) {
        snprintf(name, sizeof(name), "%s_us", marks[i]);
        hm_jw_u64(b, name, v[i]);
    }
}

void times_print(times *t)
{
    uint64_t v[MARKS];
    if (t->count > 0) {
        times_marks(t, v);
        for (size_t i = 0; i < MARKS; i++)
            printf("%s%s %.3f", i > 0 ? "  " : ": ", marks[i], (double)v[i] / 1000);
        printf(" ms");
    }
    putchar('\n');
}
