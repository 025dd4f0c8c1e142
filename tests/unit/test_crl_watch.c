// The eye on the authority beside one that hangs up: every question's thread ends at once, while
// the loop's thread still begins it. ThreadSanitizer judges what they share.
#include "node_fixture.h"

#include <stdio.h>

#include "server/crl_watch.h"

static unsigned asked;

static void on_hung_up(uv_handle_t *h)
{
    free(h);
}

static void on_call(uv_stream_t *listener, int status)
{
    assert_int_equal(status, 0);
    uv_tcp_t *peer = calloc(1, sizeof *peer);
    assert_non_null(peer);
    uv_tcp_init(&loop, peer);
    assert_int_equal(uv_accept(listener, (uv_stream_t *)peer), 0);
    asked++;
    uv_close((uv_handle_t *)peer, on_hung_up);
}

static void listen_on_any(uv_tcp_t *listener, char url[static 64])
{
    struct sockaddr_in6 addr = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int len = sizeof addr;
    uv_tcp_init(&loop, listener);
    assert_int_equal(uv_tcp_bind(listener, (struct sockaddr *)&addr, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)listener, 8, on_call), 0);
    assert_int_equal(uv_tcp_getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    snprintf(url, 64, "https://[::1]:%u", ntohs(addr.sin6_port));
}

static crl_watch *watch(const char *url)
{
    crl_watch *w = NULL;
    char root[200];
    snprintf(root, sizeof root, "%s/node/node.crt", fx.dir);
    OK(crl_watch_open(
        &(crl_watch_config){
            .loop = &loop, .node = node, .authority = url, .root_path = root, .wait_s = 1},
        &w));
    return w;
}

// It goes on asking, and a question that is out when it is closed ends by itself.
static void test_asks_again(void **state)
{
    (void)state;
    char url[64];
    uv_tcp_t listener;
    mesh_open(0, 0);
    listen_on_any(&listener, url);
    crl_watch *w = watch(url);
    asked = 0;
    UNTIL(asked >= 2);
    crl_watch_close(w);
    uv_close((uv_handle_t *)&listener, NULL);
    mesh_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asks_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
