// The HTTP server as curl and raw sockets see it: a server on its own thread with a few routes, on
// ::1 with ports that the kernel picks.
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/http.h"

static struct {
    char dir[64];
    uv_loop_t loop;
    uv_async_t stop, poke;
    hm_http *http;
    pthread_t thread;
    int tls_port, plain_port;
    bool h3; // the tests that both know run over HTTP/3
    _Atomic int aborted, sse_ended, closed, room_after_end;
    _Atomic uint64_t flooded; // the event that was refused last
    hm_http_req *waiting;
} S;

// ---- handlers -----------------------------------------------------------------------------------

static void on_hello(void *ctx, hm_http_req *r)
{
    hm_buf b = {0};
    const char *q = hm_http_query(r, "q");
    (void)ctx;
    hm_buf_printf(&b, "{\"method\":\"%s\",\"id\":\"%s\",\"q\":\"%s\"}", hm_http_method(r),
                  hm_http_param(r, 0), q ? q : "-");
    hm_http_reply(r, 200, "application/json", hm_buf_bytes(&b));
    hm_buf_free(&b);
}

static void on_echo(void *ctx, hm_http_req *r)
{
    (void)ctx;
    hm_http_reply(r, 200, "application/octet-stream", hm_http_body(r));
}

// Counts an upload, pausing after every piece until the loop's next turn.
typedef struct upload {
    hm_http_req *r;
    uv_idle_t idle;
    uint64_t bytes, sum, pauses;
} upload;

static void upload_free(uv_handle_t *h)
{
    free(h->data);
}

static void upload_resume(uv_idle_t *idle)
{
    upload *u = idle->data;
    uv_idle_stop(idle);
    hm_http_body_resume(u->r);
}

static hm_err upload_data(void *ctx, hm_bytes data, bool last)
{
    upload *u = ctx;
    for (size_t i = 0; i < data.len; i++)
        u->sum += data.ptr[i];
    u->bytes += data.len;
    if (last) {
        char text[96];
        snprintf(text, sizeof(text), "%llu %llu", (unsigned long long)u->bytes,
                 (unsigned long long)u->sum);
        hm_http_reply(u->r, 200, "text/plain", hm_bytes_str(text));
        uv_close((uv_handle_t *)&u->idle, upload_free);
        return HM_OK;
    }
    u->pauses++;
    uv_idle_start(&u->idle, upload_resume);
    return HM_E_AGAIN;
}

static void upload_gone(void *ctx)
{
    upload *u = ctx;
    S.aborted++;
    uv_close((uv_handle_t *)&u->idle, upload_free);
}

static void on_upload(void *ctx, hm_http_req *r)
{
    upload *u = calloc(1, sizeof(*u));
    (void)ctx;
    u->r = r;
    uv_idle_init(&S.loop, &u->idle);
    u->idle.data = u;
    hm_http_on_abort(r, upload_gone, u);
    hm_http_body_read(r, upload_data, u);
}

// Sends n bytes of a known pattern; what waits in the server is watched.
typedef struct download {
    hm_http_req *r;
    uint64_t left, at;
} download;

static void download_more(void *ctx)
{
    download *d = ctx;
    uint8_t piece[8192];
    while (d->left) {
        size_t n = d->left < sizeof(piece) ? (size_t)d->left : sizeof(piece);
        for (size_t i = 0; i < n; i++)
            piece[i] = (uint8_t)((d->at + i) % 251);
        hm_err err = hm_http_stream_write(d->r, hm_bytes_of(piece, n));
        d->left -= n;
        d->at += n;
        if (err == HM_E_AGAIN && d->left)
            return;
    }
    hm_http_stream_end(d->r);
    free(d);
}

static void room_after_end(void *ctx)
{
    (void)ctx;
    S.room_after_end++;
}

// The last piece is one that another would have to wait after.
static void on_full(void *ctx, hm_http_req *r)
{
    static uint8_t piece[HM_HTTP_OUT_HIGH];
    (void)ctx;
    hm_http_stream(r, 200, "application/octet-stream", sizeof(piece), room_after_end, NULL);
    if (hm_http_stream_write(r, hm_bytes_of(piece, sizeof(piece))) != HM_E_AGAIN)
        abort();
    hm_http_stream_end(r);
}

static void download_gone(void *ctx)
{
    S.aborted++;
    free(ctx);
}

