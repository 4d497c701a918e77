/* SPDX-License-Identifier: MIT */
#include "libsocks6/s6_internal.h"

/* One row for each kind. Options without data are a flag in struct s6_options. */
struct kind {
	uint16_t kind;
	uint8_t in;        /* messages it may appear in (enum s6_message) */
	bool single;       /* repeated in a request: refuse (R11) */
	uint16_t min, max; /* of the whole option */
	size_t flag;       /* offset of the flag, for options without data */
	bool (*read)(struct reader *r, enum s6_message in, struct s6_options *o);
	bool (*write)(struct writer *w, enum s6_message in, const struct s6_options *o);
};

#define FLAG(field) offsetof(struct s6_options, field)
#define ANY_LENGTH  65532

static const struct kind kinds[] = {
	{S6_KIND_STACK, S6_IN_REQUEST | S6_IN_OP_REPLY, false, 4, ANY_LENGTH, 0, s6_stack_read,
	 s6_stack_write},
	{S6_KIND_AUTH_METHODS, S6_IN_REQUEST, true, 8, ANY_LENGTH, 0, s6_methods_read,
	 s6_methods_write},
	{S6_KIND_AUTH_SELECT, S6_IN_AUTH_REPLY, false, 8, 8, 0, s6_selection_read,
	 s6_selection_write},
	/* repeated kind 4 is judged by method, in s6_auth_data_read */
	{S6_KIND_AUTH_DATA, S6_IN_REQUEST | S6_IN_AUTH_REPLY, false, 8, ANY_LENGTH, 0,
	 s6_auth_data_read, s6_auth_data_write},
	{S6_KIND_SESSION_REQUEST, S6_IN_REQUEST, true, 4, 4, FLAG(session_request), NULL, NULL},
	{S6_KIND_SESSION_ID, S6_IN_REQUEST | S6_IN_AUTH_REPLY | S6_IN_OP_REPLY, true, 8,
	 S6_SESSION_ID_MAX + 4, 0, s6_session_id_read, s6_session_id_write}, /* R2 */
	{S6_KIND_SESSION_OK, S6_IN_AUTH_REPLY, false, 4, 4, FLAG(session_ok), NULL, NULL},
	{S6_KIND_SESSION_INVALID, S6_IN_AUTH_REPLY, false, 4, 4, FLAG(session_invalid), NULL, NULL},
	{S6_KIND_SESSION_TEARDOWN, S6_IN_REQUEST, false, 4, 4, FLAG(session_teardown), NULL, NULL},
	{S6_KIND_TOKEN_REQUEST, S6_IN_REQUEST, true, 8, 8, 0, s6_token_request_read,
	 s6_token_request_write},
	{S6_KIND_TOKEN_WINDOW, S6_IN_AUTH_REPLY, false, 12, 12, 0, s6_token_window_read,
	 s6_token_window_write},
	{S6_KIND_TOKEN_SPEND, S6_IN_REQUEST, true, 8, 8, 0, s6_token_spend_read, /* R1 */
	 s6_token_spend_write},
	{S6_KIND_TOKEN_ACCEPTED, S6_IN_AUTH_REPLY, false, 4, 4, FLAG(token_accepted), NULL, NULL},
	{S6_KIND_TOKEN_REJECTED, S6_IN_AUTH_REPLY, false, 4, 4, FLAG(token_rejected), NULL, NULL},
};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const struct kind *find_kind(uint16_t kind)
{
	/* Rows are in the order of their numbers; 7 is nobody's. */
	size_t i = (size_t)kind - 1 - (kind > 7);

	return i < N_KINDS && kinds[i].kind == kind ? &kinds[i] : NULL;
}

static bool *flag_of(struct s6_options *o, const struct kind *k)
{
	return (bool *)(void *)((char *)o + k->flag);
}

static void refuse(struct s6_options *o, enum s6_fault why)
{
	if (o->refuse == S6_FAULT_NONE)
		o->refuse = why;
}

/* One framed option. Unknown kinds and kinds of other messages are ignored (section 6, R6). */
static void read_option(uint16_t kind, struct reader *data, enum s6_message in, uint32_t *seen,
			struct s6_options *o)
{
	const struct kind *k = find_kind(kind);
	uint32_t bit;

	if (!k || !(k->in & in))
		return;
	bit = 1u << (k - kinds);
	if ((*seen & bit) && k->single) {
		if (in == S6_IN_REQUEST)
			refuse(o, S6_FAULT_REPEATED);
		return; /* in replies the first wins */
	}
	*seen |= bit;
	if (data->left + 4 < k->min || data->left + 4 > k->max)
		refuse(o, S6_FAULT_CONTENT);
	else if (!k->read)
		*flag_of(o, k) = true;
	else if (!k->read(data, in, o))
		refuse(o, S6_FAULT_CONTENT);
}

bool s6_options_read(struct reader *r, enum s6_message in, struct s6_options *o, enum s6_fault *why)
{
	struct reader data;
	uint16_t kind, len;
	uint32_t seen = 0;

	while (r->left > 0) {
		if (!read_u16(r, &kind) || !read_u16(r, &len) || len < 4 || len % 4 != 0 ||
		    !read_sub(r, len - 4u, &data)) {
			*why = S6_FAULT_OPTION_LENGTH;
			return false;
		}
		read_option(kind, &data, in, &seen, o);
	}
	return true;
}

bool s6_options_write(struct writer *w, enum s6_message in, const struct s6_options *o)
{
	size_t start = w->len;

	for (size_t i = 0; i < N_KINDS; i++) {
		const struct kind *k = &kinds[i];

		if (!(k->in & in))
			continue;
		if (k->write) {
			if (!k->write(w, in, o))
				return false;
		} else if (*(const bool *)(const void *)((const char *)o + k->flag)) {
			s6_option_header(w, k->kind, 0);
		}
	}
	return w->len - start <= S6_OPTIONS_SEND_MAX; /* R5 */
}
