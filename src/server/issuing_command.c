#include "server/issuing_command.h"

#include <stdio.h>
#include <unistd.h>

#include "server/client.h"
#include "server/daemon.h"
#include "server/json.h"
#include "trustchain/issuing.h"

#define ASK_TIMEOUT_S 30u

static uint64_t wall_ms(void)
{
    return hm_clock_wall_ms(&hm_clock_system);
}

static hm_err family_of(const hm_config *c, tc_family *out)
{
    const char *word = hm_config_get(c, "family");
    for (int f = 0; f < 2; f++)
        if (strcmp(word, tc_family_names[f]) == 0) {
            *out = (tc_family)f;
            return HM_OK;
        }
    return hm_fail(HM_E_USAGE, "--family is mesh or edge, not %.60s", word);
}

// ---- what the mesh believes, asked of one of its nodes ------------------------------------------

static hm_err get(const hm_client *c, const char *path, yyjson_doc **out)
{
    hm_buf answer = {0};
    char why[400];
    hm_err err = hm_client_request(c, "GET", path, (hm_bytes){0}, NULL, &answer);
    if (err == HM_OK)
        err = hm_json_parse(hm_buf_bytes(&answer), out);
    hm_buf_free(&answer);
    if (err == HM_OK)
        return HM_OK;
    snprintf(why, sizeof why, "%s", hm_err_detail());
    return hm_fail(err, "the node %.100s: %s", c->url, why);
}

static yyjson_val *items_of(const yyjson_doc *doc)
{
    return yyjson_obj_get(yyjson_doc_get_root((yyjson_doc *)doc), "items");
}

// Is an authority of this key in force, and since which block?
static hm_err in_force(const yyjson_doc *doc, const hm_hash *key, bool *yes, uint64_t *since)
{
    char want[2 * HM_HASH_BYTES + 1];
    size_t at, count;
    yyjson_val *item;
    hm_hex(want, key->b, HM_HASH_BYTES);
    *yes = false;
    if (!yyjson_is_arr(items_of(doc)))
        return hm_fail(HM_E_PARSE, "the node does not say whom the mesh believes");
    yyjson_arr_foreach(items_of(doc), at, count, item)
    {
        const char *id = yyjson_get_str(yyjson_obj_get(item, "id"));
        const char *kind = yyjson_get_str(yyjson_obj_get(item, "kind"));
        if (!id || !kind || strcmp(id, want) != 0 || strcmp(kind, "authority") != 0)
            continue;
        *yes = true;
        return hm_json_u64(item, "since_height", 0, UINT64_MAX, since);
    }
    return HM_OK;
}

// Each member that the node is connected to has the block, too. One that is away hears of it before
// it refuses anybody (docs/trust.md).
static hm_err all_have(const yyjson_doc *doc, uint64_t since)
{
    size_t at, count;
    yyjson_val *item;
    if (!yyjson_is_arr(items_of(doc)))
        return hm_fail(HM_E_PARSE, "the node does not say who its peers are");
    yyjson_arr_foreach(items_of(doc), at, count, item)
    {
        const char *name = yyjson_get_str(yyjson_obj_get(item, "name"));
        const char *state = yyjson_get_str(yyjson_obj_get(item, "state"));
        uint64_t height = 0;
        HM_TRY(hm_json_u64(item, "height", 0, UINT64_MAX, &height));
        if (state && strcmp(state, "up") == 0 && height < since)
            return hm_fail(HM_E_BUSY,
                           "%.64s has not said yet that it has block %llu, which puts the issuing "
                           "key in force: try again",
                           name ? name : "a member", (unsigned long long)since);
    }
    return HM_OK;
}

static hm_err node_ready(const hm_client *c)
{
    yyjson_doc *doc = NULL;
    bool ready = false;
    HM_TRY(get(c, "/v1/status", &doc));
    hm_err err = hm_json_bool(yyjson_doc_get_root(doc), "ready", &ready);
    yyjson_doc_free(doc);
    if (err == HM_OK && !ready)
        err = hm_fail(HM_E_BUSY, "the node %.100s is not ready: its ledger may be an old one",
                      c->url);
    return err;
}

static hm_err ledger_look(const hm_client *c, const hm_hash *key, bool *yes, uint64_t *since)
{
    yyjson_doc *doc = NULL;
    HM_TRY(node_ready(c));
    HM_TRY(get(c, "/v1/trust", &doc));
    hm_err err = in_force(doc, key, yes, since);
    yyjson_doc_free(doc);
    return err;
}

static hm_err members_accept(const hm_client *c, const tc_issuing_info *i)
{
    uint64_t since = 0;
    bool yes = false;
    yyjson_doc *doc = NULL;
    HM_TRY(ledger_look(c, &i->key, &yes, &since));
    if (!yes)
        return hm_fail(HM_E_DENIED,
                       "the ledger has no authority in force with this key: `hypermesh trust "
                       "propose` its certificate, and have it approved");
    HM_TRY(get(c, "/v1/nodes", &doc));
    hm_err err = all_have(doc, since);
    yyjson_doc_free(doc);
    return err;
}

