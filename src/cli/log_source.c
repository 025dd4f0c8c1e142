#include "cli/log_source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

#define DATA_TILE_MAX (TC_TILE_WIDTH * TC_ENTRY_MAX)

// ---- files --------------------------------------------------------------------------------------

hm_err log_source_file(log_source *s, const char *name, size_t max, hm_buf *out)
{
    char path[4096];
    hm_buf_reset(out);
    if (!s->dir) {
        snprintf(path, sizeof path, "%s/%s", s->below, name);
        HM_TRY(hm_client_request(&s->client, "GET", path, (hm_bytes){0}, NULL, out));
        return out->len <= max ? HM_OK : hm_fail(HM_E_LIMIT, "%s%s is too long", s->where, path);
    }
    if (snprintf(path, sizeof path, "%s/%s", s->dir, name) >= (int)sizeof path)
        return hm_fail(HM_E_LIMIT, "%s: the folder's name is too long", s->dir);
    hm_err err = hm_file_read(path, max, out);
    return err == HM_E_NOTFOUND ? hm_fail(err, "%s is not there", path) : err;
}

hm_err log_source_tile(log_source *s, unsigned level, uint64_t index, hm_buf *out)
{
    char path[TC_TILE_PATH_MAX];
    bool data = level == TC_TILE_DATA;
    unsigned width = tc_tile_width(level, index, s->checkpoint.size);
    if (width == 0)
        return hm_fail(HM_E_NOTFOUND, "the log has %llu entries",
                       (unsigned long long)s->checkpoint.size);
    tc_tile_path(level, index, width, path);
    size_t max = data ? DATA_TILE_MAX : TC_TILE_WIDTH * HM_HASH_BYTES;
    hm_err err = log_source_file(s, path, max, out);
    if (err == HM_E_NOTFOUND && width < TC_TILE_WIDTH) { // it may be complete by now
        tc_tile_path(level, index, TC_TILE_WIDTH, path);
        err = log_source_file(s, path, max, out);
    }
    HM_TRY(err);
    s->tiles++;
    if (data)
        return HM_OK;
    if (out->len < width * HM_HASH_BYTES)
        return hm_fail(HM_E_CORRUPT, "%s of %s has %zu bytes, not %u", path, s->where, out->len,
                       width * HM_HASH_BYTES);
    out->len = width * HM_HASH_BYTES;
    return HM_OK;
}

hm_err log_source_node(void *source, unsigned level, uint64_t index, hm_hash *hash)
{
    log_source *s = source;
    log_tile *t = NULL;
    size_t at = (size_t)(index % TC_TILE_WIDTH) * HM_HASH_BYTES;
    for (size_t i = 0; i < LOG_TILE_CACHE; i++)
        if (s->cache[i].hashes.len > 0 && s->cache[i].level == level &&
            s->cache[i].index == index / TC_TILE_WIDTH)
            t = &s->cache[i];
    if (!t) {
        t = &s->cache[s->next++ % LOG_TILE_CACHE];
        t->level = level;
        t->index = index / TC_TILE_WIDTH;
        hm_err err = log_source_tile(s, level, t->index, &t->hashes);
        if (err != HM_OK) {
            hm_buf_reset(&t->hashes);
            return err;
        }
    }
    if (at + HM_HASH_BYTES > t->hashes.len)
        return hm_fail(HM_E_RANGE, "the log's tree has no such node");
    memcpy(hash->b, t->hashes.ptr + at, HM_HASH_BYTES);
    return HM_OK;
}

// ---- open ---------------------------------------------------------------------------------------

static hm_err checkpoint_read(const log_source *s, const hm_buf *note, const char *where,
                              tc_checkpoint *out, uint64_t *time_ms)
{
    char why[400];
    hm_err err = tc_checkpoint_parse(hm_buf_bytes(note), out);
    if (err == HM_OK)
        err = tc_checkpoint_verify(out, &s->key, time_ms);
    if (err == HM_OK && out->size > TC_LOG_SIZE_MAX)
        err = hm_fail(HM_E_LIMIT, "a log has at most 2^40 entries");
    snprintf(why, sizeof why, "%s", hm_err_detail());
    return err == HM_OK ? HM_OK : hm_fail(err, "%s: %s", where, why);
}

static hm_err key_get(cli *c, log_source *s, bool is_authority)
{
    const char *file = hm_config_get(&c->cfg, "key");
    hm_buf pem = {0};
    hm_err err;
    if (!file && !is_authority)
        return hm_fail(HM_E_USAGE, "--tiles needs --key, the log's public key in PEM");
    if (file)
        HM_TRY_OUT(cli_read_file(file, 65536, &pem));
    else
        HM_TRY_OUT(hm_client_request(&s->client, "GET", "/v1/log/key", (hm_bytes){0}, NULL, &pem));
    err = tc_log_pub_read(hm_buf_bytes(&pem), &s->key);
    if (err != HM_OK) {
        char why[200];
        snprintf(why, sizeof why, "%s", hm_err_detail());
        err = hm_fail(err, "%s: %s", file ? file : "the authority's answer", why);
    }
out:
    hm_buf_free(&pem);
    return err;
}

