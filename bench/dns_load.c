// Load on a DNS server: queries by QUIC (RFC 9250) or by UDP, so many under way all the time.
//
//   dns_load quic|udp PORT ZONE NAMES SECONDS CONNECTIONS WINDOW [do] [miss] [each=QUERIES]
//
// Asks ::1 for the AAAA records of n0.ZONE, n1.ZONE ... in turn, with "do" for signatures too, with
// "miss" for names that are not there, each another one. WINDOW is what is under way on each
// connection (of UDP: socket). The first second is not counted. One JSON line.
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dns/msg.h"
#include "hypermesh/stoq.h"
#include "server/json.h"
#include "stoq_ids.h"

#define SAMPLES_MAX (1u << 23)
#define WARM_US 1000000u
#define LOST_US 1000000u
#define WINDOW_MAX 250u

static struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
static const char *zone;
static unsigned names, conn_count, window, each;
static bool dnssec, miss;
static uint64_t begin_us, end_us, asked, answered, total, wrong, lost, bytes;
static uint32_t *samples;
static size_t sample_count;

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "dns_load: %s failed: %s\n", what, hm_err_detail());
    exit(1);
}

static size_t next_query(uint8_t *out, uint16_t id)
{
    char text[128];
    dns_name n;
    snprintf(text, sizeof text, "%s%llu.%s", miss ? "miss" : "n",
             (unsigned long long)(miss ? asked : asked % names), zone);
    must(dns_name_parse(hm_bytes_str(text), &n) == HM_OK, "the name");
    asked++;
    return dns_query_write(out, id, 0, &n, DNS_TYPE_AAAA, dnssec, false);
}

static void take(hm_bytes reply, uint64_t sent_us)
{
    uint64_t now = stoq_now_us();
    dns_msg m;
    bool good = dns_msg_read(reply, &m) == HM_OK && (m.flags & DNS_QR) &&
                (miss ? m.counts[DNS_AUTHORITY] > 0
                      : dns_msg_rcode(&m) == DNS_NOERROR && m.counts[DNS_ANSWER] > 0);
    wrong += !good;
    total++;
    if (now < begin_us || now >= end_us)
        return;
    answered++;
    bytes += reply.len;
    if (sample_count < SAMPLES_MAX)
        samples[sample_count++] = (uint32_t)(now - sent_us);
}

// ---- by QUIC ------------------------------------------------------------------------------------

typedef struct doq_conn {
    stoq_conn *conn;
    bool open;
    unsigned under_way, sent;
} doq_conn;

typedef struct doq_query {
    doq_conn *conn;
    uint64_t sent_us;
    size_t len;
    uint8_t reply[1500];
} doq_query;

static doq_conn *conns;
static stoq_endpoint *ep;

static void open_conn(doq_conn *c)
{
    *c = (doq_conn){0};
    must(stoq_connect(ep, &to, "localhost", NULL, c, &c->conn) == HM_OK, "a connection");
}

static void fill(doq_conn *c)
{
    uint8_t frame[2 + DNS_QUERY_MAX];
    while (c->open && c->under_way < window && stoq_now_us() < end_us) {
        stoq_stream *st;
        if (each > 0 && c->sent >= each) {
            if (c->under_way == 0) {
                stoq_conn_close(c->conn, 0, "");
                c->open = false;
            }
            return;
        }
        size_t took = 0;
        if (stoq_stream_open(c->conn, false, &st) != HM_OK)
            return; // the server allows no more just now
        doq_query *q = malloc(sizeof *q);
        must(q != NULL, "memory");
        size_t len = next_query(frame + 2, 0);
        frame[0] = (uint8_t)(len >> 8);
        frame[1] = (uint8_t)len;
        q->conn = c;
        q->sent_us = stoq_now_us();
        q->len = 0;
        stoq_stream_set_user(st, q);
        must(stoq_stream_send(st, hm_bytes_of(frame, len + 2), true, &took) == HM_OK, "a query");
        c->under_way++;
        c->sent++;
    }
}

static void on_open(void *user, stoq_conn *conn)
{
    doq_conn *c = stoq_conn_user(conn);
    (void)user;
    c->open = true;
    fill(c);
}

static void on_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    doq_conn *c = stoq_conn_user(conn);
    (void)user, (void)is_app, (void)reason;
    if (stoq_now_us() >= end_us)
        return;
    if (code != 0)
        fprintf(stderr, "dns_load: a connection ended with code 0x%llx\n",
                (unsigned long long)code);
    lost += c->under_way;
    open_conn(c);
}

static void on_readable(void *user, stoq_stream *st)
{
    doq_query *q = stoq_stream_user(st);
    hm_bytes view;
    bool fin = false;
    (void)user;
    while (!fin) {
        if (stoq_stream_peek(st, &view, &fin) != HM_OK || (view.len == 0 && !fin))
            return;
        bool fits = q->len + view.len <= sizeof q->reply;
        if (fits && view.len > 0)
            memcpy(q->reply + q->len, view.ptr, view.len);
        q->len += fits ? view.len : 0;
        stoq_stream_consume(st, view.len);
    }
    if (q->len > 2)
        take(hm_bytes_of(q->reply + 2, q->len - 2), q->sent_us);
    else
        wrong++;
    q->conn->under_way--;
    fill(q->conn);
}

static void on_stream_closed(void *user, stoq_stream *st)
{
    (void)user;
    free(stoq_stream_user(st));
}

