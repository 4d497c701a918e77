/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The users file: lines "user:hash" with hashes of crypt(3), '#' comments. Read once,
 * immutable afterwards; part of a configuration snapshot.
 */
#ifndef SIXPATH_USERS_H
#define SIXPATH_USERS_H

#include <stddef.h>
#include <stdint.h>

struct users;

/* NULL and a reason in err ("LINE: what" or the system's error). */
struct users *users_load(const char *path, char *err, size_t errcap);
void users_free(struct users *u);
size_t users_count(const struct users *u);

/* The user's hash, or NULL. The name is not NUL-terminated. */
const char *users_hash(const struct users *u, const uint8_t *name, size_t len);
/* Somebody's hash, for checks that must fail but take as long as others. NULL = there is nobody. */
const char *users_any_hash(const struct users *u);

#endif
