#include "server/trust_api.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/api_json.h"
#include "server/crl_wait.h"
#include "server/metrics.h"
#include "server/tokens.h"
#include "server/trust_issue.h"
#include "server/trust_log.h"
#include "server/trust_roots.h"
#include "server/trust_witness.h"
#include "trustchain/acme/jose.h"
#include "trustchain/renew.h"

// The definition as it stands in docs/api, made into a string at build time.
static const char trust_openapi[] =
#include "server/trustchain_yaml.h"
    ;

struct hm_trust_api {
    hm_http *http; // owned; NULL: closed
    tc_authority *authority;
    const hm_clock *clock;
    tokens_file tokens;
    audit_log *audit;
    const tc_ocsp *ocsp; // NULL: off
    uint64_t started_ms;
    uint64_t refused;       // requests for certificates, since start
    acme_api *acme;         // owned; NULL: off
    crl_wait *waits;        // owned
    trust_witness *witness; // owned; NULL: none cosign
    trust_issue *issue;     // owned
    void (*closed)(void *ctx);
    void *closed_ctx;
};

// Words of RFC 5280, 5.3.1, that make sense for an end entity; the others a serial cannot leave.
static const struct {
    const char *word;
    uint8_t code;
} reasons[] = {
    {"unspecified", 0}, {"keyCompromise", 1},        {"affiliationChanged", 3},
    {"superseded", 4},  {"cessationOfOperation", 5}, {"privilegeWithdrawn", 9},
};
#define REASON_COUNT (sizeof(reasons) / sizeof(reasons[0]))

static uint64_t now_ms(const hm_trust_api *a)
{
    return hm_clock_wall_ms(a->clock);
}

static void refuse(hm_http_req *r, hm_err err)
{
    hm_http_reply_err(r, err, hm_err_detail());
}

void hm_trust_audit(const char *act, const tc_issued *i)
{
    char serial[2 * TC_SERIAL_BYTES + 1], subject[300];
    hm_hex(serial, i->serial.b, TC_SERIAL_BYTES);
    hm_log_quote(subject, sizeof(subject), hm_bytes_str(i->subject));
    hm_log(HM_LOG_INFO, "audit", act, "serial=%s family=%s subject=%s reason=%u", serial,
           tc_family_names[i->family], subject, i->reason);
}

static bool query_u64(hm_http_req *r, const char *name, uint64_t def, uint64_t min, uint64_t max,
                      uint64_t *out)
{
    const char *text = hm_http_query(r, name);
    char *end, detail[96];
    *out = def;
    if (!text || !*text)
        return true;
    unsigned long long n = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && n >= min && n <= max && strlen(text) < 20) {
        *out = n;
        return true;
    }
    snprintf(detail, sizeof(detail), "parameter %s must be a number from %llu to %llu", name,
             (unsigned long long)min, (unsigned long long)max);
    hm_http_reply_err(r, HM_E_PARSE, detail);
    return false;
}

// ---- who did what -------------------------------------------------------------------------------

static void log_not_audited(const char *act)
{
    char why[512];
    hm_log(HM_LOG_ERROR, "audit", "done, but not in the audit log", "act=\"%s\" why=%s", act,
           hm_log_quote(why, sizeof(why), hm_bytes_str(hm_err_detail())));
}

// They are changed by a command beside this process; here is when it took notice.
static void audit_tokens(hm_trust_api *a)
{
    audit_entry e = {.at_ms = now_ms(a), .who = "server", .act = "tokens read"};
    size_t used = 0;
    for (size_t i = 0; i < a->tokens.list.count && used + 64 < sizeof(e.detail); i++)
        used += (size_t)snprintf(e.detail + used, sizeof(e.detail) - used, "%s%s %s",
                                 used ? ", " : "", a->tokens.list.at[i].name,
                                 hm_http_role_word(a->tokens.list.at[i].role));
    if (audit_add(a->audit, &e, true) != HM_OK)
        log_not_audited(e.act);
}

static void who(void *ctx, hm_bytes token, hm_http_actor *out)
{
    hm_trust_api *a = ctx;
    if (tokens_follow(&a->tokens))
        audit_tokens(a);
    const token_info *t = tokens_find(&a->tokens.list, token, now_ms(a));
    if (!t)
        return;
    out->role = t->role;
    snprintf(out->name, sizeof(out->name), "%s", t->name);
}

