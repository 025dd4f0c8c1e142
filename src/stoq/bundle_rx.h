// The receiving side of a bundle's channel: takes pieces in any order, each byte once, and hands
// them on as they come or in order. Memory: the spans beyond the first gap, STOQ_BUNDLE_GAPS_MAX of
// them, and when ordered a ring of the window, which is made when the first piece comes too early.
#ifndef HM_STOQ_BUNDLE_RX_H
#define HM_STOQ_BUNDLE_RX_H

#include "stoq/spans.h"

typedef struct bundle_rx {
    bool ordered, ended; // ended: the end was told
    uint32_t window;     // a power of two
    uint64_t consumed;   // the application is done with so many bytes
    uint64_t limit;      // that the peer was told; no byte at or after it may come
    uint64_t next;       // all before it has come
    uint64_t told;       // ordered: all before it was handed on
    uint64_t received;   // bytes
    uint64_t highest;    // end of the last one that came
    uint64_t final;      // UINT64_MAX: not known
    stoq_spans ahead;    // what came beyond next
    uint8_t *ring;       // owned; NULL: nothing came early yet
} bundle_rx;

void bundle_rx_init(bundle_rx *rx, bool ordered, uint32_t window_bytes);
void bundle_rx_free(bundle_rx *rx);
// A piece. HM_E_RANGE: beyond the limit or the end; HM_E_EXISTS: bytes of it came before;
// HM_E_LIMIT: too many gaps; HM_E_NOMEM. Afterwards, unordered, the bytes may be handed on;
// ordered, those of bundle_rx_ready().
HM_CHECK hm_err bundle_rx_take(bundle_rx *rx, uint64_t offset, hm_bytes bytes);
// Ordered: the next bytes in place and their offset; empty: none. `piece` is what was taken just
// now, which is not in the ring when it came in order.
hm_bytes bundle_rx_ready(const bundle_rx *rx, uint64_t offset, hm_bytes piece);
void bundle_rx_told(bundle_rx *rx, size_t n);
// The final size. HM_E_RANGE: not what it was, or less than what came.
HM_CHECK hm_err bundle_rx_end(bundle_rx *rx, uint64_t final);
bool bundle_rx_all(const bundle_rx *rx); // everything has come, and was handed on
// The application is done with n bytes more. True: the limit has moved, and the peer is to know.
bool bundle_rx_consume(bundle_rx *rx, uint64_t n);

#endif
