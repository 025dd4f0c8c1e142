// Those who lie. What they can sign is only their own.
#include "sim_internal.h"

void sim_byz_send(sim *s, sim_node *nd, uint32_t to, hm_bytes message)
{
    sim_blob *b = sim_blob_new(message);
    sim_net_send(s, nd, to, SIM_MESSAGE, b, false);
    sim_blob_unref(b);
}

void sim_byz_blocks(sim *s, sim_node *nd, uint32_t to, uint64_t from_height, uint64_t to_height)
{
    (void)s, (void)nd, (void)to, (void)from_height, (void)to_height;
}

void sim_byz_lie(sim *s, sim_node *nd)
{
    (void)s, (void)nd;
}

void sim_byz_block(sim *s, sim_node *nd, hm_buf *block)
{
    (void)s, (void)nd, (void)block;
}
