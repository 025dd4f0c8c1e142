// Writes seeds for the fuzz targets that read what this code also writes: make_corpus DIR makes
// DIR/TARGET/NAME. Targets whose input is a program of steps grow their own. To be run by hand when
// a format changes (scripts/build.sh asan fuzz/make_corpus).
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mesh/asset.h"
#include "mesh/genesis.h"
#include "mesh/node_module.h"
#include "mesh/node_msg.h"
#include "mesh/op.h"
#include "mesh/proof_module.h"
#include "mesh/simplex_internal.h"
#include "stoq_forge.h"
#include "stoq_ids.h"
#include "trustchain/log_read.h"
#include "trustchain/trustchain.h"
#include "trustchain/witness.h"

static const char *dir;

static void must(hm_err err)
{
    if (err == HM_OK)
        return;
    fprintf(stderr, "make_corpus: %s: %s\n", hm_err_text(err), hm_err_detail());
    exit(1);
}

static void put(const char *target, const char *name, hm_bytes bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, target);
    must(hm_dir_make(path));
    snprintf(path, sizeof path, "%s/%s/%s", dir, target, name);
    must(hm_file_write(path, bytes, 0644));
}

static void put_with(const char *target, const char *name, uint8_t first, hm_bytes bytes)
{
    hm_buf b = {0};
    hm_wr_u8(&b, first);
    hm_buf_put(&b, bytes);
    put(target, name, hm_buf_bytes(&b));
    hm_buf_free(&b);
}

// ---- transport ----------------------------------------------------------------------------------

typedef struct wire { // one side of it
    unsigned which, count;
    hm_buf datagrams[64]; // sent by this side, not yet delivered
    unsigned delivered, number;
    const char *target; // where datagrams go as seeds, or NULL
} wire;

static void net_send(void *ctx, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                     size_t segment, uint8_t ecn)
{
    wire *w = ctx;
    (void)to, (void)ecn;
    for (size_t at = 0; at < len && w->count < 64; at += segment) {
        size_t n = len - at < segment ? len - at : segment;
        hm_buf_append(&w->datagrams[w->count++], bytes + at, n);
        char name[32];
        snprintf(name, sizeof name, "%s-%u", w->which == 0 ? "server" : "client", w->number++);
        if (w->target != NULL && w->number <= 6)
            put(w->target, name, hm_bytes_of(bytes + at, n));
    }
}

static stoq_endpoint *endpoint(wire *w, unsigned which, stoq_ids *ids, bool retry)
{
    stoq_net net = {net_send, w};
    stoq_config config = {.bind = forge_address(which == 0 ? 4433 : 5000),
                          .net = &net,
                          .server_tls = which == 0 && ids != NULL ? ids->server : NULL,
                          .client_tls = which == 1 && ids != NULL ? ids->client : NULL,
                          .alpn = {STOQ_ALPN_MESH},
                          .always_retry = retry,
                          .secret = {1}};
    stoq_endpoint *ep;
    *w = (wire){.which = which, .target = "stoq_packet"};
    must(stoq_endpoint_create(&config, &ep));
    return ep;
}

static void exchange(stoq_endpoint *ep[2], wire side[2], uint64_t *now)
{
    for (int turn = 0; turn < 8; turn++, *now += 5000)
        for (unsigned i = 0; i < 2; i++) {
            stoq_endpoint_process(ep[i], *now, false);
            for (; side[i].delivered < side[i].count; side[i].delivered++) {
                hm_buf *d = &side[i].datagrams[side[i].delivered];
                struct sockaddr_in6 from = forge_address(i == 0 ? 4433 : 5000);
                stoq_endpoint_receive(ep[!i], &from, d->ptr, d->len, d->len, 0, *now);
            }
        }
}

