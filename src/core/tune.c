/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/tune.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/tune_file.h"

#define ROOT        "/proc/sys/"
#define CHANGES_MAX 64
#define BOTH        (TUNE_REDIR | TUNE_PROXY)

static const struct tune_row rows[] = {
	{"net/mptcp/enabled", TUNE_EXACT, 1, 0, 1, BOTH, BOTH, true,
	 "without it there is no MPTCP at all"},
	{"net/mptcp/blackhole_timeout", TUNE_EXACT, 0, 0, 0, BOTH, TUNE_REDIR, true,
	 "one lost MPTCP handshake would turn MPTCP off for every connection, for so many seconds"},
	{"net/mptcp/close_timeout", TUNE_RANGE, 2, 5, 2, BOTH, 0, true,
	 "a dead MPTCP connection is reported only after so many seconds"},
	/* Some run a path manager of their own on purpose. */
	{"net/mptcp/pm_type", TUNE_EXACT, 0, 0, 0, TUNE_REDIR, TUNE_REDIR, false,
	 "only the kernel's own path manager (0) opens subflows on the endpoints of `ip mptcp`"},
	{"net/mptcp/allow_join_initial_addr_port", TUNE_EXACT, 1, 0, 1, TUNE_PROXY, TUNE_PROXY,
	 true, "otherwise clients are told not to open further subflows to the proxy's address"},
	{"net/ipv4/tcp_fastopen", TUNE_BITS, 1, 0, 1, BOTH, TUNE_REDIR, true,
	 "data in our own SYNs: saves a round trip for each connection"},
	{"net/ipv4/tcp_fastopen", TUNE_BITS, 2, 0, 2, BOTH, TUNE_PROXY, true,
	 "data in the SYNs that we accept: without it they cost a round trip and MPTCP"},
	{"net/ipv4/tcp_fastopen_blackhole_timeout_sec", TUNE_EXACT, 0, 0, 0, BOTH, 0, true,
	 "one path that eats SYN data would turn Fast Open off on all of them"},
	{"net/core/somaxconn", TUNE_AT_LEAST, 1024, 0, 4096, BOTH, 0, true,
	 "so many connections may wait to be accepted; more in a burst are lost"},
	{"net/ipv4/icmp_ratelimit", TUNE_EXACT, 0, 0, 0, TUNE_ICMP, 0, true,
	 "otherwise devices do not get all of the ICMP errors meant for them"},
	{"net/ipv6/icmp/ratelimit", TUNE_EXACT, 0, 0, 0, TUNE_ICMP, 0, true,
	 "otherwise devices do not get all of the ICMPv6 errors meant for them"},
	{"net/ipv4/icmp_msgs_per_sec", TUNE_AT_LEAST, 10000, 0, 10000, TUNE_ICMP, 0, true,
	 "limits ICMP errors to all devices together, also where icmp_ratelimit is 0"},
	{"net/ipv4/icmp_msgs_burst", TUNE_AT_LEAST, 1000, 0, 1000, TUNE_ICMP, 0, true,
	 "limits ICMP errors to all devices together, also where icmp_ratelimit is 0"},
	/* The route for marked packets is a local one; looked up for the source too, with the mark,
	 * it makes every source look like our own. This holds for all values of rp_filter (0, 1 and
	 * 2 tried), which without it is harmless. Off by default: if it is on, somebody wants it
	 * (wg-quick does), and is not overruled. */
	{"net/ipv4/conf/*/src_valid_mark", TUNE_EXACT, 0, 0, 0, TUNE_REDIR, TUNE_REDIR, false,
	 "with it packets captured by tproxy are dropped, whatever rp_filter is"},
	/* Makes a host a router: not ours to decide. */
	{"net/ipv4/ip_forward", TUNE_EXACT, 1, 0, 1, TUNE_REDIR, 0, false,
	 "what devices send past the redirector is not forwarded; none of it if the daemon stops"},
	{"net/ipv6/conf/all/forwarding", TUNE_EXACT, 1, 0, 1, TUNE_REDIR, 0, false,
	 "what devices send past the redirector is not forwarded; none of it if the daemon stops"},
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

struct change {
	struct tune_seen seen; /* as it was */
	int64_t set;
};

struct tune {
	char *path; /* of the file; or NULL */
	struct change changes[CHANGES_MAX];
	size_t n;
};

/* ---- one file ---- */

static bool open_key(const char *key, int flags, int *fd)
{
	char path[sizeof(ROOT) + TUNE_KEY_MAX];

	snprintf(path, sizeof(path), ROOT "%s", key);
	*fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW);
	return *fd >= 0;
}

/* 0 or -errno; -EINVAL if it is not exactly one number. */
static int read_key(const char *key, int64_t *value)
{
	char text[64], *end;
	ssize_t n;
	int fd;

	if (!open_key(key, O_RDONLY, &fd))
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		n = -errno;
	close(fd);
	if (n <= 0)
		return n < 0 ? (int)n : -EINVAL;
	text[n] = '\0';
	errno = 0;
	*value = strtoll(text, &end, 10);
	if (errno || end == text || (*end != '\n' && *end != '\0'))
		return -EINVAL;
	return 0;
}

