/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parsers of configuration values, one per type. */
#include "core/conf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/addr.h"
#include "core/log.h"
#include "core/sock.h"

#define LABEL_MAX 63 /* RFC 1035 section 2.3.4 */
#define HOST_MAX  253

static bool __attribute__((format(printf, 3, 4))) must(char *err, size_t cap, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(err, cap, fmt, ap);
	va_end(ap);
	return false;
}

/* Empty text stands for "none" only where the default is empty as well. */
static bool may_be_empty(const struct conf_key *key)
{
	return key->def && !*key->def;
}

static bool has_range(const struct conf_key *key)
{
	return key->min != 0 || key->max != 0;
}

/* Decimal or 0x, digits only, no sign. */
static bool parse_unsigned(const char *text, unsigned long long *out)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *digits = hex ? text + 2 : text;
	size_t len = strlen(digits);

	if (len == 0 || strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789") != len)
		return false;
	errno = 0;
	*out = strtoull(digits, NULL, hex ? 16 : 10);
	return errno == 0;
}

/* ---- numbers ---- */

bool conf_int(const char *text, void *dst, const struct conf_key *key, char *err, size_t errcap)
{
	long min = has_range(key) ? key->min : INT_MIN, max = has_range(key) ? key->max : INT_MAX;
	unsigned long long u;
	bool minus = *text == '-';
	long v = 0;
	bool ok = parse_unsigned(text + minus, &u) && u <= INT_MAX;

	if (ok) {
		v = minus ? -(long)u : (long)u;
		ok = v >= min && v <= max;
	}
	if (!ok)
		return has_range(key) ? must(err, errcap, "must be %ld to %ld", min, max)
				      : must(err, errcap, "must be a whole number");
	*(int *)dst = (int)v;
	return true;
}

bool conf_u32(const char *text, void *dst, const struct conf_key *key, char *err, size_t errcap)
{
	unsigned long long min = key->min > 0 ? (unsigned long long)key->min : 0;
	unsigned long long max = key->max > 0 ? (unsigned long long)key->max : UINT32_MAX, v;

	if (!parse_unsigned(text, &v) || v > UINT32_MAX || v < min || v > max)
		return must(err, errcap, "must be %llu to %llu, decimal or 0x...", min, max);
	*(uint32_t *)dst = (uint32_t)v;
	return true;
}

static const struct unit {
	const char *name;
	double seconds;
} units[] = {{"", 1}, {"ms", 0.001}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};

static bool parse_duration(const char *text, double *out)
{
	size_t len = strspn(text, "0123456789"), fraction = 0;
	char number[32];

	if (len && text[len] == '.') {
		fraction = strspn(text + len + 1, "0123456789");
		if (!fraction)
			return false;
		fraction++;
	}
	if (!len || len + fraction >= sizeof(number))
		return false;
	memcpy(number, text, len + fraction);
	number[len + fraction] = '\0';
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strcasecmp(text + len + fraction, units[i].name) == 0) {
			*out = strtod(number, NULL) * units[i].seconds;
			return true;
		}
	return false;
}

/* Seconds in the largest unit that divides them: 3600 is "1h". */
static void duration_text(long s, char *out, size_t cap)
{
	static const struct {
		long seconds;
		char unit;
	} steps[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};

	for (size_t i = 0; i < 4; i++)
		if (s % steps[i].seconds == 0 && (s || steps[i].seconds == 1)) {
			snprintf(out, cap, "%ld%c", s / steps[i].seconds, steps[i].unit);
			return;
		}
}

bool conf_seconds(const char *text, void *dst, const struct conf_key *key, char *err, size_t errcap)
{
	char min[32], max[32];
	double v;
	bool ok = parse_duration(text, &v);

	if (ok && (!has_range(key) || (v >= (double)key->min && v <= (double)key->max))) {
		*(double *)dst = v;
		return true;
	}
	if (!has_range(key))
		return must(err, errcap, "must be a time: 30 (seconds), 500ms, 5s, 10m, 1h or 2d");
	duration_text(key->min, min, sizeof(min));
	duration_text(key->max, max, sizeof(max));
	return must(err, errcap,
		    "must be a time from %s to %s: 30 (seconds), 500ms, 5s, 10m, 1h or 2d", min,
		    max);
}