// Datagrams of a handshake with Retry, and an answer to a version that nobody speaks.
static void packets(void)
{
    static wire side[2];
    stoq_ids ids;
    stoq_conn *c;
    uint64_t now = 1000000;
    struct sockaddr_in6 to = forge_address(4433), from = forge_address(5000);
    stoq_ids_make(&ids);
    stoq_endpoint *ep[2] = {endpoint(&side[0], 0, &ids, true), endpoint(&side[1], 1, &ids, false)};
    must(stoq_connect(ep[1], &to, NULL, NULL, NULL, &c));
    exchange(ep, side, &now);
    uint8_t strange[1200] = {0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0};
    put("stoq_packet", "strange-version", hm_bytes_of(strange, 64));
    side[0].number = 5; // the answer is the last seed
    stoq_endpoint_receive(ep[0], &from, strange, sizeof strange, sizeof strange, 0, now);
}

static void frame(const char *name, const uint8_t *start, const uint8_t *end)
{
    put("stoq_frame", name, hm_bytes_of(start, (size_t)(end - start)));
}

// Payloads of a connection's packets, and frames that a connection without trouble never sends.
static void frames(void)
{
    static wire side[2];
    stoq_conn *c[2];
    stoq_stream *s;
    size_t took;
    uint64_t now = 1000000;
    struct sockaddr_in6 a = forge_address(4433), b = forge_address(5000);
    stoq_endpoint *ep[2] = {endpoint(&side[0], 0, NULL, false), endpoint(&side[1], 1, NULL, false)};
    side[0].target = side[1].target = NULL;
    forge_pair(ep[0], &a, ep[1], &b, &c[0], &c[1]);
    must(stoq_stream_open(c[1], false, &s));
    must(stoq_stream_send(s, hm_bytes_str("hello"), true, &took));
    must(stoq_stream_open(c[1], true, &s));
    stoq_stream_reset(s, 5);
    stoq_endpoint_process(ep[1], now, false);
    for (unsigned i = 0; i < side[1].count; i++) {
        stoq_packet packet;
        uint64_t pn;
        hm_bytes payload;
        char name[16];
        hm_buf *d = &side[1].datagrams[i];
        hm_assert(forge_open(&c[0]->spaces[STOQ_LEVEL_APP].rx, d->ptr, d->len, i, &packet, &pn,
                             &payload));
        snprintf(name, sizeof name, "payload-%u", i);
        put("stoq_frame", name, payload);
    }
    uint8_t m[64], *p = stoq_frame_write3(m, STOQ_FRAME_ACK_ECN, 100, 5, 1);
    p = stoq_varint_write(stoq_varint_write(stoq_varint_write(p, 9), 3), 40);
    p = stoq_varint_write(stoq_varint_write(stoq_varint_write(p, 1), 2), 3);
    frame("ack", m, p);
    p = stoq_frame_write3(m, STOQ_FRAME_CLOSE, 10, STOQ_FRAME_STREAM, 3);
    memcpy(p, "why", 3);
    frame("close", m, p + 3);
    p = stoq_frame_write2(m, STOQ_FRAME_CRYPTO, 70000, 4);
    memset(p, 1, 4);
    frame("crypto", m, p + 4);
    p = stoq_frame_write1(m, STOQ_FRAME_NEW_TOKEN, 4);
    memset(p, 2, 4);
    frame("token", m, p + 4);
    p = stoq_frame_write2(m, STOQ_FRAME_STOP_SENDING, 4, 9);
    p = stoq_frame_write1(p, STOQ_FRAME_MAX_DATA, 1 << 20);
    p = stoq_frame_write2(p, STOQ_FRAME_MAX_STREAM_DATA, 0, 1 << 16);
    p = stoq_frame_write1(p, STOQ_FRAME_MAX_STREAMS_UNI, 300);
    p = stoq_frame_write1(p, STOQ_FRAME_RETIRE_CONNECTION_ID, 1);
    *p++ = STOQ_FRAME_PATH_CHALLENGE;
    memset(p, 3, 8);
    frame("limits", m, p + 8);
    p = stoq_varint_write(stoq_varint_write(m, STOQ_FRAME_ACK_FREQUENCY), 5);
    p = stoq_varint_write(stoq_varint_write(stoq_varint_write(p, 10), 5000), 3);
    *p++ = STOQ_FRAME_IMMEDIATE_ACK;
    frame("ack-frequency", m, p);
    p = stoq_varint_write(stoq_varint_write(m, STOQ_FRAME_ACK_FREQUENCY), STOQ_VARINT_MAX);
    p = stoq_varint_write(stoq_varint_write(stoq_varint_write(p, STOQ_VARINT_MAX), 16384000), 0);
    frame("ack-frequency-void", m, p);
}

