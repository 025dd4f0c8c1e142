// Packets, frames, transport parameters and protection; the vectors are those of RFC 9000,
// appendix A, RFC 9001, appendix A (version 1), and RFC 9369, appendix A (version 2).
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"
#include "hypermesh/stoq.h"
#include "stoq/frame.h"
#include "stoq/protect.h"
#include "stoq/recvbuf.h"
#include "stoq/sendbuf.h"
#include "stoq/transport_params.h"

static size_t unhex(uint8_t *out, const char *hex)
{
    size_t n = strlen(hex) / 2;
    assert_int_equal(hm_unhex(out, n, hex, strlen(hex)), HM_OK);
    return n;
}

static void assert_hex(const uint8_t *got, const char *hex)
{
    uint8_t want[1500];
    size_t n = unhex(want, hex);
    assert_memory_equal(got, want, n);
}

static void test_varint(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        uint64_t value;
    } cases[] = {{"c2197c5eff14e88c", 151288809941952652u},
                 {"9d7f3e7d", 494878333},
                 {"7bbd", 15293},
                 {"25", 37},
                 {"4025", 37}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t b[8], w[8];
        size_t n = unhex(b, cases[i].hex);
        const uint8_t *p = b;
        uint64_t v = 0;
        assert_true(stoq_varint_read(&p, b + n, &v));
        assert_true(v == cases[i].value && p == b + n);
        p = b;
        assert_false(stoq_varint_read(&p, b + n - 1, &v));
        stoq_varint_write_n(w, v, n);
        assert_memory_equal(w, b, n);
    }
}

static void test_packet_numbers(void **state)
{
    (void)state;
    assert_true(stoq_pn_decode(0xa82f30ea + 1, 0x9b32, 2) == 0xa82f9b32);
    assert_int_equal(stoq_pn_length(0xac5c02, 0xabe8b3), 2);
    assert_int_equal(stoq_pn_length(0xace8fe, 0xabe8b3), 3);
    hm_prng r;
    hm_prng_seed(&r, 1);
    for (int i = 0; i < 20000; i++) { // what we send within the window, the peer decodes
        uint64_t pn = hm_prng_next(&r) >> (2 + hm_prng_below(&r, 60));
        uint64_t back = hm_prng_below(&r, 1 + hm_prng_below(&r, 1u << 20));
        uint64_t acked = pn > back ? pn - back - 1 : UINT64_MAX;
        if (acked == UINT64_MAX && pn >= 0x800000)
            continue;
        size_t n = stoq_pn_length(pn, acked);
        uint64_t expected = acked == UINT64_MAX ? 0 : acked + 1;
        assert_true(stoq_pn_decode(expected, pn & ((UINT64_C(1) << (8 * n)) - 1), n) == pn);
    }
}

// What the two versions make of the same: the client's Initial packet (A.2 of both RFCs, its ends),
// the server's (A.3), a Retry packet (A.4), a short packet and the secret after it (A.5).
static const struct vectors {
    const char *client_iv, *server_iv;
    const char *client_begin, *client_tag;
    const char *server_packet;
    const char *retry;
    const char *short_packet, *next_secret;
} vectors[STOQ_MAX_VERSIONS] = {
    {"fa044b2f42a3fd3b46fb255c", "0ac1493ca1905853b0bba03e",
     "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11",
     "e221af44860018ab0856972e194cd934",
     "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780"
     "bb38cc5a99f5ede4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb"
     "19fb84022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc42158407dd074ee",
     "ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba",
     "4cfe4189655e5cd55c41f69080575d7999c25a5bfb",
     "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9"},
    {"91f73e2351d8fa91660e909f", "dd13c276499c0249d3310652",
     "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485",
     "a18b2faa745b6fe189cf772a9f84cbfc",
     "dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698baeea26b91eb761d9b89237bbf872"
     "63017915358230035f7fd3945d88965cf17f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e4275750769"
     "8075b2c984c707f0a0812d8cd5a6881eaf21ceda98f4bd23f6fe1a3e2c43edd9ce7ca84bed8521e2e140",
     "cf6b3343cf0008f067a5502a4262b5746f6b656ec8646ce8bfe33952d955543665dcc7b6",
     "5558b1c60ae7b6b932bc27d786f4bc2bb20f2162ba",
     "c69374c49e3d2a9466fa689e49d476db5d0dfbc87d32ceeaa6343fd0ae4c7d88"},
};

