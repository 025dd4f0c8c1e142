// A client that says on its streams whatever the input is, to a server of HTTP/3. The input is a
// program: it opens streams, says bytes on them, as they are or as a frame, ends, resets and stops
// them, reads or does not, and lets time go on.
//
// Always: time goes on (h3_pair_run() sees to that), everything is freed at the end, and a client
// that never read has made the server hand over no more than its windows and what is kept.
#include "h3_pair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STREAMS 16u
#define TIME_MAX_US UINT64_C(60000000)
#define SENT_MAX (STREAMS * 2 * (STOQ_PERF_KEPT + 65536u) + (4u << 20))

typedef struct input {
    const uint8_t *at, *end;
} input;

static uint8_t u8(input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static hm_bytes bytes(input *in)
{
    size_t n = u8(in);
    n = n < 0xf0 ? n : (n & 15) << 8;
    size_t left = (size_t)(in->end - in->at);
    n = n < left ? n : left;
    in->at += n;
    return hm_bytes_of(in->at - n, n);
}

// The low bits choose the stream, the high ones what is done with it.
static void step(h3_pair *p, h3_pair_stream *streams, input *in)
{
    uint8_t op = u8(in);
    h3_pair_stream *st = &streams[op % STREAMS];
    uint8_t head[5] = {0};
    hm_bytes said;
    switch (op / STREAMS) {
    case 0: // a request, a stream of one direction in place of one that is over
    case 1:
        if (st->s == NULL)
            (void)h3_pair_open(p, op / STREAMS == 1, st);
        break;
    case 2:
    case 3:
        h3_pair_say(st, bytes(in), op / STREAMS == 3);
        break;
    case 4:
    case 5: // a frame with its right length
        head[0] = u8(in);
        said = bytes(in);
        head[1] = 0x80;
        head[3] = (uint8_t)(said.len >> 8);
        head[4] = (uint8_t)said.len;
        h3_pair_say(st, hm_bytes_of(head, sizeof head), false);
        h3_pair_say(st, said, op / STREAMS == 5);
        break;
    case 6:
        if (st->s != NULL)
            stoq_stream_reset(st->s, u8(in));
        break;
    case 7:
        if (st->s != NULL)
            stoq_stream_stop(st->s, u8(in));
        break;
    case 8:
        p->keeps_reading = !p->keeps_reading;
        break;
    case 9:
        stoq_perf_drain(&p->perf);
        break;
    case 10:
        stoq_perf_sweep(&p->perf, p->now_us);
        break;
    default:
        h3_pair_run(p, (uint64_t)u8(in) << (op / STREAMS));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static h3_pair pair;
    static h3_pair_stream streams[STREAMS];
    input in = {data, data + size};
    memset(streams, 0, sizeof streams);
    h3_pair_begin(&pair);
    uint64_t begun = pair.now_us;
    bool read = pair.keeps_reading = false;
    while (in.at < in.end && pair.now_us - begun < TIME_MAX_US) {
        step(&pair, streams, &in);
        read |= pair.keeps_reading;
    }
    h3_pair_run(&pair, 1000);
    hm_assert(read || pair.perf.n.bytes_out <= SENT_MAX);
    h3_pair_end(&pair);
    return 0;
}
