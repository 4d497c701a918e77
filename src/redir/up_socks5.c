/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/up_socks5.h"

#include <string.h>

#include "core/s6glue.h"
#include "libsocks6/cursor.h"

#define VERSION      5
#define AUTH_VERSION 1 /* RFC 1929 */

/* Whose reply comes next. */
enum up_socks5_step { STEP_METHOD, STEP_CREDENTIALS, STEP_REQUEST };

static void write_text(struct writer *w, const char *text)
{
	size_t len = strlen(text); /* at most 255: the configuration says so */

	write_u8(w, (uint8_t)len);
	write_bytes(w, text, len);
}

static bool write_destination(struct writer *w, const struct up_request *rq)
{
	struct s6_address a;

	s6glue_from_addr(&a, rq->dst);
	if (rq->name && !s6glue_from_name(&a, rq->name, addr_port(rq->dst)))
		return false;
	write_u8(w, a.type); /* the numbers are the same */
	if (a.type == S6_ADDR_NAME)
		write_text(w, a.u.name);
	else
		write_bytes(w, a.u.ip6, a.type == S6_ADDR_IPV4 ? 4 : 16);
	write_u16(w, a.port);
	return true;
}

bool up_socks5_request(struct up_socks6 *u, const struct up_request *rq, uint8_t *out, size_t *len)
{
	const struct upstream *up = rq->chain->hop[0].up;
	bool has_user = up->username && up->password;
	struct writer w = writer_of(out, UP_REQUEST_MAX);
	bool good = true;

	u->s5.command = rq->command;
	u->s5.pipeline = (uint8_t)up->pipeline;
	/* One method only: what is sent behind it at once has to fit. */
	u->s5.method = has_user ? S6_METHOD_USERPASS : S6_METHOD_NONE;
	write_u8(&w, VERSION);
	write_u8(&w, 1);
	write_u8(&w, u->s5.method);
	u->s5.greeting_len = (uint16_t)w.len;
	if (has_user) {
		write_u8(&w, AUTH_VERSION);
		write_text(&w, up->username);
		write_text(&w, up->password);
	}
	u->s5.credentials_len = (uint16_t)(w.len - u->s5.greeting_len);
	if (rq->command == S6_CMD_CONNECT) {
		write_u8(&w, VERSION);
		write_u8(&w, S6_CMD_CONNECT);
		write_u8(&w, 0);
		good = write_destination(&w, rq);
	}
	good = good && !w.full;
	*len = good ? w.len : 0;
	return good;
}

size_t up_socks5_released(const struct up_socks6 *u, size_t len)
{
	if (u->s5.pipeline != PIPELINE_NO || u->s5.step == STEP_REQUEST)
		return len;
	return (size_t)u->s5.greeting_len +
	       (u->s5.step == STEP_CREDENTIALS ? u->s5.credentials_len : 0);
}

static enum up_verdict not_socks5(struct up_hop *h)
{
	h->fault = S6_FAULT_VERSION;
	return UP_NOT_SOCKS6;
}

static enum up_verdict malformed(struct up_hop *h, enum s6_fault fault)
{
	h->fault = fault;
	return UP_MALFORMED;
}

/* From here on it acts on the request. */
static enum up_verdict authenticated(struct up_socks6 *u)
{
	struct up_hop *h = up_socks6_hop(u);

	u->s5.step = STEP_REQUEST;
	if (u->s5.command == S6_CMD_NOOP) {
		h->wait = UP_WAIT_NOTHING;
		return UP_READY;
	}
	h->wait = UP_WAIT_OP;
	return UP_AUTHENTICATED;
}

static enum up_verdict read_method(struct up_socks6 *u, struct reader *r)
{
	uint8_t version, method;

	if (!read_u8(r, &version))
		return UP_MORE;
	if (version != VERSION)
		return not_socks5(up_socks6_hop(u));
	if (!read_u8(r, &method))
		return UP_MORE;
	if (method != u->s5.method)
		return UP_AUTH_REFUSED;
	if (method == S6_METHOD_NONE)
		return authenticated(u);
	u->s5.step = STEP_CREDENTIALS;
	return UP_MORE;
}

static enum up_verdict read_status(struct up_socks6 *u, struct reader *r)
{
	uint8_t version, status;

	if (!read_u8(r, &version))
		return UP_MORE;
	if (version != AUTH_VERSION)
		return not_socks5(up_socks6_hop(u));
	if (!read_u8(r, &status))
		return UP_MORE;
	return status == 0 ? authenticated(u) : UP_AUTH_REFUSED;
}

/* 6 is what servers say when nobody answers: SOCKS 5 has no code for it. */
static uint8_t code_of(uint8_t rep)
{
	if (rep == S6_REPLY_TTL_EXPIRED)
		return S6_REPLY_TIMED_OUT;
	return rep <= S6_REPLY_ADDR_UNSUPPORTED ? rep : S6_REPLY_FAILURE;
}

static enum up_verdict read_reply(struct up_socks6 *u, struct reader *r)
{
	struct up_hop *h = up_socks6_hop(u);
	uint8_t version, rep, reserved, type, n;
	const uint8_t *bound;

	if (!read_u8(r, &version))
		return UP_MORE;
	if (version != VERSION)
		return malformed(h, S6_FAULT_VERSION);
	if (!read_u8(r, &rep) || !read_u8(r, &reserved) || !read_u8(r, &type))
		return UP_MORE;
	if (type == S6_ADDR_IPV4) {
		n = 4;
	} else if (type == S6_ADDR_IPV6) {
		n = 16;
	} else if (type != S6_ADDR_NAME) {
		return malformed(h, S6_FAULT_ADDRESS_TYPE);
	} else if (!read_u8(r, &n)) {
		return UP_MORE;
	}
	if (!read_bytes(r, (size_t)n + 2, &bound))
		return UP_MORE;
	h->wait = UP_WAIT_NOTHING;
	h->code = code_of(rep);
	return h->code == S6_REPLY_SUCCESS ? UP_READY : UP_REPLY;
}

enum up_verdict up_socks5_feed(struct up_socks6 *u, const uint8_t *data, size_t len, size_t *used)
{
	struct reader r = reader_of(data, len);
	enum up_verdict v = UP_MORE;
	unsigned step;

	*used = 0;
	if (up_socks6_hop(u)->wait == UP_WAIT_NOTHING)
		return UP_READY;
	do { /* the reply to the credentials may have come with that to the method */
		step = u->s5.step;
		if (step == STEP_METHOD)
			v = read_method(u, &r);
		else if (step == STEP_CREDENTIALS)
			v = read_status(u, &r);
		else
			v = read_reply(u, &r);
		if (v != UP_MORE || u->s5.step != step)
			*used = len - r.left;
	} while (v == UP_MORE && u->s5.step != step);
	return v;
}
