// An intrusive doubly linked list: the node lives in the element. A head is a node that points to
// itself when empty.
#ifndef HM_BASE_LIST_H
#define HM_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct hm_list {
    struct hm_list *next, *prev;
} hm_list;

#define hm_container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

static inline void hm_list_init(hm_list *head)
{
    head->next = head->prev = head;
}
static inline bool hm_list_empty(const hm_list *head)
{
    return head->next == head;
}
// Inserts node before pos; with pos = head, at the end.
static inline void hm_list_insert_before(hm_list *pos, hm_list *node)
{
    node->prev = pos->prev;
    node->next = pos;
    pos->prev->next = node;
    pos->prev = node;
}
static inline void hm_list_append(hm_list *head, hm_list *node)
{
    hm_list_insert_before(head, node);
}
static inline void hm_list_prepend(hm_list *head, hm_list *node)
{
    hm_list_insert_before(head->next, node);
}
// Takes node out; it is a valid empty list afterwards, so taking it out twice is harmless.
static inline void hm_list_remove(hm_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    hm_list_init(node);
}
// All nodes of from to the end of to, in their order.
static inline void hm_list_move_all(hm_list *from, hm_list *to)
{
    if (hm_list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    hm_list_init(from);
}
// The body may remove `it`.
#define hm_list_each(it, head)                                                                     \
    for (hm_list *it = (head)->next, *it##_next = it->next; it != (head);                          \
         it = it##_next, it##_next = it->next)

#endif
