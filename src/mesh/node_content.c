// Contents over the mesh: putting with copies, reading with checks, and repair.
//
// A put streams into chunks. Each chunk is stored here and sent to members in the order of its
// placement until enough copies are known to be on disk; the manifest at the end goes to all. A get
// reads each chunk here, or asks members in the order of placement. What stays, and what each
// member should hold, is the matter of node_keep.c.
#include <stdio.h>
#include <stdlib.h>

#include "mesh/node_internal.h"

#define PUT_WINDOW 32u // chunks of one put under way at a time
#define ASK_TIMEOUT_US 8000000u
#define ASK_LAST_US 60000000u
#define DISK_RESERVE (UINT64_C(1) << 30) // left to the ledger, whatever others store here

// One address that must come to be on enough nodes, or that is being fetched.
typedef struct ask {
    hm_list link; // in node.unsynced, then in node.sync_asks, while its copy here is not durable
    struct hm_node *node;
    bool manifest, fetching;
    hm_hash hash, asset; // asset and index: as what a chunk is fetched
    uint32_t index;
    hm_buf bytes;         // what is to be stored elsewhere
    uint32_t order[100];  // members by placement, without this one
    uint32_t count, next; // how many, and who is asked next
    uint32_t have, want, asked;
    bool here; // stored and synced on this node
    struct hm_node_put *put;
    struct hm_node_get *get;
    bool probe;   // fetched of the one member that claims to have it, to see whether it has
    bool refused; // it did not give it
} ask;

// One question to one member.
typedef struct node_request {
    ask *ask;
    uint32_t peer;
    uint64_t since_us;
    uint64_t id;
} node_request;

struct hm_node_put {
    hm_list link; // in node.puts
    hm_node *node;
    hm_buf chunk, manifest;
    uint64_t size;
    uint32_t under_way;
    bool finished, manifest_out, ended;
    hm_err err;
    char detail[200];
    hm_commitment commitment;
    void (*drained)(void *);
    void *drained_ctx;
    hm_node_put_cb done;
    void *ctx;
};

struct hm_node_get {
    hm_list link; // in node.gets
    hm_node *node;
    hm_hash asset;
    hm_commitment commitment;
    hm_buf manifest;
    bool has_manifest, waiting, local;
    bool only_manifest; // that is what is asked for
    uint32_t index;
    ask *ask;
    hm_node_get_cb done;
    void *ctx;
};

typedef struct stored_ack {
    hm_list link; // in node.stored_acks: sent once what it speaks of is synced
    uint32_t peer;
    uint64_t request;
} stored_ack;

static void ask_last(hm_node *n, uint32_t peer);
static void put_advance(hm_node_put *p);
static void get_result(hm_node_get *g, hm_err err, hm_bytes bytes);

// ---- asks ---------------------------------------------------------------------------------------

uint32_t content_copies(const hm_node *n)
{
    uint32_t r = n->genesis->params.replicas;
    return r < n->count ? r : n->count;
}

static ask *ask_make(hm_node *n, bool manifest, const hm_hash *hash)
{
    ask *a = calloc(1, sizeof *a);
    if (a == NULL)
        return NULL;
    uint32_t order[100];
    hm_list_init(&a->link);
    a->node = n;
    a->manifest = manifest;
    a->hash = *hash;
    a->want = content_copies(n);
    hm_placement(hash, n->ids, n->count, order);
    uint64_t now = node_now_us();
    for (int last = 0; last < 2; last++)
        for (uint32_t i = 0; i < n->count; i++)
            if (order[i] != n->self && (n->peers[order[i]].content_last_until_us > now) == last)
                a->order[a->count++] = order[i];
    return a;
}

// Who does not answer, or not with what was asked for, is asked last for a while: else each chunk
// that it should hold would have to wait for it.
static void ask_last(hm_node *n, uint32_t peer)
{
    n->peers[peer].content_last_until_us = node_now_us() + ASK_LAST_US;
}

static void requests_forget(hm_node *n, const ask *a)
{
    for (;;) {
        size_t pos = 0;
        const uint8_t *key;
        void *value;
        node_request *found = NULL;
        while (found == NULL && hm_map_next(&n->requests, &pos, &key, &value))
            if (((node_request *)value)->ask == a)
                found = value;
        if (found == NULL)
            return;
        (void)hm_map_remove(&n->requests, &found->id);
        free(found);
    }
}

