// The one table of commands. A new command is a row here and a function in cli.h; parsing, --help,
// the man page, completion and their test follow from it.
#include "cli/cli.h"

#define KINDS "cpu gpu memory storage network container service name data economic"
#define STATES_TO_SET "available allocated in_use suspended maintenance failed"
#define STATES STATES_TO_SET " retired" // which asset retire makes
#define REASONS                                                                                    \
    "unspecified keyCompromise affiliationChanged superseded cessationOfOperation "                \
    "privilegeWithdrawn"

const cli_option cli_common_options[] = {
    {"node", "URL", "the node to ask", .def = "https://[::1]:8444", .env = "HYPERMESH_NODE"},
    {"ca", "FILE", "edge root (PEM) that the server's certificate must reach",
     .env = "HYPERMESH_CA"},
    {"token-file", "FILE", "bearer token, for what changes something",
     .env = "HYPERMESH_TOKEN_FILE"},
    {"json", NULL, "print the answer, or the error, as JSON", .letter = 'j'},
    {"help", NULL, "what a command does and takes", .letter = 'h'},
    {0},
};

const cli_word cli_groups[] = {
    {"status", "the node now"},
    {"node", "the nodes of the mesh"},
    {"asset", "what members contribute and use"},
    {"proof", "the four proofs of an operation"},
    {"ledger", "blocks and operations"},
    {"cert", "certificates of the authority"},
    {"stoq", "the STOQ transport: measured, and files sent"},
    {"man", "the man page"},
    {"completion", "completion for a shell"},
    {0},
};

const cli_word cli_args[] = {
    {"ASSET", "an asset: its id, the beginning of it (4 digits or more), or its name"},
    {"OP", "an operation: its id, or HEIGHT/INDEX"},
    {"NODE", "a node: its name, its id, or the beginning of it (4 digits or more)"},
    {"HEIGHT", "the height of a block, from 1"},
    {"SERIAL", "the serial number of a certificate, 32 hexadecimal digits"},
    {"CSR", "a certificate request, a file in PEM"},
    {"DIR", "a folder"},
    {"HOST", "a name or IPv6 address, with a port as HOST:PORT or [ADDRESS]:PORT"},
    {0},
};

const cli_word cli_exits[] = {
    {"0", "done"},
    {"1",
     "failed here: a file, a check that did not pass, or an answer that lacks what it must have"},
    {"2", "wrong usage or configuration"},
    {"3", "the server cannot be reached, or its certificate is not to be trusted"},
    {"4", "refused by the server"},
    {"5", "not found in the mesh, or by the authority"},
    {"6", "not allowed: the token is missing or wrong, or the right is"},
    {"7", "not now: busy or timed out; trying again may help"},
    {0},
};

#define AUTHORITY                                                                                  \
    {"authority", "URL", "the authority to ask", .def = "https://[::1]:8443",                      \
     .env = "HYPERMESH_AUTHORITY"}
#define TOKEN "Needs the node's token: --token-file names DIR/api.token of the node."
#define AUTHORITY_TOKEN                                                                            \
    "Needs the authority's token: --token-file names DIR/api.token of the authority."

#define STOQ_CA                                                                                    \
    "--ca must name the root (PEM) that the server's certificate reaches: the mesh root for a "    \
    "FALCON certificate, the edge root for another."

