// What the store knows of certificates: records, look-ups, totals.
#include <ctype.h>
#include <stdio.h>

#include "trustchain/authority.h"

#define NAME_KEY_MAX 300u // longer names are found by search alone

static hm_bytes index_key(uint64_t index, uint8_t mem[8])
{
    hm_buf b = hm_buf_fixed(mem, 8);
    hm_wr_u64(&b, index);
    return hm_buf_bytes(&b);
}

static hm_bytes serial_bytes(const tc_serial *s)
{
    return hm_bytes_of(s->b, TC_SERIAL_BYTES);
}

// ---- totals, transactions -----------------------------------------------------------------------

hm_err authority_totals_load(tc_authority *a)
{
    hm_bytes value;
    hm_err err = tc_store_get(a->store, TC_STATE, hm_bytes_str("totals"), &value);
    if (err == HM_E_NOTFOUND)
        return HM_OK;
    HM_TRY(err);
    authority_totals t = {0};
    hm_rd r = hm_rd_of(value);
    for (int f = 0; f < 2; f++) {
        t.issued[f] = hm_rd_u64(&r);
        t.revoked[f] = hm_rd_u64(&r);
    }
    t.tree.size = hm_rd_u64(&r);
    if (t.tree.size >= TC_LOG_SIZE_MAX)
        hm_rd_refuse(&r, HM_E_CORRUPT);
    for (int i = 0; hm_rd_ok(&r) && i < __builtin_popcountll(t.tree.size); i++)
        hm_rd_copy(&r, t.tree.edge[i].b, HM_HASH_BYTES);
    if (hm_rd_end(&r) != HM_OK || t.issued[0] + t.issued[1] != t.tree.size)
        return hm_fail(HM_E_CORRUPT, "%s: the store's record of totals is damaged", a->dir);
    a->totals = t;
    return HM_OK;
}

static hm_err totals_put(tc_authority *a)
{
    const authority_totals *t = &a->next;
    uint8_t mem[sizeof *t];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    for (int f = 0; f < 2; f++) {
        hm_wr_u64(&b, t->issued[f]);
        hm_wr_u64(&b, t->revoked[f]);
    }
    hm_wr_u64(&b, t->tree.size);
    for (int i = 0; i < __builtin_popcountll(t->tree.size); i++)
        hm_wr_raw(&b, t->tree.edge[i].b, HM_HASH_BYTES);
    HM_TRY(hm_buf_status(&b));
    return tc_store_put(a->store, TC_STATE, hm_bytes_str("totals"), hm_buf_bytes(&b));
}

hm_err authority_begin(tc_authority *a)
{
    if (a->batch) {
        HM_TRY(tc_store_begin(a->store));
        a->before = a->next;
        a->in_step = true;
        return HM_OK;
    }
    HM_TRY(tc_store_begin(a->store));
    // From the store and not from memory, which a commit that failed may have left behind.
    hm_err err = authority_totals_load(a);
    if (err != HM_OK)
        tc_store_abort(a->store);
    a->next = a->totals;
    return err;
}

// What was committed is now so in memory too.
static void totals_publish(tc_authority *a)
{
    for (int f = 0; f < 2; f++)
        for (size_t i = 0; i < a->family[f].count; i++)
            a->family[f].issuing[i]->crl_dirty |= a->next.touched[a->family[f].issuing[i]->number];
    a->totals = a->next;
    memset(a->totals.touched, 0, sizeof a->totals.touched);
}

hm_err authority_commit(tc_authority *a)
{
    HM_TRY(totals_put(a));
    hm_err err = tc_store_commit(a->store);
    if (a->batch && err != HM_OK)
        a->next = a->before;
    if (a->batch)
        a->in_step = false;
    else if (err == HM_OK)
        totals_publish(a);
    return err;
}

void authority_abort(tc_authority *a)
{
    if (a->batch && !a->in_step)
        return;
    tc_store_abort(a->store);
    if (a->batch)
        a->next = a->before;
    a->in_step = false;
}

hm_err tc_batch_begin(tc_authority *a)
{
    hm_assert(!a->batch);
    HM_TRY(authority_begin(a));
    a->batch = true;
    return HM_OK;
}

hm_err tc_batch_commit(tc_authority *a)
{
    hm_assert(a->batch && !a->in_step);
    a->batch = false;
    HM_TRY(tc_store_commit(a->store)); // each step has put the totals
    totals_publish(a);
    return HM_OK;
}

// ---- records ------------------------------------------------------------------------------------

