// Session tickets: kept, resumed, refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"
#include "stoq_pair.h"

#define OK(e) assert_int_equal((e), HM_OK)
#define SECOND UINT64_C(1000000)
#define LIFE_S 600u

static stoq_config server_config(void)
{
    return (stoq_config){
        .server_tls = pair_ids.open_server, .tickets = 2, .ticket_lifetime_s = LIFE_S};
}

static void begin(pair_world *w, stoq_config server, stoq_config client)
{
    pair_begin(w, 1);
    pair_endpoint(w, PAIR_SERVER, server);
    pair_endpoint(w, PAIR_CLIENT, client);
}

static const pair_side *client_of(const pair_world *w)
{
    return &w->side[PAIR_CLIENT];
}

static bool opened_again(const pair_world *w)
{
    return w->side[0].opened >= 2 && w->side[1].opened >= 2;
}

// A first connection, whose session stays with the client.
static void first(pair_world *w)
{
    w->side[PAIR_CLIENT].conn = pair_connect(w);
    assert_true(pair_run_until(w, pair_both_open, 10 * SECOND));
    pair_run(w, SECOND);
}

static hm_buf copy_of(const hm_buf *b)
{
    hm_buf out = {0};
    hm_buf_put(&out, hm_buf_bytes(b));
    return out;
}

// Connects with a session; true when it was resumed.
static bool again(pair_world *w, hm_bytes session)
{
    w->side[0].opened = w->side[1].opened = 1;
    unsigned before = w->side[0].resumed;
    w->side[PAIR_CLIENT].conn = pair_resume(w, session, false);
    assert_true(pair_run_until(w, opened_again, 20 * SECOND));
    assert_int_equal(w->side[0].resumed, w->side[1].resumed);
    return w->side[0].resumed > before;
}

static void test_resumed(void **state)
{
    (void)state;
    pair_world w;
    begin(&w, server_config(), (stoq_config){.client_tls = pair_ids.open_client});
    first(&w);
    assert_int_equal(client_of(&w)->sessions, 1); // of two
    assert_int_equal(client_of(&w)->resumed, 0);
    assert_null(client_of(&w)->conn->tls.ssl);
    assert_int_equal(client_of(&w)->closed, 0);
    // Every resumed connection has the next session, and a key exchange of its own.
    for (unsigned i = 1; i < 4; i++) {
        hm_buf s = copy_of(&client_of(&w)->session);
        assert_true(again(&w, hm_buf_bytes(&s)));
        pair_run(&w, SECOND);
        assert_int_equal(client_of(&w)->sessions, 1 + i);
        for (int k = 0; k < 2; k++) {
            assert_string_equal(stoq_conn_group(w.side[k].conn), "X25519MLKEM768");
            assert_string_equal(stoq_conn_alpn(w.side[k].conn), STOQ_ALPN_MESH);
            assert_null(w.side[k].conn->tls.ssl);
        }
        assert_non_null(stoq_conn_peer_cert(client_of(&w)->conn));
        hm_buf_free(&s);
    }
    pair_end(&w);
}

static void test_how_many(void **state)
{
    (void)state;
    for (unsigned gives = 0; gives <= 3; gives++)
        for (unsigned keeps = 1; keeps <= 3; keeps++) {
            pair_world w;
            stoq_config server = server_config();
            server.tickets = gives;
            begin(&w, server, (stoq_config){.client_tls = pair_ids.open_client, .sessions = keeps});
            first(&w);
            assert_int_equal(client_of(&w)->sessions, gives < keeps ? gives : keeps);
            assert_true((client_of(&w)->conn->tls.ssl == NULL) == (gives >= keeps));
            assert_null(w.side[PAIR_SERVER].conn->tls.ssl);
            pair_end(&w);
        }
}

