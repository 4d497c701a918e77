# SPDX-License-Identifier: GPL-2.0-or-later
dist_man_MANS += man/sixpath-redir.8 man/redir.conf.5
noinst_LTLIBRARIES += src/redir/libredir.la
src_redir_libredir_la_SOURCES = \
	src/redir/icmp_build.h src/redir/icmp_sender.h \
	src/redir/udp.h src/redir/udp_policy.c src/redir/udp_policy.h \
	src/redir/balance.c src/redir/balance.h \
	src/redir/bypass.c src/redir/bypass.h \
	src/redir/bypass_ipset.c src/redir/bypass_nft.c src/redir/bypass_none.c \
	src/redir/decide.c src/redir/decide.h \
	src/redir/demand.c src/redir/demand.h \
	src/redir/dns.h \
	src/redir/explain.c src/redir/explain.h src/redir/explain_facts.c \
	src/redir/failed.c src/redir/failed.h \
	src/redir/firstdata.c src/redir/firstdata.h \
	src/redir/flow.c src/redir/flow.h src/redir/flow_priv.h \
	src/redir/flow_direct.c src/redir/flow_held.c \
	src/redir/flow_proxy.c \
	src/redir/forward.h \
	src/redir/front_bind.h src/redir/front_udp.h \
	src/redir/held.c src/redir/held.h \
	src/redir/health.c src/redir/health.h \
	src/redir/inbound.h \
	src/redir/learned_ctl.c \
	src/redir/learner.c src/redir/learner.h \
	src/redir/learned.c src/redir/learned.h \
	src/redir/learned_direct.c src/redir/learned_direct.h \
	src/redir/learned_family.c src/redir/learned_family.h \
	src/redir/learned_file.c src/redir/learned_file.h \
	src/redir/learned_journal.c src/redir/learned_journal.h \
	src/redir/learned_table.c src/redir/learned_table.h \
	src/redir/learned_text.c src/redir/learned_text.h \
	src/redir/loopguard.c src/redir/loopguard.h \
	src/redir/nfqueue.c src/redir/nfqueue.h \
	src/redir/noop.c src/redir/noop.h \
	src/redir/origdst.c src/redir/origdst.h \
	src/redir/passive.c src/redir/passive.h \
	src/redir/pool.c src/redir/pool.h \
	src/redir/prewarm.c src/redir/prewarm.h \
	src/redir/redir.h src/redir/redir_check.c src/redir/redir_check.h \
	src/redir/redir_conf.c src/redir/redir_conf.h src/redir/redir_ctl.c \
	src/redir/refuser.c src/redir/refuser.h \
	src/redir/rules.h src/redir/rules_conf.c src/redir/rules_nft.c src/redir/rules_text.c \
	src/redir/script.c src/redir/script.h src/redir/script_args.c \
	src/redir/session.c src/redir/session.h \
	src/redir/steer.c src/redir/steer.h \
	src/redir/synpkt.c src/redir/synpkt.h \
	src/redir/sniff.c src/redir/sniff.h \
	src/redir/tokens.c src/redir/tokens.h \
	src/redir/up_socks5.c src/redir/up_socks5.h \
	src/redir/up_socks6.c src/redir/up_socks6.h \
	src/redir/uppaths.c src/redir/uppaths.h \
	src/redir/upstream.c src/redir/upstream.h \
	src/redir/wan.c src/redir/wan.h src/redir/wan_diff.c \
	src/redir/wan_keeper.c src/redir/wan_keeper.h \
	src/redir/wan_kernel.c src/redir/wan_kernel.h \
	src/redir/wan_ctl.c src/redir/wan_usage.c src/redir/wan_usage.h \
	src/redir/witness.c src/redir/witness.h
