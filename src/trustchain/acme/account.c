// Accounts: RFC 8555, 7.3, and the list of their orders, 7.1.2.1.
#include <stdio.h>

#include "trustchain/acme/internal.h"

static acme_error reply_account(acme_call *c, unsigned status, const acme_account *a)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *contacts = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_str(doc, root, "status", a->active ? "valid" : "deactivated");
    for (uint32_t i = 0; i < a->contact_count; i++)
        yyjson_mut_arr_add_strcpy(doc, contacts, a->contacts[i]);
    yyjson_mut_obj_add_val(doc, root, "contact", contacts);
    acme_put_url(c, doc, root, "orders", "account/%llu/orders", (unsigned long long)a->id);
    // What registered it, for clients that look at it as Boulder shows it.
    yyjson_doc *jwk = yyjson_read(a->jwk, strlen(a->jwk), 0);
    if (jwk)
        yyjson_mut_obj_add_val(doc, root, "key",
                               yyjson_val_mut_copy(doc, yyjson_doc_get_root(jwk)));
    yyjson_doc_free(jwk);
    acme_location(c, "account/%llu", (unsigned long long)a->id);
    return acme_reply(c, status, doc);
}

// One address (RFC 6068), without further fields.
static acme_error check_contact(acme_call *c, yyjson_val *v)
{
    const char *text = yyjson_get_str(v), *at;
    size_t len = yyjson_get_len(v);
    if (!text || strlen(text) != len)
        return acme_fail(c, ACME_MALFORMED, "\"contact\" is a list of texts");
    if (strncasecmp(text, "mailto:", 7) != 0)
        return acme_fail(c, ACME_UNSUPPORTED_CONTACT, "a contact is a mailto: address");
    at = strchr(text, '@');
    bool good = len <= ACME_CONTACT_MAX && at && at > text + 7 && at[1] && !strchr(at + 1, '@') &&
                !strpbrk(text, "?,%<>\" ");
    for (const char *p = text; good && *p; p++)
        good = (unsigned char)*p > 0x20 && (unsigned char)*p < 0x7f;
    return good ? ACME_OK
                : acme_fail(c, ACME_INVALID_CONTACT,
                            "a contact is one address of at most %u "
                            "characters, without fields",
                            ACME_CONTACT_MAX);
}

static acme_error read_contacts(acme_call *c, acme_account *a)
{
    yyjson_val *list = yyjson_obj_get(yyjson_doc_get_root(c->payload), "contact"), *v;
    size_t at, max;
    if (!list)
        return ACME_OK;
    if (!yyjson_is_arr(list))
        return acme_fail(c, ACME_MALFORMED, "\"contact\" is a list of texts");
    if (yyjson_arr_size(list) > ACME_CONTACTS_MAX)
        return acme_fail(c, ACME_INVALID_CONTACT, "an account has at most %u contacts",
                         ACME_CONTACTS_MAX);
    yyjson_arr_foreach(list, at, max, v) ACME_TRY(check_contact(c, v));
    a->contact_count = 0;
    yyjson_arr_foreach(list, at, max, v)
        snprintf(a->contacts[a->contact_count++], ACME_CONTACT_MAX + 1, "%s", yyjson_get_str(v));
    return ACME_OK;
}

static acme_error existing(acme_call *c, uint64_t id)
{
    acme_account a;
    ACME_TRY_HM(c, acme_record_account_get(c->a->store, id, &a));
    if (!a.active)
        return acme_fail(c, ACME_UNAUTHORIZED, "the account is deactivated");
    return reply_account(c, 200, &a);
}

static acme_error store_account(acme_call *c, acme_account *a, acme_eab *eab)
{
    acme_store *s = c->a->store;
    uint64_t count;
    ACME_TRY_HM(c, acme_record_count(s, 'a', 0, &count));
    if (count >= ACME_ACCOUNTS_MAX) {
        c->out->retry_after_s = 3600;
        return acme_fail(c, ACME_RATE_LIMITED, "this server has as many accounts as it takes");
    }
    ACME_TRY_HM(c, acme_record_count(s, 'a', 1, &count));
    ACME_TRY_HM(c, acme_record_number(s, 'a', &a->id));
    ACME_TRY_HM(c, acme_record_account_put(s, a));
    ACME_TRY_HM(c, acme_record_account_name(s, &c->key.thumbprint, a->id));
    eab->account = a->id;
    if (eab->id[0])
        ACME_TRY_HM(c, acme_record_eab_put(s, eab));
    return ACME_OK;
}

