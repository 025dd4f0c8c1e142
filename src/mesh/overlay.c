#include "mesh/overlay.h"

void hm_overlay_free(hm_overlay *o)
{
    hm_arena_free(&o->arena);
    *o = (hm_overlay){0};
}

// The link at each level after which `key` stands; with `equal`, after entries with the same key.
static void find(const hm_overlay *o, hm_bytes key, bool equal, hm_overlay_entry *prev[])
{
    hm_overlay_entry *at = NULL;
    for (int level = HM_OVERLAY_LEVELS - 1; level >= 0; level--) {
        for (;;) {
            hm_overlay_entry *next = at == NULL ? o->head[level] : at->next[level];
            if (next == NULL)
                break;
            int order = hm_bytes_cmp(next->key, key);
            if (order > 0 || (order == 0 && !equal))
                break;
            at = next;
        }
        prev[level] = at;
    }
}

static hm_overlay_entry *after_link(const hm_overlay *o, hm_overlay_entry *at)
{
    return at == NULL ? o->head[0] : at->next[0];
}

const hm_overlay_entry *hm_overlay_seek(const hm_overlay *o, hm_bytes key, bool after)
{
    hm_overlay_entry *prev[HM_OVERLAY_LEVELS];
    find(o, key, after, prev);
    return after_link(o, prev[0]);
}

const hm_overlay_entry *hm_overlay_before(const hm_overlay *o, hm_bytes key)
{
    hm_overlay_entry *prev[HM_OVERLAY_LEVELS];
    find(o, key, false, prev);
    return prev[0];
}

const hm_overlay_entry *hm_overlay_get(const hm_overlay *o, hm_bytes key)
{
    const hm_overlay_entry *e = hm_overlay_seek(o, key, false);
    return e != NULL && hm_bytes_eq(e->key, key) ? e : NULL;
}

static uint8_t random_levels(hm_overlay *o)
{
    // xorshift64: the heights need no secrecy, for a list's keys are hashes or bounded in number.
    if (o->rng == 0)
        o->rng = UINT64_C(0x9e3779b97f4a7c15);
    o->rng ^= o->rng << 13;
    o->rng ^= o->rng >> 7;
    o->rng ^= o->rng << 17;
    uint8_t levels = 1;
    for (uint64_t bits = o->rng; levels < HM_OVERLAY_LEVELS && (bits & 3) == 0; bits >>= 2)
        levels++;
    return levels;
}

static hm_err set_value(hm_overlay *o, hm_overlay_entry *e, hm_bytes value, bool deleted)
{
    e->deleted = deleted;
    if (deleted || value.len == 0) {
        e->value = hm_bytes_of(e->value.ptr, 0);
        return HM_OK;
    }
    uint8_t *mem = (uint8_t *)e->value.ptr;
    if (value.len > e->value_cap) {
        mem = hm_arena_alloc(&o->arena, value.len);
        if (mem == NULL)
            return HM_E_NOMEM;
        e->value_cap = value.len;
    }
    memmove(mem, value.ptr, value.len);
    e->value = hm_bytes_of(mem, value.len);
    return HM_OK;
}

hm_err hm_overlay_put(hm_overlay *o, hm_bytes key, hm_bytes value, bool deleted)
{
    hm_overlay_entry *prev[HM_OVERLAY_LEVELS];
    find(o, key, false, prev);
    hm_overlay_entry *e = after_link(o, prev[0]);
    if (e != NULL && hm_bytes_eq(e->key, key))
        return set_value(o, e, value, deleted);
    uint8_t levels = random_levels(o);
    e = hm_arena_alloc(&o->arena, sizeof *e + levels * sizeof e->next[0]);
    if (e == NULL)
        return HM_E_NOMEM;
    e->levels = levels;
    e->key = hm_arena_copy(&o->arena, key);
    if (e->key.ptr == NULL)
        return HM_E_NOMEM;
    HM_TRY(set_value(o, e, value, deleted));
    for (uint8_t i = 0; i < levels; i++) {
        hm_overlay_entry **link = prev[i] == NULL ? &o->head[i] : &prev[i]->next[i];
        e->next[i] = *link;
        *link = e;
    }
    o->count++;
    return HM_OK;
}
