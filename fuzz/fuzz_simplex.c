// One honest validator of four, and an input that is everything around it: messages of the others,
// well signed or not, blocks, answers to what it asks, time, and restarts from its log. The others
// have a quorum, so they may do to the chain what they like; but this node never contradicts
// itself, not over restarts either, gives final blocks in order with a certificate each, accuses
// only the guilty, and goes to rest until a time that lies ahead.
#include "mesh/simplex_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COUNT 4u
#define BLOCKS 16u
#define VIEWS 256u
#define RECORDS 512u
#define BLOCK_BYTES (HM_HASH_BYTES + 8u + 8u + 1u + 1u)
#define SIG 8u

typedef struct block {
    uint8_t bytes[BLOCK_BYTES];
    hm_simplex_block_info info;
    bool sound; // by height and view it follows its parent
} block;

typedef struct world {
    hm_simplex *s;
    uint32_t self;
    uint64_t now, final_height;
    hm_hash final_id;
    block blocks[BLOCKS];
    unsigned block_count;
    // Own votes ever sent, by view.
    struct {
        bool notarized, nullified, finalized, proposed;
        hm_hash notarize, finalize, propose;
    } own[VIEWS];
    hm_buf records[RECORDS];
    unsigned record_count;
    bool asked_build;
    hm_simplex_action build;
    hm_hash validate[8];
    unsigned validate_count;
} world;

typedef struct input {
    const uint8_t *at, *end;
} input;

