// Orders: RFC 8555, 7.4; what may be ordered: RFC 8738; which certificate an order replaces:
// RFC 9773, 5.
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>

#include "trustchain/acme/internal.h"
#include "trustchain/policy.h"

// ---- names --------------------------------------------------------------------------------------

// LDH labels (RFC 1034, 3.5), in lower case.
static bool labels_good(const char *s)
{
    size_t label = 0, len = strlen(s);
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '.') {
            if (label == 0 || s[i - 1] == '-')
                return false;
            label = 0;
        } else if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9') ||
                     (s[i] == '-' && label > 0)) ||
                   ++label > 63) {
            return false;
        }
    }
    return len > 0 && len <= ACME_NAME_MAX && label > 0 && s[len - 1] != '-';
}

static bool under(const char *name, const char *zone)
{
    size_t n = strlen(name), z = strlen(zone);
    return n >= z && strcmp(name + n - z, zone) == 0 && (n == z || name[n - z - 1] == '.');
}

static acme_error check_dns(acme_call *c, acme_identifier *out)
{
    char *s = out->value;
    for (char *p = s; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    if (strncmp(s, "*.", 2) == 0)
        return acme_fail(c, ACME_REJECTED_IDENTIFIER, "this authority names no wildcards");
    if (!labels_good(s))
        return acme_fail(c, ACME_MALFORMED, "\"%.100s\" is not a host name", s);
    const char *last = strrchr(s, '.') ? strrchr(s, '.') + 1 : s;
    if (strspn(last, "0123456789") == strlen(last))
        return acme_fail(c, ACME_REJECTED_IDENTIFIER, "\"%.100s\" is an address, not a name", s);
    if (under(s, "localhost") || under(s, "arpa") || under(s, "onion") || under(s, "invalid"))
        return acme_fail(c, ACME_REJECTED_IDENTIFIER, "\"%.100s\" can be nobody's", s);
    return ACME_OK;
}

static acme_error check_ip(acme_call *c, acme_identifier *out)
{
    uint8_t addr[16], v4[4];
    char text[INET6_ADDRSTRLEN];
    if (inet_pton(AF_INET, out->value, v4) == 1)
        return acme_fail(c, ACME_REJECTED_IDENTIFIER, "this authority names IPv6 addresses only");
    if (inet_pton(AF_INET6, out->value, addr) != 1)
        return acme_fail(c, ACME_MALFORMED, "\"%.100s\" is not an IPv6 address", out->value);
    inet_ntop(AF_INET6, addr, text, sizeof text);
    if (strcmp(text, out->value) != 0) // RFC 8738, 3
        return acme_fail(c, ACME_MALFORMED, "the address is written %s (RFC 5952)", text);
    if (!acme_address_ok(addr))
        return acme_fail(c, ACME_REJECTED_IDENTIFIER, "\"%s\" can be nobody's alone", text);
    return ACME_OK;
}

acme_error acme_identifier_read(acme_call *c, yyjson_val *v, acme_identifier *out)
{
    yyjson_val *type = yyjson_obj_get(v, "type"), *value = yyjson_obj_get(v, "value");
    if (!yyjson_is_str(type) || !yyjson_is_str(value))
        return acme_fail(c, ACME_MALFORMED, "an identifier is {\"type\", \"value\"}");
    bool dns = yyjson_equals_str(type, "dns");
    if (!dns && !yyjson_equals_str(type, "ip"))
        return acme_fail(c, ACME_UNSUPPORTED_IDENTIFIER, "an identifier is of type dns or ip");
    if (yyjson_get_len(value) > ACME_NAME_MAX ||
        strlen(yyjson_get_str(value)) != yyjson_get_len(value))
        return acme_fail(c, ACME_MALFORMED, "an identifier has at most %u characters",
                         ACME_NAME_MAX);
    out->type = dns ? ACME_DNS : ACME_IP;
    snprintf(out->value, sizeof out->value, "%s", yyjson_get_str(value));
    return dns ? check_dns(c, out) : check_ip(c, out);
}

static acme_error read_names(acme_call *c, acme_order *o)
{
    yyjson_val *list = yyjson_obj_get(yyjson_doc_get_root(c->payload), "identifiers"), *v;
    size_t at, max;
    if (!yyjson_is_arr(list) || yyjson_arr_size(list) == 0)
        return acme_fail(c, ACME_MALFORMED, "\"identifiers\" is a list of one at least");
    if (yyjson_arr_size(list) > TC_SERVER_NAMES_MAX)
        return acme_fail(c, ACME_MALFORMED, "an order has at most %u identifiers",
                         TC_SERVER_NAMES_MAX);
    yyjson_arr_foreach(list, at, max, v)
    {
        acme_identifier id;
        bool twice = false;
        ACME_TRY(acme_identifier_read(c, v, &id));
        if (tc_authority_allows(c->a->cfg.authority, TC_SERVER, id.value) != HM_OK)
            return acme_fail(c, ACME_REJECTED_IDENTIFIER, "%s", hm_err_detail());
        for (uint32_t i = 0; i < o->count; i++)
            twice = twice ||
                    (o->names[i].id.type == id.type && strcmp(o->names[i].id.value, id.value) == 0);
        if (!twice)
            o->names[o->count++].id = id;
    }
    return ACME_OK;
}

// ---- orders -------------------------------------------------------------------------------------

acme_error acme_order_status(acme_call *c, const acme_order *o, acme_status *out)
{
    bool ready = true;
    *out = o->status;
    if (o->status != ACME_PENDING)
        return ACME_OK;
    *out = ACME_INVALID;
    if (c->rq->now_ms >= o->expires_ms)
        return ACME_OK;
    for (uint32_t i = 0; i < o->count; i++) {
        acme_authz z;
        ACME_TRY_HM(c, acme_record_authz_get(c->a->store, o->names[i].authz, &z));
        if (z.status == ACME_INVALID || z.status == ACME_DEACTIVATED)
            return ACME_OK;
        ready = ready && z.status == ACME_VALID;
    }
    *out = ready ? ACME_READY : ACME_PENDING;
    return ACME_OK;
}

static void put_name(yyjson_mut_doc *doc, yyjson_mut_val *list, const acme_identifier *id)
{
    yyjson_mut_val *name = yyjson_mut_arr_add_obj(doc, list);
    yyjson_mut_obj_add_str(doc, name, "type", id->type == ACME_DNS ? "dns" : "ip");
    yyjson_mut_obj_add_strcpy(doc, name, "value", id->value);
}

acme_error acme_order_reply(acme_call *c, unsigned status, const acme_order *o)
{
    unsigned long long id = o->id;
    acme_status now;
    ACME_TRY(acme_order_status(c, o, &now));
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *names = yyjson_mut_arr(doc);
    yyjson_mut_val *authzs = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_str(doc, root, "status", acme_status_word(now));
    acme_put_time(doc, root, "expires", o->expires_ms);
    for (uint32_t i = 0; i < o->count; i++) {
        put_name(doc, names, &o->names[i].id);
        acme_put_url(c, doc, authzs, NULL, "authorization/%llu",
                     (unsigned long long)o->names[i].authz);
    }
    yyjson_mut_obj_add_val(doc, root, "identifiers", names);
    yyjson_mut_obj_add_val(doc, root, "authorizations", authzs);
    acme_put_url(c, doc, root, "finalize", "order/%llu/finalize", id);
    if (now == ACME_VALID)
        acme_put_url(c, doc, root, "certificate", "order/%llu/certificate", id);
    acme_put_fault(doc, root, "error", &o->fault);
    acme_location(c, "order/%llu", id);
    return acme_reply(c, status, doc);
}

acme_error acme_order_find(acme_call *c, acme_order *out)
{
    uint64_t id;
    ACME_TRY(acme_id(c, &id));
    hm_err err = acme_record_order_get(c->a->store, id, out);
    if (err == HM_E_NOTFOUND) {
        c->out->status = 404;
        return acme_fail(c, ACME_MALFORMED, "there is no such order, or it has expired");
    }
    ACME_TRY_HM(c, err);
    if (out->account != c->account.id)
        return acme_fail(c, ACME_UNAUTHORIZED, "the order is another account's");
    acme_ended_apply(c->a, out);
    return ACME_OK;
}

acme_error acme_op_order(acme_call *c)
{
    acme_order o;
    ACME_TRY(acme_order_find(c, &o));
    ACME_TRY(acme_no_payload(c));
    return acme_order_reply(c, 200, &o);
}

// ---- new orders ---------------------------------------------------------------------------------

static acme_error new_authz(acme_call *c, const acme_order *o, const acme_identifier *name,
                            uint64_t *id)
{
    acme_authz z = {.account = o->account,
                    .order = o->id,
                    .status = ACME_PENDING,
                    .expires_ms = o->expires_ms,
                    .name = *name,
                    .chosen = ACME_NO_CHALLENGE};
    hm_random_fill(&hm_random_system, z.token, sizeof z.token);
    ACME_TRY_HM(c, acme_record_number(c->a->store, 'z', &z.id));
    ACME_TRY_HM(c, acme_record_authz_put(c->a->store, &z));
    *id = z.id;
    return ACME_OK;
}

// RFC 9773, 5: of the same account, with a name in common, and not replaced already.
static acme_error check_replaces(acme_call *c, const char *id, acme_order *o, acme_cert *old)
{
    acme_order before, successor;
    bool shared = false;
    ACME_TRY(acme_ari_serial(c, id, &o->replaced));
    hm_err err = acme_record_cert_get(c->a->store, &o->replaced, old);
    if (err == HM_OK)
        err = acme_record_order_get(c->a->store, old->order, &before);
    if (err == HM_E_NOTFOUND || (err == HM_OK && old->account != c->account.id))
        return acme_fail(c, ACME_UNAUTHORIZED, "the certificate to replace is not this account's");
    ACME_TRY_HM(c, err);
    for (uint32_t i = 0; i < o->count; i++)
        for (uint32_t k = 0; k < before.count; k++)
            shared = shared || strcmp(o->names[i].id.value, before.names[k].id.value) == 0;
    if (!shared)
        return acme_fail(c, ACME_MALFORMED, "the certificate to replace has none of these names");
    o->replaces = true;
    if (!old->replaced)
        return ACME_OK;
    err = acme_record_order_get(c->a->store, old->successor, &successor);
    if (err == HM_E_NOTFOUND)
        return ACME_OK;
    ACME_TRY_HM(c, err);
    acme_status status;
    ACME_TRY(acme_order_status(c, &successor, &status));
    return status == ACME_INVALID
               ? ACME_OK
               : acme_fail(c, ACME_ALREADY_REPLACED, "another order replaces the certificate");
}

static acme_error store_order(acme_call *c, acme_order *o, acme_cert *old)
{
    acme_store *s = c->a->store;
    uint64_t count;
    ACME_TRY_HM(c, acme_record_count(s, 'o', 0, &count));
    if (count >= ACME_ORDERS_MAX) {
        c->out->retry_after_s = 3600;
        return acme_fail(c, ACME_RATE_LIMITED, "this server has as many orders as it takes");
    }
    ACME_TRY_HM(c, acme_record_count(s, 'o', 1, &count));
    ACME_TRY_HM(c, acme_record_number(s, 'o', &o->id));
    if (!c->a->orders_new)
        c->a->orders_new = o->id;
    for (uint32_t i = 0; i < o->count; i++)
        ACME_TRY(new_authz(c, o, &o->names[i].id, &o->names[i].authz));
    ACME_TRY_HM(c, acme_record_order_put(s, o));
    if (o->replaces) {
        old->replaced = true;
        old->successor = o->id;
        ACME_TRY_HM(c, acme_record_cert_put(s, &o->replaced, old));
    }
    return ACME_OK;
}

acme_error acme_op_new_order(acme_call *c)
{
    acme_order o = {.account = c->account.id,
                    .status = ACME_PENDING,
                    .created_ms = c->rq->now_ms,
                    .expires_ms = c->rq->now_ms + ACME_ORDER_MS};
    acme_cert old = {0};
    const char *replaces, *unused;
    ACME_TRY(acme_need_payload(c));
    yyjson_val *root = yyjson_doc_get_root(c->payload);
    if (yyjson_obj_get(root, "notBefore") || yyjson_obj_get(root, "notAfter"))
        return acme_fail(c, ACME_MALFORMED, "\"notBefore\" and \"notAfter\" are not supported");
    ACME_TRY(acme_payload_text(c, "profile", &unused));
    if (unused)
        return acme_fail(c, ACME_MALFORMED, "there are no profiles to choose from");
    ACME_TRY(read_names(c, &o));
    ACME_TRY(acme_payload_text(c, "replaces", &replaces));
    if (replaces)
        ACME_TRY(check_replaces(c, replaces, &o, &old));
    ACME_TRY(acme_rate(c, 'o', &c->account.id, c->a->cfg.orders_an_hour,
                       "orders are taken from one account"));
    ACME_TRY(store_order(c, &o, &old));
    return acme_order_reply(c, 201, &o);
}
