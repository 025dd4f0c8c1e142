#include "stoq/bundle_rx.h"

#include <stdlib.h>

#include "hypermesh/stoq_bundle.h"

_Static_assert(STOQ_BUNDLE_GAPS_MAX == STOQ_SPANS_MAX, "spans are the limit of gaps");

void bundle_rx_init(bundle_rx *rx, bool ordered, uint32_t window_bytes)
{
    hm_assert(window_bytes > 0 && (window_bytes & (window_bytes - 1)) == 0);
    *rx = (bundle_rx){
        .ordered = ordered, .window = window_bytes, .limit = window_bytes, .final = UINT64_MAX};
}

void bundle_rx_free(bundle_rx *rx)
{
    stoq_spans_free(&rx->ahead);
    free(rx->ring);
    rx->ring = NULL;
}

static bool overlaps(const stoq_spans *s, uint64_t lo, uint64_t hi)
{
    uint32_t a = 0, b = s->count; // the first span that ends after lo
    while (a < b) {
        uint32_t m = (a + b) / 2;
        if (s->at[m].hi <= lo)
            a = m + 1;
        else
            b = m;
    }
    return a < s->count && s->at[a].lo < hi;
}

static void ring_put(bundle_rx *rx, uint64_t offset, hm_bytes bytes)
{
    size_t at = offset & (rx->window - 1), n = rx->window - at;
    if (n > bytes.len)
        n = bytes.len;
    memcpy(rx->ring + at, bytes.ptr, n);
    memcpy(rx->ring, bytes.ptr + n, bytes.len - n);
}

hm_err bundle_rx_take(bundle_rx *rx, uint64_t offset, hm_bytes bytes)
{
    uint64_t end = offset + bytes.len;
    if (end > rx->limit)
        return hm_fail(HM_E_RANGE, "a piece up to byte %llu, where %llu are allowed",
                       (unsigned long long)end, (unsigned long long)rx->limit);
    if (end > rx->final)
        return hm_fail(HM_E_RANGE, "a piece beyond the end");
    if (offset < rx->next || overlaps(&rx->ahead, offset, end))
        return hm_fail(HM_E_EXISTS, "a piece at byte %llu with bytes that came before",
                       (unsigned long long)offset);
    // What is next and has nothing behind it is handed on from where it is.
    bool keep = rx->ordered && (offset != rx->next || rx->ahead.count > 0);
    if (keep && rx->ring == NULL && (rx->ring = malloc(rx->window)) == NULL)
        return HM_E_NOMEM;
    if (offset != rx->next) {
        hm_err err = stoq_spans_add(&rx->ahead, offset, end);
        if (err == HM_E_LIMIT)
            return hm_fail(err, "more than %u gaps", STOQ_BUNDLE_GAPS_MAX);
        HM_TRY(err);
    } else {
        rx->next = end;
        if (rx->ahead.count > 0 && rx->ahead.at[0].lo == end) {
            rx->next = rx->ahead.at[0].hi;
            (void)stoq_spans_remove(&rx->ahead, 0, rx->next); // splits none
        }
    }
    if (keep)
        ring_put(rx, offset, bytes);
    rx->received += bytes.len;
    if (end > rx->highest)
        rx->highest = end;
    return HM_OK;
}

hm_bytes bundle_rx_ready(const bundle_rx *rx, uint64_t offset, hm_bytes piece)
{
    if (rx->told == rx->next)
        return hm_bytes_of(NULL, 0);
    if (rx->told >= offset && rx->told < offset + piece.len) {
        size_t skip = (size_t)(rx->told - offset);
        return hm_bytes_of(piece.ptr + skip, piece.len - skip);
    }
    size_t at = rx->told & (rx->window - 1), n = rx->window - at;
    if (n > rx->next - rx->told)
        n = (size_t)(rx->next - rx->told);
    return hm_bytes_of(rx->ring + at, n);
}

void bundle_rx_told(bundle_rx *rx, size_t n)
{
    rx->told += n;
}

hm_err bundle_rx_end(bundle_rx *rx, uint64_t final)
{
    if (final < rx->highest || (rx->final != UINT64_MAX && rx->final != final))
        return hm_fail(HM_E_RANGE, "an end at byte %llu, which cannot be",
                       (unsigned long long) final);
    rx->final = final;
    return HM_OK;
}

bool bundle_rx_all(const bundle_rx *rx)
{
    return rx->next == rx->final && (!rx->ordered || rx->told == rx->next);
}

bool bundle_rx_consume(bundle_rx *rx, uint64_t n)
{
    hm_assert(n <= (rx->ordered ? rx->told : rx->received) - rx->consumed);
    rx->consumed += n;
    // A quarter of the window is worth a word.
    if (rx->consumed + rx->window - rx->limit < rx->window / 4)
        return false;
    rx->limit = rx->consumed + rx->window;
    return true;
}
