// hypermesh dns resolve: one question by QUIC, and the proof of what is answered.
#include <stdio.h>
#include <stdlib.h>

#include "cli/stoq.h"
#include "dns/sign.h"

#define KEYS_MAX 128u
#define RECORDS_MAX 512u

typedef struct record {
    dns_rr rr; // lower case
    hm_buf data;
} record;

typedef struct resolve {
    session s;
    dns_name zone, name;
    uint16_t type;
    uint8_t keys[KEYS_MAX][DNS_DNSKEY_BYTES];
    size_t key_count;
    hm_buf answer; // behind its length
    bool done, refused;
    dns_msg msg;
    record records[RECORDS_MAX];
    size_t count;
    bool secure;
    uint64_t took_us;
} resolve;

// ---- what is asked ------------------------------------------------------------------------------

static hm_err read_key(yyjson_val *k, uint8_t out[DNS_DNSKEY_BYTES])
{
    unsigned char raw[72];
    const char *text = cli_str(k, "dnskey"), *base64 = strrchr(text, ' ');
    if (!base64 || strlen(base64 + 1) != 88 ||
        EVP_DecodeBlock(raw, (const unsigned char *)base64 + 1, 88) < (int)DNS_PUBLIC_BYTES)
        return hm_fail(HM_E_PARSE, "the node gives a key of the zone that cannot be read");
    dns_dnskey_rdata(raw, out);
    return HM_OK;
}

// The zone and its keys, by the node's own word, which has them from the ledger.
static hm_err ask_zone(cli *c, resolve *x)
{
    yyjson_doc *doc = NULL;
    yyjson_val *k;
    size_t at, max;
    hm_err err;
    HM_TRY(cli_ask(&c->client, "GET", "/v1/zone", (hm_bytes){0}, &doc));
    yyjson_val *root = yyjson_doc_get_root(doc);
    HM_TRY_OUT(cli_need(c, root, "zone keys["));
    HM_TRY_OUT(dns_name_parse(hm_bytes_str(cli_str(root, "zone")), &x->zone));
    yyjson_arr_foreach(yyjson_obj_get(root, "keys"), at, max, k)
    {
        if (x->key_count < KEYS_MAX)
            HM_TRY_OUT(read_key(k, x->keys[x->key_count++]));
    }
out:
    yyjson_doc_free(doc);
    return err;
}

static hm_err take_name(resolve *x, const char *text)
{
    dns_name n;
    size_t len = strlen(text);
    HM_TRY(dns_name_parse(hm_bytes_str(text), &n));
    if (dns_name_within(&n, &x->zone) || (len > 0 && text[len - 1] == '.')) {
        x->name = n;
        return HM_OK;
    }
    return dns_name_join(&n, &x->zone, &x->name);
}

static void on_answer(void *ctx, stoq_stream *st)
{
    resolve *x = ctx;
    hm_bytes view;
    bool fin = false;
    while (!fin) {
        if (stoq_stream_peek(st, &view, &fin) != HM_OK || x->answer.len > 2 + DNS_MSG_MAX) {
            x->refused = true;
            return;
        }
        if (view.len == 0 && !fin)
            return;
        hm_buf_put(&x->answer, view);
        stoq_stream_consume(st, view.len);
    }
    x->done = true;
}

static hm_err ask(resolve *x)
{
    uint8_t query[2 + DNS_QUERY_MAX];
    stoq_stream *st;
    size_t took = 0, len = dns_query_write(query + 2, 0, DNS_RD, &x->name, x->type, true, true);
    uint64_t start = stoq_now_us();
    query[0] = (uint8_t)(len >> 8);
    query[1] = (uint8_t)len;
    HM_TRY(stoq_stream_open(x->s.conn, false, &st));
    HM_TRY(stoq_stream_send(st, hm_bytes_of(query, len + 2), true, &took));
    while (!x->done && !x->refused)
        if (!session_turn(&x->s, HM_TIME_NEVER))
            return session_end(&x->s);
    x->took_us = stoq_now_us() - start;
    if (x->refused)
        return hm_fail(HM_E_STOQ_RESET, "%s does not answer this question", x->s.target);
    return hm_buf_status(&x->answer);
}

// ---- what is answered ---------------------------------------------------------------------------

