// Whom the mesh believes: the authorities whose certificates and revocation lists count. Module
// HM_MODULE_TRUST.
//
// The genesis names the first one, by its issuing certificate. Others come and go by the members:
//   PROPOSE   an issuing certificate (DER) for this mesh, under the root that the genesis pins
//             (tc_issuing_verify() has the rules), which lives as long as any that is in force. Its
//             proposer thereby approves of it.
//   APPROVE   the id of a proposal, which is that of the operation that made it
//   WITHDRAW  the id of an authority in force: proposes that it leave, or approves of that when it
//             is proposed already; or the id of the signer's own proposal, which ends it
//   FOREIGN   another organisation's root (DER), with a DNS zone, an IPv6 prefix or both
//             (trustchain/foreign.h has the rules): proposes that names there are believed when
//             that root vouches for them, and none of ours. APPROVE and WITHDRAW as above.
// All are system operations of members. Once those who approve have more than two thirds of the
// voting power, as finality asks for, what was proposed is done, in the block of the approval that
// made it so many, by the rules as they are then. A proposal ends HM_TRUST_OPEN_MS of block time
// after it was made.
//
// An authority is known by its key: the same key with a new certificate is the same authority, one
// revocation list at a time goes with it, and one that was withdrawn never comes back. It leaves
// when its certificate is over, too. Certificates of members under a withdrawn authority are
// revoked; so that the mesh goes on, more than two thirds of the power must stand on others by
// then.
//
// A foreign root is known by its key, too: a new certificate for the same key takes the place of
// the old one, with the zone and the prefix that were proposed with it. Zones and prefixes of two
// never meet, nor those of the mesh. It leaves by WITHDRAW, or when its certificate is over, and
// can be proposed again.
//
// A chain from before this module goes on with it: nothing is stored until the first proposal.
#ifndef HM_MESH_TRUST_MODULE_H
#define HM_MESH_TRUST_MODULE_H

#include "mesh/ledger.h"
#include "trustchain/foreign.h"

#define HM_TRUST_AUTHORITIES_MAX 8u          // in force at a time
#define HM_TRUST_FOREIGN_MAX 16u             // foreign roots in force at a time
#define HM_TRUST_OPEN_MAX 2u                 // open proposals of a member
#define HM_TRUST_OPEN_MS UINT64_C(604800000) // seven days
#define HM_TRUST_APPROVALS_BYTES ((HM_GENESIS_VALIDATORS_MAX + 7u) / 8u)

typedef enum hm_trust_op {
    HM_TRUST_PROPOSE = 1,
    HM_TRUST_APPROVE = 2,
    HM_TRUST_WITHDRAW = 3,
    HM_TRUST_FOREIGN = 4,
} hm_trust_op;

void hm_trust_propose_encode(hm_bytes cert, hm_buf *payload);
// HM_TRUST_FOREIGN; the scope is as of tc_scope_parse().
void hm_trust_foreign_encode(hm_bytes cert, const tc_scope *scope, hm_buf *payload);
// Of APPROVE and WITHDRAW.
void hm_trust_id_encode(const hm_hash *id, hm_buf *payload);

typedef struct hm_authority {
    hm_hash id;    // SHA-256 of its key's SubjectPublicKeyInfo
    hm_bytes cert; // DER; borrowed from the view
    uint64_t not_before_ms, not_after_ms;
    uint64_t since_height; // block that put this certificate in force; 0 = the genesis
    bool first;            // its key is that of the genesis' issuing certificate
} hm_authority;

// Those in force at a time, the genesis' first, the others in the order of their ids.
HM_CHECK hm_err hm_trust_authorities(const hm_view *v, uint64_t time_ms,
                                     hm_authority out[HM_TRUST_AUTHORITIES_MAX], uint32_t *count);
// The one of these with this key; out may be NULL. HM_E_NOTFOUND.
HM_CHECK hm_err hm_trust_authority(const hm_view *v, const hm_hash *id, uint64_t time_ms,
                                   hm_authority *out);

// Is the leaf a member's certificate by one of the authorities in force, and not in the list of
// revocations that the ledger has of that one? authority may be NULL. Errors as
// tc_node_cert_verify(); who is a member is for the caller to see.
HM_CHECK hm_err hm_trust_node_cert(const hm_view *v, hm_bytes leaf, uint64_t time_ms,
                                   tc_node_cert *out, hm_authority *authority);
// The same by an authority that the ledger does not know, which it may only not know yet: the
// issuing certificate that came with the leaf is one that could be proposed, and was not withdrawn.
// So a member that was away while the authority changed can go to the others and hear of it.
HM_CHECK hm_err hm_trust_node_cert_by(const hm_view *v, hm_bytes leaf, hm_bytes issuing,
                                      uint64_t time_ms, tc_node_cert *out);
// Whose revocation list is it, of those in force? Errors as tc_crl_verify().
HM_CHECK hm_err hm_trust_crl(const hm_view *v, hm_bytes crl, uint64_t time_ms, tc_crl_info *out,
                             hm_authority *authority);

typedef struct hm_foreign {
    hm_hash id;    // SHA-256 of its key's SubjectPublicKeyInfo
    hm_bytes cert; // DER; borrowed from the view
    tc_scope scope;
    uint64_t not_before_ms, not_after_ms;
    uint64_t since_height; // block that put this certificate in force
} hm_foreign;

// Those in force at a time, in the order of their ids.
HM_CHECK hm_err hm_trust_foreigns(const hm_view *v, uint64_t time_ms,
                                  hm_foreign out[HM_TRUST_FOREIGN_MAX], uint32_t *count);
// The one of these with this key; out may be NULL. HM_E_NOTFOUND.
HM_CHECK hm_err hm_trust_foreign(const hm_view *v, const hm_hash *id, uint64_t time_ms,
                                 hm_foreign *out);

typedef enum hm_trust_what {
    HM_TRUST_ADD = 1, // an authority, or a new certificate of one
    HM_TRUST_LEAVE = 2,
    HM_TRUST_FOREIGN_ADD = 3, // a foreign root, or another certificate, zone or prefix of one
    HM_TRUST_FOREIGN_LEAVE = 4,
} hm_trust_what;

typedef struct hm_proposal {
    hm_hash id; // of the operation
    hm_trust_what what;
    hm_hash authority; // or foreign root
    hm_bytes cert;     // of ADD and FOREIGN_ADD: DER, borrowed from the view
    tc_scope scope;    // of FOREIGN_ADD
    uint32_t proposer; // a member
    uint64_t height, ends_ms;
    uint8_t approvals[HM_TRUST_APPROVALS_BYTES]; // a bit for each member, from the lowest
} hm_proposal;

// HM_E_NOTFOUND; also when its time is over.
HM_CHECK hm_err hm_trust_proposal(const hm_view *v, const hm_hash *id, uint64_t time_ms,
                                  hm_proposal *out);
// The next open one in the order of ids; after: zero for the first. HM_E_NOTFOUND at the end.
HM_CHECK hm_err hm_trust_proposal_next(const hm_view *v, const hm_hash *after, uint64_t time_ms,
                                       hm_proposal *out);
bool hm_proposal_has(const hm_proposal *p, uint32_t member);
// The power of the members who approve and still have their stake, and of all.
HM_CHECK hm_err hm_proposal_power(const hm_view *v, const hm_proposal *p, uint64_t *power,
                                  uint64_t *total);

#endif
