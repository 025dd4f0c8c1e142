// Bytes to be sent in order and kept until acknowledged (a stream's, or the CRYPTO bytes of a
// level): a queue of extents, each either a block that writes are copied into or the application's
// own bytes, lent until they are acknowledged. Packets are sealed straight from them.
#ifndef HM_STOQ_SENDBUF_H
#define HM_STOQ_SENDBUF_H

#include "stoq/spans.h"

typedef struct stoq_extent {
    uint64_t offset; // of its first byte
    uint32_t len;
    uint32_t cap;       // bytes of a block; 0: lent
    const uint8_t *ptr; // a block is owned
    void *tag;          // of lent bytes
} stoq_extent;

typedef struct stoq_sendbuf {
    stoq_extent *at; // ring, owned; `cap` is a power of two, or 0
    uint32_t cap, first, count;
    uint32_t max;     // bytes kept by copies; less than what is there when it was lowered
    bool abandoned;   // nothing more is sent
    uint32_t hint;    // where the last bytes were found, counted from first
    uint64_t base;    // all before is acknowledged
    uint64_t next;    // first byte never sent
    uint64_t end;     // end of what was written
    stoq_spans acked; // beyond base
    stoq_spans lost;  // to be sent again, before next
} stoq_sendbuf;

static inline void stoq_sendbuf_init(stoq_sendbuf *b, uint32_t max_bytes)
{
    *b = (stoq_sendbuf){.max = max_bytes};
}
void stoq_sendbuf_free(stoq_sendbuf *b);
static inline size_t stoq_sendbuf_room(const stoq_sendbuf *b)
{
    uint64_t used = b->end - b->base;
    return used < b->max ? b->max - (size_t)used : 0;
}
// Copies data that fit (asserted against stoq_sendbuf_room). Without memory nothing is taken.
HM_CHECK hm_err stoq_sendbuf_append(stoq_sendbuf *b, hm_bytes data);
// Takes bytes (not none) that stay the caller's until stoq_sendbuf_returned() gives the tag back.
HM_CHECK hm_err stoq_sendbuf_lend(stoq_sendbuf *b, hm_bytes data, void *tag);
// Lent bytes that are no longer needed, in the order in which they were lent; false: none.
bool stoq_sendbuf_returned(stoq_sendbuf *b, void **tag);
static inline bool stoq_sendbuf_returns(const stoq_sendbuf *b)
{
    if (b->count == 0)
        return false;
    const stoq_extent *e = &b->at[b->first];
    return e->cap == 0 && (b->abandoned || e->offset + e->len <= b->base);
}
// Nothing more is sent, written or acknowledged: all that was lent goes back.
void stoq_sendbuf_abandon(stoq_sendbuf *b);
// All is to be sent anew, as if nothing had been (asserted: nothing is acknowledged).
void stoq_sendbuf_rewind(stoq_sendbuf *b);
// What to send next: lost bytes first, then new ones before limit. *len is 0 for nothing.
static inline void stoq_sendbuf_next(const stoq_sendbuf *b, uint64_t limit, size_t max,
                                     uint64_t *offset, size_t *len)
{
    uint64_t lo = b->next, hi = b->end < limit ? b->end : limit;
    if (b->lost.count) {
        lo = b->lost.at[0].lo;
        hi = b->lost.at[0].hi;
    }
    *offset = lo;
    *len = hi <= lo ? 0 : hi - lo < max ? (size_t)(hi - lo) : max;
}
// These bytes in place; NULL when they are not in one piece. Valid until the next call that
// changes the buffer.
const uint8_t *stoq_sendbuf_view(stoq_sendbuf *b, uint64_t offset, size_t len);
void stoq_sendbuf_copy(stoq_sendbuf *b, uint64_t offset, size_t len, uint8_t *out);
// They were sent.
void stoq_sendbuf_sent(stoq_sendbuf *b, uint64_t offset, size_t len);
// Copies the bytes out and takes them as sent.
static inline void stoq_sendbuf_take(stoq_sendbuf *b, uint64_t offset, size_t len, uint8_t *out)
{
    stoq_sendbuf_copy(b, offset, len, out);
    stoq_sendbuf_sent(b, offset, len);
}
void stoq_sendbuf_on_acked(stoq_sendbuf *b, uint64_t offset, size_t len);
void stoq_sendbuf_on_lost(stoq_sendbuf *b, uint64_t offset, size_t len);
static inline bool stoq_sendbuf_all_acked(const stoq_sendbuf *b)
{
    return b->base == b->end;
}

#endif
