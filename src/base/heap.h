// A binary min-heap of timers, intrusive: the node lives in its owner, which can move or cancel it
// in O(log n). Equal keys leave in insertion order, so that a simulation is repeatable. One thread.
#ifndef HM_BASE_HEAP_H
#define HM_BASE_HEAP_H

#include "base/bytes.h"

typedef struct hm_heap_node {
    uint64_t key; // set by hm_heap_set
    uint64_t seq; // breaks ties
    size_t index; // position + 1; 0 = not in a heap
} hm_heap_node;

typedef struct hm_heap {
    hm_heap_node **nodes; // owned array of borrowed nodes
    size_t count, cap;
    uint64_t next_seq;
} hm_heap;

void hm_heap_free(hm_heap *h);
// Puts the node in with this key, or moves it when it is in. HM_E_NOMEM leaves it as it was.
HM_CHECK hm_err hm_heap_set(hm_heap *h, hm_heap_node *n, uint64_t key);
// Takes the node out; harmless when it is not in.
void hm_heap_remove(hm_heap *h, hm_heap_node *n);
// The node with the smallest key, or NULL.
static inline hm_heap_node *hm_heap_min(const hm_heap *h)
{
    return h->count ? h->nodes[0] : NULL;
}

#endif
