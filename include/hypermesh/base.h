// What every public header of HyperMesh needs: error codes, a view of bytes, a source of random
// bytes.
//
// A function that can fail returns hm_err and is marked HM_CHECK; outputs are untouched on failure.
// hm_err_detail() then says what was wrong, where, and what to do, where that is known.
#ifndef HYPERMESH_BASE_H
#define HYPERMESH_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#pragma GCC visibility push(default)

#define HM_CHECK __attribute__((warn_unused_result))

// clang-format off
#define HM_ERR_LIST(X)                                                                             \
    /* base: 1..99 */                                                                              \
    X(HM_E_NOMEM, 1, "out of memory")                                                              \
    X(HM_E_INVALID, 2, "invalid argument")                                                         \
    X(HM_E_RANGE, 3, "value out of range")                                                         \
    X(HM_E_TRUNCATED, 4, "message ends too early")                                                 \
    X(HM_E_TRAILING, 5, "bytes after the end of the message")                                      \
    X(HM_E_NONCANONICAL, 6, "not the one canonical encoding")                                      \
    X(HM_E_LIMIT, 7, "limit exceeded")                                                             \
    X(HM_E_IO, 8, "input/output error")                                                            \
    X(HM_E_NOTFOUND, 9, "not found")                                                               \
    X(HM_E_EXISTS, 10, "exists already")                                                           \
    X(HM_E_AGAIN, 11, "not now, try again")                                                        \
    X(HM_E_CLOSED, 12, "closed")                                                                   \
    X(HM_E_TIMEOUT, 13, "timed out")                                                               \
    X(HM_E_CONFIG, 14, "bad configuration")                                                        \
    X(HM_E_DENIED, 15, "not allowed")                                                              \
    X(HM_E_CORRUPT, 16, "stored data are damaged")                                                 \
    X(HM_E_PARSE, 17, "cannot be parsed")                                                          \
    X(HM_E_UNSUPPORTED, 18, "not supported")                                                       \
    X(HM_E_BUSY, 19, "busy")                                                                       \
    X(HM_E_INTERNAL, 20, "internal error")                                                         \
    X(HM_E_FULL, 21, "no space left")                                                              \
    /* crypto: 100..199 */                                                                         \
    X(HM_E_CRYPTO, 100, "cryptographic library error")                                             \
    X(HM_E_SIGNATURE, 101, "signature does not verify")                                            \
    X(HM_E_KEY, 102, "unusable key")                                                               \
    X(HM_E_UNSEAL, 103, "sealed data do not open")                                                 \
    /* stoq: 200..299 */                                                                           \
    X(HM_E_STOQ_TRANSPORT, 200, "QUIC transport error")                                            \
    X(HM_E_STOQ_TLS, 201, "TLS handshake failed")                                                  \
    X(HM_E_STOQ_RESET, 202, "stream reset by the peer")                                            \
    X(HM_E_STOQ_BLOCKED, 203, "flow control limit reached")                                        \
    X(HM_E_STOQ_DROPPED, 204, "packet dropped")                                                    \
    X(HM_E_STOQ_GROUP, 205, "no TLS group in common")                                              \
    X(HM_E_STOQ_ALPN, 206, "no application protocol in common")                                    \
    /* trustchain: 300..399 */                                                                     \
    X(HM_E_CERT_UNTRUSTED, 300, "certificate is not signed by a trusted root")                     \
    X(HM_E_CERT_EXPIRED, 301, "certificate is expired or not yet valid")                           \
    X(HM_E_CERT_REVOKED, 302, "certificate is revoked")                                            \
    X(HM_E_CERT_MISSING, 303, "no certificate was presented")                                      \
    X(HM_E_CERT_PROFILE, 304, "certificate is not of the required profile")                        \
    X(HM_E_CRL_STALE, 305, "revocation list is missing or out of date")                            \
    X(HM_E_CSR, 306, "certificate request refused")                                                \
    /* mesh, consensus: 400..449 */                                                                \
    X(HM_E_VOTE, 400, "invalid vote")                                                              \
    X(HM_E_QUORUM, 401, "certificate lacks a quorum")                                              \
    X(HM_E_PROPOSAL, 402, "invalid proposal")                                                      \
    X(HM_E_EQUIVOCATION, 403, "validator contradicted itself")                                     \
    /* mesh, ledger: 450..499 */                                                                   \
    X(HM_E_OP_CHAIN, 450, "operation is for another chain")                                        \
    X(HM_E_OP_MODULE, 451, "operation names an unknown module or kind")                            \
    X(HM_E_OP_NONCE, 452, "operation nonce was used or skips one")                                 \
    X(HM_E_OP_PAYLOAD, 453, "operation payload is malformed")                                      \
    X(HM_E_OP_STATE, 454, "operation is not legal in the asset's state")                           \
    X(HM_E_OP_RIGHT, 455, "owner lacks the right for this operation")                              \
    X(HM_E_BLOCK, 456, "invalid block")                                                            \
    X(HM_E_STATE_ROOT, 457, "state root does not match")                                           \
    X(HM_E_OP_DUPLICATE, 458, "operation is already in the ledger")                                \
    X(HM_E_OP_EXPIRED, 459, "operation is too old")                                                \
    /* mesh, proofs: 500..549 */                                                                   \
    X(HM_E_PROOF_SPACE, 500, "proof of space refused")                                             \
    X(HM_E_PROOF_STAKE, 501, "proof of stake refused")                                             \
    X(HM_E_PROOF_WORK, 502, "proof of work refused")                                               \
    X(HM_E_PROOF_TIME, 503, "proof of time refused")                                               \
    /* mesh, content: 550..599 */                                                                  \
    X(HM_E_CHUNK_HASH, 550, "content does not match its address")                                  \
    X(HM_E_CHUNK_REPLICAS, 551, "too few nodes hold the content")                                  \
    /* server and command line: 700..799 */                                                        \
    X(HM_E_HTTP, 700, "HTTP request failed")                                                       \
    X(HM_E_USAGE, 701, "wrong usage")                                                              \
    X(HM_E_UNREACHABLE, 702, "node cannot be reached")
// clang-format on

typedef enum hm_err {
    HM_OK = 0,
#define X(name, value, text) name = value,
    HM_ERR_LIST(X)
#undef X
} hm_err;

// The one line of text of a code; never NULL, static.
const char *hm_err_text(hm_err err);
// The symbol of a code without its prefix, as in "OP_NONCE"; static.
const char *hm_err_name(hm_err err);
// This thread's last detail line, or "". Valid until the next failure in the same thread.
const char *hm_err_detail(void);

// A borrowed run of bytes; whoever made it says how long it lives. ptr may be NULL when len is 0.
typedef struct hm_bytes {
    const uint8_t *ptr;
    size_t len;
} hm_bytes;

static inline hm_bytes hm_bytes_of(const void *ptr, size_t len)
{
    return (hm_bytes){(const uint8_t *)ptr, len};
}
static inline hm_bytes hm_bytes_str(const char *s)
{
    return hm_bytes_of(s, strlen(s));
}

// Random bytes behind an interface, so that a simulator can own them.
typedef struct hm_random {
    void (*fill)(void *ctx, void *out, size_t len); // cannot fail
    void *ctx;                                      // borrowed
} hm_random;

#define HM_TIME_NEVER UINT64_MAX // a time that does not come

#pragma GCC visibility pop

#endif
