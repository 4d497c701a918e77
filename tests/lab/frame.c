/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "frame.h"

enum { ETH_LEN = 14, IP4_MIN = 20, IP6_LEN = 40, TCP_MIN = 20, PROTO_TCP = 6 };

struct segment {
	size_t off;     /* of the TCP header */
	size_t hdr_len; /* TCP header with options */
	size_t end;     /* of the IP packet: Ethernet may pad behind it */
};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static bool segment_find(struct segment *s, const uint8_t *f, size_t len)
{
	if (len < ETH_LEN + IP4_MIN)
		return false;
	if (get16(f + 12) == 0x0800) {
		s->off = ETH_LEN + (size_t)(f[ETH_LEN] & 15) * 4;
		s->end = (size_t)ETH_LEN + get16(f + ETH_LEN + 2);
		if (f[ETH_LEN + 9] != PROTO_TCP || (get16(f + ETH_LEN + 6) & 0x1fff) != 0)
			return false;
	} else if (get16(f + 12) == 0x86dd && len >= ETH_LEN + IP6_LEN) {
		s->off = ETH_LEN + IP6_LEN;
		s->end = s->off + get16(f + ETH_LEN + 4);
		if (f[ETH_LEN + 6] != PROTO_TCP)
			return false;
	} else {
		return false;
	}
	if (s->end > len || s->end < s->off + TCP_MIN)
		return false;
	s->hdr_len = (size_t)(f[s->off + 12] >> 4) * 4;
	return s->hdr_len >= TCP_MIN && s->off + s->hdr_len <= s->end;
}

bool frame_is_syn_data(const uint8_t *frame, size_t len)
{
	struct segment s;

	return segment_find(&s, frame, len) && (frame[s.off + 13] & 0x17) == 0x02 &&
	       s.off + s.hdr_len < s.end;
}

bool frame_is_syn(const uint8_t *frame, size_t len)
{
	struct segment s;

	return segment_find(&s, frame, len) && (frame[s.off + 13] & 0x02) != 0;
}

/* Replaces one octet and updates the TCP checksum (RFC 1624). */
static void patch(uint8_t *f, const struct segment *s, size_t at, uint8_t value)
{
	uint8_t *sum = f + s->off + 16;
	size_t word = at - ((at - s->off) & 1);
	uint32_t c = (uint16_t)~get16(sum);

	c += (uint16_t)~get16(f + word);
	f[at] = value;
	c += get16(f + word);
	c = (c & 0xffff) + (c >> 16);
	c = (c & 0xffff) + (c >> 16);
	c = ~c & 0xffff;
	sum[0] = (uint8_t)(c >> 8);
	sum[1] = (uint8_t)c;
}

bool frame_strip_option(uint8_t *frame, size_t len, uint8_t kind)
{
	struct segment s;
	bool changed = false;

	if (!segment_find(&s, frame, len))
		return false;
	size_t at = s.off + TCP_MIN, end = s.off + s.hdr_len;
	while (at < end && frame[at] != 0) {
		if (frame[at] == 1) {
			at++;
			continue;
		}
		if (at + 1 >= end || frame[at + 1] < 2 || frame[at + 1] > end - at)
			break;
		size_t next = at + frame[at + 1];
		if (frame[at] == kind) {
			for (; at < next; at++)
				patch(frame, &s, at, 1);
			changed = true;
		}
		at = next;
	}
	return changed;
}
