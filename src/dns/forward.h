// Questions about other zones, handed on to servers that know: the core, which does no I/O. Those
// who ask the same at the same time wait for one answer; what was answered is in the cache.
//
// Life: who asks has a dns_wait, in memory of its own, from dns_forward_ask() until done() or
// dns_forward_leave(). The owner's send() is called for a slot, and tells of it by
// dns_forward_answer() or dns_forward_failed(), which tries the next server.
//
// One thread. Limits: DNS_FORWARD_SLOTS questions under way, DNS_FORWARD_WAITS who wait for them.
#ifndef HM_DNS_FORWARD_H
#define HM_DNS_FORWARD_H

#include "base/list.h"
#include "dns/cache.h"

#define DNS_FORWARD_SLOTS 1024u
#define DNS_FORWARD_WAITS 4096u
#define DNS_FORWARD_TRY_MS 3000u
#define DNS_FORWARD_TRIES 3u

typedef struct dns_forward dns_forward;

typedef struct dns_wait {
    hm_list link;         // in a slot
    dns_forward *forward; // whose
    dns_msg query;        // without its bytes
    dns_way way;
    // The answer is borrowed for the call; the wait is over.
    void (*done)(struct dns_wait *w, hm_bytes answer);
} dns_wait;

typedef struct dns_forward_config {
    unsigned servers; // at least 1
    // Sends a query to a server, 0 to servers - 1. After a failure the next
    // tick goes on.
    hm_err (*send)(void *ctx, unsigned slot, unsigned server, hm_bytes query);
    // The slot's query is not waited for any more.
    void (*forget)(void *ctx, unsigned slot);
    void *ctx;               // borrowed
    const hm_random *random; // borrowed for the call
} dns_forward_config;

HM_CHECK hm_err dns_forward_open(const dns_forward_config *cfg, dns_forward **out);
// Nobody may wait any more. NULL is fine.
void dns_forward_close(dns_forward *f);
// The answer at once, out of the cache or a refusal: its length; or 0: w->done() follows. query
// passed dns_query_check(); out is as of dns_answer().
size_t dns_forward_ask(dns_forward *f, const dns_msg *query, dns_way way, uint64_t now_ms,
                       dns_wait *w, uint8_t *out);
void dns_forward_leave(dns_wait *w);
// The servers are not believed any more: their answers are not kept, and who waits for one is told
// that there is none.
void dns_forward_drop(dns_forward *f, uint64_t now_ms);
// now_ms is wall time.
void dns_forward_answer(dns_forward *f, unsigned slot, hm_bytes answer, uint64_t now_ms);
void dns_forward_failed(dns_forward *f, unsigned slot, uint64_t now_ms);
// A few times a second.
void dns_forward_tick(dns_forward *f, uint64_t now_ms);

typedef struct dns_forward_counters {
    uint64_t asked, from_cache, joined, failed, refused;
    uint32_t under_way;
    size_t cached, cached_bytes;
} dns_forward_counters;
void dns_forward_count(const dns_forward *f, dns_forward_counters *out);

#endif