// How many of the policy's witnesses cosigned; a line of theirs that does not verify is an error.
static hm_err count_witnesses(cli *c, log_source *s)
{
    const char *file = hm_config_get(&c->cfg, "policy");
    hm_buf text = {0};
    uint64_t need = 0, time_s;
    hm_err err;
    if (hm_config_get(&c->cfg, "witnesses"))
        HM_TRY(hm_config_u64(&c->cfg, "witnesses", 1, TC_WITNESSES_MAX, &need));
    if (need && !file)
        return hm_fail(HM_E_USAGE, "--witnesses needs --policy, a file of whom to believe");
    if (!file)
        return HM_OK;
    HM_TRY_OUT(cli_read_file(file, TC_WITNESS_POLICY_MAX, &text));
    HM_TRY_OUT(tc_witness_policy_parse(hm_buf_bytes(&text), &s->policy));
    for (size_t i = 0; i < s->policy.count; i++) {
        err = tc_cosignature_verify(&s->checkpoint, &s->policy.witness[i].key, &time_s);
        if (err != HM_OK && err != HM_E_NOTFOUND)
            goto out;
        s->witnesses += err == HM_OK;
    }
    err = s->witnesses >= need ? HM_OK
                               : hm_fail(HM_E_QUORUM,
                                         "%u of the policy's witnesses cosigned the checkpoint of "
                                         "%llu entries, not %llu",
                                         s->witnesses, (unsigned long long)s->checkpoint.size,
                                         (unsigned long long)need);
out:
    hm_buf_free(&text);
    return err;
}

hm_err log_source_open(cli *c, log_source *s)
{
    const char *tiles = hm_config_get(&c->cfg, "tiles");
    bool is_url = tiles && strncmp(tiles, "https://", 8) == 0;
    *s = (log_source){.client = c->authority, .below = tiles ? "" : "/log"};
    if (is_url) {
        s->client.url = tiles;
        s->client.token = NULL; // it is the authority's, not of whoever has tiles
    } else {
        s->dir = tiles;
    }
    snprintf(s->where, sizeof s->where, "%.290s", s->dir ? s->dir : s->client.url);
    HM_TRY(hm_crypto_init());
    HM_TRY(hm_client_keep(&s->client));
    HM_TRY(key_get(c, s, tiles == NULL));
    HM_TRY(log_source_file(s, "checkpoint", TC_NOTE_MAX, &s->note));
    HM_TRY(checkpoint_read(s, &s->note, s->where, &s->checkpoint, &s->time_ms));
    return count_witnesses(c, s);
}

void log_source_close(log_source *s)
{
    for (size_t i = 0; i < LOG_TILE_CACHE; i++)
        hm_buf_free(&s->cache[i].hashes);
    if (s->client.kept)
        hm_client_release(&s->client);
    tc_log_pub_free(&s->key);
    hm_buf_free(&s->note);
}

hm_err log_source_kept(const log_source *s, const char *path, hm_buf *note, tc_checkpoint *out,
                       uint64_t *time_ms)
{
    HM_TRY(cli_read_file(path, TC_NOTE_MAX, note));
    HM_TRY(checkpoint_read(s, note, path, out, time_ms));
    if (!hm_bytes_eq(out->origin, s->checkpoint.origin))
        return hm_fail(HM_E_INVALID, "%s is of another log than %s", path, s->where);
    return HM_OK;
}

// ---- proofs -------------------------------------------------------------------------------------

hm_err log_source_included(log_source *s, uint64_t index, const hm_hash *leaf)
{
    hm_hash proof[TC_PROOF_MAX];
    size_t count = 0;
    if (index >= s->checkpoint.size)
        return hm_fail(HM_E_CORRUPT,
                       "entry %llu is promised, and the newest checkpoint has %llu: it may take "
                       "some seconds; later than that, the log broke its word",
                       (unsigned long long)index, (unsigned long long)s->checkpoint.size);
    HM_TRY(tc_log_inclusion(log_source_node, s, index, s->checkpoint.size, proof, &count));
    if (!hm_merkle_verify(&s->checkpoint.root, s->checkpoint.size, index, leaf, proof, count))
        return hm_fail(HM_E_CORRUPT, "entry %llu is not the one that the log promised",
                       (unsigned long long)index);
    return HM_OK;
}

hm_err log_source_entry(log_source *s, uint64_t index, hm_buf *data, tc_leaf *out)
{
    tc_leaf leaf = {0};
    if (index >= s->checkpoint.size)
        return hm_fail(HM_E_NOTFOUND, "the log has %llu entries, counted from 0",
                       (unsigned long long)s->checkpoint.size);
    HM_TRY(log_source_tile(s, TC_TILE_DATA, index / TC_TILE_WIDTH, data));
    hm_bytes rest = hm_buf_bytes(data);
    for (uint64_t i = 0; i <= index % TC_TILE_WIDTH; i++)
        HM_TRY(tc_leaf_next(&rest, &leaf));
    HM_TRY(log_source_included(s, index, &leaf.hash));
    *out = leaf;
    return HM_OK;
}