acme_error acme_op_new_account(acme_call *c)
{
    acme_account a = {.active = true, .created_ms = c->rq->now_ms};
    acme_eab eab = {0};
    uint64_t id;
    ACME_TRY(acme_need_payload(c));
    yyjson_val *root = yyjson_doc_get_root(c->payload);
    yyjson_val *only = yyjson_obj_get(root, "onlyReturnExisting");
    yyjson_val *binding = yyjson_obj_get(root, "externalAccountBinding");
    hm_err err = acme_record_account_find(c->a->store, &c->key.thumbprint, &id);
    if (err == HM_OK)
        return existing(c, id);
    if (err != HM_E_NOTFOUND)
        return acme_fail_err(c, err);
    if (yyjson_is_true(only))
        return acme_fail(c, ACME_ACCOUNT_DOES_NOT_EXIST, "no account has this key");
    ACME_TRY(read_contacts(c, &a));
    if (!binding && c->a->cfg.eab_required)
        return acme_fail(c, ACME_EXTERNAL_ACCOUNT_REQUIRED,
                         "an account here needs externalAccountBinding; ask the authority's people "
                         "for a key");
    if (binding)
        ACME_TRY(acme_eab_check(c, binding, &eab));
    ACME_TRY(acme_rate(c, 'c', c->rq->client, c->a->cfg.accounts_an_hour,
                       "accounts are made for one address"));
    snprintf(a.jwk, sizeof a.jwk, "%s", c->key.json);
    snprintf(a.eab, sizeof a.eab, "%s", eab.id);
    ACME_TRY(store_account(c, &a, &eab));
    hm_zero(&eab, sizeof eab);
    return reply_account(c, 201, &a);
}

static acme_error own_account(acme_call *c)
{
    uint64_t id;
    ACME_TRY(acme_id(c, &id));
    if (id != c->account.id)
        return acme_fail(c, ACME_UNAUTHORIZED, "this is not the account that signed the request");
    return ACME_OK;
}

acme_error acme_op_account(acme_call *c)
{
    const char *status = NULL;
    ACME_TRY(own_account(c));
    if (c->payload) {
        acme_account a = c->account;
        ACME_TRY(acme_payload_text(c, "status", &status));
        if (status && strcmp(status, "deactivated") != 0 && strcmp(status, "valid") != 0)
            return acme_fail(c, ACME_MALFORMED, "an account can only be set to \"deactivated\"");
        ACME_TRY(read_contacts(c, &a));
        a.active = !status || strcmp(status, "deactivated") != 0;
        c->account = a;
        ACME_TRY_HM(c, acme_record_account_put(c->a->store, &a));
    }
    return reply_account(c, 200, &c->account);
}

// ---- another key: RFC 8555, 7.3.5 ---------------------------------------------------------------