/* ---- sizes ---- */

bool conf_mib(const char *text, void *dst, const struct conf_key *key, char *err, size_t errcap)
{
	size_t len = strspn(text, "0123456789");
	const char *unit = text + len + strspn(text + len, " \t");
	long n = len > 0 && len < 8 ? strtol(text, NULL, 10) : -1;

	if (strcasecmp(text, "auto") == 0) {
		*(int *)dst = 0;
		return true;
	}
	if (strcasecmp(unit, "GiB") == 0 || strcasecmp(unit, "G") == 0)
		n *= 1024;
	else if (*unit && strcasecmp(unit, "MiB") != 0 && strcasecmp(unit, "M") != 0)
		n = -1;
	if (n < key->min || n > key->max)
		return must(err, errcap,
			    "must be auto, or a size from %ld MiB to %ld MiB: 64 MiB or 2 GiB",
			    key->min, key->max);
	*(int *)dst = (int)n;
	return true;
}

/* ---- words ---- */

static int find_word(const char *text, const char *const *words)
{
	for (int i = 0; words[i]; i++)
		if (strcasecmp(text, words[i]) == 0)
			return i;
	return -1;
}

static bool parse_word(const char *text, int *out, const char *const *words, char *err,
		       size_t errcap)
{
	int i = find_word(text, words);
	size_t len;

	if (i >= 0) {
		*out = i;
		return true;
	}
	snprintf(err, errcap, "must be ");
	for (i = 0; words[i]; i++) {
		len = strlen(err);
		snprintf(err + len, errcap - len, "%s%s",
			 i == 0         ? ""
			 : words[i + 1] ? ", "
					: " or ",
			 words[i]);
	}
	return false;
}

bool conf_word(const char *text, void *dst, const struct conf_key *key, char *err, size_t errcap)
{
	return parse_word(text, dst, key->words, err, errcap);
}

bool conf_bool(const char *text, void *dst, const struct conf_key *key, char *err, size_t errcap)
{
	static const char *const words[] = {"no", "yes", "false", "true", "off",
					    "on", "0",   "1",     NULL}; /* odd = true */
	int i = find_word(text, words);

	(void)key;
	if (i < 0)
		return must(err, errcap, "must be yes or no");
	*(bool *)dst = i % 2 == 1;
	return true;
}

bool conf_left_out(const char *text, void *dst, const struct conf_key *key, char *err,
		   size_t errcap)
{
	(void)dst;
	if (text == key->def)
		return true;
	snprintf(err, errcap, CONF_LEFT_OUT, key->help);
	return false;
}

bool conf_auto_bool(const char *text, void *dst, const struct conf_key *key, char *err,
		    size_t errcap)
{
	bool yes = false;

	if (strcasecmp(text, "auto") == 0) {
		*(int *)dst = 2;
		return true;
	}
	if (!conf_bool(text, &yes, key, err, errcap))
		return must(err, errcap, "must be auto, yes or no");
	*(int *)dst = yes;
	return true;
}

bool conf_log_level(const char *text, void *dst, const struct conf_key *key, char *err,
		    size_t errcap)
{
	static const char *const words[] = {
		[LVL_ERROR] = "error", [LVL_WARNING] = "warning", [LVL_NOTICE] = "notice",
		[LVL_INFO] = "info",   [LVL_DEBUG] = "debug",     NULL};

	(void)key;
	return parse_word(text, dst, words, err, errcap);
}

bool conf_log_sink(const char *text, void *dst, const struct conf_key *key, char *err,
		   size_t errcap)
{
	static const char *const words[] = {
		[SINK_AUTO] = "auto", [SINK_SYSLOG] = "syslog", [SINK_STDERR] = "stderr", NULL};

	(void)key;
	return parse_word(text, dst, words, err, errcap);
}

bool conf_workers(const char *text, void *dst, const struct conf_key *key, char *err, size_t errcap)
{
	unsigned long long v;

	(void)key;
	if (strcasecmp(text, "auto") == 0)
		v = 0;
	else if (!parse_unsigned(text, &v) || v < 1 || v > 256)
		return must(err, errcap, "must be auto or 1 to 256");
	*(int *)dst = (int)v;
	return true;
}

/* ---- text ---- */