static uint8_t u8(input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static hm_simplex_validator validators[COUNT];
static world w;

// ---- signatures and blocks of a world without cryptography --------------------------------------

static void fake_sign(uint32_t index, hm_bytes message, uint8_t sig[SIG])
{
    const uint64_t seed[2] = {index, 7};
    uint64_t h = hm_siphash(seed, message.ptr, message.len);
    memcpy(sig, &h, SIG);
}

static hm_err verify(void *ctx, uint32_t index, hm_bytes message, hm_bytes sig)
{
    uint8_t good[SIG];
    (void)ctx;
    hm_assert(index < COUNT);
    fake_sign(index, message, good);
    return hm_bytes_eq(sig, hm_bytes_of(good, SIG)) ? HM_OK : HM_E_SIGNATURE;
}

static hm_simplex_set set_of(void)
{
    return (hm_simplex_set){.count = COUNT, .validators = validators, .verify = verify};
}

static hm_bytes vote_sig(uint32_t index, uint64_t view, hm_simplex_kind kind, const hm_hash *id,
                         uint8_t sig[SIG])
{
    uint8_t mem[SX_VOTE_BYTES];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_simplex_set set = set_of();
    hm_simplex_vote_bytes(&set, view, kind, id, &b);
    fake_sign(index, hm_buf_bytes(&b), sig);
    return hm_bytes_of(sig, SIG);
}

static hm_err own_sign(void *ctx, hm_bytes message, hm_buf *out)
{
    uint8_t sig[SIG];
    (void)ctx;
    fake_sign(w.self, message, sig);
    hm_buf_append(out, sig, SIG);
    return HM_OK;
}

static hm_err block_info(void *ctx, hm_bytes bytes, hm_simplex_block_info *out)
{
    (void)ctx;
    hm_rd r = hm_rd_of(bytes);
    *out = (hm_simplex_block_info){0};
    hm_rd_copy(&r, out->parent.b, HM_HASH_BYTES);
    out->height = hm_rd_u64(&r);
    out->view = hm_rd_u64(&r);
    uint8_t proposer = hm_rd_u8(&r);
    (void)hm_rd_u8(&r);
    if (hm_rd_end(&r) != HM_OK || proposer >= COUNT)
        return hm_fail(HM_E_PROPOSAL, "no block");
    out->proposer = validators[proposer].id;
    out->id = hm_sha256(bytes);
    return HM_OK;
}

static block *make_block(const hm_hash *parent, uint64_t height, uint64_t view, uint32_t proposer,
                         uint8_t salt)
{
    block *b = &w.blocks[w.block_count++ % BLOCKS];
    hm_buf out = hm_buf_fixed(b->bytes, sizeof b->bytes);
    hm_wr_raw(&out, parent->b, HM_HASH_BYTES);
    hm_wr_u64(&out, height);
    hm_wr_u64(&out, view);
    hm_wr_u8(&out, (uint8_t)proposer);
    hm_wr_u8(&out, salt);
    hm_assert(block_info(NULL, hm_buf_bytes(&out), &b->info) == HM_OK);
    return b;
}

static hm_bytes block_bytes(const block *b)
{
    return hm_bytes_of(b->bytes, BLOCK_BYTES);
}

// ---- what the node does -------------------------------------------------------------------------

static void on_own_vote(hm_rd *r)
{
    hm_simplex_kind kind = (hm_simplex_kind)hm_rd_u8(r);
    uint64_t view = hm_rd_u64(r);
    hm_hash id;
    hm_rd_copy(r, id.b, HM_HASH_BYTES);
    hm_assert(hm_rd_ok(r));
    if (view >= VIEWS)
        return;
    switch (kind) {
    case HM_SIMPLEX_NOTARIZE:
        hm_assert(!w.own[view].notarized || hm_hash_eq(&w.own[view].notarize, &id));
        w.own[view].notarized = true;
        w.own[view].notarize = id;
        break;
    case HM_SIMPLEX_NULLIFY:
        hm_assert(!w.own[view].finalized);
        w.own[view].nullified = true;
        break;
    default:
        hm_assert(kind == HM_SIMPLEX_FINALIZE && !w.own[view].nullified);
        hm_assert(!w.own[view].finalized || hm_hash_eq(&w.own[view].finalize, &id));
        w.own[view].finalized = true;
        w.own[view].finalize = id;
    }
}

// Votes of this node may come from others too; only what it signs in its own name is looked at.
static void on_send(hm_bytes message)
{
    hm_rd r = hm_rd_of(message);
    switch (hm_rd_u8(&r)) {
    case 1: { // PROPOSAL
        hm_simplex_block_info info;
        (void)hm_rd_bytes(&r, HM_FALCON_SIGNATURE_MAX);
        hm_bytes b = hm_rd_bytes(&r, HM_SIMPLEX_BLOCK_MAX);
        hm_assert(hm_rd_end(&r) == HM_OK && block_info(NULL, b, &info) == HM_OK);
        if (!hm_hash_eq(&info.proposer, &validators[w.self].id) || info.view >= VIEWS)
            return;
        hm_assert(!w.own[info.view].proposed || hm_hash_eq(&w.own[info.view].propose, &info.id));
        w.own[info.view].proposed = true;
        w.own[info.view].propose = info.id;
        return;
    }
    case 2: // VOTE: only own ones are sent so
        on_own_vote(&r);
        return;
    case 3: { // CERT
        hm_simplex_set set = set_of();
        sx_cert_view c;
        hm_assert(sx_cert_read(&set, hm_bytes_of(r.ptr, r.left), &c) == HM_OK);
        return;
    }
    default:
        return;
    }
}

static void on_final(const hm_simplex_action *a)
{
    hm_simplex_block_info info;
    hm_simplex_kind kind;
    hm_simplex_set set = set_of();
    hm_assert(block_info(NULL, a->bytes, &info) == HM_OK && hm_hash_eq(&info.id, &a->id));
    hm_assert(a->height == w.final_height + 1 && info.height == a->height);
    hm_assert(hm_hash_eq(&info.parent, &w.final_id));
    hm_assert(hm_simplex_cert_verify(&set, &a->id, a->view, a->cert, &kind) == HM_OK);
    w.final_height = a->height;
    w.final_id = a->id;
}

static void drain(void)
{
    hm_simplex_action a;
    hm_simplex_set set = set_of();
    uint32_t offender;
    for (unsigned n = 0; hm_simplex_next_action(w.s, &a); n++) {
        hm_assert(n < 100000);
        switch (a.kind) {
        case HM_SIMPLEX_PERSIST:
            if (w.record_count < RECORDS)
                hm_buf_put(&w.records[w.record_count++], a.bytes);
            break;
        case HM_SIMPLEX_SEND:
            on_send(a.bytes);
            break;
        case HM_SIMPLEX_BUILD:
            w.asked_build = true;
            w.build = a;
            break;
        case HM_SIMPLEX_VALIDATE:
            w.validate[w.validate_count++ % 8] = a.id;
            break;
        case HM_SIMPLEX_FETCH:
            hm_assert(a.peer < COUNT && a.peer != w.self && a.height <= a.to_height);
            break;
        case HM_SIMPLEX_FINAL:
            on_final(&a);
            break;
        case HM_SIMPLEX_EVIDENCE:
            hm_assert(hm_simplex_evidence_verify(&set, a.bytes, &offender) == HM_OK);
            hm_assert(offender == a.peer && offender != w.self);
            break;
        default:
            break;
        }
    }
}

// ---- life ---------------------------------------------------------------------------------------

static void make(uint64_t tip_height, uint64_t tip_view, hm_hash tip_id)
{
    hm_simplex_config cfg = {.set = set_of(),
                             .self = w.self,
                             .seed = {{9}},
                             .tip_height = tip_height,
                             .tip_view = tip_view,
                             .tip_id = tip_id,
                             .delta_us = 100000,
                             .delta_min_us = 10000,
                             .delta_max_us = 1000000,
                             .idle_us = 200000,
                             .calls = {.sign = own_sign, .block_info = block_info}};
    hm_assert(hm_simplex_new(&cfg, &w.s) == HM_OK);
}

// The process dies and comes back with its log.
static void restart(bool rewrite)
{
    hm_arena arena = {0};
    hm_simplex_status st;
    hm_bytes *records;
    size_t count = 0;
    hm_simplex_get_status(w.s, &st);
    if (w.record_count == RECORDS)
        return; // more than this harness keeps
    if (rewrite) {
        hm_assert(hm_simplex_wal_snapshot(w.s, &arena, &records, &count) == HM_OK);
        hm_assert(count <= RECORDS);
        for (unsigned i = 0; i < RECORDS; i++)
            hm_buf_reset(&w.records[i]);
        for (size_t i = 0; i < count; i++)
            hm_buf_put(&w.records[i], records[i]);
        w.record_count = (unsigned)count;
        hm_arena_free(&arena);
    }
    hm_simplex_free(w.s);
    w.asked_build = false;
    w.validate_count = 0;
    make(st.final_height, st.final_view, st.final_id);
    for (unsigned i = 0; i < w.record_count; i++)
        hm_assert(hm_simplex_restore(w.s, hm_buf_bytes(&w.records[i])) == HM_OK);
    hm_simplex_start(w.s, w.now);
}

// ---- the others ---------------------------------------------------------------------------------

static const block *pick_block(uint8_t n)
{
    unsigned have = w.block_count < BLOCKS ? w.block_count : BLOCKS;
    return have == 0 ? NULL : &w.blocks[n % have];
}

static uint64_t pick_view(uint8_t n)
{
    hm_simplex_status st;
    hm_simplex_get_status(w.s, &st);
    uint64_t v = st.view + n % 8;
    return v > 4 ? v - 4 : 1;
}

// The others cannot sign in this node's name, but may repeat what it signed.
static bool can_sign(uint32_t signer, uint64_t view, hm_simplex_kind kind, const hm_hash *id)
{
    if (signer != w.self)
        return true;
    if (view >= VIEWS)
        return false;
    switch (kind) {
    case HM_SIMPLEX_PROPOSE:
        return w.own[view].proposed && hm_hash_eq(&w.own[view].propose, id);
    case HM_SIMPLEX_NOTARIZE:
        return w.own[view].notarized && hm_hash_eq(&w.own[view].notarize, id);
    case HM_SIMPLEX_NULLIFY:
        return w.own[view].nullified;
    default:
        return w.own[view].finalized && hm_hash_eq(&w.own[view].finalize, id);
    }
}

static void put_sig(hm_buf *m, uint32_t signer, uint64_t view, hm_simplex_kind kind,
                    const hm_hash *id, bool bad)
{
    uint8_t sig[SIG];
    (void)vote_sig(signer, view, kind, id, sig);
    if (bad || !can_sign(signer, view, kind, id))
        sig[0] ^= 1;
    hm_wr_bytes(m, hm_bytes_of(sig, SIG));
}

static uint32_t leader_of(uint64_t view)
{
    hm_simplex_set set = set_of();
    return hm_simplex_leader(&set, &(hm_hash){{9}}, view);
}

static void give(uint32_t from, const hm_buf *m)
{
    hm_err err = hm_simplex_message(w.s, w.now, from, hm_buf_bytes(m));
    (void)err; // says why it was refused, if it was
    drain();
}

static void propose(input *in)
{
    uint8_t pick = u8(in), how = u8(in);
    hm_simplex_status st;
    hm_simplex_get_status(w.s, &st);
    uint64_t view = pick_view(how);
    const block *parent = pick_block(pick);
    bool on_tip = parent == NULL || (how & 8) != 0;
    hm_hash parent_id = on_tip ? st.final_id : parent->info.id;
    uint64_t height = (on_tip ? st.final_height : parent->info.height) + 1 + (how == 0xff);
    bool sound =
        how != 0xff && (on_tip ? view > st.final_view : parent->sound && view > parent->info.view);
    block *b = make_block(&parent_id, height, view, leader_of(view), how >> 6);
    b->sound = sound;
    hm_buf m = {0};
    hm_wr_u8(&m, 1);
    put_sig(&m, leader_of(view), view, HM_SIMPLEX_PROPOSE, &b->info.id, (how & 16) != 0);
    hm_wr_bytes(&m, block_bytes(b));
    give(how >> 4 & 3, &m);
    hm_buf_free(&m);
}

static void vote(input *in)
{
    uint8_t pick = u8(in), how = u8(in);
    const block *b = pick_block(pick);
    hm_simplex_kind kind = (hm_simplex_kind)(HM_SIMPLEX_NOTARIZE + how % 3);
    uint32_t from = how >> 2 & 3;
    if (kind != HM_SIMPLEX_NULLIFY && b == NULL)
        return;
    uint64_t view = kind == HM_SIMPLEX_NULLIFY || (how & 128) ? pick_view(pick) : b->info.view;
    hm_hash id = kind == HM_SIMPLEX_NULLIFY ? (hm_hash){0} : b->info.id;
    hm_buf m = {0};
    hm_wr_u8(&m, 2);
    hm_wr_u8(&m, (uint8_t)kind);
    hm_wr_u64(&m, view);
    hm_wr_raw(&m, id.b, HM_HASH_BYTES);
    put_sig(&m, from, view, kind, &id,
            (how & 16) != 0 || (kind != HM_SIMPLEX_NULLIFY && (!b->sound || view != b->info.view)));
    if (kind == HM_SIMPLEX_NOTARIZE)
        put_sig(&m, leader_of(view), view, HM_SIMPLEX_PROPOSE, &id, (how & 32) != 0);
    give(how & 64 ? (from + 1) % COUNT : from, &m);
    hm_buf_free(&m);
}

static void put_cert(hm_buf *m, hm_simplex_kind kind, uint64_t view, const hm_hash *id, uint8_t who,
                     bool sound)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < COUNT; i++)
        count += who >> i & 1;
    sx_cert_begin(m, kind, view, id, count);
    for (uint32_t i = 0; i < COUNT; i++)
        if (who >> i & 1) {
            hm_wr_u32(m, i);
            put_sig(m, i, view, kind, id, !sound || ((who >> 4 & 3) == 3 && i == 0));
        }
}

