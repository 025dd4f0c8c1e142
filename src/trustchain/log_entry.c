// The authority's transparency log: entries, SCTs, checkpoints (RFC 6962; C2SP static-ct-api,
// tlog-checkpoint, signed-note). What is served is derived from what was committed.
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>

#include "trustchain/authority.h"
#include "trustchain/note.h"

#define ENTRY_PRECERT 1u // RFC 6962, 3.1
#define SIGNATURE_CERT 0u
#define SCT_MAX 256u
#define NOTE_MAX 1024u

// ---- the store's side of the tree ---------------------------------------------------------------

static hm_bytes node_key(unsigned level, uint64_t index, uint8_t mem[9])
{
    hm_buf b = hm_buf_fixed(mem, 9);
    hm_wr_u8(&b, (uint8_t)level);
    hm_wr_u64(&b, index);
    return hm_buf_bytes(&b);
}

static hm_err keep_node(void *ctx, unsigned level, uint64_t index, const hm_hash *hash)
{
    tc_authority *a = ctx;
    uint8_t key[9];
    return tc_store_put(a->store, TC_NODES, node_key(level, index, key), hm_hash_bytes(hash));
}

static hm_err give_node(void *ctx, unsigned level, uint64_t index, hm_hash *hash)
{
    tc_authority *a = ctx;
    uint8_t key[9];
    hm_bytes value = {0};
    hm_err err = tc_store_get(a->store, TC_NODES, node_key(level, index, key), &value);
    if (err == HM_E_NOTFOUND || (err == HM_OK && value.len != HM_HASH_BYTES))
        return hm_fail(HM_E_CORRUPT, "%s: the log's tree lacks a node", a->dir);
    HM_TRY(err);
    memcpy(hash->b, value.ptr, HM_HASH_BYTES);
    return HM_OK;
}

// ---- entries ------------------------------------------------------------------------------------

static void wr_u24(hm_buf *b, size_t n)
{
    hm_wr_u8(b, (uint8_t)(n >> 16));
    hm_wr_u16(b, (uint16_t)n);
}

// digitally-signed (RFC 5246, 4.7) with ECDSA and SHA-256.
static hm_err put_signature(const tc_authority *a, hm_bytes what, hm_buf *out)
{
    uint8_t sig[80];
    size_t len = sizeof sig;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, a->log_key) == 1 &&
              EVP_DigestSign(ctx, sig, &len, what.ptr, what.len) == 1;
    EVP_MD_CTX_free(ctx);
    if (!ok)
        return hm_crypto_fail(HM_E_CRYPTO, "the log's key does not sign");
    hm_wr_u8(out, 4); // sha256
    hm_wr_u8(out, 3); // ecdsa
    hm_wr_u16(out, (uint16_t)len);
    hm_wr_raw(out, sig, len);
    return hm_buf_status(out);
}

// What both an entry's hash and its SCT cover: entry type, PreCert and extensions.
typedef struct log_entry {
    hm_buf tbs;
    uint8_t issuer_key_hash[HM_HASH_BYTES];
    uint64_t time_ms, index;
} log_entry;

static void put_extensions(const log_entry *e, hm_buf *b)
{
    hm_wr_u16(b, 8);
    hm_wr_u8(b, 0); // leaf_index
    hm_wr_u16(b, 5);
    hm_wr_u8(b, (uint8_t)(e->index >> 32));
    hm_wr_u32(b, (uint32_t)e->index);
}

// TimestampedEntry.
static void put_timestamped(const log_entry *e, hm_buf *b)
{
    hm_wr_u64(b, e->time_ms);
    hm_wr_u16(b, ENTRY_PRECERT);
    hm_wr_raw(b, e->issuer_key_hash, HM_HASH_BYTES);
    wr_u24(b, e->tbs.len);
    hm_buf_put(b, hm_buf_bytes(&e->tbs));
    put_extensions(e, b);
}

