/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/ask.h"
#include "tools/doctor_priv.h"
#include "tools/jsonval.h"

#define TEXT_MAX      256
#define ENOUGH_FLOWS  10 /* to judge by them */
#define FILES_PERCENT 80

static struct jsonval whole(const char *text)
{
	return (struct jsonval){text, text + strlen(text)};
}

static bool number_of(struct jsonval object, const char *key, uint64_t *n)
{
	struct jsonval v;

	return json_get(object, key, &v) && json_u64(v, n);
}

static bool text_of(struct jsonval object, const char *key, char *buf, size_t cap)
{
	struct jsonval v;

	return json_get(object, key, &v) && json_str(v, buf, cap);
}

static bool is_false(struct jsonval object, const char *key)
{
	struct jsonval v;

	return json_get(object, key, &v) && json_is(v, "false");
}

void doctor_ask_daemon(struct doctor *d)
{
	d->icmp = true;
	d->daemon_rc = ask_json(d->socket, "status", &d->status);
	if (d->daemon_rc < 0)
		return;
	text_of(whole(d->status), "mode", d->mode, sizeof(d->mode));
	text_of(whole(d->status), "rules", d->rules, sizeof(d->rules));
	d->icmp = !is_false(whole(d->status), "icmp_errors");
	text_of(whole(d->status), "not_captured", d->not_captured, sizeof(d->not_captured));
	if (d->role == TUNE_REDIR)
		ask_json(d->socket, "proxies", &d->proxies);
}

static const char *daemon_name(const struct doctor *d)
{
	return d->role == TUNE_PROXY ? "sixpath-proxy" : "sixpath-redir";
}

static void no_answer(struct doctor *d)
{
	const char *name = daemon_name(d);
	enum finding_level level = FINDING_FAIL;
	char cure[CURE_MAX];

	switch (d->daemon_rc) {
	case -ENOENT:
	case -ECONNREFUSED:
		level = FINDING_NOTE;
		snprintf(cure, sizeof(cure),
			 "systemctl start %s; what keeps it from starting: %s -f", name, name);
		break;
	case -EACCES:
	case -EPERM:
		level = FINDING_NOTE;
		snprintf(cure, sizeof(cure), "sudo sixpathctl doctor");
		break;
	case -EPROTO:
	case -ENODATA:
		snprintf(cure, sizeof(cure), "ss -xlp src %s shows who answers there", d->socket);
		break;
	default:
		snprintf(cure, sizeof(cure), "systemctl restart %s", name);
	}
	findings_add(&d->findings, level, "daemon", cure, "%s does not answer on %s: %s", name,
		     d->socket,
		     d->daemon_rc == -EPROTO ? "what answers does not speak our protocol"
					     : strerror(-d->daemon_rc));
}

static void check_files(struct doctor *d, struct jsonval status)
{
	uint64_t used, limit;
	char cure[CURE_MAX];

	if (!number_of(status, "descriptors", &used) ||
	    !number_of(status, "descriptor_limit", &limit) || limit == 0)
		return;
	snprintf(cure, sizeof(cure),
		 "LimitNOFILE=%" PRIu64 " in the service of %s, then restart it", 2 * limit,
		 daemon_name(d));
	if (used / FILES_PERCENT >= limit / 100 && used * 100 >= limit * FILES_PERCENT)
		findings_add(&d->findings, FINDING_WARN, "daemon.files", cure,
			     "%" PRIu64 " of %" PRIu64 " descriptors are in use", used, limit);
	else
		findings_add(&d->findings, FINDING_OK, "daemon.files", NULL,
			     "%" PRIu64 " of %" PRIu64 " descriptors are in use", used, limit);
}