static void on_download(void *ctx, hm_http_req *r)
{
    download *d = calloc(1, sizeof(*d));
    (void)ctx;
    d->r = r;
    d->left = strtoull(hm_http_param(r, 0), NULL, 10);
    hm_http_on_abort(r, download_gone, d);
    hm_http_stream(r, 200, "application/octet-stream",
                   hm_http_query(r, "nolength") ? -1 : (int64_t)d->left, download_more, d);
    download_more(d);
}

static void on_refuse_stream(void *ctx, hm_http_req *r)
{
    (void)ctx;
    hm_http_reply_err(r, HM_E_OP_STATE, "not \"now\"");
}

static void on_fail(void *ctx, hm_http_req *r)
{
    (void)ctx;
    hm_http_stream(r, 200, "text/plain", 100, NULL, NULL);
    if (hm_http_stream_write(r, hm_bytes_str("half")) == HM_OK)
        hm_http_stream_fail(r);
}

static void sse_gone(void *ctx)
{
    (void)ctx;
    S.sse_ended++;
}

static void on_events(void *ctx, hm_http_req *r)
{
    (void)ctx;
    hm_http_on_abort(r, sse_gone, r);
    hm_http_sse(r);
    for (uint64_t i = 1; i <= 3; i++)
        if (hm_http_sse_send(r, "final", i, hm_bytes_str("{\"height\":1}")) != HM_OK)
            abort();
}

// Tells more than a reader can take: ends where the queue of an event stream does.
static void on_flood(void *ctx, hm_http_req *r)
{
    static char text[65536];
    (void)ctx;
    memset(text, 'x', sizeof(text));
    hm_http_sse(r);
    for (uint64_t i = 1; i <= 1000; i++)
        if (hm_http_sse_send(r, "final", i, hm_bytes_of(text, sizeof(text))) == HM_E_LIMIT)
            S.flooded = i;
    hm_http_stream_end(r);
}

// Answers when another request pokes it: the asynchronous case.
static void wait_gone(void *ctx)
{
    if (S.waiting == ctx)
        S.waiting = NULL;
}

static void on_wait(void *ctx, hm_http_req *r)
{
    (void)ctx;
    hm_http_on_abort(r, wait_gone, r);
    S.waiting = r;
}

static void on_poke(void *ctx, hm_http_req *r)
{
    (void)ctx;
    if (S.waiting)
        hm_http_reply(S.waiting, 202, "text/plain", hm_bytes_str("poked"));
    hm_http_reply(r, S.waiting ? 200 : 409, "text/plain", hm_bytes_str(""));
    S.waiting = NULL;
}

static const hm_http_route routes[] = {
    {"GET", "/v1/hello/{id}", on_hello, 0, 0, "q z"},
    {"POST", "/v1/hello/{id}/x", on_hello, 0, 0, NULL},
    {"POST", "/v1/echo", on_echo, 0, 0, NULL},
    {"POST", "/v1/secret", on_echo, HM_HTTP_AUTH, 0, NULL},
    {"PUT", "/v1/upload", on_upload, HM_HTTP_STREAM, UINT64_C(1) << 40, NULL},
    {"PUT", "/v1/refuse", on_refuse_stream, HM_HTTP_STREAM, UINT64_C(1) << 40, NULL},
    {"GET", "/v1/download/{n}", on_download, 0, 0, "nolength"},
    {"GET", "/v1/full", on_full, 0, 0, NULL},
    {"GET", "/v1/fail", on_fail, 0, 0, NULL},
    {"GET", "/v1/events", on_events, 0, 0, NULL},
    {"GET", "/v1/flood", on_flood, 0, 0, NULL},
    {"GET", "/v1/wait", on_wait, 0, 0, NULL},
    {"POST", "/v1/wait", on_wait, 0, 0, NULL},
    {"GET", "/v1/poke", on_poke, 0, 0, NULL},
};

// ---- the server's thread ------------------------------------------------------------------------

static void on_closed(void *ctx)
{
    (void)ctx;
    S.closed++;
    uv_close((uv_handle_t *)&S.stop, NULL);
}

static void on_stop(uv_async_t *a)
{
    (void)a;
    hm_http_close(S.http, 2000, on_closed, NULL);
}

static void *run_loop(void *arg)
{
    uv_run(&S.loop, UV_RUN_DEFAULT);
    return arg;
}

static char out_text[1 << 16];

