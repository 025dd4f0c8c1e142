// Private to src/cli: what the commands share.
#ifndef HM_CLI_CLI_H
#define HM_CLI_CLI_H

#include "base/config.h"
#include "server/client.h"
#include "server/json.h"

typedef struct cli {
    hm_config cfg;
    hm_client client;    // the node
    hm_client authority; // borrows the node's token
    const char *arg;     // the command's argument, or NULL
    bool json;
} cli;

typedef struct cli_command {
    const char *group, *name; // "asset", "list"; name NULL: a command of one word
    const char *arg;          // NULL = none
    const char *help;
    hm_err (*run)(cli *c, const struct cli_command *cmd);
    const char *path; // "/v1/assets/%s/history"
} cli_command;

// An answer, as it is with --json, else for people.
HM_CHECK hm_err cli_print(const cli *c, hm_bytes json);
HM_CHECK hm_err cli_send_and_print(cli *c, const hm_client *to, const char *method,
                                   const char *path, hm_bytes body);
// HM_E_USAGE when the option has no value.
HM_CHECK hm_err cli_need(cli *c, const char *name, const char **out);
// The pattern with %s replaced by arg, percent-encoded.
void cli_put_path(hm_buf *b, const char *pattern, const char *arg);

// cert.c
HM_CHECK hm_err cli_cert_show(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_cert_issue(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_cert_verify(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_cert_revoke(cli *c, const cli_command *cmd);
// stoq.c, stoq_perf.c
HM_CHECK hm_err cli_stoq_ping(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_stoq_perf(cli *c, const cli_command *cmd);
// import.c
HM_CHECK hm_err cli_import(cli *c, const cli_command *cmd);

#endif
