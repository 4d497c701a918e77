/* SPDX-License-Identifier: MIT */
#include "fuzz_s6.h"

FUZZ_MESSAGE(request, struct s6_request)
