// Workers that share an address: a thread, an endpoint and a queue of jobs each.
#include "stoq/group.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/err.h"
#include "base/list.h"
#include "base/random.h"
#include "stoq/endpoint.h"

#define JOBS_MAX 65536u  // that wait for a worker
#define PASSED_MAX 1024u // datagrams among them: more are as good as lost
#define TURNS_BETWEEN_WAITS 16u

typedef struct worker {
    stoq_group *group;
    unsigned index;
    pthread_t thread;
    int wake; // eventfd
    stoq_endpoint *ep;
    hm_list posted;       // the thread's alone: jobs for others, which leave after its turn
    pthread_mutex_t lock; // of what follows
    hm_list jobs;
    unsigned waiting, passed;
    bool stopping;
} worker;

struct stoq_group {
    stoq_group_config config;
    stoq_share share;
    stoq_ticket_store tickets; // of all workers
    unsigned count;
    struct sockaddr_in6 bound;
    pthread_mutex_t lock; // of what follows
    pthread_cond_t changed;
    unsigned made; // workers that have an endpoint
    bool serving;  // all have: the packets are steered
    bool failed;
    hm_err err;
    char detail[512];
    unsigned started;
    worker workers[];
};

// ---- jobs ---------------------------------------------------------------------------------------

// HM_E_CLOSED; HM_E_LIMIT, but for those that their owners keep, of which there are few.
static hm_err put(worker *w, group_job *j, bool passed)
{
    pthread_mutex_lock(&w->lock);
    bool full = j->heap && (w->waiting >= JOBS_MAX || (passed && w->passed >= PASSED_MAX));
    hm_err err = w->stopping ? HM_E_CLOSED : full ? HM_E_LIMIT : HM_OK;
    bool first = err == HM_OK && w->waiting == 0;
    if (err == HM_OK) {
        hm_list_append(&w->jobs, &j->link);
        w->waiting++;
        w->passed += passed;
    }
    pthread_mutex_unlock(&w->lock);
    if (first)
        (void)eventfd_write(w->wake, 1); // fails only when it is due already
    return err;
}

static hm_err put_new(worker *w, void (*run)(void *, stoq_endpoint *), void *arg, bool passed)
{
    group_job *j = malloc(sizeof *j);
    if (j == NULL)
        return HM_E_NOMEM;
    *j = (group_job){.run = run, .arg = arg, .heap = true};
    hm_err err = put(w, j, passed);
    if (err != HM_OK)
        free(j);
    return err;
}

void group_post(stoq_group *g, unsigned from, unsigned to, group_job *job)
{
    hm_assert(from < g->count && to < g->count && from != to && !job->heap);
    job->to = to;
    hm_list_append(&g->workers[from].posted, &job->link);
}

static void send_posted(worker *w)
{
    while (!hm_list_empty(&w->posted)) {
        group_job *j = hm_container_of(w->posted.next, group_job, link);
        hm_list_remove(&j->link);
        if (put(&w->group->workers[j->to], j, false) != HM_OK)
            j->run(j->arg, NULL);
    }
}

static bool has_jobs(worker *w)
{
    pthread_mutex_lock(&w->lock);
    bool some = w->waiting > 0;
    pthread_mutex_unlock(&w->lock);
    return some;
}

// Runs those that wait now; false when there will be no more.
static bool run_jobs(worker *w)
{
    hm_list mine;
    eventfd_t n;
    (void)eventfd_read(w->wake, &n);
    hm_list_init(&mine);
    pthread_mutex_lock(&w->lock);
    hm_list_move_all(&w->jobs, &mine);
    w->waiting = w->passed = 0;
    bool last = w->stopping;
    pthread_mutex_unlock(&w->lock);
    while (!hm_list_empty(&mine)) {
        group_job *j = hm_container_of(mine.next, group_job, link);
        bool heap = j->heap;
        hm_list_remove(&j->link); // it may be posted again when it runs, or be freed
        j->run(j->arg, w->ep);
        if (heap)
            free(j);
    }
    send_posted(w);
    return !last;
}

hm_err stoq_group_run(stoq_group *g, unsigned index, void (*run)(void *, stoq_endpoint *),
                      void *arg)
{
    hm_assert(index < g->count);
    return put_new(&g->workers[index], run, arg, false);
}

