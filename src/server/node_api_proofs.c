// The four proofs of a final operation, each with what was checked, checked again now.
//
// What an operation carries is checked from the ledger alone. What needs the state as it was then
// (which answer was the newest, which beacon, how hard the puzzle, how much stake) was judged by
// every validator before it voted: the witness of that is the block's certificate, whose signatures
// are verified again too.
#include <stdio.h>

#include "mesh/proof_work.h"
#include "server/ledger_check.h"
#include "server/node_api_internal.h"

typedef struct proofs {
    hm_ledger *ledger;
    hm_view *tip;
    const api_found_op *f;
    hm_proof_finding found[4]; // space, stake, work, time
    bool certified;
    char witness[200];
} proofs;

// A proof is written as its checks come; its own result is that of all of them.
typedef struct proof_out {
    hm_buf checks;
    bool passed;
} proof_out;

static void check(proof_out *p, const char *what, bool passed, const char *detail)
{
    p->passed = p->passed && passed;
    hm_jw_open(&p->checks, NULL, '{');
    hm_jw_str(&p->checks, "what", what);
    hm_jw_bool(&p->checks, "passed", passed);
    hm_jw_str(&p->checks, "detail", detail);
    hm_jw_close(&p->checks, '}');
}

static proof_out proof_begin(void)
{
    proof_out p = {.passed = true};
    hm_jw_open(&p.checks, NULL, '[');
    return p;
}

static void proof_end(proof_out *p, hm_buf *b, const hm_proof_finding *f, const char *summary)
{
    hm_jw_close(&p->checks, ']');
    hm_jw_open(b, NULL, '{');
    hm_jw_str(b, "name", f->name);
    hm_jw_bool(b, "present", f->present);
    hm_jw_bool(b, "passed", p->passed);
    hm_jw_str(b, "summary", f->present ? summary : "not asked of a system operation");
    hm_jw_raw(b, "checks", hm_buf_bytes(&p->checks));
    hm_jw_close(b, '}');
    hm_buf_free(&p->checks);
}

static void put_space(const proofs *x, hm_buf *b)
{
    proof_out p = proof_begin();
    const hm_proof_finding *f = &x->found[0];
    char detail[160], given[46], want[46];
    uint8_t addr[16];
    if (f->present) {
        hm_overlay_addr(&x->f->op.owner, 0, addr);
        snprintf(detail, sizeof(detail), "%s; the owner's is %s",
                 api_addr_text(x->f->op.space.addr, given), api_addr_text(addr, want));
        check(&p, "the address is the owner's", memcmp(addr, x->f->op.space.addr, 16) == 0, detail);
        check(&p, "the sector holds what it was sealed with", f->ok, f->checked);
        check(&p, "that was the owner's newest accepted answer", x->certified, x->witness);
    }
    proof_end(&p, b, f, "WHERE: the owner holds its sealed sector");
}

static void put_stake(const proofs *x, hm_buf *b)
{
    proof_out p = proof_begin();
    const api_found_op *f = x->f;
    hm_member_cert cert;
    hm_member member;
    char detail[160];
    check(&p, "the FALCON-1024 signature and the certificate are the owner's", x->found[1].ok,
          x->found[1].checked);
    bool mine = hm_member_cert_find(x->tip, &f->op.stake_cert, &cert) == HM_OK &&
                hm_hash_eq(&cert.node, &f->op.owner);
    check(&p, "the certificate was in its time",
          mine && cert.not_before_ms <= f->header.time_ms && f->header.time_ms <= cert.not_after_ms,
          !mine          ? "the ledger does not hold it"
          : cert.revoked ? "at the time of the block; revoked since"
                         : "at the time of the block; not revoked since");
    bool is_member = hm_member_find(x->tip, &f->op.owner, &member) == HM_OK;
    snprintf(detail, sizeof(detail), "%llu bonded now",
             (unsigned long long)(is_member ? member.stake : 0));
    check(&p, "the owner is a member", is_member, detail);
    check(&p, "its stake and rights were enough", x->certified, x->witness);
    proof_end(&p, b, &x->found[1], "WHO: the owner signed with its certified key and has stake");
}

static void put_work(const proofs *x, hm_buf *b)
{
    proof_out p = proof_begin();
    const api_found_op *f = x->f;
    char detail[160];
    uint64_t low = 1, high = HM_WORK_DIFFICULTY_MAX;
    while (low < high) { // the highest difficulty that the nonce meets
        uint64_t mid = low + (high - low + 1) / 2;
        if (hm_work_check(&f->digests.work, mid, f->op.work_nonce))
            low = mid;
        else
            high = mid - 1;
    }
    snprintf(detail, sizeof(detail), "nonce %llu meets difficulty %llu; the least is %u",
             (unsigned long long)f->op.work_nonce, (unsigned long long)low, HM_WORK_DIFFICULTY_MIN);
    check(&p, "the puzzle over all of the operation is solved", x->found[2].ok, detail);
    check(&p, "it was hard enough for that block", x->certified, x->witness);
    proof_end(&p, b, &x->found[2], "HOW: work was done for this very operation");
}

static void put_time(const proofs *x, hm_buf *b)
{
    proof_out p = proof_begin();
    const hm_proof_finding *f = &x->found[3];
    if (f->present) {
        check(&p, "the beacon that it names is real", f->ok, f->checked);
        check(&p, "that was a recent beacon", x->certified, x->witness);
    }
    proof_end(&p, b, f, "WHEN: made after the beacon, final with the block");
}

static hm_err look(proofs *x)
{
    hm_bytes certificate;
    hm_hash id = hm_block_header_id(&x->f->header);
    HM_TRY(hm_proof_explain(x->ledger, x->f->at, x->found));
    HM_TRY(hm_ledger_block_at(x->ledger, x->f->at.height, NULL, &certificate));
    hm_err err = ledger_check_certificate(NULL, x->tip, &x->f->header, &id, certificate, false);
    x->certified = err == HM_OK;
    if (err == HM_OK)
        snprintf(x->witness, sizeof(x->witness),
                 "a quorum judged so: its certificate of block %llu verifies",
                 (unsigned long long)x->f->at.height);
    else
        snprintf(x->witness, sizeof(x->witness), "the block's certificate: %s", hm_err_detail());
    return HM_OK;
}

void api_operation_proofs(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    api_found_op f;
    hm_buf b = {0};
    if (!api_find_op(a, r, &f))
        return;
    uint64_t second = uv_now(a->loop) / 1000;
    if (second != a->proofs_second) {
        a->proofs_second = second;
        a->proofs_count = 0;
    }
    if (a->proofs_count++ >= HM_API_PROOFS_PER_SECOND) {
        hm_http_header(r, "retry-after", "1");
        hm_http_reply_err(r, HM_E_BUSY, "too many proofs are asked for at a time");
        return;
    }
    proofs x = {.ledger = hm_node_ledger(a->node), .f = &f};
    x.tip = hm_ledger_tip(x.ledger);
    hm_err err = look(&x);
    if (err != HM_OK) {
        api_refuse(r, err);
        return;
    }
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    put_space(&x, &b);
    put_stake(&x, &b);
    put_work(&x, &b);
    put_time(&x, &b);
    hm_jw_close(&b, ']');
    hm_jw_close(&b, '}');
    hm_http_reply_json(r, 200, &b);
}