#define CLIENT_PAYLOAD                                                                             \
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413" \
    "011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d001700180010" \
    "0007000504616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171" \
    "fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d000201" \
    "01001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f" \
    "088394c8f03e51570806048000ffff"
#define SERVER_PAYLOAD                                                                             \
    "02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a" \
    "1200130100002e00330024001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da" \
    "1a002b00020304"

static size_t make_initial(stoq_keys *k, const stoq_version *v, const stoq_cid *dcid,
                           const stoq_cid *scid, uint64_t pn, size_t pn_len, const char *payload,
                           size_t pad_to, uint8_t out[1300])
{
    uint8_t *length_at;
    uint8_t *q = stoq_long_header_write(out, v, STOQ_PACKET_INITIAL, dcid, scid, hm_bytes_of("", 0),
                                        pn_len, &length_at);
    q = stoq_pn_write(q, pn, pn_len);
    size_t header = (size_t)(q - out);
    assert_int_equal(header, stoq_long_header_size(STOQ_PACKET_INITIAL, dcid, scid, 0) + pn_len);
    memset(q, 0, 1300 - header);
    size_t len = unhex(q, payload);
    len = len < pad_to ? pad_to : len;
    stoq_long_header_set_length(length_at, pn_len + len + STOQ_AEAD_TAG);
    stoq_seal seal = {out, (uint32_t)header, (uint32_t)len, pn, (uint8_t)pn_len};
    assert_int_equal(stoq_seal_batch(k, &seal, 1), HM_OK);
    return header + len + STOQ_AEAD_TAG;
}

static void opens(stoq_keys *k, uint8_t *p, size_t len, const stoq_version *v)
{
    stoq_packet parsed;
    assert_int_equal(stoq_packet_parse(p, len, &parsed), HM_OK);
    assert_int_equal(parsed.type, STOQ_PACKET_INITIAL);
    assert_int_equal(parsed.version, v->number);
    uint32_t truncated;
    size_t pn_len;
    assert_int_equal(stoq_unmask_header(&k->hp, p, parsed.pn_offset, &truncated, &pn_len), HM_OK);
    assert_int_equal(truncated, 1);
    assert_int_equal(pn_len, 2);
    stoq_open open = {p, (uint32_t)(parsed.pn_offset + pn_len),
                      (uint32_t)(parsed.len - parsed.pn_offset - pn_len), 1, false};
    uint8_t copy[300];
    memcpy(copy, p, parsed.len);
    stoq_open bad = open;
    bad.packet = copy;
    copy[parsed.len - 1] ^= 1;
    stoq_open_batch(&k->aead, &bad, 1);
    assert_false(bad.ok);
    stoq_open_batch(&k->aead, &open, 1);
    assert_true(open.ok);
    assert_hex(p + open.header_len, "02000000000600405a02000056");
}

static void test_initial_secrets(void **state)
{
    (void)state;
    for (int i = 0; i < STOQ_MAX_VERSIONS; i++) {
        const stoq_version *v = &stoq_versions[i];
        uint8_t id[8], p[1300];
        unhex(id, "8394c8f03e515708");
        stoq_cid dcid = stoq_cid_of(id, 8), none = {0};
        stoq_keys c = {0}, s = {0}, c2 = {0}, s2 = {0};
        assert_int_equal(stoq_keys_init_initial(&c, &s, v, &dcid), HM_OK);
        assert_hex(c.aead.key->iv, vectors[i].client_iv);
        assert_hex(s.aead.key->iv, vectors[i].server_iv);
        size_t n = make_initial(&c, v, &dcid, &none, 2, 4, CLIENT_PAYLOAD, 1162, p);
        assert_int_equal(n, 1200);
        assert_hex(p, vectors[i].client_begin);
        assert_hex(p + n - STOQ_AEAD_TAG, vectors[i].client_tag);
        unhex(id, "f067a5502a4262b5");
        stoq_cid scid = stoq_cid_of(id, 8);
        n = make_initial(&s, v, &none, &scid, 1, 2, SERVER_PAYLOAD, 0, p);
        assert_int_equal(n, strlen(vectors[i].server_packet) / 2);
        assert_hex(p, vectors[i].server_packet);
        assert_int_equal(stoq_keys_init_initial(&c2, &s2, v, &dcid), HM_OK);
        opens(&s2, p, n, v);
        stoq_keys_free(&c);
        stoq_keys_free(&s);
        stoq_keys_free(&c2);
        stoq_keys_free(&s2);
    }
}

