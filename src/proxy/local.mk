# SPDX-License-Identifier: GPL-2.0-or-later
noinst_LTLIBRARIES += src/proxy/libproxy.la
src_proxy_libproxy_la_SOURCES = \
	src/proxy/acceptor.c src/proxy/acceptor.h \
	src/proxy/acl.c src/proxy/acl.h \
	src/proxy/assoc.c src/proxy/assoc.h src/proxy/assoc_limit.c src/proxy/assoc_name.c \
	src/proxy/assoc_tcp.c \
	src/proxy/assoc_table.c src/proxy/assoc_table.h \
	src/proxy/client.c src/proxy/client.h src/proxy/client_bind.c \
	src/proxy/client_facts.c src/proxy/client_priv.h \
	src/proxy/happy.c src/proxy/happy.h \
	src/proxy/issued.c src/proxy/issued.h \
	src/proxy/leg.c src/proxy/leg.h \
	src/proxy/listenport.c src/proxy/listenport.h \
	src/proxy/op_bind.c src/proxy/op_bind.h \
	src/proxy/op_connect.c src/proxy/op_connect.h src/proxy/op_udp.c \
	src/proxy/speaks.c src/proxy/speaks.h \
	src/proxy/peruser.c src/proxy/peruser.h \
	src/proxy/proxy.h src/proxy/proxy_conf.c src/proxy/proxy_conf.h src/proxy/proxy_ctl.c \
	src/proxy/proxy_reload.c \
	src/proxy/reply.c src/proxy/request.c \
	src/proxy/sndlimit.c src/proxy/sndlimit.h \
	src/proxy/synwatch.c src/proxy/synwatch.h \
	src/proxy/udp.c src/proxy/udp.h src/proxy/udp_priv.h \
	src/proxy/udp_batch.c src/proxy/udp_batch.h \
	src/proxy/udp_error.c src/proxy/udp_error.h \
	src/proxy/udp_out.c src/proxy/udp_out.h src/proxy/udp_port.c \
	src/proxy/udp_reserve.c src/proxy/udp_reserve.h
src_proxy_libproxy_la_LIBADD = src/core/libcore.la

sbin_PROGRAMS += src/proxy/sixpath-proxy
src_proxy_sixpath_proxy_SOURCES = src/proxy/main.c
src_proxy_sixpath_proxy_LDADD = src/proxy/libproxy.la

dist_man_MANS += man/sixpath-proxy.8 man/proxy.conf.5
EXTRA_DIST += tests/lab/proxy_protocol.py tests/lab/udp_protocol.py

if HAVE_CMOCKA
proxy_tests = \
	tests/unit/test_proxy_acl \
	tests/unit/test_proxy_auth \
	tests/unit/test_proxy_conf \
	tests/unit/test_proxy_issued tests/unit/test_proxy_listenport tests/unit/test_proxy_peruser \
	tests/unit/test_proxy_speaks tests/unit/test_proxy_sndlimit tests/unit/test_proxy_udp
check_PROGRAMS += $(proxy_tests)
TESTS += $(proxy_tests)
endif
proxy_test_libs = src/proxy/libproxy.la $(CMOCKA_LIBS)
tests_unit_test_proxy_acl_SOURCES = tests/unit/test_proxy_acl.c
tests_unit_test_proxy_acl_LDADD = $(proxy_test_libs)
tests_unit_test_proxy_auth_SOURCES = tests/unit/test_proxy_auth.c
tests_unit_test_proxy_auth_LDADD = $(proxy_test_libs)
tests_unit_test_proxy_conf_SOURCES = tests/unit/test_proxy_conf.c
tests_unit_test_proxy_conf_LDADD = $(proxy_test_libs)
tests_unit_test_proxy_peruser_SOURCES = tests/unit/test_proxy_peruser.c
tests_unit_test_proxy_peruser_LDADD = $(proxy_test_libs)
tests_unit_test_proxy_speaks_SOURCES = tests/unit/test_proxy_speaks.c
tests_unit_test_proxy_speaks_LDADD = $(proxy_test_libs)
tests_unit_test_proxy_issued_SOURCES = tests/unit/test_proxy_issued.c
tests_unit_test_proxy_issued_LDADD = $(proxy_test_libs)
tests_unit_test_proxy_udp_SOURCES = tests/unit/test_proxy_udp.c tests/unit/rig.h
tests_unit_test_proxy_udp_LDADD = $(proxy_test_libs)
tests_unit_test_proxy_listenport_SOURCES = tests/unit/test_proxy_listenport.c tests/unit/rig.h
tests_unit_test_proxy_listenport_LDADD = $(proxy_test_libs) $(EV_LIBS)
tests_unit_test_proxy_sndlimit_SOURCES = tests/unit/test_proxy_sndlimit.c
tests_unit_test_proxy_sndlimit_LDADD = $(proxy_test_libs)
