/* SPDX-License-Identifier: MIT */
/* Username and password inside an Authentication Data option, request and status. */
#include "fuzz_s6.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct s6_auth_data d = {.method = S6_METHOD_USERPASS, .data = data};
	uint8_t built[1024], status;
	struct s6_userpass up, again;
	size_t len;

	if (size > UINT16_MAX)
		return 0;
	d.len = (uint16_t)size;
	(void)s6_userpass_status_parse(&d, &status);
	if (s6_userpass_parse(&d, &up) != S6_OK)
		return 0;
	FUZZ_ASSERT(s6_userpass_build(&up, built, sizeof(built), &len) == S6_OK);
	d.data = built;
	d.len = (uint16_t)len;
	FUZZ_ASSERT(s6_userpass_parse(&d, &again) == S6_OK);
	FUZZ_ASSERT(again.user_len == up.user_len && again.pass_len == up.pass_len);
	FUZZ_ASSERT(memcmp(again.user, up.user, up.user_len) == 0);
	return 0;
}
