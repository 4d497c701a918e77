/* SPDX-License-Identifier: MIT */
/* UDP association messages, section 8. */
#include "libsocks6/s6_internal.h"

/* Type, padding, port, address: note the order, which differs from requests. */
static bool read_target(struct reader *r, struct s6_address *a, enum s6_fault *why)
{
	uint8_t type, padding;
	enum s6_result result;

	*why = S6_FAULT_UDP_LENGTH;
	if (!read_u8(r, &type) || !read_u8(r, &padding) || !read_u16(r, &a->port))
		return false;
	result = s6_address_read(r, type, a, why);
	return result == S6_OK;
}

static bool is_numeric(const struct s6_address *a)
{
	return a->type == S6_ADDR_IPV4 || a->type == S6_ADDR_IPV6;
}

static bool read_error(struct reader *r, struct s6_udp *msg, enum s6_fault *why)
{
	uint16_t padding;
	uint8_t type;

	if (!read_target(r, &msg->addr, why))
		return false;
	*why = S6_FAULT_UDP_LENGTH;
	if (!read_u8(r, &type) || !read_u8(r, &msg->error) || !read_u16(r, &padding))
		return false;
	if (s6_address_read(r, type, &msg->reporter, why) != S6_OK)
		return false;
	*why = S6_FAULT_ADDRESS_TYPE;
	if (!is_numeric(&msg->addr) || !is_numeric(&msg->reporter))
		return false;
	if (msg->error != S6_UDP_ERR_TOO_BIG || !read_u32(r, &msg->mtu))
		msg->mtu = 0;
	return true;
}

/* The body of a message; unknown types have none that we know. */
static bool read_body(struct reader *r, struct s6_udp *msg, enum s6_fault *why)
{
	if (msg->type == S6_UDP_ERROR)
		return read_error(r, msg, why);
	if (msg->type != S6_UDP_DATAGRAM)
		return true;
	if (!read_target(r, &msg->addr, why))
		return false;
	msg->payload_len = (uint16_t)r->left;
	return read_bytes(r, r->left, &msg->payload);
}

static enum s6_result bad(enum s6_fault *why, enum s6_fault fault)
{
	if (why)
		*why = fault;
	return S6_BAD;
}

enum s6_result s6_udp_parse_stream(const void *buf, size_t len, struct s6_udp *msg, size_t *used,
				   enum s6_fault *why)
{
	struct reader r = reader_of(buf, len), body;
	enum s6_fault fault = S6_FAULT_NONE;
	uint8_t version;
	uint16_t length;

	memset(msg, 0, sizeof(*msg));
	if (!read_u8(&r, &version))
		return S6_MORE;
	if (version != S6_VERSION)
		return bad(why, S6_FAULT_VERSION);
	if (!read_u8(&r, &msg->type) || !read_u16(&r, &length))
		return S6_MORE;
	if (length < S6_UDP_HEADER)
		return bad(why, S6_FAULT_UDP_LENGTH);
	if (!read_sub(&r, length - 4u, &body))
		return S6_MORE;
	if (!read_u64(&body, &msg->association) || !read_body(&body, msg, &fault))
		return bad(why, fault);
	*used = length;
	return S6_OK;
}

enum s6_result s6_udp_parse_packet(const void *buf, size_t len, struct s6_udp *msg,
				   enum s6_fault *why)
{
	size_t used;
	enum s6_result result = s6_udp_parse_stream(buf, len, msg, &used, why);

	if (result == S6_MORE) /* Message Length is larger than the packet */
		return bad(why, S6_FAULT_UDP_LENGTH);
	if (result == S6_OK && (msg->type < S6_UDP_INIT || msg->type > S6_UDP_ERROR))
		return bad(why, S6_FAULT_UDP_TYPE); /* R35 */
	return result;
}

static bool write_target(struct writer *w, const struct s6_address *a)
{
	write_u8(w, a->type);
	write_u8(w, 0);
	write_u16(w, a->port);
	return s6_address_write(w, a);
}

static bool write_body(struct writer *w, const struct s6_udp *msg)
{
	switch (msg->type) {
	case S6_UDP_INIT:
	case S6_UDP_CONFIRM:
		return true;
	case S6_UDP_DATAGRAM:
		return write_target(w, &msg->addr);
	case S6_UDP_ERROR:
		if (!is_numeric(&msg->addr) || !is_numeric(&msg->reporter) ||
		    !write_target(w, &msg->addr))
			return false;
		write_u8(w, msg->reporter.type);
		write_u8(w, msg->error);
		write_u16(w, 0);
		if (!s6_address_write(w, &msg->reporter))
			return false;
		if (msg->error == S6_UDP_ERR_TOO_BIG && msg->mtu)
			write_u32(w, msg->mtu);
		return true;
	default:
		return false;
	}
}

#define LENGTH_AT 2

enum s6_result s6_udp_build(const struct s6_udp *msg, void *buf, size_t cap, size_t *len)
{
	struct writer w = writer_of(buf, cap);
	size_t payload = msg->type == S6_UDP_DATAGRAM ? msg->payload_len : 0;

	write_u8(&w, S6_VERSION);
	write_u8(&w, msg->type);
	write_u16(&w, 0);
	write_u64(&w, msg->association);
	if (!write_body(&w, msg))
		return S6_BAD;
	if (payload > UINT16_MAX - w.len)
		return S6_BAD;
	write_u16_at(&w, LENGTH_AT, (uint16_t)(w.len + payload));
	if (msg->payload)
		write_bytes(&w, msg->payload, payload);
	if (w.full)
		return S6_MORE;
	*len = w.len;
	return S6_OK;
}
