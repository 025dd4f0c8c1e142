// hypermesh stoq: the connection, and ping.
#include "cli/stoq.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "trustchain/trustchain.h"

#define PORT "9292"
#define IDLE_MS 10000u
#define HEAD_BYTES 8u

static volatile sig_atomic_t interrupted;

static void on_sigint(int number)
{
    (void)number;
    interrupted = 1;
}

bool session_interrupted(void)
{
    return interrupted;
}

uint64_t session_now_us(void)
{
    return hm_clock_mono_us(&hm_clock_system);
}

// ---- whom to ask --------------------------------------------------------------------------------

// "HOST", "HOST:PORT", "ADDRESS", "[ADDRESS]" and "[ADDRESS]:PORT".
static hm_err split_target(const char *text, char host[256], char port[8])
{
    const char *colon = strchr(text, ':'), *close = strrchr(text, ']');
    const char *begin = text, *end = text + strlen(text), *p = NULL;
    if (text[0] == '[' && close) {
        begin = text + 1;
        end = close;
        p = close[1] == ':' ? close + 2 : NULL;
        if (close[1] && !p)
            return hm_fail(HM_E_USAGE, "\"%.100s\": a colon and a port may follow the ]", text);
    } else if (colon && !strchr(colon + 1, ':')) {
        end = colon;
        p = colon + 1;
    }
    if (end == begin || end - begin > 255)
        return hm_fail(HM_E_USAGE, "\"%.100s\" names no host", text);
    snprintf(host, 256, "%.*s", (int)(end - begin), begin);
    snprintf(port, 8, "%s", p ? p : PORT);
    char *after;
    unsigned long n = strtoul(port, &after, 10);
    if (*after || port[0] < '0' || port[0] > '9' || n == 0 || n > 65535)
        return hm_fail(HM_E_USAGE, "\"%.100s\": the port is a number from 1 to 65535", text);
    struct in_addr v4;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return hm_fail(HM_E_USAGE, "%s is an IPv4 address; only IPv6 is spoken", host);
    return HM_OK;
}

static hm_err resolve(const char *host, const char *port, struct sockaddr_in6 *out)
{
    const struct addrinfo hints = {.ai_family = AF_INET6, .ai_socktype = SOCK_DGRAM};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0)
        return hm_fail(HM_E_UNREACHABLE, "%s has no IPv6 address: %s", host, gai_strerror(rc));
    memcpy(out, found->ai_addr, sizeof(*out));
    freeaddrinfo(found);
    return HM_OK;
}

// ---- events -------------------------------------------------------------------------------------

static void name_peer(session *s, stoq_conn *conn)
{
    uint8_t public[HM_FALCON_PUBLIC_BYTES];
    hm_node_id id;
    char hex[2 * HM_HASH_BYTES + 1], name[128] = "";
    X509 *x = stoq_conn_peer_cert(conn);
    EVP_PKEY *key = x ? X509_get0_pubkey(x) : NULL;
    if (!key || hm_falcon_public_of_evp(key, public) != HM_OK ||
        hm_node_id_of_public(hm_bytes_of(public, sizeof(public)), &id) != HM_OK) {
        snprintf(s->peer, sizeof(s->peer), "server");
        return;
    }
    X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, sizeof(name));
    hm_hex(hex, id.b, HM_HASH_BYTES);
    snprintf(s->peer, sizeof(s->peer), "node %s %s", name, hex);
}

static void on_conn_open(void *user, stoq_conn *conn)
{
    session *s = user;
    s->open = true;
    snprintf(s->group, sizeof(s->group), "%s", stoq_conn_group(conn));
    s->cipher = stoq_conn_cipher(conn);
    name_peer(s, conn);
}

static const char *alert_text(uint64_t code)
{
    int alert = (int)(code - STOQ_CRYPTO_ERROR);
    // TLS 1.3's own; OpenSSL has no words for it.
    return alert == SSL_AD_CERTIFICATE_REQUIRED ? "certificate required"
                                                : SSL_alert_desc_string_long(alert);
}

