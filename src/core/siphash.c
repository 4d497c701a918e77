/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/siphash.h"

#include <endian.h>
#include <string.h>
#include <sys/random.h>

bool siphash_new_key(struct siphash_key *key)
{
	return getrandom(key->k, sizeof(key->k), 0) == (ssize_t)sizeof(key->k);
}

static uint64_t rotl(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void rounds(uint64_t v[4], unsigned n)
{
	while (n-- > 0) {
		v[0] += v[1];
		v[1] = rotl(v[1], 13) ^ v[0];
		v[0] = rotl(v[0], 32);
		v[2] += v[3];
		v[3] = rotl(v[3], 16) ^ v[2];
		v[0] += v[3];
		v[3] = rotl(v[3], 21) ^ v[0];
		v[2] += v[1];
		v[1] = rotl(v[1], 17) ^ v[2];
		v[2] = rotl(v[2], 32);
	}
}

/* Up to 8 octets, the first one lowest. */
static uint64_t word(const uint8_t *p, size_t n)
{
	uint64_t w = 0;

	if (n == 8) {
		memcpy(&w, p, 8);
		return le64toh(w);
	}
	for (size_t i = 0; i < n; i++)
		w |= (uint64_t)p[i] << (8 * i);
	return w;
}

static void mix(uint64_t v[4], uint64_t w)
{
	v[3] ^= w;
	rounds(v, 2);
	v[0] ^= w;
}

uint64_t siphash(const struct siphash_key *key, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t rest = len;
	uint64_t v[4] = {
		key->k[0] ^ 0x736f6d6570736575u,
		key->k[1] ^ 0x646f72616e646f6du,
		key->k[0] ^ 0x6c7967656e657261u,
		key->k[1] ^ 0x7465646279746573u,
	};

	for (; rest >= 8; p += 8, rest -= 8)
		mix(v, word(p, 8));
	mix(v, (uint64_t)len << 56 | word(p, rest));
	v[2] ^= 0xff;
	rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}
