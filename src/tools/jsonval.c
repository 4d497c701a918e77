/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/jsonval.h"

#include <string.h>

static void skip_space(struct jsonval *v)
{
	while (v->p < v->end && (*v->p == ' ' || *v->p == '\t' || *v->p == '\n' || *v->p == '\r'))
		v->p++;
}

static bool take(struct jsonval *v, char c)
{
	skip_space(v);
	if (v->p == v->end || *v->p != c)
		return false;
	v->p++;
	return true;
}

/* From the quote behind which a string begins to behind the one that ends it. */
static bool skip_string(struct jsonval *v)
{
	for (v->p++; v->p < v->end; v->p++) {
		if (*v->p == '"') {
			v->p++;
			return true;
		}
		if (*v->p == '\\' && ++v->p == v->end)
			return false;
	}
	return false;
}

/* One value, which is then in *out; what is in objects and arrays is only counted by brackets. */
static bool skip_value(struct jsonval *v, struct jsonval *out)
{
	size_t depth = 0;

	skip_space(v);
	out->p = v->p;
	while (v->p < v->end) {
		char c = *v->p;
		if (depth == 0 && (c == ',' || c == '}' || c == ']'))
			break;
		if (c == '"') {
			if (!skip_string(v))
				return false;
			continue;
		}
		if (c == '{' || c == '[')
			depth++;
		else if (c == '}' || c == ']')
			depth--;
		v->p++;
	}
	out->end = v->p;
	return depth == 0 && out->p < out->end;
}

bool json_get(struct jsonval object, const char *key, struct jsonval *out)
{
	size_t len = strlen(key);

	if (!take(&object, '{'))
		return false;
	do {
		skip_space(&object);
		const char *name = object.p;
		if (object.p == object.end || *object.p != '"' || !skip_string(&object))
			return false;
		size_t n = (size_t)(object.p - name) - 2;
		if (!take(&object, ':') || !skip_value(&object, out))
			return false;
		if (n == len && memcmp(name + 1, key, len) == 0)
			return true;
	} while (take(&object, ','));
	return false;
}

bool json_next(struct jsonval *it, struct jsonval *out)
{
	if (!take(it, '[') && !take(it, ','))
		return false;
	return skip_value(it, out);
}

/* \u00e9 and the like: only ASCII is of interest, the rest becomes "?". */
static char unescape(struct jsonval *v)
{
	static const char from[] = "nrtbf", to[] = "\n\r\t\b\f";
	const char *known;
	unsigned code = 0;
	char c = *v->p++;

	if (c != 'u') {
		known = strchr(from, c);
		return known && c ? to[known - from] : c;
	}
	for (int i = 0; i < 4 && v->p < v->end; i++, v->p++) {
		char d = *v->p;
		unsigned digit = d >= '0' && d <= '9'   ? (unsigned)(d - '0')
				 : d >= 'a' && d <= 'f' ? (unsigned)(d - 'a') + 10
				 : d >= 'A' && d <= 'F' ? (unsigned)(d - 'A') + 10
							: 0x80u;
		code = code * 16 + digit;
	}
	return code && code < 0x80 ? (char)code : '?';
}

bool json_str(struct jsonval v, char *buf, size_t cap)
{
	size_t n = 0;

	if (cap == 0 || !take(&v, '"'))
		return false;
	while (v.p < v.end && *v.p != '"') {
		char c = *v.p++;
		if (c == '\\' && v.p < v.end)
			c = unescape(&v);
		if (n < cap - 1)
			buf[n++] = c;
	}
	buf[n] = '\0';
	return true;
}

bool json_u64(struct jsonval v, uint64_t *out)
{
	uint64_t n = 0;

	skip_space(&v);
	if (v.p == v.end)
		return false;
	for (; v.p < v.end && *v.p >= '0' && *v.p <= '9'; v.p++) {
		if (__builtin_mul_overflow(n, 10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(*v.p - '0'), &n))
			return false;
	}
	skip_space(&v);
	if (v.p != v.end)
		return false;
	*out = n;
	return true;
}

bool json_is(struct jsonval v, const char *word)
{
	size_t len = strlen(word);

	skip_space(&v);
	while (v.end > v.p &&
	       (v.end[-1] == ' ' || v.end[-1] == '\n' || v.end[-1] == '\t' || v.end[-1] == '\r'))
		v.end--;
	return (size_t)(v.end - v.p) == len && memcmp(v.p, word, len) == 0;
}