static void params(void)
{
    static wire w;
    hm_buf b = {0};
    stoq_transport_params p = forge_params(endpoint(&w, 0, NULL, false));
    static const uint8_t id[STOQ_LOCAL_CID] = {1};
    p.has_initial_scid = true;
    p.initial_scid = stoq_cid_of(id, sizeof id);
    p.chosen_version = p.available_versions[0] = STOQ_VERSION_1;
    p.available_versions[1] = STOQ_VERSION_2;
    stoq_transport_params_encode(&p, &b);
    put_with("stoq_params", "client", 1, hm_buf_bytes(&b));
    hm_buf_reset(&b);
    p.has_original_dcid = p.has_reset_token = p.has_retry_scid = p.disable_active_migration = true;
    p.original_dcid = p.retry_scid = p.preferred_cid = p.initial_scid;
    p.has_preferred = true;
    p.preferred_address = forge_address(9293);
    stoq_transport_params_encode(&p, &b);
    put_with("stoq_params", "server", 0, hm_buf_bytes(&b));
    hm_buf_free(&b);
    uint8_t token[STOQ_TOKEN_MAX];
    struct sockaddr_in6 from = forge_address(4433);
    size_t len = token_make((uint8_t[32]){9}, &from, &p.initial_scid, &p.initial_scid, 1, token);
    put("stoq_token", "of-another", hm_bytes_of(token, len));
    put("stoq_token", "changed", hm_bytes_of("\xff\x00\x05\x01", 4));
    put("stoq_token", "unchanged", hm_bytes_of("\xff", 1));
}

// ---- base and crypto ----------------------------------------------------------------------------

static hm_err ignore(void *ctx, hm_bytes record)
{
    (void)ctx, (void)record;
    return HM_OK;
}

static hm_err ignore_of(void *ctx, uint64_t epoch, hm_bytes record)
{
    (void)epoch;
    return ignore(ctx, record);
}

// Records of changes at the front of a journal's file.
static void journal(void)
{
    char folder[] = "/tmp/hm-corpus-XXXXXX", path[64];
    hm_journal *j;
    hm_changes c = {0};
    hm_buf b = {0};
    hm_bytes some = hm_bytes_str("some"), text = hm_bytes_str("text");
    put("journal", "nothing", (hm_bytes){0});
    if (!mkdtemp(folder))
        exit(1);
    must(hm_journal_open(folder, 0, ignore_of, NULL, &j));
    must(hm_changes_put(&c, 1, some, text));
    must(hm_changes_del(&c, 3, text));
    hm_changes_write(&c, &b);
    must(hm_journal_append(j, hm_buf_bytes(&b)));
    must(hm_journal_append(j, text));
    hm_journal_close(j);
    hm_changes_clear(&c);
    hm_buf_reset(&b);
    snprintf(path, sizeof path, "%s/journal.1", folder);
    must(hm_file_read(path, HM_JOURNAL_FILE_BYTES, &b));
    while (b.len > 0 && b.ptr[b.len - 1] == 0)
        b.len--;
    put("journal", "two", hm_buf_bytes(&b));
    put("journal", "torn", hm_bytes_of(b.ptr, b.len - 2));
    b.ptr[30] ^= 1;
    put("journal", "damaged", hm_buf_bytes(&b));
    hm_buf_free(&b);
    for (unsigned i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/journal.%u", folder, i);
        unlink(path);
    }
    rmdir(folder);
}

