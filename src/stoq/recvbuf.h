// Reassembly of received bytes (a stream's, or the CRYPTO bytes of a level): a ring that grows by
// doubling up to its window, and the spans that came out of order.
#ifndef HM_STOQ_RECVBUF_H
#define HM_STOQ_RECVBUF_H

#include "stoq/spans.h"

typedef struct stoq_recvbuf {
    uint8_t *mem;     // owned
    uint32_t cap;     // power of two, or 0
    uint32_t max;     // window, a power of two
    uint64_t read;    // offset of the first byte that was not consumed
    uint64_t ready;   // end of the bytes that are there without a gap
    stoq_spans ahead; // beyond ready
} stoq_recvbuf;

static inline void stoq_recvbuf_init(stoq_recvbuf *b, uint32_t max_bytes)
{
    *b = (stoq_recvbuf){.max = max_bytes};
}
void stoq_recvbuf_free(stoq_recvbuf *b);
// Stores bytes at an offset; parts that are there already are skipped. Bytes beyond read + max are
// HM_E_LIMIT. HM_E_STOQ_DROPPED when there are too many gaps: the packet is to be treated as lost.
HM_CHECK hm_err stoq_recvbuf_write(stoq_recvbuf *b, uint64_t offset, hm_bytes data);
// The longest run that can be read in place.
hm_bytes stoq_recvbuf_peek(const stoq_recvbuf *b);
void stoq_recvbuf_consume(stoq_recvbuf *b, size_t n);

#endif
