// Foreign roots. Keys: 'f' root -> its certificate and scope.
#include "mesh/trust_internal.h"

// ---- records ------------------------------------------------------------------------------------

void trust_scope_put(hm_buf *b, const tc_scope *s)
{
    hm_wr_bytes(b, hm_bytes_str(s->zone));
    hm_wr_u8(b, s->bits);
    hm_wr_raw(b, s->prefix, sizeof s->prefix);
}

void trust_scope_read(hm_rd *r, tc_scope *out)
{
    tc_scope s = {0}, same;
    char prefix[TC_SCOPE_PREFIX_TEXT_MAX];
    hm_bytes zone = hm_rd_bytes(r, TC_SCOPE_ZONE_MAX);
    memcpy(s.zone, zone.len ? zone.ptr : (const uint8_t *)"", zone.len);
    s.bits = hm_rd_u8(r);
    hm_rd_copy(r, s.prefix, sizeof s.prefix);
    if (r->status == HM_OK &&
        (strlen(s.zone) != zone.len ||
         tc_scope_parse(s.zone, tc_scope_prefix_text(&s, prefix), &same) != HM_OK ||
         !tc_scope_eq(&s, &same)))
        r->status = HM_E_NONCANONICAL;
    *out = s;
}

static hm_err foreign_put(hm_view *v, const hm_foreign *f)
{
    trust_key k;
    uint8_t mem[TRUST_RECORD_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u64(&b, f->since_height);
    hm_wr_u64(&b, f->not_before_ms);
    hm_wr_u64(&b, f->not_after_ms);
    trust_scope_put(&b, &f->scope);
    hm_wr_bytes(&b, f->cert);
    HM_TRY(hm_buf_status(&b));
    return hm_view_put(v, trust_key_of(&k, 'f', &f->id), hm_buf_bytes(&b));
}

// The next one after that of an id (zero: the first), also when it is over.
static hm_err foreign_next(const hm_view *v, const hm_hash *after, hm_foreign *out)
{
    hm_foreign f = {0};
    hm_bytes value = {0};
    HM_TRY(trust_next(v, 'f', after, &f.id, &value));
    hm_rd r = hm_rd_of(value);
    f.since_height = hm_rd_u64(&r);
    f.not_before_ms = hm_rd_u64(&r);
    f.not_after_ms = hm_rd_u64(&r);
    trust_scope_read(&r, &f.scope);
    f.cert = hm_rd_bytes(&r, HM_CERT_DER_MAX);
    if (hm_rd_end(&r) != HM_OK)
        return hm_fail(HM_E_CORRUPT, "the ledger's record of a foreign root is damaged");
    *out = f;
    return HM_OK;
}

hm_err hm_trust_foreigns(const hm_view *v, uint64_t time_ms, hm_foreign out[HM_TRUST_FOREIGN_MAX],
                         uint32_t *count)
{
    hm_foreign f = {0};
    uint32_t n = 0;
    hm_err err = HM_OK;
    while (n < HM_TRUST_FOREIGN_MAX && (err = foreign_next(v, &f.id, &f)) == HM_OK)
        if (time_ms >= f.not_before_ms && time_ms <= f.not_after_ms)
            out[n++] = f;
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    *count = n;
    return HM_OK;
}

hm_err hm_trust_foreign(const hm_view *v, const hm_hash *id, uint64_t time_ms, hm_foreign *out)
{
    hm_foreign all[HM_TRUST_FOREIGN_MAX];
    uint32_t count = 0;
    HM_TRY(hm_trust_foreigns(v, time_ms, all, &count));
    for (uint32_t i = 0; i < count; i++)
        if (hm_hash_eq(&all[i].id, id)) {
            if (out)
                *out = all[i];
            return HM_OK;
        }
    return HM_E_NOTFOUND;
}

// ---- payloads -----------------------------------------------------------------------------------

void hm_trust_foreign_encode(hm_bytes cert, const tc_scope *scope, hm_buf *payload)
{
    hm_wr_bytes(payload, cert);
    trust_scope_put(payload, scope);
}

hm_err trust_foreign_decode(hm_bytes payload, hm_bytes *cert, tc_scope *scope)
{
    hm_rd r = hm_rd_of(payload);
    *cert = hm_rd_bytes(&r, HM_CERT_DER_MAX);
    trust_scope_read(&r, scope);
    if (hm_rd_end(&r) != HM_OK || cert->len == 0)
        return hm_fail(HM_E_OP_PAYLOAD,
                       "the payload is not one certificate of 1 to %u bytes, a zone in lower case "
                       "and a prefix",
                       HM_CERT_DER_MAX);
    return HM_OK;
}

// ---- rules --------------------------------------------------------------------------------------

static hm_err check_apart(const tc_scope *scope, const tc_scope *other, const char *whose)
{
    char prefix[TC_SCOPE_PREFIX_TEXT_MAX];
    if (tc_scope_zones_meet(scope, other))
        return hm_fail(HM_E_OP_STATE,
                       "the zone %s meets %s, that of %s: they are one, or one is "
                       "below the other",
                       scope->zone, other->zone, whose);
    if (tc_scope_prefixes_meet(scope, other))
        return hm_fail(HM_E_OP_STATE, "the prefix overlaps %s of %s",
                       tc_scope_prefix_text(other, prefix), whose);
    return HM_OK;
}

hm_err trust_foreign_check(const hm_exec *x, hm_bytes cert, const tc_scope *scope,
                           tc_foreign_root *root)
{
    hm_foreign all[HM_TRUST_FOREIGN_MAX];
    tc_scope ours;
    uint32_t count = 0;
    bool known = false;
    hm_err err = tc_foreign_root_verify(cert, x->time_ms, root);
    if (err != HM_OK)
        return hm_fail(err, "the foreign root is refused: %s", hm_err_detail());
    HM_TRY(trust_check_not_ours(x, &root->key_id));
    HM_TRY(tc_scope_of_mesh(x->genesis->name, &ours));
    HM_TRY(check_apart(scope, &ours, "this mesh"));
    HM_TRY(hm_trust_foreigns(x->view, x->time_ms, all, &count));
    for (uint32_t i = 0; i < count; i++) {
        if (!hm_hash_eq(&all[i].id, &root->key_id)) {
            HM_TRY(check_apart(scope, &all[i].scope, "another foreign root"));
            continue;
        }
        known = true;
        if (hm_bytes_eq(all[i].cert, cert) && tc_scope_eq(&all[i].scope, scope))
            return hm_fail(HM_E_OP_DUPLICATE, "this foreign root is in force already");
    }
    if (!known && count == HM_TRUST_FOREIGN_MAX)
        return hm_fail(HM_E_OP_STATE,
                       "%u foreign roots are in force, and there cannot be more: withdraw one "
                       "first",
                       HM_TRUST_FOREIGN_MAX);
    return HM_OK;
}

hm_err trust_foreign_check_leave(const hm_exec *x, const hm_hash *id)
{
    hm_err err = hm_trust_foreign(x->view, id, x->time_ms, NULL);
    return err == HM_E_NOTFOUND
               ? hm_fail(HM_E_OP_STATE, "no foreign root with this id is in force any more")
               : err;
}

// ---- effects ------------------------------------------------------------------------------------

// Those whose certificates are over, so that no clock that is behind takes them for good.
static hm_err clean_foreigns(hm_exec *x)
{
    hm_foreign f = {0};
    hm_err err;
    while ((err = foreign_next(x->view, &f.id, &f)) == HM_OK) {
        trust_key k;
        if (x->time_ms > f.not_after_ms)
            HM_TRY(hm_view_del(x->view, trust_key_of(&k, 'f', &f.id)));
    }
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

hm_err trust_foreign_apply(hm_exec *x, const hm_proposal *p)
{
    tc_foreign_root root;
    HM_TRY(clean_foreigns(x));
    HM_TRY(tc_foreign_root_read(p->cert, &root));
    return foreign_put(x->view, &(hm_foreign){.id = root.key_id,
                                              .cert = p->cert,
                                              .scope = p->scope,
                                              .not_before_ms = root.not_before_ms,
                                              .not_after_ms = root.not_after_ms,
                                              .since_height = x->height});
}

hm_err trust_foreign_apply_leave(hm_exec *x, const hm_hash *id)
{
    trust_key k;
    return hm_view_del(x->view, trust_key_of(&k, 'f', id));
}