static void ask_free(ask *a)
{
    requests_forget(a->node, a);
    hm_list_remove(&a->link);
    hm_buf_free(&a->bytes);
    free(a);
}

static bool send_question(ask *a, uint32_t peer)
{
    hm_node *n = a->node;
    node_request *q = calloc(1, sizeof *q);
    if (q == NULL)
        return false;
    *q = (node_request){a, peer, node_now_us(), ++n->next_request};
    node_message m = {.type = a->fetching ? MSG_CHUNK_GET : MSG_CHUNK_PUT,
                      .request = q->id,
                      .manifest = a->manifest,
                      .hash = a->hash,
                      .asset = a->asset,
                      .index = a->index,
                      .bytes = hm_buf_bytes(&a->bytes)};
    bool ok = hm_map_put(&n->requests, &q->id, q) == HM_OK;
    if (ok && !peer_send(n, peer, LANE_BULK, &m)) {
        (void)hm_map_remove(&n->requests, &q->id);
        ok = false;
    }
    if (!ok)
        free(q);
    else if (!a->fetching)
        n->counts[COUNT_CHUNKS_SENT]++;
    return ok;
}

// Asks as many members as are still needed; false when nobody is left to ask. Manifests go to all:
// they are small, and tell each which chunks an asset refers to.
static bool ask_more(ask *a)
{
    hm_node *n = a->node;
    uint32_t have = a->have + (a->fetching ? 0 : 1); // this node's own copy
    uint32_t want = a->fetching ? 1 : a->manifest ? n->count : a->want;
    while (have + a->asked < want && a->next < a->count) {
        uint32_t peer = a->order[a->next++];
        if (peer_is_up(n, peer) && send_question(a, peer))
            a->asked++;
    }
    return a->asked > 0 || have >= want;
}

// What a member claims to have it must give when it is asked for; if it does not, it is sent again.
static void probe_settle(ask *a, hm_err err)
{
    hm_node *n = a->node;
    uint32_t peer = a->order[0];
    n->counts[COUNT_CLAIMS_TRUE] += err == HM_OK;
    if (a->refused) {
        n->counts[COUNT_CLAIMS_FALSE]++;
        ask_last(n, peer);
        node_refused(n, COUNT_REFUSED_MESSAGE, &n->ids[peer],
                     "%s says that it has a chunk, and does not give it",
                     n->genesis->validators[peer].name);
        keep_send(n, peer, false, &a->hash);
    }
    ask_free(a);
}

static void ask_settle(ask *a, hm_err err, hm_bytes bytes)
{
    if (a->probe) {
        probe_settle(a, err);
        return;
    }
    hm_node_put *p = a->put;
    hm_node_get *g = a->get;
    if (p != NULL) {
        p->under_way--;
        if (err != HM_OK && p->err == HM_OK) {
            p->err = err;
            snprintf(p->detail, sizeof p->detail, "%.190s", hm_err_detail());
        }
    }
    if (g != NULL) {
        g->ask = NULL;
        hm_buf copy = a->bytes; // bytes may point into it
        a->bytes = (hm_buf){0};
        ask_free(a);
        get_result(g, err, bytes);
        hm_buf_free(&copy);
        return;
    }
    ask_free(a);
    if (p != NULL)
        put_advance(p);
}

// After an answer, a loss or a timeout: done, ask somebody else, or give up.
static void ask_step(ask *a)
{
    if (a->fetching) {
        if (!ask_more(a)) {
            (void)hm_fail(HM_E_NOTFOUND, "no member that is up holds this content");
            ask_settle(a, HM_E_NOTFOUND, (hm_bytes){0});
        }
        return;
    }
    if (a->have + 1 >= a->want) {
        if (a->here)
            ask_settle(a, HM_OK, (hm_bytes){0});
        return;
    }
    if (!ask_more(a) && a->here) {
        (void)hm_fail(HM_E_CHUNK_REPLICAS, "only %u of %u members could store the content",
                      a->have + 1, a->want);
        ask_settle(a, HM_E_CHUNK_REPLICAS, (hm_bytes){0});
    }
}

