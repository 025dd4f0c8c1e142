#include "trustchain/acme/record.h"

typedef struct store_key {
    uint8_t mem[STORE_KEY_MAX];
    hm_buf b;
} store_key;

static hm_bytes key_u64(store_key *k, char kind, uint64_t n)
{
    k->b = hm_buf_fixed(k->mem, sizeof k->mem);
    hm_wr_u8(&k->b, (uint8_t)kind);
    hm_wr_u64(&k->b, n);
    return hm_buf_bytes(&k->b);
}

static hm_bytes key_pair(store_key *k, char kind, uint64_t a, uint64_t b)
{
    (void)key_u64(k, kind, a);
    hm_wr_u64(&k->b, b);
    return hm_buf_bytes(&k->b);
}

static hm_bytes key_raw(store_key *k, char kind, hm_bytes raw)
{
    k->b = hm_buf_fixed(k->mem, sizeof k->mem);
    hm_wr_u8(&k->b, (uint8_t)kind);
    hm_wr_raw(&k->b, raw.ptr, raw.len);
    return hm_buf_bytes(&k->b);
}

static hm_err finish(const hm_rd *r, const char *what)
{
    return hm_rd_end(r) == HM_OK ? HM_OK : hm_fail(HM_E_CORRUPT, "ACME store: %s is damaged", what);
}

static hm_err put(acme_store *s, hm_bytes key, hm_buf *b)
{
    hm_err err = hm_buf_status(b);
    if (err == HM_OK)
        err = acme_store_put(s, key, hm_buf_bytes(b));
    hm_buf_free_secret(b);
    return err;
}

static hm_err get_u64(acme_store *s, hm_bytes key, uint64_t *out)
{
    hm_bytes v;
    HM_TRY(acme_store_get(s, key, &v));
    hm_rd r = hm_rd_of(v);
    uint64_t n = hm_rd_u64(&r);
    HM_TRY(finish(&r, "a number"));
    *out = n;
    return HM_OK;
}

static hm_err put_u64(acme_store *s, hm_bytes key, uint64_t n)
{
    hm_buf b = {0};
    hm_wr_u64(&b, n);
    return put(s, key, &b);
}

static void read_text(hm_rd *r, char *out, size_t max)
{
    hm_bytes t = hm_rd_bytes(r, max);
    if (t.len)
        memcpy(out, t.ptr, t.len);
    out[t.len] = 0;
}

static void write_text(hm_buf *b, const char *text)
{
    hm_wr_bytes(b, hm_bytes_str(text));
}

static void read_name(hm_rd *r, acme_identifier *out)
{
    out->type = (acme_identifier_type)hm_rd_enum(r, ACME_IP);
    read_text(r, out->value, ACME_NAME_MAX);
}

static void write_name(hm_buf *b, const acme_identifier *i)
{
    hm_wr_u8(b, (uint8_t)i->type);
    write_text(b, i->value);
}

static void read_fault(hm_rd *r, acme_fault *out)
{
    out->type = (acme_error)hm_rd_enum(r, ACME_ERRORS - 1);
    read_text(r, out->detail, ACME_DETAIL_MAX);
}

static void write_fault(hm_buf *b, const acme_fault *f)
{
    hm_wr_u8(b, (uint8_t)f->type);
    write_text(b, f->detail);
}

// ---- accounts -----------------------------------------------------------------------------------

hm_err acme_record_account_get(acme_store *s, uint64_t id, acme_account *out)
{
    store_key k;
    hm_bytes v;
    HM_TRY(acme_store_get(s, key_u64(&k, 'a', id), &v));
    hm_rd r = hm_rd_of(v);
    acme_account a = {.id = id};
    a.active = hm_rd_bool(&r);
    a.created_ms = hm_rd_u64(&r);
    read_text(&r, a.jwk, JOSE_JWK_MAX);
    read_text(&r, a.eab, ACME_EAB_ID_CHARS);
    a.contact_count = hm_rd_count(&r, ACME_CONTACTS_MAX, 4);
    for (uint32_t i = 0; i < a.contact_count; i++)
        read_text(&r, a.contacts[i], ACME_CONTACT_MAX);
    HM_TRY(finish(&r, "an account"));
    *out = a;
    return HM_OK;
}

