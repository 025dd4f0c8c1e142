// This node now, and the members of the mesh as it sees them.
#include <stdio.h>

#include "base/config.h"
#include "server/node_api_internal.h"

void api_status(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_node_status s;
    hm_buf b = {0};
    char text[46];
    hm_node_get_status(a->node, &s);
    hm_jw_open(&b, NULL, '{');
    hm_jw_hex(&b, "id", s.id.b, 32);
    hm_jw_str(&b, "name", s.name);
    hm_jw_str(&b, "overlay_addr", api_addr_text(s.overlay_addr.s6_addr, text));
    hm_jw_hex(&b, "chain_id", s.chain_id.b, 32);
    hm_jw_u64(&b, "height", s.height);
    hm_jw_hex(&b, "state_root", s.state_root.b, 32);
    hm_jw_u64(&b, "view", s.view);
    hm_jw_u64(&b, "final_time_ms", s.final_time_ms);
    hm_jw_u64(&b, "block_time_ms", s.block_time_ms);
    hm_jw_u64(&b, "epoch", s.epoch);
    hm_jw_u64(&b, "validators", s.validators);
    hm_jw_u64(&b, "quorum", s.quorum);
    hm_jw_u64(&b, "peers_connected", s.peers_connected);
    hm_jw_u64(&b, "pending_ops", s.pending_ops);
    hm_jw_bool(&b, "syncing", s.syncing);
    hm_jw_bool(&b, "ready", s.ready);
    hm_jw_u64(&b, "finality_p50_us", s.finality_p50_us);
    hm_jw_u64(&b, "finality_p99_us", s.finality_p99_us);
    hm_jw_u64(&b, "ops_final", s.ops_final);
    hm_jw_u64(&b, "chunks_stored", s.chunks_stored);
    hm_jw_u64(&b, "chunk_bytes_stored", s.chunk_bytes_stored);
    hm_jw_u64(&b, "uptime_ms", s.uptime_ms);
    hm_jw_str(&b, "version", a->version);
    hm_jw_close(&b, '}');
    hm_http_reply_json(r, 200, &b);
}

// What the ledger knows of a member.
static void put_member(hm_node_api *a, hm_buf *b, const hm_node_peer *p)
{
    hm_ledger *l = hm_node_ledger(a->node);
    hm_view *tip = hm_ledger_tip(l);
    const hm_genesis *g = hm_ledger_genesis(l);
    hm_member m;
    hm_member_cert cert;
    hm_op_inputs in = {0};
    if (hm_member_find(tip, &p->id, &m) != HM_OK)
        return;
    hm_jw_u64(b, "stake", m.stake);
    hm_jw_u64(b, "slashed_height", m.slashed_height);
    hm_jw_str(b, "api", g->validators[m.index].api);
    if (hm_member_cert_find(tip, &m.cert, &cert) == HM_OK) {
        hm_jw_open(b, "certificate", '{');
        hm_jw_hex(b, "sha256", m.cert.b, 32);
        hm_jw_hex(b, "serial", cert.serial.ptr, cert.serial.len);
        hm_jw_u64(b, "not_before_ms", cert.not_before_ms);
        hm_jw_u64(b, "not_after_ms", cert.not_after_ms);
        hm_jw_bool(b, "revoked", cert.revoked);
        hm_jw_close(b, '}');
    }
    if (hm_ledger_op_inputs(l, tip, &p->id, HM_MODULE_ASSET, HM_ASSET_REGISTER, &in) == HM_OK) {
        hm_jw_open(b, "sector", '{');
        hm_jw_u64(b, "number", in.space.sector);
        hm_jw_u64(b, "bytes", hm_space_size_bytes(&g->params.space));
        hm_jw_u64(b, "answered_epoch", in.space.epoch);
        hm_jw_close(b, '}');
    }
}

static void put_peer(hm_node_api *a, hm_buf *b, const hm_node_peer *p)
{
    static const char *const states[] = {"down", "connecting", "up", "refused"};
    char text[HM_ADDR_TEXT_MAX], overlay[46];
    hm_jw_open(b, NULL, '{');
    hm_jw_hex(b, "id", p->id.b, 32);
    hm_jw_str(b, "name", p->name);
    hm_jw_str(b, "addr", hm_addr_text(&p->addr, text));
    hm_jw_str(b, "overlay_addr", api_addr_text(p->overlay_addr.s6_addr, overlay));
    hm_jw_str(b, "state", states[p->state]);
    hm_jw_bool(b, "self", p->self);
    hm_jw_str(b, "reason", p->reason);
    hm_jw_u64(b, "since_ms", p->since_ms);
    hm_jw_u64(b, "height", p->height);
    hm_jw_hex(b, "state_root", p->state_root.b, 32);
    hm_jw_u64(b, "rtt_us", p->rtt_us);
    hm_jw_u64(b, "bytes_sent", p->bytes_sent);
    hm_jw_u64(b, "bytes_received", p->bytes_received);
    hm_jw_u64(b, "power", p->power);
    put_member(a, b, p);
    hm_jw_close(b, '}');
}

void api_nodes(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_node_peer peers[HM_GENESIS_VALIDATORS_MAX];
    size_t n = hm_node_get_peers(a->node, peers, HM_GENESIS_VALIDATORS_MAX);
    hm_buf b = {0};
    hm_jw_open(&b, NULL, '{');
    hm_jw_open(&b, "items", '[');
    for (size_t i = 0; i < n && i < HM_GENESIS_VALIDATORS_MAX; i++)
        put_peer(a, &b, &peers[i]);
    hm_jw_close(&b, ']');
    hm_jw_close(&b, '}');
    hm_http_reply_json(r, 200, &b);
}

// By id or by name.
void api_node(void *ctx, hm_http_req *r)
{
    hm_node_api *a = ctx;
    hm_node_peer peers[HM_GENESIS_VALIDATORS_MAX];
    size_t n = hm_node_get_peers(a->node, peers, HM_GENESIS_VALIDATORS_MAX);
    const char *want = hm_http_param(r, 0);
    hm_buf b = {0};
    for (size_t i = 0; i < n && i < HM_GENESIS_VALIDATORS_MAX; i++) {
        char id[65];
        hm_hex(id, peers[i].id.b, 32);
        if (strcmp(id, want) == 0 || strcmp(peers[i].name, want) == 0) {
            put_peer(a, &b, &peers[i]);
            hm_http_reply_json(r, 200, &b);
            return;
        }
    }
    hm_http_reply_err(r, HM_E_NOTFOUND, "no node of the mesh has this id or name");
}
