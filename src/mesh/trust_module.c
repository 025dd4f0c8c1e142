#include "mesh/trust_module.h"

#include <stdio.h>

#include "mesh/json_out.h"
#include "mesh/node_module.h"
#include "mesh/trust_internal.h"

// Keys: 'a' authority -> its certificate in force (the genesis' own: nothing, until a new one),
// 'w' authority -> height at which it was withdrawn, 'p' id -> proposal, 'f' foreign root ->
// trust_foreign.c.

hm_bytes trust_key_of(trust_key *k, char what, const hm_hash *id)
{
    k->mem[0] = HM_MODULE_TRUST;
    k->mem[1] = (uint8_t)what;
    memcpy(k->mem + 2, id->b, HM_HASH_BYTES);
    return hm_bytes_of(k->mem, sizeof k->mem);
}

hm_err trust_next(const hm_view *v, char what, const hm_hash *after, hm_hash *id, hm_bytes *value)
{
    const uint8_t prefix[2] = {HM_MODULE_TRUST, (uint8_t)what};
    trust_key k;
    hm_bytes at = hm_hash_is_zero(after) ? (hm_bytes){0} : trust_key_of(&k, what, after),
             found = {0};
    HM_TRY(hm_view_next(v, hm_bytes_of(prefix, sizeof prefix), at, &found, value));
    if (found.len != 2 + HM_HASH_BYTES)
        return hm_fail(HM_E_CORRUPT, "the ledger's table of authorities is damaged");
    memcpy(id->b, found.ptr + 2, HM_HASH_BYTES);
    return HM_OK;
}

static bool is_quorum(uint64_t power, uint64_t total)
{
    return power * 3 > total * 2; // as finality has it: simplex.h
}

// ---- authorities --------------------------------------------------------------------------------

