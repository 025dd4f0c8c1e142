// Reassembly of received bytes (a stream's, or the CRYPTO bytes of a level): a ring that grows by
// doubling up to its window, the spans that came out of order, and behind what the ring has the
// bytes that are still in their datagrams.
#ifndef HM_STOQ_RECVBUF_H
#define HM_STOQ_RECVBUF_H

#include "stoq/spans.h"

#define STOQ_LOANS_MAX 128u

// Bytes in datagrams that the socket's buffer holds for now: what comes in order is read in place
// and copied only if it was not read before the buffer is needed again.
typedef struct stoq_loans {
    uint32_t count;
    struct stoq_loan {
        hm_bytes bytes;
        uint32_t next; // of the same stream; STOQ_LOANS_MAX: none
    } at[STOQ_LOANS_MAX];
} stoq_loans;

typedef struct stoq_recvbuf {
    uint8_t *mem;     // owned
    uint32_t cap;     // power of two, or 0
    uint32_t max;     // window, a power of two
    uint64_t read;    // offset of the first byte that was not consumed
    uint64_t ready;   // end of the bytes that are there without a gap
    stoq_spans ahead; // beyond ready
    // From lent_at on (to ready) the bytes are on loan; NULL: none is.
    stoq_loans *loans;
    uint64_t lent_at;
    uint32_t first, last;
} stoq_recvbuf;

static inline void stoq_recvbuf_init(stoq_recvbuf *b, uint32_t max_bytes)
{
    *b = (stoq_recvbuf){.max = max_bytes};
}
void stoq_recvbuf_free(stoq_recvbuf *b);
// Stores bytes at an offset; parts that are there already are skipped. Bytes beyond read + max are
// HM_E_LIMIT. HM_E_STOQ_DROPPED when there are too many gaps: the packet is to be treated as lost.
// With loans the data may stay where they are until stoq_recvbuf_settle(): b->loans is then set.
HM_CHECK hm_err stoq_recvbuf_write(stoq_recvbuf *b, uint64_t offset, hm_bytes data,
                                   stoq_loans *loans);
// Copies what is on loan and was not consumed. HM_E_NOMEM leaves it on loan.
HM_CHECK hm_err stoq_recvbuf_settle(stoq_recvbuf *b);
// The longest run that can be read in place.
hm_bytes stoq_recvbuf_peek(const stoq_recvbuf *b);
void stoq_recvbuf_consume(stoq_recvbuf *b, size_t n);
// All up to `end` counts as read; what was on loan is given back.
void stoq_recvbuf_skip(stoq_recvbuf *b, uint64_t end);

#endif
