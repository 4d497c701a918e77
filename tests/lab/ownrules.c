/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's rules without the daemon: puts them in place and obeys commands from a FIFO, so
 * that the lab can see what they do to packets. Capabilities: CAP_NET_ADMIN only.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/priv.h"
#include "redir/bypass.h"
#include "redir/rules.h"

#define LIST_MAX 8
#define USAGE                                                                                      \
	"usage: ownrules [--redirect] [--iface NAME] [--local] [--port N] [--ports N] [--exclude " \
	"NET] [--upstream ADDR] [--action auto|relay|rule] [--passive] [--no-owner] [--user "      \
	"NAME] FIFO\n"                                                                             \
	"commands: learn ADDR:PORT SECONDS, forget ADDR:PORT, upstream ADDR, seen, counters, "     \
	"state, quit\n"

static volatile sig_atomic_t stop;

struct setting {
	struct rules_conf conf;
	const char *ifaces[LIST_MAX];
	struct port_range ports[LIST_MAX];
	struct prefix exclude[LIST_MAX];
	struct addr upstream[LIST_MAX];
	size_t n_upstream;
	const char *user, *fifo;
};

static void on_term(int sig)
{
	(void)sig;
	stop = 1;
}

static bool option(struct setting *s, int opt, const char *arg)
{
	struct rules_conf *c = &s->conf;
	unsigned long n = arg ? strtoul(arg, NULL, 0) : 0;

	switch (opt) {
	case 'r':
		c->mode = MODE_REDIRECT;
		return true;
	case 'i':
		if (c->n_capture < LIST_MAX)
			s->ifaces[c->n_capture++] = arg;
		return true;
	case 'l':
		c->capture_local = true;
		return true;
	case 'p':
		c->port = (uint16_t)n;
		return true;
	case 'P':
		if (c->n_ports < LIST_MAX)
			s->ports[c->n_ports++] = (struct port_range){(uint16_t)n, (uint16_t)n};
		return true;
	case 'x':
		return c->exclude.n < LIST_MAX && prefix_parse(&s->exclude[c->exclude.n++], arg);
	case 'u':
		return s->n_upstream < LIST_MAX &&
		       addr_parse_ip(&s->upstream[s->n_upstream++], arg);
	case 'a':
		c->action = !strcmp(arg, "rule")    ? BYPASS_RULE
			    : !strcmp(arg, "relay") ? BYPASS_RELAY
						    : BYPASS_AUTO;
		return true;
	case 's':
		c->learn_passive = true;
		return true;
	case 'n':
		c->owner = false;
		return true;
	case 'U':
		s->user = arg;
		return true;
	default:
		return false;
	}
}

static bool options(struct setting *s, int argc, char **argv)
{
	static const struct option table[] = {
		{"redirect", no_argument, NULL, 'r'},
		{"iface", required_argument, NULL, 'i'},
		{"local", no_argument, NULL, 'l'},
		{"port", required_argument, NULL, 'p'},
		{"ports", required_argument, NULL, 'P'},
		{"exclude", required_argument, NULL, 'x'},
		{"upstream", required_argument, NULL, 'u'},
		{"action", required_argument, NULL, 'a'},
		{"passive", no_argument, NULL, 's'},
		{"no-owner", no_argument, NULL, 'n'},
		{"user", required_argument, NULL, 'U'},
		{NULL, 0, NULL, 0},
	};
	int opt;

	s->conf = (struct rules_conf){.mode = MODE_TPROXY,
				      .port = 1077,
				      .mark = RULES_MARK,
				      .capture = s->ifaces,
				      .ports = s->ports,
				      .exclude = {s->exclude, 0},
				      .action = BYPASS_AUTO,
				      .v6 = true,
				      .owner = true};
	s->user = "nobody";
	while ((opt = getopt_long(argc, argv, "", table, NULL)) != -1)
		if (!option(s, opt, optarg))
			return false;
	s->fifo = argv[optind];
	return optind + 1 == argc;
}

static void print_seen(void *ctx, const struct addr *a)
{
	char text[ADDR_STRLEN];

	(void)ctx;
	printf("seen %s\n", addr_str(a, text, sizeof(text)));
}

static void print_counter(void *ctx, const char *chain, const char *name, uint64_t packets)
{
	(void)ctx;
	printf("counter %s %s %llu\n", chain, name, (unsigned long long)packets);
}

static int obey(char *line, struct rules *r, struct bypass *b)
{
	char *save = NULL, *verb = strtok_r(line, " \n", &save),
	     *arg = strtok_r(NULL, " \n", &save), *ttl = strtok_r(NULL, " \n", &save);
	struct rules_state s;
	struct addr a;

	if (!verb)
		return -EINVAL;
	if (!strcmp(verb, "learn") && arg && ttl && addr_parse(&a, arg, -1)) {
		bypass_add(b, &a, (uint32_t)strtoul(ttl, NULL, 10));
		return bypass_flush(b);
	}
	if (!strcmp(verb, "forget") && arg && addr_parse(&a, arg, -1)) {
		bypass_del(b, &a);
		return bypass_flush(b);
	}
	if (!strcmp(verb, "upstream") && arg && addr_parse_ip(&a, arg))
		return rules_set_upstreams(r, &a, 1);
	if (!strcmp(verb, "seen"))
		return rules_seen(r, print_seen, NULL);
	if (!strcmp(verb, "counters"))
		return rules_counters(r, print_counter, NULL);
	if (!strcmp(verb, "state")) {
		rules_get_state(r, &s);
		printf("state loaded %d owned %d table %u reloads %llu\n", s.loaded, s.owned,
		       s.table, (unsigned long long)s.reloads);
		return 0;
	}
	stop = !strcmp(verb, "quit");
	return stop ? 0 : -EINVAL;
}

/* Commands as they come, and the check that the daemon makes each second. */
static void serve(int fd, struct rules *r, struct bypass *b)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char line[256];
	unsigned n = 0;

	while (!stop) {
		int ready = poll(&p, 1, 1000), rc = rules_check(r);
		if (rc != 0)
			printf("check %d\n", rc);
		if (ready <= 0)
			continue;
		ssize_t len = read(fd, line, sizeof(line) - 1);
		if (len <= 0)
			continue;
		line[len] = '\0';
		rc = obey(line, r, b);
		printf("done %u %d\n", ++n, rc);
	}
}

int main(int argc, char **argv)
{
	struct setting s = {0};
	struct bypass *b;
	struct rules *r;
	int fd, rc;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!options(&s, argc, argv)) {
		fputs(USAGE, stderr);
		return 64;
	}
	log_init("ownrules", SINK_STDERR, true);
	signal(SIGTERM, on_term);
	fd = open(s.fifo, O_RDWR | O_CLOEXEC); /* its own writer, so never at the end */
	if (fd < 0 || priv_drop(s.user, true, "cap_net_admin") != 0)
		return 1;
	rc = rules_open(&r, &s.conf, s.upstream, s.n_upstream);
	if (rc < 0)
		return 2;
	b = bypass_new(&bypass_nft, r);
	if (!b)
		return 3;
	printf("ready\n");
	serve(fd, r, b);
	bypass_free(b);
	rules_close(r);
	close(fd);
	return 0;
}
