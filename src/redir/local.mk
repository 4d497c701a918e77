# SPDX-License-Identifier: GPL-2.0-or-later
dist_man_MANS += man/sixpath-redir.8 man/redir.conf.5
noinst_LTLIBRARIES += src/redir/libredir.la
src_redir_libredir_la_SOURCES = \
	src/redir/firstdata.c src/redir/firstdata.h \
	src/redir/flow.c src/redir/flow.h \
	src/redir/learned.c src/redir/learned.h \
	src/redir/learned_direct.c src/redir/learned_direct.h \
	src/redir/learned_family.c src/redir/learned_family.h \
	src/redir/learned_file.c src/redir/learned_file.h \
	src/redir/learned_journal.c src/redir/learned_journal.h \
	src/redir/learned_table.c src/redir/learned_table.h \
	src/redir/learned_text.c src/redir/learned_text.h \
	src/redir/listener.c src/redir/listener.h \
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

if HAVE_CMOCKA
redir_tests = \
	tests/unit/test_redir_learned \
	tests/unit/test_redir_learned_file
check_PROGRAMS += $(redir_tests)
TESTS += $(redir_tests)
endif
redir_test_libs = src/redir/libredir.la $(CMOCKA_LIBS) $(PTHREAD_LIBS)
# counts and fails allocations
tests_unit_test_redir_learned_SOURCES = tests/unit/test_redir_learned.c
tests_unit_test_redir_learned_LDFLAGS = -Wl,--wrap=calloc,--wrap=free
tests_unit_test_redir_learned_LDADD = $(redir_test_libs)
tests_unit_test_redir_learned_file_SOURCES = tests/unit/test_redir_learned_file.c
tests_unit_test_redir_learned_file_LDADD = $(redir_test_libs)