static int write_key(const char *key, int64_t value)
{
	char text[24];
	int fd, len = snprintf(text, sizeof(text), "%" PRId64 "\n", value), rc = 0;

	if (!open_key(key, O_WRONLY, &fd))
		return -errno;
	if (write(fd, text, (size_t)len) != len)
		rc = -errno;
	close(fd);
	return rc;
}

bool tune_lo_has_ipv6(void)
{
	int64_t off;

	return read_key("net/ipv6/conf/lo/disable_ipv6", &off) == 0 && off == 0;
}

/* ---- checking ---- */

static bool fits(const struct tune_row *row, int64_t v)
{
	switch (row->kind) {
	case TUNE_EXACT:
		return v == row->low;
	case TUNE_AT_LEAST:
		return v >= row->low;
	case TUNE_BITS:
		return (v & row->low) == row->low;
	case TUNE_RANGE:
		return v >= row->low && v <= row->high;
	}
	return false;
}

static void look(struct tune_seen *s)
{
	int rc = read_key(s->key, &s->value);

	s->err = rc < 0 ? -rc : 0;
	if (rc == 0)
		s->state = fits(s->row, s->value) ? TUNE_OK : TUNE_WRONG;
	else
		s->state = rc == -ENOENT ? TUNE_MISSING : TUNE_UNREADABLE;
}

/* Each file of a row with "*". Interfaces may come and go meanwhile. */
static void check_each(const struct tune_row *row, const char *star, tune_visit *visit, void *ctx)
{
	struct tune_seen s = {.row = row};
	char dir[sizeof(ROOT) + TUNE_KEY_MAX];
	const struct dirent *e;
	unsigned found = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), ROOT "%.*s", (int)(star - row->key), row->key);
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		if (*e->d_name == '.' ||
		    (size_t)snprintf(s.key, sizeof(s.key), "%.*s%s%s", (int)(star - row->key),
				     row->key, e->d_name, star + 1) >= sizeof(s.key))
			continue;
		look(&s);
		if (s.state == TUNE_MISSING)
			continue;
		found++;
		visit(&s, ctx);
	}
	if (d)
		closedir(d);
	if (found)
		return;
	snprintf(s.key, sizeof(s.key), "%s", row->key);
	s.state = TUNE_MISSING;
	s.err = ENOENT;
	visit(&s, ctx);
}

void tune_check(unsigned roles, tune_visit *visit, void *ctx)
{
	for (size_t i = 0; i < ROWS; i++) {
		const char *star = strchr(rows[i].key, '*');
		struct tune_seen s = {.row = &rows[i]};

		if (!(rows[i].roles & roles))
			continue;
		if (star) {
			check_each(&rows[i], star, visit, ctx);
			continue;
		}
		snprintf(s.key, sizeof(s.key), "%s", rows[i].key);
		look(&s);
		visit(&s, ctx);
	}
}

/* ---- texts ---- */

const char *tune_name(const struct tune_seen *seen, char *buf, size_t cap)
{
	snprintf(buf, cap, "%s", seen->key);
	/* "eth0.100" keeps its dot, and sysctl(8) takes slashes too */
	if (!strchr(seen->key, '.'))
		for (char *c = buf; *c; c++)
			if (*c == '/')
				*c = '.';
	return buf;
}

const char *tune_wanted(const struct tune_row *row, char *buf, size_t cap)
{
	switch (row->kind) {
	case TUNE_EXACT:
		snprintf(buf, cap, "%" PRId64, row->low);
		break;
	case TUNE_AT_LEAST:
		snprintf(buf, cap, "at least %" PRId64, row->low);
		break;
	case TUNE_BITS:
		snprintf(buf, cap, "with bit %" PRId64, row->low);
		break;
	case TUNE_RANGE:
		snprintf(buf, cap, "%" PRId64 " to %" PRId64, row->low, row->high);
		break;
	}
	return buf;
}

static int64_t value_to_set(const struct tune_seen *s)
{
	return s->row->kind == TUNE_BITS ? s->value | s->row->set : s->row->set;
}

const char *tune_cure(const struct tune_seen *seen, char *buf, size_t cap)
{
	char name[TUNE_KEY_MAX];

	snprintf(buf, cap, "sysctl -w %s=%" PRId64, tune_name(seen, name, sizeof(name)),
		 value_to_set(seen));
	return buf;
}

/* ---- setting and restoring ---- */

static void tell_wrong(const struct tune_seen *s, int err)
{
	char name[TUNE_KEY_MAX], wanted[64], cure[TUNE_TEXT_MAX];

	log_msg(err ? LVL_WARNING : LVL_NOTICE,
		"%s is %" PRId64 ", wanted %s: %s; %s%s%s, cure: %s",
		tune_name(s, name, sizeof(name)), s->value,
		tune_wanted(s->row, wanted, sizeof(wanted)), s->row->why,
		err ? "cannot set it (" : "left to the administrator", err ? strerror(err) : "",
		err ? ")" : "", tune_cure(s, cure, sizeof(cure)));
}