// Runs a shell command with $D, $T (https base), $P (http base) set; gives its output and status.
static int sh(const char *command)
{
    char full[4096];
    snprintf(full, sizeof(full),
             "D=%s T=https://localhost:%d P='http://[::1]:%d'; C=\"curl -g -6 -sS -m 180 --cacert "
             "$D/crt %s\"; %s",
             S.dir, S.tls_port, S.plain_port, S.h3 ? "--http3-only" : "", command);
    FILE *f = popen(full, "r");
    assert_non_null(f);
    size_t n = fread(out_text, 1, sizeof(out_text) - 1, f);
    out_text[n] = 0;
    return WEXITSTATUS(pclose(f));
}
#define OUT_HAS(text) assert_non_null(strstr(out_text, text))

static int setup(void **state)
{
    char cmd[1024];
    struct sockaddr_in6 at;
    (void)state;
    strcpy(S.dir, "/tmp/hm-http-XXXXXX");
    if (!mkdtemp(S.dir))
        return -1;
    snprintf(
        cmd, sizeof(cmd),
        "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "
        "key -out crt -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:::1 "
        "2>err && mkdir -p www/assets && echo '<p>page</p>' > www/index.html && echo 'x=1' > "
        "www/assets/a-1.js && echo no > secret && ln -s ../secret www/link && head -c 30000000 "
        "/dev/urandom > big",
        S.dir);
    if (system(cmd) != 0)
        return -1;
    uv_loop_init(&S.loop);
    uv_async_init(&S.loop, &S.stop, on_stop);
    hm_http_config cfg = {.loop = &S.loop,
                          .routes = routes,
                          .route_count = sizeof(routes) / sizeof(routes[0]),
                          .token = "sesame",
                          .limits = {.connections = 64}};
    char crt[96], key[96], www[96];
    snprintf(crt, sizeof(crt), "%s/crt", S.dir);
    snprintf(key, sizeof(key), "%s/key", S.dir);
    snprintf(www, sizeof(www), "%s/www", S.dir);
    hm_http_listen_config tls = {.addr = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any},
                                 .cert_path = crt,
                                 .key_path = key,
                                 .static_dir = www,
                                 .index = "/assets/a-1.js",
                                 .http3 = true};
    hm_http_listen_config plain = {.addr = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback},
                                   .static_dir = www,
                                   .read_only = true,
                                   .local_names = true};
    if (hm_http_open(&cfg, &S.http) != HM_OK || hm_http_listen(S.http, &tls, &at) != HM_OK)
        return -1;
    S.tls_port = ntohs(at.sin6_port);
    if (hm_http_listen(S.http, &plain, &at) != HM_OK)
        return -1;
    S.plain_port = ntohs(at.sin6_port);
    return pthread_create(&S.thread, NULL, run_loop, NULL);
}

static int teardown(void **state)
{
    char cmd[128];
    (void)state;
    uv_async_send(&S.stop);
    pthread_join(S.thread, NULL);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", S.dir);
    int rc = system(cmd) | uv_loop_close(&S.loop);
    return rc || S.closed != 1;
}

// ---- tests --------------------------------------------------------------------------------------

static void test_basic(void **state)
{
    (void)state;
    assert_int_equal(sh("$C -i \"$T/v1/hello/a%20b?q=1%262&z\""), 0);
    OUT_HAS(S.h3 ? "HTTP/3 200" : "HTTP/1.1 200");
    assert_int_equal(strstr(out_text, "alt-svc: h3=\":") != NULL, !S.h3);
    OUT_HAS("{\"method\":\"GET\",\"id\":\"a b\",\"q\":\"1&2\"}");
    OUT_HAS("nosniff");
    OUT_HAS("cache-control: no-store");
    assert_int_equal(sh("$C -i \"$T/v1/hello/a?q=1&foo=bar\""), 0);
    OUT_HAS("400");
    OUT_HAS("parameter foo is unknown here");
    assert_int_equal(sh("$C -i \"$T/v1/hello/a?q=1&z=&q=2\""), 0);
    OUT_HAS("400");
    OUT_HAS("parameter q stands there twice");
    assert_int_equal(sh("$C -i \"$T/v1/echo?q=1\" -d x"), 0);
    OUT_HAS("400");
    assert_int_equal(sh("$C -I $T/v1/hello/a"), 0);
    OUT_HAS("200");
    OUT_HAS("content-length: 33");
    assert_int_equal(sh("$C -i $T/v1/none"), 0);
    OUT_HAS("404");
    OUT_HAS("\"code\":\"NOTFOUND\"");
    assert_int_equal(sh("$C -i -X DELETE $T/v1/hello/a"), 0);
    OUT_HAS("405");
    OUT_HAS("allow: GET");
    assert_int_equal(sh("$C -i -d '' $T/v1/hello/7/x"), 0);
    OUT_HAS("\"POST\",\"id\":\"7\"");
    assert_int_equal(sh("$C $T/v1/hello/1 $T/v1/hello/2 -w '%{num_connects}'"), 0);
    OUT_HAS("\"id\":\"2\"");
}

