// Peers over STOQ: who may connect, and messages on two streams.
#include <arpa/inet.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/config.h"
#include "mesh/node_internal.h"
#include "mesh/node_module.h"

#define BACKLOG_MAX (48u << 20)
#define RETRY_MIN_US 250000u
#define RETRY_MAX_US 1000000u   // for who is not there: asking costs next to nothing
#define FLAP_MAX_US 30000000u   // for who was there: each handshake costs both sides a signature
#define FLAP_LIVED_US 10000000u // a connection that lived so long did not fall at once
#define PING_EVERY_US 1000000u
#define IDLE_MS 5000u
#define TRIAL_US 60000000u // to learn that the authority of a peer is in force
#define HANDSHAKE_MS 3000u // then anew: a node that comes back is not left waiting for long

enum { CLOSE_BYE = 0, CLOSE_REPLACED = 1, CLOSE_MESSAGE = 2, CLOSE_BACKLOG = 3, CLOSE_REVOKED = 4 };

// ---- who may connect ----------------------------------------------------------------------------

static hm_err member_of_key(const hm_node *n, const tc_node_cert *cert, uint32_t *index)
{
    for (uint32_t i = 0; i < n->count; i++)
        if (hm_hash_eq(&n->ids[i], &cert->node)) {
            *index = i;
            return HM_OK;
        }
    return hm_fail(HM_E_CERT_UNTRUSTED, "%s is not a member of this mesh", cert->name);
}

static hm_err member_of_cert(const hm_node *n, hm_bytes leaf, uint32_t *index)
{
    tc_node_cert cert;
    HM_TRY(hm_trust_node_cert(hm_ledger_tip(n->ledger), leaf, node_wall_ms(), &cert, NULL));
    return member_of_key(n, &cert, index);
}

// This node may have been away while the authority changed, and can hear of it from the others
// only. So who has a member's key, and a certificate by an authority that is not known here but
// under the mesh root, is taken for as long as it takes to hear of it.
static bool take_on_word(hm_node *n, hm_bytes leaf, hm_bytes issuing)
{
    uint32_t index = 0;
    tc_node_cert cert;
    if (issuing.len == 0 ||
        hm_trust_node_cert_by(hm_ledger_tip(n->ledger), leaf, issuing, node_wall_ms(), &cert) !=
            HM_OK ||
        member_of_key(n, &cert, &index) != HM_OK)
        return false;
    n->peers[index].on_word = hm_sha256(leaf);
    return true;
}

// In the middle of a handshake, both ways.
static hm_err check_peer(void *ctx, hm_bytes leaf, hm_bytes issuing)
{
    hm_node *n = ctx;
    uint32_t index = 0;
    hm_err err = leaf.len == 0 ? hm_fail(HM_E_CERT_MISSING, "the peer showed no certificate")
                               : member_of_cert(n, leaf, &index);
    if (err == HM_E_CERT_UNTRUSTED && take_on_word(n, leaf, issuing))
        return HM_OK;
    if (err != HM_OK) {
        char why[200];
        snprintf(why, sizeof why, "%s", hm_err_detail());
        node_refused(n, COUNT_REFUSED_PEER, NULL, "%s: %s", hm_err_text(err), why);
    }
    return err;
}

// *on_word: its authority is not in force as far as this node knows (NULL: then it is no member).
static hm_err member_of_conn(const hm_node *n, stoq_conn *conn, uint32_t *index, bool *on_word)
{
    unsigned char *der = NULL;
    X509 *x = stoq_conn_peer_cert(conn);
    int len = x == NULL ? -1 : i2d_X509(x, &der);
    if (len <= 0)
        return hm_fail(HM_E_CERT_MISSING, "the peer showed no certificate");
    hm_err err = member_of_cert(n, hm_bytes_of(der, (size_t)len), index);
    hm_hash hash = hm_sha256(hm_bytes_of(der, (size_t)len));
    OPENSSL_free(der);
    for (uint32_t i = 0; on_word != NULL && err == HM_E_CERT_UNTRUSTED && i < n->count; i++)
        if (hm_hash_eq(&n->peers[i].on_word, &hash)) {
            *index = i;
            *on_word = true;
            return HM_OK;
        }
    return err;
}

