// Peers that forge, replay, spoof and shrink: addresses, connection ids, the handshake, the end.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stoq_peer.h"

// ---- paths --------------------------------------------------------------------------------------

// A client that has moved and says one small thing is asked to prove its new address at once, with
// no more than three times what came from there.
static void test_new_path_is_challenged(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, true);
    peer_ack_all(&p);
    peer_turn(&p);
    peer_forget(&p);
    p.port = 6000;
    size_t sent = peer_say1(&p, STOQ_FRAME_PING);
    peer_turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_CHALLENGE], 1);
    assert_int_equal(p.sent_to, 6000);
    assert_true(p.bytes <= 3 * sent);
    // The answer proves it.
    uint8_t response[9] = {STOQ_FRAME_PATH_RESPONSE};
    memcpy(response + 1, p.data[STOQ_FRAME_PATH_CHALLENGE], 8);
    peer_say(&p, response, sizeof response);
    assert_true(p.c->address_validated);
    peer_end(&p);
}

// Only what comes from the address that is to be proven counts for how much may be sent there.
static void test_credit_is_of_the_address(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, true);
    peer_ack_all(&p);
    peer_turn(&p);
    p.port = 6000;
    size_t sent = peer_say1(&p, STOQ_FRAME_PING);
    p.port = 5001; // somebody else who saw the id
    uint8_t noise[1200] = {0x40};
    memcpy(noise + 1, p.c->local[0].cid.id, STOQ_LOCAL_CID);
    struct sockaddr_in6 from = forge_address(p.port);
    for (int i = 0; i < 20; i++) {
        uint8_t copy[sizeof noise];
        memcpy(copy, noise, sizeof noise);
        stoq_endpoint_receive(p.ep, &from, copy, sizeof copy, sizeof copy, 0, p.now);
    }
    assert_int_equal(p.c->amp_received, sent);
    peer_end(&p);
}

// Where nobody answers: three challenges, then back to the address that was proven.
static void test_false_path_is_left(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, true);
    peer_ack_all(&p);
    peer_turn(&p);
    peer_forget(&p);
    p.port = 6000;
    peer_say1(&p, STOQ_FRAME_PING);
    peer_pass(&p, 20000 * MS);
    assert_true(p.seen[STOQ_FRAME_PATH_CHALLENGE] >= 1 && p.seen[STOQ_FRAME_PATH_CHALLENGE] <= 3);
    assert_true(p.c->address_validated);
    assert_int_equal(ntohs(p.c->peer.sin6_port), 5000);
    peer_end(&p);
}

// Somebody who sends on the peer's packets from elsewhere turns the connection away for no longer
// than until the peer is heard again: its address is proven (section 9.3).
static void test_return_to_the_proven_path(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, true);
    peer_ack_all(&p);
    peer_turn(&p);
    p.c->cc.cwnd = 12345;
    p.port = 6000;
    peer_say1(&p, STOQ_FRAME_PING);
    assert_false(p.c->address_validated);
    p.c->pto_count = 5;
    p.port = 5000;
    peer_say1(&p, STOQ_FRAME_PING);
    assert_true(p.c->address_validated);
    assert_int_equal(ntohs(p.c->peer.sin6_port), 5000);
    assert_int_equal(p.c->cc.cwnd, 12345);
    assert_int_equal(p.c->pto_count, 0); // probes of the other path are not waited for here
    peer_forget(&p);
    peer_pass(&p, 20000 * MS);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_CHALLENGE], 0);
    assert_int_equal(ntohs(p.c->peer.sin6_port), 5000);
    peer_end(&p);
}

// Without another id of the peer's this side does not answer on a path that is only probed, least
// of all on the other one (section 9.5).
static void test_probes_of_other_paths(void **state)
{
    (void)state;
    peer p;
    static const uint8_t challenge[9] = {STOQ_FRAME_PATH_CHALLENGE, 1, 2, 3};
    uint8_t with_ping[10] = {STOQ_FRAME_PING};
    memcpy(with_ping + 1, challenge, sizeof challenge);
    peer_begin(&p, true);
    peer_ack_all(&p);
    peer_turn(&p);
    peer_forget(&p);
    p.port = 6000;
    peer_say(&p, challenge, sizeof challenge);
    peer_turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_RESPONSE], 0);
    p.port = 5000; // on the path in use it is answered
    peer_say(&p, challenge, sizeof challenge);
    peer_turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_RESPONSE], 1);
    assert_int_equal(p.sent_to, 5000);
    p.port = 6000; // and so it is when the peer moves
    peer_say(&p, with_ping, sizeof with_ping);
    peer_turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_RESPONSE], 2);
    assert_int_equal(p.sent_to, 6000);
    peer_end(&p);
}