static hm_bytes name_key(const char *name, size_t len, uint64_t index,
                         uint8_t mem[NAME_KEY_MAX + 9])
{
    hm_buf b = hm_buf_fixed(mem, NAME_KEY_MAX + 9);
    for (size_t i = 0; i < len; i++)
        hm_wr_u8(&b, (uint8_t)tolower((unsigned char)name[i]));
    hm_wr_u8(&b, 0);
    hm_wr_u64(&b, index);
    return hm_buf_bytes(&b);
}

// A subject has its names with spaces between.
static hm_err put_names(tc_authority *a, const char *subject, uint64_t index)
{
    uint8_t mem[NAME_KEY_MAX + 9];
    while (*subject) {
        size_t len = strcspn(subject, " ");
        if (len > 0 && len <= NAME_KEY_MAX)
            HM_TRY(tc_store_put(a->store, TC_NAMES, name_key(subject, len, index, mem),
                                hm_bytes_of(NULL, 0)));
        subject += len + (subject[len] == ' ');
    }
    return HM_OK;
}

hm_err authority_record_issued(tc_authority *a, const tc_issued *info, hm_bytes der)
{
    uint8_t mem[8];
    hm_bytes taken;
    hm_buf b = {0};
    hm_err err = tc_store_get(a->store, TC_CERTS, serial_bytes(&info->serial), &taken);
    if (err != HM_E_NOTFOUND)
        return err == HM_OK ? hm_fail(HM_E_CORRUPT, "a serial would be used twice") : err;
    // Its entry in the log is there already.
    uint64_t index = a->next.tree.size - 1;
    hm_wr_u64(&b, index);
    hm_wr_u8(&b, info->issuing);
    hm_wr_bytes(&b, hm_bytes_str(info->subject));
    hm_wr_u64(&b, info->not_before_ms);
    hm_wr_u64(&b, info->not_after_ms);
    hm_wr_bytes(&b, der);
    HM_TRY_OUT(hm_buf_status(&b));
    HM_TRY_OUT(tc_store_put(a->store, TC_CERTS, serial_bytes(&info->serial), hm_buf_bytes(&b)));
    HM_TRY_OUT(
        tc_store_put(a->store, TC_ORDER, index_key(index, mem), serial_bytes(&info->serial)));
    HM_TRY_OUT(put_names(a, info->subject, index));
    a->next.issued[info->family]++;
out:
    hm_buf_free(&b);
    return err;
}

static hm_bytes revoked_key(uint8_t issuing, const tc_serial *serial,
                            uint8_t mem[1 + TC_SERIAL_BYTES])
{
    mem[0] = issuing;
    memcpy(mem + 1, serial->b, TC_SERIAL_BYTES);
    return hm_bytes_of(mem, 1 + TC_SERIAL_BYTES);
}

hm_err authority_record_revoked(tc_authority *a, const tc_issued *info, uint8_t reason,
                                uint64_t now_ms)
{
    uint8_t key[1 + TC_SERIAL_BYTES], mem[9];
    hm_buf b = hm_buf_fixed(mem, sizeof mem);
    hm_wr_u8(&b, reason);
    hm_wr_u64(&b, now_ms);
    HM_TRY(tc_store_put(a->store, TC_REVOKED, revoked_key(info->issuing, &info->serial, key),
                        hm_buf_bytes(&b)));
    a->next.revoked[info->family]++;
    a->next.touched[info->issuing] = true;
    return HM_OK;
}

// ---- what others keep ---------------------------------------------------------------------------

hm_err tc_kept_put(tc_authority *a, hm_bytes key, hm_bytes value)
{
    return tc_store_put(a->store, TC_KV, key, value);
}

hm_err tc_kept_del(tc_authority *a, hm_bytes key)
{
    return tc_store_del(a->store, TC_KV, key);
}

hm_err tc_kept_next(tc_authority *a, hm_bytes prefix, hm_bytes after, hm_bytes *key,
                    hm_bytes *value)
{
    return tc_store_next(a->store, TC_KV, prefix, after, key, value);
}

// ---- look-ups -----------------------------------------------------------------------------------

static hm_err revocation_read(hm_bytes value, tc_issued *info)
{
    hm_rd r = hm_rd_of(value);
    info->revoked = true;
    info->reason = hm_rd_enum(&r, TC_REASON_MAX);
    info->revoked_ms = hm_rd_u64(&r);
    return hm_rd_end(&r);
}

