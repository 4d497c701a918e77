/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/front.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

/* What comes next. */
enum stage { STAGE_FIRST, STAGE_CREDENTIALS, STAGE_REQUEST, STAGE_DONE };

#define SOCKS5_VERSION   5
#define SOCKS5_AUTH      1 /* version of RFC 1929 */
#define SOCKS4_GRANTED   0x5a
#define SOCKS4_REJECTED  0x5b
#define METHOD_NONE      S6_METHOD_NONE
#define METHOD_USERPASS  S6_METHOD_USERPASS
#define METHOD_NOT_FOUND 0xff

/* One row for each result. For a connection attempt that was not answered SOCKS 5 has no code; 6
 * is what other servers say. error: RFC 9209. */
static const struct {
	unsigned result;
	uint8_t socks5;
	uint16_t status;
	const char *phrase, *error;
} results[] = {
	{S6_REPLY_SUCCESS, 0, 200, "Connection established", NULL},
	{S6_REPLY_FAILURE, 1, 502, "Bad Gateway", "proxy_internal_error"},
	{S6_REPLY_NOT_ALLOWED, 2, 403, "Forbidden", "http_request_denied"},
	{S6_REPLY_NET_UNREACHABLE, 3, 502, "Bad Gateway", "destination_ip_unroutable"},
	{S6_REPLY_HOST_UNREACHABLE, 4, 502, "Bad Gateway", "destination_unavailable"},
	{S6_REPLY_REFUSED, 5, 502, "Bad Gateway", "connection_refused"},
	{S6_REPLY_TTL_EXPIRED, 6, 502, "Bad Gateway", "destination_ip_unroutable"},
	{S6_REPLY_CMD_UNSUPPORTED, 7, 501, "Not Implemented", NULL},
	{S6_REPLY_ADDR_UNSUPPORTED, 8, 502, "Bad Gateway", "destination_ip_unroutable"},
	{S6_REPLY_TIMED_OUT, 6, 504, "Gateway Timeout", "connection_timeout"},
	{FRONT_NO_PROXY, 1, 503, "Service Unavailable", "destination_unavailable"},
	{FRONT_LOST, 1, 502, "Bad Gateway", "connection_terminated"},
	{FRONT_NO_NAME, 4, 502, "Bad Gateway", "dns_error"},
	{FRONT_FULL, 1, 503, "Service Unavailable", "connection_limit_reached"},
	{FRONT_TOO_SLOW, 1, 408, "Request Timeout", NULL},
};

void front_init(struct front *f, bool wants_user)
{
	memset(f, 0, sizeof(*f));
	f->wants_user = wants_user;
}

const char *front_kind_str(enum front_kind kind)
{
	static const char *const words[] = {"unknown", "socks4", "socks5", "http"};

	return words[kind];
}

/* ---- replies ---- */

static void say(struct front *f, const void *data, size_t len)
{
	struct writer w = writer_of(f->reply, sizeof(f->reply));

	write_bytes(&w, data, len);
	f->reply_len = w.full ? 0 : w.len;
}

static void say_http(struct front *f, unsigned status, const char *phrase, const char *more)
{
	int n = snprintf(f->reply, sizeof(f->reply), "HTTP/1.1 %u %s\r\n%s%s\r\n", status, phrase,
			 more, status == 200 ? "" : "Content-Length: 0\r\nConnection: close\r\n");

	f->reply_len = n > 0 && (size_t)n < sizeof(f->reply) ? (size_t)n : 0;
}

static void say_http_result(struct front *f, size_t row)
{
	char more[96] = "";

	if (results[row].error)
		snprintf(more, sizeof(more), "Proxy-Status: sixpath-redir; error=%s\r\n",
			 results[row].error);
	say_http(f, results[row].status, results[row].phrase, more);
}

static void write_socks5(struct writer *w, uint8_t code, const struct s6_address *bound)
{
	write_u8(w, SOCKS5_VERSION);
	write_u8(w, code);
	write_u8(w, 0);
	write_u8(w, bound->type);
	write_bytes(w, bound->u.ip6, bound->type == S6_ADDR_IPV6 ? 16 : 4);
	write_u16(w, bound->port);
}

/* It has no place for an IPv6 address. */
static void write_socks4(struct writer *w, bool granted, const struct s6_address *bound)
{
	write_u8(w, 0);
	write_u8(w, granted ? SOCKS4_GRANTED : SOCKS4_REJECTED);
	write_u16(w, bound->port);
	if (bound->type == S6_ADDR_IPV4)
		write_bytes(w, bound->u.ip4, 4);
	else
		write_zeros(w, 4);
}

