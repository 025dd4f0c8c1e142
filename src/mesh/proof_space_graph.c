#include "mesh/proof_space_graph.h"

hm_space_params hm_space_params_default(uint8_t nodes_log2)
{
    hm_space_params p = {
        .nodes_log2 = nodes_log2 ? nodes_log2 : HM_SPACE_NODES_LOG2_DEFAULT,
        .layers = 5,
        .drg_parents = 3,
        .exp_log2 = 3,
        .seal_challenges = 32,
        .seal_grind_bits = 12,
        .answer_challenges = 32,
    };
    // From 32 MiB on a sector is more than a toy: more layers, and challenges to match.
    if (p.nodes_log2 >= 20) {
        p.layers = 11;
        p.seal_challenges = 128;
        p.seal_grind_bits = 20;
        p.answer_challenges = 64;
    }
    return p;
}

static size_t challenge_bytes_max(const hm_space_params *p)
{
    size_t columns = 1u + p->drg_parents + (1u << p->exp_log2);
    return columns * 32 * ((size_t)p->layers + p->nodes_log2) + 32 * (size_t)p->nodes_log2;
}

static uint32_t challenges_a_part(const hm_space_params *p)
{
    return (uint32_t)(HM_SPACE_PART_MAX / challenge_bytes_max(p));
}

static hm_err check_field(const char *name, uint32_t value, uint32_t min, uint32_t max)
{
    if (value < min || value > max)
        return hm_fail(HM_E_RANGE, "sector parameter %s=%u: need %u..%u", name, value, min, max);
    return HM_OK;
}

hm_err hm_space_params_check(const hm_space_params *p)
{
    HM_TRY(
        check_field("nodes_log2", p->nodes_log2, HM_SPACE_NODES_LOG2_MIN, HM_SPACE_NODES_LOG2_MAX));
    HM_TRY(check_field("layers", p->layers, 2, HM_SPACE_LAYERS_MAX));
    HM_TRY(check_field("drg_parents", p->drg_parents, 2, HM_SPACE_DRG_PARENTS_MAX));
    HM_TRY(check_field("exp_log2", p->exp_log2, 1, HM_SPACE_EXP_LOG2_MAX));
    HM_TRY(check_field("seal_challenges", p->seal_challenges, 1, HM_SPACE_SEAL_CHALLENGES_MAX));
    HM_TRY(check_field("seal_grind_bits", p->seal_grind_bits, 0, HM_SPACE_GRIND_BITS_MAX));
    HM_TRY(
        check_field("answer_challenges", p->answer_challenges, 1, HM_SPACE_ANSWER_CHALLENGES_MAX));
    if (challenges_a_part(p) == 0 || hm_space_seal_parts(p) > HM_SPACE_PARTS_MAX)
        return hm_fail(HM_E_RANGE, "the seal proof would not fit %u parts of %u bytes",
                       HM_SPACE_PARTS_MAX, HM_SPACE_PART_MAX);
    if (hm_space_answer_bytes(p) > HM_SPACE_ANSWER_MAX)
        return hm_fail(HM_E_RANGE, "an answer would have %zu bytes, more than %u",
                       hm_space_answer_bytes(p), HM_SPACE_ANSWER_MAX);
    return HM_OK;
}

void hm_space_params_write(hm_buf *out, const hm_space_params *p)
{
    hm_wr_u8(out, p->nodes_log2);
    hm_wr_u8(out, p->layers);
    hm_wr_u8(out, p->drg_parents);
    hm_wr_u8(out, p->exp_log2);
    hm_wr_u16(out, p->seal_challenges);
    hm_wr_u8(out, p->seal_grind_bits);
    hm_wr_u16(out, p->answer_challenges);
}

void hm_space_params_read(hm_rd *r, hm_space_params *p)
{
    p->nodes_log2 = hm_rd_u8(r);
    p->layers = hm_rd_u8(r);
    p->drg_parents = hm_rd_u8(r);
    p->exp_log2 = hm_rd_u8(r);
    p->seal_challenges = hm_rd_u16(r);
    p->seal_grind_bits = hm_rd_u8(r);
    p->answer_challenges = hm_rd_u16(r);
    if (hm_rd_ok(r) && hm_space_params_check(p) != HM_OK)
        hm_rd_refuse(r, HM_E_RANGE);
}

