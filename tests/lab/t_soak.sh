#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A short day of mixed traffic, under the sanitizers: descriptors return, no connection fails
# that should not; `soak` makes it long
exec "$(dirname "$0")/soak" --connections 4000 --hours 7 --minutes 0.5
