/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sessions we issued and the tokens spent in them (sections 6.3 and 6.4). Shared by all
 * workers; each call takes the lock for a short time. Pure otherwise: the caller gives the
 * time. Bounded: with the table full the session that was idle longest gives way; with a
 * user's share full, that user's.
 */
#ifndef PROXY_ISSUED_H
#define PROXY_ISSUED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ISSUED_ID_LEN   16
#define ISSUED_USER_MAX 256 /* with NUL */

struct issued;

struct issued_limits {
	unsigned max_sessions, max_per_user;
	uint32_t max_window; /* tokens */
	double ttl_s;        /* idle time after which a session expires */
};

struct issued *issued_new(const struct issued_limits *limits); /* NULL = out of memory */
void issued_free(struct issued *is);
void issued_set_limits(struct issued *is, const struct issued_limits *limits);

enum issued_token { TOKEN_NONE, TOKEN_ACCEPTED, TOKEN_REJECTED };

/* What a request asks of its session. */
struct issued_ask {
	bool spend;
	uint32_t token;       /* to be spent */
	uint32_t window_wish; /* 0 = none asked for */
};

struct issued_answer {
	uint8_t id[ISSUED_ID_LEN];
	char user[ISSUED_USER_MAX]; /* "" for nobody */
	enum issued_token token;
	bool has_window;
	uint32_t base, size;
};

/*
 * Open a session for user, unless the request spends a token that is rejected: nobody could
 * use that session (R2 gives its ID in successful replies only). False = no session was
 * opened; answer->token tells whether a token was the reason, otherwise the request goes on
 * without a session (out of memory).
 */
bool issued_open(struct issued *is, const char *user, double now_s, const struct issued_ask *ask,
		 struct issued_answer *answer);
/* Use one. False = unknown or expired (Session Invalid). */
bool issued_use(struct issued *is, const uint8_t *id, size_t len, double now_s,
		const struct issued_ask *ask, struct issued_answer *answer);
/* End one. False = unknown. */
bool issued_teardown(struct issued *is, const uint8_t *id, size_t len, double now_s);
/* End the sessions of all users of whom gone says yes; returns how many. */
size_t issued_revoke(struct issued *is, bool (*gone)(const char *user, void *ctx), void *ctx);

size_t issued_count(struct issued *is);

#endif
