# SPDX-License-Identifier: GPL-2.0-or-later
rulesdir = $(pkgdatadir)/redirect-rules
dist_rules_SCRIPTS = redirect-rules/nft.sh redirect-rules/iptables.sh
dist_rules_DATA = redirect-rules/common.sh