src_redir_libredir_la_LIBADD = src/core/libcore.la
if HAVE_LIBMNL
src_redir_libredir_la_LIBADD += $(MNL_LIBS)
src_redir_libredir_la_SOURCES += \
	src/redir/mptcp_pm.c src/redir/mptcp_pm.h \
	src/redir/netlink.c src/redir/netlink.h \
	src/redir/nft_read.c src/redir/nft_read.h \
	src/redir/nft_lib.h \
	src/redir/rules_route.c src/redir/rules_route.h \
	src/redir/wan_read.c src/redir/wan_read.h
endif
if HAVE_NFT
src_redir_libredir_la_SOURCES += src/redir/nft_lib.c
endif
if WITH_UDP
src_redir_libredir_la_SOURCES += \
	src/redir/assoc.c src/redir/assoc_data.c src/redir/assoc_dial.c src/redir/assoc_direct.c \
	src/redir/assoc_scout.c src/redir/assoc_table.c src/redir/assoc_table.h \
	src/redir/icmp_build.c src/redir/icmp_sender.c \
	src/redir/udp.c src/redir/udp_priv.h \
	src/redir/udp_io.c src/redir/udp_io.h \
	src/redir/udp_leg.c src/redir/udp_listener.c \
	src/redir/udp_reply.c src/redir/udp_reply.h
else
src_redir_libredir_la_SOURCES += src/redir/udp_none.c
endif
if WITH_DNS
src_redir_libredir_la_SOURCES += \
	src/redir/dns.c src/redir/dns_priv.h \
	src/redir/dns_clients.c src/redir/dns_up.c \
	src/redir/dnscache.c src/redir/dnscache.h \
	src/redir/dnsmsg.c src/redir/dnsmsg.h
else
src_redir_libredir_la_SOURCES += src/redir/dns_none.c
endif
if WITH_FRONT
src_redir_libredir_la_SOURCES += src/redir/flow_front.c \
	src/redir/front.c src/redir/front.h src/redir/front_guest.h
if WITH_UDP
src_redir_libredir_la_SOURCES += src/redir/front_dgram.c src/redir/front_dgram.h \
	src/redir/front_udp.c
else
src_redir_libredir_la_SOURCES += src/redir/front_udp_none.c
endif
if WITH_FORWARD
src_redir_libredir_la_SOURCES += src/redir/front_bind.c
else
src_redir_libredir_la_SOURCES += src/redir/front_bind_none.c
endif
else
src_redir_libredir_la_SOURCES += \
	src/redir/flow_front_none.c src/redir/front_bind_none.c src/redir/front_udp_none.c
endif
if WITH_FORWARD
src_redir_libredir_la_SOURCES += \
	src/redir/bindreq.c src/redir/bindreq.h \
	src/redir/forward.c src/redir/inbound.c \
	src/redir/proxyv2.c src/redir/proxyv2.h
else
src_redir_libredir_la_SOURCES += src/redir/forward_none.c
endif
src_redir_libredir_la_CPPFLAGS = $(AM_CPPFLAGS) $(NFT_CFLAGS) $(IPSET_CFLAGS) $(NFQUEUE_CFLAGS) \
	-DREDIR_SCRIPTS='"$(rulesdir)"'
src_redir_libredir_la_LIBADD += $(NFT_LIBS) $(IPSET_LIBS) $(NFQUEUE_LIBS)

sbin_PROGRAMS += src/redir/sixpath-redir
src_redir_sixpath_redir_SOURCES = src/redir/main.c
src_redir_sixpath_redir_LDADD = src/redir/libredir.la