// The act is done; an answer that says so leaves only if it is in the audit log as well. The acts
// that are in the journal too need not wait for the disk here.
static hm_err audit_of(hm_trust_api *a, const hm_http_actor *actor, const struct sockaddr_in6 *from,
                       const char *act, const tc_issued *i, const char *detail, bool durable)
{
    audit_entry e = {.at_ms = now_ms(a)};
    snprintf(e.who, sizeof(e.who), "%s", actor->name[0] ? actor->name : "certificate's key");
    inet_ntop(AF_INET6, &from->sin6_addr, e.from, sizeof(e.from));
    snprintf(e.act, sizeof(e.act), "%s", act);
    snprintf(e.detail, sizeof(e.detail), "%s", detail);
    if (i) {
        snprintf(e.subject, sizeof(e.subject), "%s", i->subject);
        hm_hex(e.serial, i->serial.b, TC_SERIAL_BYTES);
        hm_trust_audit(act, i);
    }
    hm_err err = audit_add(a->audit, &e, durable);
    if (err != HM_OK)
        log_not_audited(act);
    return err;
}

static bool audit(hm_trust_api *a, hm_http_req *r, const char *act, const tc_issued *i,
                  const char *detail, bool durable)
{
    hm_err err = audit_of(a, hm_http_actor_of(r), hm_http_from(r), act, i, detail, durable);
    if (err != HM_OK)
        refuse(r, err);
    return err == HM_OK;
}

static hm_err put_entry(void *ctx, hm_bytes line)
{
    hm_jw_raw(ctx, NULL, line);
    return HM_OK;
}

static void on_audit(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    uint64_t cursor, limit, n, next = 0;
    hm_hash head;
    char text[24];
    hm_buf b = {0};
    if (!query_u64(r, "cursor", 0, 0, UINT64_MAX, &cursor) ||
        !query_u64(r, "limit", 50, 1, AUDIT_PAGE_MAX, &limit))
        return;
    audit_head(a->audit, &n, &head);
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "head", '{');
    hm_jw_u64(&b, "n", n);
    hm_jw_hex(&b, "hash", head.b, HM_HASH_BYTES);
    hm_jw_close(&b, '}');
    hm_jw_open(&b, "items", '[');
    hm_err err = audit_page(a->audit, cursor, (unsigned)limit, put_entry, &b, &next);
    hm_jw_close(&b, ']');
    snprintf(text, sizeof(text), "%llu", (unsigned long long)next);
    hm_jw_str(&b, "next", next ? text : NULL);
    hm_jw_close(&b, '}');
    if (err == HM_OK) {
        hm_http_reply_json(r, 200, &b);
    } else {
        hm_buf_free(&b);
        refuse(r, err == HM_E_RANGE ? HM_E_PARSE : err);
    }
}

static void on_who_am_i(void *ctx, hm_http_req *r)
{
    (void)ctx;
    tokens_tell_actor(r);
}
static void on_tokens(void *ctx, hm_http_req *r)
{
    tokens_tell(&((hm_trust_api *)ctx)->tokens.list, r);
}

// ---- certificates -------------------------------------------------------------------------------

static const char *reason_word(uint8_t code)
{
    for (size_t i = 0; i < REASON_COUNT; i++)
        if (reasons[i].code == code)
            return reasons[i].word;
    return "unspecified";
}

static void put_issued(hm_buf *b, const tc_issued *i, uint64_t at_ms)
{
    hm_jw_hex(b, "serial", i->serial.b, TC_SERIAL_BYTES);
    hm_jw_str(b, "family", tc_family_names[i->family]);
    hm_jw_str(b, "subject", i->subject);
    hm_jw_u64(b, "not_before_ms", i->not_before_ms);
    hm_jw_u64(b, "not_after_ms", i->not_after_ms);
    hm_jw_str(b, "state", i->revoked ? "revoked" : at_ms > i->not_after_ms ? "expired" : "valid");
    if (i->revoked) {
        hm_jw_u64(b, "revoked_ms", i->revoked_ms);
        hm_jw_str(b, "reason", reason_word(i->reason));
    }
}

static void note_refusal(hm_trust_api *a, const char *detail)
{
    char why[512];
    hm_log(HM_LOG_WARN, "audit", "certificate refused", "why=%s",
           hm_log_quote(why, sizeof(why), hm_bytes_str(detail)));
    a->refused++;
}

static void send_issued(hm_trust_api *a, hm_http_req *r, const tc_issued *issued,
                        const hm_buf *chain)
{
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    put_issued(&b, issued, now_ms(a));
    hm_jw_text(&b, "chain", hm_buf_bytes(chain));
    hm_jw_close(&b, '}');
    hm_http_reply_json(r, 201, &b);
}

static void on_issue(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    trust_issue_push(a->issue, r);
}

