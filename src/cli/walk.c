#include "cli/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/ledger_check.h"

// ---- begin --------------------------------------------------------------------------------------

static hm_err get_genesis(cli *c, cli_walk *w)
{
    const char *file = hm_config_get(&c->cfg, "genesis");
    const char *chain = hm_config_get(&c->cfg, "chain");
    hm_hash want;
    char hex[65];
    if (chain && hm_unhex(want.b, HM_HASH_BYTES, chain, strlen(chain)) != HM_OK)
        return hm_fail(HM_E_USAGE, "--chain is a chain's id, 64 hexadecimal digits");
    w->trust = file ? "file" : chain ? "chain" : "node";
    if (file) {
        HM_TRY(cli_read_file(file, HM_GENESIS_BYTES_MAX, &w->genesis_bytes));
    } else {
        HM_TRY(hm_client_request(&w->client, "GET", "/v1/genesis", (hm_bytes){0}, NULL,
                                 &w->genesis_bytes));
    }
    hm_err_clear();
    hm_err err = hm_genesis_decode(hm_buf_bytes(&w->genesis_bytes), &w->genesis);
    if (err != HM_OK) {
        char why[400];
        snprintf(why, sizeof(why), "%s", hm_err_detail()[0] ? hm_err_detail() : hm_err_text(err));
        return hm_fail(HM_E_PARSE, "%s is no genesis: %s", file ? file : "what the node gives",
                       why);
    }
    hm_hex(hex, w->genesis.chain_id.b, HM_HASH_BYTES);
    if (chain && !hm_hash_eq(&want, &w->genesis.chain_id))
        return hm_fail(HM_E_OP_CHAIN, "%s is of chain %s", file ? file : "the node's genesis", hex);
    return HM_OK;
}

// The node's height, and whether it is of the same chain.
static hm_err get_height(const cli *c, cli_walk *w)
{
    yyjson_doc *doc = NULL;
    hm_hash chain;
    hm_err err;
    HM_TRY(cli_ask(&w->client, "GET", "/v1/status", (hm_bytes){0}, &doc));
    yyjson_val *s = yyjson_doc_get_root(doc);
    HM_TRY_OUT(cli_need(c, s, "height# chain_id"));
    HM_TRY_OUT(hm_json_u64(s, "height", 0, UINT64_MAX, &w->target));
    HM_TRY_OUT(hm_json_hex(s, "chain_id", chain.b, HM_HASH_BYTES));
    if (!hm_hash_eq(&chain, &w->genesis.chain_id))
        err = hm_fail(HM_E_OP_CHAIN, "the node is of chain %s, not of this genesis",
                      cli_str(s, "chain_id"));
out:
    yyjson_doc_free(doc);
    return err;
}

// A store in the folder for temporary files. Its names are taken away as soon as it is open, so
// that nothing is left however the program ends.
static hm_err open_store(cli_walk *w)
{
    const char *tmp = getenv("TMPDIR");
    char dir[4000], file[4096];
    static const char *const names[] = {"data.mdb", "lock.mdb"};
    if (snprintf(dir, sizeof(dir), "%s/hypermesh-XXXXXX", tmp && *tmp ? tmp : "/tmp") >=
        (int)sizeof(dir))
        return hm_fail(HM_E_CONFIG, "TMPDIR is too long");
    if (!mkdtemp(dir))
        return hm_fail(HM_E_IO, "no folder can be made in %s; TMPDIR names another",
                       tmp && *tmp ? tmp : "/tmp");
    hm_ledger_config cfg = ledger_check_config(dir, hm_buf_bytes(&w->genesis_bytes));
    cfg.no_sync = true;
    hm_err err = hm_ledger_open(&cfg, &w->ledger);
    for (size_t i = 0; i < 2; i++) {
        snprintf(file, sizeof(file), "%s/%s", dir, names[i]);
        (void)unlink(file);
    }
    (void)rmdir(dir);
    return err;
}

hm_err cli_walk_begin(cli *c, cli_walk *w)
{
    *w = (cli_walk){.client = c->client, .trust = ""};
    w->progress = cli_progress_begin("block", 0);
    HM_TRY(hm_client_keep(&w->client));
    HM_TRY(hm_crypto_init());
    HM_TRY(get_genesis(c, w));
    HM_TRY(get_height(c, w));
    return open_store(w);
}

