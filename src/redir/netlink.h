/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests to the kernel over netlink, one at a time: a thin layer over libmnl. One owner, one
 * thread. A request blocks for as long as the kernel works on it (microseconds), never longer
 * than two seconds.
 */
#ifndef REDIR_NETLINK_H
#define REDIR_NETLINK_H

#include <stdbool.h>
#include <stdint.h>

#include <libmnl/libmnl.h>

#define NETLINK_ROOM 1024 /* octets that suffice for our small requests */

/* A buffer for messages: their headers want to be aligned. */
#define NETLINK_BUF(name, room) _Alignas(8) uint8_t name[room]

struct netlink;

/* bus: NETLINK_ROUTE, NETLINK_NETFILTER. 0 or -errno. */
int netlink_open(struct netlink **out, int bus);
void netlink_close(struct netlink *nl); /* NULL is allowed */
/* Its descriptor, which stays its own. */
int netlink_fd(const struct netlink *nl);

/* Begin a request in buf (zeroed room follows the header); it is acknowledged or a dump. */
struct nlmsghdr *netlink_begin(void *buf, uint16_t type, uint16_t flags);
/* The same with the header of nfnetlink: subsystem, message, family. */
struct nlmsghdr *netlink_begin_nf(void *buf, uint8_t subsys, uint8_t msg, uint16_t flags,
				  uint8_t family);

/* The same with the header of generic netlink: a family's number, a command. */
struct nlmsghdr *netlink_begin_genl(void *buf, uint16_t family, uint8_t cmd, uint16_t flags);
/* The number of a family of generic netlink by its name. 0 or -errno; -ENOENT: there is none. */
int netlink_genl_family(struct netlink *nl, const char *name, uint16_t *family);

/*
 * Send, and give each reply to cb (may be NULL; its return values are libmnl's). 0 or -errno;
 * -EINTR: what was dumped changed meanwhile, and some of it may have come twice or not at all.
 */
int netlink_talk(struct netlink *nl, struct nlmsghdr *nlh, mnl_cb_t cb, void *ctx);

/* Attributes of a message (behind a header of offset octets) or of a nest, by type: tb has
 * max + 1 places. */
void netlink_parse(const struct nlmsghdr *nlh, unsigned offset, const struct nlattr **tb,
		   uint16_t max);
void netlink_parse_nested(const struct nlattr *nest, const struct nlattr **tb, uint16_t max);

/* As in libmnl, without the conversions that our compiler flags refuse. */
#define netlink_for_each(a, first, end)                                                            \
	for ((a) = (first); mnl_attr_ok((a), (int)((const char *)(end) - (const char *)(a)));      \
	     (a) = mnl_attr_next(a))
#define netlink_for_each_nested(a, nest)                                                           \
	netlink_for_each(a, (const struct nlattr *)mnl_attr_get_payload(nest),                     \
			 (const char *)mnl_attr_get_payload(nest) +                                \
				 mnl_attr_get_payload_len(nest))

/* Copy n octets of an attribute; false when it is absent or shorter. */
bool netlink_copy(const struct nlattr *a, void *out, size_t n);
/* Numbers out of an attribute, in its own octet order; 0 when it is absent or too short. */
uint32_t netlink_u32(const struct nlattr *a);
uint32_t netlink_be32(const struct nlattr *a);
uint64_t netlink_be64(const struct nlattr *a);

#endif