// ---- state --------------------------------------------------------------------------------------

bool peer_is_up(const hm_node *n, uint32_t index)
{
    return n->peers[index].state == HM_PEER_UP;
}

uint32_t peers_connected(const hm_node *n, bool *quorum)
{
    uint32_t up = 0;
    uint64_t power = 0, total = 0;
    for (uint32_t i = 0; i < n->count; i++) {
        bool counts = i == n->self || peer_is_up(n, i);
        total += n->validators[i].power;
        power += counts ? n->validators[i].power : 0;
        up += i != n->self && counts;
    }
    *quorum = hm_simplex_is_quorum(power, total);
    return up;
}

static void set_state(node_peer *p, hm_peer_state state, const char *reason)
{
    hm_node *n = p->node;
    bool was_up = p->state == HM_PEER_UP;
    p->state = state;
    if (was_up != (state == HM_PEER_UP) || p->since_ms == 0)
        p->since_ms = node_wall_ms();
    if (state == HM_PEER_UP)
        p->up_us = node_now_us();
    snprintf(p->reason, sizeof p->reason, "%s", reason);
    hm_node_event e = {.peer = p->id, .height = p->height};
    const char *name = n->genesis->validators[p->index].name;
    if (state == HM_PEER_UP) {
        hm_log(HM_LOG_INFO, "mesh", "peer up", "peer=%s", name);
        node_event(n, HM_EVENT_PEER_UP, &e, "%s is connected", name);
    } else if (was_up) {
        hm_log(HM_LOG_WARN, "mesh", "peer lost", "peer=%s reason=\"%s\"", name, reason);
        node_event(n, HM_EVENT_PEER_DOWN, &e, "%s is lost: %s", name, reason);
    }
}

static void forget_connection(node_peer *p)
{
    if (p->conn != NULL) {
        stoq_conn_stats s;
        stoq_conn_get_stats(p->conn, &s);
        p->bytes_sent += s.bytes_sent;
        p->bytes_received += s.bytes_received;
        stoq_conn_set_user(p->conn, NULL);
    }
    p->conn = NULL;
    p->trial = p->told = false;
    p->give_up = NULL;
    for (int lane = 0; lane < LANES; lane++) {
        if (p->lanes[lane] != NULL)
            stoq_stream_set_user(p->lanes[lane], NULL);
        p->lanes[lane] = NULL;
        hm_buf_free(&p->in[lane]);
        hm_buf_free(&p->out[lane].bytes);
        p->in[lane] = (hm_buf){0};
        p->out[lane] = (node_out){0};
    }
}

// Who falls at once time and again, or is refused, is asked ever less often; not at a beat, so that
// many who lost each other at one time do not come back at one time.
static void retry_later(node_peer *p, bool was_up, bool refused)
{
    uint64_t now = node_now_us();
    uint64_t *wait = was_up || refused ? &p->flap_wait_us : &p->retry_wait_us;
    uint64_t max = was_up || refused ? FLAP_MAX_US : RETRY_MAX_US;
    if (was_up && now - p->up_us >= FLAP_LIVED_US)
        p->flap_wait_us = 0;
    *wait = *wait == 0 ? RETRY_MIN_US : *wait * 2;
    if (*wait > max)
        *wait = max;
    p->retry_at_us = now + *wait / 2 + hm_random_u64(&hm_random_system) % (*wait / 2 + 1);
}

static void peer_down(node_peer *p, hm_peer_state state, const char *reason)
{
    hm_node *n = p->node;
    bool was_up = p->state == HM_PEER_UP;
    forget_connection(p);
    set_state(p, state, reason);
    p->offering = p->offer_waits = false;
    retry_later(p, was_up, state == HM_PEER_REFUSED);
    if (was_up && !n->closing) {
        agree_peer_down(n, p->index);
        content_peer_down(n, p->index);
        if (was_up)
            where_peer_down(n, p->index);
    }
}

