// Rings shared with the kernel, and where peers' frames come from.
#include "stoq/xdp.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xdp/xsk.h>

#include "base/clock.h"
#include "base/log.h"
#include "stoq/ether.h"
#include "stoq/io.h"
#include "stoq/xdp_prog.h"

#define RX_FRAMES 2048u
#define TX_FRAMES 1024u
#define HEADROOM 256u // that the kernel keeps before a received frame
#define SEND_BUFFER (4 << 20)
#define RUN_MAX 64u      // datagrams of one receive
#define KICKS_MAX 64u    // system calls for one send; each takes at least 16 frames
#define RECEIVES_MAX 64u // then the socket has a turn
#define BUSY_US 1000000u // for a queue that a killed process had
#define BUSY_STEP_US 10000u
#define WAYS 2u // places where a peer may be remembered

typedef struct queue {
    uint8_t *area; // RX_FRAMES + TX_FRAMES frames, owned
    struct xsk_umem *umem;
    struct xsk_socket *socket;
    struct xsk_ring_prod fill, tx;
    struct xsk_ring_cons completion, rx;
    uint64_t free[TX_FRAMES]; // frames to be sent
    unsigned free_count;
} queue;

typedef struct neighbour {
    uint64_t until_us; // 0: nobody
    struct in6_addr peer, own;
    in_port_t peer_port;
    uint16_t queue;
    uint8_t mac[6];
} neighbour;

struct stoq_xdp {
    char name[IF_NAMESIZE];
    unsigned interface;
    uint8_t mac[6];
    in_port_t port;
    size_t payload_max;
    uint32_t frame_bytes;
    stoq_xdp_prog prog;
    unsigned count, next, receives;
    uint64_t received, sent;
    neighbour peers[STOQ_XDP_PEERS_MAX];
    queue queues[STOQ_XDP_QUEUES_MAX];
};

// ---- where peers are ----------------------------------------------------------------------------

// The first of its WAYS places. Who aims at one place makes peers go by the socket, no more.
static neighbour *places_of(stoq_xdp *x, const struct in6_addr *peer, in_port_t port)
{
    uint64_t a, b;
    memcpy(&a, peer->s6_addr, 8);
    memcpy(&b, peer->s6_addr + 8, 8);
    uint64_t h = (a ^ (b << 16 | b >> 48) ^ port) * UINT64_C(0x9e3779b97f4a7c15);
    return &x->peers[(h >> 40) % (STOQ_XDP_PEERS_MAX / WAYS) * WAYS];
}

static bool is_of(const neighbour *n, const struct in6_addr *peer, in_port_t port)
{
    return n->until_us != 0 && n->peer_port == port && IN6_ARE_ADDR_EQUAL(&n->peer, peer);
}

static const neighbour *look_up(stoq_xdp *x, const struct sockaddr_in6 *to, uint64_t now_us)
{
    const neighbour *n = places_of(x, &to->sin6_addr, to->sin6_port);
    for (unsigned i = 0; i < WAYS; i++)
        if (is_of(&n[i], &to->sin6_addr, to->sin6_port))
            return n[i].until_us > now_us ? &n[i] : NULL;
    return NULL;
}

// Whoever sends in a peer's name from another MAC changes nothing while the peer's own frames come.
static void remember(stoq_xdp *x, const stoq_ether *e, unsigned q, uint64_t now_us)
{
    neighbour *n = places_of(x, &e->from, e->from_port), *place = n;
    for (unsigned i = 0; i < WAYS; i++) {
        if (is_of(&n[i], &e->from, e->from_port)) {
            place = &n[i];
            break;
        }
        if (n[i].until_us < place->until_us)
            place = &n[i];
    }
    bool same = is_of(place, &e->from, e->from_port);
    if (same && place->until_us > now_us && memcmp(place->mac, e->from_mac, 6) != 0)
        return;
    *place = (neighbour){.until_us = now_us + STOQ_XDP_PEER_US,
                         .peer = e->from,
                         .own = e->to,
                         .peer_port = e->from_port,
                         .queue = (uint16_t)q};
    memcpy(place->mac, e->from_mac, 6);
}

// ---- sending ------------------------------------------------------------------------------------

static void reap(queue *q)
{
    uint32_t at, n = xsk_ring_cons__peek(&q->completion, TX_FRAMES, &at);
    for (uint32_t i = 0; i < n; i++)
        q->free[q->free_count++] = *xsk_ring_cons__comp_addr(&q->completion, at + i);
    xsk_ring_cons__release(&q->completion, n);
}

