// The load of bench/finality and bench/trust_million: N clients, each with a connection of its own
// to one node, register assets one after the other for some seconds. Prints one JSON line: how long
// a client waited from sending a request to the answer that its operation is final. With BODY-FILE
// they post that to PATH instead, again and again; with RATE so many a second of all together, at
// even distances, whatever the server does, and the time is counted from when a request was due.
// usage: finality_load URL CA TOKEN-FILE CLIENTS SECONDS LABEL [PATH BODY-FILE [RATE]]
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/client.h"
#include "server/json.h"

#define CLIENTS_MAX 1024u
#define SAMPLES_MAX 1000000u
#define WARM_UP_US 2000000u

typedef struct load {
    const char *label;
    const char *path;
    hm_buf body; // empty: an asset of a new name each time
    hm_client client;
    uint64_t begin_us, from_us, until_us; // what is sent between the last two counts
    unsigned clients, rate;               // requests a second; 0: as soon as the answer is there
    pthread_mutex_t lock;                 // over what follows
    uint64_t *samples;
    size_t count, failed;
    char failure[200];
} load;

typedef struct worker {
    load *l;
    unsigned number;
} worker;

static uint64_t now_us(void)
{
    return hm_clock_mono_us(&hm_clock_system);
}

static void record(load *l, uint64_t began, uint64_t ended, hm_err err)
{
    pthread_mutex_lock(&l->lock);
    if (err != HM_OK && l->failed++ == 0)
        snprintf(l->failure, sizeof l->failure, "%s: %.150s", hm_err_text(err), hm_err_detail());
    if (err == HM_OK && began >= l->from_us && ended <= l->until_us && l->count < SAMPLES_MAX)
        l->samples[l->count++] = ended - began;
    pthread_mutex_unlock(&l->lock);
}

static void put_asset(hm_buf *body, const char *label, unsigned number, unsigned i)
{
    char name[100];
    snprintf(name, sizeof name, "bench-%s-%u-%u", label, number, i);
    hm_jw_open(body, NULL, '{');
    hm_jw_str(body, "kind", "service");
    hm_jw_str(body, "name", name);
    hm_jw_close(body, '}');
}

// When request i of a client is to be sent: now, unless there is a rate.
static uint64_t due_us(const worker *w, unsigned i)
{
    const load *l = w->l;
    if (l->rate == 0)
        return now_us();
    uint64_t due = l->begin_us + ((uint64_t)i * l->clients + w->number) * 1000000 / l->rate;
    for (uint64_t now = now_us(); now < due; now = now_us())
        usleep((useconds_t)(due - now));
    return due;
}

static void *work(void *arg)
{
    worker *w = arg;
    hm_client client = w->l->client;
    if (hm_client_keep(&client) != HM_OK)
        return NULL;
    for (unsigned i = 0; now_us() < w->l->until_us; i++) {
        hm_buf body = {0}, answer = {0};
        if (w->l->body.len > 0)
            hm_buf_put(&body, hm_buf_bytes(&w->l->body));
        else
            put_asset(&body, w->l->label, w->number, i);
        uint64_t began = due_us(w, i);
        hm_err err = hm_buf_status(&body);
        if (err == HM_OK)
            err =
                hm_client_request(&client, "POST", w->l->path, hm_buf_bytes(&body), NULL, &answer);
        record(w->l, began, now_us(), err);
        hm_buf_free(&body);
        hm_buf_free(&answer);
        if (err == HM_E_UNREACHABLE)
            break;
    }
    hm_client_release(&client);
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    if (argc != 7 && argc != 9 && argc != 10) {
        fputs("usage: finality_load URL CA TOKEN-FILE CLIENTS SECONDS LABEL [PATH BODY-FILE "
              "[RATE]]\n",
              stderr);
        return 2;
    }
    unsigned clients = (unsigned)strtoul(argv[4], NULL, 10);
    uint64_t seconds = strtoull(argv[5], NULL, 10);
    unsigned rate = argc == 10 ? (unsigned)strtoul(argv[9], NULL, 10) : 0;
    if (clients == 0 || clients > CLIENTS_MAX || seconds == 0 || seconds > 3600 ||
        (argc == 10 && (rate == 0 || rate > 1000000))) {
        fputs("finality_load: 1 to 1024 clients, 1 to 3600 seconds, 1 to 1000000 a second\n",
              stderr);
        return 2;
    }
    hm_buf token = {0};
    if (hm_file_read(argv[3], 4096, &token) != HM_OK) {
        fprintf(stderr, "finality_load: %s\n", hm_err_detail());
        return 1;
    }
    while (token.len > 0 && token.ptr[token.len - 1] == '\n')
        token.len--;
    char *bearer = strdup(hm_buf_cstr(&token));
    load l = {.label = argv[6],
              .path = argc >= 9 ? argv[7] : "/v1/assets",
              .client = {.url = argv[1], .ca_path = argv[2], .token = bearer},
              .clients = clients,
              .rate = rate,
              .begin_us = now_us(),
              .lock = PTHREAD_MUTEX_INITIALIZER,
              .samples = calloc(SAMPLES_MAX, sizeof(uint64_t))};
    l.from_us = l.begin_us + WARM_UP_US;
    if (argc >= 9 && hm_file_read(argv[8], 1u << 20, &l.body) != HM_OK) {
        fprintf(stderr, "finality_load: %s: %s\n", argv[8], hm_err_detail());
        return 1;
    }
    l.until_us = l.from_us + seconds * 1000000;
    pthread_t threads[CLIENTS_MAX];
    static worker workers[CLIENTS_MAX];
    unsigned started = 0;
    for (; l.samples != NULL && started < clients; started++) {
        workers[started] = (worker){&l, started};
        if (pthread_create(&threads[started], NULL, work, &workers[started]) != 0)
            break;
    }
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (started < clients || l.count == 0) {
        fprintf(stderr, "finality_load: nothing measured: %s\n", l.failure);
        return 1;
    }
    qsort(l.samples, l.count, sizeof *l.samples, by_value);
    hm_buf out = {0};
    hm_jw_open(&out, NULL, '{');
    hm_jw_str(&out, "bench", argc >= 9 ? argv[6] : "finality");
    hm_jw_u64(&out, "clients", clients);
    hm_jw_u64(&out, "rate", rate);
    hm_jw_u64(&out, "seconds", seconds);
    hm_jw_u64(&out, "operations", l.count);
    hm_jw_u64(&out, "failed", l.failed);
    hm_jw_u64(&out, "operations_per_second", l.count / seconds);
    hm_jw_u64(&out, "p50_us", l.samples[l.count / 2]);
    hm_jw_u64(&out, "p99_us", l.samples[l.count * 99 / 100]);
    hm_jw_u64(&out, "max_us", l.samples[l.count - 1]);
    hm_jw_close(&out, '}');
    bool ok = hm_buf_status(&out) == HM_OK && puts(hm_buf_cstr(&out)) >= 0;
    if (l.failed > 0)
        fprintf(stderr, "finality_load: %zu failed, the first: %s\n", l.failed, l.failure);
    hm_buf_free(&out);
    hm_buf_free(&l.body);
    hm_buf_free(&token);
    free(bearer);
    free(l.samples);
    return ok && l.failed == 0 ? 0 : 1;
}