static hm_err read_answer(resolve *x)
{
    dns_cursor at = {0};
    dns_rr rr;
    hm_bytes b = hm_buf_bytes(&x->answer);
    if (b.len < 2 || b.len != 2u + (b.ptr[0] << 8 | b.ptr[1]))
        return hm_fail(HM_E_PARSE, "%s answers with something else than a message", x->s.target);
    HM_TRY(dns_msg_read(hm_bytes_of(b.ptr + 2, b.len - 2), &x->msg));
    if (!(x->msg.flags & DNS_QR) || !x->msg.has_question || x->msg.type != x->type ||
        !dns_name_eq(&x->msg.name, &x->name))
        return hm_fail(HM_E_PARSE, "%s answers another question", x->s.target);
    while (dns_msg_next(&x->msg, &at, &rr)) {
        if (rr.type == DNS_TYPE_OPT)
            continue;
        if (x->count == RECORDS_MAX)
            return hm_fail(HM_E_LIMIT, "the answer has more than %u records", RECORDS_MAX);
        record *r = &x->records[x->count++];
        r->rr = rr;
        dns_name_lower(&r->rr.name);
        HM_TRY(dns_rdata_expand(&x->msg, &rr, &r->data));
    }
    return HM_OK;
}

static bool same_set(const record *a, const record *b)
{
    return a->rr.section == b->rr.section && a->rr.type == b->rr.type &&
           dns_name_eq(&a->rr.name, &b->rr.name);
}

static void gather(const resolve *x, const record *first, dns_rrset *set)
{
    *set = (dns_rrset){.owner = first->rr.name, .type = first->rr.type, .ttl = first->rr.ttl};
    for (size_t i = 0; i < x->count && set->count < DNS_RRSET_MAX; i++) {
        unsigned at = set->count;
        hm_bytes data = hm_buf_bytes(&x->records[i].data);
        if (!same_set(&x->records[i], first))
            continue;
        for (; at > 0 && hm_bytes_cmp(set->rdata[at - 1], data) > 0; at--)
            set->rdata[at] = set->rdata[at - 1];
        set->rdata[at] = data;
        set->count++;
    }
}

static hm_err prove_set(const resolve *x, const record *first)
{
    char text[DNS_NAME_TEXT_MAX], word[16];
    dns_rrset set;
    uint64_t now_s = hm_clock_wall_ms(&hm_clock_system) / 1000;
    gather(x, first, &set);
    for (size_t i = 0; i < x->count; i++) {
        const record *sig = &x->records[i];
        if (sig->rr.type != DNS_TYPE_RRSIG || sig->rr.section != first->rr.section ||
            !dns_name_eq(&sig->rr.name, &first->rr.name))
            continue;
        for (size_t k = 0; k < x->key_count; k++)
            if (dns_verify(&set, hm_buf_bytes(&sig->data),
                           hm_bytes_of(x->keys[k], DNS_DNSKEY_BYTES), now_s) == HM_OK)
                return HM_OK;
    }
    return hm_fail(HM_E_SIGNATURE, "no key of the zone has signed the %s records of %.200s",
                   dns_type_text(set.type, word), dns_name_text(&set.owner, text));
}

// Every set is the zone's own word, but for the servers that a delegation names, and there is one
// that says something of the name.
static hm_err prove(resolve *x)
{
    bool said = false;
    for (size_t i = 0; i < x->count; i++) {
        const record *r = &x->records[i];
        bool servers = r->rr.section == DNS_AUTHORITY && r->rr.type == DNS_TYPE_NS;
        if (r->rr.type == DNS_TYPE_RRSIG || r->rr.section == DNS_ADDITIONAL || servers)
            continue;
        HM_TRY(prove_set(x, r));
        said |= dns_name_within(&x->name, &r->rr.name) &&
                (r->rr.type == x->type || r->rr.type == DNS_TYPE_NSEC ||
                 r->rr.type == DNS_TYPE_DS || x->type == DNS_TYPE_ANY);
    }
    if (!said)
        return hm_fail(HM_E_SIGNATURE, "%s says nothing of the name that is signed", x->s.target);
    x->secure = true;
    return HM_OK;
}

// ---- telling ------------------------------------------------------------------------------------

