// What stays: contents that assets on the ledger refer to, on all the members that should hold
// them.
//
// Each block's new assets are told to the content store, which keeps their contents; what was
// uploaded and no asset came to refer to is collected after a while. A manifest that is not here is
// fetched from others. Each member is offered what it should hold when it comes up, and again from
// time to time, and is sent what it lacks. Of what it claims to have, one chunk of each lot is
// asked for at random.
#include <stdio.h>
#include <stdlib.h>

#include "mesh/node_internal.h"

#define REPAIR_BACKLOG (4u << 20)
#define OFFER_EVERY_US 600000000u
#define WANTED_EVERY_US 10000000u
#define COLLECT_EVERY_US 60000000u

// ---- following the ledger -----------------------------------------------------------------------

typedef struct follow {
    hm_node *node;
    uint64_t newest;
} follow;

static hm_err follow_asset(void *ctx, const hm_asset *a)
{
    follow *f = ctx;
    if (a->seq <= f->node->content_followed)
        return HM_E_AGAIN; // from here on all were told of
    if (a->seq > f->newest)
        f->newest = a->seq;
    return a->has_content ? hm_content_keep(f->node->content, &a->content, node_wall_ms()) : HM_OK;
}

void keep_committed(hm_node *n)
{
    static const hm_asset_filter all;
    follow f = {.node = n};
    uint64_t cursor = UINT64_MAX;
    hm_err err = HM_OK;
    while (err == HM_OK && cursor != 0)
        err = hm_asset_list(hm_ledger_tip(n->ledger), &all, &cursor, 1000, follow_asset, &f);
    if ((err == HM_OK || err == HM_E_AGAIN) && f.newest > n->content_followed)
        err = hm_content_followed_set(n->content, f.newest);
    if (err != HM_OK && err != HM_E_AGAIN)
        hm_log(HM_LOG_WARN, "mesh", "contents cannot be kept yet", "reason=\"%s\"",
               hm_err_text(err)); // after the next block it is tried again
    else if (f.newest > n->content_followed)
        n->content_followed = f.newest;
}

// ---- manifests that are not here ----------------------------------------------------------------

static void wanted_got(void *ctx, hm_err err, const char *detail, hm_bytes manifest, bool last)
{
    hm_node *n = ctx;
    (void)detail, (void)last;
    if (err == HM_OK)
        err = content_put(n, n->self, true, &n->wanted_after, manifest);
    if (err != HM_OK)
        hm_log(HM_LOG_DEBUG, "mesh", "no manifest of a content", "reason=\"%s\"", hm_err_text(err));
    hm_node_get_close(n->wanted_get);
    n->wanted_get = NULL;
}

static void wanted_step(hm_node *n, uint64_t now_us)
{
    static const hm_hash no_asset; // a manifest is for every member
    hm_commitment content;
    const hm_hash *after = hm_hash_is_zero(&n->wanted_after) ? NULL : &n->wanted_after;
    if (n->wanted_get != NULL || now_us < n->wanted_at_us || n->closing)
        return;
    if (hm_content_wanted(n->content, after, &content) != HM_OK) { // all were tried
        n->wanted_after = (hm_hash){0};
        n->wanted_at_us = now_us + WANTED_EVERY_US;
        return;
    }
    n->wanted_after = content.root;
    if (hm_node_get_begin(n, &no_asset, &content, &n->wanted_get) == HM_OK)
        hm_node_get_manifest(n->wanted_get, wanted_got, n);
}

// ---- repair -------------------------------------------------------------------------------------

bool keep_should_hold(const hm_node *n, uint32_t index, bool manifest, const hm_hash *hash)
{
    uint32_t order[100];
    if (manifest)
        return true;
    hm_placement(hash, n->ids, n->count, order);
    for (uint32_t i = 0; i < content_copies(n); i++)
        if (order[i] == index)
            return true;
    return false;
}

// One of the chunks that were offered, such as this node may be given.
static hm_hash probe_choose(hm_node *n, const hm_hash *list, uint32_t count)
{
    uint32_t at = (uint32_t)(hm_random_u64(&hm_random_system) % count);
    for (uint32_t i = 0; i < count; i++, at++)
        if (keep_should_hold(n, n->self, false, &list[at % count]))
            return list[at % count];
    return (hm_hash){0};
}

