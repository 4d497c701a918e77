/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ask and steer the daemons, and write the proxy's users file. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "core/text.h"
#include "tools/ask.h"
#include "tools/doctor.h"
#include "tools/passwd.h"

struct options {
	const char *socket;
	bool proxy, json, del;
};

static int run_ask(const struct options *o, int argc, char **argv);
static int run_passwd(const struct options *o, int argc, char **argv);
static int run_doctor(const struct options *o, int argc, char **argv);

static const struct command {
	const char *name, *args, *help;
	int (*run)(const struct options *o, int argc, char **argv); /* argv[0] is the name */
} commands[] = {
	{"status", "", "state and counters of the daemon", run_ask},
	{"flows", "", "a row for each connection", run_ask},
	{"udp", "", "a row for each UDP association (sixpath-redir)", run_ask},
	{"proxies", "", "a row for each upstream proxy (sixpath-redir)", run_ask},
	{"paths", "", "a row for each proxy and local address (sixpath-redir)", run_ask},
	{"forwards", "", "a row for each [forward], and why it does not listen (sixpath-redir)",
	 run_ask},
	{"binds", "", "a row for each port that a client has bound (sixpath-proxy)", run_ask},
	{"learned", " [ARG...]",
	 "servers known to speak MPTCP: list, add, remove, clear (sixpath-redir)", run_ask},
	{"failed", " [list|flush]", "servers that have just failed and are refused (sixpath-redir)",
	 run_ask},
	{"explain", " SRC DST:PORT [udp]",
	 "what happens to such a connection, and why (sixpath-redir)", run_ask},
	{"reload", "", "load the configuration anew; connections stay", run_ask},
	{"restart", "", "a successor takes new connections; those there are end in order", run_ask},
	{"doctor", "", "what is wrong on this machine, and how to mend it", run_doctor},
	{"help", "", "the commands that the daemon itself knows", run_ask},
	{"passwd", " FILE USER", "set a password in a users file; -D deletes the user", run_passwd},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *out)
{
	fputs("usage: sixpathctl [-s SOCKET | --proxy] [--json] COMMAND [ARG...]\n"
	      "       sixpathctl passwd [-D] FILE USER\n\n",
	      out);
	for (size_t i = 0; i < COMMANDS; i++) {
		int n = fprintf(out, "  %s%s", commands[i].name, commands[i].args);
		fprintf(out, "%*s%s\n", n < 22 ? 22 - n : 1, "", commands[i].help);
	}
	fputs("\n"
	      "  -s, --socket SOCKET  control socket (default " ASK_REDIR_SOCKET ", or\n"
	      "                       " ASK_PROXY_SOCKET " where only that one exists)\n"
	      "  -p, --proxy          the socket of sixpath-proxy\n"
	      "  -j, --json           for programs; see sixpathctl(8) about its versions\n"
	      "  -h, --help           this help\n"
	      "  -V, --version        version\n",
	      out);
}

static int usage(const char *why, const char *word)
{
	fprintf(stderr, "sixpathctl: %s%s%s%s\ntry: sixpathctl --help\n", why, *word ? " \"" : "",
		word, *word ? "\"" : "");
	return EX_USAGE;
}

static const char *choose_socket(const struct options *o)
{
	if (o->socket)
		return o->socket;
	if (o->proxy || (access(ASK_REDIR_SOCKET, F_OK) < 0 && access(ASK_PROXY_SOCKET, F_OK) == 0))
		return ASK_PROXY_SOCKET;
	return ASK_REDIR_SOCKET;
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
	return NULL;
}

static int takes_none(char *const *argv)
{
	char why[64];

	snprintf(why, sizeof(why), "%s takes no arguments, such as", argv[0]);
	return usage(why, argv[1]);
}

static int run_ask(const struct options *o, int argc, char **argv)
{
	if (o->del)
		return usage("-D goes with passwd only, not with", argv[0]);
	if (argc > 1 && !*find_command(argv[0])->args)
		return takes_none(argv);
	return ask(choose_socket(o), o->json, argv);
}

static int run_passwd(const struct options *o, int argc, char **argv)
{
	if (o->socket || o->proxy || o->json)
		return usage("passwd takes no option but -D: it works on a file", "");
	if (argc > 3) {
		fputs("sixpathctl: a password on the command line could be read by every user of "
		      "this machine:\nleave it out; it is asked for, or read from standard "
		      "input\n",
		      stderr);
		return EX_USAGE;
	}
	if (argc < 3)
		return usage("passwd needs FILE and USER", "");
	return o->del ? passwd_delete(argv[1], argv[2]) : passwd_set(argv[1], argv[2]);
}

/* The daemon need not run: then the socket's name says whose machine this is. */
static int run_doctor(const struct options *o, int argc, char **argv)
{
	const char *path = choose_socket(o), *name = strrchr(path, '/');

	if (o->del)
		return usage("-D goes with passwd only, not with", argv[0]);
	if (argc > 1)
		return takes_none(argv);
	return doctor(path, o->proxy || strstr(name ? name : path, "proxy"), o->json);
}

static int unknown_command(const char *word)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (text_distance(word, commands[i].name) <= 2) {
			fprintf(stderr,
				"sixpathctl: unknown command \"%s\"; did you mean \"%s\"?\n", word,
				commands[i].name);
			return EX_USAGE;
		}
	return usage("unknown command", word);
}

/* -1 to go on, or the exit code. */
static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {{"socket", required_argument, NULL, 's'},
					      {"proxy", no_argument, NULL, 'p'},
					      {"json", no_argument, NULL, 'j'},
					      {"delete", no_argument, NULL, 'D'},
					      {"help", no_argument, NULL, 'h'},
					      {"version", no_argument, NULL, 'V'},
					      {NULL, 0, NULL, 0}};
	int c;

	while ((c = getopt_long(argc, argv, "s:pjDhV", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			o->socket = optarg;
			break;
		case 'p':
			o->proxy = true;
			break;
		case 'j':
			o->json = true;
			break;
		case 'D':
			o->del = true;
			break;
		case 'h':
			print_help(stdout);
			return EX_OK;
		case 'V':
			printf("sixpathctl (sixpath) %s\n", PACKAGE_VERSION);
			return EX_OK;
		default:
			fputs("try: sixpathctl --help\n", stderr);
			return EX_USAGE;
		}
	}
	if (o->socket && o->proxy)
		return usage("-s and --proxy exclude each other", "");
	return -1;
}

int main(int argc, char **argv)
{
	struct options o = {0};
	const struct command *c;
	int rc = parse_options(argc, argv, &o);

	if (rc >= 0)
		return rc;
	if (optind == argc) {
		print_help(stderr);
		return EX_USAGE;
	}
	c = find_command(argv[optind]);
	return c ? c->run(&o, argc - optind, argv + optind) : unknown_command(argv[optind]);
}
