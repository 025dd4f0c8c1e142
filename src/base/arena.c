#include "base/arena.h"

#include <stddef.h>
#include <stdlib.h>

#define ARENA_BLOCK_BYTES 16384u

struct hm_arena_block {
    struct hm_arena_block *next;
    size_t cap;
    size_t len;
    _Alignas(max_align_t) uint8_t data[];
};

void *hm_arena_alloc(hm_arena *a, size_t size)
{
    const size_t align = _Alignof(max_align_t);
    if (size > SIZE_MAX - align - sizeof(struct hm_arena_block))
        return NULL;
    size_t need = (size + align - 1) / align * align;
    if (need == 0)
        need = align;
    if (a->limit_bytes && (need > a->limit_bytes || a->used_bytes > a->limit_bytes - need))
        return NULL;
    struct hm_arena_block *b = a->head;
    if (!b || b->cap - b->len < need) {
        size_t cap = need > ARENA_BLOCK_BYTES ? need : ARENA_BLOCK_BYTES;
        b = malloc(sizeof *b + cap);
        if (!b)
            return NULL;
        b->cap = cap;
        b->len = 0;
        b->next = a->head;
        a->head = b;
    }
    void *p = b->data + b->len;
    b->len += need;
    a->used_bytes += need;
    memset(p, 0, need);
    return p;
}

void *hm_arena_array(hm_arena *a, size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return hm_arena_alloc(a, total);
}

hm_bytes hm_arena_copy(hm_arena *a, hm_bytes s)
{
    uint8_t *p = hm_arena_alloc(a, s.len);
    if (!p)
        return (hm_bytes){0};
    if (s.len)
        memcpy(p, s.ptr, s.len);
    return hm_bytes_of(p, s.len);
}

void hm_arena_reset(hm_arena *a)
{
    struct hm_arena_block *keep = a->head;
    if (keep) {
        while (keep->next) {
            struct hm_arena_block *next = keep->next;
            keep->next = next->next;
            free(next);
        }
        keep->len = 0;
    }
    a->used_bytes = 0;
}

void hm_arena_free(hm_arena *a)
{
    while (a->head) {
        struct hm_arena_block *next = a->head->next;
        free(a->head);
        a->head = next;
    }
    a->used_bytes = 0;
}
