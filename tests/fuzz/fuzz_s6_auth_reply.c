/* SPDX-License-Identifier: MIT */
#include "fuzz_s6.h"

FUZZ_MESSAGE(auth_reply, struct s6_auth_reply)
