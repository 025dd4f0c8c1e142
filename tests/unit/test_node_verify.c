// POST /v1/ledger/verify: the thread beside the loop, its lines, and its ways to end. The walk
// itself is ledger_verify.c's and tested there; here it is one that does what a test tells it.
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/client.h"
#include "server/ledger_check.h"
#include "server/node_api_internal.h"

enum { WALK_GOOD, WALK_BAD, WALK_HELD, WALK_ENDLESS };

static struct {
    uv_loop_t loop;
    uv_async_t stop;
    hm_node_api *api;
    pthread_t thread;
    struct sockaddr_in6 addr;
    char url[64];
    atomic_int walk;
    sem_t begun, go_on, ended;
    _Atomic hm_err result;
    atomic_bool closed;
} S;

// ---- what is below the API ----------------------------------------------------------------------

hm_ledger *hm_node_ledger(hm_node *n)
{
    return (hm_ledger *)n;
}

hm_err hm_node_subscribe(hm_node *n, hm_node_event_cb cb, void *ctx, uint64_t *token)
{
    (void)n;
    (void)cb;
    (void)ctx;
    *token = 1;
    return HM_OK;
}

void hm_node_submits_leave(hm_node *n)
{
    (void)n;
}

void hm_node_unsubscribe(hm_node *n, uint64_t token)
{
    (void)n;
    (void)token;
}

hm_err ledger_check_certificate(void *ctx, hm_view *parent, const hm_block_header *header,
                                const hm_hash *block_id, hm_bytes certificate, bool tip)
{
    (void)ctx;
    (void)parent;
    (void)header;
    (void)block_id;
    (void)certificate;
    (void)tip;
    return HM_OK;
}

hm_err hm_ledger_verify(hm_ledger *l, const char *scratch, const hm_ledger_verify_hooks *hooks,
                        hm_ledger_verify_report *report)
{
    hm_err err = HM_OK;
    int walk = atomic_load(&S.walk);
    (void)l;
    (void)scratch;
    sem_post(&S.begun);
    for (uint64_t i = 1; err == HM_OK && (walk == WALK_ENDLESS || i <= 1000); i++) {
        if (walk == WALK_HELD && i == 2)
            sem_wait(&S.go_on);
        err = hooks->certificate(hooks->ctx, NULL, NULL, NULL, (hm_bytes){0}, false);
        hooks->progress(hooks->ctx, i, 1000);
    }
    if (err == HM_OK && walk == WALK_BAD)
        err = hm_fail(HM_E_CORRUPT, "block 7: its root");
    *report = (hm_ledger_verify_report){.blocks = 1000, .ops = 5000};
    atomic_store(&S.result, err);
    sem_post(&S.ended);
    return err;
}

// ---- a server on its own thread -----------------------------------------------------------------

static void on_closed(void *ctx)
{
    (void)ctx;
    atomic_store(&S.closed, true);
}

static void on_stop(uv_async_t *a)
{
    uv_close((uv_handle_t *)a, NULL);
    hm_node_api_close(S.api, 200, on_closed, NULL);
}

static void *serve(void *arg)
{
    (void)arg;
    uv_run(&S.loop, UV_RUN_DEFAULT);
    return NULL;
}

static int start(void **state)
{
    const struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    hm_node_api_config cfg = {.loop = &S.loop,
                              .node = (hm_node *)&S, // only ever handed on
                              .data_dir = "/nonexistent",
                              .token = "secret",
                              .version = "0"};
    (void)state;
    memset(&S, 0, sizeof(S));
    sem_init(&S.begun, 0, 0);
    sem_init(&S.go_on, 0, 0);
    sem_init(&S.ended, 0, 0);
    uv_loop_init(&S.loop);
    uv_async_init(&S.loop, &S.stop, on_stop);
    cfg.api.addr = any;
    hm_http_listen_config more = {.addr = any};
    if (hm_node_api_open(&cfg, &S.api) != HM_OK ||
        hm_http_listen(S.api->http, &more, &S.addr) != HM_OK)
        return -1;
    snprintf(S.url, sizeof(S.url), "http://[::1]:%d", ntohs(S.addr.sin6_port));
    return pthread_create(&S.thread, NULL, serve, NULL);
}

