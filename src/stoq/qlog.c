#include "stoq/qlog.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "stoq/endpoint.h"

#define FLUSH_BYTES 16384u
#define EVENTS_SCHEMA "urn:ietf:params:qlog:events:quic-12"
#define MS(us) (unsigned long long)((us) / 1000), (unsigned long long)((us) % 1000)
#define ULL(v) (unsigned long long)(v)

struct stoq_qlog {
    char *path;  // owned
    hm_buf out;  // records that wait to be written
    off_t whole; // bytes of the file
    bool failed;
    uint64_t begin_us;
    // told last
    const char *state;
    uint64_t cwnd, in_flight, rtt_us, pto_count;
    uint32_t mtu;
};

// ---- the file -----------------------------------------------------------------------------------

static void end_log(stoq_qlog *q, const char *what, int error)
{
    char quoted[300];
    q->failed = true;
    hm_buf_free(&q->out);
    hm_log(HM_LOG_WARN, "stoq", "a qlog ends here", "file=%s cause=\"%s: %s\"",
           hm_log_quote(quoted, sizeof quoted, hm_bytes_str(q->path)), what, strerror(error));
}

static void flush(stoq_qlog *q)
{
    // Opened each time, so that logs hold no descriptors.
    int fd = open(q->path, O_WRONLY | O_APPEND | O_CLOEXEC | (q->whole == 0 ? O_CREAT | O_EXCL : 0),
                  0640);
    if (fd < 0) {
        end_log(q, "open", errno);
        return;
    }
    for (size_t at = 0; at < q->out.len;) {
        ssize_t n = write(fd, q->out.ptr + at, q->out.len - at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int error = errno;
            // A record that is cut off would be taken for damage.
            if (ftruncate(fd, q->whole) != 0)
                error = errno;
            end_log(q, "write", error);
            break;
        }
        at += (size_t)n;
    }
    close(fd);
    if (q->failed)
        return;
    q->whole += (off_t)q->out.len;
    hm_buf_reset(&q->out);
}

// ---- values -------------------------------------------------------------------------------------

// Printable ASCII as it is; any other byte as the character of its number, so that all are seen and
// none has a meaning.
static void put_text(hm_buf *b, hm_bytes text)
{
    hm_buf_puts(b, "\"");
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\')
            hm_buf_printf(b, "\\u%04x", c);
        else
            hm_buf_append(b, &c, 1);
    }
    hm_buf_puts(b, "\"");
}

static void put_hex(hm_buf *b, const uint8_t *ptr, size_t len)
{
    hm_buf_puts(b, "\"");
    for (size_t i = 0; i < len; i++)
        hm_buf_printf(b, "%02x", ptr[i]);
    hm_buf_puts(b, "\"");
}

static void put_cid(hm_buf *b, const char *name, const stoq_cid *cid)
{
    hm_buf_printf(b, "\"%s\":", name);
    put_hex(b, cid->id, cid->len);
}

static void put_endpoint(hm_buf *b, const char *name, const struct sockaddr_in6 *a)
{
    char text[INET6_ADDRSTRLEN] = "";
    (void)inet_ntop(AF_INET6, &a->sin6_addr, text, sizeof text);
    hm_buf_printf(b, "\"%s\":{\"ip_v6\":\"%s\",\"port_v6\":%u}", name, text, ntohs(a->sin6_port));
}

static const char *packet_name(stoq_packet_type t)
{
    static const char *const names[] = {
        [STOQ_PACKET_INITIAL] = "initial",     [STOQ_PACKET_0RTT] = "0RTT",
        [STOQ_PACKET_HANDSHAKE] = "handshake", [STOQ_PACKET_RETRY] = "retry",
        [STOQ_PACKET_1RTT] = "1RTT",           [STOQ_PACKET_VERSION] = "version_negotiation",
    };
    return names[t];
}

// ---- frames -------------------------------------------------------------------------------------

