/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/tune.h"
#include "tools/doctor_priv.h"
#include "tools/procfile.h"

#define AS_ROOT "sudo sixpathctl doctor"

extern char **environ;

/* ---- what the kernel has for rules ---- */

/* Standard input from a pipe that holds the text already, the output thrown away. */
static int spawn_quietly(char *const *argv, int in, pid_t *pid)
{
	posix_spawn_file_actions_t acts;
	int rc = posix_spawn_file_actions_init(&acts);

	if (rc)
		return -rc;
	rc = posix_spawn_file_actions_adddup2(&acts, in, STDIN_FILENO);
	if (!rc)
		rc = posix_spawn_file_actions_addopen(&acts, STDOUT_FILENO, "/dev/null", O_WRONLY,
						      0);
	if (!rc)
		rc = posix_spawn_file_actions_adddup2(&acts, STDOUT_FILENO, STDERR_FILENO);
	if (!rc)
		rc = posix_spawnp(pid, argv[0], &acts, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&acts);
	return -rc;
}

/* Would the kernel take this ruleset? `nft -c` shows it to the kernel and changes nothing. 0 yes,
 * -ENOENT no, -ENOSYS no program nft, another -errno: not known. */
static int nft_takes(const char *ruleset)
{
	char nft[] = "nft", check[] = "-c", file[] = "-f", input[] = "-";
	char *const argv[] = {nft, check, file, input, NULL};
	size_t len = strlen(ruleset);
	int fds[2], status, rc;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	/* far less than a pipe holds: does not block */
	rc = write(fds[1], ruleset, len) == (ssize_t)len ? 0 : -EIO;
	close(fds[1]);
	if (rc == 0)
		rc = spawn_quietly(argv, fds[0], &pid);
	close(fds[0]);
	if (rc < 0)
		return rc == -ENOENT ? -ENOSYS : rc;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (!WIFEXITED(status))
		return -EIO;
	return WEXITSTATUS(status) == 0 ? 0 : WEXITSTATUS(status) == 127 ? -ENOSYS : -ENOENT;
}

static void check_part(struct doctor *d, const char *id, const char *what, int rc,
		       enum finding_level missing, const char *cure)
{
	if (rc == 0)
		findings_add(&d->findings, FINDING_OK, id, NULL, "the kernel has %s", what);
	else if (rc == -ENOENT)
		findings_add(&d->findings, missing, id, cure, "the kernel does not have %s", what);
	else if (rc == -EPERM)
		findings_add(&d->findings, FINDING_NOTE, id, AS_ROOT, "%s: only root may ask",
			     what);
	else if (rc != -ENOSYS)
		findings_add(&d->findings, FINDING_NOTE, id, cure, "%s: not known: %s", what,
			     strerror(-rc));
}

static void check_parts(struct doctor *d)
{
	int xt = netview_has_xt_target("TPROXY");
	int nft = nft_takes("table inet sixpath_doctor {\n"
			    " chain c {\n  type filter hook prerouting priority mangle;\n"
			    "  meta l4proto tcp tproxy to :1 accept\n }\n}\n");
	/* one of the two is enough, and redirect mode needs none */
	enum finding_level missing = strcmp(d->mode, "redirect") == 0 ? FINDING_NOTE
				     : xt == 0                        ? FINDING_WARN
								      : FINDING_FAIL;

	if (nft == -ENOSYS) {
		findings_add(&d->findings, xt == 0 ? FINDING_NOTE : FINDING_WARN, "nft.program",
			     "apt-get install nftables", "the program nft is not installed%s",
			     xt == 0 ? ": redirect-rules/iptables.sh can do without" : "");
	} else {
		check_part(d, "nft.tproxy", "tproxy for nftables", nft, missing,
			   "modprobe nft_tproxy; or, in redir.conf: mode = redirect");
		check_part(
			d, "nft.owner", "nftables tables with an owner",
			nft_takes("table inet sixpath_doctor {\n flags owner\n}\n"), FINDING_NOTE,
			"nothing is lost with the scripts in redirect-rules; else install a newer "
			"kernel and nft");
		check_part(d, "nft.queue", "queue for nftables",
			   nft_takes("table inet sixpath_doctor {\n"
				     " chain c {\n  type filter hook prerouting priority mangle;\n"
				     "  queue num 1 bypass\n }\n}\n"),
			   FINDING_NOTE, "modprobe nft_queue");
	}
	check_part(d, "xt.TPROXY", "TPROXY for iptables", xt, FINDING_NOTE, "modprobe xt_TPROXY");
	check_part(d, "xt.NFQUEUE", "NFQUEUE for iptables", netview_has_xt_target("NFQUEUE"),
		   FINDING_NOTE, "modprobe xt_NFQUEUE");
	check_part(d, "ipset", "ipset", netview_has_ipset(), FINDING_NOTE, "modprobe ip_set");
}

