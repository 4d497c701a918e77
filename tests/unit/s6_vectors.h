/* SPDX-License-Identifier: MIT */
/* Reads tests/vectors/NAME.hex: hex digits, '#' starts a comment that ends with its line. */
#ifndef TEST_S6_VECTORS_H
#define TEST_S6_VECTORS_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static inline size_t vector_read(const char *name, uint8_t *out, size_t cap)
{
	const char *top = getenv("top_srcdir");
	char path[512];
	size_t n = 0;
	int c, high = -1;
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/vectors/%s.hex", top ? top : ".", name);
	f = fopen(path, "r");
	if (!f) {
		fprintf(stderr, "cannot read %s\n", path);
		abort();
	}
	while ((c = fgetc(f)) != EOF) {
		int v;

		if (c == '#')
			while (c != '\n' && c != EOF)
				c = fgetc(f);
		if (c >= '0' && c <= '9')
			v = c - '0';
		else if (c >= 'A' && c <= 'F')
			v = c - 'A' + 10;
		else
			continue;
		if (high < 0) {
			high = v;
			continue;
		}
		if (n == cap)
			abort();
		out[n++] = (uint8_t)(high << 4 | v);
		high = -1;
	}
	fclose(f);
	return n;
}

#endif
