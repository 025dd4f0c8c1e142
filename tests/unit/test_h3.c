// HTTP/3 as a hostile client sees it: every offence has its code and its counter, and what is none
// goes on. What well-behaved clients see is in test_http.c.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <nghttp3/nghttp3.h>

#include "base/bytes.h"
#include "h3_pair.h"

#define MS UINT64_C(1000)
#define BYTES(...)                                                                                 \
    hm_bytes_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

// ---- frames by hand -----------------------------------------------------------------------------

static void put_varint(hm_buf *b, uint64_t v)
{
    hm_assert(v < 1u << 30);
    const uint8_t bytes[] = {(uint8_t)(0x80 | v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8),
                             (uint8_t)v};
    hm_buf_append(b, bytes, sizeof bytes);
}

static void put_frame(hm_buf *b, uint64_t type, hm_bytes payload)
{
    put_varint(b, type);
    put_varint(b, payload.len);
    hm_buf_put(b, payload);
}

// An integer of QPACK with a prefix of `bits` bits.
static void put_int(hm_buf *b, uint8_t first, unsigned bits, size_t v)
{
    size_t max = (1u << bits) - 1;
    uint8_t byte = (uint8_t)(first | (v < max ? v : max));
    hm_buf_append(b, &byte, 1);
    if (v < max)
        return;
    for (v -= max; v >= 128; v >>= 7) {
        byte = (uint8_t)(0x80 | v);
        hm_buf_append(b, &byte, 1);
    }
    byte = (uint8_t)v;
    hm_buf_append(b, &byte, 1);
}

// A field as a literal with a literal name.
static void put_field(hm_buf *b, const char *name, hm_bytes value)
{
    put_int(b, 0x20, 3, strlen(name));
    hm_buf_puts(b, name);
    put_int(b, 0, 7, value.len);
    hm_buf_put(b, value);
}

// Head and what else the fields say; method and path may be NULL.
static void put_request(hm_buf *b, const char *method, const char *path, const char *name,
                        hm_bytes value)
{
    hm_buf fields = {0};
    hm_buf_put(&fields, BYTES(0, 0)); // nothing of the dynamic table
    if (method)
        put_field(&fields, ":method", hm_bytes_str(method));
    put_field(&fields, ":scheme", hm_bytes_str("https"));
    put_field(&fields, ":authority", hm_bytes_str("localhost"));
    if (path)
        put_field(&fields, ":path", hm_bytes_str(path));
    if (name)
        put_field(&fields, name, value);
    put_frame(b, 1, hm_buf_bytes(&fields));
    hm_buf_free(&fields);
}

#define CONTROL BYTES(0, 4, 0) // with empty SETTINGS

static h3_pair pair;
static h3_pair_stream control, other, request;

static void begin(void)
{
    h3_pair_begin(&pair);
    assert_true(h3_pair_open(&pair, true, &control));
    h3_pair_say(&control, CONTROL, false);
    h3_pair_run(&pair, 10 * MS);
    assert_non_null(pair.conn);
}

static void say_request(h3_pair_stream *st, const char *method, const char *path, const char *name,
                        hm_bytes value, bool fin)
{
    hm_buf b = {0};
    put_request(&b, method, path, name, value);
    h3_pair_say(st, hm_buf_bytes(&b), fin);
    hm_buf_free(&b);
}

// The connection answers a request as if nothing had been.
static void goes_on(void)
{
    static h3_pair_stream st;
    assert_non_null(pair.conn);
    assert_true(h3_pair_open(&pair, false, &st));
    say_request(&st, "GET", "/5000", NULL, (hm_bytes){0}, true);
    h3_pair_run(&pair, 100 * MS);
    assert_true(st.fin && st.got >= 5000 && st.got < 5300);
    assert_null(st.s);
}

static uint64_t ended(uint64_t code)
{
    static const uint64_t order[] = {
        NGHTTP3_H3_NO_ERROR,
        NGHTTP3_H3_GENERAL_PROTOCOL_ERROR,
        NGHTTP3_H3_INTERNAL_ERROR,
        NGHTTP3_H3_STREAM_CREATION_ERROR,
        NGHTTP3_H3_CLOSED_CRITICAL_STREAM,
        NGHTTP3_H3_FRAME_UNEXPECTED,
        NGHTTP3_H3_FRAME_ERROR,
        NGHTTP3_H3_EXCESSIVE_LOAD,
        NGHTTP3_H3_ID_ERROR,
        NGHTTP3_H3_SETTINGS_ERROR,
        NGHTTP3_H3_MISSING_SETTINGS,
        NGHTTP3_H3_MESSAGE_ERROR,
        NGHTTP3_QPACK_DECOMPRESSION_FAILED,
        NGHTTP3_QPACK_ENCODER_STREAM_ERROR,
        NGHTTP3_QPACK_DECODER_STREAM_ERROR,
    };
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++)
        if (order[i] == code)
            return pair.perf.h3.n.ended[i];
    fail_msg("a code without a counter: %llx", (unsigned long long)code);
    return 0;
}