static void put_error(hm_buf *b, const char *name, bool app, uint64_t code)
{
    static const char *const names[] = {"no_error",
                                        "internal_error",
                                        "connection_refused",
                                        "flow_control_error",
                                        "stream_limit_error",
                                        "stream_state_error",
                                        "final_size_error",
                                        "frame_encoding_error",
                                        "transport_parameter_error",
                                        "connection_id_limit_error",
                                        "protocol_violation",
                                        "invalid_token",
                                        "application_error",
                                        "crypto_buffer_exceeded",
                                        "key_update_error",
                                        "aead_limit_reached",
                                        "no_viable_path"};
    if (!app && code < sizeof names / sizeof names[0])
        hm_buf_printf(b, "\"%s\":\"%s\"", name, names[code]);
    else if (!app && code >= STOQ_CRYPTO_ERROR && code < STOQ_CRYPTO_ERROR + 256)
        hm_buf_printf(b, "\"%s\":\"crypto_error_0x%03llx\"", name, ULL(code));
    else
        hm_buf_printf(b, "\"%s\":\"unknown\",\"error_code\":%llu", name, ULL(code));
}

static void put_ack(hm_buf *b, const stoq_conn *c, const stoq_frame *f)
{
    uint64_t lo, hi,
        us = f->ack_delay < 1u << 30 ? f->ack_delay << c->theirs.ack_delay_exponent : 0;
    hm_buf_printf(b, "\"ack\",\"ack_delay\":%llu.%03llu,\"acked_ranges\":", MS(us));
    stoq_ack_walk w = stoq_ack_walk_of(f);
    for (char before = '['; stoq_ack_next(&w, &lo, &hi); before = ',') {
        hm_buf_printf(b, "%c[%llu", before, ULL(lo));
        hm_buf_printf(b, hi > lo ? ",%llu]" : "]", ULL(hi));
    }
    hm_buf_puts(b, "]");
    if (f->type == STOQ_FRAME_ACK_ECN)
        hm_buf_printf(b, ",\"ect0\":%llu,\"ect1\":%llu,\"ce\":%llu", ULL(f->ecn[0]), ULL(f->ecn[1]),
                      ULL(f->ecn[2]));
}

static void put_close(hm_buf *b, const stoq_frame *f)
{
    bool app = f->type == STOQ_FRAME_CLOSE_APP;
    hm_buf_printf(b, "\"connection_close\",\"error_space\":\"%s\",",
                  app ? "application" : "transport");
    put_error(b, "error", app, f->code);
    hm_buf_puts(b, ",\"reason\":");
    put_text(b, f->data);
}

