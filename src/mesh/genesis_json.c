// The genesis and its parts as JSON, for people and for the files that members hand to each other.
#include <arpa/inet.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "mesh/genesis.h"
#include "mesh/json_out.h"

static bool put_address(yyjson_mut_doc *doc, yyjson_mut_val *obj, const hm_genesis_validator *v)
{
    char host[INET6_ADDRSTRLEN];
    return inet_ntop(AF_INET6, v->host, host, sizeof host) != NULL &&
           yyjson_mut_obj_add_strcpy(doc, obj, "mesh_host", host) &&
           yyjson_mut_obj_add_uint(doc, obj, "mesh_port", v->port) &&
           yyjson_mut_obj_add_strcpy(doc, obj, "api", v->api);
}

hm_err hm_join_to_json(const hm_genesis_validator *v, hm_buf *json)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL)
        return HM_E_NOMEM;
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, o);
    bool ok = yyjson_mut_obj_add_strcpy(doc, o, "name", v->name) &&
              mesh_json_base64(doc, o, "public_key", v->public_key) &&
              mesh_json_base64(doc, o, "certificate", v->cert) &&
              yyjson_mut_obj_add_uint(doc, o, "stake", v->stake) && put_address(doc, o, v) &&
              yyjson_mut_obj_add_uint(doc, o, "sector", v->sector) &&
              mesh_json_hash(doc, o, "columns", &v->commitment.columns) &&
              mesh_json_hash(doc, o, "labels", &v->commitment.labels) &&
              yyjson_mut_obj_add_uint(doc, o, "seal_nonce", v->commitment.nonce);
    yyjson_mut_val *parts = yyjson_mut_obj_add_arr(doc, o, "seal");
    for (uint32_t i = 0; ok && parts != NULL && i < v->seal_count; i++) {
        yyjson_mut_val *part = yyjson_mut_obj(doc);
        ok = mesh_json_base64(doc, part, "part", v->seal_parts[i]) &&
             yyjson_mut_arr_append(parts, part);
    }
    return mesh_json_end(doc, ok && parts != NULL, json);
}

static hm_err bad_field(const char *key, const char *want)
{
    return hm_fail(HM_E_PARSE, "join file: \"%s\" must be %s", key, want);
}

static hm_err get_base64(yyjson_val *obj, const char *key, size_t max, hm_arena *arena,
                         hm_bytes *out)
{
    yyjson_val *v = yyjson_obj_get(obj, key);
    size_t len = yyjson_get_len(v);
    if (!yyjson_is_str(v) || len == 0 || len % 4 != 0 || len / 4 * 3 > max + 2)
        return bad_field(key, "base64 text");
    uint8_t *mem = hm_arena_alloc(arena, len / 4 * 3);
    if (mem == NULL)
        return HM_E_NOMEM;
    const char *text = yyjson_get_str(v);
    int n = EVP_DecodeBlock(mem, (const unsigned char *)text, (int)len);
    if (n < 0)
        return bad_field(key, "base64 text");
    for (size_t i = len; i > 0 && text[i - 1] == '=' && len - i < 2; i--)
        n--;
    *out = hm_bytes_of(mem, (size_t)n);
    return HM_OK;
}

static hm_err get_uint(yyjson_val *obj, const char *key, uint64_t max, uint64_t *out)
{
    yyjson_val *v = yyjson_obj_get(obj, key);
    if (!yyjson_is_uint(v) || yyjson_get_uint(v) > max)
        return bad_field(key, "a whole number within its limits");
    *out = yyjson_get_uint(v);
    return HM_OK;
}

static hm_err get_text(yyjson_val *obj, const char *key, char *out, size_t cap)
{
    yyjson_val *v = yyjson_obj_get(obj, key);
    size_t len = yyjson_get_len(v);
    if (!yyjson_is_str(v) || len >= cap || strlen(yyjson_get_str(v)) != len)
        return bad_field(key, "a short text");
    memcpy(out, yyjson_get_str(v), len + 1);
    return HM_OK;
}

static hm_err get_hash(yyjson_val *obj, const char *key, hm_hash *out)
{
    yyjson_val *v = yyjson_obj_get(obj, key);
    if (!yyjson_is_str(v) ||
        hm_unhex(out->b, HM_HASH_BYTES, yyjson_get_str(v), yyjson_get_len(v)) != HM_OK)
        return bad_field(key, "64 hexadecimal digits");
    return HM_OK;
}

static hm_err join_read(yyjson_val *o, hm_arena *arena, hm_genesis_validator *v)
{
    if (!yyjson_is_obj(o))
        return hm_fail(HM_E_PARSE, "join file: not a JSON object");
    uint64_t port = 0, sector = 0;
    char host[INET6_ADDRSTRLEN];
    HM_TRY(get_text(o, "name", v->name, sizeof v->name));
    HM_TRY(get_base64(o, "public_key", HM_FALCON_PUBLIC_BYTES, arena, &v->public_key));
    HM_TRY(get_base64(o, "certificate", HM_CERT_DER_MAX, arena, &v->cert));
    HM_TRY(get_uint(o, "stake", UINT64_MAX, &v->stake));
    HM_TRY(get_text(o, "mesh_host", host, sizeof host));
    if (inet_pton(AF_INET6, host, v->host) != 1)
        return bad_field("mesh_host", "an IPv6 address");
    HM_TRY(get_uint(o, "mesh_port", 65535, &port));
    HM_TRY(get_text(o, "api", v->api, sizeof v->api));
    HM_TRY(get_uint(o, "sector", UINT32_MAX, &sector));
    v->port = (uint16_t)port;
    v->sector = (uint32_t)sector;
    HM_TRY(get_hash(o, "columns", &v->commitment.columns));
    HM_TRY(get_hash(o, "labels", &v->commitment.labels));
    HM_TRY(get_uint(o, "seal_nonce", UINT64_MAX, &v->commitment.nonce));
    yyjson_val *seal = yyjson_obj_get(o, "seal");
    if (!yyjson_is_arr(seal) || yyjson_arr_size(seal) > HM_SPACE_PARTS_MAX)
        return bad_field("seal", "a list of parts");
    v->seal_count = (uint32_t)yyjson_arr_size(seal);
    v->seal_parts = hm_arena_array(arena, v->seal_count + 1u, sizeof *v->seal_parts);
    if (v->seal_parts == NULL)
        return HM_E_NOMEM;
    for (uint32_t i = 0; i < v->seal_count; i++)
        HM_TRY(get_base64(yyjson_arr_get(seal, i), "part", HM_SPACE_PART_MAX, arena,
                          &v->seal_parts[i]));
    return HM_OK;
}

