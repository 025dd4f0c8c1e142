// Checking a stored ledger from its genesis: what `hypermesh-server verify` and the API's
// verification do alike.
#ifndef HM_SERVER_LEDGER_CHECK_H
#define HM_SERVER_LEDGER_CHECK_H

#include "mesh/ledger.h"

// For hm_ledger_verify_hooks: a quorum of the validators signed it, and the
// newest block's certificate is a finalization. ctx is not used. Any thread.
HM_CHECK hm_err ledger_check_certificate(void *ctx, hm_view *parent, const hm_block_header *header,
                                         const hm_hash *block_id, hm_bytes certificate, bool tip);
// For hm_ledger_config.
HM_CHECK hm_err ledger_check_evidence(const hm_exec *x, hm_bytes evidence, uint32_t *offender);

// How a node's ledger is opened: all modules, their rules, and evidence checked as above. Both
// arguments are borrowed.
hm_ledger_config ledger_check_config(const char *dir, hm_bytes genesis);

// Opens the store of a node's data directory, which may be in use, and walks it. genesis_path NULL
// = DIR/genesis.bin. Blocking. HM_E_NOTFOUND when there is no ledger yet.
HM_CHECK hm_err ledger_check_dir(const char *data_dir, const char *genesis_path,
                                 void (*progress)(void *ctx, uint64_t done, uint64_t total),
                                 void *ctx, hm_ledger_verify_report *report);

#endif
