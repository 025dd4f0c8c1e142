#include "trustchain/note.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>

#include "trustchain/x509.h"

#define TYPE_COSIGNATURE 0x04u
#define TYPE_RFC6962 0x05u
#define DASH "\xe2\x80\x94 " // what a signature line begins with

// ---- text ---------------------------------------------------------------------------------------

void tc_base64_put(hm_buf *out, hm_bytes data)
{
    uint8_t *at = hm_buf_reserve(out, (data.len + 2) / 3 * 4 + 1);
    if (at)
        out->len += (size_t)EVP_EncodeBlock(at, data.ptr, (int)data.len);
}

static bool base64_char(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
}

hm_err tc_base64_read(hm_bytes text, hm_buf *out)
{
    uint8_t again[5];
    size_t pad = 0;
    while (pad < 2 && pad < text.len && text.ptr[text.len - 1 - pad] == '=')
        pad++;
    bool good = text.len > 0 && text.len % 4 == 0 && text.len < (1u << 20);
    for (size_t i = 0; good && i < text.len - pad; i++)
        good = base64_char(text.ptr[i]);
    if (!good)
        return hm_fail(HM_E_PARSE, "this is no base64");
    uint8_t *at = hm_buf_reserve(out, text.len / 4 * 3);
    if (!at)
        return hm_buf_status(out);
    if (EVP_DecodeBlock(at, text.ptr, (int)text.len) < 0)
        return hm_fail(HM_E_PARSE, "this is no base64");
    // Bits that no byte has must be zero: the last group, encoded again, is the same.
    EVP_EncodeBlock(again, at + text.len / 4 * 3 - 3, (int)(3 - pad));
    if (memcmp(again, text.ptr + text.len - 4, 4) != 0)
        return hm_fail(HM_E_PARSE, "this base64 is not the one text of its value");
    out->len += text.len / 4 * 3 - pad;
    return HM_OK;
}