static bool replace(char **dst, const char *text, char *err, size_t errcap)
{
	char *p = NULL;

	if (text) {
		p = strdup(text);
		if (!p)
			return must(err, errcap, "out of memory");
	}
	free(*dst);
	*dst = p;
	return true;
}

bool conf_string(const char *text, void *dst, const struct conf_key *key, char *err, size_t errcap)
{
	long len = (long)strlen(text);

	if (len == 0 && !may_be_empty(key))
		return must(err, errcap, "must not be empty");
	if (len && has_range(key) && (len < key->min || len > key->max))
		return must(err, errcap, "must be %ld to %ld characters", key->min, key->max);
	return replace(dst, text, err, errcap);
}

bool conf_path(const char *text, void *dst, const struct conf_key *key, char *err, size_t errcap)
{
	if (!*text && may_be_empty(key))
		return replace(dst, NULL, err, errcap);
	if (*text != '/')
		return must(err, errcap, "must be an absolute path (begin with \"/\")");
	if (strlen(text) >= PATH_MAX)
		return must(err, errcap, "must be shorter than %d characters", PATH_MAX);
	return replace(dst, text, err, errcap);
}

/* ---- addresses ---- */

/* Walks over the trimmed items of a comma separated list. */
struct items {
	const char *rest;
	char item[256];
};

/* False at the end, or with *bad set at an item that is empty or too long. */
static bool next_item(struct items *it, bool *bad)
{
	const char *start = it->rest, *end;
	size_t len;

	*bad = false;
	if (!start)
		return false;
	end = start + strcspn(start, ",");
	it->rest = *end ? end + 1 : NULL;
	while (start < end && isspace((unsigned char)*start))
		start++;
	while (end > start && isspace((unsigned char)end[-1]))
		end--;
	len = (size_t)(end - start);
	*bad = len == 0 || len >= sizeof(it->item);
	if (*bad)
		len = 0;
	memcpy(it->item, start, len);
	it->item[len] = '\0';
	return !*bad;
}

/* The most items the text can have. */
static size_t count_items(const char *text)
{
	size_t n = 1;

	for (; *text; text++)
		n += *text == ',';
	return n;
}

static bool parse_listen(const char *item, struct addr *a)
{
	char full[16];
	bool number = strlen(item) <= 5 && strspn(item, "0123456789") == strlen(item);

	if (number)
		snprintf(full, sizeof(full), "[::]:%.5s", item);
	return addr_parse(a, number ? full : item, -1) && addr_port(a) != 0;
}

static bool addr_list_has(const struct addr_list *l, const struct addr *a)
{
	for (size_t i = 0; i < l->n; i++)
		if (addr_equal(&l->v[i], a))
			return true;
	return false;
}

static bool addr_list_fill(struct addr_list *l, const char *text, char *err, size_t errcap)
{
	struct items it = {.rest = text};
	bool bad;

	while (next_item(&it, &bad)) {
		if (!parse_listen(it.item, &l->v[l->n]))
			return must(err, errcap,
				    "must be ADDRESS:PORT, [IPV6]:PORT or PORT, comma separated, "
				    "ports 1 to 65535; \"%.80s\" is none of these",
				    it.item);
		if (addr_list_has(l, &l->v[l->n]))
			return must(err, errcap,
				    "must name each address once; \"%.80s\" is repeated", it.item);
		l->n++;
	}
	return bad ? must(err, errcap, "must not have empty items") : true;
}

bool conf_addr_list(const char *text, void *dst, const struct conf_key *key, char *err,
		    size_t errcap)
{
	struct addr_list *out = dst, l = {0};

	if (!*text && !may_be_empty(key))
		return must(err, errcap, "must be at least one ADDRESS:PORT, [IPV6]:PORT or PORT");
	if (*text) {
		l.v = calloc(count_items(text), sizeof(*l.v));
		if (!l.v)
			return must(err, errcap, "out of memory");
		if (!addr_list_fill(&l, text, err, errcap)) {
			free(l.v);
			return false;
		}
	}
	free(out->v);
	*out = l;
	return true;
}