static void peer_drop(node_peer *p, uint64_t code, const char *reason)
{
    stoq_conn *conn = p->conn;
    if (conn == NULL)
        return;
    peer_down(p, code == CLOSE_REVOKED ? HM_PEER_REFUSED : HM_PEER_DOWN, reason);
    stoq_conn_close(conn, code, reason);
    p->node->net_dirty = true;
}

// ---- sending ------------------------------------------------------------------------------------

static void flush(node_peer *p, node_lane lane)
{
    node_out *o = &p->out[lane];
    while (p->lanes[lane] != NULL && o->sent < o->bytes.len) {
        size_t took = 0;
        hm_err err = stoq_stream_send(p->lanes[lane],
                                      hm_bytes_of(o->bytes.ptr + o->sent, o->bytes.len - o->sent),
                                      false, &took);
        if (err != HM_OK || took == 0)
            break;
        o->sent += took;
        p->node->net_dirty = true;
    }
    if (o->sent == o->bytes.len) {
        hm_buf_reset(&o->bytes);
        o->sent = 0;
        if (o->bytes.cap > (1u << 20)) {
            hm_buf_free(&o->bytes);
            o->bytes = (hm_buf){0};
        }
    } else if (o->sent > (4u << 20)) {
        memmove(o->bytes.ptr, o->bytes.ptr + o->sent, o->bytes.len - o->sent);
        o->bytes.len -= o->sent;
        o->sent = 0;
    }
}

size_t peer_backlog(const hm_node *n, uint32_t index, node_lane lane)
{
    const node_out *o = &n->peers[index].out[lane];
    return o->bytes.len - o->sent;
}

bool peer_send(hm_node *n, uint32_t index, node_lane lane, const node_message *m)
{
    node_peer *p = &n->peers[index];
    if (p->state != HM_PEER_UP || p->give_up != NULL)
        return false;
    hm_buf *b = &p->out[lane].bytes;
    node_msg_write_framed(m, b);
    // Who does not read what it is sent gets a fresh start, for memory is not without end.
    if (hm_buf_status(b) != HM_OK)
        p->give_up = "out of memory";
    else if (peer_backlog(n, index, lane) > BACKLOG_MAX)
        p->give_up = "it does not take what is sent to it";
    else
        flush(p, lane);
    return p->give_up == NULL;
}

void peers_send_all(hm_node *n, node_lane lane, const node_message *m)
{
    for (uint32_t i = 0; i < n->count; i++)
        if (i != n->self)
            (void)peer_send(n, i, lane, m);
}

static void send_status(hm_node *n, uint32_t index, node_lane lane)
{
    node_message m = {.type = MSG_STATUS, .height = hm_ledger_height(n->ledger)};
    if (hm_view_root(hm_ledger_tip(n->ledger), &m.hash) != HM_OK)
        return;
    if (index == UINT32_MAX)
        peers_send_all(n, lane, &m);
    else
        (void)peer_send(n, index, lane, &m);
}

void peer_status(hm_node *n, uint32_t index)
{
    send_status(n, index, LANE_FAST);
}

// ---- receiving ----------------------------------------------------------------------------------

// From who has used up this node's patience nothing is taken for a while, as if it were silent:
// each refusal cost a check, and an honest member gives reason to next to none.
static void dispatch(node_peer *p, node_message *m)
{
    hm_node *n = p->node;
    if (m->type != MSG_STATUS && !node_budget_left(&p->patience, node_now_us()))
        return;
    switch (m->type) {
    case MSG_STATUS:
        p->told = true;
        p->height = m->height;
        p->state_root = m->hash;
        break;
    case MSG_CONSENSUS:
        agree_message(n, p->index, m);
        break;
    case MSG_OPS:
        pool_message(n, p->index, m);
        break;
    case MSG_BLOCKS_GET:
        agree_blocks_get(n, p->index, m);
        break;
    case MSG_BLOCK:
        agree_block(n, p->index, m);
        break;
    case MSG_WHERE_GET:
        where_get(n, p->index, m);
        break;
    case MSG_WHERE:
        where_answer(n, p->index, m);
        break;
    default:
        content_message(n, p->index, m);
    }
}