static hm_err authority_put(hm_view *v, const hm_authority *a)
{
    trust_key k;
    uint8_t mem[TRUST_RECORD_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u64(&b, a->since_height);
    hm_wr_u64(&b, a->not_before_ms);
    hm_wr_u64(&b, a->not_after_ms);
    hm_wr_bytes(&b, a->cert);
    HM_TRY(hm_buf_status(&b));
    return hm_view_put(v, trust_key_of(&k, 'a', &a->id), hm_buf_bytes(&b));
}

static hm_err authority_read(hm_bytes value, hm_authority *a)
{
    hm_rd r = hm_rd_of(value);
    a->since_height = hm_rd_u64(&r);
    a->not_before_ms = hm_rd_u64(&r);
    a->not_after_ms = hm_rd_u64(&r);
    a->cert = hm_rd_bytes(&r, HM_CERT_DER_MAX);
    return hm_rd_end(&r) == HM_OK ? HM_OK
                                  : hm_fail(HM_E_CORRUPT, "the ledger's record of an authority is "
                                                          "damaged");
}

static hm_err was_withdrawn(const hm_view *v, const hm_hash *id, bool *gone)
{
    trust_key k;
    hm_bytes value = {0};
    hm_err err = hm_view_get(v, trust_key_of(&k, 'w', id), &value);
    *gone = err == HM_OK;
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

// The authority of the genesis, with the certificate that it has now.
static hm_err first_authority(const hm_view *v, hm_authority *out)
{
    trust_key k;
    tc_issuing_cert info;
    hm_bytes value = {0};
    hm_authority a = {.cert = hm_view_genesis(v)->issuing_cert, .first = true};
    HM_TRY(tc_issuing_read(a.cert, &info));
    a.id = info.key_id;
    a.not_before_ms = info.not_before_ms;
    a.not_after_ms = info.not_after_ms;
    hm_err err = hm_view_get(v, trust_key_of(&k, 'a', &a.id), &value);
    if (err == HM_OK)
        err = authority_read(value, &a);
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    *out = a;
    return HM_OK;
}

static bool in_force(const hm_authority *a, uint64_t time_ms)
{
    return time_ms >= a->not_before_ms && time_ms <= a->not_after_ms;
}

hm_err hm_trust_authorities(const hm_view *v, uint64_t time_ms,
                            hm_authority out[HM_TRUST_AUTHORITIES_MAX], uint32_t *count)
{
    hm_authority first, a;
    hm_hash at = {0};
    hm_bytes value = {0};
    bool gone = false;
    uint32_t n = 0;
    hm_err err;
    HM_TRY(first_authority(v, &first));
    HM_TRY(was_withdrawn(v, &first.id, &gone));
    if (!gone && in_force(&first, time_ms))
        out[n++] = first;
    while ((err = trust_next(v, 'a', &at, &at, &value)) == HM_OK) {
        a = (hm_authority){.id = at};
        HM_TRY(authority_read(value, &a));
        if (hm_hash_eq(&a.id, &first.id) || !in_force(&a, time_ms))
            continue;
        if (n == HM_TRUST_AUTHORITIES_MAX) // by a clock that is behind the blocks'
            break;
        out[n++] = a;
    }
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    *count = n;
    return HM_OK;
}

hm_err hm_trust_authority(const hm_view *v, const hm_hash *id, uint64_t time_ms, hm_authority *out)
{
    hm_authority all[HM_TRUST_AUTHORITIES_MAX];
    uint32_t count = 0;
    HM_TRY(hm_trust_authorities(v, time_ms, all, &count));
    for (uint32_t i = 0; i < count; i++)
        if (hm_hash_eq(&all[i].id, id)) {
            if (out)
                *out = all[i];
            return HM_OK;
        }
    return HM_E_NOTFOUND;
}

// ---- what they signed ---------------------------------------------------------------------------

// Of several refusals the one that says most: "not signed by this one" says least.
static bool says_more(hm_err err, hm_err than)
{
    return than == HM_OK || (than == HM_E_CERT_UNTRUSTED && err != HM_E_CERT_UNTRUSTED);
}

typedef struct refusal {
    hm_err err;
    char detail[200];
} refusal;

static void note_refusal(refusal *r, hm_err err)
{
    if (!says_more(err, r->err))
        return;
    r->err = err;
    snprintf(r->detail, sizeof r->detail, "%s", hm_err_detail());
}

static hm_err refuse(const refusal *r)
{
    return r->err == HM_OK ? hm_fail(HM_E_CERT_UNTRUSTED, "no authority of this mesh is in force")
                           : hm_fail(r->err, "%s", r->detail);
}

static hm_err revocation_check(const hm_view *v, const hm_authority *a, const tc_node_cert *cert)
{
    uint64_t number = 0;
    hm_bytes crl = {0};
    bool revoked = false;
    HM_TRY(hm_node_crl(v, a, &number, &crl));
    if (number > 0)
        HM_TRY(tc_crl_contains(crl, hm_serial_trimmed(&cert->serial), &revoked));
    return revoked ? hm_fail(HM_E_CERT_REVOKED, "the certificate of %s is revoked", cert->name)
                   : HM_OK;
}

hm_err hm_trust_node_cert(const hm_view *v, hm_bytes leaf, uint64_t time_ms, tc_node_cert *out,
                          hm_authority *authority)
{
    hm_authority all[HM_TRUST_AUTHORITIES_MAX];
    uint32_t count = 0;
    refusal r = {0};
    HM_TRY(hm_trust_authorities(v, time_ms, all, &count));
    for (uint32_t i = 0; i < count; i++) {
        hm_err err = tc_node_cert_verify(leaf, all[i].cert, hm_view_genesis(v)->root_cert,
                                         (hm_bytes){0}, time_ms, out);
        if (err != HM_OK) {
            note_refusal(&r, err);
            continue;
        }
        HM_TRY(revocation_check(v, &all[i], out));
        if (authority != NULL)
            *authority = all[i];
        return HM_OK;
    }
    return refuse(&r);
}

hm_err hm_trust_node_cert_by(const hm_view *v, hm_bytes leaf, hm_bytes issuing, uint64_t time_ms,
                             tc_node_cert *out)
{
    const hm_genesis *g = hm_view_genesis(v);
    tc_issuing_cert info;
    bool gone = false;
    HM_TRY(tc_issuing_verify(issuing, g->root_cert, g->issuing_cert, g->name, time_ms, &info));
    HM_TRY(was_withdrawn(v, &info.key_id, &gone));
    if (gone)
        return hm_fail(HM_E_CERT_UNTRUSTED, "the authority of the certificate was withdrawn");
    return tc_node_cert_verify(leaf, issuing, g->root_cert, (hm_bytes){0}, time_ms, out);
}

hm_err hm_trust_crl(const hm_view *v, hm_bytes crl, uint64_t time_ms, tc_crl_info *out,
                    hm_authority *authority)
{
    hm_authority all[HM_TRUST_AUTHORITIES_MAX];
    uint32_t count = 0;
    refusal r = {0};
    HM_TRY(hm_trust_authorities(v, time_ms, all, &count));
    for (uint32_t i = 0; i < count; i++) {
        hm_err err = tc_crl_verify(crl, all[i].cert, out);
        if (err == HM_OK) {
            *authority = all[i];
            return HM_OK;
        }
        note_refusal(&r, err);
    }
    return refuse(&r);
}

// ---- proposals ----------------------------------------------------------------------------------

static hm_err proposal_put(hm_view *v, const hm_proposal *p)
{
    trust_key k;
    uint8_t mem[TRUST_RECORD_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u8(&b, (uint8_t)p->what);
    hm_wr_raw(&b, p->authority.b, HM_HASH_BYTES);
    hm_wr_u32(&b, p->proposer);
    hm_wr_u64(&b, p->height);
    hm_wr_u64(&b, p->ends_ms);
    hm_wr_raw(&b, p->approvals, sizeof p->approvals);
    hm_wr_bytes(&b, p->cert);
    if (p->what == HM_TRUST_FOREIGN_ADD)
        trust_scope_put(&b, &p->scope);
    HM_TRY(hm_buf_status(&b));
    return hm_view_put(v, trust_key_of(&k, 'p', &p->id), hm_buf_bytes(&b));
}

static hm_err proposal_read(hm_bytes value, const hm_hash *id, hm_proposal *out)
{
    hm_rd r = hm_rd_of(value);
    hm_proposal p = {.id = *id};
    p.what = (hm_trust_what)hm_rd_u8(&r);
    hm_rd_copy(&r, p.authority.b, HM_HASH_BYTES);
    p.proposer = hm_rd_u32(&r);
    p.height = hm_rd_u64(&r);
    p.ends_ms = hm_rd_u64(&r);
    hm_rd_copy(&r, p.approvals, sizeof p.approvals);
    p.cert = hm_rd_bytes(&r, HM_CERT_DER_MAX);
    if (p.what == HM_TRUST_FOREIGN_ADD)
        trust_scope_read(&r, &p.scope);
    if (hm_rd_end(&r) != HM_OK)
        return hm_fail(HM_E_CORRUPT, "the ledger's record of a proposal is damaged");
    *out = p;
    return HM_OK;
}

hm_err hm_trust_proposal(const hm_view *v, const hm_hash *id, uint64_t time_ms, hm_proposal *out)
{
    trust_key k;
    hm_bytes value = {0};
    hm_proposal p;
    HM_TRY(hm_view_get(v, trust_key_of(&k, 'p', id), &value));
    HM_TRY(proposal_read(value, id, &p));
    if (time_ms > p.ends_ms)
        return HM_E_NOTFOUND;
    *out = p;
    return HM_OK;
}

hm_err hm_trust_proposal_next(const hm_view *v, const hm_hash *after, uint64_t time_ms,
                              hm_proposal *out)
{
    hm_hash at = *after;
    hm_bytes value = {0};
    hm_proposal p;
    do {
        HM_TRY(trust_next(v, 'p', &at, &at, &value));
        HM_TRY(proposal_read(value, &at, &p));
    } while (time_ms > p.ends_ms);
    *out = p;
    return HM_OK;
}

bool hm_proposal_has(const hm_proposal *p, uint32_t member)
{
    return member / 8 < sizeof p->approvals && (p->approvals[member / 8] >> member % 8 & 1);
}

hm_err hm_proposal_power(const hm_view *v, const hm_proposal *p, uint64_t *power, uint64_t *total)
{
    uint32_t count = 0;
    uint64_t with = 0, all = 0;
    HM_TRY(hm_member_count(v, &count));
    for (uint32_t i = 0; i < count; i++) {
        hm_member m;
        HM_TRY(hm_member_at(v, i, &m));
        all += m.power;
        with += hm_proposal_has(p, i) && m.slashed_height == 0 ? m.power : 0;
    }
    *power = with;
    *total = all;
    return HM_OK;
}

// What a proposal would do, without whose and when it is.
typedef struct intent {
    hm_trust_what what;
    hm_hash authority;
    hm_bytes cert;
    tc_scope scope;
} intent;

// Is the same proposed already, and how many has the member open?
static hm_err proposal_find(const hm_exec *x, const intent *w, uint32_t member, hm_proposal *found,
                            bool *there, uint32_t *open)
{
    hm_proposal p;
    hm_hash at = {0};
    hm_err err;
    *there = false;
    *open = 0;
    while ((err = hm_trust_proposal_next(x->view, &at, x->time_ms, &p)) == HM_OK) {
        at = p.id;
        *open += p.proposer == member;
        if (p.what != w->what || !hm_hash_eq(&p.authority, &w->authority) ||
            !hm_bytes_eq(p.cert, w->cert) || !tc_scope_eq(&p.scope, &w->scope))
            continue;
        *there = true;
        *found = p;
    }
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

// ---- payloads -----------------------------------------------------------------------------------

void hm_trust_propose_encode(hm_bytes cert, hm_buf *payload)
{
    hm_wr_bytes(payload, cert);
}

void hm_trust_id_encode(const hm_hash *id, hm_buf *payload)
{
    hm_wr_raw(payload, id->b, HM_HASH_BYTES);
}

static hm_err cert_decode(hm_bytes payload, hm_bytes *cert)
{
    hm_rd r = hm_rd_of(payload);
    *cert = hm_rd_bytes(&r, HM_CERT_DER_MAX);
    if (hm_rd_end(&r) != HM_OK || cert->len == 0)
        return hm_fail(HM_E_OP_PAYLOAD, "the payload is not one certificate of 1 to %u bytes",
                       HM_CERT_DER_MAX);
    return HM_OK;
}

static hm_err id_decode(hm_bytes payload, hm_hash *id)
{
    if (payload.len != HM_HASH_BYTES)
        return hm_fail(HM_E_OP_PAYLOAD, "the payload is not one id of %d bytes", HM_HASH_BYTES);
    memcpy(id->b, payload.ptr, HM_HASH_BYTES);
    return HM_OK;
}

// ---- rules --------------------------------------------------------------------------------------

// Could the certificate be put in force now?
static hm_err check_add(const hm_exec *x, hm_bytes cert, tc_issuing_cert *info)
{
    const hm_genesis *g = x->genesis;
    hm_authority all[HM_TRUST_AUTHORITIES_MAX];
    uint32_t count = 0;
    bool gone = false, known = false;
    hm_err err = tc_issuing_verify(cert, g->root_cert, g->issuing_cert, g->name, x->time_ms, info);
    if (err != HM_OK) {
        char why[300];
        snprintf(why, sizeof why, "%s", hm_err_detail());
        return hm_fail(err, "the issuing certificate is refused: %s", why);
    }
    HM_TRY(was_withdrawn(x->view, &info->key_id, &gone));
    if (gone)
        return hm_fail(HM_E_OP_STATE, "the authority with this key was withdrawn for good");
    err = hm_trust_foreign(x->view, &info->key_id, x->time_ms, NULL);
    if (err == HM_OK)
        return hm_fail(HM_E_OP_STATE, "its key is that of a foreign root");
    if (err != HM_E_NOTFOUND)
        return err;
    HM_TRY(hm_trust_authorities(x->view, x->time_ms, all, &count));
    for (uint32_t i = 0; i < count; i++) {
        tc_issuing_cert present;
        HM_TRY(tc_issuing_read(all[i].cert, &present));
        bool same = hm_hash_eq(&all[i].id, &info->key_id);
        known = known || same;
        if (hm_bytes_eq(all[i].cert, cert))
            return hm_fail(HM_E_OP_DUPLICATE, "this issuing certificate is in force already");
        if (info->not_after_ms < present.not_after_ms)
            return hm_fail(HM_E_OP_STATE, "it ends before one that is in force: a new issuing "
                                          "certificate lives at least as long");
        if (same && strcmp(present.name, info->name) != 0)
            return hm_fail(HM_E_OP_STATE,
                           "the authority with this key is called \"%s\", and keeps "
                           "its name",
                           present.name);
    }
    if (!known && count == HM_TRUST_AUTHORITIES_MAX)
        return hm_fail(HM_E_OP_STATE,
                       "%u authorities are in force, and there cannot be more: "
                       "withdraw one first",
                       HM_TRUST_AUTHORITIES_MAX);
    return HM_OK;
}

// Could the authority leave now? The mesh must not lose those who make it go on.
static hm_err check_leave(const hm_exec *x, const hm_hash *id, hm_authority *a)
{
    hm_authority all[HM_TRUST_AUTHORITIES_MAX];
    uint32_t count = 0;
    uint64_t power = 0, total = 0;
    hm_err err = hm_trust_authority(x->view, id, x->time_ms, a);
    if (err == HM_E_NOTFOUND)
        return hm_fail(HM_E_OP_STATE, "no authority with this id is in force");
    HM_TRY(err);
    HM_TRY(hm_trust_authorities(x->view, x->time_ms, all, &count));
    if (count == 1)
        return hm_fail(HM_E_OP_STATE, "it is the only authority in force: put the next one in "
                                      "force first");
    HM_TRY(hm_member_power_apart(x->view, a, x->time_ms, &power, &total));
    if (!is_quorum(power, total))
        return hm_fail(HM_E_OP_STATE,
                       "members with %llu of %llu of the power have a certificate of another "
                       "authority, and the mesh needs more than two thirds: let them renew theirs "
                       "first",
                       (unsigned long long)power, (unsigned long long)total);
    return HM_OK;
}

hm_err trust_check_not_ours(const hm_exec *x, const hm_hash *key_id)
{
    hm_authority first;
    tc_foreign_root root;
    bool gone = false;
    HM_TRY(tc_foreign_root_read(x->genesis->root_cert, &root));
    HM_TRY(first_authority(x->view, &first));
    HM_TRY(was_withdrawn(x->view, key_id, &gone));
    hm_err err = hm_trust_authority(x->view, key_id, x->time_ms, NULL);
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    if (err == HM_OK || gone || hm_hash_eq(key_id, &first.id) || hm_hash_eq(key_id, &root.key_id))
        return hm_fail(HM_E_OP_STATE, "its key is this mesh's own");
    return HM_OK;
}

static hm_err check_open(uint32_t open)
{
    if (open >= HM_TRUST_OPEN_MAX)
        return hm_fail(HM_E_LIMIT,
                       "the signer has %u open proposals, and no more are taken of a "
                       "member: withdraw one, or wait until it ends",
                       open);
    return HM_OK;
}

// With this approval, would it be done? Then it must be possible now.
static hm_err check_done(const hm_exec *x, const hm_proposal *p, const hm_member *m, bool *done)
{
    hm_proposal with = *p;
    uint64_t power = 0, total = 0;
    tc_issuing_cert info;
    tc_foreign_root root;
    hm_authority a;
    with.approvals[m->index / 8] |= (uint8_t)(1u << m->index % 8);
    HM_TRY(hm_proposal_power(x->view, &with, &power, &total));
    *done = is_quorum(power, total);
    if (!*done)
        return HM_OK;
    switch (p->what) {
    case HM_TRUST_ADD:
        return check_add(x, p->cert, &info);
    case HM_TRUST_LEAVE:
        return check_leave(x, &p->authority, &a);
    case HM_TRUST_FOREIGN_ADD:
        return trust_foreign_check(x, p->cert, &p->scope, &root);
    case HM_TRUST_FOREIGN_LEAVE:
        return trust_foreign_check_leave(x, &p->authority);
    }
    return hm_fail(HM_E_CORRUPT, "the ledger's record of a proposal is damaged");
}

// What an operation comes to: an approval of *p, which is new unless `had`, or the end of it.
typedef struct decision {
    hm_proposal p;
    hm_member m; // the signer
    bool ends, done;
} decision;

static hm_err decide_approval(const hm_exec *x, decision *d)
{
    if (hm_proposal_has(&d->p, d->m.index))
        return hm_fail(HM_E_OP_DUPLICATE, "the signer approved of it already");
    return check_done(x, &d->p, &d->m, &d->done);
}

// One more proposal, unless the same is there: then that in d->p.
static hm_err decide_new(const hm_exec *x, const intent *w, decision *d, bool *there)
{
    uint32_t open = 0;
    HM_TRY(proposal_find(x, w, d->m.index, &d->p, there, &open));
    if (*there)
        return HM_OK;
    HM_TRY(check_open(open));
    d->p = (hm_proposal){.id = x->op_id, // not known to a check, which does not need it
                         .what = w->what,
                         .authority = w->authority,
                         .cert = w->cert,
                         .scope = w->scope,
                         .proposer = d->m.index,
                         .height = x->height,
                         .ends_ms = x->time_ms + HM_TRUST_OPEN_MS};
    return HM_OK;
}

// Of a certificate, which may not be proposed twice.
static hm_err decide_cert(const hm_exec *x, const intent *w, decision *d)
{
    bool there = false;
    HM_TRY(decide_new(x, w, d, &there));
    if (there)
        return hm_fail(HM_E_OP_DUPLICATE, "this %s is proposed already: approve of that",
                       w->what == HM_TRUST_ADD ? "issuing certificate" : "foreign root");
    return decide_approval(x, d);
}

static hm_err decide_propose(const hm_exec *x, hm_bytes payload, decision *d)
{
    intent w = {.what = HM_TRUST_ADD};
    tc_issuing_cert info;
    HM_TRY(cert_decode(payload, &w.cert));
    HM_TRY(check_add(x, w.cert, &info));
    w.authority = info.key_id;
    return decide_cert(x, &w, d);
}

static hm_err decide_foreign(const hm_exec *x, hm_bytes payload, decision *d)
{
    intent w = {.what = HM_TRUST_FOREIGN_ADD};
    tc_foreign_root root;
    HM_TRY(trust_foreign_decode(payload, &w.cert, &w.scope));
    HM_TRY(trust_foreign_check(x, w.cert, &w.scope, &root));
    w.authority = root.key_id;
    return decide_cert(x, &w, d);
}

static hm_err decide_withdraw(const hm_exec *x, const hm_hash *id, decision *d)
{
    bool there = false;
    intent w = {.what = HM_TRUST_LEAVE, .authority = *id};
    hm_err err = hm_trust_proposal(x->view, id, x->time_ms, &d->p);
    if (err == HM_OK) {
        d->ends = true;
        return d->p.proposer == d->m.index
                   ? HM_OK
                   : hm_fail(HM_E_OP_RIGHT, "the proposal is another member's");
    }
    if (err != HM_E_NOTFOUND)
        return err;
    err = hm_trust_authority(x->view, id, x->time_ms, NULL);
    if (err == HM_E_NOTFOUND) {
        w.what = HM_TRUST_FOREIGN_LEAVE;
        err = hm_trust_foreign(x->view, id, x->time_ms, NULL);
    }
    if (err == HM_E_NOTFOUND)
        return hm_fail(HM_E_OP_STATE, "no authority or foreign root in force and no open proposal "
                                      "has this id");
    HM_TRY(err);
    HM_TRY(decide_new(x, &w, d, &there));
    return decide_approval(x, d);
}

static hm_err decide(const hm_exec *x, const hm_op *op, decision *d)
{
    hm_hash id;
    *d = (decision){0};
    HM_TRY(hm_member_find(x->view, &op->owner, &d->m));
    if (op->kind == HM_TRUST_PROPOSE)
        return decide_propose(x, op->payload, d);
    if (op->kind == HM_TRUST_FOREIGN)
        return decide_foreign(x, op->payload, d);
    HM_TRY(id_decode(op->payload, &id));
    if (op->kind == HM_TRUST_WITHDRAW)
        return decide_withdraw(x, &id, d);
    hm_err err = hm_trust_proposal(x->view, &id, x->time_ms, &d->p);
    if (err == HM_E_NOTFOUND)
        return hm_fail(HM_E_OP_STATE, "no open proposal has this id");
    return err == HM_OK ? decide_approval(x, d) : err;
}

static hm_err trust_check(const hm_exec *x, const hm_op *op)
{
    decision d;
    return decide(x, op, &d);
}

// ---- effects ------------------------------------------------------------------------------------

// Nothing is kept for ever that did not come to be.
static hm_err clean_proposals(hm_exec *x)
{
    hm_hash at = {0};
    hm_bytes value = {0};
    hm_err err;
    while ((err = trust_next(x->view, 'p', &at, &at, &value)) == HM_OK) {
        trust_key k;
        hm_proposal p;
        HM_TRY(proposal_read(value, &at, &p));
        if (x->time_ms > p.ends_ms)
            HM_TRY(hm_view_del(x->view, trust_key_of(&k, 'p', &at)));
    }
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

// Authorities whose certificates are over, and their lists.
static hm_err clean_authorities(hm_exec *x)
{
    hm_authority first;
    hm_hash at = {0};
    hm_bytes value = {0};
    hm_err err;
    HM_TRY(first_authority(x->view, &first));
    while ((err = trust_next(x->view, 'a', &at, &at, &value)) == HM_OK) {
        trust_key k;
        hm_authority a = {.id = at, .first = hm_hash_eq(&at, &first.id)};
        HM_TRY(authority_read(value, &a));
        if (x->time_ms <= a.not_after_ms)
            continue;
        HM_TRY(hm_node_crl_forget(x->view, &a));
        HM_TRY(hm_view_del(x->view, trust_key_of(&k, 'a', &at)));
    }
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

static hm_err apply_add(hm_exec *x, const hm_proposal *p)
{
    tc_issuing_cert info;
    HM_TRY(clean_authorities(x));
    HM_TRY(tc_issuing_read(p->cert, &info));
    return authority_put(x->view, &(hm_authority){.id = info.key_id,
                                                  .cert = p->cert,
                                                  .not_before_ms = info.not_before_ms,
                                                  .not_after_ms = info.not_after_ms,
                                                  .since_height = x->height});
}

static hm_err apply_leave(hm_exec *x, const hm_hash *id)
{
    trust_key k;
    uint8_t mem[8];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_authority a;
    HM_TRY(hm_trust_authority(x->view, id, x->time_ms, &a));
    HM_TRY(hm_member_certs_withdraw(x->view, &a));
    HM_TRY(hm_node_crl_forget(x->view, &a));
    HM_TRY(hm_view_del(x->view, trust_key_of(&k, 'a', id)));
    hm_wr_u64(&b, x->height);
    return hm_view_put(x->view, trust_key_of(&k, 'w', id), hm_buf_bytes(&b));
}

static hm_err apply_done(hm_exec *x, const hm_proposal *p)
{
    switch (p->what) {
    case HM_TRUST_ADD:
        return apply_add(x, p);
    case HM_TRUST_LEAVE:
        return apply_leave(x, &p->authority);
    case HM_TRUST_FOREIGN_ADD:
        return trust_foreign_apply(x, p);
    case HM_TRUST_FOREIGN_LEAVE:
        return trust_foreign_apply_leave(x, &p->authority);
    }
    return hm_fail(HM_E_CORRUPT, "the ledger's record of a proposal is damaged");
}

static hm_err trust_apply(hm_exec *x, const hm_op *op)
{
    decision d;
    trust_key k;
    uint8_t cert[HM_CERT_DER_MAX]; // the borrowed one may go with a write
    HM_TRY(decide(x, op, &d));
    if (d.p.cert.len > 0)
        memcpy(cert, d.p.cert.ptr, d.p.cert.len);
    d.p.cert = hm_bytes_of(cert, d.p.cert.len);
    HM_TRY(clean_proposals(x));
    if (d.ends || d.done)
        HM_TRY(hm_view_del(x->view, trust_key_of(&k, 'p', &d.p.id)));
    if (d.ends)
        return HM_OK;
    if (d.done)
        return apply_done(x, &d.p);
    d.p.approvals[d.m.index / 8] |= (uint8_t)(1u << d.m.index % 8);
    return proposal_put(x->view, &d.p);
}

// ---- for people ---------------------------------------------------------------------------------

static hm_err trust_describe(const hm_op *op, hm_buf *json)
{
    hm_bytes cert = {0};
    tc_scope scope = {0};
    char prefix[TC_SCOPE_PREFIX_TEXT_MAX];
    hm_hash id;
    bool foreign = op->kind == HM_TRUST_FOREIGN;
    if (foreign)
        HM_TRY(trust_foreign_decode(op->payload, &cert, &scope));
    else if (op->kind == HM_TRUST_PROPOSE)
        HM_TRY(cert_decode(op->payload, &cert));
    else
        HM_TRY(id_decode(op->payload, &id));
    if (cert.len > 0)
        id = hm_sha256(cert);
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL)
        return HM_E_NOMEM;
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, o);
    bool ok = cert.len > 0 ? mesh_json_base64(doc, o, "certificate", cert) &&
                                 mesh_json_hash(doc, o, "sha256", &id)
                           : mesh_json_hash(doc, o, "id", &id);
    if (foreign)
        ok = ok && yyjson_mut_obj_add_strcpy(doc, o, "zone", scope.zone) &&
             yyjson_mut_obj_add_strcpy(doc, o, "prefix", tc_scope_prefix_text(&scope, prefix));
    return mesh_json_end(doc, ok, json);
}

static const hm_op_kind trust_kinds[] = {
    {HM_TRUST_PROPOSE, HM_OP_RULE_SYSTEM, "propose"},
    {HM_TRUST_APPROVE, HM_OP_RULE_SYSTEM, "approve"},
    {HM_TRUST_WITHDRAW, HM_OP_RULE_SYSTEM, "withdraw"},
    {HM_TRUST_FOREIGN, HM_OP_RULE_SYSTEM, "foreign"},
};

const hm_module hm_module_trust = {
    .id = HM_MODULE_TRUST,
    .name = "trust",
    .kinds = trust_kinds,
    .kind_count = sizeof trust_kinds / sizeof trust_kinds[0],
    .check = trust_check,
    .apply = trust_apply,
    .describe = trust_describe,
};