static void stop(void)
{
    uv_async_send(&S.stop);
    pthread_join(S.thread, NULL);
    assert_true(S.closed);
    assert_int_equal(uv_loop_close(&S.loop), 0);
}

typedef struct answer {
    hm_buf last;
    size_t lines;
} answer;

static void on_line(void *ctx, hm_bytes line)
{
    answer *a = ctx;
    hm_buf_reset(&a->last);
    hm_buf_put(&a->last, line);
    a->lines++;
}

static hm_err ask(answer *a)
{
    static char token[] = "secret";
    hm_client c = {.url = S.url, .token = token};
    *a = (answer){0};
    return hm_client_lines(&c, "POST", "/v1/ledger/verify", on_line, a);
}

static void *ask_beside(void *ctx)
{
    return (void *)(intptr_t)ask(ctx);
}

// ---- tests --------------------------------------------------------------------------------------

static void test_good_and_bad(void **state)
{
    answer a;
    (void)state;
    atomic_store(&S.walk, WALK_GOOD);
    assert_int_equal(ask(&a), HM_OK);
    assert_non_null(strstr(hm_buf_cstr(&a.last), "\"good\":true,\"blocks\":1000,\"ops\":5000"));
    hm_buf_free(&a.last);
    atomic_store(&S.walk, WALK_BAD);
    assert_int_equal(ask(&a), HM_OK);
    assert_non_null(strstr(hm_buf_cstr(&a.last), "\"good\":false,\"error\":\"CORRUPT\""));
    assert_non_null(strstr(hm_buf_cstr(&a.last), "block 7: its root"));
    hm_buf_free(&a.last);
    stop();
}

static void test_one_at_a_time(void **state)
{
    answer first, second;
    pthread_t t;
    void *err;
    (void)state;
    atomic_store(&S.walk, WALK_HELD);
    pthread_create(&t, NULL, ask_beside, &first);
    sem_wait(&S.begun);
    assert_int_equal(ask(&second), HM_E_BUSY);
    hm_buf_free(&second.last);
    sem_post(&S.go_on);
    pthread_join(t, &err);
    assert_int_equal((intptr_t)err, HM_OK);
    assert_non_null(strstr(hm_buf_cstr(&first.last), "\"good\":true"));
    hm_buf_free(&first.last);
    stop();
}

static int send_raw(void)
{
    static const char request[] = "POST /v1/ledger/verify HTTP/1.1\r\nHost: x\r\n"
                                  "Authorization: Bearer secret\r\nContent-Length: 0\r\n\r\n";
    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&S.addr, sizeof(S.addr)), 0);
    assert_int_equal(send(fd, request, sizeof(request) - 1, 0), sizeof(request) - 1);
    return fd;
}

static void test_peer_leaves(void **state)
{
    answer a;
    char byte;
    (void)state;
    atomic_store(&S.walk, WALK_ENDLESS);
    int fd = send_raw();
    sem_wait(&S.begun);
    assert_int_equal(recv(fd, &byte, 1, 0), 1); // the answer has begun
    close(fd);
    sem_wait(&S.ended);
    assert_int_equal(S.result, HM_E_CLOSED);
    // The next one is served as soon as the thread's end is seen.
    atomic_store(&S.walk, WALK_GOOD);
    hm_err err;
    while ((err = ask(&a)) == HM_E_BUSY)
        hm_buf_free(&a.last);
    assert_int_equal(err, HM_OK);
    hm_buf_free(&a.last);
    stop();
}

static void test_server_stops(void **state)
{
    (void)state;
    atomic_store(&S.walk, WALK_ENDLESS);
    int fd = send_raw();
    sem_wait(&S.begun);
    stop();
    assert_int_equal(S.result, HM_E_CLOSED);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_good_and_bad, start),
        cmocka_unit_test_setup(test_one_at_a_time, start),
        cmocka_unit_test_setup(test_peer_leaves, start),
        cmocka_unit_test_setup(test_server_stops, start),
    };
    hm_log_set_level(HM_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
