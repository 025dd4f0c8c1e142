// UDP over IPv6 over Ethernet: frames written, read, and refused.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "stoq/ether.h"

#define PAYLOAD_MAX 1500u

static uint8_t payload[PAYLOAD_MAX], frame[STOQ_ETHER_HEADERS + PAYLOAD_MAX + 1];

static stoq_ether sample(size_t len)
{
    stoq_ether e = {.to_mac = {2, 0, 0, 0, 0, 1},
                    .from_mac = {2, 0, 0, 0, 0, 2},
                    .to_port = htons(9292),
                    .from_port = htons(50000),
                    .ecn = 2,
                    .payload = {payload, len}};
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 7 + 3);
    for (unsigned i = 0; i < 16; i++) {
        e.to.s6_addr[i] = (uint8_t)(0x20 + i);
        e.from.s6_addr[i] = (uint8_t)(0xf0 - i);
    }
    return e;
}

// RFC 768 and 8200 word by word: the sum of everything with the checksum in it is all ones.
static unsigned sum_of(const uint8_t *f, size_t udp_len)
{
    unsigned long total = IPPROTO_UDP + udp_len;
    for (size_t i = 0; i < 32 + udp_len; i++)
        total += (unsigned long)f[22 + i] << (i % 2 == 0 ? 8 : 0);
    while (total >> 16)
        total = (total & 0xffff) + (total >> 16);
    return (unsigned)total;
}

static void written_and_read(void **state)
{
    (void)state;
    for (size_t len = 1; len <= PAYLOAD_MAX; len++) {
        stoq_ether e = sample(len), got;
        assert_int_equal(stoq_ether_write(frame, &e), STOQ_ETHER_HEADERS + len);
        assert_int_equal(sum_of(frame, 8 + len), 0xffff);
        assert_int_equal(frame[12] << 8 | frame[13], 0x86dd);
        assert_true(stoq_ether_parse(hm_bytes_of(frame, STOQ_ETHER_HEADERS + len), &got));
        assert_memory_equal(&got, &e, offsetof(stoq_ether, ecn));
        assert_int_equal(got.ecn, 2);
        assert_int_equal(got.payload.len, len);
        assert_memory_equal(got.payload.ptr, payload, len);
    }
}

// A sum that comes out as zero is sent as all ones (RFC 768).
static void no_checksum_is_zero(void **state)
{
    (void)state;
    stoq_ether e = sample(4);
    stoq_ether_write(frame, &e);
    // The payload takes the checksum's place, so that what is left to complement is nothing.
    payload[0] = 0, payload[1] = 0;
    e.payload.len = 2;
    stoq_ether_write(frame, &e);
    memcpy(payload, frame + 60, 2);
    stoq_ether_write(frame, &e);
    assert_int_equal(frame[60], 0xff);
    assert_int_equal(frame[61], 0xff);
    assert_int_equal(sum_of(frame, 10), 0xffff);
}

static void padding_is_no_payload(void **state)
{
    (void)state;
    stoq_ether e = sample(5), got;
    size_t len = stoq_ether_write(frame, &e);
    frame[len] = 0;
    assert_true(stoq_ether_parse(hm_bytes_of(frame, len + 1), &got));
    assert_int_equal(got.payload.len, 5);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
    } wrong[] = {
        {12, 8},    // ARP and others
        {13, 0},    // another protocol
        {14, 0x45}, // IPv4
        {20, 44},   // a fragment
        {19, 0},    // the lengths of IPv6 and UDP differ
        {59, 8},    // no payload
        {58, 0xff}, // longer than the frame
    };
    stoq_ether e = sample(100), got;
    size_t len = stoq_ether_write(frame, &e);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint8_t was = frame[wrong[i].at];
        frame[wrong[i].at] = wrong[i].value;
        assert_false(stoq_ether_parse(hm_bytes_of(frame, len), &got));
        frame[wrong[i].at] = was;
    }
    for (size_t short_len = 0; short_len < len; short_len++)
        assert_false(stoq_ether_parse(hm_bytes_of(frame, short_len), &got));
    assert_true(stoq_ether_parse(hm_bytes_of(frame, len), &got));
    frame[60] = frame[61] = 0; // without a checksum
    assert_false(stoq_ether_parse(hm_bytes_of(frame, len), &got));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_and_read),
        cmocka_unit_test(no_checksum_is_zero),
        cmocka_unit_test(padding_is_no_payload),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
