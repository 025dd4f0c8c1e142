// Private: an endpoint's tables, and what connections ask of it.
#ifndef HM_STOQ_ENDPOINT_H
#define HM_STOQ_ENDPOINT_H

#include "stoq/conn.h"
#include "stoq/io.h"

#define STOQ_DATAGRAMS_MAX 256u // of one receive

// A socket besides the endpoint's own, for connections that moved to its address.
struct stoq_socket {
    hm_list link; // in ep->sockets
    stoq_io io;   // fd -1 with a stoq_net
    struct sockaddr_in6 bound;
    uint32_t users; // paths of connections; without any it is closed at the end of a turn
};

struct stoq_endpoint {
    stoq_limits limits;
    stoq_congestion congestion;
    stoq_callbacks callbacks;
    void *user;
    hm_random random;
    uint32_t versions[STOQ_MAX_VERSIONS]; // in order of preference, 0 ends
    bool always_retry;
    stoq_share share;
    struct stoq_group *group; // whose worker it is of; NULL: none's
    uint8_t secret[32];
    // What happens is told to this hook, for connections that have a log.
    void (*on_event)(struct stoq_qlog *log, const stoq_conn *c, const stoq_event *e);
    char *qlog_dir; // owned; NULL: no connection has one
    SSL_CTX *server_tls, *client_tls;
    stoq_ticket_store own_tickets; // unused where others share theirs
    stoq_tickets tickets;
    unsigned ticket_count; // that a connection gives
    unsigned sessions;     // that one of ours wants
    bool early_data;
    uint8_t alpn_wire[256 * STOQ_MAX_ALPN];
    size_t alpn_len;
    bool has_net;
    stoq_net net;
    stoq_io io, io_preferred;
    hm_list sockets;    // others
    stoq_socket *via;   // what is received now came by that one; NULL: by one of the endpoint's own
    hm_udp_local local; // and to this address
    int all_fd;         // waits for sockets and rings; -1: there is one socket or none
    struct sockaddr_in6 bound;
    struct sockaddr_in6 preferred; // port 0: none
    bool at_preferred;             // what is received now came there
    bool ignore_preferred;
    uint64_t now_us;
    hm_map by_cid;     // our 8-byte ids -> conn
    hm_map by_initial; // a client's first destination id (stoq_cid) -> server conn
    hm_map by_token;   // the peer's reset token for the id in use -> conn
    hm_list conns, ready;
    hm_heap timers;
    bool more_to_read;
    bool inside;     // a call that calls back
    hm_list lending; // streams with bytes in the datagrams of this receive
    stoq_loans loans;
    hm_list spent; // 0-RTT packets that were held, and are read in this receive
    // Datagrams of RFC 9221 in them.
    uint32_t datagram_count;
    struct {
        stoq_conn *conn;
        hm_bytes bytes;
    } datagrams[STOQ_DATAGRAMS_MAX];
    uint32_t failed; // server connections whose handshake failed, until they are gone
    stoq_endpoint_stats stats;
    uint8_t batch[STOQ_UDP_MAX]; // of one GSO send
};

// As stoq_endpoint_create(), with the tickets of others (NULL: its own), whose store must have been
// made for the same limits. Borrowed.
HM_CHECK hm_err endpoint_create(const stoq_config *config, stoq_ticket_store *tickets,
                                stoq_endpoint **out);
// By that socket, or NULL: from the preferred address or the other. False: longer than what this
// host can send there.
bool endpoint_send(stoq_endpoint *ep, stoq_socket *via, bool preferred, const hm_udp_local *local,
                   const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len, size_t segment,
                   uint8_t ecn);
// Lets ep->all_fd wait for this one too.
HM_CHECK hm_err endpoint_wait_for(stoq_endpoint *ep, int fd);
// A fresh connection id of ours, whose first byte says whose packets they are.
void endpoint_make_id(stoq_endpoint *ep, uint8_t id[STOQ_LOCAL_CID]);
// The next byte whose rest says so.
uint8_t endpoint_steer(const stoq_share *share, uint8_t first);
// With a session to be resumed, or NULL; beside is the first byte of its first id, -1: any.
HM_CHECK hm_err endpoint_connect(stoq_endpoint *ep, const struct sockaddr_in6 *to,
                                 const char *server_name, const char *alpn,
                                 const stoq_session *session, bool early, int beside, void *user,
                                 stoq_conn **out);
// As stoq_endpoint_wait(), and no longer than until something else can be read (-1: nothing else),
// which it tells.
bool endpoint_wait(stoq_endpoint *ep, uint64_t until_us, int other_fd);
bool endpoint_speaks(const stoq_endpoint *ep, uint32_t version);
void endpoint_reset_token(const stoq_endpoint *ep, const stoq_cid *cid,
                          uint8_t out[STOQ_RESET_TOKEN]);

// socket.c: HM_OK with *out NULL: the endpoint's own. To be given back.
HM_CHECK hm_err socket_take(stoq_endpoint *ep, const struct sockaddr_in6 *address,
                            stoq_socket **out);
void socket_give_back(stoq_socket *s); // NULL is harmless
// The one that is bound there; false: none is. *out NULL: the endpoint's own.
bool socket_find(stoq_endpoint *ep, const struct sockaddr_in6 *address, stoq_socket **out);
void sockets_close_unused(stoq_endpoint *ep);

// token.c: address validation by Retry (RFC 9000, section 8.1.2). A token is bound to the address,
// the time and the ids; it is authenticated, not secret.
#define STOQ_TOKEN_MAX 64u
#define STOQ_TOKEN_LIFE_US 10000000u
size_t token_make(const uint8_t secret[32], const struct sockaddr_in6 *from, const stoq_cid *odcid,
                  const stoq_cid *retry_scid, uint64_t now_us, uint8_t out[STOQ_TOKEN_MAX]);
bool token_check(const uint8_t secret[32], const struct sockaddr_in6 *from, hm_bytes token,
                 const stoq_cid *dcid, uint64_t now_us, stoq_cid *odcid);

#endif
