/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static void set_in(struct addr *a, const struct in_addr *ip, in_port_t port)
{
	memset(a, 0, sizeof(*a));
	a->u.in.sin_family = AF_INET;
	a->u.in.sin_addr = *ip;
	a->u.in.sin_port = port;
	a->len = sizeof(a->u.in);
}

bool addr_from_sockaddr(struct addr *a, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_in in;
	struct sockaddr_in6 in6;

	memset(a, 0, sizeof(*a));
	if (len >= sizeof(in) && sa->sa_family == AF_INET) {
		memcpy(&in, sa, sizeof(in));
		set_in(a, &in.sin_addr, in.sin_port);
		return true;
	}
	if (len < sizeof(in6) || sa->sa_family != AF_INET6)
		return false;
	memcpy(&in6, sa, sizeof(in6));
	if (memcmp(&in6.sin6_addr, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		struct in_addr ip;
		memcpy(&ip, in6.sin6_addr.s6_addr + 12, sizeof(ip));
		set_in(a, &ip, in6.sin6_port);
		return true;
	}
	a->u.in6.sin6_family = AF_INET6;
	a->u.in6.sin6_addr = in6.sin6_addr;
	a->u.in6.sin6_port = in6.sin6_port;
	a->u.in6.sin6_scope_id = in6.sin6_scope_id;
	a->len = sizeof(a->u.in6);
	return true;
}

static bool parse_port(const char *text, uint16_t *port)
{
	unsigned long n = 0;

	if (*text == '\0' || strlen(text) > 5)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return false;
		n = n * 10 + (unsigned long)(*text - '0');
	}
	*port = (uint16_t)n;
	return n >= 1 && n <= 65535;
}

bool addr_parse_ip(struct addr *a, const char *text)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	struct in_addr ip;
	char host[INET6_ADDRSTRLEN];
	const char *scope = strchr(text, '%');
	size_t n = scope ? (size_t)(scope - text) : strlen(text);

	if (n >= sizeof(host))
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	if (!scope && inet_pton(AF_INET, host, &ip) == 1) {
		set_in(a, &ip, 0);
		return true;
	}
	if (inet_pton(AF_INET6, host, &in6.sin6_addr) != 1)
		return false;
	if (scope) {
		in6.sin6_scope_id = if_nametoindex(scope + 1);
		if (in6.sin6_scope_id == 0)
			return false;
	}
	return addr_from_sockaddr(a, (const struct sockaddr *)&in6, sizeof(in6));
}

bool addr_parse(struct addr *a, const char *text, int default_port)
{
	char host[ADDR_STRLEN];
	const char *port_text = NULL, *end;
	uint16_t port;
	size_t n;

	if (*text == '[') {
		text++;
		end = strchr(text, ']');
		if (!end || (end[1] != '\0' && end[1] != ':'))
			return false;
		if (end[1] == ':')
			port_text = end + 2;
	} else {
		end = strrchr(text, ':');
		if (end && strchr(text, ':') != end)
			end = NULL; /* a bare IPv6 address */
		if (end)
			port_text = end + 1;
		else
			end = text + strlen(text);
	}
	n = (size_t)(end - text);
	if (n == 0 || n >= sizeof(host))
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	if (!addr_parse_ip(a, host))
		return false;
	if (port_text) {
		if (!parse_port(port_text, &port))
			return false;
	} else {
		if (default_port < 0)
			return false;
		port = (uint16_t)default_port;
	}
	addr_set_port(a, port);
	return true;
}

const char *addr_ip_str(const struct addr *a, char *buf, size_t cap)
{
	char scope[IF_NAMESIZE];
	size_t n;

	if (cap == 0)
		return buf;
	if (addr_family(a) == AF_INET && inet_ntop(AF_INET, &a->u.in.sin_addr, buf, (socklen_t)cap))
		return buf;
	if (addr_family(a) == AF_INET6 &&
	    inet_ntop(AF_INET6, &a->u.in6.sin6_addr, buf, (socklen_t)cap)) {
		n = strlen(buf);
		if (a->u.in6.sin6_scope_id && if_indextoname(a->u.in6.sin6_scope_id, scope))
			snprintf(buf + n, cap - n, "%%%s", scope);
		return buf;
	}
	snprintf(buf, cap, "-");
	return buf;
}

