/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Happy Eyeballs (RFC 8305): the order in which addresses of both families are raced. Pure. */
#ifndef PROXY_HAPPY_H
#define PROXY_HAPPY_H

#include "core/addr.h"

#define HAPPY_STAGGER_S 0.25 /* section 5: Connection Attempt Delay */

/* Section 4: alternate the families, beginning with the first address's, and keep the order
 * within each. */
void happy_order(struct addr *addrs, unsigned n);

#endif
