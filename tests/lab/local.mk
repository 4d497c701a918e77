# SPDX-License-Identifier: GPL-2.0-or-later
# The lab's instruments; the tests themselves need root: make check-lab.
check_PROGRAMS += tests/lab/wire tests/lab/peer
tests_lab_wire_SOURCES = tests/lab/wire.c tests/lab/frame.c tests/lab/frame.h
tests_lab_peer_SOURCES = tests/lab/peer.c tests/lab/peer_io.c tests/lab/peer_io.h \
	tests/lab/peer_serve.c
tests_lab_peer_LDADD = $(PTHREAD_LIBS)