// Offers the next lot of addresses that the peer should hold: the manifests first, from which it
// knows that the chunks are to stay.
static void offer_more(hm_node *n, uint32_t index)
{
    static hm_hash list[MSG_HASHES_MAX];
    node_peer *p = &n->peers[index];
    while (p->offering && !p->offer_waits && peer_is_up(n, index) &&
           peer_backlog(n, index, LANE_BULK) < REPAIR_BACKLOG) {
        size_t got = hm_content_list(n->content, p->offer_manifests,
                                     hm_hash_is_zero(&p->offered) ? NULL : &p->offered, list,
                                     MSG_HASHES_MAX);
        if (got == 0) {
            p->offered = (hm_hash){0};
            p->offering = p->offer_manifests;
            p->offer_manifests = false;
            continue;
        }
        p->offered = list[got - 1];
        uint32_t count = 0;
        for (size_t i = 0; i < got; i++)
            if (keep_should_hold(n, index, p->offer_manifests, &list[i]))
                list[count++] = list[i];
        if (count == 0)
            continue;
        node_message m = {.type = MSG_HAVE_GET,
                          .manifest = p->offer_manifests,
                          .count = count,
                          .list = hm_bytes_of(list, count * sizeof list[0])};
        p->probe = p->offer_manifests ? (hm_hash){0} : probe_choose(n, list, count);
        p->offer_waits = peer_send(n, index, LANE_BULK, &m);
        if (!p->offer_waits)
            return;
    }
}

void keep_have_get(hm_node *n, uint32_t from, const node_message *asked)
{
    hm_buf list = {0};
    node_message m = {.type = MSG_HAVE, .manifest = asked->manifest};
    for (uint32_t i = 0; i < asked->count; i++) {
        hm_hash h = node_msg_hash(asked, i);
        if (m.manifest ? hm_content_has_manifest(n->content, &h) : hm_content_has(n->content, &h))
            continue;
        hm_wr_raw(&list, h.b, HM_HASH_BYTES);
        m.count++;
    }
    m.list = hm_buf_bytes(&list);
    if (hm_buf_status(&list) == HM_OK)
        (void)peer_send(n, from, LANE_BULK, &m);
    hm_buf_free(&list);
}

void keep_send(hm_node *n, uint32_t to, bool manifest, const hm_hash *hash)
{
    hm_buf bytes = {0};
    // Request 0: nobody waits for the answer.
    node_message m = {.type = MSG_CHUNK_PUT, .manifest = manifest, .hash = *hash};
    hm_err err = content_get(n, manifest, hash, &bytes);
    m.bytes = hm_buf_bytes(&bytes);
    if (err == HM_OK && peer_send(n, to, LANE_BULK, &m))
        n->counts[COUNT_CHUNKS_REPAIRED]++;
    hm_buf_free(&bytes);
}

void keep_have(hm_node *n, uint32_t from, const node_message *m)
{
    node_peer *p = &n->peers[from];
    uint32_t sent = 0;
    if (!p->offer_waits)
        return; // no answer: nothing was offered to it
    for (; sent < m->count; sent++) {
        // Only what fits; the rest is offered again from where the peer stands.
        if (peer_backlog(n, from, LANE_BULK) > 8 * REPAIR_BACKLOG)
            break;
        hm_hash h = node_msg_hash(m, sent);
        if (!keep_should_hold(n, from, m->manifest, &h))
            continue; // it was not offered
        keep_send(n, from, m->manifest, &h);
        if (hm_hash_eq(&h, &p->probe))
            p->probe = (hm_hash){0}; // it does not claim that one
    }
    if (sent > 0) {
        hm_node_event e = {.peer = n->ids[from], .count = sent};
        node_event(n, HM_EVENT_REPAIR, &e, "%u %s copied to %s", sent,
                   m->manifest ? "manifests" : "chunks", n->genesis->validators[from].name);
    }
    if (sent < m->count)
        p->offered = (hm_hash){0}; // begin again: what arrived is not offered twice
    p->offer_waits = false;
    if (sent == m->count && !hm_hash_is_zero(&p->probe))
        content_probe(n, from, &p->probe);
    offer_more(n, from);
}

// ---- events -------------------------------------------------------------------------------------

static void offer_all(hm_node *n, uint32_t index)
{
    node_peer *p = &n->peers[index];
    p->offering = p->offer_manifests = true;
    p->offer_waits = false;
    p->offered = (hm_hash){0};
    p->offer_at_us = node_now_us() + OFFER_EVERY_US;
    offer_more(n, index);
}

void keep_peer_up(hm_node *n, uint32_t index)
{
    offer_all(n, index);
}

void keep_drained(hm_node *n, uint32_t index)
{
    offer_more(n, index);
}

void keep_tick(hm_node *n, uint64_t now_us)
{
    for (uint32_t i = 0; i < n->count; i++)
        if (peer_is_up(n, i) && !n->peers[i].offering && now_us >= n->peers[i].offer_at_us)
            offer_all(n, i);
    wanted_step(n, now_us);
    if (now_us < n->collect_at_us)
        return;
    n->collect_at_us = now_us + COLLECT_EVERY_US;
    hm_err err = hm_content_collect(n->content, node_wall_ms(), n->upload_keep_ms);
    if (err != HM_OK)
        hm_log(HM_LOG_WARN, "mesh", "old uploads cannot be collected", "reason=\"%s\"",
               hm_err_text(err));
}
