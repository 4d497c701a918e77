/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/passwd.h"

#include <crypt.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "tools/prompt.h"

#define USER_MAX     255 /* RFC 1929 */
#define PASSWORD_CAP 256 /* 255 octets and NUL */

/* One replacement of the file. */
struct edit {
	const char *user, *hash; /* hash NULL = delete */
	char path[PATH_MAX];     /* the file itself, not a link to it */
	char temp[PATH_MAX + 8];
	int dir; /* its directory, locked */
	FILE *in, *out;
	bool exists, found;
};

static int fail(int code, const char *what, const char *name)
{
	int err = errno;

	fprintf(stderr, "sixpathctl: %s %s: %s\n", what, name, strerror(err));
	return err == EACCES || err == EPERM ? EX_NOPERM : code;
}

/* ---- input ---- */

static bool user_valid(const char *user)
{
	size_t len = strlen(user);
	bool ok = len >= 1 && len <= USER_MAX && *user != '#';

	for (const char *c = user; ok && *c; c++)
		ok = *c != ':' && (unsigned char)*c >= ' ' && *c != 0x7f;
	if (!ok)
		fputs("sixpathctl: a user name must be 1 to 255 octets, without \":\" and control "
		      "characters, and not begin with \"#\"\n",
		      stderr);
	return ok;
}

/* The strongest method this libcrypt has. */
static int hash_password(const char *password, char *hash, size_t cap)
{
	static const char *const methods[] = {"$y$", "$6$"};
	struct crypt_data *data = calloc(1, sizeof(*data));
	char salt[CRYPT_GENSALT_OUTPUT_SIZE];
	const char *got = NULL;

	if (!data)
		return EX_OSERR;
	for (size_t i = 0; i < 2 && !got; i++) {
		if (crypt_gensalt_rn(methods[i], 0, NULL, 0, salt, sizeof(salt)))
			got = crypt_r(password, salt, data);
		if (got && *got == '*')
			got = NULL;
	}
	if (got)
		snprintf(hash, cap, "%s", got);
	explicit_bzero(data, sizeof(*data));
	free(data);
	if (got)
		return 0;
	fputs("sixpathctl: libcrypt has neither yescrypt nor SHA-512\n", stderr);
	return EX_OSERR;
}

/* ---- the file ---- */

/* Where the file is or will be, following links. */
static int find_path(struct edit *e, const char *file)
{
	char copy[PATH_MAX], dir[PATH_MAX];
	char *base;

	e->exists = realpath(file, e->path) != NULL;
	if (e->exists)
		return 0;
	if (errno != ENOENT || strlen(file) >= sizeof(copy))
		return fail(EX_NOINPUT, "cannot use", file);
	if (!e->hash)
		return fail(EX_NOINPUT, "cannot open", file);
	strcpy(copy, file);
	if (!realpath(dirname(copy), dir))
		return fail(EX_CANTCREAT, "cannot create", file);
	strcpy(copy, file);
	base = basename(copy);
	if ((size_t)snprintf(e->path, sizeof(e->path), "%s/%s", dir, base) >= sizeof(e->path)) {
		errno = ENAMETOOLONG;
		return fail(EX_CANTCREAT, "cannot create", file);
	}
	return 0;
}

/* Two of us at the same time would lose one's change. */
static int lock_dir(struct edit *e)
{
	char copy[PATH_MAX];

	memcpy(copy, e->path, sizeof(copy));
	e->dir = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (e->dir < 0 || flock(e->dir, LOCK_EX) < 0)
		return fail(EX_CANTCREAT, "cannot lock the directory of", e->path);
	return 0;
}

/* Owner, group and mode of the old file; a new one is for the daemon's group to read. */
static int copy_rights(struct edit *e)
{
	int fd = fileno(e->out);
	mode_t mode = 0640;
	struct stat st;

	if (e->in) {
		if (fstat(fileno(e->in), &st) < 0 || fchown(fd, st.st_uid, st.st_gid) < 0)
			return fail(EX_CANTCREAT, "cannot keep the owner of", e->path);
		mode = (st.st_mode & 0640) | 0600;
	} else if (geteuid() == 0) {
		const struct group *g = getgrnam("sixpath");
		if (g && fchown(fd, (uid_t)-1, g->gr_gid) < 0)
			return fail(EX_CANTCREAT, "cannot give to group sixpath:", e->path);
	}
	return fchmod(fd, mode) < 0 ? fail(EX_CANTCREAT, "cannot set the mode of", e->temp) : 0;
}