static void small_things(void)
{
    char path[512];
    hm_wal *w;
    hm_buf b = {0};
    snprintf(path, sizeof path, "%s/wal/three", dir);
    put("wal", "three", (hm_bytes){0});
    must(hm_wal_open(path, ignore, NULL, &w));
    must(hm_wal_append(w, hm_bytes_str("one")));
    must(hm_wal_append(w, (hm_bytes){0}));
    must(hm_wal_append(w, hm_bytes_str("a longer third record")));
    hm_wal_close(w);
    must(hm_file_read(path, 1 << 20, &b));
    put("wal", "torn", hm_bytes_of(b.ptr, b.len - 5));
    b.ptr[12] ^= 1;
    put("wal", "damaged", hm_buf_bytes(&b));
    journal();
    put("config", "node",
        hm_bytes_str("[node]\nlisten = [::1]:9293\ncount = 7\n; a word\n[log]\nquiet = no\n"));
    put("config", "zone", hm_bytes_str("[node]\nlisten = [fe80::1%lo]:80\n"));
    put("config", "bad", hm_bytes_str("[node]\nlisten = 127.0.0.1:80\nother = 1\n"));
    uint8_t public_key[HM_SEAL_PUBLIC_BYTES], seed[HM_SEAL_SEED_BYTES];
    must(hm_seal_keygen(public_key, seed));
    hm_buf_reset(&b);
    must(hm_seal(hm_bytes_of(public_key, sizeof public_key), hm_bytes_str("aad"),
                 hm_bytes_str("a message"), &b));
    put("seal", "of-another", hm_buf_bytes(&b));
    put("seal", "unchanged", hm_bytes_of("\xff", 1));
    put("seal", "changed", hm_bytes_of("\xff\x04\x40\x01", 4));
    hm_buf_free(&b);
}

// ---- mesh ---------------------------------------------------------------------------------------

static hm_key *key;
static hm_node_id id;
static const hm_hash chain = {{1}}, zero;

static void make_op(hm_buf *out, hm_bytes payload, bool full)
{
    hm_op op = {.chain_id = chain,
                .module = full ? HM_MODULE_ASSET : HM_MODULE_PROOF,
                .kind = 1,
                .owner = id,
                .asset = full ? hm_asset_id(&chain, &id, 1) : zero,
                .nonce = 1,
                .payload = payload};
    hm_op_inputs in = {.full = full, .difficulty = 1, .key = key, .cert = {{2}}};
    must(hm_op_finish(&op, &in, out, NULL));
}

static void payload(unsigned kind, const char *name, hm_bytes bytes)
{
    hm_buf b = {0};
    hm_wr_u8(&b, (uint8_t)kind);
    hm_wr_raw(&b, "\0\0\2", 3);
    hm_buf_put(&b, bytes);
    put("ledger", name, hm_buf_bytes(&b));
    hm_buf_free(&b);
}

static void ledger(hm_buf *registration)
{
    hm_asset_register r = {.kind = HM_ASSET_DATA, .name = hm_bytes_str("a file")};
    hm_buf b = {0};
    r.has_content = true;
    r.content = (hm_commitment){.size = 5000, .chunk_bytes = 4096, .chunk_count = 2};
    r.policy.grant_count = 1;
    r.policy.grants[0] = (hm_asset_grant){.node = id, .rights = HM_RIGHT_READ};
    must(hm_asset_register_encode(&r, registration));
    payload(0, "register-data", hm_buf_bytes(registration));
    r = (hm_asset_register){
        .kind = HM_ASSET_CPU, .name = hm_bytes_str("cpu"), .policy.is_public = true};
    must(hm_asset_register_encode(&r, &b));
    payload(0, "register-cpu", hm_buf_bytes(&b));
    hm_buf_reset(&b);
    hm_asset_transfer_encode(&id, &b);
    payload(1, "transfer", hm_buf_bytes(&b));
    payload(2, "set-state", hm_bytes_of("\2", 1));
    payload(3, "retire", (hm_bytes){0});
    hm_buf_reset(&b);
    must(hm_asset_set_policy_encode(&r.policy, &b));
    payload(4, "set-policy", hm_buf_bytes(&b));
    hm_buf_reset(&b);
    hm_node_payload_encode(hm_bytes_of("\1", 1), &b);
    payload(7, "evidence", hm_buf_bytes(&b));
    static const uint8_t templates[] = {5, 6, 8, 9};
    for (unsigned i = 0; i < 4; i++) {
        char name[16];
        snprintf(name, sizeof name, "true-%u", templates[i]);
        put_with("ledger", name, 0x80 | templates[i], hm_bytes_of("\0\0\2", 3));
        snprintf(name, sizeof name, "changed-%u", templates[i]);
        put_with("ledger", name, 0x80 | templates[i], hm_bytes_of("\0\0\2\0\x40\1", 6));
    }
    hm_buf_free(&b);
}

