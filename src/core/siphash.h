/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SipHash-2-4: a hash whose collisions nobody can choose who does not know the key. For tables
 * that strangers fill. Pure.
 */
#ifndef SIXPATH_SIPHASH_H
#define SIXPATH_SIPHASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct siphash_key {
	uint64_t k[2];
};

/* A random key. False if the kernel gives none. */
bool siphash_new_key(struct siphash_key *key);

uint64_t siphash(const struct siphash_key *key, const void *data, size_t len);

#endif
