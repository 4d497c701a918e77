/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The front door, with and without users: octet by octet and all at once, same verdict, and what is
 * found lies within its limits. */
#include <stdint.h>
#include <string.h>

#include "fuzz_assert.h"
#include "redir/front.h"

/* Feed the input in pieces; the verdict that ended it, or FRONT_MORE. */
static enum front_verdict run(struct front *f, const uint8_t *data, size_t size, size_t piece,
			      bool users, size_t *start)
{
	enum front_verdict v = FRONT_MORE;
	size_t end = 0, used;

	front_init(f, users);
	*start = 0;
	while (v == FRONT_MORE && end < size) {
		end = size - end > piece ? end + piece : size;
		do {
			v = front_feed(f, data + *start, end - *start, &used);
			FUZZ_ASSERT(used <= end - *start);
			FUZZ_ASSERT(v != FRONT_MORE || used == 0);
			*start += used;
			FUZZ_ASSERT(f->reply_len <= sizeof(f->reply));
			if (v == FRONT_CHECK) {
				FUZZ_ASSERT(users);
				v = front_checked(f, (data[0] & 1) == 0 || size % 2 == 0);
			}
		} while (v == FRONT_SAY);
	}
	return v;
}

static void look_at(struct front *f)
{
	const struct s6_address *a = &f->dst;

	FUZZ_ASSERT(f->command >= S6_CMD_CONNECT && f->command <= S6_CMD_UDP_ASSOCIATE);
	FUZZ_ASSERT(f->command != S6_CMD_CONNECT || a->port > 0);
	FUZZ_ASSERT(a->type == S6_ADDR_IPV4 || a->type == S6_ADDR_IPV6 || a->type == S6_ADDR_NAME);
	if (a->type == S6_ADDR_NAME)
		FUZZ_ASSERT(a->name_len > 0 && strlen(a->u.name) == a->name_len);
	for (unsigned result = 0; result < 12; result++) {
		front_answer(f, result);
		FUZZ_ASSERT(f->reply_len > 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct front whole, pieces;
	size_t used_whole, used_pieces;

	/* At a limit it counts how much has come at once. */
	if (size == 0 || size > FRONT_HEAD_MAX / 2)
		return 0;
	for (int users = 0; users <= 1; users++) {
		enum front_verdict v = run(&whole, data, size, size, users, &used_whole);

		FUZZ_ASSERT(v == run(&pieces, data, size, 3, users, &used_pieces));
		FUZZ_ASSERT(used_whole == used_pieces && whole.kind == pieces.kind);
		FUZZ_ASSERT(whole.reply_len == pieces.reply_len);
		if (v == FRONT_REQUEST) {
			FUZZ_ASSERT(memcmp(&whole.dst, &pieces.dst, sizeof(whole.dst)) == 0);
			look_at(&whole);
		}
	}
	return 0;
}
