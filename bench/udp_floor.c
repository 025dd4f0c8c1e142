// What the kernel's UDP sockets carry over ::1 without any transport, and with nothing but packet
// protection: the floor under every figure of bench/stoq. One flow, the sender on core 0 and the
// receiver on core 1, segmentation offload both ways as STOQ uses it.
//
//   udp_floor [SECONDS] [BYTES OF A DATAGRAM...]      (default: 3, 1452 65488)
//
// One JSON line a figure: gigabits a second that were received, and what a datagram cost each side.
// What is lost in a full socket buffer counts for the sender alone.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "crypto/aead.h"
#include "server/json.h"
#include "stoq/io.h"

#define BUFFER 65536u
#define DATAGRAM_MAX 65488u // what the loopback device carries: 65536 less IPv6 and UDP
#define HEADER 13u
#define SEGMENTS 64u // of one call, UDP_MAX_SEGMENTS
#define QUIET_US 300000u

typedef struct cost {
    uint64_t datagrams, elapsed_us, user_us, kernel_us;
} cost;

static uint8_t bytes[BUFFER], text[BUFFER];
static hm_aead aead;

static void must(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "udp_floor: %s failed: %s\n", what, strerror(errno));
    exit(1);
}

static void on_core(int core)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(core, &one);
    must(sched_setaffinity(0, sizeof one, &one) == 0, "pinning to a core");
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t us_of(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_usec;
}

static void take_cost(cost *c, uint64_t datagrams, uint64_t elapsed_us)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    *c = (cost){datagrams, elapsed_us, us_of(u.ru_utime), us_of(u.ru_stime)};
}

// ---- packet protection --------------------------------------------------------------------------

static void seal(size_t count, size_t size, uint64_t pn)
{
    hm_aead_seal batch[SEGMENTS];
    hm_bytes piece = hm_bytes_of(text, size - HEADER - HM_AEAD_TAG);
    for (size_t i = 0; i < count; i++)
        batch[i] = (hm_aead_seal){.aad = hm_bytes_of(bytes + i * size, HEADER),
                                  .text = bytes + i * size + HEADER,
                                  .len = piece.len,
                                  .pn = pn + i,
                                  .pieces = &piece,
                                  .piece_count = 1};
    must(hm_aead_seal_batch(&aead, batch, count) == HM_OK, "sealing");
}

// With the numbers of a receiver that has missed none; the cost is the same when it has.
static void open_all(uint8_t *at, size_t count, size_t size, uint64_t pn)
{
    hm_aead_open batch[SEGMENTS];
    for (size_t i = 0; i < count; i++)
        batch[i] = (hm_aead_open){.aad = hm_bytes_of(at + i * size, HEADER),
                                  .text = at + i * size + HEADER,
                                  .len = size - HEADER - HM_AEAD_TAG,
                                  .pn = pn + i};
    hm_aead_open_batch(&aead, batch, count);
}

// ---- the two sides ------------------------------------------------------------------------------

static void receive(stoq_io *io, bool protect, int result)
{
    cost c;
    struct timeval patience = {.tv_usec = QUIET_US};
    struct sockaddr_in6 from;
    hm_udp_local local;
    size_t len, segment;
    uint8_t ecn;
    uint64_t datagrams = 0, first_us = 0, last_us = 0;
    on_core(1);
    // A blocking socket that gives up when nothing comes any more.
    must(setsockopt(io->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0, "timeout");
    for (;;) {
        if (!stoq_io_receive(io, &local, &from, &len, &segment, &ecn)) {
            if (datagrams > 0)
                break;
            continue;
        }
        size_t count = (len + segment - 1) / segment;
        if (protect)
            open_all(io->buffer, count, segment, datagrams);
        last_us = now_us();
        first_us = first_us ? first_us : last_us;
        datagrams += count;
    }
    take_cost(&c, datagrams, last_us - first_us);
    must(write(result, &c, sizeof c) == sizeof c, "telling");
    exit(0);
}

static void send_all(const struct sockaddr_in6 *to, size_t size, bool protect, uint64_t seconds,
                     int result)
{
    cost c;
    stoq_io io;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6}, bound;
    size_t count = DATAGRAM_MAX / size < SEGMENTS ? DATAGRAM_MAX / size : SEGMENTS;
    uint64_t datagrams = 0, start_us = now_us(), now = start_us;
    on_core(0);
    must(stoq_io_open(&io, &any, 1, 0, &bound) == HM_OK, "a socket");
    for (; now < start_us + seconds * 1000000; now = now_us()) {
        if (protect)
            seal(count, size, datagrams);
        must(stoq_io_send(&io, &(hm_udp_local){0}, to, bytes, count * size, size, 0), "sending");
        datagrams += count;
    }
    take_cost(&c, datagrams, now - start_us);
    must(write(result, &c, sizeof c) == sizeof c, "telling");
    exit(0);
}

