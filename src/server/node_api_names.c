// Names: what the zone of the mesh is made of, read from the ledger's tip and changed by
// operations.
#include <stdio.h>

#include "mesh/name.h"
#include "server/node_api_internal.h"

static hm_err apex_text(const hm_node_api *a, char out[DNS_NAME_TEXT_MAX])
{
    dns_name apex;
    HM_TRY(hm_zone_apex(hm_view_genesis(api_tip(a))->name, &apex));
    dns_name_text(&apex, out);
    return HM_OK;
}

// ---- reading ------------------------------------------------------------------------------------

static void put_records(hm_buf *b, hm_bytes records)
{
    char word[16];
    dns_record r;
    hm_jw_open(b, "records", '[');
    for (size_t at = 0; dns_records_next(records, &at, &r);) {
        hm_buf data = {0};
        dns_rdata_text(r.type, r.rdata, &data);
        hm_jw_open(b, NULL, '{');
        hm_jw_str(b, "type", dns_type_text(r.type, word));
        hm_jw_u64(b, "ttl", r.ttl);
        hm_jw_text(b, "data", hm_buf_bytes(&data));
        hm_jw_close(b, '}');
        if (hm_buf_status(&data) != HM_OK)
            b->status = hm_buf_status(&data);
        hm_buf_free(&data);
    }
    hm_jw_close(b, ']');
}

static hm_err put_name(const hm_node_api *a, hm_buf *b, const hm_asset *x, hm_bytes records)
{
    char owner[64], zone[DNS_NAME_TEXT_MAX], full[HM_ASSET_NAME_MAX + DNS_NAME_TEXT_MAX + 2];
    HM_TRY(apex_text(a, zone));
    api_node_name(a, &x->owner, owner);
    snprintf(full, sizeof full, "%s.%s", x->name, zone);
    hm_jw_open(b, NULL, '{');
    hm_jw_text(b, "name", hm_bytes_of(x->name, x->name_len));
    hm_jw_str(b, "full", full);
    hm_jw_hex(b, "asset", x->id.b, 32);
    hm_jw_hex(b, "owner", x->owner.b, 32);
    hm_jw_str(b, "owner_name", owner);
    hm_jw_str(b, "state", hm_asset_state_name(x->state));
    hm_jw_bool(b, "published", hm_name_is_published(x, api_block_time(api_tip(a))));
    hm_jw_u64(b, "registered_ms", x->created_ms);
    hm_jw_u64(b, "expires_ms", x->expires_ms);
    put_records(b, records);
    hm_jw_close(b, '}');
    return hm_buf_status(b);
}

struct list_ctx {
    const hm_node_api *a;
    hm_buf *b;
};

static hm_err list_each(void *ctx, const hm_asset *x)
{
    struct list_ctx *l = ctx;
    hm_asset holder;
    hm_bytes records = {0};
    hm_err err = hm_name_find(api_tip(l->a), hm_bytes_of(x->name, x->name_len), &holder, &records);
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    if (err == HM_E_NOTFOUND || !hm_hash_eq(&holder.id, &x->id))
        return HM_OK; // it had the name once
    return put_name(l->a, l->b, x, records);
}

void api_names_list(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_asset_filter f = {.kind = HM_ASSET_NAME};
    hm_node_id owner;
    bool has_owner;
    uint64_t cursor, limit;
    const char *q = hm_http_query(r, "q");
    if (!api_query_owner(a, r, &owner, &has_owner) ||
        !api_query_u64(r, "cursor", UINT64_MAX, UINT64_MAX, &cursor) ||
        !api_query_limit(r, 50, HM_API_PAGE_MAX, &limit))
        return;
    f.owner = has_owner ? &owner : NULL;
    f.name_contains = q ? hm_bytes_str(q) : (hm_bytes){0};
    hm_buf b = {0};
    struct list_ctx l = {a, &b};
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    hm_err err = hm_asset_list(api_tip(a), &f, &cursor, (uint32_t)limit, list_each, &l);
    hm_jw_close(&b, ']');
    char next[24];
    snprintf(next, sizeof(next), "%llu", (unsigned long long)cursor);
    hm_jw_str(&b, "next", cursor ? next : NULL);
    hm_jw_close(&b, '}');
    api_reply_or_refuse(r, err, &b);
}

// The name that the path means, with or without the zone behind it: the part before the zone.
static hm_bytes short_name(const hm_node_api *a, const char *text)
{
    char zone[DNS_NAME_TEXT_MAX];
    size_t len = strlen(text), tail;
    if (len > 0 && text[len - 1] == '.')
        len--;
    if (apex_text(a, zone) != HM_OK)
        return hm_bytes_of(text, len);
    tail = strlen(zone);
    if (len > tail + 1 && text[len - tail - 1] == '.' && memcmp(text + len - tail, zone, tail) == 0)
        len -= tail + 1;
    return hm_bytes_of(text, len);
}

static bool find_name(const hm_node_api *a, hm_http_req *r, hm_asset *x, hm_bytes *records)
{
    hm_err err = hm_name_find(api_tip(a), short_name(a, hm_http_param(r, 0)), x, records);
    if (err == HM_OK)
        return true;
    hm_http_reply_err(r, err, err == HM_E_NOTFOUND ? "nobody has this name" : hm_err_detail());
    return false;
}

void api_name_get(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_asset x;
    hm_bytes records;
    hm_buf b = {0};
    if (find_name(a, r, &x, &records))
        api_reply_or_refuse(r, put_name(a, &b, &x, records), &b);
}

