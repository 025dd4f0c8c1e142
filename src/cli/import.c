// hypermesh asset import: every regular file below a folder becomes a data asset named by its path.
//
// Nothing is remembered here: the ledger knows what is there already, so an import that was cut off
// goes on where it was, and one that is whole does nothing. A file counts as there when the asset
// of its name has the file's very content, by its Merkle root.
#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "crypto/crypto.h"

#define JOBS_MAX 64u
#define CHUNK_MAX (64u << 20)
#define WAIT_FIRST_MS 250u
#define WAIT_MAX_MS 5000u
#define TELL_MS 5000u

typedef struct import_file {
    char *path; // owned
    const char *name;
    uint64_t size;
} import_file;

typedef struct importer {
    cli *c;
    import_file *files; // owned
    size_t count, cap, skipped_special;
    size_t root_len; // of the folder's path with its slash
    const char *policy;
    char owner[65];
    uint64_t patience_us;

    // The lock guards what follows: workers take files and count, the main thread reads.
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t next, done, imported, there, other_policy, failed, waiting, running;
    uint64_t bytes, bytes_done;
    bool give_up; // the node stayed away or lets nobody in, or the person wants no more
    hm_err why;   // of give_up
    char detail[400];
} importer;

static importer *walking; // nftw() has no context

static void print_failure(const char *path, hm_err err)
{
    char name[1024];
    bool refused = err == HM_E_HTTP || err == HM_E_EXISTS;
    fprintf(stderr, "%s%s: %s%s\n", isatty(STDERR_FILENO) ? "\r\033[K" : "",
            hm_log_quote(name, sizeof(name), hm_bytes_str(path)), refused ? "refused: " : "",
            hm_err_detail()[0] ? hm_err_detail() : hm_err_text(err));
}

static int on_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
    importer *m = walking;
    (void)at;
    if (type == FTW_D)
        return 0;
    if (type == FTW_DNR || type == FTW_NS) {
        (void)hm_fail(HM_E_IO, "cannot be read: %s", strerror(errno));
        print_failure(path + (strlen(path) > m->root_len ? m->root_len : 0), HM_E_IO);
        m->failed++;
        return 0;
    }
    if (type != FTW_F || !S_ISREG(st->st_mode)) {
        m->skipped_special++;
        return 0;
    }
    if (m->count == m->cap) {
        size_t cap = m->cap ? 2 * m->cap : 256;
        import_file *files = reallocarray(m->files, cap, sizeof(*files));
        if (!files)
            return ENOMEM;
        m->files = files;
        m->cap = cap;
    }
    char *copy = strdup(path);
    if (!copy)
        return ENOMEM;
    m->files[m->count++] = (import_file){copy, copy + m->root_len, (uint64_t)st->st_size};
    m->bytes += (uint64_t)st->st_size;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const import_file *)a)->name, ((const import_file *)b)->name);
}

static hm_err walk(importer *m, const char *dir)
{
    struct stat st;
    size_t len = strlen(dir);
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode))
        return hm_fail(HM_E_IO, "%s is no folder", dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    char *root = strndup(dir, len);
    if (!root)
        return HM_E_NOMEM;
    m->root_len = len == 1 && root[0] == '/' ? 1 : len + 1;
    walking = m;
    int rc = nftw(root, on_file, 32, FTW_PHYS);
    free(root);
    if (rc != 0)
        return hm_fail(rc == ENOMEM ? HM_E_NOMEM : HM_E_IO, "%s cannot be walked: %s", dir,
                       strerror(rc > 0 ? rc : errno));
    if (m->count)
        qsort(m->files, m->count, sizeof(*m->files), by_name);
    return HM_OK;
}

// ---- one file -----------------------------------------------------------------------------------

