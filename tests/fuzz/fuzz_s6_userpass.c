/* SPDX-License-Identifier: MIT */
/* Username and password inside an Authentication Data option, request and status. */
#include "fuzz_s6.h"

static void check_status(const struct s6_auth_data *d)
{
	uint8_t status, again, built[3];
	const struct s6_auth_data b = {S6_METHOD_USERPASS, sizeof(built), built};

	if (s6_userpass_status_parse(d, &status) != S6_OK)
		return;
	s6_userpass_status_build(status, built);
	FUZZ_ASSERT(s6_userpass_status_parse(&b, &again) == S6_OK);
	FUZZ_ASSERT(again == status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct s6_auth_data d = {.method = S6_METHOD_USERPASS, .data = data};
	struct s6_userpass up, again;
	uint8_t built[516];
	size_t len, needed;

	if (size > UINT16_MAX)
		return 0;
	d.len = (uint16_t)size;
	check_status(&d);
	if (s6_userpass_parse(&d, &up) != S6_OK)
		return 0;
	needed = 3u + up.user_len + up.pass_len;
	FUZZ_ASSERT(needed <= size && size < needed + 4);
	for (d.len = 0; d.len < needed; d.len++)
		FUZZ_ASSERT(s6_userpass_parse(&d, &again) == S6_BAD);
	FUZZ_ASSERT(s6_userpass_build(&up, built, sizeof(built), &len) == S6_OK);
	FUZZ_ASSERT((1 + len) % 4 == 0);
	d.data = built;
	d.len = (uint16_t)len;
	FUZZ_ASSERT(s6_userpass_parse(&d, &again) == S6_OK);
	FUZZ_ASSERT(again.user_len == up.user_len && again.pass_len == up.pass_len);
	FUZZ_ASSERT(memcmp(again.user, up.user, up.user_len) == 0);
	FUZZ_ASSERT(memcmp(again.pass, up.pass, up.pass_len) == 0);
	return 0;
}
