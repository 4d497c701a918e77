# SPDX-License-Identifier: GPL-2.0-or-later
sbin_PROGRAMS += src/tools/sixpathctl
# text.c alone: the tool needs none of the libraries that libcore pulls in
src_tools_sixpathctl_SOURCES = \
	src/tools/ask.c src/tools/ask.h \
	src/tools/passwd.c src/tools/passwd.h \
	src/tools/prompt.c src/tools/prompt.h \
	src/tools/sixpathctl.c \
	src/core/text.c src/core/text.h
src_tools_sixpathctl_CPPFLAGS = $(AM_CPPFLAGS)
src_tools_sixpathctl_LDADD = $(CRYPT_LIBS)

dist_man_MANS += man/sixpathctl.8
dist_check_SCRIPTS = tests/unit/test_passwd.sh
TESTS += tests/unit/test_passwd.sh

# runs the tool against a control socket, and on a terminal
if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_sixpathctl
TESTS += tests/unit/test_sixpathctl
endif
tests_unit_test_sixpathctl_SOURCES = tests/unit/test_sixpathctl.c
tests_unit_test_sixpathctl_LDADD = src/core/libcore.la $(CMOCKA_LIBS) $(EV_LIBS)