// The connection was ended by this code, which is counted.
static void ends_with(uint64_t code)
{
    h3_pair_run(&pair, 100 * MS);
    assert_null(pair.conn);
    assert_int_equal(pair.close_code, code);
    assert_int_equal(ended(code), 1);
    h3_pair_end(&pair);
}

// ---- what is no offence -------------------------------------------------------------------------

static void test_served(void **state)
{
    (void)state;
    begin();
    goes_on();
    // POST in two pieces.
    hm_buf b = {0};
    assert_true(h3_pair_open(&pair, false, &request));
    say_request(&request, "POST", "/", NULL, (hm_bytes){0}, false);
    put_frame(&b, 0, BYTES(1, 2, 3));
    h3_pair_say(&request, hm_buf_bytes(&b), false);
    h3_pair_run(&pair, 10 * MS);
    assert_false(request.fin);
    h3_pair_say(&request, hm_buf_bytes(&b), true);
    h3_pair_run(&pair, 100 * MS);
    assert_true(request.fin);
    assert_int_equal(pair.perf.n.bytes_in, 6);
    hm_buf_free(&b);
    goes_on();
    h3_pair_end(&pair);
}

static void test_reserved(void **state)
{
    hm_buf b = {0};
    (void)state;
    begin();
    put_frame(&b, 0x21, BYTES(1, 2, 3)); // of no meaning: RFC 9114, 7.2.8
    h3_pair_say(&control, hm_buf_bytes(&b), false);
    put_request(&b, "GET", "/7", NULL, (hm_bytes){0});
    put_frame(&b, 0x40, BYTES(9));
    assert_true(h3_pair_open(&pair, false, &request));
    h3_pair_say(&request, hm_buf_bytes(&b), true);
    assert_true(h3_pair_open(&pair, true, &other));
    h3_pair_say(&other, BYTES(0x21, 1, 2, 3), false); // 6.2.3
    h3_pair_run(&pair, 100 * MS);
    assert_true(request.fin && request.got > 7);
    assert_true(other.stopped);
    assert_int_equal(other.stop_code, NGHTTP3_H3_STREAM_CREATION_ERROR);
    goes_on();
    hm_buf_free(&b);
    h3_pair_end(&pair);
}

// A byte at a time, and no more is kept than what is needed.
static void test_slow(void **state)
{
    hm_buf b = {0};
    (void)state;
    begin();
    assert_true(h3_pair_open(&pair, false, &request));
    put_request(&b, "GET", "/3", "x-some", hm_bytes_str("value"));
    for (size_t i = 0; i < b.len; i++) {
        h3_pair_say(&request, hm_bytes_of(b.ptr + i, 1), i + 1 == b.len);
        h3_pair_run(&pair, MS);
    }
    h3_pair_run(&pair, 100 * MS);
    assert_true(request.fin);
    // A head that does not come to its end.
    assert_true(h3_pair_open(&pair, false, &request));
    h3_pair_say(&request, hm_bytes_of(b.ptr, 20), false);
    for (unsigned i = 0; i < 12; i++) {
        h3_pair_run(&pair, 1000 * MS);
        stoq_perf_sweep(&pair.perf, pair.now_us);
    }
    h3_pair_run(&pair, 100 * MS);
    assert_true(request.reset);
    assert_int_equal(request.reset_code, NGHTTP3_H3_REQUEST_INCOMPLETE);
    goes_on();
    hm_buf_free(&b);
    h3_pair_end(&pair);
}

