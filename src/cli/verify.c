// hypermesh ledger verify, proof show: what can be checked without trusting the node is, and the
// answer says who checked what.
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/walk.h"
#include "mesh/proof_work.h"

// ---- ledger verify ------------------------------------------------------------------------------

static void show_trust(yyjson_val *v)
{
    const char *trust = cli_str(v, "trust");
    cli_fact("trusted", "%s",
             strcmp(trust, "file") == 0    ? "the genesis in the file of --genesis, nothing else"
             : strcmp(trust, "chain") == 0 ? "the id of --chain, which the genesis hashes to, "
                                             "nothing else"
                                           : "the genesis that the node gave; --genesis or --chain "
                                             "would be yours");
    cli_fact("chain", "%s", cli_str(v, "chain_id"));
}

hm_err cli_verify_show(cli *c, yyjson_val *v)
{
    bool mine = strcmp(cli_str(v, "by"), "client") == 0;
    hm_buf age = {0};
    if (!cli_true(v, "good")) {
        cli_fact("ledger", "NOT GOOD");
        return HM_OK;
    }
    cli_fact("ledger", "good, blocks 1 to %llu", (unsigned long long)cli_u64(v, "blocks"));
    cli_fact("checked by", "%s%s",
             mine ? "this program, from blocks that came from " : "the node itself, ",
             c->client.url);
    cli_fact("", "each block names the one before, and a quorum of validators signed it;");
    cli_fact("", "every operation was executed anew: signature, rights, the four proofs;");
    cli_fact("", "the root of the operations and of the state is right in every block%s",
             mine ? ";" : ",");
    if (mine)
        cli_fact("", "the newest block has a finalization, so all before it are final");
    else
        cli_fact("", "and so is every entry that the node has stored");
    if (mine)
        show_trust(v);
    else
        cli_fact("trusted", "the node's word; without --by-node this program checks by itself");
    cli_fact("operations", "%llu", (unsigned long long)cli_u64(v, "ops"));
    cli_fact("state root", "%s", cli_str(v, "state_root"));
    if (cli_u64(v, "newest_ms")) {
        cli_put_time(&age, cli_u64(v, "newest_ms"));
        cli_fact_buf("newest block", &age);
    }
    return HM_OK;
}

static hm_err verify_here(cli *c, const cli_command *cmd)
{
    cli_walk w;
    hm_buf b = {0};
    hm_err err;
    HM_TRY_OUT(cli_walk_begin(c, &w));
    HM_TRY_OUT(cli_walk_to(&w, w.target));
    hm_jw_open(&b, NULL, '{');
    hm_jw_bool(&b, "good", true);
    hm_jw_str(&b, "by", "client");
    hm_jw_str(&b, "trust", w.trust);
    hm_jw_hex(&b, "chain_id", w.genesis.chain_id.b, HM_HASH_BYTES);
    hm_jw_u64(&b, "blocks", w.target);
    hm_jw_u64(&b, "ops", w.ops);
    hm_jw_hex(&b, "state_root", w.state_root.b, HM_HASH_BYTES);
    hm_jw_u64(&b, "newest_ms", w.newest_ms);
    hm_jw_close(&b, '}');
    hm_buf_puts(&b, "\n");
    err = cli_answer(c, cmd, hm_buf_bytes(&b));
out:
    cli_walk_end(&w);
    hm_buf_free(&b);
    return err;
}

// The node tells how far it is; the last line is the result.
static void on_verify_line(void *ctx, hm_bytes line)
{
    hm_buf *last = ctx;
    uint64_t done, total;
    yyjson_doc *doc = yyjson_read((const char *)line.ptr, line.len, 0);
    yyjson_val *root = yyjson_doc_get_root(doc);
    hm_buf_reset(last);
    hm_buf_put(last, line);
    if (hm_json_u64(root, "done", 0, UINT64_MAX, &done) == HM_OK &&
        hm_json_u64(root, "total", 0, UINT64_MAX, &total) == HM_OK)
        fprintf(stderr,
                isatty(STDERR_FILENO) ? "\r\033[Kblock %llu of %llu" : "block %llu of %llu\n",
                (unsigned long long)done, (unsigned long long)total);
    yyjson_doc_free(doc);
}

