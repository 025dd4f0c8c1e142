// Rules and effects of names. Keys of the asset module: 'd' hash of a name -> id of the asset that
// has it, 'r' id -> records, 'y' member -> zone key. Index: 'c' height, index -> name that changed.
#include "mesh/name.h"

#include "mesh/asset_internal.h"
#include "mesh/node_module.h"

typedef struct key {
    uint8_t mem[2 + HM_HASH_BYTES];
    hm_buf b;
} key;

static hm_buf *key_begin(key *k, bool derived, char what)
{
    k->b = hm_buf_fixed(k->mem, sizeof k->mem);
    hm_wr_u8(&k->b, HM_MODULE_ASSET | (derived ? HM_KEY_DERIVED : 0));
    hm_wr_u8(&k->b, (uint8_t)what);
    return &k->b;
}

static hm_bytes key_hash(key *k, char what, const hm_hash *h)
{
    hm_wr_raw(key_begin(k, false, what), h->b, HM_HASH_BYTES);
    return hm_buf_bytes(&k->b);
}

static hm_bytes key_name(key *k, hm_bytes name)
{
    hm_hash h = hm_sha256(name);
    return key_hash(k, 'd', &h);
}

static hm_bytes key_change(key *k, hm_op_location at)
{
    hm_wr_u64(key_begin(k, true, 'c'), at.height);
    hm_wr_u32(&k->b, at.index);
    return hm_buf_bytes(&k->b);
}

static hm_bytes name_of(const hm_asset *a)
{
    return hm_bytes_of(a->name, a->name_len);
}

// ---- what may be --------------------------------------------------------------------------------

hm_err hm_zone_apex(const char *mesh_name, dns_name *out)
{
    char text[DNS_LABEL_MAX + sizeof HM_NAME_TLD + 2];
    hm_buf b = hm_buf_fixed(text, sizeof text);
    hm_buf_puts(&b, mesh_name);
    hm_buf_puts(&b, "." HM_NAME_TLD);
    HM_TRY(hm_buf_status(&b));
    return dns_name_parse(hm_buf_bytes(&b), out);
}

