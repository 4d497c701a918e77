/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What kernel settings were before a daemon changed them, in a file: for the next process, if this
 * one is killed or hands over. It counts only in the same boot and network namespace. One line of
 * these, then a line for each change: key, value before, value set.
 */
#ifndef SIXPATH_TUNE_FILE_H
#define SIXPATH_TUNE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "core/tune.h"

struct tune_saved {
	char key[TUNE_KEY_MAX];
	int64_t was, set;
};

/* None: the file is removed. 0 or -errno. */
int tune_file_save(const char *path, const struct tune_saved *v, size_t n);
/* How many of at most cap there are; none if there is no file, or it is not of here and now, or not
 * as we write it. Whoever may write beside the control socket may have written it. */
size_t tune_file_load(const char *path, struct tune_saved *v, size_t cap);

#endif