static void on_issued(void *ctx, trust_issue_result *w)
{
    hm_trust_api *a = ctx;
    hm_err err = w->err;
    if (err != HM_OK)
        note_refusal(a, w->detail);
    else
        err = audit_of(a, &w->who, &w->from, "certificate issued", &w->issued, w->profile, false);
    if (!w->r)
        return;
    if (err != HM_OK)
        hm_http_reply_err(w->r, err, w->err != HM_OK ? w->detail : hm_err_detail());
    else
        send_issued(a, w->r, &w->issued, &w->chain);
}

// Who asks has no token: the key that signs the request is what says so.
static void on_renew(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    api_renewal in;
    tc_issued issued;
    tc_renewal request;
    char detail[64], serial[2 * TC_SERIAL_BYTES + 1];
    hm_buf chain = {0};
    hm_err err = api_renewal_read(hm_http_body(r), &in);
    if (err == HM_OK) {
        memcpy(request.serial.b, in.serial, TC_SERIAL_BYTES);
        request.time_ms = in.time_ms;
        request.csr_pem = hm_bytes_str(in.csr);
        request.signature = hm_bytes_of(in.signature, in.signature_len);
        hm_hex(serial, in.serial, TC_SERIAL_BYTES);
        snprintf(detail, sizeof(detail), "in place of %s", serial);
        err = tc_renew(a->authority, &request, now_ms(a), &chain, &issued);
    }
    if (err != HM_OK) {
        note_refusal(a, hm_err_detail());
        refuse(r, err);
    } else if (audit(a, r, "certificate renewed", &issued, detail, false)) {
        send_issued(a, r, &issued, &chain);
    }
    hm_buf_free(&chain);
}

// 0 and 1 are families, 2 is any; answers and gives false for another word.
static bool query_family(hm_http_req *r, unsigned def, unsigned *out)
{
    const char *word = hm_http_query(r, "family");
    *out = def;
    if (!word || !*word)
        return true;
    for (*out = 0; *out < 2; ++*out)
        if (strcmp(word, tc_family_names[*out]) == 0)
            return true;
    hm_http_reply_err(r, HM_E_PARSE, "parameter family must be mesh or edge");
    return false;
}

// The next older certificate of a listing, from *cursor on, which goes down to it: by the index of
// names, or one by one.
static const tc_issued *older(hm_trust_api *a, const char *name, uint64_t *cursor)
{
    if (!name)
        --*cursor;
    else if (tc_issued_named(a->authority, name, *cursor, cursor) != HM_OK)
        return NULL;
    return tc_issued_at(a->authority, (size_t)*cursor);
}

static void on_list(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    uint64_t cursor, limit, n = 0, seen = 0, count = tc_issued_count(a->authority);
    unsigned family;
    const char *q = hm_http_query(r, "q"), *name = hm_http_query(r, "name");
    char next[24];
    hm_buf b = {0};
    if (!query_u64(r, "cursor", count, 0, UINT64_MAX, &cursor) ||
        !query_u64(r, "limit", 50, 1, HM_TRUST_PAGE_MAX, &limit) || !query_family(r, 2, &family))
        return;
    if (cursor > count)
        cursor = count;
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    // Newest first; the cursor is how many older ones there are.
    while (cursor > 0 && n < limit && seen++ < HM_TRUST_SCAN_MAX) {
        const tc_issued *i = older(a, name, &cursor);
        if (!i) {
            cursor = 0;
            break;
        }
        if ((family != 2 && i->family != (tc_family)family) || (q && !strstr(i->subject, q)))
            continue;
        hm_jw_open(&b, NULL, '{');
        put_issued(&b, i, now_ms(a));
        hm_jw_close(&b, '}');
        n++;
    }
    hm_jw_close(&b, ']');
    snprintf(next, sizeof(next), "%llu", (unsigned long long)cursor);
    hm_jw_str(&b, "next", cursor ? next : NULL);
    hm_jw_close(&b, '}');
    hm_http_reply_json(r, 200, &b);
}

static const tc_issued *find(hm_trust_api *a, hm_http_req *r, tc_serial *serial)
{
    const tc_issued *i;
    if (tc_serial_parse(hm_bytes_str(hm_http_param(r, 0)), serial) != HM_OK) {
        hm_http_reply_err(r, HM_E_PARSE, "a serial is 32 hexadecimal digits");
        return NULL;
    }
    i = tc_issued_find(a->authority, serial);
    if (!i)
        hm_http_reply_err(r, HM_E_NOTFOUND, "no certificate of this authority has that serial");
    return i;
}