static const cli_option asset_list_options[] = {
    {"kind", "KIND", "only of this kind", .words = KINDS},
    {"state", "STATE", "only in this state", .words = STATES},
    {"owner", "NODE", "only of this owner: name, id, or the beginning of it"},
    {"name", "NAME", "only of exactly this name"},
    {"search", "TEXT", "only with this text in the name"},
    {"limit", "N", "not more than this many"},
    {0},
};
static const cli_option asset_get_options[] = {
    {"output", "FILE", "the file to write, or -", .letter = 'o', .needed = true},
    {0},
};
static const cli_option asset_register_options[] = {
    {"kind", "KIND", "what it is", .words = KINDS, .needed = true},
    {"name", "NAME", "its name, unique among the owner's assets", .needed = true},
    {"file", "FILE", "its content; a data asset needs one"},
    {"policy", "WORD", "who may use it", .words = "public private"},
    {0},
};
static const cli_option asset_import_options[] = {
    {"policy", "WORD", "who may read the files", .words = "public private"},
    {"jobs", "N", "files in flight, at most 64", .def = "48"},
    {"patience", "SECONDS", "how long to try again while the node does not answer", .def = "600"},
    {0},
};
static const cli_option asset_transfer_options[] = {
    {"to", "NODE", "the new owner: name, id, or the beginning of it", .needed = true},
    {0},
};
static const cli_option asset_state_options[] = {
    {"state", "STATE", "the new state", .words = STATES_TO_SET, .needed = true},
    {0},
};
static const cli_option asset_policy_options[] = {
    {"policy", "WORD", "who may use it", .words = "public private", .needed = true},
    {0},
};
#define GENESIS_OPTIONS                                                                            \
    {"genesis", "FILE", "the genesis to trust, genesis.bin"},                                      \
        {"chain", "ID", "the id of the chain to trust, 64 digits: the genesis' SHA-256"}
static const cli_option proof_options[] = {
    {"verify", NULL, "check here, from the genesis, instead of asking the node"},
    GENESIS_OPTIONS,
    {0},
};
static const cli_option verify_options[] = {
    GENESIS_OPTIONS,
    {"by-node", NULL, "let the node check its own store"},
    {0},
};
static const cli_option ledger_list_options[] = {
    {"limit", "N", "not more than this many", .def = "20"},
    {0},
};
static const cli_option cert_list_options[] = {
    {"family", "WORD", "only of this family", .words = "mesh edge"},
    {"search", "TEXT", "only with this text in the subject"},
    {"limit", "N", "not more than this many"},
    AUTHORITY,
    {0},
};
static const cli_option authority_options[] = {AUTHORITY, {0}};
static const cli_option cert_issue_options[] = {
    {"output", "FILE", "the file to write", .letter = 'o', .needed = true},
    {"profile", "WORD", "what the certificate is for", .words = "node server", .def = "node"},
    AUTHORITY,
    {0},
};
static const cli_option cert_verify_options[] = {
    {"root", "FILE", "the root to reach, PEM", .needed = true},
    {"crl", "FILE", "revocation list, DER"},
    {0},
};
static const cli_option cert_revoke_options[] = {
    {"reason", "WORD", "why", .words = REASONS, .def = "unspecified"},
    AUTHORITY,
    {0},
};

#define STOQ_OPTIONS                                                                               \
    {"cert", "FILE", "certificate chain to show, PEM"}, {"key", "FILE", "the key of --cert, PEM"}, \
        {"server-name", "NAME", "what the server's certificate must name, unless it is the host"}, \
        {"session", "FILE", "resume what it holds, once, and keep there what the server gives"},   \
        {"early", NULL, "send the first request before the server answers, if --session allows"},  \
        {"datagram", "BYTES",                                                                      \
         "largest datagram either way, 1200 to 65527; what the path carries is found out",         \
         .def = "65527"},                                                                          \
        {"congestion", "NAME", "congestion control of what is sent, bbr or cubic", .def = "bbr"},  \
        {"quic", "LIST", "versions of QUIC, the one to begin with first", .def = "1,2"},           \
        {"stay", NULL, "stay with the address asked, though the server prefers another"},          \
        {"qlog", "DIR", "folder for a log of the connection, in qlog's form"}
