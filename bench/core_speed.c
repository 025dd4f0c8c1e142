// How fast two cores are while both work: nanoseconds of a fixed piece of arithmetic that keeps all
// of a core's units busy. On a virtual machine a core is often half of a real one: while a
// neighbour works on the other half, everything here takes up to twice as long, and nothing in
// /proc tells. A benchmark asks before and after each run.
//
//   core_speed [CORE] [CORE]      (default: 0 1)
//
// One JSON line a core: the median of its pieces.
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PIECES 41
#define STEPS 500000u

typedef struct core {
    int number;
    pthread_t thread;
    uint64_t ns[PIECES];
    bool failed;
} core;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void *work(void *arg)
{
    core *c = arg;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(c->number, &one);
    c->failed = sched_setaffinity(0, sizeof one, &one) != 0;
    uint64_t v = 1, w = 2, x = 3, y = 4, z = 5;
    for (unsigned i = 0; i < PIECES && !c->failed; i++) {
        uint64_t start = now_ns();
        for (uint32_t step = 0; step < STEPS; step++) {
            v += w, w ^= x, x += y, y ^= z, z += step;
            __asm__ volatile("" : "+r"(v), "+r"(w), "+r"(x), "+r"(y), "+r"(z));
        }
        c->ns[i] = now_ns() - start;
    }
    qsort(c->ns, PIECES, sizeof c->ns[0], by_size);
    return NULL;
}

int main(int argc, char **argv)
{
    core cores[2] = {{.number = 0}, {.number = 1}};
    for (int i = 0; i < 2 && i + 1 < argc; i++) {
        char *end;
        long number = strtol(argv[i + 1], &end, 10);
        if (argc > 3 || end == argv[i + 1] || *end != 0 || number < 0 || number >= CPU_SETSIZE) {
            fprintf(stderr, "usage: core_speed [CORE] [CORE]\n");
            return 2;
        }
        cores[i].number = (int)number;
    }
    for (int i = 0; i < 2; i++)
        if (pthread_create(&cores[i].thread, NULL, work, &cores[i]) != 0) {
            fprintf(stderr, "core_speed: no thread\n");
            return 1;
        }
    for (int i = 0; i < 2; i++)
        pthread_join(cores[i].thread, NULL);
    for (int i = 0; i < 2; i++) {
        if (cores[i].failed) {
            fprintf(stderr, "core_speed: this process may not use core %d\n", cores[i].number);
            return 1;
        }
        printf("{\"bench\":\"core-speed\",\"core\":%d,\"ns\":%llu}\n", cores[i].number,
               (unsigned long long)cores[i].ns[PIECES / 2]);
    }
    return 0;
}