static hm_err put_pem(hm_buf *b, const char *name, hm_bytes der)
{
    const uint8_t *at = der.ptr;
    char *text = NULL;
    long len = 0;
    X509 *x = d2i_X509(NULL, &at, (long)der.len);
    BIO *mem = BIO_new(BIO_s_mem());
    if (x && mem && PEM_write_bio_X509(mem, x) == 1)
        len = BIO_get_mem_data(mem, &text);
    if (len > 0)
        hm_jw_text(b, name, hm_bytes_of(text, (size_t)len));
    BIO_free(mem);
    X509_free(x);
    return len > 0 ? HM_OK : hm_crypto_fail(HM_E_CORRUPT, "the stored certificate cannot be read");
}

static void on_show(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    tc_serial serial;
    hm_bytes der = {0};
    hm_buf b = {0}, issuing = {0};
    const tc_issued *i = find(a, r, &serial);
    if (!i)
        return;
    hm_jw_open(&b, NULL, '{');
    put_issued(&b, i, now_ms(a));
    hm_err err = tc_issued_der(a->authority, &serial, &der);
    if (err == HM_OK)
        err = put_pem(&b, "certificate", der);
    if (err == HM_OK)
        err = tc_issued_issuing(a->authority, i, &issuing);
    if (err == HM_OK)
        err = put_pem(&b, "issuing", hm_buf_bytes(&issuing));
    hm_buf_free(&issuing);
    hm_jw_close(&b, '}');
    if (err == HM_OK) {
        hm_http_reply_json(r, 200, &b);
    } else {
        hm_buf_free(&b);
        refuse(r, err);
    }
}

static hm_err reason_read(hm_bytes body, uint8_t *code)
{
    char word[32];
    HM_TRY(api_revoke_read(body, word));
    for (size_t i = 0; i < REASON_COUNT; i++)
        if (strcmp(reasons[i].word, word) == 0) {
            *code = reasons[i].code;
            return HM_OK;
        }
    return hm_fail(HM_E_PARSE, "field \"reason\" must be unspecified, keyCompromise, "
                               "affiliationChanged, superseded, cessationOfOperation or "
                               "privilegeWithdrawn");
}

static void on_revoke(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    tc_serial serial;
    uint8_t reason = 0;
    hm_buf b = {0};
    const tc_issued *i = find(a, r, &serial);
    if (!i)
        return;
    hm_err err = reason_read(hm_http_body(r), &reason);
    if (err == HM_OK)
        err = tc_revoke(a->authority, &serial, reason, now_ms(a));
    if (err != HM_OK) {
        refuse(r, err);
        return;
    }
    crl_wait_wake(a->waits);
    i = tc_issued_find(a->authority, &serial);
    if (!audit(a, r, "certificate revoked", i, reason_word(i->reason), true))
        return;
    hm_jw_open(&b, NULL, '{');
    put_issued(&b, i, now_ms(a));
    hm_jw_close(&b, '}');
    hm_http_reply_json(r, 200, &b);
}

// ---- lists, roots -------------------------------------------------------------------------------

// The parameter `issuing`: one CA of the family; answers and gives false for what is no id.
static bool query_issuing(hm_http_req *r, tc_issuing_id *out)
{
    const char *id = hm_http_query(r, "issuing");
    *out = (tc_issuing_id){""};
    if (!id || !*id)
        return true;
    if (strlen(id) == sizeof out->hex - 1 && strspn(id, "0123456789abcdef") == strlen(id)) {
        memcpy(out->hex, id, sizeof out->hex);
        return true;
    }
    hm_http_reply_err(r, HM_E_PARSE, "parameter issuing must be 16 hexadecimal digits");
    return false;
}

// Without `after` it is the newest list, at once.
static void on_crl(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    unsigned family;
    uint64_t after, wait, delta;
    if (!query_family(r, TC_MESH, &family) || !query_u64(r, "after", 0, 0, UINT64_MAX, &after) ||
        !query_u64(r, "wait", 0, 0, CRL_WAIT_MAX_S, &wait) ||
        !query_u64(r, "delta", 0, 0, 1, &delta))
        return;
    crl_question q = {.family = (tc_family)family, .delta = delta == 1, .after = after};
    if (!query_issuing(r, &q.issuing))
        return;
    crl_wait_ask(a->waits, r, &q, (uint32_t)wait);
}

static void on_roots(void *ctx, hm_http_req *r)
{
    trust_roots_tell(((hm_trust_api *)ctx)->authority, r);
}
static void on_issuing(void *ctx, hm_http_req *r)
{
    trust_issuing_tell(((hm_trust_api *)ctx)->authority, r);
}

