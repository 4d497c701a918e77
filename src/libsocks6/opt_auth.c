/* SPDX-License-Identifier: MIT */
#include "libsocks6/s6_internal.h"

static size_t padding_for(size_t n)
{
	return (4 - n % 4) % 4;
}

bool s6_methods_read(struct reader *r, enum s6_message in, struct s6_options *o)
{
	const uint8_t *p;
	size_t n;

	(void)in;
	if (!read_u16(r, &o->initial_data_len))
		return false;
	n = r->left;
	if (!read_bytes(r, n, &p))
		return false;
	o->has_methods = true;
	o->methods = p;
	o->methods_len = (uint16_t)n;
	for (size_t i = 0; i < n; i++)
		if (p[i] != S6_METHOD_NONE && o->n_methods < UINT8_MAX)
			o->n_methods++;
	return true;
}

bool s6_methods_write(struct writer *w, enum s6_message in, const struct s6_options *o)
{
	size_t n = o->methods_len ? o->methods_len : o->n_methods;
	size_t padding = padding_for(2 + n);

	(void)in;
	if (!o->has_methods)
		return true;
	if (o->initial_data_len > S6_INITIAL_DATA_MAX)
		return false;
	s6_option_header(w, S6_KIND_AUTH_METHODS, 2 + n + padding);
	write_u16(w, o->initial_data_len);
	write_bytes(w, o->methods, n);
	write_zeros(w, padding);
	return true;
}

bool s6_methods_has(const struct s6_options *o, uint8_t method)
{
	size_t n = o->methods_len ? o->methods_len : o->n_methods;

	if (method == S6_METHOD_NONE)
		return true;
	return o->has_methods && n > 0 && memchr(o->methods, method, n) != NULL;
}

bool s6_selection_read(struct reader *r, enum s6_message in, struct s6_options *o)
{
	uint8_t method;

	(void)in;
	if (!read_u8(r, &method))
		return false;
	if (!o->has_selection) {
		o->has_selection = true;
		o->selection = method;
	}
	return true;
}

bool s6_selection_write(struct writer *w, enum s6_message in, const struct s6_options *o)
{
	(void)in;
	if (!o->has_selection)
		return true;
	s6_option_header(w, S6_KIND_AUTH_SELECT, 4);
	write_u8(w, o->selection);
	write_zeros(w, 3);
	return true;
}

/* Clients send at most one per method (section 6.2, R11). */
bool s6_auth_data_read(struct reader *r, enum s6_message in, struct s6_options *o)
{
	struct s6_auth_data d;
	size_t n;

	if (!read_u8(r, &d.method))
		return false;
	n = r->left;
	d.len = (uint16_t)n;
	if (!read_bytes(r, n, &d.data))
		return false;
	for (size_t i = 0; i < o->n_auth_data; i++) {
		if (o->auth_data[i].method != d.method)
			continue;
		if (in == S6_IN_REQUEST && o->refuse == S6_FAULT_NONE)
			o->refuse = S6_FAULT_REPEATED;
		return true;
	}
	if (o->n_auth_data < S6_AUTH_DATA_MAX)
		o->auth_data[o->n_auth_data++] = d;
	return true;
}

bool s6_auth_data_write(struct writer *w, enum s6_message in, const struct s6_options *o)
{
	(void)in;
	if (o->n_auth_data > S6_AUTH_DATA_MAX)
		return false;
	for (size_t i = 0; i < o->n_auth_data; i++) {
		const struct s6_auth_data *d = &o->auth_data[i];
		size_t padding = padding_for(1u + d->len);

		if (d->len == 0)
			return false;
		s6_option_header(w, S6_KIND_AUTH_DATA, 1 + d->len + padding);
		write_u8(w, d->method);
		write_bytes(w, d->data, d->len);
		write_zeros(w, padding);
	}
	return true;
}

#define USERPASS_VERSION 1

enum s6_result s6_userpass_parse(const struct s6_auth_data *data, struct s6_userpass *up)
{
	struct reader r = reader_of(data->data, data->len);
	uint8_t version;

	if (data->method != S6_METHOD_USERPASS || !read_u8(&r, &version) ||
	    version != USERPASS_VERSION || !read_u8(&r, &up->user_len) ||
	    !read_bytes(&r, up->user_len, &up->user) || !read_u8(&r, &up->pass_len) ||
	    !read_bytes(&r, up->pass_len, &up->pass))
		return S6_BAD;
	/* What is left must be the padding, which is shorter than 4 octets. */
	return up->user_len > 0 && up->pass_len > 0 && r.left < 4 ? S6_OK : S6_BAD;
}

enum s6_result s6_userpass_build(const struct s6_userpass *up, void *buf, size_t cap, size_t *len)
{
	struct writer w = writer_of(buf, cap);

	if (up->user_len == 0 || up->pass_len == 0)
		return S6_BAD;
	write_u8(&w, USERPASS_VERSION);
	write_u8(&w, up->user_len);
	write_bytes(&w, up->user, up->user_len);
	write_u8(&w, up->pass_len);
	write_bytes(&w, up->pass, up->pass_len);
	write_zeros(&w, padding_for(1 + w.len));
	if (w.full)
		return S6_MORE;
	*len = w.len;
	return S6_OK;
}

enum s6_result s6_userpass_status_parse(const struct s6_auth_data *data, uint8_t *status)
{
	struct reader r = reader_of(data->data, data->len);
	uint8_t version;

	if (data->method != S6_METHOD_USERPASS || !read_u8(&r, &version) ||
	    version != USERPASS_VERSION || !read_u8(&r, status))
		return S6_BAD;
	return r.left < 4 ? S6_OK : S6_BAD;
}

void s6_userpass_status_build(uint8_t status, uint8_t out[3])
{
	out[0] = USERPASS_VERSION;
	out[1] = status;
	out[2] = 0;
}