static void put_frame(hm_buf *b, const stoq_conn *c, const stoq_frame *f, size_t bytes)
{
    hm_buf_puts(b, "{\"frame_type\":");
    switch (f->type) {
    case STOQ_FRAME_PADDING:
        hm_buf_printf(b, "\"padding\",\"raw\":{\"length\":%zu}", bytes);
        break;
    case STOQ_FRAME_PING:
        hm_buf_puts(b, "\"ping\"");
        break;
    case STOQ_FRAME_ACK:
    case STOQ_FRAME_ACK_ECN:
        put_ack(b, c, f);
        break;
    case STOQ_FRAME_RESET_STREAM:
        hm_buf_printf(b, "\"reset_stream\",\"stream_id\":%llu,\"final_size\":%llu,",
                      ULL(f->stream_id), ULL(f->value));
        put_error(b, "error", true, f->code);
        break;
    case STOQ_FRAME_STOP_SENDING:
        hm_buf_printf(b, "\"stop_sending\",\"stream_id\":%llu,", ULL(f->stream_id));
        put_error(b, "error", true, f->code);
        break;
    case STOQ_FRAME_CRYPTO:
        hm_buf_printf(b, "\"crypto\",\"offset\":%llu,\"raw\":{\"length\":%zu}", ULL(f->offset),
                      f->data.len);
        break;
    case STOQ_FRAME_NEW_TOKEN:
        hm_buf_printf(b, "\"new_token\",\"token\":{\"raw\":{\"length\":%zu}}", f->data.len);
        break;
    case STOQ_FRAME_STREAM:
        hm_buf_printf(b, "\"stream\",\"stream_id\":%llu,\"offset\":%llu,\"raw\":{\"length\":%zu}%s",
                      ULL(f->stream_id), ULL(f->offset), f->data.len,
                      f->fin ? ",\"fin\":true" : "");
        break;
    case STOQ_FRAME_MAX_DATA:
        hm_buf_printf(b, "\"max_data\",\"maximum\":%llu", ULL(f->value));
        break;
    case STOQ_FRAME_MAX_STREAM_DATA:
        hm_buf_printf(b, "\"max_stream_data\",\"stream_id\":%llu,\"maximum\":%llu",
                      ULL(f->stream_id), ULL(f->value));
        break;
    case STOQ_FRAME_MAX_STREAMS_BIDI:
    case STOQ_FRAME_MAX_STREAMS_UNI:
        hm_buf_printf(b, "\"max_streams\",\"stream_type\":\"%sdirectional\",\"maximum\":%llu",
                      f->type == STOQ_FRAME_MAX_STREAMS_UNI ? "uni" : "bi", ULL(f->value));
        break;
    case STOQ_FRAME_DATA_BLOCKED:
        hm_buf_printf(b, "\"data_blocked\",\"limit\":%llu", ULL(f->value));
        break;
    case STOQ_FRAME_STREAM_DATA_BLOCKED:
        hm_buf_printf(b, "\"stream_data_blocked\",\"stream_id\":%llu,\"limit\":%llu",
                      ULL(f->stream_id), ULL(f->value));
        break;
    case STOQ_FRAME_STREAMS_BLOCKED_BIDI:
    case STOQ_FRAME_STREAMS_BLOCKED_UNI:
        hm_buf_printf(b, "\"streams_blocked\",\"stream_type\":\"%sdirectional\",\"limit\":%llu",
                      f->type == STOQ_FRAME_STREAMS_BLOCKED_UNI ? "uni" : "bi", ULL(f->value));
        break;
    case STOQ_FRAME_NEW_CONNECTION_ID:
        hm_buf_printf(b, "\"new_connection_id\",\"sequence_number\":%llu,\"retire_prior_to\":%llu,",
                      ULL(f->stream_id), ULL(f->offset));
        put_cid(b, "connection_id", &f->cid);
        break;
    case STOQ_FRAME_RETIRE_CONNECTION_ID:
        hm_buf_printf(b, "\"retire_connection_id\",\"sequence_number\":%llu", ULL(f->stream_id));
        break;
    case STOQ_FRAME_PATH_CHALLENGE:
    case STOQ_FRAME_PATH_RESPONSE:
        hm_buf_printf(b, "\"path_%s\",\"data\":",
                      f->type == STOQ_FRAME_PATH_CHALLENGE ? "challenge" : "response");
        put_hex(b, f->data.ptr, f->data.len);
        break;
    case STOQ_FRAME_CLOSE:
    case STOQ_FRAME_CLOSE_APP:
        put_close(b, f);
        break;
    case STOQ_FRAME_HANDSHAKE_DONE:
        hm_buf_puts(b, "\"handshake_done\"");
        break;
    case STOQ_FRAME_IMMEDIATE_ACK:
        hm_buf_puts(b, "\"immediate_ack\"");
        break;
    case STOQ_FRAME_ACK_FREQUENCY:
        hm_buf_printf(b,
                      "\"ack_frequency\",\"sequence_number\":%llu,"
                      "\"ack_eliciting_threshold\":%llu,\"requested_max_ack_delay\":%llu.%03llu,"
                      "\"reordering_threshold\":%llu",
                      ULL(f->stream_id), ULL(f->offset), MS(f->value), ULL(f->code));
        break;
    case STOQ_FRAME_DATAGRAM:
    case STOQ_FRAME_DATAGRAM_LEN:
        hm_buf_printf(b, "\"datagram\",\"raw\":{\"length\":%zu}", f->data.len);
        break;
    default:
        hm_buf_printf(b, "\"unknown\",\"frame_type_bytes\":%llu", ULL(f->type));
    }
    hm_buf_puts(b, "}");
}

// ---- events -------------------------------------------------------------------------------------

