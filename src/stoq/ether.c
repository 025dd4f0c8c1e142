#include "stoq/ether.h"

#include "base/err.h"

#define IPV6_AT 14u
#define UDP_AT 54u
#define UDP_HEADER 8u
#define HOP_LIMIT 64

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

bool stoq_ether_parse(hm_bytes frame, stoq_ether *out)
{
    const uint8_t *p = frame.ptr;
    if (frame.len <= STOQ_ETHER_HEADERS || get16(p + 12) != 0x86dd || p[IPV6_AT] >> 4 != 6 ||
        p[IPV6_AT + 6] != IPPROTO_UDP)
        return false;
    size_t len = get16(p + UDP_AT + 4);
    if (len != get16(p + IPV6_AT + 4) || len <= UDP_HEADER || len > frame.len - UDP_AT ||
        get16(p + UDP_AT + 6) == 0)
        return false;
    memcpy(out->to_mac, p, 6);
    memcpy(out->from_mac, p + 6, 6);
    memcpy(&out->from, p + IPV6_AT + 8, 16);
    memcpy(&out->to, p + IPV6_AT + 24, 16);
    memcpy(&out->from_port, p + UDP_AT, 2);
    memcpy(&out->to_port, p + UDP_AT + 2, 2);
    out->ecn = p[IPV6_AT + 1] >> 4 & 3;
    out->payload = hm_bytes_of(p + STOQ_ETHER_HEADERS, len - UDP_HEADER);
    return true;
}

// Words of four bytes in the machine's order, added up: the sum of ones' complement does not mind
// which order it is, nor the width (RFC 1071), and the compiler makes vectors of it.
static uint64_t sum(const uint8_t *p, size_t len)
{
    uint64_t total = 0;
    uint32_t word;
    for (size_t words = len / 4; words > 0; words--, p += 4) {
        memcpy(&word, p, 4);
        total += word;
    }
    word = 0;
    memcpy(&word, p, len % 4);
    return total + word;
}

// The checksum of UDP in the machine's order. What stands at its place must be zero.
static uint16_t checksum(const uint8_t *ip, size_t udp_len)
{
    uint8_t pseudo[8] = {0};
    put16(pseudo + 2, udp_len);
    pseudo[7] = IPPROTO_UDP;
    // Both addresses, then (apart from them by nothing) the UDP header and the payload.
    uint64_t total = sum(pseudo, sizeof pseudo) + sum(ip + 8, 32 + udp_len);
    while (total >> 16 != 0)
        total = (total & 0xffff) + (total >> 16);
    return total == 0xffff ? 0xffff : (uint16_t)~total;
}

size_t stoq_ether_write(uint8_t *out, const stoq_ether *e)
{
    size_t udp_len = UDP_HEADER + e->payload.len;
    uint8_t *ip = out + IPV6_AT, *udp = out + UDP_AT;
    hm_assert(udp_len <= UINT16_MAX);
    memcpy(out, e->to_mac, 6);
    memcpy(out + 6, e->from_mac, 6);
    put16(out + 12, 0x86dd);
    memset(ip, 0, 8);
    ip[0] = 0x60;
    ip[1] = (uint8_t)((e->ecn & 3) << 4);
    put16(ip + 4, udp_len);
    ip[6] = IPPROTO_UDP;
    ip[7] = HOP_LIMIT;
    memcpy(ip + 8, &e->from, 16);
    memcpy(ip + 24, &e->to, 16);
    memcpy(udp, &e->from_port, 2);
    memcpy(udp + 2, &e->to_port, 2);
    put16(udp + 4, udp_len);
    memset(udp + 6, 0, 2);
    memcpy(udp + UDP_HEADER, e->payload.ptr, e->payload.len);
    uint16_t check = checksum(ip, udp_len);
    memcpy(udp + 6, &check, 2);
    return UDP_AT + udp_len;
}