static void run_quic(void)
{
    stoq_ids ids;
    must(hm_crypto_init() == HM_OK, "cryptography");
    stoq_ids_make_plain(&ids);
    must(SSL_CTX_set1_groups_list(ids.client, "X25519") == 1, "the group"); // which both have
    const stoq_config cfg = {
        .bind = {.sin6_family = AF_INET6},
        .client_tls = ids.client,
        .alpn = {"doq"},
        .callbacks = {.conn_open = on_open,
                      .conn_closed = on_closed,
                      .stream_readable = on_readable,
                      .stream_closed = on_stream_closed},
        .limits = {.max_connections = 2 * conn_count + 16, .max_streams_uni = 8}};
    must(stoq_endpoint_create(&cfg, &ep) == HM_OK, "the endpoint");
    conns = calloc(conn_count, sizeof *conns);
    must(conns != NULL, "memory");
    for (unsigned i = 0; i < conn_count; i++)
        open_conn(&conns[i]);
    while (stoq_now_us() < end_us) {
        stoq_endpoint_wait(ep, stoq_now_us() + 10000);
        for (unsigned i = 0; i < conn_count; i++)
            fill(&conns[i]);
    }
    stoq_endpoint_destroy(ep);
    stoq_ids_free(&ids);
    free(conns);
}

// ---- by UDP -------------------------------------------------------------------------------------

typedef struct udp_sock {
    int fd;
    uint64_t sent_us[WINDOW_MAX]; // 0: not under way; the place is the message's id
} udp_sock;

static void udp_ask(udp_sock *s, unsigned place)
{
    uint8_t query[DNS_QUERY_MAX];
    size_t len = next_query(query, (uint16_t)place);
    s->sent_us[place] = stoq_now_us();
    if (send(s->fd, query, len, 0) != (ssize_t)len)
        s->sent_us[place] = 1; // lost: asked again after a while
}

static void udp_take(udp_sock *s)
{
    uint8_t reply[4096];
    for (ssize_t n; (n = recv(s->fd, reply, sizeof reply, MSG_DONTWAIT)) > 2;) {
        unsigned place = (unsigned)reply[0] << 8 | reply[1];
        if (place >= window || s->sent_us[place] == 0)
            continue;
        take(hm_bytes_of(reply, (size_t)n), s->sent_us[place]);
        udp_ask(s, place);
    }
}

static void run_udp(void)
{
    udp_sock *socks = calloc(conn_count, sizeof *socks);
    struct pollfd *fds = calloc(conn_count, sizeof *fds);
    uint64_t looked = stoq_now_us();
    must(socks != NULL && fds != NULL, "memory");
    for (unsigned i = 0; i < conn_count; i++) {
        socks[i].fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        must(socks[i].fd >= 0 && connect(socks[i].fd, (struct sockaddr *)&to, sizeof to) == 0,
             "a socket");
        fds[i] = (struct pollfd){.fd = socks[i].fd, .events = POLLIN};
        for (unsigned k = 0; k < window; k++)
            udp_ask(&socks[i], k);
    }
    while (stoq_now_us() < end_us) {
        (void)poll(fds, conn_count, 10);
        for (unsigned i = 0; i < conn_count; i++)
            if (fds[i].revents)
                udp_take(&socks[i]);
        if (stoq_now_us() - looked < LOST_US)
            continue;
        looked = stoq_now_us();
        for (unsigned i = 0; i < conn_count; i++)
            for (unsigned k = 0; k < window; k++)
                if (looked - socks[i].sent_us[k] > LOST_US) {
                    lost++;
                    udp_ask(&socks[i], k);
                }
    }
    for (unsigned i = 0; i < conn_count; i++)
        close(socks[i].fd);
    free(socks);
    free(fds);
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    hm_buf b = {0};
    if (argc < 8 || (strcmp(argv[1], "quic") != 0 && strcmp(argv[1], "udp") != 0)) {
        fprintf(stderr, "usage: dns_load quic|udp PORT ZONE NAMES SECONDS CONNECTIONS WINDOW [do] "
                        "[miss] [each=QUERIES]\n");
        return 2;
    }
    to.sin6_port = htons((uint16_t)atoi(argv[2]));
    zone = argv[3];
    names = (unsigned)atoi(argv[4]);
    unsigned seconds = (unsigned)atoi(argv[5]);
    conn_count = (unsigned)atoi(argv[6]);
    window = (unsigned)atoi(argv[7]);
    for (int i = 8; i < argc; i++) {
        dnssec |= strcmp(argv[i], "do") == 0;
        miss |= strcmp(argv[i], "miss") == 0;
        if (strncmp(argv[i], "each=", 5) == 0)
            each = (unsigned)atoi(argv[i] + 5);
    }
    must(names > 0 && seconds > 0 && conn_count > 0 && window > 0 && window <= WINDOW_MAX,
         "an argument");
    samples = malloc(SAMPLES_MAX * sizeof *samples);
    must(samples != NULL, "memory");
    begin_us = stoq_now_us() + WARM_US;
    end_us = begin_us + seconds * UINT64_C(1000000);
    if (strcmp(argv[1], "quic") == 0)
        run_quic();
    else
        run_udp();
    qsort(samples, sample_count, sizeof *samples, by_size);
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "way", argv[1]);
    hm_jw_u64(&b, "connections", conn_count);
    hm_jw_u64(&b, "window", window);
    hm_jw_u64(&b, "queries_per_second", answered / seconds);
    if (sample_count > 0) {
        hm_jw_u64(&b, "p50_us", samples[sample_count / 2]);
        hm_jw_u64(&b, "p99_us", samples[sample_count * 99 / 100]);
    }
    hm_jw_u64(&b, "answer_bytes", answered ? bytes / answered : 0);
    hm_jw_u64(&b, "total", total); // with the first second's
    hm_jw_u64(&b, "wrong", wrong);
    hm_jw_u64(&b, "lost", lost);
    hm_jw_close(&b, '}');
    printf("%s\n", hm_buf_cstr(&b));
    hm_buf_free(&b);
    free(samples);
    return 0;
}
