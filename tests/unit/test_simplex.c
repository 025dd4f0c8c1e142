// One core among puppets: what it takes, refuses, accuses, and remembers. Node 0 is real; the other
// three are this test, which signs for them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "simplex_world.h"

#define NOTARIZE HM_SIMPLEX_NOTARIZE
#define NULLIFY HM_SIMPLEX_NULLIFY
#define FINALIZE HM_SIMPLEX_FINALIZE

static const hm_hash zero;

// ---- a world ------------------------------------------------------------------------------------

// With these leaders of views 1, 2, ...
static sim *world(const char *leaders)
{
    sim_params p;
    sim_params_calm(&p, 0);
    hm_simplex_validator v[4] = {{.power = 1}, {.power = 1}, {.power = 1}, {.power = 1}};
    hm_simplex_set set = {.count = 4, .validators = v};
    bool fits = false;
    while (!fits) {
        p.seed++;
        hm_hash seed = hm_sha256(hm_bytes_of(&p.seed, sizeof p.seed));
        fits = true;
        for (uint64_t n = 0; leaders[n] != '\0' && fits; n++)
            fits = hm_simplex_leader(&set, &seed, n + 1) == (uint32_t)(leaders[n] - '0');
    }
    p.down = 0xe;
    for (uint32_t i = 1; i < 4; i++)
        p.byz[i] = SIM_BYZ_SILENT; // so that they may be accused
    return sim_world = sim_new(&p);
}

static const hm_simplex *core(sim *s)
{
    return sim_core(s, 0);
}

// A block of a leader; `other` makes it another one for the same place, with a false state.
static hm_simplex_block_info block(sim *s, uint32_t leader, const hm_hash *parent, uint64_t view,
                                   bool other, hm_buf *out)
{
    sim_node *nd = &s->nodes[0];
    hm_simplex_block_info info;
    hm_buf_reset(out);
    nd->index = leader;
    sim_must(s->ledger->build(s, nd, parent, view, out), "block");
    nd->index = 0;
    if (other)
        s->ledger->spoil(s, out);
    sim_must(s->ledger->block_info(s, hm_buf_bytes(out), &info), "block");
    return info;
}

static hm_err give(sim *s, uint32_t from, hm_buf *m)
{
    hm_err err = sim_inject(s, from, 0, hm_buf_bytes(m));
    hm_buf_free(m);
    return err;
}

static hm_err give_proposal(sim *s, uint32_t from, uint32_t leader, uint64_t view,
                            const hm_hash *id, const hm_buf *bytes)
{
    hm_buf m = {0}, sig = {0};
    sim_sign(s, leader, view, HM_SIMPLEX_PROPOSE, id, &sig);
    hm_wr_u8(&m, MSG_PROPOSAL);
    hm_wr_bytes(&m, hm_buf_bytes(&sig));
    hm_wr_bytes(&m, hm_buf_bytes(bytes));
    hm_buf_free(&sig);
    return give(s, from, &m);
}

static hm_err give_vote(sim *s, uint32_t from, uint64_t view, hm_simplex_kind kind,
                        const hm_hash *id)
{
    hm_buf m = {0}, sig = {0};
    sim_sign(s, from, view, kind, id, &sig);
    hm_wr_u8(&m, MSG_VOTE);
    hm_wr_u8(&m, (uint8_t)kind);
    hm_wr_u64(&m, view);
    hm_wr_raw(&m, id->b, HM_HASH_BYTES);
    hm_wr_bytes(&m, hm_buf_bytes(&sig));
    hm_buf_reset(&sig);
    sim_sign(s, hm_simplex_leader(&s->set, &s->seed, view), view, HM_SIMPLEX_PROPOSE, id, &sig);
    if (kind == NOTARIZE)
        hm_wr_bytes(&m, hm_buf_bytes(&sig));
    hm_buf_free(&sig);
    return give(s, from, &m);
}