void peer_annoys(hm_node *n, uint32_t index)
{
    node_budget_spend(&n->peers[index].patience, node_now_us());
}

// Handles the whole messages at the start of what came; false when the connection is gone.
static bool take_messages(node_peer *p, node_lane lane)
{
    stoq_conn *conn = p->conn;
    hm_buf *in = &p->in[lane];
    size_t at = 0;
    for (;;) {
        size_t used;
        uint8_t type = 0;
        hm_bytes body = {0};
        node_message m;
        hm_err err = node_msg_frame(hm_bytes_of(in->ptr + at, in->len - at), &used, &type, &body);
        if (err == HM_OK && used == 0)
            break;
        if (err == HM_OK)
            err = node_msg_read(type, body, &m);
        if (err != HM_OK) {
            node_refused(p->node, COUNT_REFUSED_MESSAGE, &p->id, "a message of %s: %s",
                         p->node->genesis->validators[p->index].name, hm_err_detail());
            peer_drop(p, CLOSE_MESSAGE, "malformed message");
            return false;
        }
        dispatch(p, &m);
        if (p->conn != conn)
            return false;
        at += used;
    }
    if (at > 0) {
        memmove(in->ptr, in->ptr + at, in->len - at);
        in->len -= at;
    }
    if (in->len == 0 && in->cap > (1u << 20)) {
        hm_buf_free(in);
        *in = (hm_buf){0};
    }
    return true;
}

static int lane_of(const node_peer *p, const stoq_stream *s)
{
    for (int lane = 0; lane < LANES; lane++)
        if (p->lanes[lane] == s)
            return lane;
    return -1;
}

static void on_stream_readable(void *user, stoq_stream *s)
{
    (void)user;
    node_peer *p = stoq_stream_user(s);
    int lane = p == NULL ? -1 : lane_of(p, s);
    for (;;) {
        hm_bytes view = {0};
        bool fin = false;
        if (stoq_stream_peek(s, &view, &fin) != HM_OK)
            return;
        if (view.len == 0 && !fin)
            return;
        size_t len = view.len;
        if (lane >= 0)
            hm_buf_put(&p->in[lane], view);
        stoq_stream_consume(s, len);
        if (lane < 0) {
            if (fin)
                return;
            continue;
        }
        if (hm_buf_status(&p->in[lane]) != HM_OK || fin) {
            peer_drop(p, CLOSE_MESSAGE, fin ? "it ended a stream" : "out of memory");
            return;
        }
        if (!take_messages(p, (node_lane)lane))
            return;
    }
}

static void on_stream_writable(void *user, stoq_stream *s)
{
    (void)user;
    node_peer *p = stoq_stream_user(s);
    int lane = p == NULL ? -1 : lane_of(p, s);
    if (lane < 0)
        return;
    flush(p, (node_lane)lane);
    if (lane == LANE_BULK && p->state == HM_PEER_UP)
        keep_drained(p->node, p->index);
}

// ---- connections --------------------------------------------------------------------------------

static void peer_ready(node_peer *p)
{
    hm_node *n = p->node;
    p->retry_wait_us = 0;
    set_state(p, HM_PEER_UP, "");
    peer_status(n, p->index);
    agree_peer_up(n, p->index);
    pool_peer_up(n, p->index);
    keep_peer_up(n, p->index);
}

static hm_err open_lanes(node_peer *p)
{
    for (int lane = 0; lane < LANES; lane++) {
        HM_TRY(stoq_stream_open(p->conn, false, &p->lanes[lane]));
        stoq_stream_set_user(p->lanes[lane], p);
    }
    return HM_OK;
}

