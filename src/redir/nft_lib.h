/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libnftables, loaded when it is wanted: with what it needs itself it is as large in memory as all
 * the rest of an idle redirector, and a daemon whose rules are not its own needs none of it.
 */
#ifndef REDIR_NFT_LIB_H
#define REDIR_NFT_LIB_H

#include <stdbool.h>

#include <nftables/libnftables.h>

#define NFT_LIB_NAME "libnftables.so.1"

struct nft_lib {
	__typeof__(nft_ctx_new) *ctx_new;
	__typeof__(nft_ctx_free) *ctx_free;
	__typeof__(nft_ctx_buffer_output) *ctx_buffer_output;
	__typeof__(nft_ctx_buffer_error) *ctx_buffer_error;
	__typeof__(nft_ctx_get_error_buffer) *ctx_get_error_buffer;
	__typeof__(nft_ctx_set_dry_run) *ctx_set_dry_run;
	__typeof__(nft_run_cmd_from_buffer) *run_cmd_from_buffer;
};

/* 0, or -ENOENT: it is not there; *why says what is the matter with it then (static text of the
 * loader's). It stays loaded. Main thread. */
int nft_lib_load(struct nft_lib *lib, const char **why);

#endif
