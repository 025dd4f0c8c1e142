// Frames of a bundle (include/hypermesh/stoq_bundle.h): on the one stream of each connection, one
// after another. All of one type have one length, but for the bytes of a piece that follow its
// header. docs/stoq.md has the table.
#ifndef HM_STOQ_BUNDLE_FRAME_H
#define HM_STOQ_BUNDLE_FRAME_H

#include "base/bytes.h"

#define BUNDLE_VERSION 1u
#define BUNDLE_ID 16u
#define BUNDLE_PROOF 32u
#define BUNDLE_FRAME_MAX 51u
#define BUNDLE_OFFSET_MAX (UINT64_C(1) << 62)
#define BUNDLE_PIECE_HEAD 11u

typedef enum bundle_type {
    BUNDLE_OPEN = 1,
    BUNDLE_JOIN,
    BUNDLE_OPENED,
    BUNDLE_JOINED,
    BUNDLE_PIECE,
    BUNDLE_TAKEN,
    BUNDLE_ALLOW,
    BUNDLE_END,
    BUNDLE_GONE,
    BUNDLE_TAKEN_OF,
} bundle_type;

typedef struct bundle_frame {
    bundle_type type;
    uint8_t version, index;
    uint16_t len;   // of a piece: bytes that follow
    uint64_t value; // offset of a piece; window, limit, final size; a count of pieces
    uint8_t id[BUNDLE_ID], proof[BUNDLE_PROOF];
} bundle_frame;

// The frame at the start of the bytes, and its length. HM_E_AGAIN: more bytes are needed;
// HM_E_PARSE: it is none.
HM_CHECK hm_err bundle_frame_parse(hm_bytes in, bundle_frame *out, size_t *used);
// Returns the length.
size_t bundle_frame_write(const bundle_frame *f, uint8_t out[BUNDLE_FRAME_MAX]);

#endif