// ---- connection ids -----------------------------------------------------------------------------

static void say_new_id(peer *p, uint64_t seq, uint64_t retire_prior_to)
{
    uint8_t mem[64] = {0}, *q = mem;
    q = stoq_frame_write2(q, STOQ_FRAME_NEW_CONNECTION_ID, seq, retire_prior_to);
    *q++ = STOQ_LOCAL_CID;
    *q = (uint8_t)(100 + seq);
    memset(q + STOQ_LOCAL_CID, (int)(0x11 * seq & 0xff), STOQ_RESET_TOKEN);
    peer_say(p, mem, (size_t)(q - mem) + STOQ_LOCAL_CID + STOQ_RESET_TOKEN);
}

static bool holds_id(const peer *p, uint64_t seq)
{
    for (unsigned i = 0; i < STOQ_CIDS_MAX; i++)
        if (p->c->remote[i].active && p->c->remote[i].seq == seq)
            return true;
    return false;
}

// An id that was retired stays so, when the frame that gave it comes again or late.
static void test_retired_ids_stay_retired(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, true);
    say_new_id(&p, 2, 0);
    say_new_id(&p, 1, 0);
    p.port = 6000;
    peer_say1(&p, STOQ_FRAME_PING);
    peer_turn(&p);
    assert_int_equal(p.c->remote[p.c->remote_at].seq, 1);
    p.port = 7000;
    peer_say1(&p, STOQ_FRAME_PING);
    peer_turn(&p);
    assert_int_equal(p.c->remote[p.c->remote_at].seq, 2);
    peer_forget(&p);
    say_new_id(&p, 1, 0);
    assert_false(holds_id(&p, 0) || holds_id(&p, 1));
    peer_end(&p);

    peer_begin(&p, true);
    say_new_id(&p, 2, 0);
    p.port = 6000;
    peer_say1(&p, STOQ_FRAME_PING);
    peer_turn(&p);
    assert_int_equal(p.c->remote[p.c->remote_at].seq, 2);
    say_new_id(&p, 1, 0); // overtaken
    assert_false(holds_id(&p, 1));
    peer_end(&p);
}

// A path that is only probed is answered on itself, with no more than three times what came from
// there and to an id of its own; the peer goes there once it says more, with nothing left to prove.
static void test_probed_path(void **state)
{
    (void)state;
    peer p;
    uint8_t probe[1170] = {STOQ_FRAME_PATH_CHALLENGE, 1, 2, 3}, response[9];
    peer_begin(&p, true);
    say_new_id(&p, 1, 0);
    say_new_id(&p, 2, 0);
    peer_ack_all(&p);
    peer_turn(&p);
    peer_forget(&p);
    p.port = 6000;
    size_t sent = peer_say(&p, probe, 9); // short: it may be answered, not challenged
    peer_turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_RESPONSE], 1);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_CHALLENGE], 0);
    assert_int_equal(p.sent_to, 6000);
    assert_true(p.bytes <= 3 * sent);
    assert_int_equal(p.packet.dcid.id[0], 101);
    sent += peer_say(&p, probe, sizeof probe);
    peer_turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_RESPONSE], 2);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_CHALLENGE], 1);
    assert_true(p.bytes <= 3 * sent);
    assert_int_equal(p.longest, STOQ_MIN_INITIAL);
    assert_int_equal(ntohs(p.c->peer.sin6_port), 5000);
    response[0] = STOQ_FRAME_PATH_RESPONSE;
    memcpy(response + 1, p.data[STOQ_FRAME_PATH_CHALLENGE], 8);
    peer_say(&p, response, sizeof response);
    assert_int_equal(ntohs(p.c->peer.sin6_port), 5000);
    peer_forget(&p);
    uint8_t moves[10] = {STOQ_FRAME_PING, STOQ_FRAME_PATH_CHALLENGE, 4};
    peer_say(&p, moves, sizeof moves);
    peer_turn(&p);
    assert_int_equal(ntohs(p.c->peer.sin6_port), 6000);
    assert_true(p.c->address_validated);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_CHALLENGE], 0);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_RESPONSE], 1);
    assert_int_equal(p.sent_to, 6000);
    assert_int_equal(p.c->remote[p.c->remote_at].seq, 1);
    assert_false(holds_id(&p, 0));
    peer_end(&p);
}

