#include "stoq/recvbuf.h"

#include <stdlib.h>

#define RING_MIN 2048u // bytes; a ring without content keeps no more

void stoq_recvbuf_free(stoq_recvbuf *b)
{
    free(b->mem);
    stoq_spans_free(&b->ahead);
    b->mem = NULL;
    b->cap = 0;
}

static void ring_copy_in(uint8_t *mem, uint32_t cap, uint64_t offset, const uint8_t *p, size_t len)
{
    size_t at = offset & (cap - 1), first = cap - at < len ? cap - at : len;
    memcpy(mem + at, p, first);
    memcpy(mem, p + first, len - first);
}

static hm_err grow(stoq_recvbuf *b, uint64_t need)
{
    uint32_t cap = b->cap ? b->cap : RING_MIN;
    while (cap < need)
        cap *= 2;
    uint8_t *mem = malloc(cap);
    if (mem == NULL)
        return HM_E_NOMEM;
    // Everything in the old ring moves, gaps too: they are within it.
    for (uint64_t o = b->read; b->cap && o < b->read + b->cap;) {
        size_t at = o & (b->cap - 1), n = b->cap - at;
        if (n > b->read + b->cap - o)
            n = (size_t)(b->read + b->cap - o);
        ring_copy_in(mem, cap, o, b->mem + at, n);
        o += n;
    }
    free(b->mem);
    b->mem = mem;
    b->cap = cap;
    return HM_OK;
}

// Bytes that follow what is ready stay in their datagram.
static bool lend(stoq_recvbuf *b, hm_bytes data, stoq_loans *loans)
{
    if (loans == NULL || b->ahead.count > 0 || loans->count == STOQ_LOANS_MAX)
        return false;
    uint32_t at = loans->count++;
    loans->at[at].bytes = data;
    loans->at[at].next = STOQ_LOANS_MAX;
    if (b->loans == NULL) {
        b->loans = loans;
        b->lent_at = b->ready;
        b->first = at;
    } else {
        loans->at[b->last].next = at;
    }
    b->last = at;
    b->ready += data.len;
    return true;
}

hm_err stoq_recvbuf_write(stoq_recvbuf *b, uint64_t offset, hm_bytes data, stoq_loans *loans)
{
    uint64_t end = offset + data.len;
    if (end > b->read + b->max)
        return HM_E_LIMIT;
    if (end <= b->ready || data.len == 0)
        return HM_OK;
    if (offset < b->ready) { // skip what is there already
        data.ptr += b->ready - offset;
        data.len -= (size_t)(b->ready - offset);
        offset = b->ready;
    }
    if (offset == b->ready && lend(b, data, loans))
        return HM_OK;
    HM_TRY(stoq_recvbuf_settle(b));
    if (end - b->read > b->cap)
        HM_TRY(grow(b, end - b->read));
    if (offset > b->ready && stoq_spans_add(&b->ahead, offset, end) != HM_OK)
        return HM_E_STOQ_DROPPED;
    ring_copy_in(b->mem, b->cap, offset, data.ptr, data.len);
    if (offset > b->ready)
        return HM_OK;
    b->ready = end;
    while (b->ahead.count && b->ahead.at[0].lo <= b->ready) {
        if (b->ahead.at[0].hi > b->ready)
            b->ready = b->ahead.at[0].hi;
        stoq_spans_remove(&b->ahead, 0, b->ahead.at[0].hi);
    }
    return HM_OK;
}

hm_err stoq_recvbuf_settle(stoq_recvbuf *b)
{
    if (b->loans == NULL)
        return HM_OK;
    if (b->ready - b->read > b->cap)
        HM_TRY(grow(b, b->ready - b->read));
    for (uint32_t i = b->first; i != STOQ_LOANS_MAX; i = b->loans->at[i].next) {
        hm_bytes data = b->loans->at[i].bytes;
        ring_copy_in(b->mem, b->cap, b->lent_at, data.ptr, data.len);
        b->lent_at += data.len;
    }
    b->loans = NULL;
    return HM_OK;
}

hm_bytes stoq_recvbuf_peek(const stoq_recvbuf *b)
{
    uint64_t end = b->loans != NULL ? b->lent_at : b->ready;
    if (b->read == end)
        return b->loans != NULL ? b->loans->at[b->first].bytes : hm_bytes_of(NULL, 0);
    size_t at = b->read & (b->cap - 1), n = b->cap - at;
    if (n > end - b->read)
        n = (size_t)(end - b->read);
    return hm_bytes_of(b->mem + at, n);
}

void stoq_recvbuf_consume(stoq_recvbuf *b, size_t n)
{
    hm_assert(n <= b->ready - b->read);
    b->read += n;
    if (b->read == b->ready && b->ahead.count == 0 && b->cap > RING_MIN) {
        free(b->mem); // a stream that has been read holds no memory
        b->mem = NULL;
        b->cap = 0;
    }
    while (b->loans != NULL && b->lent_at < b->read) {
        hm_bytes *data = &b->loans->at[b->first].bytes;
        size_t gone = b->read - b->lent_at < data->len ? (size_t)(b->read - b->lent_at) : data->len;
        data->ptr += gone;
        data->len -= gone;
        b->lent_at += gone;
        if (data->len > 0)
            return;
        b->first = b->loans->at[b->first].next;
        if (b->first == STOQ_LOANS_MAX)
            b->loans = NULL;
    }
}

void stoq_recvbuf_skip(stoq_recvbuf *b, uint64_t end)
{
    b->loans = NULL;
    b->read = b->ready = end;
    stoq_spans_free(&b->ahead);
}
