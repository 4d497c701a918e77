/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/text.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <ctype.h>

#define DISTANCE_MAX 63 /* longer words are never compared */

size_t text_utf8_len(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	if (n == 1)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* overlong forms, surrogates, beyond U+10FFFF */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

static bool is_control(const unsigned char *s)
{
	return s[0] < 0x20 || s[0] == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0);
}

size_t text_escape(char *out, size_t cap, const char *text)
{
	static const char hex[] = "0123456789abcdef";
	size_t len = 0;

	if (cap == 0)
		return 0;
	while (*text) {
		const unsigned char *s = (const unsigned char *)text;
		size_t n = is_control(s) ? 0 : text_utf8_len(text);
		size_t need = n ? n : 4;
		if (need > cap - 1 - len)
			break;
		if (n) {
			memcpy(out + len, text, n);
		} else {
			out[len] = '\\';
			out[len + 1] = 'x';
			out[len + 2] = hex[*s >> 4];
			out[len + 3] = hex[*s & 15];
		}
		len += need;
		text += n ? n : 1;
	}
	out[len] = '\0';
	return len;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

unsigned text_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	unsigned row[DISTANCE_MAX + 1];

	if (la > DISTANCE_MAX || lb > DISTANCE_MAX)
		return UINT_MAX;
	for (unsigned j = 0; j <= lb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= la; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			unsigned above = row[j];
			bool same = tolower((unsigned char)a[i - 1]) ==
				    tolower((unsigned char)b[j - 1]);
			row[j] = min3(above + 1, row[j - 1] + 1, diagonal + !same);
			diagonal = above;
		}
	}
	return row[lb];
}