static void start(int pipe_end[2], pid_t *pid)
{
    must(pipe(pipe_end) == 0, "a pipe");
    *pid = fork();
    must(*pid >= 0, "a process");
}

static void measure(size_t size, bool protect, uint64_t seconds)
{
    stoq_io io;
    struct sockaddr_in6 bind_to = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}, at;
    int in[2], out[2], status;
    pid_t receiver, sender;
    cost r, s;
    hm_buf b = {0};
    must(stoq_io_open(&io, &bind_to, 1, 0, &at) == HM_OK, "a socket");
    int flags = fcntl(io.fd, F_GETFL);
    must(flags >= 0 && fcntl(io.fd, F_SETFL, flags & ~O_NONBLOCK) == 0, "blocking");
    start(in, &receiver);
    if (receiver == 0)
        receive(&io, protect, in[1]);
    start(out, &sender);
    if (sender == 0)
        send_all(&at, size, protect, seconds, out[1]);
    close(in[1]); // a side that fails is the end of its pipe
    close(out[1]);
    must(read(out[0], &s, sizeof s) == sizeof s, "the sender");
    must(read(in[0], &r, sizeof r) == sizeof r, "the receiver");
    must(waitpid(receiver, &status, 0) == receiver && waitpid(sender, &status, 0) == sender,
         "waiting");
    hm_jw_open(&b, NULL, '{');
    hm_jw_str(&b, "bench", "udp-floor");
    hm_jw_str(&b, "with", protect ? "AES-256-GCM" : "nothing");
    hm_jw_u64(&b, "datagram_bytes", size);
    hm_jw_u64(&b, "mbps", r.datagrams * size * 8 / r.elapsed_us);
    hm_jw_u64(&b, "sent_mbps", s.datagrams * size * 8 / s.elapsed_us);
    hm_jw_u64(&b, "send_user_ns", s.user_us * 1000 / s.datagrams);
    hm_jw_u64(&b, "send_kernel_ns", s.kernel_us * 1000 / s.datagrams);
    hm_jw_u64(&b, "receive_user_ns", r.user_us * 1000 / r.datagrams);
    hm_jw_u64(&b, "receive_kernel_ns", r.kernel_us * 1000 / r.datagrams);
    hm_jw_close(&b, '}');
    must(hm_buf_status(&b) == HM_OK, "memory");
    printf("%.*s\n", (int)b.len, (const char *)b.ptr);
    fflush(stdout);
    hm_buf_free(&b);
    stoq_io_close(&io);
    close(in[0]);
    close(out[0]);
}

int main(int argc, char **argv)
{
    static const uint8_t key[32] = {1}, iv[HM_AEAD_IV] = {2};
    const char *const both[] = {"1452", "65488"};
    const char *const *sizes = argc > 2 ? (const char *const *)argv + 2 : both;
    int count = argc > 2 ? argc - 2 : 2;
    uint64_t seconds = argc > 1 ? strtoull(argv[1], NULL, 10) : 3;
    must(hm_aead_init(&aead, HM_AES_256_GCM, HM_AEAD_BEST, key, iv) == HM_OK, "the key");
    for (int i = 0; i < count; i++) {
        size_t size = strtoul(sizes[i], NULL, 10);
        if (size < HEADER + HM_AEAD_TAG || size > DATAGRAM_MAX || seconds == 0) {
            fprintf(stderr, "udp_floor: seconds above 0, datagrams of %u to %u bytes\n",
                    HEADER + HM_AEAD_TAG, DATAGRAM_MAX);
            return 2;
        }
        measure(size, false, seconds);
        measure(size, true, seconds);
    }
    return 0;
}