void cli_walk_end(cli_walk *w)
{
    hm_ledger_close(w->ledger);
    hm_genesis_free(&w->genesis);
    hm_buf_free(&w->genesis_bytes);
    hm_client_release(&w->client);
}

// ---- walking ------------------------------------------------------------------------------------

// A block as the node gives it, taken apart.
typedef struct fetched {
    hm_buf raw;
    hm_bytes bytes, certificate; // in raw
    hm_block block;
} fetched;

static hm_err at_block(hm_err err, uint64_t height)
{
    char why[400];
    snprintf(why, sizeof(why), "%s", hm_err_detail()[0] ? hm_err_detail() : hm_err_text(err));
    return err == HM_OK ? HM_OK : hm_fail(err, "block %llu: %s", (unsigned long long)height, why);
}

static hm_err fetch(cli_walk *w, uint64_t height, fetched *f)
{
    char path[64];
    *f = (fetched){0};
    snprintf(path, sizeof(path), "/v1/blocks/%llu/raw", (unsigned long long)height);
    HM_TRY(hm_client_request(&w->client, "GET", path, (hm_bytes){0}, NULL, &f->raw));
    hm_rd r = hm_rd_of(hm_buf_bytes(&f->raw));
    f->bytes = hm_rd_bytes(&r, HM_BLOCK_BYTES_MAX);
    f->certificate = hm_rd_bytes(&r, f->raw.len);
    hm_err err = hm_rd_end(&r);
    if (err == HM_OK)
        err = hm_block_decode(f->bytes, &f->block);
    if (err != HM_OK)
        hm_buf_free(&f->raw);
    return at_block(err, height);
}

static void fetched_free(fetched *f)
{
    hm_block_free(&f->block);
    hm_buf_free(&f->raw);
}

static hm_err check_certificate(cli_walk *w, const fetched *f, bool finalization)
{
    return ledger_check_certificate(NULL, hm_ledger_tip(w->ledger), &f->block.header, &f->block.id,
                                    f->certificate, finalization);
}

static hm_err step(cli_walk *w, uint64_t height, bool newest)
{
    fetched f;
    hm_view *after = NULL;
    HM_TRY(fetch(w, height, &f));
    hm_err err = check_certificate(w, &f, newest);
    if (err == HM_OK)
        err = hm_ledger_execute(w->ledger, hm_ledger_tip(w->ledger), f.bytes, &after);
    if (err == HM_OK)
        err = hm_ledger_commit(w->ledger, after, f.certificate);
    w->ops += f.block.count;
    w->newest_ms = f.block.header.time_ms;
    w->state_root = f.block.header.state_root;
    hm_view_release(after);
    fetched_free(&f);
    return at_block(err, height);
}

hm_err cli_walk_final(cli_walk *w, uint64_t *height)
{
    hm_hash id = hm_view_block_id(hm_ledger_tip(w->ledger));
    bool final = false;
    hm_err err = HM_OK;
    for (uint64_t h = hm_ledger_height(w->ledger); err == HM_OK && !final && h <= w->target; h++) {
        fetched f;
        HM_TRY(fetch(w, h, &f));
        if (h == hm_ledger_height(w->ledger) ? !hm_hash_eq(&id, &f.block.id)
                                             : !hm_hash_eq(&id, &f.block.header.parent))
            err = hm_fail(HM_E_BLOCK, "it does not follow the one before");
        if (err == HM_OK)
            err = check_certificate(w, &f, false);
        final = err == HM_OK && check_certificate(w, &f, true) == HM_OK;
        id = f.block.id;
        *height = h;
        fetched_free(&f);
        err = at_block(err, h);
    }
    if (err == HM_OK && !final)
        err = hm_fail(HM_E_QUORUM, "no block up to %llu has a finalization",
                      (unsigned long long)w->target);
    return err;
}

hm_err cli_walk_to(cli_walk *w, uint64_t height)
{
    for (uint64_t h = hm_ledger_height(w->ledger) + 1; h <= height; h++) {
        HM_TRY(step(w, h, h == w->target));
        cli_progress_tell(&w->progress, h, height);
    }
    return HM_OK;
}
