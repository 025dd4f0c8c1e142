// Setting a node up: keys, requests, the sealed sector; then certificates; then its join file.
#include <arpa/inet.h>
#include <ini.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mesh/node_internal.h"

#define SMALL_MAX (256u << 10)
#define STAKE 100u // bonded in a genesis made of join files
#define TOKEN_BYTES 32u
#define PROGRESS_MS 100

typedef char node_path[4200];

static const char *in_dir(node_path out, const char *dir, const char *name)
{
    snprintf(out, sizeof(node_path), "%s/%s", dir, name);
    return out;
}

static bool exists(const char *dir, const char *name)
{
    node_path p;
    return access(in_dir(p, dir, name), F_OK) == 0;
}

static hm_err write_file(const char *dir, const char *name, hm_bytes data, unsigned mode)
{
    node_path p;
    return hm_file_write(in_dir(p, dir, name), data, mode);
}

static hm_err read_file(const char *dir, const char *name, hm_buf *out)
{
    node_path p;
    hm_err err = hm_file_read(in_dir(p, dir, name), SMALL_MAX, out);
    return err == HM_E_NOTFOUND ? hm_fail(err, "%s is missing", p) : err;
}

// ---- init ---------------------------------------------------------------------------------------

static hm_err check_args(const hm_node_init_args *a)
{
    struct in6_addr addr;
    size_t len = a->name == NULL ? 0 : strlen(a->name);
    if (len == 0 || len > HM_NODE_NAME_MAX ||
        strspn(a->name, "abcdefghijklmnopqrstuvwxyz0123456789-") != len)
        return hm_fail(HM_E_CONFIG, "a node's name has 1 to %u characters of a-z, 0-9 and '-'",
                       HM_NODE_NAME_MAX);
    if (a->mesh_host == NULL || inet_pton(AF_INET6, a->mesh_host, &addr) != 1)
        return hm_fail(HM_E_CONFIG, "the mesh address must be an IPv6 address without brackets");
    if (a->api_host == NULL || a->api_host[0] == 0 || strlen(a->api_host) > 200)
        return hm_fail(HM_E_CONFIG, "the API's host must be a name or an IPv6 address");
    if (strlen(a->data_dir) > 3900)
        return hm_fail(HM_E_LIMIT, "the path of the data directory is too long");
    return HM_OK;
}

static hm_err make_keys(const hm_node_init_args *a, hm_key **key)
{
    const char *hosts[] = {"localhost", "::1", a->api_host};
    bool own = strcmp(a->api_host, "localhost") != 0 && strcmp(a->api_host, "::1") != 0;
    return tc_dir_make(a->data_dir, a->name, hosts, own ? 3 : 2, key);
}

typedef struct sealing {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
    hm_err err;
    char detail[300];
    hm_space_params params;
    hm_node_id node;
    const char *path;
    hm_space_progress progress;
    hm_space_commitment commitment;
} sealing;

static void *seal_thread(void *arg)
{
    sealing *s = arg;
    hm_err_clear();
    hm_err err = hm_space_seal(&s->params, &s->node, 0, s->path, &s->progress, &s->commitment);
    pthread_mutex_lock(&s->lock);
    s->err = err;
    snprintf(s->detail, sizeof s->detail, "%.290s", hm_err_detail());
    s->done = true;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void seal_wait(sealing *s, const hm_node_init_args *a)
{
    pthread_mutex_lock(&s->lock);
    while (!s->done) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += PROGRESS_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000L;
        }
        (void)pthread_cond_timedwait(&s->cond, &s->lock, &until);
        uint64_t total = atomic_load(&s->progress.total), done = atomic_load(&s->progress.done);
        if (a->progress != NULL && total > 0 && !s->done)
            a->progress(a->ctx, "sealing", done < total ? done : total - 1, total);
    }
    pthread_mutex_unlock(&s->lock);
    if (a->progress != NULL && s->err == HM_OK)
        a->progress(a->ctx, "sealing", 1, 1);
}

static hm_err make_sector(const hm_node_init_args *a, const hm_key *key)
{
    node_path p;
    pthread_t thread;
    sealing s = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    s.path = in_dir(p, a->data_dir, "sector-0");
    if (access(s.path, F_OK) == 0)
        return HM_OK; // whole, since it gets its name last
    s.params = hm_space_params_default((uint8_t)a->sector_log2);
    HM_TRY(hm_space_params_check(&s.params));
    HM_TRY(hm_node_id_of_public(hm_key_public(key), &s.node));
    if (pthread_create(&thread, NULL, seal_thread, &s) != 0)
        return hm_fail(HM_E_INTERNAL, "no thread for sealing");
    seal_wait(&s, a);
    pthread_join(thread, NULL);
    return s.err == HM_OK ? HM_OK : hm_fail(s.err, "%s", s.detail);
}

static hm_err make_token(const char *dir)
{
    uint8_t raw[TOKEN_BYTES];
    char hex[2 * TOKEN_BYTES + 2];
    if (exists(dir, "api.token"))
        return HM_OK;
    hm_random_fill(&hm_random_system, raw, sizeof raw);
    hm_hex(hex, raw, sizeof raw);
    strcat(hex, "\n");
    hm_err err = write_file(dir, "api.token", hm_bytes_str(hex), 0600);
    hm_zero(raw, sizeof raw);
    hm_zero(hex, sizeof hex);
    return err;
}

