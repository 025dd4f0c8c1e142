// mesh_sim: runs seeds in several processes, shows how far it is, and stops at the first that
// fails.
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim_internal.h"

#define THREADS_MAX 64

static const char usage_text[] =
    "usage: mesh_sim [OPTION]...\n"
    "  --seeds A..B       run these seeds (default 1..100)\n"
    "  --seed N           run one seed\n"
    "  --list FILE        run the seeds in this file first\n"
    "  --threads J        in so many processes (default 1)\n"
    "  --falcon           with real signatures\n"
    "  --ledger           with the real ledger\n"
    "  --twice            each seed twice: both runs must be the same\n"
    "  --expect-failure   succeed when a seed fails: the core is one that forgets a rule\n"
    "  --verbose          print every event\n"
    "Without --falcon and --ledger some seeds use them. At a failure: the seed, the step, the\n"
    "invariant, the last events, what each node knows, and exit code 1.\n";

typedef struct options {
    uint64_t first, last;
    const char *list;
    int threads;
    uint32_t kinds;
    bool twice, expect_failure, verbose;
} options;

// What a worker says of a seed; `text` bytes follow.
typedef struct outcome {
    uint64_t seed, text;
    sim_report r;
} outcome;

// ---- a worker -----------------------------------------------------------------------------------

static uint64_t current_seed;

static void died(int sig)
{
    fprintf(stderr, "seed %llu: signal %d\n", (unsigned long long)current_seed, sig);
    const sim *s = sim_current();
    if (s != NULL && !s->p.verbose)
        sim_print_trace(s, stderr);
    _exit(1);
}

static void put(int fd, const void *ptr, size_t len)
{
    for (const char *p = ptr; len > 0;) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            exit(1); // the parent has gone
        p += n;
        len -= (size_t)n;
    }
}

static void run_one(const options *o, uint64_t seed, uint32_t kinds, int fd)
{
    outcome out = {.seed = seed};
    sim_params p;
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    hm_assert(f != NULL);
    current_seed = seed;
    sim_params_draw(&p, seed, kinds);
    p.verbose = o->verbose;
    sim_run_seed(&p, &out.r, f);
    if (o->twice && !out.r.failed) {
        sim_report again;
        sim_run_seed(&p, &again, f);
        if (again.trace_hash != out.r.trace_hash || again.steps != out.r.steps) {
            out.r.failed = true;
            fprintf(f, "seed %llu: the second run differs from the first\n",
                    (unsigned long long)seed);
        }
    }
    hm_assert(fclose(f) == 0);
    out.text = out.r.failed ? len : 0;
    put(fd, &out, sizeof out);
    put(fd, text, out.text);
    free(text);
}

static uint32_t kinds_of(const options *o, uint64_t seed)
{
    return o->kinds != 0 ? o->kinds : sim_kinds_of_seed(seed);
}

static void run_list(const options *o, int fd)
{
    FILE *f = fopen(o->list, "r");
    char line[400];
    if (f == NULL) {
        fprintf(stderr, "mesh_sim: %s: %s\n", o->list, strerror(errno));
        exit(2);
    }
    while (fgets(line, sizeof line, f) != NULL) {
        unsigned long long seed = strtoull(line, NULL, 10);
        if (seed != 0)
            run_one(o, seed, kinds_of(o, seed), fd);
    }
    fclose(f);
}

static void worker(const options *o, int number, int fd)
{
    const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++)
        signal(fatal[i], died);
    signal(SIGPIPE, SIG_IGN);
    if (o->list != NULL && number == 0)
        run_list(o, fd);
    for (uint64_t seed = o->first + (uint64_t)number; seed <= o->last; seed += (uint64_t)o->threads)
        run_one(o, seed, kinds_of(o, seed), fd);
    exit(0);
}

// ---- the parent ---------------------------------------------------------------------------------

typedef struct total {
    uint64_t seeds, failed;
    sim_report sum;
    uint64_t *heal; // of each seed, microseconds
    size_t cap;
} total;

static void show(const total *t, bool last)
{
    static time_t shown;
    time_t now = time(NULL);
    if (!last && (now == shown || isatty(2) == 0))
        return;
    shown = now;
    fprintf(stderr, "\r%llu seeds, %.1f simulated hours, %llu failed%s",
            (unsigned long long)t->seeds, (double)t->sum.time_us / 3.6e9,
            (unsigned long long)t->failed, last ? "\n" : "  ");
}