// A peer that moves to where its probe is not proven yet is followed, with one id for both; one
// that goes elsewhere, with another, and the first one does not come back. A probe that was not
// answered before is afterwards.
static void test_move_while_probing(void **state)
{
    (void)state;
    static const uint8_t probe[1170] = {STOQ_FRAME_PATH_CHALLENGE, 1};
    for (unsigned k = 0; k < 3; k++) {
        uint16_t port = k == 1 ? 7000 : 6000;
        peer p;
        peer_begin(&p, true);
        say_new_id(&p, 1, 0);
        say_new_id(&p, 2, 0);
        p.port = 6000;
        peer_say(&p, probe, sizeof probe);
        if (k < 2)
            peer_turn(&p);
        p.port = port;
        peer_say1(&p, STOQ_FRAME_PING);
        peer_turn(&p);
        assert_int_equal(ntohs(p.c->peer.sin6_port), port);
        assert_false(p.c->address_validated);
        assert_int_equal(p.c->remote[p.c->remote_at].seq, port == 6000 ? 1 : 2);
        assert_int_equal(p.seen[STOQ_FRAME_PATH_RESPONSE], 1);
        say_new_id(&p, 1, 0);
        assert_int_equal(holds_id(&p, 1), port == 6000);
        peer_end(&p);
    }
}

// Late packets from where the peer was are no probes.
static void test_late_packets_are_no_probes(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, true);
    say_new_id(&p, 1, 0);
    say_new_id(&p, 2, 0);
    p.pn++;
    p.port = 6000;
    peer_say1(&p, STOQ_FRAME_PING);
    peer_turn(&p);
    p.pn -= 2;
    p.port = 5000;
    peer_say1(&p, STOQ_FRAME_PING);
    peer_turn(&p);
    assert_null(p.c->other);
    assert_int_equal(ntohs(p.c->peer.sin6_port), 6000);
    peer_end(&p);
}

// Nobody answers on a path that was probed: three challenges, and its id is for no other one, even
// when the frame that gave it comes again.
static void test_probe_is_given_up(void **state)
{
    (void)state;
    static const uint8_t probe[1170] = {STOQ_FRAME_PATH_CHALLENGE, 1};
    peer p;
    peer_begin(&p, true);
    say_new_id(&p, 1, 0);
    say_new_id(&p, 2, 0);
    peer_ack_all(&p);
    p.port = 6000;
    for (int i = 0; i < 2; i++)
        peer_say(&p, probe, sizeof probe);
    peer_forget(&p);
    peer_pass(&p, 20000 * MS);
    assert_int_equal(p.seen[STOQ_FRAME_PATH_CHALLENGE], 3);
    assert_null(p.c->other);
    say_new_id(&p, 1, 0);
    assert_false(holds_id(&p, 1));
    assert_true(holds_id(&p, 0) && holds_id(&p, 2));
    assert_int_equal(ntohs(p.c->peer.sin6_port), 5000);
    peer_end(&p);
}

// Ids of ours that the peer retired stay ours a while: what it sent before may come late, and a
// stateless reset in answer would end the connection. A few of them, not all.
static void test_late_packets_of_retired_ids(void **state)
{
    (void)state;
    peer p;
    uint8_t ids[STOQ_RETIRED_MAX + 1][STOQ_LOCAL_CID], mem[16];
    peer_begin(&p, true);
    uint64_t used = p.c->local[0].seq;
    for (unsigned i = 0; i < STOQ_RETIRED_MAX + 1; i++) {
        unsigned k = 0;
        while (!p.c->local[k].active || p.c->local[k].seq == used)
            k++;
        memcpy(ids[i], p.c->local[k].cid.id, STOQ_LOCAL_CID);
        uint8_t *end = stoq_frame_write1(mem, STOQ_FRAME_RETIRE_CONNECTION_ID, p.c->local[k].seq);
        peer_say(&p, mem, (size_t)(end - mem));
        peer_turn(&p);
        assert_false(p.closed);
        assert_ptr_equal(hm_map_get(&p.ep->by_cid, ids[i]), p.c);
    }
    assert_null(hm_map_get(&p.ep->by_cid, ids[0]));
    for (unsigned i = 1; i < STOQ_RETIRED_MAX + 1; i++)
        assert_ptr_equal(hm_map_get(&p.ep->by_cid, ids[i]), p.c);
    peer_end(&p);
}

