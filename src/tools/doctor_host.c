/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "tools/doctor_priv.h"
#include "tools/procfile.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef TCP_IS_MPTCP
#define TCP_IS_MPTCP 43
#endif

#define NEW_KERNEL   "install a newer kernel, then: reboot"
#define FEW_FILES    4096 /* two descriptors for each connection */
#define SYN_DATA_MIN 10   /* so many SYNs with data allow a judgement */

/* ---- kernel ---- */

static void check_mptcp_socket(struct doctor *d, const char *release)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP), err = errno;
	socklen_t len = sizeof(one);
	struct findings *f = &d->findings;

	if (fd < 0) {
		findings_add(f, FINDING_FAIL, "kernel.mptcp",
			     err == ENOPROTOOPT ? "sysctl -w net.mptcp.enabled=1" : NEW_KERNEL,
			     "no MPTCP sockets on Linux %s: %s", release,
			     err == ENOPROTOOPT ? "it is switched off" : strerror(err));
		return;
	}
	findings_add(f, FINDING_OK, "kernel.mptcp", NULL, "Linux %s makes MPTCP sockets", release);
	/* Without it nobody can tell a connection that has fallen back to TCP. */
	if (getsockopt(fd, IPPROTO_TCP, TCP_IS_MPTCP, &one, &len) < 0)
		findings_add(f, FINDING_WARN, "kernel.mptcp_info", NEW_KERNEL,
			     "the kernel does not tell whether a connection is MPTCP: %s",
			     strerror(errno));
	else
		findings_add(f, FINDING_OK, "kernel.mptcp_info", NULL,
			     "the kernel tells whether a connection is MPTCP");
	one = 1;
	if (setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)) < 0)
		findings_add(f, FINDING_WARN, "kernel.mptcp_fastopen", NEW_KERNEL,
			     "no Fast Open on MPTCP sockets: %s", strerror(errno));
	else
		findings_add(f, FINDING_OK, "kernel.mptcp_fastopen", NULL,
			     "Fast Open is there on MPTCP sockets");
	close(fd);
}

/* ---- settings ---- */

static void check_setting(const struct tune_seen *s, void *ctx)
{
	struct doctor *d = ctx;
	const struct tune_row *row = s->row;
	enum finding_level level;
	char name[TUNE_KEY_MAX], id[TUNE_KEY_MAX + 32], wanted[64], cure[CURE_MAX];

	/* one line for all interfaces that are right */
	if (s->state == TUNE_OK && strchr(row->key, '*') && !strstr(s->key, "/all/"))
		return;
	tune_name(s, name, sizeof(name));
	if (row->kind == TUNE_BITS) /* there may be a row for each bit */
		snprintf(id, sizeof(id), "sysctl.%s&%" PRId64, name, row->low);
	else
		snprintf(id, sizeof(id), "sysctl.%s", name);
	switch (s->state) {
	case TUNE_OK:
		findings_add(&d->findings, FINDING_OK, id, NULL, "%" PRId64, s->value);
		break;
	case TUNE_MISSING:
		findings_add(&d->findings, FINDING_OK, id, NULL,
			     "not in this kernel: nothing to set");
		break;
	case TUNE_UNREADABLE:
		snprintf(cure, sizeof(cure), "as root: sysctl %s", name);
		findings_add(&d->findings, FINDING_WARN, id, cure, "cannot be read: %s",
			     strerror(s->err));
		break;
	case TUNE_WRONG:
		level = row->essential & d->role ? FINDING_FAIL : FINDING_WARN;
		/* it is tproxy that this one breaks */
		if (strstr(row->key, "src_valid_mark") && strcmp(d->mode, "redirect") == 0)
			level = FINDING_NOTE;
		findings_add(&d->findings, level, id, tune_cure(s, cure, sizeof(cure)),
			     "%" PRId64 ", wanted %s: %s", s->value,
			     tune_wanted(row, wanted, sizeof(wanted)), row->why);
		break;
	}
}

/* ---- counters ---- */

static bool timeout_is_set(const char *path)
{
	char *text = procfile_read(path);
	bool set = text && strtol(text, NULL, 10) != 0;

	free(text);
	return set;
}

/* MPTCP or Fast Open, switched off by the kernel for all connections after a failure on one. */
static void check_blackhole(struct doctor *d, const char *text, const char *id, const char *group,
			    const char *counter, const char *what, const char *key)
{
	char path[128], cure[CURE_MAX];
	uint64_t n;

	if (!procfile_counter(text, group, counter, &n)) {
		findings_add(&d->findings, FINDING_OK, id, NULL,
			     "this kernel does not count it (%s)", counter);
		return;
	}
	if (n == 0) {
		findings_add(&d->findings, FINDING_OK, id, NULL,
			     "never since the namespace began (%s)", counter);
		return;
	}
	snprintf(path, sizeof(path), "/proc/sys/%s", key);
	/* writing also ends a time that is running */
	snprintf(cure, sizeof(cure), "sysctl -w %s=0", key);
	if (timeout_is_set(path))
		findings_add(&d->findings, FINDING_WARN, id, cure,
			     "%s %" PRIu64 " times because of a path that ate it, and may still be "
			     "(%s)",
			     what, n, counter);
	else
		findings_add(&d->findings, FINDING_NOTE, id, cure,
			     "%s %" PRIu64 " times (%s); cannot happen any more as set now", what,
			     n, counter);
}