static size_t row_of(unsigned result)
{
	size_t n = sizeof(results) / sizeof(results[0]);

	for (size_t i = 0; i < n; i++)
		if (results[i].result == result)
			return i;
	return 1; /* what is unknown is a failure */
}

size_t front_reply(enum front_kind kind, unsigned result, const struct s6_address *bound, void *out,
		   size_t cap)
{
	static const struct s6_address none = {.type = S6_ADDR_IPV4};
	struct writer w = writer_of(out, cap);

	if (!bound)
		bound = &none;
	if (kind == FRONT_SOCKS4)
		write_socks4(&w, result == S6_REPLY_SUCCESS, bound);
	else if (kind == FRONT_SOCKS5)
		write_socks5(&w, results[row_of(result)].socks5, bound);
	return w.full ? 0 : w.len;
}

void front_answer(struct front *f, unsigned result)
{
	f->reply_len = 0;
	switch (f->kind) {
	case FRONT_SOCKS5:
		if (f->stage < STAGE_REQUEST) /* there is no place for a code */
			break;
		/* fall through */
	case FRONT_SOCKS4:
		f->reply_len = front_reply(f->kind, result, NULL, f->reply, sizeof(f->reply));
		break;
	case FRONT_HTTP:
		say_http_result(f, row_of(result));
		break;
	case FRONT_UNKNOWN:
		break;
	}
}

static enum front_verdict refuse(struct front *f, unsigned result)
{
	front_answer(f, result);
	return FRONT_REFUSED;
}

static enum front_verdict bad_request(struct front *f)
{
	say_http(f, 400, "Bad Request", "");
	return FRONT_REFUSED;
}

/* ---- destinations ---- */