// A datagram that ends with these bytes, of which nothing else can be read.
static void say_reset(peer *p, const uint8_t token[STOQ_RESET_TOKEN])
{
    uint8_t bytes[40] = {0x41, 1, 2, 3};
    struct sockaddr_in6 from = forge_address(p->port);
    memcpy(bytes + sizeof bytes - STOQ_RESET_TOKEN, token, STOQ_RESET_TOKEN);
    stoq_endpoint_receive(p->ep, &from, bytes, sizeof bytes, sizeof bytes, 0, p->now);
    peer_turn(p);
}

// A stateless reset is by the token of the id in use, from the address in use (section 10.3.1).
static void test_stateless_reset(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, false); // a client's peer does not move
    say_new_id(&p, 1, 0);
    say_new_id(&p, 2, 0);
    uint8_t tokens[3][STOQ_RESET_TOKEN];
    for (int i = 0; i < 3; i++)
        memset(tokens[i], 0x11 * i, STOQ_RESET_TOKEN);
    say_reset(&p, tokens[1]); // of an id that was never used
    assert_false(p.closed);
    say_new_id(&p, 3, 2); // now 2 is in use, 1 is retired
    peer_turn(&p);
    assert_int_equal(p.c->remote[p.c->remote_at].seq, 2);
    say_reset(&p, tokens[1]);
    assert_false(p.closed);
    p.port = 5001;
    say_reset(&p, tokens[2]);
    assert_false(p.closed);
    p.port = 5000;
    say_reset(&p, tokens[2]);
    assert_true(p.closed);
    assert_true(p.close_code == STOQ_CLOSED_RESET);
    peer_end(&p);
}

// A peer without an id of its own gives no new ones (RFC 9000, section 19.15).
static void test_no_new_ids_without_an_id(void **state)
{
    (void)state;
    peer p;
    peer_begin_with(&p, true, (stoq_limits){0}, 0);
    say_new_id(&p, 1, 0);
    peer_turn(&p);
    assert_true(p.closed);
    assert_int_equal(p.close_code, STOQ_PROTOCOL_VIOLATION);
    peer_end(&p);
}

// As many as were agreed, and one who wants them all retired at once is told so.
static void test_id_limits(void **state)
{
    (void)state;
    peer p;
    peer_begin(&p, true);
    for (uint64_t seq = 1; seq < STOQ_CIDS_MAX; seq++)
        say_new_id(&p, seq, 0);
    peer_turn(&p);
    assert_false(p.closed);
    say_new_id(&p, STOQ_CIDS_MAX, 0);
    peer_turn(&p);
    assert_true(p.closed);
    assert_int_equal(p.close_code, STOQ_CONNECTION_ID_LIMIT_ERROR);
    peer_end(&p);

    peer_begin(&p, true); // ids that are retired as they come, faster than this side may answer
    for (uint64_t seq = 1; seq < 10000 && !p.closed; seq++) {
        say_new_id(&p, seq, seq);
        if (seq % 64 == 0)
            peer_turn(&p);
    }
    peer_turn(&p);
    assert_true(p.closed);
    assert_int_equal(p.close_code, STOQ_CONNECTION_ID_LIMIT_ERROR);
    peer_end(&p);
}

// ---- the handshake ------------------------------------------------------------------------------

static const stoq_cid client_id = {.len = 4, .id = {0xc1}}, server_id = {.len = 8, .id = {0x5e}};

