#include "mesh/node_msg.h"

hm_err node_msg_frame(hm_bytes in, size_t *used, uint8_t *type, hm_bytes *body)
{
    hm_rd r = hm_rd_of(in);
    *used = 0;
    if (in.len < 4)
        return HM_OK;
    uint32_t len = hm_rd_u32(&r);
    if (len == 0 || len > MSG_BYTES_MAX)
        return hm_fail(HM_E_LIMIT, "a message of %u bytes", len);
    if (r.left < len)
        return HM_OK;
    *type = hm_rd_u8(&r);
    *body = hm_bytes_of(r.ptr, len - 1);
    *used = 4 + (size_t)len;
    return HM_OK;
}

// ---- lists --------------------------------------------------------------------------------------

static void read_ops(hm_rd *r, node_message *m)
{
    m->count = hm_rd_count(r, MSG_OPS_MAX, 4);
    m->list = hm_bytes_of(r->ptr, r->left);
    for (uint32_t i = 0; i < m->count; i++)
        (void)hm_rd_bytes(r, HM_OP_BYTES_MAX);
}

static void read_hashes(hm_rd *r, node_message *m)
{
    m->count = hm_rd_count(r, MSG_HASHES_MAX, HM_HASH_BYTES);
    m->list = hm_rd_raw(r, (size_t)m->count * HM_HASH_BYTES);
}

static void read_bools(hm_rd *r, node_message *m)
{
    m->count = hm_rd_count(r, MSG_HASHES_MAX, 1);
    m->list = hm_bytes_of(r->ptr, r->left);
    for (uint32_t i = 0; i < m->count; i++)
        (void)hm_rd_bool(r);
}

bool node_msg_next_op(node_message *m, hm_bytes *op)
{
    hm_rd r = hm_rd_of(m->list);
    if (m->count == 0)
        return false;
    *op = hm_rd_bytes(&r, HM_OP_BYTES_MAX);
    hm_assert(hm_rd_ok(&r)); // reading has seen to it
    m->list = hm_bytes_of(r.ptr, r.left);
    m->count--;
    return true;
}

hm_hash node_msg_hash(const node_message *m, uint32_t i)
{
    hm_hash h;
    hm_assert(i < m->count);
    memcpy(h.b, m->list.ptr + (size_t)i * HM_HASH_BYTES, HM_HASH_BYTES);
    return h;
}

// ---- bodies -------------------------------------------------------------------------------------

static void read_body(hm_rd *r, node_message *m)
{
    switch (m->type) {
    case MSG_STATUS:
        m->height = hm_rd_u64(r);
        hm_rd_copy(r, m->hash.b, HM_HASH_BYTES);
        break;
    case MSG_CONSENSUS:
        m->bytes = hm_rd_raw(r, r->left);
        break;
    case MSG_OPS:
        read_ops(r, m);
        break;
    case MSG_BLOCKS_GET:
        m->height = hm_rd_u64(r);
        m->to_height = hm_rd_u64(r);
        if (m->height == 0 || m->to_height < m->height ||
            m->to_height - m->height >= HM_SIMPLEX_FETCH_MAX)
            hm_rd_refuse(r, HM_E_RANGE);
        break;
    case MSG_BLOCK:
        m->height = hm_rd_u64(r);
        m->bytes = hm_rd_bytes(r, HM_BLOCK_BYTES_MAX);
        m->cert = hm_rd_bytes(r, HM_SIMPLEX_CERT_MAX);
        break;
    case MSG_CHUNK_PUT:
    case MSG_CHUNK_GET:
        m->request = hm_rd_u64(r);
        m->manifest = hm_rd_bool(r);
        hm_rd_copy(r, m->hash.b, HM_HASH_BYTES);
        if (m->type == MSG_CHUNK_PUT)
            m->bytes = hm_rd_bytes(r, HM_CONTENT_CHUNK_MAX);
        if (m->type == MSG_CHUNK_GET) {
            hm_rd_copy(r, m->asset.b, HM_HASH_BYTES);
            m->index = hm_rd_u32(r);
        }
        break;
    case MSG_CHUNK_STORED:
    case MSG_CHUNK:
        m->request = hm_rd_u64(r);
        m->ok = hm_rd_bool(r);
        if (m->type == MSG_CHUNK)
            m->bytes = hm_rd_bytes(r, HM_CONTENT_CHUNK_MAX);
        break;
    case MSG_HAVE_GET:
    case MSG_HAVE:
        m->manifest = hm_rd_bool(r);
        read_hashes(r, m);
        break;
    case MSG_WHERE_GET:
        m->request = hm_rd_u64(r);
        read_hashes(r, m);
        break;
    case MSG_WHERE:
        m->request = hm_rd_u64(r);
        read_bools(r, m);
        break;
    default:
        hm_rd_refuse(r, HM_E_UNSUPPORTED);
    }
}