// Tickets in pieces: what OpenSSL has read of a message that nobody wants is counted.
static void test_pieces(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        pair_world w;
        stoq_config server = server_config();
        server.tickets = STOQ_TICKETS_MAX;
        begin(&w, server, (stoq_config){.client_tls = pair_ids.open_client});
        hm_prng_seed(&w.prng, seed);
        w.loss = 10;
        w.jitter_us = 20000;
        w.side[PAIR_CLIENT].conn = pair_connect(&w);
        assert_true(pair_run_until(&w, pair_both_open, 10 * SECOND));
        pair_run(&w, 5 * SECOND);
        assert_int_equal(client_of(&w)->sessions, 1);
        assert_int_equal(client_of(&w)->closed + w.side[PAIR_SERVER].closed, 0);
        pair_end(&w);
    }
}

// Where a certificate of the client is asked for, or shown, nothing is resumed.
static void test_mutual(void **state)
{
    (void)state;
    pair_world w;
    stoq_config server = server_config();
    server.server_tls = pair_ids.server;
    begin(&w, server, (stoq_config){.client_tls = pair_ids.client});
    first(&w);
    assert_int_equal(client_of(&w)->sessions, 0);
    assert_null(client_of(&w)->conn->tls.ssl);
    pair_end(&w);
    // A server that gives tickets all the same.
    begin(&w, server_config(), (stoq_config){.client_tls = pair_ids.client});
    first(&w);
    assert_int_equal(client_of(&w)->sessions, 0);
    assert_null(client_of(&w)->conn->tls.ssl);
    pair_end(&w);
    // A client that checks revocation lists.
    assert_true(stoq_tls_may_resume(pair_ids.open_client, false));
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(pair_ids.open_client), X509_V_FLAG_CRL_CHECK);
    assert_false(stoq_tls_may_resume(pair_ids.open_client, false));
    X509_VERIFY_PARAM_clear_flags(SSL_CTX_get0_param(pair_ids.open_client), X509_V_FLAG_CRL_CHECK);
}

// A session as it was told, with the ticket in it damaged as only a server can see.
static void damage_ticket(hm_buf *b, unsigned at)
{
    stoq_session s;
    const unsigned char *ticket, *der = NULL;
    unsigned char *out = NULL;
    size_t len;
    OK(stoq_session_decode(hm_buf_bytes(b), NULL, hm_clock_wall_ms(&hm_clock_system) / 1000, &s));
    SSL_SESSION_get0_ticket(s.tls, &ticket, &len);
    assert_true(at < len);
    int n = i2d_SSL_SESSION(s.tls, &out);
    uint8_t *found = memmem(out, (size_t)n, ticket, len);
    assert_non_null(found);
    found[at] ^= 1;
    SSL_SESSION_free(s.tls);
    der = out;
    s.tls = d2i_SSL_SESSION(NULL, &der, n);
    assert_non_null(s.tls);
    hm_buf again = {0};
    OK(stoq_session_encode(&s, &again));
    hm_buf_free(b);
    *b = again;
    stoq_session_free(&s);
    OPENSSL_free(out);
}

// What is wrong with a session makes a whole handshake of it, never a failure.
static void test_fall_back(void **state)
{
    (void)state;
    pair_world w;
    begin(&w, server_config(), (stoq_config){.client_tls = pair_ids.open_client});
    first(&w);
    hm_buf s = copy_of(&client_of(&w)->session);
    for (size_t at = 0; at < s.len; at += 97) {
        hm_buf t = copy_of(&s);
        t.ptr[at] ^= (uint8_t)(1u << (at & 7));
        assert_false(again(&w, hm_buf_bytes(&t)));
        hm_buf_free(&t);
    }
    assert_false(again(&w, hm_bytes_of(s.ptr, s.len - 1)));
    assert_false(again(&w, (hm_bytes){0}));
    // The ticket's key name, its vector, its contents, its end.
    static const unsigned places[] = {0, 15, 16, 40, 100};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        hm_buf t = copy_of(&s);
        damage_ticket(&t, places[i]);
        assert_false(again(&w, hm_buf_bytes(&t)));
        hm_buf_free(&t);
    }
    assert_true(again(&w, hm_buf_bytes(&s)));
    hm_buf_free(&s);
    pair_end(&w);
}

