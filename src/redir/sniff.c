/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/sniff.h"

#include <string.h>
#include <strings.h>

#include "libsocks6/cursor.h"

#define RECORD_HANDSHAKE 22
#define CLIENT_HELLO     1
#define EXT_SERVER_NAME  0
#define EXT_ESNI         0xffce
#define EXT_ECH          0xfe0d
#define NAME_HOST        0

/* ---- names ---- */

/* RFC 6761, 6762, 7686, 8375, 9476, and what home routers use. */
static const char *const local_ends[] = {
	"local", "localhost", "localdomain",  "internal",  "intranet", "lan",
	"home",  "corp",      "private",      "home.arpa", "onion",    "alt",
	"test",  "invalid",   "in-addr.arpa", "ip6.arpa",
};

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), e = strlen(end);

	return n >= e && strcmp(name + n - e, end) == 0 && (n == e || name[n - e - 1] == '.');
}

static bool is_letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Each label; the last one has a letter, so that no address is taken for a name. */
static bool is_host_name(const char *name)
{
	size_t label = 0, dots = 0;
	bool letter = false;

	for (const char *p = name; *p; p++) {
		if (*p == '.') {
			if (label == 0 || p[-1] == '-')
				return false;
			label = 0;
			letter = false;
			dots++;
			continue;
		}
		if (!is_letter_or_digit(*p) && *p != '_' && (*p != '-' || label == 0))
			return false;
		letter |= *p >= 'a' && *p <= 'z';
		if (++label > 63)
			return false;
	}
	return label > 0 && letter && dots > 0 && name[strlen(name) - 1] != '-';
}

bool sniff_is_public(const char *name)
{
	if (!is_host_name(name))
		return false;
	for (size_t i = 0; i < sizeof(local_ends) / sizeof(local_ends[0]); i++)
		if (ends_with(name, local_ends[i]))
			return false;
	return true;
}

/* In lower case and without a dot at its end. */
static bool take_name(const uint8_t *p, size_t len, char *name)
{
	if (len > 0 && p[len - 1] == '.')
		len--;
	if (len == 0 || len > SNIFF_NAME_MAX)
		return false;
	for (size_t i = 0; i < len; i++)
		name[i] = (char)(p[i] >= 'A' && p[i] <= 'Z' ? p[i] - 'A' + 'a' : p[i]);
	name[len] = '\0';
	return strlen(name) == len && sniff_is_public(name);
}

/* ---- TLS ---- */

/* A list with one name. */
static bool read_server_name(struct reader *ext, char *name)
{
	struct reader list, host;
	uint16_t len;
	uint8_t type;

	return read_u16(ext, &len) && read_sub(ext, len, &list) && ext->left == 0 &&
	       read_u8(&list, &type) && type == NAME_HOST && read_u16(&list, &len) &&
	       read_sub(&list, len, &host) && list.left == 0 && take_name(host.at, host.left, name);
}

static bool read_extensions(struct reader *all, char *name)
{
	bool found = false;

	while (all->left > 0) {
		struct reader ext;
		uint16_t type, len;

		if (!read_u16(all, &type) || !read_u16(all, &len) || !read_sub(all, len, &ext))
			return false;
		if (type == EXT_ECH || type == EXT_ESNI)
			return false;
		if (type != EXT_SERVER_NAME)
			continue;
		if (found || !read_server_name(&ext, name))
			return false;
		found = true;
	}
	return found;
}

/* The body of a handshake message (RFC 8446, 4.1.2). */
static bool read_hello(struct reader *r, char *name)
{
	const uint8_t *p;
	struct reader ext;
	uint16_t len;
	uint8_t n;

	return read_bytes(r, 2 + 32, &p) &&                   /* version, random */
	       read_u8(r, &n) && read_bytes(r, n, &p) &&      /* session */
	       read_u16(r, &len) && read_bytes(r, len, &p) && /* cipher suites */
	       read_u8(r, &n) && read_bytes(r, n, &p) &&      /* compression */
	       read_u16(r, &len) && read_sub(r, len, &ext) && r->left == 0 &&
	       read_extensions(&ext, name);
}

static bool tls_name(struct reader r, char *name)
{
	struct reader record, hello;
	uint16_t version, len;
	uint8_t type, high;

	return read_u8(&r, &type) && type == RECORD_HANDSHAKE && read_u16(&r, &version) &&
	       version >> 8 == 3 && read_u16(&r, &len) && read_sub(&r, len, &record) &&
	       read_u8(&record, &type) && type == CLIENT_HELLO && read_u8(&record, &high) &&
	       high == 0 && read_u16(&record, &len) && read_sub(&record, len, &hello) &&
	       record.left == 0 && read_hello(&hello, name);
}

/* ---- HTTP ---- */

/* Up to the end of the line, without it. False: it is not complete. */
static bool read_line(struct reader *r, struct reader *line)
{
	const uint8_t *end = r->left ? memchr(r->at, '\n', r->left) : NULL;
	const uint8_t *p;

	if (!end || !read_sub(r, (size_t)(end - r->at), line) || !read_bytes(r, 1, &p))
		return false;
	if (line->left > 0 && line->at[line->left - 1] == '\r')
		line->left--;
	return true;
}

/* METHOD TARGET HTTP/1.x; no CONNECT, whose target is another server. */
static bool is_request_line(const struct reader *line)
{
	const uint8_t *p = line->at;
	size_t n = line->left, method = 0;

	while (method < n && p[method] >= 'A' && p[method] <= 'Z')
		method++;
	return method >= 3 && method < n && p[method] == ' ' && n > method + 10 &&
	       memcmp(p + n - 9, " HTTP/1.", 8) == 0 &&
	       !(method == 7 && memcmp(p, "CONNECT", 7) == 0);
}

/* "example.net" or "example.net:8080", where the port is the one that is connected to. */
static bool take_host(const uint8_t *p, size_t len, uint16_t port, char *name)
{
	const uint8_t *colon;
	unsigned number = 0;

	while (len > 0 && (*p == ' ' || *p == '\t')) {
		p++;
		len--;
	}
	while (len > 0 && (p[len - 1] == ' ' || p[len - 1] == '\t'))
		len--;
	colon = len ? memchr(p, ':', len) : NULL;
	if (!colon)
		return take_name(p, len, name);
	for (const uint8_t *d = colon + 1; d < p + len; d++) {
		if (*d < '0' || *d > '9' || number > UINT16_MAX)
			return false;
		number = number * 10 + (unsigned)(*d - '0');
	}
	return number == port && take_name(p, (size_t)(colon - p), name);
}

static bool http_name(struct reader r, uint16_t port, char *name)
{
	struct reader line;
	bool found = false;

	if (!read_line(&r, &line) || !is_request_line(&line))
		return false;
	while (read_line(&r, &line)) {
		if (line.left == 0)
			return found;
		if (line.left < 5 || strncasecmp((const char *)line.at, "host:", 5) != 0)
			continue;
		if (found || !take_host(line.at + 5, line.left - 5, port, name))
			return false;
		found = true;
	}
	return false; /* there may be more to come */
}

bool sniff_name(const uint8_t *data, size_t len, uint16_t port, char name[SNIFF_NAME_MAX + 1])
{
	if (len == 0)
		return false;
	if (data[0] == RECORD_HANDSHAKE)
		return tls_name(reader_of(data, len), name);
	return http_name(reader_of(data, len), port, name);
}