static void test_retry(void **state)
{
    (void)state;
    for (int i = 0; i < STOQ_MAX_VERSIONS; i++) {
        uint8_t p[64], id[8], tag[16], header[64];
        unhex(id, "8394c8f03e515708");
        stoq_cid odcid = stoq_cid_of(id, 8);
        size_t n = unhex(p, vectors[i].retry);
        stoq_packet parsed;
        assert_int_equal(stoq_packet_parse(p, n, &parsed), HM_OK);
        assert_int_equal(parsed.type, STOQ_PACKET_RETRY);
        assert_true(hm_bytes_eq(parsed.token, hm_bytes_str("token")));
        assert_int_equal(stoq_retry_tag(&stoq_versions[i], &odcid, hm_bytes_of(p, n - 16), tag),
                         HM_OK);
        assert_memory_equal(tag, p + n - 16, 16);
        // Ours differs in the four bits that mean nothing.
        uint8_t *end =
            stoq_retry_header_write(header, &stoq_versions[i], &parsed.dcid, &parsed.scid);
        assert_ptr_equal(end, header + n - 16 - 5);
        header[0] |= 0x0f;
        assert_memory_equal(header, p, n - 16 - 5);
    }
}

static void test_chacha_and_update(void **state)
{
    (void)state;
    for (int i = 0; i < STOQ_MAX_VERSIONS; i++) {
        uint8_t secret[32], p[64];
        unhex(secret, "9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b");
        stoq_keys k = {0};
        assert_int_equal(stoq_keys_init(&k, &stoq_versions[i], HM_CHACHA20_POLY1305, secret, 32),
                         HM_OK);
        stoq_cid none = {0};
        uint8_t *q = stoq_short_header_write(p, &none, false, 3);
        q = stoq_pn_write(q, 654360564, 3);
        *q = STOQ_FRAME_PING;
        assert_hex(p, "4200bff401");
        stoq_seal seal = {p, 4, 1, 654360564, 3};
        assert_int_equal(stoq_seal_batch(&k, &seal, 1), HM_OK);
        assert_hex(p, vectors[i].short_packet);
        assert_int_equal(stoq_keys_update(&k, NULL), HM_OK);
        assert_hex(k.secret, vectors[i].next_secret);
        stoq_keys_free(&k);
    }
}

static void test_versions_of(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t first, second;
    } good[] = {{"1", STOQ_VERSION_1, 0},
                {"2", STOQ_VERSION_2, 0},
                {"1,2", STOQ_VERSION_1, STOQ_VERSION_2},
                {"2,1", STOQ_VERSION_2, STOQ_VERSION_1}};
    static const char *const bad[] = {"", "0", "3", "1,", ",1", "1,1", "1,2,1", "12", "1 2", "v1"};
    uint32_t out[STOQ_MAX_VERSIONS];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(stoq_versions_of(good[i].text, out), HM_OK);
        assert_true(out[0] == good[i].first && out[1] == good[i].second);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(stoq_versions_of(bad[i], out), HM_E_CONFIG);
}

static void test_packet_refused(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        hm_err err;
    } cases[] = {
        {"40", HM_E_STOQ_DROPPED}, // short and too short
        {"0011223344556677880000000000000000000000000000000000000000", HM_E_STOQ_DROPPED},
        {"c000000001", HM_E_STOQ_DROPPED},                 // ends in the header
        {"c00000000115", HM_E_STOQ_DROPPED},               // connection id of 21 bytes
        {"c000000001000000ff", HM_E_STOQ_DROPPED},         // length beyond the datagram
        {"c0000000010000000401020304", HM_E_STOQ_DROPPED}, // no room for a sample
        {"80000000010000", HM_E_STOQ_DROPPED},             // fixed bit
        {"c01a2a3a4a0000", HM_E_UNSUPPORTED},
        {"80000000000000", HM_E_STOQ_DROPPED}, // version negotiation without versions
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t b[64];
        stoq_packet p;
        size_t n = unhex(b, cases[i].hex);
        assert_int_equal(stoq_packet_parse(b, n, &p), cases[i].err);
    }
}

static hm_err parse_hex(const char *hex, stoq_frame *f, uint64_t *code)
{
    static uint8_t b[256];
    size_t n = unhex(b, hex);
    const uint8_t *p = b;
    return stoq_frame_parse(&p, b + n, f, code);
}

