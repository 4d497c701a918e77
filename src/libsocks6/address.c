/* SPDX-License-Identifier: MIT */
#include "libsocks6/s6_internal.h"

/* The length octet counts exactly the octets that follow, NUL padding included (R4). */
static enum s6_result read_name(struct reader *r, struct s6_address *a, enum s6_fault *why)
{
	const uint8_t *p;
	uint8_t n;

	if (!read_u8(r, &n) || !read_bytes(r, n, &p))
		return S6_MORE;
	while (n > 0 && p[n - 1] == 0)
		n--;
	if (n == 0 || memchr(p, 0, n)) {
		*why = S6_FAULT_NAME;
		return S6_BAD;
	}
	memcpy(a->u.name, p, n);
	a->name_len = n;
	return S6_OK;
}

enum s6_result s6_address_read(struct reader *r, uint8_t type, struct s6_address *a,
			       enum s6_fault *why)
{
	const uint8_t *p;

	a->type = type;
	a->name_len = 0;
	memset(&a->u, 0, sizeof(a->u));
	switch (type) {
	case S6_ADDR_IPV4:
		if (!read_bytes(r, sizeof(a->u.ip4), &p))
			return S6_MORE;
		memcpy(a->u.ip4, p, sizeof(a->u.ip4));
		return S6_OK;
	case S6_ADDR_IPV6:
		if (!read_bytes(r, sizeof(a->u.ip6), &p))
			return S6_MORE;
		memcpy(a->u.ip6, p, sizeof(a->u.ip6));
		return S6_OK;
	case S6_ADDR_NAME:
		return read_name(r, a, why);
	default:
		*why = S6_FAULT_ADDRESS_TYPE;
		return S6_BAD;
	}
}

bool s6_address_write(struct writer *w, const struct s6_address *a)
{
	size_t padding;

	switch (a->type) {
	case S6_ADDR_IPV4:
		write_bytes(w, a->u.ip4, sizeof(a->u.ip4));
		return true;
	case S6_ADDR_IPV6:
		write_bytes(w, a->u.ip6, sizeof(a->u.ip6));
		return true;
	case S6_ADDR_NAME:
		if (a->name_len == 0 || memchr(a->u.name, 0, a->name_len))
			return false;
		padding = (4u - (1u + a->name_len) % 4u) % 4u;
		write_u8(w, (uint8_t)(a->name_len + padding));
		write_bytes(w, a->u.name, a->name_len);
		write_zeros(w, padding);
		return true;
	default:
		return false;
	}
}