// What the end of the connection means to a person.
static void on_conn_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    session *s = user;
    char quoted[300];
    hm_err why = stoq_conn_why(conn);
    bool refused = !is_app && code >= STOQ_CRYPTO_ERROR && code < STOQ_CRYPTO_ERROR + 256;
    hm_log_quote(quoted, sizeof(quoted), reason);
    s->conn = NULL;
    if (why == HM_OK) {
        s->end = HM_E_CLOSED;
        snprintf(s->detail, sizeof(s->detail), "closed");
    } else if (why == HM_E_TIMEOUT) {
        s->end = HM_E_UNREACHABLE;
        snprintf(s->detail, sizeof(s->detail), "%s does not answer%s", s->target,
                 s->open ? " any more" : "; does it run, and does its UDP port let you in?");
    } else if (why != HM_E_CLOSED) { // this side refuses, for words of its own
        bool cert = why >= HM_E_CERT_UNTRUSTED && why <= HM_E_CRL_STALE;
        s->end = cert ? HM_E_CERT_UNTRUSTED : why;
        snprintf(s->detail, sizeof(s->detail), "%s: %.*s; the root is %.200s", s->target,
                 (int)reason.len, (const char *)reason.ptr, s->roots);
    } else if (!is_app && code == STOQ_CLOSED_RESET) {
        s->end = HM_E_UNREACHABLE;
        snprintf(s->detail, sizeof(s->detail),
                 "%s has started anew and knows the connection no "
                 "more",
                 s->target);
    } else if (refused) {
        s->end = HM_E_DENIED;
        snprintf(s->detail, sizeof(s->detail), "%s refuses: %s (%s)", s->target, alert_text(code),
                 quoted);
    } else {
        s->end = HM_E_CLOSED;
        snprintf(s->detail, sizeof(s->detail), "%s closed the connection with %scode 0x%llx %s",
                 s->target, is_app ? "application " : "", (unsigned long long)code, quoted);
    }
}

static void on_readable(void *user, stoq_stream *st)
{
    session *s = user;
    if (s->readable)
        s->readable(s->ctx, st);
}

static void on_writable(void *user, stoq_stream *st)
{
    session *s = user;
    if (s->writable)
        s->writable(s->ctx, st);
}

static void on_stream_closed(void *user, stoq_stream *st)
{
    session *s = user;
    if (s->stream_closed)
        s->stream_closed(s->ctx, st);
}

// ---- life ---------------------------------------------------------------------------------------

static hm_err make_endpoint(session *s, cli *c)
{
    tc_tls_config tls = {.clock = &hm_clock_system};
    uint64_t datagram;
    HM_TRY(hm_config_u64(&c->cfg, "datagram", 1200, 65527, &datagram));
    stoq_congestion congestion = STOQ_CONGESTION_DEFAULT;
    if (hm_config_get(&c->cfg, "congestion"))
        HM_TRY(stoq_congestion_of(hm_config_get(&c->cfg, "congestion"), &congestion));
    tls.roots_path = s->roots = hm_config_get(&c->cfg, "ca");
    if (!tls.roots_path)
        return hm_fail(HM_E_USAGE, "--ca is needed");
    tls.ids[0].cert_path = hm_config_get(&c->cfg, "cert");
    tls.ids[0].key_path = hm_config_get(&c->cfg, "key");
    if (!tls.ids[0].cert_path != !tls.ids[0].key_path)
        return hm_fail(HM_E_USAGE, "--cert and --key go together");
    HM_TRY(hm_crypto_init());
    HM_TRY(tc_tls(&tls, &s->tls));
    stoq_config cfg = {
        .bind = {.sin6_family = AF_INET6},
        .client_tls = s->tls,
        .alpn = {"perf"},
        .callbacks = {.conn_open = on_conn_open,
                      .conn_closed = on_conn_closed,
                      .stream_readable = on_readable,
                      .stream_writable = on_writable,
                      .stream_closed = on_stream_closed},
        .user = s,
        .congestion = congestion,
        .limits = {.max_idle_ms = IDLE_MS, .max_udp_payload_bytes = (uint32_t)datagram},
    };
    return stoq_endpoint_create(&cfg, &s->ep);
}