static void test_decode(void **state)
{
    (void)state;
    pair_world w;
    stoq_session s;
    begin(&w, server_config(), (stoq_config){.client_tls = pair_ids.open_client});
    first(&w);
    hm_bytes b = hm_buf_bytes(&client_of(&w)->session);
    uint64_t now = hm_clock_wall_ms(&hm_clock_system) / 1000;
    assert_int_equal(stoq_session_decode(b, "elsewhere", now, &s), HM_E_INVALID);
    assert_int_equal(stoq_session_decode(b, NULL, now + LIFE_S, &s), HM_E_INVALID);
    assert_int_equal(stoq_session_decode(b, NULL, now - 1000, &s), HM_E_INVALID);
    OK(stoq_session_decode(b, NULL, now + LIFE_S - 10, &s));
    assert_true(hm_bytes_eq(s.alpn, hm_bytes_str(STOQ_ALPN_MESH)));
    assert_int_equal(s.params.max_data, STOQ_CONN_WINDOW);
    assert_false(s.params.has_initial_scid || s.params.has_reset_token);
    // A day after the last proof, whatever the ticket says.
    SSL_SESSION_set_time_ex(s.tls, (time_t)now);
    s.proven_s = now - STOQ_SESSION_LIFE_S;
    hm_buf old = {0};
    OK(stoq_session_encode(&s, &old));
    stoq_session_free(&s);
    assert_int_equal(stoq_session_decode(hm_buf_bytes(&old), NULL, now, &s), HM_E_INVALID);
    hm_buf_free(&old);
    pair_end(&w);
}