// A version and a type, both of one byte, go before it in what is hashed and in what is signed.
static hm_err typed(uint8_t type, const log_entry *e, hm_buf *b)
{
    hm_wr_u8(b, 0); // v1
    hm_wr_u8(b, type);
    put_timestamped(e, b);
    return hm_buf_status(b);
}

static hm_err entry_read(const issuing_ca *ca, X509 *x, log_entry *e)
{
    unsigned len = 0;
    uint8_t *at;
    int n = i2d_re_X509_tbs(x, NULL);
    if (n <= 0 || !(at = hm_buf_reserve(&e->tbs, (size_t)n)))
        return n <= 0 ? hm_crypto_fail(HM_E_CRYPTO, "cannot encode") : HM_E_NOMEM;
    e->tbs.len += (size_t)i2d_re_X509_tbs(x, &at);
    hm_buf spki = {0};
    n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(ca->cert), NULL);
    if (n > 0 && (at = hm_buf_reserve(&spki, (size_t)n)))
        len = (unsigned)i2d_X509_PUBKEY(X509_get_X509_PUBKEY(ca->cert), &at);
    hm_hash h = hm_sha256(hm_bytes_of(spki.ptr, len));
    hm_buf_free(&spki);
    if (len == 0)
        return hm_crypto_fail(HM_E_CRYPTO, "cannot encode the issuing key");
    memcpy(e->issuer_key_hash, h.b, HM_HASH_BYTES);
    return HM_OK;
}

// Leaf, TileLeaf.
static hm_err entry_put(tc_authority *a, const issuing_ca *ca, const log_entry *e,
                        const X509 *precert)
{
    hm_buf b = {0}, der = {0}, issuing = {0};
    uint8_t key[8];
    hm_buf k = hm_buf_fixed(key, sizeof key);
    hm_err err;
    HM_TRY_OUT(typed(0, e, &b)); // timestamped_entry
    hm_hash leaf = hm_merkle_leaf(hm_buf_bytes(&b));
    HM_TRY_OUT(tc_log_push(&a->next.tree, &leaf, keep_node, a));
    hm_buf_reset(&b);
    HM_TRY_OUT(x509_cert_der(precert, &der));
    HM_TRY_OUT(x509_cert_der(ca->cert, &issuing));
    hm_hash fingerprint = hm_sha256(hm_buf_bytes(&issuing));
    put_timestamped(e, &b);
    wr_u24(&b, der.len);
    hm_buf_put(&b, hm_buf_bytes(&der));
    hm_wr_u16(&b, HM_HASH_BYTES);
    hm_wr_raw(&b, fingerprint.b, HM_HASH_BYTES);
    HM_TRY_OUT(hm_buf_status(&b));
    hm_wr_u64(&k, e->index);
    HM_TRY_OUT(tc_store_put(a->store, TC_ENTRIES, hm_buf_bytes(&k), hm_buf_bytes(&b)));
    err = tc_store_put(a->store, TC_STATE, hm_hash_bytes(&fingerprint), hm_buf_bytes(&issuing));
out:
    hm_buf_free(&b);
    hm_buf_free(&der);
    hm_buf_free(&issuing);
    return err;
}

