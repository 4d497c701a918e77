/* SPDX-License-Identifier: MIT */
/*
 * Messages as text: two hex digits an octet, '#' starts a comment that ends with its line,
 * everything else is ignored. The octets come in a block of exactly their size, so that
 * AddressSanitizer sees a read behind them.
 */
#ifndef TEST_S6_HEX_H
#define TEST_S6_HEX_H

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline uint8_t *block_of(const void *data, size_t len)
{
	uint8_t *block = malloc(len ? len : 1);

	if (!block)
		abort();
	if (len)
		memcpy(block, data, len);
	return block;
}

static inline int hex_digit(int c)
{
	static const char digits[] = "0123456789ABCDEF";
	const char *at = c ? strchr(digits, toupper(c)) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* The octets of a text; out has room for half its length. */
static inline size_t hex_octets(const char *text, uint8_t *out)
{
	int high = -1;
	size_t n = 0;

	for (; *text; text++) {
		int digit = hex_digit(*text);

		if (*text == '#')
			text += strcspn(text, "\n");
		if (*text == '\0')
			break;
		if (digit >= 0 && high >= 0)
			out[n++] = (uint8_t)(high << 4 | digit);
		if (digit >= 0)
			high = high < 0 ? digit : -1;
	}
	return n;
}

/* Free the result. */
static inline uint8_t *hex_block(const char *text, size_t *len)
{
	uint8_t *octets = malloc(strlen(text) / 2 + 1), *block;

	if (!octets)
		abort();
	*len = hex_octets(text, octets);
	block = block_of(octets, *len);
	free(octets);
	return block;
}

/* tests/vectors/NAME.hex; free the result. */
static inline uint8_t *vector_block(const char *name, size_t *len)
{
	const char *top = getenv("top_srcdir");
	char path[512], text[4096];
	size_t n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/vectors/%s.hex", top ? top : ".", name);
	f = fopen(path, "r");
	if (!f) {
		perror(path);
		abort();
	}
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	return hex_block(text, len);
}

#endif
