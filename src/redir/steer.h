/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the daemon keeps in the kernel: its rules (rules.h) and the set of learned servers that
 * they leave alone (bypass.h). Keeps the set the same as the learned table. One of it, owned by
 * struct redir; main thread only. Where something cannot be had the reason is logged once, and all
 * goes on as with action = relay.
 */
#ifndef REDIR_STEER_H
#define REDIR_STEER_H

#include <stdbool.h>

struct redir;
struct rules;
struct steer;

/* Puts in place what the configuration wants. NULL = out of memory. */
struct steer *steer_new(struct redir *rd);
/* Takes down what is ours. NULL is allowed. */
void steer_free(struct steer *s);

/* The same for a successor: as much as can be had beside the rules of its predecessor. Nothing is
 * captured by us before steer_take_over. */
struct steer *steer_stand_by(struct redir *rd);
void steer_take_over(struct steer *s);
/* In place of steer_free at the predecessor. */
void steer_hand_over(struct steer *s);

/* Let new connections pass, or capture them again. False: the rules are not ours, so that they go
 * on coming. NULL is allowed. */
bool steer_pause(struct steer *s, bool pause);

/* There is a new configuration: make the rules what it says. */
void steer_reload(struct steer *s);

/* Each second: puts back what others have removed, follows the proxies' addresses, learns from the
 * kernel's set of seen servers, tells the set what has been learned. NULL is allowed. */
void steer_tick(struct steer *s);
/* Only the last of these, at once. */
void steer_learned(struct steer *s);

/* "nft", "ipset" or "none": what keeps connections to learned servers from being captured. */
const char *steer_backend(const struct steer *s);
bool steer_ipv6(const struct steer *s); /* the rules are for IPv6 as well */
/* NULL: the rules are not ours. */
struct rules *steer_rules(const struct steer *s);

#endif