// NULL when nothing of the kind was asked of that member.
static ask *request_end(hm_node *n, uint64_t id, uint32_t peer, bool fetching)
{
    node_request *q = hm_map_get(&n->requests, &id);
    if (q == NULL || q->peer != peer || q->ask->fetching != fetching)
        return NULL;
    ask *a = q->ask;
    (void)hm_map_remove(&n->requests, &id);
    free(q);
    a->asked--;
    return a;
}

void content_probe(hm_node *n, uint32_t peer, const hm_hash *chunk)
{
    ask *a = ask_make(n, false, chunk);
    if (a == NULL)
        return;
    a->fetching = a->probe = true;
    a->order[0] = peer;
    a->count = 1;
    if (!ask_more(a))
        ask_free(a);
}

// ---- putting ------------------------------------------------------------------------------------

hm_err content_put(hm_node *n, uint32_t from, bool manifest, const hm_hash *hash, hm_bytes bytes)
{
    uint64_t now = node_wall_ms();
    return manifest ? hm_content_put_manifest(n->content, hash, bytes, from, now)
                    : hm_content_put(n->content, hash, bytes, from, now);
}

hm_err content_get(hm_node *n, bool manifest, const hm_hash *hash, hm_buf *out)
{
    return manifest ? hm_content_get_manifest(n->content, hash, out)
                    : hm_content_get(n->content, hash, out);
}

// Stores here and sends out.
static hm_err put_store(hm_node_put *p, bool manifest, const hm_hash *hash, hm_buf *bytes)
{
    hm_node *n = p->node;
    HM_TRY(content_put(n, n->self, manifest, hash, hm_buf_bytes(bytes)));
    ask *a = ask_make(n, manifest, hash);
    if (a == NULL)
        return HM_E_NOMEM;
    a->put = p;
    a->bytes = *bytes;
    *bytes = (hm_buf){0};
    hm_list_append(&n->unsynced, &a->link);
    p->under_way++;
    (void)ask_more(a);
    return HM_OK;
}

static hm_err put_chunk(hm_node_put *p)
{
    hm_hash hash = hm_sha256(hm_buf_bytes(&p->chunk));
    if (p->manifest.len + HM_HASH_BYTES > HM_CONTENT_MANIFEST_MAX)
        return hm_fail(HM_E_LIMIT, "a content of more than %u chunks",
                       HM_CONTENT_MANIFEST_MAX / HM_HASH_BYTES);
    hm_wr_raw(&p->manifest, hash.b, HM_HASH_BYTES);
    HM_TRY(hm_buf_status(&p->manifest));
    return put_store(p, false, &hash, &p->chunk);
}

hm_err hm_node_put_begin(hm_node *n, hm_node_put **out)
{
    if (n->closing)
        return hm_fail(HM_E_CLOSED, "the node is shutting down");
    hm_node_put *p = calloc(1, sizeof *p);
    if (p == NULL)
        return HM_E_NOMEM;
    p->node = n;
    hm_list_append(&n->puts, &p->link);
    *out = p;
    return HM_OK;
}

hm_err hm_node_put_write(hm_node_put *p, hm_bytes data, void (*drained)(void *ctx), void *ctx)
{
    uint32_t chunk_bytes = p->node->genesis->params.chunk_bytes;
    HM_TRY(p->err);
    while (data.len > 0) {
        size_t take = chunk_bytes - p->chunk.len;
        if (take > data.len)
            take = data.len;
        hm_buf_append(&p->chunk, data.ptr, take);
        hm_err err = hm_buf_status(&p->chunk);
        data = hm_bytes_of(data.ptr + take, data.len - take);
        p->size += take;
        if (err == HM_OK && p->chunk.len == chunk_bytes)
            err = put_chunk(p);
        if (err != HM_OK) {
            p->err = err;
            snprintf(p->detail, sizeof p->detail, "%.190s", hm_err_detail());
            return err;
        }
    }
    if (p->under_way < PUT_WINDOW)
        return HM_OK;
    p->drained = drained;
    p->drained_ctx = ctx;
    return HM_E_AGAIN;
}

static void put_free(hm_node_put *p)
{
    hm_list_remove(&p->link);
    hm_buf_free(&p->chunk);
    hm_buf_free(&p->manifest);
    free(p);
}

