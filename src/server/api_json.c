#include "server/api_json.h"

static hm_err copy_text(yyjson_val *obj, const char *name, char *out, size_t size)
{
    hm_bytes t;
    HM_TRY(hm_json_text(obj, name, 1, size - 1, &t));
    memcpy(out, t.ptr, t.len);
    out[t.len] = 0;
    return HM_OK;
}

static hm_err read_rights(yyjson_val *list, uint8_t *out)
{
    static const char *const words[] = {"read", "use", "manage"};
    size_t at, max;
    yyjson_val *v;
    *out = 0;
    if (!yyjson_is_arr(list))
        return hm_fail(HM_E_PARSE, "field \"rights\" must be a list of read, use, manage");
    yyjson_arr_foreach(list, at, max, v)
    {
        size_t i = 0;
        while (i < 3 && !yyjson_equals_str(v, words[i]))
            i++;
        if (i == 3)
            return hm_fail(HM_E_PARSE,
                           "field \"rights\" holds another word than read, use, manage");
        *out |= (uint8_t)(1u << i);
    }
    return *out ? HM_OK : hm_fail(HM_E_PARSE, "field \"rights\" is empty");
}

static hm_err read_grants(yyjson_val *root, api_policy *out)
{
    static const char *const names[] = {"node", "rights", NULL};
    yyjson_val *list = yyjson_obj_get(root, "grants"), *item;
    size_t at, max;
    if (!list)
        return HM_OK;
    if (!yyjson_is_arr(list))
        return hm_fail(HM_E_PARSE, "field \"grants\" must be a list");
    if (yyjson_arr_size(list) > API_GRANTS_MAX)
        return hm_fail(HM_E_LIMIT, "field \"grants\" has more than %u entries", API_GRANTS_MAX);
    yyjson_arr_foreach(list, at, max, item)
    {
        uint8_t node[32], rights;
        if (!yyjson_is_obj(item))
            return hm_fail(HM_E_PARSE, "field \"grants\" must hold objects");
        HM_TRY(hm_json_only(item, names));
        HM_TRY(hm_json_hex(item, "node", node, sizeof(node)));
        HM_TRY(read_rights(yyjson_obj_get(item, "rights"), &rights));
        uint32_t i = out->grant_count;
        while (i && memcmp(out->grants[i - 1].node, node, 32) > 0) {
            out->grants[i] = out->grants[i - 1];
            i--;
        }
        if (i && memcmp(out->grants[i - 1].node, node, 32) == 0)
            return hm_fail(HM_E_PARSE, "field \"grants\" names a node twice");
        memcpy(out->grants[i].node, node, 32);
        out->grants[i].rights = rights;
        out->grant_count++;
    }
    return HM_OK;
}

static hm_err read_policy(yyjson_val *root, bool needed, api_policy *out)
{
    char word[16] = "private";
    if (needed || hm_json_has(root, "policy"))
        HM_TRY(copy_text(root, "policy", word, sizeof(word)));
    out->is_public = strcmp(word, "public") == 0;
    if (!out->is_public && strcmp(word, "private") != 0)
        return hm_fail(HM_E_PARSE, "field \"policy\" must be \"public\" or \"private\"");
    return read_grants(root, out);
}

static hm_err read_content(yyjson_val *root, api_register *out)
{
    static const char *const names[] = {"size", "chunk_bytes", "chunks", "root", NULL};
    yyjson_val *c = yyjson_obj_get(root, "content");
    uint64_t n;
    if (!c || yyjson_is_null(c))
        return HM_OK;
    if (!yyjson_is_obj(c))
        return hm_fail(HM_E_PARSE, "field \"content\" must be an object or null");
    HM_TRY(hm_json_only(c, names));
    HM_TRY(hm_json_u64(c, "size", 0, UINT64_C(1) << 56, &out->content.size));
    HM_TRY(hm_json_u64(c, "chunk_bytes", 1, UINT32_MAX, &n));
    out->content.chunk_bytes = (uint32_t)n;
    HM_TRY(hm_json_u64(c, "chunks", 0, UINT32_MAX, &n));
    out->content.chunks = (uint32_t)n;
    HM_TRY(hm_json_hex(c, "root", out->content.root, 32));
    out->has_content = true;
    return HM_OK;
}

