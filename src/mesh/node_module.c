#include "mesh/node_module.h"

#include "mesh/json_out.h"
#include "mesh/ledger_internal.h"
#include "trustchain/trustchain.h"

// Keys: 'm' index -> member, 'i' NodeID -> index, 'c' hash -> certificate's facts,
// 'd' hash -> its DER, 'u' hash -> the authority that it is under, 'l' authority -> newest
// revocation list, 'n' -> number of members. Of the genesis' authority there is no 'u', and 'l' is
// alone.

typedef struct key {
    uint8_t mem[2 + HM_HASH_BYTES];
    size_t len;
} key;

static hm_bytes key_of(key *k, char what, const void *rest, size_t len)
{
    k->mem[0] = HM_MODULE_NODE;
    k->mem[1] = (uint8_t)what;
    if (len > 0)
        memcpy(k->mem + 2, rest, len);
    k->len = 2 + len;
    return hm_bytes_of(k->mem, k->len);
}

static hm_bytes key_index(key *k, uint32_t index)
{
    uint8_t be[4];
    hm_buf b = hm_buf_fixed(be, sizeof be);
    hm_wr_u32(&b, index);
    return key_of(k, 'm', be, sizeof be);
}

static hm_err damaged(const char *what)
{
    return hm_fail(HM_E_CORRUPT, "the ledger's record of a %s is damaged", what);
}

// ---- members ------------------------------------------------------------------------------------

static hm_err member_put(hm_view *v, const hm_member *m)
{
    key k;
    uint8_t mem[HM_FALCON_PUBLIC_BYTES + 128];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_raw(&b, m->id.b, HM_HASH_BYTES);
    hm_wr_u64(&b, m->stake);
    hm_wr_u64(&b, m->power);
    hm_wr_u64(&b, m->slashed_height);
    hm_wr_raw(&b, m->cert.b, HM_HASH_BYTES);
    hm_wr_bytes(&b, m->public_key);
    HM_TRY(hm_buf_status(&b));
    return hm_view_put(v, key_index(&k, m->index), hm_buf_bytes(&b));
}

hm_err hm_member_at(const hm_view *v, uint32_t index, hm_member *out)
{
    key k;
    hm_bytes value = {0};
    HM_TRY(hm_view_get(v, key_index(&k, index), &value));
    hm_rd r = hm_rd_of(value);
    hm_member m = {.index = index};
    hm_rd_copy(&r, m.id.b, HM_HASH_BYTES);
    m.stake = hm_rd_u64(&r);
    m.power = hm_rd_u64(&r);
    m.slashed_height = hm_rd_u64(&r);
    hm_rd_copy(&r, m.cert.b, HM_HASH_BYTES);
    m.public_key = hm_rd_bytes(&r, HM_FALCON_PUBLIC_BYTES);
    if (hm_rd_end(&r) != HM_OK)
        return damaged("member");
    *out = m;
    return HM_OK;
}

static hm_err u32_get(const hm_view *v, hm_bytes k, uint32_t *out)
{
    hm_bytes value = {0};
    HM_TRY(hm_view_get(v, k, &value));
    hm_rd r = hm_rd_of(value);
    uint32_t n = hm_rd_u32(&r);
    if (hm_rd_end(&r) != HM_OK)
        return damaged("number");
    *out = n;
    return HM_OK;
}

static hm_err u32_put(hm_view *v, hm_bytes k, uint32_t n)
{
    uint8_t mem[4];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u32(&b, n);
    return hm_view_put(v, k, hm_buf_bytes(&b));
}

hm_err hm_member_count(const hm_view *v, uint32_t *count)
{
    key k;
    return u32_get(v, key_of(&k, 'n', NULL, 0), count);
}

hm_err hm_member_find(const hm_view *v, const hm_node_id *id, hm_member *out)
{
    key k;
    uint32_t index = 0;
    HM_TRY(u32_get(v, key_of(&k, 'i', id->b, HM_HASH_BYTES), &index));
    return hm_member_at(v, index, out);
}