hm_err log_source_tree(log_source *s, uint64_t size, const hm_hash *root, tc_log_tree *out)
{
    tc_log_tree t = {.size = size};
    unsigned depth = 0;
    uint64_t begin = 0;
    for (unsigned bit = 40; bit-- > 0;) {
        if (!(size >> bit & 1))
            continue;
        // The complete subtree that begins there, of the tree's nodes at heights of tiles.
        unsigned level = bit / TC_TILE_HEIGHT, up = bit % TC_TILE_HEIGHT;
        hm_hash h[TC_TILE_WIDTH / 2];
        uint64_t first = begin >> (level * TC_TILE_HEIGHT);
        for (uint64_t i = 0; i < UINT64_C(1) << up; i++)
            HM_TRY(log_source_node(s, level, first + i, &h[i]));
        t.edge[depth++] = hm_merkle_root(h, (size_t)1 << up);
        begin += UINT64_C(1) << bit;
    }
    hm_hash now = tc_log_root(&t);
    if (!hm_hash_eq(&now, root))
        return hm_fail(HM_E_CORRUPT, "the log's first %llu entries are others than they were",
                       (unsigned long long)size);
    *out = t;
    return HM_OK;
}

// ---- walking ------------------------------------------------------------------------------------

typedef struct walk {
    log_source *s;
    hm_buf level[6];  // hashes of tiles that are not compared yet, from a tile's begin on
    unsigned skip[6]; // of its first hashes, which the tree had before
    hm_buf tile;
} walk;

// The tile that holds hash `last` of a level must be what was computed.
static hm_err compare(walk *w, unsigned level, uint64_t last)
{
    hm_buf *mine = &w->level[level];
    size_t from = (size_t)w->skip[level] * HM_HASH_BYTES;
    HM_TRY(log_source_tile(w->s, level, last / TC_TILE_WIDTH, &w->tile));
    if (w->tile.len != from + mine->len || memcmp(w->tile.ptr + from, mine->ptr, mine->len) != 0)
        return hm_fail(HM_E_CORRUPT, "tile %llu of level %u is not what its entries hash to",
                       (unsigned long long)(last / TC_TILE_WIDTH), level);
    hm_buf_reset(mine);
    w->skip[level] = 0;
    return HM_OK;
}

static hm_err keep(void *ctx, unsigned level, uint64_t index, const hm_hash *hash)
{
    walk *w = ctx;
    if (level >= sizeof w->level / sizeof w->level[0])
        return HM_OK; // the log has no tiles of it: C2SP static-ct-api
    if (w->level[level].len == 0)
        w->skip[level] = (unsigned)(index % TC_TILE_WIDTH);
    hm_wr_raw(&w->level[level], hash->b, HM_HASH_BYTES);
    HM_TRY(hm_buf_status(&w->level[level]));
    return index % TC_TILE_WIDTH == TC_TILE_WIDTH - 1 ? compare(w, level, index) : HM_OK;
}

static hm_err walk_tile(walk *w, tc_log_tree *tree, const hm_buf *data, log_each each, void *ctx)
{
    hm_bytes rest = hm_buf_bytes(data);
    uint64_t first = tree->size / TC_TILE_WIDTH * TC_TILE_WIDTH;
    uint64_t end = first + TC_TILE_WIDTH;
    tc_leaf leaf;
    for (uint64_t i = first; i < end && i < w->s->checkpoint.size; i++) {
        HM_TRY(tc_leaf_next(&rest, &leaf));
        if (leaf.index != i)
            return hm_fail(HM_E_CORRUPT, "entry %llu says that it is entry %llu",
                           (unsigned long long)i, (unsigned long long)leaf.index);
        if (i < tree->size)
            continue;
        HM_TRY(tc_log_push(tree, &leaf.hash, keep, w));
        if (each)
            HM_TRY(each(ctx, i, &leaf, tree));
    }
    return HM_OK;
}

hm_err log_source_walk(log_source *s, tc_log_tree *tree, log_each each, void *ctx)
{
    walk w = {.s = s};
    hm_buf data = {0};
    cli_progress progress = cli_progress_begin("entry", tree->size);
    hm_err err = HM_OK;
    while (tree->size < s->checkpoint.size) {
        uint64_t index = tree->size / TC_TILE_WIDTH;
        HM_TRY_OUT(log_source_tile(s, TC_TILE_DATA, index, &data));
        HM_TRY_OUT(walk_tile(&w, tree, &data, each, ctx));
        cli_progress_tell(&progress, tree->size, s->checkpoint.size);
    }
    for (unsigned level = 0; level < 6; level++)
        if (w.level[level].len > 0)
            HM_TRY_OUT(compare(&w, level, (tree->size >> (level * TC_TILE_HEIGHT)) - 1));
    hm_hash root = tc_log_root(tree);
    if (!hm_hash_eq(&root, &s->checkpoint.root))
        err = hm_fail(HM_E_CORRUPT, "the log's entries do not hash to the root that it signed");
out:
    for (unsigned level = 0; level < 6; level++)
        hm_buf_free(&w.level[level]);
    hm_buf_free(&w.tile);
    hm_buf_free(&data);
    return err;
}
