// A connection's log (qlog): it counts what the statistics count, texts of peers mean nothing in
// it, and where it cannot be written the connection goes on.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "stoq_forge.h"
#include "stoq_pair.h"

static stoq_ids ids;
static pair_world p;
static char dir[] = "/tmp/hm-qlog-XXXXXX";
static char *logs[2]; // of the client and the server

static int set_up(void **state)
{
    (void)state;
    stoq_ids_make(&ids);
    return mkdtemp(dir) == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    stoq_ids_free(&ids);
    return rmdir(dir);
}

// Reads and removes what is in the folder; returns how many files there were.
static unsigned take_logs(void)
{
    unsigned count = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[512];
        if (e->d_name[0] == '.')
            continue;
        count++;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        FILE *f = fopen(path, "rb");
        assert_non_null(f);
        char *text = calloc(1, 8 << 20);
        assert_non_null(text);
        assert_true(fread(text, 1, (8 << 20) - 1, f) < (8 << 20) - 1);
        fclose(f);
        assert_int_equal(unlink(path), 0);
        logs[strstr(e->d_name, "-server.sqlog") != NULL] = text;
    }
    closedir(d);
    return count;
}

static void free_logs(void)
{
    for (int i = 0; i < 2; i++) {
        free(logs[i]);
        logs[i] = NULL;
    }
}

static uint64_t count(const char *log, const char *what)
{
    uint64_t n = 0;
    for (const char *at = log; (at = strstr(at, what)) != NULL; at += strlen(what))
        n++;
    return n;
}

static uint64_t events(const char *log, const char *name)
{
    char what[80];
    snprintf(what, sizeof what, "\"name\":\"quic:%s\"", name);
    return count(log, what);
}

static void assert_whole(const char *log)
{
    size_t len = strlen(log);
    assert_true(len > 0 && log[0] == '\x1e' && log[len - 1] == '\n');
    assert_int_equal(count(log, "\x1e{"), count(log, "}\n"));
}

static bool begin_and_exchange(unsigned loss)
{
    const stoq_config config[2] = {{.client_tls = ids.client, .qlog_dir = dir},
                                   {.server_tls = ids.server, .qlog_dir = dir}};
    pair_begin(&p, 7);
    p.loss = loss;
    return pair_exchange(&p, config);
}

static void test_counts(void **state)
{
    (void)state;
    for (unsigned loss = 0; loss <= 5; loss += 5) {
        stoq_conn_stats st[2];
        assert_true(begin_and_exchange(loss));
        assert_int_equal(stoq_conn_update_keys(p.side[PAIR_CLIENT].conn), HM_OK);
        pair_run(&p, 3000000);
        for (unsigned i = 0; i < 2; i++)
            st[i] = pair_stats(&p, i);
        p.loss = 100; // what is said at the end is in no statistics
        pair_end(&p);
        assert_int_equal(take_logs(), 2);
        for (unsigned i = 0; i < 2; i++) {
            const char *log = logs[i];
            uint64_t lost = events(log, "packet_lost") -
                            count(log, "\"is_mtu_probe_packet\":true,\"trigger\":");
            assert_whole(log);
            assert_int_equal(events(log, "packet_sent"), st[i].packets_sent + 1); // the close
            assert_int_equal(events(log, "packet_received"), st[i].packets_received);
            assert_int_equal(events(log, "packet_dropped"), st[i].packets_dropped);
            assert_int_equal(lost, st[i].packets_lost);
            assert_true(loss == 0 || lost > 0);
            assert_int_equal(count(log, "\"key_phase\":1"), 2);
            assert_int_equal(events(log, "connection_started"), 1);
            assert_int_equal(events(log, "connection_closed"), 1);
            assert_int_equal(events(log, "version_information"), 1);
            assert_int_equal(count(log, "\"initiator\":\"local\",\"max_idle"), 1);
            assert_int_equal(count(log, "\"initiator\":\"remote\",\"max_idle"), 1);
            assert_true(events(log, "mtu_updated") >= 2);
            assert_true(events(log, "recovery_metrics_updated") > 0);
            assert_true(events(log, "congestion_state_updated") > 0);
        }
        free_logs();
    }
}

// A reason is bytes of the peer's: none of them ends a string or a record.
static void test_escapes(void **state)
{
    (void)state;
    assert_true(begin_and_exchange(0));
    stoq_conn_close(p.side[PAIR_CLIENT].conn, 7, "\"},\n\x1e{\\ \x01\x7f\xc3\xff end");
    pair_run(&p, 100000);
    assert_int_equal(p.side[PAIR_SERVER].closed, 1);
    pair_end(&p);
    assert_int_equal(take_logs(), 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_whole(logs[i]);
        assert_int_equal(
            count(
                logs[i],
                "\"trigger\":\"application\",\"application_error\":\"unknown\",\"error_code\":7,"
                "\"reason\":\"\\u0022},\\u000a\\u001e{\\u005c \\u0001\\u007f\\u00c3\\u00ff end\""),
            1);
    }
    free_logs();
}

// No byte more fits: the log ends with a whole record, and nobody else notices.
static void test_full_disk(void **state)
{
    (void)state;
    struct rlimit before, little = {20000, RLIM_INFINITY};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    little.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    bool ok = begin_and_exchange(0);
    bool open = p.side[0].conn != NULL && p.side[1].conn != NULL;
    pair_end(&p);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_true(ok && open);
    assert_int_equal(take_logs(), 2);
    for (unsigned i = 0; i < 2; i++) {
        assert_whole(logs[i]);
        assert_true(strlen(logs[i]) <= 20000);
        assert_int_equal(events(logs[i], "connection_closed"), 0);
    }
    free_logs();
}

// Forged first packets leave no files.
static void test_noise(void **state)
{
    (void)state;
    uint8_t bytes[1200] = {0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0x44, 0x80};
    pair_begin(&p, 8);
    pair_endpoint(&p, PAIR_SERVER, (stoq_config){.server_tls = ids.server, .qlog_dir = dir});
    pair_fly(&p, PAIR_SERVER, bytes, sizeof bytes);
    pair_run(&p, 100000);
    pair_end(&p);
    assert_int_equal(take_logs(), 0);
}

static void test_no_folder(void **state)
{
    (void)state;
    stoq_endpoint *ep;
    stoq_net net = {NULL, NULL, NULL};
    stoq_config config = {.net = &net, .alpn = {"x"}, .qlog_dir = "/nonexistent/folder"};
    assert_int_equal(stoq_endpoint_create(&config, &ep), HM_E_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),    cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_full_disk), cmocka_unit_test(test_noise),
        cmocka_unit_test(test_no_folder),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
