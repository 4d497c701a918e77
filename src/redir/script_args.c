/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which script of redirect-rules, and with what arguments. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/addr.h"
#include "redir/rules.h"
#include "redir/script.h"

enum script_kind script_choose(const struct redir_conf *c, const struct script_has *has)
{
	if (!redir_conf_by_script(c))
		return SCRIPT_NONE;
	if (c->backend == RULES_IPTABLES)
		return SCRIPT_IPTABLES;
	if (c->backend == RULES_NFT)
		return SCRIPT_NFT;
	/* iptables first: with it goes ipset, so learned servers need not be captured */
	return has->iptables ? SCRIPT_IPTABLES : has->nft ? SCRIPT_NFT : SCRIPT_NONE;
}

bool script_learned(const struct redir_conf *c, enum script_kind kind, const struct script_has *has)
{
	return kind == SCRIPT_IPTABLES && c->action != BYPASS_RELAY && has->ipset;
}

/* An argument's list: nothing before its first item, a comma before the others. */
static const char *comma(bool *first)
{
	const char *text = *first ? "" : ",";

	*first = false;
	return text;
}

static void put_interfaces(FILE *f, const struct redir_conf *c)
{
	bool first = true;

	if (c->capture.n == 0)
		return;
	fprintf(f, "--iface%c", 0);
	for (size_t i = 0; i < c->capture.n; i++)
		fprintf(f, "%s%s", comma(&first), c->capture.v[i]);
	fputc(0, f);
}

static void put_ports(FILE *f, const char *option, const struct port_list *l)
{
	bool first = true;

	if (l->n == 0)
		return; /* as by default */
	fprintf(f, "%s%c", option, 0);
	for (size_t i = 0; i < l->n; i++)
		fprintf(f, "%s%u-%u", comma(&first), l->v[i].first, l->v[i].last);
	fputc(0, f);
}

/* What nobody listens for is not captured. */
static void put_families(FILE *f, const struct redir_conf *c)
{
	if (rules_conf_deaf(c, AF_INET))
		fprintf(f, "-6%c", 0);
	else if (rules_conf_deaf(c, AF_INET6))
		fprintf(f, "-4%c", 0);
}

static void put_exclude(FILE *f, const struct redir_conf *c)
{
	char text[ADDR_STRLEN];
	bool first = true;

	fprintf(f, "--exclude%c", 0); /* also when there are none: the script has a default */
	for (size_t i = 0; i < c->exclude.n; i++)
		fprintf(f, "%s%s/%u", comma(&first),
			addr_ip_str(&c->exclude.v[i].base, text, sizeof(text)),
			c->exclude.v[i].bits);
	fputc(0, f);
}

/* Those that are addresses. A name has none yet; what is captured of it the daemon sees itself. */
static void put_proxies(FILE *f, const struct redir_conf *c)
{
	struct list_node *n;
	bool first = true;

	fprintf(f, "--proxy%c", 0);
	for (n = list_first(&c->proxies); n; n = list_next(&c->proxies, n)) {
		const struct proxy_section *p = container_of(n, struct proxy_section, node);
		char text[ADDR_STRLEN];
		struct addr a;
		if (addr_parse_ip(&a, p->address.host))
			fprintf(f, "%s%s", comma(&first), addr_ip_str(&a, text, sizeof(text)));
	}
	fputc(0, f);
}

/* Each argument with its NUL. */
static void put_all(FILE *f, const struct redir_conf *c, enum script_kind kind, bool learned)
{
	fprintf(f, "sh%c%s/%s%cstart%c", 0, c->scripts,
		kind == SCRIPT_NFT ? "nft.sh" : "iptables.sh", 0, 0);
	fprintf(f, "--mode%c%s%c", 0, c->mode == MODE_TPROXY ? "tproxy" : "redirect", 0);
	fprintf(f, "--port%c%u%c", 0, addr_port(&c->listen.v[0]), 0);
	fprintf(f, "--mark%c0x%" PRIx32 "%c", 0, c->mark, 0);
	put_interfaces(f, c);
	if (c->capture_local)
		fprintf(f, "--local%c", 0);
	put_ports(f, "--ports", &c->ports);
	if (c->capture.n > 0) {
		put_ports(f, "--udp-ports", &c->udp.proxy);
		put_ports(f, "--udp-direct", &c->udp.direct);
		put_ports(f, "--udp-refuse", &c->udp.refuse);
	}
	put_families(f, c);
	put_exclude(f, c);
	put_proxies(f, c);
	fprintf(f, "--learned%c%s%c", 0,
		!learned                   ? "no"
		: c->action == BYPASS_RULE ? "rule"
					   : "auto",
		0);
	if (c->learn_passive && c->capture.n && kind == SCRIPT_IPTABLES)
		fprintf(f, "--learn-passive%c", 0);
}

char **script_argv(const struct redir_conf *c, enum script_kind kind, bool learned)
{
	char *text = NULL, **argv = NULL;
	size_t len = 0, n = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	put_all(f, c, kind, learned);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	for (size_t i = 0; i < len; i++)
		n += text[i] == '\0';
	argv = calloc(n + 1, sizeof(*argv));
	if (!argv) {
		free(text);
		return NULL;
	}
	n = 0;
	for (size_t at = 0; at < len; at += strlen(text + at) + 1)
		argv[n++] = text + at;
	return argv;
}

void script_argv_free(char **argv)
{
	if (argv)
		free(argv[0]); /* all of them */
	free(argv);
}
