// TLS identities of a server and a client of one authority, for tests of the transport. Made once
// for a program; aborts on failure.
#ifndef STOQ_IDS_H
#define STOQ_IDS_H

#include "trustchain/trustchain.h"

typedef struct stoq_ids {
    SSL_CTX *server, *client; // mutual FALCON-1024, X25519MLKEM768
    // The same server, asking for no certificate, and a client that has none and believes
    // everybody.
    SSL_CTX *open_server, *open_client;
} stoq_ids;

void stoq_ids_make(stoq_ids *ids);
// Without FALCON, and in no time: `server` has an ECDSA certificate that says little, `client`
// none, and believes everybody. For what comes after the handshake.
void stoq_ids_make_plain(stoq_ids *ids);
void stoq_ids_free(stoq_ids *ids);

#endif
