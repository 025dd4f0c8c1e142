// What an asset is and how its records and payloads are written. asset_module.c has the rules.
#include "mesh/asset_internal.h"

#include "dns/record.h"

static const char *const kind_names[] = {"",        "cpu",     "gpu",       "memory",
                                         "storage", "network", "container", "service",
                                         "name",    "data",    "economic"};
static const char *const state_names[] = {"",          "available",   "allocated", "in_use",
                                          "suspended", "maintenance", "failed",    "retired"};

const char *hm_asset_kind_name(uint8_t kind)
{
    return kind >= 1 && kind <= HM_ASSET_KIND_MAX ? kind_names[kind] : NULL;
}

const char *hm_asset_state_name(uint8_t state)
{
    return state >= 1 && state <= HM_ASSET_STATE_MAX ? state_names[state] : NULL;
}

static uint8_t word_index(const char *const *words, uint8_t max, hm_bytes word)
{
    for (uint8_t i = 1; i <= max; i++)
        if (hm_bytes_eq(word, hm_bytes_str(words[i])))
            return i;
    return 0;
}

uint8_t hm_asset_kind_parse(hm_bytes word)
{
    return word_index(kind_names, HM_ASSET_KIND_MAX, word);
}

uint8_t hm_asset_state_parse(hm_bytes word)
{
    return word_index(state_names, HM_ASSET_STATE_MAX, word);
}

bool hm_asset_transition_legal(uint8_t from, uint8_t to)
{
#define TO(state) (1u << (state))
    static const unsigned legal[] = {
        [HM_ASSET_AVAILABLE] = TO(HM_ASSET_ALLOCATED) | TO(HM_ASSET_SUSPENDED) |
                               TO(HM_ASSET_MAINTENANCE) | TO(HM_ASSET_FAILED) |
                               TO(HM_ASSET_RETIRED),
        [HM_ASSET_ALLOCATED] = TO(HM_ASSET_AVAILABLE) | TO(HM_ASSET_IN_USE) |
                               TO(HM_ASSET_SUSPENDED) | TO(HM_ASSET_FAILED),
        [HM_ASSET_IN_USE] = TO(HM_ASSET_ALLOCATED) | TO(HM_ASSET_AVAILABLE) |
                            TO(HM_ASSET_SUSPENDED) | TO(HM_ASSET_FAILED),
        [HM_ASSET_SUSPENDED] = TO(HM_ASSET_AVAILABLE) | TO(HM_ASSET_MAINTENANCE) |
                               TO(HM_ASSET_FAILED) | TO(HM_ASSET_RETIRED),
        [HM_ASSET_MAINTENANCE] = TO(HM_ASSET_AVAILABLE) | TO(HM_ASSET_SUSPENDED) |
                                 TO(HM_ASSET_FAILED) | TO(HM_ASSET_RETIRED),
        [HM_ASSET_FAILED] =
            TO(HM_ASSET_AVAILABLE) | TO(HM_ASSET_MAINTENANCE) | TO(HM_ASSET_RETIRED),
        [HM_ASSET_RETIRED] = 0,
    };
#undef TO
    return from >= 1 && from <= HM_ASSET_STATE_MAX && to >= 1 && to <= HM_ASSET_STATE_MAX &&
           (legal[from] >> to & 1u);
}

void hm_overlay_addr(const hm_node_id *node, uint32_t number, uint8_t addr[16])
{
    static const uint8_t prefix[4] = {0xfd, 0x48, 0x4d, 0x00};
    memcpy(addr, prefix, 4);
    memcpy(addr + 4, node->b, 8);
    for (unsigned i = 0; i < 4; i++)
        addr[12 + i] = (uint8_t)(number >> (24 - 8 * i));
}

hm_hash hm_asset_id(const hm_hash *chain_id, const hm_node_id *owner, uint64_t nonce)
{
    uint8_t mem[20 + 2 * HM_HASH_BYTES + 8];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_buf_puts(&b, "hypermesh/asset/1");
    hm_wr_raw(&b, chain_id->b, HM_HASH_BYTES);
    hm_wr_raw(&b, owner->b, HM_HASH_BYTES);
    hm_wr_u64(&b, nonce);
    hm_assert(hm_buf_status(&b) == HM_OK);
    return hm_sha256(hm_buf_bytes(&b));
}

uint8_t hm_asset_rights(const hm_asset *a, const hm_node_id *node)
{
    if (hm_hash_eq(&a->owner, node))
        return HM_RIGHT_READ | HM_RIGHT_USE | HM_RIGHT_MANAGE | HM_RIGHT_OWN;
    uint8_t rights = a->policy.is_public ? HM_RIGHT_READ | HM_RIGHT_USE : 0;
    for (uint32_t i = 0; i < a->policy.grant_count; i++)
        if (hm_hash_eq(&a->policy.grants[i].node, node))
            rights |= a->policy.grants[i].rights;
    return rights;
}

// ---- parts --------------------------------------------------------------------------------------

