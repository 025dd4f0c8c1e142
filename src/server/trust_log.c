#include "server/trust_log.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/json.h"
#include "trustchain/log.h"

#define IMMUTABLE "public, max-age=31536000, immutable"

static void reply(hm_http_req *r, hm_err err, const char *type, const char *cache, hm_buf *body)
{
    if (err == HM_OK) {
        hm_http_cache_control(r, cache);
        hm_http_reply(r, 200, type, hm_buf_bytes(body));
    } else {
        hm_http_reply_err(r, err, hm_err_detail());
    }
    hm_buf_free(body);
}

void trust_log_checkpoint(tc_authority *a, uint64_t now_ms, hm_http_req *r)
{
    hm_buf note = {0};
    hm_err err = tc_log_checkpoint(a, now_ms, &note);
    reply(r, err, "text/plain; charset=utf-8", "no-cache", &note);
}

void trust_log_note(hm_bytes note, hm_http_req *r)
{
    hm_http_cache_control(r, "no-cache");
    hm_http_reply(r, 200, "text/plain; charset=utf-8", note);
}

// ---- tiles --------------------------------------------------------------------------------------

static bool digits(const char *text, size_t len, uint64_t *n)
{
    *n = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        *n = *n * 10 + (uint64_t)(text[i] - '0');
    }
    return len > 0;
}

// One way to write each number: no zeros in front beyond the three digits of a part.
static bool tile_path(hm_http_req *r, size_t parts, uint64_t *index, uint64_t *width)
{
    uint64_t n;
    const char *last = hm_http_param(r, parts);
    size_t tiles = parts;
    *index = 0;
    *width = TC_TILE_WIDTH;
    if (parts > 1 && strlen(hm_http_param(r, parts - 1)) == 5) { // 067.p
        if (!digits(last, strlen(last), width) || strlen(last) > 3 || last[0] == '0' ||
            *width >= TC_TILE_WIDTH)
            return false;
        tiles--;
    }
    for (size_t i = 1; i <= tiles; i++) {
        const char *p = hm_http_param(r, i);
        bool end = i == tiles;
        if (!end && *p++ != 'x')
            return false;
        if (strcmp(strlen(p) >= 3 ? p + 3 : "?", end && tiles < parts ? ".p" : "") != 0 ||
            !digits(p, 3, &n) || (i == 1 && !end && n == 0))
            return false;
        *index = *index * 1000 + n;
    }
    return true;
}

void trust_log_tile(tc_authority *a, hm_http_req *r, size_t parts)
{
    const char *level = hm_http_param(r, 0);
    bool data = strcmp(level, "data") == 0;
    uint64_t index, width;
    hm_buf b = {0};
    hm_err err;
    if ((!data && (level[0] < '0' || level[0] > '5' || level[1])) ||
        !tile_path(r, parts, &index, &width)) {
        hm_http_reply_err(r, HM_E_NOTFOUND, "no path of a tile: C2SP tlog-tiles says what it is");
        return;
    }
    if (data)
        err = tc_log_entries(a, index, (unsigned)width, &b);
    else
        err = tc_log_tile(a, (unsigned)(level[0] - '0'), index, (unsigned)width, &b);
    reply(r, err, "application/octet-stream", IMMUTABLE, &b);
}

// ---- issuers, key -------------------------------------------------------------------------------

void trust_log_issuer(tc_authority *a, hm_http_req *r)
{
    const char *hex = hm_http_param(r, 0);
    hm_hash fingerprint;
    hm_buf der = {0};
    if (hm_unhex(fingerprint.b, HM_HASH_BYTES, hex, strlen(hex)) != HM_OK) {
        hm_http_reply_err(r, HM_E_PARSE, "a fingerprint is 64 hexadecimal digits");
        return;
    }
    hm_err err = tc_log_issuer(a, &fingerprint, &der);
    reply(r, err, "application/pkix-cert", IMMUTABLE, &der);
}

void trust_log_key(tc_authority *a, hm_http_req *r)
{
    hm_buf pem = {0};
    hm_err err = tc_log_key(a, &pem);
    reply(r, err, "application/x-pem-file", "no-cache", &pem);
}

// ---- proofs -------------------------------------------------------------------------------------

static bool number(hm_http_req *r, const char *name, uint64_t *out)
{
    const char *text = hm_http_query(r, name);
    char detail[96];
    if (text && strlen(text) < 19 && digits(text, strlen(text), out))
        return true;
    snprintf(detail, sizeof(detail), "parameter %s must be a number", name);
    hm_http_reply_err(r, HM_E_PARSE, detail);
    return false;
}

static void send_proof(hm_http_req *r, hm_err err, const char *name, uint64_t n, uint64_t size,
                       const hm_hash *proof, size_t count)
{
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_u64(&b, name, n);
    hm_jw_u64(&b, "size", size);
    hm_jw_open(&b, "hashes", '[');
    for (size_t i = 0; i < count; i++)
        hm_jw_hex(&b, NULL, proof[i].b, HM_HASH_BYTES);
    hm_jw_close(&b, ']');
    hm_jw_close(&b, '}');
    hm_buf_puts(&b, "\n");
    reply(r, err == HM_OK ? hm_buf_status(&b) : err, "application/json", "no-cache", &b);
}

void trust_log_inclusion(tc_authority *a, hm_http_req *r)
{
    uint64_t index, size;
    hm_hash proof[TC_PROOF_MAX];
    size_t count = 0;
    if (!number(r, "index", &index) || !number(r, "size", &size))
        return;
    hm_err err = tc_log_prove_inclusion(a, index, size, proof, &count);
    send_proof(r, err, "index", index, size, proof, count);
}

void trust_log_consistency(tc_authority *a, hm_http_req *r)
{
    uint64_t from, size;
    hm_hash proof[TC_PROOF_MAX];
    size_t count = 0;
    if (!number(r, "from", &from) || !number(r, "size", &size))
        return;
    hm_err err = tc_log_prove_consistency(a, from, size, proof, &count);
    send_proof(r, err, "from", from, size, proof, count);
}
