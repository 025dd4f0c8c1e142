#include "server/dns_feed.h"

#include <stdlib.h>

#define NEGATIVE_TTL_S 30u
#define REFRESH_S 3600u
#define CHANGES_AT_ONCE 1024u

struct dns_feed {
    dns_feed_config cfg;
    dns_name apex;
    hm_op_location after; // the newest change that was pushed
    uint64_t subscription;
    bool submitting, key_known, closed;
    hm_hash foreigns; // of those that were pushed
};

void dns_change_free(dns_change *c)
{
    hm_buf_free(&c->records);
    free(c);
}

const dns_name *dns_feed_apex(const dns_feed *f)
{
    return &f->apex;
}

typedef struct batch {
    dns_feed *f;
    hm_view *view;
    hm_list changes;
    uint64_t time_ms;
} batch;

static hm_err change_add(batch *b, const dns_name *name, dns_change **out)
{
    dns_change *c = calloc(1, sizeof *c);
    if (c == NULL)
        return HM_E_NOMEM;
    c->name = *name;
    c->expires_ms = HM_TIME_NEVER;
    hm_list_append(&b->changes, &c->link);
    *out = c;
    return HM_OK;
}

static void batch_free(batch *b)
{
    hm_list_each(it, &b->changes)
    {
        hm_list_remove(it);
        dns_change_free(hm_container_of(it, dns_change, link));
    }
}

// ---- names --------------------------------------------------------------------------------------

static hm_err add_name(void *ctx, const hm_asset *a, hm_bytes records)
{
    batch *b = ctx;
    dns_name whole;
    dns_change *c;
    HM_TRY(hm_name_check(hm_bytes_of(a->name, a->name_len), &b->f->apex, &whole));
    HM_TRY(change_add(b, &whole, &c));
    c->there = hm_name_is_published(a, 0); // its end is the zone's to watch
    c->expires_ms = a->expires_ms;
    hm_buf_put(&c->records, records);
    return hm_buf_status(&c->records);
}

static hm_err add_changed(void *ctx, hm_bytes name)
{
    batch *b = ctx;
    hm_asset a;
    hm_bytes records;
    dns_name whole;
    dns_change *c;
    if (name.len == 0)
        return HM_OK; // a key: the apex is made anew with every batch
    hm_err err = hm_name_find(b->view, name, &a, &records);
    if (err == HM_OK)
        return add_name(b, &a, records);
    if (err != HM_E_NOTFOUND)
        return err;
    HM_TRY(hm_name_check(name, &b->f->apex, &whole));
    return change_add(b, &whole, &c);
}

// ---- the apex and the members -------------------------------------------------------------------

static hm_err member_name(const batch *b, const char *name, dns_name *out)
{
    char text[128];
    dns_name n;
    hm_buf t = hm_buf_fixed(text, sizeof text);
    hm_buf_puts(&t, name);
    hm_buf_puts(&t, "." HM_NAME_NODES);
    HM_TRY(hm_buf_status(&t));
    HM_TRY(dns_name_parse(hm_buf_bytes(&t), &n));
    return dns_name_join(&n, &b->f->apex, out);
}

static hm_err add_key(const batch *b, hm_bytes key, const dns_name *server, hm_buf *apex)
{
    uint8_t dnskey[DNS_DNSKEY_BYTES], ds[DNS_DS_BYTES];
    dns_dnskey_rdata(key.ptr, dnskey);
    dns_ds_rdata(&b->f->apex, dnskey, ds);
    const dns_record records[] = {
        {DNS_TYPE_NS, DNS_TTL_DEFAULT, hm_bytes_of(server->wire, server->len)},
        {DNS_TYPE_DNSKEY, DNS_TTL_DEFAULT, hm_bytes_of(dnskey, sizeof dnskey)},
        {DNS_TYPE_CDNSKEY, DNS_TTL_DEFAULT, hm_bytes_of(dnskey, sizeof dnskey)},
        {DNS_TYPE_CDS, DNS_TTL_DEFAULT, hm_bytes_of(ds, sizeof ds)},
    };
    for (size_t i = 0; i < sizeof records / sizeof records[0]; i++)
        HM_TRY(dns_records_add(apex, &records[i]));
    return HM_OK;
}

