// The ways into the DNS service, over ::1, and clients that break the rules.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "free_port.h"
#include "ok.h"
#include "server/dns_doq.h"
#include "server/dns_tcp.h"
#include "server/dns_udp.h"
#include "stoq_ids.h"

#define LIMIT_MS 60000
#define ZONE "dev.internal"

// ---- the service, which the tests drive turn by turn
// ---------------------------------------------

static uv_loop_t loop;
static dns_core core;
static dns_counters counters;
static dns_doq *doq;
static dns_udp *udp;
static dns_tcp *tcp, *tls;
static stoq_ids ids;
static struct sockaddr_in6 doq_at, udp_at, tcp_at, tls_at;

static bool zone_get(void *ctx, const dns_name *name, hm_bytes *records)
{
    return dns_zone_get(ctx, name, records);
}

static dns_name name_of(const char *text)
{
    dns_name n;
    OK(dns_name_parse(hm_bytes_str(text), &n));
    return n;
}

static void put(const char *name, uint16_t type, const char *text, unsigned copies)
{
    hm_buf records = {0}, data = {0};
    dns_name n = name_of(name);
    for (unsigned i = 0; i < copies; i++) {
        hm_buf_reset(&data);
        if (text != NULL)
            OK(dns_rdata_parse(type, hm_bytes_str(text), &data));
        else
            for (unsigned k = 0; k < 22; k++)
                hm_wr_u8(&data, 0);
        if (copies > 1)
            data.ptr[data.len - 1] = (uint8_t)i;
        OK(dns_records_add(&records, &(dns_record){type, 60, hm_buf_bytes(&data)}));
    }
    OK(dns_zone_set(core.zone, &n, hm_buf_bytes(&records), HM_TIME_NEVER));
    hm_buf_free(&records);
    hm_buf_free(&data);
}

static int setup(void **state)
{
    (void)state;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    dns_name apex = name_of(ZONE);
    OK(hm_crypto_init());
    stoq_ids_make_plain(&ids);
    uv_loop_init(&loop);
    core = (dns_core){.loop = &loop, .n = &counters};
    counters = (dns_counters){0};
    dns_limit_init(&core.limit, 0, 64, &hm_random_system);
    OK(dns_zone_open(&apex, &hm_random_system, &core.zone));
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    OK(dns_signer_open(key, &apex, &core.source.signer));
    core.source.apex = apex;
    core.source.get = zone_get;
    core.source.ctx = core.zone;
    put(ZONE, DNS_TYPE_SOA, NULL, 1);
    put("www." ZONE, DNS_TYPE_AAAA, "fd48::1", 1);
    put("big." ZONE, DNS_TYPE_AAAA, "fd48::1", 120);
    OK(dns_doq_open(&core, &any, ids.server, &doq));
    dns_doq_address(doq, &doq_at);
    OK(dns_udp_open(&core, &any, &udp));
    dns_udp_address(udp, &udp_at);
    tcp_at = free_port(SOCK_STREAM);
    OK(dns_tcp_open(&core, &tcp_at, NULL, &tcp));
    tls_at = free_port(SOCK_STREAM);
    OK(dns_tcp_open(&core, &tls_at, ids.server, &tls));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    dns_doq_close(doq);
    dns_udp_close(udp);
    dns_tcp_close(tcp);
    dns_tcp_close(tls);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    for (unsigned i = 0; i < DNS_WAYS; i++)
        assert_int_equal(atomic_load(&counters.connections[i]), 0);
    dns_doq_free(doq);
    dns_udp_free(udp);
    dns_tcp_free(tcp);
    dns_tcp_free(tls);
    dns_zone_close(core.zone);
    dns_signer_close(core.source.signer);
    stoq_ids_free(&ids);
    return 0;
}

static uint64_t now_ms(void)
{
    return hm_clock_mono_us(&hm_clock_system) / 1000;
}

static size_t make_query(const char *name, uint16_t id, uint8_t out[DNS_QUERY_MAX])
{
    dns_name n = name_of(name);
    return dns_query_write(out, id, 0, &n, DNS_TYPE_AAAA, false, false);
}