hm_err acme_record_account_put(acme_store *s, const acme_account *a)
{
    store_key k;
    hm_buf b = {0};
    hm_wr_bool(&b, a->active);
    hm_wr_u64(&b, a->created_ms);
    write_text(&b, a->jwk);
    write_text(&b, a->eab);
    hm_wr_u32(&b, a->contact_count);
    for (uint32_t i = 0; i < a->contact_count; i++)
        write_text(&b, a->contacts[i]);
    return put(s, key_u64(&k, 'a', a->id), &b);
}

hm_err acme_record_account_find(acme_store *s, const hm_hash *thumbprint, uint64_t *id)
{
    store_key k;
    return get_u64(s, key_raw(&k, 'j', hm_hash_bytes(thumbprint)), id);
}

hm_err acme_record_account_name(acme_store *s, const hm_hash *thumbprint, uint64_t id)
{
    store_key k;
    return put_u64(s, key_raw(&k, 'j', hm_hash_bytes(thumbprint)), id);
}

hm_err acme_record_account_unname(acme_store *s, const hm_hash *thumbprint)
{
    store_key k;
    return acme_store_del(s, key_raw(&k, 'j', hm_hash_bytes(thumbprint)));
}

// ---- orders -------------------------------------------------------------------------------------

hm_err acme_record_order_get(acme_store *s, uint64_t id, acme_order *out)
{
    store_key k;
    hm_bytes v;
    HM_TRY(acme_store_get(s, key_u64(&k, 'o', id), &v));
    hm_rd r = hm_rd_of(v);
    acme_order o = {.id = id};
    o.account = hm_rd_u64(&r);
    o.status = (acme_status)hm_rd_enum(&r, ACME_INVALID);
    o.created_ms = hm_rd_u64(&r);
    o.expires_ms = hm_rd_u64(&r);
    o.count = hm_rd_count(&r, TC_SERVER_NAMES_MAX, 13);
    for (uint32_t i = 0; i < o.count; i++) {
        read_name(&r, &o.names[i].id);
        o.names[i].authz = hm_rd_u64(&r);
    }
    hm_rd_copy(&r, o.serial.b, TC_SERIAL_BYTES);
    o.replaces = hm_rd_bool(&r);
    hm_rd_copy(&r, o.replaced.b, TC_SERIAL_BYTES);
    read_fault(&r, &o.fault);
    HM_TRY(finish(&r, "an order"));
    *out = o;
    return HM_OK;
}

hm_err acme_record_order_put(acme_store *s, const acme_order *o)
{
    store_key k;
    hm_buf b = {0};
    hm_wr_u64(&b, o->account);
    hm_wr_u8(&b, (uint8_t)o->status);
    hm_wr_u64(&b, o->created_ms);
    hm_wr_u64(&b, o->expires_ms);
    hm_wr_u32(&b, o->count);
    for (uint32_t i = 0; i < o->count; i++) {
        write_name(&b, &o->names[i].id);
        hm_wr_u64(&b, o->names[i].authz);
    }
    hm_wr_raw(&b, o->serial.b, TC_SERIAL_BYTES);
    hm_wr_bool(&b, o->replaces);
    hm_wr_raw(&b, o->replaced.b, TC_SERIAL_BYTES);
    write_fault(&b, &o->fault);
    HM_TRY(put(s, key_u64(&k, 'o', o->id), &b));
    HM_TRY(acme_store_put(s, key_pair(&k, 'O', o->account, o->id), (hm_bytes){0}));
    return acme_store_put(s, key_pair(&k, 'x', o->expires_ms, o->id), (hm_bytes){0});
}

hm_err acme_record_order_forget_expiry(acme_store *s, const acme_order *o)
{
    store_key k;
    return acme_store_del(s, key_pair(&k, 'x', o->expires_ms, o->id));
}

hm_err acme_record_order_del(acme_store *s, const acme_order *o)
{
    store_key k;
    for (uint32_t i = 0; i < o->count; i++) {
        HM_TRY(acme_store_del(s, key_u64(&k, 'z', o->names[i].authz)));
        HM_TRY(acme_store_del(s, key_u64(&k, 'p', o->names[i].authz)));
    }
    if (o->status == ACME_VALID)
        HM_TRY(acme_store_del(s, key_raw(&k, 'c', hm_bytes_of(o->serial.b, TC_SERIAL_BYTES))));
    HM_TRY(acme_store_del(s, key_u64(&k, 'k', o->id)));
    HM_TRY(acme_store_del(s, key_pair(&k, 'O', o->account, o->id)));
    HM_TRY(acme_record_order_forget_expiry(s, o));
    return acme_store_del(s, key_u64(&k, 'o', o->id));
}