static const cli_option stoq_ping_options[] = {
    {"count", "N", "requests", .def = "10"},
    {"interval", "MS", "milliseconds from one to the next, 0: at once", .def = "200"},
    {"request", "BYTES", "of a request, with the eight that ask for the answer", .def = "8"},
    {"response", "BYTES", "of an answer", .def = "0"},
    STOQ_OPTIONS,
    {0},
};
static const cli_option stoq_perf_options[] = {
    {"down", "BYTES", "receive so many; K, M, G are understood"},
    {"up", "BYTES", "send so many"},
    {"seconds", "N", "each direction for so long, 5 unless given"},
    {"streams", "N", "streams at a time", .def = "1"},
    {"handshakes", "SECONDS", "count whole handshakes for so long instead"},
    {"parallel", "N", "handshakes at a time", .def = "16"},
    STOQ_OPTIONS,
    {0},
};

static const cli_option stoq_send_options[] = {
    {"file", "FILE", "what to send", .needed = true},
    {"name", "NAME", "what it is to be called there, unless as here"},
    STOQ_OPTIONS,
    {0},
};
static const cli_option stoq_recv_options[] = {
    {"listen", "ADDR", "where, an address and a port", .def = "[::]:9293"},
    {"count", "N", "files to take, then end", .def = "1"},
    {"limit", "BYTES", "of a file at most; K, M, G are understood", .def = "64G"},
    {"cert", "FILE", "certificate chain to show, PEM", .needed = true},
    {"key", "FILE", "the key of --cert, PEM", .needed = true},
    {0},
};

#define CERT "serial family subject not_before_ms# not_after_ms# state"