static void put_header(hm_buf *b, const stoq_conn *c, const stoq_event *e)
{
    hm_buf_printf(b, "\"header\":{\"packet_type\":\"%s\"", packet_name(e->packet));
    if (e->type != STOQ_EVENT_DROPPED)
        hm_buf_printf(b, ",\"packet_number\":%llu", ULL(e->number));
    if (e->dcid != NULL && e->packet != STOQ_PACKET_1RTT) {
        hm_buf_printf(b, ",\"version\":\"%08x\",", c->version->number);
        put_cid(b, "scid", e->scid);
        hm_buf_puts(b, ",");
        put_cid(b, "dcid", e->dcid);
    }
    hm_buf_puts(b, "}");
}

static void put_packet(hm_buf *b, const stoq_conn *c, const stoq_event *e)
{
    put_header(b, c, e);
    if (e->length > 0)
        hm_buf_printf(b, ",\"raw\":{\"length\":%zu}", e->length);
    if (e->probe)
        hm_buf_puts(b, ",\"is_mtu_probe_packet\":true");
    if (e->why != NULL)
        hm_buf_printf(b, ",\"trigger\":\"%s\"", e->why);
    if (e->type != STOQ_EVENT_SENT && e->type != STOQ_EVENT_RECEIVED)
        return;
    const uint8_t *p = e->frames.ptr, *end = p + e->frames.len;
    hm_buf_puts(b, ",\"frames\":[");
    for (unsigned n = 0; p < end && n < STOQ_QLOG_FRAMES; n++) {
        stoq_frame f;
        uint64_t code;
        const uint8_t *start = p;
        if (stoq_frame_parse(&p, end, &f, &code) != HM_OK)
            break; // the connection will end for it
        hm_buf_puts(b, n > 0 ? "," : "");
        put_frame(b, c, &f, (size_t)(p - start));
    }
    hm_buf_puts(b, "]");
}

static void put_params(hm_buf *b, const stoq_event *e)
{
    const stoq_transport_params *p = e->params;
    hm_buf_printf(b,
                  "\"initiator\":\"%s\",\"max_idle_timeout\":%llu,\"max_udp_payload_size\":%llu,"
                  "\"ack_delay_exponent\":%llu,\"max_ack_delay\":%llu,"
                  "\"active_connection_id_limit\":%llu,\"initial_max_data\":%llu,"
                  "\"initial_max_stream_data_bidi_local\":%llu,"
                  "\"initial_max_stream_data_bidi_remote\":%llu,"
                  "\"initial_max_stream_data_uni\":%llu,\"initial_max_streams_bidi\":%llu,"
                  "\"initial_max_streams_uni\":%llu,\"max_datagram_frame_size\":%llu,"
                  "\"disable_active_migration\":%s",
                  e->local ? "local" : "remote", ULL(p->max_idle_timeout_ms),
                  ULL(p->max_udp_payload_bytes), ULL(p->ack_delay_exponent),
                  ULL(p->max_ack_delay_ms), ULL(p->active_cid_limit), ULL(p->max_data),
                  ULL(p->max_stream_data_bidi_local), ULL(p->max_stream_data_bidi_remote),
                  ULL(p->max_stream_data_uni), ULL(p->max_streams_bidi), ULL(p->max_streams_uni),
                  ULL(p->max_datagram_frame_bytes), p->disable_active_migration ? "true" : "false");
}

static void put_metrics(hm_buf *b, const stoq_conn *c)
{
    uint64_t out = 0;
    for (int i = 0; i < STOQ_LEVELS; i++)
        out += c->spaces[i].eliciting_out;
    if (c->first_rtt_us != 0)
        hm_buf_printf(b,
                      "\"min_rtt\":%llu.%03llu,\"smoothed_rtt\":%llu.%03llu,"
                      "\"latest_rtt\":%llu.%03llu,\"rtt_variance\":%llu.%03llu,",
                      MS(c->rtt_min_us), MS(c->rtt_smooth_us), MS(c->rtt_latest_us),
                      MS(c->rtt_var_us));
    hm_buf_printf(b,
                  "\"pto_count\":%u,\"congestion_window\":%llu,\"bytes_in_flight\":%llu,"
                  "\"packets_in_flight\":%llu,\"pacing_rate\":%llu",
                  c->pto_count, ULL(c->cc.cwnd), ULL(c->cc.in_flight), ULL(out),
                  ULL(c->cc.pacing_bytes_s) * 8);
}