void hm_space_commitment_write(hm_buf *out, const hm_space_commitment *c)
{
    hm_wr_raw(out, c->columns.b, 32);
    hm_wr_raw(out, c->labels.b, 32);
    hm_wr_u64(out, c->nonce);
}

void hm_space_commitment_read(hm_rd *r, hm_space_commitment *c)
{
    hm_rd_copy(r, c->columns.b, 32);
    hm_rd_copy(r, c->labels.b, 32);
    c->nonce = hm_rd_u64(r);
}

uint64_t hm_space_size_bytes(const hm_space_params *p)
{
    return UINT64_C(32) << p->nodes_log2;
}

uint32_t hm_space_seal_parts(const hm_space_params *p)
{
    uint32_t each = challenges_a_part(p);
    hm_assert(each > 0);
    return (p->seal_challenges + each - 1) / each;
}

size_t hm_space_answer_bytes(const hm_space_params *p)
{
    return (size_t)p->answer_challenges * 32 * (1u + p->nodes_log2);
}

void space_part_range(const hm_space_params *p, uint32_t part, uint32_t *first, uint32_t *end)
{
    uint32_t each = challenges_a_part(p);
    *first = part * each;
    *end = *first + each < p->seal_challenges ? *first + each : p->seal_challenges;
}

// ---- the graph ----------------------------------------------------------------------------------

// SplitMix64's finaliser (Steele, Lea, Flood 2014). The graph is public and fixed for a size, so it
// needs to look random, not to resist anybody.
static uint64_t mix(uint64_t z)
{
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

// DRSample (Alwen, Blocki, Harsha 2017, algorithm 2): a distance whose logarithm is uniform, then
// uniform within its octave.
static uint32_t drsample(uint32_t v, uint32_t k)
{
    if (v == 1)
        return 0;
    uint64_t r = mix((uint64_t)v << 8 | k);
    uint32_t octaves = 32 - (uint32_t)__builtin_clz(v); // floor(log2 v) + 1
    uint32_t octave = 1 + (uint32_t)(r % octaves);
    uint32_t far = octave < 31 && (UINT32_C(1) << octave) < v ? UINT32_C(1) << octave : v;
    uint32_t near = far / 2 > 2 ? far / 2 : 2;
    uint32_t distance = near + (uint32_t)(mix(r) % (far - near + 1));
    return v - distance;
}

// Chung's bipartite expander: a fixed permutation of the (node, edge) pairs, here a Feistel network
// of unequal halves, says where each of a node's edges ends.
static uint32_t chung(const hm_space_params *p, uint32_t v, uint32_t edge)
{
    uint32_t bits = p->nodes_log2 + p->exp_log2;
    uint32_t low_bits = bits / 2, high_bits = bits - low_bits;
    uint64_t x = (uint64_t)v << p->exp_log2 | edge;
    uint64_t low = x & ((UINT64_C(1) << low_bits) - 1), high = x >> low_bits;
    for (uint64_t round = 0; round < 4; round++) {
        high ^= mix(low << 16 | round << 8 | bits) & ((UINT64_C(1) << high_bits) - 1);
        low ^= mix(high << 16 | round << 8 | bits | 128) & ((UINT64_C(1) << low_bits) - 1);
    }
    return (uint32_t)((high << low_bits | low) >> p->exp_log2);
}

void space_parents_of(const hm_space_params *p, uint32_t node, space_parents *out)
{
    uint32_t n = 0;
    if (node > 0) {
        out->node[n++] = node - 1;
        for (uint32_t k = 1; k < p->drg_parents; k++)
            out->node[n++] = drsample(node, k);
    }
    out->drg_count = n;
    out->exp_count = 1u << p->exp_log2;
    for (uint32_t k = 0; k < out->exp_count; k++)
        out->node[n++] = chung(p, node, k);
}

// ---- hashes -------------------------------------------------------------------------------------

// Label and tree hashes share SHA-256 without a domain string, for speed. They cannot meet: their
// lengths are 12 and 1 modulo 32.

hm_hash space_label(const hm_hash *replica, uint32_t layer, uint32_t node, const hm_hash *parents,
                    uint32_t count)
{
    uint8_t in[44 + 32 * SPACE_PARENTS_MAX];
    hm_assert(count <= SPACE_PARENTS_MAX);
    hm_buf b = hm_buf_fixed(in, sizeof in);
    hm_wr_raw(&b, replica->b, 32);
    hm_wr_u32(&b, layer);
    hm_wr_u64(&b, node);
    hm_wr_raw(&b, parents, 32 * (size_t)count);
    return hm_sha256(hm_buf_bytes(&b));
}

hm_hash space_leaf(const void *content, size_t len)
{
    uint8_t in[1 + 32 * HM_SPACE_LAYERS_MAX];
    hm_assert(len < sizeof in);
    in[0] = 0;
    memcpy(in + 1, content, len);
    return hm_sha256(hm_bytes_of(in, 1 + len));
}

hm_hash space_node(const hm_hash *left, const hm_hash *right)
{
    uint8_t in[65];
    in[0] = 1;
    memcpy(in + 1, left->b, 32);
    memcpy(in + 33, right->b, 32);
    return hm_sha256(hm_bytes_of(in, sizeof in));
}

hm_hash space_path_root(hm_hash leaf, uint32_t index, const uint8_t *path, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++, index >>= 1) {
        hm_hash sibling;
        memcpy(sibling.b, path + 32 * (size_t)i, 32);
        leaf = index & 1 ? space_node(&sibling, &leaf) : space_node(&leaf, &sibling);
    }
    return leaf;
}