static void blocks(hm_bytes op)
{
    hm_hash op_id = hm_op_id(op);
    hm_block_header h = {.chain_id = chain, .height = 1, .view = 1, .proposer = id, .time_ms = 5};
    hm_buf b = {0};
    h.parent = chain;
    must(hm_block_ops_root(NULL, 0, &h.ops_root));
    hm_block_encode(&b, &h, NULL, 0);
    put("block", "empty", hm_buf_bytes(&b));
    hm_buf_reset(&b);
    h.ops_count = 1;
    must(hm_block_ops_root(&op_id, 1, &h.ops_root));
    hm_block_encode(&b, &h, &op, 1);
    put("block", "one", hm_buf_bytes(&b));
    hm_buf_free(&b);
}

static void genesis(void)
{
    static const uint8_t cert[40] = {0x30}, part[8] = {1};
    hm_bytes parts[HM_SPACE_PARTS_MAX];
    hm_genesis_validator v = {.name = "node-1",
                              .public_key = hm_key_public(key),
                              .cert = hm_bytes_of(cert, sizeof cert),
                              .stake = 100,
                              .host = {[15] = 1},
                              .port = 9293,
                              .api = "https://[::1]:8444",
                              .seal_parts = parts};
    hm_genesis g = {.name = "mesh", .time_ms = 1, .count = 1, .validators = &v};
    hm_hash chain_id;
    hm_buf b = {0};
    g.root_cert = g.issuing_cert = v.cert;
    g.params = hm_genesis_params_default();
    g.params.space = hm_space_params_default(8);
    v.seal_count = hm_space_seal_parts(&g.params.space);
    for (uint32_t i = 0; i < v.seal_count; i++)
        parts[i] = hm_bytes_of(part, sizeof part);
    must(hm_genesis_encode(&g, &b, &chain_id));
    put("genesis", "one", hm_buf_bytes(&b));
    hm_buf_reset(&b);
    must(hm_join_to_json(&v, &b));
    put("genesis", "join", hm_buf_bytes(&b));
    hm_buf_free(&b);
}

// Signatures of no length are filled in by the target.
static void votes(void)
{
    hm_buf b = {0};
    sx_cert_begin(&b, HM_SIMPLEX_FINALIZE, 3, &chain, 3);
    for (uint32_t i = 0; i < 3; i++) {
        hm_wr_u32(&b, i);
        hm_wr_bytes(&b, (hm_bytes){0});
    }
    put_with("simplex_vote", "certificate", 1, hm_buf_bytes(&b));
    hm_simplex_set set = {0};
    sx_signed x = {HM_SIMPLEX_NULLIFY, zero, {0}}, y = {HM_SIMPLEX_FINALIZE, chain, {0}},
              z = {HM_SIMPLEX_FINALIZE, {{2}}, {0}};
    hm_buf_reset(&b);
    sx_evidence_write(&set, 1, 5, x, y, &b);
    put_with("simplex_vote", "both", 0, hm_buf_bytes(&b));
    hm_buf_reset(&b);
    sx_evidence_write(&set, 2, 5, z, y, &b);
    put_with("simplex_vote", "twice", 0, hm_buf_bytes(&b));
    hm_buf_free(&b);
}