// ---- by UDP and TCP -----------------------------------------------------------------------------

static int connect_to(const struct sockaddr_in6 *at, int type)
{
    int fd = socket(AF_INET6, type | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof *at) == 0);
    return fd;
}

// What comes on the socket until there are so many bytes (0: until it ends), with the service's
// turns between. -1: nothing in so many milliseconds.
static ssize_t receive(int fd, uint8_t *out, size_t size, size_t wanted, int patience_ms)
{
    size_t len = 0;
    uint64_t until = now_ms() + (uint64_t)patience_ms;
    while (now_ms() < until) {
        uv_run(&loop, UV_RUN_NOWAIT);
        ssize_t n = recv(fd, out + len, size - len, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return (ssize_t)len;
        len += n > 0 ? (size_t)n : 0;
        if (wanted > 0 && len >= wanted)
            return (ssize_t)len;
    }
    return -1;
}

static uint8_t got[1 << 18];

static void test_udp(void **state)
{
    (void)state;
    uint8_t query[DNS_QUERY_MAX];
    dns_msg m;
    int fd = connect_to(&udp_at, SOCK_DGRAM);
    size_t len = make_query("www." ZONE, 77, query);
    assert_int_equal(send(fd, query, len, 0), len);
    ssize_t n = receive(fd, got, sizeof got, 1, LIMIT_MS);
    OK(dns_msg_read(hm_bytes_of(got, (size_t)n), &m));
    assert_true(m.id == 77 && m.counts[DNS_ANSWER] == 1 && (m.flags & DNS_AA));
    len = make_query("big." ZONE, 78, query); // does not fit: by TCP, then
    assert_int_equal(send(fd, query, len, 0), len);
    n = receive(fd, got, sizeof got, 1, LIMIT_MS);
    OK(dns_msg_read(hm_bytes_of(got, (size_t)n), &m));
    assert_true((m.flags & DNS_TC) && m.counts[DNS_ANSWER] == 0);
    // Half a header and an answer get nothing back, a question that is cut off gets FORMERR.
    assert_int_equal(send(fd, query, 5, 0), 5);
    query[2] |= 0x80;
    assert_int_equal(send(fd, query, len, 0), len);
    query[2] &= 0x7f;
    assert_int_equal(send(fd, query, 20, 0), 20);
    n = receive(fd, got, sizeof got, 1, LIMIT_MS);
    assert_int_equal(n, DNS_HEADER_BYTES);
    OK(dns_msg_read(hm_bytes_of(got, (size_t)n), &m));
    assert_true(m.id == 78 && dns_msg_rcode(&m) == DNS_FORMERR);
    close(fd);
}

// Asks from ::1, by a socket that hears nobody but the one it asked, until an answer comes: the
// kernel makes an address that was just added usable a moment later.
static bool answered_from(const struct sockaddr_in6 *at)
{
    const struct sockaddr_in6 mine = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    uint8_t query[DNS_QUERY_MAX];
    size_t len = make_query("www." ZONE, 79, query);
    bool ok = false;
    for (uint64_t until = now_ms() + LIMIT_MS; !ok && now_ms() < until;) {
        int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        ok = fd >= 0 && bind(fd, (const struct sockaddr *)&mine, sizeof mine) == 0 &&
             connect(fd, (const struct sockaddr *)at, sizeof *at) == 0 &&
             send(fd, query, len, 0) == (ssize_t)len &&
             receive(fd, got, sizeof got, 1, 200) > (ssize_t)len;
        close(fd);
    }
    return ok;
}

// At all addresses, in a network of its own: the answer comes from the one that was asked. What is
// found is judged back in the old network, for the tests after this one.
static void test_udp_at_all_addresses(void **state)
{
    (void)state;
    struct sockaddr_in6 at = {.sin6_family = AF_INET6};
    dns_udp *all = NULL;
    bool ready, loopback = false, second = false;
    int before = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (before < 0 || unshare(CLONE_NEWNET) != 0)
        skip();
    ready = system("ip link set lo up && ip address add fd00::53/128 dev lo") == 0 &&
            dns_udp_open(&core, &at, &all) == HM_OK;
    if (ready) {
        dns_udp_address(all, &at);
        at.sin6_addr = in6addr_loopback;
        loopback = answered_from(&at);
        at.sin6_addr = (struct in6_addr){{{0xfd, [15] = 0x53}}};
        second = answered_from(&at);
        dns_udp_close(all);
        uv_run(&loop, UV_RUN_NOWAIT);
        dns_udp_free(all);
    }
    assert_int_equal(setns(before, CLONE_NEWNET), 0);
    close(before);
    assert_true(ready);
    assert_true(loopback);
    assert_true(second);
}

static size_t frame(uint8_t *out, const char *name, uint16_t id)
{
    size_t len = make_query(name, id, out + 2);
    out[0] = (uint8_t)(len >> 8);
    out[1] = (uint8_t)len;
    return len + 2;
}

static void test_tcp(void **state)
{
    (void)state;
    uint8_t bytes[3 * (DNS_QUERY_MAX + 2)];
    dns_msg m;
    int fd = connect_to(&tcp_at, SOCK_STREAM);
    // Three queries at once, and the last of them byte by byte.
    size_t len = frame(bytes, "www." ZONE, 1);
    len += frame(bytes + len, "big." ZONE, 2);
    assert_int_equal(send(fd, bytes, len, 0), len);
    len = frame(bytes, "nope." ZONE, 3);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(send(fd, bytes + i, 1, 0), 1);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    size_t at = 0, have = 0;
    for (uint16_t id = 1; id <= 3; id++) {
        while (have - at < 2 || have - at - 2 < (size_t)(got[at] << 8 | got[at + 1])) {
            ssize_t n = receive(fd, got + have, sizeof got - have, 1, LIMIT_MS);
            assert_true(n > 0);
            have += (size_t)n;
        }
        size_t one = (size_t)got[at] << 8 | got[at + 1];
        OK(dns_msg_read(hm_bytes_of(got + at + 2, one), &m));
        assert_true(m.id == id && m.counts[DNS_ANSWER] == (id == 1 ? 1 : id == 2 ? 120 : 0));
        at += 2 + one;
    }
    // What is no query ends the connection.
    memset(bytes, 0, 4);
    bytes[1] = 2;
    assert_int_equal(send(fd, bytes, 4, 0), 4);
    assert_int_equal(receive(fd, got, sizeof got, 0, LIMIT_MS), 0);
    close(fd);
    // So does plain text where TLS is wanted.
    fd = connect_to(&tls_at, SOCK_STREAM);
    len = frame(bytes, "www." ZONE, 1);
    assert_int_equal(send(fd, bytes, len, 0), len);
    assert_true(receive(fd, got, sizeof got, 0, LIMIT_MS) >= 0); // an alert, and the end
    close(fd);
}

// Who asks and never reads is read no further, and costs no more than its queue.
static void test_tcp_without_reading(void **state)
{
    (void)state;
    uint8_t bytes[DNS_QUERY_MAX + 2];
    const int little = 4096;
    size_t len = frame(bytes, "big." ZONE, 1), sent = 0;
    int fd = connect_to(&tcp_at, SOCK_STREAM);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &little, sizeof little);
    uint64_t asked = atomic_load(&counters.queries[DNS_WAY_TCP]);
    unsigned idle = 0;
    while (idle < 2000) { // until nothing moves
        ssize_t n = send(fd, bytes + sent % len, len - sent % len, MSG_DONTWAIT);
        sent += n > 0 ? (size_t)n : 0;
        uv_run(&loop, UV_RUN_NOWAIT);
        uint64_t now = atomic_load(&counters.queries[DNS_WAY_TCP]);
        idle = n > 0 || now != asked ? 0 : idle + 1;
        asked = now;
        assert_true(sent < 64u << 20);
    }
    close(fd);
    while (atomic_load(&counters.connections[DNS_WAY_TCP]) > 0)
        uv_run(&loop, UV_RUN_ONCE);
}

