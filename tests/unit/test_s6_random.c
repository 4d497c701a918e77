/* SPDX-License-Identifier: MIT */
/*
 * Properties over random messages from a fixed seed: what is built is parsed to the same, needs
 * more at every shorter length, and fits exactly the buffer it needs. The seed of a failing
 * message is printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "libsocks6/socks6.h"
#include "s6_differ.h"
#include "s6_hex.h"

#define FIRST_SEED 20261121u
#define MESSAGES   4000

/* One random message and what its pointers point to. */
struct sample {
	uint32_t random;
	uint8_t methods[32];
	uint8_t auth_data[S6_AUTH_DATA_MAX][64];
	uint8_t session_id[256];
	uint8_t payload[600];
};

/* xorshift: the same numbers everywhere. */
static uint32_t next(struct sample *s)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 17;
	s->random ^= s->random << 5;
	return s->random;
}

static uint32_t below(struct sample *s, uint32_t n)
{
	return (next(s) >> 3) % n;
}

static bool maybe(struct sample *s)
{
	return below(s, 2);
}

static void fill(struct sample *s, uint8_t *p, size_t n, bool zeros)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(zeros ? next(s) >> 7 : 1 + below(s, 255));
}

static void random_address(struct sample *s, struct s6_address *a, bool names)
{
	static const uint8_t types[] = {S6_ADDR_IPV4, S6_ADDR_IPV6, S6_ADDR_NAME};

	a->type = types[below(s, names ? 3 : 2)];
	a->port = (uint16_t)next(s);
	if (a->type == S6_ADDR_IPV4)
		fill(s, a->u.ip4, sizeof(a->u.ip4), true);
	else if (a->type == S6_ADDR_IPV6)
		fill(s, a->u.ip6, sizeof(a->u.ip6), true);
	else
		fill(s, (uint8_t *)a->u.name, a->name_len = (uint8_t)(1 + below(s, 255)), false);
}

static uint16_t random_value(struct sample *s, enum s6_stack_id id)
{
	switch (id) {
	case S6_STACK_TOS_CLIENT:
	case S6_STACK_TOS_REMOTE:
	case S6_STACK_TTL_CLIENT:
	case S6_STACK_TTL_REMOTE:
		return (uint16_t)below(s, maybe(s) ? 2 : 256); /* often the same on both legs */
	case S6_STACK_TFO:
	case S6_STACK_BACKLOG:
		return (uint16_t)next(s);
	case S6_STACK_PORT_PARITY:
		return (uint16_t)(below(s, 3) << 8 | below(s, 2));
	default:
		return (uint16_t)(1 + below(s, 2));
	}
}

static void random_stack(struct sample *s, struct s6_options *o)
{
	for (int id = 0; id < S6_STACK_COUNT; id++)
		if (maybe(s))
			s6_stack_set(&o->stack, (enum s6_stack_id)id,
				     random_value(s, (enum s6_stack_id)id));
}

static void random_auth_data(struct sample *s, struct s6_options *o)
{
	o->n_auth_data = (uint8_t)below(s, S6_AUTH_DATA_MAX + 1);
	for (unsigned i = 0; i < o->n_auth_data; i++) {
		struct s6_auth_data *d = &o->auth_data[i];

		d->method = (uint8_t)(i * 64 + below(s, 64)); /* all different */
		d->len = (uint16_t)(1 + below(s, sizeof(s->auth_data[i])));
		d->data = s->auth_data[i];
		fill(s, s->auth_data[i], d->len, true);
	}
}

static void random_session_id(struct sample *s, struct s6_options *o)
{
	o->session_id_len = (uint16_t)(4 * below(s, sizeof(s->session_id) / 4 + 1));
	o->session_id = s->session_id;
	fill(s, s->session_id, o->session_id_len, true);
}

static void random_request(struct sample *s, struct s6_request *r)
{
	struct s6_options *o = &r->opts;

	r->command = (uint8_t)(maybe(s) ? S6_CMD_CONNECT : next(s));
	random_address(s, &r->addr, true);
	random_stack(s, o);
	o->has_methods = maybe(s);
	if (o->has_methods) {
		if (r->command == S6_CMD_CONNECT)
			o->initial_data_len = (uint16_t)below(s, S6_INITIAL_DATA_MAX + 1);
		o->n_methods = (uint8_t)below(s, sizeof(s->methods) + 1);
		o->methods = s->methods;
		fill(s, s->methods, o->n_methods, false);
	}
	random_auth_data(s, o);
	o->session_request = maybe(s);
	random_session_id(s, o);
	o->session_teardown = maybe(s);
	o->has_token_request = maybe(s);
	if (o->has_token_request)
		o->token_request = next(s); /* never 0 */
	o->has_token_spend = maybe(s);
	if (o->has_token_spend)
		o->token_spend = next(s);
}

