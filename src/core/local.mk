# SPDX-License-Identifier: GPL-2.0-or-later
noinst_LTLIBRARIES += src/core/libcore.la
src_core_libcore_la_SOURCES = \
	src/core/addr.c src/core/addr.h \
	src/core/buf.c src/core/buf.h \
	src/core/conf.c src/core/conf.h src/core/conf_parse.c \
	src/core/conf_scan.c src/core/conf_scan.h \
	src/core/control.c src/core/control.h \
	src/core/daemon.c src/core/daemon.h \
	src/core/dial.c src/core/dial.h \
	src/core/list.h \
	src/core/log.c src/core/log.h \
	src/core/priv.c src/core/priv.h \
	src/core/reason.c src/core/reason.h \
	src/core/relay.c src/core/relay.h \
	src/core/report.c src/core/report.h \
	src/core/resolve.c src/core/resolve.h \
	src/core/s6glue.c src/core/s6glue.h \
	src/core/sock.c src/core/sock.h \
	src/core/text.c src/core/text.h \
	src/core/worker.c src/core/worker.h
src_core_libcore_la_CPPFLAGS = $(AM_CPPFLAGS) $(CARES_CFLAGS)
src_core_libcore_la_LIBADD = src/libsocks6/libsocks6.la $(EV_LIBS) $(INI_LIBS) $(CARES_LIBS) \
	$(CAP_LIBS) $(PTHREAD_LIBS)