static void test_http2(void **state)
{
    (void)state;
    assert_int_equal(sh("$C --http2-prior-knowledge -i $T/v1/hello/h2"), 0);
    OUT_HAS("HTTP/2 200");
    OUT_HAS("\"id\":\"h2\"");
    assert_int_equal(sh("$C --http2-prior-knowledge -d abc $T/v1/echo"), 0);
    assert_string_equal(out_text, "abc");
    assert_int_equal(sh("$C --http2-prior-knowledge -o $D/o $T/v1/download/3000000 && stat -c %s "
                        "$D/o"),
                     0);
    assert_string_equal(out_text, "3000000\n");
    assert_int_equal(sh("$C --http2-prior-knowledge -I $T/v1/hello/h2"), 0);
    OUT_HAS("HTTP/2 200");
    // A client that offers both is given HTTP/1.1, where a body can be held back.
    assert_int_equal(sh("$C --http2 -o /dev/null -w '%{http_version}' $T/v1/hello/x"), 0);
    assert_string_equal(out_text, "1.1");
    assert_int_equal(sh("$C --http2-prior-knowledge --parallel $(for i in 1 2 3 4 5 6 7 8; do echo "
                        "$T/v1/hello/p$i; done)"),
                     0);
    for (int i = 1; i <= 8; i++) {
        char id[16];
        snprintf(id, sizeof(id), "\"p%d\"", i);
        OUT_HAS(id);
    }
}

static void test_bodies(void **state)
{
    (void)state;
    assert_int_equal(sh("head -c 200000 $D/big > $D/mid; $C --data-binary @$D/mid $T/v1/echo | cmp "
                        "- $D/mid"),
                     0);
    assert_int_equal(sh("$C -i --data-binary @$D/big $T/v1/echo"), 0);
    OUT_HAS("413");
    OUT_HAS("30000000 were announced");
    assert_int_equal(sh("$C -T $D/big $T/v1/upload; echo; od -An -v -tu1 $D/big | awk "
                        "'{for(i=1;i<=NF;i++)s+=$i} END {printf \"30000000 %.0f\\n\", s}'"),
                     0);
    char *second = strchr(out_text, '\n') + 1;
    second[strcspn(second, "\n")] = 0;
    second[-1] = 0;
    assert_string_equal(out_text, second);
    assert_int_equal(sh("$C -i -T $D/mid $T/v1/refuse"), 0);
    OUT_HAS("409");
    OUT_HAS("not \\\"now\\\"");
    // The connection goes on after a refused body.
    assert_int_equal(sh("$C -T $D/mid $T/v1/refuse --next ${C#curl} $T/v1/hello/after"), 0);
    OUT_HAS("after");
    if (!S.h3) { // which has no such field
        assert_int_equal(sh("$C -i -H 'Transfer-Encoding: chunked' -d abc $T/v1/echo"), 0);
        OUT_HAS("411");
    }
}

static void test_download(void **state)
{
    (void)state;
    assert_int_equal(
        sh("$C -o $D/o $T/v1/download/20000000 && $C -o $D/p "
           "\"$T/v1/download/20000000?nolength=1\" && cmp $D/o $D/p && stat -c %s $D/o"),
        0);
    assert_string_equal(out_text, "20000000\n");
    assert_int_equal(sh("$C --limit-rate 2M -o $D/o $T/v1/download/4000000 && stat -c %s $D/o"), 0);
    assert_string_equal(out_text, "4000000\n");
    assert_int_not_equal(sh("$C -o $D/o $T/v1/fail 2>&1"), 0);
    assert_int_equal(sh("$C -o $D/o $T/v1/full && stat -c %s $D/o"), 0);
    assert_string_equal(out_text, "262144\n");
    assert_int_equal(S.room_after_end, 0);
}