static acme_error check_inner(acme_call *c, const jose_jws *inner, jose_jwk *fresh)
{
    yyjson_doc *doc = NULL;
    jose_jwk old = {0};
    acme_error e = ACME_OK;
    hm_err err;
    if (!inner->jwk || inner->kid.ptr || inner->nonce.ptr || !hm_bytes_eq(inner->url, c->jws.url))
        return acme_fail(c, ACME_MALFORMED,
                         "the inner request has \"jwk\", the \"url\" of the one "
                         "around it, and no nonce");
    err = jose_jwk_read(inner->jwk, fresh);
    if (err == HM_OK)
        err = jose_jws_verify(inner, fresh);
    if (err != HM_OK)
        return acme_fail(c,
                         err == HM_E_KEY           ? ACME_BAD_PUBLIC_KEY
                         : err == HM_E_UNSUPPORTED ? ACME_BAD_SIGNATURE_ALGORITHM
                                                   : ACME_MALFORMED,
                         "the inner request: %s", hm_err_detail());
    if (jose_object(hm_buf_bytes(&inner->payload), &doc) != HM_OK)
        return acme_fail(c, ACME_MALFORMED, "the inner payload: %s", hm_err_detail());
    yyjson_val *root = yyjson_doc_get_root(doc), *account = yyjson_obj_get(root, "account");
    if (!yyjson_is_str(account) ||
        acme_account_of_url(hm_bytes_of(yyjson_get_str(account), yyjson_get_len(account))) !=
            c->account.id)
        e = acme_fail(c, ACME_MALFORMED, "\"account\" is not the account that signs");
    else if (jose_jwk_read(yyjson_obj_get(root, "oldKey"), &old) != HM_OK ||
             !hm_hash_eq(&old.thumbprint, &c->key.thumbprint))
        e = acme_fail(c, ACME_MALFORMED, "\"oldKey\" is not the account's key");
    jose_jwk_free(&old);
    yyjson_doc_free(doc);
    return e;
}

static acme_error take_key(acme_call *c, const jose_jwk *fresh)
{
    acme_store *s = c->a->store;
    uint64_t other;
    hm_err err = acme_record_account_find(s, &fresh->thumbprint, &other);
    if (err == HM_OK) {
        acme_location(c, "account/%llu", (unsigned long long)other);
        c->out->status = 409;
        return acme_fail(c, ACME_MALFORMED, "an account has the new key already");
    }
    if (err != HM_E_NOTFOUND)
        return acme_fail_err(c, err);
    snprintf(c->account.jwk, sizeof c->account.jwk, "%s", fresh->json);
    ACME_TRY_HM(c, acme_record_account_unname(s, &c->key.thumbprint));
    ACME_TRY_HM(c, acme_record_account_name(s, &fresh->thumbprint, c->account.id));
    ACME_TRY_HM(c, acme_record_account_put(s, &c->account));
    return reply_account(c, 200, &c->account);
}

acme_error acme_op_key_change(acme_call *c)
{
    jose_jws inner = {0};
    jose_jwk fresh = {0};
    ACME_TRY(acme_need_payload(c));
    hm_err err = jose_jws_parse(hm_buf_bytes(&c->jws.payload), &inner);
    acme_error e =
        err == HM_OK
            ? check_inner(c, &inner, &fresh)
            : acme_fail(c, err == HM_E_UNSUPPORTED ? ACME_BAD_SIGNATURE_ALGORITHM : ACME_MALFORMED,
                        "the inner request: %s", hm_err_detail());
    if (e == ACME_OK)
        e = take_key(c, &fresh);
    jose_jwk_free(&fresh);
    jose_jws_free(&inner);
    return e;
}

// ---- orders -------------------------------------------------------------------------------------

acme_error acme_op_orders(acme_call *c)
{
    uint64_t id = c->rq->cursor;
    uint32_t n = 0;
    hm_err err;
    ACME_TRY(own_account(c));
    ACME_TRY(acme_no_payload(c));
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc), *list = yyjson_mut_arr(doc);
    yyjson_mut_doc_set_root(doc, root);
    while ((err = acme_record_order_next(c->a->store, c->account.id, id, &id)) == HM_OK &&
           n++ < ACME_PAGE_MAX)
        acme_put_url(c, doc, list, NULL, "order/%llu", (unsigned long long)id);
    yyjson_mut_obj_add_val(doc, root, "orders", list);
    if (err == HM_OK)
        snprintf(c->out->link[1], ACME_URL_MAX,
                 "<%.300s" ACME_PATH "account/%llu/orders?cursor=%llu>;rel=\"next\"", c->rq->base,
                 (unsigned long long)c->account.id, (unsigned long long)id - 1);
    if (err != HM_OK && err != HM_E_NOTFOUND) {
        yyjson_mut_doc_free(doc);
        return acme_fail_err(c, err);
    }
    return acme_reply(c, 200, doc);
}
