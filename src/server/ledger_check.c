#include "server/ledger_check.h"

#include <stdio.h>
#include <unistd.h>

#include "base/env.h"
#include "mesh/simplex.h"

#define PATH_BYTES 4096
#define GENESIS_MAX (64u << 20)

// The validators of the genesis agree on the whole chain, as one epoch of the consensus:
// mesh/node.c does the same.
static hm_err set_of(const hm_genesis *g, hm_arena *arena, hm_simplex_set *out)
{
    hm_simplex_validator *list = hm_arena_array(arena, g->count, sizeof(*list));
    if (!list)
        return HM_E_NOMEM;
    for (uint32_t i = 0; i < g->count; i++) {
        const hm_genesis_validator *v = &g->validators[i];
        list[i] = (hm_simplex_validator){.public_key = v->public_key, .power = v->stake};
        HM_TRY(hm_genesis_node_id(v, &list[i].id));
    }
    *out = (hm_simplex_set){.chain_id = g->chain_id, .count = g->count, .validators = list};
    return HM_OK;
}

hm_err ledger_check_certificate(void *ctx, hm_view *parent, const hm_block_header *header,
                                const hm_hash *block_id, hm_bytes certificate, bool tip)
{
    hm_arena arena = {0};
    hm_simplex_set set;
    hm_simplex_kind kind = 0;
    hm_err err;
    (void)ctx;
    HM_TRY_OUT(set_of(hm_view_genesis(parent), &arena, &set));
    HM_TRY_OUT(hm_simplex_cert_verify(&set, block_id, header->view, certificate, &kind));
    if (tip && kind != HM_SIMPLEX_FINALIZE)
        err = hm_fail(HM_E_QUORUM, "the newest block's certificate is no finalization");
out:
    hm_arena_free(&arena);
    return err;
}

hm_err ledger_check_evidence(const hm_exec *x, hm_bytes evidence, uint32_t *offender)
{
    hm_arena arena = {0};
    hm_simplex_set set;
    hm_err err;
    HM_TRY_OUT(set_of(x->genesis, &arena, &set));
    err = hm_simplex_evidence_verify(&set, evidence, offender);
out:
    hm_arena_free(&arena);
    return err;
}

hm_ledger_config ledger_check_config(const char *dir, hm_bytes genesis)
{
    static const hm_module *const modules[] = {&hm_module_node, &hm_module_proof, &hm_module_asset,
                                               &hm_module_trust};
    return (hm_ledger_config){.dir = dir,
                              .genesis = genesis,
                              .modules = modules,
                              .module_count = sizeof(modules) / sizeof(modules[0]),
                              .proofs = &hm_proof_rules_v1,
                              .evidence = ledger_check_evidence};
}

hm_err ledger_check_dir(const char *data_dir, const char *genesis_path,
                        void (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
                        hm_ledger_verify_report *report)
{
    const hm_ledger_verify_hooks hooks = {
        .certificate = ledger_check_certificate, .progress = progress, .ctx = ctx};
    char dir[PATH_BYTES], path[PATH_BYTES + 16], scratch[PATH_BYTES + 32];
    hm_buf genesis = {0};
    hm_ledger *l = NULL;
    hm_err err;
    if (snprintf(dir, sizeof(dir), "%s/ledger", data_dir) >= (int)sizeof(dir))
        return hm_fail(HM_E_LIMIT, "the directory's name is too long");
    // Opening would make an empty one.
    if (!hm_env_exists(dir))
        return hm_fail(HM_E_NOTFOUND, "there is no ledger in %s", dir);
    snprintf(path, sizeof(path), "%s/genesis.bin", data_dir);
    err = hm_file_read(genesis_path ? genesis_path : path, GENESIS_MAX, &genesis);
    if (err != HM_OK) {
        hm_fail(err, "genesis %s: %s", genesis_path ? genesis_path : path, hm_err_text(err));
        goto out;
    }
    const hm_ledger_config cfg = ledger_check_config(dir, hm_buf_bytes(&genesis));
    HM_TRY_OUT(hm_ledger_open(&cfg, &l));
    snprintf(scratch, sizeof(scratch), "%s.verify-%ld", dir, (long)getpid());
    err = hm_ledger_verify(l, scratch, &hooks, report);
out:
    hm_ledger_close(l);
    hm_buf_free(&genesis);
    return err;
}