static void random_auth_reply(struct sample *s, struct s6_auth_reply *r)
{
	struct s6_options *o = &r->opts;

	r->type = (uint8_t)below(s, 3);
	o->has_selection = maybe(s);
	if (o->has_selection)
		o->selection = (uint8_t)next(s);
	random_auth_data(s, o);
	random_session_id(s, o);
	o->session_ok = maybe(s);
	o->session_invalid = maybe(s);
	o->has_token_window = maybe(s);
	if (o->has_token_window) {
		o->token_base = next(s);
		o->token_size = 1 + below(s, S6_WINDOW_MAX);
	}
	o->token_accepted = maybe(s);
	o->token_rejected = maybe(s);
}

static void random_op_reply(struct sample *s, struct s6_op_reply *r)
{
	r->code = (uint8_t)below(s, 12);
	random_address(s, &r->bind, true);
	random_stack(s, &r->opts);
	random_session_id(s, &r->opts);
}

static void random_udp(struct sample *s, struct s6_udp *m)
{
	m->type = (uint8_t)(S6_UDP_INIT + below(s, 4));
	m->association = (uint64_t)next(s) << 32 | next(s);
	if (m->type == S6_UDP_DATAGRAM) {
		random_address(s, &m->addr, true);
		m->payload_len = (uint16_t)below(s, sizeof(s->payload));
		m->payload = s->payload;
		fill(s, s->payload, m->payload_len, true);
	} else if (m->type == S6_UDP_ERROR) {
		random_address(s, &m->addr, false);
		random_address(s, &m->reporter, false);
		m->reporter.port = 0;
		m->error = (uint8_t)(1 + below(s, 4));
	}
}

/* What is the same for all messages; TYPE is the structure, NAME the middle of the names. */
#define DEFINE_TEST(NAME, TYPE, PARSE)                                                             \
	static void check_##NAME(uint32_t seed)                                                    \
	{                                                                                          \
		struct sample s = {.random = seed};                                                \
		TYPE want, got;                                                                    \
		size_t len = 0, used = 4711, none = 4711;                                          \
		uint8_t big[4096], *wire;                                                          \
                                                                                                   \
		memset(&want, 0, sizeof(want));                                                    \
		random_##NAME(&s, &want);                                                          \
		assert_int_equal(s6_##NAME##_build(&want, big, sizeof(big), &len), S6_OK);         \
		wire = block_of(big, len);                                                         \
		for (size_t n = 0; n < len; n++) {                                                 \
			assert_int_equal(PARSE(wire, n, &got, &none, NULL), S6_MORE);              \
			assert_int_equal(s6_##NAME##_build(&want, big, n, &none), S6_MORE);        \
		}                                                                                  \
		assert_int_equal(none, 4711);                                                      \
		assert_int_equal(s6_##NAME##_build(&want, big, len, &none), S6_OK);                \
		assert_memory_equal(big, wire, len);                                               \
		assert_int_equal(PARSE(wire, len, &got, &used, NULL), S6_OK);                      \
		assert_int_equal(used, len);                                                       \
		assert_same(differ_##NAME(&got, &want));                                           \
		assert_int_equal(s6_##NAME##_build(&got, big, sizeof(big), &none), S6_OK);         \
		assert_int_equal(none, len);                                                       \
		assert_memory_equal(big, wire, len);                                               \
		free(wire);                                                                        \
	}                                                                                          \
                                                                                                   \
	static void test_##NAME(void **state)                                                      \
	{                                                                                          \
		uint32_t *seed = *state;                                                           \
                                                                                                   \
		for (*seed = FIRST_SEED; *seed < FIRST_SEED + MESSAGES; ++*seed)                   \
			check_##NAME(*seed);                                                       \
		*seed = 0;                                                                         \
	}

DEFINE_TEST(request, struct s6_request, s6_request_parse)
DEFINE_TEST(auth_reply, struct s6_auth_reply, s6_auth_reply_parse)
DEFINE_TEST(op_reply, struct s6_op_reply, s6_op_reply_parse)
DEFINE_TEST(udp, struct s6_udp, s6_udp_parse_stream)

static int set_up(void **state)
{
	*state = calloc(1, sizeof(uint32_t));
	return *state ? 0 : -1;
}

static int tear_down(void **state)
{
	uint32_t *seed = *state;

	if (*seed)
		print_message("failing seed: %lu\n", (unsigned long)*seed);
	free(seed);
	return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_request),
		TEST(test_auth_reply),
		TEST(test_op_reply),
		TEST(test_udp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
