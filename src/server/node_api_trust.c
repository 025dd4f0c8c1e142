// Whom the mesh believes, read from the ledger's tip and changed by operations.
#include <openssl/pem.h>

#include "mesh/node_module.h"
#include "mesh/trust_module.h"
#include "server/node_api_internal.h"

// ---- reading ------------------------------------------------------------------------------------

static void put_pem(hm_buf *b, const char *name, hm_bytes der)
{
    const uint8_t *at = der.ptr;
    char *text = NULL;
    X509 *x = d2i_X509(NULL, &at, (long)der.len);
    BIO *mem = BIO_new(BIO_s_mem());
    if (x && mem && PEM_write_bio_X509(mem, x) == 1) {
        long len = BIO_get_mem_data(mem, &text);
        hm_jw_text(b, name, hm_bytes_of(text, (size_t)len));
    } else {
        b->status = HM_E_NOMEM;
    }
    BIO_free(mem);
    X509_free(x);
}

// What a certificate says: of an authority or a foreign root, or proposed.
static hm_err put_cert(hm_buf *b, hm_bytes der)
{
    tc_foreign_root facts; // which any certificate has
    hm_hash hash = hm_sha256(der);
    HM_TRY(tc_foreign_root_read(der, &facts));
    hm_jw_str(b, "name", facts.name);
    hm_jw_u64(b, "not_before_ms", facts.not_before_ms);
    hm_jw_u64(b, "not_after_ms", facts.not_after_ms);
    hm_jw_hex(b, "sha256", hash.b, HM_HASH_BYTES);
    put_pem(b, "certificate", der);
    return HM_OK;
}

static hm_err put_authority(const hm_node_api *a, hm_buf *b, const hm_authority *x)
{
    uint64_t number = 0, power = 0, total = 0;
    hm_bytes crl = {0};
    hm_view *v = api_tip(a);
    HM_TRY(hm_node_crl(v, x, &number, &crl));
    HM_TRY(hm_member_power_apart(v, x, api_block_time(v), &power, &total));
    hm_jw_open(b, NULL, '{');
    hm_jw_hex(b, "id", x->id.b, HM_HASH_BYTES);
    hm_jw_str(b, "kind", "authority");
    hm_jw_bool(b, "first", x->first);
    hm_jw_u64(b, "since_height", x->since_height);
    hm_jw_u64(b, "crl_number", number);
    hm_jw_u64(b, "power_apart", power);
    hm_jw_u64(b, "total", total);
    HM_TRY(put_cert(b, x->cert));
    hm_jw_close(b, '}');
    return hm_buf_status(b);
}

// What a foreign root is believed for.
static void put_scope(hm_buf *b, const tc_scope *s)
{
    char prefix[TC_SCOPE_PREFIX_TEXT_MAX];
    if (s->zone[0])
        hm_jw_str(b, "zone", s->zone);
    if (s->bits > 0)
        hm_jw_str(b, "prefix", tc_scope_prefix_text(s, prefix));
}

static hm_err put_foreign(const hm_node_api *a, hm_buf *b, const hm_foreign *x)
{
    uint64_t power = 0, total = 0;
    HM_TRY(hm_proposal_power(api_tip(a), &(hm_proposal){0}, &power, &total));
    hm_jw_open(b, NULL, '{');
    hm_jw_hex(b, "id", x->id.b, HM_HASH_BYTES);
    hm_jw_str(b, "kind", "foreign");
    hm_jw_u64(b, "since_height", x->since_height);
    hm_jw_u64(b, "total", total);
    put_scope(b, &x->scope);
    HM_TRY(put_cert(b, x->cert));
    hm_jw_close(b, '}');
    return hm_buf_status(b);
}

static hm_err put_approvals(const hm_node_api *a, hm_buf *b, const hm_proposal *p)
{
    uint32_t count = 0;
    HM_TRY(hm_member_count(api_tip(a), &count));
    hm_jw_open(b, "approvals", '[');
    for (uint32_t i = 0; i < count; i++) {
        hm_member m;
        char name[64];
        if (!hm_proposal_has(p, i))
            continue;
        HM_TRY(hm_member_at(api_tip(a), i, &m));
        api_node_name(a, &m.id, name);
        hm_jw_open(b, NULL, '{');
        hm_jw_hex(b, "node", m.id.b, HM_HASH_BYTES);
        hm_jw_str(b, "name", name);
        hm_jw_u64(b, "power", m.power);
        hm_jw_close(b, '}');
    }
    hm_jw_close(b, ']');
    return HM_OK;
}

static hm_err put_proposal(const hm_node_api *a, hm_buf *b, const hm_proposal *p)
{
    hm_member m;
    char name[64];
    uint64_t power = 0, total = 0;
    bool is_foreign = p->what == HM_TRUST_FOREIGN_ADD || p->what == HM_TRUST_FOREIGN_LEAVE;
    HM_TRY(hm_member_at(api_tip(a), p->proposer, &m));
    HM_TRY(hm_proposal_power(api_tip(a), p, &power, &total));
    api_node_name(a, &m.id, name);
    hm_jw_open(b, NULL, '{');
    hm_jw_hex(b, "id", p->id.b, HM_HASH_BYTES);
    hm_jw_str(b, "kind", p->cert.len > 0 ? "proposal" : "withdrawal");
    hm_jw_hex(b, is_foreign ? "foreign" : "authority", p->authority.b, HM_HASH_BYTES);
    hm_jw_hex(b, "proposer", m.id.b, HM_HASH_BYTES);
    hm_jw_str(b, "proposer_name", name);
    hm_jw_u64(b, "height", p->height);
    hm_jw_u64(b, "ends_ms", p->ends_ms);
    hm_jw_u64(b, "power", power);
    hm_jw_u64(b, "total", total);
    HM_TRY(put_approvals(a, b, p));
    put_scope(b, &p->scope);
    if (p->cert.len > 0)
        HM_TRY(put_cert(b, p->cert));
    hm_jw_close(b, '}');
    return hm_buf_status(b);
}