hm_err session_open(session *s, cli *c)
{
    char host[256], port[8];
    struct sockaddr_in6 to;
    const char *name = hm_config_get(&c->cfg, "server-name");
    *s = (session){.cipher = ""};
    HM_TRY(split_target(c->arg, host, port));
    HM_TRY(make_endpoint(s, c));
    HM_TRY(resolve(host, port, &to));
    hm_addr_text(&to, s->target);
    host[strcspn(host, "%")] = 0; // an address's zone is this machine's affair
    const struct sigaction act = {.sa_handler = on_sigint};
    sigaction(SIGINT, &act, NULL);
    uint64_t start = session_now_us();
    HM_TRY(stoq_connect(s->ep, &to, name ? name : host, NULL, NULL, &s->conn));
    while (!s->open)
        if (!session_turn(s, HM_TIME_NEVER))
            return session_end(s);
    s->handshake_us = session_now_us() - start;
    return HM_OK;
}

void session_close(session *s)
{
    if (s->conn)
        stoq_conn_close(s->conn, 0, "");
    stoq_endpoint_destroy(s->ep);
    SSL_CTX_free(s->tls);
}

bool session_turn(session *s, uint64_t until_us)
{
    struct pollfd fd = {.fd = stoq_endpoint_fd(s->ep), .events = POLLIN};
    uint64_t now = session_now_us(), next = stoq_endpoint_next_timeout_us(s->ep);
    struct timespec wait, *timeout = &wait;
    sigset_t during, none;
    if (until_us < next)
        next = until_us;
    uint64_t us = next > now ? next - now : 0;
    if (next == HM_TIME_NEVER)
        timeout = NULL;
    wait = (struct timespec){(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
    sigemptyset(&none);
    sigemptyset(&during);
    sigaddset(&during, SIGINT);
    sigprocmask(SIG_BLOCK, &during, NULL); // so that it comes inside ppoll() or before
    int n = interrupted ? 0 : ppoll(&fd, 1, timeout, &none);
    sigprocmask(SIG_UNBLOCK, &during, NULL);
    stoq_endpoint_process(s->ep, session_now_us(), n > 0);
    return s->conn && !interrupted;
}

hm_err session_end(const session *s)
{
    if (interrupted)
        return hm_fail(HM_E_CLOSED, "interrupted");
    return hm_fail(s->end, "%s", s->detail);
}

void session_json(const session *s, hm_buf *b)
{
    hm_jw_str(b, "target", s->target);
    hm_jw_str(b, "peer", s->peer);
    hm_jw_str(b, "group", s->group);
    hm_jw_str(b, "cipher", s->cipher);
    hm_jw_u64(b, "handshake_us", s->handshake_us);
}

void session_print(const session *s)
{
    printf("%s  %s  %s  %s  handshake %.2f ms\n", s->target, s->peer, s->group, s->cipher,
           (double)s->handshake_us / 1000);
    fflush(stdout);
}

// ---- ping ---------------------------------------------------------------------------------------

typedef struct ping {
    session s;
    bool answered, refused;
    uint64_t *times_us; // owned
    size_t sent, count;
} ping;

static void on_pong(void *ctx, stoq_stream *st)
{
    ping *p = ctx;
    hm_bytes view;
    bool fin;
    if (stoq_stream_peek(st, &view, &fin) != HM_OK) {
        p->refused = true;
        return;
    }
    p->answered |= fin;
    stoq_stream_consume(st, view.len);
}

// One request for nothing: eight bytes there, the end of the stream back.
static hm_err ping_once(ping *p, bool json)
{
    static const uint8_t nothing[HEAD_BYTES];
    stoq_stream *st;
    size_t took;
    uint64_t start = session_now_us();
    p->answered = false;
    if (!p->s.conn)
        return session_end(&p->s);
    HM_TRY(stoq_stream_open(p->s.conn, false, &st));
    HM_TRY(stoq_stream_send(st, hm_bytes_of(nothing, sizeof(nothing)), true, &took));
    p->sent++;
    while (!p->answered && !p->refused)
        if (!session_turn(&p->s, HM_TIME_NEVER))
            return session_end(&p->s);
    if (p->refused)
        return hm_fail(HM_E_STOQ_RESET, "%s does not answer such requests", p->s.target);
    uint64_t us = session_now_us() - start;
    p->times_us[p->count++] = us;
    if (!json) {
        printf("answer %zu: %.3f ms\n", p->sent, (double)us / 1000);
        fflush(stdout);
    }
    return HM_OK;
}

static int by_time(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static hm_err ping_report(cli *c, const cli_command *cmd, ping *p)
{
    const struct {
        const char *name;
        size_t at;
    } marks[] = {{"min_us", 0},
                 {"p50_us", p->count / 2},
                 {"p99_us", p->count * 99 / 100},
                 {"max_us", p->count - 1}};
    uint64_t sum = 0;
    hm_buf b = {0};
    qsort(p->times_us, p->count, sizeof(uint64_t), by_time);
    for (size_t i = 0; i < p->count; i++)
        sum += p->times_us[i];
    if (!c->json) {
        printf("%zu requests, %zu answers", p->sent, p->count);
        if (p->count)
            printf(": min/avg/p50/p99/max %.3f/%.3f/%.3f/%.3f/%.3f ms",
                   (double)p->times_us[0] / 1000, (double)sum / (double)p->count / 1000,
                   (double)p->times_us[marks[1].at] / 1000, (double)p->times_us[marks[2].at] / 1000,
                   (double)p->times_us[marks[3].at] / 1000);
        putchar('\n');
        return HM_OK;
    }
    hm_jw_open(&b, NULL, '{');
    session_json(&p->s, &b);
    hm_jw_u64(&b, "requests", p->sent);
    hm_jw_u64(&b, "answers", p->count);
    for (size_t i = 0; p->count && i < sizeof(marks) / sizeof(marks[0]); i++)
        hm_jw_u64(&b, marks[i].name, p->times_us[marks[i].at]);
    if (p->count)
        hm_jw_u64(&b, "avg_us", sum / p->count);
    hm_jw_close(&b, '}');
    hm_buf_puts(&b, "\n");
    hm_err err = cli_answer(c, cmd, hm_buf_bytes(&b));
    hm_buf_free(&b);
    return err;
}

hm_err cli_stoq_ping(cli *c, const cli_command *cmd)
{
    uint64_t count, interval_ms;
    ping p = {.count = 0};
    hm_err err;
    HM_TRY(hm_config_u64(&c->cfg, "count", 1, 1000000, &count));
    HM_TRY(hm_config_u64(&c->cfg, "interval", 0, 3600000, &interval_ms));
    p.times_us = calloc(count, sizeof(uint64_t));
    if (!p.times_us)
        return HM_E_NOMEM;
    HM_TRY_OUT(session_open(&p.s, c));
    p.s.readable = on_pong;
    p.s.ctx = &p;
    if (!c->json)
        session_print(&p.s);
    for (uint64_t i = 0, at; i < count && err == HM_OK && !interrupted; i++) {
        at = session_now_us() + interval_ms * 1000;
        err = ping_once(&p, c->json);
        while (err == HM_OK && i + 1 < count && session_now_us() < at)
            if (!session_turn(&p.s, at))
                break;
    }
    if (interrupted)
        err = HM_OK; // ended by the person: what there is counts
    hm_err told = ping_report(c, cmd, &p);
    if (err == HM_OK)
        err = told;
out:
    session_close(&p.s);
    free(p.times_us);
    return err;
}