hm_err tc_decimal_read(hm_bytes text, uint64_t *out)
{
    uint64_t n = 0;
    bool good = text.len > 0 && text.len < 20 && (text.ptr[0] != '0' || text.len == 1);
    for (size_t i = 0; good && i < text.len; i++) {
        good = text.ptr[i] >= '0' && text.ptr[i] <= '9';
        n = n * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    if (!good)
        return hm_fail(HM_E_PARSE, "a number is expected, without zeros in front");
    *out = n;
    return HM_OK;
}

bool tc_line_next(hm_bytes *rest, hm_bytes *line)
{
    const uint8_t *end = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    if (!end)
        return false;
    *line = hm_bytes_of(rest->ptr, (size_t)(end - rest->ptr));
    *rest = hm_bytes_of(end + 1, rest->len - line->len - 1);
    return true;
}

// Key names: signed-note. Spaces beyond ASCII's are refused with all that is no visible ASCII:
// names are schema-less URLs.
static bool name_good(hm_bytes name)
{
    bool good = name.len > 0 && name.len <= TC_NOTE_NAME_MAX;
    for (size_t i = 0; good && i < name.len; i++)
        good = name.ptr[i] > ' ' && name.ptr[i] < 0x7f && name.ptr[i] != '+';
    return good;
}

// ---- notes --------------------------------------------------------------------------------------

typedef struct note_signature {
    hm_bytes name;
    uint8_t mem[TC_NOTE_BLOB_MAX]; // the key's id, then the signature
    hm_bytes id, signature;        // in mem
} note_signature;

static hm_err signature_read(hm_bytes line, note_signature *s)
{
    hm_buf b = hm_buf_fixed(s->mem, sizeof s->mem);
    const size_t dash = sizeof DASH - 1;
    if (line.len < dash || memcmp(line.ptr, DASH, dash) != 0)
        return hm_fail(HM_E_PARSE, "a signature line begins with a dash and a space");
    line = hm_bytes_of(line.ptr + dash, line.len - dash);
    const uint8_t *space = line.len ? memchr(line.ptr, ' ', line.len) : NULL;
    s->name = hm_bytes_of(line.ptr, space ? (size_t)(space - line.ptr) : line.len);
    if (!space || !name_good(s->name))
        return hm_fail(HM_E_PARSE, "a signature line has the name of a key, and base64 behind it");
    HM_TRY(tc_base64_read(hm_bytes_of(space + 1, line.len - s->name.len - 1), &b));
    if (b.len <= TC_NOTE_KEY_ID_BYTES)
        return hm_fail(HM_E_PARSE, "a signature line holds no signature");
    s->id = hm_bytes_of(s->mem, TC_NOTE_KEY_ID_BYTES);
    s->signature = hm_bytes_of(s->mem + TC_NOTE_KEY_ID_BYTES, b.len - TC_NOTE_KEY_ID_BYTES);
    return HM_OK;
}

static hm_err text_read(hm_bytes text, tc_checkpoint *c)
{
    hm_bytes size = {0}, root = {0};
    uint8_t mem[HM_HASH_BYTES + 1];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    c->text = text;
    if (!tc_line_next(&text, &c->origin) || !tc_line_next(&text, &size) ||
        !tc_line_next(&text, &root) || text.len > 0)
        return hm_fail(HM_E_PARSE, "a checkpoint has three lines: origin, size, root");
    if (!name_good(c->origin))
        return hm_fail(HM_E_PARSE, "the checkpoint's origin is no name of a log");
    HM_TRY(tc_decimal_read(size, &c->size));
    if (root.len != 44)
        return hm_fail(HM_E_PARSE, "the checkpoint's root is no hash in base64");
    HM_TRY(tc_base64_read(root, &b));
    if (b.len != HM_HASH_BYTES)
        return hm_fail(HM_E_PARSE, "the checkpoint's root is no hash in base64");
    memcpy(c->root.b, mem, HM_HASH_BYTES);
    return HM_OK;
}

hm_err tc_checkpoint_parse(hm_bytes note, tc_checkpoint *out)
{
    tc_checkpoint c = {0};
    note_signature s;
    size_t lines = 0;
    if (note.len > TC_NOTE_MAX)
        return hm_fail(HM_E_LIMIT, "a checkpoint has at most %u bytes", TC_NOTE_MAX);
    // The last empty line is before the signatures.
    const uint8_t *gap = NULL;
    for (size_t i = 0; i + 1 < note.len; i++)
        if (note.ptr[i] == '\n' && note.ptr[i + 1] == '\n')
            gap = note.ptr + i;
    if (!gap)
        return hm_fail(HM_E_PARSE, "a checkpoint has an empty line before its signatures");
    HM_TRY(text_read(hm_bytes_of(note.ptr, (size_t)(gap - note.ptr) + 1), &c));
    c.signatures = hm_bytes_of(gap + 2, note.len - (size_t)(gap - note.ptr) - 2);
    hm_bytes rest = c.signatures, line;
    while (tc_line_next(&rest, &line)) {
        if (++lines > TC_NOTE_SIGNATURES_MAX)
            return hm_fail(HM_E_LIMIT, "a checkpoint has at most %u signatures",
                           TC_NOTE_SIGNATURES_MAX);
        HM_TRY(signature_read(line, &s));
    }
    if (lines == 0 || rest.len > 0)
        return hm_fail(HM_E_PARSE, "a checkpoint ends with signature lines");
    *out = c;
    return HM_OK;
}

static void key_id(hm_bytes name, uint8_t type, hm_bytes material, uint8_t id[TC_NOTE_KEY_ID_BYTES])
{
    hm_sha256_ctx sha;
    const uint8_t between[2] = {'\n', type};
    hm_sha256_init(&sha);
    hm_sha256_update(&sha, name);
    hm_sha256_update(&sha, hm_bytes_of(between, sizeof between));
    hm_sha256_update(&sha, material);
    hm_hash h = hm_sha256_final(&sha);
    memcpy(id, h.b, TC_NOTE_KEY_ID_BYTES);
}

// The next signature by the key of that name and id; false: no more.
static bool find_signature(hm_bytes *rest, hm_bytes name, const uint8_t id[TC_NOTE_KEY_ID_BYTES],
                           note_signature *s)
{
    hm_bytes line;
    while (tc_line_next(rest, &line))
        if (signature_read(line, s) == HM_OK && hm_bytes_eq(s->name, name) &&
            memcmp(s->id.ptr, id, TC_NOTE_KEY_ID_BYTES) == 0)
            return true;
    return false;
}

// ---- the log's key ------------------------------------------------------------------------------

hm_hash tc_log_id_of(EVP_PKEY *key)
{
    uint8_t *der = NULL;
    int len = i2d_PUBKEY(key, &der);
    hm_assert(len > 0); // a key that was read can be written
    hm_hash h = hm_sha256(hm_bytes_of(der, (size_t)len));
    OPENSSL_free(der);
    return h;
}

hm_err tc_log_pub_read(hm_bytes pem, tc_log_pub *out)
{
    BIO *mem = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    EVP_PKEY *key = mem ? PEM_read_bio_PUBKEY(mem, NULL, NULL, NULL) : NULL;
    BIO_free(mem);
    ERR_clear_error();
    if (!key)
        return hm_fail(HM_E_PARSE, "there is no public key in PEM");
    if (!x509_key_is_ec(key, "prime256v1")) {
        EVP_PKEY_free(key);
        return hm_fail(HM_E_KEY, "a log's key is of ECDSA on P-256");
    }
    *out = (tc_log_pub){key, tc_log_id_of(key)};
    return HM_OK;
}

void tc_log_pub_free(tc_log_pub *k)
{
    EVP_PKEY_free(k->key);
    k->key = NULL;
}

hm_err tc_log_signature_verify(const tc_log_pub *k, hm_bytes covered, hm_bytes digitally)
{
    hm_rd r = hm_rd_of(digitally);
    bool known = hm_rd_u8(&r) == 4 && hm_rd_u8(&r) == 3; // sha256, ecdsa
    hm_bytes signature = hm_rd_raw(&r, hm_rd_u16(&r));
    if (hm_rd_end(&r) != HM_OK || !known ||
        !x509_signature_good(k->key, EVP_sha256(), covered, signature))
        return hm_fail(HM_E_SIGNATURE, "the log's key did not make this signature");
    return HM_OK;
}

void tc_tree_head_put(hm_buf *b, uint64_t time_ms, uint64_t size, const hm_hash *root)
{
    hm_wr_u8(b, 0); // v1
    hm_wr_u8(b, 1); // tree_hash
    hm_wr_u64(b, time_ms);
    hm_wr_u64(b, size);
    hm_wr_raw(b, root->b, HM_HASH_BYTES);
}

void tc_log_note_key_id(hm_bytes origin, const hm_hash *log_id, uint8_t id[TC_NOTE_KEY_ID_BYTES])
{
    key_id(origin, TYPE_RFC6962, hm_hash_bytes(log_id), id);
}

hm_err tc_checkpoint_verify(const tc_checkpoint *c, const tc_log_pub *k, uint64_t *time_ms)
{
    uint8_t id[TC_NOTE_KEY_ID_BYTES], mem[64];
    hm_buf covered = hm_buf_fixed(mem, sizeof mem);
    note_signature s;
    hm_bytes rest = c->signatures;
    tc_log_note_key_id(c->origin, &k->id, id);
    if (!find_signature(&rest, c->origin, id, &s))
        return hm_fail(HM_E_SIGNATURE, "the log's key did not sign this checkpoint of %.*s",
                       (int)c->origin.len, (const char *)c->origin.ptr);
    hm_rd r = hm_rd_of(s.signature);
    uint64_t at_ms = hm_rd_u64(&r);
    tc_tree_head_put(&covered, at_ms, c->size, &c->root);
    HM_TRY(tc_log_signature_verify(k, hm_buf_bytes(&covered), hm_rd_raw(&r, r.left)));
    *time_ms = at_ms;
    return HM_OK;
}

// The whole line of the signature that find_signature() gives, with its newline.
static hm_bytes line_of(const tc_checkpoint *c, hm_bytes name,
                        const uint8_t id[TC_NOTE_KEY_ID_BYTES])
{
    note_signature s;
    hm_bytes rest = c->signatures;
    if (!find_signature(&rest, name, id, &s))
        return (hm_bytes){0};
    // The name is in the line, which ends where the rest begins.
    const uint8_t *begin = s.name.ptr - (sizeof DASH - 1);
    return hm_bytes_of(begin, (size_t)(rest.ptr - begin));
}

hm_bytes tc_checkpoint_log_line(const tc_checkpoint *c, const tc_log_pub *k)
{
    uint8_t id[TC_NOTE_KEY_ID_BYTES];
    tc_log_note_key_id(c->origin, &k->id, id);
    return line_of(c, c->origin, id);
}

// ---- witnesses ----------------------------------------------------------------------------------

static hm_err witness_key_fill(hm_bytes name, const uint8_t pub[32], tc_witness_key *out)
{
    tc_witness_key k = {0};
    if (!name_good(name))
        return hm_fail(HM_E_INVALID, "a witness has a name of visible characters without +");
    memcpy(k.name, name.ptr, name.len);
    memcpy(k.pub, pub, sizeof k.pub);
    key_id(name, TYPE_COSIGNATURE, hm_bytes_of(pub, 32), k.id);
    *out = k;
    return HM_OK;
}

hm_err tc_witness_key_of(const char *name, const EVP_PKEY *key, tc_witness_key *out)
{
    uint8_t pub[32];
    size_t len = sizeof pub;
    if (!EVP_PKEY_is_a(key, "ED25519") || EVP_PKEY_get_raw_public_key(key, pub, &len) != 1)
        return hm_fail(HM_E_KEY, "a witness has a key of Ed25519");
    return witness_key_fill(hm_bytes_str(name), pub, out);
}

hm_err tc_witness_key_parse(hm_bytes vkey, tc_witness_key *out)
{
    tc_witness_key k;
    uint8_t id[TC_NOTE_KEY_ID_BYTES], mem[36];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    const uint8_t *plus = vkey.len ? memchr(vkey.ptr, '+', vkey.len) : NULL;
    size_t name = plus ? (size_t)(plus - vkey.ptr) : 0;
    // name+8 digits+44 of base64 for a type and 32 bytes
    if (!plus || vkey.len != name + 1 + 8 + 1 + 44 || plus[9] != '+' ||
        hm_unhex(id, sizeof id, (const char *)plus + 1, 8) != HM_OK ||
        tc_base64_read(hm_bytes_of(plus + 10, 44), &b) != HM_OK || b.len != 33 ||
        mem[0] != TYPE_COSIGNATURE || witness_key_fill(hm_bytes_of(vkey.ptr, name), mem + 1, &k))
        return hm_fail(HM_E_PARSE, "this is no key of a witness, NAME+ID+KEY of type 4");
    if (memcmp(id, k.id, sizeof id) != 0)
        return hm_fail(HM_E_PARSE, "the id in the key of the witness %s is not that key's", k.name);
    *out = k;
    return HM_OK;
}

void tc_witness_key_put(const tc_witness_key *k, hm_buf *vkey)
{
    uint8_t material[33] = {TYPE_COSIGNATURE};
    memcpy(material + 1, k->pub, sizeof k->pub);
    hm_buf_printf(vkey, "%s+", k->name);
    hm_buf_hex(vkey, hm_bytes_of(k->id, sizeof k->id));
    hm_buf_puts(vkey, "+");
    tc_base64_put(vkey, hm_bytes_of(material, sizeof material));
}

static hm_err put_cosigned(hm_bytes text, uint64_t time_s, hm_buf *out)
{
    hm_buf_printf(out, "cosignature/v1\ntime %llu\n", (unsigned long long)time_s);
    hm_buf_put(out, text);
    return hm_buf_status(out);
}

hm_err tc_cosignature_verify(const tc_checkpoint *c, const tc_witness_key *k, uint64_t *time_s)
{
    note_signature s;
    hm_bytes rest = c->signatures;
    hm_buf covered = {0};
    EVP_PKEY *key = NULL;
    hm_err err;
    if (!find_signature(&rest, hm_bytes_str(k->name), k->id, &s))
        return HM_E_NOTFOUND;
    hm_rd r = hm_rd_of(s.signature);
    uint64_t at_s = hm_rd_u64(&r);
    hm_bytes signature = hm_rd_raw(&r, 64);
    HM_TRY_OUT(put_cosigned(c->text, at_s, &covered));
    key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, k->pub, sizeof k->pub);
    if (hm_rd_end(&r) != HM_OK || at_s == 0 || at_s > INT64_MAX || !key ||
        !x509_signature_good(key, NULL, hm_buf_bytes(&covered), signature))
        err = hm_fail(HM_E_SIGNATURE, "the cosignature of %s does not verify", k->name);
    else
        *time_s = at_s;
out:
    EVP_PKEY_free(key);
    ERR_clear_error();
    hm_buf_free(&covered);
    return err;
}