static void put_keys(hm_buf *b, const stoq_conn *c, const stoq_event *e)
{
    hm_buf_printf(b, "\"key_type\":\"%s_%s_secret\",\"trigger\":\"%s\"",
                  e->local == c->is_server ? "server" : "client",
                  e->packet == STOQ_PACKET_HANDSHAKE ? "handshake" : "1rtt", e->why);
    if (e->packet == STOQ_PACKET_1RTT)
        hm_buf_printf(b, ",\"key_phase\":%llu", ULL(e->phase));
}

static void put_closed(hm_buf *b, const stoq_conn *c, const stoq_event *e)
{
    const char *trigger = c->close_app                           ? "application"
                          : c->close_code == STOQ_CLOSED_IDLE    ? "idle_timeout"
                          : c->close_code == STOQ_CLOSED_RESET   ? "stateless_reset"
                          : c->close_code == STOQ_CLOSED_VERSION ? "version_mismatch"
                          : c->close_code == STOQ_NO_ERROR       ? "unspecified"
                                                                 : "error";
    hm_buf_printf(b, "\"initiator\":\"%s\",\"trigger\":\"%s\",", e->local ? "local" : "remote",
                  trigger);
    if (c->close_app || c->close_code < STOQ_CLOSED_IDLE) {
        put_error(b, c->close_app ? "application_error" : "connection_error", c->close_app,
                  c->close_code);
        hm_buf_puts(b, ",");
    }
    hm_buf_puts(b, "\"reason\":");
    put_text(b, hm_bytes_of(c->close_reason, c->close_reason_len));
}

static void open_record(stoq_qlog *q, const stoq_conn *c, const char *name)
{
    hm_buf_printf(&q->out, "\x1e{\"time\":%llu.%03llu,\"name\":\"quic:%s\",\"data\":{",
                  MS(c->ep->now_us - q->begin_us), name);
}

static void close_record(stoq_qlog *q)
{
    hm_buf_puts(&q->out, "}}\n");
}

static void tell_open(stoq_qlog *q, const stoq_conn *c)
{
    const char *side = c->is_server ? "server" : "client";
    open_record(q, c, "version_information");
    hm_buf_printf(&q->out, "\"%s_versions\":[", side);
    for (int i = 0; i < STOQ_MAX_VERSIONS && c->ep->versions[i] != 0; i++)
        hm_buf_printf(&q->out, "%s\"%08x\"", i > 0 ? "," : "", c->ep->versions[i]);
    hm_buf_printf(&q->out, "],\"chosen_version\":\"%08x\"", c->version->number);
    close_record(q);
    open_record(q, c, "alpn_information");
    hm_buf_puts(&q->out, "\"chosen_alpn\":{\"string_value\":");
    put_text(&q->out, hm_bytes_str(stoq_conn_alpn(c)));
    hm_buf_puts(&q->out, "}");
    close_record(q);
    open_record(q, c, "parameters_set");
    hm_buf_puts(&q->out, "\"tls_cipher\":");
    put_text(&q->out, hm_bytes_str(c->cipher));
    close_record(q);
}

static void tell_metrics(stoq_qlog *q, const stoq_conn *c)
{
    const char *state = stoq_cc_state(&c->cc);
    if (q->state == NULL || strcmp(q->state, state) != 0) {
        open_record(q, c, "congestion_state_updated");
        if (q->state != NULL)
            hm_buf_printf(&q->out, "\"old\":\"%s\",", q->state);
        hm_buf_printf(&q->out, "\"new\":\"%s\"", state);
        close_record(q);
        q->state = state;
    }
    if (q->cwnd == c->cc.cwnd && q->in_flight == c->cc.in_flight && q->rtt_us == c->rtt_latest_us &&
        q->pto_count == c->pto_count)
        return;
    q->cwnd = c->cc.cwnd;
    q->in_flight = c->cc.in_flight;
    q->rtt_us = c->rtt_latest_us;
    q->pto_count = c->pto_count;
    open_record(q, c, "recovery_metrics_updated");
    put_metrics(&q->out, c);
    close_record(q);
}