hm_err node_msg_read(uint8_t type, hm_bytes body, node_message *out)
{
    hm_rd r = hm_rd_of(body);
    node_message m = {.type = type};
    read_body(&r, &m);
    hm_err err = hm_rd_end(&r);
    if (err != HM_OK)
        return hm_fail(err, "type %u: %s", type, hm_err_text(err));
    *out = m;
    return HM_OK;
}

void node_msg_write(const node_message *m, hm_buf *b)
{
    switch (m->type) {
    case MSG_STATUS:
        hm_wr_u64(b, m->height);
        hm_wr_raw(b, m->hash.b, HM_HASH_BYTES);
        break;
    case MSG_CONSENSUS:
        hm_buf_put(b, m->bytes);
        break;
    case MSG_OPS:
        hm_wr_u32(b, m->count);
        hm_buf_put(b, m->list);
        break;
    case MSG_BLOCKS_GET:
        hm_wr_u64(b, m->height);
        hm_wr_u64(b, m->to_height);
        break;
    case MSG_BLOCK:
        hm_wr_u64(b, m->height);
        hm_wr_bytes(b, m->bytes);
        hm_wr_bytes(b, m->cert);
        break;
    case MSG_CHUNK_PUT:
    case MSG_CHUNK_GET:
        hm_wr_u64(b, m->request);
        hm_wr_bool(b, m->manifest);
        hm_wr_raw(b, m->hash.b, HM_HASH_BYTES);
        if (m->type == MSG_CHUNK_PUT)
            hm_wr_bytes(b, m->bytes);
        if (m->type == MSG_CHUNK_GET) {
            hm_wr_raw(b, m->asset.b, HM_HASH_BYTES);
            hm_wr_u32(b, m->index);
        }
        break;
    case MSG_CHUNK_STORED:
    case MSG_CHUNK:
        hm_wr_u64(b, m->request);
        hm_wr_bool(b, m->ok);
        if (m->type == MSG_CHUNK)
            hm_wr_bytes(b, m->bytes);
        break;
    case MSG_HAVE_GET:
    case MSG_HAVE:
        hm_wr_bool(b, m->manifest);
        hm_wr_u32(b, m->count);
        hm_buf_put(b, m->list);
        break;
    case MSG_WHERE_GET:
    case MSG_WHERE:
        hm_wr_u64(b, m->request);
        hm_wr_u32(b, m->count);
        hm_buf_put(b, m->list);
        break;
    }
}

void node_msg_write_framed(const node_message *m, hm_buf *out)
{
    size_t at = out->len;
    hm_wr_u32(out, 0);
    hm_wr_u8(out, (uint8_t)m->type);
    node_msg_write(m, out);
    if (hm_buf_status(out) != HM_OK)
        return;
    hm_buf length = hm_buf_fixed(out->ptr + at, 4);
    hm_wr_u32(&length, (uint32_t)(out->len - at - 4));
}