// A certificate by the validators in `signers` (a bit each); the signatures of `bad` are worthless.
static void write_cert(sim *s, uint64_t view, hm_simplex_kind kind, const hm_hash *id,
                       uint32_t signers, uint32_t bad, hm_buf *m)
{
    hm_wr_u8(m, (uint8_t)kind);
    hm_wr_u64(m, view);
    hm_wr_raw(m, id->b, HM_HASH_BYTES);
    hm_wr_u32(m, (uint32_t)__builtin_popcount(signers));
    for (uint32_t i = 0; i < 4; i++) {
        hm_buf sig = {0};
        if ((signers >> i & 1) == 0)
            continue;
        sim_sign(s, i, view, kind, id, &sig);
        if ((bad >> i & 1) != 0)
            sig.ptr[0] ^= 1;
        hm_wr_u32(m, i);
        hm_wr_bytes(m, hm_buf_bytes(&sig));
        hm_buf_free(&sig);
    }
}

static hm_err give_cert(sim *s, uint64_t view, hm_simplex_kind kind, const hm_hash *id,
                        uint32_t signers, uint32_t bad)
{
    hm_buf m = {0};
    hm_wr_u8(&m, MSG_CERT);
    write_cert(s, view, kind, id, signers, bad, &m);
    return give(s, 1, &m);
}

static hm_err give_status(sim *s, uint32_t from, uint64_t view, uint64_t gap, uint64_t height,
                          uint64_t final_view)
{
    hm_buf m = {0};
    hm_wr_u8(&m, MSG_STATUS);
    hm_wr_u64(&m, view);
    hm_wr_u64(&m, gap);
    hm_wr_u64(&m, height);
    hm_wr_u64(&m, final_view);
    hm_wr_bool(&m, false);
    return give(s, from, &m);
}

static bool has_voted(sim *s, uint64_t view, int kind)
{
    const sx_view *v = sx_find(core(s), view);
    return v != NULL && sx_has(sx_own(core(s), v, kind));
}

static bool certified(sim *s, uint64_t view, int kind)
{
    const sx_view *v = sx_find(core(s), view);
    return v != NULL && sx_certified(v, kind);
}

static uint64_t accused(sim *s)
{
    sim_report r;
    sim_get_report(s, &r);
    return r.evidence;
}

static void restart(sim *s)
{
    sim_crash(s, 0);
    sim_restart(s, 0);
}

// ---- voting -------------------------------------------------------------------------------------

static void a_block_goes_its_way(void **state)
{
    (void)state;
    sim *s = world("12");
    hm_buf b = {0};
    hm_simplex_block_info one = block(s, 1, &s->set.chain_id, 1, false, &b);
    assert_int_equal(give_proposal(s, 1, 1, 1, &one.id, &b), HM_OK);
    assert_true(has_voted(s, 1, SX_NOTARIZE));
    assert_int_equal(give_vote(s, 1, 1, NOTARIZE, &one.id), HM_OK);
    assert_int_equal(core(s)->view, 1); // two of four are no quorum
    assert_int_equal(give_vote(s, 2, 1, NOTARIZE, &one.id), HM_OK);
    assert_int_equal(core(s)->view, 2);
    assert_true(has_voted(s, 1, SX_FINALIZE));
    assert_int_equal(give_vote(s, 1, 1, FINALIZE, &one.id), HM_OK);
    assert_int_equal(sim_height(s, 0), 0);
    assert_int_equal(give_vote(s, 2, 1, FINALIZE, &one.id), HM_OK);
    assert_int_equal(sim_height(s, 0), 1);
    assert_int_equal(accused(s), 0);
    hm_buf_free(&b);
    end(s);
}

// A block with a false state gets no vote, and the view is nullified.
static void what_cannot_be_executed_gets_no_vote(void **state)
{
    (void)state;
    sim *s = world("12");
    hm_buf b = {0};
    hm_simplex_block_info bad = block(s, 1, &s->set.chain_id, 1, true, &b);
    assert_int_equal(give_proposal(s, 1, 1, 1, &bad.id, &b), HM_OK);
    assert_false(has_voted(s, 1, SX_NOTARIZE));
    assert_true(sim_run(s, 2000000));
    assert_true(has_voted(s, 1, SX_NULLIFY));
    // Nullified is nullified: the certificate of another block gets no finalize.
    hm_simplex_block_info good = block(s, 1, &s->set.chain_id, 1, false, &b);
    assert_int_equal(give_cert(s, 1, NOTARIZE, &good.id, 0xe, 0), HM_OK);
    assert_int_equal(core(s)->view, 2);
    assert_false(has_voted(s, 1, SX_FINALIZE));
    hm_buf_free(&b);
    end(s);
}

