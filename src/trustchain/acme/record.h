// Private to acme/: what stands in the store, in the canonical codec, and under which keys.
//
//   a + account            account           j + thumbprint       its account
//   o + order              order             O + account + order  an account's orders (empty)
//   z + authorization      authorization     p + authorization    to be validated (empty)
//   c + serial             whose certificate x + expiry + order   when it goes (empty)
//   e + key id             external account key                   v + account + identifier
//   k + order              chain in PEM                           until when it is authorized (u64)
//   s + kind               how many were made (the last number)   n + kind: how many there are
#ifndef HM_TRUSTCHAIN_ACME_RECORD_H
#define HM_TRUSTCHAIN_ACME_RECORD_H

#include "trustchain/acme/acme.h"
#include "trustchain/acme/jose.h"
#include "trustchain/acme/store.h"

#define ACME_CONTACTS_MAX 4u
#define ACME_CONTACT_MAX 255u
#define ACME_TOKEN_BYTES 24u
#define ACME_DETAIL_MAX 255u
#define ACME_CHAIN_MAX 65536u
#define ACME_EAB_SECRET_BYTES 32u

typedef enum acme_status {
    ACME_PENDING,
    ACME_READY,
    ACME_PROCESSING,
    ACME_VALID,
    ACME_INVALID,
    ACME_DEACTIVATED,
    ACME_EXPIRED,
} acme_status;

typedef struct acme_account {
    uint64_t id;
    bool active; // else deactivated
    uint64_t created_ms;
    char jwk[JOSE_JWK_MAX + 1];
    char eab[ACME_EAB_ID_CHARS + 1]; // "": none
    uint32_t contact_count;
    char contacts[ACME_CONTACTS_MAX][ACME_CONTACT_MAX + 1];
} acme_account;

typedef struct acme_fault { // of a challenge or an order
    acme_error type;        // ACME_OK: none
    char detail[ACME_DETAIL_MAX + 1];
} acme_fault;

typedef struct acme_order {
    uint64_t id, account;
    acme_status status; // stored: pending, valid, invalid
    uint64_t created_ms, expires_ms;
    uint32_t count;
    struct {
        acme_identifier id;
        uint64_t authz;
    } names[TC_SERVER_NAMES_MAX];
    tc_serial serial; // of a valid one
    bool replaces;
    tc_serial replaced;
    acme_fault fault;
} acme_order;

typedef struct acme_authz {
    uint64_t id, account, order;
    acme_status status; // stored: pending, processing, valid, invalid, deactivated
    uint64_t expires_ms, validated_ms;
    acme_identifier name;
    uint8_t token[ACME_TOKEN_BYTES];
    acme_challenge chosen; // once it is no longer pending; ACME_NO_CHALLENGE
    acme_fault fault;
} acme_authz;

typedef struct acme_cert { // whose it is
    uint64_t account, order;
    bool replaced; // an order that replaces it was begun and may still succeed, or did
    uint64_t successor;
} acme_cert;

typedef struct acme_eab {
    char id[ACME_EAB_ID_CHARS + 1];
    uint8_t secret[ACME_EAB_SECRET_BYTES];
    uint64_t created_ms;
    uint64_t account; // 0: not used yet
} acme_eab;

// get: HM_E_NOTFOUND, HM_E_CORRUPT.
HM_CHECK hm_err acme_record_account_get(acme_store *s, uint64_t id, acme_account *out);
HM_CHECK hm_err acme_record_account_put(acme_store *s, const acme_account *a);
HM_CHECK hm_err acme_record_account_find(acme_store *s, const hm_hash *thumbprint, uint64_t *id);
HM_CHECK hm_err acme_record_account_name(acme_store *s, const hm_hash *thumbprint, uint64_t id);
HM_CHECK hm_err acme_record_account_unname(acme_store *s, const hm_hash *thumbprint);

// put also keeps the index of the account's orders and that of expiry; a changed expiry needs
// acme_record_order_forget_expiry() before.
HM_CHECK hm_err acme_record_order_get(acme_store *s, uint64_t id, acme_order *out);
HM_CHECK hm_err acme_record_order_put(acme_store *s, const acme_order *o);
HM_CHECK hm_err acme_record_order_forget_expiry(acme_store *s, const acme_order *o);
// With all that belongs to it.
HM_CHECK hm_err acme_record_order_del(acme_store *s, const acme_order *o);
// The account's next order after that one (0 first), and the next that expires at or before now.
HM_CHECK hm_err acme_record_order_next(acme_store *s, uint64_t account, uint64_t after,
                                       uint64_t *id);
HM_CHECK hm_err acme_record_order_expired(acme_store *s, uint64_t now_ms, uint64_t *id);

HM_CHECK hm_err acme_record_authz_get(acme_store *s, uint64_t id, acme_authz *out);
HM_CHECK hm_err acme_record_authz_put(acme_store *s, const acme_authz *z);
// The next authorization after that one (0 first) that is being validated.
HM_CHECK hm_err acme_record_authz_next(acme_store *s, uint64_t after, uint64_t *id);
// Until when an account has shown that it controls a name; 0: it has not.
HM_CHECK hm_err acme_record_right_get(acme_store *s, uint64_t account, const acme_identifier *name,
                                      uint64_t *until_ms);
HM_CHECK hm_err acme_record_right_put(acme_store *s, uint64_t account, const acme_identifier *name,
                                      uint64_t until_ms);

HM_CHECK hm_err acme_record_cert_get(acme_store *s, const tc_serial *serial, acme_cert *out);
HM_CHECK hm_err acme_record_cert_put(acme_store *s, const tc_serial *serial, const acme_cert *c);
HM_CHECK hm_err acme_record_chain_get(acme_store *s, uint64_t order, hm_bytes *pem);
HM_CHECK hm_err acme_record_chain_put(acme_store *s, uint64_t order, hm_bytes pem);

HM_CHECK hm_err acme_record_eab_get(acme_store *s, hm_bytes id, acme_eab *out);
HM_CHECK hm_err acme_record_eab_put(acme_store *s, const acme_eab *e);

// The next number of a kind ('a', 'o', 'z'), from 1; and how many there are, after adding.
HM_CHECK hm_err acme_record_number(acme_store *s, char kind, uint64_t *out);
HM_CHECK hm_err acme_record_count(acme_store *s, char kind, int add, uint64_t *out);

#endif