/* ---- capture rules ---- */

static void check_mode(struct doctor *d, const struct nv_rules *r)
{
	const char *does = r->tproxy ? "tproxy" : "redirect";
	char cure[CURE_MAX];

	snprintf(cure, sizeof(cure),
		 "in redir.conf: mode = %s, then restart sixpath-redir; or start the rules with "
		 "--mode %s",
		 does, *d->mode ? d->mode : "tproxy");
	if (d->daemon_rc < 0 && r->redirect && !r->tproxy)
		findings_add(
			&d->findings, FINDING_WARN, "rules.mode",
			"systemctl start sixpath-redir; or stop the rules: redirect-rules/nft.sh "
			"stop",
			"the rules redirect, and no daemon answers: connections of devices are "
			"refused unless one listens");
	else if (!*d->mode)
		return;
	else if (r->tproxy && r->redirect)
		findings_add(&d->findings, FINDING_WARN, "rules.mode", cure,
			     "there are rules for both tproxy and redirect");
	else if (strcmp(d->mode, does) != 0)
		findings_add(&d->findings, FINDING_FAIL, "rules.mode", cure,
			     "the rules do %s, the daemon is in mode %s", does, d->mode);
	else
		findings_add(&d->findings, FINDING_OK, "rules.mode", NULL,
			     "%s, as the daemon expects", does);
}

/* The route by which marked packets are delivered to this host: a rule with a mark that looks up a
 * table with a local default route. 0 = there is none. */
static const struct nv_rule *local_route(const struct netview *v, int family)
{
	for (size_t i = 0; i < v->n_rules; i++) {
		const struct nv_rule *r = &v->rules[i];
		if (r->family != family || !r->mask || !(r->mark & r->mask))
			continue;
		for (size_t j = 0; j < v->n_defaults; j++)
			if (v->defaults[j].family == family && v->defaults[j].local &&
			    v->defaults[j].table == r->table)
				return r;
	}
	return NULL;
}

static void check_local_route(struct doctor *d, int family, bool needed, bool other)
{
	const struct nv_rule *r = local_route(&d->net, family);
	const char *id = family == AF_INET ? "rules.route4" : "rules.route6";

	if (r && needed)
		findings_add(&d->findings, FINDING_OK, id, NULL,
			     "packets with mark 0x%x/0x%x come to this host by table %u", r->mark,
			     r->mask, r->table);
	else if (r)
		findings_add(
			&d->findings, FINDING_NOTE, id,
			"ip rule show; if no other program uses it: redirect-rules/nft.sh stop",
			"packets with mark 0x%x/0x%x come to this host by table %u, but no rule of "
			"sixpath needs that",
			r->mark, r->mask, r->table);
	else if (needed)
		/* the scripts can be told to leave out a family */
		findings_add(
			&d->findings, other ? FINDING_WARN : FINDING_FAIL, id,
			family == AF_INET
				? "ip rule add pref 10660 fwmark 0x2/0x2 lookup 100; "
				  "ip route replace local default dev lo table 100 proto 106"
				: "ip -6 rule add pref 10660 fwmark 0x2/0x2 lookup 100; "
				  "ip -6 route replace local default dev lo table 100 proto 106",
			"no route for the packets that tproxy has marked: captured connections "
			"hang");
}

