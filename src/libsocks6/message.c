/* SPDX-License-Identifier: MIT */
#include "libsocks6/s6_internal.h"

static enum s6_result bad(enum s6_fault *why, enum s6_fault fault)
{
	if (why)
		*why = fault;
	return S6_BAD;
}

/* Version, one octet and Options Length: how every message starts. */
static enum s6_result read_head(struct reader *r, uint8_t *octet, uint16_t *options_len,
				enum s6_fault *why)
{
	uint8_t version;

	if (!read_u8(r, &version))
		return S6_MORE;
	if (version != S6_VERSION)
		return bad(why, S6_FAULT_VERSION);
	if (!read_u8(r, octet) || !read_u16(r, options_len))
		return S6_MORE;
	if (*options_len > S6_OPTIONS_RECV_MAX || *options_len % 4 != 0)
		return bad(why, S6_FAULT_OPTIONS_LENGTH);
	return S6_OK;
}

/* Port, padding, type and address: the middle of requests and operation replies. */
static enum s6_result read_target(struct reader *r, struct s6_address *a, enum s6_fault *why)
{
	enum s6_fault fault = S6_FAULT_NONE;
	enum s6_result result;
	uint8_t padding, type;

	if (!read_u16(r, &a->port) || !read_u8(r, &padding) || !read_u8(r, &type))
		return S6_MORE;
	result = s6_address_read(r, type, a, &fault);
	return result == S6_BAD ? bad(why, fault) : result;
}

static enum s6_result read_options(struct reader *r, uint16_t len, enum s6_message in,
				   struct s6_options *o, enum s6_fault *why)
{
	enum s6_fault fault = S6_FAULT_NONE;
	struct reader options;

	if (!read_sub(r, len, &options))
		return S6_MORE;
	return s6_options_read(&options, in, o, &fault) ? S6_OK : bad(why, fault);
}

enum s6_result s6_request_parse(const void *buf, size_t len, struct s6_request *req, size_t *used,
				enum s6_fault *why)
{
	struct reader r = reader_of(buf, len);
	enum s6_result result;
	uint16_t options_len;

	memset(req, 0, sizeof(*req));
	result = read_head(&r, &req->command, &options_len, why);
	if (result == S6_OK)
		result = read_target(&r, &req->addr, why);
	if (result == S6_OK)
		result = read_options(&r, options_len, S6_IN_REQUEST, &req->opts, why);
	if (result != S6_OK)
		return result;
	if (req->command != S6_CMD_CONNECT)
		req->opts.initial_data_len = 0; /* R19 */
	if (req->opts.initial_data_len > S6_INITIAL_DATA_MAX)
		return bad(why, S6_FAULT_INITIAL_DATA); /* R20 */
	*used = len - r.left;
	return S6_OK;
}

enum s6_result s6_auth_reply_parse(const void *buf, size_t len, struct s6_auth_reply *reply,
				   size_t *used, enum s6_fault *why)
{
	struct reader r = reader_of(buf, len);
	enum s6_result result;
	uint16_t options_len;

	memset(reply, 0, sizeof(*reply));
	result = read_head(&r, &reply->type, &options_len, why);
	if (result == S6_OK)
		result = read_options(&r, options_len, S6_IN_AUTH_REPLY, &reply->opts, why);
	if (result == S6_OK)
		*used = len - r.left;
	return result;
}

enum s6_result s6_op_reply_parse(const void *buf, size_t len, struct s6_op_reply *reply,
				 size_t *used, enum s6_fault *why)
{
	struct reader r = reader_of(buf, len);
	enum s6_result result;
	uint16_t options_len;

	memset(reply, 0, sizeof(*reply));
	result = read_head(&r, &reply->code, &options_len, why);
	if (result == S6_OK)
		result = read_target(&r, &reply->bind, why);
	if (result == S6_OK)
		result = read_options(&r, options_len, S6_IN_OP_REPLY, &reply->opts, why);
	if (result == S6_OK)
		*used = len - r.left;
	return result;
}

#define OPTIONS_LENGTH_AT 2

/* Target NULL for authentication replies. */
static enum s6_result build(uint8_t octet, const struct s6_address *target, enum s6_message in,
			    const struct s6_options *o, void *buf, size_t cap, size_t *len)
{
	struct writer w = writer_of(buf, cap);
	size_t start;

	write_u8(&w, S6_VERSION);
	write_u8(&w, octet);
	write_u16(&w, 0);
	if (target) {
		write_u16(&w, target->port);
		write_u8(&w, 0);
		write_u8(&w, target->type);
		if (!s6_address_write(&w, target))
			return S6_BAD;
	}
	start = w.len;
	if (!s6_options_write(&w, in, o))
		return S6_BAD;
	if (w.full)
		return S6_MORE;
	write_u16_at(&w, OPTIONS_LENGTH_AT, (uint16_t)(w.len - start));
	*len = w.len;
	return S6_OK;
}

enum s6_result s6_request_build(const struct s6_request *req, void *buf, size_t cap, size_t *len)
{
	return build(req->command, &req->addr, S6_IN_REQUEST, &req->opts, buf, cap, len);
}

enum s6_result s6_auth_reply_build(const struct s6_auth_reply *reply, void *buf, size_t cap,
				   size_t *len)
{
	return build(reply->type, NULL, S6_IN_AUTH_REPLY, &reply->opts, buf, cap, len);
}

enum s6_result s6_op_reply_build(const struct s6_op_reply *reply, void *buf, size_t cap,
				 size_t *len)
{
	return build(reply->code, &reply->bind, S6_IN_OP_REPLY, &reply->opts, buf, cap, len);
}