hm_bytes tc_cosignature_line(const tc_checkpoint *c, const tc_witness_key *k)
{
    return line_of(c, hm_bytes_str(k->name), k->id);
}

hm_err tc_cosignature_make(EVP_PKEY *key, const tc_witness_key *k, hm_bytes text, uint64_t time_s,
                           hm_buf *line)
{
    uint8_t mem[TC_NOTE_KEY_ID_BYTES + 8 + 64], signature[64];
    hm_buf blob = hm_buf_fixed(mem, sizeof mem), covered = {0};
    size_t len = sizeof signature;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    hm_err err;
    HM_TRY_OUT(put_cosigned(text, time_s, &covered));
    if (!ctx || EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) != 1 ||
        EVP_DigestSign(ctx, signature, &len, covered.ptr, covered.len) != 1) {
        err = hm_crypto_fail(HM_E_CRYPTO, "the witness's key does not sign");
        goto out;
    }
    hm_wr_raw(&blob, k->id, sizeof k->id);
    hm_wr_u64(&blob, time_s);
    hm_wr_raw(&blob, signature, len);
    hm_buf_printf(line, DASH "%s ", k->name);
    tc_base64_put(line, hm_buf_bytes(&blob));
    hm_buf_puts(line, "\n");
    err = hm_buf_status(line);
out:
    EVP_MD_CTX_free(ctx);
    hm_buf_free(&covered);
    return err;
}