// Between a block and its parent all views must be nullified.
static void a_gap_before_a_block_must_be_nullified(void **state)
{
    (void)state;
    sim *s = world("1123");
    hm_buf b = {0};
    assert_int_equal(give_cert(s, 2, NULLIFY, &zero, 0xe, 0), HM_OK); // jumps over view 1
    assert_int_equal(core(s)->view, 3);
    hm_simplex_block_info three = block(s, 2, &s->set.chain_id, 3, false, &b);
    assert_int_equal(give_proposal(s, 2, 2, 3, &three.id, &b), HM_OK);
    assert_false(has_voted(s, 3, SX_NOTARIZE));
    assert_int_equal(give_cert(s, 1, NULLIFY, &zero, 0xe, 0), HM_OK);
    assert_true(has_voted(s, 3, SX_NOTARIZE));
    hm_buf_free(&b);
    end(s);
}

// Found by the simulator: nobody nullified a view that all had jumped over.
static void a_view_jumped_over_is_nullified_in_the_end(void **state)
{
    (void)state;
    sim *s = world("1123");
    assert_int_equal(give_cert(s, 2, NULLIFY, &zero, 0xe, 0), HM_OK);
    assert_false(has_voted(s, 1, SX_NULLIFY));
    assert_true(sim_run(s, 2000000));
    assert_true(has_voted(s, 1, SX_NULLIFY));
    assert_true(has_voted(s, 3, SX_NULLIFY));
    assert_false(has_voted(s, 2, SX_NULLIFY)); // that one has its certificate
    end(s);
}

// ---- evidence -----------------------------------------------------------------------------------

