/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "proxy/acceptor.h"

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "core/perclient.h"
#include "core/sock.h"
#include "proxy/client.h"
#include "proxy/proxy.h"

#define FASTOPEN_QUEUE 1024

static bool take_one(struct proxy_worker *pw, const struct addr *peer, unsigned most)
{
	struct proxy *p = pw->proxy;

	if (!perclient_take(p->perclient, peer, (unsigned)pw->conf->max_per_client, most))
		return false;
	if (budget_take(&p->budget, &pw->w))
		return true;
	perclient_give(p->perclient, peer);
	return false;
}

/* Connections that have only been kept ready give way to new ones. */
static bool make_room(struct proxy_worker *pw, const struct addr *peer, unsigned most)
{
	return client_make_room(pw, peer, perclient_total(pw->proxy->perclient) >= most);
}

static void tell_limit(struct proxy_worker *pw, const struct addr *peer, unsigned most)
{
	const struct proxy_conf *c = pw->conf;
	bool all = perclient_total(pw->proxy->perclient) >= most;
	char text[ADDR_STRLEN];

	if (all && most < (unsigned)c->max_clients)
		log_limited(&pw->limit_accept, 5, LVL_WARNING,
			    "client %s is refused: descriptors are enough for %u clients only "
			    "(raise the limit: ulimit -n, LimitNOFILE=)",
			    addr_str(peer, text, sizeof(text)), most);
	else
		log_limited(&pw->limit_accept, 5, LVL_WARNING,
			    "client %s is refused: too many connections (%s = %d)",
			    addr_str(peer, text, sizeof(text)),
			    all ? "max_clients" : "max_per_client",
			    all ? c->max_clients : c->max_per_client);
}

static void admit(struct worker *w, int fd, const struct addr *peer)
{
	struct proxy_worker *pw = proxy_worker_of(w);
	const struct proxy_conf *c = pw->conf;
	unsigned most = proxy_clients_max(pw->proxy, c);

	if (take_one(pw, peer, most) || (make_room(pw, peer, most) && take_one(pw, peer, most))) {
		client_start(pw, fd, peer, true);
		return;
	}
	tell_limit(pw, peer, most);
	if (pw->excess.count >= PROXY_SHED_MAX)
		client_end_excess(pw);
	client_start(pw, fd, peer, false); /* to be told so */
}

unsigned proxy_clients_max(const struct proxy *p, const struct proxy_conf *c)
{
	unsigned most = (unsigned)c->max_clients;

	return p->clients_room && p->clients_room < most ? p->clients_room : most;
}

/* The socket option is always granted; the network namespace's switch decides. */
static bool fastopen_enabled(void)
{
	FILE *f = fopen("/proc/sys/net/ipv4/tcp_fastopen", "re");
	unsigned value = 0;
	bool known = f && fscanf(f, "%u", &value) == 1;

	if (f)
		fclose(f);
	return !known || (value & 2);
}

/* Told once, and louder where the administrator insists. */
static void tell_what_is_missing(const struct proxy_worker *pw)
{
	const struct proxy_conf *c = pw->conf;
	const struct sock_granted *granted = &pw->listeners.v[0].granted;

	if (pw->w.index > 0)
		return;
	if (c->mptcp != 0 && !granted->mptcp)
		log_msg(c->mptcp == 1 ? LVL_WARNING : LVL_NOTICE,
			"this kernel has no MPTCP, or it is off (net.mptcp.enabled): serving plain "
			"TCP only");
	if (c->tfo != 0 && !granted->fastopen)
		log_msg(c->tfo == 1 ? LVL_WARNING : LVL_NOTICE,
			"Fast Open is off for servers: requests cost a round trip more (switch it "
			"on "
			"with \"sysctl net.ipv4.tcp_fastopen=3\")");
}

int acceptor_open(struct proxy_worker *pw)
{
	const struct proxy_conf *c = pw->conf;
	const struct sock_wishes wishes = {
		.mptcp = c->mptcp != 0,
		.reuseport = true,
		.fastopen = c->tfo != 0 ? FASTOPEN_QUEUE : 0,
		.tos = -1,
		.ttl = -1,
		.keepalive = true, /* inherited by accepted sockets */
	};
	struct listeners *ls = &pw->listeners;
	char text[ADDR_STRLEN];
	int rc = listeners_inherit(ls, &pw->w, &c->listen, &wishes, admit, &pw->proxy->inherited,
				   daemon_workers(c->workers));

	if (rc < 0 && !ls->v)
		return EX_OSERR;
	if (rc < 0) {
		log_error("cannot listen on %s: %s",
			  addr_str(&ls->v[ls->n].addr, text, sizeof(text)), strerror(-rc));
		return EX_UNAVAILABLE;
	}
	if (!fastopen_enabled())
		for (size_t i = 0; i < ls->n; i++)
			ls->v[i].granted.fastopen = false;
	tell_what_is_missing(pw);
	return 0;
}