static hm_err put_manifest(hm_node_put *p)
{
    hm_buf copy = {0};
    p->manifest_out = true;
    HM_TRY(hm_manifest_commit(hm_buf_bytes(&p->manifest), p->size,
                              p->node->genesis->params.chunk_bytes, &p->commitment));
    hm_buf_put(&copy, hm_buf_bytes(&p->manifest));
    hm_err err = hm_buf_status(&copy);
    if (err == HM_OK)
        err = put_store(p, true, &p->commitment.root, &copy);
    hm_buf_free(&copy);
    return err;
}

static void put_advance(hm_node_put *p)
{
    if (p->drained != NULL && p->under_way < PUT_WINDOW / 2) {
        void (*drained)(void *) = p->drained;
        p->drained = NULL;
        drained(p->drained_ctx);
        return; // it may have ended the put
    }
    if (!p->finished || p->under_way > 0)
        return;
    if (p->err == HM_OK && !p->manifest_out) {
        p->err = put_manifest(p);
        if (p->err == HM_OK)
            return;
        snprintf(p->detail, sizeof p->detail, "%.190s", hm_err_detail());
    }
    if (p->done != NULL)
        p->done(p->ctx, p->err, p->detail, p->err == HM_OK ? &p->commitment : NULL);
    put_free(p);
}

void hm_node_put_finish(hm_node_put *p, hm_node_put_cb done, void *ctx)
{
    p->done = done;
    p->ctx = ctx;
    p->finished = true;
    p->drained = NULL;
    if (p->err == HM_OK && p->chunk.len > 0)
        p->err = put_chunk(p);
    if (p->err != HM_OK && p->detail[0] == 0)
        snprintf(p->detail, sizeof p->detail, "%.190s", hm_err_detail());
    p->ended = true; // looked at when the loop next turns
}

void hm_node_put_abort(hm_node_put *p)
{
    p->done = NULL;
    p->drained = NULL;
    p->finished = true;
    p->ended = true;
    if (p->err == HM_OK)
        p->err = HM_E_CLOSED;
}

// ---- reading ------------------------------------------------------------------------------------

hm_err hm_node_get_begin(hm_node *n, const hm_hash *asset, const hm_commitment *commitment,
                         hm_node_get **out)
{
    if (n->closing)
        return hm_fail(HM_E_CLOSED, "the node is shutting down");
    hm_node_get *g = calloc(1, sizeof *g);
    if (g == NULL)
        return HM_E_NOMEM;
    g->node = n;
    g->asset = *asset;
    g->commitment = *commitment;
    hm_list_append(&n->gets, &g->link);
    *out = g;
    return HM_OK;
}

void hm_node_get_next(hm_node_get *g, hm_node_get_cb done, void *ctx)
{
    g->done = done;
    g->ctx = ctx;
    g->waiting = true;
    g->only_manifest = false;
    g->local = true; // looked at when the loop next turns
}

void hm_node_get_manifest(hm_node_get *g, hm_node_get_cb done, void *ctx)
{
    hm_node_get_next(g, done, ctx);
    g->only_manifest = true;
}

void hm_node_get_close(hm_node_get *g)
{
    if (g->ask != NULL) {
        g->ask->get = NULL;
        ask_free(g->ask);
    }
    hm_list_remove(&g->link);
    hm_buf_free(&g->manifest);
    free(g);
}

static void get_give(hm_node_get *g, hm_err err, hm_bytes chunk, bool last)
{
    hm_node_get_cb done = g->done;
    char why[200];
    snprintf(why, sizeof why, "%.190s", err == HM_OK ? "" : hm_err_detail());
    g->waiting = false;
    done(g->ctx, err, why, chunk, last); // it may close g
}

static hm_hash get_hash(const hm_node_get *g)
{
    hm_hash h = g->commitment.root;
    if (g->has_manifest)
        memcpy(h.b, g->manifest.ptr + (size_t)g->index * HM_HASH_BYTES, HM_HASH_BYTES);
    return h;
}

