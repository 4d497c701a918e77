# SPDX-License-Identifier: GPL-2.0-or-later
lib_LTLIBRARIES += src/libsocks6/libsocks6.la
src_libsocks6_libsocks6_la_SOURCES = \
	src/libsocks6/address.c src/libsocks6/cursor.h src/libsocks6/datagram.c \
	src/libsocks6/message.c src/libsocks6/names.c src/libsocks6/opt_auth.c \
	src/libsocks6/opt_session.c src/libsocks6/opt_stack.c src/libsocks6/option.c \
	src/libsocks6/s6_internal.h
src_libsocks6_libsocks6_la_LDFLAGS = $(AM_LDFLAGS) -version-info 0:0:0 -export-symbols-regex '^s6_' -no-undefined
include_HEADERS += src/libsocks6/socks6.h
dist_man_MANS += man/libsocks6.3
pkgconfig_DATA += src/libsocks6/libsocks6.pc
EXTRA_DIST += src/libsocks6/COPYING.MIT

# Unit tests
EXTRA_DIST += tests/vectors
if HAVE_CMOCKA
S6_TESTS = tests/unit/test_s6_build tests/unit/test_s6_cursor \
	tests/unit/test_s6_options tests/unit/test_s6_random \
	tests/unit/test_s6_resolutions tests/unit/test_s6_udp \
	tests/unit/test_s6_userpass tests/unit/test_s6_vectors
check_PROGRAMS += $(S6_TESTS)
TESTS += $(S6_TESTS)
endif
noinst_HEADERS += tests/unit/s6_differ.h tests/unit/s6_hex.h
S6_TEST_LIBS = src/libsocks6/libsocks6.la $(CMOCKA_LIBS)
tests_unit_test_s6_build_SOURCES = tests/unit/test_s6_build.c
tests_unit_test_s6_build_LDADD = $(S6_TEST_LIBS)
tests_unit_test_s6_cursor_SOURCES = tests/unit/test_s6_cursor.c
tests_unit_test_s6_cursor_LDADD = $(S6_TEST_LIBS)
tests_unit_test_s6_options_SOURCES = tests/unit/test_s6_options.c
tests_unit_test_s6_options_LDADD = $(S6_TEST_LIBS)
tests_unit_test_s6_random_SOURCES = tests/unit/test_s6_random.c
tests_unit_test_s6_random_LDADD = $(S6_TEST_LIBS)
tests_unit_test_s6_resolutions_SOURCES = tests/unit/test_s6_resolutions.c
tests_unit_test_s6_resolutions_LDADD = $(S6_TEST_LIBS)
tests_unit_test_s6_udp_SOURCES = tests/unit/test_s6_udp.c
tests_unit_test_s6_udp_LDADD = $(S6_TEST_LIBS)
tests_unit_test_s6_userpass_SOURCES = tests/unit/test_s6_userpass.c
tests_unit_test_s6_userpass_LDADD = $(S6_TEST_LIBS)
tests_unit_test_s6_vectors_SOURCES = tests/unit/test_s6_vectors.c
tests_unit_test_s6_vectors_LDADD = $(S6_TEST_LIBS)