tests_unit_test_rules_text_SOURCES = tests/unit/test_rules_text.c tests/unit/rig.h
tests_unit_test_rules_text_LDADD = src/redir/libredir.la $(CMOCKA_LIBS) $(EV_LIBS)
tests_unit_test_bypass_SOURCES = tests/unit/test_bypass.c
tests_unit_test_bypass_LDADD = src/redir/libredir.la $(CMOCKA_LIBS)
tests_unit_test_rules_kernel_SOURCES = tests/unit/test_rules_kernel.c tests/unit/rig.h
tests_unit_test_rules_kernel_LDADD = src/redir/libredir.la $(CMOCKA_LIBS) $(EV_LIBS) $(CAP_LIBS)
if HAVE_CMOCKA
redir_tests = \
	tests/unit/test_redir_demand \
	tests/unit/test_redir_sniff \
	tests/unit/test_redir_failed \
	tests/unit/test_redir_firstdata \
	tests/unit/test_redir_held \
	tests/unit/test_redir_health \
	tests/unit/test_redir_learned tests/unit/test_redir_learned_file \
	tests/unit/test_redir_loopguard \
	tests/unit/test_redir_origdst \
	tests/unit/test_redir_script \
	tests/unit/test_redir_prewarm \
	tests/unit/test_redir_shared \
	tests/unit/test_redir_steer \
	tests/unit/test_redir_synpkt \
	tests/unit/test_redir_tokens \
	tests/unit/test_redir_up_socks5 \
	tests/unit/test_redir_up_socks6 \
	tests/unit/test_redir_upstream \
	tests/unit/test_redir_wan \
	tests/unit/test_rules_text tests/unit/test_bypass tests/unit/test_rules_kernel
if WITH_UDP
redir_tests += tests/unit/test_redir_assoc_table tests/unit/test_redir_icmp_build \
	tests/unit/test_redir_udp
endif
if WITH_DNS
redir_tests += tests/unit/test_redir_dnscache tests/unit/test_redir_dnsmsg
endif
if WITH_FRONT
redir_tests += tests/unit/test_redir_front
if WITH_UDP
redir_tests += tests/unit/test_redir_front_dgram
endif
endif
if WITH_FORWARD
redir_tests += tests/unit/test_redir_proxyv2
endif
check_PROGRAMS += $(redir_tests)
TESTS += $(redir_tests)
endif
# what is left out is refused, whichever it is in this build
dist_check_SCRIPTS += tests/unit/test_left_out.sh
TESTS += tests/unit/test_left_out.sh
redir_test_libs = src/redir/libredir.la $(CMOCKA_LIBS) $(PTHREAD_LIBS)
tests_unit_test_redir_assoc_table_SOURCES = tests/unit/test_redir_assoc_table.c
tests_unit_test_redir_assoc_table_LDADD = $(redir_test_libs)
tests_unit_test_redir_icmp_build_SOURCES = tests/unit/test_redir_icmp_build.c
tests_unit_test_redir_icmp_build_LDADD = $(redir_test_libs)
tests_unit_test_redir_udp_SOURCES = tests/unit/test_redir_udp.c
tests_unit_test_redir_udp_LDADD = $(redir_test_libs) $(EV_LIBS)
tests_unit_test_redir_demand_SOURCES = tests/unit/test_redir_demand.c
tests_unit_test_redir_demand_LDADD = $(redir_test_libs)
tests_unit_test_redir_prewarm_SOURCES = tests/unit/test_redir_prewarm.c tests/unit/rig.h
tests_unit_test_redir_prewarm_LDADD = $(redir_test_libs) $(EV_LIBS)
tests_unit_test_redir_proxyv2_SOURCES = tests/unit/test_redir_proxyv2.c
tests_unit_test_redir_proxyv2_LDADD = $(redir_test_libs)
tests_unit_test_redir_failed_SOURCES = tests/unit/test_redir_failed.c
tests_unit_test_redir_failed_LDADD = $(redir_test_libs)
tests_unit_test_redir_firstdata_SOURCES = tests/unit/test_redir_firstdata.c
tests_unit_test_redir_firstdata_LDADD = $(redir_test_libs)
# the kernel's part is the test's
tests_unit_test_redir_held_SOURCES = tests/unit/test_redir_held.c
# (the linker cannot wrap what is inlined over files)
tests_unit_test_redir_held_LDFLAGS = -fno-lto -Wl,--wrap=nfqueue_open,--wrap=nfqueue_close \
	-Wl,--wrap=nfqueue_accept,--wrap=nfqueue_drop