static void test_abort(void **state)
{
    (void)state;
    int before = S.aborted;
    // The reader leaves in the middle: the handler hears of it.
    assert_int_equal(sh("$C $T/v1/download/900000000 | head -c 1000 | wc -c"), 0);
    for (int i = 0; i < 6000 && S.aborted == before; i++)
        usleep(10000);
    assert_int_equal(S.aborted, before + 1);
    assert_int_equal(sh("$C -N -m 10 $T/v1/events"), 28); // curl's own time limit
    OUT_HAS("event: final\nid: 3\ndata: {\"height\":1}\n\n");
    for (int i = 0; i < 6000 && S.sse_ended == 0; i++)
        usleep(10000);
    assert_int_equal(S.sse_ended, 1);
    assert_int_equal(sh("$C $T/v1/flood | wc -c"), 0);
    unsigned long came = strtoul(out_text, NULL, 10);
    assert_true(S.flooded == 1000 && came > (1u << 19) && came <= (1u << 20) + 4096);
    assert_int_equal(sh("$C -o $D/w -w '%{http_code}' $T/v1/wait & until $C -f -o /dev/null "
                        "$T/v1/poke 2>/dev/null; do :; done; wait; cat $D/w"),
                     0);
    OUT_HAS("202");
    OUT_HAS("poked");
    // A body of no bytes is over at once, and the library tells so once more.
    assert_int_equal(sh("$C -d '' -o $D/w -w '%{http_code}' $T/v1/wait & until $C -f -o /dev/null "
                        "$T/v1/poke 2>/dev/null; do :; done; wait; cat $D/w"),
                     0);
    OUT_HAS("202");
    OUT_HAS("poked");
}

static void test_auth(void **state)
{
    (void)state;
    assert_int_equal(sh("$C -i -d x $T/v1/secret"), 0);
    OUT_HAS("401");
    assert_int_equal(sh("$C -i -H 'Authorization: Bearer sesamf' -d x $T/v1/secret"), 0);
    OUT_HAS("401");
    assert_int_equal(sh("$C -i -H 'Authorization: Bearer sesame' -d x $T/v1/secret"), 0);
    OUT_HAS("200");
    if (!S.h3) { // the listener that only reads has no certificate
        assert_int_equal(sh("$C -i -H 'Authorization: Bearer sesame' -d x $P/v1/secret"), 0);
        OUT_HAS("403");
    }
}

// The same requests by HTTP/3 get the same answers.
static void by_h3(void (*test)(void **state), void **state)
{
    S.h3 = true;
    test(state);
    S.h3 = false;
}
static void test_h3_basic(void **state)
{
    by_h3(test_basic, state);
}
static void test_h3_bodies(void **state)
{
    by_h3(test_bodies, state);
}
static void test_h3_download(void **state)
{
    by_h3(test_download, state);
}
static void test_h3_abort(void **state)
{
    S.sse_ended = 0;
    by_h3(test_abort, state);
}
static void test_h3_auth(void **state)
{
    by_h3(test_auth, state);
}

// What is HTTP/3's own.
static void test_h3(void **state)
{
    (void)state;
    S.h3 = true;
    assert_int_equal(sh("$C -i -H \"X-Long: $(head -c 9000 /dev/zero | tr '\\0' a)\" "
                        "$T/v1/hello/x"),
                     0);
    OUT_HAS("HTTP/3 431");
    assert_int_equal(sh("$C -i -H 'Host: elsewhere' $T/v1/hello/x"), 0);
    OUT_HAS("200"); // :authority says so, and nothing else
    assert_int_equal(sh("$C -i --path-as-is \"$T/v1/hello/%00\""), 0);
    OUT_HAS("400");
    assert_int_equal(sh("$C -i \"$T/v1/hello/%4\""), 0);
    OUT_HAS("400");
    assert_int_equal(sh("$C -i \"$T/v1/hello/%2e%2e/../x\" --path-as-is"), 0);
    OUT_HAS("400");
    assert_int_equal(sh("$C -i -T - $T/v1/upload < $D/mid"), 0);
    OUT_HAS("411");
    assert_int_equal(sh("$C --parallel $(for i in $(seq 200); do echo "
                        "$T/v1/hello/p$i; done) | grep -o '\"p[0-9]*\"' | sort -u | wc -l"),
                     0);
    assert_string_equal(out_text, "200\n");
    assert_int_equal(sh("$C --parallel $(for i in 1 2 3 4 5 6 7 8; do echo -T $D/mid "
                        "$T/v1/upload; done) | grep -o '200000 ' | wc -l"),
                     0);
    assert_string_equal(out_text, "8\n");
    // Alt-Svc leads from one to the other.
    S.h3 = false;
    assert_int_equal(sh("$C --alt-svc $D/alt -o /dev/null $T/v1/hello/x && $C --alt-svc $D/alt -o "
                        "/dev/null -w '%{http_version}' $T/v1/hello/x"),
                     0);
    assert_string_equal(out_text, "3");
}

