// Sockets besides an endpoint's own: of the local addresses that its connections moved to.
#include <stdlib.h>

#include "stoq/endpoint.h"

static bool is_at(const struct sockaddr_in6 *bound, const struct sockaddr_in6 *asked)
{
    struct sockaddr_in6 any_port = *asked;
    if (any_port.sin6_port == 0)
        any_port.sin6_port = bound->sin6_port;
    return conn_same_address(bound, &any_port);
}

bool socket_find(stoq_endpoint *ep, const struct sockaddr_in6 *address, stoq_socket **out)
{
    *out = NULL;
    if (is_at(&ep->bound, address))
        return true;
    hm_list_each(it, &ep->sockets)
    {
        stoq_socket *s = hm_container_of(it, stoq_socket, link);
        if (is_at(&s->bound, address)) {
            *out = s;
            return true;
        }
    }
    return false;
}

static hm_err open_one(stoq_endpoint *ep, stoq_socket *s, const struct sockaddr_in6 *address)
{
    s->bound = *address;
    if (ep->has_net)
        return HM_OK;
    HM_TRY(stoq_io_open(&s->io, address, 1, 0, &s->bound));
    hm_err err = ep->all_fd < 0 ? endpoint_wait_for(ep, ep->io.fd) : HM_OK;
    if (err == HM_OK)
        err = endpoint_wait_for(ep, s->io.fd);
    if (err != HM_OK)
        stoq_io_close(&s->io);
    return err;
}

hm_err socket_take(stoq_endpoint *ep, const struct sockaddr_in6 *address, stoq_socket **out)
{
    if (socket_find(ep, address, out)) {
        if (*out != NULL)
            (*out)->users++;
        return HM_OK;
    }
    hm_assert(!ep->has_net || ep->net.send_from != NULL);
    stoq_socket *s = calloc(1, sizeof *s);
    if (s == NULL)
        return HM_E_NOMEM;
    s->io.fd = -1;
    s->users = 1;
    hm_err err = open_one(ep, s, address);
    if (err != HM_OK) {
        free(s);
        return err;
    }
    hm_list_append(&ep->sockets, &s->link);
    *out = s;
    return HM_OK;
}

void socket_give_back(stoq_socket *s)
{
    if (s != NULL)
        s->users--;
}

void sockets_close_unused(stoq_endpoint *ep)
{
    hm_list_each(it, &ep->sockets)
    {
        stoq_socket *s = hm_container_of(it, stoq_socket, link);
        if (s->users > 0)
            continue;
        hm_list_remove(it);
        stoq_io_close(&s->io);
        free(s);
    }
}