// Has the kernel take what is in the ring; false when the interface does not send now.
static bool kick(queue *q)
{
    if (!xsk_ring_prod__needs_wakeup(&q->tx))
        return true;
    for (unsigned i = 0; i < KICKS_MAX; i++) {
        if (sendto(xsk_socket__fd(q->socket), NULL, 0, MSG_DONTWAIT, NULL, 0) >= 0)
            return true;
        if (errno != EAGAIN && errno != EINTR) // EAGAIN: there is more
            return errno == EBUSY || errno == ENOBUFS;
    }
    return true;
}

static bool put(stoq_xdp *x, queue *q, const stoq_ether *e)
{
    uint32_t at;
    if (q->free_count == 0)
        reap(q);
    if (q->free_count == 0 || xsk_ring_prod__reserve(&q->tx, 1, &at) == 0)
        return false;
    uint64_t addr = q->free[--q->free_count];
    struct xdp_desc *d = xsk_ring_prod__tx_desc(&q->tx, at);
    *d = (struct xdp_desc){.addr = addr, .len = (uint32_t)stoq_ether_write(q->area + addr, e)};
    xsk_ring_prod__submit(&q->tx, 1);
    x->sent++;
    return true;
}

bool stoq_xdp_send(stoq_xdp *x, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                   size_t segment, uint8_t ecn)
{
    size_t longest = len < segment ? len : segment;
    const neighbour *n = longest > x->payload_max || len == 0
                             ? NULL
                             : look_up(x, to, hm_clock_mono_us(&hm_clock_system));
    if (n == NULL)
        return false;
    queue *q = &x->queues[n->queue];
    stoq_ether e = {
        .to = n->peer, .from = n->own, .to_port = n->peer_port, .from_port = x->port, .ecn = ecn};
    memcpy(e.to_mac, n->mac, 6);
    memcpy(e.from_mac, x->mac, 6);
    for (size_t at = 0; at < len; at += segment) {
        e.payload = hm_bytes_of(bytes + at, len - at < segment ? len - at : segment);
        // Full: the kernel is given what there is; loss is as good as loss on the way.
        if (!put(x, q, &e) && (!kick(q) || !put(x, q, &e)))
            break;
    }
    if (!kick(q))
        memset(x->peers, 0, sizeof x->peers); // down: the kernel knows other ways, if there are
    return true;
}

// ---- receiving ----------------------------------------------------------------------------------

// Frames are the kernel's again.
static void give_back(queue *q, const uint64_t *addresses, uint32_t count)
{
    uint32_t at;
    // As many as were taken out, so there is room.
    hm_assert(xsk_ring_prod__reserve(&q->fill, count, &at) == count);
    for (uint32_t i = 0; i < count; i++)
        *xsk_ring_prod__fill_addr(&q->fill, at + i) = addresses[i];
    xsk_ring_prod__submit(&q->fill, count);
    if (xsk_ring_prod__needs_wakeup(&q->fill))
        (void)recvfrom(xsk_socket__fd(q->socket), NULL, 0, MSG_DONTWAIT, NULL, NULL);
}

static bool continues(const stoq_ether *run, const stoq_ether *e, size_t len, size_t segment)
{
    return e->from_port == run->from_port && e->ecn == run->ecn && e->payload.len <= segment &&
           len + e->payload.len <= STOQ_IO_DATAGRAM_MAX &&
           IN6_ARE_ADDR_EQUAL(&e->from, &run->from) && IN6_ARE_ADDR_EQUAL(&e->to, &run->to) &&
           memcmp(e->from_mac, run->from_mac, 6) == 0;
}

// Datagrams of one length from one peer, and one that is shorter after them; 0 when none came.
static size_t receive_run(queue *q, uint8_t *buffer, stoq_ether *run, size_t *segment,
                          uint64_t *datagrams)
{
    uint64_t addresses[RUN_MAX];
    uint32_t at, used = 0, n = xsk_ring_cons__peek(&q->rx, RUN_MAX, &at);
    size_t len = 0, last = 0;
    while (used < n) {
        const struct xdp_desc *d = xsk_ring_cons__rx_desc(&q->rx, at + used);
        stoq_ether e;
        if (stoq_ether_parse(hm_bytes_of(q->area + d->addr, d->len), &e)) {
            if (len == 0) {
                *run = e;
                *segment = last = e.payload.len;
            } else if (last < *segment || !continues(run, &e, len, *segment)) {
                break;
            }
            last = e.payload.len;
            memcpy(buffer + len, e.payload.ptr, last);
            len += last;
            ++*datagrams;
        }
        addresses[used++] = d->addr;
    }
    xsk_ring_cons__cancel(&q->rx, n - used);
    xsk_ring_cons__release(&q->rx, used);
    if (used > 0)
        give_back(q, addresses, used);
    return len;
}

