// Connections without a handshake, and packets made by hand: for tests and fuzzing of the transport
// by somebody who knows the keys. Aborts when it cannot do what it is asked.
#ifndef STOQ_FORGE_H
#define STOQ_FORGE_H

#include "stoq/endpoint.h"

struct sockaddr_in6 forge_address(uint16_t port); // of ::1

// What an endpoint with these limits tells its peer.
stoq_transport_params forge_params(const stoq_endpoint *ep);

// A connection of the endpoint as it is once the handshake is confirmed, its ids not yet told. The
// peer sends with rx_secret, has peer_cid for its id, and told these parameters.
stoq_conn *forge_conn(stoq_endpoint *ep, bool is_server, const struct sockaddr_in6 *peer,
                      const stoq_cid *peer_cid, const uint8_t rx_secret[32],
                      const uint8_t tx_secret[32], const stoq_transport_params *theirs);

// Two endpoints joined by one such connection.
void forge_pair(stoq_endpoint *server, const struct sockaddr_in6 *server_address,
                stoq_endpoint *client, const struct sockaddr_in6 *client_address,
                stoq_conn **at_server, stoq_conn **at_client);

#define FORGE_MAX 2048u // bytes of a packet; a payload is at most 1800 long

// Seals a payload as a packet, of the version of the keys; returns its length.
size_t forge_short(stoq_keys *k, const stoq_cid *dcid, uint64_t pn, bool phase, hm_bytes payload,
                   uint8_t out[FORGE_MAX]);
size_t forge_long(stoq_keys *k, stoq_packet_type type, const stoq_cid *dcid, const stoq_cid *scid,
                  hm_bytes token, uint64_t pn, hm_bytes payload, uint8_t out[FORGE_MAX]);
// Opens the packet at the start of a datagram in place; false when the keys are not its. Numbers
// are those near `expected`.
bool forge_open(stoq_keys *k, uint8_t *bytes, size_t len, uint64_t expected, stoq_packet *packet,
                uint64_t *pn, hm_bytes *payload);

#endif