static void on_conn_open(void *user, stoq_conn *conn)
{
    hm_node *n = user;
    uint32_t index = 0;
    bool on_word = false;
    n->net_dirty = true;
    hm_err err = member_of_conn(n, conn, &index, &on_word);
    node_peer *p = stoq_conn_is_server(conn) ? NULL : stoq_conn_user(conn);
    if (err == HM_OK && p != NULL && p->index != index)
        err = hm_fail(HM_E_CERT_UNTRUSTED, "another member answers at the address of %s",
                      n->genesis->validators[p->index].name);
    if (err == HM_OK && index == n->self)
        err = hm_fail(HM_E_CERT_UNTRUSTED, "the peer shows this node's own certificate");
    if (err != HM_OK) {
        node_refused(n, COUNT_REFUSED_PEER, NULL, "%s", hm_err_detail());
        if (p != NULL)
            peer_drop(p, CLOSE_BYE, hm_err_detail());
        else
            stoq_conn_close(conn, CLOSE_BYE, "refused");
        return;
    }
    if (p != NULL) {
        p->trial = on_word;
        if (open_lanes(p) != HM_OK) {
            peer_drop(p, CLOSE_MESSAGE, "no streams");
            return;
        }
        peer_ready(p);
        send_status(n, index, LANE_BULK); // the other side sees a stream by its first byte
        return;
    }
    p = &n->peers[index];
    if (p->conn != NULL) // it came back before its old connection was missed
        peer_drop(p, CLOSE_REPLACED, "it connected anew");
    p->conn = conn;
    p->trial = on_word;
    stoq_conn_set_user(conn, p);
}

// The side that connected opens the lanes: number 0 and 4 are its first two streams.
static void on_stream_open(void *user, stoq_stream *s)
{
    (void)user;
    node_peer *p = stoq_conn_user(stoq_stream_conn(s));
    int lane = stoq_stream_id(s) == 0 ? LANE_FAST : stoq_stream_id(s) == 4 ? LANE_BULK : -1;
    if (p == NULL || p->conn != stoq_stream_conn(s) || lane < 0 || p->lanes[lane] != NULL) {
        stoq_stream_stop(s, CLOSE_MESSAGE);
        return;
    }
    p->lanes[lane] = s;
    stoq_stream_set_user(s, p);
    if (p->lanes[LANE_FAST] != NULL && p->lanes[LANE_BULK] != NULL && p->state != HM_PEER_UP)
        peer_ready(p);
}

static void on_stream_closed(void *user, stoq_stream *s)
{
    (void)user;
    node_peer *p = stoq_stream_user(s);
    int lane = p == NULL ? -1 : lane_of(p, s);
    if (lane >= 0)
        p->lanes[lane] = NULL;
}

static void on_conn_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    (void)user;
    node_peer *p = stoq_conn_user(conn);
    if (p == NULL || p->conn != conn)
        return;
    char quoted[90], why[128];
    if (!is_app && code == STOQ_CLOSED_IDLE)
        snprintf(why, sizeof why, "it does not answer");
    else if (!is_app && code == STOQ_CLOSED_RESET)
        snprintf(why, sizeof why, "it has started anew");
    else if (is_app && code == CLOSE_BYE)
        snprintf(why, sizeof why, "it has shut down");
    else { // escaped, but in no quotes of its own: it is shown in those of others
        hm_log_quote(quoted, sizeof quoted, reason);
        snprintf(why, sizeof why, "%s code 0x%llx%s%.*s", is_app ? "closed with" : "transport",
                 (unsigned long long)code, reason.len > 0 ? ": " : "", (int)strlen(quoted) - 2,
                 quoted + 1);
    }
    bool refused = !is_app && code >= STOQ_CRYPTO_ERROR && code < STOQ_CRYPTO_ERROR + 256;
    peer_down(p, refused ? HM_PEER_REFUSED : HM_PEER_DOWN, why);
}

// What check_peer() has not seen and told: no certificate, or nothing in common to talk by.
static void on_conn_failed(void *user, stoq_conn *conn, hm_err why, uint64_t code, hm_bytes reason)
{
    char from[HM_ADDR_TEXT_MAX];
    struct sockaddr_in6 addr;
    (void)code;
    switch (why) {
    case HM_E_CERT_MISSING:
    case HM_E_STOQ_GROUP:
    case HM_E_STOQ_ALPN:
    case HM_E_STOQ_TLS:
    case HM_E_STOQ_TRANSPORT:
        stoq_conn_peer_address(conn, &addr);
        node_refused(user, COUNT_REFUSED_PEER, NULL, "%s: %s (%.*s)", hm_addr_text(&addr, from),
                     hm_err_text(why), (int)reason.len, (const char *)reason.ptr);
        break;
    default:
        break;
    }
}

