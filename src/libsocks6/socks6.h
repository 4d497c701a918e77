/* SPDX-License-Identifier: MIT */
/*
 * libsocks6: SOCKS version 6 messages (draft-olteanu-intarea-socks-6-11).
 *
 * The library is pure: it opens no sockets, reads no clock, allocates nothing
 * and keeps no state. Bytes go in, structures come out, and back. Structures
 * filled by a parser may point into the parsed buffer (said at each field) and
 * are valid as long as that buffer is unchanged.
 *
 * Every parser gives one of three answers. Only S6_OK consumes bytes.
 * Contradictions of the draft are resolved as the project's resolutions R1-R37,
 * named in the comments where they decide something.
 */
#ifndef SOCKS6_H
#define SOCKS6_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define S6_VERSION 6
#define S6_PORT    1080 /* by convention; nothing is assigned */

#define S6_OPTIONS_SEND_MAX 16384 /* octets of options we send (R5) */
#define S6_OPTIONS_RECV_MAX 20480 /* octets of options we accept (R5) */
#define S6_INITIAL_DATA_MAX 16384 /* section 6.2, R20 */
#define S6_NAME_MAX         255
#define S6_ADDR_WIRE_MAX    256         /* length octet and name */
#define S6_REQUEST_HEADER   8           /* fixed part in front of the address */
#define S6_UDP_HEADER       12          /* version, type, length, association ID */
#define S6_UDP_ERROR_MAX    56          /* an Error message with two IPv6 addresses and an MTU */
#define S6_USERPASS_MAX     255         /* octets in a user name or a password */
#define S6_SESSION_ID_MAX   16376       /* larger IDs could never be sent back */
#define S6_AUTH_DATA_MAX    4           /* Authentication Data options kept per message */
#define S6_WINDOW_MAX       0x7fffffffu /* 0 < size < 2^31 */

/* The answer of a parser or builder. */
enum s6_result {
	S6_OK,   /* done */
	S6_MORE, /* parser: the message is not complete yet; builder: the buffer is too small */
	S6_BAD   /* never: malformed, or a structure that cannot be put on the wire */
};

/* Why a message was S6_BAD, or why a well-framed one must be refused. */
enum s6_fault {
	S6_FAULT_NONE,
	S6_FAULT_VERSION,        /* first octet is not 6 (section 3) */
	S6_FAULT_ADDRESS_TYPE,   /* unknown type: the message cannot be framed (R15) */
	S6_FAULT_NAME,           /* empty name, or NUL inside it (R4) */
	S6_FAULT_OPTIONS_LENGTH, /* above the cap or not a multiple of 4 (R9) */
	S6_FAULT_OPTION_LENGTH,  /* an option of bad length or beyond the options (R9) */
	S6_FAULT_INITIAL_DATA,   /* Initial Data Length above 2^14 (R20) */
	S6_FAULT_CONTENT,        /* impossible content in an auth, session or token option (R10) */
	S6_FAULT_REPEATED,       /* an option that must be single is repeated (R11) */
	S6_FAULT_UDP_LENGTH,     /* Message Length too small, or beyond the packet */
	S6_FAULT_UDP_TYPE,       /* unknown type of a UDP message (R35) */
	S6_FAULT_RANGE           /* builder: a field's value cannot be expressed */
};

enum s6_command { S6_CMD_NOOP = 0, S6_CMD_CONNECT = 1, S6_CMD_BIND = 2, S6_CMD_UDP_ASSOCIATE = 3 };

enum s6_reply_code {
	S6_REPLY_SUCCESS = 0,
	S6_REPLY_FAILURE = 1,
	S6_REPLY_NOT_ALLOWED = 2,
	S6_REPLY_NET_UNREACHABLE = 3,
	S6_REPLY_HOST_UNREACHABLE = 4,
	S6_REPLY_REFUSED = 5,
	S6_REPLY_TTL_EXPIRED = 6,
	S6_REPLY_CMD_UNSUPPORTED = 7,
	S6_REPLY_ADDR_UNSUPPORTED = 8,
	S6_REPLY_TIMED_OUT = 9
};