static int open_files(struct edit *e)
{
	struct stat st;
	int fd;

	e->in = fopen(e->path, "re");
	if (!e->in && errno != ENOENT)
		return fail(EX_NOINPUT, "cannot open", e->path);
	if (e->in && (fstat(fileno(e->in), &st) < 0 || !S_ISREG(st.st_mode))) {
		fprintf(stderr, "sixpathctl: %s is not a regular file\n", e->path);
		return EX_DATAERR;
	}
	snprintf(e->temp, sizeof(e->temp), "%s.XXXXXX", e->path);
	fd = mkostemp(e->temp, O_CLOEXEC);
	if (fd < 0) {
		*e->temp = '\0';
		return fail(EX_CANTCREAT, "cannot write beside", e->path);
	}
	e->out = fdopen(fd, "w");
	if (!e->out) {
		close(fd);
		return fail(EX_OSERR, "cannot write", e->temp);
	}
	return copy_rights(e);
}

static bool is_line_of(const char *line, const char *user)
{
	size_t len = strlen(user);

	return strncmp(line, user, len) == 0 && line[len] == ':';
}

static void copy_lines(struct edit *e)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;

	while (e->in && (len = getline(&line, &cap, e->in)) >= 0) {
		bool ours = is_line_of(line, e->user);
		if (ours && e->hash && !e->found)
			fprintf(e->out, "%s:%s\n", e->user, e->hash);
		e->found |= ours;
		if (ours)
			continue;
		fwrite(line, 1, (size_t)len, e->out);
		if (line[len - 1] != '\n')
			fputc('\n', e->out);
	}
	if (!e->found && e->hash)
		fprintf(e->out, "%s:%s\n", e->user, e->hash);
	free(line);
}

static int replace_file(struct edit *e)
{
	int rc;

	if (e->in && ferror(e->in))
		return fail(EX_IOERR, "cannot read", e->path);
	if (fflush(e->out) != 0 || fsync(fileno(e->out)) < 0)
		return fail(EX_IOERR, "cannot write", e->temp);
	rc = rename(e->temp, e->path);
	if (rc < 0)
		return fail(EX_CANTCREAT, "cannot replace", e->path);
	*e->temp = '\0';
	return fsync(e->dir) < 0 ? fail(EX_IOERR, "cannot sync the directory of", e->path) : 0;
}

/* With signals held back, so that no half-written file is left behind. */
static int edit_locked(struct edit *e, const char *file)
{
	int rc = open_files(e);

	if (rc)
		return rc;
	copy_lines(e);
	if (!e->found && !e->hash) {
		fprintf(stderr, "sixpathctl: there is no user \"%s\" in %s\n", e->user, file);
		return EX_NOUSER;
	}
	return replace_file(e);
}

/* Write user's line, or leave it out. */
static int edit(const char *file, const char *user, const char *hash)
{
	struct edit *e = calloc(1, sizeof(*e));
	sigset_t all, old;
	int rc;

	if (!e)
		return EX_OSERR;
	e->user = user;
	e->hash = hash;
	e->dir = -1;
	rc = find_path(e, file);
	if (rc == 0)
		rc = lock_dir(e);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &old);
	if (rc == 0)
		rc = edit_locked(e, file);
	if (e->in)
		fclose(e->in);
	if (e->out)
		fclose(e->out);
	if (*e->temp)
		unlink(e->temp);
	if (e->dir >= 0)
		close(e->dir);
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		printf("user \"%s\" %s; now: sixpathctl --proxy reload\n", user,
		       !hash      ? "deleted"
		       : e->found ? "has a new password"
				  : "added");
	free(e);
	return rc;
}

int passwd_set(const char *file, const char *user)
{
	char password[PASSWORD_CAP] = "", hash[CRYPT_OUTPUT_SIZE];
	int rc;

	if (!user_valid(user))
		return EX_DATAERR;
	rc = prompt_password(password, sizeof(password));
	if (rc == 0)
		rc = hash_password(password, hash, sizeof(hash));
	explicit_bzero(password, sizeof(password));
	return rc ? rc : edit(file, user, hash);
}

int passwd_delete(const char *file, const char *user)
{
	return user_valid(user) ? edit(file, user, NULL) : EX_DATAERR;
}
