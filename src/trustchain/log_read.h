// Reading a CT log that is anybody's: entries as data tiles have them, and the SCTs of certificates
// (RFC 6962; C2SP static-ct-api). Pure functions, any thread; what comes out is borrowed from the
// input unless it says otherwise.
#ifndef HM_TRUSTCHAIN_LOG_READ_H
#define HM_TRUSTCHAIN_LOG_READ_H

#include <openssl/x509.h>

#include "trustchain/log.h"
#include "trustchain/note.h"

#define TC_ENTRY_MAX 65536u  // bytes of an entry in a data tile, as far as we read
#define TC_TILE_PATH_MAX 48u // "tile/data/x001/x234/x567/067.p/255"
#define TC_SCTS_MAX 16u      // in a certificate

// ---- entries ------------------------------------------------------------------------------------

typedef struct tc_leaf {
    uint64_t time_ms;
    uint64_t index;           // of its extension leaf_index
    bool precert;             // then cert is a TBSCertificate, else a whole certificate
    hm_bytes issuer_key_hash; // of a precertificate
    hm_bytes cert;
    hm_bytes precert_der; // of a precertificate: as submitted, which the hash does not cover
    hm_bytes chain;       // fingerprints of issuers, HM_HASH_BYTES each
    hm_hash hash;         // of the leaf
} tc_leaf;

// Takes the next entry (TileLeaf) off a data tile. HM_E_PARSE.
HM_CHECK hm_err tc_leaf_next(hm_bytes *tile, tc_leaf *out);
// What the leaf's hash covers, as a certificate: of a precertificate it is without a signature.
// Owned by the caller. HM_E_PARSE.
HM_CHECK hm_err tc_leaf_cert(const tc_leaf *l, X509 **out);

// Where a tile is below a log's address: "tile/0/x001/067.p/12". level TC_TILE_DATA: of entries.
#define TC_TILE_DATA UINT32_MAX
void tc_tile_path(unsigned level, uint64_t index, unsigned width, char out[TC_TILE_PATH_MAX]);
// How many hashes the tile has in a tree of that size; 0: there is none.
unsigned tc_tile_width(unsigned level, uint64_t index, uint64_t size);

// ---- SCTs ---------------------------------------------------------------------------------------

typedef struct tc_sct {
    hm_hash log_id;
    uint64_t time_ms;
    bool has_index;
    uint64_t index;
    hm_bytes extensions; // CtExtensions, without their length
    hm_bytes signature;  // digitally-signed
} tc_sct;

// A SignedCertificateTimestampList with all its SCTs. HM_E_PARSE, HM_E_LIMIT.
HM_CHECK hm_err tc_sct_list(hm_bytes list, tc_sct out[TC_SCTS_MAX], size_t *count);

typedef struct tc_logged {
    uint64_t index, time_ms;
    hm_hash leaf; // the hash that the log must have at index
} tc_logged;

// The SCT of that log in a certificate, checked: the log signed it for this certificate of this
// issuer. HM_E_NOTFOUND (with a line) when it has none, HM_E_SIGNATURE, HM_E_PARSE.
HM_CHECK hm_err tc_cert_logged(const X509 *cert, const X509 *issuer, const tc_log_pub *k,
                               tc_logged *out);

#endif
