// Packet numbers received in one space: what to acknowledge, and what came before. Sorted from the
// largest down, bounded; the oldest ranges are forgotten, and numbers below them count as received.
#ifndef HM_STOQ_RANGES_H
#define HM_STOQ_RANGES_H

#include <stdbool.h>
#include <stdint.h>

#define STOQ_RANGES_MAX 48

typedef struct stoq_ranges {
    uint32_t count;
    uint64_t floor; // all below counts as received
    struct {
        uint64_t lo, hi; // both included
    } at[STOQ_RANGES_MAX];
} stoq_ranges;

bool stoq_ranges_has(const stoq_ranges *r, uint64_t pn);
// Adds a number that is not in (asserted).
void stoq_ranges_add(stoq_ranges *r, uint64_t pn);

#endif
