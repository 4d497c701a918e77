/* SPDX-License-Identifier: GPL-2.0-or-later */
/* configure --disable-udp: nothing is captured, as the configuration refuses what would ask for it. */
#include <errno.h>
#include <stdlib.h>

#include "redir/icmp_sender.h"
#include "redir/udp.h"

/* Any memory will do: NULL is an error. */
struct udp *udp_new(struct redir_worker *rw)
{
	(void)rw;
	return malloc(1);
}

void udp_free(struct udp *u)
{
	free(u);
}

void udp_begin(struct udp *u)
{
	(void)u;
}

void udp_follow(struct udp *u)
{
	(void)u;
}

void udp_stop(struct udp *u)
{
	(void)u;
}

void udp_add_counters(const struct udp *u, struct udp_counters *sum)
{
	(void)u;
	(void)sum;
}

void udp_report_counters(struct report *r, const struct udp_counters *c)
{
	(void)r;
	(void)c;
}

void udp_report_all(struct udp *u, struct report *r)
{
	(void)u;
	(void)r;
}

uint64_t udp_memory(const struct udp *u)
{
	(void)u;
	return 0;
}

bool udp_is_wanted(const struct redir_conf *c)
{
	(void)c;
	return false;
}

int icmp_sender_open(struct icmp_sender *s)
{
	(void)s;
	return -ENOSYS;
}

void icmp_sender_close(struct icmp_sender *s)
{
	(void)s;
}