// ---- by QUIC ------------------------------------------------------------------------------------

typedef struct client {
    stoq_endpoint *ep;
    stoq_conn *conn;
    bool open, closed, is_app;
    uint64_t code;
    unsigned answers;
    hm_buf last; // answer
} client;

static void c_open(void *user, stoq_conn *conn)
{
    (void)conn;
    ((client *)user)->open = true;
}
static void c_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    client *c = user;
    (void)conn, (void)reason;
    c->closed = true;
    c->conn = NULL;
    c->code = code;
    c->is_app = is_app;
}
static void c_readable(void *user, stoq_stream *st)
{
    client *c = user;
    hm_buf *b = stoq_stream_user(st);
    hm_bytes view;
    bool fin = false;
    while (!fin) {
        if (stoq_stream_peek(st, &view, &fin) != HM_OK)
            return;
        if (view.len == 0 && !fin)
            return;
        hm_buf_put(b, view);
        stoq_stream_consume(st, view.len);
    }
    hm_buf_free(&c->last);
    c->last = *b;
    *b = (hm_buf){0};
    c->answers++;
}
static void c_stream_closed(void *user, stoq_stream *st)
{
    hm_buf *b = stoq_stream_user(st);
    (void)user;
    hm_buf_free(b);
    free(b);
}

