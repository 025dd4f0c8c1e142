// Logs of connections in qlog's sequential form, a file each (draft-ietf-quic-qlog-main-schema,
// -quic-events; JSON text sequences, RFC 7464). Texts of peers are escaped; keys and application
// data are not in it. Writing blocks: it is for finding out what happened, not for every day.
// When the disk is full or writing fails, the log ends with its last whole record, which is said
// once in the daemon's own log; nothing happens to the connection.
#ifndef HM_STOQ_QLOG_H
#define HM_STOQ_QLOG_H

#include "stoq/conn.h"

typedef struct stoq_qlog stoq_qlog;

#define STOQ_QLOG_FRAMES 64u // of a packet; more are left out

// A log in this folder, named after the client's first id, the side and the time. NULL: no memory.
// What the server did not begin to answer leaves no file.
stoq_qlog *stoq_qlog_begin(const char *dir, const stoq_conn *c);
// For the endpoint's hook; frees the log at STOQ_EVENT_END.
void stoq_qlog_event(stoq_qlog *q, const stoq_conn *c, const stoq_event *e);

#endif
