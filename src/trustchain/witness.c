#include "trustchain/witness.h"

#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "trustchain/x509.h"

#define PATH_BYTES 4096

// ---- policy -------------------------------------------------------------------------------------

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static hm_bytes next_word(hm_bytes *line)
{
    size_t begin = 0, end;
    while (begin < line->len && is_space(line->ptr[begin]))
        begin++;
    for (end = begin; end < line->len && !is_space(line->ptr[end]);)
        end++;
    hm_bytes word = hm_bytes_of(line->ptr + begin, end - begin);
    *line = hm_bytes_of(line->ptr + end, line->len - end);
    return word;
}

static hm_err policy_line(hm_bytes line, size_t number, tc_witness_policy *p)
{
    tc_witness_key k;
    hm_bytes word = next_word(&line);
    if (word.len == 0 || word.ptr[0] == '#')
        return HM_OK;
    hm_bytes name = next_word(&line), vkey = next_word(&line), url = next_word(&line);
    if (!hm_bytes_eq(word, hm_bytes_str("witness")) || name.len == 0 || next_word(&line).len > 0)
        return hm_fail(HM_E_PARSE, "line %zu is not \"witness NAME KEY [URL]\"", number);
    if (tc_witness_key_parse(vkey, &k) != HM_OK)
        return hm_fail(HM_E_PARSE, "line %zu has no key of a witness, NAME+ID+KEY of type 4",
                       number);
    if (url.len > TC_WITNESS_URL_MAX || p->count == TC_WITNESSES_MAX)
        return hm_fail(HM_E_LIMIT,
                       "line %zu: there are at most %u witnesses, with URLs of %u bytes", number,
                       TC_WITNESSES_MAX, TC_WITNESS_URL_MAX);
    for (size_t i = 0; i < p->count; i++)
        if (memcmp(p->witness[i].key.pub, k.pub, sizeof k.pub) == 0)
            return hm_fail(HM_E_PARSE, "line %zu has a key that stood there before", number);
    p->witness[p->count].key = k;
    memcpy(p->witness[p->count].url, url.ptr, url.len);
    p->count++;
    return HM_OK;
}

hm_err tc_witness_policy_parse(hm_bytes text, tc_witness_policy *out)
{
    tc_witness_policy p = {0};
    hm_bytes line;
    if (text.len > TC_WITNESS_POLICY_MAX)
        return hm_fail(HM_E_LIMIT, "a policy has at most %u bytes", TC_WITNESS_POLICY_MAX);
    for (size_t number = 1; text.len > 0; number++) {
        if (!tc_line_next(&text, &line))
            return hm_fail(HM_E_PARSE, "line %zu has no end", number);
        HM_TRY(policy_line(line, number, &p));
    }
    if (p.count == 0)
        return hm_fail(HM_E_PARSE, "it names no witness");
    *out = p;
    return HM_OK;
}

// ---- add-checkpoint -----------------------------------------------------------------------------

hm_err tc_add_checkpoint_parse(hm_bytes body, tc_add_checkpoint *out)
{
    static const char old[] = "old ";
    tc_add_checkpoint a = {0};
    hm_bytes line = {0};
    const size_t skip = sizeof old - 1;
    if (!tc_line_next(&body, &line) || line.len <= skip || memcmp(line.ptr, old, skip) != 0)
        return hm_fail(HM_E_PARSE, "the first line is the old size");
    HM_TRY(tc_decimal_read(hm_bytes_of(line.ptr + skip, line.len - skip), &a.old_size));
    for (;;) {
        uint8_t mem[HM_HASH_BYTES + 1];
        hm_buf b = hm_buf_fixed(mem, sizeof mem);
        if (!tc_line_next(&body, &line))
            return hm_fail(HM_E_PARSE, "an empty line is expected before the checkpoint");
        if (line.len == 0)
            break;
        if (a.count == TC_WITNESS_PROOF_MAX)
            return hm_fail(HM_E_LIMIT, "a proof has at most %u hashes", TC_WITNESS_PROOF_MAX);
        if (line.len != 44 || tc_base64_read(line, &b) != HM_OK || b.len != HM_HASH_BYTES)
            return hm_fail(HM_E_PARSE, "a line of the proof is no hash in base64");
        memcpy(a.proof[a.count++].b, mem, HM_HASH_BYTES);
    }
    HM_TRY(tc_checkpoint_parse(body, &a.checkpoint));
    *out = a;
    return HM_OK;
}