static void set_one(const struct tune_seen *s, void *ctx)
{
	char name[TUNE_KEY_MAX];
	struct tune *t = ctx;
	struct change *c;
	int64_t now;
	int rc;

	if (s->state == TUNE_UNREADABLE)
		log_notice("%s cannot be read: %s", tune_name(s, name, sizeof(name)),
			   strerror(s->err));
	if (s->state != TUNE_WRONG)
		return;
	if (!s->row->automatic) {
		tell_wrong(s, 0);
		return;
	}
	rc = t->n < CHANGES_MAX ? write_key(s->key, value_to_set(s)) : -ENOBUFS;
	if (rc < 0) {
		tell_wrong(s, -rc);
		return;
	}
	/* The kernel may round. */
	if (read_key(s->key, &now) < 0)
		now = value_to_set(s);
	c = &t->changes[t->n++];
	c->seen = *s;
	c->set = now;
	log_notice("%s was %" PRId64 ", now %" PRId64 ": %s", tune_name(s, name, sizeof(name)),
		   s->value, now, s->row->why);
}

/* 0, also where there is nothing to do, or -errno. */
static int restore_one(const struct change *c)
{
	char name[TUNE_KEY_MAX];
	int64_t now;
	int rc = read_key(c->seen.key, &now);

	tune_name(&c->seen, name, sizeof(name));
	if (rc == 0 && now != c->set) {
		log_notice("%s has become %" PRId64 " meanwhile: left so (before us it was %" PRId64
			   ")",
			   name, now, c->seen.value);
		return 0;
	}
	if (rc == 0)
		rc = write_key(c->seen.key, c->seen.value);
	if (rc == -ENOENT) /* with an interface that has gone */
		return 0;
	if (rc < 0)
		log_warning("%s cannot be set back from %" PRId64 " to %" PRId64
			    ": %s, cure: sysctl -w %s=%" PRId64,
			    name, c->set, c->seen.value, strerror(-rc), name, c->seen.value);
	else
		log_info("%s is %" PRId64 " again", name, c->seen.value);
	return rc;
}

/* ---- from one process to the next ---- */

static void save(const struct tune *t)
{
	struct tune_saved v[CHANGES_MAX];
	int rc;

	if (!t->path)
		return;
	for (size_t i = 0; i < t->n; i++) {
		memcpy(v[i].key, t->changes[i].seen.key, sizeof(v[i].key));
		v[i].was = t->changes[i].seen.value;
		v[i].set = t->changes[i].set;
	}
	rc = tune_file_save(t->path, v, t->n);
	if (rc < 0 && t->n > 0)
		log_warning(
			"cannot write %s: %s; if we are killed, kernel settings are not set back",
			t->path, strerror(-rc));
}

/* NULL = nothing that we would have set. */
static const struct tune_row *row_of(const char *key)
{
	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].automatic && strcmp(rows[i].key, key) == 0)
			return &rows[i];
	return NULL;
}

static void load(struct tune *t)
{
	struct tune_saved v[CHANGES_MAX];
	size_t n = t->path ? tune_file_load(t->path, v, CHANGES_MAX) : 0;

	for (size_t i = 0; i < n; i++) {
		struct change *c = &t->changes[t->n];

		c->seen = (struct tune_seen){.row = row_of(v[i].key), .value = v[i].was};
		if (!c->seen.row)
			continue;
		memcpy(c->seen.key, v[i].key, sizeof(c->seen.key));
		c->set = v[i].set;
		t->n++;
	}
	if (t->n > 0)
		log_notice("%zu kernel settings that a process before us has changed are ours to "
			   "set back (%s)",
			   t->n, t->path);
}

struct tune *tune_apply(unsigned roles, const char *path)
{
	struct tune *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->path = path ? strdup(path) : NULL;
	load(t);
	tune_follow(t, roles);
	return t;
}

void tune_follow(struct tune *t, unsigned roles)
{
	size_t kept = 0;

	if (!t)
		return;
	for (size_t i = t->n; i-- > 0;)
		if (!(t->changes[i].seen.row->roles & roles))
			restore_one(&t->changes[i]);
	for (size_t i = 0; i < t->n; i++)
		if (t->changes[i].seen.row->roles & roles)
			t->changes[kept++] = t->changes[i];
	t->n = kept;
	tune_check(roles, set_one, t);
	save(t);
}

unsigned tune_restore(struct tune *t)
{
	unsigned failed = 0;

	if (!t)
		return 0;
	while (t->n > 0)
		failed += restore_one(&t->changes[--t->n]) < 0;
	if (failed == 0) /* else the next process may have the right */
		save(t);
	tune_forget(t);
	return failed;
}

void tune_forget(struct tune *t)
{
	if (t)
		free(t->path);
	free(t);
}