static void contradictions_are_proven(void **state)
{
    (void)state;
    static const struct {
        hm_simplex_kind a, b;
        bool guilty;
    } cases[] = {{NOTARIZE, NOTARIZE, true},  {FINALIZE, FINALIZE, true},
                 {NULLIFY, FINALIZE, true},   {FINALIZE, NULLIFY, true},
                 {NULLIFY, NULLIFY, false},   {NOTARIZE, NULLIFY, false},
                 {NOTARIZE, FINALIZE, false}, {NULLIFY, NOTARIZE, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sim *s = world("12");
        hm_hash x = hm_sha256(hm_bytes_str("x")), y = hm_sha256(hm_bytes_str("y"));
        hm_simplex_kind a = cases[i].a, b = cases[i].b;
        // The leader, number 1, is another than the voter: two notarize votes show its two
        // proposals too.
        uint64_t more = a == NOTARIZE && b == NOTARIZE;
        assert_int_equal(give_vote(s, 2, 1, a, a == NULLIFY ? &zero : &x), HM_OK);
        assert_int_equal(give_vote(s, 2, 1, a, a == NULLIFY ? &zero : &x), HM_OK);
        assert_int_equal(accused(s), 0);
        assert_int_equal(give_vote(s, 2, 1, b, b == NULLIFY ? &zero : a == b ? &y : &x), HM_OK);
        assert_int_equal(accused(s), cases[i].guilty + more);
        end(s);
    }
}

static void two_proposals_are_proven(void **state)
{
    (void)state;
    sim *s = world("12");
    hm_buf b = {0};
    hm_simplex_block_info one = block(s, 1, &s->set.chain_id, 1, false, &b);
    assert_int_equal(give_proposal(s, 1, 1, 1, &one.id, &b), HM_OK);
    hm_simplex_block_info two = block(s, 1, &s->set.chain_id, 1, true, &b);
    assert_int_equal(give_proposal(s, 2, 1, 1, &two.id, &b), HM_OK);
    assert_int_equal(accused(s), 1);
    assert_int_equal(give_proposal(s, 2, 1, 1, &two.id, &b), HM_OK);
    assert_int_equal(accused(s), 1); // once is enough
    hm_buf_free(&b);
    end(s);
}

// Found by the simulator: a worthless signature in a certificate that was not wanted any more took
// the place of the good one, which was then not there to be contradicted.
static void a_bad_signature_hides_no_contradiction(void **state)
{
    (void)state;
    sim *s = world("12");
    hm_hash x = hm_sha256(hm_bytes_str("x")), y = hm_sha256(hm_bytes_str("y"));
    assert_int_equal(give_cert(s, 1, FINALIZE, &x, 0xb, 0), HM_OK); // without 2
    assert_int_equal(give_cert(s, 1, FINALIZE, &x, 0xe, 0x4), HM_OK);
    assert_int_equal(give_vote(s, 2, 1, FINALIZE, &x), HM_OK);
    assert_int_equal(accused(s), 0);
    assert_int_equal(give_vote(s, 2, 1, FINALIZE, &y), HM_OK);
    assert_int_equal(accused(s), 1);
    end(s);
}

static void evidence_is_checked(void **state)
{
    (void)state;
    sim *s = world("12");
    hm_hash x = hm_sha256(hm_bytes_str("x")), y = hm_sha256(hm_bytes_str("y"));
    hm_buf sx = {0}, sy = {0}, good = {0}, same = {0};
    uint32_t offender = 9;
    sim_sign(s, 2, 7, NOTARIZE, &x, &sx);
    sim_sign(s, 2, 7, NOTARIZE, &y, &sy);
    const sx_signed a = {NOTARIZE, x, hm_buf_bytes(&sx)}, b = {NOTARIZE, y, hm_buf_bytes(&sy)};
    sx_evidence_write(&s->set, 2, 7, a, b, &good);
    assert_int_equal(hm_simplex_evidence_verify(&s->set, hm_buf_bytes(&good), &offender), HM_OK);
    assert_int_equal(offender, 2);
    hm_simplex_set later = s->set;
    later.epoch = 1;
    assert_int_equal(hm_simplex_evidence_verify(&later, hm_buf_bytes(&good), &offender), HM_E_VOTE);
    for (size_t n = 0; n < good.len; n++)
        assert_int_not_equal(
            hm_simplex_evidence_verify(&s->set, hm_bytes_of(good.ptr, n), &offender), HM_OK);
    for (size_t n = 0; n < good.len; n++) {
        good.ptr[n] ^= 1;
        assert_int_not_equal(hm_simplex_evidence_verify(&s->set, hm_buf_bytes(&good), &offender),
                             HM_OK);
        good.ptr[n] ^= 1;
    }
    sx_evidence_write(&s->set, 2, 7, a, a, &same); // twice the same vote is no contradiction
    assert_int_equal(hm_simplex_evidence_verify(&s->set, hm_buf_bytes(&same), &offender),
                     HM_E_VOTE);
    hm_buf_free(&same);
    hm_buf_free(&good);
    hm_buf_free(&sx);
    hm_buf_free(&sy);
    end(s);
}

// ---- certificates -------------------------------------------------------------------------------

static void certificates_are_checked(void **state)
{
    (void)state;
    sim *s = world("12");
    hm_hash x = hm_sha256(hm_bytes_str("x")), y = hm_sha256(hm_bytes_str("y"));
    assert_int_equal(give_cert(s, 1, NOTARIZE, &x, 0x6, 0), HM_E_QUORUM);
    assert_int_equal(give_cert(s, 1, NOTARIZE, &x, 0xe, 0x8), HM_E_SIGNATURE);
    assert_int_equal(give_cert(s, 1, NULLIFY, &x, 0xe, 0), HM_E_NONCANONICAL);
    assert_int_equal(give_cert(s, 1, FINALIZE, &zero, 0xe, 0), HM_E_NONCANONICAL);
    assert_int_equal(give_cert(s, 1, HM_SIMPLEX_PROPOSE, &x, 0xe, 0), HM_E_VOTE);
    assert_int_equal(core(s)->view, 1);
    assert_int_equal(core(s)->certified_view, 0);
    // The pure check, as a client does it.
    hm_buf cert = {0};
    hm_simplex_kind kind;
    write_cert(s, 5, FINALIZE, &x, 0xd, 0, &cert);
    hm_bytes bytes = hm_buf_bytes(&cert);
    assert_int_equal(hm_simplex_cert_verify(&s->set, &x, 5, bytes, &kind), HM_OK);
    assert_int_equal(kind, FINALIZE);
    assert_int_equal(hm_simplex_cert_verify(&s->set, &y, 5, bytes, NULL), HM_E_QUORUM);
    assert_int_equal(hm_simplex_cert_verify(&s->set, &x, 6, bytes, NULL), HM_E_QUORUM);
    for (size_t i = 0; i < cert.len; i++) {
        cert.ptr[i] ^= 0x20;
        assert_int_not_equal(hm_simplex_cert_verify(&s->set, &x, 5, bytes, NULL), HM_OK);
        cert.ptr[i] ^= 0x20;
    }
    hm_buf_reset(&cert);
    write_cert(s, 5, NULLIFY, &zero, 0xd, 0, &cert);
    assert_int_equal(hm_simplex_cert_verify(&s->set, &zero, 5, hm_buf_bytes(&cert), NULL),
                     HM_E_QUORUM);
    hm_buf_free(&cert);
    end(s);
}

// Found by the simulator: a certificate that was not wanted any more, with a worthless signature
// under this node's number, became this node's vote.
static void a_certificate_does_not_vote_for_this_node(void **state)
{
    (void)state;
    sim *s = world("12");
    assert_int_equal(give_cert(s, 1, NULLIFY, &zero, 0xe, 0), HM_OK);
    assert_int_equal(give_cert(s, 1, NULLIFY, &zero, 0xf, 0x1), HM_OK);
    assert_false(has_voted(s, 1, SX_NULLIFY));
    end(s);
}

static void leaders_are_drawn_by_power(void **state)
{
    (void)state;
    hm_simplex_validator v[3] = {{.power = 1}, {.power = 0}, {.power = 3}};
    hm_simplex_set set = {.count = 3, .validators = v};
    unsigned led[3] = {0};
    for (uint64_t view = 1; view <= 4000; view++)
        led[hm_simplex_leader(&set, &zero, view)]++;
    assert_int_equal(led[1], 0);
    assert_in_range(led[0], 900, 1100);
    assert_true(hm_simplex_is_quorum(3, 4));
    assert_false(hm_simplex_is_quorum(2, 3));
    assert_false(hm_simplex_is_quorum(0, 0));
}

// ---- messages -----------------------------------------------------------------------------------

static void write_message(sim *s, uint8_t type, const hm_buf *b, const hm_hash *id, hm_buf *m)
{
    hm_buf sig = {0};
    hm_hash x = hm_sha256(hm_bytes_str("x"));
    hm_wr_u8(m, type);
    if (type == MSG_PROPOSAL) {
        sim_sign(s, 1, 1, HM_SIMPLEX_PROPOSE, id, &sig);
        hm_wr_bytes(m, hm_buf_bytes(&sig));
        hm_wr_bytes(m, hm_buf_bytes(b));
    } else if (type == MSG_VOTE) {
        sim_sign(s, 1, 1, FINALIZE, &x, &sig);
        hm_wr_u8(m, FINALIZE);
        hm_wr_u64(m, 1);
        hm_wr_raw(m, x.b, HM_HASH_BYTES);
        hm_wr_bytes(m, hm_buf_bytes(&sig));
    } else if (type == MSG_CERT) {
        write_cert(s, 1, NULLIFY, &zero, 0xe, 0, m);
    } else if (type == MSG_STATUS) {
        for (uint64_t n = 4; n > 0; n--) // view 4, gap 3, height 1, final view 2
            hm_wr_u64(m, n == 2 ? 1 : n == 1 ? 2 : n);
        hm_wr_bool(m, false);
    } else {
        hm_wr_u64(m, 1);
        hm_wr_raw(m, x.b, HM_HASH_BYTES);
    }
    hm_buf_free(&sig);
}

static void malformed_messages_are_refused(void **state)
{
    (void)state;
    sim *s = world("123");
    hm_buf b = {0}, m = {0};
    hm_simplex_block_info one = block(s, 1, &s->set.chain_id, 1, false, &b);
    assert_int_equal(sim_inject(s, 1, 0, hm_bytes_str("")), HM_E_UNSUPPORTED);
    assert_int_equal(sim_inject(s, 1, 0, hm_bytes_str("\x09zzz")), HM_E_UNSUPPORTED);
    // Each cut and a lengthening of each message; whole it is taken.
    for (uint8_t type = MSG_PROPOSAL; type <= MSG_GET; type++) {
        hm_buf_reset(&m);
        write_message(s, type, &b, &one.id, &m);
        for (size_t n = 1; n < m.len; n++)
            assert_int_not_equal(sim_inject(s, 1, 0, hm_bytes_of(m.ptr, n)), HM_OK);
        hm_wr_u8(&m, 0);
        assert_int_not_equal(sim_inject(s, 1, 0, hm_buf_bytes(&m)), HM_OK);
        m.len--;
        assert_int_equal(sim_inject(s, 1, 0, hm_buf_bytes(&m)), HM_OK);
    }
    hm_buf_free(&b);
    hm_buf_free(&m);
    end(s);
}

static void what_the_sender_may_not_say_is_refused(void **state)
{
    (void)state;
    sim *s = world("123");
    hm_buf b = {0}, m = {0}, sig = {0};
    hm_simplex_block_info two = block(s, 1, &s->set.chain_id, 2, false, &b);
    assert_int_equal(give_proposal(s, 1, 1, 2, &two.id, &b), HM_E_PROPOSAL); // 2 leads that view
    hm_wr_u8(&m, MSG_VOTE);
    hm_wr_u8(&m, NULLIFY);
    hm_wr_u64(&m, 2);
    hm_wr_raw(&m, zero.b, HM_HASH_BYTES);
    sim_sign(s, 2, 2, NULLIFY, &zero, &sig);
    hm_wr_bytes(&m, hm_buf_bytes(&sig));
    assert_int_equal(sim_inject(s, 1, 0, hm_buf_bytes(&m)), HM_E_SIGNATURE); // it is 2's vote
    assert_int_equal(sim_inject(s, 2, 0, hm_buf_bytes(&m)), HM_OK);
    assert_int_equal(sim_inject(s, 0, 0, hm_buf_bytes(&m)), HM_E_INVALID);
    assert_int_equal(sim_inject(s, 4, 0, hm_buf_bytes(&m)), HM_E_INVALID);
    assert_int_equal(give_status(s, 1, 1, 2, 0, 0), HM_E_VOTE); // a gap past the view
    assert_int_equal(give_status(s, 1, 9, 5, 1, 5), HM_E_VOTE); // final past the gap
    assert_int_equal(give_status(s, 1, 9, 5, 4, 3), HM_E_VOTE); // more blocks than views
    hm_buf_free(&b);
    hm_buf_free(&m);
    hm_buf_free(&sig);
    end(s);
}

// What others can make this node hold has a bound.
static void far_views_are_not_held(void **state)
{
    (void)state;
    sim *s = world("12");
    hm_hash x = hm_sha256(hm_bytes_str("x"));
    assert_int_equal(give_vote(s, 1, 1 + HM_SIMPLEX_VIEWS_AHEAD, FINALIZE, &x), HM_OK);
    size_t held = core(s)->views.count;
    assert_int_equal(give_vote(s, 1, 2 + HM_SIMPLEX_VIEWS_AHEAD, FINALIZE, &x), HM_OK);
    assert_int_equal(give_vote(s, 1, UINT64_MAX, NULLIFY, &zero), HM_OK);
    assert_int_equal(give_vote(s, 1, 0, NULLIFY, &zero), HM_OK);
    assert_int_equal(core(s)->views.count, held);
    end(s);
}

// ---- the log of votes ---------------------------------------------------------------------------

static void a_restart_contradicts_nothing(void **state)
{
    (void)state;
    sim *s = world("12");
    hm_buf b = {0};
    hm_simplex_block_info one = block(s, 1, &s->set.chain_id, 1, false, &b);
    assert_int_equal(give_proposal(s, 1, 1, 1, &one.id, &b), HM_OK);
    restart(s);
    const sx_view *v = sx_find(core(s), 1);
    assert_true(has_voted(s, 1, SX_NOTARIZE));
    assert_memory_equal(v->info.id.b, one.id.b, HM_HASH_BYTES); // and can give it to others
    // The other block of an equivocating leader gets no vote; the invariants look as well.
    hm_simplex_block_info two = block(s, 1, &s->set.chain_id, 1, true, &b);
    assert_int_equal(give_proposal(s, 1, 1, 1, &two.id, &b), HM_OK);
    assert_memory_equal(sx_own(core(s), v, SX_NOTARIZE)->id.b, one.id.b, HM_HASH_BYTES);
    assert_true(sim_run(s, 2000000));
    assert_true(has_voted(s, 1, SX_NULLIFY));
    restart(s);
    assert_true(has_voted(s, 1, SX_NULLIFY));
    assert_int_equal(give_cert(s, 1, NOTARIZE, &one.id, 0xe, 0), HM_OK);
    assert_false(has_voted(s, 1, SX_FINALIZE));
    hm_buf_free(&b);
    end(s);
}

// Found by the simulator: who had voted finalize lost the certificate in a crash, could not help to
// nullify the view either, and the others never had it.
static void finalize_keeps_its_certificate(void **state)
{
    (void)state;
    sim *s = world("12");
    hm_buf b = {0};
    hm_simplex_block_info one = block(s, 1, &s->set.chain_id, 1, false, &b);
    assert_int_equal(give_proposal(s, 1, 1, 1, &one.id, &b), HM_OK);
    assert_int_equal(give_cert(s, 1, NOTARIZE, &one.id, 0xe, 0), HM_OK);
    assert_true(has_voted(s, 1, SX_FINALIZE));
    restart(s);
    assert_true(certified(s, 1, SX_NOTARIZE));
    assert_int_equal(core(s)->view, 2);
    hm_buf_free(&b);
    end(s);
}

// The same for the parent of a block that was voted for, in a view that this node had nullified;
// also when the log was rewritten.
static void notarize_keeps_the_certificate_of_the_parent(void **state)
{
    (void)state;
    for (int rewritten = 0; rewritten < 2; rewritten++) {
        sim *s = world("12");
        hm_buf b = {0};
        assert_true(sim_run(s, 2000000));
        assert_true(has_voted(s, 1, SX_NULLIFY));
        hm_simplex_block_info one = block(s, 1, &s->set.chain_id, 1, false, &b);
        assert_int_equal(give_proposal(s, 1, 1, 1, &one.id, &b), HM_OK);
        assert_int_equal(give_cert(s, 1, NOTARIZE, &one.id, 0xe, 0), HM_OK);
        hm_simplex_block_info two = block(s, 2, &one.id, 2, false, &b);
        assert_int_equal(give_proposal(s, 2, 2, 2, &two.id, &b), HM_OK);
        assert_true(has_voted(s, 2, SX_NOTARIZE));
        if (rewritten) {
            hm_arena arena = {0};
            hm_bytes *records;
            size_t count;
            assert_int_equal(hm_simplex_wal_snapshot(core(s), &arena, &records, &count), HM_OK);
            assert_int_equal(count, 2);
            assert_int_equal(hm_wal_rewrite(s->nodes[0].wal, records, count), HM_OK);
            hm_arena_free(&arena);
        }
        restart(s);
        assert_true(certified(s, 1, SX_NOTARIZE));
        assert_true(has_voted(s, 1, SX_NULLIFY));
        assert_true(has_voted(s, 2, SX_NOTARIZE));
        hm_buf_free(&b);
        end(s);
    }
}

static void the_log_must_be_this_nodes(void **state)
{
    (void)state;
    sim *s = world("1"); // node 0 does not lead view 1
    hm_buf rec = {0};
    hm_wr_u64(&rec, 0);
    hm_wr_u64(&rec, 1);
    hm_wr_u8(&rec, HM_SIMPLEX_PROPOSE);
    hm_wr_raw(&rec, zero.b, HM_HASH_BYTES);
    for (int i = 0; i < 4; i++)
        hm_wr_bytes(&rec, hm_bytes_str(i == 0 ? "signature" : ""));
    hm_simplex_config cfg = {.set = s->set,
                             .seed = s->seed,
                             .tip_id = s->set.chain_id,
                             .delta_us = 1,
                             .delta_min_us = 1,
                             .delta_max_us = 1,
                             .calls = core(s)->calls};
    hm_simplex *fresh;
    assert_int_equal(hm_simplex_new(&cfg, &fresh), HM_OK);
    assert_int_equal(hm_simplex_restore(fresh, hm_bytes_str("nonsense")), HM_E_CORRUPT);
    assert_int_equal(hm_simplex_restore(fresh, hm_buf_bytes(&rec)), HM_E_CORRUPT);
    hm_simplex_free(fresh);
    assert_int_equal(hm_simplex_new(&cfg, &fresh), HM_OK);
    rec.ptr[7] = 1; // of another epoch: nothing to remember
    assert_int_equal(hm_simplex_restore(fresh, hm_buf_bytes(&rec)), HM_OK);
    assert_int_equal(fresh->views.count, 0);
    hm_simplex_free(fresh);
    hm_buf_free(&rec);
    end(s);
}

// ---- catching up --------------------------------------------------------------------------------

// Only the one that was asked can fail, and what it gives is checked.
static void blocks_count_from_whom_they_were_asked(void **state)
{
    (void)state;
    sim *s = world("12");
    hm_simplex *c = sim_core(s, 0);
    hm_buf b = {0}, good = {0}, bad = {0};
    hm_simplex_block_info one = block(s, 1, &s->set.chain_id, 1, false, &b);
    write_cert(s, 1, FINALIZE, &one.id, 0xe, 0, &good);
    write_cert(s, 1, FINALIZE, &one.id, 0xe, 0x2, &bad);
    hm_bytes bytes = hm_buf_bytes(&b);
    uint64_t now = sim_node_clock(s, &s->nodes[0]);
    assert_int_equal(hm_simplex_certified_block(c, now, 3, bytes, hm_buf_bytes(&good)),
                     HM_E_AGAIN); // nothing was asked for
    assert_int_equal(give_status(s, 3, 2, 2, 1, 1), HM_OK);
    assert_true(c->fetching);
    assert_int_equal(c->fetch_peer, 3);
    assert_int_equal(hm_simplex_certified_block(c, now, 2, bytes, hm_buf_bytes(&bad)), HM_E_AGAIN);
    assert_true(c->fetching);
    assert_int_equal(hm_simplex_peer_height(c, 3), 1);
    assert_int_equal(hm_simplex_certified_block(c, now, 3, bytes, hm_buf_bytes(&bad)),
                     HM_E_SIGNATURE);
    assert_false(c->fetching);
    assert_int_equal(hm_simplex_peer_height(c, 3), 0); // its word counts no more
    assert_int_equal(give_status(s, 3, 2, 2, 1, 1), HM_OK);
    assert_int_equal(hm_simplex_certified_block(c, now, 3, bytes, hm_buf_bytes(&good)), HM_OK);
    sim_node_settle(s, &s->nodes[0]);
    assert_int_equal(sim_height(s, 0), 1);
    hm_buf_free(&b);
    hm_buf_free(&good);
    hm_buf_free(&bad);
    end(s);
}

// Found by the simulator: work that came in a view past its time made the timer due at once.
static void new_work_makes_no_timer_due(void **state)
{
    (void)state;
    sim *s = world("12");
    assert_true(sim_run(s, 5000000));
    hm_simplex *c = sim_core(s, 0);
    uint64_t now = sim_node_clock(s, &s->nodes[0]);
    assert_true(has_voted(s, 1, SX_NULLIFY));
    assert_true(hm_simplex_next_timeout(c) > now);
    hm_simplex_nudge(c, now);
    assert_true(hm_simplex_next_timeout(c) > now);
    end(s);
}

int main(void)
{
    hm_log_set_level(HM_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(a_block_goes_its_way),
        TEST(what_cannot_be_executed_gets_no_vote),
        TEST(a_gap_before_a_block_must_be_nullified),
        TEST(a_view_jumped_over_is_nullified_in_the_end),
        TEST(contradictions_are_proven),
        TEST(two_proposals_are_proven),
        TEST(a_bad_signature_hides_no_contradiction),
        TEST(evidence_is_checked),
        TEST(certificates_are_checked),
        TEST(a_certificate_does_not_vote_for_this_node),
        TEST(leaders_are_drawn_by_power),
        TEST(malformed_messages_are_refused),
        TEST(what_the_sender_may_not_say_is_refused),
        TEST(far_views_are_not_held),
        TEST(a_restart_contradicts_nothing),
        TEST(finalize_keeps_its_certificate),
        TEST(notarize_keeps_the_certificate_of_the_parent),
        TEST(the_log_must_be_this_nodes),
        TEST(blocks_count_from_whom_they_were_asked),
        TEST(new_work_makes_no_timer_due),
    };
    return cmocka_run_group_tests_name("simplex", tests, NULL, NULL);
}