// From this node's store, else from others.
static void get_step(hm_node_get *g)
{
    hm_node *n = g->node;
    hm_buf bytes = {0};
    g->local = false;
    if (g->has_manifest && g->only_manifest) {
        get_give(g, HM_OK, hm_buf_bytes(&g->manifest), false);
        return;
    }
    if (g->has_manifest && g->index >= g->commitment.chunk_count) {
        get_give(g, HM_OK, (hm_bytes){0}, true);
        return;
    }
    hm_hash hash = get_hash(g);
    hm_err err = content_get(n, !g->has_manifest, &hash, &bytes);
    if (err == HM_OK) {
        get_result(g, HM_OK, hm_buf_bytes(&bytes));
    } else {
        ask *a = ask_make(n, !g->has_manifest, &hash);
        if (a == NULL) {
            get_give(g, HM_E_NOMEM, (hm_bytes){0}, true);
        } else {
            a->fetching = true;
            a->asset = g->asset;
            a->index = g->index;
            a->get = g;
            g->ask = a;
            ask_step(a);
        }
    }
    hm_buf_free(&bytes);
}

static void get_result(hm_node_get *g, hm_err err, hm_bytes bytes)
{
    if (err == HM_OK && !g->has_manifest) {
        err = hm_manifest_check(&g->commitment, bytes);
        if (err == HM_OK) {
            hm_buf_put(&g->manifest, bytes);
            g->has_manifest = true;
            g->local = true;
            return;
        }
    }
    if (err == HM_OK && bytes.len != hm_commitment_chunk_len(&g->commitment, g->index))
        err = hm_fail(HM_E_CHUNK_HASH, "a chunk's length is not that of the content");
    if (err == HM_OK)
        g->index++;
    get_give(g, err, bytes, err != HM_OK || g->index == g->commitment.chunk_count);
}

uint32_t hm_node_placement(const hm_node *n, const hm_hash *chunk, uint32_t *order)
{
    hm_placement(chunk, n->ids, n->count, order);
    return content_copies(n);
}

bool hm_node_holds(const hm_node *n, const hm_hash *chunk)
{
    return hm_content_has(n->content, chunk);
}

// ---- messages -----------------------------------------------------------------------------------

static hm_err on_chunk_put(hm_node *n, uint32_t from, const node_message *m)
{
    hm_err err = content_put(n, from, m->manifest, &m->hash, m->bytes);
    stored_ack *ack = err == HM_OK ? calloc(1, sizeof *ack) : NULL;
    if (ack == NULL) { // at once, so that another is asked
        node_message no = {.type = MSG_CHUNK_STORED, .request = m->request};
        if (m->request != 0)
            (void)peer_send(n, from, LANE_BULK, &no);
        return err == HM_OK ? HM_E_NOMEM : err;
    }
    n->counts[COUNT_CHUNKS_RECEIVED]++;
    ack->peer = from;
    ack->request = m->request;
    hm_list_append(&n->stored_acks, &ack->link);
    return HM_OK;
}

static void on_chunk_stored(hm_node *n, uint32_t from, const node_message *m)
{
    ask *a = request_end(n, m->request, from, false);
    if (a == NULL)
        return; // a repair, or it came too late
    a->have += m->ok;
    ask_step(a);
}

// A member is given what it should hold, the manifests of all among that; and the chunks of an
// asset that it has the right to read. HM_E_NOTFOUND when this node knows too little of the asset
// to say.
static hm_err may_get(hm_node *n, uint32_t from, const node_message *asked)
{
    hm_asset a;
    hm_hash chunk;
    if (keep_should_hold(n, from, asked->manifest, &asked->hash))
        return HM_OK;
    hm_err err = hm_asset_get(hm_ledger_tip(n->ledger), &asked->asset, &a);
    if (err == HM_OK && !a.has_content)
        err = HM_E_NOTFOUND;
    if (err == HM_OK)
        err = hm_content_chunk_at(n->content, &a.content.root, asked->index, &chunk);
    HM_TRY(err);
    if (!hm_hash_eq(&chunk, &asked->hash))
        return hm_fail(HM_E_DENIED, "%s asks for a chunk that is not of the asset it names",
                       n->genesis->validators[from].name);
    if ((hm_asset_rights(&a, &n->ids[from]) & HM_RIGHT_READ) == 0)
        return hm_fail(HM_E_DENIED, "%s asks for a chunk of an asset that it may not read",
                       n->genesis->validators[from].name);
    return HM_OK;
}