hm_err cli_content_root(const char *path, uint64_t chunk_bytes, uint64_t size, hm_hash *out)
{
    hm_err err = HM_OK;
    if (chunk_bytes == 0 || chunk_bytes > CHUNK_MAX)
        return hm_fail(HM_E_RANGE, "the node's chunks have %llu bytes",
                       (unsigned long long)chunk_bytes);
    size_t count = (size_t)((size + chunk_bytes - 1) / chunk_bytes), got = 0;
    uint8_t *chunk = malloc((size_t)chunk_bytes);
    hm_hash *leaves = calloc(count + 1, sizeof(*leaves));
    FILE *f = fopen(path, "rb");
    uint64_t total = 0;
    if (!chunk || !leaves || !f) {
        err = f ? HM_E_NOMEM : hm_fail(HM_E_IO, "cannot be read: %s", strerror(errno));
        goto out;
    }
    for (size_t n; got < count && (n = fread(chunk, 1, (size_t)chunk_bytes, f)) > 0; got++) {
        hm_hash h = hm_sha256(hm_bytes_of(chunk, n));
        leaves[got] = hm_merkle_leaf(hm_hash_bytes(&h));
        total += n;
    }
    if (ferror(f) || got != count || total != size)
        err = hm_fail(HM_E_AGAIN, "the file changed while it was read");
    else
        *out = hm_merkle_root(leaves, count);
out:
    if (f)
        fclose(f);
    free(chunk);
    free(leaves);
    return err;
}

hm_err cli_same_content(const char *path, yyjson_val *commitment, bool *same)
{
    struct stat st;
    uint64_t size, chunk_bytes;
    hm_hash want, have;
    *same = false;
    HM_TRY(hm_json_u64(commitment, "size", 0, UINT64_MAX, &size));
    HM_TRY(hm_json_u64(commitment, "chunk_bytes", 1, UINT32_MAX, &chunk_bytes));
    HM_TRY(hm_json_hex(commitment, "root", want.b, HM_HASH_BYTES));
    if (stat(path, &st) != 0)
        return hm_fail(HM_E_IO, "cannot be read: %s", strerror(errno));
    if ((uint64_t)st.st_size != size)
        return HM_OK;
    HM_TRY(cli_content_root(path, chunk_bytes, size, &have));
    *same = hm_hash_eq(&have, &want);
    return HM_OK;
}

// Is there an asset of this name and owner, and has it another policy than the one that was asked
// for? HM_E_INVALID when it has another content.
static hm_err look(const importer *m, const hm_client *client, const import_file *f, bool *there,
                   bool *other_policy)
{
    hm_buf path = {0}, answer = {0};
    yyjson_doc *doc = NULL;
    hm_err err;
    *there = *other_policy = false;
    hm_buf_printf(&path, "/v1/assets?limit=1&owner=%s&name=", m->owner);
    hm_client_escape(&path, f->name);
    HM_TRY_OUT(hm_client_request(client, "GET", hm_buf_cstr(&path), (hm_bytes){0}, NULL, &answer));
    HM_TRY_OUT(hm_json_parse(hm_buf_bytes(&answer), &doc));
    HM_TRY_OUT(cli_need_items(m->c, yyjson_doc_get_root(doc), "id name policy content~"));
    yyjson_val *item = yyjson_arr_get_first(yyjson_obj_get(yyjson_doc_get_root(doc), "items"));
    if (!item)
        goto out;
    yyjson_val *content = yyjson_obj_get(item, "content");
    if (yyjson_is_obj(content))
        HM_TRY_OUT(cli_same_content(f->path, content, there));
    if (!*there)
        err = hm_fail(HM_E_INVALID, "an asset of this name with another content is there already");
    *other_policy = m->policy && strcmp(cli_str(item, "policy"), m->policy) != 0;
out:
    yyjson_doc_free(doc);
    hm_buf_free(&path);
    hm_buf_free(&answer);
    return err;
}

