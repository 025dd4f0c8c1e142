#include "base/map.h"

#include <stdlib.h>

static uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

uint64_t hm_siphash(const uint64_t seed[2], const void *ptr, size_t len)
{
    const uint8_t *p = ptr;
    uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575u, seed[1] ^ 0x646f72616e646f6du,
                     seed[0] ^ 0x6c7967656e657261u, seed[1] ^ 0x7465646279746573u};
    uint64_t m, tail = (uint64_t)len << 56;
    size_t left = len;
    for (; left >= 8; left -= 8, p += 8) {
        m = 0;
        for (int i = 0; i < 8; i++)
            m |= (uint64_t)p[i] << (8 * i);
        v[3] ^= m;
        sip_round(v);
        sip_round(v);
        v[0] ^= m;
    }
    for (size_t i = 0; i < left; i++)
        tail |= (uint64_t)p[i] << (8 * i);
    v[3] ^= tail;
    sip_round(v);
    sip_round(v);
    v[0] ^= tail;
    v[2] ^= 0xff;
    for (int i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void hm_map_init(hm_map *m, size_t key_len, size_t max_count, const hm_random *random)
{
    hm_assert(key_len > 0);
    *m = (hm_map){.key_len = key_len, .max_count = max_count};
    m->seed[0] = hm_random_u64(random);
    m->seed[1] = hm_random_u64(random);
}

void hm_map_free(hm_map *m)
{
    free(m->keys);
    free(m->values);
    m->keys = NULL;
    m->values = NULL;
    m->cap = m->count = 0;
}

static size_t home_of(const hm_map *m, const void *key)
{
    return (size_t)hm_siphash(m->seed, key, m->key_len) & (m->cap - 1);
}

// The slot of key, or the free slot where it would go. cap > count always, so this ends.
static size_t find(const hm_map *m, const void *key)
{
    size_t i = home_of(m, key);
    while (m->values[i] && memcmp(m->keys + i * m->key_len, key, m->key_len) != 0)
        i = (i + 1) & (m->cap - 1);
    return i;
}

void *hm_map_get(const hm_map *m, const void *key)
{
    return m->cap ? m->values[find(m, key)] : NULL;
}

static hm_err grow(hm_map *m)
{
    hm_map bigger = *m;
    bigger.cap = m->cap ? m->cap * 2 : 16;
    bigger.keys = calloc(bigger.cap, m->key_len);
    bigger.values = calloc(bigger.cap, sizeof *bigger.values);
    if (!bigger.keys || !bigger.values) {
        free(bigger.keys);
        free(bigger.values);
        return HM_E_NOMEM;
    }
    for (size_t i = 0; i < m->cap; i++) {
        if (!m->values[i])
            continue;
        size_t j = find(&bigger, m->keys + i * m->key_len);
        memcpy(bigger.keys + j * m->key_len, m->keys + i * m->key_len, m->key_len);
        bigger.values[j] = m->values[i];
    }
    free(m->keys);
    free(m->values);
    *m = bigger;
    return HM_OK;
}

hm_err hm_map_put(hm_map *m, const void *key, void *value)
{
    hm_assert(value != NULL);
    if (m->cap) {
        size_t i = find(m, key);
        if (m->values[i]) {
            m->values[i] = value;
            return HM_OK;
        }
    }
    if (m->max_count && m->count >= m->max_count)
        return HM_E_LIMIT;
    if (m->count + 1 > m->cap / 4 * 3)
        HM_TRY(grow(m));
    size_t i = find(m, key);
    memcpy(m->keys + i * m->key_len, key, m->key_len);
    m->values[i] = value;
    m->count++;
    return HM_OK;
}

void *hm_map_remove(hm_map *m, const void *key)
{
    if (!m->cap)
        return NULL;
    size_t i = find(m, key);
    void *value = m->values[i];
    if (!value)
        return NULL;
    size_t mask = m->cap - 1, hole = i;
    for (size_t j = (i + 1) & mask; m->values[j]; j = (j + 1) & mask) {
        size_t home = home_of(m, m->keys + j * m->key_len);
        // j may fill the hole unless its home lies after the hole on the way to j.
        if (((j - home) & mask) < ((j - hole) & mask))
            continue;
        memcpy(m->keys + hole * m->key_len, m->keys + j * m->key_len, m->key_len);
        m->values[hole] = m->values[j];
        hole = j;
    }
    m->values[hole] = NULL;
    m->count--;
    return value;
}

bool hm_map_next(const hm_map *m, size_t *pos, const uint8_t **key, void **value)
{
    for (; *pos < m->cap; ++*pos) {
        if (!m->values[*pos])
            continue;
        if (key)
            *key = m->keys + *pos * m->key_len;
        if (value)
            *value = m->values[*pos];
        ++*pos;
        return true;
    }
    return false;
}