// A connection that has begun, with the keys that everybody can compute; the peer has the others.
static void begin_initial(peer *p, bool conn_is_server)
{
    stoq_conn *c;
    stoq_cid dcid = {.len = 8, .id = {0xd0}};
    peer_make(p, (stoq_limits){0});
    struct sockaddr_in6 from = forge_address(p->port);
    assert_int_equal(conn_make(p->ep, conn_is_server, &from, &c), HM_OK);
    stoq_space *s = &c->spaces[STOQ_LEVEL_INITIAL];
    p->c = c;
    p->conn_is_server = conn_is_server;
    c->initial_dcid = c->original_dcid = dcid;
    c->address_validated = !conn_is_server;
    c->has_peer_scid = conn_is_server;
    c->peer_initial_scid = client_id;
    c->remote[0] = (stoq_peer_cid){.cid = conn_is_server ? client_id : dcid, .active = true};
    if (conn_is_server) {
        assert_int_equal(hm_map_put(&p->ep->by_initial, &dcid, c), HM_OK);
        assert_int_equal(stoq_keys_init_initial(&s->rx, &s->tx, &stoq_versions[0], &dcid), HM_OK);
        assert_int_equal(stoq_keys_init_initial(&p->tx, &p->rx, &stoq_versions[0], &dcid), HM_OK);
    } else {
        assert_int_equal(stoq_keys_init_initial(&s->tx, &s->rx, &stoq_versions[0], &dcid), HM_OK);
        assert_int_equal(stoq_keys_init_initial(&p->rx, &p->tx, &stoq_versions[0], &dcid), HM_OK);
    }
}

// An Initial packet with a PING, to this id; `size` bytes long with its padding.
static size_t initial(peer *p, const stoq_cid *dcid, const stoq_cid *scid, hm_bytes token,
                      size_t size, uint8_t out[FORGE_MAX])
{
    uint8_t payload[1400] = {STOQ_FRAME_PING};
    size_t header = stoq_long_header_size(STOQ_PACKET_INITIAL, dcid, scid, token.len);
    return forge_long(&p->tx, STOQ_PACKET_INITIAL, dcid, scid, token, p->pn++,
                      hm_bytes_of(payload, size - header - 4 - STOQ_AEAD_TAG), out);
}

static uint64_t give(peer *p, uint8_t *bytes, size_t len)
{
    struct sockaddr_in6 from = forge_address(p->port);
    uint64_t before = p->c->stats.packets_received;
    stoq_endpoint_receive(p->ep, &from, bytes, len, len, 0, p->now);
    return p->c->stats.packets_received - before;
}

// An Initial packet that asks for an answer leaves in a full-sized datagram or not at all: a server
// that may send less waits (section 14.1).
static void test_no_small_initials_are_sent(void **state)
{
    (void)state;
    peer p;
    uint8_t hello[300] = {1};
    begin_initial(&p, true);
    p.c->amp_received = 350;
    assert_int_equal(stoq_sendbuf_append(&p.c->spaces[STOQ_LEVEL_INITIAL].crypto_out,
                                         hm_bytes_of(hello, sizeof hello)),
                     HM_OK);
    conn_wake(p.c);
    peer_pass(&p, 5000 * MS);
    assert_int_equal(p.seen[STOQ_FRAME_CRYPTO] + p.seen[STOQ_FRAME_PING], 0);
    p.c->amp_received = 400;
    conn_wake(p.c);
    peer_turn(&p);
    assert_int_equal(p.seen[STOQ_FRAME_CRYPTO], 1);
    assert_int_equal(p.longest, 1200);
    peer_end(&p);
}

// Clients whose handshake fails at once count as in handshake until they are forgotten: somebody
// who forges addresses must pass a Retry before the table is full of them.
static void test_failed_handshakes_count(void **state)
{
    (void)state;
    peer p;
    stoq_endpoint_stats st;
    peer_make(&p, (stoq_limits){.retry_from_half_open = 4, .max_half_open = 8});
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    stoq_endpoint_set_server_tls(p.ep, tls);
    SSL_CTX_free(tls);
    for (unsigned i = 0; i < 100; i++) {
        uint8_t out[FORGE_MAX], payload[1180] = {STOQ_FRAME_CRYPTO, 0, 4, 0xff, 0xff, 0xff, 0xff};
        stoq_cid dcid = {.len = 8, .id = {(uint8_t)i}};
        stoq_keys client = {0}, server = {0};
        struct sockaddr_in6 from = forge_address((uint16_t)(6000 + i));
        assert_int_equal(stoq_keys_init_initial(&client, &server, &stoq_versions[0], &dcid), HM_OK);
        size_t n = forge_long(&client, STOQ_PACKET_INITIAL, &dcid, &client_id, (hm_bytes){0}, 0,
                              hm_bytes_of(payload, sizeof payload), out);
        stoq_endpoint_receive(p.ep, &from, out, n, n, 0, p.now);
        peer_turn(&p);
        stoq_keys_free(&client);
        stoq_keys_free(&server);
    }
    stoq_endpoint_get_stats(p.ep, &st);
    assert_int_equal(st.connections, 4);
    assert_int_equal(st.retries_sent, 96);
    peer_pass(&p, 20000 * MS);
    stoq_endpoint_get_stats(p.ep, &st);
    assert_int_equal(st.connections, 0);
    assert_int_equal(st.half_open, 0);
    peer_end(&p);
}