static void messages(hm_bytes op)
{
    hm_buf ops = {0};
    hm_wr_bytes(&ops, op);
    hm_wr_bytes(&ops, hm_bytes_str("no operation"));
    const node_message list[] = {
        {.type = MSG_STATUS, .height = 9, .hash = chain},
        {.type = MSG_CONSENSUS, .bytes = hm_bytes_of("\4\0\0", 3)},
        {.type = MSG_OPS, .count = 2, .list = hm_buf_bytes(&ops)},
        {.type = MSG_BLOCKS_GET, .height = 3, .to_height = 9},
        {.type = MSG_BLOCK, .height = 3, .bytes = hm_bytes_str("block"), .cert = hm_bytes_str("c")},
        {.type = MSG_CHUNK_PUT, .request = 1, .hash = chain, .bytes = hm_bytes_str("chunk")},
        {.type = MSG_CHUNK_STORED, .request = 1, .ok = true},
        {.type = MSG_CHUNK_GET, .request = 2, .hash = chain, .asset = chain, .index = 1},
        {.type = MSG_CHUNK, .request = 2, .ok = true, .bytes = hm_bytes_str("chunk")},
        {.type = MSG_HAVE_GET, .count = 1, .list = hm_bytes_of(&chain, sizeof chain)},
        {.type = MSG_HAVE, .manifest = true, .count = 1, .list = hm_bytes_of(&chain, sizeof chain)},
    };
    hm_buf all = {0};
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        char name[16];
        hm_buf b = {0};
        node_msg_write_framed(&list[i], &b);
        snprintf(name, sizeof name, "type-%u", list[i].type);
        put("node_msg", name, hm_buf_bytes(&b));
        if (list[i].type != MSG_OPS)
            hm_buf_put(&all, hm_buf_bytes(&b));
        hm_buf_free(&b);
    }
    put("node_msg", "all", hm_buf_bytes(&all));
    hm_buf_free(&all);
    hm_buf_free(&ops);
}

static void contents_and_proofs(void)
{
    hm_buf b = {0};
    hm_commitment c;
    hm_hash manifest[3] = {{{1}}, {{2}}, {{3}}};
    must(hm_manifest_commit(hm_bytes_of(manifest, sizeof manifest), 10000, 4096, &c));
    hm_wr_u64(&b, c.size);
    hm_wr_u32(&b, c.chunk_bytes);
    hm_wr_u32(&b, c.chunk_count);
    hm_wr_raw(&b, c.root.b, HM_HASH_BYTES);
    hm_wr_raw(&b, manifest, sizeof manifest);
    put("content", "three", hm_buf_bytes(&b));
    hm_buf_reset(&b);
    hm_space_params p = hm_space_params_default(8);
    hm_wr_u8(&b, 0);
    hm_space_params_write(&b, &p);
    hm_space_commitment_write(&b, &(hm_space_commitment){.nonce = 5});
    put("proof_space", "params", hm_buf_bytes(&b));
    put("proof_space", "answer", hm_bytes_of("\x80", 1));
    put("proof_space", "seal", hm_bytes_of("\x81", 1));
    put("proof_space", "answer-changed", hm_bytes_of("\x80\0\x21\1", 4));
    put("proof_space", "seal-changed", hm_bytes_of("\x81\1\x21\1", 4));
    put("proof_time", "true", hm_bytes_of("\xff", 1));
    put("proof_time", "changed", hm_bytes_of("\xff\x05\x01", 3));
    put("tree", "present", hm_bytes_of("\xff\5\0\0\0", 5));
    put("tree", "absent", hm_bytes_of("\xff\xf0\0\0\0", 5));
    put("tree", "changed", hm_bytes_of("\xff\5\0\x20\1", 5));
    hm_buf_free(&b);
}

