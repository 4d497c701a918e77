/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the keys of a section mean together, looked at when all of it has been read. Each function is
 * the check of a struct conf_section: it tells what is wrong with conf_error. Nothing is changed,
 * except that passwords and users are read from the files that keys name, and that
 * [::] becomes 0.0.0.0 where the kernel has no IPv6.
 */
#ifndef SIXPATH_REDIR_CHECK_H
#define SIXPATH_REDIR_CHECK_H

#include "redir/redir_conf.h"

void redir_check_redir(struct conf *c, void *ctx, void *dst, const char *name);
void redir_check_proxy(struct conf *c, void *ctx, void *dst, const char *name);
void redir_check_path(struct conf *c, void *ctx, void *dst, const char *name);
void redir_check_forward(struct conf *c, void *ctx, void *dst, const char *name);
void redir_check_udp(struct conf *c, void *ctx, void *dst, const char *name);
void redir_check_dns(struct conf *c, void *ctx, void *dst, const char *name);
/* What can be told only when all sections have been read. */
void redir_check_all(struct conf *c, void *ctx, void *dst, const char *name);

#endif