enum s6_auth_type { S6_AUTH_SUCCESS = 0, S6_AUTH_FAILURE = 1 };

enum s6_method {
	S6_METHOD_NONE = 0,
	S6_METHOD_GSSAPI = 1,
	S6_METHOD_USERPASS = 2,
	S6_METHOD_UNACCEPTABLE = 0xff
};

enum s6_addr_type { S6_ADDR_IPV4 = 1, S6_ADDR_NAME = 3, S6_ADDR_IPV6 = 4 };

/* Availability in stack options: the same two values both ways (R3). */
enum s6_avail { S6_AVAIL_NO = 1, S6_AVAIL_YES = 2 };

/* Parity in the Port Parity option (-11: 0 none, 1 even, 2 odd). */
enum s6_parity { S6_PARITY_NONE = 0, S6_PARITY_EVEN = 1, S6_PARITY_ODD = 2 };

enum s6_kind {
	S6_KIND_STACK = 1,
	S6_KIND_AUTH_METHODS = 2,
	S6_KIND_AUTH_SELECT = 3,
	S6_KIND_AUTH_DATA = 4,
	S6_KIND_SESSION_REQUEST = 5,
	S6_KIND_SESSION_ID = 6,
	S6_KIND_SESSION_OK = 8,
	S6_KIND_SESSION_INVALID = 9,
	S6_KIND_SESSION_TEARDOWN = 10,
	S6_KIND_TOKEN_REQUEST = 11,
	S6_KIND_TOKEN_WINDOW = 12,
	S6_KIND_TOKEN_SPEND = 13,
	S6_KIND_TOKEN_ACCEPTED = 14,
	S6_KIND_TOKEN_REJECTED = 15
};

/* An address and port as in requests and replies. */
struct s6_address {
	uint8_t type;     /* enum s6_addr_type */
	uint16_t port;    /* host order */
	uint8_t name_len; /* for S6_ADDR_NAME: length without padding, 1..255 */
	union {
		uint8_t ip4[4];
		uint8_t ip6[16];
		char name[S6_NAME_MAX + 1]; /* NUL-terminated, no NUL inside */
	} u;
};

/*
 * Stack options, one slot for each option and leg. The order is the order in
 * which they are built. An option that came with leg "both" fills both slots;
 * two filled slots with the same value are built as one option with leg "both".
 */
enum s6_stack_id {
	S6_STACK_TOS_CLIENT, /* value: TOS octet, client-proxy leg */
	S6_STACK_TOS_REMOTE, /* value: TOS octet, proxy-remote leg */
	S6_STACK_HAPPY_EYEBALLS,
	S6_STACK_TTL_CLIENT, /* value: TTL or hop limit */
	S6_STACK_TTL_REMOTE,
	S6_STACK_NO_FRAG_CLIENT,
	S6_STACK_NO_FRAG_REMOTE,
	S6_STACK_TFO, /* value: payload limit, or octets put in the SYN (R23) */
	S6_STACK_MULTIPATH,
	S6_STACK_BACKLOG,
	S6_STACK_UDP_ERROR,
	S6_STACK_PORT_PARITY, /* value: parity * 256 + reserve */
	S6_STACK_COUNT
};

struct s6_stack {
	uint32_t present;               /* bit 1u << id */
	uint16_t value[S6_STACK_COUNT]; /* availability, octet or 16-bit number */
};

struct s6_auth_data {
	uint8_t method;
	uint16_t len;        /* of data, padding included */
	const uint8_t *data; /* points into the parsed buffer; never NUL-terminated */
};

/*
 * All options a message can carry. Parsers ignore options that the spec does
 * not allow in the message at hand. Builders write every option that is set,
 * ordered by kind. Zero-initialise before filling.
 */
