# SPDX-License-Identifier: GPL-2.0-or-later
# Fuzz targets, built by `configure CC=clang --enable-fuzz`; their sources are compiled once more,
# instrumented. Run by tests/fuzz/smoke.sh.
EXTRA_DIST += tests/fuzz/smoke.sh tests/fuzz/corpus

FUZZ_S6_SOURCES = \
	src/libsocks6/address.c src/libsocks6/datagram.c src/libsocks6/message.c \
	src/libsocks6/names.c src/libsocks6/opt_auth.c src/libsocks6/opt_session.c \
	src/libsocks6/opt_stack.c src/libsocks6/option.c tests/fuzz/fuzz_assert.h tests/fuzz/fuzz_s6.h \
	tests/unit/s6_differ.h

FUZZ_TARGETS = tests/fuzz/fuzz_s6_request tests/fuzz/fuzz_s6_auth_reply \
	tests/fuzz/fuzz_s6_op_reply tests/fuzz/fuzz_s6_udp_packet \
	tests/fuzz/fuzz_s6_udp_stream tests/fuzz/fuzz_s6_userpass \
	tests/fuzz/fuzz_up_socks6 tests/fuzz/fuzz_learned_text \
	tests/fuzz/fuzz_synpkt tests/fuzz/fuzz_dnsmsg tests/fuzz/fuzz_front \
	tests/fuzz/fuzz_sniff tests/fuzz/fuzz_up_socks5 tests/fuzz/fuzz_front_dgram
if ENABLE_FUZZ
check_PROGRAMS += $(FUZZ_TARGETS)
else
EXTRA_PROGRAMS += $(FUZZ_TARGETS)
endif

tests_fuzz_fuzz_s6_request_SOURCES = tests/fuzz/fuzz_s6_request.c $(FUZZ_S6_SOURCES)
tests_fuzz_fuzz_s6_request_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_s6_auth_reply_SOURCES = tests/fuzz/fuzz_s6_auth_reply.c $(FUZZ_S6_SOURCES)
tests_fuzz_fuzz_s6_auth_reply_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_s6_op_reply_SOURCES = tests/fuzz/fuzz_s6_op_reply.c $(FUZZ_S6_SOURCES)
tests_fuzz_fuzz_s6_op_reply_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_s6_udp_packet_SOURCES = tests/fuzz/fuzz_s6_udp_packet.c $(FUZZ_S6_SOURCES)
tests_fuzz_fuzz_s6_udp_packet_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_s6_udp_stream_SOURCES = tests/fuzz/fuzz_s6_udp_stream.c $(FUZZ_S6_SOURCES)
tests_fuzz_fuzz_s6_udp_stream_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_s6_userpass_SOURCES = tests/fuzz/fuzz_s6_userpass.c $(FUZZ_S6_SOURCES)
tests_fuzz_fuzz_s6_userpass_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_up_socks6_SOURCES = tests/fuzz/fuzz_up_socks6.c src/redir/up_socks6.c \
	src/redir/up_socks5.c \
	src/core/s6glue.c src/core/addr.c $(FUZZ_S6_SOURCES)
tests_fuzz_fuzz_up_socks6_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_up_socks5_SOURCES = tests/fuzz/fuzz_up_socks5.c src/redir/up_socks6.c \
	src/redir/up_socks5.c src/core/s6glue.c src/core/addr.c $(FUZZ_S6_SOURCES)
tests_fuzz_fuzz_up_socks5_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_front_SOURCES = tests/fuzz/fuzz_front.c tests/fuzz/fuzz_assert.h \
	src/redir/front.c
tests_fuzz_fuzz_front_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_front_dgram_SOURCES = tests/fuzz/fuzz_front_dgram.c tests/fuzz/fuzz_assert.h \
	src/redir/front.c src/redir/front_dgram.c
tests_fuzz_fuzz_front_dgram_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_learned_text_SOURCES = tests/fuzz/fuzz_learned_text.c tests/fuzz/fuzz_assert.h \
	src/redir/learned.c src/redir/learned_direct.c src/redir/learned_family.c \
	src/redir/learned_journal.c src/redir/learned_table.c src/redir/learned_text.c \
	src/core/addr.c src/core/siphash.c src/core/text.c
tests_fuzz_fuzz_learned_text_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_learned_text_LDADD = $(PTHREAD_LIBS)
tests_fuzz_fuzz_synpkt_SOURCES = tests/fuzz/fuzz_synpkt.c tests/fuzz/fuzz_assert.h \
	src/redir/synpkt.c src/core/addr.c
tests_fuzz_fuzz_synpkt_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_dnsmsg_SOURCES = tests/fuzz/fuzz_dnsmsg.c tests/fuzz/fuzz_assert.h src/redir/dnsmsg.c
tests_fuzz_fuzz_dnsmsg_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_sniff_SOURCES = tests/fuzz/fuzz_sniff.c tests/fuzz/fuzz_assert.h src/redir/sniff.c
tests_fuzz_fuzz_sniff_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
