# SPDX-License-Identifier: GPL-2.0-or-later
dist_man_MANS += man/sixpath-redir.8 man/redir.conf.5
noinst_LTLIBRARIES += src/redir/libredir.la
src_redir_libredir_la_SOURCES = \
	src/redir/firstdata.c src/redir/firstdata.h \
	src/redir/flow.c src/redir/flow.h \
	src/redir/loopguard.c src/redir/loopguard.h \
	src/redir/noop.c src/redir/noop.h \
	src/redir/origdst.c src/redir/origdst.h \
	src/redir/pool.c src/redir/pool.h \
	src/redir/redir.h src/redir/redir_conf.c src/redir/redir_conf.h src/redir/redir_ctl.c \
	src/redir/session.c src/redir/session.h \
	src/redir/tokens.c src/redir/tokens.h \
	src/redir/up_socks6.c src/redir/up_socks6.h \
	src/redir/upstream.c src/redir/upstream.h
src_redir_libredir_la_LIBADD = src/core/libcore.la

sbin_PROGRAMS += src/redir/sixpath-redir
src_redir_sixpath_redir_SOURCES = src/redir/main.c
src_redir_sixpath_redir_LDADD = src/redir/libredir.la