static hm_err verify_by_node(cli *c, const cli_command *cmd)
{
    hm_buf last = {0};
    yyjson_doc *doc = NULL;
    bool good = false;
    hm_err err;
    HM_TRY_OUT(hm_client_lines(&c->client, "POST", cmd->path, on_verify_line, &last));
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    if (last.len == 0) {
        err = hm_fail(HM_E_PARSE, "the node's answer lacks every line");
        goto out;
    }
    hm_buf_puts(&last, "\n");
    HM_TRY_OUT(hm_json_parse(hm_buf_bytes(&last), &doc));
    yyjson_val *v = yyjson_doc_get_root(doc);
    HM_TRY_OUT(cli_need(c, v, "good?")); // else the walk was cut off
    HM_TRY_OUT(hm_json_bool(v, "good", &good));
    HM_TRY_OUT(cli_need(c, v, good ? cmd->needs : "error detail"));
    HM_TRY_OUT(cli_answer(c, cmd, hm_buf_bytes(&last)));
    if (!good)
        err = hm_fail(HM_E_CORRUPT, "the node says of its ledger: %s", cli_str(v, "detail"));
out:
    yyjson_doc_free(doc);
    hm_buf_free(&last);
    return err;
}

hm_err cli_ledger_verify(cli *c, const cli_command *cmd)
{
    return hm_config_on(&c->cfg, "by-node") ? verify_by_node(c, cmd) : verify_here(c, cmd);
}

// ---- proof show ---------------------------------------------------------------------------------