struct s6_options {
	/* Set by the request parser: well framed, but the proxy must answer with a
	 * final authentication failure (R10, R11). A client that finds it set in a
	 * reply closes. Ignored by builders. */
	enum s6_fault refuse;

	struct s6_stack stack;

	bool has_methods; /* Authentication Method Advertisement */
	uint16_t initial_data_len;
	uint8_t n_methods;
	const uint8_t *methods; /* points into the parsed buffer; zeros skipped by s6_methods_has */
	uint16_t methods_len;   /* octets at methods, padding included (parser) */

	bool has_selection;
	uint8_t selection; /* method; S6_METHOD_UNACCEPTABLE = none */

	uint8_t n_auth_data;
	struct s6_auth_data auth_data[S6_AUTH_DATA_MAX];

	bool session_request;
	uint16_t session_id_len;   /* 0 = no Session ID */
	const uint8_t *session_id; /* points into the parsed buffer */
	bool session_ok;
	bool session_invalid;
	bool session_teardown;

	bool has_token_request;
	uint32_t token_request; /* wished window size */
	bool has_token_window;
	uint32_t token_base, token_size;
	bool has_token_spend;
	uint32_t token_spend;
	bool token_accepted;
	bool token_rejected;
};

struct s6_request {
	uint8_t command; /* enum s6_command, or unknown (R16) */
	struct s6_address addr;
	struct s6_options opts;
};

struct s6_auth_reply {
	uint8_t type; /* enum s6_auth_type; unknown values are failures */
	struct s6_options opts;
};

struct s6_op_reply {
	uint8_t code; /* enum s6_reply_code, or unknown */
	struct s6_address bind;
	struct s6_options opts;
};

/*
 * Parse one message from the start of buf. S6_OK: *used octets belong to the
 * message. S6_MORE: nothing consumed, call again with more. S6_BAD: *why says
 * what is wrong (why may be NULL). A first octet other than 6 is S6_BAD with
 * S6_FAULT_VERSION as soon as one octet is there (section 3, R14).
 */
enum s6_result s6_request_parse(const void *buf, size_t len, struct s6_request *req, size_t *used,
				enum s6_fault *why);
enum s6_result s6_auth_reply_parse(const void *buf, size_t len, struct s6_auth_reply *reply,
				   size_t *used, enum s6_fault *why);
enum s6_result s6_op_reply_parse(const void *buf, size_t len, struct s6_op_reply *reply,
				 size_t *used, enum s6_fault *why);

/*
 * Build one message into buf (cap octets). S6_OK: *len octets written. S6_MORE:
 * cap is too small, nothing usable written. S6_BAD: the structure cannot be
 * expressed (unknown address type, empty name, options above 16384, ...).
 */
enum s6_result s6_request_build(const struct s6_request *req, void *buf, size_t cap, size_t *len);
enum s6_result s6_auth_reply_build(const struct s6_auth_reply *reply, void *buf, size_t cap,
				   size_t *len);
enum s6_result s6_op_reply_build(const struct s6_op_reply *reply, void *buf, size_t cap,
				 size_t *len);

/* ---- stack options ---- */

static inline bool s6_stack_has(const struct s6_stack *s, enum s6_stack_id id)
{
	return (s->present >> id) & 1u;
}

static inline void s6_stack_set(struct s6_stack *s, enum s6_stack_id id, uint16_t value)
{
	s->present |= 1u << id;
	s->value[id] = value;
}

/* ---- authentication ---- */

/* True if the advertisement names the method; "none" is always implied. */
bool s6_methods_has(const struct s6_options *opts, uint8_t method);

/* RFC 1929 request riding in an Authentication Data option (section 6.2). Both
 * pointers point into the option's data and are not NUL-terminated. */
struct s6_userpass {
	uint8_t user_len, pass_len;
	const uint8_t *user, *pass;
};

/* Read the method data of a kind 4, method 2 option of a Request: S6_OK or S6_BAD. */
enum s6_result s6_userpass_parse(const struct s6_auth_data *data, struct s6_userpass *up);

