#include "dns/forward.h"

#include <stdlib.h>

#include "base/random.h"

typedef struct slot {
    bool used;
    unsigned server, tries;
    uint64_t until_ms; // of this try
    dns_msg query;     // of the first who asked; without bytes
    hm_list waits;
} slot;

struct dns_forward {
    dns_forward_config cfg;
    dns_cache *cache;
    unsigned best; // the server that answered last
    uint32_t waiting;
    dns_forward_counters n;
    uint8_t out[DNS_MSG_MAX];
    slot slots[DNS_FORWARD_SLOTS];
};

hm_err dns_forward_open(const dns_forward_config *cfg, dns_forward **out)
{
    hm_assert(cfg->servers > 0);
    dns_forward *f = calloc(1, sizeof *f);
    if (f == NULL)
        return HM_E_NOMEM;
    f->cfg = *cfg;
    f->cfg.random = NULL;
    hm_err err = dns_cache_open(cfg->random, &f->cache);
    if (err != HM_OK) {
        free(f);
        return err;
    }
    *out = f;
    return HM_OK;
}

void dns_forward_close(dns_forward *f)
{
    if (f == NULL)
        return;
    hm_assert(f->waiting == 0);
    dns_cache_close(f->cache);
    free(f);
}

static bool same_question(const dns_msg *a, const dns_msg *b)
{
    return a->type == b->type && a->klass == b->klass && a->dnssec_ok == b->dnssec_ok &&
           (a->flags & DNS_CD) == (b->flags & DNS_CD) && dns_name_eq(&a->name, &b->name);
}

// A server that cannot be asked is as one that does not answer, but at once: the next tick goes on.
static void send_query(dns_forward *f, slot *s, uint64_t now_ms)
{
    uint8_t query[DNS_QUERY_MAX];
    size_t len = dns_query_write(query, 0, DNS_RD | (s->query.flags & DNS_CD), &s->query.name,
                                 s->query.type, s->query.dnssec_ok, true);
    hm_err err =
        f->cfg.send(f->cfg.ctx, (unsigned)(s - f->slots), s->server, hm_bytes_of(query, len));
    s->until_ms = err == HM_OK ? now_ms + DNS_FORWARD_TRY_MS : now_ms;
    s->tries++;
}

// Lets everybody who waits have the answer, or that there is none (no bytes). Who is told may ask
// anew, even in this very slot.
static void end(dns_forward *f, slot *s, hm_bytes answer, uint64_t now_ms)
{
    while (!hm_list_empty(&s->waits)) {
        dns_wait *w = hm_container_of(s->waits.next, dns_wait, link);
        size_t len;
        hm_list_remove(&w->link);
        f->waiting--;
        if (answer.len == 0 || dns_cache_take(f->cache, &w->query, answer, w->way, now_ms / 1000,
                                              f->out, &len) != HM_OK)
            len = dns_refuse(&w->query, w->way, DNS_SERVFAIL, DNS_EDE_NETWORK, f->out);
        w->done(w, hm_bytes_of(f->out, len));
    }
    s->used = false;
    f->n.under_way--;
}

static void try_on(dns_forward *f, slot *s, uint64_t now_ms)
{
    if (s->tries >= DNS_FORWARD_TRIES) {
        f->n.failed++;
        end(f, s, (hm_bytes){0}, now_ms);
        return;
    }
    s->server = (s->server + 1) % f->cfg.servers;
    send_query(f, s, now_ms);
}

size_t dns_forward_ask(dns_forward *f, const dns_msg *query, dns_way way, uint64_t now_ms,
                       dns_wait *w, uint8_t *out)
{
    slot *s = NULL, *spare = NULL;
    f->n.asked++;
    size_t len = dns_cache_get(f->cache, query, way, now_ms / 1000, out);
    if (len > 0) {
        f->n.from_cache++;
        return len;
    }
    for (unsigned i = 0; s == NULL && i < DNS_FORWARD_SLOTS; i++)
        if (f->slots[i].used && same_question(&f->slots[i].query, query))
            s = &f->slots[i];
        else if (!f->slots[i].used && spare == NULL)
            spare = &f->slots[i];
    if (f->waiting >= DNS_FORWARD_WAITS || (s == NULL && spare == NULL)) {
        f->n.refused++;
        return dns_refuse(query, way, DNS_SERVFAIL, -1, out);
    }
    w->query = *query;
    w->query.bytes = (hm_bytes){0};
    w->way = way;
    w->forward = f;
    if (s == NULL) {
        s = spare;
        *s = (slot){.used = true, .server = f->best, .query = w->query};
        hm_list_init(&s->waits);
        f->n.under_way++;
        send_query(f, s, now_ms);
    } else {
        f->n.joined++;
    }
    hm_list_append(&s->waits, &w->link);
    f->waiting++;
    return 0;
}

void dns_forward_leave(dns_wait *w)
{
    hm_list_remove(&w->link);
    w->forward->waiting--;
}

void dns_forward_drop(dns_forward *f, uint64_t now_ms)
{
    dns_cache_clear(f->cache);
    for (unsigned i = 0; i < DNS_FORWARD_SLOTS; i++) {
        slot *s = &f->slots[i];
        if (!s->used)
            continue;
        f->cfg.forget(f->cfg.ctx, i);
        f->n.failed++;
        end(f, s, (hm_bytes){0}, now_ms);
    }
}

static slot *slot_at(dns_forward *f, unsigned i)
{
    hm_assert(i < DNS_FORWARD_SLOTS);
    return f->slots[i].used ? &f->slots[i] : NULL;
}

void dns_forward_answer(dns_forward *f, unsigned i, hm_bytes answer, uint64_t now_ms)
{
    slot *s = slot_at(f, i);
    size_t len;
    if (s == NULL)
        return;
    if (dns_cache_take(f->cache, &s->query, answer, DNS_BY_TCP, now_ms / 1000, f->out, &len) !=
        HM_OK) {
        try_on(f, s, now_ms);
        return;
    }
    f->best = s->server;
    end(f, s, answer, now_ms);
}

void dns_forward_failed(dns_forward *f, unsigned i, uint64_t now_ms)
{
    slot *s = slot_at(f, i);
    if (s != NULL)
        try_on(f, s, now_ms);
}

void dns_forward_tick(dns_forward *f, uint64_t now_ms)
{
    for (unsigned i = 0; f->n.under_way > 0 && i < DNS_FORWARD_SLOTS; i++) {
        slot *s = &f->slots[i];
        if (!s->used || now_ms < s->until_ms)
            continue;
        f->cfg.forget(f->cfg.ctx, i);
        try_on(f, s, now_ms);
    }
}

void dns_forward_count(const dns_forward *f, dns_forward_counters *out)
{
    *out = f->n;
    out->cached = dns_cache_count(f->cache);
    out->cached_bytes = dns_cache_bytes(f->cache);
}