static void test_frames(void **state)
{
    (void)state;
    stoq_frame f;
    uint64_t code, lo, hi;
    // ACK of 10..8, 5..5, 2..0, delay 7
    assert_int_equal(parse_hex("020a07020201000102", &f, &code), HM_OK);
    stoq_ack_walk w = stoq_ack_walk_of(&f);
    assert_true(stoq_ack_next(&w, &lo, &hi) && lo == 8 && hi == 10);
    assert_true(stoq_ack_next(&w, &lo, &hi) && lo == 5 && hi == 5);
    assert_true(stoq_ack_next(&w, &lo, &hi) && lo == 0 && hi == 2);
    assert_false(stoq_ack_next(&w, &lo, &hi));
    // STREAM with offset and length and FIN; without length it runs to the end
    assert_int_equal(parse_hex("0f04405003616263", &f, &code), HM_OK);
    assert_true(f.type == STOQ_FRAME_STREAM && f.stream_id == 4 && f.offset == 0x50 && f.fin);
    assert_true(hm_bytes_eq(f.data, hm_bytes_str("abc")));
    assert_int_equal(parse_hex("0804616263", &f, &code), HM_OK);
    assert_true(!f.fin && hm_bytes_eq(f.data, hm_bytes_str("abc")));

    static const struct {
        const char *hex;
        uint64_t code;
    } bad[] = {
        {"21", STOQ_FRAME_ENCODING_ERROR},         // unknown type
        {"4001", STOQ_PROTOCOL_VIOLATION},         // PING in two bytes
        {"0205000006", STOQ_FRAME_ENCODING_ERROR}, // first range below zero
        {"0205000101000505", STOQ_FRAME_ENCODING_ERROR},
        {"02050001000500", STOQ_FRAME_ENCODING_ERROR}, // gap below zero
        {"0600", STOQ_FRAME_ENCODING_ERROR},
        {"06ffffffffffffffff0161", STOQ_FRAME_ENCODING_ERROR}, // offset + length above 2^62 - 1
        {"0700", STOQ_FRAME_ENCODING_ERROR},                   // empty token
        {"12d000000000000001", STOQ_FRAME_ENCODING_ERROR},     // more than 2^60 streams
        {"18000015", STOQ_FRAME_ENCODING_ERROR},               // connection id of 21 bytes
        {"180102040102030400112233445566778899aabbccddeeff", STOQ_FRAME_ENCODING_ERROR},
        {"1a00", STOQ_FRAME_ENCODING_ERROR},
        {"1c000005aa", STOQ_FRAME_ENCODING_ERROR}, // reason longer than the packet
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse_hex(bad[i].hex, &f, &code), HM_E_STOQ_TRANSPORT);
        assert_true(code == bad[i].code);
    }
}

static void test_transport_params(void **state)
{
    (void)state;
    stoq_transport_params a, b;
    stoq_transport_params_default(&a);
    a.has_original_dcid = a.has_initial_scid = a.has_reset_token = a.has_preferred = true;
    a.preferred_address = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(9)};
    a.preferred_address.sin6_addr.s6_addr[0] = 0xfd;
    a.preferred_cid = stoq_cid_of((const uint8_t *)"id", 2);
    memset(a.preferred_token, 5, sizeof a.preferred_token);
    a.original_dcid = stoq_cid_of((const uint8_t *)"12345678", 8);
    a.initial_scid = stoq_cid_of((const uint8_t *)"abcd", 4);
    a.max_data = 1 << 20;
    a.max_streams_bidi = 7;
    a.max_idle_timeout_ms = 30000;
    a.active_cid_limit = 4;
    a.chosen_version = a.available_versions[0] = STOQ_VERSION_2;
    a.available_versions[1] = STOQ_VERSION_1;
    hm_buf buf = {0};
    stoq_transport_params_encode(&a, &buf);
    assert_int_equal(stoq_transport_params_decode(hm_buf_bytes(&buf), false, &b), HM_OK);
    assert_memory_equal(&a, &b, sizeof a);
    assert_int_equal(stoq_transport_params_decode(hm_buf_bytes(&buf), true, &b),
                     HM_E_STOQ_TRANSPORT);
    for (size_t n = 1; n < buf.len; n++) // a cut either is an error or loses parameters
        if (stoq_transport_params_decode(hm_bytes_of(buf.ptr, n), false, &b) == HM_OK)
            assert_memory_not_equal(&a, &b, sizeof a);
    hm_buf_free(&buf);
    static const char *bad[] = {
        "030244af", // max_udp_payload_size 1199
        "040104"
        "040104",                                   // twice
        "0a0115",                                   // ack_delay_exponent 21
        "c0000000ff04de1b04800061a9",               // min_ack_delay 25,001 us
        "c0000000ff04de1b0143",                     // and one that is no integer
        "c0000000ff04de1b00",                       // none
        "c0000000ff04de1b0105c0000000ff04de1b0105", // twice
        "0b048000"
        "4000",   // max_ack_delay 2^14
        "0e0101", // active_connection_id_limit 1
        "0f15"
        "000000000000000000000000000000000000000000",
        "040204", // integer shorter than its length
        "0c0101", // flag with a value
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint8_t in[64];
        size_t n = unhex(in, bad[i]);
        assert_int_equal(stoq_transport_params_decode(hm_bytes_of(in, n), false, &b),
                         HM_E_STOQ_TRANSPORT);
    }
}

