// In place of xdp.c where the build found no libxdp.
#include "base/err.h"
#include "stoq/xdp.h"

hm_err stoq_xdp_open(const char *interface, const struct sockaddr_in6 *bound, stoq_xdp **out)
{
    (void)interface, (void)bound, (void)out;
    return hm_fail(HM_E_UNSUPPORTED, "this was built without libxdp (libxdp-dev, libbpf-dev)");
}

void stoq_xdp_close(stoq_xdp *x)
{
    hm_assert(x == NULL);
}

unsigned stoq_xdp_queues(const stoq_xdp *x)
{
    (void)x;
    return 0;
}

int stoq_xdp_fd(const stoq_xdp *x, unsigned queue)
{
    (void)x, (void)queue;
    return -1;
}

bool stoq_xdp_send(stoq_xdp *x, const struct sockaddr_in6 *to, const uint8_t *bytes, size_t len,
                   size_t segment, uint8_t ecn)
{
    (void)x, (void)to, (void)bytes, (void)len, (void)segment, (void)ecn;
    return false;
}

bool stoq_xdp_receive(stoq_xdp *x, uint8_t *buffer, struct sockaddr_in6 *from, size_t *len,
                      size_t *segment, uint8_t *ecn)
{
    (void)x, (void)buffer, (void)from, (void)len, (void)segment, (void)ecn;
    return false;
}

void stoq_xdp_counts(const stoq_xdp *x, uint64_t *received, uint64_t *sent)
{
    (void)x, (void)received, (void)sent;
}
