/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why a connection ended. Each connection ends once, with one of these; it stands
 * in its log line, in counters and in tests.
 */
#ifndef SIXPATH_REASON_H
#define SIXPATH_REASON_H

enum end_reason {
	END_NONE,       /* has not ended */
	END_CLOSED,     /* both sides finished */
	END_RESET_DOWN, /* the downstream (device, client) reset it */
	END_RESET_UP,   /* the upstream (proxy, server) reset it */
	END_IDLE,       /* no byte for the idle limit */
	END_DEAD_DOWN,  /* the downstream answers nothing to what is sent to it */
	END_DEAD_UP,    /* nor does the upstream */
	END_LOST,       /* the kernel threw away what it had acknowledged, see sock_dropped */
	END_SHUTDOWN,   /* the daemon stops */
	END_NO_MEMORY,
	END_INTERNAL, /* a system call failed that never should */
	/* sixpath-redir */
	END_NO_ORIGINAL_DST, /* the original destination could not be found out */
	END_LOOP,            /* destination is our own listener, or the flow is our own */
	END_DOWN_GONE,       /* the device gave up before the upstream answered */
	END_NO_UPSTREAM,     /* no upstream could be used and on_proxy_failure = refuse */
	END_DIRECT_FAILED,   /* direct connection failed */
	END_REPLY_FAILURE,   /* the proxy told that the server cannot be reached */
	END_FAILED_LATELY,   /* the server could not be reached a moment ago */
	END_SERVER_FAILED,   /* a forward's server in the LAN cannot be reached */
	END_BUDGET,          /* idle, and descriptors or memory were needed */
	END_MAYBE_EXECUTED,  /* upstream failed after it may have acted: nothing is tried twice */
	/* sixpath-proxy */
	END_VERSION,         /* first octet is not 6 */
	END_MALFORMED,       /* request cannot be parsed */
	END_REQUEST_TIMEOUT, /* request not complete in time */
	END_AUTH_FAILED,
	END_SESSION_INVALID,
	END_TOKEN_REJECTED,
	END_NOOP,        /* NOOP answered */
	END_NOT_ALLOWED, /* acl or limits */
	END_UNSUPPORTED, /* command or address type */
	END_RESOLVE_FAILED,
	END_CONNECT_FAILED,
	END_BIND_FAILED, /* the port cannot be had */
	END_NO_PEER,     /* nobody connected to the bound port in time */
	END_TAKEN_OVER,  /* another request has the bound port now, or it is closed */
	END_LIMIT,       /* too many connections */
	END__COUNT
};

/* A word for logs and JSON, e.g. "reset-by-upstream"; never NULL. */
const char *end_reason_str(enum end_reason reason);

#endif
