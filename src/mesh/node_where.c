// Who holds which chunks: a question to every member, and the answer to theirs.
#include <stdlib.h>

#include "mesh/node_internal.h"

#define WHERE_TIMEOUT_US 2000000u

struct hm_node_where {
    hm_list link; // in node.wheres until done was called
    hm_node *node;
    uint64_t request, since_us;
    uint32_t count, waiting;
    enum { UNASKED, ASKED, ANSWERED } members[HM_GENESIS_VALIDATORS_MAX];
    bool *held; // owned: count for each member
    hm_node_where_cb done;
    void *ctx;
};

hm_err hm_node_where_begin(hm_node *n, const hm_hash *chunks, uint32_t count, hm_node_where_cb done,
                           void *ctx, hm_node_where **out)
{
    uint32_t open = 0;
    hm_assert(count > 0 && count <= HM_NODE_WHERE_CHUNKS_MAX);
    if (n->closing)
        return hm_fail(HM_E_CLOSED, "the node is shutting down");
    hm_list_each(it, &n->wheres)
    {
        open++;
    }
    if (open == HM_NODE_WHERES_MAX)
        return hm_fail(HM_E_BUSY, "too many ask where chunks are");
    hm_node_where *w = calloc(1, sizeof *w);
    bool *held = calloc((size_t)n->count * count, sizeof *held);
    if (w == NULL || held == NULL) {
        free(w);
        free(held);
        return HM_E_NOMEM;
    }
    *w = (hm_node_where){.node = n,
                         .request = ++n->next_request,
                         .since_us = node_now_us(),
                         .count = count,
                         .held = held,
                         .done = done,
                         .ctx = ctx};
    hm_list_append(&n->wheres, &w->link);
    const node_message m = {.type = MSG_WHERE_GET,
                            .request = w->request,
                            .count = count,
                            .list = hm_bytes_of(chunks, (size_t)count * HM_HASH_BYTES)};
    for (uint32_t i = 0; i < n->count; i++)
        if (i != n->self && peer_is_up(n, i) && peer_send(n, i, LANE_BULK, &m)) {
            w->members[i] = ASKED;
            w->waiting++;
        }
    w->members[n->self] = ANSWERED;
    for (uint32_t k = 0; k < count; k++)
        held[(size_t)n->self * count + k] = hm_content_has(n->content, &chunks[k]);
    *out = w;
    return HM_OK;
}

bool hm_node_where_answered(const hm_node_where *w, uint32_t member)
{
    return w->members[member] == ANSWERED;
}

bool hm_node_where_holds(const hm_node_where *w, uint32_t member, uint32_t chunk)
{
    hm_assert(chunk < w->count && member < w->node->count);
    return w->held[(size_t)member * w->count + chunk];
}

void hm_node_where_close(hm_node_where *w)
{
    hm_list_remove(&w->link);
    free(w->held);
    free(w);
}

static void finish(hm_node_where *w)
{
    hm_list_remove(&w->link);
    w->done(w->ctx);
}

void where_get(hm_node *n, uint32_t from, const node_message *m)
{
    bool held[MSG_HASHES_MAX];
    for (uint32_t i = 0; i < m->count; i++) {
        hm_hash h = node_msg_hash(m, i);
        held[i] = hm_content_has(n->content, &h);
    }
    const node_message answer = {.type = MSG_WHERE,
                                 .request = m->request,
                                 .count = m->count,
                                 .list = hm_bytes_of(held, m->count)};
    (void)peer_send(n, from, LANE_BULK, &answer);
}

void where_answer(hm_node *n, uint32_t from, const node_message *m)
{
    hm_list_each(it, &n->wheres)
    {
        hm_node_where *w = hm_container_of(it, hm_node_where, link);
        if (w->request != m->request || w->members[from] != ASKED)
            continue;
        if (m->count != w->count) {
            node_refused(n, COUNT_REFUSED_MESSAGE, &n->ids[from],
                         "%s answers for %u chunks where %u were asked for",
                         n->genesis->validators[from].name, m->count, w->count);
            return;
        }
        memcpy(&w->held[(size_t)from * w->count], m->list.ptr, w->count);
        w->members[from] = ANSWERED;
        if (--w->waiting == 0)
            finish(w);
        return;
    }
}

void where_peer_down(hm_node *n, uint32_t index)
{
    hm_list_each(it, &n->wheres)
    {
        hm_node_where *w = hm_container_of(it, hm_node_where, link);
        if (w->members[index] == ASKED) {
            w->members[index] = UNASKED;
            w->waiting--; // the tick finishes it
        }
    }
}

void where_tick(hm_node *n, uint64_t now_us)
{
    for (bool again = true; again;) {
        again = false;
        hm_list_each(it, &n->wheres)
        {
            hm_node_where *w = hm_container_of(it, hm_node_where, link);
            if (w->waiting > 0 && now_us < w->since_us + WHERE_TIMEOUT_US)
                continue;
            finish(w); // may change the list
            again = true;
            break;
        }
    }
}
