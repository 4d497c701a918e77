/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where a captured connection was going. */
#ifndef REDIR_ORIGDST_H
#define REDIR_ORIGDST_H

#include "core/addr.h"
#include "redir/redir_conf.h"

enum origdst_result {
	ORIGDST_OK,
	ORIGDST_UNKNOWN, /* the kernel does not say */
	ORIGDST_SELF     /* it came to our listener itself: a loop, or somebody knocking */
};

/* listen: our listening addresses. */
enum origdst_result origdst_find(int fd, enum redir_mode mode, const struct addr_list *listen,
				 struct addr *dst);

#endif