// The number at the end of a key of two.
static hm_err second_of(hm_bytes key, uint64_t *first, uint64_t *second)
{
    hm_rd r = hm_rd_of(key);
    (void)hm_rd_u8(&r);
    uint64_t a = hm_rd_u64(&r), b = hm_rd_u64(&r);
    HM_TRY(finish(&r, "a key"));
    *first = a;
    *second = b;
    return HM_OK;
}

hm_err acme_record_order_next(acme_store *s, uint64_t account, uint64_t after, uint64_t *id)
{
    store_key k, p;
    hm_bytes key, value;
    uint64_t first;
    HM_TRY(acme_store_next(s, key_u64(&p, 'O', account), key_pair(&k, 'O', account, after), &key,
                           &value));
    return second_of(key, &first, id);
}

hm_err acme_record_order_expired(acme_store *s, uint64_t now_ms, uint64_t *id)
{
    hm_bytes key, value;
    uint64_t at_ms, order;
    HM_TRY(acme_store_next(s, hm_bytes_str("x"), hm_bytes_str("x"), &key, &value));
    HM_TRY(second_of(key, &at_ms, &order));
    if (at_ms > now_ms)
        return HM_E_NOTFOUND;
    *id = order;
    return HM_OK;
}

// ---- authorizations -----------------------------------------------------------------------------

hm_err acme_record_authz_get(acme_store *s, uint64_t id, acme_authz *out)
{
    store_key k;
    hm_bytes v;
    HM_TRY(acme_store_get(s, key_u64(&k, 'z', id), &v));
    hm_rd r = hm_rd_of(v);
    acme_authz z = {.id = id};
    z.account = hm_rd_u64(&r);
    z.order = hm_rd_u64(&r);
    z.status = (acme_status)hm_rd_enum(&r, ACME_EXPIRED);
    z.expires_ms = hm_rd_u64(&r);
    z.validated_ms = hm_rd_u64(&r);
    read_name(&r, &z.name);
    hm_rd_copy(&r, z.token, ACME_TOKEN_BYTES);
    z.chosen = (acme_challenge)hm_rd_enum(&r, ACME_NO_CHALLENGE);
    read_fault(&r, &z.fault);
    HM_TRY(finish(&r, "an authorization"));
    *out = z;
    return HM_OK;
}

hm_err acme_record_authz_put(acme_store *s, const acme_authz *z)
{
    store_key k;
    hm_buf b = {0};
    hm_wr_u64(&b, z->account);
    hm_wr_u64(&b, z->order);
    hm_wr_u8(&b, (uint8_t)z->status);
    hm_wr_u64(&b, z->expires_ms);
    hm_wr_u64(&b, z->validated_ms);
    write_name(&b, &z->name);
    hm_wr_raw(&b, z->token, ACME_TOKEN_BYTES);
    hm_wr_u8(&b, (uint8_t)z->chosen);
    write_fault(&b, &z->fault);
    HM_TRY(put(s, key_u64(&k, 'z', z->id), &b));
    return z->status == ACME_PROCESSING ? acme_store_put(s, key_u64(&k, 'p', z->id), (hm_bytes){0})
                                        : acme_store_del(s, key_u64(&k, 'p', z->id));
}

hm_err acme_record_authz_next(acme_store *s, uint64_t after, uint64_t *id)
{
    store_key k;
    hm_bytes key, value;
    HM_TRY(acme_store_next(s, hm_bytes_str("p"), key_u64(&k, 'p', after), &key, &value));
    hm_rd r = hm_rd_of(key);
    (void)hm_rd_u8(&r);
    uint64_t n = hm_rd_u64(&r);
    HM_TRY(finish(&r, "a key"));
    *id = n;
    return HM_OK;
}

static hm_bytes key_right(store_key *k, uint64_t account, const acme_identifier *name)
{
    (void)key_u64(k, 'v', account);
    hm_wr_u8(&k->b, (uint8_t)name->type);
    hm_wr_raw(&k->b, name->value, strlen(name->value));
    return hm_buf_bytes(&k->b);
}