// node.ini is written last: with it the directory is a node.
hm_err hm_node_init(const hm_node_init_args *a)
{
    hm_key *key = NULL;
    hm_buf ini = {0};
    HM_TRY(check_args(a));
    HM_TRY(hm_crypto_init());
    if (exists(a->data_dir, "node.ini"))
        return hm_fail(HM_E_EXISTS, "%s holds a node already", a->data_dir);
    HM_TRY(hm_dir_make(a->data_dir));
    int lock = -1;
    HM_TRY(hm_dir_lock(a->data_dir, &lock));
    hm_err err = make_keys(a, &key);
    if (err == HM_OK)
        err = make_sector(a, key);
    if (err == HM_OK)
        err = make_token(a->data_dir);
    hm_buf_printf(&ini, "[node]\nname = %s\nmesh_host = %s\nmesh_port = %u\napi_host = %s\n",
                  a->name, a->mesh_host, a->mesh_port, a->api_host);
    hm_buf_printf(&ini, "api_port = %u\n", a->api_port);
    if (err == HM_OK)
        err = hm_buf_status(&ini);
    if (err == HM_OK)
        err = write_file(a->data_dir, "node.ini", hm_buf_bytes(&ini), 0644);
    hm_buf_free(&ini);
    hm_key_free(key);
    close(lock);
    return err;
}

// ---- join ---------------------------------------------------------------------------------------

typedef struct node_ini {
    char name[64], mesh_host[64], api_host[256];
    unsigned long mesh_port, api_port;
} node_ini;

static int on_ini(void *user, const char *section, const char *name, const char *value)
{
    node_ini *i = user;
    (void)section;
    if (strcmp(name, "name") == 0)
        snprintf(i->name, sizeof i->name, "%s", value);
    else if (strcmp(name, "mesh_host") == 0)
        snprintf(i->mesh_host, sizeof i->mesh_host, "%s", value);
    else if (strcmp(name, "api_host") == 0)
        snprintf(i->api_host, sizeof i->api_host, "%s", value);
    else if (strcmp(name, "mesh_port") == 0)
        i->mesh_port = strtoul(value, NULL, 10);
    else if (strcmp(name, "api_port") == 0)
        i->api_port = strtoul(value, NULL, 10);
    else
        return 0;
    return 1;
}

static hm_err join_identity(const char *dir, hm_genesis_validator *v, hm_key **key, hm_buf *cert)
{
    node_path p;
    node_ini ini = {0};
    hm_buf chain = {0};
    if (ini_parse(in_dir(p, dir, "node.ini"), on_ini, &ini) != 0)
        return hm_fail(HM_E_CONFIG, "%s is missing or damaged: run init first", p);
    if (inet_pton(AF_INET6, ini.mesh_host, v->host) != 1 || ini.mesh_port > 65535)
        return hm_fail(HM_E_CONFIG, "%s has no good mesh address", p);
    snprintf(v->name, sizeof v->name, "%s", ini.name);
    v->port = (uint16_t)ini.mesh_port;
    bool bare = strchr(ini.api_host, ':') == NULL;
    snprintf(v->api, sizeof v->api, bare ? "https://%.200s:%lu" : "https://[%.200s]:%lu",
             ini.api_host, ini.api_port);
    HM_TRY(hm_key_load(in_dir(p, dir, "node.key"), key));
    v->public_key = hm_key_public(*key);
    hm_err err = read_file(dir, "node.crt", &chain);
    if (err == HM_OK)
        err = tc_pem_to_der(hm_buf_bytes(&chain), cert);
    hm_buf_free(&chain);
    v->cert = hm_buf_bytes(cert);
    return err;
}

static hm_err join_sector(const char *dir, hm_genesis_validator *v, hm_buf *parts, hm_bytes *views)
{
    node_path p;
    hm_space_sector *s = NULL;
    HM_TRY(hm_space_open(in_dir(p, dir, "sector-0"), &s));
    const hm_space_info *info = hm_space_sector_info(s);
    hm_err err = HM_OK;
    v->sector = info->sector;
    v->commitment = info->commitment;
    v->seal_count = hm_space_seal_parts(&info->params);
    v->seal_parts = views;
    for (uint32_t i = 0; i < v->seal_count && err == HM_OK; i++) {
        err = hm_space_sector_seal_part(s, i, &parts[i]);
        views[i] = hm_buf_bytes(&parts[i]);
    }
    hm_space_close(s);
    return err;
}

hm_err hm_node_join(const char *dir, hm_buf *json)
{
    hm_genesis_validator v = {.stake = STAKE};
    hm_key *key = NULL;
    hm_buf cert = {0}, parts[HM_SPACE_PARTS_MAX] = {0};
    hm_bytes views[HM_SPACE_PARTS_MAX];
    HM_TRY(hm_crypto_init());
    hm_err err = join_identity(dir, &v, &key, &cert);
    if (err == HM_OK)
        err = join_sector(dir, &v, parts, views);
    if (err == HM_OK)
        err = hm_join_to_json(&v, json);
    hm_buf_puts(json, "\n");
    hm_key_free(key);
    hm_buf_free(&cert);
    for (size_t i = 0; i < HM_SPACE_PARTS_MAX; i++)
        hm_buf_free(&parts[i]);
    return err;
}