const char *addr_str(const struct addr *a, char *buf, size_t cap)
{
	char ip[ADDR_STRLEN];

	addr_ip_str(a, ip, sizeof(ip));
	if (addr_family(a) == AF_INET)
		snprintf(buf, cap, "%s:%u", ip, addr_port(a));
	else if (addr_family(a) == AF_INET6)
		snprintf(buf, cap, "[%s]:%u", ip, addr_port(a));
	else
		snprintf(buf, cap, "-");
	return buf;
}

void addr_set_port(struct addr *a, uint16_t port)
{
	if (addr_family(a) == AF_INET)
		a->u.in.sin_port = htons(port);
	else if (addr_family(a) == AF_INET6)
		a->u.in6.sin6_port = htons(port);
}

/* The octets of the address: 4 or 16, 0 when unset. */
static size_t ip_octets(const struct addr *a, const uint8_t **octets)
{
	if (addr_family(a) == AF_INET) {
		*octets = (const uint8_t *)&a->u.in.sin_addr;
		return 4;
	}
	*octets = (const uint8_t *)&a->u.in6.sin6_addr;
	return addr_family(a) == AF_INET6 ? 16 : 0;
}

bool addr_equal_ip(const struct addr *x, const struct addr *y)
{
	const uint8_t *p, *q;
	size_t n = ip_octets(x, &p);

	return ip_octets(y, &q) == n && memcmp(p, q, n) == 0;
}

bool addr_equal(const struct addr *x, const struct addr *y)
{
	if (addr_port(x) != addr_port(y) || !addr_equal_ip(x, y))
		return false;
	return addr_family(x) != AF_INET6 || x->u.in6.sin6_scope_id == y->u.in6.sin6_scope_id;
}

/* FNV-1a; callers mix in a random seed where the input is chosen by strangers. */
uint32_t addr_hash(const struct addr *a, uint32_t seed)
{
	const uint8_t *p;
	size_t n = ip_octets(a, &p);
	uint32_t h = 2166136261u ^ seed;

	for (size_t i = 0; i < n; i++)
		h = (h ^ p[i]) * 16777619u;
	h = (h ^ (addr_port(a) & 0xffu)) * 16777619u;
	h = (h ^ (uint32_t)(addr_port(a) >> 8)) * 16777619u;
	return h ^ (h >> 15);
}

void addr_pack(const struct addr *a, uint8_t *out)
{
	uint16_t port = htons(addr_port(a));
	const uint8_t *ip;
	size_t n = ip_octets(a, &ip);

	memcpy(out, &port, sizeof(port));
	memcpy(out + sizeof(port), ip, n);
	if (addr_family(a) == AF_INET6)
		memcpy(out + sizeof(port) + n, &a->u.in6.sin6_scope_id,
		       sizeof(a->u.in6.sin6_scope_id));
}

void addr_unpack(struct addr *a, sa_family_t family, const uint8_t *in)
{
	static const uint8_t unset[ADDR_PACKED_V6];
	bool v6 = family == AF_INET6;

	memset(a, 0, sizeof(*a));
	if (memcmp(in, unset, v6 ? ADDR_PACKED_V6 : ADDR_PACKED_V4) == 0)
		return;
	a->u.sa.sa_family = family;
	if (v6) {
		a->len = sizeof(a->u.in6);
		memcpy(&a->u.in6.sin6_port, in, 2);
		memcpy(&a->u.in6.sin6_addr, in + 2, 16);
		memcpy(&a->u.in6.sin6_scope_id, in + 18, 4);
	} else {
		a->len = sizeof(a->u.in);
		memcpy(&a->u.in.sin_port, in, 2);
		memcpy(&a->u.in.sin_addr, in + 2, 4);
	}
}

bool addr_is_any(const struct addr *a)
{
	static const uint8_t zero[16];
	const uint8_t *p;
	size_t n = ip_octets(a, &p);

	return memcmp(p, zero, n) == 0;
}

