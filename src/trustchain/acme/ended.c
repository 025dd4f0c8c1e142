// Orders that have ended, between the authority's store and this one.
#include <stdlib.h>

#include "trustchain/acme/internal.h"

#define PREFIX "acme/"
#define KEY_BYTES (sizeof PREFIX - 1 + 8)

static hm_bytes key_of(uint64_t order, uint8_t mem[KEY_BYTES])
{
    hm_buf b = hm_buf_fixed(mem, KEY_BYTES);
    hm_buf_puts(&b, PREFIX);
    hm_wr_u64(&b, order);
    return hm_buf_bytes(&b);
}

static void drop(acme *a, acme_ended *e)
{
    hm_list_remove(&e->node);
    a->ended_count--;
    hm_buf_free(&e->chain);
    free(e);
}

void acme_ended_free(acme *a)
{
    hm_list_each(it, &a->ended) drop(a, hm_container_of(it, acme_ended, node));
}

// ---- with the authority -------------------------------------------------------------------------

typedef struct keeping {
    acme *a;
    acme_ended *e;
} keeping;

static hm_err keep(void *ctx, tc_authority *authority, const tc_issued *issued, hm_bytes chain_pem)
{
    const keeping *k = ctx;
    acme_ended *e = k->e;
    uint8_t key[KEY_BYTES];
    hm_buf b = {0};
    hm_err err;
    e->serial = issued->serial;
    e->not_after_ms = issued->not_after_ms;
    hm_wr_u64(&b, e->account);
    hm_wr_u64(&b, e->created_ms);
    hm_wr_raw(&b, e->serial.b, TC_SERIAL_BYTES);
    hm_wr_u64(&b, e->not_after_ms);
    hm_wr_bytes(&b, chain_pem);
    HM_TRY_OUT(hm_buf_status(&b));
    HM_TRY_OUT(tc_kept_put(authority, key_of(e->order, key), hm_buf_bytes(&b)));
    hm_list_each(it, &k->a->ended)
    {
        const acme_ended *old = hm_container_of(it, acme_ended, node);
        if (old->stored)
            HM_TRY_OUT(tc_kept_del(authority, key_of(old->order, key)));
    }
out:
    hm_buf_free(&b);
    return err;
}

hm_err acme_ended_issue(acme *a, acme_order *o, hm_bytes csr_pem, uint64_t now_ms, tc_issued *out)
{
    if (a->ended_count >= ACME_ENDED_MAX)
        HM_TRY(acme_ended_take(a));
    acme_ended *e = calloc(1, sizeof *e);
    if (!e)
        return HM_E_NOMEM;
    e->order = o->id;
    e->account = o->account;
    e->created_ms = o->created_ms;
    keeping k = {a, e};
    const tc_terms terms = {.beside = keep, .beside_ctx = &k};
    hm_err err = tc_issue(a->cfg.authority, TC_SERVER, csr_pem, &terms, now_ms, &e->chain, out);
    if (err != HM_OK) {
        hm_buf_free(&e->chain);
        free(e);
        return err;
    }
    hm_list_each(it, &a->ended)
    {
        acme_ended *old = hm_container_of(it, acme_ended, node);
        if (old->stored)
            drop(a, old);
    }
    hm_list_append(&a->ended, &e->node);
    a->ended_count++;
    acme_ended_apply(a, o);
    return HM_OK;
}

static hm_err load_one(acme *a, hm_bytes key, hm_bytes value)
{
    acme_ended *e = calloc(1, sizeof *e);
    if (!e)
        return HM_E_NOMEM;
    hm_list_append(&a->ended, &e->node);
    a->ended_count++;
    hm_rd k = hm_rd_of(hm_bytes_of(key.ptr + sizeof PREFIX - 1, key.len - (sizeof PREFIX - 1)));
    hm_rd r = hm_rd_of(value);
    e->order = hm_rd_u64(&k);
    e->account = hm_rd_u64(&r);
    e->created_ms = hm_rd_u64(&r);
    hm_rd_copy(&r, e->serial.b, TC_SERIAL_BYTES);
    e->not_after_ms = hm_rd_u64(&r);
    hm_buf_put(&e->chain, hm_rd_bytes(&r, ACME_CHAIN_MAX));
    if (hm_rd_end(&k) != HM_OK || hm_rd_end(&r) != HM_OK)
        return hm_fail(HM_E_CORRUPT, "the authority's store: the end of an ACME order is damaged");
    return hm_buf_status(&e->chain);
}

hm_err acme_ended_load(acme *a)
{
    hm_bytes key = hm_bytes_str(PREFIX), value;
    hm_err err;
    while ((err = tc_kept_next(a->cfg.authority, hm_bytes_str(PREFIX), key, &key, &value)) == HM_OK)
        HM_TRY(load_one(a, key, value));
    return err == HM_E_NOTFOUND ? acme_ended_take(a) : err;
}

// ---- in this store ------------------------------------------------------------------------------

// Not only the number: one store may have been put back from another day than the other.
static bool is_of(const acme_ended *e, const acme_order *o)
{
    return e->order == o->id && e->account == o->account && e->created_ms == o->created_ms;
}

static const acme_ended *find(const acme *a, const acme_order *o)
{
    hm_list_each(it, &a->ended)
    {
        const acme_ended *e = hm_container_of(it, acme_ended, node);
        if (is_of(e, o))
            return e;
    }
    return NULL;
}

static void apply(const acme_ended *e, acme_order *o)
{
    o->status = ACME_VALID;
    o->serial = e->serial;
    o->expires_ms = e->not_after_ms;
}

void acme_ended_apply(const acme *a, acme_order *o)
{
    const acme_ended *e = find(a, o);
    if (e)
        apply(e, o);
}

bool acme_ended_chain(const acme *a, const acme_order *o, hm_bytes *pem)
{
    const acme_ended *e = find(a, o);
    if (e)
        *pem = hm_buf_bytes(&e->chain);
    return e != NULL;
}

static hm_err take(acme *a, const acme_ended *e)
{
    acme_order o;
    const acme_cert cert = {.account = e->account, .order = e->order};
    hm_err err = acme_record_order_get(a->store, e->order, &o);
    if (err == HM_E_NOTFOUND || (err == HM_OK && (!is_of(e, &o) || o.status != ACME_PENDING)))
        return HM_OK;
    HM_TRY(err);
    HM_TRY(acme_record_order_forget_expiry(a->store, &o));
    apply(e, &o);
    HM_TRY(acme_record_order_put(a->store, &o));
    HM_TRY(acme_record_cert_put(a->store, &e->serial, &cert));
    return acme_record_chain_put(a->store, e->order, hm_buf_bytes(&e->chain));
}

hm_err acme_ended_take(acme *a)
{
    hm_list_each(it, &a->ended)
    {
        acme_ended *e = hm_container_of(it, acme_ended, node);
        if (!e->taken)
            HM_TRY(take(a, e));
        e->taken = true;
    }
    return HM_OK;
}

void acme_ended_committed(acme *a, bool good)
{
    hm_list_each(it, &a->ended)
    {
        acme_ended *e = hm_container_of(it, acme_ended, node);
        if (good)
            e->stored = e->taken;
        else
            e->taken = e->stored;
    }
}
