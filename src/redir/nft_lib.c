/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/nft_lib.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

static bool find(void *handle, const char *name, void *function)
{
	void *found = dlsym(handle, name);

	memcpy(function, &found, sizeof(found)); /* POSIX: a pointer to a function fits */
	return found != NULL;
}

int nft_lib_load(struct nft_lib *lib, const char **why)
{
	/* Never closed: it comes with memory of its own that would not be given back. */
	void *handle = dlopen(NFT_LIB_NAME, RTLD_NOW | RTLD_LOCAL);

	if (handle && find(handle, "nft_ctx_new", &lib->ctx_new) &&
	    find(handle, "nft_ctx_free", &lib->ctx_free) &&
	    find(handle, "nft_ctx_buffer_output", &lib->ctx_buffer_output) &&
	    find(handle, "nft_ctx_buffer_error", &lib->ctx_buffer_error) &&
	    find(handle, "nft_ctx_get_error_buffer", &lib->ctx_get_error_buffer) &&
	    find(handle, "nft_ctx_set_dry_run", &lib->ctx_set_dry_run) &&
	    find(handle, "nft_run_cmd_from_buffer", &lib->run_cmd_from_buffer))
		return 0;
	*why = dlerror();
	return -ENOENT;
}