static bool is_letter_or_digit(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* A name, or an address that is written like one. */
static bool take_host(struct s6_address *a, const uint8_t *text, size_t len)
{
	char host[S6_NAME_MAX + 1];

	memset(a, 0, sizeof(*a));
	if (len == 0 || len > S6_NAME_MAX || memchr(text, 0, len))
		return false;
	memcpy(host, text, len);
	host[len] = '\0';
	if (inet_pton(AF_INET, host, a->u.ip4) == 1) {
		a->type = S6_ADDR_IPV4;
		return true;
	}
	if (inet_pton(AF_INET6, host, a->u.ip6) == 1) {
		a->type = S6_ADDR_IPV6;
		return true;
	}
	for (size_t i = 0; i < len; i++)
		if (!is_letter_or_digit(text[i]) && !strchr("-._", host[i]))
			return false;
	a->type = S6_ADDR_NAME;
	a->name_len = (uint8_t)len;
	memset(&a->u, 0, sizeof(a->u));
	memcpy(a->u.name, host, len);
	return true;
}

/* ---- SOCKS 4 and 4a ---- */

/* Octets up to a NUL, which is consumed and does not count. */
static enum front_verdict read_text(struct reader *r, const uint8_t **text, size_t *len)
{
	const uint8_t *nul = r->left ? memchr(r->at, 0, r->left) : NULL;
	const uint8_t *rest;

	if (!nul)
		return FRONT_MORE;
	*len = (size_t)(nul - r->at);
	return read_bytes(r, *len, text) && read_bytes(r, 1, &rest) ? FRONT_REQUEST : FRONT_MORE;
}

static enum front_verdict feed_socks4(struct front *f, struct reader *r)
{
	uint8_t version, command;
	const uint8_t *ip, *text;
	uint16_t port;
	size_t len;

	if (!read_u8(r, &version) || !read_u8(r, &command) || !read_u16(r, &port) ||
	    !read_bytes(r, 4, &ip) || read_text(r, &text, &len) == FRONT_MORE)
		return FRONT_MORE;
	memset(&f->dst, 0, sizeof(f->dst));
	f->dst.type = S6_ADDR_IPV4;
	memcpy(f->dst.u.ip4, ip, 4);
	if (ip[0] == 0 && ip[1] == 0 && ip[2] == 0 && ip[3] != 0) { /* 4a */
		if (read_text(r, &text, &len) == FRONT_MORE)
			return FRONT_MORE;
		if (!take_host(&f->dst, text, len))
			return refuse(f, S6_REPLY_FAILURE);
	}
	f->dst.port = port;
	f->command = command;
	f->stage = STAGE_DONE;
	/* A password has no place in it. */
	if (f->wants_user || (command != S6_CMD_CONNECT && command != S6_CMD_BIND) ||
	    (command == S6_CMD_CONNECT && port == 0))
		return refuse(f, S6_REPLY_NOT_ALLOWED);
	return FRONT_REQUEST;
}

/* ---- SOCKS 5 ---- */

static enum front_verdict choose_method(struct front *f, struct reader *r)
{
	const uint8_t want = f->wants_user ? METHOD_USERPASS : METHOD_NONE;
	uint8_t version, n, reply[2] = {SOCKS5_VERSION, METHOD_NOT_FOUND};
	const uint8_t *methods;

	if (!read_u8(r, &version) || !read_u8(r, &n) || !read_bytes(r, n, &methods))
		return FRONT_MORE;
	if (n > 0 && memchr(methods, want, n)) {
		reply[1] = want;
		f->stage = f->wants_user ? STAGE_CREDENTIALS : STAGE_REQUEST;
	}
	say(f, reply, sizeof(reply));
	return reply[1] == want ? FRONT_SAY : FRONT_REFUSED;
}

static void keep(uint8_t *to, uint8_t *to_len, const uint8_t *from, size_t len)
{
	if (len > 0)
		memcpy(to, from, len);
	*to_len = (uint8_t)len;
}

static enum front_verdict read_credentials(struct front *f, struct reader *r)
{
	const uint8_t *user, *pass;
	uint8_t version, n, m;

	f->reply_len = 0;
	if (!read_u8(r, &version))
		return FRONT_MORE;
	if (version != SOCKS5_AUTH)
		return FRONT_REFUSED;
	if (!read_u8(r, &n) || !read_bytes(r, n, &user) || !read_u8(r, &m) ||
	    !read_bytes(r, m, &pass))
		return FRONT_MORE;
	keep(f->user, &f->user_len, user, n);
	keep(f->pass, &f->pass_len, pass, m);
	return FRONT_CHECK;
}

enum front_address front_read_address(struct reader *r, struct s6_address *a)
{
	const uint8_t *p;
	uint8_t type, n;

	memset(a, 0, sizeof(*a));
	if (!read_u8(r, &type))
		return FRONT_ADDRESS_SHORT;
	a->type = type;
	switch (type) {
	case S6_ADDR_IPV4:
		if (!read_bytes(r, 4, &p))
			return FRONT_ADDRESS_SHORT;
		memcpy(a->u.ip4, p, 4);
		break;
	case S6_ADDR_IPV6:
		if (!read_bytes(r, 16, &p))
			return FRONT_ADDRESS_SHORT;
		memcpy(a->u.ip6, p, 16);
		break;
	case S6_ADDR_NAME:
		if (!read_u8(r, &n) || !read_bytes(r, n, &p))
			return FRONT_ADDRESS_SHORT;
		if (!take_host(a, p, n))
			return FRONT_ADDRESS_BAD_NAME;
		break;
	default:
		return FRONT_ADDRESS_BAD_TYPE;
	}
	return read_u16(r, &a->port) ? FRONT_ADDRESS_OK : FRONT_ADDRESS_SHORT;
}

static enum front_verdict read_socks5_request(struct front *f, struct reader *r)
{
	uint8_t version, command, reserved;

	f->reply_len = 0;
	if (!read_u8(r, &version) || !read_u8(r, &command) || !read_u8(r, &reserved))
		return FRONT_MORE;
	if (version != SOCKS5_VERSION)
		return refuse(f, S6_REPLY_FAILURE);
	switch (front_read_address(r, &f->dst)) {
	case FRONT_ADDRESS_SHORT:
		return FRONT_MORE;
	case FRONT_ADDRESS_BAD_NAME:
		return refuse(f, S6_REPLY_FAILURE);
	case FRONT_ADDRESS_BAD_TYPE:
		return refuse(f, S6_REPLY_ADDR_UNSUPPORTED);
	case FRONT_ADDRESS_OK:
		break;
	}
	f->command = command;
	f->stage = STAGE_DONE;
	if (command < S6_CMD_CONNECT || command > S6_CMD_UDP_ASSOCIATE)
		return refuse(f, S6_REPLY_CMD_UNSUPPORTED);
	if (command == S6_CMD_CONNECT && f->dst.port == 0)
		return refuse(f, S6_REPLY_FAILURE);
	return FRONT_REQUEST;
}

static enum front_verdict feed_socks5(struct front *f, struct reader *r)
{
	switch (f->stage) {
	case STAGE_FIRST:
		return choose_method(f, r);
	case STAGE_CREDENTIALS:
		return read_credentials(f, r);
	default:
		return read_socks5_request(f, r);
	}
}

/* ---- HTTP ---- */

/* One line, without its end. */
static bool read_line(struct reader *r, struct reader *line)
{
	const uint8_t *end = r->left ? memchr(r->at, '\n', r->left) : NULL;
	const uint8_t *newline;

	if (!end || !read_sub(r, (size_t)(end - r->at), line) || !read_bytes(r, 1, &newline))
		return false;
	if (line->left > 0 && line->at[line->left - 1] == '\r')
		line->left--;
	return true;
}

/* The octets before c, which is consumed and does not count. */
static bool read_until(struct reader *r, uint8_t c, struct reader *out)
{
	const uint8_t *end = r->left ? memchr(r->at, c, r->left) : NULL;
	const uint8_t *skipped;

	return end && read_sub(r, (size_t)(end - r->at), out) && read_bytes(r, 1, &skipped);
}

static bool is_text(const struct reader *r, const char *text)
{
	return r->left == strlen(text) && memcmp(r->at, text, r->left) == 0;
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 'a' - 'A') : c;
}