static void wr_domain(hm_buf *b, const char *domain)
{
    hm_wr_raw(b, domain, strlen(domain) + 1);
}

hm_hash space_replica_id(const hm_space_params *p, const hm_node_id *node, uint32_t sector)
{
    uint8_t in[128];
    hm_buf b = hm_buf_fixed(in, sizeof in);
    wr_domain(&b, "hypermesh/space/replica/1");
    hm_wr_raw(&b, node->b, 32);
    hm_wr_u32(&b, sector);
    hm_space_params_write(&b, p);
    hm_assert(hm_buf_status(&b) == HM_OK);
    return hm_sha256(hm_buf_bytes(&b));
}

bool space_seal_seed(const hm_space_params *p, const hm_hash *replica, const hm_space_commitment *c,
                     hm_hash *out)
{
    uint8_t in[192];
    hm_buf b = hm_buf_fixed(in, sizeof in);
    wr_domain(&b, "hypermesh/space/seal/1");
    hm_wr_raw(&b, replica->b, 32);
    hm_space_commitment_write(&b, c);
    hm_assert(hm_buf_status(&b) == HM_OK);
    *out = hm_sha256(hm_buf_bytes(&b));
    uint32_t head = (uint32_t)out->b[0] << 24 | (uint32_t)out->b[1] << 16 |
                    (uint32_t)out->b[2] << 8 | out->b[3];
    return p->seal_grind_bits == 0 || head >> (32 - p->seal_grind_bits) == 0;
}

static uint32_t index_of(const hm_space_params *p, const char *domain, const hm_hash *seed,
                         uint32_t i)
{
    uint8_t in[96];
    hm_buf b = hm_buf_fixed(in, sizeof in);
    wr_domain(&b, domain);
    hm_wr_raw(&b, seed->b, 32);
    hm_wr_u32(&b, i);
    hm_hash h = hm_sha256(hm_buf_bytes(&b));
    uint32_t v = (uint32_t)h.b[0] << 24 | (uint32_t)h.b[1] << 16 | (uint32_t)h.b[2] << 8 | h.b[3];
    return v & ((UINT32_C(1) << p->nodes_log2) - 1); // a power of two: no bias
}

uint32_t space_seal_challenge(const hm_space_params *p, const hm_hash *seed, uint32_t i)
{
    return index_of(p, "hypermesh/space/seal/2", seed, i);
}

hm_hash space_answer_seed(const hm_hash *replica, const hm_space_commitment *c, const hm_hash *seed)
{
    uint8_t in[160];
    hm_buf b = hm_buf_fixed(in, sizeof in);
    wr_domain(&b, "hypermesh/space/answer/1");
    hm_wr_raw(&b, replica->b, 32);
    hm_wr_raw(&b, c->labels.b, 32);
    hm_wr_raw(&b, seed->b, 32);
    hm_assert(hm_buf_status(&b) == HM_OK);
    return hm_sha256(hm_buf_bytes(&b));
}

uint32_t space_answer_challenge(const hm_space_params *p, const hm_hash *seed, uint32_t i)
{
    return index_of(p, "hypermesh/space/answer/2", seed, i);
}