// RFC 9000, section 14.1: an Initial packet comes in a datagram of 1200 bytes, whoever sends it.
static void test_small_initials_are_dropped(void **state)
{
    (void)state;
    peer p;
    uint8_t out[FORGE_MAX];
    begin_initial(&p, true);
    stoq_cid ids[2] = {p.c->initial_dcid, p.c->local[0].cid};
    for (int i = 0; i < 2; i++) {
        size_t n = initial(&p, &ids[i], &client_id, (hm_bytes){0}, 1199, out);
        assert_int_equal(give(&p, out, n), 0);
        n = initial(&p, &ids[i], &client_id, (hm_bytes){0}, 1200, out);
        assert_int_equal(give(&p, out, n), 1);
    }
    peer_end(&p);
}

// A peer's id does not change while the handshake lasts (section 7.2); a server's Initial packet
// has no token (section 17.2.2).
static void test_initials_of_another_id(void **state)
{
    (void)state;
    for (int is_server = 0; is_server < 2; is_server++) {
        peer p;
        uint8_t out[FORGE_MAX];
        begin_initial(&p, is_server);
        stoq_cid to = p.c->local[0].cid, from = is_server ? client_id : server_id, other = from;
        other.id[3] ^= 1;
        hm_bytes token = hm_bytes_str("token");
        if (!is_server)
            assert_int_equal(give(&p, out, initial(&p, &to, &from, token, 1200, out)), 0);
        assert_int_equal(give(&p, out, initial(&p, &to, &from, (hm_bytes){0}, 1200, out)), 1);
        assert_int_equal(give(&p, out, initial(&p, &to, &other, (hm_bytes){0}, 1200, out)), 0);
        assert_int_equal(give(&p, out, initial(&p, &to, &from, (hm_bytes){0}, 1200, out)), 1);
        peer_end(&p);
    }
}

// Handshake bytes of a level that TLS has left are old ones come again, or a violation.
static void test_crypto_of_a_level_before(void **state)
{
    (void)state;
    for (int old = 0; old < 2; old++) {
        peer p;
        uint8_t out[FORGE_MAX], payload[1180] = {STOQ_FRAME_CRYPTO, 0, 4};
        begin_initial(&p, true);
        p.c->spaces[STOQ_LEVEL_INITIAL].crypto_in.ready = old ? 4 : 3;
        p.c->spaces[STOQ_LEVEL_INITIAL].crypto_in.read = old ? 4 : 3;
        p.c->tls.read_level = STOQ_LEVEL_HANDSHAKE;
        size_t n = forge_long(&p.tx, STOQ_PACKET_INITIAL, &p.c->local[0].cid, &client_id,
                              (hm_bytes){0}, p.pn++, hm_bytes_of(payload, sizeof payload), out);
        assert_int_equal(give(&p, out, n), 1);
        assert_int_equal(p.c->state, old ? STOQ_CONN_HANDSHAKE : STOQ_CONN_CLOSING);
        peer_end(&p);
    }
}

// Packets of one datagram are for one connection (section 12.2).
static void test_coalesced_for_another(void **state)
{
    (void)state;
    peer p;
    uint8_t out[2 * FORGE_MAX];
    begin_initial(&p, true);
    for (int same = 0; same < 2; same++) {
        size_t n = initial(&p, &p.c->local[0].cid, &client_id, (hm_bytes){0}, 700, out);
        n += initial(&p, same ? &p.c->local[0].cid : &p.c->initial_dcid, &client_id, (hm_bytes){0},
                     700, out + n);
        assert_int_equal(give(&p, out, n), 1 + same);
    }
    peer_end(&p);
}

