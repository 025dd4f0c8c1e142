// Private to src/cli: the table of commands and what the commands share.
//
// commands.c is the one table: from it come parsing (parse.c), --help, the man page and completion
// (doc.c). A command is a row there and a function here.
#ifndef HM_CLI_CLI_H
#define HM_CLI_CLI_H

#include <openssl/x509.h>

#include "base/config.h"
#include "cli/print.h"
#include "crypto/crypto.h"
#include "server/client.h"
#include "server/json.h"

typedef struct cli_option {
    const char *name; // without dashes; NULL ends a list
    const char *arg;  // what the value is: "FILE" and "DIR" complete names of files; NULL: a switch
    const char *help; // one line, no full stop
    const char *words; // the values it takes, separated by spaces; NULL = any
    const char *def;   // NULL = none
    const char *env;   // environment variable, or NULL
    char letter;       // short form, or 0
    bool needed;       // refused without it
} cli_option;

typedef struct cli cli;
typedef struct cli_command {
    // "asset", "list"; name NULL: a command of one word; "root-create" may be two: root create
    const char *group, *name;
    const char *arg;           // "ID|NAME", in brackets when it may be left out; NULL = none
    const char *help;          // one line, no full stop
    const char *about;         // more: paragraphs, an empty line between them; NULL = nothing
    const char *examples;      // lines of shell; NULL = none
    const cli_option *options; // its own, beside the common ones; NULL = none
    hm_err (*run)(cli *c, const struct cli_command *cmd);
    const char *path;                           // of the API, "/v1/assets/%s/history", or NULL
    hm_err (*show)(cli *c, yyjson_val *answer); // the answer for people; NULL: run() does
    const char *needs, *item_needs;             // fields of the server's answer: cli_need()
    unsigned page_max;                          // of a listing: items that a page may have
} cli_command;

typedef struct cli_word { // a group of commands, an argument, or an exit code
    const char *word, *help;
} cli_word;

// commands.c. Each list ends with an entry of NULLs. Commands of one group stand together.
extern const cli_option cli_common_options[];
extern const cli_command cli_commands[];
extern const cli_word cli_groups[];
extern const cli_word cli_args[]; // what stands for an argument: "ASSET"
extern const cli_word cli_exits[];

enum {
    CLI_EXIT_DONE = 0,
    CLI_EXIT_FAILED = 1,
    CLI_EXIT_USAGE = 2,
    CLI_EXIT_UNREACHABLE = 3,
    CLI_EXIT_REFUSED = 4,
    CLI_EXIT_NOTFOUND = 5,
    CLI_EXIT_DENIED = 6,
    CLI_EXIT_AGAIN = 7,
    CLI_EXIT_ALARM = 8,
};

struct cli {
    hm_option options[HM_CONFIG_OPTIONS_MAX]; // common ones and the command's; cfg borrows them
    hm_config cfg;
    hm_client client;       // the node
    hm_client authority;    // borrows the node's token; url NULL when the command asks none
    const cli_command *cmd; // NULL until it is known
    const char *group;      // the word that was given, or NULL
    const char *arg;        // the command's argument, or NULL
    bool json, help, version;
    bool two;                // the command's name was given as two words
    bool interrupted;        // by the person: the program ends as the signal would have it
    bool alarm;              // a monitor found what must not be
    bool answered;           // with --json: the answer is printed, also when it says what is wrong
    char token_trouble[160]; // why the token file could not be read, or ""
};

// parse.c: finds the command, reads the options and checks them. HM_E_USAGE, with a line that says
// what was wrong.
HM_CHECK hm_err cli_parse(cli *c, int argc, char *const *argv);
// Does the space-separated list hold the word?
bool cli_word_in(const char *words, const char *word);

