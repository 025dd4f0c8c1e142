// Checkpoints of transparency logs as signed notes (C2SP signed-note, tlog-checkpoint), the
// signature of a CT log on them (static-ct-api) and those of witnesses (tlog-cosignature, Ed25519).
//
// Pure functions, any thread. What comes out of parsing is borrowed from the note.
#ifndef HM_TRUSTCHAIN_NOTE_H
#define HM_TRUSTCHAIN_NOTE_H

#include "crypto/crypto.h"

#define TC_NOTE_MAX 32768u         // bytes of a note
#define TC_NOTE_SIGNATURES_MAX 64u // lines
#define TC_NOTE_NAME_MAX 255u      // bytes of a key's name, of a log's origin
#define TC_NOTE_BLOB_MAX 6144u     // of a signature, with its key's id
#define TC_NOTE_KEY_ID_BYTES 4u

// ---- text ---------------------------------------------------------------------------------------

void tc_base64_put(hm_buf *out, hm_bytes data);
// Standard base64 with its padding, one text for each value (RFC 4648, 3.5); appended. HM_E_PARSE.
HM_CHECK hm_err tc_base64_read(hm_bytes text, hm_buf *out);
// A decimal without zeros in front. HM_E_PARSE.
HM_CHECK hm_err tc_decimal_read(hm_bytes text, uint64_t *out);
// Takes the next line off, without its newline. False when there is no newline.
bool tc_line_next(hm_bytes *rest, hm_bytes *line);

// ---- checkpoints --------------------------------------------------------------------------------

typedef struct tc_checkpoint {
    hm_bytes origin;
    uint64_t size;
    hm_hash root;
    hm_bytes text;       // what signatures cover: the three lines
    hm_bytes signatures; // lines
} tc_checkpoint;

// HM_E_PARSE, HM_E_LIMIT. Extension lines are refused, as static-ct-api has it: its signature does
// not cover them. No signature is looked at.
HM_CHECK hm_err tc_checkpoint_parse(hm_bytes note, tc_checkpoint *out);

// ---- the log's key ------------------------------------------------------------------------------

typedef struct tc_log_pub {
    EVP_PKEY *key; // owned, ECDSA P-256
    hm_hash id;    // RFC 6962, 3.2
} tc_log_pub;

// SubjectPublicKeyInfo in PEM. HM_E_PARSE, HM_E_KEY.
HM_CHECK hm_err tc_log_pub_read(hm_bytes pem, tc_log_pub *out);
void tc_log_pub_free(tc_log_pub *k); // a zeroed one is fine
hm_hash tc_log_id_of(EVP_PKEY *key);
// A digitally-signed of ECDSA with SHA-256 (RFC 5246, 4.7) over covered. HM_E_SIGNATURE.
HM_CHECK hm_err tc_log_signature_verify(const tc_log_pub *k, hm_bytes covered, hm_bytes digitally);

// What a log's signature on a tree covers: TreeHeadSignature (RFC 6962, 3.5).
void tc_tree_head_put(hm_buf *b, uint64_t time_ms, uint64_t size, const hm_hash *root);
// The id of the key that a log of that origin signs notes with: static-ct-api.
void tc_log_note_key_id(hm_bytes origin, const hm_hash *log_id, uint8_t id[TC_NOTE_KEY_ID_BYTES]);
// Did the log sign it, and for what time? HM_E_SIGNATURE.
HM_CHECK hm_err tc_checkpoint_verify(const tc_checkpoint *c, const tc_log_pub *k,
                                     uint64_t *time_ms);
// The log's signature line, with its newline; empty: none.
hm_bytes tc_checkpoint_log_line(const tc_checkpoint *c, const tc_log_pub *k);

// ---- witnesses ----------------------------------------------------------------------------------

typedef struct tc_witness_key {
    char name[TC_NOTE_NAME_MAX + 1];
    uint8_t pub[32]; // Ed25519
    uint8_t id[TC_NOTE_KEY_ID_BYTES];
} tc_witness_key;

// HM_E_INVALID when it cannot be a name, HM_E_KEY when key is not Ed25519.
HM_CHECK hm_err tc_witness_key_of(const char *name, const EVP_PKEY *key, tc_witness_key *out);
// "name+id+key", as signed-note calls it a vkey. HM_E_PARSE.
HM_CHECK hm_err tc_witness_key_parse(hm_bytes vkey, tc_witness_key *out);
void tc_witness_key_put(const tc_witness_key *k, hm_buf *vkey);

// HM_E_NOTFOUND when it did not cosign, HM_E_SIGNATURE when a line with its name and id is not its.
HM_CHECK hm_err tc_cosignature_verify(const tc_checkpoint *c, const tc_witness_key *k,
                                      uint64_t *time_s);
// Its signature line, with its newline; empty: none.
hm_bytes tc_cosignature_line(const tc_checkpoint *c, const tc_witness_key *k);
// A signature line for the checkpoint's text; appended. key is the private half of k.
HM_CHECK hm_err tc_cosignature_make(EVP_PKEY *key, const tc_witness_key *k, hm_bytes text,
                                    uint64_t time_s, hm_buf *line);

#endif