// The serial number is the height of the newest change, so that all nodes have the same.
static hm_err add_soa(const batch *b, const dns_name *primary, hm_buf *apex)
{
    uint8_t mem[2 * DNS_NAME_MAX + 20];
    hm_buf soa = hm_buf_fixed(mem, sizeof mem);
    dns_name label, mail;
    hm_op_location newest;
    HM_TRY(hm_name_newest(b->view, &newest));
    HM_TRY(dns_name_parse(hm_bytes_str("hostmaster"), &label));
    HM_TRY(dns_name_join(&label, &b->f->apex, &mail));
    hm_buf_append(&soa, primary->wire, primary->len);
    hm_buf_append(&soa, mail.wire, mail.len);
    hm_wr_u32(&soa, (uint32_t)newest.height);
    hm_wr_u32(&soa, REFRESH_S);
    hm_wr_u32(&soa, REFRESH_S / 6);
    hm_wr_u32(&soa, 7 * 86400);
    hm_wr_u32(&soa, NEGATIVE_TTL_S);
    HM_TRY(hm_buf_status(&soa));
    return dns_records_add(apex, &(dns_record){DNS_TYPE_SOA, NEGATIVE_TTL_S, hm_buf_bytes(&soa)});
}

static hm_err add_member(batch *b, const hm_node_peer *p, hm_buf *apex, dns_name *primary)
{
    dns_name name;
    dns_change *c;
    hm_bytes key;
    hm_member m;
    HM_TRY(member_name(b, p->name, &name));
    HM_TRY(change_add(b, &name, &c));
    c->there = true;
    const hm_bytes addr = hm_bytes_of(&p->addr.sin6_addr, sizeof p->addr.sin6_addr);
    HM_TRY(dns_records_add(&c->records, &(dns_record){DNS_TYPE_AAAA, DNS_TTL_DEFAULT, addr}));
    HM_TRY(hm_member_find(b->view, &p->id, &m));
    hm_err err = hm_zone_key(b->view, &p->id, &key);
    if (err == HM_E_NOTFOUND || m.stake == 0)
        return HM_OK; // it does not serve the zone, or may not
    HM_TRY(err);
    if (primary->len == 0)
        *primary = name;
    return add_key(b, key, &name, apex);
}

static hm_err add_apex(batch *b)
{
    hm_node_peer peers[HM_GENESIS_VALIDATORS_MAX];
    dns_name primary = {0};
    dns_change *c;
    size_t n = hm_node_get_peers(b->f->cfg.node, peers, HM_GENESIS_VALIDATORS_MAX);
    HM_TRY(change_add(b, &b->f->apex, &c));
    c->there = true;
    for (size_t i = 0; i < n && i < HM_GENESIS_VALIDATORS_MAX; i++)
        HM_TRY(add_member(b, &peers[i], &c->records, &primary));
    return add_soa(b, primary.len > 0 ? &primary : &b->f->apex, &c->records);
}

// ---- this member's key --------------------------------------------------------------------------

static void free_when_idle(dns_feed *f)
{
    if (f->closed && !f->submitting)
        free(f);
}

static void submitted(void *ctx, hm_err err, const char *detail, const hm_node_receipt *receipt)
{
    dns_feed *f = ctx;
    f->submitting = false;
    if (err == HM_OK)
        hm_log(HM_LOG_INFO, "dns", "zone key recorded", "height=%llu",
               (unsigned long long)receipt->height);
    else if (err != HM_E_CLOSED)
        hm_log(HM_LOG_WARN, "dns", "zone key not recorded", "reason=\"%s: %s\"", hm_err_text(err),
               detail);
    free_when_idle(f);
}

static void watch_key(dns_feed *f, const hm_view *view)
{
    hm_node_status st;
    hm_bytes key;
    if (f->key_known || f->submitting)
        return;
    hm_node_get_status(f->cfg.node, &st);
    if (hm_zone_key(view, &st.id, &key) == HM_OK &&
        hm_bytes_eq(key, hm_bytes_of(f->cfg.public_key, DNS_PUBLIC_BYTES))) {
        f->key_known = true;
        return;
    }
    hm_buf payload = {0};
    hm_zone_key_encode(f->cfg.public_key, &payload);
    const hm_node_request req = {.module = HM_MODULE_ASSET,
                                 .kind = HM_ASSET_ZONE_KEY,
                                 .payload = hm_buf_bytes(&payload),
                                 .patient = true};
    // What is refused is tried again after the next block.
    f->submitting = hm_buf_status(&payload) == HM_OK &&
                    hm_node_submit(f->cfg.node, &req, submitted, f) == HM_OK;
    hm_buf_free(&payload);
}

