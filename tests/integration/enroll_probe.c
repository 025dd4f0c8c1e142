// enroll_probe URL ROOT TOKEN-FILE DIR OUT: what `hypermesh-server enroll` asks, without the node
// that keeps the answers; writes them into OUT.
#include <stdio.h>

#include "crypto/crypto.h"
#include "server/daemon.h"
#include "server/enroll.h"

static hm_err keep(const char *out, const char *name, const hm_buf *pem)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", out, name);
    return hm_file_write(path, hm_buf_bytes(pem), 0644);
}

int main(int argc, char **argv)
{
    char token[DAEMON_TOKEN_MAX];
    enroll_answer a = {0};
    hm_err err;
    if (argc != 6)
        return 2;
    hm_client c = {.url = argv[1], .ca_path = argv[2], .token = token};
    HM_TRY_OUT(hm_crypto_init());
    HM_TRY_OUT(daemon_token_file(argv[3], token));
    HM_TRY_OUT(enroll_ask(&c, argv[4], &a));
    HM_TRY_OUT(keep(argv[5], "node.crt", &a.node_chain));
    HM_TRY_OUT(keep(argv[5], "edge.crt", &a.edge_chain));
    HM_TRY_OUT(keep(argv[5], "mesh-root.crt", &a.mesh_root));
    err = keep(argv[5], "edge-root.crt", &a.edge_root);
    printf("%s %s\n", a.node_serial, a.edge_serial);
out:
    if (err != HM_OK)
        fprintf(stderr, "%s: %s\n", hm_err_text(err), hm_err_detail());
    enroll_answer_free(&a);
    return err == HM_OK ? 0 : 1;
}
