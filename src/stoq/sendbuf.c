#include "stoq/sendbuf.h"

#include <stdlib.h>

void stoq_sendbuf_free(stoq_sendbuf *b)
{
    free(b->mem);
    b->mem = NULL;
    b->cap = 0;
    stoq_spans_free(&b->acked);
    stoq_spans_free(&b->lost);
}

static void ring_in(stoq_sendbuf *b, uint64_t offset, const uint8_t *p, size_t len)
{
    size_t at = offset & (b->cap - 1), first = b->cap - at < len ? b->cap - at : len;
    memcpy(b->mem + at, p, first);
    memcpy(b->mem, p + first, len - first);
}

static void ring_out(const stoq_sendbuf *b, uint64_t offset, uint8_t *p, size_t len)
{
    size_t at = offset & (b->cap - 1), first = b->cap - at < len ? b->cap - at : len;
    memcpy(p, b->mem + at, first);
    memcpy(p + first, b->mem, len - first);
}

static hm_err grow(stoq_sendbuf *b, uint64_t need)
{
    stoq_sendbuf t = *b;
    t.cap = b->cap ? b->cap : 2048;
    while (t.cap < need)
        t.cap *= 2;
    t.mem = malloc(t.cap);
    if (t.mem == NULL)
        return HM_E_NOMEM;
    for (uint64_t o = b->base; o < b->end;) {
        size_t at = o & (b->cap - 1), n = b->cap - at;
        if (n > b->end - o)
            n = (size_t)(b->end - o);
        ring_in(&t, o, b->mem + at, n);
        o += n;
    }
    free(b->mem);
    b->mem = t.mem;
    b->cap = t.cap;
    return HM_OK;
}

hm_err stoq_sendbuf_append(stoq_sendbuf *b, hm_bytes data)
{
    hm_assert(data.len <= stoq_sendbuf_room(b));
    if (data.len == 0)
        return HM_OK;
    uint64_t need = b->end - b->base + data.len;
    if (need > b->cap)
        HM_TRY(grow(b, need));
    ring_in(b, b->end, data.ptr, data.len);
    b->end += data.len;
    return HM_OK;
}

void stoq_sendbuf_next(const stoq_sendbuf *b, uint64_t limit, size_t max, uint64_t *offset,
                       size_t *len)
{
    uint64_t lo = b->next, hi = b->end < limit ? b->end : limit;
    if (b->lost.count) {
        lo = b->lost.at[0].lo;
        hi = b->lost.at[0].hi;
    }
    *offset = lo;
    *len = hi <= lo ? 0 : hi - lo < max ? (size_t)(hi - lo) : max;
}

void stoq_sendbuf_take(stoq_sendbuf *b, uint64_t offset, size_t len, uint8_t *out)
{
    hm_assert(offset >= b->base && offset + len <= b->end);
    ring_out(b, offset, out, len);
    if (offset + len > b->next)
        b->next = offset + len;
    if (b->lost.count)
        stoq_spans_remove(&b->lost, offset, offset + len); // a prefix of the first: never splits
}

void stoq_sendbuf_on_acked(stoq_sendbuf *b, uint64_t offset, size_t len)
{
    uint64_t end = offset + len;
    if (end <= b->base)
        return;
    if (offset < b->base)
        offset = b->base;
    if (b->lost.count)
        stoq_spans_remove(&b->lost, offset, end);
    if (offset > b->base) {
        // Without room to remember it, the acknowledgement is forgotten and the bytes go again.
        if (stoq_spans_add(&b->acked, offset, end) != HM_OK)
            stoq_sendbuf_on_lost(b, offset, (size_t)(end - offset));
        return;
    }
    b->base = end;
    while (b->acked.count && b->acked.at[0].lo <= b->base) {
        if (b->acked.at[0].hi > b->base)
            b->base = b->acked.at[0].hi;
        stoq_spans_remove(&b->acked, 0, b->acked.at[0].hi);
    }
    if (b->lost.count)
        stoq_spans_remove(&b->lost, 0, b->base);
}

void stoq_sendbuf_on_lost(stoq_sendbuf *b, uint64_t offset, size_t len)
{
    uint64_t lo = offset > b->base ? offset : b->base, end = offset + len;
    for (uint32_t i = 0; lo < end; i++) {
        // Up to the next acknowledged span is lost, then go on behind that.
        uint64_t hi = end, after = end;
        while (i < b->acked.count && b->acked.at[i].hi <= lo)
            i++;
        if (i < b->acked.count && b->acked.at[i].lo < end) {
            hi = b->acked.at[i].lo;
            after = b->acked.at[i].hi;
        }
        if (hi > lo && stoq_spans_add(&b->lost, lo, hi) != HM_OK) {
            // No room for another span: send again from here to the last one instead.
            stoq_span *last = &b->lost.at[b->lost.count - 1];
            uint64_t from = lo < last->lo ? lo : last->lo, to = hi > last->hi ? hi : last->hi;
            stoq_spans_remove(&b->lost, from, UINT64_MAX);
            hm_err err = stoq_spans_add(&b->lost, from, to);
            hm_assert(err == HM_OK);
        }
        lo = after;
    }
}