/* Write `01 ulen user plen pass` and zero padding so that the whole option is a
 * multiple of 4. buf needs up to 516 octets; the result is the data of an
 * s6_auth_data with method 2. S6_BAD on empty or over-long fields. */
enum s6_result s6_userpass_build(const struct s6_userpass *up, void *buf, size_t cap, size_t *len);

/* The status of a method 2 option in an Authentication Reply: S6_OK and *status. */
enum s6_result s6_userpass_status_parse(const struct s6_auth_data *data, uint8_t *status);

/* Three octets of data for such an option, e.g. {1, status, 0}. */
void s6_userpass_status_build(uint8_t status, uint8_t out[3]);

/* ---- idempotence tokens: 32-bit serial numbers (section 6.4) ---- */

/* x < y in serial arithmetic: 0 < (y - x) mod 2^32 < 2^31. */
static inline bool s6_token_less(uint32_t x, uint32_t y)
{
	uint32_t d = y - x;
	return d != 0 && d < 0x80000000u;
}

/* Is token inside [base, base + size)? */
static inline bool s6_token_in(uint32_t token, uint32_t base, uint32_t size)
{
	return (uint32_t)(token - base) < size;
}

/* ---- UDP association messages (section 8) ---- */

enum s6_udp_type { S6_UDP_INIT = 1, S6_UDP_CONFIRM = 2, S6_UDP_DATAGRAM = 3, S6_UDP_ERROR = 4 };

enum s6_udp_error {
	S6_UDP_ERR_NET_UNREACHABLE = 1,
	S6_UDP_ERR_HOST_UNREACHABLE = 2,
	S6_UDP_ERR_TTL_EXPIRED = 3,
	S6_UDP_ERR_TOO_BIG = 4
};

struct s6_udp {
	uint8_t type; /* enum s6_udp_type, or unknown when parsed from a stream (R35) */
	uint64_t association;
	struct s6_address addr; /* types 3 and 4: destination or source */
	/* type 3 */
	const uint8_t *payload; /* points into the parsed buffer */
	uint16_t payload_len;
	/* type 4 */
	struct s6_address reporter; /* port unused */
	uint8_t error;              /* enum s6_udp_error */
	/*
	 * With S6_UDP_ERR_TOO_BIG: what the reporter's next link can carry, octets of an IP packet,
	 * or 0 = unknown. Not in the draft, whose message leaves a client to guess: four octets
	 * behind the reporter's address, within Message Length, left out when 0. Who does not know
	 * them passes them over by Message Length.
	 */
	uint32_t mtu;
};

/*
 * From a TCP stream: S6_OK with *used = Message Length, S6_MORE, or S6_BAD for
 * framing errors that must close the connection (R31). Unknown types and surplus
 * of types 1 and 2 are S6_OK with only type, association and *used set (R34, R35).
 */
enum s6_result s6_udp_parse_stream(const void *buf, size_t len, struct s6_udp *msg, size_t *used,
				   enum s6_fault *why);

/* From one packet: S6_OK or S6_BAD (discard it). Octets beyond Message Length are padding. */
enum s6_result s6_udp_parse_packet(const void *buf, size_t len, struct s6_udp *msg,
				   enum s6_fault *why);

/*
 * Build a message; for type 3 the payload is copied behind the header. With
 * payload NULL and payload_len set only the header is written (for writev) and
 * *len is the header's length, while Message Length counts the payload.
 */
enum s6_result s6_udp_build(const struct s6_udp *msg, void *buf, size_t cap, size_t *len);

/* ---- words for people; never NULL ---- */

const char *s6_command_str(uint8_t command);
const char *s6_reply_str(uint8_t code);
const char *s6_fault_str(enum s6_fault why);
const char *s6_kind_str(uint16_t kind);
const char *s6_stack_str(enum s6_stack_id id);

#ifdef __cplusplus
}
#endif

#endif