// RFC 9368, sections 3 and 4: what is void, from either side or from a client alone; and of what is
// kept, those that we do not speak are left out.
static void test_version_information(void **state)
{
    (void)state;
    static const struct {
        const char *hex;
        bool from_client, from_server; // is it good
        uint32_t kept[2];
    } cases[] = {
        {"1100", false, false, {0}},
        {"110300000001", false, false, {0}},
        {"1107000000010000006b", false, false, {0}},
        {"1108000000000000000100", false, false, {0}}, // chosen: 0
        {"11080000000100000000", false, false, {0}},   // available: 0
        {"110400000001", false, true, {0}},            // of a server that withdraws all
        {"1108000000016b3343cf", false, true, {STOQ_VERSION_2}},
        {"11100000000100000001000000016b3343cf", true, true, {STOQ_VERSION_1, STOQ_VERSION_2}},
        {"11141a2a3a4a1a2a3a4a5a6a7a8a000000016b3343cf", true, true, {0x1a2a3a4a, STOQ_VERSION_1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int client = 0; client < 2; client++) {
            uint8_t in[64];
            stoq_transport_params p;
            size_t n = unhex(in, cases[i].hex);
            bool good = client ? cases[i].from_client : cases[i].from_server;
            assert_int_equal(stoq_transport_params_decode(hm_bytes_of(in, n), client, &p),
                             good ? HM_OK : HM_E_STOQ_TRANSPORT);
            if (good)
                assert_memory_equal(p.available_versions, cases[i].kept, sizeof cases[i].kept);
        }
}

// What goes back is what was lent, in that order, and not before it was acknowledged.
static void take_back(stoq_sendbuf *tx, uint64_t *returned, uint64_t lent)
{
    void *tag;
    while (stoq_sendbuf_returned(tx, &tag)) {
        uint64_t number = (uint64_t)(uintptr_t)tag;
        assert_true(number == *returned + 1 && number <= lent);
        *returned = number;
    }
}

// Sends a random file through both buffers with loss, reordering and duplicates; some of it is
// lent, on either side.
static void test_buffers(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 100; seed++) {
        hm_prng r;
        hm_prng_seed(&r, seed);
        enum { TOTAL = 100000, FLIGHT = 64 };
        uint8_t *file = malloc(TOTAL);
        for (size_t i = 0; i < TOTAL; i++)
            file[i] = (uint8_t)hm_prng_next(&r);
        stoq_sendbuf tx;
        stoq_recvbuf rx;
        stoq_sendbuf_init(&tx, 16384);
        stoq_recvbuf_init(&rx, 16384);
        size_t written = 0, got = 0;
        uint64_t lent = 0, returned = 0;
        stoq_loans loans = {0};
        struct {
            uint64_t offset;
            size_t len;
            uint8_t data[500];
        } flight[FLIGHT];
        size_t flying = 0;
        while (got < TOTAL || !stoq_sendbuf_all_acked(&tx)) {
            size_t room = stoq_sendbuf_room(&tx);
            size_t n = TOTAL - written < room ? TOTAL - written : hm_prng_below(&r, room + 1);
            if (n > 0 && seed % 2 && hm_prng_below(&r, 2))
                assert_int_equal(stoq_sendbuf_lend(&tx, hm_bytes_of(file + written, n),
                                                   (void *)(uintptr_t)++lent),
                                 HM_OK);
            else
                assert_int_equal(stoq_sendbuf_append(&tx, hm_bytes_of(file + written, n)), HM_OK);
            written += n;
            while (flying < FLIGHT) {
                stoq_sendbuf_next(&tx, rx.read + rx.max, 1 + hm_prng_below(&r, 500),
                                  &flight[flying].offset, &flight[flying].len);
                if (flight[flying].len == 0)
                    break;
                const uint8_t *at =
                    stoq_sendbuf_view(&tx, flight[flying].offset, flight[flying].len);
                stoq_sendbuf_take(&tx, flight[flying].offset, flight[flying].len,
                                  flight[flying].data);
                assert_memory_equal(flight[flying].data, file + flight[flying].offset,
                                    flight[flying].len);
                if (at != NULL)
                    assert_memory_equal(at, flight[flying].data, flight[flying].len);
                flying++;
            }
            for (size_t turns = hm_prng_below(&r, flying + 1); turns > 0; turns--) {
                size_t i = hm_prng_below(&r, flying);
                if (hm_prng_below(&r, 4) == 0) {
                    stoq_sendbuf_on_lost(&tx, flight[i].offset, flight[i].len);
                    if (hm_prng_below(&r, 4) == 0) // lost by mistake: it does arrive
                        continue;
                } else {
                    hm_bytes data = hm_bytes_of(file + flight[i].offset, flight[i].len);
                    assert_int_equal(
                        stoq_recvbuf_write(&rx, flight[i].offset, data, seed % 3 ? &loans : NULL),
                        HM_OK);
                    stoq_sendbuf_on_acked(&tx, flight[i].offset, flight[i].len);
                    if (hm_prng_below(&r, 8) == 0) // and once more
                        continue;
                }
                flight[i] = flight[--flying];
                if (flying == 0)
                    break;
            }
            for (hm_bytes view; (view = stoq_recvbuf_peek(&rx)).len > 0;) {
                size_t take = 1 + hm_prng_below(&r, view.len);
                assert_memory_equal(view.ptr, file + got, take);
                stoq_recvbuf_consume(&rx, take);
                got += take;
                if (hm_prng_below(&r, 3) == 0)
                    break;
            }
            assert_int_equal(stoq_recvbuf_settle(&rx), HM_OK);
            loans.count = 0;
            take_back(&tx, &returned, lent);
        }
        assert_true(got == TOTAL && rx.ahead.count == 0 && tx.lost.count == 0);
        assert_int_equal(returned, lent);
        stoq_sendbuf_free(&tx);
        stoq_recvbuf_free(&rx);
        free(file);
    }
}

// A buffer that is given up gives everything back, whatever of it was acknowledged.
static void test_lent_bytes_of_a_reset(void **state)
{
    (void)state;
    static const uint8_t bytes[5000];
    stoq_sendbuf tx;
    void *tag;
    uint64_t returned = 0;
    stoq_sendbuf_init(&tx, 16384);
    assert_int_equal(stoq_sendbuf_append(&tx, hm_bytes_of(bytes, 100)), HM_OK);
    for (uintptr_t i = 1; i <= 3; i++) {
        assert_int_equal(stoq_sendbuf_lend(&tx, hm_bytes_of(bytes, 1000), (void *)i), HM_OK);
        assert_int_equal(stoq_sendbuf_append(&tx, hm_bytes_of(bytes, 3000)), HM_OK);
    }
    stoq_sendbuf_sent(&tx, 0, 5000);
    assert_false(stoq_sendbuf_returned(&tx, &tag));
    stoq_sendbuf_on_acked(&tx, 0, 1099);
    assert_false(stoq_sendbuf_returned(&tx, &tag));
    stoq_sendbuf_on_acked(&tx, 1099, 2);
    take_back(&tx, &returned, 3);
    assert_int_equal(returned, 1);
    stoq_sendbuf_abandon(&tx);
    take_back(&tx, &returned, 3);
    assert_int_equal(returned, 3);
    assert_int_equal(tx.next, 5000); // the final size that a reset tells
    stoq_sendbuf_free(&tx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_varint),           cmocka_unit_test(test_packet_numbers),
        cmocka_unit_test(test_initial_secrets),  cmocka_unit_test(test_retry),
        cmocka_unit_test(test_versions_of),      cmocka_unit_test(test_chacha_and_update),
        cmocka_unit_test(test_packet_refused),   cmocka_unit_test(test_frames),
        cmocka_unit_test(test_transport_params), cmocka_unit_test(test_version_information),
        cmocka_unit_test(test_buffers),          cmocka_unit_test(test_lent_bytes_of_a_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