// ---- certificates -------------------------------------------------------------------------------

hm_bytes hm_serial_trimmed(const tc_serial *serial)
{
    hm_bytes s = hm_bytes_of(serial->b, TC_SERIAL_BYTES);
    while (s.len > 1 && s.ptr[0] == 0)
        s = hm_bytes_of(s.ptr + 1, s.len - 1);
    return s;
}

static hm_err cert_put(hm_view *v, const hm_member_cert *c)
{
    key k;
    uint8_t mem[128];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_raw(&b, c->node.b, HM_HASH_BYTES);
    hm_wr_bytes(&b, c->serial);
    hm_wr_u64(&b, c->not_before_ms);
    hm_wr_u64(&b, c->not_after_ms);
    hm_wr_bool(&b, c->revoked);
    HM_TRY(hm_buf_status(&b));
    return hm_view_put(v, key_of(&k, 'c', c->hash.b, HM_HASH_BYTES), hm_buf_bytes(&b));
}

static hm_err cert_read(hm_bytes value, const hm_hash *hash, hm_member_cert *out)
{
    hm_rd r = hm_rd_of(value);
    hm_member_cert c = {.hash = *hash};
    hm_rd_copy(&r, c.node.b, HM_HASH_BYTES);
    c.serial = hm_rd_bytes(&r, TC_SERIAL_BYTES);
    c.not_before_ms = hm_rd_u64(&r);
    c.not_after_ms = hm_rd_u64(&r);
    c.revoked = hm_rd_bool(&r);
    if (hm_rd_end(&r) != HM_OK)
        return damaged("certificate");
    *out = c;
    return HM_OK;
}

hm_err hm_member_cert_find(const hm_view *v, const hm_hash *hash, hm_member_cert *out)
{
    key k;
    hm_bytes value = {0};
    HM_TRY(hm_view_get(v, key_of(&k, 'c', hash->b, HM_HASH_BYTES), &value));
    return cert_read(value, hash, out);
}

hm_err hm_member_cert_der(const hm_view *v, const hm_hash *hash, hm_bytes *der)
{
    key k;
    return hm_view_get(v, key_of(&k, 'd', hash->b, HM_HASH_BYTES), der);
}

// a NULL: the genesis'.
static hm_err cert_add(hm_view *v, hm_bytes der, const tc_node_cert *info, const hm_authority *a)
{
    key k;
    hm_member_cert c = {
        .hash = hm_sha256(der),
        .node = info->node,
        .serial = hm_serial_trimmed(&info->serial),
        .not_before_ms = info->not_before_ms,
        .not_after_ms = info->not_after_ms,
    };
    HM_TRY(cert_put(v, &c));
    if (a != NULL && !a->first)
        HM_TRY(hm_view_put(v, key_of(&k, 'u', c.hash.b, HM_HASH_BYTES), hm_hash_bytes(&a->id)));
    return hm_view_put(v, key_of(&k, 'd', c.hash.b, HM_HASH_BYTES), der);
}

static hm_err cert_is_under(const hm_view *v, const hm_hash *cert, const hm_authority *a,
                            bool *under)
{
    key k;
    hm_bytes value = {0};
    hm_err err = hm_view_get(v, key_of(&k, 'u', cert->b, HM_HASH_BYTES), &value);
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    *under = err == HM_OK ? hm_bytes_eq(value, hm_hash_bytes(&a->id)) : a->first;
    return HM_OK;
}

static hm_bytes key_list(key *k, const hm_authority *a)
{
    return key_of(k, 'l', a->id.b, a->first ? 0 : HM_HASH_BYTES);
}

hm_err hm_node_crl_forget(hm_view *v, const hm_authority *a)
{
    key k;
    return hm_view_del(v, key_list(&k, a));
}

