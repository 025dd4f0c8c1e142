// A sorted set of byte spans [lo, hi). Empty it owns nothing; it allocates only when bytes arrive
// or get lost out of order, and stays under STOQ_SPANS_MAX whatever the peer does.
#ifndef HM_STOQ_SPANS_H
#define HM_STOQ_SPANS_H

#include "base/bytes.h"

#define STOQ_SPANS_MAX 1024

typedef struct stoq_span {
    uint64_t lo, hi;
} stoq_span;

typedef struct stoq_spans {
    stoq_span *at; // owned
    uint32_t count, cap;
} stoq_spans;

void stoq_spans_free(stoq_spans *s);
// Adds [lo, hi). HM_E_LIMIT or HM_E_NOMEM leave the set as it was.
HM_CHECK hm_err stoq_spans_add(stoq_spans *s, uint64_t lo, uint64_t hi);
// Removes [lo, hi). False (and nothing removed) when a span would have to be split and there is no
// room for its second part.
bool stoq_spans_remove(stoq_spans *s, uint64_t lo, uint64_t hi);

#endif