tests_unit_test_redir_held_LDADD = $(redir_test_libs) $(EV_LIBS)
tests_unit_test_redir_dnscache_SOURCES = tests/unit/test_redir_dnscache.c
tests_unit_test_redir_dnscache_LDADD = $(redir_test_libs)
tests_unit_test_redir_dnsmsg_SOURCES = tests/unit/test_redir_dnsmsg.c
tests_unit_test_redir_dnsmsg_LDADD = $(redir_test_libs)
tests_unit_test_redir_sniff_SOURCES = tests/unit/test_redir_sniff.c
tests_unit_test_redir_sniff_LDADD = $(redir_test_libs)
tests_unit_test_redir_health_SOURCES = tests/unit/test_redir_health.c
tests_unit_test_redir_health_LDADD = $(redir_test_libs)
tests_unit_test_redir_loopguard_SOURCES = tests/unit/test_redir_loopguard.c
tests_unit_test_redir_loopguard_LDADD = $(redir_test_libs)
tests_unit_test_redir_origdst_SOURCES = tests/unit/test_redir_origdst.c tests/unit/rig.h
tests_unit_test_redir_origdst_LDADD = $(redir_test_libs)
tests_unit_test_redir_script_SOURCES = tests/unit/test_redir_script.c tests/unit/rig.h
tests_unit_test_redir_script_LDADD = $(redir_test_libs)
tests_unit_test_redir_shared_SOURCES = tests/unit/test_redir_shared.c tests/unit/rig.h
tests_unit_test_redir_shared_LDADD = $(redir_test_libs)
tests_unit_test_redir_steer_SOURCES = tests/unit/test_redir_steer.c tests/unit/rig.h
tests_unit_test_redir_steer_LDADD = $(redir_test_libs) $(EV_LIBS)
tests_unit_test_redir_synpkt_SOURCES = tests/unit/test_redir_synpkt.c
tests_unit_test_redir_synpkt_LDADD = $(redir_test_libs)
tests_unit_test_redir_tokens_SOURCES = tests/unit/test_redir_tokens.c
tests_unit_test_redir_tokens_LDADD = $(redir_test_libs)
tests_unit_test_redir_front_SOURCES = tests/unit/test_redir_front.c tests/unit/s6_hex.h
tests_unit_test_redir_front_LDADD = $(redir_test_libs)
tests_unit_test_redir_front_dgram_SOURCES = tests/unit/test_redir_front_dgram.c tests/unit/s6_hex.h
tests_unit_test_redir_front_dgram_LDADD = $(redir_test_libs)
tests_unit_test_redir_up_socks5_SOURCES = tests/unit/test_redir_up_socks5.c tests/unit/s6_hex.h
tests_unit_test_redir_up_socks5_LDADD = $(redir_test_libs)
tests_unit_test_redir_up_socks6_SOURCES = tests/unit/test_redir_up_socks6.c tests/unit/s6_hex.h
tests_unit_test_redir_up_socks6_LDADD = $(redir_test_libs)
tests_unit_test_redir_upstream_SOURCES = tests/unit/test_redir_upstream.c tests/unit/rig.h
tests_unit_test_redir_upstream_LDADD = $(redir_test_libs)
tests_unit_test_redir_wan_SOURCES = tests/unit/test_redir_wan.c
tests_unit_test_redir_wan_LDADD = $(redir_test_libs)
# counts and fails allocations
tests_unit_test_redir_learned_SOURCES = tests/unit/test_redir_learned.c
tests_unit_test_redir_learned_LDFLAGS = -fno-lto -Wl,--wrap=calloc,--wrap=free
tests_unit_test_redir_learned_LDADD = $(redir_test_libs)
tests_unit_test_redir_learned_file_SOURCES = tests/unit/test_redir_learned_file.c
tests_unit_test_redir_learned_file_LDADD = $(redir_test_libs)