// A body that nobody waits for any more is thrown away up to a limit, in bytes and in time.
static void test_late_body(void **state)
{
    static uint8_t much[65536];
    (void)state;
    begin();
    for (unsigned way = 0; way < 2; way++) {
        hm_buf b = {0};
        put_frame(&b, 0, hm_bytes_of(much, sizeof much));
        assert_true(h3_pair_open(&pair, false, &request));
        say_request(&request, "PUT", "/", NULL, (hm_bytes){0}, false);
        h3_pair_run(&pair, 10 * MS);
        assert_true(request.fin && !request.stopped); // 405
        for (unsigned i = 0; i < 20; i++) {
            assert_int_equal(request.stopped, way == 0 && i > 16);
            if (way == 0)
                h3_pair_say(&request, hm_buf_bytes(&b), false);
            else
                stoq_perf_sweep(&pair.perf, pair.now_us);
            h3_pair_run(&pair, (way ? 500 : 100) * MS);
        }
        if (way == 1) {
            h3_pair_run(&pair, H3_HEAD_MS * MS);
            stoq_perf_sweep(&pair.perf, pair.now_us);
            h3_pair_run(&pair, 10 * MS);
        }
        assert_true(request.stopped);
        assert_int_equal(request.stop_code, NGHTTP3_H3_NO_ERROR);
        goes_on();
        hm_buf_free(&b);
    }
    h3_pair_end(&pair);
}

// A client that does not read gets what its window takes and makes nothing grow.
static void test_unread(void **state)
{
    (void)state;
    begin();
    pair.keeps_reading = false;
    assert_true(h3_pair_open(&pair, false, &request));
    say_request(&request, "GET", "/1000000000", NULL, (hm_bytes){0}, true);
    h3_pair_run(&pair, 10000 * MS);
    uint64_t out = pair.perf.n.bytes_out;
    assert_true(out > 0 && out <= (1u << 20) + STOQ_PERF_KEPT + 2 * 65536);
    // It gives up: the request is gone.
    stoq_stream_stop(request.s, NGHTTP3_H3_REQUEST_CANCELLED);
    h3_pair_run(&pair, 100 * MS);
    assert_int_equal(pair.perf.h3.n.cancelled, 1);
    assert_null(request.s);
    pair.keeps_reading = true;
    goes_on();
    h3_pair_end(&pair);
}

static void test_drain(void **state)
{
    (void)state;
    begin();
    assert_true(h3_pair_open(&pair, false, &request));
    say_request(&request, "POST", "/", NULL, (hm_bytes){0}, false);
    h3_pair_run(&pair, 10 * MS);
    stoq_perf_drain(&pair.perf);
    h3_pair_run(&pair, 10 * MS);
    // One that comes after GOAWAY is not taken, the other ends well.
    assert_true(h3_pair_open(&pair, false, &other));
    say_request(&other, "GET", "/5", NULL, (hm_bytes){0}, true);
    h3_pair_run(&pair, 100 * MS);
    assert_true(other.reset);
    assert_int_equal(other.reset_code, NGHTTP3_H3_REQUEST_REJECTED);
    assert_non_null(pair.conn);
    h3_pair_say(&request, (hm_bytes){0}, true);
    h3_pair_run(&pair, 200 * MS);
    assert_true(request.fin && request.got > 2);
    assert_null(pair.conn);
    assert_int_equal(pair.close_code, NGHTTP3_H3_NO_ERROR);
    h3_pair_end(&pair);
}

// ---- offences that end the connection -----------------------------------------------------------

static void on_control(hm_bytes bytes, bool fin, uint64_t code)
{
    h3_pair_begin(&pair);
    assert_true(h3_pair_open(&pair, true, &control));
    h3_pair_say(&control, bytes, fin);
    ends_with(code);
}

static void test_control(void **state)
{
    (void)state;
    on_control(BYTES(0, 7, 1, 0), false, NGHTTP3_H3_MISSING_SETTINGS);    // GOAWAY first
    on_control(BYTES(0, 0x21, 0), false, NGHTTP3_H3_MISSING_SETTINGS);    // reserved first
    on_control(CONTROL, true, NGHTTP3_H3_CLOSED_CRITICAL_STREAM);         // and closed
    on_control(BYTES(0, 4, 0, 4, 0), false, NGHTTP3_H3_FRAME_UNEXPECTED); // SETTINGS twice
    on_control(BYTES(0, 4, 0, 0, 0), false, NGHTTP3_H3_FRAME_UNEXPECTED); // DATA
    on_control(BYTES(0, 4, 0, 6, 0), false, NGHTTP3_H3_FRAME_UNEXPECTED); // PING of HTTP/2
    on_control(BYTES(0, 4, 2, 2, 0), false, NGHTTP3_H3_SETTINGS_ERROR);   // ENABLE_PUSH of HTTP/2
    on_control(BYTES(1, 0), false, NGHTTP3_H3_STREAM_CREATION_ERROR);     // a client's push
    // PRIORITY_UPDATE of a stream that the client may not open.
    on_control(BYTES(0, 4, 0, 0x80, 0x0f, 0x07, 0x00, 8, 0xc0, 0, 0, 0, 0, 0xff, 0xff, 0xfc), false,
               NGHTTP3_H3_ID_ERROR);
}

