/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel settings (sysctls) that MPTCP, Fast Open and capturing depend on: a table of what is
 * wanted and why, a check of each, and for daemons the setting of those that are wrong and the
 * way back. Of the network namespace of the caller.
 *
 * In a daemon (`tune = yes`), from the main thread only:
 *
 *	rd->tune = tune_apply(TUNE_REDIR, path);	before or after priv_drop, see below; NULL = none
 *	tune_follow(rd->tune, TUNE_REDIR | TUNE_ICMP);	after a reload; 0 with `tune = no`
 *	...
 *	tune_restore(rd->tune);				at stop
 *
 * Who may write: the kernel judges by who writes, not by who opened the file, so a descriptor that
 * is kept over priv_drop is worth nothing (EPERM, seen on Linux 6.18). Uid 0 may write, and so may
 * any user with CAP_NET_ADMIN over the namespace. sixpath-redir keeps that capability, so it can
 * restore after priv_drop; a sixpath-proxy that keeps none cannot, and tune_restore says so.
 * What was there before also stands in the file path (tune_file.h), so what a process that was killed,
 * or has handed over, did not set back, the next one does; the file goes when all is as it was.
 */
#ifndef SIXPATH_TUNE_H
#define SIXPATH_TUNE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bits. ICMP: beside REDIR, where devices may get ICMP errors from us. */
enum tune_role { TUNE_REDIR = 1, TUNE_PROXY = 2, TUNE_ICMP = 4 };
enum tune_kind {
	TUNE_EXACT,    /* low */
	TUNE_AT_LEAST, /* low */
	TUNE_BITS,     /* all bits of low set */
	TUNE_RANGE,    /* low to high */
};
enum tune_state {
	TUNE_OK,
	TUNE_WRONG,
	TUNE_MISSING,    /* this kernel does not have it */
	TUNE_UNREADABLE, /* err says why */
};

struct tune_row {
	const char *key; /* below /proc/sys; a part "*" stands for each name that exists there */
	enum tune_kind kind;
	int64_t low, high;
	int64_t set;        /* what to write; for bits those to be added */
	unsigned roles;     /* who wants it */
	unsigned essential; /* for whom it decides whether things work; for the others: advisable */
	bool automatic;     /* tune_apply may set it; else it is the administrator's to decide */
	const char *why;
};

#define TUNE_KEY_MAX  128
#define TUNE_TEXT_MAX 192

/* One setting as it is now. */
struct tune_seen {
	const struct tune_row *row;
	char key[TUNE_KEY_MAX]; /* of the row, without "*" */
	enum tune_state state;
	int64_t value;
	int err; /* errno */
};

/* The interface lo has IPv6, so that packets can be routed to it. */
bool tune_lo_has_ipv6(void);

typedef void tune_visit(const struct tune_seen *seen, void *ctx);

/* Check every setting that one of the roles wants, in the order of the table; those the kernel lacks are
 * visited once, with the key of the row. */
void tune_check(unsigned roles, tune_visit *visit, void *ctx);

/* Texts for people; each returns buf. The name is as sysctl(8) takes it. */
const char *tune_name(const struct tune_seen *seen, char *buf, size_t cap);
const char *tune_wanted(const struct tune_row *row, char *buf, size_t cap); /* "2 to 5" */
const char *tune_cure(const struct tune_seen *seen, char *buf, size_t cap); /* a command */

struct tune;

/* Set what is wrong and automatic; each change and each failure is logged, also what is wrong but
 * not automatic. path: of the file, its directory ours also when privileges have been dropped; NULL =
 * none. What is in it is taken over, and set back at once if no role wants it. roles may be 0.
 * Returns what tune_restore needs; NULL = out of memory, nothing was changed. */
struct tune *tune_apply(unsigned roles, const char *path);
/* Other roles from now on: what none of them wants is set back. t may be NULL. */
void tune_follow(struct tune *t, unsigned roles);

/* Set back what still has the value we gave it, last change first, and free. What has another
 * value by now belongs to whoever set that. Returns how many could not be set back (logged). */
unsigned tune_restore(struct tune *t); /* NULL is fine */
/* Free only: a successor of ours needs all as it is, and takes the file. NULL is fine. */
void tune_forget(struct tune *t);

#endif
