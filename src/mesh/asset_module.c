#include "mesh/asset_internal.h"
#include "mesh/json_out.h"
#include "mesh/name.h"
#include "mesh/node_module.h"

// Keys: 'a' id -> record, 'n' owner, hash of name -> id, 'k' owner -> last number, 't' -> count.
// Indices: 's' seq -> id, 'o' owner, seq -> id, 'h' id, height, index -> event.

typedef struct key {
    uint8_t mem[2 + 2 * HM_HASH_BYTES];
    hm_buf b;
} key;

static hm_buf *key_begin(key *k, bool derived, char what)
{
    k->b = hm_buf_fixed(k->mem, sizeof k->mem);
    hm_wr_u8(&k->b, HM_MODULE_ASSET | (derived ? HM_KEY_DERIVED : 0));
    hm_wr_u8(&k->b, (uint8_t)what);
    return &k->b;
}

static hm_bytes key_hash(key *k, bool derived, char what, const hm_hash *h)
{
    hm_wr_raw(key_begin(k, derived, what), h->b, HM_HASH_BYTES);
    return hm_buf_bytes(&k->b);
}

static hm_bytes key_name(key *k, const hm_node_id *owner, hm_bytes name)
{
    hm_hash h = hm_sha256(name);
    (void)key_hash(k, false, 'n', owner);
    hm_wr_raw(&k->b, h.b, HM_HASH_BYTES);
    return hm_buf_bytes(&k->b);
}

static hm_bytes key_seq(key *k, uint64_t seq)
{
    hm_wr_u64(key_begin(k, true, 's'), seq);
    return hm_buf_bytes(&k->b);
}

static hm_bytes key_owned(key *k, const hm_node_id *owner, uint64_t seq)
{
    (void)key_hash(k, true, 'o', owner);
    hm_wr_u64(&k->b, seq);
    return hm_buf_bytes(&k->b);
}

static hm_bytes key_event(key *k, const hm_hash *id, uint64_t height, uint32_t index)
{
    (void)key_hash(k, true, 'h', id);
    hm_wr_u64(&k->b, height);
    hm_wr_u32(&k->b, index);
    return hm_buf_bytes(&k->b);
}

static hm_err u64_get(const hm_view *v, hm_bytes k, uint64_t *out)
{
    hm_bytes value = {0};
    hm_err err = hm_view_get(v, k, &value);
    if (err == HM_E_NOTFOUND) {
        *out = 0;
        return HM_OK;
    }
    HM_TRY(err);
    hm_rd r = hm_rd_of(value);
    *out = hm_rd_u64(&r);
    return hm_rd_end(&r);
}

static hm_err u64_put(hm_view *v, hm_bytes k, uint64_t n)
{
    uint8_t mem[8];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u64(&b, n);
    return hm_view_put(v, k, hm_buf_bytes(&b));
}

static hm_err asset_put(hm_view *v, const hm_asset *a)
{
    key k;
    uint8_t mem[ASSET_RECORD_MAX];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    asset_record_write(&b, a);
    HM_TRY(hm_buf_status(&b));
    return hm_view_put(v, key_hash(&k, false, 'a', &a->id), hm_buf_bytes(&b));
}

// ---- queries ------------------------------------------------------------------------------------

void hm_asset_key(const hm_hash *id, hm_buf *out)
{
    key k;
    hm_buf_put(out, key_hash(&k, false, 'a', id));
}

hm_err hm_asset_get(const hm_view *v, const hm_hash *id, hm_asset *out)
{
    key k;
    hm_bytes value = {0};
    HM_TRY(hm_view_get(v, key_hash(&k, false, 'a', id), &value));
    return asset_record_read(value, id, out);
}

hm_err hm_asset_find(const hm_view *v, const hm_node_id *owner, hm_bytes name, hm_asset *out)
{
    key k;
    hm_bytes value = {0};
    HM_TRY(hm_view_get(v, key_name(&k, owner, name), &value));
    if (value.len != HM_HASH_BYTES)
        return hm_fail(HM_E_CORRUPT, "the ledger's index of names is damaged");
    hm_hash id;
    memcpy(id.b, value.ptr, HM_HASH_BYTES);
    return hm_asset_get(v, &id, out);
}