hm_err api_register_read(hm_bytes body, api_register *out)
{
    static const char *const names[] = {"kind", "name", "policy", "grants", "content", NULL};
    yyjson_doc *doc = NULL;
    api_register r = {0};
    hm_err err;
    HM_TRY(hm_json_parse(body, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc);
    HM_TRY_OUT(hm_json_only(root, names));
    HM_TRY_OUT(copy_text(root, "kind", r.kind, sizeof(r.kind)));
    HM_TRY_OUT(copy_text(root, "name", r.name, sizeof(r.name)));
    HM_TRY_OUT(hm_json_name_check(hm_bytes_str(r.name)));
    HM_TRY_OUT(read_policy(root, false, &r.policy));
    HM_TRY_OUT(read_content(root, &r));
    *out = r;
out:
    yyjson_doc_free(doc);
    return err;
}

static hm_err read_records(yyjson_val *root, bool needed, api_records *out)
{
    static const char *const names[] = {"type", "ttl", "data", NULL};
    yyjson_val *list = yyjson_obj_get(root, "records"), *item;
    size_t at, max;
    uint64_t ttl;
    out->count = 0;
    if (!list && !needed)
        return HM_OK;
    if (!yyjson_is_arr(list))
        return hm_fail(HM_E_PARSE, "field \"records\" must be a list");
    if (yyjson_arr_size(list) > API_RECORDS_MAX)
        return hm_fail(HM_E_LIMIT, "field \"records\" has more than %u entries", API_RECORDS_MAX);
    yyjson_arr_foreach(list, at, max, item)
    {
        uint32_t i = out->count;
        if (!yyjson_is_obj(item))
            return hm_fail(HM_E_PARSE, "field \"records\" must hold objects");
        HM_TRY(hm_json_only(item, names));
        HM_TRY(copy_text(item, "type", out->item[i].type, sizeof(out->item[i].type)));
        HM_TRY(copy_text(item, "data", out->item[i].data, sizeof(out->item[i].data)));
        out->item[i].has_ttl = hm_json_has(item, "ttl");
        if (out->item[i].has_ttl) {
            HM_TRY(hm_json_u64(item, "ttl", 0, UINT32_MAX, &ttl));
            out->item[i].ttl = (uint32_t)ttl;
        }
        out->count++;
    }
    return HM_OK;
}

static hm_err read_life(yyjson_val *root, uint32_t *out)
{
    uint64_t n;
    HM_TRY(hm_json_u64(root, "life_s", 1, UINT32_MAX, &n));
    *out = (uint32_t)n;
    return HM_OK;
}

hm_err api_name_read(hm_bytes body, api_name *out)
{
    static const char *const names[] = {"name", "records", "life_s", "policy", "grants", NULL};
    yyjson_doc *doc = NULL;
    hm_err err;
    HM_TRY(hm_json_parse(body, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc);
    out->policy = (api_policy){0};
    HM_TRY_OUT(hm_json_only(root, names));
    HM_TRY_OUT(copy_text(root, "name", out->name, sizeof(out->name)));
    out->has_life = hm_json_has(root, "life_s");
    if (out->has_life)
        HM_TRY_OUT(read_life(root, &out->life_s));
    HM_TRY_OUT(read_policy(root, false, &out->policy));
    err = read_records(root, false, &out->records);
out:
    yyjson_doc_free(doc);
    return err;
}

hm_err api_records_read(hm_bytes body, api_records *out)
{
    static const char *const names[] = {"records", NULL};
    yyjson_doc *doc = NULL;
    hm_err err;
    HM_TRY(hm_json_parse(body, &doc));
    HM_TRY_OUT(hm_json_only(yyjson_doc_get_root(doc), names));
    err = read_records(yyjson_doc_get_root(doc), true, out);
out:
    yyjson_doc_free(doc);
    return err;
}

hm_err api_renew_read(hm_bytes body, uint32_t *life_s)
{
    static const char *const names[] = {"life_s", NULL};
    yyjson_doc *doc = NULL;
    hm_err err;
    HM_TRY(hm_json_parse(body, &doc));
    HM_TRY_OUT(hm_json_only(yyjson_doc_get_root(doc), names));
    err = read_life(yyjson_doc_get_root(doc), life_s);
out:
    yyjson_doc_free(doc);
    return err;
}

hm_err api_transfer_read(hm_bytes body, uint8_t to[32])
{
    static const char *const names[] = {"to", NULL};
    yyjson_doc *doc = NULL;
    hm_err err;
    HM_TRY(hm_json_parse(body, &doc));
    HM_TRY_OUT(hm_json_only(yyjson_doc_get_root(doc), names));
    err = hm_json_hex(yyjson_doc_get_root(doc), "to", to, 32);
out:
    yyjson_doc_free(doc);
    return err;
}

hm_err api_state_read(hm_bytes body, char state[32])
{
    static const char *const names[] = {"state", NULL};
    yyjson_doc *doc = NULL;
    hm_err err;
    HM_TRY(hm_json_parse(body, &doc));
    HM_TRY_OUT(hm_json_only(yyjson_doc_get_root(doc), names));
    err = copy_text(yyjson_doc_get_root(doc), "state", state, 32);
out:
    yyjson_doc_free(doc);
    return err;
}

hm_err api_policy_read(hm_bytes body, api_policy *out)
{
    static const char *const names[] = {"policy", "grants", NULL};
    yyjson_doc *doc = NULL;
    api_policy p = {0};
    hm_err err;
    HM_TRY(hm_json_parse(body, &doc));
    HM_TRY_OUT(hm_json_only(yyjson_doc_get_root(doc), names));
    HM_TRY_OUT(read_policy(yyjson_doc_get_root(doc), true, &p));
    *out = p;
out:
    yyjson_doc_free(doc);
    return err;
}

hm_err api_empty_read(hm_bytes body)
{
    static const char *const names[] = {NULL};
    yyjson_doc *doc = NULL;
    if (body.len == 0)
        return HM_OK;
    HM_TRY(hm_json_parse(body, &doc));
    hm_err err = hm_json_only(yyjson_doc_get_root(doc), names);
    yyjson_doc_free(doc);
    return err;
}

hm_err api_csr_read(hm_bytes body, api_csr *out)
{
    static const char *const names[] = {"csr", "profile", "life_seconds", NULL};
    yyjson_doc *doc = NULL;
    uint64_t life_s = 0;
    hm_err err;
    HM_TRY(hm_json_parse(body, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc);
    HM_TRY_OUT(hm_json_only(root, names));
    HM_TRY_OUT(copy_text(root, "csr", out->csr, sizeof(out->csr)));
    HM_TRY_OUT(copy_text(root, "profile", out->profile, sizeof(out->profile)));
    if (hm_json_has(root, "life_seconds"))
        HM_TRY_OUT(hm_json_u64(root, "life_seconds", 1, UINT32_MAX, &life_s));
    out->life_s = (uint32_t)life_s;
out:
    yyjson_doc_free(doc);
    return err;
}

hm_err api_trust_read(hm_bytes body, api_trust *out)
{
    static const char *const names[] = {"certificate", "zone", "prefix", NULL};
    yyjson_doc *doc = NULL;
    hm_err err;
    HM_TRY(hm_json_parse(body, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc);
    out->zone[0] = out->prefix[0] = 0;
    HM_TRY_OUT(hm_json_only(root, names));
    HM_TRY_OUT(copy_text(root, "certificate", out->certificate, sizeof out->certificate));
    if (hm_json_has(root, "zone"))
        HM_TRY_OUT(copy_text(root, "zone", out->zone, sizeof out->zone));
    if (hm_json_has(root, "prefix"))
        HM_TRY_OUT(copy_text(root, "prefix", out->prefix, sizeof out->prefix));
out:
    yyjson_doc_free(doc);
    return err;
}

static hm_err read_signature(yyjson_val *root, api_renewal *out)
{
    hm_bytes hex;
    HM_TRY(hm_json_text(root, "signature", 2, 2 * sizeof(out->signature), &hex));
    out->signature_len = hex.len / 2;
    return hm_json_hex(root, "signature", out->signature, out->signature_len);
}

hm_err api_renewal_read(hm_bytes body, api_renewal *out)
{
    static const char *const names[] = {"serial", "time_ms", "csr", "signature", NULL};
    yyjson_doc *doc = NULL;
    hm_err err;
    HM_TRY(hm_json_parse(body, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc);
    HM_TRY_OUT(hm_json_only(root, names));
    HM_TRY_OUT(hm_json_hex(root, "serial", out->serial, sizeof(out->serial)));
    HM_TRY_OUT(hm_json_u64(root, "time_ms", 0, UINT64_C(1) << 53, &out->time_ms));
    HM_TRY_OUT(copy_text(root, "csr", out->csr, sizeof(out->csr)));
    err = read_signature(root, out);
out:
    yyjson_doc_free(doc);
    return err;
}

hm_err api_revoke_read(hm_bytes body, char reason[32])
{
    static const char *const names[] = {"reason", NULL};
    yyjson_doc *doc = NULL;
    hm_err err;
    strcpy(reason, "unspecified");
    if (body.len == 0)
        return HM_OK;
    HM_TRY(hm_json_parse(body, &doc));
    HM_TRY_OUT(hm_json_only(yyjson_doc_get_root(doc), names));
    if (hm_json_has(yyjson_doc_get_root(doc), "reason"))
        err = copy_text(yyjson_doc_get_root(doc), "reason", reason, 32);
out:
    yyjson_doc_free(doc);
    return err;
}
