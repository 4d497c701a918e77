/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tools/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "tools/doctor_priv.h"

int doctor(const char *socket, bool proxy, bool json)
{
	struct doctor *d = calloc(1, sizeof(*d)); /* too large for some stacks */
	enum finding_level worst;
	int rc;

	if (!d) {
		fputs("sixpathctl: out of memory\n", stderr);
		return EX_OSERR;
	}
	d->role = proxy ? TUNE_PROXY : TUNE_REDIR;
	d->socket = socket;
	netview_read(&d->net);
	doctor_ask_daemon(d);
	doctor_host(d);
	doctor_paths(d);
	if (!proxy)
		doctor_rules(d);
	doctor_daemon(d);
	rc = findings_print(&d->findings, proxy ? "proxy" : "redir", json);
	worst = findings_worst(&d->findings);
	findings_free(&d->findings);
	free(d->status);
	free(d->proxies);
	free(d);
	if (rc)
		return rc;
	return worst == FINDING_FAIL ? DOCTOR_FAIL : worst == FINDING_WARN ? DOCTOR_WARN : 0;
}
