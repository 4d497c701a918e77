# SPDX-License-Identifier: GPL-2.0-or-later
noinst_LTLIBRARIES += src/proxy/libproxy.la
src_proxy_libproxy_la_SOURCES = \
	src/proxy/acceptor.c src/proxy/acceptor.h \
	src/proxy/acl.c src/proxy/acl.h \
	src/proxy/auth.c src/proxy/auth.h \
	src/proxy/client.c src/proxy/client.h src/proxy/client_priv.h \
	src/proxy/happy.c src/proxy/happy.h \
	src/proxy/issued.c src/proxy/issued.h \
	src/proxy/leg.c src/proxy/leg.h \
	src/proxy/op_connect.c src/proxy/op_connect.h \
	src/proxy/perclient.c src/proxy/perclient.h \
	src/proxy/proxy.h src/proxy/proxy_conf.c src/proxy/proxy_conf.h src/proxy/proxy_ctl.c \
	src/proxy/proxy_reload.c \
	src/proxy/reply.c src/proxy/request.c \
	src/proxy/synwatch.c src/proxy/synwatch.h \
	src/proxy/users.c src/proxy/users.h
src_proxy_libproxy_la_LIBADD = src/core/libcore.la $(CRYPT_LIBS)

sbin_PROGRAMS += src/proxy/sixpath-proxy
src_proxy_sixpath_proxy_SOURCES = src/proxy/main.c
src_proxy_sixpath_proxy_LDADD = src/proxy/libproxy.la