// ---- health, metrics, definition ----------------------------------------------------------------

static void on_healthz(void *ctx, hm_http_req *r)
{
    (void)ctx;
    hm_http_reply(r, 200, "text/plain; charset=utf-8", hm_bytes_str("ok\n"));
}

// Ready means that the token, if any, has the keys, and that every issuing CA has a current list to
// give: that needs keys in force and a disk that takes writes.
static void on_readyz(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    hm_buf b = {0};
    hm_err err = tc_authority_ready(a->authority);
    for (int f = 0; f < 2; f++)
        for (size_t n = 0; n < tc_issuing_count(a->authority, (tc_family)f) && err == HM_OK; n++)
            err = tc_issuing_crl(a->authority, (tc_family)f,
                                 tc_issuing_id_at(a->authority, (tc_family)f, n).hex, false,
                                 now_ms(a), NULL, NULL);
    if (err == HM_OK)
        hm_buf_puts(&b, "ready\n");
    else
        hm_buf_printf(&b, "not ready: %s\n", hm_err_detail());
    hm_http_reply(r, err == HM_OK ? 200 : 503, "text/plain; charset=utf-8", hm_buf_bytes(&b));
    hm_buf_free(&b);
}

static void put_acme_metrics(hm_trust_api *a, hm_metrics *m)
{
    acme_api_counters c;
    acme_api_get_counters(a->acme, &c);
    hm_metrics_value(m, "hm_acme_requests_total", "Requests to ACME", "", c.requests, false);
    hm_metrics_value(m, "hm_acme_refused_total", "Of these, refused", "", c.refused, false);
    hm_metrics_value(m, "hm_acme_commits_total",
                     "Commits, each for the requests that came together", "", c.commits, false);
    hm_metrics_value(m, "hm_acme_validations_total", "Challenges that were validated", "",
                     c.validations, false);
    hm_metrics_value(m, "hm_acme_validations_failed_total", "Of these, not passed", "",
                     c.validations_failed, false);
    hm_metrics_value(m, "hm_acme_validations_under_way", "Validations under way", "", c.under_way,
                     true);
}

static void put_witness_metrics(hm_trust_api *a, hm_metrics *m)
{
    trust_witness_counters c = {0};
    if (a->witness)
        trust_witness_get_counters(a->witness, &c);
    hm_metrics_value(m, "hm_trust_witnesses", "Witnesses of the log that are asked", "",
                     c.witnesses, true);
    hm_metrics_value(m, "hm_trust_witnesses_cosigned", "Of these, who cosigned the checkpoint", "",
                     c.cosigned, true);
    hm_metrics_value(m, "hm_trust_cosignatures_total", "Cosignatures that came", "", c.cosignatures,
                     false);
    hm_metrics_value(m, "hm_trust_cosignature_failures_total",
                     "Requests for cosignatures without one", "", c.failures, false);
}

static void put_ocsp_metrics(hm_trust_api *a, hm_metrics *m)
{
    tc_ocsp_counters c = {0};
    char label[40];
    if (a->ocsp)
        tc_ocsp_get_counters(a->ocsp, &c);
    for (unsigned i = 0; i < TC_OCSP_RESULTS; i++) {
        snprintf(label, sizeof(label), "result=\"%s\"", tc_ocsp_result_names[i]);
        hm_metrics_value(m, "hm_ocsp_answers_total", "OCSP requests by what they got", label,
                         c.answers[i], false);
    }
    hm_metrics_value(m, "hm_ocsp_signed_total", "OCSP answers signed for the request", "", c.made,
                     false);
    hm_metrics_value(m, "hm_ocsp_cached_total", "OCSP answers given from what was kept", "", c.kept,
                     false);
}