static hm_err send_file(const importer *m, const hm_client *client, const import_file *f)
{
    hm_buf content = {0}, body = {0}, answer = {0};
    yyjson_doc *doc = NULL;
    bool same = false;
    hm_err err;
    HM_TRY_OUT(hm_client_request(client, "POST", "/v1/content", (hm_bytes){0}, f->path, &content));
    HM_TRY_OUT(hm_json_parse(hm_buf_bytes(&content), &doc));
    HM_TRY_OUT(cli_need(m->c, yyjson_doc_get_root(doc), CLI_NEEDS_CONTENT));
    // What the node holds is what the file is, end to end.
    HM_TRY_OUT(cli_same_content(f->path, yyjson_doc_get_root(doc), &same));
    if (!same) {
        err = hm_fail(HM_E_AGAIN, "the node took another content than the file now has");
        goto out;
    }
    while (content.len && content.ptr[content.len - 1] == '\n')
        content.len--;
    hm_jw_open(&body, NULL, '{');
    hm_jw_str(&body, "kind", "data");
    hm_jw_str(&body, "name", f->name);
    if (m->policy)
        hm_jw_str(&body, "policy", m->policy);
    hm_jw_raw(&body, "content", hm_buf_bytes(&content));
    hm_jw_close(&body, '}');
    HM_TRY_OUT(hm_buf_status(&body));
    HM_TRY_OUT(hm_client_request(client, "POST", "/v1/assets", hm_buf_bytes(&body), NULL, &answer));
    yyjson_doc_free(doc);
    doc = NULL;
    HM_TRY_OUT(hm_json_parse(hm_buf_bytes(&answer), &doc));
    err = cli_need(m->c, yyjson_doc_get_root(doc), CLI_NEEDS_RECEIPT);
out:
    yyjson_doc_free(doc);
    hm_buf_free(&content);
    hm_buf_free(&body);
    hm_buf_free(&answer);
    return err;
}

static bool worth_waiting(hm_err err)
{
    return err == HM_E_UNREACHABLE || err == HM_E_BUSY || err == HM_E_TIMEOUT || err == HM_E_AGAIN;
}

// Waits, but not longer than it takes others to give up; false when they did.
static bool wait_ms(importer *m, uint64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += (time_t)(ms / 1000) + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&m->lock);
    m->waiting++;
    while (!m->give_up && pthread_cond_timedwait(&m->changed, &m->lock, &until) != ETIMEDOUT) {
    }
    m->waiting--;
    bool go_on = !m->give_up;
    pthread_mutex_unlock(&m->lock);
    return go_on;
}

// Looks, sends, and after every doubt looks again: an answer that was lost on the way has its asset
// in the ledger all the same.
static hm_err import_one(importer *m, const hm_client *client, const import_file *f, bool *there,
                         bool *other_policy)
{
    uint64_t start_us = hm_clock_mono_us(&hm_clock_system), pause_ms = WAIT_FIRST_MS;
    unsigned exists = 0;
    HM_TRY(cli_check_name(f->name));
    for (unsigned try = 0;; try++) {
        bool known = false;
        hm_err err = look(m, client, f, &known, other_policy);
        if (err == HM_OK && known) {
            *there = try == 0;
            return HM_OK;
        }
        if (err == HM_OK)
            err = send_file(m, client, f);
        // "Exists already" may be the echo of a request that was sent twice: look what is there.
        if (err == HM_OK || (err == HM_E_EXISTS ? ++exists > 2 : !worth_waiting(err)))
            return err;
        if (hm_clock_mono_us(&hm_clock_system) - start_us > m->patience_us || !wait_ms(m, pause_ms))
            return err;
        pause_ms = pause_ms * 2 < WAIT_MAX_MS ? pause_ms * 2 : WAIT_MAX_MS;
    }
}

static volatile sig_atomic_t interrupted;

static void on_sigint(int number)
{
    (void)number;
    interrupted = 1;
}