void addr_map_v6(struct addr *out, const struct addr *a)
{
	struct addr v6;

	if (addr_family(a) != AF_INET) {
		*out = *a;
		return;
	}
	memset(&v6, 0, sizeof(v6));
	v6.u.in6.sin6_family = AF_INET6;
	v6.u.in6.sin6_port = a->u.in.sin_port;
	memcpy(v6.u.in6.sin6_addr.s6_addr, mapped_prefix, sizeof(mapped_prefix));
	memcpy(v6.u.in6.sin6_addr.s6_addr + 12, &a->u.in.sin_addr, 4);
	v6.len = sizeof(v6.u.in6);
	*out = v6;
}

/* ---- ranges ---- */

struct range {
	uint8_t base[16];
	uint8_t bits;
	enum addr_class class;
};

/* The first match decides. Documentation and benchmarking ranges are left public: they
 * are routed in laboratories and lead nowhere elsewhere. */
static const struct range ranges4[] = {
	{{255, 255, 255, 255}, 32, ADDR_MULTICAST},
	{{0}, 8, ADDR_UNSPECIFIED},
	{{127}, 8, ADDR_LOOPBACK},
	{{10}, 8, ADDR_PRIVATE},
	{{172, 16}, 12, ADDR_PRIVATE},
	{{192, 168}, 16, ADDR_PRIVATE},
	{{100, 64}, 10, ADDR_PRIVATE},
	{{169, 254}, 16, ADDR_LINK_LOCAL},
	{{224}, 4, ADDR_MULTICAST},
	{{240}, 4, ADDR_RESERVED},
	{{192, 0, 0}, 24, ADDR_RESERVED},
};