static void put_metrics(hm_trust_api *a, hm_http_req *r, bool json)
{
    hm_buf b = {0};
    hm_metrics m;
    char label[32];
    uint64_t issued[2], revoked[2];
    tc_issued_totals(a->authority, issued, revoked);
    hm_metrics_begin(&m, &b, json);
    for (unsigned f = 0; f < 2; f++) {
        snprintf(label, sizeof(label), "family=\"%s\"", tc_family_names[f]);
        hm_metrics_value(&m, "hm_trust_issued_total", "Certificates issued", label, issued[f],
                         false);
    }
    for (unsigned f = 0; f < 2; f++) {
        snprintf(label, sizeof(label), "family=\"%s\"", tc_family_names[f]);
        hm_metrics_value(&m, "hm_trust_revoked_total", "Certificates revoked", label, revoked[f],
                         false);
    }
    hm_metrics_value(&m, "hm_trust_commits_total",
                     "Commits, each for the requests for certificates that came together", "",
                     trust_issue_commits(a->issue), false);
    hm_metrics_value(&m, "hm_trust_refused_total", "Requests for certificates refused", "",
                     a->refused, false);
    hm_metrics_value(&m, "hm_trust_crl_waiters", "Requests that wait for a newer revocation list",
                     "", crl_wait_count(a->waits), true);
    put_acme_metrics(a, &m);
    put_witness_metrics(a, &m);
    put_ocsp_metrics(a, &m);
    hm_metrics_value(&m, "hm_trust_uptime_milliseconds", "Since start", "",
                     now_ms(a) - a->started_ms, true);
    hm_metrics_reply(&m, a->http, r);
}

static void on_metrics(void *ctx, hm_http_req *r)
{
    put_metrics(ctx, r, false);
}
static void on_performance(void *ctx, hm_http_req *r)
{
    put_metrics(ctx, r, true);
}

static void on_openapi(void *ctx, hm_http_req *r)
{
    (void)ctx;
    hm_http_reply(r, 200, "application/yaml", hm_bytes_of(trust_openapi, sizeof trust_openapi - 1));
}

// ---- transparency log ---------------------------------------------------------------------------

static void on_log_checkpoint(void *ctx, hm_http_req *r)
{
    hm_trust_api *a = ctx;
    hm_bytes note = a->witness ? trust_witness_note(a->witness) : (hm_bytes){0};
    if (note.len > 0)
        trust_log_note(note, r);
    else
        trust_log_checkpoint(a->authority, now_ms(a), r);
}
static void on_log_tile_1(void *ctx, hm_http_req *r)
{
    trust_log_tile(((hm_trust_api *)ctx)->authority, r, 1);
}
static void on_log_tile_2(void *ctx, hm_http_req *r)
{
    trust_log_tile(((hm_trust_api *)ctx)->authority, r, 2);
}
static void on_log_tile_3(void *ctx, hm_http_req *r)
{
    trust_log_tile(((hm_trust_api *)ctx)->authority, r, 3);
}
static void on_log_issuer(void *ctx, hm_http_req *r)
{
    trust_log_issuer(((hm_trust_api *)ctx)->authority, r);
}
static void on_log_key(void *ctx, hm_http_req *r)
{
    trust_log_key(((hm_trust_api *)ctx)->authority, r);
}
static void on_log_inclusion(void *ctx, hm_http_req *r)
{
    trust_log_inclusion(((hm_trust_api *)ctx)->authority, r);
}
static void on_log_consistency(void *ctx, hm_http_req *r)
{
    trust_log_consistency(((hm_trust_api *)ctx)->authority, r);
}

// ---- ACME ---------------------------------------------------------------------------------------

#define ON_ACME(name, op)                                                                          \
    static void name(void *ctx, hm_http_req *r)                                                    \
    {                                                                                              \
        const hm_trust_api *a = ctx;                                                               \
        acme_api_handle(a->acme, r, op);                                                           \
    }
ON_ACME(on_acme_directory, ACME_OP_DIRECTORY)
ON_ACME(on_acme_new_nonce, ACME_OP_NEW_NONCE)
ON_ACME(on_acme_new_account, ACME_OP_NEW_ACCOUNT)
ON_ACME(on_acme_new_order, ACME_OP_NEW_ORDER)
ON_ACME(on_acme_revoke, ACME_OP_REVOKE)
ON_ACME(on_acme_key_change, ACME_OP_KEY_CHANGE)
ON_ACME(on_acme_account, ACME_OP_ACCOUNT)
ON_ACME(on_acme_orders, ACME_OP_ORDERS)
ON_ACME(on_acme_order, ACME_OP_ORDER)
ON_ACME(on_acme_finalize, ACME_OP_FINALIZE)
ON_ACME(on_acme_certificate, ACME_OP_CERTIFICATE)
ON_ACME(on_acme_authorization, ACME_OP_AUTHORIZATION)
ON_ACME(on_acme_challenge, ACME_OP_CHALLENGE)
ON_ACME(on_acme_renewal_info, ACME_OP_RENEWAL_INFO)

static void on_acme_changed(void *ctx, const tc_issued *i)
{
    hm_trust_api *a = ctx;
    audit_entry e = {.at_ms = now_ms(a), .who = "acme"};
    snprintf(e.act, sizeof(e.act), "certificate %s", i->revoked ? "revoked" : "issued");
    snprintf(e.subject, sizeof(e.subject), "%s", i->subject);
    hm_hex(e.serial, i->serial.b, TC_SERIAL_BYTES);
    hm_trust_audit(e.act, i);
    if (audit_add(a->audit, &e, false) != HM_OK)
        log_not_audited(e.act);
    if (i->revoked)
        crl_wait_wake(a->waits);
}

