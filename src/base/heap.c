#include "base/heap.h"

#include <stdlib.h>

static bool before(const hm_heap_node *a, const hm_heap_node *b)
{
    return a->key != b->key ? a->key < b->key : a->seq < b->seq;
}

static void place(hm_heap *h, size_t i, hm_heap_node *n)
{
    h->nodes[i] = n;
    n->index = i + 1;
}

static void sift_up(hm_heap *h, size_t i)
{
    hm_heap_node *n = h->nodes[i];
    while (i > 0 && before(n, h->nodes[(i - 1) / 2])) {
        place(h, i, h->nodes[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(h, i, n);
}

static void sift_down(hm_heap *h, size_t i)
{
    hm_heap_node *n = h->nodes[i];
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= h->count)
            break;
        if (c + 1 < h->count && before(h->nodes[c + 1], h->nodes[c]))
            c++;
        if (!before(h->nodes[c], n))
            break;
        place(h, i, h->nodes[c]);
        i = c;
    }
    place(h, i, n);
}

void hm_heap_free(hm_heap *h)
{
    for (size_t i = 0; i < h->count; i++)
        h->nodes[i]->index = 0;
    free(h->nodes);
    *h = (hm_heap){0};
}

hm_err hm_heap_set(hm_heap *h, hm_heap_node *n, uint64_t key)
{
    if (n->index == 0) {
        if (h->count == h->cap) {
            size_t cap = h->cap ? h->cap * 2 : 16;
            hm_heap_node **nodes = realloc(h->nodes, cap * sizeof *nodes);
            if (!nodes)
                return HM_E_NOMEM;
            h->nodes = nodes;
            h->cap = cap;
        }
        place(h, h->count++, n);
    }
    n->key = key;
    n->seq = h->next_seq++;
    sift_up(h, n->index - 1);
    sift_down(h, n->index - 1);
    return HM_OK;
}

void hm_heap_remove(hm_heap *h, hm_heap_node *n)
{
    if (n->index == 0)
        return;
    size_t i = n->index - 1;
    hm_assert(i < h->count && h->nodes[i] == n);
    hm_heap_node *last = h->nodes[--h->count];
    n->index = 0;
    if (last == n)
        return;
    place(h, i, last);
    sift_up(h, i);
    sift_down(h, last->index - 1);
}