hm_err hm_join_from_json(hm_bytes json, hm_arena *arena, hm_genesis_validator *out)
{
    yyjson_doc *doc = yyjson_read((const char *)json.ptr, json.len, 0);
    if (doc == NULL)
        return hm_fail(HM_E_PARSE, "join file: not JSON");
    hm_genesis_validator v = {0};
    hm_err err = join_read(yyjson_doc_get_root(doc), arena, &v);
    yyjson_doc_free(doc);
    if (err == HM_OK)
        *out = v;
    return err;
}

static bool put_params(yyjson_mut_doc *doc, yyjson_mut_val *root, const hm_genesis_params *p)
{
    yyjson_mut_val *o = yyjson_mut_obj_add_obj(doc, root, "params");
    yyjson_mut_val *s = yyjson_mut_obj(doc);
    return o != NULL && s != NULL &&
           yyjson_mut_obj_add_uint(doc, o, "epoch_blocks", p->epoch_blocks) &&
           yyjson_mut_obj_add_uint(doc, o, "beacon_blocks", p->beacon_blocks) &&
           yyjson_mut_obj_add_uint(doc, o, "time_bits", p->time_bits) &&
           yyjson_mut_obj_add_uint(doc, o, "time_iterations", p->time_iterations) &&
           yyjson_mut_obj_add_uint(doc, o, "time_max_age", p->time_max_age) &&
           yyjson_mut_obj_add_uint(doc, o, "target_ops", p->target_ops) &&
           yyjson_mut_obj_add_uint(doc, o, "min_stake", p->min_stake) &&
           yyjson_mut_obj_add_uint(doc, o, "chunk_bytes", p->chunk_bytes) &&
           yyjson_mut_obj_add_uint(doc, o, "replicas", p->replicas) &&
           yyjson_mut_obj_add_val(doc, o, "space", s) &&
           yyjson_mut_obj_add_uint(doc, s, "nodes_log2", p->space.nodes_log2) &&
           yyjson_mut_obj_add_uint(doc, s, "layers", p->space.layers) &&
           yyjson_mut_obj_add_uint(doc, s, "drg_parents", p->space.drg_parents) &&
           yyjson_mut_obj_add_uint(doc, s, "exp_log2", p->space.exp_log2) &&
           yyjson_mut_obj_add_uint(doc, s, "seal_challenges", p->space.seal_challenges) &&
           yyjson_mut_obj_add_uint(doc, s, "seal_grind_bits", p->space.seal_grind_bits) &&
           yyjson_mut_obj_add_uint(doc, s, "answer_challenges", p->space.answer_challenges);
}

static bool put_validator(yyjson_mut_doc *doc, yyjson_mut_val *o, const hm_genesis_validator *v)
{
    hm_node_id id;
    if (hm_genesis_node_id(v, &id) != HM_OK)
        return false;
    hm_hash cert = hm_sha256(v->cert);
    hm_sha256_ctx sha;
    hm_sha256_init(&sha);
    for (uint32_t i = 0; i < v->seal_count; i++)
        hm_sha256_update(&sha, v->seal_parts[i]);
    hm_hash seal = hm_sha256_final(&sha);
    return yyjson_mut_obj_add_strcpy(doc, o, "name", v->name) &&
           mesh_json_hash(doc, o, "node", &id) &&
           yyjson_mut_obj_add_uint(doc, o, "stake", v->stake) && put_address(doc, o, v) &&
           mesh_json_hash(doc, o, "certificate_sha256", &cert) &&
           yyjson_mut_obj_add_uint(doc, o, "sector", v->sector) &&
           mesh_json_hash(doc, o, "labels", &v->commitment.labels) &&
           mesh_json_hash(doc, o, "columns", &v->commitment.columns) &&
           mesh_json_hash(doc, o, "seal_sha256", &seal);
}

hm_err hm_genesis_to_json(const hm_genesis *g, hm_buf *json)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    if (doc == NULL)
        return HM_E_NOMEM;
    yyjson_mut_val *o = yyjson_mut_obj(doc);
    yyjson_mut_doc_set_root(doc, o);
    hm_hash root = hm_sha256(g->root_cert);
    bool ok = yyjson_mut_obj_add_strcpy(doc, o, "name", g->name) &&
              mesh_json_hash(doc, o, "chain_id", &g->chain_id) &&
              yyjson_mut_obj_add_uint(doc, o, "time_ms", g->time_ms) &&
              mesh_json_hash(doc, o, "root_certificate_sha256", &root) &&
              put_params(doc, o, &g->params);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, o, "validators");
    ok = ok && list != NULL;
    for (uint32_t i = 0; ok && i < g->count; i++) {
        yyjson_mut_val *v = yyjson_mut_arr_add_obj(doc, list);
        ok = v != NULL && put_validator(doc, v, &g->validators[i]);
    }
    return mesh_json_end(doc, ok, json);
}
