// What happens to a connection, as the engine tells it to whoever keeps a log (qlog.h). Everything
// is borrowed for the call; what else is of interest stands in the connection.
#ifndef HM_STOQ_EVENT_H
#define HM_STOQ_EVENT_H

#include "stoq/transport_params.h"

typedef enum stoq_event_type {
    STOQ_EVENT_STARTED,
    STOQ_EVENT_OPEN,     // version, ALPN, cipher are agreed on
    STOQ_EVENT_PARAMS,   // params, local
    STOQ_EVENT_SENT,     // packet, number, length, frames, dcid, scid, probe
    STOQ_EVENT_RECEIVED, // the same
    STOQ_EVENT_DROPPED,  // packet, length, why
    STOQ_EVENT_LOST,     // packet, number, probe, why
    STOQ_EVENT_METRICS,  // of recovery and congestion control may have changed
    STOQ_EVENT_KEYS,     // packet of which they are, local (those of sending), phase, why
    STOQ_EVENT_MTU,      // length
    STOQ_EVENT_CLOSED,   // local
    STOQ_EVENT_END,      // the connection is freed: the last one
} stoq_event_type;

typedef struct stoq_event {
    stoq_event_type type;
    bool local; // of this side
    bool probe; // of the path: its loss says nothing of congestion
    stoq_packet_type packet;
    uint64_t number, phase;
    size_t length;   // of the whole packet
    hm_bytes frames; // plain; the data of the last one may be missing
    const stoq_cid *dcid, *scid;
    const char *why; // qlog's word
    const stoq_transport_params *params;
} stoq_event;

#endif
