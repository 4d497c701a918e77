/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Configuration: iniparser reads the file, tables say what may be in it. Each key is
 * a row: name, parser, place in the struct, default, range. All errors are collected,
 * each as "file:line: key: what is wrong, what is allowed"; unknown sections and keys
 * are errors with a suggestion, so are repeated keys. iniparser keeps no line numbers, so
 * the file is scanned again for a line only when there is an error.
 */
#ifndef SIXPATH_CONF_H
#define SIXPATH_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct addr;
struct conf;
struct conf_key;

/* Parse text into *dst. On failure write the reason into err ("must be 1 to 65535") and
 * return false. dst is key->offset into the section's struct. */
typedef bool conf_parse_fn(const char *text, void *dst, const struct conf_key *key, char *err,
			   size_t errcap);

struct conf_key {
	const char *name;
	conf_parse_fn *parse;
	size_t offset;
	const char *def;          /* parsed like any value when the key is absent; NULL = leave */
	long min, max;            /* for numbers */
	const char *const *words; /* for conf_word: allowed words, NULL-terminated */
	const char *help;         /* "allowed" text in errors where the parser has none */
	size_t size;              /* of the destination, for strings in arrays */
	bool secret;              /* the value never appears in an error */
};

/* What is told of a key or section that is known, but not built in; %s is the option. */
#define CONF_LEFT_OUT                                                                              \
	"this program was built without it (configure %s): remove it, or install one that has it"

struct conf_section {
	const char *name; /* "redir", or "proxy" for "[proxy NAME]" */
	bool named;       /* takes a NAME and may appear several times */
	bool required;
	const struct conf_key *keys; /* ends with a row without name */
	/* NULL, or the option of configure that has left it out: what is set in it is an error. */
	const char *left_out;
	/* The struct to fill for this section (name NULL unless named). NULL = out of memory.
	 * Without begin it is ctx itself. */
	void *(*begin)(void *ctx, const char *name);
	/* Optional check after the last key; report with conf_error. */
	void (*check)(struct conf *c, void *ctx, void *dst, const char *name);
};

/*
 * Load path with the sections (ends with a row without name), filling ctx. path NULL =
 * no file, defaults only. Sections that are absent and not named are filled with
 * defaults. Returns the number of errors; they are printed to errors, one a line
 * (sorted by line), or logged when errors is NULL. The names of sections are compared
 * without regard to case, and passed on as written. Required sections are asked for
 * only in a file.
 */
unsigned conf_load(const char *path, const struct conf_section *sections, void *ctx, FILE *errors);

/* From a check function: an error at the key (or at the section when key is NULL). */
void conf_error(struct conf *c, const char *section, const char *name, const char *key,
		const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* From a check function, about a key whose value goes to resolver_new as it is: the next server of the
 * list at *at (NULL or "" = none) into a. False at the end, or when one is wrong (reported). */
bool conf_next_server(struct conf *c, const char *section, const char *name, const char *key,
		      const char **at, struct addr *a);

/* Parsers. min = max = 0: no range. An empty value is refused, except where the default is
 * empty too; then it means none. Destinations are: */
conf_parse_fn conf_bool;        /* bool: yes/no, true/false, on/off, 1/0 */
conf_parse_fn conf_int;         /* int: decimal or 0x, min..max, nothing behind */
conf_parse_fn conf_u32;         /* uint32_t, likewise */
conf_parse_fn conf_seconds;     /* double: 30, 500ms, 5s, 10m, 1h, 2d; min..max in seconds */
conf_parse_fn conf_mib;         /* int: MiB, as 64, 64 MiB, 2 GiB; min..max; or auto = 0 */
conf_parse_fn conf_word;        /* int: index into words */
conf_parse_fn conf_string;      /* char * (malloc), freed before being replaced; min..max octets */
conf_parse_fn conf_path;        /* char *: absolute path; NULL for none */
conf_parse_fn conf_path_or_off; /* char *: absolute path, or empty (NULL) = off */
conf_parse_fn conf_log_level;   /* enum log_level as int */
conf_parse_fn conf_log_sink;    /* enum log_sink as int */
conf_parse_fn conf_workers;     /* int: 1..256, or auto = 0 */
conf_parse_fn conf_auto_bool;   /* int: 0 no, 1 yes, 2 auto */
/* For a key of what is not built in: an error if it is set. key->help is the option of configure
 * that has left it out; the default is anything, and does nothing. */
conf_parse_fn conf_left_out;

/* A comma separated list of addresses with ports; a bare number means [::]:number. */
struct addr_list {
	struct addr *v;
	size_t n;
};
conf_parse_fn conf_addr_list; /* struct addr_list, each needs a port */
struct prefix;
struct prefix_list {
	struct prefix *v;
	size_t n;
};
conf_parse_fn conf_prefix_list; /* struct prefix_list; may be empty */

/* Network interfaces by name, comma separated; may be empty. The names are one allocation:
 * free(v). */
#define INTERFACE_MAX 15 /* octets of a name (IFNAMSIZ - 1) */
struct interface_list {
	char (*v)[INTERFACE_MAX + 1];
	size_t n;
};
conf_parse_fn conf_interface_list;
/* Ports and ranges, comma separated: "80, 1000-2000". */
struct port_range {
	uint16_t first, last;
};
struct port_list {
	struct port_range *v;
	size_t n;
};
conf_parse_fn conf_port_list;

/* A host and port that may be a name: "proxy.example.net:1080", "[::1]:1080". */
struct hostport {
	char *host; /* malloc; without brackets */
	uint16_t port;
};
conf_parse_fn conf_hostport; /* struct hostport; key->min = default port or 0 = required */

/* A text key that has been given, and not as nothing. */
static inline bool conf_is_set(const char *text)
{
	return text && *text;
}

/* For what a reload cannot change. NULL and "" are the same text. */
bool conf_text_equal(const char *x, const char *y);
/* From a check function: where the kernel has no IPv6 0.0.0.0 takes the place of [::], with its port. */
void conf_addrs_without_ipv6(struct addr_list *l);
bool conf_addrs_equal(const struct addr_list *x, const struct addr_list *y);
bool conf_prefixes_equal(const struct prefix_list *x, const struct prefix_list *y);
bool conf_interfaces_equal(const struct interface_list *x, const struct interface_list *y);
bool conf_ports_equal(const struct port_list *x, const struct port_list *y);
/* Is it in the list? */
bool conf_ports_contain(const struct port_list *l, uint16_t port);
bool conf_prefixes_contain(const struct prefix_list *l, const struct addr *a);
/* Unless equal, append the name to the comma separated list in buf. */
void conf_name_changed(bool equal, const char *name, char *buf, size_t cap);

/* Read a secret from a file: first line without its end, at most cap - 1 octets; refuses
 * files that others may read or write. Returns 0 or -errno (-EPERM for the mode, -ENODATA
 * for an empty line, -EMSGSIZE if too long, -EINVAL for no regular file or a NUL). The
 * caller wipes out. */
int conf_read_secret(const char *path, char *out, size_t cap);

#endif