static void put_answer(const resolve *x, hm_buf *b)
{
    static const char *const sections[] = {"answer", "authority", "additional"};
    char text[DNS_NAME_TEXT_MAX], word[16];
    hm_jw_open(b, NULL, '{');
    hm_jw_str(b, "name", dns_name_text(&x->name, text));
    hm_jw_str(b, "type", dns_type_text(x->type, word));
    hm_jw_str(b, "rcode", dns_rcode_text(dns_msg_rcode(&x->msg)));
    session_json(&x->s, b);
    hm_jw_bool(b, "secure", x->secure);
    hm_jw_u64(b, "took_us", x->took_us);
    hm_jw_open(b, "records", '[');
    for (size_t i = 0; i < x->count; i++) {
        hm_buf data = {0};
        const dns_rr *rr = &x->records[i].rr;
        dns_rdata_text(rr->type, hm_buf_bytes(&x->records[i].data), &data);
        hm_jw_open(b, NULL, '{');
        hm_jw_str(b, "section", sections[rr->section]);
        hm_jw_str(b, "name", dns_name_text(&rr->name, text));
        hm_jw_str(b, "type", dns_type_text(rr->type, word));
        hm_jw_u64(b, "ttl", rr->ttl);
        hm_jw_text(b, "data", hm_buf_bytes(&data));
        hm_jw_close(b, '}');
        hm_buf_free(&data);
    }
    hm_jw_close(b, ']');
    hm_jw_close(b, '}');
    hm_buf_puts(b, "\n");
}

hm_err cli_resolved_show(cli *c, yyjson_val *a)
{
    size_t at, max, shown = 0;
    yyjson_val *r;
    hm_buf took = {0};
    (void)c;
    yyjson_arr_foreach(yyjson_obj_get(a, "records"), at, max, r)
    {
        hm_buf line = {0};
        if (strcmp(cli_str(r, "type"), "RRSIG") == 0 ||
            strcmp(cli_str(r, "section"), "answer") != 0)
            continue;
        hm_buf_printf(&line, "%s  %llu  %s  ", cli_str(r, "name"),
                      (unsigned long long)cli_u64(r, "ttl"), cli_str(r, "type"));
        cli_put_text(&line, cli_str(r, "data"));
        printf("%s\n", hm_buf_cstr(&line));
        hm_buf_free(&line);
        shown++;
    }
    if (shown == 0)
        printf("%s has no %s records here (%s)\n", cli_str(a, "name"), cli_str(a, "type"),
               cli_str(a, "rcode"));
    cli_put_micros(&took, cli_u64(a, "took_us"));
    printf("%s answers in %s, %s\n", cli_str(a, "target"), hm_buf_cstr(&took),
           cli_true(a, "secure") ? "signed by a key of the zone" : "not checked here");
    hm_buf_free(&took);
    return HM_OK;
}

static hm_err run(cli *c, const cli_command *cmd, resolve *x)
{
    hm_buf b = {0};
    const char *domain = c->arg;
    x->type = dns_type_parse(hm_bytes_str(hm_config_get(&c->cfg, "type")));
    if (x->type == 0)
        return hm_fail(HM_E_USAGE, "--type is a word such as AAAA, or TYPE and a number");
    HM_TRY(ask_zone(c, x));
    HM_TRY(take_name(x, domain));
    c->arg = hm_config_get(&c->cfg, "server");
    hm_err err = session_open(&x->s, c, "doq");
    c->arg = domain;
    HM_TRY(err);
    x->s.readable = on_answer;
    x->s.ctx = x;
    HM_TRY(ask(x));
    HM_TRY(read_answer(x));
    uint16_t rcode = dns_msg_rcode(&x->msg);
    if (rcode != DNS_NOERROR && rcode != DNS_NXDOMAIN)
        return hm_fail(rcode == DNS_REFUSED ? HM_E_DENIED : HM_E_BUSY, "%s answers %s", x->s.target,
                       dns_rcode_text(rcode));
    if (dns_name_within(&x->name, &x->zone))
        HM_TRY(prove(x));
    put_answer(x, &b);
    err = hm_buf_status(&b);
    if (err == HM_OK)
        err = cli_answer(c, cmd, hm_buf_bytes(&b));
    hm_buf_free(&b);
    return err;
}

hm_err cli_dns_resolve(cli *c, const cli_command *cmd)
{
    resolve *x = calloc(1, sizeof *x);
    if (!x)
        return HM_E_NOMEM;
    hm_err err = run(c, cmd, x);
    session_close(&x->s);
    for (size_t i = 0; i < x->count; i++)
        hm_buf_free(&x->records[i].data);
    hm_buf_free(&x->answer);
    free(x);
    return err;
}