static void *work(void *arg)
{
    importer *m = arg;
    hm_client client = m->c->client;
    hm_err keep = hm_client_keep(&client);
    pthread_mutex_lock(&m->lock);
    while (keep == HM_OK && m->next < m->count && !m->give_up) {
        const import_file *f = &m->files[m->next++];
        bool there = false, other_policy = false;
        pthread_mutex_unlock(&m->lock);
        hm_err err = import_one(m, &client, f, &there, &other_policy);
        pthread_mutex_lock(&m->lock);
        m->done++;
        m->bytes_done += f->size;
        bool no_use = err == HM_E_UNREACHABLE || err == HM_E_DENIED; // others fare no better
        if (err != HM_OK) {
            m->failed++;
            if (!no_use)
                print_failure(f->name, err);
        } else if (there) {
            m->there++;
            m->other_policy += other_policy;
        } else {
            m->imported++;
        }
        if (no_use && !m->give_up) {
            m->give_up = true;
            m->why = err;
            snprintf(m->detail, sizeof(m->detail), "%s", hm_err_detail());
        }
        pthread_cond_broadcast(&m->changed);
    }
    m->running--;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    if (keep == HM_OK)
        hm_client_release(&client);
    return NULL;
}

// ---- progress -----------------------------------------------------------------------------------

static void print_progress(const importer *m, bool tty, double seconds)
{
    char bar[31];
    size_t fill = m->bytes ? (size_t)(m->bytes_done * 30 / m->bytes) : 30;
    memset(bar, '.', 30);
    memset(bar, '#', fill > 30 ? 30 : fill);
    bar[30] = 0;
    double mb = (double)m->bytes_done / 1e6;
    fprintf(stderr, "%s", tty ? "\r\033[K[" : "");
    if (tty)
        fprintf(stderr, "%s] ", bar);
    fprintf(stderr, "%zu of %zu files, %.1f MB, %.1f MB/s%s%s", m->done, m->count, mb,
            seconds > 0 ? mb / seconds : 0, m->waiting ? ", waiting for the node" : "",
            tty ? "" : "\n");
    fflush(stderr);
}

// The caller holds the lock.
static void watch(importer *m)
{
    bool tty = isatty(STDERR_FILENO) == 1;
    uint64_t start_us = hm_clock_mono_us(&hm_clock_system), told_us = start_us;
    while (m->running > 0) {
        struct timespec until;
        if (interrupted && !m->give_up) {
            m->give_up = true; // what is under way ends first
            m->why = HM_E_CLOSED;
            snprintf(m->detail, sizeof(m->detail), "interrupted");
            pthread_cond_broadcast(&m->changed);
        }
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 200000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&m->changed, &m->lock, &until);
        uint64_t now_us = hm_clock_mono_us(&hm_clock_system);
        if (now_us - told_us >= (tty ? 100000 : TELL_MS * 1000)) {
            print_progress(m, tty, (double)(now_us - start_us) / 1e6);
            told_us = now_us;
        }
    }
    if (tty)
        fputs("\r\033[K", stderr);
}

hm_err cli_import_show(cli *c, yyjson_val *s)
{
    hm_buf b = {0};
    (void)c;
    hm_buf_printf(&b, "%llu imported, %llu there already, %llu failed",
                  (unsigned long long)cli_u64(s, "imported"),
                  (unsigned long long)cli_u64(s, "there_already"),
                  (unsigned long long)cli_u64(s, "failed"));
    if (cli_u64(s, "not_tried"))
        hm_buf_printf(&b, ", %llu not tried", (unsigned long long)cli_u64(s, "not_tried"));
    cli_fact_buf("files", &b);
    if (cli_u64(s, "other_policy"))
        cli_fact("policy", "%llu there already keep another one; asset set-policy changes it",
                 (unsigned long long)cli_u64(s, "other_policy"));
    if (cli_u64(s, "not_regular"))
        cli_fact("passed over", "%llu that are no regular files (links, pipes, sockets, devices)",
                 (unsigned long long)cli_u64(s, "not_regular"));
    cli_put_size(&b, cli_u64(s, "bytes"));
    hm_buf_puts(&b, " in ");
    cli_put_micros(&b, cli_u64(s, "milliseconds") * 1000);
    cli_fact_buf("content", &b);
    return HM_OK;
}