static void check(hm_buf *b, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void check(hm_buf *b, const char *what, const char *fmt, ...)
{
    char detail[300];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(detail, sizeof(detail), fmt, ap);
    va_end(ap);
    hm_jw_open(b, NULL, '{');
    hm_jw_str(b, "what", what);
    hm_jw_bool(b, "passed", true);
    hm_jw_str(b, "detail", detail);
    hm_jw_close(b, '}');
}

static void begin(hm_buf *b, const char *name, bool present, const char *summary)
{
    hm_jw_open(b, NULL, '{');
    hm_jw_str(b, "name", name);
    hm_jw_bool(b, "present", present);
    hm_jw_bool(b, "passed", true);
    hm_jw_str(b, "summary", present ? summary : "not asked of a system operation");
    hm_jw_open(b, "checks", '[');
}

static void end(hm_buf *b)
{
    hm_jw_close(b, ']');
    hm_jw_close(b, '}');
}

// The block was executed: each of these passed, or the walk had ended with the reason.
static void put_checked(hm_buf *b, const hm_op *op, const hm_op_digests *d, uint64_t height)
{
    char hex[65];
    begin(b, "space", op->has_space, "WHERE: the owner holds its sealed sector");
    if (op->has_space) {
        hm_hex(hex, op->space.answer.b, HM_HASH_BYTES);
        check(b, "the address is the owner's", "derived from its id");
        check(b, "the answer is the one accepted from the owner",
              "sector %u, epoch %llu, answer %s, as the state before block %llu has it",
              op->space.sector, (unsigned long long)op->space.epoch, hex,
              (unsigned long long)height);
    }
    end(b);
    begin(b, "stake", true, "WHO: the owner signed with its certified key and has stake");
    hm_hex(hex, op->owner.b, HM_HASH_BYTES);
    check(b, "the FALCON-1024 signature verifies", "under the key of %s", hex);
    hm_hex(hex, op->stake_cert.b, HM_HASH_BYTES);
    check(b, "the certificate is the owner's, in force, in its time", "%s", hex);
    check(b, "stake and rights are enough", "in the state before block %llu",
          (unsigned long long)height);
    end(b);
    hm_hex(hex, d->work.b, HM_HASH_BYTES);
    begin(b, "work", true, "HOW: a puzzle over the whole operation was solved");
    check(b, "the puzzle is solved at the difficulty of that block", "nonce %llu over %s",
          (unsigned long long)op->work_nonce, hex);
    end(b);
    begin(b, "time", op->has_time, "WHEN: made after the beacon, final with the block");
    if (op->has_time) {
        hm_hex(hex, op->time.value.b, HM_HASH_BYTES);
        check(b, "the beacon is a recent one with that value",
              "beacon %llu, value %s, whose delay proof the chain was checked for",
              (unsigned long long)op->time.index, hex);
    }
    end(b);
}

// Replays the chain up to the operation's block.
static hm_err prove_here(cli *c, const char *id, hm_buf *out)
{
    cli_walk w;
    hm_hash hash, op_id;
    hm_op_location at;
    hm_op op;
    hm_op_digests digests;
    hm_bytes bytes;
    char path[96];
    yyjson_doc *doc = NULL;
    uint64_t height, final_height;
    hm_err err;
    HM_TRY_OUT(cli_walk_begin(c, &w));
    if (hm_unhex(hash.b, HM_HASH_BYTES, id, strlen(id)) != HM_OK) {
        err = HM_E_INTERNAL;
        goto out;
    }
    snprintf(path, sizeof(path), "/v1/operations/%s", id);
    HM_TRY_OUT(cli_ask(&w.client, "GET", path, (hm_bytes){0}, &doc));
    HM_TRY_OUT(cli_need(c, yyjson_doc_get_root(doc), "height#"));
    HM_TRY_OUT(hm_json_u64(yyjson_doc_get_root(doc), "height", 1, w.target, &height));
    HM_TRY_OUT(cli_walk_to(&w, height));
    err = hm_ledger_op_find(w.ledger, &hash, &at);
    if (err != HM_OK || at.height != height) {
        err = hm_fail(HM_E_CORRUPT, "the node says that the operation is in block %llu; it is not",
                      (unsigned long long)height);
        goto out;
    }
    HM_TRY_OUT(hm_ledger_op_at(w.ledger, at, &bytes, NULL));
    HM_TRY_OUT(hm_op_decode(bytes, &op, &digests));
    op_id = hm_op_id(bytes);
    hm_assert(hm_hash_eq(&op_id, &hash));
    HM_TRY_OUT(cli_walk_final(&w, &final_height));
    hm_jw_open(out, NULL, '{');
    hm_jw_open(out, "items", '[');
    put_checked(out, &op, &digests, height);
    hm_jw_close(out, ']');
    hm_jw_str(out, "by", "client");
    hm_jw_str(out, "trust", w.trust);
    hm_jw_hex(out, "chain_id", w.genesis.chain_id.b, HM_HASH_BYTES);
    hm_jw_u64(out, "height", height);
    hm_jw_u64(out, "index", at.index);
    hm_jw_u64(out, "final_by_height", final_height);
    hm_jw_close(out, '}');
    hm_buf_puts(out, "\n");
    err = hm_buf_status(out);
out:
    yyjson_doc_free(doc);
    cli_walk_end(&w);
    return err;
}

static void show_proof(yyjson_val *p)
{
    size_t at, max;
    yyjson_val *item;
    cli_fact(cli_str(p, "name"), "%s  %s", cli_true(p, "passed") ? "passed" : "FAILED",
             cli_str(p, "summary"));
    yyjson_arr_foreach(yyjson_obj_get(p, "checks"), at, max, item)
    {
        const char *detail = cli_str(item, "detail");
        cli_fact("", "%s %s%s%s", cli_true(item, "passed") ? "ok    " : "FAILED",
                 cli_str(item, "what"), detail[0] ? ": " : "", detail);
    }
}

hm_err cli_proofs_show(cli *c, yyjson_val *answer)
{
    size_t at, max;
    yyjson_val *p;
    yyjson_arr_foreach(yyjson_obj_get(answer, "items"), at, max, p)
    {
        show_proof(p);
    }
    if (strcmp(cli_str(answer, "by"), "client") != 0) {
        cli_fact("checked by", "%s: its word; --verify checks here", c->client.url);
        return HM_OK;
    }
    cli_fact("checked by", "this program, which executed blocks 1 to %llu anew",
             (unsigned long long)cli_u64(answer, "height"));
    cli_fact("final", "by the certificate of block %llu: a quorum of the genesis' validators",
             (unsigned long long)cli_u64(answer, "final_by_height"));
    show_trust(answer);
    return HM_OK;
}

hm_err cli_proof_show(cli *c, const cli_command *cmd)
{
    hm_buf path = {0}, answer = {0};
    char id[65];
    yyjson_doc *doc = NULL;
    size_t at, max, passed = 0, count = 0;
    yyjson_val *p;
    hm_err err;
    if (hm_config_on(&c->cfg, "verify")) {
        HM_TRY_OUT(cli_find_op(c, c->arg, id));
        HM_TRY_OUT(prove_here(c, id, &answer));
    } else {
        HM_TRY_OUT(cli_put_path(c, cmd, &path));
        HM_TRY_OUT(
            hm_client_request(&c->client, "GET", hm_buf_cstr(&path), (hm_bytes){0}, NULL, &answer));
    }
    HM_TRY_OUT(cli_need_answer(c, cmd, hm_buf_bytes(&answer)));
    HM_TRY_OUT(cli_answer(c, cmd, hm_buf_bytes(&answer)));
    HM_TRY_OUT(hm_json_parse(hm_buf_bytes(&answer), &doc));
    yyjson_arr_foreach(yyjson_obj_get(yyjson_doc_get_root(doc), "items"), at, max, p)
    {
        passed += cli_true(p, "passed");
        count++;
    }
    if (passed != count || count != 4)
        err = hm_fail(HM_E_CORRUPT, "%zu of 4 proofs pass", passed);
out:
    yyjson_doc_free(doc);
    hm_buf_free(&path);
    hm_buf_free(&answer);
    return err;
}
