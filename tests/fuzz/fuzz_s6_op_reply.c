/* SPDX-License-Identifier: MIT */
#include "fuzz_s6.h"

FUZZ_MESSAGE(op_reply, struct s6_op_reply)