// SignedCertificateTimestampList with one SCT, as an extension.
static hm_err add_sct(tc_authority *a, const log_entry *e, X509 *x)
{
    hm_buf sct = {0}, list = {0}, covered = {0};
    ASN1_OCTET_STRING *inner = ASN1_OCTET_STRING_new(), *outer = ASN1_OCTET_STRING_new();
    X509_EXTENSION *ext = NULL;
    uint8_t *der = NULL;
    int len;
    hm_err err;
    hm_wr_u8(&sct, 0); // v1
    hm_wr_raw(&sct, a->log_id.b, HM_HASH_BYTES);
    hm_wr_u64(&sct, e->time_ms);
    put_extensions(e, &sct);
    HM_TRY_OUT(typed(SIGNATURE_CERT, e, &covered));
    HM_TRY_OUT(put_signature(a, hm_buf_bytes(&covered), &sct));
    hm_wr_u16(&list, (uint16_t)(sct.len + 2));
    hm_wr_u16(&list, (uint16_t)sct.len);
    hm_buf_put(&list, hm_buf_bytes(&sct));
    HM_TRY_OUT(hm_buf_status(&list));
    if (!inner || !outer || !ASN1_OCTET_STRING_set(inner, list.ptr, (int)list.len) ||
        (len = i2d_ASN1_OCTET_STRING(inner, &der)) <= 0 ||
        !ASN1_OCTET_STRING_set(outer, der, len) ||
        !(ext = X509_EXTENSION_create_by_NID(NULL, NID_ct_precert_scts, 0, outer)) ||
        !X509_add_ext(x, ext, -1))
        err = hm_crypto_fail(HM_E_CRYPTO, "cannot add the SCT");
out:
    X509_EXTENSION_free(ext);
    OPENSSL_free(der);
    ASN1_OCTET_STRING_free(inner);
    ASN1_OCTET_STRING_free(outer);
    hm_buf_free(&sct);
    hm_buf_free(&list);
    hm_buf_free(&covered);
    return err;
}

hm_err authority_log_precert(tc_authority *a, const issuing_ca *ca, const X509 *precert,
                             uint64_t now_ms, X509 **unsigned_cert)
{
    log_entry e = {.time_ms = now_ms, .index = a->next.tree.size};
    X509 *x = X509_dup(precert);
    int at = x ? X509_get_ext_by_NID(x, NID_ct_precert_poison, -1) : -1;
    hm_err err;
    if (at < 0) {
        err = hm_crypto_fail(HM_E_CRYPTO, "not a precertificate");
        goto out;
    }
    X509_EXTENSION_free(X509_delete_ext(x, at));
    HM_TRY_OUT(entry_read(ca, x, &e));
    HM_TRY_OUT(entry_put(a, ca, &e, precert));
    HM_TRY_OUT(add_sct(a, &e, x));
    *unsigned_cert = x;
    x = NULL;
out:
    X509_free(x);
    hm_buf_free(&e.tbs);
    return err;
}

// ---- checkpoints --------------------------------------------------------------------------------

// "name\nsize\nroot\n", an empty line, and the log's signature.
static hm_err note_make(const tc_authority *a, uint64_t size, const hm_hash *root, uint64_t time_ms,
                        hm_buf *note)
{
    uint8_t mem[SCT_MAX], head[64], id[TC_NOTE_KEY_ID_BYTES];
    hm_buf sig = hm_buf_fixed(mem, sizeof mem), covered = hm_buf_fixed(head, sizeof head);
    tc_tree_head_put(&covered, time_ms, size, root);
    tc_log_note_key_id(hm_buf_bytes(&a->log_origin), &a->log_id, id);
    hm_wr_raw(&sig, id, sizeof id);
    hm_wr_u64(&sig, time_ms);
    HM_TRY(put_signature(a, hm_buf_bytes(&covered), &sig));
    hm_buf_put(note, hm_buf_bytes(&a->log_origin));
    hm_buf_printf(note, "\n%llu\n", (unsigned long long)size);
    tc_base64_put(note, hm_hash_bytes(root));
    hm_buf_puts(note, "\n\n\xe2\x80\x94 ");
    hm_buf_put(note, hm_buf_bytes(&a->log_origin));
    hm_buf_puts(note, " ");
    tc_base64_put(note, hm_buf_bytes(&sig));
    hm_buf_puts(note, "\n");
    return hm_buf_status(note);
}