static bool is_word(const struct reader *r, const char *word)
{
	if (r->left != strlen(word))
		return false;
	for (size_t i = 0; i < r->left; i++)
		if (lower(r->at[i]) != (uint8_t)word[i])
			return false;
	return true;
}

static void trim(struct reader *r)
{
	while (r->left > 0 && (*r->at == ' ' || *r->at == '\t')) {
		r->at++;
		r->left--;
	}
	while (r->left > 0 && (r->at[r->left - 1] == ' ' || r->at[r->left - 1] == '\t'))
		r->left--;
}

/* host:port, [v6]:port */
static bool take_authority(struct s6_address *a, struct reader r)
{
	struct reader host;
	unsigned port = 0;
	uint8_t c;

	if (r.left > 0 && *r.at == '[') {
		if (!read_u8(&r, &c) || !read_until(&r, ']', &host) || !read_u8(&r, &c) || c != ':')
			return false;
		if (!memchr(host.at, ':', host.left))
			return false;
	} else if (!read_until(&r, ':', &host)) {
		return false;
	}
	if (r.left == 0 || r.left > 5 || !take_host(a, host.at, host.left))
		return false;
	while (read_u8(&r, &c)) {
		if (c < '0' || c > '9')
			return false;
		port = port * 10 + (unsigned)(c - '0');
	}
	a->port = (uint16_t)port;
	return port >= 1 && port <= 65535;
}

