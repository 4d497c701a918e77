#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A selection of the fault matrix: see README
# build: release
"$(dirname "$0")/faults" --short 2>&1 | sed -e 's/^\(ok\|not ok\) faults: /\1 t_faults: /' -e '/^fault  /,$s/^/# /'
exit "${PIPESTATUS[0]}"