// Signs the committed tree and keeps the checkpoint before anybody sees it.
static hm_err checkpoint_make(tc_authority *a, uint64_t now_ms)
{
    hm_buf note = {0}, b = {0};
    hm_hash root = tc_log_root(&a->totals.tree);
    uint64_t size = a->totals.tree.size;
    // A clock that was put back does not take a checkpoint's time back.
    uint64_t time_ms = now_ms > a->checkpoint.time_ms ? now_ms : a->checkpoint.time_ms;
    hm_err err;
    HM_TRY_OUT(note_make(a, size, &root, time_ms, &note));
    hm_wr_u64(&b, size);
    hm_wr_u64(&b, time_ms);
    hm_wr_raw(&b, root.b, HM_HASH_BYTES);
    hm_wr_bytes(&b, hm_buf_bytes(&note));
    HM_TRY_OUT(hm_buf_status(&b));
    HM_TRY_OUT(tc_store_begin(a->store));
    HM_TRY_OUT(tc_store_put(a->store, TC_STATE, hm_bytes_str("checkpoint"), hm_buf_bytes(&b)));
    HM_TRY_OUT(tc_store_commit(a->store));
    hm_buf_free(&a->checkpoint.note);
    a->checkpoint = (authority_checkpoint){.size = size, .time_ms = time_ms, .note = note};
    note = (hm_buf){0};
out:
    tc_store_abort(a->store);
    hm_buf_free(&note);
    hm_buf_free(&b);
    return err;
}

static bool checkpoint_due(const tc_authority *a, uint64_t now_ms)
{
    const authority_checkpoint *c = &a->checkpoint;
    return c->note.len == 0 || now_ms >= c->time_ms + TC_DAY_MS ||
           (a->totals.tree.size > c->size && now_ms >= c->time_ms + TC_LOG_NEWS_MS);
}

hm_err tc_log_checkpoint(tc_authority *a, uint64_t now_ms, hm_buf *note)
{
    if (checkpoint_due(a, now_ms))
        HM_TRY(checkpoint_make(a, now_ms));
    hm_buf_put(note, hm_buf_bytes(&a->checkpoint.note));
    return hm_buf_status(note);
}

static hm_err checkpoint_load(tc_authority *a)
{
    hm_bytes value = {0};
    hm_hash root, now;
    hm_err err = tc_store_get(a->store, TC_STATE, hm_bytes_str("checkpoint"), &value);
    if (err == HM_E_NOTFOUND)
        return HM_OK;
    HM_TRY(err);
    hm_rd r = hm_rd_of(value);
    authority_checkpoint c = {.size = hm_rd_u64(&r), .time_ms = hm_rd_u64(&r)};
    hm_rd_copy(&r, root.b, HM_HASH_BYTES);
    hm_bytes note = hm_rd_bytes(&r, NOTE_MAX);
    HM_TRY(hm_rd_end(&r));
    if (c.size > a->totals.tree.size)
        return hm_fail(HM_E_CORRUPT, "%s: the log is smaller than what was signed of it", a->dir);
    HM_TRY(tc_log_root_at(give_node, a, c.size, &now));
    if (!hm_hash_eq(&now, &root))
        return hm_fail(HM_E_CORRUPT, "%s: the log is another than what was signed of it", a->dir);
    HM_TRY(tc_log_root_at(give_node, a, a->totals.tree.size, &now));
    root = tc_log_root(&a->totals.tree);
    if (!hm_hash_eq(&now, &root))
        return hm_fail(HM_E_CORRUPT, "%s: the log's tree and its edge disagree", a->dir);
    hm_buf_put(&c.note, note);
    a->checkpoint = c;
    return hm_buf_status(&a->checkpoint.note);
}

hm_err authority_log_open(tc_authority *a)
{
    char path[TC_PATH_MAX];
    HM_TRY(authority_path(a->dir, "log", "origin", path));
    HM_TRY(hm_file_read(path, 256, &a->log_origin));
    if (a->log_origin.len < 2 || a->log_origin.ptr[a->log_origin.len - 1] != '\n')
        return hm_fail(HM_E_CORRUPT, "%s is not one line", path);
    a->log_origin.len--;
    HM_TRY(authority_key_file(a->dir, "log", "key", &a->log_key));
    a->log_id = tc_log_id_of(a->log_key);
    return checkpoint_load(a);
}