static void certify(input *in)
{
    uint8_t pick = u8(in), how = u8(in), who = u8(in);
    const block *b = pick_block(pick);
    hm_simplex_kind kind = (hm_simplex_kind)(HM_SIMPLEX_NOTARIZE + how % 3);
    if (kind != HM_SIMPLEX_NULLIFY && b == NULL)
        return;
    uint64_t view = kind == HM_SIMPLEX_NULLIFY ? pick_view(pick) : b->info.view;
    hm_hash id = kind == HM_SIMPLEX_NULLIFY ? (hm_hash){0} : b->info.id;
    hm_buf m = {0};
    hm_wr_u8(&m, 3);
    put_cert(&m, kind, view, &id, who, kind == HM_SIMPLEX_NULLIFY || b->sound);
    give(how >> 2 & 3, &m);
    hm_buf_free(&m);
}

static void fetched(input *in)
{
    uint8_t pick = u8(in), how = u8(in), from = u8(in) & 3;
    const block *b = pick_block(pick);
    if (b == NULL)
        return;
    hm_buf cert = {0};
    put_cert(&cert, how & 1 ? HM_SIMPLEX_NOTARIZE : HM_SIMPLEX_FINALIZE, b->info.view, &b->info.id,
             how >> 1, b->sound);
    hm_err err = hm_simplex_certified_block(w.s, w.now, from, block_bytes(b), hm_buf_bytes(&cert));
    (void)err;
    drain();
    hm_buf_free(&cert);
}