static hm_err on_chunk_get(hm_node *n, uint32_t from, const node_message *asked)
{
    hm_buf bytes = {0};
    node_message m = {.type = MSG_CHUNK, .request = asked->request};
    hm_err err = may_get(n, from, asked);
    m.ok = err == HM_OK && content_get(n, asked->manifest, &asked->hash, &bytes) == HM_OK;
    m.bytes = hm_buf_bytes(&bytes);
    (void)peer_send(n, from, LANE_BULK, &m);
    hm_buf_free(&bytes);
    // Who is ahead may have rights that this node does not know of yet.
    bool ahead = n->peers[from].height > hm_ledger_height(n->ledger);
    return err == HM_E_NOTFOUND || ahead ? HM_OK : err;
}

static hm_err on_chunk(hm_node *n, uint32_t from, const node_message *m)
{
    ask *a = request_end(n, m->request, from, true);
    if (a == NULL)
        return HM_OK;
    if (!m->ok) {
        a->refused = true;
        ask_step(a);
        return HM_OK;
    }
    hm_err err = a->manifest ? hm_manifest_is(&a->hash, m->bytes) : hm_chunk_is(&a->hash, m->bytes);
    if (err != HM_OK) {
        char why[160];
        snprintf(why, sizeof why, "%s", hm_err_detail());
        a->refused = true;
        ask_last(n, from);
        ask_step(a);
        return hm_fail(err, "%s", why);
    }
    hm_buf_put(&a->bytes, m->bytes);
    ask_settle(a, hm_buf_status(&a->bytes), hm_buf_bytes(&a->bytes));
    return HM_OK;
}

void content_message(hm_node *n, uint32_t from, const node_message *m)
{
    hm_err err = HM_OK;
    switch (m->type) {
    case MSG_CHUNK_PUT:
        err = on_chunk_put(n, from, m);
        break;
    case MSG_CHUNK_STORED:
        on_chunk_stored(n, from, m);
        break;
    case MSG_CHUNK_GET:
        err = on_chunk_get(n, from, m);
        break;
    case MSG_CHUNK:
        err = on_chunk(n, from, m);
        break;
    case MSG_HAVE_GET:
        keep_have_get(n, from, m);
        break;
    default:
        keep_have(n, from, m);
    }
    if (err == HM_OK)
        return;
    if (err == HM_E_CHUNK_HASH || err == HM_E_LIMIT) // the rest is this node's own trouble
        peer_annoys(n, from);
    node_refused(n, COUNT_REFUSED_MESSAGE, &n->ids[from], "content of %s: %s",
                 n->genesis->validators[from].name,
                 hm_err_detail()[0] != 0 ? hm_err_detail() : hm_err_text(err));
}

// ---- events -------------------------------------------------------------------------------------

// Ends the questions that match and goes on with their asks.
static void requests_fail(hm_node *n, uint32_t peer, uint64_t older_than_us)
{
    for (;;) {
        size_t pos = 0;
        const uint8_t *key;
        void *value;
        node_request *found = NULL;
        while (found == NULL && hm_map_next(&n->requests, &pos, &key, &value)) {
            node_request *q = value;
            if (q->peer == peer || q->since_us < older_than_us)
                found = q;
        }
        if (found == NULL)
            return;
        if (found->peer != peer)
            ask_last(n, found->peer);
        ask *a = request_end(n, found->id, found->peer, found->ask->fetching);
        ask_step(a);
    }
}

void content_peer_down(hm_node *n, uint32_t index)
{
    requests_fail(n, index, 0);
}

void content_tick(hm_node *n, uint64_t now_us)
{
    keep_tick(n, now_us);
    requests_fail(n, UINT32_MAX, now_us > ASK_TIMEOUT_US ? now_us - ASK_TIMEOUT_US : 0);
}

static void send_stored(hm_node *n, hm_list *acks, bool ok)
{
    hm_list_each(it, acks)
    {
        stored_ack *ack = hm_container_of(it, stored_ack, link);
        node_message m = {.type = MSG_CHUNK_STORED, .request = ack->request, .ok = ok};
        if (ack->request != 0)
            (void)peer_send(n, ack->peer, LANE_BULK, &m);
        hm_list_remove(&ack->link);
        free(ack);
    }
}

static void asks_synced(hm_list *asks, hm_err err)
{
    hm_list_each(it, asks)
    {
        ask *a = hm_container_of(it, ask, link);
        hm_list_remove(it);
        a->here = true;
        if (err != HM_OK)
            ask_settle(a, err, (hm_bytes){0});
        else
            ask_step(a);
    }
}

