// Getting a node or a server its certificates: sends DIR/node.csr and DIR/edge.csr to the authority
// and checks the answers. Blocking; nothing needs to run for it.
#ifndef HM_SERVER_ENROLL_H
#define HM_SERVER_ENROLL_H

#include "base/config.h"
#include "server/client.h"
#include "trustchain/trustchain.h"

// All in PEM.
typedef struct enroll_answer {
    hm_buf node_chain, edge_chain, mesh_root, edge_root;
    char node_serial[33], edge_serial[33];
} enroll_answer;

// c->ca_path is the edge root, which becomes the answer's edge_root. Needs hm_crypto_init(). Free
// the answer with enroll_answer_free() also after a failure.
HM_CHECK hm_err enroll_ask(const hm_client *c, const char *dir, enroll_answer *out);
void enroll_answer_free(enroll_answer *a);
// One request: the body of POST /v1/certificates sent, the chain appended, the serial kept. life_s
// 0: as the authority has it.
HM_CHECK hm_err enroll_issue(const hm_client *c, const char *profile, uint64_t life_s,
                             hm_bytes csr_pem, hm_buf *chain_pem, char serial[33]);
// The next certificate in the place of that one, asked for by its key (trustchain/renew.h), without
// a token; the chain appended, its serial kept unless that is NULL.
HM_CHECK hm_err enroll_renew(const hm_client *c, const char *key_path, const tc_serial *old,
                             hm_bytes csr_pem, hm_buf *chain_pem, char serial[33]);
// The daemons' command "enroll": options dir, root, token-file and authority; keeps the answer with
// tc_dir_install().
HM_CHECK hm_err enroll_command(const hm_config *c);

#endif