static void connect_to(node_peer *p)
{
    hm_node *n = p->node;
    hm_err err = stoq_connect(n->endpoint, &p->addr, NULL, NULL, p, &p->conn);
    n->net_dirty = true;
    if (err != HM_OK) {
        p->conn = NULL;
        peer_down(p, HM_PEER_DOWN, hm_err_text(err));
        return;
    }
    if (p->state != HM_PEER_CONNECTING)
        set_state(p, HM_PEER_CONNECTING, p->reason);
}

// Once this node knows what the peer knows, the authority of the peer is in force here too, or is
// not.
static void end_trial(node_peer *p, uint64_t now_us)
{
    hm_node *n = p->node;
    uint32_t index = 0;
    bool caught_up = p->told && hm_ledger_height(n->ledger) >= p->height;
    if (member_of_conn(n, p->conn, &index, NULL) == HM_OK) {
        p->trial = false;
    } else if (caught_up || now_us - p->up_us >= TRIAL_US) {
        node_refused(n, COUNT_REFUSED_PEER, &p->id, "%s", hm_err_detail());
        peer_drop(p, CLOSE_REVOKED, "the authority of its certificate is not in force");
    }
}

// Of two members, the one with the lower number connects.
void peers_tick(hm_node *n, uint64_t now_us)
{
    static const uint64_t every = PING_EVERY_US;
    for (uint32_t i = 0; i < n->count; i++) {
        node_peer *p = &n->peers[i];
        if (i == n->self)
            continue;
        if (p->trial && p->state == HM_PEER_UP)
            end_trial(p, now_us);
        if (p->give_up != NULL)
            peer_drop(p, CLOSE_BACKLOG, p->give_up);
        else if (p->conn == NULL && n->self < i && now_us >= p->retry_at_us)
            connect_to(p);
        else if (p->state == HM_PEER_UP && now_us >= p->retry_at_us) {
            stoq_conn_ping(p->conn);
            peer_status(n, i);
            p->retry_at_us = now_us + every;
            n->net_dirty = true;
        }
    }
}

// The certificate that a connection began with may be over, or of an authority that is in force no
// more: what counts then is the newest one, of the ledger, which a member that renews its own
// brings there.
static bool renewed_in_force(const hm_node *n, uint32_t i)
{
    hm_member m;
    hm_member_cert cert;
    const hm_view *tip = hm_ledger_tip(n->ledger);
    uint64_t now = node_wall_ms();
    return hm_member_at(tip, i, &m) == HM_OK && hm_member_cert_find(tip, &m.cert, &cert) == HM_OK &&
           !cert.revoked && now >= cert.not_before_ms && now <= cert.not_after_ms;
}

void peers_recheck(hm_node *n)
{
    for (uint32_t i = 0; i < n->count; i++) {
        uint32_t index;
        node_peer *p = &n->peers[i];
        hm_err err =
            p->state == HM_PEER_UP && !p->trial ? member_of_conn(n, p->conn, &index, NULL) : HM_OK;
        bool behind = err == HM_E_CERT_EXPIRED || err == HM_E_CERT_UNTRUSTED;
        if (err == HM_OK || (behind && renewed_in_force(n, i)))
            continue;
        node_refused(n, COUNT_REFUSED_PEER, &p->id, "%s", hm_err_detail());
        peer_drop(p, CLOSE_REVOKED,
                  err == HM_E_CERT_EXPIRED     ? "its certificate is over"
                  : err == HM_E_CERT_UNTRUSTED ? "the authority of its certificate was withdrawn"
                                               : "its certificate is revoked");
    }
}

// ---- life ---------------------------------------------------------------------------------------