hm_err hm_asset_count(const hm_view *v, uint64_t *count)
{
    key k;
    (void)key_begin(&k, false, 't');
    return u64_get(v, hm_buf_bytes(&k.b), count);
}

static uint8_t folded(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

static bool contains(hm_bytes text, hm_bytes part)
{
    for (size_t at = 0; at + part.len <= text.len; at++) {
        size_t i = 0;
        while (i < part.len && folded(text.ptr[at + i]) == folded(part.ptr[i]))
            i++;
        if (i == part.len)
            return true;
    }
    return false;
}

static bool id_begins(const hm_asset *a, hm_bytes digits)
{
    char hex[2 * HM_HASH_BYTES + 1];
    if (digits.len == 0)
        return true;
    hm_hex(hex, a->id.b, HM_HASH_BYTES);
    return digits.len <= 2 * HM_HASH_BYTES && memcmp(hex, digits.ptr, digits.len) == 0;
}

static bool matches(const hm_asset_filter *f, const hm_asset *a)
{
    hm_bytes name = hm_bytes_of(a->name, a->name_len);
    return (f->owner == NULL || hm_hash_eq(f->owner, &a->owner)) &&
           (f->kind == 0 || f->kind == a->kind) && (f->state == 0 || f->state == a->state) &&
           (f->name.len == 0 || hm_bytes_eq(f->name, name)) && contains(name, f->name_contains) &&
           id_begins(a, f->id_begins);
}

hm_err hm_asset_list(const hm_view *v, const hm_asset_filter *filter, uint64_t *cursor,
                     uint32_t limit, hm_err (*each)(void *ctx, const hm_asset *a), void *ctx)
{
    key prefix_key, at_key;
    hm_bytes prefix, k, value;
    if (filter->owner != NULL)
        prefix = key_hash(&prefix_key, true, 'o', filter->owner);
    else
        prefix = hm_buf_bytes(key_begin(&prefix_key, true, 's'));
    uint32_t given = 0;
    for (uint32_t scanned = 0; scanned < HM_ASSET_LIST_SCAN && given < limit; scanned++) {
        hm_bytes at = filter->owner != NULL ? key_owned(&at_key, filter->owner, *cursor)
                                            : key_seq(&at_key, *cursor);
        hm_err err = hm_view_prev(v, prefix, at, &k, &value);
        if (err == HM_E_NOTFOUND) {
            *cursor = 0;
            return HM_OK;
        }
        HM_TRY(err);
        hm_asset a;
        hm_hash id;
        if (value.len != HM_HASH_BYTES || k.len != prefix.len + 8)
            return hm_fail(HM_E_CORRUPT, "the ledger's index of assets is damaged");
        memcpy(id.b, value.ptr, HM_HASH_BYTES);
        hm_rd r = hm_rd_of(hm_bytes_of(k.ptr + prefix.len, 8));
        *cursor = hm_rd_u64(&r);
        HM_TRY(hm_asset_get(v, &id, &a));
        if (!matches(filter, &a))
            continue;
        given++;
        HM_TRY(each(ctx, &a));
    }
    return HM_OK;
}

hm_err hm_asset_history(const hm_view *v, const hm_hash *id, hm_op_location *after, uint32_t limit,
                        hm_err (*each)(void *ctx, const hm_asset_event *e), void *ctx)
{
    key prefix_key, at_key;
    hm_bytes prefix = key_hash(&prefix_key, true, 'h', id), k, value;
    for (uint32_t given = 0; given < limit; given++) {
        bool first = after->height == 0 && after->index == 0;
        hm_bytes at = first ? (hm_bytes){0} : key_event(&at_key, id, after->height, after->index);
        hm_err err = hm_view_next(v, prefix, at, &k, &value);
        if (err == HM_E_NOTFOUND)
            return HM_OK;
        HM_TRY(err);
        hm_asset_event e = {0};
        hm_rd kr = hm_rd_of(hm_bytes_of(k.ptr + prefix.len, k.len - prefix.len));
        e.height = hm_rd_u64(&kr);
        e.index = hm_rd_u32(&kr);
        hm_rd r = hm_rd_of(value);
        e.time_ms = hm_rd_u64(&r);
        e.kind = hm_rd_u8(&r);
        hm_rd_copy(&r, e.op_id.b, HM_HASH_BYTES);
        hm_rd_copy(&r, e.by.b, HM_HASH_BYTES);
        e.state = hm_rd_u8(&r);
        hm_rd_copy(&r, e.owner.b, HM_HASH_BYTES);
        if (hm_rd_end(&r) != HM_OK || hm_rd_end(&kr) != HM_OK)
            return hm_fail(HM_E_CORRUPT, "the ledger's history of an asset is damaged");
        *after = (hm_op_location){e.height, e.index};
        HM_TRY(each(ctx, &e));
    }
    return HM_OK;
}

// ---- rules --------------------------------------------------------------------------------------

static hm_err name_is_free(const hm_view *v, const hm_node_id *owner, hm_bytes name)
{
    key k;
    hm_bytes value = {0};
    hm_err err = hm_view_get(v, key_name(&k, owner, name), &value);
    if (err == HM_OK)
        return hm_fail(HM_E_OP_STATE, "the owner has an asset called \"%.*s\" already",
                       (int)name.len, (const char *)name.ptr);
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

static hm_err check_register(const hm_exec *x, const hm_op *op)
{
    hm_asset_register r;
    HM_TRY(hm_asset_register_decode(op->payload, &r));
    if (r.has_content && r.content.chunk_bytes != x->genesis->params.chunk_bytes)
        return hm_fail(HM_E_OP_PAYLOAD, "the content's chunks have %u bytes; this mesh uses %u",
                       r.content.chunk_bytes, x->genesis->params.chunk_bytes);
    hm_hash id = hm_asset_id(&op->chain_id, &op->owner, op->nonce);
    if (!hm_hash_eq(&id, &op->asset))
        return hm_fail(HM_E_OP_PAYLOAD, "the asset's id does not follow from owner and nonce");
    bool frees = false;
    if (r.kind == HM_ASSET_NAME) {
        HM_TRY(name_check_register(x, op, &r));
        HM_TRY(name_frees(x, r.name, &op->owner, &frees));
    }
    return frees ? HM_OK : name_is_free(x->view, &op->owner, r.name);
}

static bool in_hands(uint8_t state)
{
    return state == HM_ASSET_ALLOCATED || state == HM_ASSET_IN_USE;
}

static hm_err check_set_state(const hm_asset *a, const hm_op *op)
{
    hm_rd r = hm_rd_of(op->payload);
    uint8_t to = hm_rd_u8(&r);
    if (hm_rd_end(&r) != HM_OK || hm_asset_state_name(to) == NULL)
        return hm_fail(HM_E_OP_PAYLOAD, "the payload is not a state");
    if (to == HM_ASSET_RETIRED)
        return hm_fail(HM_E_OP_STATE, "retirement is an operation of its own");
    if (!hm_asset_transition_legal(a->state, to))
        return hm_fail(HM_E_OP_STATE, "an asset that is %s cannot become %s",
                       hm_asset_state_name(a->state), hm_asset_state_name(to));
    uint8_t rights = hm_asset_rights(a, &op->owner);
    bool holder = a->has_holder && hm_hash_eq(&a->holder, &op->owner);
    bool taking = a->state == HM_ASSET_AVAILABLE && to == HM_ASSET_ALLOCATED;
    bool moving = in_hands(a->state) && (in_hands(to) || to == HM_ASSET_AVAILABLE) && holder;
    uint8_t need = taking || moving ? HM_RIGHT_USE : HM_RIGHT_MANAGE;
    if ((rights & need) == 0)
        return hm_fail(HM_E_OP_RIGHT, "the signer has no right to %s this asset",
                       need == HM_RIGHT_USE ? "use" : "manage");
    return HM_OK;
}

static hm_err check_transfer(const hm_exec *x, const hm_asset *a, const hm_op *op)
{
    hm_rd r = hm_rd_of(op->payload);
    hm_node_id to;
    hm_member m;
    hm_rd_copy(&r, to.b, HM_HASH_BYTES);
    if (hm_rd_end(&r) != HM_OK)
        return hm_fail(HM_E_OP_PAYLOAD, "the payload is not a NodeID");
    if (!hm_hash_eq(&a->owner, &op->owner))
        return hm_fail(HM_E_OP_RIGHT, "only its owner can transfer an asset");
    if (hm_hash_eq(&to, &a->owner))
        return hm_fail(HM_E_OP_STATE, "the asset is the receiver's already");
    if (in_hands(a->state))
        return hm_fail(HM_E_OP_STATE, "an asset that is %s cannot be transferred",
                       hm_asset_state_name(a->state));
    hm_err err = hm_member_find(x->view, &to, &m);
    if (err == HM_E_NOTFOUND)
        return hm_fail(HM_E_OP_STATE, "the receiver is not a member of the mesh");
    HM_TRY(err);
    return name_is_free(x->view, &to, hm_bytes_of(a->name, a->name_len));
}

static hm_err check_retire(const hm_asset *a, const hm_op *op)
{
    if (op->payload.len > 0)
        return hm_fail(HM_E_OP_PAYLOAD, "a retirement has an empty payload");
    if (!hm_hash_eq(&a->owner, &op->owner))
        return hm_fail(HM_E_OP_RIGHT, "only its owner can retire an asset");
    if (!hm_asset_transition_legal(a->state, HM_ASSET_RETIRED))
        return hm_fail(HM_E_OP_STATE, "an asset that is %s cannot be retired",
                       hm_asset_state_name(a->state));
    return HM_OK;
}

static hm_err check_policy(const hm_asset *a, const hm_op *op)
{
    hm_asset_policy p;
    hm_rd r = hm_rd_of(op->payload);
    asset_policy_read(&r, &p);
    if (hm_rd_end(&r) != HM_OK)
        return hm_fail(HM_E_OP_PAYLOAD, "the payload is not a policy");
    if ((hm_asset_rights(a, &op->owner) & HM_RIGHT_MANAGE) == 0)
        return hm_fail(HM_E_OP_RIGHT, "the signer has no right to manage this asset");
    return HM_OK;
}

static hm_err asset_check(const hm_exec *x, const hm_op *op)
{
    if (op->kind == HM_ASSET_REGISTER)
        return check_register(x, op);
    if (op->kind == HM_ASSET_ZONE_KEY)
        return name_check_zone_key(op);
    hm_asset a;
    hm_err err = hm_asset_get(x->view, &op->asset, &a);
    if (err == HM_E_NOTFOUND)
        return hm_fail(HM_E_OP_STATE, "no asset has this id");
    HM_TRY(err);
    if (a.state == HM_ASSET_RETIRED)
        return hm_fail(HM_E_OP_STATE, "the asset is retired");
    switch (op->kind) {
    case HM_ASSET_TRANSFER:
        return check_transfer(x, &a, op);
    case HM_ASSET_SET_STATE:
        return check_set_state(&a, op);
    case HM_ASSET_RETIRE:
        return check_retire(&a, op);
    case HM_ASSET_SET_RECORDS:
    case HM_ASSET_RENEW:
        return name_check_op(x, &a, op);
    default:
        return check_policy(&a, op);
    }
}

// ---- effects ------------------------------------------------------------------------------------

static hm_err next_number(hm_exec *x, const hm_node_id *owner, uint32_t *number)
{
    key k;
    uint64_t last;
    HM_TRY(u64_get(x->view, key_hash(&k, false, 'k', owner), &last));
    *number = (uint32_t)(last + 1); // 2^32 assets of one owner are out of reach of its nonces
    return u64_put(x->view, key_hash(&k, false, 'k', owner), last + 1);
}

static hm_err record_event(hm_exec *x, const hm_op *op, const hm_asset *a)
{
    key k;
    uint8_t mem[10 + 3 * HM_HASH_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u64(&b, x->time_ms);
    hm_wr_u8(&b, op->kind);
    hm_wr_raw(&b, x->op_id.b, HM_HASH_BYTES);
    hm_wr_raw(&b, op->owner.b, HM_HASH_BYTES);
    hm_wr_u8(&b, a->state);
    hm_wr_raw(&b, a->owner.b, HM_HASH_BYTES);
    HM_TRY(hm_buf_status(&b));
    return hm_view_put(x->view, key_event(&k, &a->id, x->height, x->index), hm_buf_bytes(&b));
}

// An asset that is gone for good, with the event of the operation that ended it.
static hm_err put_retired(hm_exec *x, const hm_op *op, hm_asset *a)
{
    key k;
    a->state = HM_ASSET_RETIRED;
    a->has_holder = false;
    a->holder = (hm_node_id){0};
    a->updated_ms = x->time_ms;
    a->updated_height = x->height;
    a->revision++;
    HM_TRY(hm_view_del(x->view, key_name(&k, &a->owner, hm_bytes_of(a->name, a->name_len))));
    HM_TRY(asset_put(x->view, a));
    return record_event(x, op, a);
}

static hm_err apply_register(hm_exec *x, const hm_op *op)
{
    hm_asset_register r;
    key k;
    HM_TRY(hm_asset_register_decode(op->payload, &r));
    hm_asset a = {
        .id = op->asset,
        .kind = r.kind,
        .state = HM_ASSET_AVAILABLE,
        .owner = op->owner,
        .registrar = op->owner,
        .name_len = (uint8_t)r.name.len,
        .policy = r.policy,
        .has_content = r.has_content,
        .content = r.content,
        .seq = x->height << 16 | x->index,
        .created_ms = x->time_ms,
        .updated_ms = x->time_ms,
        .updated_height = x->height,
        .revision = 1,
    };
    memcpy(a.name, r.name.ptr, r.name.len);
    if (r.kind == HM_ASSET_NAME) {
        hm_asset old;
        bool had_old;
        HM_TRY(name_apply_register(x, &r, &a, &old, &had_old));
        if (had_old)
            HM_TRY(put_retired(x, op, &old));
    }
    HM_TRY(next_number(x, &a.owner, &a.number));
    HM_TRY(asset_put(x->view, &a));
    HM_TRY(hm_view_put(x->view, key_name(&k, &a.owner, r.name), hm_hash_bytes(&a.id)));
    HM_TRY(hm_view_put(x->view, key_seq(&k, a.seq), hm_hash_bytes(&a.id)));
    HM_TRY(hm_view_put(x->view, key_owned(&k, &a.owner, a.seq), hm_hash_bytes(&a.id)));
    uint64_t count;
    HM_TRY(hm_asset_count(x->view, &count));
    (void)key_begin(&k, false, 't');
    HM_TRY(u64_put(x->view, hm_buf_bytes(&k.b), count + 1));
    return record_event(x, op, &a);
}

static hm_err apply_transfer(hm_exec *x, const hm_op *op, hm_asset *a)
{
    key k;
    hm_bytes name = hm_bytes_of(a->name, a->name_len);
    HM_TRY(hm_view_del(x->view, key_name(&k, &a->owner, name)));
    HM_TRY(hm_view_del(x->view, key_owned(&k, &a->owner, a->seq)));
    memcpy(a->owner.b, op->payload.ptr, HM_HASH_BYTES);
    HM_TRY(next_number(x, &a->owner, &a->number));
    HM_TRY(hm_view_put(x->view, key_name(&k, &a->owner, name), hm_hash_bytes(&a->id)));
    return hm_view_put(x->view, key_owned(&k, &a->owner, a->seq), hm_hash_bytes(&a->id));
}

static void apply_set_state(const hm_op *op, hm_asset *a)
{
    uint8_t to = op->payload.ptr[0];
    if (a->state == HM_ASSET_AVAILABLE && to == HM_ASSET_ALLOCATED) {
        a->has_holder = true;
        a->holder = op->owner;
    } else if (!in_hands(to)) {
        a->has_holder = false;
        a->holder = (hm_node_id){0};
    }
    a->state = to;
}

static hm_err asset_apply(hm_exec *x, const hm_op *op)
{
    if (op->kind == HM_ASSET_REGISTER)
        return apply_register(x, op);
    if (op->kind == HM_ASSET_ZONE_KEY)
        return name_apply_zone_key(x, op);
    hm_asset a;
    key k;
    HM_TRY(hm_asset_get(x->view, &op->asset, &a));
    if (a.kind == HM_ASSET_NAME)
        HM_TRY(name_apply_op(x, op, &a));
    if (op->kind == HM_ASSET_TRANSFER) {
        HM_TRY(apply_transfer(x, op, &a));
    } else if (op->kind == HM_ASSET_SET_STATE) {
        apply_set_state(op, &a);
    } else if (op->kind == HM_ASSET_RETIRE) {
        a.state = HM_ASSET_RETIRED;
        HM_TRY(hm_view_del(x->view, key_name(&k, &a.owner, hm_bytes_of(a.name, a.name_len))));
    } else if (op->kind == HM_ASSET_SET_POLICY) {
        hm_rd r = hm_rd_of(op->payload);
        asset_policy_read(&r, &a.policy);
    }
    a.updated_ms = x->time_ms;
    a.updated_height = x->height;
    a.revision++;
    HM_TRY(asset_put(x->view, &a));
    return record_event(x, op, &a);
}

// ---- for people ---------------------------------------------------------------------------------

static bool put_policy(yyjson_mut_doc *doc, yyjson_mut_val *o, const hm_asset_policy *p)
{
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    if (!yyjson_mut_obj_add_str(doc, o, "policy", p->is_public ? "public" : "private") ||
        !yyjson_mut_obj_add_val(doc, o, "grants", list))
        return false;
    for (uint32_t i = 0; i < p->grant_count; i++) {
        yyjson_mut_val *g = yyjson_mut_arr_add_obj(doc, list);
        if (g == NULL || !mesh_json_hash(doc, g, "node", &p->grants[i].node) ||
            !yyjson_mut_obj_add_bool(doc, g, "read", p->grants[i].rights & HM_RIGHT_READ) ||
            !yyjson_mut_obj_add_bool(doc, g, "use", p->grants[i].rights & HM_RIGHT_USE) ||
            !yyjson_mut_obj_add_bool(doc, g, "manage", p->grants[i].rights & HM_RIGHT_MANAGE))
            return false;
    }
    return true;
}

static bool put_records(yyjson_mut_doc *doc, yyjson_mut_val *o, hm_bytes records)
{
    char word[16];
    dns_record r;
    yyjson_mut_val *list = yyjson_mut_arr(doc);
    bool ok = yyjson_mut_obj_add_val(doc, o, "records", list);
    for (size_t at = 0; ok && dns_records_next(records, &at, &r);) {
        hm_buf data = {0};
        yyjson_mut_val *one = yyjson_mut_arr_add_obj(doc, list);
        dns_rdata_text(r.type, r.rdata, &data);
        ok = yyjson_mut_obj_add_strcpy(doc, one, "type", dns_type_text(r.type, word)) &&
             yyjson_mut_obj_add_uint(doc, one, "ttl", r.ttl) &&
             yyjson_mut_obj_add_strcpy(doc, one, "data", hm_buf_cstr(&data));
        hm_buf_free(&data);
    }
    return ok;
}

static bool name_describe(const hm_op *op, yyjson_mut_doc *doc, yyjson_mut_val *o)
{
    hm_rd r = hm_rd_of(op->payload);
    if (op->kind == HM_ASSET_RENEW)
        return yyjson_mut_obj_add_uint(doc, o, "life_s", hm_rd_u32(&r));
    if (op->kind == HM_ASSET_SET_RECORDS)
        return put_records(doc, o, hm_rd_bytes(&r, DNS_RECORDS_BYTES_MAX));
    if (op->kind == HM_ASSET_ZONE_KEY) {
        char hex[2 * DNS_PUBLIC_BYTES + 1] = "";
        if (op->payload.len == DNS_PUBLIC_BYTES)
            hm_hex(hex, op->payload.ptr, DNS_PUBLIC_BYTES);
        return yyjson_mut_obj_add_strcpy(doc, o, "public_key", hex);
    }
    return true;
}

static bool describe_register(const hm_asset_register *r, yyjson_mut_doc *doc, yyjson_mut_val *o)
{
    bool ok = yyjson_mut_obj_add_str(doc, o, "kind", hm_asset_kind_name(r->kind)) &&
              yyjson_mut_obj_add_strncpy(doc, o, "name", (const char *)r->name.ptr, r->name.len) &&
              put_policy(doc, o, &r->policy);
    if (ok && r->has_content)
        ok = yyjson_mut_obj_add_uint(doc, o, "size", r->content.size) &&
             yyjson_mut_obj_add_uint(doc, o, "chunks", r->content.chunk_count) &&
             mesh_json_hash(doc, o, "content_root", &r->content.root);
    if (ok && r->kind == HM_ASSET_NAME)
        ok =
            yyjson_mut_obj_add_uint(doc, o, "life_s", r->life_s) && put_records(doc, o, r->records);
    return ok;
}

static hm_err asset_describe(const hm_op *op, hm_buf *json)
{
    hm_asset_register reg = {0};
    hm_asset_policy policy;
    hm_rd r = hm_rd_of(op->payload);
    if (op->kind == HM_ASSET_REGISTER)
        HM_TRY(hm_asset_register_decode(op->payload, &reg));
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL)
        return HM_E_NOMEM;
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, o);
    bool ok = true;
    if (op->kind == HM_ASSET_REGISTER) {
        ok = describe_register(&reg, doc, o);
    } else if (op->kind == HM_ASSET_TRANSFER) {
        hm_node_id to;
        hm_rd_copy(&r, to.b, HM_HASH_BYTES);
        ok = mesh_json_hash(doc, o, "to", &to);
    } else if (op->kind == HM_ASSET_SET_STATE) {
        const char *state = hm_asset_state_name(hm_rd_u8(&r));
        ok = yyjson_mut_obj_add_str(doc, o, "state", state == NULL ? "" : state);
    } else if (op->kind == HM_ASSET_SET_POLICY) {
        asset_policy_read(&r, &policy);
        ok = put_policy(doc, o, &policy);
    } else {
        ok = name_describe(op, doc, o);
    }
    return mesh_json_end(doc, ok, json);
}

static const hm_op_kind asset_kinds[] = {
    {HM_ASSET_REGISTER, HM_OP_RULE_FULL, "register"},
    {HM_ASSET_TRANSFER, HM_OP_RULE_FULL, "transfer"},
    {HM_ASSET_SET_STATE, HM_OP_RULE_FULL, "set_state"},
    {HM_ASSET_RETIRE, HM_OP_RULE_FULL, "retire"},
    {HM_ASSET_SET_POLICY, HM_OP_RULE_FULL, "set_policy"},
    {HM_ASSET_SET_RECORDS, HM_OP_RULE_FULL, "set_records"},
    {HM_ASSET_RENEW, HM_OP_RULE_FULL, "renew"},
    {HM_ASSET_ZONE_KEY, HM_OP_RULE_SYSTEM, "zone_key"},
};

const hm_module hm_module_asset = {
    .id = HM_MODULE_ASSET,
    .name = "asset",
    .kinds = asset_kinds,
    .kind_count = sizeof asset_kinds / sizeof asset_kinds[0],
    .check = asset_check,
    .apply = asset_apply,
    .describe = asset_describe,
};
