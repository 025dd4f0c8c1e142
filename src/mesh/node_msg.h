// Messages between nodes: their bytes, both ways. Pure.
//
// On a stream each is u32 length of what follows, u8 type, body. Two bidirectional streams a
// connection, opened by the side that connects: the first carries what agreement waits for, the
// second the rest.
#ifndef HM_MESH_NODE_MSG_H
#define HM_MESH_NODE_MSG_H

#include "mesh/content.h"
#include "mesh/simplex.h"

typedef enum node_lane { LANE_FAST, LANE_BULK, LANES } node_lane;

typedef enum node_msg {
    MSG_STATUS = 1,   // fast: u64 height, hash state root
    MSG_CONSENSUS,    // fast: as Simplex wrote it
    MSG_OPS,          // fast: list of operations
    MSG_BLOCKS_GET,   // bulk: u64 from, u64 to
    MSG_BLOCK,        // bulk: u64 height, bytes block, bytes certificate
    MSG_CHUNK_PUT,    // bulk: u64 request, bool manifest, hash, bytes
    MSG_CHUNK_STORED, // bulk: u64 request, bool ok
    MSG_CHUNK_GET,    // bulk: u64 request, bool manifest, hash, hash asset, u32 index
    MSG_CHUNK,        // bulk: u64 request, bool found, bytes
    MSG_HAVE_GET,     // bulk: bool manifests, list of hashes
    MSG_HAVE,         // bulk: bool manifests, list of the hashes that are missing
    MSG_WHERE_GET,    // bulk: u64 request, list of hashes of chunks
    MSG_WHERE,        // bulk: u64 request, a list of bools: which of them are stored
} node_msg;

#define MSG_BYTES_MAX (HM_SIMPLEX_MESSAGE_MAX + HM_SIMPLEX_CERT_MAX + 1024u)
#define MSG_OPS_MAX 256u
#define MSG_HASHES_MAX 1024u

typedef struct node_message {
    node_msg type;
    uint64_t height, to_height; // STATUS, BLOCK; BLOCKS_GET: first and last
    uint64_t request;           // CHUNK..., WHERE...
    hm_hash hash;               // STATUS: state root; CHUNK_PUT, CHUNK_GET: address
    hm_hash asset;              // CHUNK_GET: whose content it is read as a part of
    uint32_t index;             // CHUNK_GET: of the chunk in that content
    bool manifest;              // CHUNK_PUT, CHUNK_GET, HAVE...: of manifests, not of chunks
    bool ok;                    // CHUNK_STORED: it is; CHUNK: it was found
    hm_bytes bytes;             // CONSENSUS; BLOCK: the block; CHUNK_PUT, CHUNK: the content
    hm_bytes cert;              // BLOCK
    uint32_t count;             // OPS, HAVE..., WHERE...
    hm_bytes list; // OPS: operations as byte strings; HAVE..., WHERE_GET: hashes; WHERE: bools
} node_message;

// Takes the message at the start of what came: *used bytes, 0 when it is not whole yet. HM_E_LIMIT
// for a length that no message has.
HM_CHECK hm_err node_msg_frame(hm_bytes in, size_t *used, uint8_t *type, hm_bytes *body);
// Reads a body; byte strings point into it. The codec's errors, HM_E_RANGE (BLOCKS_GET),
// HM_E_UNSUPPORTED (type).
HM_CHECK hm_err node_msg_read(uint8_t type, hm_bytes body, node_message *out);
// Appends the body; or length, type and body.
void node_msg_write(const node_message *m, hm_buf *body);
void node_msg_write_framed(const node_message *m, hm_buf *out);
// Takes the next operation off the list of OPS; false at the end.
bool node_msg_next_op(node_message *m, hm_bytes *op);
// Hash i of HAVE_GET, HAVE or WHERE_GET.
hm_hash node_msg_hash(const node_message *m, uint32_t i);

#endif
