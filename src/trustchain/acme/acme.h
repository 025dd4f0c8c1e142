// The server's side of ACME (RFC 8555) over the authority's edge family, with IP identifiers
// (RFC 8738), tls-alpn-01 (RFC 8737), renewal information (RFC 9773) and external account binding.
// docs/acme.md says what clients see.
//
// A core without I/O of its own but for its store: signed requests and times go in, answers and
// validations to be made come out. Life of a request:
//   acme_handle(a, &request, &answer)    any number of them
//   acme_commit(a)                       then the answers may leave; if it fails, none may
//   acme_next_task(a, &task)             what is to be validated since; its result comes back with
//   acme_task_done(a, ...)               which is a change as well, for the next acme_commit()
// An answer is made for every request, refusals are answers (RFC 7807, RFC 8555, 6.7).
//
// Limits: JOSE_JWS_MAX a request, TC_SERVER_NAMES_MAX names an order, accounts and orders an hour
// (acme_config), ACME_ACCOUNTS_MAX and ACME_ORDERS_MAX in all, ACME_VALIDATIONS_MAX validations at
// a time, the last ACME_NONCES nonces. Orders that are not finished within a day go, finished ones
// when their certificate has ended. One thread.
#ifndef HM_TRUSTCHAIN_ACME_H
#define HM_TRUSTCHAIN_ACME_H

#include "trustchain/trustchain.h"

#define ACME_NAME_MAX 253u
#define ACME_EAB_ID_CHARS 22u
#define ACME_NONCES (1u << 20)
#define ACME_VALIDATIONS_MAX 1024u
#define ACME_ACCOUNTS_MAX 1000000u
#define ACME_ORDERS_MAX 20000000u
#define ACME_EABS_MAX 1000000u
#define ACME_ORDER_MS UINT64_C(86400000) // life of an order that is not finished, and of a right
#define ACME_PAGE_MAX 100u               // orders in a page of the list
#define ACME_URL_MAX 512u
#define ACME_KEY_AUTH_MAX 96u
#define ACME_PATH "/acme/"

// RFC 8555, 6.7, and RFC 9773, 7.4: those that this server gives. The order is that of the records.
#define ACME_ERROR_LIST(X)                                                                         \
    X(ACME_OK, "", 200)                                                                            \
    X(ACME_ACCOUNT_DOES_NOT_EXIST, "accountDoesNotExist", 400)                                     \
    X(ACME_ALREADY_REPLACED, "alreadyReplaced", 409)                                               \
    X(ACME_ALREADY_REVOKED, "alreadyRevoked", 400)                                                 \
    X(ACME_BAD_CSR, "badCSR", 400)                                                                 \
    X(ACME_BAD_NONCE, "badNonce", 400)                                                             \
    X(ACME_BAD_PUBLIC_KEY, "badPublicKey", 400)                                                    \
    X(ACME_BAD_REVOCATION_REASON, "badRevocationReason", 400)                                      \
    X(ACME_BAD_SIGNATURE_ALGORITHM, "badSignatureAlgorithm", 400)                                  \
    X(ACME_CONNECTION, "connection", 400)                                                          \
    X(ACME_DNS_FAULT, "dns", 400)                                                                  \
    X(ACME_EXTERNAL_ACCOUNT_REQUIRED, "externalAccountRequired", 403)                              \
    X(ACME_INVALID_CONTACT, "invalidContact", 400)                                                 \
    X(ACME_MALFORMED, "malformed", 400)                                                            \
    X(ACME_ORDER_NOT_READY, "orderNotReady", 403)                                                  \
    X(ACME_RATE_LIMITED, "rateLimited", 429)                                                       \
    X(ACME_REJECTED_IDENTIFIER, "rejectedIdentifier", 400)                                         \
    X(ACME_SERVER_INTERNAL, "serverInternal", 500)                                                 \
    X(ACME_TLS, "tls", 400)                                                                        \
    X(ACME_UNAUTHORIZED, "unauthorized", 403)                                                      \
    X(ACME_UNSUPPORTED_CONTACT, "unsupportedContact", 400)                                         \
    X(ACME_UNSUPPORTED_IDENTIFIER, "unsupportedIdentifier", 400)

typedef enum acme_error {
#define X(symbol, word, status) symbol,
    ACME_ERROR_LIST(X)
#undef X
        ACME_ERRORS
} acme_error;

// The word behind urn:ietf:params:acme:error:
const char *acme_error_word(acme_error e);

typedef enum acme_identifier_type {
    ACME_DNS,
    ACME_IP, // IPv6
} acme_identifier_type;

typedef struct acme_identifier {
    acme_identifier_type type;
    char value[ACME_NAME_MAX + 1]; // lower case; an address as RFC 5952 writes it
} acme_identifier;

typedef enum acme_challenge {
    ACME_HTTP_01,
    ACME_DNS_01,
    ACME_TLS_ALPN_01,
    ACME_NO_CHALLENGE,
} acme_challenge;