static void add(total *t, const outcome *o)
{
    if (t->seeds == t->cap) {
        t->cap = t->cap == 0 ? 1024 : 2 * t->cap;
        t->heal = realloc(t->heal, t->cap * sizeof *t->heal);
        hm_assert(t->heal != NULL);
    }
    t->heal[t->seeds++] = o->r.heal_us;
    t->failed += o->r.failed;
    t->sum.time_us += o->r.time_us;
    t->sum.steps += o->r.steps;
    t->sum.heights += o->r.heights;
    t->sum.ops += o->r.ops;
    t->sum.crashes += o->r.crashes;
    t->sum.torn += o->r.torn;
    t->sum.equivocations += o->r.equivocations;
    t->sum.evidence += o->r.evidence;
    t->sum.refused += o->r.refused;
    t->sum.fetches += o->r.fetches;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void report(const total *t)
{
    printf("%llu seeds, %llu failed: %.2f simulated hours, %llu events, %llu blocks with %llu "
           "operations, %llu crashes "
           "(%llu in a write), %llu contradictions seen, %llu refusals, %llu fetches\n",
           (unsigned long long)t->seeds, (unsigned long long)t->failed,
           (double)t->sum.time_us / 3.6e9, (unsigned long long)t->sum.steps,
           (unsigned long long)t->sum.heights, (unsigned long long)t->sum.ops,
           (unsigned long long)t->sum.crashes, (unsigned long long)t->sum.torn,
           (unsigned long long)t->sum.equivocations, (unsigned long long)t->sum.refused,
           (unsigned long long)t->sum.fetches);
    if (t->seeds == 0)
        return;
    qsort(t->heal, t->seeds, sizeof *t->heal, by_value);
    printf("from healing to the heights asked for: median %.2f s, 99%% %.2f s, most %.2f s\n",
           (double)t->heal[t->seeds / 2] / 1e6, (double)t->heal[t->seeds * 99 / 100] / 1e6,
           (double)t->heal[t->seeds - 1] / 1e6);
}

static bool get(int fd, void *ptr, size_t len)
{
    for (char *p = ptr; len > 0;) {
        ssize_t n = read(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

// One outcome; false at the end of the worker.
static bool take(int fd, total *t)
{
    outcome o;
    if (!get(fd, &o, sizeof o))
        return false;
    char *text = calloc(1, o.text + 1);
    hm_assert(text != NULL);
    if (!get(fd, text, o.text))
        o.r.failed = true;
    add(t, &o);
    show(t, false);
    if (o.r.failed)
        printf("%s\n", text);
    free(text);
    return true;
}

static int run(const options *o)
{
    struct pollfd fds[THREADS_MAX];
    pid_t pids[THREADS_MAX];
    total t = {0};
    int left = o->threads;
    for (int i = 0; i < o->threads; i++) {
        int ends[2];
        fflush(NULL);
        if (pipe(ends) != 0 || (pids[i] = fork()) < 0) {
            perror("mesh_sim");
            return 2;
        }
        if (pids[i] == 0) {
            close(ends[0]);
            worker(o, i, ends[1]);
        }
        close(ends[1]);
        fds[i] = (struct pollfd){.fd = ends[0], .events = POLLIN};
    }
    while (left > 0 && t.failed == 0) {
        if (poll(fds, (nfds_t)o->threads, -1) < 0)
            continue;
        for (int i = 0; i < o->threads && t.failed == 0; i++)
            if (fds[i].revents != 0 && !take(fds[i].fd, &t)) {
                close(fds[i].fd);
                fds[i].fd = -1;
                left--;
            }
    }
    for (int i = 0; i < o->threads; i++) {
        int status = 0;
        if (fds[i].fd >= 0)
            close(fds[i].fd); // then it ends at its next outcome, and takes its files with it
        waitpid(pids[i], &status, 0);
        if (t.failed == 0 && status != 0)
            t.failed = 1; // it said why
    }
    show(&t, true);
    report(&t);
    free(t.heal);
    if (o->expect_failure)
        printf(t.failed > 0 ? "a broken rule was noticed, as it must be\n"
                            : "no seed noticed that the core forgets a rule\n");
    return (t.failed > 0) == o->expect_failure ? 0 : 1;
}

// ---- options ------------------------------------------------------------------------------------

static bool range(const char *text, options *o)
{
    char *end;
    o->first = strtoull(text, &end, 10);
    if (strncmp(end, "..", 2) != 0)
        return false;
    o->last = strtoull(end + 2, &end, 10);
    return *end == '\0' && o->first > 0 && o->last >= o->first;
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        {"seeds", required_argument, NULL, 's'},
        {"seed", required_argument, NULL, 'n'},
        {"list", required_argument, NULL, 'l'},
        {"threads", required_argument, NULL, 'j'},
        {"falcon", no_argument, NULL, 'f'},
        {"ledger", no_argument, NULL, 'm'},
        {"twice", no_argument, NULL, 't'},
        {"expect-failure", no_argument, NULL, 'x'},
        {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    options o = {.first = 1, .last = 100, .threads = 1};
    bool ok = true;
    for (int c; (c = getopt_long(argc, argv, "h", names, NULL)) != -1;)
        switch (c) {
        case 's':
            ok &= range(optarg, &o);
            break;
        case 'n':
            o.first = o.last = strtoull(optarg, NULL, 10);
            break;
        case 'l':
            o.list = optarg;
            break;
        case 'j':
            o.threads = atoi(optarg);
            break;
        case 'f':
            o.kinds |= SIM_KIND_FALCON;
            break;
        case 'm':
            o.kinds |= SIM_KIND_LMDB;
            break;
        case 't':
            o.twice = true;
            break;
        case 'x':
            o.expect_failure = true;
            break;
        case 'v':
            o.verbose = true;
            break;
        case 'h':
            fputs(usage_text, stdout);
            return 0;
        default:
            ok = false;
            break;
        }
    if (!ok || optind != argc || o.threads < 1 || o.threads > THREADS_MAX || o.first == 0) {
        fputs(usage_text, stderr);
        return 2;
    }
    hm_log_set_level(HM_LOG_ERROR);
    return run(&o);
}