static bool prefix_list_fill(struct prefix_list *l, const char *text, char *err, size_t errcap)
{
	struct items it = {.rest = text};
	bool bad;

	while (next_item(&it, &bad)) {
		if (!prefix_parse(&l->v[l->n], it.item))
			return must(err, errcap,
				    "must be addresses or ADDRESS/BITS, comma separated; \"%.80s\" "
				    "is neither",
				    it.item);
		l->n++;
	}
	return bad ? must(err, errcap, "must not have empty items") : true;
}

bool conf_prefix_list(const char *text, void *dst, const struct conf_key *key, char *err,
		      size_t errcap)
{
	struct prefix_list *out = dst, l = {0};

	(void)key;
	if (*text) {
		l.v = calloc(count_items(text), sizeof(*l.v));
		if (!l.v)
			return must(err, errcap, "out of memory");
		if (!prefix_list_fill(&l, text, err, errcap)) {
			free(l.v);
			return false;
		}
	}
	free(out->v);
	*out = l;
	return true;
}

/* What the kernel takes as a name (dev_valid_name), and nothing that rules would need quoted. */
static bool interface_valid(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_.@";
	size_t len = strlen(name);

	return len > 0 && len <= INTERFACE_MAX && strspn(name, letters) == len && *name != '-' &&
	       strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static bool interface_list_fill(struct interface_list *l, const char *text, char *err,
				size_t errcap)
{
	struct items it = {.rest = text};
	bool bad;

	while (next_item(&it, &bad)) {
		if (!interface_valid(it.item))
			return must(err, errcap,
				    "must be names of network interfaces, comma separated; "
				    "\"%.80s\" is none",
				    it.item);
		strcpy(l->v[l->n++], it.item);
	}
	return bad ? must(err, errcap, "must not have empty items") : true;
}

bool conf_interface_list(const char *text, void *dst, const struct conf_key *key, char *err,
			 size_t errcap)
{
	struct interface_list *out = dst, l = {0};

	(void)key;
	if (*text) {
		l.v = calloc(count_items(text), sizeof(*l.v));
		if (!l.v)
			return must(err, errcap, "out of memory");
		if (!interface_list_fill(&l, text, err, errcap)) {
			free(l.v);
			return false;
		}
	}
	free(out->v);
	*out = l;
	return true;
}

static bool parse_port_range(const char *text, struct port_range *r)
{
	static const struct conf_key port = {.min = 1, .max = 65535};
	char first[8], err[64];
	size_t len = strcspn(text, "-");
	int low, high;

	if (len >= sizeof(first))
		return false;
	memcpy(first, text, len);
	first[len] = '\0';
	if (!conf_int(first, &low, &port, err, sizeof(err)))
		return false;
	high = low;
	if (text[len] && !conf_int(text + len + 1, &high, &port, err, sizeof(err)))
		return false;
	*r = (struct port_range){(uint16_t)low, (uint16_t)high};
	return low <= high;
}

static bool port_list_fill(struct port_list *l, const char *text, char *err, size_t errcap)
{
	struct items it = {.rest = text};
	bool bad;

	while (next_item(&it, &bad)) {
		if (!parse_port_range(it.item, &l->v[l->n]))
			return must(err, errcap,
				    "must be ports 1 to 65535 or ranges like 1000-2000, comma "
				    "separated; \"%.80s\" is neither",
				    it.item);
		l->n++;
	}
	return bad ? must(err, errcap, "must not have empty items") : true;
}

bool conf_port_list(const char *text, void *dst, const struct conf_key *key, char *err,
		    size_t errcap)
{
	struct port_list *out = dst, l = {0};

	if (!*text && !may_be_empty(key))
		return must(err, errcap, "must be ports or ranges of ports");
	if (*text) {
		l.v = calloc(count_items(text), sizeof(*l.v));
		if (!l.v)
			return must(err, errcap, "out of memory");
		if (!port_list_fill(&l, text, err, errcap)) {
			free(l.v);
			return false;
		}
	}
	free(out->v);
	*out = l;
	return true;
}

/* A DNS name, or an IPv4 address if it looks like one. */
static bool host_valid(const char *host)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_";
	size_t len = strlen(host);
	struct addr a;

	if (len == 0 || len > HOST_MAX)
		return false;
	if (strspn(host, "0123456789.") == len)
		return addr_parse_ip(&a, host);
	for (const char *label = host; *label;) {
		size_t n = strspn(label, letters);
		if (n == 0 || n > LABEL_MAX || label[0] == '-' || label[n - 1] == '-')
			return false;
		label += n;
		if (*label == '.')
			label++;
		else if (*label)
			return false;
	}
	return true;
}