hm_err issued_record(tc_store *s, const tc_serial *serial, tc_issued *info, hm_bytes *der)
{
    hm_bytes value;
    hm_err err = tc_store_get(s, TC_CERTS, serial_bytes(serial), &value);
    if (err == HM_E_NOTFOUND)
        return hm_fail(err, "no certificate of this authority has that serial");
    HM_TRY(err);
    *info = (tc_issued){.serial = *serial};
    hm_rd r = hm_rd_of(value);
    (void)hm_rd_u64(&r); // where in the log
    info->issuing = hm_rd_u8(&r);
    info->family = issuing_family(info->issuing);
    hm_bytes subject = hm_rd_bytes(&r, sizeof info->subject - 1);
    info->not_before_ms = hm_rd_u64(&r);
    info->not_after_ms = hm_rd_u64(&r);
    hm_bytes cert = hm_rd_bytes(&r, TC_CERT_MAX);
    HM_TRY(hm_rd_end(&r));
    memcpy(info->subject, subject.ptr, subject.len);
    if (der)
        *der = cert;
    return HM_OK;
}

static hm_err record(const tc_authority *a, const tc_serial *serial, tc_issued *info, hm_bytes *der)
{
    uint8_t key[1 + TC_SERIAL_BYTES];
    hm_bytes value;
    HM_TRY(issued_record(a->store, serial, info, der));
    hm_err err =
        tc_store_get(a->store, TC_REVOKED, revoked_key(info->issuing, serial, key), &value);
    if (err == HM_OK)
        err = revocation_read(value, info);
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

hm_err authority_each_revoked(tc_authority *a, uint8_t issuing,
                              hm_err (*each)(void *ctx, const tc_issued *info), void *ctx)
{
    uint8_t at[1 + TC_SERIAL_BYTES];
    hm_bytes after = {0}, key, value;
    hm_err err;
    while ((err = tc_store_next(a->store, TC_REVOKED, hm_bytes_of(&issuing, 1), after, &key,
                                &value)) == HM_OK) {
        tc_issued info = {.family = issuing_family(issuing), .issuing = issuing};
        if (key.len != sizeof at)
            return hm_fail(HM_E_CORRUPT, "%s: a revocation in the store is damaged", a->dir);
        memcpy(at, key.ptr, sizeof at);
        memcpy(info.serial.b, at + 1, TC_SERIAL_BYTES);
        HM_TRY(revocation_read(value, &info));
        HM_TRY(each(ctx, &info));
        after = hm_bytes_of(at, sizeof at);
    }
    return err == HM_E_NOTFOUND ? HM_OK : err;
}

hm_err authority_serial(tc_authority *a, tc_serial *out)
{
    hm_bytes value;
    tc_serial s;
    hm_err err;
    do {
        hm_random_fill(&hm_random_system, s.b, sizeof s.b);
        s.b[0] = (s.b[0] & 0x7f) | 0x40;
        err = a ? tc_store_get(a->store, TC_CERTS, serial_bytes(&s), &value) : HM_E_NOTFOUND;
    } while (err == HM_OK);
    if (err != HM_E_NOTFOUND)
        return err;
    *out = s;
    return HM_OK;
}

size_t tc_issued_count(const tc_authority *a)
{
    return (size_t)a->totals.tree.size;
}

void tc_issued_totals(const tc_authority *a, uint64_t issued[2], uint64_t revoked[2])
{
    memcpy(issued, a->totals.issued, sizeof a->totals.issued);
    memcpy(revoked, a->totals.revoked, sizeof a->totals.revoked);
}

const tc_issued *tc_issued_at(const tc_authority *a, size_t index)
{
    uint8_t mem[8];
    hm_bytes value;
    tc_serial serial;
    if (tc_store_get(a->store, TC_ORDER, index_key(index, mem), &value) != HM_OK ||
        value.len != TC_SERIAL_BYTES)
        return NULL;
    memcpy(serial.b, value.ptr, TC_SERIAL_BYTES);
    return tc_issued_find(a, &serial);
}

const tc_issued *tc_issued_find(const tc_authority *a, const tc_serial *serial)
{
    tc_issued info = {0};
    if (record(a, serial, &info, NULL) != HM_OK)
        return NULL;
    *a->found = info;
    return a->found;
}

hm_err tc_issued_named(const tc_authority *a, const char *name, uint64_t before, uint64_t *index)
{
    uint8_t mem[NAME_KEY_MAX + 9];
    hm_bytes key, value;
    size_t len = strlen(name);
    if (len > NAME_KEY_MAX)
        return HM_E_NOTFOUND;
    hm_bytes at = name_key(name, len, before, mem);
    HM_TRY(tc_store_prev(a->store, TC_NAMES, hm_bytes_of(mem, len + 1), at, &key, &value));
    hm_rd r = hm_rd_of(hm_bytes_of(key.ptr + len + 1, key.len - len - 1));
    *index = hm_rd_u64(&r);
    return hm_rd_end(&r);
}

hm_err tc_issued_der(const tc_authority *a, const tc_serial *serial, hm_bytes *der)
{
    tc_issued info = {0};
    return record(a, serial, &info, der);
}

// ---- who issued it ------------------------------------------------------------------------------

static hm_bytes issuing_key(uint8_t number, uint8_t mem[9])
{
    memcpy(mem, "issuing/", 8);
    mem[8] = number;
    return hm_bytes_of(mem, 9);
}

// A store from before the mesh's issuing key could change has the edge family's alone.
static hm_bytes present_key(tc_family f)
{
    return hm_bytes_str(f == TC_EDGE ? "issuing" : "issuing-mesh");
}

hm_err issued_present(tc_store *s, tc_family f, uint8_t *number)
{
    hm_bytes value;
    hm_err err = tc_store_get(s, TC_STATE, present_key(f), &value);
    if (err == HM_OK && value.len != 1)
        return hm_fail(HM_E_CORRUPT, "the store's record of who issues is damaged");
    HM_TRY(err);
    *number = value.ptr[0];
    return HM_OK;
}

// Puts what is not there as it is; *changed then.
static hm_err state_put(tc_store *s, hm_bytes key, hm_bytes value, bool *changed)
{
    hm_bytes was;
    hm_err err = tc_store_get(s, TC_STATE, key, &was);
    if (err == HM_OK && hm_bytes_eq(was, value))
        return HM_OK;
    if (err != HM_OK && err != HM_E_NOTFOUND)
        return err;
    *changed = true;
    return tc_store_put(s, TC_STATE, key, value);
}

hm_err issued_present_put(tc_authority *a, tc_family f, const family_ca *now)
{
    uint8_t key[9];
    bool changed = false;
    hm_buf der = {0};
    hm_err err;
    HM_TRY(tc_store_begin(a->store));
    for (size_t i = 0; i < now->count; i++) {
        hm_buf_reset(&der);
        HM_TRY_OUT(x509_cert_der(now->issuing[i]->cert, &der));
        HM_TRY_OUT(state_put(a->store, issuing_key(now->issuing[i]->number, key),
                             hm_buf_bytes(&der), &changed));
    }
    HM_TRY_OUT(
        state_put(a->store, present_key(f), hm_bytes_of(&now->issuing[0]->number, 1), &changed));
    if (changed)
        err = tc_store_commit(a->store);
out:
    tc_store_abort(a->store); // after a commit nothing is left of it
    hm_buf_free(&der);
    return err;
}

hm_err tc_issued_issuing(const tc_authority *a, const tc_issued *i, hm_buf *der)
{
    uint8_t key[9];
    hm_bytes value;
    const issuing_ca *ca = authority_issuing_numbered(a, i->issuing);
    if (ca)
        return x509_cert_der(ca->cert, der);
    hm_err err = tc_store_get(a->store, TC_STATE, issuing_key(i->issuing, key), &value);
    if (err == HM_E_NOTFOUND)
        return hm_fail(HM_E_CORRUPT, "%s: the store lacks an issuing certificate", a->dir);
    HM_TRY(err);
    hm_buf_put(der, value);
    return hm_buf_status(der);
}

hm_err issued_each_live(tc_store *s, uint64_t now_ms,
                        hm_err (*each)(void *ctx, const tc_issued *info), void *ctx)
{
    uint8_t mem[8];
    hm_bytes at = index_key(TC_LOG_SIZE_MAX, mem), key, value;
    uint64_t life_max_ms = 0;
    hm_err err;
    for (unsigned p = 0; p < TC_PROFILES; p++)
        if (tc_profile_of((tc_profile)p)->life_max_s * UINT64_C(1000) > life_max_ms)
            life_max_ms = tc_profile_of((tc_profile)p)->life_max_s * UINT64_C(1000);
    while ((err = tc_store_prev(s, TC_ORDER, (hm_bytes){0}, at, &key, &value)) == HM_OK) {
        tc_serial serial;
        tc_issued info = {0};
        if (key.len != sizeof mem || value.len != TC_SERIAL_BYTES)
            return hm_fail(HM_E_CORRUPT, "the store's order of issue is damaged");
        memcpy(mem, key.ptr, sizeof mem);
        memcpy(serial.b, value.ptr, TC_SERIAL_BYTES);
        at = hm_bytes_of(mem, sizeof mem);
        HM_TRY(issued_record(s, &serial, &info, NULL));
        // A clock that was put back and forth may have mixed the order by as much as the life.
        if (info.not_before_ms + 2 * life_max_ms < now_ms)
            return HM_OK;
        if (info.not_after_ms >= now_ms)
            HM_TRY(each(ctx, &info));
    }
    return err == HM_E_NOTFOUND ? HM_OK : err;
}
