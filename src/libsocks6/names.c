/* SPDX-License-Identifier: MIT */
#include "libsocks6/socks6.h"

#define LOOKUP(table, i)                                                                           \
	((size_t)(i) < sizeof(table) / sizeof((table)[0]) && (table)[i] ? (table)[i] : "unknown")

const char *s6_command_str(uint8_t command)
{
	static const char *const words[] = {"NOOP", "CONNECT", "BIND", "UDP ASSOCIATE"};
	return LOOKUP(words, command);
}

const char *s6_reply_str(uint8_t code)
{
	static const char *const words[] = {
		"success",
		"general failure",
		"not allowed by rules",
		"network unreachable",
		"host unreachable",
		"connection refused",
		"TTL expired",
		"command not supported",
		"address type not supported",
		"connection attempt timed out",
	};
	return LOOKUP(words, code);
}

const char *s6_fault_str(enum s6_fault why)
{
	static const char *const words[] = {
		[S6_FAULT_NONE] = "no fault",
		[S6_FAULT_VERSION] = "not SOCKS version 6",
		[S6_FAULT_ADDRESS_TYPE] = "unknown address type",
		[S6_FAULT_NAME] = "empty name or NUL inside a name",
		[S6_FAULT_OPTIONS_LENGTH] = "bad length of all options",
		[S6_FAULT_OPTION_LENGTH] = "bad length of an option",
		[S6_FAULT_INITIAL_DATA] = "too much initial data announced",
		[S6_FAULT_CONTENT] = "impossible content of an option",
		[S6_FAULT_REPEATED] = "repeated option",
		[S6_FAULT_UDP_LENGTH] = "bad length of a UDP message",
		[S6_FAULT_UDP_TYPE] = "unknown type of UDP message",
		[S6_FAULT_RANGE] = "value out of range",
	};
	return LOOKUP(words, why);
}

const char *s6_kind_str(uint16_t kind)
{
	static const char *const words[] = {
		[S6_KIND_STACK] = "Stack",
		[S6_KIND_AUTH_METHODS] = "Authentication Method Advertisement",
		[S6_KIND_AUTH_SELECT] = "Authentication Method Selection",
		[S6_KIND_AUTH_DATA] = "Authentication Data",
		[S6_KIND_SESSION_REQUEST] = "Session Request",
		[S6_KIND_SESSION_ID] = "Session ID",
		[S6_KIND_SESSION_OK] = "Session OK",
		[S6_KIND_SESSION_INVALID] = "Session Invalid",
		[S6_KIND_SESSION_TEARDOWN] = "Session Teardown",
		[S6_KIND_TOKEN_REQUEST] = "Idempotence Request",
		[S6_KIND_TOKEN_WINDOW] = "Idempotence Window",
		[S6_KIND_TOKEN_SPEND] = "Idempotence Expenditure",
		[S6_KIND_TOKEN_ACCEPTED] = "Idempotence Accepted",
		[S6_KIND_TOKEN_REJECTED] = "Idempotence Rejected",
	};
	return LOOKUP(words, kind);
}

const char *s6_stack_str(enum s6_stack_id id)
{
	static const char *const words[] = {
		[S6_STACK_TOS_CLIENT] = "TOS (client leg)",
		[S6_STACK_TOS_REMOTE] = "TOS (remote leg)",
		[S6_STACK_HAPPY_EYEBALLS] = "Happy Eyeballs",
		[S6_STACK_TTL_CLIENT] = "TTL (client leg)",
		[S6_STACK_TTL_REMOTE] = "TTL (remote leg)",
		[S6_STACK_NO_FRAG_CLIENT] = "No Fragmentation (client leg)",
		[S6_STACK_NO_FRAG_REMOTE] = "No Fragmentation (remote leg)",
		[S6_STACK_TFO] = "TFO",
		[S6_STACK_MULTIPATH] = "Multipath",
		[S6_STACK_BACKLOG] = "Listen Backlog",
		[S6_STACK_UDP_ERROR] = "UDP Error",
		[S6_STACK_PORT_PARITY] = "Port Parity",
	};
	return LOOKUP(words, id);
}