hm_err tc_add_checkpoint_put(uint64_t old_size, const hm_hash *proof, size_t count, hm_bytes note,
                             hm_buf *body)
{
    hm_buf_printf(body, "old %llu\n", (unsigned long long)old_size);
    for (size_t i = 0; i < count; i++) {
        tc_base64_put(body, hm_hash_bytes(&proof[i]));
        hm_buf_puts(body, "\n");
    }
    hm_buf_puts(body, "\n");
    hm_buf_put(body, note);
    return hm_buf_status(body);
}

// ---- a witness ----------------------------------------------------------------------------------

struct tc_witness {
    char checkpoint_path[PATH_BYTES];
    char origin[TC_NOTE_NAME_MAX + 1];
    tc_log_pub log; // owned
    EVP_PKEY *key;  // owned
    tc_witness_key pub;
    uint64_t size; // of the last checkpoint; 0: none
    hm_hash root;
    hm_buf note; // as in the file
};

static hm_err key_open(const char *path, EVP_PKEY **out)
{
    hm_buf pem = {0};
    if (access(path, F_OK) == 0)
        return x509_key_load(path, out);
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    if (!key)
        return hm_crypto_fail(HM_E_CRYPTO, "cannot make a witness's key");
    hm_err err = x509_key_pem(key, &pem);
    if (err == HM_OK)
        err = hm_file_write(path, hm_buf_bytes(&pem), 0600);
    hm_buf_free_secret(&pem);
    if (err == HM_OK)
        *out = key;
    else
        EVP_PKEY_free(key);
    return err;
}

static hm_err state_load(tc_witness *w)
{
    tc_checkpoint c;
    uint64_t time;
    hm_err err = hm_file_read(w->checkpoint_path, TC_NOTE_MAX, &w->note);
    if (err == HM_E_NOTFOUND) {
        w->root = hm_sha256((hm_bytes){0});
        return HM_OK;
    }
    HM_TRY(err);
    if (tc_checkpoint_parse(hm_buf_bytes(&w->note), &c) != HM_OK ||
        !hm_bytes_eq(c.origin, hm_bytes_str(w->origin)) ||
        tc_checkpoint_verify(&c, &w->log, &time) != HM_OK ||
        tc_cosignature_verify(&c, &w->pub, &time) != HM_OK)
        return hm_fail(HM_E_CORRUPT,
                       "%s is not the last checkpoint of %s that this witness cosigned; whoever "
                       "moves it away lets the witness begin anew",
                       w->checkpoint_path, w->origin);
    w->size = c.size;
    w->root = c.root;
    return HM_OK;
}

hm_err tc_witness_open(const char *dir, const char *name, const char *origin, hm_bytes log_pem,
                       tc_witness **out)
{
    char path[PATH_BYTES];
    hm_err err;
    tc_witness *w = calloc(1, sizeof *w);
    if (!w)
        return HM_E_NOMEM;
    if (strlen(dir) > PATH_BYTES - 32 || strlen(origin) > TC_NOTE_NAME_MAX) {
        err = hm_fail(HM_E_LIMIT, "the name of the witness's folder or of its log is too long");
        goto out;
    }
    snprintf(path, sizeof path, "%s/witness.key", dir);
    snprintf(w->checkpoint_path, sizeof w->checkpoint_path, "%s/witness.checkpoint", dir);
    snprintf(w->origin, sizeof w->origin, "%s", origin);
    HM_TRY_OUT(tc_log_pub_read(log_pem, &w->log));
    HM_TRY_OUT(key_open(path, &w->key));
    HM_TRY_OUT(tc_witness_key_of(name, w->key, &w->pub));
    HM_TRY_OUT(state_load(w));
    *out = w;
    w = NULL;
out:
    tc_witness_close(w);
    return err;
}