static void commitment_write(hm_buf *b, const hm_commitment *c)
{
    hm_wr_u64(b, c->size);
    hm_wr_u32(b, c->chunk_bytes);
    hm_wr_u32(b, c->chunk_count);
    hm_wr_raw(b, c->root.b, HM_HASH_BYTES);
}

static void commitment_read(hm_rd *r, hm_commitment *c)
{
    c->size = hm_rd_u64(r);
    c->chunk_bytes = hm_rd_u32(r);
    c->chunk_count = hm_rd_u32(r);
    hm_rd_copy(r, c->root.b, HM_HASH_BYTES);
}

static void policy_write(hm_buf *b, const hm_asset_policy *p)
{
    hm_wr_bool(b, p->is_public);
    hm_wr_u32(b, p->grant_count);
    for (uint32_t i = 0; i < p->grant_count; i++) {
        hm_wr_raw(b, p->grants[i].node.b, HM_HASH_BYTES);
        hm_wr_u8(b, p->grants[i].rights);
    }
}

void asset_policy_read(hm_rd *r, hm_asset_policy *p)
{
    p->is_public = hm_rd_bool(r);
    p->grant_count = hm_rd_count(r, HM_ASSET_GRANTS_MAX, HM_HASH_BYTES + 1);
    for (uint32_t i = 0; i < p->grant_count; i++) {
        hm_asset_grant *g = &p->grants[i];
        hm_rd_copy(r, g->node.b, HM_HASH_BYTES);
        g->rights = hm_rd_u8(r);
        if (g->rights == 0 || g->rights > (HM_RIGHT_READ | HM_RIGHT_USE | HM_RIGHT_MANAGE))
            hm_rd_refuse(r, HM_E_RANGE);
        if (i > 0 && memcmp(p->grants[i - 1].node.b, g->node.b, HM_HASH_BYTES) >= 0)
            hm_rd_refuse(r, HM_E_NONCANONICAL);
    }
}

// ---- records ------------------------------------------------------------------------------------

void asset_record_write(hm_buf *b, const hm_asset *a)
{
    hm_wr_u8(b, a->kind);
    hm_wr_u8(b, a->state);
    hm_wr_raw(b, a->owner.b, HM_HASH_BYTES);
    hm_wr_raw(b, a->registrar.b, HM_HASH_BYTES);
    hm_wr_bool(b, a->has_holder);
    if (a->has_holder)
        hm_wr_raw(b, a->holder.b, HM_HASH_BYTES);
    hm_wr_bytes(b, hm_bytes_of(a->name, a->name_len));
    policy_write(b, &a->policy);
    hm_wr_u32(b, a->number);
    hm_wr_bool(b, a->has_content);
    if (a->has_content)
        commitment_write(b, &a->content);
    if (a->kind == HM_ASSET_NAME)
        hm_wr_u64(b, a->expires_ms);
    hm_wr_u64(b, a->seq);
    hm_wr_u64(b, a->created_ms);
    hm_wr_u64(b, a->updated_ms);
    hm_wr_u64(b, a->updated_height);
    hm_wr_u32(b, a->revision);
}

hm_err asset_record_read(hm_bytes value, const hm_hash *id, hm_asset *a)
{
    memset(a, 0, sizeof *a);
    hm_rd r = hm_rd_of(value);
    a->id = *id;
    a->kind = hm_rd_enum(&r, HM_ASSET_KIND_MAX);
    a->state = hm_rd_enum(&r, HM_ASSET_STATE_MAX);
    hm_rd_copy(&r, a->owner.b, HM_HASH_BYTES);
    hm_rd_copy(&r, a->registrar.b, HM_HASH_BYTES);
    a->has_holder = hm_rd_bool(&r);
    if (a->has_holder)
        hm_rd_copy(&r, a->holder.b, HM_HASH_BYTES);
    hm_bytes name = hm_rd_bytes(&r, HM_ASSET_NAME_MAX);
    if (hm_rd_ok(&r)) {
        memcpy(a->name, name.ptr, name.len);
        a->name_len = (uint8_t)name.len;
    }
    asset_policy_read(&r, &a->policy);
    a->number = hm_rd_u32(&r);
    a->has_content = hm_rd_bool(&r);
    if (a->has_content)
        commitment_read(&r, &a->content);
    if (a->kind == HM_ASSET_NAME)
        a->expires_ms = hm_rd_u64(&r);
    a->seq = hm_rd_u64(&r);
    a->created_ms = hm_rd_u64(&r);
    a->updated_ms = hm_rd_u64(&r);
    a->updated_height = hm_rd_u64(&r);
    a->revision = hm_rd_u32(&r);
    if (hm_rd_end(&r) != HM_OK)
        return hm_fail(HM_E_CORRUPT, "the ledger's record of an asset is damaged");
    hm_overlay_addr(&a->owner, a->number, a->addr);
    return HM_OK;
}

// ---- payloads -----------------------------------------------------------------------------------

