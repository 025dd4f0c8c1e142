// Walking a node's chain from its genesis, on this side: every block is fetched and executed anew
// into a store of this program's own, so that nothing but the genesis is taken on trust.
//
// What a step checks: the block names the one before; its certificate has signatures of a quorum of
// the genesis' validators; each operation's signature, nonce, rights and its proofs of space,
// stake, work and time against the state before it; the root of the operations and the root of the
// state after them. The newest block's certificate must be a finalization, which makes all before
// it final.
#ifndef HM_CLI_WALK_H
#define HM_CLI_WALK_H

#include "cli/cli.h"
#include "mesh/ledger.h"

typedef struct cli_walk {
    hm_client client;  // keeps its connection
    hm_ledger *ledger; // owned; its files have no name any more
    hm_genesis genesis;
    hm_buf genesis_bytes;
    const char *trust; // where the genesis came from: "file", "chain", "node"
    uint64_t target;   // the node's height when the walk began
    uint64_t ops;
    uint64_t newest_ms; // time of the newest block walked
    hm_hash state_root; // after it
    cli_progress progress;
} cli_walk;

// Reads the options genesis and chain, gets the genesis and the height, and opens the store. End
// with cli_walk_end() also after a failure.
HM_CHECK hm_err cli_walk_begin(cli *c, cli_walk *w);
// Goes on to this height, telling how far it is on stderr. HM_E_CORRUPT, HM_E_QUORUM or the error
// of the first thing that is wrong, with the block and the reason in the detail.
HM_CHECK hm_err cli_walk_to(cli_walk *w, uint64_t height);
// Is the newest block walked final? Follows certificates from it to the first finalization, whose
// height it gives.
HM_CHECK hm_err cli_walk_final(cli_walk *w, uint64_t *height);
void cli_walk_end(cli_walk *w);

#endif