static int base64_value(uint8_t c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* False for what is no base64, or does not fit. */
static bool read_base64(struct reader r, struct writer *w)
{
	uint32_t bits = 0;
	unsigned n = 0, pads = 0;
	uint8_t c;

	while (read_u8(&r, &c)) {
		int v = base64_value(c);

		if (c == '=' && ++pads <= 2)
			continue;
		if (v < 0 || pads > 0)
			return false;
		bits = (bits << 6 | (uint32_t)v) & 0xffffff;
		if (++n % 4 != 1)
			write_u8(w, (uint8_t)(bits >> (6 - 2 * ((n - 1) % 4))));
	}
	return n % 4 != 1 && !w->full;
}

/* Basic (RFC 7617). False if there is nothing that could be checked. */
static bool take_credentials(struct front *f, struct reader value)
{
	uint8_t text[2 * S6_USERPASS_MAX + 1];
	struct writer w = writer_of(text, sizeof(text));
	struct reader scheme, r, user;
	bool good;

	if (!read_until(&value, ' ', &scheme) || !is_word(&scheme, "basic"))
		return false;
	trim(&value);
	good = read_base64(value, &w);
	r = reader_of(text, good ? w.len : 0);
	good = good && read_until(&r, ':', &user) && user.left <= S6_USERPASS_MAX &&
	       r.left <= S6_USERPASS_MAX;
	if (good) {
		keep(f->user, &f->user_len, user.at, user.left);
		keep(f->pass, &f->pass_len, r.at, r.left);
	}
	explicit_bzero(text, sizeof(text));
	return good;
}

static enum front_verdict ask_for_user(struct front *f)
{
	say_http(f, 407, "Proxy Authentication Required",
		 "Proxy-Authenticate: Basic realm=\"sixpath\"\r\n");
	return FRONT_REFUSED;
}

/* False when it is not one. */
static bool take_header(struct front *f, struct reader line, bool *has_user)
{
	struct reader name;

	if (!read_until(&line, ':', &name) || name.left == 0)
		return false;
	for (size_t i = 0; i < name.left; i++)
		if (name.at[i] <= ' ' || name.at[i] > '~') /* also folded lines */
			return false;
	if (f->wants_user && is_word(&name, "proxy-authorization")) {
		trim(&line);
		*has_user = take_credentials(f, line);
	}
	return true;
}

static enum front_verdict read_head(struct front *f, struct reader head)
{
	struct reader line, method, target;
	bool has_user = false;

	if (!read_line(&head, &line) || !read_until(&line, ' ', &method) ||
	    !read_until(&line, ' ', &target) || line.left != 8 || memcmp(line.at, "HTTP/1.", 7))
		return bad_request(f);
	if (!is_text(&method, "CONNECT")) {
		say_http(f, 405, "Method Not Allowed", "Allow: CONNECT\r\n");
		return FRONT_REFUSED;
	}
	if (!take_authority(&f->dst, target))
		return bad_request(f);
	while (read_line(&head, &line) && line.left > 0)
		if (!take_header(f, line, &has_user))
			return bad_request(f);
	f->command = S6_CMD_CONNECT;
	f->stage = STAGE_DONE;
	if (!f->wants_user)
		return FRONT_REQUEST;
	return has_user ? FRONT_CHECK : ask_for_user(f);
}

/* Octets of the head with the empty line behind it, 0 = it is not whole. */
static size_t head_len(struct front *f, const struct reader *r)
{
	for (size_t i = f->searched; i < r->left; i++) {
		if (r->at[i] != '\n')
			continue;
		if ((i >= 1 && r->at[i - 1] == '\n') ||
		    (i >= 2 && r->at[i - 1] == '\r' && r->at[i - 2] == '\n'))
			return i + 1;
	}
	f->searched = r->left;
	return 0;
}

static enum front_verdict feed_http(struct front *f, struct reader *r)
{
	size_t len = head_len(f, r);
	struct reader head;

	if (len == 0 && r->left < FRONT_HEAD_MAX)
		return FRONT_MORE;
	if (len == 0 || len > FRONT_HEAD_MAX || !read_sub(r, len, &head)) {
		say_http(f, 431, "Request Header Fields Too Large", "");
		return FRONT_REFUSED;
	}
	return read_head(f, head);
}

/* ---- all of them ---- */

static enum front_kind kind_of(uint8_t first)
{
	if (first == 4)
		return FRONT_SOCKS4;
	if (first == SOCKS5_VERSION)
		return FRONT_SOCKS5;
	return first >= 'A' && first <= 'Z' ? FRONT_HTTP : FRONT_UNKNOWN;
}

enum front_verdict front_feed(struct front *f, const uint8_t *data, size_t len, size_t *used)
{
	struct reader r = reader_of(data, len);
	enum front_verdict v = FRONT_REFUSED;

	*used = 0;
	f->reply_len = 0;
	if (len == 0)
		return FRONT_MORE;
	if (f->kind == FRONT_UNKNOWN)
		f->kind = kind_of(data[0]);
	if (f->kind == FRONT_SOCKS4)
		v = feed_socks4(f, &r);
	else if (f->kind == FRONT_SOCKS5)
		v = feed_socks5(f, &r);
	else if (f->kind == FRONT_HTTP)
		v = feed_http(f, &r);
	if (v == FRONT_MORE && len >= FRONT_HEAD_MAX)
		v = refuse(f, S6_REPLY_FAILURE);
	if (v != FRONT_MORE)
		*used = len - r.left;
	return v;
}

enum front_verdict front_checked(struct front *f, bool good)
{
	const uint8_t reply[2] = {SOCKS5_AUTH, good ? 0 : 1};

	explicit_bzero(f->pass, sizeof(f->pass));
	f->pass_len = 0;
	if (f->kind == FRONT_HTTP)
		return good ? FRONT_REQUEST : ask_for_user(f);
	say(f, reply, sizeof(reply));
	if (!good)
		return FRONT_REFUSED;
	f->stage = STAGE_REQUEST;
	return FRONT_SAY;
}