static hm_err put_all(const hm_node_api *a, hm_buf *b)
{
    hm_authority all[HM_TRUST_AUTHORITIES_MAX];
    hm_foreign others[HM_TRUST_FOREIGN_MAX];
    uint32_t count = 0, other_count = 0;
    hm_proposal p = {0};
    hm_hash at = {0};
    hm_err err;
    uint64_t time_ms = api_block_time(api_tip(a));
    HM_TRY(hm_trust_authorities(api_tip(a), time_ms, all, &count));
    HM_TRY(hm_trust_foreigns(api_tip(a), time_ms, others, &other_count));
    hm_jw_open(b, NULL, '{');
    hm_jw_open(b, "items", '[');
    for (uint32_t i = 0; i < count; i++)
        HM_TRY(put_authority(a, b, &all[i]));
    for (uint32_t i = 0; i < other_count; i++)
        HM_TRY(put_foreign(a, b, &others[i]));
    while ((err = hm_trust_proposal_next(api_tip(a), &at, time_ms, &p)) == HM_OK) {
        at = p.id;
        HM_TRY(put_proposal(a, b, &p));
    }
    hm_jw_close(b, ']');
    hm_jw_close(b, '}');
    return err == HM_E_NOTFOUND ? hm_buf_status(b) : err;
}

void api_trust_list(void *ctx, hm_http_req *r)
{
    hm_buf b = {0};
    api_reply_or_refuse(r, put_all(ctx, &b), &b);
}

// What an id is of: one of these has it, and the others are zero.
typedef struct found {
    hm_proposal p;
    hm_authority x;
    hm_foreign f;
} found;

// An open proposal; or what is in force, if that will do.
static hm_err find(const hm_node_api *a, const hm_hash *id, bool in_force, found *out)
{
    uint64_t time_ms = api_block_time(api_tip(a));
    *out = (found){0};
    hm_err err = hm_trust_proposal(api_tip(a), id, time_ms, &out->p);
    if (err == HM_E_NOTFOUND && in_force)
        err = hm_trust_authority(api_tip(a), id, time_ms, &out->x);
    if (err == HM_E_NOTFOUND && in_force)
        err = hm_trust_foreign(api_tip(a), id, time_ms, &out->f);
    return err == HM_E_NOTFOUND
               ? hm_fail(err, "%sno open proposal has this id",
                         in_force ? "no authority or foreign root in force and " : "")
               : err;
}

void api_trust_get(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_hash id;
    found it;
    hm_buf b = {0};
    if (!api_param_id(r, 0, &id))
        return;
    hm_err err = find(a, &id, true, &it);
    if (err == HM_OK && it.p.what != 0)
        err = put_proposal(a, &b, &it.p);
    else if (err == HM_OK)
        err = it.x.cert.len > 0 ? put_authority(a, &b, &it.x) : put_foreign(a, &b, &it.f);
    api_reply_or_refuse(r, err, &b);
}

// ---- writing ------------------------------------------------------------------------------------

void api_trust_propose(void *ctx, hm_http_req *r)
{
    static api_trust what; // large; the loop's thread alone
    tc_scope scope;
    hm_buf der = {0}, payload = {0};
    hm_err err = api_trust_read(hm_http_body(r), &what);
    bool foreign = err == HM_OK && (what.zone[0] || what.prefix[0]);
    if (foreign)
        err = tc_scope_parse(what.zone, what.prefix, &scope);
    if (err == HM_OK)
        err = tc_pem_to_der(hm_bytes_str(what.certificate), &der);
    if (err == HM_OK && foreign) {
        hm_trust_foreign_encode(hm_buf_bytes(&der), &scope, &payload);
        api_submit(ctx, r, HM_MODULE_TRUST, HM_TRUST_FOREIGN, NULL, &payload);
    } else if (err == HM_OK) {
        hm_trust_propose_encode(hm_buf_bytes(&der), &payload);
        api_submit(ctx, r, HM_MODULE_TRUST, HM_TRUST_PROPOSE, NULL, &payload);
    } else {
        api_refuse(r, err);
    }
    hm_buf_free(&der);
    hm_buf_free(&payload);
}

static void say_of_id(hm_node_api *a, hm_http_req *r, hm_trust_op kind)
{
    hm_hash id;
    found it;
    hm_buf payload = {0};
    hm_err err = api_empty_read(hm_http_body(r));
    if (err == HM_OK) {
        if (!api_param_id(r, 0, &id))
            return;
        err = find(a, &id, kind == HM_TRUST_WITHDRAW, &it);
    }
    if (err != HM_OK) {
        api_refuse(r, err);
        return;
    }
    hm_trust_id_encode(&id, &payload);
    api_submit(a, r, HM_MODULE_TRUST, (uint8_t)kind, NULL, &payload);
    hm_buf_free(&payload);
}

void api_trust_approve(void *ctx, hm_http_req *r)
{
    say_of_id(ctx, r, HM_TRUST_APPROVE);
}

void api_trust_withdraw(void *ctx, hm_http_req *r)
{
    say_of_id(ctx, r, HM_TRUST_WITHDRAW);
}