// Well-formed UTF-8 (RFC 3629) without control characters.
static bool text_is_clean(hm_bytes s)
{
    for (size_t i = 0; i < s.len;) {
        uint8_t c = s.ptr[i];
        unsigned more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : (c & 0xf0) == 0xe0 ? 2 : 3;
        if (c < 0x20 || c == 0x7f || (c >= 0x80 && c < 0xc2) || c > 0xf4 || i + more >= s.len)
            return false;
        uint32_t code = more == 0 ? c : c & (0x3fu >> more);
        for (unsigned k = 1; k <= more; k++) {
            if ((s.ptr[i + k] & 0xc0) != 0x80)
                return false;
            code = code << 6 | (s.ptr[i + k] & 0x3fu);
        }
        bool overlong = (more == 2 && code < 0x800) || (more == 3 && code < 0x10000);
        if (overlong || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ||
            (code >= 0x80 && code < 0xa0))
            return false;
        i += more + 1;
    }
    return true;
}

static hm_err commitment_check(const hm_commitment *c)
{
    if (c->chunk_bytes == 0 || c->chunk_count > HM_ASSET_CHUNKS_MAX ||
        c->size > (uint64_t)c->chunk_bytes * HM_ASSET_CHUNKS_MAX ||
        c->chunk_count != (c->size + c->chunk_bytes - 1) / c->chunk_bytes)
        return hm_fail(HM_E_OP_PAYLOAD, "the content's size, chunk size and chunk count disagree");
    return HM_OK;
}

static hm_err register_check(const hm_asset_register *r)
{
    if (hm_asset_kind_name(r->kind) == NULL)
        return hm_fail(HM_E_OP_PAYLOAD, "asset kind %u is unknown", r->kind);
    if (r->name.len == 0 || r->name.len > HM_ASSET_NAME_MAX)
        return hm_fail(HM_E_OP_PAYLOAD, "an asset's name has 1 to %u bytes", HM_ASSET_NAME_MAX);
    if (!text_is_clean(r->name))
        return hm_fail(HM_E_OP_PAYLOAD, "an asset's name is UTF-8 text without control characters");
    bool may =
        r->kind == HM_ASSET_DATA || r->kind == HM_ASSET_CONTAINER || r->kind == HM_ASSET_SERVICE;
    if (r->kind == HM_ASSET_DATA && !r->has_content)
        return hm_fail(HM_E_OP_PAYLOAD, "a data asset needs a content");
    if (r->has_content && !may)
        return hm_fail(HM_E_OP_PAYLOAD, "an asset of kind %s has no content",
                       hm_asset_kind_name(r->kind));
    return r->has_content ? commitment_check(&r->content) : HM_OK;
}

static hm_err policy_check(const hm_asset_policy *p)
{
    if (p->grant_count > HM_ASSET_GRANTS_MAX)
        return hm_fail(HM_E_OP_PAYLOAD, "a policy has at most %u grants", HM_ASSET_GRANTS_MAX);
    for (uint32_t i = 1; i < p->grant_count; i++)
        if (memcmp(p->grants[i - 1].node.b, p->grants[i].node.b, HM_HASH_BYTES) >= 0)
            return hm_fail(HM_E_OP_PAYLOAD, "a policy names each node once, in rising order");
    return HM_OK;
}

hm_err hm_asset_register_encode(const hm_asset_register *r, hm_buf *payload)
{
    HM_TRY(register_check(r));
    HM_TRY(policy_check(&r->policy));
    hm_wr_u8(payload, r->kind);
    hm_wr_bytes(payload, r->name);
    policy_write(payload, &r->policy);
    hm_wr_bool(payload, r->has_content);
    if (r->has_content)
        commitment_write(payload, &r->content);
    if (r->kind == HM_ASSET_NAME) {
        hm_wr_u32(payload, r->life_s);
        hm_wr_bytes(payload, r->records);
    }
    return hm_buf_status(payload);
}

hm_err hm_asset_register_decode(hm_bytes payload, hm_asset_register *out)
{
    hm_rd r = hm_rd_of(payload);
    memset(out, 0, sizeof *out);
    out->kind = hm_rd_u8(&r);
    out->name = hm_rd_bytes(&r, HM_ASSET_NAME_MAX);
    asset_policy_read(&r, &out->policy);
    out->has_content = hm_rd_bool(&r);
    if (out->has_content)
        commitment_read(&r, &out->content);
    if (out->kind == HM_ASSET_NAME) {
        out->life_s = hm_rd_u32(&r);
        out->records = hm_rd_bytes(&r, DNS_RECORDS_BYTES_MAX);
    }
    if (hm_rd_end(&r) != HM_OK)
        return hm_fail(HM_E_OP_PAYLOAD, "the payload is not a registration: %s",
                       hm_err_text(hm_rd_end(&r)));
    return register_check(out);
}

void hm_asset_transfer_encode(const hm_node_id *to, hm_buf *payload)
{
    hm_wr_raw(payload, to->b, HM_HASH_BYTES);
}

void hm_asset_set_state_encode(uint8_t state, hm_buf *payload)
{
    hm_wr_u8(payload, state);
}

hm_err hm_asset_set_policy_encode(const hm_asset_policy *p, hm_buf *payload)
{
    HM_TRY(policy_check(p));
    policy_write(payload, p);
    return hm_buf_status(payload);
}
