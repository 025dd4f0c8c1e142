// Stream bytes from a send buffer over segments that get lost, reordered, doubled, cut and
// acknowledged in any order into a receive buffer: what comes out is what went in, and in the end
// all of it. Some of the bytes are lent, on either side. Beside that, packet numbers against a
// plain list of what was received.
#include "stoq/ranges.h"
#include "stoq/recvbuf.h"
#include "stoq/sendbuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX 4096u
#define FLYING 64u

typedef struct segment {
    uint64_t offset;
    size_t len;
} segment;

typedef struct pipe {
    stoq_sendbuf out;
    stoq_recvbuf in;
    stoq_loans loans;
    uintptr_t lent, returned;
    segment flying[FLYING];
    unsigned count;
} pipe;

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7);
}

// Of all offsets that can be: a step sends less than that.
static uint8_t file[1 << 23];

static void append(pipe *p, size_t n, bool lend)
{
    uint8_t bytes[MAX];
    if (n > stoq_sendbuf_room(&p->out))
        n = stoq_sendbuf_room(&p->out);
    for (size_t i = 0; i < n; i++)
        bytes[i] = pattern(p->out.end + i);
    if (lend && n > 0) {
        hm_assert(p->out.end + n <= sizeof file);
        memcpy(file + p->out.end, bytes, n);
        hm_bytes lent = hm_bytes_of(file + p->out.end, n);
        hm_assert(stoq_sendbuf_lend(&p->out, lent, (void *)++p->lent) == HM_OK);
        return;
    }
    hm_assert(stoq_sendbuf_append(&p->out, hm_bytes_of(bytes, n)) == HM_OK);
}

static bool send(pipe *p, size_t max)
{
    uint8_t bytes[MAX];
    segment s;
    if (p->count == FLYING)
        return false;
    stoq_sendbuf_next(&p->out, p->in.read + MAX, max, &s.offset, &s.len);
    if (s.len == 0)
        return false;
    const uint8_t *at = stoq_sendbuf_view(&p->out, s.offset, s.len);
    stoq_sendbuf_take(&p->out, s.offset, s.len, bytes);
    hm_assert(at == NULL || memcmp(at, bytes, s.len) == 0);
    for (size_t i = 0; i < s.len; i++)
        hm_assert(bytes[i] == pattern(s.offset + i));
    p->flying[p->count++] = s;
    return true;
}

static bool arrive(pipe *p, segment s)
{
    uint8_t bytes[MAX];
    for (size_t i = 0; i < s.len; i++)
        bytes[i] = pattern(s.offset + i);
    hm_bytes data = hm_bytes_of(bytes, s.len);
    bool lends = s.offset + s.len <= sizeof file;
    if (lends) // it stays there, whatever comes next
        data.ptr = memcpy(file + s.offset, bytes, s.len);
    hm_err err = stoq_recvbuf_write(&p->in, s.offset, data, lends ? &p->loans : NULL);
    hm_assert(err == HM_OK || err == HM_E_STOQ_DROPPED);
    return err == HM_OK;
}

static void consume(pipe *p, size_t max)
{
    hm_bytes v = stoq_recvbuf_peek(&p->in);
    size_t n = v.len < max ? v.len : max;
    for (size_t i = 0; i < n; i++)
        hm_assert(v.ptr[i] == pattern(p->in.read + i));
    stoq_recvbuf_consume(&p->in, n);
}

static void give_back(pipe *p)
{
    void *tag;
    hm_assert(stoq_recvbuf_settle(&p->in) == HM_OK);
    p->loans.count = 0;
    while (stoq_sendbuf_returned(&p->out, &tag))
        hm_assert((uintptr_t)tag == ++p->returned);
}

static segment take(pipe *p, unsigned i)
{
    segment s = p->flying[i];
    p->flying[i] = p->flying[--p->count];
    return s;
}

static void settle(pipe *p, unsigned i)
{
    segment s = take(p, i);
    if (arrive(p, s))
        stoq_sendbuf_on_acked(&p->out, s.offset, s.len);
    else
        stoq_sendbuf_on_lost(&p->out, s.offset, s.len);
}

static void step(pipe *p, uint8_t op, uint8_t arg)
{
    unsigned i = p->count ? arg % p->count : 0;
    segment s;
    switch (op % 7) {
    case 0:
        append(p, (size_t)arg * 17, op & 64);
        return;
    case 1:
        (void)send(p, 1 + (size_t)arg * 3);
        return;
    case 2:
        consume(p, (size_t)arg * 11);
        if (op & 64)
            give_back(p);
        return;
    case 3: // arrives, and the sender is told
        if (p->count)
            settle(p, i);
        return;
    case 4: // the sender takes it as lost; it may arrive all the same
        if (!p->count)
            return;
        s = take(p, i);
        stoq_sendbuf_on_lost(&p->out, s.offset, s.len);
        if (op & 64)
            (void)arrive(p, s);
        return;
    case 5: // arrives in part, and stays on its way
        if (!p->count)
            return;
        s = p->flying[i];
        s.offset += s.len / 3;
        s.len -= s.len / 3;
        (void)arrive(p, s);
        return;
    default: // declared lost, yet on its way: acknowledged later
        if (p->count)
            stoq_sendbuf_on_lost(&p->out, p->flying[i].offset, p->flying[i].len);
    }
}

static void streams(const uint8_t *data, size_t size)
{
    pipe p = {0};
    stoq_sendbuf_init(&p.out, MAX);
    stoq_recvbuf_init(&p.in, MAX);
    for (size_t i = 0; i + 1 < size; i += 2) {
        step(&p, data[i], data[i + 1]);
        hm_assert(p.out.base <= p.out.next && p.out.next <= p.out.end && p.in.read <= p.in.ready);
    }
    while (p.in.read < p.out.end || !stoq_sendbuf_all_acked(&p.out)) {
        bool any = p.count > 0;
        while (p.count > 0)
            settle(&p, 0);
        while (send(&p, 500))
            any = true;
        any |= p.in.ready > p.in.read;
        consume(&p, MAX);
        hm_assert(any); // else it never ends
    }
    give_back(&p);
    hm_assert(p.out.lost.count == 0 && p.out.acked.count == 0 && p.returned == p.lent);
    stoq_sendbuf_free(&p.out);
    stoq_recvbuf_free(&p.in);
}

static void numbers(const uint8_t *data, size_t size)
{
    stoq_ranges r = {0};
    static bool got[1024];
    memset(got, 0, sizeof got);
    for (size_t i = 0; i + 1 < size; i += 2) {
        uint64_t pn = ((unsigned)data[i] << 8 | data[i + 1]) % 1024;
        bool had = stoq_ranges_has(&r, pn);
        hm_assert(!got[pn] || had);
        hm_assert(got[pn] || !had || pn < r.floor);
        if (had)
            continue;
        stoq_ranges_add(&r, pn);
        got[pn] = true;
        hm_assert(stoq_ranges_has(&r, pn) && r.count <= STOQ_RANGES_MAX);
        for (uint32_t k = 0; k < r.count; k++)
            hm_assert(r.at[k].lo <= r.at[k].hi && r.at[k].lo >= r.floor &&
                      (k == 0 || r.at[k].hi + 1 < r.at[k - 1].lo));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 4096)
        return 0;
    if (data[0] & 1)
        numbers(data + 1, size - 1);
    else
        streams(data + 1, size - 1);
    return 0;
}