static void status_or_get(input *in)
{
    uint8_t how = u8(in);
    hm_buf m = {0};
    if (how & 1) {
        hm_wr_u8(&m, 4);
        hm_wr_u64(&m, pick_view(u8(in)) + 8);
        hm_wr_u64(&m, pick_view(u8(in)));
        hm_wr_u64(&m, u8(in));
        hm_wr_u64(&m, u8(in));
        hm_wr_bool(&m, how & 2);
    } else {
        const block *b = pick_block(u8(in));
        hm_hash id = b == NULL || (how & 2) ? (hm_hash){0} : b->info.id;
        hm_wr_u8(&m, 5);
        hm_wr_u64(&m, pick_view(u8(in)));
        hm_wr_raw(&m, id.b, HM_HASH_BYTES);
    }
    give(how >> 2 & 3, &m);
    hm_buf_free(&m);
}

static void raw(input *in)
{
    uint8_t from = u8(in);
    size_t n = u8(in), left = (size_t)(in->end - in->at);
    hm_err err = hm_simplex_message(w.s, w.now, from % 6, hm_bytes_of(in->at, n < left ? n : left));
    (void)err;
    in->at += n < left ? n : left;
    drain();
}

static void time_passes(input *in)
{
    uint64_t us = (uint64_t)u8(in) * 5000, due = hm_simplex_next_timeout(w.s);
    w.now = us == 0 && due < w.now + 10000000 ? (due > w.now ? due : w.now) : w.now + us;
    hm_simplex_timer(w.s, w.now);
    drain();
    hm_assert(hm_simplex_next_timeout(w.s) > w.now);
}