static void test_critical(void **state)
{
    (void)state;
    begin();
    stoq_stream_reset(control.s, NGHTTP3_H3_NO_ERROR);
    ends_with(NGHTTP3_H3_CLOSED_CRITICAL_STREAM);
    begin();
    assert_true(h3_pair_open(&pair, true, &other));
    h3_pair_say(&other, CONTROL, false);
    ends_with(NGHTTP3_H3_STREAM_CREATION_ERROR);
    for (uint8_t type = 2; type <= 3; type++) { // QPACK's
        begin();
        assert_true(h3_pair_open(&pair, true, &other));
        h3_pair_say(&other, BYTES(type), true);
        ends_with(NGHTTP3_H3_CLOSED_CRITICAL_STREAM);
    }
    // An insertion that names an entry of a table that is empty; an increment by nothing.
    begin();
    assert_true(h3_pair_open(&pair, true, &other));
    h3_pair_say(&other, BYTES(2, 0x80, 1, 'x'), false);
    ends_with(NGHTTP3_QPACK_ENCODER_STREAM_ERROR);
    begin();
    assert_true(h3_pair_open(&pair, true, &other));
    h3_pair_say(&other, BYTES(3, 0), false);
    ends_with(NGHTTP3_QPACK_DECODER_STREAM_ERROR);
}

static void on_request(hm_bytes bytes, uint64_t code)
{
    begin();
    assert_true(h3_pair_open(&pair, false, &request));
    h3_pair_say(&request, bytes, false);
    ends_with(code);
}

static void test_frames(void **state)
{
    hm_buf b = {0};
    (void)state;
    on_request(BYTES(0, 1, 'x'), NGHTTP3_H3_FRAME_UNEXPECTED);  // DATA before HEADERS
    on_request(BYTES(4, 0), NGHTTP3_H3_FRAME_UNEXPECTED);       // SETTINGS
    on_request(BYTES(8, 0), NGHTTP3_H3_FRAME_UNEXPECTED);       // WINDOW_UPDATE of HTTP/2
    on_request(BYTES(5, 2, 0, 0), NGHTTP3_H3_FRAME_UNEXPECTED); // PUSH_PROMISE
    // A field of the dynamic table that has not come: waiting is not allowed.
    on_request(BYTES(1, 3, 2, 0, 0x80), NGHTTP3_QPACK_DECOMPRESSION_FAILED);
    // HEADERS a third time.
    put_request(&b, "POST", "/", NULL, (hm_bytes){0});
    for (unsigned i = 0; i < 2; i++)
        put_frame(&b, 1, BYTES(0, 0, 0x21, 'x', 1, 'y'));
    on_request(hm_buf_bytes(&b), NGHTTP3_H3_FRAME_UNEXPECTED);
    hm_buf_free(&b);
}

// Names and values that fill more than anybody reads.
static void test_long_head(void **state)
{
    static uint8_t big[H3_HEAD_READ + 1000];
    (void)state;
    memset(big, 'a', sizeof big);
    begin();
    assert_true(h3_pair_open(&pair, false, &request));
    say_request(&request, "GET", "/100000", "x-long", hm_bytes_of(big, H3_HEAD_MAX), true);
    h3_pair_run(&pair, 100 * MS);
    assert_true(request.fin && request.got < 200); // refused, and not answered
    goes_on();
    h3_pair_end(&pair);
    hm_buf b = {0}, fields = {0};
    begin();
    assert_true(h3_pair_open(&pair, false, &request));
    hm_buf_put(&fields, BYTES(0, 0));
    for (unsigned i = 0; i < 2000; i++)
        put_field(&fields, "x-some-field-name", hm_bytes_of(big, 40));
    put_frame(&b, 1, hm_buf_bytes(&fields));
    h3_pair_say(&request, hm_buf_bytes(&b), true);
    ends_with(NGHTTP3_H3_EXCESSIVE_LOAD);
    hm_buf_free(&b);
    hm_buf_free(&fields);
}

