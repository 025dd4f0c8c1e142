#include "base/pool.h"

#include <stdlib.h>

hm_err hm_pool_init(hm_pool *p, size_t object_size, size_t align, size_t capacity)
{
    hm_assert(align >= sizeof(void *) && (align & (align - 1)) == 0);
    if (object_size == 0 || capacity == 0 || object_size > SIZE_MAX - align)
        return hm_fail(HM_E_INVALID, "pool of %zu objects of %zu bytes", capacity, object_size);
    size_t size = (object_size + align - 1) / align * align, total;
    if (__builtin_mul_overflow(size, capacity, &total))
        return HM_E_RANGE;
    uint8_t *mem = aligned_alloc(align, total);
    if (!mem)
        return HM_E_NOMEM;
    *p = (hm_pool){.mem = mem, .object_size = size, .capacity = capacity};
    for (size_t i = capacity; i-- > 0;) {
        void *obj = mem + i * size;
        *(void **)obj = p->free_list;
        p->free_list = obj;
    }
    return HM_OK;
}

void *hm_pool_get(hm_pool *p)
{
    void *obj = p->free_list;
    if (!obj)
        return NULL;
    p->free_list = *(void **)obj;
    p->in_use++;
    return obj;
}

void hm_pool_put(hm_pool *p, void *obj)
{
    size_t offset = (size_t)((uint8_t *)obj - p->mem);
    hm_assert((uint8_t *)obj >= p->mem && offset < p->object_size * p->capacity);
    hm_assert(offset % p->object_size == 0 && p->in_use > 0);
    *(void **)obj = p->free_list;
    p->free_list = obj;
    p->in_use--;
}

void hm_pool_free(hm_pool *p)
{
    hm_assert(p->in_use == 0);
    free(p->mem);
    *p = (hm_pool){0};
}
