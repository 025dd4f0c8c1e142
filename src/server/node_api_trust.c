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

// What a certificate says: of an authority, or proposed.
static hm_err put_cert(hm_buf *b, hm_bytes der)
{
    tc_issuing_cert info;
    hm_hash hash = hm_sha256(der);
    HM_TRY(tc_issuing_read(der, &info));
    hm_jw_str(b, "name", info.name);
    hm_jw_u64(b, "not_before_ms", info.not_before_ms);
    hm_jw_u64(b, "not_after_ms", info.not_after_ms);
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
    HM_TRY(hm_member_at(api_tip(a), p->proposer, &m));
    HM_TRY(hm_proposal_power(api_tip(a), p, &power, &total));
    api_node_name(a, &m.id, name);
    hm_jw_open(b, NULL, '{');
    hm_jw_hex(b, "id", p->id.b, HM_HASH_BYTES);
    hm_jw_str(b, "kind", p->what == HM_TRUST_ADD ? "proposal" : "withdrawal");
    hm_jw_hex(b, "authority", p->authority.b, HM_HASH_BYTES);
    hm_jw_hex(b, "proposer", m.id.b, HM_HASH_BYTES);
    hm_jw_str(b, "proposer_name", name);
    hm_jw_u64(b, "height", p->height);
    hm_jw_u64(b, "ends_ms", p->ends_ms);
    hm_jw_u64(b, "power", power);
    hm_jw_u64(b, "total", total);
    HM_TRY(put_approvals(a, b, p));
    if (p->what == HM_TRUST_ADD)
        HM_TRY(put_cert(b, p->cert));
    hm_jw_close(b, '}');
    return hm_buf_status(b);
}

static hm_err put_all(const hm_node_api *a, hm_buf *b)
{
    hm_authority all[HM_TRUST_AUTHORITIES_MAX];
    uint32_t count = 0;
    hm_proposal p = {0};
    hm_hash at = {0};
    hm_err err;
    uint64_t time_ms = api_block_time(api_tip(a));
    HM_TRY(hm_trust_authorities(api_tip(a), time_ms, all, &count));
    hm_jw_open(b, NULL, '{');
    hm_jw_open(b, "items", '[');
    for (uint32_t i = 0; i < count; i++)
        HM_TRY(put_authority(a, b, &all[i]));
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

// An open proposal, or an authority in force (proposal->id is zero then) where x is not NULL.
static hm_err find(const hm_node_api *a, const hm_hash *id, hm_proposal *p, hm_authority *x)
{
    uint64_t time_ms = api_block_time(api_tip(a));
    hm_err err = hm_trust_proposal(api_tip(a), id, time_ms, p);
    if (err != HM_E_NOTFOUND)
        return err;
    *p = (hm_proposal){0};
    if (x)
        err = hm_trust_authority(api_tip(a), id, time_ms, x);
    return err == HM_E_NOTFOUND ? hm_fail(err, "%sno open proposal has this id",
                                          x ? "no authority in force and " : "")
                                : err;
}

void api_trust_get(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_hash id;
    hm_authority x = {0};
    hm_proposal p = {0};
    hm_buf b = {0};
    if (!api_param_id(r, 0, &id))
        return;
    hm_err err = find(a, &id, &p, &x);
    if (err == HM_OK)
        err = hm_hash_is_zero(&p.id) ? put_authority(a, &b, &x) : put_proposal(a, &b, &p);
    api_reply_or_refuse(r, err, &b);
}

// ---- writing ------------------------------------------------------------------------------------

void api_trust_propose(void *ctx, hm_http_req *r)
{
    static char pem[API_PEM_MAX + 1]; // large; the loop's thread alone
    hm_buf der = {0}, payload = {0};
    hm_err err = api_trust_read(hm_http_body(r), pem);
    if (err == HM_OK)
        err = tc_pem_to_der(hm_bytes_str(pem), &der);
    if (err == HM_OK) {
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
    hm_authority x = {0};
    hm_proposal p = {0};
    hm_buf payload = {0};
    hm_err err = api_empty_read(hm_http_body(r));
    if (err == HM_OK) {
        if (!api_param_id(r, 0, &id))
            return;
        err = find(a, &id, &p, kind == HM_TRUST_WITHDRAW ? &x : NULL);
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
