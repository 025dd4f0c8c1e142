// Frames of a bundle's connection: each has one encoding; and the pieces among them into both
// kinds of channel: every byte is handed on once, in order where that is asked for, and nothing is
// kept beyond the window.
#include "hypermesh/stoq_bundle.h"
#include "stoq/bundle_frame.h"
#include "stoq/bundle_rx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WINDOW 16384u
#define CHANNEL 65536u // bytes of which "each once" is watched

typedef struct channel {
    bundle_rx rx;
    uint8_t seen[CHANNEL];
    uint64_t handed;
} channel;

static channel channels[2]; // as they come, in order

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7);
}

static void hand_on(channel *c, uint64_t offset, hm_bytes bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        hm_assert(offset + i < CHANNEL && c->seen[offset + i] == 0);
        hm_assert(bytes.ptr[i] == pattern(offset + i));
        c->seen[offset + i] = 1;
    }
    c->handed += bytes.len;
}

static void take(channel *c, uint64_t offset, size_t len)
{
    static uint8_t bytes[STOQ_BUNDLE_PIECE_MAX];
    if (offset + len > CHANNEL)
        offset = CHANNEL; // refused in any case, for its limit
    for (size_t i = 0; i < len; i++)
        bytes[i] = pattern(offset + i);
    hm_bytes piece = hm_bytes_of(bytes, len), ready;
    if (bundle_rx_take(&c->rx, offset, piece) != HM_OK)
        return;
    if (!c->rx.ordered)
        hand_on(c, offset, piece);
    while (c->rx.ordered && (ready = bundle_rx_ready(&c->rx, offset, piece)).len > 0) {
        hand_on(c, c->rx.told, ready);
        bundle_rx_told(&c->rx, ready.len);
    }
    memset(bytes, 0xdd, sizeof bytes); // nobody may look at it any more
}

static void apply(channel *c, const bundle_frame *f)
{
    if (f->type == BUNDLE_PIECE)
        take(c, f->value, f->len);
    else if (f->type == BUNDLE_END)
        (void)!bundle_rx_end(&c->rx, f->value);
    else if (f->type == BUNDLE_TAKEN && c->rx.limit + WINDOW <= CHANNEL) {
        uint64_t owed = c->handed - c->rx.consumed;
        (void)bundle_rx_consume(&c->rx, f->value < owed ? f->value : owed);
    }
    hm_assert(c->rx.limit <= c->rx.consumed + WINDOW && c->rx.highest <= c->rx.limit);
    hm_assert(c->rx.ahead.count <= STOQ_BUNDLE_GAPS_MAX);
    hm_assert(c->handed == (c->rx.ordered ? c->rx.told : c->rx.received));
    hm_assert(!bundle_rx_all(&c->rx) || c->handed == c->rx.final);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hm_bytes in = hm_bytes_of(data, size);
    bundle_frame f;
    size_t used;
    for (unsigned i = 0; i < 2; i++) {
        channels[i] = (channel){0};
        bundle_rx_init(&channels[i].rx, i == 1, WINDOW);
    }
    while (bundle_frame_parse(in, &f, &used) == HM_OK) {
        uint8_t again[BUNDLE_FRAME_MAX];
        hm_assert(bundle_frame_write(&f, again) == used && memcmp(again, in.ptr, used) == 0);
        apply(&channels[0], &f);
        apply(&channels[1], &f);
        in = hm_bytes_of(in.ptr + used, in.len - used);
    }
    bundle_rx_free(&channels[0].rx);
    bundle_rx_free(&channels[1].rx);
    return 0;
}
