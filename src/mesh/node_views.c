// States after blocks that are not final yet, so that none is executed twice.
//
// A view holds its parent, so only letting go of a leaf gives memory back. When there is too much,
// the leaf of the oldest consensus view goes: most likely nothing will be built on it any more, and
// should it be final after all, it is executed again then. What leads to the newest view stays, for
// without it this node could not judge what comes next.
#include "mesh/node_internal.h"

hm_view *views_find(hm_node *n, const hm_hash *id)
{
    hm_view *tip = hm_ledger_tip(n->ledger);
    hm_hash tip_id = hm_view_block_id(tip);
    if (hm_hash_eq(&tip_id, id))
        return tip;
    for (size_t i = 0; i < n->views.count; i++)
        if (hm_hash_eq(&n->views.at[i].id, id))
            return n->views.at[i].view;
    return NULL;
}

static void forget(node_views *vs, size_t i)
{
    vs->bytes -= vs->at[i].bytes;
    hm_view_release(vs->at[i].view);
    vs->at[i] = vs->at[--vs->count];
}

static uint64_t view_number(const node_views *vs, size_t i)
{
    return hm_view_header(vs->at[i].view)->view;
}

// Of those that nothing stands on, the one of the oldest consensus view, but neither that of the
// newest nor `in_use`; count when there is none.
static size_t oldest_leaf(const node_views *vs, const hm_view *in_use)
{
    size_t oldest = vs->count, newest = 0;
    for (size_t i = 1; i < vs->count; i++)
        if (view_number(vs, i) > view_number(vs, newest))
            newest = i;
    for (size_t i = 0; i < vs->count; i++)
        if (i != newest && vs->at[i].view != in_use && hm_view_is_leaf(vs->at[i].view) &&
            (oldest == vs->count || view_number(vs, i) < view_number(vs, oldest)))
            oldest = i;
    return oldest;
}

void views_keep(hm_node *n, hm_view *v)
{
    node_views *vs = &n->views;
    hm_hash id = hm_view_block_id(v);
    size_t i;
    if (views_find(n, &id) != NULL || vs->count == NODE_VIEWS_MAX) {
        hm_view_release(v);
        return;
    }
    size_t bytes = hm_view_bytes(v);
    vs->at[vs->count++] = (node_view){id, v, bytes};
    vs->bytes += bytes;
    while ((vs->bytes > vs->bytes_max || vs->count == NODE_VIEWS_MAX) &&
           (i = oldest_leaf(vs, v)) < vs->count)
        forget(vs, i);
}

void views_prune(hm_node *n)
{
    uint64_t height = hm_ledger_height(n->ledger);
    for (size_t i = n->views.count; i-- > 0;)
        if (hm_view_height(n->views.at[i].view) <= height)
            forget(&n->views, i);
}

void views_free(hm_node *n)
{
    while (n->views.count > 0)
        forget(&n->views, n->views.count - 1);
}