hm_err hm_node_crl(const hm_view *v, const hm_authority *a, uint64_t *number, hm_bytes *der)
{
    key k;
    hm_bytes value = {0};
    hm_err err = hm_view_get(v, key_list(&k, a), &value);
    if (err == HM_E_NOTFOUND) {
        *number = 0;
        *der = (hm_bytes){0};
        return HM_OK;
    }
    HM_TRY(err);
    hm_rd r = hm_rd_of(value);
    *number = hm_rd_u64(&r);
    *der = hm_rd_bytes(&r, HM_CRL_DER_MAX);
    return hm_rd_end(&r) == HM_OK ? HM_OK : damaged("revocation list");
}

// Marks every certificate that is_named() says.
static hm_err certs_mark(hm_view *v, const hm_authority *a,
                         hm_err (*is_named)(hm_bytes crl, const hm_member_cert *c, bool *yes),
                         hm_bytes crl)
{
    const uint8_t prefix[] = {HM_MODULE_NODE, 'c'};
    uint8_t at[2 + HM_HASH_BYTES];
    hm_bytes k = {0}, value;
    hm_err err;
    while ((err = hm_view_next(v, hm_bytes_of(prefix, 2), k, &k, &value)) == HM_OK) {
        if (k.len != sizeof at)
            return damaged("certificate");
        memcpy(at, k.ptr, sizeof at);
        k = hm_bytes_of(at, sizeof at);
        hm_hash hash;
        memcpy(hash.b, at + 2, HM_HASH_BYTES);
        hm_member_cert c;
        HM_TRY(cert_read(value, &hash, &c));
        bool under = false, named = false;
        HM_TRY(cert_is_under(v, &hash, a, &under));
        if (under)
            HM_TRY(is_named(crl, &c, &named));
        if (!named || c.revoked)
            continue;
        uint8_t serial[TC_SERIAL_BYTES]; // the borrowed one may go with the write
        memcpy(serial, c.serial.ptr, c.serial.len);
        c.serial = hm_bytes_of(serial, c.serial.len);
        c.revoked = true;
        HM_TRY(cert_put(v, &c));
    }
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

static hm_err in_list(hm_bytes crl, const hm_member_cert *c, bool *yes)
{
    return tc_crl_contains(crl, c->serial, yes);
}

static hm_err all_of_them(hm_bytes crl, const hm_member_cert *c, bool *yes)
{
    (void)crl, (void)c;
    *yes = true;
    return HM_OK;
}

hm_err hm_member_certs_withdraw(hm_view *v, const hm_authority *a)
{
    return certs_mark(v, a, all_of_them, (hm_bytes){0});
}

hm_err hm_member_power_apart(const hm_view *v, const hm_authority *a, uint64_t time_ms,
                             uint64_t *power, uint64_t *total)
{
    uint32_t count = 0;
    uint64_t apart = 0, all = 0;
    HM_TRY(hm_member_count(v, &count));
    for (uint32_t i = 0; i < count; i++) {
        hm_member m;
        hm_member_cert c;
        bool under = false;
        HM_TRY(hm_member_at(v, i, &m));
        HM_TRY(hm_member_cert_find(v, &m.cert, &c));
        HM_TRY(cert_is_under(v, &m.cert, a, &under));
        all += m.power;
        if (!under && !c.revoked && time_ms >= c.not_before_ms && time_ms <= c.not_after_ms)
            apart += m.power;
    }
    *power = apart;
    *total = all;
    return HM_OK;
}

// ---- the module ---------------------------------------------------------------------------------

void hm_node_payload_encode(hm_bytes content, hm_buf *payload)
{
    hm_wr_bytes(payload, content);
}

static hm_err bytes_read(hm_bytes payload, size_t max, hm_bytes *content)
{
    hm_rd r = hm_rd_of(payload);
    *content = hm_rd_bytes(&r, max);
    if (hm_rd_end(&r) != HM_OK || content->len == 0)
        return hm_fail(HM_E_OP_PAYLOAD, "the payload is not one byte string of 1 to %zu bytes",
                       max);
    return HM_OK;
}

static hm_err payload_read(const hm_op *op, size_t max, hm_bytes *content)
{
    return bytes_read(op->payload, max, content);
}

hm_err hm_node_payload_cert(hm_bytes payload, hm_hash *hash)
{
    hm_bytes der = {0};
    HM_TRY(bytes_read(payload, HM_CERT_DER_MAX, &der));
    *hash = hm_sha256(der);
    return HM_OK;
}

static hm_err node_genesis(hm_exec *x)
{
    key k;
    const hm_genesis *g = x->genesis;
    HM_TRY(u32_put(x->view, key_of(&k, 'n', NULL, 0), g->count));
    for (uint32_t i = 0; i < g->count; i++) {
        const hm_genesis_validator *v = &g->validators[i];
        tc_node_cert info;
        hm_member m = {.index = i, .stake = v->stake, .power = v->stake};
        m.public_key = v->public_key;
        m.cert = hm_sha256(v->cert);
        HM_TRY(hm_genesis_node_id(v, &m.id));
        hm_err err = tc_node_cert_verify(v->cert, g->issuing_cert, g->root_cert, (hm_bytes){0},
                                         g->time_ms, &info);
        if (err != HM_OK || !hm_hash_eq(&info.node, &m.id))
            return hm_fail(err != HM_OK ? err : HM_E_CERT_PROFILE,
                           "genesis: the certificate of %s is not good at the genesis' time",
                           v->name);
        HM_TRY(member_put(x->view, &m));
        HM_TRY(u32_put(x->view, key_of(&k, 'i', m.id.b, HM_HASH_BYTES), i));
        HM_TRY(cert_add(x->view, v->cert, &info, NULL));
    }
    return HM_OK;
}

static hm_err cert_check(const hm_exec *x, const hm_op *op, hm_bytes der, tc_node_cert *info,
                         hm_authority *a)
{
    hm_err err = hm_trust_node_cert(x->view, der, x->time_ms, info, a);
    if (err != HM_OK)
        return hm_fail(err, "the certificate is refused: %s", hm_err_text(err));
    if (!hm_hash_eq(&info->node, &op->owner))
        return hm_fail(HM_E_OP_RIGHT, "the certificate is another node's");
    hm_hash hash = hm_sha256(der);
    hm_member_cert known;
    err = hm_member_cert_find(x->view, &hash, &known);
    if (err == HM_OK)
        return hm_fail(HM_E_OP_DUPLICATE, "the ledger holds this certificate already");
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

static hm_err crl_check(const hm_exec *x, hm_bytes der, tc_crl_info *info, hm_authority *a)
{
    hm_err err = hm_trust_crl(x->view, der, x->time_ms, info, a);
    if (err != HM_OK)
        return hm_fail(err, "the revocation list is refused: %s", hm_err_text(err));
    uint64_t number;
    hm_bytes old = {0};
    HM_TRY(hm_node_crl(x->view, a, &number, &old));
    if (info->number <= number)
        return hm_fail(HM_E_OP_STATE, "revocation list %llu is no newer than list %llu",
                       (unsigned long long)info->number, (unsigned long long)number);
    return HM_OK;
}

static hm_err evidence_check(const hm_exec *x, hm_bytes evidence, hm_member *m)
{
    uint32_t offender = 0;
    if (x->ledger->cfg.evidence == NULL)
        return hm_fail(HM_E_UNSUPPORTED, "this ledger takes no evidence");
    HM_TRY(x->ledger->cfg.evidence(x, evidence, &offender));
    HM_TRY(hm_member_at(x->view, offender, m));
    if (m->slashed_height > 0)
        return hm_fail(HM_E_OP_DUPLICATE, "validator %u lost its stake already", offender);
    return HM_OK;
}

static hm_err node_check(const hm_exec *x, const hm_op *op)
{
    hm_bytes content = {0};
    tc_node_cert cert;
    tc_crl_info crl;
    hm_authority a;
    hm_member m;
    switch (op->kind) {
    case HM_NODE_CERT:
        HM_TRY(payload_read(op, HM_CERT_DER_MAX, &content));
        return cert_check(x, op, content, &cert, &a);
    case HM_NODE_CRL:
        HM_TRY(payload_read(op, HM_CRL_DER_MAX, &content));
        return crl_check(x, content, &crl, &a);
    default:
        HM_TRY(payload_read(op, HM_EVIDENCE_MAX, &content));
        return evidence_check(x, content, &m);
    }
}

static hm_err apply_cert(hm_exec *x, const hm_op *op, hm_bytes der)
{
    tc_node_cert info;
    hm_authority a;
    hm_member m;
    HM_TRY(cert_check(x, op, der, &info, &a));
    HM_TRY(cert_add(x->view, der, &info, &a));
    HM_TRY(hm_member_find(x->view, &op->owner, &m));
    uint8_t public_key[HM_FALCON_PUBLIC_BYTES];
    memcpy(public_key, m.public_key.ptr, m.public_key.len);
    m.public_key = hm_bytes_of(public_key, m.public_key.len);
    m.cert = hm_sha256(der);
    return member_put(x->view, &m);
}

static hm_err apply_crl(hm_exec *x, hm_bytes der)
{
    tc_crl_info info;
    hm_authority a;
    key k;
    HM_TRY(crl_check(x, der, &info, &a));
    hm_buf b = {0};
    hm_wr_u64(&b, info.number);
    hm_wr_bytes(&b, der);
    hm_err err = hm_buf_status(&b);
    if (err == HM_OK)
        err = hm_view_put(x->view, key_list(&k, &a), hm_buf_bytes(&b));
    hm_buf_free(&b);
    HM_TRY(err);
    return certs_mark(x->view, &a, in_list, der);
}

static hm_err apply_evidence(hm_exec *x, hm_bytes evidence)
{
    hm_member m;
    HM_TRY(evidence_check(x, evidence, &m));
    uint8_t public_key[HM_FALCON_PUBLIC_BYTES];
    memcpy(public_key, m.public_key.ptr, m.public_key.len);
    m.public_key = hm_bytes_of(public_key, m.public_key.len);
    m.stake = 0;
    m.slashed_height = x->height;
    return member_put(x->view, &m);
}

static hm_err node_apply(hm_exec *x, const hm_op *op)
{
    hm_bytes content = {0};
    switch (op->kind) {
    case HM_NODE_CERT:
        HM_TRY(payload_read(op, HM_CERT_DER_MAX, &content));
        return apply_cert(x, op, content);
    case HM_NODE_CRL:
        HM_TRY(payload_read(op, HM_CRL_DER_MAX, &content));
        return apply_crl(x, content);
    default:
        HM_TRY(payload_read(op, HM_EVIDENCE_MAX, &content));
        return apply_evidence(x, content);
    }
}

static hm_err node_describe(const hm_op *op, hm_buf *json)
{
    static const char *const names[] = {"", "certificate", "revocation_list", "evidence"};
    hm_bytes content = {0};
    HM_TRY(payload_read(op, HM_OP_PAYLOAD_MAX, &content));
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL)
        return HM_E_NOMEM;
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, o);
    hm_hash hash = hm_sha256(content);
    bool ok = mesh_json_base64(doc, o, names[op->kind], content) &&
              mesh_json_hash(doc, o, "sha256", &hash);
    return mesh_json_end(doc, ok, json);
}

static const hm_op_kind node_kinds[] = {
    {HM_NODE_CERT, HM_OP_RULE_SYSTEM, "certificate"},
    {HM_NODE_CRL, HM_OP_RULE_SYSTEM, "revocation"},
    {HM_NODE_EVIDENCE, HM_OP_RULE_SYSTEM, "evidence"},
};

const hm_module hm_module_node = {
    .id = HM_MODULE_NODE,
    .name = "node",
    .kinds = node_kinds,
    .kind_count = sizeof node_kinds / sizeof node_kinds[0],
    .genesis = node_genesis,
    .check = node_check,
    .apply = node_apply,
    .describe = node_describe,
};