// doc.c: what is made from the table.
// group NULL: everything; cmd NULL: the whole group.
void cli_put_help(hm_buf *b, const char *group, const cli_command *cmd);
HM_CHECK hm_err cli_man(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_completion(cli *c, const cli_command *cmd);

// need.c: HM_E_PARSE unless the answer has each of these fields: "id" a text, "height#" a number,
// "ready?" true or false, "items[" a list, "next~" anything, null too.
#define CLI_NEEDS_RECEIPT "op asset height# index# finality_us#"
#define CLI_NEEDS_OP "id height# index# time_ms# module kind owner owner_name"
#define CLI_NEEDS_CONTENT "size# chunk_bytes# chunks# root"
HM_CHECK hm_err cli_need(const cli *c, yyjson_val *answer, const char *fields);
// Of each of the answer's items.
HM_CHECK hm_err cli_need_items(const cli *c, yyjson_val *answer, const char *fields);
// What the command's row in the table says.
HM_CHECK hm_err cli_need_answer(const cli *c, const cli_command *cmd, hm_bytes json);

// A file that the person named, at most max bytes. HM_E_IO, missing too: HM_E_NOTFOUND is said of
// what the mesh and its authority do not have.
HM_CHECK hm_err cli_read_file(const char *path, size_t max, hm_buf *out);

// ask.c: asking the API.
// The answer as it is with --json, else as cmd->show() has it.
HM_CHECK hm_err cli_answer(cli *c, const cli_command *cmd, hm_bytes json);
// The items of all pages of a listing, at most `limit`, as {"items": [...], "next": ...}; needs is
// what each item must have.
HM_CHECK hm_err cli_pages(cli *c, const char *path, const char *filters, const char *needs,
                          uint64_t page_max, uint64_t limit, hm_buf *out, bool *more);
// Sends a request and parses the answer; free with yyjson_doc_free().
HM_CHECK hm_err cli_ask(const hm_client *to, const char *method, const char *path, hm_bytes body,
                        yyjson_doc **out);
// The ids of what a person calls an asset (id, beginning of an id, name), an operation (id or
// HEIGHT/INDEX), a node (id or name). HM_E_NOTFOUND; HM_E_USAGE when it may be several.
HM_CHECK hm_err cli_find_asset(cli *c, const char *what, char id[65]);
HM_CHECK hm_err cli_find_op(cli *c, const char *what, char id[65]);
HM_CHECK hm_err cli_find_node(cli *c, const char *what, char id[65]);
// The pattern with %s replaced by the command's argument: an id for ASSET and OP.
HM_CHECK hm_err cli_put_path(cli *c, const cli_command *cmd, hm_buf *path);
HM_CHECK hm_err cli_get(cli *c, const cli_command *cmd);
// All pages of a listing, up to --limit, as one answer.
HM_CHECK hm_err cli_list(cli *c, const cli_command *cmd);

// node.c
HM_CHECK hm_err cli_status_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_nodes_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_node_show(cli *c, yyjson_val *answer);
// asset.c
HM_CHECK hm_err cli_assets_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_history_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_receipt_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_asset_facts(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_asset_show(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_asset_register(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_asset_change(cli *c, const cli_command *cmd);
// Posts the body; the answer comes once the change is final: who waits longer than usual is told
// what for.
HM_CHECK hm_err cli_send_change(cli *c, const cli_command *cmd, const char *path, hm_buf *body);
// What the API takes as a name: hm_json_name_check(), and its length. HM_E_RANGE, HM_E_INVALID.
HM_CHECK hm_err cli_check_name(const char *name);
HM_CHECK hm_err cli_got_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_asset_get(cli *c, const cli_command *cmd);
// ledger.c
HM_CHECK hm_err cli_block_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_blocks_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_ops_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_op_show(cli *c, yyjson_val *answer);
// dns.c
HM_CHECK hm_err cli_names_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_name_facts(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_zone_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_dns_register(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_dns_set(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_dns_delegate(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_dns_renew(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_dns_transfer(cli *c, const cli_command *cmd);
// trust.c
HM_CHECK hm_err cli_trust_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_trust_facts(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_trust_propose(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_trust_say(cli *c, const cli_command *cmd);
// The id of an authority or proposal that begins so.
HM_CHECK hm_err cli_find_trust(cli *c, const char *what, char id[65]);
// dns_resolve.c
HM_CHECK hm_err cli_dns_resolve(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_resolved_show(cli *c, yyjson_val *answer);
// verify.c
HM_CHECK hm_err cli_proof_show(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_proofs_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_ledger_verify(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_verify_show(cli *c, yyjson_val *answer);
// cert.c
typedef struct cli_chain {
    X509 *leaf;    // owned
    X509 *issuing; // owned; NULL when the file has one certificate only
} cli_chain;
HM_CHECK hm_err cli_chain_read(const char *path, cli_chain *out); // PEM, leaf first
void cli_chain_free(cli_chain *c);
void cli_put_cert(hm_buf *b, const X509 *x); // fields of an object, as cli_cert_facts() takes them
HM_CHECK hm_err cli_cert_der(const X509 *x, hm_buf *out); // appended
// What a certificate of the edge family is for, by its own word, and OpenSSL's rules for that.
typedef struct cli_cert_use {
    const char *profile;
    int purpose;
} cli_cert_use;
cli_cert_use cli_cert_use_of(X509 *leaf);
bool cli_cert_is_node(const X509 *leaf);
// HM_E_CERT_REVOKED, HM_E_CRL_STALE; the list is the issuing CA's, in DER.
HM_CHECK hm_err cli_cert_not_revoked(X509 *leaf, hm_bytes issuing, hm_bytes crl, uint64_t now_ms);
HM_CHECK hm_err cli_certs_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_cert_facts(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_cert_show(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_cert_issue(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_cert_renew(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_cert_verify(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_cert_verify_mesh(cli *c, const cli_command *cmd); // cert_mesh.c
HM_CHECK hm_err cli_cert_revoke(cli *c, const cli_command *cmd);
// root.c
HM_CHECK hm_err cli_root_create(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_root_sign(cli *c, const cli_command *cmd);
// audit.c
HM_CHECK hm_err cli_audit_show(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_cert_audit(cli *c, const cli_command *cmd);
// log.c, log_monitor.c
HM_CHECK hm_err cli_log_head(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_log_head_facts(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_log_show(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_log_entry_facts(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_log_verify(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_log_verify_facts(cli *c, yyjson_val *answer);
HM_CHECK hm_err cli_log_monitor(cli *c, const cli_command *cmd);
// stoq_ping.c, stoq_perf.c, stoq_send.c, stoq_recv.c
HM_CHECK hm_err cli_stoq_ping(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_stoq_perf(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_stoq_send(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_stoq_recv(cli *c, const cli_command *cmd);
// import.c
// Is the file the content that the commitment names? HM_E_PARSE when it is none.
HM_CHECK hm_err cli_same_content(const char *path, yyjson_val *commitment, bool *same);
// The root of a file's content as the node computes it: mesh/asset.h, hm_commitment.
HM_CHECK hm_err cli_content_root(const char *path, uint64_t chunk_bytes, uint64_t size,
                                 hm_hash *out);
HM_CHECK hm_err cli_import(cli *c, const cli_command *cmd);
HM_CHECK hm_err cli_import_show(cli *c, yyjson_val *answer);

#endif
