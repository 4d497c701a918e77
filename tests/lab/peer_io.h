/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef LAB_PEER_IO_H
#define LAB_PEER_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* ---- test data: one pseudo-random block, repeated; a stream starts somewhere in it ---- */

enum {
	PATTERN_PERIOD = 1048573, /* prime, so that no buffer size divides it */
	PATTERN_CHUNK = 262144,   /* this much can be read at any position */
};

/* The block, PATTERN_PERIOD + PATTERN_CHUNK octets; free() it. NULL = out of memory. */
uint8_t *pattern_new(void);

/* Where the stream with this seed has its octet number pos. */
const uint8_t *pattern_at(const uint8_t *block, uint64_t seed, uint64_t pos);

/* ---- sockets ---- */

struct peer_sock {
	bool mptcp, tfo;
	bool transparent;    /* listeners: take what TPROXY sends */
	unsigned mark;       /* SO_MARK, 0 = none */
	unsigned timeout_ms; /* for each single read or write; 0 = none */
	unsigned
		pace_kbit; /* the most that is sent in a second, by each connection; 0 = no limit */
};

/* Numeric address. Returns false if it is none. */
bool peer_addr(const char *host, const char *port, struct sockaddr_storage *sa, socklen_t *len);

/* Socket that listens on [::]:port for both families, or -1 with errno. */
int peer_listen(uint16_t port, const struct peer_sock *o);

/* Connects; with o->tfo the octets of first travel in the SYN if they can, and are sent
 * in any case. Returns the socket or -1 with errno. */
int peer_connect(const struct sockaddr_storage *sa, socklen_t sa_len, const struct peer_sock *o,
		 const uint8_t *first, size_t first_len);

/* All or nothing: 0, or -1 with errno (ETIMEDOUT after timeout_ms; 0 for an early end in peer_read). */
int peer_write(int fd, const uint8_t *data, size_t len);
int peer_read(int fd, uint8_t *data, size_t len);

/* read() with ETIMEDOUT instead of EAGAIN. */
ssize_t peer_read_some(int fd, uint8_t *data, size_t len);

/* Where the client wanted to go, as TPROXY or REDIRECT leave it; "ADDRESS PORT". */
void peer_origdst(int fd, char *out, size_t size);

/* For each single read or write; 0 = none. */
void peer_timeout(int fd, unsigned ms);

/* Ends the connection with a reset. */
void peer_reset(int fd);

/* An MPTCP connection accepted with data in its SYN does not send what is written before the
 * handshake's last packet has come: wait for that. */
void peer_established(int fd);

struct peer_facts {
	bool mptcp;    /* the connection really is MPTCP now */
	int subflows;  /* total, 0 when not MPTCP or unknown */
	bool syn_data; /* data in our SYN was accepted, or came in the peer's SYN */
};
void peer_facts(int fd, struct peer_facts *f);

/* ---- small things ---- */

double peer_now_ms(void);

/* 1, 64k, 1M, 1G. */
bool peer_size(const char *text, uint64_t *out);

const char *peer_errno(int e);

/* One line to stdout by a single write, so that threads do not mix. */
void peer_print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- servers (peer_serve.c) ---- */

/* Serves until killed. Returns an exit code. */
int peer_serve(const struct peer_sock *o, const uint8_t *block, char **spec, int n);

/* ---- mixed traffic (peer_mix.c) ---- */

/* argv[0] is not looked at. Returns an exit code: 1 when a connection failed. */
int peer_mix(const uint8_t *block, int argc, char **argv);

/* duplex: the client announces what it sends and wants. */
struct duplex_head {
	uint64_t up, down, seed;
};
enum { DUPLEX_HEAD = 24, DUPLEX_TAIL = 9 };
void duplex_head_put(uint8_t *out, const struct duplex_head *h);
void duplex_head_get(const uint8_t *in, struct duplex_head *h);
void put64(uint8_t *out, uint64_t v);
uint64_t get64(const uint8_t *in);

/* Sends len octets of a stream; 0 or -1 with errno. */
int stream_send(int fd, const uint8_t *block, uint64_t seed, uint64_t len);

struct stream_got {
	uint64_t octets;
	uint64_t bad_at;   /* first octet that differs, UINT64_MAX = none */
	double max_gap_ms; /* longest time between two reads that brought something */
	double first_ms;   /* when the first octet came (peer_now_ms), 0 = none did */
	int error;         /* errno, 0 = end of stream or len octets read */
};
/* Reads up to len octets and compares them. */
void stream_recv(int fd, const uint8_t *block, uint64_t seed, uint64_t len, struct stream_got *got);

#endif
