// Bytes to be sent in order and kept until acknowledged (a stream's, or the CRYPTO bytes of a
// level): a ring that grows by doubling up to its limit. Packets copy straight from it.
#ifndef HM_STOQ_SENDBUF_H
#define HM_STOQ_SENDBUF_H

#include "stoq/spans.h"

typedef struct stoq_sendbuf {
    uint8_t *mem;     // owned
    uint32_t cap;     // power of two, or 0
    uint32_t max;     // bytes kept; less than what is there when it was lowered
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
// Copies data that fit (asserted against stoq_sendbuf_room).
HM_CHECK hm_err stoq_sendbuf_append(stoq_sendbuf *b, hm_bytes data);
// What to send next: lost bytes first, then new ones before limit. *len is 0 for nothing.
void stoq_sendbuf_next(const stoq_sendbuf *b, uint64_t limit, size_t max, uint64_t *offset,
                       size_t *len);
// Copies the bytes out and takes them as sent.
void stoq_sendbuf_take(stoq_sendbuf *b, uint64_t offset, size_t len, uint8_t *out);
void stoq_sendbuf_on_acked(stoq_sendbuf *b, uint64_t offset, size_t len);
void stoq_sendbuf_on_lost(stoq_sendbuf *b, uint64_t offset, size_t len);
static inline bool stoq_sendbuf_all_acked(const stoq_sendbuf *b)
{
    return b->base == b->end;
}

#endif