bool stoq_xdp_receive(stoq_xdp *x, uint8_t *buffer, struct sockaddr_in6 *from, size_t *len,
                      size_t *segment, uint8_t *ecn)
{
    if (++x->receives % RECEIVES_MAX == 0)
        return false;
    for (unsigned i = 0; i < x->count; i++) {
        stoq_ether run;
        unsigned q = x->next++ % x->count;
        *len = receive_run(&x->queues[q], buffer, &run, segment, &x->received);
        if (*len == 0)
            continue;
        *ecn = run.ecn;
        *from = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_port = run.from_port, .sin6_addr = run.from};
        if (IN6_IS_ADDR_LINKLOCAL(&run.from))
            from->sin6_scope_id = x->interface;
        remember(x, &run, q, hm_clock_mono_us(&hm_clock_system));
        return true;
    }
    return false;
}

// ---- life ---------------------------------------------------------------------------------------

// MAC, MTU and how many queues receive.
static hm_err ask_interface(stoq_xdp *x, const char *name)
{
    struct ethtool_channels channels = {.cmd = ETHTOOL_GCHANNELS};
    struct ifreq mac, mtu, queues;
    x->interface = if_nametoindex(name);
    if (x->interface == 0)
        return hm_fail(HM_E_CONFIG, "there is no interface %s", name);
    snprintf(x->name, sizeof x->name, "%s", name);
    memset(&mac, 0, sizeof mac);
    memcpy(mac.ifr_name, x->name, sizeof x->name);
    mtu = queues = mac;
    queues.ifr_data = (void *)&channels;
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return stoq_xdp_fail(errno, "socket");
    bool known = ioctl(fd, SIOCGIFHWADDR, &mac) == 0 && ioctl(fd, SIOCGIFMTU, &mtu) == 0;
    int e = errno;
    x->count = 1; // what a device has that cannot tell
    if (ioctl(fd, SIOCETHTOOL, &queues) == 0 && channels.rx_count + channels.combined_count > 0)
        x->count = channels.rx_count + channels.combined_count;
    close(fd);
    if (!known)
        return stoq_xdp_fail(e, x->name);
    if (mac.ifr_hwaddr.sa_family != ARPHRD_ETHER)
        return hm_fail(HM_E_UNSUPPORTED, "%s is no Ethernet interface", name);
    if (x->count > STOQ_XDP_QUEUES_MAX)
        x->count = STOQ_XDP_QUEUES_MAX;
    memcpy(x->mac, mac.ifr_hwaddr.sa_data, 6);
    size_t frame = (size_t)mtu.ifr_mtu + 14;
    x->payload_max = (size_t)mtu.ifr_mtu - 48;
    x->frame_bytes = frame + HEADROOM <= 2048 ? 2048 : 4096;
    if (mtu.ifr_mtu < 1280 || frame + HEADROOM > x->frame_bytes)
        return hm_fail(HM_E_UNSUPPORTED, "%s has an MTU of %d; AF_XDP has room for 1280 to %u here",
                       name, mtu.ifr_mtu, 4096 - HEADROOM - 14);
    return HM_OK;
}

// The kernel gives up the queue of a killed process in its own time, later than its program; until
// then it is busy, and nothing tells of the end.
static int open_socket(stoq_xdp *x, unsigned index, const struct xsk_socket_config *rings)
{
    queue *q = &x->queues[index];
    const uint64_t until_us = hm_clock_mono_us(&hm_clock_system) + BUSY_US;
    int e;
    while ((e = xsk_socket__create(&q->socket, x->name, index, q->umem, &q->rx, &q->tx, rings)) ==
               -EBUSY &&
           hm_clock_mono_us(&hm_clock_system) < until_us)
        usleep(BUSY_STEP_US);
    return e;
}

