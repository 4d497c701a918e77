/* SPDX-License-Identifier: MIT */
#include "libsocks6/s6_internal.h"

enum leg { LEG_CLIENT = 1, LEG_REMOTE = 2, LEG_BOTH = 3 };
enum level { LEVEL_IP = 1, LEVEL_TCP = 4, LEVEL_UDP = 5 };
enum value { OCTET, AVAILABILITY, AVAILABILITY_OR_0, NUMBER, PARITY };

/* Slots that do not exist have the value NO_SLOT. */
#define NO_SLOT S6_STACK_COUNT

static const struct row {
	enum s6_stack_id client, remote; /* slot for each leg */
	uint8_t level, code;
	enum value value;
} rows[] = {
	{S6_STACK_TOS_CLIENT, S6_STACK_TOS_REMOTE, LEVEL_IP, 1, OCTET},
	{NO_SLOT, S6_STACK_HAPPY_EYEBALLS, LEVEL_IP, 2, AVAILABILITY_OR_0},
	{S6_STACK_TTL_CLIENT, S6_STACK_TTL_REMOTE, LEVEL_IP, 3, OCTET},
	{S6_STACK_NO_FRAG_CLIENT, S6_STACK_NO_FRAG_REMOTE, LEVEL_IP, 4, AVAILABILITY_OR_0},
	{NO_SLOT, S6_STACK_TFO, LEVEL_TCP, 1, NUMBER},
	{NO_SLOT, S6_STACK_MULTIPATH, LEVEL_TCP, 2, AVAILABILITY},
	{NO_SLOT, S6_STACK_BACKLOG, LEVEL_TCP, 3, NUMBER},
	{NO_SLOT, S6_STACK_UDP_ERROR, LEVEL_UDP, 1, AVAILABILITY_OR_0},
	{NO_SLOT, S6_STACK_PORT_PARITY, LEVEL_UDP, 2, PARITY},
};

#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

/* The slot's value from octets 6-7, or false if it is undefined (then the option is ignored,
 * R10). R24: a -10 peer's request has no availability; its presence means "wanted". */
static bool decode(enum value kind, enum s6_message in, uint16_t raw, uint16_t *out)
{
	uint8_t high = (uint8_t)(raw >> 8), low = (uint8_t)raw;

	switch (kind) {
	case OCTET:
		*out = high;
		return true;
	case AVAILABILITY_OR_0:
		if (high == 0 && in == S6_IN_REQUEST)
			high = S6_AVAIL_YES;
		/* fall through */
	case AVAILABILITY:
		*out = high;
		return high == S6_AVAIL_NO || high == S6_AVAIL_YES;
	case PARITY:
		*out = raw;
		return high <= S6_PARITY_ODD && low <= 1;
	case NUMBER:
		break;
	}
	*out = raw;
	return true;
}

static bool encode(enum value kind, uint16_t value, uint16_t *out)
{
	switch (kind) {
	case AVAILABILITY:
	case AVAILABILITY_OR_0:
		*out = (uint16_t)(value << 8);
		return value == S6_AVAIL_NO || value == S6_AVAIL_YES;
	case OCTET:
		*out = (uint16_t)(value << 8);
		return value <= 0xff;
	case PARITY:
		*out = value;
		return value >> 8 <= S6_PARITY_ODD && (value & 0xff) <= 1;
	case NUMBER:
		break;
	}
	*out = value;
	return true;
}

/* The first one of a leg counts (R11). */
static void fill(struct s6_stack *s, enum s6_stack_id slot, uint16_t value)
{
	if (!s6_stack_has(s, slot))
		s6_stack_set(s, slot, value);
}

bool s6_stack_read(struct reader *r, enum s6_message in, struct s6_options *o)
{
	uint8_t leg_level, code, leg;
	uint16_t raw, value;

	if (!read_u8(r, &leg_level) || !read_u8(r, &code) || !read_u16(r, &raw) || r->left > 0)
		return true;
	leg = leg_level >> 6;
	for (size_t i = 0; i < N_ROWS; i++) {
		const struct row *row = &rows[i];

		if (row->level != (leg_level & 0x3f) || row->code != code)
			continue;
		if (leg == 0 || ((leg & LEG_CLIENT) && row->client == NO_SLOT))
			return true;
		if (!decode(row->value, in, raw, &value))
			return true;
		if (leg & LEG_CLIENT)
			fill(&o->stack, row->client, value);
		if (leg & LEG_REMOTE)
			fill(&o->stack, row->remote, value);
	}
	return true;
}

static bool write_one(struct writer *w, const struct row *row, enum leg leg, uint16_t value)
{
	uint16_t raw;

	if (!encode(row->value, value, &raw))
		return false;
	s6_option_header(w, S6_KIND_STACK, 4);
	write_u8(w, (uint8_t)((unsigned)leg << 6 | row->level));
	write_u8(w, row->code);
	write_u16(w, raw);
	return true;
}

bool s6_stack_write(struct writer *w, enum s6_message in, const struct s6_options *o)
{
	const struct s6_stack *s = &o->stack;

	(void)in;
	for (size_t i = 0; i < N_ROWS; i++) {
		const struct row *row = &rows[i];
		bool client = row->client != NO_SLOT && s6_stack_has(s, row->client);
		bool remote = s6_stack_has(s, row->remote);

		if (client && remote && s->value[row->client] == s->value[row->remote]) {
			if (!write_one(w, row, LEG_BOTH, s->value[row->remote]))
				return false;
			continue;
		}
		if (client && !write_one(w, row, LEG_CLIENT, s->value[row->client]))
			return false;
		if (remote && !write_one(w, row, LEG_REMOTE, s->value[row->remote]))
			return false;
	}
	return true;
}