static void check_fastopen(struct doctor *d, const char *text)
{
	uint64_t ok = 0, failed = 0;

	if (!procfile_counter(text, "TcpExt", "TCPFastOpenActive", &ok) ||
	    !procfile_counter(text, "TcpExt", "TCPFastOpenActiveFail", &failed))
		return;
	if (failed >= SYN_DATA_MIN && failed > ok)
		findings_add(
			&d->findings, FINDING_WARN, "fastopen.taken",
			"sixpathctl proxies; where a path eats SYN data, in redir.conf, section "
			"of the proxy: tfo = no",
			"data in %" PRIu64 " of our SYNs was taken, in %" PRIu64 " it was not", ok,
			failed);
	else
		findings_add(&d->findings, FINDING_OK, "fastopen.taken", NULL,
			     "data in %" PRIu64 " of our SYNs was taken, in %" PRIu64 " it was not",
			     ok, failed);
}

static void check_counters(struct doctor *d)
{
	char *text = procfile_read("/proc/net/netstat");

	if (!text) {
		findings_add(&d->findings, FINDING_NOTE, "counters", "mount -t proc proc /proc",
			     "cannot read /proc/net/netstat: %s", strerror(errno));
		return;
	}
	check_blackhole(d, text, "mptcp.blackhole", "MPTcpExt", "MPCapableSYNTXDisabled",
			"connected without MPTCP", "net/mptcp/blackhole_timeout");
	check_blackhole(d, text, "fastopen.blackhole", "TcpExt", "TCPFastOpenBlackhole",
			"Fast Open was switched off",
			"net/ipv4/tcp_fastopen_blackhole_timeout_sec");
	check_fastopen(d, text);
	free(text);
}

/* ---- this process ---- */

static void check_files(struct doctor *d)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return;
	/* daemons raise the soft limit to the hard one themselves */
	if (rl.rlim_max < FEW_FILES)
		findings_add(&d->findings, FINDING_WARN, "limits.files",
			     "as root: ulimit -Hn 65536 before the daemon is started, or "
			     "LimitNOFILE=65536 in its service",
			     "at most %llu descriptors: room for about %llu connections",
			     (unsigned long long)rl.rlim_max, (unsigned long long)rl.rlim_max / 2);
	else if (rl.rlim_max == RLIM_INFINITY)
		findings_add(&d->findings, FINDING_OK, "limits.files", NULL, "unlimited");
	else
		findings_add(&d->findings, FINDING_OK, "limits.files", NULL,
			     "at most %llu descriptors", (unsigned long long)rl.rlim_max);
}

static void check_capability(struct doctor *d, uint64_t have, int cap, const char *name,
			     const char *what, bool essential)
{
	char id[64], cure[CURE_MAX];

	snprintf(id, sizeof(id), "capability.%s", name);
	if (have & (UINT64_C(1) << cap)) {
		findings_add(&d->findings, FINDING_OK, id, NULL, "this process has it");
		return;
	}
	if (geteuid() != 0) {
		findings_add(
			&d->findings, FINDING_NOTE, id, "sudo sixpathctl doctor",
			"this process does not have it: not root, so some checks are left out");
		return;
	}
	snprintf(cure, sizeof(cure), "give the container or service the capability %s", name);
	findings_add(&d->findings, essential ? FINDING_FAIL : FINDING_NOTE, id, cure,
		     "root does not have it here: %s", what);
}

static void check_capabilities(struct doctor *d)
{
	char *text = procfile_read("/proc/self/status");
	uint64_t have;

	if (!text || !procfile_field(text, "CapEff", 16, &have)) {
		findings_add(&d->findings, FINDING_NOTE, "capability", "mount -t proc proc /proc",
			     "cannot read the capabilities of this process");
	} else {
		d->net_admin = (have & (UINT64_C(1) << CAP_NET_ADMIN)) != 0;
		if (d->role == TUNE_REDIR) {
			check_capability(d, have, CAP_NET_ADMIN, "cap_net_admin",
					 "needed for tproxy, marks and rules", true);
			check_capability(d, have, CAP_NET_RAW, "cap_net_raw",
					 "needed to send ICMP errors to devices", false);
		}
	}
	free(text);
}

/* ---- clock ---- */

static void check_clock(struct doctor *d)
{
	struct timex tx = {0};
	time_t now = time(NULL);
	struct stat st;
	struct tm tm;
	char text[32] = "?";

	if (gmtime_r(&now, &tm))
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	/* a router without a clock of its own starts in 1970 */
	if (stat("/proc/self/exe", &st) == 0 && now < st.st_mtime)
		findings_add(&d->findings, FINDING_WARN, "clock",
			     "date -u -s \"YYYY-MM-DD hh:mm:ss\", and run a time service",
			     "%s UTC is before sixpathctl was installed: certificates and what is "
			     "saved with a time will be misjudged",
			     text);
	else if (adjtimex(&tx) == TIME_ERROR)
		findings_add(&d->findings, FINDING_NOTE, "clock", "timedatectl set-ntp true",
			     "%s UTC, kept by no time service", text);
	else
		findings_add(&d->findings, FINDING_OK, "clock", NULL, "%s UTC, synchronised", text);
}

void doctor_host(struct doctor *d)
{
	struct utsname un = {0};

	uname(&un);
	check_mptcp_socket(d, un.release);
	tune_check(d->role == TUNE_REDIR && d->icmp ? TUNE_REDIR | TUNE_ICMP : d->role,
		   check_setting, d);
	check_counters(d);
	check_files(d);
	check_capabilities(d);
	check_clock(d);
}