static void check_status(struct doctor *d, struct jsonval status)
{
	char name[64] = "", version[32] = "?";
	uint64_t proxied, mptcp;
	struct jsonval counters;

	text_of(status, "version", version, sizeof(version));
	if (text_of(status, "daemon", name, sizeof(name)) && strcmp(name, daemon_name(d)) != 0) {
		findings_add(&d->findings, FINDING_WARN, "daemon",
			     d->role == TUNE_PROXY ? "sixpathctl doctor"
						   : "sixpathctl --proxy doctor",
			     "%s answers there, not %s", name, daemon_name(d));
		return;
	}
	findings_add(&d->findings, FINDING_OK, "daemon", NULL, "%s %s answers", daemon_name(d),
		     version);
	if (is_false(status, "accepting"))
		findings_add(&d->findings, FINDING_FAIL, "daemon.accepting",
			     "sixpathctl status; raise LimitNOFILE in its service",
			     "it accepts no connections at present: out of descriptors");
	check_files(d, status);
	if (!json_get(status, "counters", &counters) || !number_of(counters, "proxied", &proxied) ||
	    !number_of(counters, "mptcp", &mptcp))
		return;
	if (proxied >= ENOUGH_FLOWS && mptcp == 0)
		findings_add(&d->findings, FINDING_WARN, "daemon.mptcp",
			     "on the proxy's machine: sixpathctl --proxy doctor",
			     "none of %" PRIu64
			     " connections through a proxy was MPTCP: the proxy or "
			     "the path does not do it",
			     proxied);
	else
		findings_add(&d->findings, FINDING_OK, "daemon.mptcp", NULL,
			     "%" PRIu64 " of %" PRIu64 " connections through a proxy were MPTCP",
			     mptcp, proxied);
}

static void check_proxy(struct doctor *d, struct jsonval proxy, unsigned *up)
{
	char name[64], state[16], addr[TEXT_MAX] = "", last[TEXT_MAX] = "", id[80], cure[CURE_MAX];

	if (!text_of(proxy, "name", name, sizeof(name)) ||
	    !text_of(proxy, "state", state, sizeof(state)))
		return;
	text_of(proxy, "address", addr, sizeof(addr));
	text_of(proxy, "last_error", last, sizeof(last));
	snprintf(id, sizeof(id), "proxy.%s", name);
	*up += strcmp(state, "down") != 0 && strcmp(state, "rejected") != 0 &&
	       strcmp(state, "via-down") != 0;
	if (!*addr) {
		snprintf(cure, sizeof(cure), "getent ahosts the name in \"address\" of [proxy %s]",
			 name);
		findings_add(&d->findings, FINDING_WARN, id, cure, "its name is not resolved");
	} else if (strcmp(state, "down") == 0) {
		snprintf(cure, sizeof(cure),
			 "sixpathctl proxies; on its machine: sixpathctl --proxy doctor");
		findings_add(&d->findings, FINDING_WARN, id, cure, "%s is down%s%s", addr,
			     *last ? ": " : "", last);
	} else if (strcmp(state, "rejected") == 0) {
		snprintf(cure, sizeof(cure),
			 "username and password in [proxy %s]; on its machine: sixpathctl passwd",
			 name);
		findings_add(&d->findings, FINDING_WARN, id, cure, "%s rejects us%s%s", addr,
			     *last ? ": " : "", last);
	} else if (strcmp(state, "via-down") == 0) {
		snprintf(cure, sizeof(cure), "bring up the proxy that \"via\" of [proxy %s] names",
			 name);
		findings_add(&d->findings, FINDING_WARN, id, cure,
			     "%s is reached through a proxy that is not up", addr);
	} else if (is_false(proxy, "tfo")) {
		snprintf(cure, sizeof(cure),
			 "on its machine: sysctl -w net.ipv4.tcp_fastopen=3; in redir.conf, [proxy "
			 "%s]: tfo = auto",
			 name);
		findings_add(
			&d->findings, FINDING_NOTE, id, cure,
			"%s is %s, without Fast Open at present: each connection takes a round "
			"trip longer",
			addr, state);
	} else {
		findings_add(&d->findings, FINDING_OK, id, NULL, "%s is %s", addr, state);
	}
}

static void check_proxies(struct doctor *d, struct jsonval answer)
{
	struct jsonval list, proxy;
	unsigned n = 0, up = 0;

	if (!json_get(answer, "proxies", &list))
		return;
	for (; json_next(&list, &proxy); n++)
		check_proxy(d, proxy, &up);
	if (n > 0 && up == 0)
		findings_add(&d->findings, FINDING_FAIL, "proxies",
			     "sixpathctl proxies shows why each of them failed",
			     "no proxy works: connections go direct, or are refused");
}

void doctor_daemon(struct doctor *d)
{
	if (d->daemon_rc < 0 || !d->status) {
		no_answer(d);
		return;
	}
	check_status(d, whole(d->status));
	if (d->proxies)
		check_proxies(d, whole(d->proxies));
}