static void test_rapid_reset(void **state)
{
    unsigned opened = 0;
    (void)state;
    begin();
    // One that is given up for one that is answered: this may go on for ever.
    for (unsigned i = 0; i < 3 * H3_CANCEL_BURST; i++) {
        assert_true(h3_pair_open(&pair, false, &request));
        say_request(&request, "POST", "/", NULL, (hm_bytes){0}, false);
        h3_pair_run(&pair, MS);
        stoq_stream_reset(request.s, NGHTTP3_H3_REQUEST_CANCELLED);
        goes_on();
    }
    assert_int_equal(pair.perf.h3.n.cancelled, 3 * H3_CANCEL_BURST);
    // None answered: this may not.
    while (pair.conn != NULL && opened < 2 * H3_CANCEL_BURST) {
        assert_true(h3_pair_open(&pair, false, &request));
        say_request(&request, "POST", "/", NULL, (hm_bytes){0}, false);
        h3_pair_run(&pair, MS);
        if (request.s)
            stoq_stream_reset(request.s, NGHTTP3_H3_REQUEST_CANCELLED);
        h3_pair_run(&pair, MS);
        opened++;
    }
    assert_int_equal(opened, H3_CANCEL_BURST + 1);
    ends_with(NGHTTP3_H3_EXCESSIVE_LOAD);
}

// ---- offences that end the request --------------------------------------------------------------

static void malformed(const char *method, const char *path, const char *name, hm_bytes value)
{
    uint64_t before = pair.perf.h3.n.malformed;
    assert_true(h3_pair_open(&pair, false, &request));
    say_request(&request, method, path, name, value, true);
    h3_pair_run(&pair, 100 * MS);
    assert_true(request.reset && request.got == 0);
    assert_int_equal(request.reset_code, NGHTTP3_H3_MESSAGE_ERROR);
    assert_int_equal(pair.perf.h3.n.malformed, before + 1);
    goes_on();
}

// The library lets no such field through, and the request is answered without it.
static void left_out(const char *name, hm_bytes value)
{
    assert_true(h3_pair_open(&pair, false, &request));
    say_request(&request, "GET", "/5", name, value, true);
    h3_pair_run(&pair, 100 * MS);
    assert_true(request.fin && request.got > 5);
}

static void test_smuggling(void **state)
{
    (void)state;
    begin();
    malformed("GET", NULL, NULL, (hm_bytes){0});
    malformed(NULL, "/5", NULL, (hm_bytes){0});
    malformed("G ET", "/5", NULL, (hm_bytes){0});
    malformed("GET", "/5 HTTP/1.1\r\nx: y", NULL, (hm_bytes){0});
    malformed("GET", "/5", ":path", hm_bytes_str("/6"));
    malformed("GET", "/5", ":nosuch", hm_bytes_str("x"));
    malformed("GET", "/5", "X-Upper", hm_bytes_str("x"));
    malformed("GET", "/5", "connection", hm_bytes_str("close"));
    malformed("GET", "/5", "transfer-encoding", hm_bytes_str("chunked"));
    malformed("GET", "/5", "te", hm_bytes_str("gzip"));
    malformed("POST", "/5", "content-length", hm_bytes_str("1x")); // no number
    left_out("x y", hm_bytes_str("x"));
    left_out("x", hm_bytes_str("a\r\nb: c"));
    left_out("x", hm_bytes_of("a\0b", 3));
    h3_pair_end(&pair);
}

// More or less body than was announced.
static void test_length(void **state)
{
    (void)state;
    for (uint8_t n = 1; n <= 3; n += 2) {
        hm_buf b = {0};
        put_request(&b, "POST", "/", "content-length", hm_bytes_str("2"));
        put_frame(&b, 0, hm_bytes_of("abc", n));
        begin();
        assert_true(h3_pair_open(&pair, false, &request));
        h3_pair_say(&request, hm_buf_bytes(&b), true);
        ends_with(NGHTTP3_H3_MESSAGE_ERROR);
        hm_buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_served),      cmocka_unit_test(test_reserved),
        cmocka_unit_test(test_slow),        cmocka_unit_test(test_late_body),
        cmocka_unit_test(test_unread),      cmocka_unit_test(test_drain),
        cmocka_unit_test(test_control),     cmocka_unit_test(test_critical),
        cmocka_unit_test(test_frames),      cmocka_unit_test(test_long_head),
        cmocka_unit_test(test_rapid_reset), cmocka_unit_test(test_smuggling),
        cmocka_unit_test(test_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
