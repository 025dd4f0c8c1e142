#include "mesh/genesis.h"

#include "mesh/proof_time.h"

#define STAKE_MAX (UINT64_C(1) << 40) // so that the sum over all validators cannot overflow

hm_genesis_params hm_genesis_params_default(void)
{
    return (hm_genesis_params){
        .epoch_blocks = 240,
        .beacon_blocks = 24,
        .time_bits = 1024,
        .time_iterations = 200000, // about two seconds of one core of 2024
        .time_max_age = 16,
        .target_ops = 256,
        .min_stake = 1,
        .chunk_bytes = 256u << 10,
        .replicas = 3,
        .space = hm_space_params_default(0),
    };
}

static hm_err range(const char *field, uint64_t v, uint64_t lo, uint64_t hi)
{
    if (v < lo || v > hi)
        return hm_fail(HM_E_RANGE, "genesis: %s is %llu; it must be from %llu to %llu", field,
                       (unsigned long long)v, (unsigned long long)lo, (unsigned long long)hi);
    return HM_OK;
}

hm_err hm_genesis_params_check(const hm_genesis_params *p)
{
    HM_TRY(range("epoch_blocks", p->epoch_blocks, 4, 1u << 24));
    HM_TRY(range("beacon_blocks", p->beacon_blocks, 1, 1u << 20));
    HM_TRY(range("time_bits", p->time_bits, HM_TIME_BITS_MIN, HM_TIME_BITS_MAX));
    if (p->time_bits % 256 != 0)
        return hm_fail(HM_E_RANGE, "genesis: time_bits is %u; it must be a multiple of 256",
                       p->time_bits);
    HM_TRY(range("time_iterations", p->time_iterations, 1, HM_TIME_ITERATIONS_MAX));
    HM_TRY(range("time_max_age", p->time_max_age, 1, 1u << 16));
    HM_TRY(range("target_ops", p->target_ops, 1, 1u << 20));
    HM_TRY(range("min_stake", p->min_stake, 1, STAKE_MAX));
    HM_TRY(range("chunk_bytes", p->chunk_bytes, 4096, 1u << 20));
    HM_TRY(range("replicas", p->replicas, 1, HM_GENESIS_VALIDATORS_MAX));
    return hm_space_params_check(&p->space);
}

static hm_err name_check(const char *what, const char *name)
{
    size_t len = strnlen(name, HM_NODE_NAME_MAX + 1);
    if (len == 0 || len > HM_NODE_NAME_MAX)
        return hm_fail(HM_E_RANGE, "genesis: %s must have 1 to %u characters", what,
                       HM_NODE_NAME_MAX);
    for (size_t i = 0; i < len; i++)
        if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
              name[i] == '-'))
            return hm_fail(HM_E_RANGE, "genesis: %s may hold only a-z, 0-9 and '-'", what);
    return HM_OK;
}

static hm_err validator_check(const hm_genesis *g, const hm_genesis_validator *v)
{
    HM_TRY(name_check("a validator's name", v->name));
    HM_TRY(range("stake", v->stake, 1, STAKE_MAX));
    HM_TRY(range("port", v->port, 1, 65535));
    HM_TRY(range("certificate length", v->cert.len, 1, HM_CERT_DER_MAX));
    hm_node_id id;
    if (hm_node_id_of_public(v->public_key, &id) != HM_OK)
        return hm_fail(HM_E_RANGE, "genesis: the public key of %s is not a FALCON-1024 key",
                       v->name);
    if (v->seal_count != hm_space_seal_parts(&g->params.space))
        return hm_fail(HM_E_RANGE, "genesis: the seal proof of %s has %u parts instead of %u",
                       v->name, v->seal_count, hm_space_seal_parts(&g->params.space));
    for (uint32_t i = 0; i < v->seal_count; i++)
        HM_TRY(range("seal part length", v->seal_parts[i].len, 1, HM_SPACE_PART_MAX));
    for (const char *c = v->api; *c != 0; c++)
        if ((unsigned char)*c < 0x21 || (unsigned char)*c > 0x7e)
            return hm_fail(HM_E_RANGE, "genesis: the API URL of %s has a bad character", v->name);
    return HM_OK;
}

