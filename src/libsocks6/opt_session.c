/* SPDX-License-Identifier: MIT */
#include "libsocks6/s6_internal.h"

bool s6_session_id_read(struct reader *r, enum s6_message in, struct s6_options *o)
{
	size_t n = r->left;

	(void)in;
	o->session_id_len = (uint16_t)n;
	return read_bytes(r, n, &o->session_id);
}

bool s6_session_id_write(struct writer *w, enum s6_message in, const struct s6_options *o)
{
	(void)in;
	if (o->session_id_len == 0)
		return true;
	if (o->session_id_len > S6_SESSION_ID_MAX || o->session_id_len % 4 != 0)
		return false;
	s6_option_header(w, S6_KIND_SESSION_ID, o->session_id_len);
	write_bytes(w, o->session_id, o->session_id_len);
	return true;
}

/* A wish for 0 tokens is no wish; one for too many is clipped by the proxy (R29). */
bool s6_token_request_read(struct reader *r, enum s6_message in, struct s6_options *o)
{
	(void)in;
	if (!read_u32(r, &o->token_request))
		return false;
	o->has_token_request = o->token_request > 0;
	return true;
}

bool s6_token_request_write(struct writer *w, enum s6_message in, const struct s6_options *o)
{
	(void)in;
	if (!o->has_token_request)
		return true;
	s6_option_header(w, S6_KIND_TOKEN_REQUEST, 4);
	write_u32(w, o->token_request);
	return o->token_request > 0;
}

bool s6_token_window_read(struct reader *r, enum s6_message in, struct s6_options *o)
{
	uint32_t base, size;

	(void)in;
	if (!read_u32(r, &base) || !read_u32(r, &size))
		return false;
	if (o->has_token_window || size == 0 || size > S6_WINDOW_MAX)
		return true; /* R11, R29 */
	o->has_token_window = true;
	o->token_base = base;
	o->token_size = size;
	return true;
}

bool s6_token_window_write(struct writer *w, enum s6_message in, const struct s6_options *o)
{
	(void)in;
	if (!o->has_token_window)
		return true;
	s6_option_header(w, S6_KIND_TOKEN_WINDOW, 8);
	write_u32(w, o->token_base);
	write_u32(w, o->token_size);
	return o->token_size > 0 && o->token_size <= S6_WINDOW_MAX;
}

bool s6_token_spend_read(struct reader *r, enum s6_message in, struct s6_options *o)
{
	(void)in;
	o->has_token_spend = read_u32(r, &o->token_spend);
	return o->has_token_spend;
}

bool s6_token_spend_write(struct writer *w, enum s6_message in, const struct s6_options *o)
{
	(void)in;
	if (!o->has_token_spend)
		return true;
	s6_option_header(w, S6_KIND_TOKEN_SPEND, 4);
	write_u32(w, o->token_spend);
	return true;
}