typedef struct call {
    void (*run)(void *arg, stoq_endpoint *ep);
    void *arg;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
} call;

static void run_call(void *arg, stoq_endpoint *ep)
{
    call *c = arg;
    c->run(c->arg, ep);
    pthread_mutex_lock(&c->lock);
    c->done = true;
    pthread_cond_signal(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

hm_err stoq_group_call(stoq_group *g, unsigned index, void (*run)(void *, stoq_endpoint *),
                       void *arg)
{
    call c = {run, arg, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    HM_TRY(stoq_group_run(g, index, run_call, &c));
    pthread_mutex_lock(&c.lock);
    while (!c.done)
        pthread_cond_wait(&c.changed, &c.lock);
    pthread_mutex_unlock(&c.lock);
    return HM_OK;
}

// ---- datagrams of another worker ----------------------------------------------------------------

typedef struct passed {
    struct sockaddr_in6 from;
    bool preferred; // came to that address
    uint8_t ecn;
    size_t len;
    uint8_t bytes[];
} passed;

static void take_passed(void *arg, stoq_endpoint *ep)
{
    passed *p = arg;
    (p->preferred ? stoq_endpoint_receive_preferred : stoq_endpoint_receive)(
        ep, &p->from, p->bytes, p->len, p->len, p->ecn, stoq_now_us());
    free(p);
}

static void pass_on(void *ctx, unsigned index, bool preferred, const struct sockaddr_in6 *from,
                    const uint8_t *bytes, size_t len, uint8_t ecn)
{
    stoq_group *g = ctx;
    passed *p = malloc(sizeof *p + len);
    if (p == NULL)
        return; // as good as lost
    *p = (passed){.from = *from, .preferred = preferred, .ecn = ecn, .len = len};
    memcpy(p->bytes, bytes, len);
    if (put_new(&g->workers[index], take_passed, p, true) != HM_OK)
        free(p);
}

// ---- a worker's thread --------------------------------------------------------------------------

// Waits and does what is due; true when there are jobs.
static bool turn(worker *w)
{
    bool jobs = endpoint_wait(w->ep, HM_TIME_NEVER, w->wake);
    send_posted(w);
    for (unsigned i = 1; i < TURNS_BETWEEN_WAITS; i++) {
        uint64_t now = stoq_now_us();
        if (jobs || stoq_endpoint_next_timeout_us(w->ep) > now)
            break;
        stoq_endpoint_process(w->ep, now, false);
        send_posted(w);
        jobs = has_jobs(w);
    }
    return jobs;
}

static void pin(unsigned index)
{
    cpu_set_t all, one;
    if (sched_getaffinity(0, sizeof all, &all) != 0 || CPU_COUNT(&all) == 0)
        return; // it runs anywhere
    unsigned nth = index % (unsigned)CPU_COUNT(&all);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all) || nth-- > 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

// Makes the endpoint and waits for all others; false when one has failed.
static bool begin(worker *w, void **user)
{
    stoq_group *g = w->group;
    stoq_config config = g->config.endpoint;
    if (g->config.worker_begin != NULL)
        config.user = g->config.worker_begin(g->config.ctx, w->index);
    *user = config.user;
    config.share = g->share;
    config.share.index = (uint16_t)w->index;
    config.bind = g->bound;
    hm_err err = endpoint_create(&config, &g->tickets, &w->ep);
    pthread_mutex_lock(&g->lock);
    if (err == HM_OK) {
        w->ep->group = g;
        stoq_endpoint_address(w->ep, &g->bound);
    } else {
        g->failed = true;
        g->err = err;
        snprintf(g->detail, sizeof g->detail, "%s", hm_err_detail());
    }
    g->made++;
    pthread_cond_broadcast(&g->changed);
    while (!g->serving && !g->failed)
        pthread_cond_wait(&g->changed, &g->lock);
    bool go = !g->failed;
    pthread_mutex_unlock(&g->lock);
    return go;
}

static void *work(void *arg)
{
    worker *w = arg;
    stoq_group *g = w->group;
    void *user;
    if (g->config.pin)
        pin(w->index);
    if (begin(w, &user))
        while (!turn(w) || run_jobs(w))
            ;
    stoq_endpoint_destroy(w->ep);
    send_posted(w);
    if (g->config.worker_end != NULL)
        g->config.worker_end(g->config.ctx, w->index, user);
    send_posted(w);
    return NULL;
}

// ---- the group ----------------------------------------------------------------------------------

static unsigned processors(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static hm_err start_worker(stoq_group *g, unsigned index)
{
    worker *w = &g->workers[index];
    w->group = g;
    w->index = index;
    hm_list_init(&w->jobs);
    hm_list_init(&w->posted);
    pthread_mutex_init(&w->lock, NULL);
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->wake < 0)
        return hm_fail(HM_E_IO, "eventfd: %s", strerror(errno));
    int e = pthread_create(&w->thread, NULL, work, w);
    if (e != 0) {
        close(w->wake);
        return hm_fail(HM_E_IO, "a thread: %s", strerror(e));
    }
    g->started++;
    pthread_mutex_lock(&g->lock);
    while (g->made <= index) // in order: the kernel counts the sockets so
        pthread_cond_wait(&g->changed, &g->lock);
    hm_err err = g->failed ? g->err : HM_OK;
    pthread_mutex_unlock(&g->lock);
    return err == HM_OK ? HM_OK : hm_fail(err, "%s", g->detail);
}

static void end(stoq_group *g)
{
    for (unsigned i = 0; i < g->started; i++) {
        worker *w = &g->workers[i];
        pthread_mutex_lock(&w->lock);
        w->stopping = true;
        pthread_mutex_unlock(&w->lock);
        (void)eventfd_write(w->wake, 1);
    }
    for (unsigned i = 0; i < g->started; i++)
        pthread_join(g->workers[i].thread, NULL);
    for (unsigned i = 0; i < g->started; i++) {
        worker *w = &g->workers[i];
        close(w->wake);
        pthread_mutex_destroy(&w->lock);
    }
    stoq_ticket_store_free(&g->tickets);
    pthread_mutex_destroy(&g->lock);
    pthread_cond_destroy(&g->changed);
    OPENSSL_cleanse(g->config.endpoint.secret, sizeof g->config.endpoint.secret);
    SSL_CTX_free(g->config.endpoint.server_tls);
    SSL_CTX_free(g->config.endpoint.client_tls);
    free(g);
}

hm_err stoq_group_start(const stoq_group_config *config, stoq_group **out)
{
    static const uint8_t zero[32];
    unsigned count = config->workers > 0 ? config->workers : processors();
    *out = NULL;
    if (count > STOQ_SHARE_MAX)
        return hm_fail(HM_E_CONFIG, "%u workers; at most %u", count, STOQ_SHARE_MAX);
    if (config->endpoint.net != NULL)
        return hm_fail(HM_E_CONFIG, "workers have sockets of their own");
    stoq_group *g = calloc(1, sizeof *g + count * sizeof *g->workers);
    if (g == NULL)
        return HM_E_NOMEM;
    g->config = *config;
    g->count = count;
    g->share = (stoq_share){.count = (uint16_t)count, .pass_on = pass_on, .ctx = g};
    g->bound = config->endpoint.bind;
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->changed, NULL);
    stoq_config *e = &g->config.endpoint;
    const hm_random *random = e->random != NULL ? e->random : &hm_random_system;
    stoq_ticket_store_init(&g->tickets, random, e->early_data ? STOQ_STRIKES_MAX : 0);
    if (e->server_tls != NULL)
        SSL_CTX_up_ref(e->server_tls);
    if (e->client_tls != NULL)
        SSL_CTX_up_ref(e->client_tls);
    if (memcmp(e->secret, zero, sizeof zero) == 0)
        hm_random_fill(random, e->secret, sizeof e->secret);
    hm_err err = HM_OK;
    for (unsigned i = 0; i < count && err == HM_OK; i++)
        err = start_worker(g, i);
    pthread_mutex_lock(&g->lock);
    g->serving = err == HM_OK;
    g->failed = err != HM_OK;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
    if (err != HM_OK) {
        char detail[512];
        snprintf(detail, sizeof detail, "%s", hm_err_detail());
        end(g);
        return hm_fail(err, "%s", detail);
    }
    *out = g;
    return HM_OK;
}

unsigned stoq_group_workers(const stoq_group *g)
{
    return g->count;
}

void stoq_group_address(const stoq_group *g, struct sockaddr_in6 *out)
{
    *out = g->bound;
}

void stoq_group_stop(stoq_group *g)
{
    if (g != NULL)
        end(g);
}