/* Might rules be the old iptables', which nftables does not show? */
static bool maybe_legacy(void)
{
	char *tables = procfile_read("/proc/net/ip_tables_names");
	bool maybe = tables ? strstr(tables, "mangle") || strstr(tables, "nat") : errno != ENOENT;

	free(tables);
	return maybe;
}

/* What is lost with rules that are not the daemon's own. */
static void check_script(struct doctor *d)
{
	const struct nv_rules *r = &d->net.nft;

	if (strcmp(d->rules, "script") != 0)
		return;
	if (d->net.nft_rc == 0 && !r->script && !r->iptables && !maybe_legacy())
		findings_add(&d->findings, FINDING_WARN, "rules.script",
			     "systemctl restart sixpath-redir",
			     "the rules that a script has made for the daemon have been removed, "
			     "and nobody puts them back");
	else
		findings_add(&d->findings, FINDING_NOTE, "rules.script",
			     "with libnftables built in, in redir.conf, [rules]: backend = auto; "
			     "then systemctl restart sixpath-redir",
			     "a script has made the rules: nobody puts them back when others "
			     "remove them, the sets of inet sixpath_user have no effect, and "
			     "after a crash connections fail for the moment that removing them "
			     "takes");
}

/* One that listen has no address for, or that is off here. */
static void check_family(struct doctor *d)
{
	if (!d->not_captured[0])
		return;
	if (strcmp(d->not_captured, "IPv6") == 0 && !tune_lo_has_ipv6())
		findings_add(&d->findings, FINDING_NOTE, "rules.family",
			     "to have it: sysctl -w net.ipv6.conf.lo.disable_ipv6=0, then "
			     "sixpathctl reload",
			     "IPv6 is off here: only IPv4 is captured");
	else
		findings_add(&d->findings, FINDING_WARN, "rules.family",
			     "in redir.conf: listen = [::]:PORT, which takes both, then restart "
			     "sixpath-redir; where IPv6 has just been switched on: sixpathctl "
			     "reload",
			     "%s of devices is not captured: it goes past sixpath",
			     d->not_captured);
}

static void check_rules(struct doctor *d)
{
	const struct nv_rules *r = &d->net.nft;
	bool any = r->table || r->script || r->iptables;
	bool four = local_route(&d->net, AF_INET), six = local_route(&d->net, AF_INET6);

	if (d->net.nft_rc == -ENOSYS || d->net.nft_rc == -EPERM) {
		findings_add(&d->findings, FINDING_NOTE, "rules",
			     d->net.nft_rc == -EPERM ? AS_ROOT : "nft list ruleset",
			     "capture rules: not checked, %s",
			     d->net.nft_rc == -EPERM ? "only root may ask"
						     : "built without libmnl");
		return;
	}
	if (d->net.nft_rc < 0 || !any)
		findings_add(&d->findings, FINDING_NOTE, "rules",
			     "redirect-rules/nft.sh start --iface INTERFACE-OF-THE-DEVICES",
			     d->net.nft_rc < 0 ? "no capture rules: this kernel has no nftables"
					       : "no capture rules: nothing goes through sixpath");
	else
		findings_add(&d->findings, FINDING_OK, "rules", NULL, "there are rules of%s%s%s%s",
			     r->table ? " the daemon (nft table sixpath)" : "",
			     r->owner ? " with owner" : "",
			     r->script ? " nft.sh (nft table sixpath_script)" : "",
			     r->iptables ? " iptables.sh (chains SIXPATH)" : "");
	if (any && (r->tproxy || r->redirect))
		check_mode(d, r);
	if (d->net.rules_rc == 0 && d->net.routes_rc == 0) {
		check_local_route(d, AF_INET, r->tproxy, six);
		if (tune_lo_has_ipv6())
			check_local_route(d, AF_INET6, r->tproxy, four);
	}
}

void doctor_rules(struct doctor *d)
{
	check_rules(d);
	check_family(d);
	check_script(d);
	if (d->net_admin)
		check_parts(d);
	else
		findings_add(&d->findings, FINDING_NOTE, "nft.tproxy", AS_ROOT,
			     "what the kernel has for nft, iptables and ipset: only root may ask");
}
