/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef SIXPATH_HEAP_H
#define SIXPATH_HEAP_H

/* What malloc keeps and nobody uses goes back to the kernel, where the C library can: after work that
 * is not done again soon, such as reading a configuration. Any thread. */
void heap_trim(void);

#endif
