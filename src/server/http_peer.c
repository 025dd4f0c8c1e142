// Clients by address: how many connections each holds and how often it asks.
//
// A client is a /64, which is what one subscriber has at the least (RFC 6177). At its limit, or at
// the server's, a new connection takes the place of the oldest one that rests: at the server's
// limit of the client that holds most, so that a crowd from one address never shuts others out.
#include <stdlib.h>

#include "server/http_internal.h"

#define REST_MS 1000u // a connection younger than that may just be about to ask

http_client *http_client_of(hm_http *h, const struct sockaddr_in6 *from)
{
    http_client *c = hm_map_get(&h->clients, &from->sin6_addr);
    if (c)
        return c;
    c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    memcpy(c->prefix, &from->sin6_addr, HTTP_PREFIX_BYTES);
    c->free_rate = IN6_IS_ADDR_LOOPBACK(&from->sin6_addr);
    c->bucket = hm_bucket_full(h->limits.client_rate, uv_now(h->loop) * 1000);
    hm_list_init(&c->connections);
    if (hm_map_put(&h->clients, c->prefix, c) != HM_OK) {
        free(c);
        return &h->crowd; // more addresses than are told apart: they share one
    }
    return c;
}

// The oldest connection that rests.
static http_conn *resting(const hm_http *h, const http_client *c)
{
    hm_list_each(it, &c->connections)
    {
        http_conn *x = hm_container_of(it, http_conn, of_client);
        if (!x->busy && !x->ending && uv_now(h->loop) - x->since_ms >= REST_MS)
            return x;
    }
    return NULL;
}

static const http_client *largest(hm_http *h)
{
    const http_client *most = &h->crowd;
    hm_list_each(it, &h->connections)
    {
        const http_client *c = hm_container_of(it, http_conn, of_server)->client;
        if (c->count > most->count)
            most = c;
    }
    return most;
}

bool http_client_admit(hm_http *h, const http_client *c)
{
    bool server_full = h->connection_count >= h->limits.connections;
    if (!server_full && c->count < h->limits.client_connections)
        return true;
    // One more than the limit for the moment until the other is gone.
    http_conn *x = resting(h, c->count < h->limits.client_connections ? largest(h) : c);
    if (x) {
        x->ending = true;
        x->wire->end(x);
        h->stats.displaced++;
    } else if (server_full) {
        h->stats.refused_limit++;
    } else {
        h->stats.refused_client++;
    }
    return x != NULL;
}

unsigned http_client_wait_s(hm_http *h, http_client *c)
{
    uint32_t rate = h->limits.client_rate;
    if (rate == 0 || c->free_rate || hm_bucket_take(&c->bucket, rate, uv_now(h->loop) * 1000))
        return 0;
    h->stats.refused_rate++;
    return hm_bucket_wait_s(&c->bucket, rate);
}

http_conn *http_conn_new(http_listener *l, http_client *c, const struct sockaddr_in6 *from,
                         const http_wire *wire)
{
    http_conn *x = calloc(1, sizeof(*x));
    if (!x)
        return NULL;
    x->listener = l;
    x->client = c;
    x->from = *from;
    x->wire = wire;
    x->since_ms = uv_now(l->server->loop);
    c->count++;
    l->server->connection_count++;
    hm_list_append(&c->connections, &x->of_client);
    hm_list_append(&l->server->connections, &x->of_server);
    return x;
}

void http_conn_free(http_conn *x)
{
    x->client->count--;
    x->listener->server->connection_count--;
    hm_list_remove(&x->of_client);
    hm_list_remove(&x->of_server);
    free(x);
}

void http_conn_rests(http_conn *x)
{
    x->busy--;
    x->since_ms = uv_now(x->listener->server->loop);
    hm_list_remove(&x->of_client); // the oldest first
    hm_list_append(&x->client->connections, &x->of_client);
}

// Whoever holds no connection and may ask as often as anybody is forgotten.
void http_clients_sweep(hm_http *h)
{
    size_t pos = 0, count = 0;
    const uint8_t *key;
    void *value;
    http_client *old[256];
    while (count < sizeof(old) / sizeof(old[0]) && hm_map_next(&h->clients, &pos, &key, &value)) {
        http_client *c = value;
        if (c->count == 0 && (h->destroyed || hm_bucket_rested(&c->bucket, uv_now(h->loop) * 1000)))
            old[count++] = c;
    }
    for (size_t i = 0; i < count; i++) {
        (void)hm_map_remove(&h->clients, old[i]->prefix);
        free(old[i]);
    }
    if (count == sizeof(old) / sizeof(old[0]))
        http_clients_sweep(h);
}