// ---- life ---------------------------------------------------------------------------------------

static const hm_http_route routes[] = {
    {"GET", "/v1/certificates", on_list, 0, 0, "q name family cursor limit"},
    {"POST", "/v1/certificates", on_issue, HM_HTTP_AUTH, 0, NULL, HM_HTTP_OPERATOR},
    {"POST", "/v1/certificates/renew", on_renew, 0, 0, NULL},
    {"GET", "/v1/certificates/{serial}", on_show, 0, 0, NULL},
    {"POST", "/v1/certificates/{serial}/revoke", on_revoke, HM_HTTP_AUTH, 0, NULL,
     HM_HTTP_OPERATOR},
    {"GET", "/v1/audit", on_audit, HM_HTTP_AUTH, 0, "cursor limit", HM_HTTP_VIEWER},
    {"GET", "/v1/crl", on_crl, 0, 0, "family issuing after wait delta"},
    {"GET", "/v1/issuing", on_issuing, 0, 0, NULL},
    {"GET", "/v1/roots", on_roots, 0, 0, "name"},
    {"GET", "/log/checkpoint", on_log_checkpoint, 0, 0, NULL},
    {"GET", "/log/tile/{level}/{a}", on_log_tile_1, 0, 0, NULL},
    {"GET", "/log/tile/{level}/{a}/{b}", on_log_tile_2, 0, 0, NULL},
    {"GET", "/log/tile/{level}/{a}/{b}/{c}", on_log_tile_3, 0, 0, NULL},
    {"GET", "/log/issuer/{fingerprint}", on_log_issuer, 0, 0, NULL},
    {"GET", "/v1/log/key", on_log_key, 0, 0, NULL},
    {"GET", "/v1/log/inclusion", on_log_inclusion, 0, 0, "index size"},
    {"GET", "/v1/log/consistency", on_log_consistency, 0, 0, "from size"},
    {"GET", "/acme/directory", on_acme_directory, 0, 0, NULL},
    {"GET", "/acme/new-nonce", on_acme_new_nonce, 0, 0, NULL},
    {"POST", "/acme/new-account", on_acme_new_account, 0, JOSE_JWS_MAX, NULL},
    {"POST", "/acme/new-order", on_acme_new_order, 0, JOSE_JWS_MAX, NULL},
    {"POST", "/acme/revoke-cert", on_acme_revoke, 0, JOSE_JWS_MAX, NULL},
    {"POST", "/acme/key-change", on_acme_key_change, 0, JOSE_JWS_MAX, NULL},
    {"POST", "/acme/account/{id}", on_acme_account, 0, JOSE_JWS_MAX, NULL},
    {"POST", "/acme/account/{id}/orders", on_acme_orders, 0, JOSE_JWS_MAX, "cursor"},
    {"POST", "/acme/order/{id}", on_acme_order, 0, JOSE_JWS_MAX, NULL},
    {"POST", "/acme/order/{id}/finalize", on_acme_finalize, 0, JOSE_JWS_MAX, NULL},
    {"POST", "/acme/order/{id}/certificate", on_acme_certificate, 0, JOSE_JWS_MAX, NULL},
    {"POST", "/acme/authorization/{id}", on_acme_authorization, 0, JOSE_JWS_MAX, NULL},
    {"POST", "/acme/challenge/{id}/{type}", on_acme_challenge, 0, JOSE_JWS_MAX, NULL},
    {"GET", "/acme/renewal-info/{id}", on_acme_renewal_info, 0, 0, NULL},
    {"GET", "/v1/whoami", on_who_am_i, HM_HTTP_AUTH, 0, NULL, HM_HTTP_VIEWER},
    {"GET", "/v1/tokens", on_tokens, HM_HTTP_AUTH, 0, NULL, HM_HTTP_AUTHORITY},
    {"GET", "/openapi.yaml", on_openapi, 0, 0, NULL},
    {"GET", "/metrics", on_metrics, 0, 0, NULL},
    {"GET", "/metrics/performance", on_performance, 0, 0, NULL},
    {"GET", "/healthz", on_healthz, 0, 0, NULL},
    {"GET", "/readyz", on_readyz, 0, 0, NULL},
};