hm_err acme_record_right_get(acme_store *s, uint64_t account, const acme_identifier *name,
                             uint64_t *until_ms)
{
    store_key k;
    hm_err err = get_u64(s, key_right(&k, account, name), until_ms);
    if (err == HM_E_NOTFOUND)
        *until_ms = 0;
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

hm_err acme_record_right_put(acme_store *s, uint64_t account, const acme_identifier *name,
                             uint64_t until_ms)
{
    store_key k;
    hm_bytes key = key_right(&k, account, name);
    return until_ms ? put_u64(s, key, until_ms) : acme_store_del(s, key);
}

// ---- certificates, keys of external accounts, numbers -------------------------------------------

hm_err acme_record_cert_get(acme_store *s, const tc_serial *serial, acme_cert *out)
{
    store_key k;
    hm_bytes v;
    HM_TRY(acme_store_get(s, key_raw(&k, 'c', hm_bytes_of(serial->b, TC_SERIAL_BYTES)), &v));
    hm_rd r = hm_rd_of(v);
    acme_cert c = {.account = hm_rd_u64(&r)};
    c.order = hm_rd_u64(&r);
    c.replaced = hm_rd_bool(&r);
    c.successor = hm_rd_u64(&r);
    HM_TRY(finish(&r, "a certificate's entry"));
    *out = c;
    return HM_OK;
}

hm_err acme_record_cert_put(acme_store *s, const tc_serial *serial, const acme_cert *c)
{
    store_key k;
    hm_buf b = {0};
    hm_wr_u64(&b, c->account);
    hm_wr_u64(&b, c->order);
    hm_wr_bool(&b, c->replaced);
    hm_wr_u64(&b, c->successor);
    return put(s, key_raw(&k, 'c', hm_bytes_of(serial->b, TC_SERIAL_BYTES)), &b);
}

hm_err acme_record_chain_get(acme_store *s, uint64_t order, hm_bytes *pem)
{
    store_key k;
    return acme_store_get(s, key_u64(&k, 'k', order), pem);
}

hm_err acme_record_chain_put(acme_store *s, uint64_t order, hm_bytes pem)
{
    store_key k;
    return acme_store_put(s, key_u64(&k, 'k', order), pem);
}

hm_err acme_record_eab_get(acme_store *s, hm_bytes id, acme_eab *out)
{
    store_key k;
    hm_bytes v;
    if (id.len != ACME_EAB_ID_CHARS)
        return HM_E_NOTFOUND;
    HM_TRY(acme_store_get(s, key_raw(&k, 'e', id), &v));
    hm_rd r = hm_rd_of(v);
    acme_eab e = {0};
    memcpy(e.id, id.ptr, id.len);
    hm_rd_copy(&r, e.secret, ACME_EAB_SECRET_BYTES);
    e.created_ms = hm_rd_u64(&r);
    e.account = hm_rd_u64(&r);
    HM_TRY(finish(&r, "a key of an external account"));
    *out = e;
    return HM_OK;
}

hm_err acme_record_eab_put(acme_store *s, const acme_eab *e)
{
    store_key k;
    hm_buf b = {0};
    hm_wr_raw(&b, e->secret, ACME_EAB_SECRET_BYTES);
    hm_wr_u64(&b, e->created_ms);
    hm_wr_u64(&b, e->account);
    return put(s, key_raw(&k, 'e', hm_bytes_str(e->id)), &b);
}

hm_err acme_record_number(acme_store *s, char kind, uint64_t *out)
{
    store_key k;
    uint64_t n = 0;
    hm_err err = get_u64(s, key_u64(&k, 's', (uint64_t)kind), &n);
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    HM_TRY(put_u64(s, key_u64(&k, 's', (uint64_t)kind), n + 1));
    *out = n + 1;
    return HM_OK;
}

hm_err acme_record_count(acme_store *s, char kind, int add, uint64_t *out)
{
    store_key k;
    uint64_t n = 0;
    hm_err err = get_u64(s, key_u64(&k, 'n', (uint64_t)kind), &n);
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    n = add < 0 && n < (uint64_t)-add ? 0 : n + (uint64_t)add;
    if (add)
        HM_TRY(put_u64(s, key_u64(&k, 'n', (uint64_t)kind), n));
    *out = n;
    return HM_OK;
}