void tc_witness_close(tc_witness *w)
{
    if (!w)
        return;
    tc_log_pub_free(&w->log);
    EVP_PKEY_free(w->key);
    hm_buf_free(&w->note);
    free(w);
}

const tc_witness_key *tc_witness_public(const tc_witness *w)
{
    return &w->pub;
}

hm_hash tc_witness_origin_hash(const tc_witness *w)
{
    return hm_sha256(hm_bytes_str(w->origin));
}

hm_bytes tc_witness_checkpoint(const tc_witness *w)
{
    return hm_buf_bytes(&w->note);
}

static void refuse(tc_witness_answer *out, unsigned status, const char *why)
{
    out->status = status;
    out->why = why;
}

// The checks in the order that tlog-witness has them. True: it may be cosigned.
static bool check(const tc_witness *w, const tc_add_checkpoint *a, tc_witness_answer *out)
{
    const tc_checkpoint *c = &a->checkpoint;
    uint64_t time_ms;
    if (!hm_bytes_eq(c->origin, hm_bytes_str(w->origin)))
        refuse(out, 404, "this witness does not know the checkpoint's log");
    else if (tc_checkpoint_verify(c, &w->log, &time_ms) != HM_OK)
        refuse(out, 403, "the log's key did not sign the checkpoint");
    else if (a->old_size > c->size || c->size > TC_LOG_SIZE_MAX)
        refuse(out, 400, "the old size is larger than the checkpoint's, or that beyond 2^40");
    else if (a->old_size != w->size) {
        refuse(out, 409, NULL);
        out->type = "text/x.tlog.size";
        hm_buf_printf(&out->body, "%llu\n", (unsigned long long)w->size);
    } else if (a->old_size == 0 ? a->count > 0 || (c->size == 0 && !hm_hash_eq(&c->root, &w->root))
                                : !tc_log_consistent(a->old_size, &w->root, c->size, &c->root,
                                                     a->proof, a->count))
        refuse(out, 422, "the checkpoint is not the continuation of the one cosigned before");
    else
        return true;
    return false;
}

static hm_err cosign(tc_witness *w, const tc_checkpoint *c, uint64_t now_ms, hm_buf *line)
{
    hm_buf note = {0};
    hm_err err;
    HM_TRY_OUT(tc_cosignature_make(w->key, &w->pub, c->text, now_ms / 1000, line));
    // Anybody can send a published checkpoint again: that must not cost the disk anything.
    if (w->note.len > 0 && c->size == w->size)
        goto out;
    hm_buf_put(&note, c->text);
    hm_buf_puts(&note, "\n");
    hm_buf_put(&note, tc_checkpoint_log_line(c, &w->log));
    hm_buf_put(&note, hm_buf_bytes(line));
    HM_TRY_OUT(hm_buf_status(&note));
    HM_TRY_OUT(hm_file_write(w->checkpoint_path, hm_buf_bytes(&note), 0644));
    hm_buf_free(&w->note);
    w->note = note;
    note = (hm_buf){0};
    w->size = c->size;
    w->root = c->root;
out:
    hm_buf_free(&note);
    return err;
}

void tc_witness_add(tc_witness *w, hm_bytes body, uint64_t now_ms, tc_witness_answer *out)
{
    tc_add_checkpoint a;
    *out = (tc_witness_answer){.status = 200, .type = "text/plain; charset=utf-8"};
    if (tc_add_checkpoint_parse(body, &a) != HM_OK) {
        refuse(out, 400, "the body is not that of an add-checkpoint");
        return;
    }
    if (check(w, &a, out) && cosign(w, &a.checkpoint, now_ms, &out->body) != HM_OK) {
        hm_buf_reset(&out->body);
        refuse(out, 503, "the checkpoint cannot be kept, so it is not cosigned");
    }
}