static stoq_stream *stream_open(client *c, bool one_way)
{
    stoq_stream *st;
    OK(stoq_stream_open(c->conn, one_way, &st));
    stoq_stream_set_user(st, calloc(1, sizeof(hm_buf)));
    assert_non_null(stoq_stream_user(st));
    return st;
}

static void client_open(client *c)
{
    memset(c, 0, sizeof *c);
    const stoq_config cfg = {.bind = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT},
                             .client_tls = ids.client,
                             .alpn = {DOQ_ALPN},
                             .callbacks = {.conn_open = c_open,
                                           .conn_closed = c_closed,
                                           .stream_readable = c_readable,
                                           .stream_closed = c_stream_closed},
                             .user = c};
    OK(stoq_endpoint_create(&cfg, &c->ep));
    OK(stoq_connect(c->ep, &doq_at, NULL, NULL, NULL, &c->conn));
}

static void turn(client *c)
{
    uv_run(&loop, UV_RUN_NOWAIT);
    stoq_endpoint_process(c->ep, stoq_now_us(), true);
}

#define UNTIL(c, condition)                                                                        \
    do {                                                                                           \
        uint64_t until_ = now_ms() + LIMIT_MS;                                                     \
        while (!(condition) && now_ms() < until_)                                                  \
            turn(c);                                                                               \
        assert_true(condition);                                                                    \
    } while (0)

static void client_close(client *c)
{
    uint64_t before = atomic_load(&counters.connections[DNS_WAY_QUIC]);
    stoq_endpoint_destroy(c->ep);
    hm_buf_free(&c->last);
    while (before > 0 && atomic_load(&counters.connections[DNS_WAY_QUIC]) == before)
        uv_run(&loop, UV_RUN_ONCE);
}

static void say(client *c, const uint8_t *bytes, size_t len, bool fin)
{
    stoq_stream *st = stream_open(c, false);
    size_t took;
    OK(stoq_stream_send(st, hm_bytes_of(bytes, len), fin, &took));
    assert_int_equal(took, len);
}

