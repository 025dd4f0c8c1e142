// Members on the ledger: validators with their bonded stake and power, certificates, revocations,
// and evidence against those who contradicted themselves. Module HM_MODULE_NODE.
//
// All operations are system operations:
//   CERT      the signer's new certificate (DER, for the signer's key, by an authority in force:
//             trust_module.h); it may stand on this very certificate, so that one can be renewed
//             after its end too
//   CRL       the revocation list of an authority in force (DER); its number must grow
//   EVIDENCE  bytes that prove that a validator contradicted itself: its stake is gone at once, so
//             that it can own no operation
// A validator's voting power is the stake it had in the genesis.
#ifndef HM_MESH_NODE_MODULE_H
#define HM_MESH_NODE_MODULE_H

#include "mesh/ledger.h"
#include "mesh/trust_module.h"

#define HM_CRL_DER_MAX 60000u
#define HM_EVIDENCE_MAX 60000u

typedef enum hm_node_op {
    HM_NODE_CERT = 1,
    HM_NODE_CRL = 2,
    HM_NODE_EVIDENCE = 3,
} hm_node_op;

// The payload of each is its bytes as they are, behind a u32 length.
void hm_node_payload_encode(hm_bytes content, hm_buf *payload);
// The hash of the certificate that a CERT operation's payload brings. HM_E_OP_PAYLOAD.
HM_CHECK hm_err hm_node_payload_cert(hm_bytes payload, hm_hash *hash);

typedef struct hm_member {
    uint32_t index; // in the genesis' order
    hm_node_id id;
    hm_bytes public_key;     // raw; borrowed from the view
    uint64_t stake;          // bonded now
    uint64_t power;          // voting power
    uint64_t slashed_height; // block with the evidence; 0 = never
    hm_hash cert;            // the newest certificate's hash
} hm_member;

HM_CHECK hm_err hm_member_count(const hm_view *v, uint32_t *count);
HM_CHECK hm_err hm_member_at(const hm_view *v, uint32_t index, hm_member *out);
HM_CHECK hm_err hm_member_find(const hm_view *v, const hm_node_id *id, hm_member *out);

typedef struct hm_member_cert {
    hm_hash hash; // SHA-256 of the DER
    hm_node_id node;
    hm_bytes serial; // big endian without leading zeros; borrowed from the view
    uint64_t not_before_ms, not_after_ms;
    bool revoked;
} hm_member_cert;
HM_CHECK hm_err hm_member_cert_find(const hm_view *v, const hm_hash *hash, hm_member_cert *out);
// The DER of a certificate that the ledger holds. Borrowed.
HM_CHECK hm_err hm_member_cert_der(const hm_view *v, const hm_hash *hash, hm_bytes *der);

// An authority's newest revocation list: number 0 and no bytes when none was published yet.
// Borrowed.
HM_CHECK hm_err hm_node_crl(const hm_view *v, const hm_authority *a, uint64_t *number,
                            hm_bytes *der);

// ---- for the trust module -----------------------------------------------------------------------

// Without the zeros before it, as lists have it. Borrowed.
hm_bytes hm_serial_trimmed(const tc_serial *serial);
HM_CHECK hm_err hm_node_crl_forget(hm_view *v, const hm_authority *a);
// The voting power of members whose newest certificate is in force, not revoked and of another
// authority than this one, and of all members.
HM_CHECK hm_err hm_member_power_apart(const hm_view *v, const hm_authority *a, uint64_t time_ms,
                                      uint64_t *power, uint64_t *total);
// Revokes every certificate of the ledger that is of this authority.
HM_CHECK hm_err hm_member_certs_withdraw(hm_view *v, const hm_authority *a);

#endif
