/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/priv.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "core/log.h"

#define CAPS_MAX 16

struct cap_list {
	cap_value_t v[CAPS_MAX];
	int n;
};

/* Our end of the channel to the waiting parent, between priv_daemonize and priv_ready. */
static int ready_fd = -1;

static bool caps_parse(struct cap_list *list, const char *names)
{
	char copy[256], *save = NULL;

	list->n = 0;
	if (!names)
		return true;
	if ((size_t)snprintf(copy, sizeof(copy), "%s", names) >= sizeof(copy))
		return false;
	for (char *t = strtok_r(copy, ", ", &save); t; t = strtok_r(NULL, ", ", &save)) {
		if (list->n == CAPS_MAX || cap_from_name(t, &list->v[list->n]) < 0)
			return false;
		list->n++;
	}
	return true;
}

/* Root in a container may lack what we want to keep: say so by name. */
static int caps_check_held(const struct cap_list *list)
{
	cap_t now = cap_get_proc();
	int rc = 0;

	if (!now) {
		log_error("cannot read our capabilities: %s", strerror(errno));
		return EX_OSERR;
	}
	for (int i = 0; i < list->n; i++) {
		cap_flag_value_t held = CAP_CLEAR;
		if (cap_get_flag(now, list->v[i], CAP_PERMITTED, &held) == 0 && held == CAP_SET)
			continue;
		char *name = cap_to_name(list->v[i]);
		log_error("root lacks the capability %s here: add it to the service or container",
			  name ? name : "?");
		cap_free(name);
		rc = EX_NOPERM;
	}
	cap_free(now);
	return rc;
}

static int caps_keep_only(const struct cap_list *list)
{
	cap_t set = cap_init();
	int rc = 0;

	if (!set)
		return -errno;
	if (list->n && (cap_set_flag(set, CAP_PERMITTED, list->n, list->v, CAP_SET) < 0 ||
			cap_set_flag(set, CAP_EFFECTIVE, list->n, list->v, CAP_SET) < 0))
		rc = -errno;
	else if (cap_set_proc(set) < 0)
		rc = -errno;
	cap_free(set);
	return rc;
}

#define GROUPS_MAX 64 /* beyond that, the user has fewer than it might */

struct account {
	const char *name; /* as asked for */
	bool there;
	uid_t uid;
	gid_t gid;
	int n_groups; /* supplementary ones */
	gid_t groups[GROUPS_MAX];
};

static void account_read(struct account *a, const char *name)
{
	const struct passwd *pw = getpwnam(name);

	*a = (struct account){.name = name, .there = pw != NULL, .n_groups = GROUPS_MAX};
	if (!pw)
		return;
	a->uid = pw->pw_uid;
	a->gid = pw->pw_gid;
	if (getgrouplist(name, a->gid, a->groups, &a->n_groups) < 0)
		a->n_groups = GROUPS_MAX;
}

static bool read_all(int fd, void *data, size_t len)
{
	uint8_t *at = data;

	while (len > 0) {
		ssize_t n = read(fd, at, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		len -= (size_t)n;
	}
	return true;
}

/* By a child: the libraries that know users are large, are never unloaded, and no use later. */
static bool account_find(struct account *a, const char *name)
{
	int fd[2], status;
	bool good;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) < 0) {
		account_read(a, name);
		return a->there;
	}
	pid = fork();
	if (pid == 0) {
		account_read(a, name);
		_exit(write(fd[1], a, sizeof(*a)) == (ssize_t)sizeof(*a) ? 0 : 1);
	}
	close(fd[1]);
	good = pid > 0 && read_all(fd[0], a, sizeof(*a));
	close(fd[0]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!good)
		account_read(a, name);
	return a->there;
}

/* The account to become. False: there is none (told). */
static bool find_user(struct account *a, const char *user, bool is_default)
{
	if (account_find(a, user))
		return true;
	if (is_default && account_find(a, "nobody")) {
		log_notice("user \"%s\" does not exist: running as \"nobody\"", user);
		return true;
	}
	log_error("user \"%s\" does not exist: create it (useradd --system %s) or set "
		  "\"user\" in the configuration",
		  user, user);
	return false;
}

static int become(const struct account *a)
{
	if (prctl(PR_SET_KEEPCAPS, 1L, 0L, 0L, 0L) < 0 ||
	    setgroups((size_t)a->n_groups, a->groups) < 0 ||
	    setresgid(a->gid, a->gid, a->gid) < 0 || setresuid(a->uid, a->uid, a->uid) < 0)
		return -errno;
	return 0;
}

/* A successor is started as whom it is to be, and without the capabilities that it takes. */
static bool is_already(const struct account *a)
{
	uid_t u[3];
	gid_t g[3];

	return getresuid(&u[0], &u[1], &u[2]) == 0 && getresgid(&g[0], &g[1], &g[2]) == 0 &&
	       u[0] == a->uid && u[1] == u[0] && u[2] == u[0] && g[0] == a->gid && g[1] == g[0] &&
	       g[2] == g[0];
}