static void test_quic(void **state)
{
    (void)state;
    client c;
    uint8_t bytes[DNS_QUERY_MAX + 2];
    dns_msg m;
    client_open(&c);
    UNTIL(&c, c.open);
    size_t len = frame(bytes, "www." ZONE, 0);
    say(&c, bytes, len, true);
    UNTIL(&c, c.answers == 1);
    OK(dns_msg_read(hm_bytes_of(c.last.ptr + 2, c.last.len - 2), &m));
    assert_true(m.id == 0 && m.counts[DNS_ANSWER] == 1);
    // Many at once, in more pieces than one, and a large answer.
    len = frame(bytes, "big." ZONE, 0);
    for (unsigned i = 0; i < 50; i++)
        say(&c, bytes, len, true);
    stoq_stream *st = stream_open(&c, false);
    size_t took;
    for (size_t i = 0; i < len; i++) {
        OK(stoq_stream_send(st, hm_bytes_of(bytes + i, 1), i + 1 == len, &took));
        turn(&c);
    }
    UNTIL(&c, c.answers == 52);
    OK(dns_msg_read(hm_bytes_of(c.last.ptr + 2, c.last.len - 2), &m));
    assert_int_equal(m.counts[DNS_ANSWER], 120);
    // A stream that is given up half way harms nobody.
    st = stream_open(&c, false);
    OK(stoq_stream_send(st, hm_bytes_of(bytes, 5), false, &took));
    for (unsigned i = 0; i < 20; i++)
        turn(&c);
    stoq_stream_reset(st, DOQ_REQUEST_CANCELLED);
    len = frame(bytes, "www." ZONE, 0);
    say(&c, bytes, len, true);
    UNTIL(&c, c.answers == 53);
    client_close(&c);
}

// Each of these ends the connection with DOQ_PROTOCOL_ERROR.
static void test_quic_violations(void **state)
{
    (void)state;
    uint8_t query[DNS_QUERY_MAX + 2];
    size_t whole = frame(query, "www." ZONE, 0);
    for (unsigned kind = 0; kind < 8; kind++) {
        client c;
        uint8_t bytes[2 * sizeof query];
        size_t len = whole, took;
        stoq_stream *st;
        client_open(&c);
        UNTIL(&c, c.open);
        memcpy(bytes, query, whole);
        switch (kind) {
        case 0: // an id
            bytes[3] = 1;
            break;
        case 1: // cut off
            len--;
            break;
        case 2: // two messages
            memcpy(bytes + whole, query, whole);
            len += whole;
            break;
        case 3: // an answer
            bytes[4] |= 0x80;
            break;
        case 4: // no header
            bytes[1] = 3;
            len = 5;
            break;
        case 5: // nothing
            len = 0;
            break;
        case 6: // the keepalive option
            bytes[1] += 4;
            bytes[whole - 1] = 4;
            memcpy(bytes + whole, "\0\x0b\0\0", 4);
            len += 4;
            break;
        default:
            st = stream_open(&c, true);
            OK(stoq_stream_send(st, hm_bytes_of(bytes, len), true, &took));
        }
        if (kind < 7)
            say(&c, bytes, len, true);
        UNTIL(&c, c.closed);
        if (!c.is_app || c.code != DOQ_PROTOCOL_ERROR)
            fail_msg("kind %u: closed with 0x%llx", kind, (unsigned long long)c.code);
        assert_int_equal(c.answers, 0);
        client_close(&c);
    }
}

// More connections than a client may have are refused, and there is room again once some end.
static void test_quic_connections(void **state)
{
    (void)state;
    client c[5];
    core.limit.connections = 4;
    for (unsigned i = 0; i < 4; i++) {
        client_open(&c[i]);
        UNTIL(&c[i], c[i].open);
    }
    for (uint64_t until = now_ms() + LIMIT_MS;
         atomic_load(&counters.connections[DNS_WAY_QUIC]) < 4 && now_ms() < until;)
        for (unsigned i = 0; i < 4; i++)
            turn(&c[i]);
    client_open(&c[4]);
    UNTIL(&c[4], c[4].closed);
    assert_true(c[4].is_app && c[4].code == DOQ_EXCESSIVE_LOAD);
    assert_int_equal(atomic_load(&counters.refused_connections), 1);
    stoq_endpoint_destroy(c[4].ep);
    client_close(&c[0]);
    client_open(&c[0]);
    UNTIL(&c[0], c[0].open);
    uint8_t bytes[DNS_QUERY_MAX + 2];
    say(&c[0], bytes, frame(bytes, "www." ZONE, 0), true);
    UNTIL(&c[0], c[0].answers == 1);
    for (unsigned i = 0; i < 4; i++)
        client_close(&c[i]);
    core.limit.connections = 64;
}

// ---- whom a question goes to --------------------------------------------------------------------

typedef struct asked {
    unsigned count;
    dns_forward *forward;
} asked;