static hm_err genesis_check(const hm_genesis *g)
{
    HM_TRY(name_check("the mesh's name", g->name));
    HM_TRY(hm_genesis_params_check(&g->params));
    HM_TRY(range("root certificate length", g->root_cert.len, 1, HM_CERT_DER_MAX));
    HM_TRY(range("issuing certificate length", g->issuing_cert.len, 1, HM_CERT_DER_MAX));
    HM_TRY(range("number of validators", g->count, 1, HM_GENESIS_VALIDATORS_MAX));
    for (uint32_t i = 0; i < g->count; i++) {
        HM_TRY(validator_check(g, &g->validators[i]));
        for (uint32_t j = 0; j < i; j++) {
            const hm_genesis_validator *a = &g->validators[i], *b = &g->validators[j];
            if (hm_bytes_eq(a->public_key, b->public_key))
                return hm_fail(HM_E_RANGE, "genesis: %s and %s have the same key", b->name,
                               a->name);
            if (strcmp(a->name, b->name) == 0)
                return hm_fail(HM_E_RANGE, "genesis: two validators are called %s", a->name);
            if (memcmp(a->host, b->host, 16) == 0 && a->port == b->port)
                return hm_fail(HM_E_RANGE, "genesis: %s and %s have the same address", b->name,
                               a->name);
        }
    }
    return HM_OK;
}

static void params_write(hm_buf *out, const hm_genesis_params *p)
{
    hm_wr_u32(out, p->epoch_blocks);
    hm_wr_u32(out, p->beacon_blocks);
    hm_wr_u16(out, p->time_bits);
    hm_wr_u64(out, p->time_iterations);
    hm_wr_u32(out, p->time_max_age);
    hm_wr_u32(out, p->target_ops);
    hm_wr_u64(out, p->min_stake);
    hm_wr_u32(out, p->chunk_bytes);
    hm_wr_u8(out, p->replicas);
    hm_space_params_write(out, &p->space);
}

static void params_read(hm_rd *r, hm_genesis_params *p)
{
    p->epoch_blocks = hm_rd_u32(r);
    p->beacon_blocks = hm_rd_u32(r);
    p->time_bits = hm_rd_u16(r);
    p->time_iterations = hm_rd_u64(r);
    p->time_max_age = hm_rd_u32(r);
    p->target_ops = hm_rd_u32(r);
    p->min_stake = hm_rd_u64(r);
    p->chunk_bytes = hm_rd_u32(r);
    p->replicas = hm_rd_u8(r);
    hm_space_params_read(r, &p->space);
}

static void validator_write(hm_buf *out, const hm_genesis_validator *v)
{
    hm_wr_bytes(out, hm_bytes_str(v->name));
    hm_wr_bytes(out, v->public_key);
    hm_wr_bytes(out, v->cert);
    hm_wr_u64(out, v->stake);
    hm_wr_raw(out, v->host, sizeof v->host);
    hm_wr_u16(out, v->port);
    hm_wr_bytes(out, hm_bytes_str(v->api));
    hm_wr_u32(out, v->sector);
    hm_space_commitment_write(out, &v->commitment);
    hm_wr_u32(out, v->seal_count);
    for (uint32_t i = 0; i < v->seal_count; i++)
        hm_wr_bytes(out, v->seal_parts[i]);
}

// A text of at most cap - 1 bytes without NUL.
static void text_read(hm_rd *r, char *out, size_t cap)
{
    hm_bytes s = hm_rd_bytes(r, cap - 1);
    if (s.len > 0 && memchr(s.ptr, 0, s.len) != NULL)
        hm_rd_refuse(r, HM_E_PARSE);
    if (hm_rd_ok(r) && s.len > 0)
        memcpy(out, s.ptr, s.len);
    out[hm_rd_ok(r) ? s.len : 0] = 0;
}

static hm_bytes bytes_read(hm_rd *r, size_t max, hm_arena *arena)
{
    hm_bytes s = hm_rd_bytes(r, max);
    hm_bytes copy = hm_arena_copy(arena, s);
    if (copy.ptr == NULL && s.len > 0)
        hm_rd_refuse(r, HM_E_NOMEM);
    return copy;
}

