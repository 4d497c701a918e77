/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `sixpathctl doctor` has found: a list that grows, and is printed at the end. */
#ifndef SIXPATH_FINDING_H
#define SIXPATH_FINDING_H

#include <stdbool.h>
#include <stddef.h>

enum finding_level {
	FINDING_OK,
	FINDING_NOTE, /* worth knowing, or could not be looked at */
	FINDING_WARN, /* works, but worse than it could, or not always */
	FINDING_FAIL, /* does not work */
};

struct finding {
	enum finding_level level;
	char *id, *seen, *cure; /* cure: a command, NULL if all is well */
};

struct findings {
	struct finding *v;
	size_t n;
	bool failed; /* out of memory */
};

/* Everything that is not FINDING_OK has a cure. */
void findings_add(struct findings *f, enum finding_level level, const char *id, const char *cure,
		  const char *fmt, ...) __attribute__((format(printf, 5, 6)));
enum finding_level findings_worst(const struct findings *f);
/* On standard output, as JSON or for people, with colours if that is a terminal. Returns 0 or an
 * exit code of sysexits (told). */
int findings_print(const struct findings *f, const char *role, bool json);
void findings_free(struct findings *f);

#endif