static hm_err put_key(hm_buf *b, const hm_node_peer *p, const dns_name *apex, hm_bytes key)
{
    uint8_t dnskey[DNS_DNSKEY_BYTES], ds[DNS_DS_BYTES];
    hm_buf text = {0};
    dns_dnskey_rdata(key.ptr, dnskey);
    dns_ds_rdata(apex, dnskey, ds);
    hm_jw_open(b, NULL, '{');
    hm_jw_hex(b, "node", p->id.b, 32);
    hm_jw_str(b, "name", p->name);
    hm_jw_u64(b, "tag", dns_key_tag(hm_bytes_of(dnskey, sizeof dnskey)));
    dns_rdata_text(DNS_TYPE_DNSKEY, hm_bytes_of(dnskey, sizeof dnskey), &text);
    hm_jw_text(b, "dnskey", hm_buf_bytes(&text));
    hm_err err = hm_buf_status(&text);
    hm_buf_reset(&text);
    dns_rdata_text(DNS_TYPE_DS, hm_bytes_of(ds, sizeof ds), &text);
    hm_jw_text(b, "ds", hm_buf_bytes(&text));
    hm_jw_close(b, '}');
    err = err == HM_OK ? hm_buf_status(&text) : err;
    hm_buf_free(&text);
    return err == HM_OK ? hm_buf_status(b) : err;
}

static hm_err put_zone(const hm_node_api *a, hm_buf *b)
{
    hm_node_peer peers[HM_GENESIS_VALIDATORS_MAX];
    char text[DNS_NAME_TEXT_MAX];
    dns_name apex;
    hm_op_location newest;
    HM_TRY(hm_zone_apex(hm_view_genesis(api_tip(a))->name, &apex));
    HM_TRY(hm_name_newest(api_tip(a), &newest));
    hm_jw_open(b, NULL, '{');
    hm_jw_str(b, "zone", dns_name_text(&apex, text));
    hm_jw_u64(b, "serial", (uint32_t)newest.height);
    hm_jw_open(b, "keys", '[');
    size_t n = hm_node_get_peers(a->node, peers, HM_GENESIS_VALIDATORS_MAX);
    for (size_t i = 0; i < n && i < HM_GENESIS_VALIDATORS_MAX; i++) {
        hm_bytes key;
        hm_err err = hm_zone_key(api_tip(a), &peers[i].id, &key);
        if (err == HM_OK)
            HM_TRY(put_key(b, &peers[i], &apex, key));
        else if (err != HM_E_NOTFOUND)
            return err;
    }
    hm_jw_close(b, ']');
    hm_jw_close(b, '}');
    return hm_buf_status(b);
}

void api_zone(void *ctx, hm_http_req *r)
{
    hm_buf b = {0};
    api_reply_or_refuse(r, put_zone(ctx, &b), &b);
}

// ---- writing ------------------------------------------------------------------------------------

static hm_err records_of(const api_records *in, hm_buf *out)
{
    for (uint32_t i = 0; i < in->count; i++) {
        hm_buf data = {0};
        dns_record r = {.type = dns_type_parse(hm_bytes_str(in->item[i].type)),
                        .ttl = in->item[i].has_ttl ? in->item[i].ttl : DNS_TTL_DEFAULT};
        hm_err err = dns_rdata_parse(r.type, hm_bytes_str(in->item[i].data), &data);
        r.rdata = hm_buf_bytes(&data);
        if (err == HM_OK)
            err = dns_records_add(out, &r);
        hm_buf_free(&data);
        HM_TRY(err);
    }
    return HM_OK;
}

void api_names_register(void *ctx, hm_http_req *r)
{
    static api_name in; // large; the loop's thread alone
    hm_node_api *a = ctx;
    hm_buf records = {0}, payload = {0};
    hm_err err = api_name_read(hm_http_body(r), &in);
    if (err == HM_OK)
        err = records_of(&in.records, &records);
    if (err == HM_OK) {
        hm_asset_register reg = {.kind = HM_ASSET_NAME,
                                 .name = short_name(a, in.name),
                                 .life_s = in.has_life ? in.life_s : HM_NAME_LIFE_DEFAULT_S,
                                 .records = hm_buf_bytes(&records)};
        api_policy_of(&in.policy, &reg.policy);
        err = hm_asset_register_encode(&reg, &payload);
    }
    if (err == HM_OK)
        api_asset_submit(a, r, HM_ASSET_REGISTER, NULL, &payload);
    else
        api_refuse(r, err);
    hm_buf_free(&records);
    hm_buf_free(&payload);
}

void api_name_records(void *ctx, hm_http_req *r)
{
    static api_records in;
    hm_asset x;
    hm_bytes had;
    hm_buf records = {0}, payload = {0};
    hm_err err = api_records_read(hm_http_body(r), &in);
    if (err == HM_OK)
        err = records_of(&in, &records);
    if (err != HM_OK) {
        api_refuse(r, err);
    } else if (find_name(ctx, r, &x, &had)) {
        hm_name_set_records_encode(hm_buf_bytes(&records), &payload);
        api_asset_submit(ctx, r, HM_ASSET_SET_RECORDS, &x.id, &payload);
    }
    hm_buf_free(&records);
    hm_buf_free(&payload);
}

void api_name_renew(void *ctx, hm_http_req *r)
{
    hm_asset x;
    hm_bytes records;
    uint32_t life_s;
    hm_buf payload = {0};
    hm_err err = api_renew_read(hm_http_body(r), &life_s);
    if (err != HM_OK) {
        api_refuse(r, err);
    } else if (find_name(ctx, r, &x, &records)) {
        hm_name_renew_encode(life_s, &payload);
        api_asset_submit(ctx, r, HM_ASSET_RENEW, &x.id, &payload);
    }
    hm_buf_free(&payload);
}
