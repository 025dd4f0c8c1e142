// Transport parameters (RFC 9000, section 18; RFC 9221, section 3; RFC 9368, section 3;
// draft-ietf-quic-ack-frequency, section 3).
#ifndef HM_STOQ_TRANSPORT_PARAMS_H
#define HM_STOQ_TRANSPORT_PARAMS_H

#include <netinet/in.h>

#include "stoq/packet.h"

typedef struct stoq_transport_params {
    bool has_original_dcid, has_initial_scid, has_retry_scid, has_reset_token;
    bool disable_active_migration;
    bool has_min_ack_delay; // frames of ACK frequency are taken
    stoq_cid original_dcid, initial_scid, retry_scid;
    uint8_t reset_token[STOQ_RESET_TOKEN];
    // preferred_address: with its id, whose number is 1. Port 0: it has none of IPv6.
    bool has_preferred;
    struct sockaddr_in6 preferred_address;
    stoq_cid preferred_cid;
    uint8_t preferred_token[STOQ_RESET_TOKEN];
    uint64_t max_idle_timeout_ms; // 0: none
    uint64_t max_udp_payload_bytes;
    uint64_t max_datagram_frame_bytes; // with its type and length; 0: none is taken
    uint64_t max_data;
    uint64_t max_stream_data_bidi_local, max_stream_data_bidi_remote, max_stream_data_uni;
    uint64_t max_streams_bidi, max_streams_uni;
    uint64_t ack_delay_exponent;
    uint64_t max_ack_delay_ms;
    uint64_t min_ack_delay_us; // at most the other
    uint64_t active_cid_limit;
    // version_information, unless chosen_version is 0: which is in use, and which there are
    // besides. Of a peer's list are kept those that we speak and the chosen one, each once; 0 ends.
    uint32_t chosen_version;
    uint32_t available_versions[STOQ_MAX_VERSIONS + 1];
} stoq_transport_params;

#define STOQ_TRANSPORT_PARAMS_MAX 512 // bytes, of what we encode

// The values that hold when a parameter is absent.
void stoq_transport_params_default(stoq_transport_params *p);
// Appends the encoding; parameters that have their default are left out.
void stoq_transport_params_encode(const stoq_transport_params *p, hm_buf *out);
// Decodes what a peer sent; from_client refuses what only servers may send. Every error is a
// TRANSPORT_PARAMETER_ERROR on the wire; the detail line says which.
HM_CHECK hm_err stoq_transport_params_decode(hm_bytes in, bool from_client,
                                             stoq_transport_params *out);

#endif