static void work_on_puts_and_gets(hm_node *n)
{
    hm_list_each(it, &n->puts)
    {
        hm_node_put *p = hm_container_of(it, hm_node_put, link);
        if (p->ended) {
            p->ended = false;
            put_advance(p);
        }
    }
    for (bool again = true; again;) {
        again = false;
        hm_list_each(it, &n->gets)
        {
            hm_node_get *g = hm_container_of(it, hm_node_get, link);
            if (!g->waiting || !g->local)
                continue;
            get_step(g); // may change the list
            again = true;
            break;
        }
    }
}

// ---- to disk ------------------------------------------------------------------------------------
// Waiting for the disk is for a worker thread: for 8 MiB, a put's window, it took 38 ms, and up to
// 89 (bench/content), and this thread has votes to cast meanwhile.

static void sync_run(uv_work_t *w)
{
    hm_node *n = w->data;
    hm_content_sync_run(n->content);
}

static void sync_end(hm_node *n)
{
    hm_err err = hm_content_sync_end(n->content);
    if (err != HM_OK)
        hm_log(HM_LOG_ERROR, "mesh", "content cannot be stored", "reason=\"%s\"", hm_err_detail());
    if (err != HM_OK)
        n->content_followed = hm_content_followed(n->content); // the rest is told again
    send_stored(n, &n->sync_acks, err == HM_OK);
    asks_synced(&n->sync_asks, err);
}

static void sync_done(uv_work_t *w, int status)
{
    hm_node *n = w->data;
    hm_assert(status == 0); // nobody cancels it
    n->works--;
    n->content_syncing = false;
    if (!n->closing)
        sync_end(n);
    else if (hm_content_sync_end(n->content) != HM_OK)
        hm_log(HM_LOG_ERROR, "mesh", "content cannot be stored", "reason=\"%s\"", hm_err_detail());
}

void content_flush(hm_node *n)
{
    work_on_puts_and_gets(n);
    if (n->content_syncing || (!hm_content_dirty(n->content) && hm_list_empty(&n->unsynced) &&
                               hm_list_empty(&n->stored_acks)))
        return;
    hm_list_move_all(&n->unsynced, &n->sync_asks);
    hm_list_move_all(&n->stored_acks, &n->sync_acks);
    hm_content_sync_begin(n->content);
    n->content_work.data = n;
    n->content_syncing = uv_queue_work(n->loop, &n->content_work, sync_run, sync_done) == 0;
    if (n->content_syncing) {
        n->works++;
        return;
    }
    hm_content_sync_run(n->content);
    sync_end(n);
}

// ---- life ---------------------------------------------------------------------------------------

hm_err content_open(hm_node *n, uint64_t upload_bytes)
{
    char dir[4100];
    snprintf(dir, sizeof dir, "%s/content", n->dir);
    hm_map_init(&n->requests, sizeof(uint64_t), 1u << 20, &hm_random_system);
    hm_content_config cfg = {
        .dir = dir, .reserve_bytes = DISK_RESERVE, .upload_bytes = upload_bytes, .self = n->self};
    HM_TRY(hm_content_open(&cfg, &n->content));
    n->content_followed = hm_content_followed(n->content);
    return HM_OK;
}

void content_close(hm_node *n)
{
    send_stored(n, &n->stored_acks, false);
    send_stored(n, &n->sync_acks, false);
    hm_list_move_all(&n->unsynced, &n->sync_asks);
    hm_list_each(it, &n->sync_asks)
    {
        ask_free(hm_container_of(it, ask, link));
    }
    // Questions and their asks: an ask may have several.
    size_t pos = 0;
    const uint8_t *key;
    void *value;
    while (pos = 0, hm_map_next(&n->requests, &pos, &key, &value)) {
        ask *a = ((node_request *)value)->ask;
        if (a->get != NULL)
            a->get->ask = NULL;
        ask_free(a);
    }
    hm_list_each(it, &n->puts)
    {
        put_free(hm_container_of(it, hm_node_put, link));
    }
    hm_list_each(it, &n->gets)
    {
        hm_node_get_close(hm_container_of(it, hm_node_get, link));
    }
    hm_map_free(&n->requests);
    hm_content_close(n->content);
    n->content = NULL;
}