static void build(input *in)
{
    uint8_t how = u8(in);
    if (!w.asked_build)
        return;
    w.asked_build = false;
    block *b = make_block(&w.build.parent, w.build.height + (how == 1), w.build.view + (how == 2),
                          w.self, how >> 4);
    b->sound = how != 1 && how != 2;
    hm_err err = hm_simplex_proposal(w.s, w.now, block_bytes(b));
    hm_assert(how != 1 || err != HM_OK);
    drain();
}

static void step(input *in)
{
    uint8_t op = u8(in);
    switch (op % 14) {
    case 0:
    case 1:
        propose(in);
        break;
    case 2:
    case 3:
    case 4:
        vote(in);
        break;
    case 5:
    case 6:
        certify(in);
        break;
    case 7:
        fetched(in);
        break;
    case 8:
        status_or_get(in);
        break;
    case 9:
        time_passes(in);
        break;
    case 10:
        build(in);
        break;
    case 11:
        if (w.validate_count > 0) {
            hm_hash id = w.validate[--w.validate_count % 8];
            hm_simplex_validated(w.s, w.now, &id, u8(in) % 8 != 0);
            drain();
        }
        break;
    case 12:
        if (op & 16)
            hm_simplex_nudge(w.s, w.now);
        else
            hm_simplex_peer_up(w.s, w.now, u8(in) % 5);
        drain();
        break;
    default:
        if (op & 64)
            raw(in);
        else if (op & 16)
            restart(op & 32);
        drain();
    }
    hm_assert(w.s->views.count <= 2 * HM_SIMPLEX_VIEWS_AHEAD + 3 * VIEWS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, data + size};
    for (uint32_t i = 0; i < COUNT; i++)
        validators[i] = (hm_simplex_validator){.id = {{(uint8_t)(1 + i)}}, .power = 1};
    w = (world){.self = u8(&in) % COUNT, .now = 1000000};
    make(0, 0, (hm_hash){0});
    hm_simplex_start(w.s, w.now);
    drain();
    while (in.at < in.end)
        step(&in);
    hm_simplex_free(w.s);
    for (unsigned i = 0; i < RECORDS; i++)
        hm_buf_free(&w.records[i]);
    return 0;
}
