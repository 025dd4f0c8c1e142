// hypermesh stoq: the connection.
#include "cli/stoq.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "trustchain/trustchain.h"

#define PORT "9292"
#define IDLE_MS 10000u
#define ROOTS_MAX (4u << 20)
#define SESSION_MAX (1u << 17)
#define TICKET_WAIT_US 1000000u

static volatile sig_atomic_t interrupted;
static int wake_fd = -1; // an event: the person interrupts

static void on_sigint(int number)
{
    const uint64_t one = 1;
    int saved = errno;
    (void)number;
    interrupted = 1;
    (void)!write(wake_fd, &one, sizeof(one));
    errno = saved;
}

bool session_interrupted(void)
{
    return interrupted;
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

void session_note_peer(session *s, stoq_conn *conn)
{
    uint8_t public[HM_FALCON_PUBLIC_BYTES];
    hm_node_id id;
    char hex[2 * HM_HASH_BYTES + 1], name[128] = "";
    X509 *x = stoq_conn_peer_cert(conn);
    EVP_PKEY *key = x ? X509_get0_pubkey(x) : NULL;
    s->open = true;
    snprintf(s->group, sizeof(s->group), "%s", stoq_conn_group(conn));
    s->cipher = stoq_conn_cipher(conn);
    s->version = stoq_conn_version(conn);
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
    if (conn != s->conn) {
        s->joined++;
        return;
    }
    s->handshake_us = stoq_now_us() - s->started_us;
    s->resumed = stoq_conn_resumed(conn);
    s->early = stoq_conn_early(conn);
    session_note_peer(s, conn);
}

// The file is the digest of the roots that were believed, and the session.
static void on_session(void *user, stoq_conn *conn, hm_bytes bytes)
{
    session *s = user;
    hm_buf b = {0};
    (void)conn;
    if (!s->file)
        return;
    hm_buf_append(&b, s->roots_digest.b, HM_HASH_BYTES);
    hm_buf_put(&b, bytes);
    hm_err err = hm_buf_status(&b);
    if (err == HM_OK)
        err = hm_file_write(s->file, hm_buf_bytes(&b), 0600);
    s->kept = true;
    if (err != HM_OK)
        fprintf(stderr, "the session is not kept: %s: %s\n", hm_err_text(err), hm_err_detail());
    hm_buf_free_secret(&b);
}

static const char *alert_text(uint64_t code)
{
    int alert = (int)(code - STOQ_CRYPTO_ERROR);
    // TLS 1.3's own; OpenSSL has no words for it.
    return alert == SSL_AD_CERTIFICATE_REQUIRED ? "certificate required"
                                                : SSL_alert_desc_string_long(alert);
}

void session_note_end(session *s, const stoq_conn *conn, uint64_t code, bool is_app,
                      hm_bytes reason)
{
    char quoted[300];
    hm_err why = stoq_conn_why(conn);
    bool refused = !is_app && code >= STOQ_CRYPTO_ERROR && code < STOQ_CRYPTO_ERROR + 256;
    hm_log_quote(quoted, sizeof(quoted), reason);
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

static void on_conn_closed(void *user, stoq_conn *conn, uint64_t code, bool is_app, hm_bytes reason)
{
    session *s = user;
    if (!s->conn)
        return; // the first one that ended says why
    s->conn = NULL;
    session_note_end(s, conn, code, is_app, reason);
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

static hm_err listen_on_sigint(void)
{
    const struct sigaction act = {.sa_handler = on_sigint};
    wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_fd < 0)
        return hm_fail(HM_E_IO, "eventfd: %s", strerror(errno));
    sigaction(SIGINT, &act, NULL);
    return HM_OK;
}

static hm_err keylog(SSL_CTX *tls)
{
    const char *path;
    HM_TRY(tc_tls_keylog(tls, &path));
    if (path)
        fprintf(stderr, "SSLKEYLOGFILE: secrets of the connection are written to %s\n", path);
    return HM_OK;
}

static hm_err make_endpoint(session *s, cli *c, const char *alpn, const stoq_callbacks *callbacks)
{
    tc_tls_config tls = {.clock = &hm_clock_system};
    uint64_t datagram;
    HM_TRY(hm_config_u64(&c->cfg, "datagram", 1200, 65527, &datagram));
    stoq_congestion congestion = STOQ_CONGESTION_DEFAULT;
    if (hm_config_get(&c->cfg, "congestion"))
        HM_TRY(stoq_congestion_of(hm_config_get(&c->cfg, "congestion"), &congestion));
    uint32_t versions[STOQ_MAX_VERSIONS];
    HM_TRY(stoq_versions_of(hm_config_get(&c->cfg, "quic"), versions));
    tls.roots_path = s->roots = hm_config_get(&c->cfg, "ca");
    if (!tls.roots_path)
        return hm_fail(HM_E_USAGE, "--ca is needed");
    tls.ids[0].cert_path = hm_config_get(&c->cfg, "cert");
    tls.ids[0].key_path = hm_config_get(&c->cfg, "key");
    if (!tls.ids[0].cert_path != !tls.ids[0].key_path)
        return hm_fail(HM_E_USAGE, "--cert and --key go together");
    if (s->file && tls.ids[0].cert_path)
        return hm_fail(HM_E_USAGE, "--session or --cert: who shows a certificate resumes nothing");
    HM_TRY(hm_crypto_init());
    HM_TRY(tc_tls(&tls, &s->tls));
    HM_TRY(keylog(s->tls));
    stoq_config cfg = {
        .bind = {.sin6_family = AF_INET6},
        .client_tls = s->tls,
        .alpn = {alpn},
        .callbacks = *callbacks,
        .user = s,
        .congestion = congestion,
        .ignore_preferred = hm_config_on(&c->cfg, "stay"),
        .qlog_dir = hm_config_get(&c->cfg, "qlog"),
        .xdp = hm_config_get(&c->cfg, "xdp"),
        .limits = {.max_idle_ms = IDLE_MS, .max_udp_payload_bytes = (uint32_t)datagram},
    };
    memcpy(cfg.versions, versions, sizeof(cfg.versions));
    s->config = cfg;
    s->config.xdp = NULL; // there is one socket for an interface
    return stoq_endpoint_create(&cfg, &s->ep);
}

hm_err session_prepare(session *s, cli *c, const char *alpn, const stoq_callbacks *callbacks)
{
    char port[8];
    const char *name = hm_config_get(&c->cfg, "server-name");
    *s = (session){.cipher = "", .file = hm_config_get(&c->cfg, "session")};
    HM_TRY(split_target(c->arg, s->name, port));
    HM_TRY(make_endpoint(s, c, alpn, callbacks));
    HM_TRY(resolve(s->name, port, &s->to));
    hm_addr_text(&s->to, s->target);
    s->name[strcspn(s->name, "%")] = 0; // an address's zone is this machine's affair
    if (name && strlen(name) >= sizeof(s->name))
        return hm_fail(HM_E_USAGE, "--server-name is too long");
    if (name)
        strcpy(s->name, name);
    return listen_on_sigint();
}

hm_err session_listen(session *s, cli *c, const char *alpn, const char *bundle_alpn,
                      const stoq_callbacks *callbacks)
{
    tc_tls_config tls = {.is_server = true, .clock = &hm_clock_system};
    stoq_config cfg = {.alpn = {alpn, bundle_alpn},
                       .callbacks = *callbacks,
                       .user = s,
                       .xdp = hm_config_get(&c->cfg, "xdp"),
                       .limits = {.max_idle_ms = IDLE_MS,
                                  .max_connections = SESSION_PEERS,
                                  .max_streams_bidi = 1}};
    *s = (session){.cipher = ""};
    tls.roots_path = s->roots = hm_config_get(&c->cfg, "ca");
    tls.ids[0].cert_path = hm_config_get(&c->cfg, "cert");
    tls.ids[0].key_path = hm_config_get(&c->cfg, "key");
    if (!tls.ids[0].cert_path || !tls.ids[0].key_path)
        return hm_fail(HM_E_USAGE, "--cert and --key are needed");
    HM_TRY(hm_config_addr(&c->cfg, "listen", &cfg.bind));
    HM_TRY(hm_crypto_init());
    HM_TRY(tc_tls(&tls, &s->tls));
    HM_TRY(keylog(s->tls));
    cfg.server_tls = s->tls;
    HM_TRY(stoq_endpoint_create(&cfg, &s->ep));
    stoq_endpoint_address(s->ep, &s->to);
    hm_addr_text(&s->to, s->target);
    return listen_on_sigint();
}

// What is kept, if it is for these roots. It is used once: the next one comes with the connection.
static hm_err read_session(session *s, hm_buf *out)
{
    hm_buf roots = {0};
    hm_err err;
    HM_TRY_OUT(hm_file_read(s->roots, ROOTS_MAX, &roots));
    s->roots_digest = hm_sha256(hm_buf_bytes(&roots));
    err = hm_file_read_secret(s->file, SESSION_MAX, out);
    if (err == HM_E_NOTFOUND) {
        err = HM_OK;
    } else if (err == HM_OK && unlink(s->file) != 0) {
        err = hm_fail(HM_E_IO, "%s: %s", s->file, strerror(errno));
    }
    if (out->len < HM_HASH_BYTES || memcmp(out->ptr, s->roots_digest.b, HM_HASH_BYTES) != 0)
        out->len = 0;
out:
    hm_buf_free(&roots);
    return err;
}

static hm_err connect_to(session *s, bool early)
{
    hm_buf kept = {0};
    hm_err err = HM_OK;
    if (s->file)
        err = read_session(s, &kept);
    if (err == HM_OK && kept.len > 0)
        err = stoq_resume(s->ep, &s->to, s->name,
                          hm_bytes_of(kept.ptr + HM_HASH_BYTES, kept.len - HM_HASH_BYTES), early,
                          NULL, &s->conn);
    else if (err == HM_OK)
        err = stoq_connect(s->ep, &s->to, s->name, NULL, NULL, &s->conn);
    hm_buf_free_secret(&kept);
    return err;
}

hm_err session_open(session *s, cli *c, const char *alpn)
{
    static const stoq_callbacks callbacks = {.conn_open = on_conn_open,
                                             .conn_closed = on_conn_closed,
                                             .stream_readable = on_readable,
                                             .stream_writable = on_writable,
                                             .stream_closed = on_stream_closed};
    stoq_callbacks with_session = callbacks;
    with_session.session = on_session;
    bool kept = hm_config_get(&c->cfg, "session") != NULL, early = hm_config_on(&c->cfg, "early");
    if (early && !kept)
        return hm_fail(HM_E_USAGE, "--early needs --session");
    HM_TRY(session_prepare(s, c, alpn, kept ? &with_session : &callbacks));
    s->started_us = stoq_now_us();
    HM_TRY(connect_to(s, early));
    while (!s->open && stoq_conn_early(s->conn) == STOQ_EARLY_NONE)
        if (!session_turn(s, HM_TIME_NEVER))
            return session_end(s);
    return HM_OK;
}

hm_err session_widen(session *s, unsigned connections)
{
    s->connections = connections;
    while (s->conn && s->more_count + 1 < connections) {
        unsigned i = s->more_count;
        HM_TRY(stoq_endpoint_create(&s->config, &s->more[i]));
        s->more_count++;
        HM_TRY(stoq_connect(s->more[i], &s->to, s->name, NULL, NULL, &s->beside[i]));
    }
    while (!s->open || s->joined + 1 < connections)
        if (!session_turn(s, HM_TIME_NEVER))
            return session_end(s);
    return HM_OK;
}

stoq_conn *session_conn(const session *s, unsigned index)
{
    return index == 0 ? s->conn : s->beside[index - 1];
}

void session_close(session *s)
{
    // An answer to early data is here before the next session, which this server will give.
    uint64_t until = stoq_now_us() + TICKET_WAIT_US;
    while (s->conn && s->file && s->resumed && !s->kept && stoq_now_us() < until)
        if (!session_turn(s, until))
            break;
    if (s->conn)
        stoq_conn_close(s->conn, 0, "");
    stoq_endpoint_destroy(s->ep);
    for (unsigned i = 0; i < s->more_count; i++)
        stoq_endpoint_destroy(s->more[i]);
    stoq_bundles_free(s->set);
    SSL_CTX_free(s->tls);
}

bool session_turn(session *s, uint64_t until_us)
{
    struct pollfd fds[2 + STOQ_BUNDLE_CONNS_MAX] = {
        {.fd = stoq_endpoint_fd(s->ep), .events = POLLIN}, {.fd = wake_fd, .events = POLLIN}};
    uint64_t now = stoq_now_us(), next = stoq_endpoint_next_timeout_us(s->ep);
    bool waited = false;
    if (until_us < next)
        next = until_us;
    if (s->set && s->ping_us < next)
        next = s->ping_us;
    for (unsigned i = 0; i < s->more_count; i++) {
        uint64_t t = stoq_endpoint_next_timeout_us(s->more[i]);
        next = t < next ? t : next;
        fds[2 + i] = (struct pollfd){.fd = stoq_endpoint_fd(s->more[i]), .events = POLLIN};
    }
    if (next > now && !interrupted) {
        uint64_t us = next - now;
        struct timespec wait = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
        waited = true;
        if (ppoll(fds, 2 + s->more_count, next == HM_TIME_NEVER ? NULL : &wait, NULL) <= 0)
            for (unsigned i = 0; i < 2 + s->more_count; i++)
                fds[i].revents = 0;
        now = stoq_now_us();
    }
    // Where nobody waited, reading in vain costs less than asking first.
    stoq_endpoint_process(s->ep, now, !waited || fds[0].revents);
    for (unsigned i = 0; i < s->more_count; i++)
        stoq_endpoint_process(s->more[i], now, !waited || fds[2 + i].revents);
    if (s->set && now >= s->ping_us) {
        stoq_bundles_ping(s->set);
        s->ping_us = now + IDLE_MS * 1000 / 4;
    }
    return s->conn && !interrupted;
}

hm_err session_end(const session *s)
{
    if (interrupted)
        return hm_fail(HM_E_CLOSED, "interrupted");
    return hm_fail(s->end, "%s", s->detail);
}

static const char *const early_words[] = {[STOQ_EARLY_NONE] = "none",
                                          [STOQ_EARLY_OFFERED] = "offered",
                                          [STOQ_EARLY_REJECTED] = "rejected",
                                          [STOQ_EARLY_ACCEPTED] = "accepted"};

void session_json(const session *s, hm_buf *b)
{
    if (s->connections > 0)
        hm_jw_u64(b, "connections", s->connections - s->failed);
    hm_jw_str(b, "target", s->target);
    hm_jw_str(b, "peer", s->peer);
    hm_jw_u64(b, "quic", s->version == STOQ_VERSION_2 ? 2 : 1);
    hm_jw_str(b, "group", s->group);
    hm_jw_str(b, "cipher", s->cipher);
    hm_jw_u64(b, "handshake_us", s->handshake_us);
    hm_jw_bool(b, "resumed", s->resumed);
    hm_jw_str(b, "early", early_words[s->early]);
}

void session_print(session *s)
{
    if (!s->open || s->printed)
        return;
    s->printed = true;
    printf("%s  %s  QUIC %d  %s  %s  handshake %.2f ms%s", s->target, s->peer,
           s->version == STOQ_VERSION_2 ? 2 : 1, s->group, s->cipher,
           (double)s->handshake_us / 1000, s->resumed ? ", resumed" : "");
    if (s->early != STOQ_EARLY_NONE)
        printf(", early data %s", early_words[s->early]);
    putchar('\n');
    fflush(stdout);
}