/* Takes text apart into host (brackets removed) and port text (NULL = none). */
static bool split_hostport(const char *text, char *host, size_t cap, const char **port)
{
	const char *start = text, *end;
	bool v6 = *text == '[';

	if (v6) {
		start++;
		end = strchr(start, ']');
		if (!end || (end[1] && end[1] != ':'))
			return false;
		*port = end[1] ? end + 2 : NULL;
	} else {
		end = start + strcspn(start, ":");
		*port = *end ? end + 1 : NULL;
	}
	size_t len = (size_t)(end - start);
	if (len >= cap)
		return false;
	memcpy(host, start, len);
	host[len] = '\0';
	if (!v6)
		return host_valid(host);
	struct addr a;
	return strchr(host, ':') && addr_parse_ip(&a, host);
}

bool conf_hostport(const char *text, void *dst, const struct conf_key *key, char *err,
		   size_t errcap)
{
	struct hostport *out = dst;
	char host[HOST_MAX + 1];
	const char *port;
	unsigned long long number = (unsigned long long)key->min;
	struct addr a;

	if (*text != '[' && strchr(text, ':') != strrchr(text, ':') && addr_parse_ip(&a, text))
		return must(err, errcap, "must have brackets round an IPv6 address: [%s]:PORT",
			    text);
	if (!split_hostport(text, host, sizeof(host), &port))
		return must(err, errcap, "must be NAME:PORT, IPV4:PORT or [IPV6]:PORT");
	if (!port && number == 0)
		return must(err, errcap, "must have a port: %s:PORT", text);
	if (port && (strlen(port) > 5 || strspn(port, "0123456789") != strlen(port) ||
		     !parse_unsigned(port, &number) || number < 1 || number > 65535))
		return must(err, errcap, "must have a port of 1 to 65535");
	if (!replace(&out->host, host, err, errcap))
		return false;
	out->port = (uint16_t)number;
	return true;
}

/* ---- secrets ---- */

static int read_line(int fd, char *out, size_t cap)
{
	size_t len = 0;
	ssize_t n = 1;
	char *end = NULL;

	while (!end && n > 0 && len < cap) {
		n = read(fd, out + len, cap - len);
		if (n < 0 && errno == EINTR) {
			n = 1;
			continue;
		}
		if (n < 0)
			return -errno;
		end = memchr(out + len, '\n', (size_t)n);
		len += (size_t)n;
	}
	if (!end && len == cap)
		return -EMSGSIZE;
	if (end)
		len = (size_t)(end - out);
	if (len && out[len - 1] == '\r')
		len--;
	out[len] = '\0';
	if (len == 0)
		return -ENODATA;
	return memchr(out, '\0', len) ? -EINVAL : 0;
}

int conf_read_secret(const char *path, char *out, size_t cap)
{
	struct stat st;
	int rc = 0;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		rc = -errno;
	else if (!S_ISREG(st.st_mode))
		rc = -EINVAL;
	else if (st.st_mode & (S_IROTH | S_IWOTH))
		rc = -EPERM;
	if (rc == 0)
		rc = read_line(fd, out, cap);
	if (rc < 0)
		explicit_bzero(out, cap);
	close(fd);
	return rc;
}

bool conf_path_or_off(const char *text, void *dst, const struct conf_key *key, char *err,
		      size_t errcap)
{
	struct conf_key row = *key;

	if (!*text)
		row.def = ""; /* says to conf_path that nothing is allowed */
	return conf_path(text, dst, &row, err, errcap);
}

void conf_addrs_without_ipv6(struct addr_list *l)
{
	for (size_t i = 0; i < l->n; i++) {
		struct addr *a = &l->v[i];
		char text[16];

		if (addr_family(a) != AF_INET6 || !addr_is_any(a) || sock_has_ipv6())
			continue;
		snprintf(text, sizeof(text), "0.0.0.0:%u", addr_port(a));
		addr_parse(a, text, -1);
		log_notice("this kernel has no IPv6: listening on %s, for IPv4 only", text);
	}
}