// ---- transparency log ---------------------------------------------------------------------------

static void scts(hm_bytes issued)
{
    BIO *mem = BIO_new_mem_buf(issued.ptr, (int)issued.len);
    X509 *x = PEM_read_bio_X509(mem, NULL, NULL, NULL);
    int at = X509_get_ext_by_NID(x, NID_ct_precert_scts, -1);
    const ASN1_OCTET_STRING *outer = X509_EXTENSION_get_data(X509_get_ext(x, at));
    const uint8_t *der = ASN1_STRING_get0_data(outer);
    ASN1_OCTET_STRING *list = d2i_ASN1_OCTET_STRING(NULL, &der, ASN1_STRING_length(outer));
    put("log_scts", "one",
        hm_bytes_of(ASN1_STRING_get0_data(list), (size_t)ASN1_STRING_length(list)));
}

static void log_things(void)
{
    static const char *const host[] = {"web.test"};
    const uint64_t now_ms = UINT64_C(1800000000000);
    char authority_dir[300], witness_dir[300];
    tc_authority *a = NULL;
    tc_witness *w = NULL;
    tc_witness_answer answer;
    hm_buf csr = {0}, secret = {0}, issued = {0}, note = {0}, tile = {0}, pem = {0}, text = {0};
    snprintf(authority_dir, sizeof authority_dir, "%s/authority", dir);
    snprintf(witness_dir, sizeof witness_dir, "%s/witness", dir);
    must(hm_dir_make(witness_dir));
    must(tc_authority_init(authority_dir, "test", now_ms));
    must(tc_authority_open(authority_dir, &a));
    must(tc_server_csr(host, 1, &secret, &csr));
    for (unsigned i = 0; i < 2; i++) {
        hm_buf_reset(&issued);
        must(tc_issue_server(a, hm_buf_bytes(&csr), now_ms, &issued, NULL));
    }
    scts(hm_buf_bytes(&issued));
    must(tc_log_checkpoint(a, now_ms, &note));
    must(tc_log_entries(a, 0, 2, &tile));
    put("log_tile", "two", hm_buf_bytes(&tile));
    must(tc_log_key(a, &pem));
    must(tc_witness_open(witness_dir, "w.test", "test/log", hm_buf_bytes(&pem), &w));
    must(tc_add_checkpoint_put(0, NULL, 0, hm_buf_bytes(&note), &text));
    put("log_note", "add-first", hm_buf_bytes(&text));
    tc_witness_add(w, hm_buf_bytes(&text), now_ms, &answer);
    put("log_note", "cosigned", tc_witness_checkpoint(w));
    hm_hash proof[3] = {{{1}}};
    hm_buf_reset(&text);
    must(tc_add_checkpoint_put(2, proof, 3, hm_buf_bytes(&note), &text));
    put("log_note", "add-next", hm_buf_bytes(&text));
    hm_buf_reset(&text);
    hm_buf_puts(&text, "# whom to believe\nwitness w ");
    tc_witness_key_put(tc_witness_public(w), &text);
    hm_buf_puts(&text, " https://[::1]:8444/witness\n");
    put("log_note", "policy", hm_buf_bytes(&text));
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_corpus DIR\n");
        return 2;
    }
    dir = argv[1];
    must(hm_crypto_init());
    must(hm_key_generate(&key));
    must(hm_node_id_of_public(hm_key_public(key), &id));
    hm_buf registration = {0}, op = {0}, system_op = {0};
    packets();
    frames();
    params();
    small_things();
    ledger(&registration);
    make_op(&op, hm_buf_bytes(&registration), true);
    make_op(&system_op, hm_bytes_str("answer"), false);
    put("op", "register", hm_buf_bytes(&op));
    put("op", "system", hm_buf_bytes(&system_op));
    blocks(hm_buf_bytes(&op));
    genesis();
    votes();
    messages(hm_buf_bytes(&op));
    contents_and_proofs();
    log_things();
    _exit(0); // a tool for once: what it holds goes with it
}
