/* SPDX-License-Identifier: MIT */
/* What the files of libsocks6 share; not installed. */
#ifndef S6_INTERNAL_H
#define S6_INTERNAL_H

#include "libsocks6/cursor.h"
#include "libsocks6/socks6.h"

/* Nothing declared here is part of the library's interface. */
#pragma GCC visibility push(hidden)

/* Messages, as bits in the option table. */
enum s6_message { S6_IN_REQUEST = 1, S6_IN_AUTH_REPLY = 2, S6_IN_OP_REPLY = 4 };

/* address.c: the address field without type and port. */
enum s6_result s6_address_read(struct reader *r, uint8_t type, struct s6_address *a,
			       enum s6_fault *why);
bool s6_address_write(struct writer *w, const struct s6_address *a);

/* option.c: the octets of all options of a message. False = malformed (R9). */
bool s6_options_read(struct reader *r, enum s6_message in, struct s6_options *o,
		     enum s6_fault *why);
/* False = cannot be expressed. */
bool s6_options_write(struct writer *w, enum s6_message in, const struct s6_options *o);

/* One option each: the reader holds the data, header taken off. False = impossible content
 * (R10) or, for stack options, nothing: those are ignored. */
bool s6_stack_read(struct reader *r, enum s6_message in, struct s6_options *o);
bool s6_methods_read(struct reader *r, enum s6_message in, struct s6_options *o);
bool s6_selection_read(struct reader *r, enum s6_message in, struct s6_options *o);
bool s6_auth_data_read(struct reader *r, enum s6_message in, struct s6_options *o);
bool s6_session_id_read(struct reader *r, enum s6_message in, struct s6_options *o);
bool s6_token_request_read(struct reader *r, enum s6_message in, struct s6_options *o);
bool s6_token_window_read(struct reader *r, enum s6_message in, struct s6_options *o);
bool s6_token_spend_read(struct reader *r, enum s6_message in, struct s6_options *o);

/* All options of a kind, headers included. False = cannot be expressed. */
bool s6_stack_write(struct writer *w, enum s6_message in, const struct s6_options *o);
bool s6_methods_write(struct writer *w, enum s6_message in, const struct s6_options *o);
bool s6_selection_write(struct writer *w, enum s6_message in, const struct s6_options *o);
bool s6_auth_data_write(struct writer *w, enum s6_message in, const struct s6_options *o);
bool s6_session_id_write(struct writer *w, enum s6_message in, const struct s6_options *o);
bool s6_token_request_write(struct writer *w, enum s6_message in, const struct s6_options *o);
bool s6_token_window_write(struct writer *w, enum s6_message in, const struct s6_options *o);
bool s6_token_spend_write(struct writer *w, enum s6_message in, const struct s6_options *o);

/* Header of an option with n octets of data, padding included. A Length that does not fit is
 * never sent: s6_options_write finds that there are too many octets. */
static inline void s6_option_header(struct writer *w, uint16_t kind, size_t n)
{
	write_u16(w, kind);
	write_u16(w, (uint16_t)(n + 4));
}

#pragma GCC visibility pop

#endif