static bool label_ok(const uint8_t *label)
{
    uint8_t len = label[0];
    for (unsigned i = 1; i <= len; i++) {
        uint8_t c = label[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
        if (!plain && !(c == '-' && i > 1 && i < len))
            return false;
    }
    return true;
}

hm_err hm_name_check(hm_bytes name, const dns_name *apex, dns_name *whole)
{
    dns_name n, joined;
    char text[DNS_NAME_TEXT_MAX];
    const uint8_t *last = NULL;
    if (dns_name_parse(name, &n) != HM_OK)
        return hm_fail(HM_E_OP_PAYLOAD, "this is no domain name: %.400s", hm_err_detail());
    for (unsigned at = 0; n.wire[at] != 0; at += n.wire[at] + 1u) {
        last = n.wire + at;
        if (!label_ok(last))
            return hm_fail(HM_E_OP_PAYLOAD, "a name has labels of a-z, 0-9, \"_\" and, inside, "
                                            "\"-\", with dots between");
    }
    if (last == NULL || !hm_bytes_eq(hm_bytes_str(dns_name_text(&n, text)), name))
        return hm_fail(HM_E_OP_PAYLOAD, "a name is written without the dot at the end");
    if (last[0] == strlen(HM_NAME_NODES) && memcmp(last + 1, HM_NAME_NODES, last[0]) == 0)
        return hm_fail(HM_E_OP_PAYLOAD, "names in \"%s\" are the members' own", HM_NAME_NODES);
    if (dns_name_join(&n, apex, &joined) != HM_OK)
        return hm_fail(HM_E_OP_PAYLOAD, "the name with its zone is longer than the DNS allows");
    if (whole != NULL)
        *whole = joined;
    return HM_OK;
}

static hm_err life_check(uint32_t life_s)
{
    if (life_s < HM_NAME_LIFE_MIN_S || life_s > HM_NAME_LIFE_MAX_S)
        return hm_fail(HM_E_OP_PAYLOAD, "a name lives for %u to %u seconds", HM_NAME_LIFE_MIN_S,
                       HM_NAME_LIFE_MAX_S);
    return HM_OK;
}

static hm_err records_check(hm_bytes records, const dns_name *whole)
{
    hm_err err = dns_records_check(records, whole);
    return err == HM_OK ? HM_OK : hm_fail(HM_E_OP_PAYLOAD, "%.480s", hm_err_detail());
}

// ---- payloads -----------------------------------------------------------------------------------

void hm_name_set_records_encode(hm_bytes records, hm_buf *payload)
{
    hm_wr_bytes(payload, records);
}

static hm_err set_records_decode(hm_bytes payload, hm_bytes *records)
{
    hm_rd r = hm_rd_of(payload);
    *records = hm_rd_bytes(&r, DNS_RECORDS_BYTES_MAX);
    return hm_rd_end(&r) == HM_OK ? HM_OK
                                  : hm_fail(HM_E_OP_PAYLOAD, "the payload is not a set of records");
}

void hm_name_renew_encode(uint32_t life_s, hm_buf *payload)
{
    hm_wr_u32(payload, life_s);
}

static hm_err renew_decode(hm_bytes payload, uint32_t *life_s)
{
    hm_rd r = hm_rd_of(payload);
    *life_s = hm_rd_u32(&r);
    return hm_rd_end(&r) == HM_OK ? HM_OK
                                  : hm_fail(HM_E_OP_PAYLOAD, "the payload is not a time to live");
}

void hm_zone_key_encode(const uint8_t public_key[DNS_PUBLIC_BYTES], hm_buf *payload)
{
    hm_wr_raw(payload, public_key, DNS_PUBLIC_BYTES);
}

// ---- queries ------------------------------------------------------------------------------------

static hm_err asset_of(const hm_view *v, hm_bytes value, hm_asset *out)
{
    hm_hash id;
    if (value.len != HM_HASH_BYTES)
        return hm_fail(HM_E_CORRUPT, "the ledger's table of names is damaged");
    memcpy(id.b, value.ptr, HM_HASH_BYTES);
    return hm_asset_get(v, &id, out);
}

static hm_err records_of(const hm_view *v, const hm_hash *id, hm_bytes *records)
{
    key k;
    *records = (hm_bytes){0};
    hm_err err = hm_view_get(v, key_hash(&k, 'r', id), records);
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

hm_err hm_name_find(const hm_view *v, hm_bytes name, hm_asset *out, hm_bytes *records)
{
    key k;
    hm_bytes value = {0};
    HM_TRY(hm_view_get(v, key_name(&k, name), &value));
    HM_TRY(asset_of(v, value, out));
    return records ? records_of(v, &out->id, records) : HM_OK;
}

static bool is_alive(const hm_asset *a, uint64_t time_ms)
{
    return a->state != HM_ASSET_RETIRED && a->expires_ms > time_ms;
}

bool hm_name_is_published(const hm_asset *a, uint64_t time_ms)
{
    bool on = a->state == HM_ASSET_AVAILABLE || a->state == HM_ASSET_ALLOCATED ||
              a->state == HM_ASSET_IN_USE;
    return on && is_alive(a, time_ms);
}

hm_err hm_name_each(const hm_view *v,
                    hm_err (*each)(void *ctx, const hm_asset *a, hm_bytes records), void *ctx)
{
    key prefix_key;
    uint8_t at_mem[2 + HM_HASH_BYTES];
    hm_bytes prefix = hm_buf_bytes(key_begin(&prefix_key, false, 'd'));
    hm_bytes at = {0}, k, value, records;
    hm_err err;
    while ((err = hm_view_next(v, prefix, at, &k, &value)) == HM_OK) {
        hm_asset a;
        if (k.len != sizeof at_mem)
            return hm_fail(HM_E_CORRUPT, "the ledger's table of names is damaged");
        memcpy(at_mem, k.ptr, k.len);
        at = hm_bytes_of(at_mem, k.len);
        HM_TRY(asset_of(v, value, &a));
        HM_TRY(records_of(v, &a.id, &records));
        HM_TRY(each(ctx, &a, records));
    }
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

static hm_err place_of(hm_bytes k, hm_op_location *out)
{
    if (k.len != 14)
        return hm_fail(HM_E_CORRUPT, "the ledger's list of changed names is damaged");
    hm_rd r = hm_rd_of(hm_bytes_of(k.ptr + 2, 12));
    out->height = hm_rd_u64(&r);
    out->index = hm_rd_u32(&r);
    return hm_rd_end(&r);
}

hm_err hm_name_changes(const hm_view *v, hm_op_location *after, uint32_t limit, uint32_t *count,
                       hm_err (*each)(void *ctx, hm_bytes name), void *ctx)
{
    key prefix_key, at_key;
    hm_bytes prefix = hm_buf_bytes(key_begin(&prefix_key, true, 'c')), k, value;
    for (*count = 0; *count < limit; (*count)++) {
        bool first = after->height == 0 && after->index == 0;
        hm_bytes at = first ? (hm_bytes){0} : key_change(&at_key, *after);
        hm_err err = hm_view_next(v, prefix, at, &k, &value);
        if (err == HM_E_NOTFOUND)
            return HM_OK;
        HM_TRY(err);
        HM_TRY(place_of(k, after));
        HM_TRY(each(ctx, value));
    }
    return HM_OK;
}

hm_err hm_name_newest(const hm_view *v, hm_op_location *out)
{
    key prefix_key;
    hm_bytes k, value;
    hm_err err =
        hm_view_prev(v, hm_buf_bytes(key_begin(&prefix_key, true, 'c')), (hm_bytes){0}, &k, &value);
    *out = (hm_op_location){0};
    return err == HM_OK ? place_of(k, out) : err == HM_E_NOTFOUND ? HM_OK : err;
}

hm_err hm_zone_key(const hm_view *v, const hm_node_id *member, hm_bytes *out)
{
    key k;
    return hm_view_get(v, key_hash(&k, 'y', member), out);
}

// ---- rules --------------------------------------------------------------------------------------

// Whoever has the name, unless its time is long over: *taken is then false, and *old the asset that
// goes.
static hm_err who_has(const hm_exec *x, hm_bytes name, hm_asset *old, bool *there, bool *taken)
{
    hm_err err = hm_name_find(x->view, name, old, NULL);
    *there = err == HM_OK;
    *taken = *there && old->expires_ms + HM_NAME_GRACE_MS > x->time_ms;
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

// The closest name above that is there must let the signer manage it.
static hm_err check_above(const hm_exec *x, const hm_op *op, hm_bytes name)
{
    for (size_t dot = 0; dot < name.len; dot++) {
        hm_asset a;
        hm_bytes records, above = hm_bytes_of(name.ptr + dot + 1, name.len - dot - 1);
        if (name.ptr[dot] != '.')
            continue;
        hm_err err = hm_name_find(x->view, above, &a, &records);
        if (err == HM_E_NOTFOUND || (err == HM_OK && !is_alive(&a, x->time_ms)))
            continue;
        HM_TRY(err);
        if ((hm_asset_rights(&a, &op->owner) & HM_RIGHT_MANAGE) == 0)
            return hm_fail(HM_E_OP_RIGHT, "the signer has no right to manage \"%.*s\" above it",
                           (int)above.len, (const char *)above.ptr);
        if (dns_records_have(records, DNS_TYPE_NS))
            return hm_fail(HM_E_OP_STATE, "\"%.*s\" above it is delegated", (int)above.len,
                           (const char *)above.ptr);
        return HM_OK;
    }
    if (memchr(name.ptr, '.', name.len) == NULL)
        return HM_OK;
    return hm_fail(HM_E_OP_STATE, "there is no name above it: register that first");
}

hm_err name_check_register(const hm_exec *x, const hm_op *op, const hm_asset_register *r)
{
    hm_asset old;
    bool there, taken;
    dns_name apex, whole;
    HM_TRY(hm_zone_apex(x->genesis->name, &apex));
    HM_TRY(hm_name_check(r->name, &apex, &whole));
    HM_TRY(life_check(r->life_s));
    HM_TRY(records_check(r->records, &whole));
    HM_TRY(who_has(x, r->name, &old, &there, &taken));
    if (taken)
        return hm_fail(HM_E_OP_STATE, "the name \"%.*s\" is taken", (int)r->name.len,
                       (const char *)r->name.ptr);
    return check_above(x, op, r->name);
}

hm_err name_frees(const hm_exec *x, hm_bytes name, const hm_node_id *owner, bool *frees)
{
    hm_asset old;
    bool there, taken;
    HM_TRY(who_has(x, name, &old, &there, &taken));
    *frees = there && !taken && hm_hash_eq(&old.owner, owner);
    return HM_OK;
}

hm_err name_check_op(const hm_exec *x, const hm_asset *a, const hm_op *op)
{
    hm_bytes records;
    uint32_t life_s;
    dns_name apex, whole;
    if (a->kind != HM_ASSET_NAME)
        return hm_fail(HM_E_OP_STATE, "the asset is not a name");
    if ((hm_asset_rights(a, &op->owner) & HM_RIGHT_MANAGE) == 0)
        return hm_fail(HM_E_OP_RIGHT, "the signer has no right to manage this name");
    if (op->kind == HM_ASSET_RENEW) {
        HM_TRY(renew_decode(op->payload, &life_s));
        HM_TRY(life_check(life_s));
        if (x->time_ms + (uint64_t)life_s * 1000 <= a->expires_ms)
            return hm_fail(HM_E_OP_STATE, "the name lives longer already");
        return HM_OK;
    }
    HM_TRY(set_records_decode(op->payload, &records));
    HM_TRY(hm_zone_apex(x->genesis->name, &apex));
    HM_TRY(hm_name_check(name_of(a), &apex, &whole));
    HM_TRY(records_check(records, &whole));
    if (!is_alive(a, x->time_ms))
        return hm_fail(HM_E_OP_STATE, "the name's time is over: renew it first");
    return HM_OK;
}

hm_err name_check_zone_key(const hm_op *op)
{
    if (dns_public_check(op->payload) != HM_OK)
        return hm_fail(HM_E_OP_PAYLOAD, "the payload is no public key of ECDSA over P-256");
    return HM_OK;
}

// ---- effects ------------------------------------------------------------------------------------

static hm_err note_change(hm_exec *x, hm_bytes name)
{
    key k;
    return hm_view_put(x->view, key_change(&k, (hm_op_location){x->height, x->index}), name);
}

hm_err name_apply_register(hm_exec *x, const hm_asset_register *r, hm_asset *a, hm_asset *old,
                           bool *had_old)
{
    key k;
    bool taken;
    a->expires_ms = x->time_ms + (uint64_t)r->life_s * 1000;
    HM_TRY(who_has(x, r->name, old, had_old, &taken));
    if (*had_old)
        HM_TRY(hm_view_del(x->view, key_hash(&k, 'r', &old->id)));
    HM_TRY(hm_view_put(x->view, key_name(&k, r->name), hm_hash_bytes(&a->id)));
    if (r->records.len > 0)
        HM_TRY(hm_view_put(x->view, key_hash(&k, 'r', &a->id), r->records));
    return note_change(x, r->name);
}

hm_err name_apply_op(hm_exec *x, const hm_op *op, hm_asset *a)
{
    key k;
    hm_bytes records;
    uint32_t life_s;
    if (op->kind == HM_ASSET_RENEW) {
        HM_TRY(renew_decode(op->payload, &life_s));
        a->expires_ms = x->time_ms + (uint64_t)life_s * 1000;
    } else if (op->kind == HM_ASSET_SET_RECORDS) {
        HM_TRY(set_records_decode(op->payload, &records));
        if (records.len > 0)
            HM_TRY(hm_view_put(x->view, key_hash(&k, 'r', &a->id), records));
        else
            HM_TRY(hm_view_del(x->view, key_hash(&k, 'r', &a->id)));
    } else if (op->kind == HM_ASSET_RETIRE) {
        HM_TRY(hm_view_del(x->view, key_name(&k, name_of(a))));
        HM_TRY(hm_view_del(x->view, key_hash(&k, 'r', &a->id)));
    }
    return note_change(x, name_of(a));
}

hm_err name_apply_zone_key(hm_exec *x, const hm_op *op)
{
    key k;
    HM_TRY(hm_view_put(x->view, key_hash(&k, 'y', &op->owner), op->payload));
    return note_change(x, (hm_bytes){0});
}
