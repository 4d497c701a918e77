/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UDP ASSOCIATE as a client's: its association is in assoc.c. */
#include <inttypes.h>
#include <string.h>

#include "core/text.h"
#include "proxy/client_priv.h"

static void association_over(void *owner, enum end_reason reason, int err)
{
	client_end(owner, reason, err);
}

void client_associate(struct client *cl)
{
	struct setup *s = cl->setup; /* stays as long as the client */
	struct addr peer = client_peer(cl);
	const struct assoc_wish wish = {.bind = &s->dst,
					.stack = &s->stack,
					.peer = &peer,
					.user = s->user,
					.session = s->in_session ? s->session_id : NULL};
	struct assoc_result result;

	s->assoc = assoc_open(cl->pw, &wish, &result, association_over, cl);
	s->err = result.err;
	if (!s->assoc) {
		if (reply_op(cl, result.code, NULL))
			client_drain(cl, result.reason);
		return;
	}
	client_change(cl, CLIENT_UDP);
	if (reply_assoc(cl, &result))
		assoc_run(s->assoc, s->fd, &cl->relay.a.in,
			  cl->relay.limited ? &cl->limit->snd : NULL);
}

void client_log_assoc(const struct client *cl, enum end_reason reason, int err)
{
	char peer[ADDR_STRLEN], bind[ADDR_STRLEN], user[ISSUED_USER_MAX * 4];
	const struct setup *s = cl->setup;
	struct addr from = client_peer(cl);
	struct assoc_facts f;

	assoc_facts(s->assoc, &f);
	text_escape(user, sizeof(user), s->user[0] ? s->user : "-");
	log_info("client %s user=%s udp-associate %s via=%s mptcp=%s up=%" PRIu64 "/%" PRIu64
		 " down=%" PRIu64 "/%" PRIu64 " errors=%" PRIu64 " dropped=%" PRIu64
		 " duration=%.3fs reason=%s%s%s",
		 addr_str(&from, peer, sizeof(peer)), user, addr_str(f.bind, bind, sizeof(bind)),
		 f.path, cl->mptcp ? "yes" : "no", f.up, f.bytes_up, f.down, f.bytes_down, f.errors,
		 f.dropped, worker_now(&cl->pw->w) - cl->started, end_reason_str(reason),
		 err ? " error=" : "", err ? strerror(err) : "");
}
