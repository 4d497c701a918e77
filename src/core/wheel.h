/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coarse timers for many: each costs its owner a list node and a slot number instead of a timer of
 * the loop's, and starting or stopping one costs the same however many there are. One timer of the
 * loop serves all.
 */
#ifndef SIXPATH_WHEEL_H
#define SIXPATH_WHEEL_H

#include <ev.h>
#include <stdint.h>

#include "core/list.h"

struct worker;

#define WHEEL_SLOTS  64
#define WHEEL_STEP_S 0.25
#define WHEEL_MAX_S  15.0 /* less than a turn, by what a slow loop may be late */

/* It has been taken out, and may be put in again. */
typedef void wheel_due_fn(struct list_node *n);

/* Belongs to a worker. */
struct wheel {
	size_t count;
	struct list slots[WHEEL_SLOTS];
	/* private */
	struct worker *w;
	wheel_due_fn *due;
	uint64_t step; /* the last one whose slot was looked at */
	ev_timer timer;
};

/* Inside a worker whose loop and clock are there. */
void wheel_init(struct wheel *wh, struct worker *w, wheel_due_fn *due);
void wheel_fini(struct wheel *wh);

/* Due in s seconds (WHEEL_MAX_S at most), or up to a step later. Returns its slot, for
 * wheel_remove. */
uint8_t wheel_add(struct wheel *wh, struct list_node *n, double s);
/* n must be in the wheel. */
void wheel_remove(struct wheel *wh, struct list_node *n, uint8_t slot);

#endif