// ---- what is served -----------------------------------------------------------------------------

// Only what the newest checkpoint covers is there, and no part of a tile beyond its end.
static hm_err tile_exists(const tc_authority *a, unsigned level, uint64_t index, unsigned width)
{
    uint64_t count = level <= 5 ? a->checkpoint.size >> (level * TC_TILE_HEIGHT) : 0;
    if (width >= 1 && width <= TC_TILE_WIDTH && index < count / TC_TILE_WIDTH + 1 &&
        index * TC_TILE_WIDTH + width <= count)
        return HM_OK;
    return hm_fail(HM_E_NOTFOUND, "the log has no such tile");
}

hm_err tc_log_tile(tc_authority *a, unsigned level, uint64_t index, unsigned width, hm_buf *out)
{
    hm_hash h;
    HM_TRY(tile_exists(a, level, index, width));
    for (unsigned i = 0; i < width; i++) {
        HM_TRY(give_node(a, level, index * TC_TILE_WIDTH + i, &h));
        hm_wr_raw(out, h.b, HM_HASH_BYTES);
    }
    return hm_buf_status(out);
}

hm_err tc_log_entries(tc_authority *a, uint64_t index, unsigned width, hm_buf *out)
{
    HM_TRY(tile_exists(a, 0, index, width));
    for (unsigned i = 0; i < width; i++) {
        uint8_t key[8];
        hm_buf k = hm_buf_fixed(key, sizeof key);
        hm_bytes entry = {0};
        hm_wr_u64(&k, index * TC_TILE_WIDTH + i);
        hm_err err = tc_store_get(a->store, TC_ENTRIES, hm_buf_bytes(&k), &entry);
        if (err != HM_OK)
            return err == HM_E_NOTFOUND
                       ? hm_fail(HM_E_CORRUPT, "%s: the log lacks an entry", a->dir)
                       : err;
        hm_buf_put(out, entry);
    }
    return hm_buf_status(out);
}

hm_err tc_log_issuer(tc_authority *a, const hm_hash *fingerprint, hm_buf *der)
{
    hm_bytes value = {0};
    hm_err err = tc_store_get(a->store, TC_STATE, hm_hash_bytes(fingerprint), &value);
    if (err == HM_E_NOTFOUND)
        return hm_fail(err, "no issuer in the log has that fingerprint");
    HM_TRY(err);
    hm_buf_put(der, value);
    return hm_buf_status(der);
}

hm_err tc_log_key(const tc_authority *a, hm_buf *pem)
{
    BIO *mem = BIO_new(BIO_s_mem());
    char *text = NULL;
    long len = mem && PEM_write_bio_PUBKEY(mem, a->log_key) == 1 ? BIO_get_mem_data(mem, &text) : 0;
    if (len > 0)
        hm_buf_append(pem, text, (size_t)len);
    BIO_free(mem);
    return len > 0 ? hm_buf_status(pem)
                   : hm_crypto_fail(HM_E_CRYPTO, "cannot encode the log's key");
}

static hm_err size_exists(const tc_authority *a, uint64_t size)
{
    if (size <= a->totals.tree.size)
        return HM_OK;
    return hm_fail(HM_E_RANGE, "the log has %llu entries", (unsigned long long)a->totals.tree.size);
}

hm_err tc_log_prove_inclusion(tc_authority *a, uint64_t index, uint64_t size, hm_hash *proof,
                              size_t *count)
{
    HM_TRY(size_exists(a, size));
    return tc_log_inclusion(give_node, a, index, size, proof, count);
}

hm_err tc_log_prove_consistency(tc_authority *a, uint64_t old_size, uint64_t size, hm_hash *proof,
                                size_t *count)
{
    HM_TRY(size_exists(a, size));
    return tc_log_consistency(give_node, a, old_size, size, proof, count);
}
