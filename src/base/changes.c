#include "base/changes.h"

#include <stdlib.h>

#include "base/wire.h"

#define BYTES_MAX (64u << 20) // of a key or value that is read

static int order(const hm_change *c, uint8_t table, hm_bytes key)
{
    return c->table != table ? (int)c->table - (int)table : hm_bytes_cmp(c->key, key);
}

size_t hm_changes_from(const hm_changes *c, uint8_t table, hm_bytes key)
{
    size_t low = 0, high = c->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (order(c->list[middle], table, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const hm_change *hm_changes_get(const hm_changes *c, uint8_t table, hm_bytes key)
{
    size_t i = hm_changes_from(c, table, key);
    return i < c->count && order(c->list[i], table, key) == 0 ? c->list[i] : NULL;
}

hm_err hm_changes_reserve(hm_changes *c, size_t more)
{
    size_t room = c->room > 0 ? c->room : 64;
    while (room < c->count + more)
        room *= 2;
    if (room == c->room)
        return HM_OK;
    hm_change **list = realloc(c->list, room * sizeof *list);
    if (!list)
        return HM_E_NOMEM;
    c->list = list;
    c->room = room;
    return HM_OK;
}

// Takes the change, with room for it.
static void insert(hm_changes *c, hm_change *new)
{
    size_t i = hm_changes_from(c, new->table, new->key);
    if (i < c->count && order(c->list[i], new->table, new->key) == 0) {
        free(c->list[i]);
    } else {
        memmove(&c->list[i + 1], &c->list[i], (c->count - i) * sizeof *c->list);
        c->count++;
    }
    c->list[i] = new;
}

static hm_err change(hm_changes *c, uint8_t table, bool gone, hm_bytes key, hm_bytes value)
{
    HM_TRY(hm_changes_reserve(c, 1));
    hm_change *new = malloc(sizeof *new + key.len + value.len);
    if (!new)
        return HM_E_NOMEM;
    uint8_t *bytes = (uint8_t *)(new + 1);
    if (key.len > 0)
        memcpy(bytes, key.ptr, key.len);
    if (value.len > 0)
        memcpy(bytes + key.len, value.ptr, value.len);
    *new = (hm_change){.table = table,
                       .gone = gone,
                       .key = hm_bytes_of(bytes, key.len),
                       .value = hm_bytes_of(bytes + key.len, value.len)};
    insert(c, new);
    return HM_OK;
}

hm_err hm_changes_put(hm_changes *c, uint8_t table, hm_bytes key, hm_bytes value)
{
    return change(c, table, false, key, value);
}

hm_err hm_changes_del(hm_changes *c, uint8_t table, hm_bytes key)
{
    return change(c, table, true, key, hm_bytes_of(NULL, 0));
}

hm_err hm_changes_merge(hm_changes *c, hm_changes *over)
{
    HM_TRY(hm_changes_reserve(c, over->count));
    for (size_t i = 0; i < over->count; i++)
        insert(c, over->list[i]);
    over->count = 0;
    hm_changes_clear(over);
    return HM_OK;
}

void hm_changes_clear(hm_changes *c)
{
    for (size_t i = 0; i < c->count; i++)
        free(c->list[i]);
    free(c->list);
    *c = (hm_changes){0};
}

void hm_changes_write(const hm_changes *c, hm_buf *out)
{
    for (size_t i = 0; i < c->count; i++) {
        const hm_change *one = c->list[i];
        hm_wr_u8(out, one->table);
        hm_wr_u8(out, one->gone);
        hm_wr_bytes(out, one->key);
        hm_wr_bytes(out, one->value);
    }
}

hm_err hm_changes_read(hm_changes *c, hm_bytes bytes, uint8_t tables)
{
    hm_rd r = hm_rd_of(bytes);
    while (r.left > 0) {
        uint8_t table = hm_rd_enum(&r, (uint8_t)(tables - 1)), gone = hm_rd_enum(&r, 1);
        hm_bytes key = hm_rd_bytes(&r, BYTES_MAX), value = hm_rd_bytes(&r, BYTES_MAX);
        if (hm_rd_ok(&r) && (key.len == 0 || (gone && value.len > 0)))
            hm_rd_refuse(&r, HM_E_PARSE);
        if (!hm_rd_ok(&r))
            return hm_rd_end(&r);
        HM_TRY(change(c, table, gone, key, value));
    }
    return HM_OK;
}
