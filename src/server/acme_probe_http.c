// http-01: RFC 8555, 8.3.
#include <arpa/inet.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/acme_probe_internal.h"

typedef struct http_step {
    acme_probe *p;
    char *url; // owned, libcurl's
    char host[256];
    uint16_t port;
    uint8_t body[ACME_PROBE_BODY_MAX];
    size_t len;
    bool too_long;
} http_step;

static size_t on_data(char *ptr, size_t size, size_t n, void *ctx)
{
    http_step *s = ctx;
    if (size * n > sizeof s->body - s->len) {
        s->too_long = true;
        return 0;
    }
    memcpy(s->body + s->len, ptr, size * n);
    s->len += size * n;
    return size * n;
}

static int on_progress(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const http_step *s = ctx;
    (void)a, (void)b, (void)c, (void)d;
    return probe_left_ms(s->p) == 0;
}

// Takes the URL apart: http or https, a standard port or ours, no user.
static bool read_url(http_step *s)
{
    CURLU *u = curl_url();
    char *scheme = NULL, *host = NULL, *port = NULL, *user = NULL;
    bool good = u && curl_url_set(u, CURLUPART_URL, s->url, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                curl_url_get(u, CURLUPART_USER, &user, 0) != CURLUE_OK &&
                (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0);
    if (good) {
        size_t n = strlen(host);
        bool literal = host[0] == '[' && n > 2;
        snprintf(s->host, sizeof s->host, "%.*s", (int)(literal ? n - 2 : n),
                 literal ? host + 1 : host);
        s->port = (uint16_t)strtoul(port, NULL, 10);
        good = n < sizeof s->host &&
               (s->port == 80 || s->port == 443 || s->port == s->p->cfg->http_port ||
                s->port == s->p->cfg->tls_port);
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_free(user);
    curl_url_cleanup(u);
    return good || probe_fail(s->p, ACME_CONNECTION,
                              "%.180s: redirections lead to http and https "
                              "on ports 80 and 443",
                              s->url);
}

static CURLcode get_from(http_step *s, CURL *c, const struct in6_addr *addr, uint32_t share_ms)
{
    char text[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN + 16];
    inet_ntop(AF_INET6, addr, text, sizeof text);
    snprintf(to, sizeof to, "::[%s]:%u", text, s->port);
    struct curl_slist *list = curl_slist_append(NULL, to);
    s->len = 0;
    s->too_long = false;
    curl_easy_setopt(c, CURLOPT_URL, s->url);
    curl_easy_setopt(c, CURLOPT_CONNECT_TO, list);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_IPRESOLVE, (long)CURL_IPRESOLVE_V6);
    curl_easy_setopt(c, CURLOPT_PROXY, "");
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    // What a redirection by https leads to may have any certificate: it is to get one here.
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)probe_left_ms(s->p) + 1);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)share_ms + 1);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "HyperMesh-ACME");
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, s);
    CURLcode rc = list ? curl_easy_perform(c) : CURLE_OUT_OF_MEMORY;
    curl_easy_setopt(c, CURLOPT_CONNECT_TO, NULL);
    curl_slist_free_all(list);
    return rc;
}

static bool get(http_step *s, CURL *c)
{
    struct in6_addr addr[ACME_PROBE_ADDRESSES];
    size_t count;
    CURLcode rc = CURLE_COULDNT_CONNECT;
    if (!probe_resolve(s->p, s->host, addr, &count))
        return false;
    for (size_t i = 0; i < count && rc == CURLE_COULDNT_CONNECT && probe_left_ms(s->p); i++)
        rc = get_from(s, c, &addr[i], probe_left_ms(s->p) / (uint32_t)(count - i));
    if (rc == CURLE_OK)
        return true;
    if (s->too_long)
        return probe_fail(s->p, ACME_UNAUTHORIZED, "%.150s: the answer is longer than %u bytes",
                          s->url, ACME_PROBE_BODY_MAX);
    bool tls = rc == CURLE_SSL_CONNECT_ERROR || rc == CURLE_PEER_FAILED_VERIFICATION;
    return probe_fail(s->p, tls ? ACME_TLS : ACME_CONNECTION, "%.150s: %s", s->url,
                      curl_easy_strerror(rc));
}

// 1: go on with the URL of a redirection, 0: the body is the last, -1: failed.
static int step(http_step *s, CURL *c)
{
    long status = 0;
    char *next = NULL;
    if (!read_url(s) || !get(s, c))
        return -1;
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(c, CURLINFO_REDIRECT_URL, &next);
    if (status >= 300 && status < 400 && next) {
        free(s->url);
        s->url = strdup(next);
        if (s->url)
            return 1;
        (void)probe_fail(s->p, ACME_SERVER_INTERNAL, "no memory for the validation");
        return -1;
    }
    if (status == 200)
        return 0;
    (void)probe_fail(s->p, ACME_UNAUTHORIZED, "%.150s: status %ld", s->url, status);
    return -1;
}

static char *first_url(const acme_probe *p)
{
    char *url = NULL, port[8] = "";
    bool ip = p->task->name.type == ACME_IP;
    if (p->cfg->http_port != 80)
        snprintf(port, sizeof port, ":%u", p->cfg->http_port);
    return asprintf(&url, "http://%s%s%s%s/.well-known/acme-challenge/%s", ip ? "[" : "",
                    p->task->name.value, ip ? "]" : "", port, p->task->token) < 0
               ? NULL
               : url;
}

bool probe_http(acme_probe *p)
{
    http_step s = {.p = p, .url = first_url(p)};
    CURL *c = curl_easy_init();
    int more = c && s.url ? 1 : -1;
    if (more < 0)
        (void)probe_fail(p, ACME_SERVER_INTERNAL, "no memory for the validation");
    for (unsigned i = 0; more > 0; i++) {
        if (i > ACME_PROBE_REDIRECTS) {
            (void)probe_fail(p, ACME_CONNECTION, "%.150s: more than %u redirections", s.url,
                             ACME_PROBE_REDIRECTS);
            more = -1;
        } else {
            more = step(&s, c);
        }
    }
    bool good = more == 0;
    if (good && !acme_http_body_is(hm_bytes_of(s.body, s.len), p->task->key_auth))
        good = probe_fail(p, ACME_UNAUTHORIZED, "%.150s: the answer is not the key authorization",
                          s.url);
    curl_easy_cleanup(c);
    free(s.url);
    return good;
}
