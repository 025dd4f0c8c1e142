#include "stoq/window.h"

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void set(stoq_window *w, uint64_t read, uint64_t now_us)
{
    uint32_t part = w->size / (w->size < w->limit ? 4 : 2);
    w->max = read + w->size;
    w->due = read + least(part, STOQ_WINDOW_STEP);
    w->opened_us = now_us;
}

void stoq_window_init(stoq_window *w, uint32_t begin, uint32_t limit, uint64_t now_us)
{
    *w = (stoq_window){.size = least(begin, limit), .limit = limit};
    set(w, 0, now_us);
}

// Half the window would take less than two round trips at the speed at which these were read.
static bool is_fast(const stoq_window *w, uint64_t bytes, uint64_t us, uint64_t rtt_us)
{
    return us * (w->size / 2) < 2 * rtt_us * bytes;
}

bool stoq_window_move(stoq_window *w, uint64_t read, uint64_t now_us, uint64_t rtt_us)
{
    uint64_t bytes = read + w->size - w->max; // since it was moved last
    if (w->size < w->limit && is_fast(w, bytes, now_us - w->opened_us, rtt_us))
        w->size = w->size < w->limit / 2 ? 2 * w->size : w->limit;
    set(w, read, now_us);
    return true;
}