const cli_command cli_commands[] = {
    {"status", NULL, NULL, "the node now", .run = cli_get, .path = "/v1/status",
     .show = cli_status_show,
     .needs = "id name overlay_addr chain_id height# state_root final_time_ms# validators# quorum# "
              "peers_connected# syncing? ready? version"},

    {"node", "list", NULL, "all nodes of the mesh", .run = cli_get, .path = "/v1/nodes",
     .show = cli_nodes_show, .item_needs = "id name addr state self? height# rtt_us#"},
    {"node", "show", "NODE", "one node", .run = cli_get, .path = "/v1/nodes/%s",
     .show = cli_node_show,
     .needs = "id name addr overlay_addr state self? height# state_root power# stake# rtt_us# "
              "certificate~ sector~"},

    {"asset", "list", NULL, "assets, newest first",
     .about = "All of them, page by page, unless --limit ends it. On a terminal ids are cut to 12 "
              "digits, which every command takes.",
     .examples = "hypermesh asset list --kind data --owner node-2 --search include/\n"
                 "hypermesh asset list --json | jq -r '.items[].name'",
     .options = asset_list_options, .run = cli_list, .path = "/v1/assets", .page_max = 500,
     .show = cli_assets_show, .item_needs = "id name kind state policy owner owner_name content~"},
    {"asset", "show", "ASSET", "one asset, and where its content is kept",
     .about = "The node's answer, and where the chunks of its content are: how many each node says "
              "that it holds, and how many it should hold by placement.",
     .run = cli_asset_show, .path = "/v1/assets/%s", .show = cli_asset_facts,
     .needs = "id name kind state policy owner owner_name addr registered_height# registered_ms# "
              "registered_op updated_height# updated_ms# revision# grants[ content~"},
    {"asset", "history", "ASSET", "what happened to an asset, oldest first", .run = cli_list,
     .path = "/v1/assets/%s/history", .page_max = 500, .show = cli_history_show,
     .item_needs = "height# index# time_ms# op action actor actor_name detail"},
    {"asset", "get", "ASSET", "write the content of an asset to a file",
     .about = "The file appears only when it is whole, and is compared with what the ledger names; "
              "^C leaves FILE.part behind, which the next try writes anew. "
              "With - the content goes to the standard output. What is private needs the node's "
              "token.",
     .examples = "hypermesh asset get linux/fs.h -o fs.h\n"
                 "hypermesh asset get 3fa9c1d2e4b5 -o - | sha256sum",
     .options = asset_get_options, .run = cli_asset_get, .path = "/v1/assets/%s",
     .show = cli_got_show},
    {"asset", "register", NULL, "register an asset, with its content",
     .about = "Answers once the registration is final. A name has 1 to 255 bytes, no control "
              "characters or such that turn the direction of writing, and more than white space."
              "\n\n" TOKEN,
     .examples = "hypermesh asset register --kind gpu --name rack-7/0\n"
                 "hypermesh asset register --kind data --name paper --file paper.pdf",
     .options = asset_register_options, .run = cli_asset_register, .path = "/v1/assets",
     .show = cli_receipt_show, .needs = CLI_NEEDS_RECEIPT},
    {"asset", "import", "DIR", "register every file below a folder as a data asset",
     .about = "The name of an asset is the file's path below DIR. An import that was cut off goes "
              "on where it was when it is begun again: what the ledger holds already, with the "
              "same content, is passed over; those of another policy than --policy keep it and are "
              "counted. Links, pipes, sockets and devices are passed over "
              "and counted. ^C lets what is under way end.\n\n" TOKEN,
     .examples = "hypermesh asset import /usr/include --policy public",
     .options = asset_import_options, .run = cli_import, .path = "/v1/assets",
     .show = cli_import_show},
    {"asset", "transfer", "ASSET", "give an asset to another node",
     .about = "Its owner alone can, and has no say any more afterwards.\n\n" TOKEN,
     .options = asset_transfer_options, .run = cli_asset_change, .path = "/v1/assets/%s/transfer",
     .show = cli_receipt_show, .needs = CLI_NEEDS_RECEIPT},
    {"asset", "set-state", "ASSET", "change the state of an asset",
     .about = "From available: allocated, suspended, maintenance, failed. "
              "From allocated: available, in_use, suspended, failed. "
              "From in_use: allocated, available, suspended, failed. "
              "From suspended: available, maintenance, failed. "
              "From maintenance: available, suspended, failed. "
              "From failed: available, maintenance. "
              "Whoever takes a public asset from available to allocated is its holder. For good "
              "there is asset retire.\n\n" TOKEN,
     .options = asset_state_options, .run = cli_asset_change, .path = "/v1/assets/%s/state",
     .show = cli_receipt_show, .needs = CLI_NEEDS_RECEIPT},
    {"asset", "set-policy", "ASSET", "change who may use an asset",
     .about = "Rights that were given to single nodes end with it.\n\n" TOKEN,
     .options = asset_policy_options, .run = cli_asset_change, .path = "/v1/assets/%s/policy",
     .show = cli_receipt_show, .needs = CLI_NEEDS_RECEIPT},
    {"asset", "retire", "ASSET", "retire an asset for good", .about = TOKEN,
     .run = cli_asset_change, .path = "/v1/assets/%s/retire", .show = cli_receipt_show,
     .needs = CLI_NEEDS_RECEIPT},

    {"proof", "show", "OP", "the four proofs of an operation, and what was checked",
     .about = "Without --verify it is the node that checks, and what needs the state as it was "
              "then is witnessed by the block's certificate. With it, this program executes the "
              "chain anew up to the operation, and takes nothing on trust but the genesis: it "
              "takes time with the length of the chain.",
     .examples = "hypermesh proof show 21/0 --verify --genesis run/dev/genesis.bin",
     .options = proof_options, .run = cli_proof_show, .path = "/v1/operations/%s/proofs",
     .show = cli_proofs_show, .item_needs = "name present? passed? summary checks["},

    {"ledger", "list", NULL, "blocks, newest first", .options = ledger_list_options,
     .run = cli_list, .path = "/v1/blocks", .page_max = 100, .show = cli_blocks_show,
     .item_needs = "height# id time_ms# ops_count# proposer_name"},
    {"ledger", "ops", NULL, "final operations, newest first", .options = ledger_list_options,
     .run = cli_list, .path = "/v1/operations", .page_max = 100, .show = cli_ops_show,
     .item_needs = CLI_NEEDS_OP},
    {"ledger", "block", "HEIGHT", "one block and its operations", .run = cli_get,
     .path = "/v1/blocks/%s", .show = cli_block_show,
     .needs = "height# id parent proposer proposer_name time_ms# ops_root ops_count# state_root "
              "ops["},
    {"ledger", "op", "OP", "one operation", .run = cli_get, .path = "/v1/operations/%s",
     .show = cli_op_show, .needs = CLI_NEEDS_OP " asset nonce# payload~"},
    {"ledger", "verify", NULL, "check the whole chain from its genesis, without trusting the node",
     .about = "Fetches every block and executes it anew here: who signed it, that it names the one "
              "before, each operation's signature, rights and four proofs, the root of the "
              "operations and of the state. What is trusted is the genesis: the file of "
              "--genesis, the id of --chain, or else the node's. The chain is kept in TMPDIR "
              "meanwhile.\n\n"
              "With --by-node the node walks its own store instead, and compares every entry that "
              "it has stored; that needs the node's token.",
     .examples = "hypermesh ledger verify --genesis run/dev/genesis.bin\n"
                 "hypermesh ledger verify --by-node",
     .options = verify_options, .run = cli_ledger_verify, .path = "/v1/ledger/verify",
     .show = cli_verify_show, .needs = "blocks# ops# state_root"},

    {"cert", "list", NULL, "certificates of the authority, newest first",
     .options = cert_list_options, .run = cli_list, .path = "/v1/certificates", .page_max = 500,
     .show = cli_certs_show, .item_needs = CERT},
    {"cert", "show", "FILE|SERIAL", "a certificate, of a PEM file or the authority's",
     .options = authority_options, .run = cli_cert_show, .path = "/v1/certificates/%s",
     .show = cli_cert_facts, .needs = CERT " certificate"},
    {"cert", "issue", "CSR", "get a certificate for a request",
     .about = "Writes the chain, leaf first, in PEM.\n\n" AUTHORITY_TOKEN,
     .examples = "hypermesh cert issue server.csr --profile server -o server.crt",
     .options = cert_issue_options, .run = cli_cert_issue, .show = cli_cert_facts},
    {"cert", "verify", "FILE", "check a chain without asking anybody",
     .about = "FILE is a certificate and the issuing CA behind it, in PEM. A node's certificate is "
              "held to the rules of the mesh, another to those of a TLS server.",
     .examples = "hypermesh cert verify node.crt --root mesh-root.crt --crl mesh.crl",
     .options = cert_verify_options, .run = cli_cert_verify, .show = cli_cert_facts},
    {"cert", "revoke", "SERIAL", "revoke a certificate for good", .about = AUTHORITY_TOKEN,
     .options = cert_revoke_options, .run = cli_cert_revoke, .path = "/v1/certificates/%s/revoke",
     .show = cli_cert_facts, .needs = CERT},

    {"stoq", "ping", "HOST", "round trips to a STOQ server", .about = STOQ_CA,
     .options = stoq_ping_options, .run = cli_stoq_ping},
    {"stoq", "perf", "HOST", "throughput from and to a STOQ server", .about = STOQ_CA,
     .options = stoq_perf_options, .run = cli_stoq_perf},
    {"stoq", "send", "HOST", "a file to somebody who runs stoq recv",
     .about = STOQ_CA " The file arrives whole, checked by its hash, or not at all.",
     .examples = "hypermesh stoq send '[2001:db8::2]:9293' --ca mesh-root.crt --file disk.img",
     .options = stoq_send_options, .run = cli_stoq_send},
    {"stoq", "recv", "DIR", "files from stoq send into a folder",
     .about =
         "With --ca only senders whose certificate reaches that root (PEM) are let in; without, "
         "anybody who reaches the port. A file never takes another one's place, and has its "
         "name only when all of it is on disk and its hash is right.",
     .examples = "hypermesh stoq recv inbox --ca mesh-root.crt --cert node.crt --key node.key",
     .options = stoq_recv_options, .run = cli_stoq_recv},

    {"man", NULL, NULL, "print the man page, troff", .run = cli_man},
    {"completion", NULL, "bash|zsh", "print completion for a shell",
     .examples = "source <(hypermesh completion bash)", .run = cli_completion},
    {0},
};