// By the endpoint's clock: a ticket is taken for its lifetime, whichever key sealed it.
static void test_lifetime(void **state)
{
    (void)state;
    static const struct {
        unsigned given_s, used_s;
        bool taken;
    } cases[] = {{0, 500, true},     {0, 590, true},    {0, 610, false},    {590, 1180, true},
                 {590, 1200, false}, {650, 1240, true}, {650, 1260, false}, {0, 100000, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pair_world w;
        begin(&w, server_config(), (stoq_config){.client_tls = pair_ids.open_client});
        first(&w); // makes the first key
        uint64_t start = w.now;
        if (cases[i].given_s > 0) {
            pair_run(&w, cases[i].given_s * SECOND);
            w.side[0].opened = w.side[1].opened = 0;
            first(&w);
        }
        hm_buf s = copy_of(&client_of(&w)->session);
        pair_run(&w, start + cases[i].used_s * SECOND - w.now);
        assert_true(again(&w, hm_buf_bytes(&s)) == cases[i].taken);
        hm_buf_free(&s);
        pair_end(&w);
    }
}

static void test_keys(void **state)
{
    (void)state;
    uint64_t now = 5 * SECOND;
    stoq_ticket_store store;
    stoq_ticket_key keys[3], k;
    stoq_ticket_store_init(&store, &hm_random_system, 0);
    stoq_tickets t = {.store = &store, .now_us = &now, .life_us = 100 * SECOND};
    assert_true(stoq_tickets_seal(&t, &keys[0]));
    now += 99 * SECOND;
    assert_true(stoq_tickets_seal(&t, &k));
    assert_memory_equal(k.name, keys[0].name, 16);
    now += 1 * SECOND;
    assert_true(stoq_tickets_seal(&t, &keys[1]));
    assert_memory_not_equal(keys[1].name, keys[0].name, 16);
    assert_memory_not_equal(keys[1].aes, keys[0].aes, 32);
    assert_true(stoq_tickets_open(&t, keys[0].name, &k));
    assert_memory_equal(k.aes, keys[0].aes, 32);
    now += 99 * SECOND; // the end of its last ticket
    assert_true(stoq_tickets_open(&t, keys[0].name, &k));
    now += 1 * SECOND;
    assert_false(stoq_tickets_open(&t, keys[0].name, &k));
    assert_true(stoq_tickets_open(&t, keys[1].name, &k));
    assert_true(stoq_tickets_seal(&t, &keys[2]));
    assert_false(stoq_tickets_open(&t, keys[0].name, &k));
    assert_true(stoq_tickets_open(&t, keys[1].name, &k));
    stoq_tickets_forget(&t);
    assert_false(stoq_tickets_open(&t, keys[1].name, &k));
    assert_false(stoq_tickets_open(&t, keys[2].name, &k));
    static const uint8_t none[16];
    assert_false(stoq_tickets_open(&t, none, &k));
    stoq_ticket_store_free(&store);
}

// Two views of one store: what one gives the other takes, though its clock is a moment behind; and
// one that has not forgotten yet neither gives nor takes.
static void test_shared_keys(void **state)
{
    (void)state;
    uint64_t now[2] = {5 * SECOND, 5 * SECOND - 3};
    uint8_t id[STOQ_STRIKE_BYTES] = {1};
    stoq_ticket_store store;
    stoq_ticket_key given, k;
    stoq_ticket_store_init(&store, &hm_random_system, 10);
    stoq_tickets t[2];
    for (int i = 0; i < 2; i++)
        t[i] = (stoq_tickets){.store = &store, .now_us = &now[i], .life_us = 100 * SECOND};
    assert_true(stoq_tickets_seal(&t[0], &given));
    assert_true(stoq_tickets_open(&t[1], given.name, &k));
    assert_memory_equal(k.mac, given.mac, 32);
    assert_true(stoq_tickets_seal(&t[1], &k));
    assert_memory_equal(k.name, given.name, 16);
    assert_true(stoq_tickets_strike(&t[1], id));
    assert_false(stoq_tickets_strike(&t[0], id));
    stoq_tickets_forget(&t[0]);
    for (int i = 0; i < 2; i++)
        assert_false(stoq_tickets_open(&t[i], given.name, &k));
    assert_true(stoq_tickets_seal(&t[0], &given));
    assert_false(stoq_tickets_seal(&t[1], &k));
    assert_false(stoq_tickets_open(&t[1], given.name, &k));
    stoq_tickets_forget(&t[1]); // and what the first one gave since is good
    assert_true(stoq_tickets_open(&t[1], given.name, &k));
    assert_true(stoq_tickets_seal(&t[1], &k));
    assert_memory_equal(k.name, given.name, 16);
    stoq_ticket_store_free(&store);
}

// A new context, such as one with other certificates, takes no ticket given under the old one.
static void test_server_tls_changes(void **state)
{
    (void)state;
    pair_world w;
    begin(&w, server_config(), (stoq_config){.client_tls = pair_ids.open_client});
    first(&w);
    hm_buf s = copy_of(&client_of(&w)->session);
    assert_true(again(&w, hm_buf_bytes(&s)));
    stoq_endpoint_set_server_tls(w.side[PAIR_SERVER].ep, pair_ids.open_server);
    assert_false(again(&w, hm_buf_bytes(&s)));
    hm_buf_free(&s);
    pair_end(&w);
}

static void test_config(void **state)
{
    (void)state;
    stoq_endpoint *ep;
    stoq_net net = {0};
    stoq_config c = {.net = &net, .alpn = {"x"}};
    c.tickets = STOQ_TICKETS_MAX + 1;
    assert_int_equal(stoq_endpoint_create(&c, &ep), HM_E_CONFIG);
    c.tickets = 0;
    c.ticket_lifetime_s = STOQ_TICKET_LIFETIME_MAX_S + 1;
    assert_int_equal(stoq_endpoint_create(&c, &ep), HM_E_CONFIG);
    c.ticket_lifetime_s = 0;
    c.sessions = STOQ_SESSIONS_MAX + 1;
    assert_int_equal(stoq_endpoint_create(&c, &ep), HM_E_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resumed),     cmocka_unit_test(test_how_many),
        cmocka_unit_test(test_pieces),      cmocka_unit_test(test_mutual),
        cmocka_unit_test(test_fall_back),   cmocka_unit_test(test_decode),
        cmocka_unit_test(test_lifetime),    cmocka_unit_test(test_keys),
        cmocka_unit_test(test_shared_keys), cmocka_unit_test(test_server_tls_changes),
        cmocka_unit_test(test_config),
    };
    return cmocka_run_group_tests(tests, pair_make_ids, pair_free_ids);
}