static const struct range ranges6[] = {
	{{0}, 128, ADDR_UNSPECIFIED},
	{{[15] = 1}, 128, ADDR_LOOPBACK},
	{{0xfe, 0x80}, 10, ADDR_LINK_LOCAL},
	{{0xfe, 0xc0}, 10, ADDR_PRIVATE},
	{{0xfc}, 7, ADDR_PRIVATE},
	{{0xff}, 8, ADDR_MULTICAST},
	{{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48, ADDR_PRIVATE}, /* local NAT64, RFC 8215 */
	{{0x01}, 64, ADDR_RESERVED},
	{{0}, 96, ADDR_RESERVED}, /* IPv4-compatible, long gone */
};

static bool bits_equal(const uint8_t *p, const uint8_t *q, unsigned bits)
{
	unsigned rest = bits % 8;

	if (memcmp(p, q, bits / 8) != 0)
		return false;
	return rest == 0 || ((p[bits / 8] ^ q[bits / 8]) >> (8 - rest)) == 0;
}

static enum addr_class find_range(const struct range *r, size_t n, const uint8_t *ip)
{
	for (size_t i = 0; i < n; i++)
		if (bits_equal(ip, r[i].base, r[i].bits))
			return r[i].class;
	return ADDR_PUBLIC;
}

static enum addr_class classify4(const uint8_t *ip)
{
	return find_range(ranges4, sizeof(ranges4) / sizeof(ranges4[0]), ip);
}

enum addr_class addr_classify(const struct addr *a)
{
	static const uint8_t nat64[12] = {0x00, 0x64, 0xff, 0x9b};
	const uint8_t *ip;
	size_t n = ip_octets(a, &ip);

	if (n == 4)
		return classify4(ip);
	if (n != 16)
		return ADDR_UNSPECIFIED;
	/* Forms that carry an IPv4 address must be no way around a rule about that address. */
	if (memcmp(ip, mapped_prefix, 12) == 0 || memcmp(ip, nat64, 12) == 0)
		return classify4(ip + 12);
	if (ip[0] == 0x20 && ip[1] == 0x02)
		return classify4(ip + 2);
	return find_range(ranges6, sizeof(ranges6) / sizeof(ranges6[0]), ip);
}

const char *addr_class_str(enum addr_class c)
{
	static const char *const words[] = {
		[ADDR_PUBLIC] = "public",       [ADDR_LOOPBACK] = "loopback",
		[ADDR_PRIVATE] = "private",     [ADDR_LINK_LOCAL] = "link-local",
		[ADDR_MULTICAST] = "multicast", [ADDR_UNSPECIFIED] = "unspecified",
		[ADDR_RESERVED] = "reserved",
	};
	return (size_t)c < sizeof(words) / sizeof(words[0]) ? words[c] : "unknown";
}

/* A question to the kernel: which route leads to the address? */
struct route_question {
	struct nlmsghdr head;
	struct rtmsg route;
	uint8_t dst[RTA_SPACE(16)];
};

struct route_answer {
	struct nlmsghdr head;
	struct rtmsg route;
	uint8_t rest[1024];
};

static size_t build_question(struct route_question *q, const struct addr *a)
{
	const uint8_t *ip;
	size_t n = ip_octets(a, &ip);
	struct rtattr attr = {.rta_type = RTA_DST, .rta_len = (unsigned short)RTA_LENGTH(n)};

	memset(q, 0, sizeof(*q));
	q->head.nlmsg_len = (uint32_t)(offsetof(struct route_question, dst) + RTA_SPACE(n));
	q->head.nlmsg_type = RTM_GETROUTE;
	q->head.nlmsg_flags = NLM_F_REQUEST;
	q->route.rtm_family = (uint8_t)addr_family(a);
	q->route.rtm_dst_len = (uint8_t)(n * 8);
	memcpy(q->dst, &attr, sizeof(attr));
	memcpy(q->dst + RTA_LENGTH(0), ip, n);
	return q->head.nlmsg_len;
}

/* A trial bind would be shorter, but with ip_nonlocal_bind set it takes any address. */
bool addr_is_local(const struct addr *a)
{
	struct route_question q;
	struct route_answer answer;
	ssize_t n = -1;
	int fd;

	if (addr_is_any(a))
		return false;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (fd < 0)
		return false;
	/* The kernel answers before send returns. */
	if (send(fd, &q, build_question(&q, a), 0) > 0)
		n = recv(fd, &answer, sizeof(answer), 0);
	close(fd);
	return n >= (ssize_t)offsetof(struct route_answer, rest) &&
	       answer.head.nlmsg_type == RTM_NEWROUTE && answer.route.rtm_type == RTN_LOCAL;
}

bool prefix_parse(struct prefix *p, const char *text)
{
	const char *slash = strchr(text, '/');
	char host[ADDR_STRLEN];
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	const uint8_t *octets;
	unsigned long bits, max;
	char *end;

	if (n >= sizeof(host))
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	if (!addr_parse_ip(&p->base, host))
		return false;
	max = ip_octets(&p->base, &octets) * 8;
	bits = max;
	if (slash) {
		if (slash[1] < '0' || slash[1] > '9')
			return false;
		bits = strtoul(slash + 1, &end, 10);
		if (*end != '\0' || bits > max)
			return false;
	}
	p->bits = (uint8_t)bits;
	for (unsigned long i = bits; i < max; i++)
		if ((octets[i / 8] >> (7 - i % 8)) & 1)
			return false; /* host bits are set: more likely a slip than a wish */
	return true;
}

bool prefix_contains(const struct prefix *p, const struct addr *a)
{
	const uint8_t *x, *y;
	size_t n = ip_octets(&p->base, &x);

	return n > 0 && ip_octets(a, &y) == n && bits_equal(x, y, p->bits);
}

static int name_of(int fd, struct addr *a, int (*get)(int, struct sockaddr *, socklen_t *))
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	if (get(fd, (struct sockaddr *)&ss, &len) < 0)
		return -errno;
	return addr_from_sockaddr(a, (const struct sockaddr *)&ss, len) ? 0 : -EAFNOSUPPORT;
}

static int get_sock(int fd, struct sockaddr *sa, socklen_t *len)
{
	return getsockname(fd, sa, len);
}

static int get_peer(int fd, struct sockaddr *sa, socklen_t *len)
{
	return getpeername(fd, sa, len);
}

int addr_of_socket(int fd, struct addr *local)
{
	return name_of(fd, local, get_sock);
}

int addr_of_peer(int fd, struct addr *peer)
{
	return name_of(fd, peer, get_peer);
}