static hm_err summary(const importer *m, uint64_t took_us)
{
    hm_buf b = {0};
    size_t left = m->count - m->done;
    hm_jw_open(&b, NULL, '{');
    hm_jw_u64(&b, "files", m->count);
    hm_jw_u64(&b, "imported", m->imported);
    hm_jw_u64(&b, "there_already", m->there);
    hm_jw_u64(&b, "other_policy", m->other_policy);
    hm_jw_u64(&b, "failed", m->failed);
    hm_jw_u64(&b, "not_tried", left);
    hm_jw_u64(&b, "not_regular", m->skipped_special);
    hm_jw_u64(&b, "bytes", m->bytes_done);
    hm_jw_u64(&b, "milliseconds", took_us / 1000);
    hm_jw_close(&b, '}');
    hm_buf_puts(&b, "\n");
    hm_err err = cli_answer(m->c, m->c->cmd, hm_buf_bytes(&b));
    hm_buf_free(&b);
    HM_TRY(err);
    if (m->give_up)
        return hm_fail(m->why, "%s; %zu files are left, the same command goes on with them",
                       m->detail, left + m->failed);
    if (m->failed || left)
        return hm_fail(HM_E_IO, "%zu files are not imported", m->failed + left);
    return HM_OK;
}

static hm_err ask_own_id(importer *m)
{
    hm_buf answer = {0};
    yyjson_doc *doc = NULL;
    hm_node_id id;
    hm_err err;
    HM_TRY_OUT(hm_client_request(&m->c->client, "GET", "/v1/status", (hm_bytes){0}, NULL, &answer));
    HM_TRY_OUT(hm_json_parse(hm_buf_bytes(&answer), &doc));
    HM_TRY_OUT(cli_need(m->c, yyjson_doc_get_root(doc), "id"));
    HM_TRY_OUT(hm_json_hex(yyjson_doc_get_root(doc), "id", id.b, HM_HASH_BYTES));
    hm_hex(m->owner, id.b, HM_HASH_BYTES);
out:
    yyjson_doc_free(doc);
    hm_buf_free(&answer);
    return err;
}

static hm_err own_id(importer *m)
{
    uint64_t start_us = hm_clock_mono_us(&hm_clock_system);
    for (bool told = false;; told = true) {
        hm_err err = ask_own_id(m);
        if (!worth_waiting(err) || hm_clock_mono_us(&hm_clock_system) - start_us > m->patience_us)
            return err;
        if (!told)
            fprintf(stderr, "waiting for the node: %s\n", hm_err_detail());
        (void)wait_ms(m, 1000);
    }
}

static void run_workers(importer *m, size_t jobs)
{
    // The first ^C ends what is under way and tells where it stands, the second one ends it at
    // once.
    const struct sigaction act = {.sa_handler = on_sigint, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &act, NULL);
    pthread_t threads[JOBS_MAX];
    size_t started = 0;
    pthread_mutex_lock(&m->lock);
    while (started < jobs && started < m->count &&
           pthread_create(&threads[started], NULL, work, m) == 0) {
        started++;
        m->running++;
    }
    watch(m);
    pthread_mutex_unlock(&m->lock);
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

hm_err cli_import(cli *c, const cli_command *cmd)
{
    importer m = {.c = c, .policy = hm_config_get(&c->cfg, "policy")};
    uint64_t jobs, patience_s, start_us = hm_clock_mono_us(&hm_clock_system);
    pthread_condattr_t attr;
    hm_err err;
    (void)cmd;
    HM_TRY(hm_config_u64(&c->cfg, "jobs", 1, JOBS_MAX, &jobs));
    HM_TRY(hm_config_u64(&c->cfg, "patience", 0, 7 * 86400, &patience_s));
    m.patience_us = patience_s * 1000000;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&m.lock, NULL);
    pthread_cond_init(&m.changed, &attr);
    pthread_condattr_destroy(&attr);
    HM_TRY_OUT(walk(&m, c->arg));
    HM_TRY_OUT(own_id(&m));
    run_workers(&m, (size_t)jobs);
    err = summary(&m, hm_clock_mono_us(&hm_clock_system) - start_us);
    c->interrupted = interrupted;
out:
    for (size_t i = 0; i < m.count; i++)
        free(m.files[i].path);
    free(m.files);
    pthread_cond_destroy(&m.changed);
    pthread_mutex_destroy(&m.lock);
    return err;
}