static hm_err note_send(void *ctx, unsigned slot, unsigned server, hm_bytes query)
{
    (void)slot, (void)server, (void)query;
    ((asked *)ctx)->count++;
    return HM_OK;
}

static void note_forget(void *ctx, unsigned slot)
{
    (void)ctx, (void)slot;
}

static void no_answer(dns_wait *w, hm_bytes answer)
{
    (void)w, (void)answer;
}

// The code of the answer, or DNS_LATER: it went to somebody.
static size_t route_of(const char *name, bool rd)
{
    static uint8_t out[DNS_MSG_MAX];
    uint8_t bytes[DNS_QUERY_MAX];
    dns_msg query, reply;
    dns_wait w = {.done = no_answer};
    dns_name n = name_of(name);
    size_t len = dns_query_write(bytes, 5, rd ? DNS_RD : 0, &n, DNS_TYPE_AAAA, false, false);
    len = dns_core_ask(&core, hm_bytes_of(bytes, len), DNS_WAY_TCP, &query, out);
    if (len == DNS_LATER)
        len = dns_core_forward(&core, &query, DNS_WAY_TCP, &w, out);
    if (len == 0) {
        dns_forward_leave(&w);
        return DNS_LATER;
    }
    OK(dns_msg_read(hm_bytes_of(out, len), &reply));
    return dns_msg_rcode(&reply);
}

// A zone with servers of its own is asked of those and of nobody else, whatever there is besides.
static void test_routes(void **state)
{
    (void)state;
    static asked all, b, deep;
    asked *const each[] = {&all, &b, &deep};
    for (unsigned i = 0; i < 3; i++)
        OK(dns_forward_open(&(dns_forward_config){.servers = 1,
                                                  .send = note_send,
                                                  .forget = note_forget,
                                                  .ctx = each[i],
                                                  .random = &hm_random_system},
                            &each[i]->forward));
    core.routes[0] = (dns_route){.zone = name_of("b.example"), .forward = b.forward};
    core.routes[1] = (dns_route){.zone = name_of("x.b.example"), .forward = deep.forward};
    core.route_count = 2;
    // Nobody is believed, and there is nobody for the rest.
    assert_int_equal(route_of("www.b.example", true), DNS_SERVFAIL);
    assert_int_equal(route_of("www.x.b.example", true), DNS_SERVFAIL);
    assert_int_equal(route_of("www.c.example", true), DNS_REFUSED);
    assert_int_equal(route_of("www.b.example", false), DNS_REFUSED);
    assert_int_equal(route_of("www." ZONE, true), DNS_NOERROR);
    core.forward = all.forward;
    assert_int_equal(route_of("www.b.example", true), DNS_SERVFAIL);
    assert_true(all.count == 0 && b.count == 0 && deep.count == 0);
    core.routes[0].believed = true;
    assert_int_equal(route_of("b.example", true), DNS_LATER);
    assert_int_equal(route_of("WWW.B.EXAMPLE", true), DNS_LATER);
    assert_int_equal(route_of("www.x.b.example", true), DNS_SERVFAIL);
    assert_true(all.count == 0 && b.count == 2 && deep.count == 0);
    core.routes[1].believed = true;
    assert_int_equal(route_of("www.x.b.example", true), DNS_LATER);
    assert_int_equal(route_of("evilb.example", true), DNS_LATER);
    assert_int_equal(route_of("www." ZONE, true), DNS_NOERROR);
    assert_true(all.count == 1 && b.count == 2 && deep.count == 1);
    dns_core_count_forwarded(&core);
    assert_int_equal(atomic_load(&counters.forwarded), 4);
    core.forward = NULL;
    core.route_count = 0;
    for (unsigned i = 0; i < 3; i++)
        dns_forward_close(each[i]->forward);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_udp),
        cmocka_unit_test(test_udp_at_all_addresses),
        cmocka_unit_test(test_tcp),
        cmocka_unit_test(test_tcp_without_reading),
        cmocka_unit_test(test_quic),
        cmocka_unit_test(test_quic_violations),
        cmocka_unit_test(test_quic_connections),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
