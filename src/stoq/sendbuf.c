#include "stoq/sendbuf.h"

#include <stdlib.h>

#define BLOCK_MIN 512u
#define BLOCK_MAX 65536u

// The extent at an index from the first.
static stoq_extent *extent(const stoq_sendbuf *b, uint32_t i)
{
    return &b->at[(b->first + i) & (b->cap - 1)];
}

static void extent_free(stoq_extent *e)
{
    if (e->cap > 0)
        free((uint8_t *)e->ptr);
}

void stoq_sendbuf_free(stoq_sendbuf *b)
{
    for (uint32_t i = 0; i < b->count; i++)
        extent_free(extent(b, i));
    free(b->at);
    b->at = NULL;
    b->cap = b->first = b->count = 0;
    stoq_spans_free(&b->acked);
    stoq_spans_free(&b->lost);
}

// Room for more extents.
static hm_err reserve(stoq_sendbuf *b, uint32_t more)
{
    if (b->cap - b->count >= more)
        return HM_OK;
    uint32_t cap = b->cap ? b->cap * 2 : 4;
    while (cap - b->count < more)
        cap *= 2;
    stoq_extent *at = malloc(cap * sizeof *at);
    if (at == NULL)
        return HM_E_NOMEM;
    for (uint32_t i = 0; i < b->count; i++)
        at[i] = *extent(b, i);
    free(b->at);
    b->at = at;
    b->cap = cap;
    b->first = 0;
    return HM_OK;
}

// Blocks grow with what is written: each is twice as long as the one before it, but for one that
// follows lent bytes, which may be short and end it soon.
static uint32_t block_size(const stoq_sendbuf *b, size_t wanted)
{
    uint32_t size = b->count > 0 ? 2 * extent(b, b->count - 1)->cap : 0;
    size = size < BLOCK_MIN ? BLOCK_MIN : size;
    while (size < BLOCK_MAX && size < wanted)
        size *= 2;
    return size < BLOCK_MAX ? size : BLOCK_MAX;
}

hm_err stoq_sendbuf_append(stoq_sendbuf *b, hm_bytes data)
{
    hm_assert(data.len <= stoq_sendbuf_room(b));
    if (data.len == 0)
        return HM_OK;
    stoq_extent *last = b->count > 0 ? extent(b, b->count - 1) : NULL;
    size_t room = last != NULL ? last->cap - (last->cap > 0 ? last->len : 0) : 0;
    size_t rest = data.len > room ? data.len - room : 0, had = data.len - rest;
    // Blocks first, so that nothing is taken without memory.
    uint32_t old = b->count;
    uint64_t offset = b->end + had;
    for (size_t left = rest; left > 0;) {
        uint32_t size = block_size(b, left);
        uint8_t *mem = reserve(b, 1) == HM_OK ? malloc(size) : NULL;
        if (mem == NULL) {
            while (b->count > old)
                extent_free(extent(b, --b->count));
            return HM_E_NOMEM;
        }
        uint32_t n = left < size ? (uint32_t)left : size;
        memcpy(mem, data.ptr + (data.len - left), n);
        b->count++;
        *extent(b, b->count - 1) =
            (stoq_extent){.offset = offset, .len = n, .cap = size, .ptr = mem};
        offset += n;
        left -= n;
    }
    if (had > 0) {
        last = extent(b, old - 1);
        memcpy((uint8_t *)last->ptr + last->len, data.ptr, had);
        last->len += (uint32_t)had;
    }
    b->end += data.len;
    return HM_OK;
}

hm_err stoq_sendbuf_lend(stoq_sendbuf *b, hm_bytes data, void *tag)
{
    hm_assert(data.len > 0 && data.len <= UINT32_MAX);
    HM_TRY(reserve(b, 1));
    b->count++;
    *extent(b, b->count - 1) =
        (stoq_extent){.offset = b->end, .len = (uint32_t)data.len, .ptr = data.ptr, .tag = tag};
    b->end += data.len;
    return HM_OK;
}

static void drop_first(stoq_sendbuf *b)
{
    extent_free(extent(b, 0));
    b->first = (b->first + 1) & (b->cap - 1);
    b->count--;
    b->hint = b->hint > 0 ? b->hint - 1 : 0;
}

// Blocks that are acknowledged whole, up to lent bytes that are yet to be given back.
static void drop_acked(stoq_sendbuf *b)
{
    while (b->count > 0) {
        stoq_extent *e = extent(b, 0);
        if (e->cap == 0 || (e->offset + e->len > b->base && !b->abandoned))
            return;
        // The last small one stays for the next write.
        if (!b->abandoned && b->count == 1 && e->cap == BLOCK_MIN && e->offset + e->len == b->end) {
            e->offset = b->end;
            e->len = 0;
            return;
        }
        drop_first(b);
    }
}

bool stoq_sendbuf_returned(stoq_sendbuf *b, void **tag)
{
    if (!stoq_sendbuf_returns(b))
        return false;
    *tag = extent(b, 0)->tag;
    drop_first(b);
    drop_acked(b);
    return true;
}

void stoq_sendbuf_abandon(stoq_sendbuf *b)
{
    b->abandoned = true;
    stoq_spans_free(&b->acked);
    stoq_spans_free(&b->lost);
    drop_acked(b);
}

void stoq_sendbuf_rewind(stoq_sendbuf *b)
{
    hm_assert(b->base == 0 && b->acked.count == 0);
    stoq_spans_free(&b->lost);
    b->next = 0;
}

// The extent that holds the byte at an offset before end.
static stoq_extent *find(stoq_sendbuf *b, uint64_t offset)
{
    stoq_extent *e = extent(b, b->hint);
    if (b->hint < b->count && offset >= e->offset) {
        if (offset < e->offset + e->len)
            return e;
        e = extent(b, b->hint + 1);
        if (b->hint + 1 < b->count && offset >= e->offset && offset < e->offset + e->len) {
            b->hint++;
            return e;
        }
    }
    uint32_t lo = 0, hi = b->count;
    while (hi - lo > 1) {
        uint32_t m = lo + (hi - lo) / 2;
        if (extent(b, m)->offset <= offset)
            lo = m;
        else
            hi = m;
    }
    b->hint = lo;
    return extent(b, lo);
}

const uint8_t *stoq_sendbuf_view(stoq_sendbuf *b, uint64_t offset, size_t len)
{
    hm_assert(len > 0 && offset >= b->base && offset + len <= b->end);
    const stoq_extent *e = find(b, offset);
    return offset + len <= e->offset + e->len ? e->ptr + (offset - e->offset) : NULL;
}

void stoq_sendbuf_copy(stoq_sendbuf *b, uint64_t offset, size_t len, uint8_t *out)
{
    hm_assert(offset >= b->base && offset + len <= b->end);
    while (len > 0) {
        const stoq_extent *e = find(b, offset);
        size_t n = (size_t)(e->offset + e->len - offset);
        if (n > len)
            n = len;
        memcpy(out, e->ptr + (offset - e->offset), n);
        out += n;
        offset += n;
        len -= n;
    }
}

void stoq_sendbuf_sent(stoq_sendbuf *b, uint64_t offset, size_t len)
{
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
    drop_acked(b);
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
            hm_assert(b->lost.count > 0); // the first one finds memory, or nothing goes on
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
