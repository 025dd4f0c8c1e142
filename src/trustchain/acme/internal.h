// Private to acme/: one request on its way through the core.
#ifndef HM_TRUSTCHAIN_ACME_INTERNAL_H
#define HM_TRUSTCHAIN_ACME_INTERNAL_H

#include "base/list.h"
#include "trustchain/acme/acme.h"
#include "trustchain/acme/jose.h"
#include "trustchain/acme/record.h"

#define ACME_HOUR_MS UINT64_C(3600000)
#define ACME_WINDOWS_MAX 65536u // accounts and addresses whose rates are told apart

typedef struct acme_window { // of a rate
    uint64_t began_ms;
    uint32_t count;
} acme_window;

struct acme {
    acme_config cfg;
    acme_store *store;   // owned
    hm_list ended;       // of acme_ended, owned
    size_t ended_count;  // of those
    uint64_t orders_new; // the first that is not committed; 0: all are
    // Nonces: a counter and its keyed hash. A nonce is good once, and while it is among the newest.
    uint64_t nonce_seed[2], nonce_next;
    uint8_t *nonce_used; // ACME_NONCES bits, owned
    hm_map windows;      // kind and key -> acme_window, owned
    acme_window crowd;   // of those who are not told apart
    uint64_t swept_ms;   // when the ended of them were last let go
    acme_task *tasks;    // owned ring of ACME_VALIDATIONS_MAX
    uint32_t task_first, task_count;
    uint32_t task_committed; // of those, the older ones: they stay when a commit fails
    uint32_t validating;     // handed out, not done yet
    bool spoilt;             // the transaction must not be committed
};

typedef struct acme_call {
    acme *a;
    const acme_request *rq;
    acme_answer *out;
    jose_jws jws;
    yyjson_doc *payload;  // NULL: empty, POST-as-GET
    jose_jwk key;         // that signed
    acme_account account; // id 0: signed with a key alone
    acme_error error;
    char detail[ACME_DETAIL_MAX + 1];
} acme_call;

// Makes the answer a problem and returns e.
acme_error acme_fail(acme_call *c, acme_error e, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
// The same from an error of ours: what the client cannot change is serverInternal.
acme_error acme_fail_err(acme_call *c, hm_err err);
#define ACME_TRY(expr)                                                                             \
    do {                                                                                           \
        acme_error acme_try_err_ = (expr);                                                         \
        if (acme_try_err_ != ACME_OK)                                                              \
            return acme_try_err_;                                                                  \
    } while (0)
#define ACME_TRY_HM(c, expr)                                                                       \
    do {                                                                                           \
        hm_err acme_try_hm_ = (expr);                                                              \
        if (acme_try_hm_ != HM_OK)                                                                 \
            return acme_fail_err(c, acme_try_hm_);                                                 \
    } while (0)

// The answer: a status and a JSON document, which is freed.
acme_error acme_reply(acme_call *c, unsigned status, yyjson_mut_doc *doc);
// A member that is an URL of ours, from a format behind base and ACME_PATH.
void acme_put_url(acme_call *c, yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                  const char *fmt, ...) __attribute__((format(printf, 5, 6)));
void acme_put_time(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name, uint64_t ms);
void acme_put_fault(yyjson_mut_doc *doc, yyjson_mut_val *object, const char *name,
                    const acme_fault *f);
void acme_location(acme_call *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *acme_status_word(acme_status s);

// The resource's number in rq->id, which belongs to the account of the call.
acme_error acme_id(acme_call *c, uint64_t *out);
// The payload's member as text; NULL when it is missing. ACME_MALFORMED for another type.
acme_error acme_payload_text(acme_call *c, const char *name, const char **out);
acme_error acme_no_payload(acme_call *c);   // must be POST-as-GET
acme_error acme_need_payload(acme_call *c); // must not
// One more of a kind in this hour? ACME_RATE_LIMITED otherwise.
acme_error acme_rate(acme_call *c, char kind, const void *key8, uint32_t most, const char *what);

// auth.c: who asks. Fills jws, key, account and payload.
acme_error acme_authenticate(acme_call *c);
acme_error acme_eab_check(acme_call *c, yyjson_val *binding, acme_eab *out);
void acme_nonce_make(acme *a, char out[32]);
bool acme_nonce_take(acme *a, hm_bytes nonce);
// The number behind base/acme/account/, of any base; 0: it is none.
uint64_t acme_account_of_url(hm_bytes url);

// account.c
acme_error acme_op_new_account(acme_call *c);
acme_error acme_op_account(acme_call *c);
acme_error acme_op_key_change(acme_call *c);
acme_error acme_op_orders(acme_call *c);

// order.c
acme_error acme_op_new_order(acme_call *c);
acme_error acme_op_order(acme_call *c);
acme_error acme_order_find(acme_call *c, acme_order *out);
// What its authorizations make of an order.
acme_error acme_order_status(acme_call *c, const acme_order *o, acme_status *out);
acme_error acme_order_reply(acme_call *c, unsigned status, const acme_order *o);
acme_error acme_identifier_read(acme_call *c, yyjson_val *v, acme_identifier *out);

// authz.c
acme_error acme_op_authorization(acme_call *c);
acme_error acme_op_challenge(acme_call *c);
acme_error acme_challenge_reply(acme_call *c, const acme_authz *z, acme_challenge type);
hm_err acme_task_push(acme *a, const acme_authz *z, const hm_hash *thumbprint);

// ended.c: orders that have their certificate. That is written with it, in the authority's own
// transaction, which is all that the answer waits for; this store takes it in later, with the next
// change that it commits anyway.
#define ACME_ENDED_MAX 64u // more are taken in at once

typedef struct acme_ended {
    hm_list node;
    uint64_t order, account, created_ms;
    tc_serial serial;
    uint64_t not_after_ms;
    hm_buf chain;
    bool taken;  // in: this store's transaction has it
    bool stored; // that was committed; the authority's copy goes with the next certificate
} acme_ended;

// What stands with the authority, and takes it in; at the start.
hm_err acme_ended_load(acme *a);
void acme_ended_free(acme *a);
// A certificate for the order, which is valid then.
hm_err acme_ended_issue(acme *a, acme_order *o, hm_bytes csr_pem, uint64_t now_ms, tc_issued *out);
// Makes of an order from the store what it is since.
void acme_ended_apply(const acme *a, acme_order *o);
bool acme_ended_chain(const acme *a, const acme_order *o, hm_bytes *pem);
hm_err acme_ended_take(acme *a);
// The transaction of acme_ended_take() ended.
void acme_ended_committed(acme *a, bool good);

// finalize.c
acme_error acme_op_finalize(acme_call *c);
acme_error acme_op_certificate(acme_call *c);
// revoke.c
acme_error acme_op_revoke(acme_call *c);
acme_error acme_op_renewal_info(acme_call *c);
// The serial in a certificate's name of RFC 9773, 4.1, if it is one of this authority's edge.
acme_error acme_ari_serial(acme_call *c, const char *id, tc_serial *out);

#endif