static void test_index(void **state)
{
    (void)state;
    assert_int_equal(sh("$C -i $T/"), 0);
    OUT_HAS("x=1"); // the listener's own index
    OUT_HAS("content-security-policy: default-src 'none'");
    assert_int_equal(sh("$C $T/index.html"), 0);
    OUT_HAS("<p>page</p>");
}

static void test_files(void **state)
{
    (void)state;
    assert_int_equal(sh("$C -i $P/"), 0);
    OUT_HAS("<p>page</p>");
    OUT_HAS("default-src 'none'; script-src 'self'");
    OUT_HAS("cache-control: no-cache");
    assert_int_equal(sh("$C -i $P/assets/a-1.js"), 0);
    OUT_HAS("immutable");
    OUT_HAS("text/javascript");
    assert_int_equal(sh("E=$($C -i $P/ | tr -d '\\r' | sed -n 's/^etag: //p'); $C -i -H "
                        "\"If-None-Match: $E\" $P/"),
                     0);
    OUT_HAS("304");
    static const char *const bad[] = {
        "/../secret",    "/%2e%2e/secret", "/assets/..%2f..%2fsecret", "/link",
        "/..%00/secret", "//../secret",    "/%5c..%5csecret"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char cmd[256];
        snprintf(cmd, sizeof(cmd), "$C --path-as-is -o $D/x -w '%%{http_code}' $P%s; cat $D/x",
                 bad[i]);
        (void)sh(cmd);
        assert_null(strstr(out_text, "no\n"));
        assert_null(strstr(out_text, "200"));
    }
    assert_int_equal(sh("$C -i -H 'Host: evil.example' $P/"), 0);
    OUT_HAS("421");
}

// Writes raw bytes to the plain port, in pieces where two NULs are, and gives what comes back until
// the end; goes on sending nothing meanwhile.
static void raw_open(const char *bytes, size_t len, bool end)
{
    struct sockaddr_in6 to = {.sin6_family = AF_INET6,
                              .sin6_addr = in6addr_loopback,
                              .sin6_port = htons((uint16_t)S.plain_port)};
    struct timeval wait = {60, 0};
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    (void)!send(fd, bytes, len, MSG_NOSIGNAL);
    if (end)
        shutdown(fd, SHUT_WR);
    size_t at = 0;
    ssize_t n;
    while (at < sizeof(out_text) - 1 &&
           (n = read(fd, out_text + at, sizeof(out_text) - 1 - at)) > 0)
        at += (size_t)n;
    out_text[at] = 0;
    close(fd);
}

static void raw(const char *bytes, size_t len)
{
    raw_open(bytes, len, true);
}

