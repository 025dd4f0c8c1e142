// Around the handshake: how long OpenSSL's object lives, and what may come after it.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stoq_pair.h"

#define OK(e) assert_int_equal((e), HM_OK)
#define SECOND UINT64_C(1000000)

static bool any_closed(const pair_world *w)
{
    return w->side[0].closed > 0 && w->side[1].closed > 0;
}

static void open_mesh(pair_world *w)
{
    pair_begin(w, 1);
    pair_endpoint(w, PAIR_SERVER, (stoq_config){.server_tls = pair_ids.server});
    pair_endpoint(w, PAIR_CLIENT, (stoq_config){.client_tls = pair_ids.client});
    w->side[PAIR_CLIENT].conn = pair_connect(w);
    assert_true(pair_run_until(w, pair_both_open, 10 * SECOND));
    pair_run(w, SECOND);
}

// What was known of the peer stays when OpenSSL's object goes.
static void test_freed(void **state)
{
    (void)state;
    pair_world w;
    open_mesh(&w);
    for (int i = 0; i < 2; i++) {
        const stoq_conn *c = w.side[i].conn;
        assert_true(c->confirmed);
        assert_null(c->tls.ssl);
        assert_non_null(stoq_conn_peer_cert(c));
        assert_string_equal(stoq_conn_alpn(c), STOQ_ALPN_MESH);
        assert_string_equal(stoq_conn_group(c), "X25519MLKEM768");
        assert_string_equal(stoq_conn_cipher(c), "TLS_AES_256_GCM_SHA384");
    }
    pair_end(&w);
}

// Lets a side say bytes of TLS in 1-RTT packets.
static void say(stoq_conn *c, const void *bytes, size_t len)
{
    OK(stoq_sendbuf_append(&c->spaces[STOQ_LEVEL_APP].crypto_out, hm_bytes_of(bytes, len)));
    conn_wake(c);
}

static void expect_close(unsigned speaker, const char *bytes, size_t len, uint64_t code)
{
    pair_world w;
    open_mesh(&w);
    say(w.side[speaker].conn, bytes, len);
    assert_true(pair_run_until(&w, any_closed, 10 * SECOND));
    for (int i = 0; i < 2; i++)
        assert_int_equal(w.side[i].code, code);
    assert_int_equal(w.side[!speaker].why, HM_E_STOQ_TLS);
    assert_int_equal(w.side[speaker].why, HM_E_CLOSED);
    pair_end(&w);
}

static void test_late_messages(void **state)
{
    (void)state;
    // KeyUpdate (RFC 9001, section 6), of both sides; a client's ticket; CertificateRequest.
    expect_close(PAIR_SERVER, "\x18\0\0\1\0", 5, STOQ_CRYPTO_ERROR + 10);
    expect_close(PAIR_CLIENT, "\x18\0\0\1\0", 5, STOQ_CRYPTO_ERROR + 10);
    expect_close(PAIR_CLIENT, "\4\0\0\1\0", 5, STOQ_CRYPTO_ERROR + 10);
    expect_close(PAIR_SERVER, "\x0d\0\0\1\0", 5, STOQ_CRYPTO_ERROR + 10);
    // After a ticket that is well formed; one that claims to have no end.
    expect_close(PAIR_SERVER, "\4\0\0\3abc\x18\0\0\1\0", 12, STOQ_CRYPTO_ERROR + 10);
    expect_close(PAIR_SERVER, "\4\xff\xff\xff", 4, STOQ_CRYPTO_ERROR + 50);
}

// A server may give tickets without end; nothing of them is kept.
static void test_unwanted_tickets(void **state)
{
    (void)state;
    pair_world w;
    uint8_t ticket[1004] = {4, 0, 1000 >> 8, 1000 & 255};
    open_mesh(&w);
    for (unsigned i = 0; i < 200; i++) {
        say(w.side[PAIR_SERVER].conn, ticket, sizeof ticket);
        pair_run(&w, SECOND / 10);
    }
    const stoq_recvbuf *in = &w.side[PAIR_CLIENT].conn->spaces[STOQ_LEVEL_APP].crypto_in;
    assert_int_equal(in->read, 200 * sizeof ticket);
    assert_int_equal(in->ready, in->read);
    assert_true(in->cap <= STOQ_CRYPTO_WINDOW);
    assert_int_equal(w.side[PAIR_CLIENT].closed, 0);
    pair_end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_freed),
        cmocka_unit_test(test_late_messages),
        cmocka_unit_test(test_unwanted_tickets),
    };
    return cmocka_run_group_tests(tests, pair_make_ids, pair_free_ids);
}
