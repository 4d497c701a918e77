/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/front_dgram.h"

#include "redir/front.h"

bool front_dgram_parse(const uint8_t *in, size_t len, struct front_dgram *d)
{
	struct reader r = reader_of(in, len);
	uint16_t reserved;

	if (!read_u16(&r, &reserved) || !read_u8(&r, &d->frag) ||
	    front_read_address(&r, &d->dst) != FRONT_ADDRESS_OK || d->dst.port == 0)
		return false;
	d->data = r.at;
	d->len = r.left;
	return true;
}

size_t front_dgram_head(const struct s6_address *from, uint8_t out[FRONT_DGRAM_HEAD])
{
	struct writer w = writer_of(out, FRONT_DGRAM_HEAD);

	write_zeros(&w, 3);
	write_u8(&w, from->type);
	write_bytes(&w, from->u.ip6, from->type == S6_ADDR_IPV4 ? 4 : 16);
	write_u16(&w, from->port);
	return w.len;
}