// ---- life ---------------------------------------------------------------------------------------

static uint64_t time_of(const hm_view *v)
{
    const hm_block_header *h = hm_view_header(v);
    return h != NULL ? h->time_ms : hm_view_genesis(v)->time_ms;
}

// ---- foreign roots ------------------------------------------------------------------------------

// Which there are, and since when: a new certificate, zone or prefix comes in another block.
static hm_hash foreigns_hash(const hm_foreign *all, uint32_t count)
{
    uint8_t mem[1 + HM_TRUST_FOREIGN_MAX * (HM_HASH_BYTES + 8u)];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u8(&b, (uint8_t)count); // none is not nothing
    for (uint32_t i = 0; i < count; i++) {
        hm_wr_raw(&b, all[i].id.b, HM_HASH_BYTES);
        hm_wr_u64(&b, all[i].since_height);
    }
    return hm_sha256(hm_buf_bytes(&b));
}

static hm_err push_foreigns(dns_feed *f, const hm_view *view)
{
    hm_foreign all[HM_TRUST_FOREIGN_MAX];
    uint32_t count = 0;
    if (f->cfg.foreigns == NULL)
        return HM_OK;
    HM_TRY(hm_trust_foreigns(view, time_of(view), all, &count));
    const hm_hash now = foreigns_hash(all, count);
    if (hm_hash_eq(&now, &f->foreigns))
        return HM_OK;
    f->foreigns = now;
    f->cfg.foreigns(f->cfg.ctx, all, count);
    return HM_OK;
}

static hm_err push_all(dns_feed *f, hm_view *view)
{
    batch b = {.f = f, .view = view, .time_ms = time_of(view)};
    hm_list_init(&b.changes);
    hm_err err = hm_name_newest(view, &f->after);
    if (err == HM_OK)
        err = hm_name_each(view, add_name, &b);
    if (err == HM_OK)
        err = add_apex(&b);
    if (err == HM_OK)
        f->cfg.push(f->cfg.ctx, &b.changes, b.time_ms);
    batch_free(&b);
    return err;
}

static hm_err push_changes(dns_feed *f, hm_view *view)
{
    batch b = {.f = f, .view = view, .time_ms = time_of(view)};
    hm_op_location after = f->after;
    uint32_t count = CHANGES_AT_ONCE;
    bool any = false;
    hm_err err = HM_OK;
    hm_list_init(&b.changes);
    while (err == HM_OK && count == CHANGES_AT_ONCE) {
        err = hm_name_changes(view, &after, CHANGES_AT_ONCE, &count, add_changed, &b);
        any |= count > 0;
    }
    if (err == HM_OK && any)
        err = add_apex(&b);
    if (err == HM_OK) {
        f->after = after;
        f->cfg.push(f->cfg.ctx, &b.changes, b.time_ms);
    }
    batch_free(&b);
    return err;
}

static void on_event(void *ctx, const hm_node_event *e)
{
    dns_feed *f = ctx;
    if (e->type != HM_EVENT_FINAL)
        return;
    hm_view *view = hm_ledger_tip(hm_node_ledger(f->cfg.node));
    hm_err err = push_changes(f, view);
    if (err == HM_OK)
        err = push_foreigns(f, view);
    if (err != HM_OK)
        hm_log(HM_LOG_ERROR, "dns", "the zone is behind the ledger", "reason=\"%s: %s\"",
               hm_err_text(err), hm_err_detail());
    watch_key(f, view);
}

hm_err dns_feed_open(const dns_feed_config *cfg, dns_feed **out)
{
    dns_feed *f = calloc(1, sizeof *f);
    if (f == NULL)
        return HM_E_NOMEM;
    f->cfg = *cfg;
    hm_view *view = hm_ledger_tip(hm_node_ledger(cfg->node));
    hm_err err = hm_zone_apex(hm_view_genesis(view)->name, &f->apex);
    if (err == HM_OK)
        err = push_all(f, view);
    if (err == HM_OK)
        err = push_foreigns(f, view);
    if (err == HM_OK)
        err = hm_node_subscribe(cfg->node, on_event, f, &f->subscription);
    if (err != HM_OK) {
        free(f);
        return err;
    }
    watch_key(f, view);
    *out = f;
    return HM_OK;
}

void dns_feed_close(dns_feed *f)
{
    if (f == NULL)
        return;
    hm_node_unsubscribe(f->cfg.node, f->subscription);
    f->closed = true;
    free_when_idle(f);
}