static hm_err members_let_go(const hm_client *c, const tc_issuing_info *i)
{
    uint64_t since = 0;
    bool yes = false;
    HM_TRY(ledger_look(c, &i->key, &yes, &since));
    if (yes)
        return hm_fail(HM_E_BUSY, "it is in force on the ledger, whose members ask for its lists: "
                                  "`hypermesh trust withdraw` it first");
    return HM_OK;
}

static hm_err node_of(const hm_config *c, const issuing_paths *p, hm_client *out)
{
    const char *url = hm_config_get(c, "node");
    if (!url || !*url)
        return hm_fail(HM_E_USAGE, "--node is needed: the API of a node, whose ledger says which "
                                   "issuing keys the mesh believes");
    *out = (hm_client){.url = url, .ca_path = p->edge_root, .timeout_s = ASK_TIMEOUT_S};
    return HM_OK;
}

// ---- rotate -------------------------------------------------------------------------------------

static void tell_rotation(const tc_rotation *r, tc_family f)
{
    printf("issuing: %s\n", r->id.hex);
    if (!r->certified)
        printf("request: %s\n"
               "next: have it signed (hypermesh cert root sign), then install-issuing\n",
               r->file);
    else if (f == TC_EDGE)
        printf("next: a server that runs takes it at SIGHUP\n");
    else
        printf("certificate: %s\n"
               "next: SIGHUP to a server that runs; hypermesh trust propose, approve; then issuing "
               "use %s\n",
               r->file, r->id.hex);
}

hm_err issuing_rotate_command(const hm_config *c, const issuing_paths *p)
{
    tc_family f = TC_EDGE;
    tc_rotation made = {0};
    int lock = -1;
    HM_TRY(family_of(c, &f));
    HM_TRY(hm_crypto_init());
    HM_TRY(hm_dir_lock(p->dir, &lock)); // not the authority's, which may run
    hm_err err = tc_rotate(p->authority, f, hm_config_get(c, "edge-names"), wall_ms(), &made);
    close(lock);
    HM_TRY(err);
    tell_rotation(&made, f);
    return HM_OK;
}

// ---- issuing ------------------------------------------------------------------------------------

static hm_err list_all(const char *authority)
{
    static tc_issuing_info all[TC_ISSUING_LIST_MAX];
    char from[DAEMON_TIME_MAX], until[DAEMON_TIME_MAX];
    size_t n;
    HM_TRY(tc_issuing_list(authority, wall_ms(), all, &n));
    for (size_t i = 0; i < n; i++)
        printf("%s %s %-7s from %s until %s live %llu %s\n", tc_family_names[all[i].family],
               all[i].id.hex, tc_issuing_state_names[all[i].state],
               daemon_time_text(all[i].not_before_ms, from),
               daemon_time_text(all[i].not_after_ms, until), (unsigned long long)all[i].live,
               all[i].subject);
    return HM_OK;
}

static hm_err use(const hm_config *c, const issuing_paths *p, tc_family f, const char *id)
{
    tc_issuing_info info = {0};
    hm_client node;
    if (f == TC_EDGE)
        return hm_fail(HM_E_USAGE, "a new issuing CA of the edge family issues without it: it is "
                                   "for --family mesh");
    HM_TRY(tc_issuing_look(p->authority, f, id, &info));
    if (info.state == TC_ISSUING_READY) {
        HM_TRY(node_of(c, p, &node));
        HM_TRY(members_accept(&node, &info));
    }
    HM_TRY(tc_issuing_use(p->authority, id, wall_ms()));
    printf("issuing: %s\nnext: a server that runs takes it at SIGHUP\n", info.id.hex);
    return HM_OK;
}

static hm_err drop(const hm_config *c, const issuing_paths *p, tc_family f, const char *id)
{
    tc_issuing_info info = {0};
    hm_client node;
    bool later = false;
    HM_TRY(tc_issuing_look(p->authority, f, id, &info));
    if (f == TC_MESH && info.state != TC_ISSUING_PRESENT) {
        HM_TRY(node_of(c, p, &node));
        HM_TRY(members_let_go(&node, &info));
    }
    HM_TRY(tc_issuing_remove(p->authority, f, id, wall_ms(), &later));
    printf(later ? "removed; a server that runs lets go of its key and lists at SIGHUP\n"
                 : "removed, with its key and lists\n");
    return HM_OK;
}

hm_err issuing_command(const hm_config *c, const issuing_paths *p)
{
    const char *act = c->positional_count > 1 ? c->positional[1] : "";
    const char *id = c->positional_count > 2 ? c->positional[2] : NULL;
    tc_family f = TC_EDGE;
    int lock = -1;
    HM_TRY(family_of(c, &f));
    HM_TRY(hm_crypto_init());
    if (strcmp(act, "list") == 0 && !id)
        return list_all(p->authority);
    bool is_use = strcmp(act, "use") == 0;
    if (!id || (!is_use && strcmp(act, "remove") != 0))
        return hm_fail(HM_E_USAGE, "issuing list, issuing use ID, or issuing remove ID");
    HM_TRY(hm_dir_lock(p->dir, &lock)); // not the authority's, which may run
    hm_err err = is_use ? use(c, p, f, id) : drop(c, p, f, id);
    close(lock);
    return err;
}