static void tell(stoq_qlog *q, const stoq_conn *c, const stoq_event *e)
{
    static const char *const names[] = {
        [STOQ_EVENT_STARTED] = "connection_started", [STOQ_EVENT_PARAMS] = "parameters_set",
        [STOQ_EVENT_SENT] = "packet_sent",           [STOQ_EVENT_RECEIVED] = "packet_received",
        [STOQ_EVENT_DROPPED] = "packet_dropped",     [STOQ_EVENT_LOST] = "packet_lost",
        [STOQ_EVENT_KEYS] = "key_updated",           [STOQ_EVENT_MTU] = "mtu_updated",
        [STOQ_EVENT_CLOSED] = "connection_closed",
    };
    hm_buf *b = &q->out;
    open_record(q, c, names[e->type]);
    switch (e->type) {
    case STOQ_EVENT_STARTED:
        put_endpoint(b, "local", &c->ep->bound);
        hm_buf_puts(b, ",");
        put_endpoint(b, "remote", &c->peer);
        break;
    case STOQ_EVENT_PARAMS:
        put_params(b, e);
        break;
    case STOQ_EVENT_KEYS:
        put_keys(b, c, e);
        break;
    case STOQ_EVENT_MTU:
        if (q->mtu != 0)
            hm_buf_printf(b, "\"old\":%u,", q->mtu);
        hm_buf_printf(b, "\"new\":%zu", e->length);
        q->mtu = (uint32_t)e->length;
        break;
    case STOQ_EVENT_CLOSED:
        put_closed(b, c, e);
        break;
    default:
        put_packet(b, c, e);
    }
    close_record(q);
}

// ---- life ---------------------------------------------------------------------------------------

static void put_head(stoq_qlog *q, const stoq_conn *c, uint64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm t;
    char text[32] = "";
    if (gmtime_r(&seconds, &t) != NULL)
        (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t);
    hm_buf_puts(&q->out, "\x1e{\"file_schema\":\"urn:ietf:params:qlog:file:sequential\","
                         "\"serialization_format\":\"application/qlog+json-seq\","
                         "\"trace\":{\"common_fields\":{");
    put_cid(&q->out, "group_id", &c->original_dcid);
    hm_buf_printf(&q->out,
                  ",\"time_format\":\"relative_to_epoch\",\"reference_time\":{\"clock_type\":"
                  "\"monotonic\",\"epoch\":\"unknown\",\"wall_clock_time\":\"%s.%03lluZ\"}},"
                  "\"vantage_point\":{\"name\":\"stoq\",\"type\":\"%s\"},"
                  "\"event_schemas\":[\"" EVENTS_SCHEMA "\"]}}\n",
                  text, ULL(wall_ms % 1000), c->is_server ? "server" : "client");
}

stoq_qlog *stoq_qlog_begin(const char *dir, const stoq_conn *c)
{
    stoq_qlog *q = calloc(1, sizeof *q);
    char id[2 * STOQ_MAX_CID + 1];
    uint64_t wall_ms = hm_clock_wall_ms(&hm_clock_system);
    if (q == NULL)
        return NULL;
    hm_hex(id, c->original_dcid.id, c->original_dcid.len);
    if (asprintf(&q->path, "%s/%llu-%s-%s.sqlog", dir, ULL(wall_ms), id,
                 c->is_server ? "server" : "client") < 0) {
        free(q);
        return NULL;
    }
    q->begin_us = c->ep->now_us;
    put_head(q, c, wall_ms);
    return q;
}

static void end(stoq_qlog *q, const stoq_conn *c)
{
    if (!q->failed && (!c->is_server || c->stats.packets_received > 0))
        flush(q);
    hm_buf_free(&q->out);
    free(q->path);
    free(q);
}

void stoq_qlog_event(stoq_qlog *q, const stoq_conn *c, const stoq_event *e)
{
    if (e->type == STOQ_EVENT_END) {
        end(q, c);
        return;
    }
    if (q->failed)
        return;
    if (e->type == STOQ_EVENT_OPEN)
        tell_open(q, c);
    else if (e->type == STOQ_EVENT_METRICS)
        tell_metrics(q, c);
    else
        tell(q, c, e);
    if (hm_buf_status(&q->out) != HM_OK)
        end_log(q, "memory", ENOMEM);
    else if (q->out.len >= FLUSH_BYTES)
        flush(q);
}
