/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "redir/dnsmsg.h"

#include <string.h>

#include "libsocks6/cursor.h"

#define QR            0x8000
#define TC            0x0200
#define RD            0x0100
#define RA            0x0080
#define AD            0x0020
#define CD            0x0010
#define OPCODE(flags) ((flags) >> 11 & 15)
#define RCODE(flags)  ((flags)&15)
#define WISHES        (RD | AD | CD)

#define TYPE_SOA 6
#define TYPE_OPT 41
#define TYPE_ANY 255
#define DO       0x8000

#define LABEL_MAX 63
#define POINTER   0xc0
#define TTL_MAX   0x7fffffffu /* RFC 2181: what is above is 0 */

struct header {
	uint16_t id, flags, count[4]; /* question, answer, authority, additional */
};

enum { QUESTION, ANSWER, AUTHORITY, ADDITIONAL };

struct record {
	uint16_t type, class;
	uint32_t ttl;
	struct reader data;
};

static bool read_header(struct reader *r, struct header *h)
{
	if (!read_u16(r, &h->id) || !read_u16(r, &h->flags))
		return false;
	for (int i = 0; i < 4; i++)
		if (!read_u16(r, &h->count[i]))
			return false;
	return true;
}

/* Over a name: labels, and at its end a zero or a pointer, which is not followed. */
static bool skip_name(struct reader *r)
{
	const uint8_t *p;
	uint8_t n;

	for (size_t total = 0; total < DNS_NAME_MAX; total += (size_t)n + 1) {
		if (!read_u8(r, &n))
			return false;
		if (n == 0)
			return true;
		if ((n & POINTER) == POINTER)
			return read_u8(r, &n);
		if (n > LABEL_MAX || !read_bytes(r, n, &p))
			return false;
	}
	return false;
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

/* Name (which must be written out), type and class into the key. */
static bool read_question(struct reader *r, struct dns_key *key, uint16_t *type)
{
	const uint8_t *start = r->at, *p;
	uint8_t n;

	key->len = 0;
	do {
		if (!read_u8(r, &n) || n > LABEL_MAX || key->len + n + 1 > DNS_NAME_MAX ||
		    !read_bytes(r, n, &p))
			return false;
		key->octets[key->len++] = n;
		for (uint8_t i = 0; i < n; i++)
			key->octets[key->len++] = lower(p[i]);
	} while (n > 0);
	if (!read_u16(r, type) || !read_bytes(r, 2, &p))
		return false;
	memcpy(key->octets + key->len, start + key->len, 4);
	key->len += 4;
	return true;
}

static bool read_record(struct reader *r, struct record *rr)
{
	uint16_t len;

	return skip_name(r) && read_u16(r, &rr->type) && read_u16(r, &rr->class) &&
	       read_u32(r, &rr->ttl) && read_u16(r, &len) && read_sub(r, len, &rr->data);
}

/* ---- queries ---- */

static void key_add_wishes(struct dns_query *q)
{
	q->key.octets[q->key.len++] = (uint8_t)(q->wishes >> 4);
	q->key.octets[q->key.len++] = (uint8_t)(q->edns | q->dnssec_ok << 1);
}

static void take_opt(struct dns_query *q, const struct record *rr)
{
	uint16_t size = rr->class;

	q->edns = true;
	q->edns_version = (uint8_t)(rr->ttl >> 16);
	q->dnssec_ok = (rr->ttl & DO) != 0;
	q->room = size < DNS_UDP_PLAIN ? DNS_UDP_PLAIN : size > DNS_UDP_MAX ? DNS_UDP_MAX : size;
}

/* Only EDNS is expected behind the question; signed transactions are between their two ends. */
static int read_additional(struct reader *r, const struct header *h, struct dns_query *q)
{
	struct record rr;

	for (unsigned i = 0; i < h->count[ADDITIONAL]; i++) {
		if (!read_record(r, &rr))
			return DNS_FORMERR;
		if (rr.type != TYPE_OPT)
			return DNS_NOTIMP;
		if (q->edns)
			return DNS_FORMERR;
		take_opt(q, &rr);
	}
	if (r->left > 0)
		return DNS_FORMERR;
	return q->edns_version > 0 ? DNS_BADVERS : DNS_NOERROR;
}

int dns_query_parse(const uint8_t *msg, size_t len, struct dns_query *q)
{
	struct reader r = reader_of(msg, len);
	struct header h;
	uint8_t code;
	int rc;

	memset(q, 0, sizeof(*q));
	q->room = DNS_UDP_PLAIN;
	if (!read_header(&r, &h) || (h.flags & QR))
		return -1;
	q->id = h.id;
	q->wishes = h.flags & WISHES;
	if (OPCODE(h.flags) != 0)
		return DNS_NOTIMP;
	if (len > DNS_QUERY_MAX || h.count[QUESTION] != 1 || h.count[ANSWER] != 0 ||
	    h.count[AUTHORITY] != 0)
		return DNS_FORMERR;
	if (!read_question(&r, &q->key, &q->type))
		return DNS_FORMERR;
	q->question_len = q->key.len;
	rc = read_additional(&r, &h, q);
	code = (uint8_t)q->type;
	/* Transfers, and what is no type of data, are not for a forwarder; ANY is. */
	if (rc == DNS_NOERROR && (q->type == 0 || q->type == TYPE_OPT ||
				  (q->type >> 8 == 0 && code >= 249 && code != TYPE_ANY)))
		rc = DNS_NOTIMP;
	key_add_wishes(q);
	return rc;
}

static void write_opt(struct writer *w, uint8_t extended_rcode, bool dnssec_ok)
{
	write_u8(w, 0);
	write_u16(w, TYPE_OPT);
	write_u16(w, DNS_UDP_OURS);
	write_u32(w, (uint32_t)extended_rcode << 24 | (dnssec_ok ? DO : 0));
	write_u16(w, 0);
}

/* Header and question; one additional record may follow. */
static struct writer begin(uint8_t *out, const uint8_t *from, const struct dns_query *q,
			   uint16_t id, unsigned flags, bool additional)
{
	struct writer w = writer_of(out, DNS_HEADER + q->question_len + 11);

	write_u16(&w, id);
	write_u16(&w, (uint16_t)flags);
	write_u16(&w, q->question_len > 0);
	write_u32(&w, 0);
	write_u16(&w, additional);
	write_bytes(&w, from + DNS_HEADER, q->question_len);
	return w;
}

size_t dns_query_build(const uint8_t *msg, const struct dns_query *q, uint16_t id, uint8_t *out)
{
	struct writer w = begin(out, msg, q, id, q->wishes, q->edns);

	if (q->edns)
		write_opt(&w, 0, q->dnssec_ok);
	return w.len;
}

size_t dns_error(const uint8_t *query, const struct dns_query *q, int rcode, uint8_t *out)
{
	struct writer w =
		begin(out, query, q, q->id,
		      QR | RA | (q->wishes & (RD | CD)) | (unsigned)RCODE(rcode), q->edns);

	if (q->edns)
		write_opt(&w, (uint8_t)(rcode >> 4), q->dnssec_ok);
	return w.len;
}

/* ---- answers ---- */

/* What is seen of the records on the way through. */
struct survey {
	uint32_t ttl;      /* the least */
	bool found;        /* one of the type that was asked for */
	bool soa;          /* authority has one: how long a "no" is good for */
	uint32_t negative; /* its minimum */
};

static uint32_t sane_ttl(uint32_t ttl)
{
	return ttl > TTL_MAX ? 0 : ttl;
}

/* RFC 2308: the last of the numbers behind the two names. */
static bool read_soa(struct reader *data, uint32_t *minimum)
{
	const uint8_t *p;

	return skip_name(data) && skip_name(data) && read_bytes(data, 16, &p) &&
	       read_u32(data, minimum) && data->left == 0;
}

static bool look_at(struct survey *s, unsigned section, struct record *rr, uint16_t wanted)
{
	uint32_t ttl = sane_ttl(rr->ttl);

	if (ttl < s->ttl)
		s->ttl = ttl;
	if (section == ANSWER && (rr->type == wanted || wanted == TYPE_ANY))
		s->found = true;
	if (section != AUTHORITY || rr->type != TYPE_SOA)
		return true;
	s->soa = true;
	return read_soa(&rr->data, &s->negative);
}

static bool read_records(struct reader *r, const uint8_t *msg, const struct header *h,
			 uint16_t wanted, struct survey *s, struct dns_answer *a)
{
	for (unsigned section = ANSWER; section <= ADDITIONAL; section++) {
		for (unsigned i = 0; i < h->count[section]; i++) {
			const uint8_t *at = r->at;
			struct record rr;

			if (!read_record(r, &rr))
				return false;
			if (rr.type != TYPE_OPT) {
				if (!look_at(s, section, &rr, wanted))
					return false;
				continue;
			}
			if (section != ADDITIONAL || a->opt_len > 0)
				return false;
			a->opt = (size_t)(at - msg);
			a->opt_len = (size_t)(r->at - at);
		}
	}
	return r->left == 0;
}

static void judge(const struct header *h, const struct survey *s, struct dns_answer *a)
{
	bool negative = a->rcode == DNS_NXDOMAIN || !s->found;

	if (a->truncated || (a->rcode != DNS_NOERROR && a->rcode != DNS_NXDOMAIN))
		return;
	if (negative && !s->soa)
		return; /* nobody vouches for the "no" */
	if (!negative && h->count[ANSWER] == 0)
		return;
	a->ttl = s->ttl;
	if (negative && sane_ttl(s->negative) < a->ttl)
		a->ttl = sane_ttl(s->negative);
	a->keep = a->ttl > 0;
}

bool dns_answer_parse(const uint8_t *msg, size_t len, const struct dns_query *q,
		      struct dns_answer *a)
{
	struct reader r = reader_of(msg, len);
	struct survey s = {.ttl = TTL_MAX};
	struct dns_key key;
	struct header h;
	uint16_t type;

	memset(a, 0, sizeof(*a));
	if (!read_header(&r, &h) || !(h.flags & QR) || OPCODE(h.flags) != 0 ||
	    h.count[QUESTION] != 1 || !read_question(&r, &key, &type) ||
	    key.len != q->question_len || memcmp(key.octets, q->key.octets, key.len) != 0)
		return false;
	a->id = h.id;
	a->rcode = (uint8_t)RCODE(h.flags);
	a->truncated = (h.flags & TC) != 0;
	if (!read_records(&r, msg, &h, q->type, &s, a))
		return false;
	judge(&h, &s, a);
	return true;
}

void dns_age(uint8_t *msg, size_t len, uint32_t seconds)
{
	struct reader r = reader_of(msg, len);
	struct dns_key key;
	struct header h;
	struct record rr;
	uint16_t type;
	unsigned records;

	if (!read_header(&r, &h) || !read_question(&r, &key, &type))
		return;
	records = (unsigned)h.count[ANSWER] + h.count[AUTHORITY] + h.count[ADDITIONAL];
	while (records-- > 0 && read_record(&r, &rr)) {
		/* In front of the data: 4 octets, and 2 of their length. */
		struct writer w = writer_of(msg + (rr.data.at - msg) - 6, 4);
		uint32_t ttl = sane_ttl(rr.ttl);

		if (rr.type != TYPE_OPT)
			write_u32(&w, ttl > seconds ? ttl - seconds : 0);
	}
}

void dns_answer_adopt(uint8_t *msg, const uint8_t *query, const struct dns_query *q)
{
	struct writer w = writer_of(msg, DNS_HEADER + q->question_len);

	write_u16(&w, q->id);
	memcpy(msg + DNS_HEADER, query + DNS_HEADER, q->question_len);
}

size_t dns_truncate(const uint8_t *msg, const struct dns_query *q, const struct dns_answer *a,
		    uint8_t *out)
{
	struct reader r = reader_of(msg, DNS_HEADER);
	struct header h = {0};
	struct writer w;
	bool opt = a->opt_len == 11; /* with options in it, it would not fit */

	if (!read_header(&r, &h))
		return 0;
	w = begin(out, msg, q, h.id, h.flags | TC, opt);
	if (opt)
		write_bytes(&w, msg + a->opt, a->opt_len);
	return w.len;
}