const hm_http_route *hm_trust_api_routes(size_t *count)
{
    *count = sizeof(routes) / sizeof(routes[0]);
    return routes;
}

static void on_issue_closed(void *ctx)
{
    hm_trust_api *a = ctx;
    void (*closed)(void *) = a->closed;
    void *closed_ctx = a->closed_ctx;
    crl_wait_close(a->waits);
    tokens_free(&a->tokens.list);
    free(a);
    if (closed)
        closed(closed_ctx);
}

static void on_witness_closed(void *ctx)
{
    hm_trust_api *a = ctx;
    if (a->issue)
        trust_issue_close(a->issue, on_issue_closed, a);
    else
        on_issue_closed(a);
}

static void on_acme_closed(void *ctx)
{
    hm_trust_api *a = ctx;
    if (a->witness)
        trust_witness_close(a->witness, on_witness_closed, a);
    else
        on_witness_closed(a);
}

static void on_http_closed(void *ctx)
{
    hm_trust_api *a = ctx;
    a->http = NULL;
    if (a->acme)
        acme_api_close(a->acme, on_acme_closed, a);
    else
        on_acme_closed(a);
}

// What changes with each request, and each part of one or of an answer.
static uint64_t progress(void *ctx)
{
    const hm_trust_api *a = ctx;
    hm_http_stats s = {0};
    if (a->http)
        hm_http_get_stats(a->http, &s);
    return s.requests + s.bytes_in + s.bytes_out;
}

static hm_err open_acme(hm_trust_api *a, const hm_trust_api_config *cfg)
{
    const acme_api_config config = {.loop = cfg->loop,
                                    .authority = cfg->authority,
                                    .clock = cfg->clock,
                                    .dir = cfg->acme_dir,
                                    .options = cfg->acme,
                                    .progress = progress,
                                    .changed = on_acme_changed,
                                    .ctx = a};
    return cfg->acme.on ? acme_api_open(&config, &a->acme) : HM_OK;
}

static hm_err open_issue(hm_trust_api *a, const hm_trust_api_config *cfg)
{
    const trust_issue_config config = {.loop = cfg->loop,
                                       .authority = cfg->authority,
                                       .clock = cfg->clock,
                                       .progress = progress,
                                       .answer = on_issued,
                                       .ctx = a};
    return trust_issue_open(&config, &a->issue);
}

static hm_err open_witness(hm_trust_api *a, const hm_trust_api_config *cfg)
{
    const trust_witness_config config = {.loop = cfg->loop,
                                         .authority = cfg->authority,
                                         .clock = cfg->clock,
                                         .policy_path = cfg->witnesses_path,
                                         .root_path = cfg->edge_root_path};
    return cfg->witnesses_path ? trust_witness_open(&config, &a->witness) : HM_OK;
}

hm_err hm_trust_api_open(const hm_trust_api_config *cfg, hm_trust_api **out)
{
    hm_trust_api *a = calloc(1, sizeof(*a));
    if (!a)
        return HM_E_NOMEM;
    a->authority = cfg->authority;
    a->clock = cfg->clock;
    a->tokens.path = cfg->tokens_path;
    a->audit = cfg->audit;
    a->ocsp = cfg->ocsp;
    a->started_ms = now_ms(a);
    hm_http_config http = {.loop = cfg->loop,
                           .routes = routes,
                           .route_count = sizeof(routes) / sizeof(routes[0]),
                           .ctx = a,
                           .token = cfg->token,
                           .who = who,
                           .limits = cfg->limits};
    hm_err err = hm_http_open(&http, &a->http);
    if (err != HM_OK) {
        free(a);
        return err;
    }
    err = crl_wait_open(cfg->loop, cfg->authority, cfg->clock, &a->waits);
    if (err == HM_OK)
        err = open_issue(a, cfg);
    if (err == HM_OK)
        err = open_acme(a, cfg);
    if (err == HM_OK)
        err = open_witness(a, cfg);
    if (err == HM_OK)
        err = hm_http_listen(a->http, &cfg->api, NULL);
    if (err != HM_OK) {
        hm_http_close(a->http, 0, on_http_closed, a); // the loop frees it
        return err;
    }
    *out = a;
    return HM_OK;
}

void hm_trust_api_close(hm_trust_api *a, uint64_t grace_ms, void (*closed)(void *ctx), void *ctx)
{
    a->closed = closed;
    a->closed_ctx = ctx;
    crl_wait_end(a->waits);
    hm_http_close(a->http, grace_ms, on_http_closed, a);
}

hm_err hm_trust_api_renewed(hm_trust_api *a)
{
    return hm_http_certs_renewed(a->http);
}