static hm_err open_queue(stoq_xdp *x, unsigned index)
{
    queue *q = &x->queues[index];
    uint32_t at;
    size_t size = (size_t)(RX_FRAMES + TX_FRAMES) * x->frame_bytes;
    const struct xsk_umem_config memory = {
        .fill_size = RX_FRAMES, .comp_size = TX_FRAMES, .frame_size = x->frame_bytes};
    const struct xsk_socket_config rings = {.rx_size = RX_FRAMES,
                                            .tx_size = TX_FRAMES,
                                            .libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
                                            .bind_flags = XDP_USE_NEED_WAKEUP};
    void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (area == MAP_FAILED)
        return stoq_xdp_fail(errno, "memory for frames");
    q->area = area;
    int e = xsk_umem__create(&q->umem, area, size, &q->fill, &q->completion, &memory);
    if (e != 0)
        return stoq_xdp_fail(-e, "registering memory for frames");
    e = open_socket(x, index, &rings);
    if (e != 0)
        return stoq_xdp_fail(-e, "an AF_XDP socket");
    const int buffer = SEND_BUFFER;
    (void)setsockopt(xsk_socket__fd(q->socket), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    hm_assert(xsk_ring_prod__reserve(&q->fill, RX_FRAMES, &at) == RX_FRAMES);
    for (uint32_t i = 0; i < RX_FRAMES; i++)
        *xsk_ring_prod__fill_addr(&q->fill, at + i) = (uint64_t)i * x->frame_bytes;
    xsk_ring_prod__submit(&q->fill, RX_FRAMES);
    for (uint32_t i = RX_FRAMES; i < RX_FRAMES + TX_FRAMES; i++)
        q->free[q->free_count++] = (uint64_t)i * x->frame_bytes;
    e = xsk_socket__update_xskmap(q->socket, x->prog.rings);
    return e == 0 ? HM_OK : stoq_xdp_fail(-e, "an AF_XDP socket in its map");
}

// The address that the socket is bound to, or all that the interface has now.
static hm_err take_addresses(stoq_xdp *x, const struct sockaddr_in6 *bound)
{
    struct ifaddrs *all;
    unsigned taken = 0;
    x->port = bound->sin6_port;
    if (!IN6_IS_ADDR_UNSPECIFIED(&bound->sin6_addr))
        return stoq_xdp_prog_take(&x->prog, &bound->sin6_addr, x->port, x->mac);
    if (getifaddrs(&all) != 0)
        return stoq_xdp_fail(errno, "addresses of interfaces");
    hm_err err = HM_OK;
    for (struct ifaddrs *a = all; a != NULL && err == HM_OK; a = a->ifa_next) {
        if (a->ifa_addr == NULL || a->ifa_addr->sa_family != AF_INET6 ||
            strcmp(a->ifa_name, x->name) != 0 || taken == STOQ_XDP_ADDRESSES_MAX)
            continue;
        const struct sockaddr_in6 *addr = (const struct sockaddr_in6 *)a->ifa_addr;
        err = stoq_xdp_prog_take(&x->prog, &addr->sin6_addr, x->port, x->mac);
        taken++;
    }
    freeifaddrs(all);
    if (err == HM_OK && taken == 0)
        return hm_fail(HM_E_CONFIG, "%s has no IPv6 address", x->name);
    return err;
}

static hm_err set_up(stoq_xdp *x, const char *interface, const struct sockaddr_in6 *bound)
{
    HM_TRY(ask_interface(x, interface));
    HM_TRY(stoq_xdp_prog_load(&x->prog, x->count));
    HM_TRY(take_addresses(x, bound));
    for (unsigned i = 0; i < x->count; i++)
        HM_TRY(open_queue(x, i));
    return stoq_xdp_prog_attach(&x->prog, x->interface, x->name);
}

static const char *mode_of(const queue *q)
{
    struct xdp_options options = {0};
    socklen_t len = sizeof options;
    if (getsockopt(xsk_socket__fd(q->socket), SOL_XDP, XDP_OPTIONS, &options, &len) != 0)
        return "unknown";
    return options.flags & XDP_OPTIONS_ZEROCOPY ? "zero-copy" : "copy";
}

hm_err stoq_xdp_open(const char *interface, const struct sockaddr_in6 *bound, stoq_xdp **out)
{
    stoq_xdp *x = calloc(1, sizeof *x);
    if (x == NULL)
        return hm_fail(HM_E_NOMEM, "no memory for rings");
    x->prog = STOQ_XDP_PROG_NONE;
    hm_err err = set_up(x, interface, bound);
    if (err != HM_OK) {
        stoq_xdp_close(x);
        return err;
    }
    hm_log(HM_LOG_INFO, "stoq", "AF_XDP", "interface=%s queues=%u mode=%s", x->name, x->count,
           mode_of(&x->queues[0]));
    *out = x;
    return HM_OK;
}

void stoq_xdp_close(stoq_xdp *x)
{
    if (x == NULL)
        return;
    stoq_xdp_prog_unload(&x->prog);
    for (unsigned i = 0; i < STOQ_XDP_QUEUES_MAX; i++) {
        queue *q = &x->queues[i];
        xsk_socket__delete(q->socket);
        if (q->umem != NULL)
            (void)xsk_umem__delete(q->umem);
        if (q->area != NULL)
            munmap(q->area, (size_t)(RX_FRAMES + TX_FRAMES) * x->frame_bytes);
    }
    free(x);
}

unsigned stoq_xdp_queues(const stoq_xdp *x)
{
    return x->count;
}

int stoq_xdp_fd(const stoq_xdp *x, unsigned index)
{
    hm_assert(index < x->count);
    return xsk_socket__fd(x->queues[index].socket);
}

void stoq_xdp_counts(const stoq_xdp *x, uint64_t *received, uint64_t *sent)
{
    *received = x->received;
    *sent = x->sent;
}
