// hypermesh status, node: what people see of it.
#include "base/clock.h"
#include "cli/cli.h"

// How long ago, by this machine's clock.
static void put_age(hm_buf *b, uint64_t wall_ms)
{
    uint64_t now = hm_clock_wall_ms(&hm_clock_system);
    if (!wall_ms) {
        hm_buf_puts(b, "-");
        return;
    }
    cli_put_duration(b, now > wall_ms ? now - wall_ms : 0);
    hm_buf_puts(b, " ago");
}

hm_err cli_status_show(cli *c, yyjson_val *s)
{
    hm_buf b = {0};
    cli_fact("node", "%s, %s", cli_str(s, "name"), c->client.url);
    cli_fact("id", "%s", cli_str(s, "id"));
    cli_fact("address", "%s", cli_str(s, "overlay_addr"));
    cli_fact("state", "%s; %llu of %llu peers connected, a quorum is %llu of %llu validators",
             cli_true(s, "ready")     ? "ready"
             : cli_true(s, "syncing") ? "catching up"
                                      : "NOT READY: no quorum is connected, or the ledger stands",
             (unsigned long long)cli_u64(s, "peers_connected"),
             (unsigned long long)(cli_u64(s, "validators") ? cli_u64(s, "validators") - 1 : 0),
             (unsigned long long)cli_u64(s, "quorum"),
             (unsigned long long)cli_u64(s, "validators"));
    hm_buf_printf(&b, "%llu, final ", (unsigned long long)cli_u64(s, "height"));
    put_age(&b, cli_u64(s, "final_time_ms"));
    hm_buf_printf(&b, "; epoch %llu, view %llu", (unsigned long long)cli_u64(s, "epoch"),
                  (unsigned long long)cli_u64(s, "view"));
    cli_fact_buf("height", &b);
    cli_fact("state root", "%s", cli_str(s, "state_root"));
    cli_fact("chain", "%s", cli_str(s, "chain_id"));
    hm_buf_printf(&b, "%llu final since its start, %llu pending",
                  (unsigned long long)cli_u64(s, "ops_final"),
                  (unsigned long long)cli_u64(s, "pending_ops"));
    cli_fact_buf("operations", &b);
    if (cli_u64(s, "finality_p50_us")) {
        hm_buf_puts(&b, "p50 ");
        cli_put_micros(&b, cli_u64(s, "finality_p50_us"));
        hm_buf_puts(&b, ", p99 ");
        cli_put_micros(&b, cli_u64(s, "finality_p99_us"));
        hm_buf_puts(&b, " from submission, of its last operations");
        cli_fact_buf("finality", &b);
    }
    cli_put_size(&b, cli_u64(s, "chunk_bytes_stored"));
    hm_buf_printf(&b, " in %llu chunks", (unsigned long long)cli_u64(s, "chunks_stored"));
    cli_fact_buf("content", &b);
    hm_buf_printf(&b, "%s, up for ", cli_str(s, "version"));
    cli_put_duration(&b, cli_u64(s, "uptime_ms"));
    cli_fact_buf("version", &b);
    return HM_OK;
}

static void put_state(hm_buf *b, yyjson_val *n)
{
    hm_buf_printf(b, "%s%s%s", cli_true(n, "self") ? "this node" : cli_str(n, "state"),
                  cli_str(n, "reason")[0] ? ": " : "", cli_str(n, "reason"));
}

hm_err cli_nodes_show(cli *c, yyjson_val *answer)
{
    cli_table t;
    size_t at, max;
    yyjson_val *n;
    (void)c;
    cli_table_begin(&t, "NAME|ID|ADDRESS|HEIGHT>|RTT>|SENT>|RECEIVED>|STATE");
    yyjson_arr_foreach(yyjson_obj_get(answer, "items"), at, max, n)
    {
        bool self = cli_true(n, "self");
        hm_buf state = {0};
        cli_cell(&t, cli_str(n, "name"));
        cli_cell_id(&t, cli_str(n, "id"));
        cli_cell(&t, cli_str(n, "addr"));
        cli_cell_u64(&t, cli_u64(n, "height"));
        if (self || !cli_u64(n, "rtt_us"))
            cli_cell(&t, "-");
        else
            cli_cell_of(&t, cli_put_micros, cli_u64(n, "rtt_us"));
        cli_cell_of(&t, cli_put_size, cli_u64(n, "bytes_sent"));
        cli_cell_of(&t, cli_put_size, cli_u64(n, "bytes_received"));
        put_state(&state, n);
        cli_cell_buf(&t, &state);
    }
    return cli_table_end(&t);
}

// What the ledger knows of it.
static void show_member(yyjson_val *n)
{
    yyjson_val *cert = yyjson_obj_get(n, "certificate"), *sector = yyjson_obj_get(n, "sector");
    hm_buf b = {0};
    if (yyjson_is_obj(cert)) {
        hm_buf_printf(&b, "%s, %s ", cli_str(cert, "serial"),
                      cli_true(cert, "revoked") ? "REVOKED, valid until" : "valid until");
        cli_put_time(&b, cli_u64(cert, "not_after_ms"));
        cli_fact_buf("certificate", &b);
    }
    if (yyjson_is_obj(sector)) {
        hm_buf_printf(&b, "%llu, ", (unsigned long long)cli_u64(sector, "number"));
        cli_put_size(&b, cli_u64(sector, "bytes"));
        hm_buf_printf(&b, ", last answered for epoch %llu",
                      (unsigned long long)cli_u64(sector, "answered_epoch"));
        cli_fact_buf("sector", &b);
    }
    if (cli_str(n, "api")[0])
        cli_fact("api", "%s", cli_str(n, "api"));
}

hm_err cli_node_show(cli *c, yyjson_val *n)
{
    hm_buf b = {0};
    (void)c;
    cli_fact("node", "%s", cli_str(n, "name"));
    cli_fact("id", "%s", cli_str(n, "id"));
    cli_fact("address", "%s, in the overlay %s", cli_str(n, "addr"), cli_str(n, "overlay_addr"));
    put_state(&b, n);
    hm_buf_puts(&b, ", since ");
    cli_put_time(&b, cli_u64(n, "since_ms"));
    cli_fact_buf("state", &b);
    cli_fact("height", "%llu", (unsigned long long)cli_u64(n, "height"));
    cli_fact("state root", "%s", cli_str(n, "state_root"));
    cli_fact("power", "%llu, by a stake of %llu", (unsigned long long)cli_u64(n, "power"),
             (unsigned long long)cli_u64(n, "stake"));
    if (cli_u64(n, "slashed_height"))
        cli_fact("slashed", "in block %llu", (unsigned long long)cli_u64(n, "slashed_height"));
    show_member(n);
    if (cli_true(n, "self"))
        return HM_OK;
    cli_put_micros(&b, cli_u64(n, "rtt_us"));
    cli_fact_buf("round trip", &b);
    cli_put_size(&b, cli_u64(n, "bytes_sent"));
    hm_buf_puts(&b, " sent, ");
    cli_put_size(&b, cli_u64(n, "bytes_received"));
    hm_buf_puts(&b, " received");
    cli_fact_buf("traffic", &b);
    return HM_OK;
}