static bool root_is_gone(const struct account *a)
{
	if (a->uid == 0)
		return true;
	return setresuid(0, 0, 0) < 0 && seteuid(0) < 0 && getuid() == a->uid &&
	       geteuid() == a->uid && (a->gid == 0 || setegid(0) < 0);
}

int priv_drop(const char *user, bool is_default, const char *caps)
{
	struct cap_list list;
	struct account a;
	int rc;

	if (!caps_parse(&list, caps)) {
		log_error("unknown capability in \"%s\"", caps);
		return EX_SOFTWARE;
	}
	if (geteuid() != 0) {
		if (!is_default && (!account_find(&a, user) || a.uid != geteuid()))
			log_notice("not started as root: \"user = %s\" has no effect", user);
		return 0;
	}
	if (!find_user(&a, user, is_default))
		return EX_CONFIG;
	rc = caps_check_held(&list);
	if (rc)
		return rc;
	rc = is_already(&a) ? 0 : become(&a);
	if (rc < 0) {
		log_error("cannot become user \"%s\": %s: the service needs cap_setuid and "
			  "cap_setgid at start",
			  a.name, strerror(-rc));
		return EX_NOPERM;
	}
	rc = caps_keep_only(&list);
	if (rc < 0 || prctl(PR_SET_KEEPCAPS, 0L, 0L, 0L, 0L) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) < 0) {
		log_error("cannot limit the privileges of user \"%s\": %s", a.name,
			  strerror(rc < 0 ? -rc : errno));
		return EX_OSERR;
	}
	if (!root_is_gone(&a)) {
		log_error("user \"%s\" could become root again: refusing to run", a.name);
		return EX_SOFTWARE;
	}
	log_debug("running as user \"%s\" (uid %ld)", a.name, (long)a.uid);
	return 0;
}

void priv_pass_on(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	/* libcap allocates memory, which is not allowed here. */
	if (syscall(SYS_capget, &head, data) < 0)
		return;
	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		data[i].inheritable = data[i].permitted;
	if (syscall(SYS_capset, &head, data) < 0)
		return;
	/* Refused for all that is not permitted. */
	for (unsigned long c = 0; c <= CAP_LAST_CAP; c++)
		prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0UL, 0UL);
}

int priv_make_dir(const char *dir, const char *user)
{
	struct account a;
	struct stat st;
	int fd, rc = 0;

	if (mkdir(dir, 0750) < 0) {
		if (errno != EEXIST)
			return -errno;
		if (stat(dir, &st) < 0)
			return -errno;
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	}
	if (geteuid() != 0 || !user)
		return 0;
	if (!account_find(&a, user) && !account_find(&a, "nobody"))
		return -ENOENT;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0750) < 0 || fchown(fd, a.uid, a.gid) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

unsigned long priv_raise_nofile(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return 0;
	rlim_t before = rl.rlim_cur;
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
		rl.rlim_cur = before;
	return (unsigned long)rl.rlim_cur;
}

/* The parent: leave with the code the child reports, or with the one it died of. */
static _Noreturn void wait_for_child(int fd, pid_t child)
{
	unsigned char code;
	int status;
	ssize_t n;

	do
		n = read(fd, &code, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		_exit(code);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			_exit(EX_OSERR);
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		_exit(WEXITSTATUS(status));
	_exit(EX_SOFTWARE);
}

static int to_dev_null(int from, int to)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	int rc = 0;

	if (fd < 0)
		return -errno;
	for (int i = from; i <= to; i++)
		if (dup2(fd, i) < 0)
			rc = -errno;
	if (fd > STDERR_FILENO)
		close(fd);
	return rc;
}

int priv_daemonize(bool fork_wanted)
{
	int fds[2];
	pid_t pid;

	if (!fork_wanted)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	fflush(NULL);
	pid = fork();
	if (pid < 0) {
		int err = errno;
		close(fds[0]);
		close(fds[1]);
		return -err;
	}
	if (pid > 0) {
		close(fds[1]);
		wait_for_child(fds[0], pid);
	}
	close(fds[0]);
	ready_fd = fds[1];
	if (setsid() < 0)
		return -errno;
	return to_dev_null(STDIN_FILENO, STDOUT_FILENO);
}

void priv_ready(int code)
{
	unsigned char octet = (unsigned char)code;
	ssize_t n;

	if (ready_fd < 0)
		return;
	fflush(NULL);
	to_dev_null(STDERR_FILENO, STDERR_FILENO);
	do
		n = send(ready_fd, &octet, 1, MSG_NOSIGNAL); /* the parent may have been killed */
	while (n < 0 && errno == EINTR);
	close(ready_fd);
	ready_fd = -1;
}