static hm_err read_chain(const hm_node *n, hm_buf *chain)
{
    char path[4100];
    snprintf(path, sizeof path, "%s/node.crt", n->dir);
    hm_err err = hm_file_read(path, 1u << 20, chain);
    return err == HM_E_NOTFOUND ? hm_fail(err, "%s is missing: the node is not enrolled", path)
                                : err;
}

static hm_err check_leaf(void *ctx, hm_bytes leaf)
{
    return check_peer(ctx, leaf, (hm_bytes){0});
}

static hm_err make_context(hm_node *n, int server, hm_bytes chain)
{
    HM_TRY(tc_node_tls(server == 1, n->key, chain, check_leaf, n, &n->tls[server]));
    tc_node_tls_chain_check(n->tls[server], check_peer);
    return HM_OK;
}

static hm_err make_tls(hm_node *n)
{
    hm_buf chain = {0};
    hm_err err = read_chain(n, &chain);
    for (int server = 0; server < 2 && err == HM_OK; server++)
        err = make_context(n, server, hm_buf_bytes(&chain));
    hm_buf_free(&chain);
    return err;
}

hm_err peers_cert_renewed(hm_node *n)
{
    hm_buf chain = {0};
    hm_err err = read_chain(n, &chain);
    for (int server = 0; server < 2 && err == HM_OK; server++)
        err = tc_node_tls_renew(n->tls[server], n->key, hm_buf_bytes(&chain));
    hm_buf_free(&chain);
    return err;
}

// Tokens and stateless resets are keyed by the node's own key, so that peers see a restart at once.
static hm_err reset_secret(hm_node *n, uint8_t out[32])
{
    char path[4100];
    hm_buf key = {0};
    snprintf(path, sizeof path, "%s/node.key", n->dir);
    HM_TRY(hm_file_read(path, 1u << 16, &key));
    hm_hash h = hm_sha256_2(hm_bytes_str("hypermesh/stoq/secret/1"), hm_buf_bytes(&key));
    memcpy(out, h.b, 32);
    hm_buf_free_secret(&key);
    return HM_OK;
}

hm_err peers_open(hm_node *n, const struct sockaddr_in6 *listen)
{
    n->peers = calloc(n->count, sizeof *n->peers);
    if (n->peers == NULL)
        return HM_E_NOMEM;
    for (uint32_t i = 0; i < n->count; i++) {
        const hm_genesis_validator *v = &n->genesis->validators[i];
        node_peer *p = &n->peers[i];
        *p = (node_peer){.node = n, .index = i, .id = n->ids[i], .since_ms = node_wall_ms()};
        p->addr = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(v->port)};
        memcpy(&p->addr.sin6_addr, v->host, 16);
    }
    HM_TRY(make_tls(n));
    stoq_config cfg = {
        .bind = *listen,
        .server_tls = n->tls[1],
        .client_tls = n->tls[0],
        .alpn = {STOQ_ALPN_MESH},
        .callbacks = {.conn_open = on_conn_open,
                      .conn_closed = on_conn_closed,
                      .conn_failed = on_conn_failed,
                      .stream_open = on_stream_open,
                      .stream_readable = on_stream_readable,
                      .stream_writable = on_stream_writable,
                      .stream_closed = on_stream_closed},
        .user = n,
        .limits = {.max_idle_ms = IDLE_MS,
                   .max_handshake_ms = HANDSHAKE_MS,
                   .max_streams_bidi = LANES},
    };
    HM_TRY(reset_secret(n, cfg.secret));
    return stoq_endpoint_create(&cfg, &n->endpoint);
}

void peers_begin_close(hm_node *n)
{
    for (uint32_t i = 0; i < n->count; i++)
        if (n->peers[i].conn != NULL)
            peer_drop(&n->peers[i], CLOSE_BYE, "shutting down");
    stoq_endpoint_process(n->endpoint, node_now_us(), false);
}

void peers_free(hm_node *n)
{
    if (n->peers != NULL)
        for (uint32_t i = 0; i < n->count; i++)
            forget_connection(&n->peers[i]);
    stoq_endpoint_destroy(n->endpoint);
    SSL_CTX_free(n->tls[0]);
    SSL_CTX_free(n->tls[1]);
    free(n->peers);
}