// What no handler sees is told all the same, in JSON.
static void test_refusals(void **state)
{
    static const char *const methods[] = {"TRACE", "FOO", "PROPFIND", "CONNECT", "GARBAGE:"};
    char text[128];
    (void)state;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        snprintf(text, sizeof(text), "%s /v1/poke HTTP/1.1\r\nHost: localhost\r\n\r\n", methods[i]);
        raw_open(text, strlen(text), false);
        OUT_HAS(methods[i][0] == 'G' ? "HTTP/1.1 400 " : "HTTP/1.1 501 ");
        OUT_HAS("content-type: application/json");
        OUT_HAS("{\"error\":{\"code\":");
    }
    assert_int_equal(sh("$C -i -X TRACE $T/v1/poke"), 0);
    OUT_HAS("HTTP/1.1 501 ");
    OUT_HAS("\"code\":\"METHOD\"");
    assert_int_equal(sh("$C -i -X OPTIONS $T/v1/poke"), 0);
    OUT_HAS("HTTP/1.1 405 ");
    OUT_HAS("allow: GET");
    static const char *const hosts[] = {"", "Host: localhost\r\nHost: localhost\r\n"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(text, sizeof(text), "GET /v1/hello/x HTTP/1.1\r\nConnection: close\r\n%s\r\n",
                 hosts[i]);
        raw_open(text, strlen(text), false);
        OUT_HAS("HTTP/1.1 400 ");
        OUT_HAS("\"code\":\"HOST\"");
    }
    // Headers that are too long, of one name and of many, known to the library and not.
    static const char *const kinds[] = {
        "-H \"X-Big: $(head -c 9000 /dev/zero | tr '\\0' a)\"",
        "-H \"Cookie: $(head -c 50000 /dev/zero | tr '\\0' a)\"",
        "$(for i in $(seq 300); do echo -H X-Head-$i:aaaaaaaaaaaaaaaaaaaaaaaaaaaa; done)",
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char command[256];
        snprintf(command, sizeof(command), "$C -i %s $T/v1/hello/x", kinds[i]);
        assert_int_equal(sh(command), 0);
        OUT_HAS("HTTP/1.1 431 ");
        OUT_HAS("\"code\":\"LIMIT\"");
    }
    assert_int_equal(sh("$C -i -H \"X-Big: $(head -c 7000 /dev/zero | tr '\\0' a)\" $T/v1/hello/x"),
                     0);
    OUT_HAS("HTTP/1.1 200 ");
}

// Requests that do not wait for the answers may lose their connection, and do nobody else any harm.
static void test_pipelined(void **state)
{
    static const char get[] = "GET /v1/hello/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    static const char post[] =
        "POST /v1/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nbody-echo";
    static const char wait[] =
        "POST /v1/wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
    const char *const all[] = {get, post, wait};
    (void)state;
    for (size_t i = 0; i < 27; i++) {
        char text[1024];
        snprintf(text, sizeof(text), "%s%s%s", all[i / 9], all[i / 3 % 3], all[i % 3]);
        raw(text, strlen(text));
        assert_null(strstr(out_text, "POST /v1"));
        assert_int_equal(sh("$C $T/v1/hello/ok"), 0);
        OUT_HAS("\"ok\"");
    }
}

static void test_raw(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "GARBAGE\r\n\r\n",  "\r\n\r\n\r\n",
        "GET\r\n\r\n",      "GET / HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02", "GET /\x01\x02 HTTP/1.1\r\nHost: localhost\r\n\r\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        raw(bad[i], strlen(bad[i]));
        assert_null(strstr(out_text, " 200 "));
    }
    static char big[20000] = "GET / HTTP/1.1\r\nHost: localhost\r\nX-Big: ";
    size_t n = strlen(big);
    memset(big + n, 'a', sizeof(big) - n - 1);
    raw(big, sizeof(big) - 1);
    assert_null(strstr(out_text, " 200 "));
    // It still serves.
    assert_int_equal(sh("$C $P/v1/hello/ok"), 0);
    OUT_HAS("\"ok\"");
}

static void test_no_ipv4(void **state)
{
    (void)state;
    char cmd[256];
    snprintf(cmd, sizeof(cmd), "ss -H -4 -a -p | grep -c 'pid=%d,'", (int)getpid());
    (void)sh(cmd);
    assert_string_equal(out_text, "0\n");
    snprintf(cmd, sizeof(cmd), "ss -H -6 -l -t -p | grep -c 'pid=%d,'", (int)getpid());
    (void)sh(cmd);
    assert_string_equal(out_text, "2\n");
    snprintf(cmd, sizeof(cmd), "ss -H -6 -l -u -p | grep -c 'pid=%d,'", (int)getpid());
    (void)sh(cmd);
    assert_string_equal(out_text, "1\n");
    assert_int_not_equal(sh("curl -4 -sk -m 5 https://127.0.0.1:${T##*:}/"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_basic),     cmocka_unit_test(test_http2),
        cmocka_unit_test(test_bodies),    cmocka_unit_test(test_download),
        cmocka_unit_test(test_abort),     cmocka_unit_test(test_auth),
        cmocka_unit_test(test_index),     cmocka_unit_test(test_files),
        cmocka_unit_test(test_raw),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_pipelined), cmocka_unit_test(test_h3_basic),
        cmocka_unit_test(test_h3_bodies), cmocka_unit_test(test_h3_download),
        cmocka_unit_test(test_h3_abort),  cmocka_unit_test(test_h3_auth),
        cmocka_unit_test(test_h3),        cmocka_unit_test(test_no_ipv4),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
