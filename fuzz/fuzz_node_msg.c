// What a peer sends on a stream: messages come out whole, and what is read is written again in the
// same bytes.
#include "mesh/node_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(uint8_t type, hm_bytes body, hm_bytes framed)
{
    node_message m, walk;
    hm_buf out = {0};
    if (node_msg_read(type, body, &m) != HM_OK)
        return;
    hm_assert(m.type == type);
    node_msg_write(&m, &out);
    hm_assert(hm_bytes_eq(hm_buf_bytes(&out), body));
    hm_buf_reset(&out);
    node_msg_write_framed(&m, &out);
    hm_assert(hm_bytes_eq(hm_buf_bytes(&out), framed));
    hm_buf_free(&out);
    if (type == MSG_OPS) {
        hm_bytes op;
        uint32_t n = 0;
        size_t bytes = 0;
        for (walk = m; node_msg_next_op(&walk, &op); n++)
            bytes += 4 + op.len;
        hm_assert(n == m.count && n <= MSG_OPS_MAX && bytes + 4 == body.len);
    }
    if (type == MSG_HAVE_GET || type == MSG_HAVE || type == MSG_WHERE_GET)
        for (uint32_t i = 0; i < m.count; i++) {
            size_t at = type == MSG_WHERE_GET ? 12 : 5;
            hm_hash h = node_msg_hash(&m, i);
            hm_assert(memcmp(h.b, body.ptr + at + (size_t)i * HM_HASH_BYTES, HM_HASH_BYTES) == 0);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        hm_bytes in = hm_bytes_of(data + at, size - at), body = {0};
        size_t used = 0;
        uint8_t type = 0;
        if (node_msg_frame(in, &used, &type, &body) != HM_OK || used == 0)
            break;
        hm_assert(used == 5 + body.len && used <= in.len);
        check(type, body, hm_bytes_of(in.ptr, used));
        at += used;
    }
    return 0;
}
