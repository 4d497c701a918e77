/* SPDX-License-Identifier: MIT */
/*
 * Compares what two structures of libsocks6 mean: NULL if the same, else the name of the first
 * field that differs. Padding that only one of them counts does not matter.
 */
#ifndef TEST_S6_DIFFER_H
#define TEST_S6_DIFFER_H

#include <string.h>

#include "libsocks6/socks6.h"

#define DIFFER_IF(x, what)                                                                         \
	do {                                                                                       \
		if (x)                                                                             \
			return what;                                                               \
	} while (0)
#define DIFFER(field) DIFFER_IF(x->field != y->field, #field)

/* The longer one may go on with zeros. */
static inline bool differ_padded(const uint8_t *x, size_t x_len, const uint8_t *y, size_t y_len)
{
	size_t common = x_len < y_len ? x_len : y_len;

	for (size_t i = 0; i < common; i++)
		if (x[i] != y[i])
			return true;
	for (size_t i = common; i < x_len; i++)
		if (x[i] != 0)
			return true;
	for (size_t i = common; i < y_len; i++)
		if (y[i] != 0)
			return true;
	return false;
}

static inline const char *differ_address(const struct s6_address *x, const struct s6_address *y)
{
	DIFFER(type);
	DIFFER(port);
	if (x->type == S6_ADDR_IPV4)
		DIFFER_IF(memcmp(x->u.ip4, y->u.ip4, sizeof(x->u.ip4)), "ip4");
	if (x->type == S6_ADDR_IPV6)
		DIFFER_IF(memcmp(x->u.ip6, y->u.ip6, sizeof(x->u.ip6)), "ip6");
	if (x->type == S6_ADDR_NAME) {
		DIFFER(name_len);
		DIFFER_IF(memcmp(x->u.name, y->u.name, x->name_len + 1u), "name");
	}
	return NULL;
}

static inline const char *differ_stack(const struct s6_stack *x, const struct s6_stack *y)
{
	DIFFER(present);
	for (unsigned id = 0; id < S6_STACK_COUNT; id++)
		if (s6_stack_has(x, (enum s6_stack_id)id))
			DIFFER_IF(x->value[id] != y->value[id], s6_stack_str((enum s6_stack_id)id));
	return NULL;
}

static inline const char *differ_auth_data(const struct s6_options *x, const struct s6_options *y)
{
	DIFFER(n_auth_data);
	for (size_t i = 0; i < x->n_auth_data; i++) {
		DIFFER(auth_data[i].method);
		DIFFER_IF(differ_padded(x->auth_data[i].data, x->auth_data[i].len,
					y->auth_data[i].data, y->auth_data[i].len),
			  "auth_data");
	}
	return NULL;
}

static inline const char *differ_options(const struct s6_options *x, const struct s6_options *y)
{
	const char *what = differ_stack(&x->stack, &y->stack);

	DIFFER_IF(what, what);
	DIFFER(has_methods);
	DIFFER(initial_data_len);
	for (unsigned method = 0; method < 256; method++)
		DIFFER_IF(s6_methods_has(x, (uint8_t)method) != s6_methods_has(y, (uint8_t)method),
			  "methods");
	DIFFER(has_selection);
	DIFFER(selection);
	what = differ_auth_data(x, y);
	DIFFER_IF(what, what);
	DIFFER(session_request);
	DIFFER(session_id_len);
	DIFFER_IF(differ_padded(x->session_id, x->session_id_len, y->session_id, y->session_id_len),
		  "session_id");
	DIFFER(session_ok);
	DIFFER(session_invalid);
	DIFFER(session_teardown);
	DIFFER(has_token_request);
	DIFFER(token_request);
	DIFFER(has_token_window);
	DIFFER(token_base);
	DIFFER(token_size);
	DIFFER(has_token_spend);
	DIFFER(token_spend);
	DIFFER(token_accepted);
	DIFFER(token_rejected);
	return NULL;
}

static inline const char *differ_request(const struct s6_request *x, const struct s6_request *y)
{
	const char *what = differ_address(&x->addr, &y->addr);

	DIFFER(command);
	return what ? what : differ_options(&x->opts, &y->opts);
}

static inline const char *differ_auth_reply(const struct s6_auth_reply *x,
					    const struct s6_auth_reply *y)
{
	DIFFER(type);
	return differ_options(&x->opts, &y->opts);
}

static inline const char *differ_op_reply(const struct s6_op_reply *x, const struct s6_op_reply *y)
{
	const char *what = differ_address(&x->bind, &y->bind);

	DIFFER(code);
	return what ? what : differ_options(&x->opts, &y->opts);
}

static inline const char *differ_udp(const struct s6_udp *x, const struct s6_udp *y)
{
	const char *what = NULL;

	DIFFER(type);
	DIFFER(association);
	DIFFER(payload_len);
	DIFFER_IF(x->payload_len && memcmp(x->payload, y->payload, x->payload_len), "payload");
	DIFFER(error);
	DIFFER(mtu);
	if (x->type == S6_UDP_DATAGRAM || x->type == S6_UDP_ERROR)
		what = differ_address(&x->addr, &y->addr);
	if (!what && x->type == S6_UDP_ERROR)
		what = differ_address(&x->reporter, &y->reporter);
	return what;
}

/* The fields of the last message parsed may differ from the one built; say which, and stop. */
#define assert_same(what)                                                                          \
	do {                                                                                       \
		const char *field_ = (what);                                                       \
		if (field_)                                                                        \
			fail_msg("%s differs", field_);                                            \
	} while (0)

#endif
