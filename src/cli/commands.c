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
    {"dns", "names of the mesh, and asking for them"},
    {"trust", "the authorities and foreign roots that the mesh believes, and votes about them"},
    {"cert", "certificates of the authority"},
    {"log", "the transparency log of the authority: checked, watched"},
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
    {"DOMAIN", "a name of the mesh, with its zone behind it or without: www, www.dev.internal"},
    {"TRUST", "an authority, a foreign root or a proposal: its id, or the beginning of it (4 "
              "digits or more)"},
    {"SERIAL", "the serial number of a certificate, 32 hexadecimal digits"},
    {"INDEX", "the number of an entry of the log, from 0"},
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
    {"8", "an alarm: a log that was changed or split, a certificate that nobody expected"},
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
#define DNS_RECORD_OPTIONS                                                                         \
    {"aaaa", "LIST", "IPv6 addresses, with commas between"}, {"txt", "TEXT", "a text"},            \
        {"ttl", "SECONDS", "how long others may keep the records", .def = "60"}
static const cli_option dns_list_options[] = {
    {"owner", "NODE", "only of this owner: name, id, or the beginning of it"},
    {"search", "TEXT", "only with this text in the name"},
    {"limit", "N", "not more than this many"},
    {0},
};
static const cli_option dns_register_options[] = {
    DNS_RECORD_OPTIONS,
    {"days", "N", "how long it is to live, at most 732", .def = "366"},
    {0},
};
static const cli_option dns_set_options[] = {DNS_RECORD_OPTIONS, {0}};
static const cli_option dns_delegate_options[] = {
    {"ns", "LIST", "names of its servers, with commas between", .needed = true},
    {"ds", "LIST", "\"TAG ALGORITHM DIGEST-TYPE HEX\" of its keys, with commas between"},
    {"aaaa", "LIST", "addresses, when the name itself is one of the servers"},
    {"ttl", "SECONDS", "how long others may keep the records", .def = "60"},
    {0},
};
static const cli_option dns_renew_options[] = {
    {"days", "N", "how long it is to live from now, at most 732", .def = "366"},
    {0},
};
static const cli_option trust_foreign_options[] = {
    {"zone", "ZONE", "the DNS zone that it is believed for"},
    {"prefix", "PREFIX", "the IPv6 prefix that it is believed for, ADDRESS/BITS"},
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
static const cli_option cert_audit_options[] = {
    {"limit", "N", "not more than this many", .def = "50"},
    {"verify", NULL, "read all of it and check every hash"},
    {"file", "FILE", "of a copy of audit.log instead of asking the authority"},
    {"head", "HASH", "with --verify: a head that was noted earlier, which must be in it"},
    AUTHORITY,
    {0},
};
static const cli_option cert_issue_options[] = {
    {"output", "FILE", "the file to write", .letter = 'o', .needed = true},
    {"profile", "WORD", "what the certificate is for", .words = "node server client code",
     .def = "node"},
    {"hours", "N", "its life, within what the profile allows"},
    {"days", "N", "the same in days; 30 unless one of these is given"},
    AUTHORITY,
    {0},
};
static const cli_option cert_renew_options[] = {
    {"key", "FILE", "the certificate's key, PEM", .letter = 'k', .needed = true},
    {"csr", "FILE", "a request for the same names, PEM; made here with --key unless given"},
    {"output", "FILE", "the file to write; in the certificate's place unless given", .letter = 'o'},
    AUTHORITY,
    {0},
};
static const cli_option cert_verify_options[] = {
    {"root", "FILE", "the root to reach, PEM"},
    {"mesh", NULL, "in place of --root: whom the mesh believes, by the ledger of --node"},
    {"crl", "FILE", "revocation list, DER"},
    {0},
};
static const cli_option cert_revoke_options[] = {
    {"reason", "WORD", "why", .words = REASONS, .def = "unspecified"},
    AUTHORITY,
    {0},
};
#define LOG_OPTIONS                                                                                \
    {"tiles", "DIR|URL",                                                                           \
     "a log of static-ct-api to read instead of the authority's: a folder, or an https URL"},      \
        {"key", "FILE", "the log's public key, PEM; the authority's word for it unless given"},    \
        {"policy", "FILE", "witnesses to believe, a line \"witness NAME KEY [URL]\" each"},        \
        {"witnesses", "N", "how many of --policy must have cosigned the checkpoint"}, AUTHORITY
static const cli_option log_head_options[] = {
    {"output", "FILE", "keep the checkpoint in this file", .letter = 'o'},
    LOG_OPTIONS,
    {0},
};
static const cli_option log_show_options[] = {
    {"cert", "FILE", "the entry of this certificate, PEM, with the issuing CA behind it"},
    LOG_OPTIONS,
    {0},
};
static const cli_option log_verify_options[] = {
    {"cert", "FILE", "only that this certificate is in it: PEM, with the issuing CA behind it"},
    {"from", "FILE", "a checkpoint that was kept, of which it must be the continuation"},
    LOG_OPTIONS,
    {0},
};
static const cli_option log_monitor_options[] = {
    {"state", "FILE", "where the last verified checkpoint is kept", .needed = true},
    {"names", "LIST", "names to watch, with commas between; .example for all below example"},
    {"expected", "SERIALS|FILE",
     "serials of certificates for them that are no surprise: a list, or a file of lines"},
    {"once", NULL, "end after what is there now"},
    LOG_OPTIONS,
    {0},
};

#define PASSPHRASE                                                                                 \
    {"passphrase-file", "FILE",                                                                    \
     "its first line is the key's passphrase; else the terminal is asked"}
static const cli_option root_create_options[] = {
    {"family", "WORD", "whose root", .words = "mesh edge", .needed = true},
    {"mesh", "NAME", "name of the mesh, [a-z0-9-]", .needed = true},
    {"out", "DIR", "the folder for the key and the certificate", .needed = true},
    PASSPHRASE,
    {0},
};
static const cli_option root_sign_options[] = {
    {"key", "FILE", "the root's key, beside its certificate: mesh-root.key", .needed = true},
    {"output", "FILE", "the file to write", .letter = 'o', .needed = true},
    {"days", "N", "how long the issuing CA may live", .def = "1095"},
    {"edge-names", "NAMES",
     "of an edge issuing CA: DNS names, with all below them, and IPv6 prefixes that it may give, "
     "with "
     "commas between; else it may give all"},
    PASSPHRASE,
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
        {"qlog", "DIR", "folder for a log of the connection, in qlog's form"},                     \
        {"xdp", "INTERFACE", "send and receive by AF_XDP there, where that is possible"}
static const cli_option dns_resolve_options[] = {
    {"type", "WORD", "the type of records", .def = "AAAA"},
    {"server", "HOST", "whom to ask, by QUIC", .def = "[::1]:8853"},
    STOQ_OPTIONS,
    {0},
};
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
    {"streams", "N", "streams of each connection", .def = "1"},
    {"connections", "N", "connections, 1 to 32, each by a socket of its own; 1 unless given"},
    {"handshakes", "SECONDS", "count whole handshakes for so long instead"},
    {"parallel", "N", "handshakes at a time", .def = "16"},
    {"resume", NULL, "handshakes with the session of the one before; with --early, early data"},
    STOQ_OPTIONS,
    {0},
};

static const cli_option stoq_send_options[] = {
    {"file", "FILE", "what to send", .needed = true},
    {"name", "NAME", "what it is to be called there, unless as here"},
    {"connections", "N", "send by a bundle of so many, 1 to 32"},
    STOQ_OPTIONS,
    {0},
};
static const cli_option stoq_recv_options[] = {
    {"listen", "ADDR", "where, an address and a port", .def = "[::]:9293"},
    {"count", "N", "files to take, then end", .def = "1"},
    {"limit", "BYTES", "of a file at most; K, M, G are understood", .def = "64G"},
    {"connections", "N", "of a sender's bundle at most, 1 to 32; 32 unless given"},
    {"cert", "FILE", "certificate chain to show, PEM", .needed = true},
    {"key", "FILE", "the key of --cert, PEM", .needed = true},
    {"xdp", "INTERFACE", "receive by AF_XDP there, where that is possible"},
    {0},
};

#define AUDIT "n# at_ms# who from act subject serial detail prev"
#define NAME "name full asset owner owner_name state published? expires_ms# records["
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

    {"dns", "list", NULL, "names of the mesh, newest first", .options = dns_list_options,
     .run = cli_list, .path = "/v1/names", .page_max = 500, .show = cli_names_show,
     .item_needs = NAME},
    {"dns", "show", "DOMAIN", "a name and its records", .run = cli_get, .path = "/v1/names/%s",
     .show = cli_name_facts, .needs = NAME},
    {"dns", "zone", NULL, "the mesh's zone, and the keys that sign it",
     .about = "The DS records are what a resolver of yours needs to check answers: its trust "
              "anchor for the zone.",
     .run = cli_get, .path = "/v1/zone", .show = cli_zone_show, .needs = "zone serial# keys["},
    {"dns", "register", "DOMAIN", "register a name",
     .about = "Whoever is first has it. A name with a dot, \"a.www\", is for who may manage the "
              "one above it, \"www\". All nodes answer for it as soon as this says that it is "
              "final.\n\n" TOKEN,
     .examples = "hypermesh dns register www --aaaa 2001:db8::80,2001:db8::81",
     .options = dns_register_options, .run = cli_dns_register, .path = "/v1/names",
     .show = cli_receipt_show, .needs = CLI_NEEDS_RECEIPT},
    {"dns", "set", "DOMAIN", "change the records of a name",
     .about = "Records of a type that is not given stay as they are; an empty text, as in "
              "--aaaa '', takes those of a type away.\n\n" TOKEN,
     .examples = "hypermesh dns set www --txt 'v=1'", .options = dns_set_options,
     .run = cli_dns_set, .path = "/v1/names/%s", .show = cli_receipt_show,
     .needs = CLI_NEEDS_RECEIPT},
    {"dns", "delegate", "DOMAIN", "let other servers answer for a name and all below it",
     .about = "In place of the records that it has; dns set takes it back: it drops the "
              "delegation.\n\n" TOKEN,
     .examples = "hypermesh dns delegate lab --ns ns1.example.net,ns2.example.net\n"
                 "hypermesh dns delegate lab --ns lab.dev.internal --aaaa 2001:db8::53",
     .options = dns_delegate_options, .run = cli_dns_delegate, .path = "/v1/names/%s",
     .show = cli_receipt_show, .needs = CLI_NEEDS_RECEIPT},
    {"dns", "renew", "DOMAIN", "let a name live longer", .about = TOKEN,
     .options = dns_renew_options, .run = cli_dns_renew, .path = "/v1/names/%s/renew",
     .show = cli_receipt_show, .needs = CLI_NEEDS_RECEIPT},
    {"dns", "transfer", "DOMAIN", "give a name to another node",
     .about = "Its owner alone can, and has no say any more afterwards.\n\n" TOKEN,
     .options = asset_transfer_options, .run = cli_dns_transfer, .path = "/v1/names/%s",
     .show = cli_receipt_show, .needs = CLI_NEEDS_RECEIPT},
    {"dns", "resolve", "DOMAIN", "ask a DNS server by QUIC, and check what it says",
     .about = "A name is the mesh's, with or without its zone, unless a dot ends it: "
              "example.org. goes to the server's upstreams. Answers about the mesh's zone are "
              "checked against the zone's keys, which the node of --node has from the ledger: what "
              "does not hold is an error. --ca must name the root that the certificates of both "
              "reach.",
     .examples = "hypermesh dns resolve www\n"
                 "hypermesh dns resolve www.dev.internal --type TXT --server localhost:8856",
     .options = dns_resolve_options, .run = cli_dns_resolve, .show = cli_resolved_show},

    {"trust", "list", NULL, "the authorities and foreign roots in force, and what is proposed",
     .about = "The genesis names the first authority; others come and go by votes of the members. "
              "Certificates of members, and revocation lists, count when an authority in force "
              "signed them. A foreign root vouches for the names of its own zone and prefix, and "
              "for nothing else.",
     .run = cli_get, .path = "/v1/trust", .show = cli_trust_show, .item_needs = "id kind total#"},
    {"trust", "show", "TRUST", "an authority, a foreign root, or a proposal and who approves of it",
     .run = cli_get, .path = "/v1/trust/%s", .show = cli_trust_facts, .needs = "id kind total#"},
    {"trust", "propose", "FILE", "propose an issuing certificate for this mesh",
     .about =
         "FILE is the certificate in PEM; what follows it in the file is left out. It must be "
         "under the root of the genesis, with the name constraints of the present one, and end no "
         "sooner than that. The operation's id is the proposal's: the other members approve of it "
         "by that, within seven days. This node's proposal is its approval.\n\n" TOKEN,
     .examples = "hypermesh trust propose mesh.chain", .run = cli_trust_propose,
     .path = "/v1/trust", .show = cli_receipt_show, .needs = CLI_NEEDS_RECEIPT},
    {"trust", "foreign-propose", "FILE", "propose the root of another organisation",
     .about =
         "FILE is its self-signed certificate in PEM, with a FALCON-1024, ECDSA P-256 or ECDSA "
         "P-384 key. Certificates below it are believed when all their names are in the zone, and "
         "their addresses in the prefix; one of the two may be left out. The zone is not, and is "
         "neither above nor below, that of this mesh or of another foreign root; the prefix has 32 "
         "bits or more and overlaps none of theirs. Then as trust propose.\n\n" TOKEN,
     .examples = "hypermesh trust foreign propose partner-root.crt --zone partner.example \\\n"
                 "    --prefix 2001:db8:b::/48",
     .options = trust_foreign_options, .run = cli_trust_propose, .path = "/v1/trust",
     .show = cli_receipt_show, .needs = CLI_NEEDS_RECEIPT},
    {"trust", "approve", "TRUST", "approve of a proposal",
     .about = "Once members with more than two thirds of the voting power approve, it is "
              "done.\n\n" TOKEN,
     .examples = "hypermesh trust show 3fa9c1d2\n"
                 "hypermesh trust approve 3fa9c1d2",
     .run = cli_trust_say, .path = "/v1/trust/%s/approve", .show = cli_receipt_show,
     .needs = CLI_NEEDS_RECEIPT},
    {"trust", "withdraw", "TRUST",
     "propose that an authority or a foreign root leaves, or approve of that",
     .about = "An authority goes for good: its key never comes back, and the certificates that "
              "members have of it are revoked. Members with more than two thirds of the voting "
              "power must have one of another authority by then: trust show tells. A foreign root "
              "can be proposed again. Of a proposal of this node it ends that.\n\n" TOKEN,
     .run = cli_trust_say, .path = "/v1/trust/%s/withdraw", .show = cli_receipt_show,
     .needs = CLI_NEEDS_RECEIPT},

    {"cert", "list", NULL, "certificates of the authority, newest first",
     .options = cert_list_options, .run = cli_list, .path = "/v1/certificates", .page_max = 500,
     .show = cli_certs_show, .item_needs = CERT},
    {"cert", "show", "FILE|SERIAL", "a certificate, of a PEM file or the authority's",
     .options = authority_options, .run = cli_cert_show, .path = "/v1/certificates/%s",
     .show = cli_cert_facts, .needs = CERT " certificate"},
    {"cert", "issue", "CSR", "get a certificate for a request",
     .about = "Writes the chain, leaf first, in PEM.\n\n" AUTHORITY_TOKEN,
     .examples = "hypermesh cert issue server.csr --profile server -o server.crt\n"
                 "hypermesh cert issue alice.csr --profile client --hours 8 -o alice.crt",
     .options = cert_issue_options, .run = cli_cert_issue, .show = cli_cert_facts},
    {"cert", "renew", "FILE", "get the next certificate in the place of one, by its key",
     .about =
         "For the same names, the same use and as long as the one before, once a third of its "
         "life is over and while it is in force. The key is the proof: no token is needed. "
         "With --csr a server, a client or a signer of code gets a new key; a node has its key "
         "for life. Certificates by ACME are renewed by ACME.",
     .examples = "hypermesh cert renew server.crt --key server.key\n"
                 "hypermesh cert renew alice.crt --key alice.key --csr next.csr -o next.crt",
     .options = cert_renew_options, .run = cli_cert_renew, .show = cli_cert_facts},
    {"cert", "verify", "FILE", "check a chain without asking anybody, or by what the mesh believes",
     .about = "FILE is a certificate and the issuing CA behind it, in PEM. A node's certificate is "
              "held to the rules of the mesh, another to those of a TLS server, a TLS client or a "
              "signer of code, as it says.\n\n"
              "With --mesh the node says whom the mesh believes, and the checks are made here: a "
              "member's certificate must be by an authority in force, another under a foreign root "
              "in force, as a server's or a client's, with names and addresses of that root's zone "
              "and prefix alone. --crl is the list of who issued it.",
     .examples = "hypermesh cert verify node.crt --root mesh-root.crt --crl mesh.crl\n"
                 "hypermesh cert verify partner.crt --mesh",
     .options = cert_verify_options, .run = cli_cert_verify, .show = cli_cert_facts},
    {"cert", "revoke", "SERIAL", "revoke a certificate for good", .about = AUTHORITY_TOKEN,
     .options = cert_revoke_options, .run = cli_cert_revoke, .path = "/v1/certificates/%s/revoke",
     .show = cli_cert_facts, .needs = CERT},

    {"cert", "root-create", NULL, "make a root, on a machine without a network",
     .about =
         "Writes FAMILY-root.key, encrypted by the passphrase, and FAMILY-root.crt. The key is "
         "needed again for signing alone, and never on a server.",
     .examples = "hypermesh cert root create --family mesh --mesh example --out /media/offline",
     .options = root_create_options, .run = cli_root_create},
    {"cert", "root-sign", "FILE", "sign an issuing CA with such a root",
     .about =
         "FILE is the request that trustchain-server init --issuing-only made, or the certificate "
         "of an edge root, which a mesh root signs across. What is written is for "
         "trustchain-server install-issuing.",
     .examples = "hypermesh cert root sign --key mesh-root.key mesh-ca.csr -o mesh.chain",
     .options = root_sign_options, .run = cli_root_sign},
    {"cert", "audit", NULL, "who did what to the authority, newest first",
     .about =
         "Each line of the audit log has the hash of the one before it. --verify reads it from "
         "its newest line to its first and checks them all; the head that it prints, noted "
         "elsewhere, shows later that nothing before it was changed: --head.\n\n"
         "Needs a token of the authority, of any role.",
     .examples = "hypermesh cert audit --limit 20\n"
                 "hypermesh cert audit --verify --head $(cat head-of-last-week)\n"
                 "hypermesh cert audit --verify --file audit.log",
     .options = cert_audit_options, .run = cli_cert_audit, .path = "/v1/audit", .page_max = 500,
     .show = cli_audit_show, .item_needs = AUDIT},

    {"log", "head", NULL, "the newest checkpoint of the log, its signatures checked",
     .about = "--output keeps it, for --from of log verify.",
     .examples = "hypermesh log head -o checkpoint", .options = log_head_options,
     .run = cli_log_head, .show = cli_log_head_facts},
    {"log", "show", "[INDEX]", "an entry of the log, and that it is in it",
     .options = log_show_options, .run = cli_log_show, .show = cli_log_entry_facts},
    {"log", "verify", NULL, "read the whole log and check all of it",
     .about =
         "Every entry is hashed, every tile compared with what was computed, and the root of it "
         "all with the one that the log signed. With --cert one certificate is checked instead: "
         "that its SCT is the log's, and that its entry is where the SCT says; that takes a few "
         "tiles.",
     .examples = "hypermesh log verify\n"
                 "hypermesh log verify --cert server.crt\n"
                 "hypermesh log verify --from checkpoint --witnesses 2 --policy witnesses.txt\n"
                 "hypermesh log verify --tiles /srv/log --key log.pem",
     .options = log_verify_options, .run = cli_log_verify, .show = cli_log_verify_facts},
    {"log", "monitor", NULL, "follow the log, and say what is issued for one's names",
     .about =
         "Every ten seconds the newest checkpoint is read: the log that it signs must go on from "
         "the one of --state, whose place it takes when every new entry was found in it. Each "
         "certificate for a name of --names is printed, with --json as a line of JSON. Exit code "
         "8 and a line with ALARM: the log was changed, split or set back, and both checkpoints "
         "are in FILE.alarm; or, with --expected, a certificate was issued whose serial is not in "
         "it; --state then stays as it was, and so does the alarm.",
     .examples = "hypermesh log monitor --state log.state --names www.example,.lab.example\n"
                 "hypermesh log monitor --state log.state --names www.example \\\n"
                 "    --expected mine.txt --once",
     .options = log_monitor_options, .run = cli_log_monitor},

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
