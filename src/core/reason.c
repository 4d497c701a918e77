/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/reason.h"

#include <stddef.h>

static const char *const words[END__COUNT] = {
	[END_NONE] = "alive",
	[END_CLOSED] = "closed",
	[END_RESET_DOWN] = "reset-by-downstream",
	[END_RESET_UP] = "reset-by-upstream",
	[END_IDLE] = "idle",
	[END_DEAD_DOWN] = "dead-downstream",
	[END_DEAD_UP] = "dead-upstream",
	[END_LOST] = "lost-by-kernel",
	[END_SHUTDOWN] = "shutdown",
	[END_NO_MEMORY] = "no-memory",
	[END_INTERNAL] = "internal-error",
	[END_NO_ORIGINAL_DST] = "no-original-destination",
	[END_LOOP] = "loop",
	[END_DOWN_GONE] = "device-gone",
	[END_NO_UPSTREAM] = "no-upstream",
	[END_DIRECT_FAILED] = "direct-failed",
	[END_REPLY_FAILURE] = "refused-by-proxy",
	[END_FAILED_LATELY] = "failed-lately",
	[END_SERVER_FAILED] = "server-failed",
	[END_BUDGET] = "budget",
	[END_MAYBE_EXECUTED] = "upstream-lost",
	[END_VERSION] = "version-mismatch",
	[END_MALFORMED] = "malformed",
	[END_REQUEST_TIMEOUT] = "request-timeout",
	[END_AUTH_FAILED] = "authentication-failed",
	[END_SESSION_INVALID] = "session-invalid",
	[END_TOKEN_REJECTED] = "token-rejected",
	[END_NOOP] = "noop",
	[END_NOT_ALLOWED] = "not-allowed",
	[END_UNSUPPORTED] = "unsupported",
	[END_RESOLVE_FAILED] = "resolve-failed",
	[END_CONNECT_FAILED] = "connect-failed",
	[END_BIND_FAILED] = "bind-failed",
	[END_NO_PEER] = "no-peer",
	[END_TAKEN_OVER] = "taken-over",
	[END_LIMIT] = "limit",
};

const char *end_reason_str(enum end_reason reason)
{
	const char *word = NULL;

	if (reason < END__COUNT)
		word = words[reason];
	return word ? word : "unknown";
}