static void validator_read(hm_rd *r, hm_genesis_validator *v, hm_arena *arena)
{
    text_read(r, v->name, sizeof v->name);
    v->public_key = bytes_read(r, HM_FALCON_PUBLIC_BYTES, arena);
    v->cert = bytes_read(r, HM_CERT_DER_MAX, arena);
    v->stake = hm_rd_u64(r);
    hm_rd_copy(r, v->host, sizeof v->host);
    v->port = hm_rd_u16(r);
    text_read(r, v->api, sizeof v->api);
    v->sector = hm_rd_u32(r);
    hm_space_commitment_read(r, &v->commitment);
    v->seal_count = hm_rd_count(r, HM_SPACE_PARTS_MAX, 4);
    v->seal_parts = hm_arena_array(arena, v->seal_count + 1u, sizeof *v->seal_parts);
    if (v->seal_parts == NULL) {
        hm_rd_refuse(r, HM_E_NOMEM);
        v->seal_count = 0;
    }
    for (uint32_t i = 0; i < v->seal_count; i++)
        v->seal_parts[i] = bytes_read(r, HM_SPACE_PART_MAX, arena);
}

hm_err hm_genesis_encode(const hm_genesis *g, hm_buf *out, hm_hash *chain_id)
{
    HM_TRY(genesis_check(g));
    size_t start = out->len;
    hm_wr_u8(out, HM_GENESIS_VERSION);
    hm_wr_bytes(out, hm_bytes_str(g->name));
    hm_wr_u64(out, g->time_ms);
    hm_wr_bytes(out, g->root_cert);
    hm_wr_bytes(out, g->issuing_cert);
    params_write(out, &g->params);
    hm_wr_u32(out, g->count);
    for (uint32_t i = 0; i < g->count; i++)
        validator_write(out, &g->validators[i]);
    HM_TRY(hm_buf_status(out));
    *chain_id = hm_sha256(hm_bytes_of(out->ptr + start, out->len - start));
    return HM_OK;
}

hm_err hm_genesis_decode(hm_bytes bytes, hm_genesis *out)
{
    if (bytes.len > HM_GENESIS_BYTES_MAX)
        return hm_fail(HM_E_LIMIT, "a genesis of %zu bytes; at most %u", bytes.len,
                       HM_GENESIS_BYTES_MAX);
    hm_genesis g = {0};
    hm_rd r = hm_rd_of(bytes);
    if (hm_rd_u8(&r) != HM_GENESIS_VERSION)
        hm_rd_refuse(&r, HM_E_UNSUPPORTED);
    text_read(&r, g.name, sizeof g.name);
    g.time_ms = hm_rd_u64(&r);
    g.root_cert = bytes_read(&r, HM_CERT_DER_MAX, &g.arena);
    g.issuing_cert = bytes_read(&r, HM_CERT_DER_MAX, &g.arena);
    params_read(&r, &g.params);
    g.count = hm_rd_count(&r, HM_GENESIS_VALIDATORS_MAX, 64);
    g.validators = hm_arena_array(&g.arena, g.count + 1u, sizeof *g.validators);
    if (g.validators == NULL) {
        hm_rd_refuse(&r, HM_E_NOMEM);
        g.count = 0;
    }
    for (uint32_t i = 0; i < g.count && hm_rd_ok(&r); i++)
        validator_read(&r, &g.validators[i], &g.arena);
    hm_err err = hm_rd_end(&r);
    if (err == HM_OK)
        err = genesis_check(&g);
    if (err != HM_OK) {
        hm_arena_free(&g.arena);
        return err;
    }
    g.chain_id = hm_sha256(bytes);
    *out = g;
    return HM_OK;
}

void hm_genesis_free(hm_genesis *g)
{
    hm_arena_free(&g->arena);
    *g = (hm_genesis){0};
}

hm_err hm_genesis_node_id(const hm_genesis_validator *v, hm_node_id *out)
{
    return hm_node_id_of_public(v->public_key, out);
}
