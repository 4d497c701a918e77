/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intrusive doubly linked list with a count. The node lives inside its owner;
 * the list owns nothing. A node is in one list at most.
 */
#ifndef SIXPATH_LIST_H
#define SIXPATH_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_node {
	struct list_node *next, *prev; /* NULL when in no list */
};

struct list {
	struct list_node head;
	size_t count;
};

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
	l->head.next = l->head.prev = &l->head;
	l->count = 0;
}

static inline bool list_empty(const struct list *l)
{
	return l->count == 0;
}

static inline bool list_linked(const struct list_node *n)
{
	return n->next != NULL;
}

static inline void list_push(struct list *l, struct list_node *n) /* at the end */
{
	n->prev = l->head.prev;
	n->next = &l->head;
	l->head.prev->next = n;
	l->head.prev = n;
	l->count++;
}

static inline void list_push_front(struct list *l, struct list_node *n)
{
	n->prev = &l->head;
	n->next = l->head.next;
	l->head.next->prev = n;
	l->head.next = n;
	l->count++;
}

static inline void list_remove(struct list *l, struct list_node *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->next = n->prev = NULL;
	l->count--;
}

/* The first node, or NULL. */
static inline struct list_node *list_first(const struct list *l)
{
	return l->count ? l->head.next : NULL;
}

/* The node after n, or NULL at the end. */
static inline struct list_node *list_next(const struct list *l, const struct list_node *n)
{
	return n->next == &l->head ? NULL : n->next;
}

/* Take the first node out and return it, or NULL. */
static inline struct list_node *list_pop(struct list *l)
{
	struct list_node *n = list_first(l);
	if (n)
		list_remove(l, n);
	return n;
}

/* Walk; the body may remove node n (and only that one). */
#define list_for_each_safe(l, n, tmp)                                                              \
	for ((n) = (l)->head.next, (tmp) = (n)->next; (n) != &(l)->head;                           \
	     (n) = (tmp), (tmp) = (n)->next)

#endif