typedef enum acme_op {
    ACME_OP_DIRECTORY,
    ACME_OP_NEW_NONCE,
    ACME_OP_NEW_ACCOUNT,
    ACME_OP_NEW_ORDER,
    ACME_OP_REVOKE,
    ACME_OP_KEY_CHANGE,
    ACME_OP_ACCOUNT,
    ACME_OP_ORDERS,
    ACME_OP_ORDER,
    ACME_OP_FINALIZE,
    ACME_OP_CERTIFICATE,
    ACME_OP_AUTHORIZATION,
    ACME_OP_CHALLENGE,
    ACME_OP_RENEWAL_INFO,
} acme_op;

typedef struct acme_request { // all borrowed
    acme_op op;
    const char *id;           // of the resource, as it stands in the path; "" where there is none
    const char *sub;          // of a challenge, its type
    const char *base;         // "https://host:port" as the client wrote it
    const char *path;         // with the query, as it was asked for
    const char *content_type; // "" for none
    hm_bytes body;
    uint8_t client[8]; // the /64 that it comes from
    uint64_t cursor;   // of ACME_OP_ORDERS
    uint64_t now_ms;
} acme_request;

typedef struct acme_answer {
    unsigned status;
    const char *content_type; // NULL: no body
    hm_buf body;              // owned by the answer
    char nonce[32];           // Replay-Nonce; "": none
    char location[ACME_URL_MAX];
    char link[2][ACME_URL_MAX]; // Link, "" for none
    uint32_t retry_after_s;     // 0: none
    acme_error error;           // ACME_OK: it is no refusal
    uint64_t deciding;    // a challenge's: its authorization, which is being validated; else 0
    bool issued, revoked; // certificate says which
    tc_issued certificate;
} acme_answer;
void acme_answer_free(acme_answer *out);

typedef struct acme_config {
    const char *dir;         // of the store; made when missing
    tc_authority *authority; // borrowed
    bool eab_required;
    bool dns_01;               // there is a resolver to ask, so that challenge is offered
    uint32_t accounts_an_hour; // that one /64 may make; 0: any number
    uint32_t orders_an_hour;   // that one account may begin; 0: any number
    uint64_t now_ms;
} acme_config;

typedef struct acme acme;

// Validations that were under way when the server ended are tasks again.
HM_CHECK hm_err acme_open(const acme_config *cfg, acme **out);
void acme_close(acme *a); // NULL is fine
// Never fails: what goes wrong is in the answer. Free it with acme_answer_free().
void acme_handle(acme *a, const acme_request *rq, acme_answer *out);
// Durable when it gives HM_OK; otherwise no change since the commit before is there, but for
// certificates, which are the authority's, and the answers must not leave.
HM_CHECK hm_err acme_commit(acme *a);
// An answer about a challenge that is being validated may wait for the end of that, before the
// commit that has it: true when it has ended, and the answer says how since. Then, or when it has
// waited long enough, it may leave like any other.
bool acme_answer_decided(acme *a, const acme_request *rq, acme_answer *out);
// The answer to give when acme_commit() failed.
void acme_answer_failed(acme *a, const acme_request *rq, acme_answer *out);

typedef struct acme_task {
    uint64_t authorization;
    acme_challenge challenge;
    acme_identifier name;
    char token[40];
    char key_auth[ACME_KEY_AUTH_MAX]; // RFC 8555, 8.1
} acme_task;
// The next validation to be made, oldest first; false: none. It may begin before the request for it
// is committed: if it never is, or the authorization is another then, which has another token, the
// result changes nothing.
bool acme_next_task(acme *a, acme_task *out);
// ACME_OK: the client controls the name. What the other errors are about stands in the detail.
HM_CHECK hm_err acme_task_done(acme *a, uint64_t authorization, const char *token, acme_error error,
                               const char *detail, uint64_t now_ms);
// Lets go of what has ended, up to `most` orders.
HM_CHECK hm_err acme_sweep(acme *a, uint64_t now_ms, size_t most);

// A fresh key for external account binding, in base64url; it is good for one account. dir is the
// store's, which a running server may have open. HM_E_LIMIT.
typedef struct acme_eab_key {
    char id[ACME_EAB_ID_CHARS + 1];
    char secret[44];
} acme_eab_key;
HM_CHECK hm_err acme_eab_make(const char *dir, uint64_t now_ms, acme_eab_key *out);

// ---- what a validation must see: pure, any thread -----------------------------------------------

// The value of a TXT record of _acme-challenge.NAME (RFC 8555, 8.4); 43 characters.
void acme_dns_value(const char *key_auth, char out[44]);
// Is this body the key authorization, with white space behind it at most (RFC 8555, 8.3)?
bool acme_http_body_is(hm_bytes body, const char *key_auth);
// Is this the certificate of RFC 8737, 3: self-signed, for that name alone, with the digest of the
// key authorization in a critical acmeIdentifier? HM_E_CERT_PROFILE says what is wrong.
HM_CHECK hm_err acme_alpn_check(hm_bytes cert_der, const acme_identifier *name,
                                const char *key_auth);
// The name to ask for by SNI: a DNS name itself, for an address its name in ip6.arpa (RFC 8738, 6).
void acme_alpn_sni(const acme_identifier *name, char out[ACME_NAME_MAX + 1]);
// May a server be asked at that address at all? Not this machine itself, no link, no group.
bool acme_address_ok(const uint8_t addr[16]);

#endif