// Version negotiation is believed if it answers our packet, by both ids (RFC 8999, section 6).
static void test_version_negotiation(void **state)
{
    static const uint32_t other[STOQ_MAX_VERSIONS] = {0x6b6b6b6b};
    (void)state;
    for (int ours = 0; ours < 2; ours++) {
        peer p;
        uint8_t out[STOQ_VERSION_PACKET_MAX];
        begin_initial(&p, false);
        peer_turn(&p);
        stoq_cid dcid = p.c->initial_dcid;
        dcid.id[7] ^= !ours;
        const stoq_cid *scid = &p.c->local[0].cid;
        size_t n = stoq_version_packet_write(out, other, hm_bytes_of(dcid.id, dcid.len),
                                             hm_bytes_of(scid->id, scid->len), 0x12);
        give(&p, out, n);
        peer_turn(&p);
        assert_true(p.closed == ours);
        if (ours)
            assert_true(p.close_code == STOQ_CLOSED_VERSION);
        peer_end(&p);
    }
}

// A server's answer to a version that it does not speak is for who sent it.
static void test_version_answer(void **state)
{
    (void)state;
    peer p;
    uint8_t strange[1200] = {0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 3, 9, 9, 9};
    peer_make(&p, (stoq_limits){0});
    struct sockaddr_in6 from = forge_address(p.port);
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    stoq_endpoint_set_server_tls(p.ep, tls);
    SSL_CTX_free(tls);
    stoq_endpoint_receive(p.ep, &from, strange, sizeof strange, sizeof strange, 0, p.now);
    assert_int_equal(p.datagrams, 1);
    assert_int_equal(p.sent_to, p.port);
    assert_int_equal(p.packet.type, STOQ_PACKET_VERSION);
    assert_true(p.packet.dcid.len == 3 && p.packet.dcid.id[0] == 9);
    assert_true(p.packet.scid.len == 8 && p.packet.scid.id[0] == 1);
    peer_end(&p);
}

// ---- the end ------------------------------------------------------------------------------------

// A server's long Retry token leaves no room for the client's close at every level in one datagram:
// what fits is said, once.
static void test_close_with_long_token(void **state)
{
    (void)state;
    peer p;
    stoq_conn *c;
    static const uint8_t id[STOQ_LOCAL_CID] = {9}, token[1050] = {1};
    char why[251] = {0};
    peer_make(&p, (stoq_limits){0});
    struct sockaddr_in6 to = forge_address(p.port);
    stoq_cid dcid = stoq_cid_of(id, sizeof id);
    assert_int_equal(conn_make(p.ep, false, &to, &c), HM_OK);
    stoq_space *initial = &c->spaces[STOQ_LEVEL_INITIAL];
    assert_int_equal(stoq_keys_init_initial(&initial->tx, &initial->rx, &stoq_versions[0], &dcid),
                     HM_OK);
    assert_int_equal(stoq_keys_init(&c->spaces[STOQ_LEVEL_HANDSHAKE].tx, &stoq_versions[0],
                                    HM_AES_128_GCM, peer_secrets[1], 32),
                     HM_OK);
    c->remote[0] = (stoq_peer_cid){.cid = dcid, .active = true};
    c->address_validated = true;
    hm_buf_append(&c->token, token, sizeof token);
    memset(why, 'x', sizeof why - 1);
    conn_fail(c, STOQ_PROTOCOL_VIOLATION, 0, why);
    peer_pass(&p, 10 * MS);
    assert_int_equal(p.datagrams, 1);
    peer_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_path_is_challenged),
        cmocka_unit_test(test_credit_is_of_the_address),
        cmocka_unit_test(test_false_path_is_left),
        cmocka_unit_test(test_return_to_the_proven_path),
        cmocka_unit_test(test_probes_of_other_paths),
        cmocka_unit_test(test_probed_path),
        cmocka_unit_test(test_move_while_probing),
        cmocka_unit_test(test_late_packets_are_no_probes),
        cmocka_unit_test(test_probe_is_given_up),
        cmocka_unit_test(test_retired_ids_stay_retired),
        cmocka_unit_test(test_late_packets_of_retired_ids),
        cmocka_unit_test(test_stateless_reset),
        cmocka_unit_test(test_no_new_ids_without_an_id),
        cmocka_unit_test(test_id_limits),
        cmocka_unit_test(test_no_small_initials_are_sent),
        cmocka_unit_test(test_failed_handshakes_count),
        cmocka_unit_test(test_small_initials_are_dropped),
        cmocka_unit_test(test_initials_of_another_id),
        cmocka_unit_test(test_crypto_of_a_level_before),
        cmocka_unit_test(test_coalesced_for_another),
        cmocka_unit_test(test_version_negotiation),
        cmocka_unit_test(test_version_answer),
        cmocka_unit_test(test_close_with_long_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
