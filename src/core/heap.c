/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "core/heap.h"

#include "config.h"

#ifdef HAVE_MALLOC_TRIM
#include <malloc.h>
#endif

void heap_trim(void)
{
#ifdef HAVE_MALLOC_TRIM /* the GNU library's keeps all below the highest that is in use */
	malloc_trim(0);
#endif
}
