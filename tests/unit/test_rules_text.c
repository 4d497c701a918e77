/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text of the rules: what is in it, in which order, and that nft takes it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "rig.h"
#include "redir/rules.h"

static bool in_netns, have_nft;

static const char *const lan[] = {"br-lan", "wlan0"};
static const struct port_range some_ports[] = {{80, 80}, {443, 450}};
static const struct port_range every_port[] = {{1, 65535}};

static struct rules_conf base(void)
{
	return (struct rules_conf){
		.mode = MODE_TPROXY,
		.port = 1077,
		.mark = RULES_MARK,
		.capture = lan,
		.n_capture = 1,
		.action = BYPASS_RELAY,
	};
}

/* nft takes it: --check needs a kernel, so a namespace. */
static void nft_takes(const char *text)
{
	FILE *f;

	if (!in_netns || !have_nft)
		return;
	f = popen("nft -c -f -", "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	if (pclose(f) != 0)
		fail_msg("nft refuses:\n%s", text);
}

static char *text_of(const struct rules_conf *c)
{
	char *text;

	assert_null(rules_conf_bad(c));
	text = rules_text(c);
	assert_non_null(text);
	nft_takes(text);
	return text;
}

static void assert_has(const char *text, const char *line)
{
	if (!strstr(text, line))
		fail_msg("\"%s\" is missing in:\n%s", line, text);
}

static void assert_lacks(const char *text, const char *line)
{
	if (strstr(text, line))
		fail_msg("\"%s\" is in:\n%s", line, text);
}

/* ---- whole texts ---- */

static void test_tproxy_smallest(void **state)
{
	struct rules_conf c = base();
	char *text;

	(void)state;
	c.owner = true;
	text = text_of(&c);
	assert_string_equal(
		text,
		"table inet sixpath {\n"
		"\tflags owner\n"
		"\tset paused {\n\t\ttype inet_proto\n\t}\n"
		"\tset exclude4 {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\tauto-merge\n"
		"\t\telements = { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4, "
		"240.0.0.0/4 }\n\t}\n"
		"\tset upstream4 {\n\t\ttype ipv4_addr\n\t}\n"
		"\tset learned4 {\n\t\ttype ipv4_addr . inet_service\n\t\tflags timeout\n\t}\n"
		"\tchain take {\n"
		"\t\tmeta l4proto @paused counter return comment \"paused\"\n"
		"\t\tmeta l4proto tcp tproxy to :1077 meta mark set meta mark & 0xfffffff3 | "
		"0x00000002 counter accept comment \"capture\"\n"
		"\t\tcounter comment \"no-listener\"\n"
		"\t}\n"
		"\tchain capture {\n"
		"\t\tmeta nfproto ipv6 return\n"
		"\t\tmeta mark & 0xfffffff3 == 0x00005061 counter return comment \"own\"\n"
		"\t\tfib daddr type { local, broadcast, anycast, multicast } counter return "
		"comment "
		"\"local\"\n"
		"\t\tmeta mark & 0x00000004 == 0x00000004 counter return comment \"user-bypass\"\n"
		"\t\tip daddr @upstream4 counter return comment \"upstream\"\n"
		"\t\tmeta mark & 0x00000008 == 0x00000008 counter goto take comment "
		"\"user-proxy\"\n"
		"\t\tip daddr @exclude4 counter return comment \"exclude\"\n"
		"\t\ttcp option mptcp subtype 1 counter return comment \"mp-join\"\n"
		"\t\tgoto take\n"
		"\t}\n"
		"\tchain prerouting {\n"
		"\t\ttype filter hook prerouting priority mangle; policy accept;\n"
		"\t\tiifname { \"br-lan\" } meta l4proto tcp socket transparent 1 meta mark set "
		"meta "
		"mark | 0x00000002 accept\n"
		"\t\tiifname { \"br-lan\" } tcp flags & (fin|syn|rst|ack) == syn jump capture\n"
		"\t\tmeta mark & 0x0000000c != 0 meta mark set meta mark & 0xfffffff3\n"
		"\t}\n"
		"}\n");
	free(text);
}

/* What is held is marked before priority mangle and taken behind it. */
static void test_verify(void **state)
{
	static const struct port_range ports[] = {{443, 443}, {8000, 9000}};
	struct rules_conf c = base();
	char *text;

	(void)state;
	c.verify = ports;
	c.n_verify = 2;
	text = text_of(&c);
	assert_has(text, "\tchain take {\n"
			 "\t\tmeta l4proto @paused counter return comment \"paused\"\n"
			 "\t\ttcp dport { 443, 8000-9000 } meta mark set meta mark & 0xfffffff3 | "
			 "0x00000010 counter accept comment \"verify\"\n"
			 "\t\tmeta l4proto tcp tproxy to :1077");
	assert_has(text, "hook prerouting priority mangle - 5; policy");
	assert_has(text, "syn meta mark & 0x00000010 != 0 meta mark set meta mark & 0xffffffef\n"
			 "\t\tiifname { \"br-lan\" } tcp flags & (fin|syn|rst|ack) == syn jump "
			 "capture\n");
	assert_has(text,
		   "\tchain take_held {\n"
		   "\t\tmeta l4proto tcp tproxy to :1077 meta mark set meta mark & 0xffffffef | "
		   "0x00000002 counter accept comment \"capture\"\n"
		   "\t\tmeta mark set meta mark & 0xffffffef counter comment \"no-listener\"\n\t}\n"
		   "\tchain held {\n"
		   "\t\ttype filter hook prerouting priority mangle + 5; policy accept;\n"
		   "\t\tmeta l4proto tcp meta mark 0x53580100 counter reject with tcp reset\n"
		   "\t\tmeta l4proto tcp meta mark 0x53580200 counter reject with icmpx "
		   "host-unreachable\n"
		   "\t\tmeta l4proto tcp meta mark 0x53580300 counter reject with icmpx no-route\n"
		   "\t\tmeta l4proto tcp meta mark 0x53580400 counter reject with icmpx "
		   "admin-prohibited\n"
		   "\t\tiifname { \"br-lan\" } tcp flags & (fin|syn|rst|ack) == syn meta mark & "
		   "0x00000010 == 0x00000010 goto take_held\n\t}\n");
	assert_lacks(text, "queue");
	free(text);
	c.queue = true; /* not every kernel's nft takes that */
	text = rules_text(&c);
	assert_non_null(text);
	assert_has(text,
		   "hook prerouting priority mangle; policy accept;\n"
		   "\t\tiifname { \"br-lan\" } tcp flags & (fin|syn|rst|ack) == syn meta mark "
		   "& 0x00000010 == 0x00000010 counter queue num 10662 bypass\n");
	free(text);
	/* Devices only, and only with tproxy. */
	c.queue = false;
	c.n_capture = 0;
	c.capture_local = true;
	text = text_of(&c);
	assert_lacks(text, "held");
	assert_lacks(text, "verify");
	free(text);
	c = base();
	c.verify = ports;
	c.n_verify = 2;
	c.mode = MODE_REDIRECT;
	text = text_of(&c);
	assert_lacks(text, "held");
	assert_lacks(text, "verify");
	free(text);
	c.mark = 0x5071;
	assert_non_null(strstr(rules_conf_bad(&c), "0x10"));
	c.n_verify = 0;
	assert_null(rules_conf_bad(&c));
}

/* By destination: in sets, for networks may overlap. */
static void test_verify_networks(void **state)
{
	static const struct port_range ports[] = {{443, 443}};
	struct rules_conf c = base();
	struct prefix nets[2];
	char *text;

	(void)state;
	assert_true(prefix_parse(&nets[0], "203.0.113.0/24"));
	assert_true(prefix_parse(&nets[1], "203.0.113.7"));
	c.verify_nets = (struct prefix_list){nets, 2};
	c.v6 = true;
	text = text_of(&c);
	assert_has(text, "\tset verify4 {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\tauto-merge\n"
			 "\t\telements = { 203.0.113.0/24, 203.0.113.7/32 }\n\t}\n");
	assert_has(text, "\tset verify6 {\n\t\ttype ipv6_addr\n\t\tflags interval\n"
			 "\t\tauto-merge\n\t}\n");
	assert_has(text, "\t\tmeta l4proto tcp ip daddr @verify4 meta mark set meta mark & "
			 "0xfffffff3 | 0x00000010 counter accept comment \"verify\"\n"
			 "\t\tmeta l4proto tcp ip6 daddr @verify6 meta mark set");
	assert_has(text, "\tchain held {\n");
	assert_lacks(text, "tcp dport {");
	free(text);
	c.verify = ports;
	c.n_verify = 1;
	c.v6 = false;
	text = text_of(&c);
	assert_has(text, "\t\ttcp dport { 443 } meta mark set");
	assert_has(text, "@verify4");
	assert_lacks(text, "verify6");
	free(text);
	c.n_verify = 0;
	c.mark = 0x5071;
	assert_non_null(strstr(rules_conf_bad(&c), "0x10"));
}

/* Behind all that lets a SYN pass, before anything takes it: whoever sends it there. */
static void test_failed(void **state)
{
	struct rules_conf c = base();
	char *text;

	(void)state;
	c.refuse = true;
	text = text_of(&c);
	assert_has(text, "\tset failed_reset4 {\n\t\ttype ipv4_addr . inet_service\n\t\tflags "
			 "timeout\n\t}\n");
	assert_has(
		text,
		"\tchain take {\n"
		"\t\tmeta l4proto @paused counter return comment \"paused\"\n"
		"\t\tip daddr . tcp dport @failed_reset4 counter reject with tcp reset comment "
		"\"failed\"\n"
		"\t\tip daddr . tcp dport @failed_host4 counter reject with icmpx "
		"host-unreachable comment \"failed\"\n"
		"\t\tip daddr . tcp dport @failed_net4 counter reject with icmpx no-route comment "
		"\"failed\"\n"
		"\t\tip daddr . tcp dport @failed_prohibited4 counter reject with icmpx "
		"admin-prohibited comment \"failed\"\n"
		"\t\tmeta l4proto tcp tproxy to :1077");
	assert_lacks(text, "failed_reset6");
	free(text);
	c.v6 = true;
	c.capture_local = true;
	text = text_of(&c);
	assert_has(text, "\t\tip6 daddr . tcp dport @failed_reset6 counter reject with tcp reset "
			 "comment \"failed\"\n");
	assert_has(text, "\tchain take_local {\n"
			 "\t\tmeta l4proto @paused counter return comment \"paused\"\n"
			 "\t\tip daddr . tcp dport @failed_reset4 counter reject");
	free(text);
	c.mode = MODE_REDIRECT;
	text = text_of(&c);
	assert_has(text, "\tchain take {\n"
			 "\t\tmeta l4proto @paused counter return comment \"paused\"\n"
			 "\t\tip daddr . tcp dport @failed_reset4 counter reject");
	assert_has(text, "@failed_prohibited6 counter reject with icmpx admin-prohibited comment "
			 "\"failed\"\n\t\tmeta l4proto tcp meta mark set");
	free(text);
	c.refuse = false;
	text = text_of(&c);
	assert_lacks(text, "failed");
	free(text);
}

static void test_redirect_with_all(void **state)
{
	struct prefix exclude[2];
	struct rules_conf c = base();
	char *text;

	(void)state;
	assert_true(prefix_parse(&exclude[0], "10.0.0.0/8"));
	assert_true(prefix_parse(&exclude[1], "fc00::/7"));
	c.mode = MODE_REDIRECT;
	c.n_capture = 2;
	c.capture_local = true;
	c.v6 = true;
	c.learn_passive = true;
	c.action = BYPASS_AUTO;
	c.ports = some_ports;
	c.n_ports = 2;
	c.exclude = (struct prefix_list){exclude, 2};
	text = text_of(&c);
	assert_string_equal(
		text,
		"table inet sixpath {\n"
		"\tset paused {\n\t\ttype inet_proto\n\t}\n"
		"\tset exclude4 {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\tauto-merge\n"
		"\t\telements = { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4, "
		"240.0.0.0/4, 10.0.0.0/8 }\n\t}\n"
		"\tset upstream4 {\n\t\ttype ipv4_addr\n\t}\n"
		"\tset learned4 {\n\t\ttype ipv4_addr . inet_service\n\t\tflags timeout\n\t}\n"
		"\tset seen4 {\n\t\ttype ipv4_addr . inet_service\n\t\tsize 4096\n"
		"\t\tflags dynamic,timeout\n\t\ttimeout 10m\n\t}\n"
		"\tset exclude6 {\n\t\ttype ipv6_addr\n\t\tflags interval\n\t\tauto-merge\n"
		"\t\telements = { ::/127, fe80::/10, ff00::/8, fc00::/7 }\n\t}\n"
		"\tset upstream6 {\n\t\ttype ipv6_addr\n\t}\n"
		"\tset learned6 {\n\t\ttype ipv6_addr . inet_service\n\t\tflags timeout\n\t}\n"
		"\tset seen6 {\n\t\ttype ipv6_addr . inet_service\n\t\tsize 4096\n"
		"\t\tflags dynamic,timeout\n\t\ttimeout 10m\n\t}\n"
		"\tchain take {\n"
		"\t\tmeta l4proto @paused counter return comment \"paused\"\n"
		"\t\tmeta l4proto tcp meta mark set meta mark & 0xfffffff3 counter redirect to "
		":1077 "
		"comment \"capture\"\n"
		"\t}\n"
		"\tchain capture {\n"
		"\t\tmeta mark & 0xfffffff3 == 0x00005061 counter return comment \"own\"\n"
		"\t\tfib daddr type { local, broadcast, anycast, multicast } counter return "
		"comment "
		"\"local\"\n"
		"\t\tmeta mark & 0x00000004 == 0x00000004 counter return comment \"user-bypass\"\n"
		"\t\tip daddr @upstream4 counter return comment \"upstream\"\n"
		"\t\tip6 daddr @upstream6 counter return comment \"upstream\"\n"
		"\t\tmeta mark & 0x00000008 == 0x00000008 counter goto take comment "
		"\"user-proxy\"\n"
		"\t\tip daddr @exclude4 counter return comment \"exclude\"\n"
		"\t\tip6 daddr @exclude6 counter return comment \"exclude\"\n"
		"\t\ttcp option mptcp subtype 1 counter return comment \"mp-join\"\n"
		"\t\ttcp option mptcp subtype 0 ip daddr . tcp dport @learned4 counter return "
		"comment "
		"\"learned\"\n"
		"\t\ttcp option mptcp subtype 0 ip6 daddr . tcp dport @learned6 counter return "
		"comment "
		"\"learned\"\n"
		"\t\ttcp dport != { 80, 443-450 } counter return comment \"port\"\n"
		"\t\tgoto take\n"
		"\t}\n"
		"\tchain prerouting {\n"
		"\t\ttype nat hook prerouting priority dstnat; policy accept;\n"
		"\t\tiifname { \"br-lan\", \"wlan0\" } tcp flags & (fin|syn|rst|ack) == syn jump "
		"capture\n"
		"\t\tmeta mark & 0x0000000c != 0 meta mark set meta mark & 0xfffffff3\n"
		"\t}\n"
		"\tchain output {\n"
		"\t\ttype nat hook output priority -100; policy accept;\n"
		"\t\ttcp flags & (fin|syn|rst|ack) == syn jump capture\n"
		"\t\tmeta mark & 0x0000000c != 0 meta mark set meta mark & 0xfffffff3\n"
		"\t}\n"
		"\tchain seen {\n"
		"\t\tmeta l4proto tcp update @seen4 { ip saddr . tcp sport }\n"
		"\t\tmeta l4proto tcp update @seen6 { ip6 saddr . tcp sport }\n"
		"\t}\n"
		"\tchain forward {\n"
		"\t\ttype filter hook forward priority mangle; policy accept;\n"
		"\t\toifname { \"br-lan\", \"wlan0\" } tcp flags & (fin|syn|rst|ack) == (syn|ack) "
		"tcp "
		"option mptcp subtype 0 tcp option mptcp length 12 jump seen\n"
		"\t}\n"
		"}\n");
	free(text);
}

/* ---- pieces ---- */

/* What the servers of forwards answer is ours, in any mode, and beside nothing else, too. */
static void test_forward_servers(void **state)
{
	struct rules_conf c = base();
	struct addr servers[2];
	char *text;

	(void)state;
	text = text_of(&c);
	assert_lacks(text, "chain returning");
	free(text);
	assert_true(addr_parse(&servers[0], "192.168.1.10:443", -1));
	assert_true(addr_parse(&servers[1], "[fd00::10]:443", -1));
	c.servers = servers;
	c.n_servers = 2;
	c.n_capture = 0;
	c.v6 = true;
	for (int mode = 0; mode < 2; mode++) {
		c.mode = mode ? MODE_REDIRECT : MODE_TPROXY;
		assert_true(rules_conf_routes(&c));
		text = text_of(&c);
		assert_has(text,
			   "\tset servers4 {\n\t\ttype ipv4_addr . inet_service\n"
			   "\t\telements = { 192.168.1.10 . 443 }\n\t}\n"
			   "\tset servers6 {\n\t\ttype ipv6_addr . inet_service\n"
			   "\t\telements = { fd00::10 . 443 }\n\t}\n"
			   "\tchain returning {\n"
			   "\t\ttype filter hook prerouting priority mangle - 6; policy accept;\n"
			   "\t\tip saddr . tcp sport @servers4 socket transparent 1 meta mark set "
			   "meta mark | 0x00000002 accept\n"
			   "\t\tip6 saddr . tcp sport @servers6 socket transparent 1 meta mark set "
			   "meta mark | 0x00000002 accept\n"
			   "\t}\n");
		free(text);
		text = rules_text_stand_in(&c);
		assert_non_null(text);
		nft_takes(text);
		assert_has(text, "chain returning");
		free(text);
	}
	c.v6 = false;
	text = text_of(&c);
	assert_lacks(text, "servers6");
	free(text);
	c.n_servers = 0;
	assert_false(rules_conf_routes(&c));
}

static void test_actions(void **state)
{
	struct rules_conf c = base();
	char *text;

	(void)state;
	c.v6 = true;
	text = text_of(&c);
	assert_lacks(text, "@learned");
	assert_has(text, "set learned4"); /* the sets are there whatever the action */
	free(text);
	c.action = BYPASS_RULE;
	text = text_of(&c);
	assert_has(text, "\t\tip daddr . tcp dport @learned4 counter return");
	assert_has(text, "\t\tip6 daddr . tcp dport @learned6 counter return");
	assert_lacks(text, "subtype 0");
	free(text);
	c.action = BYPASS_AUTO;
	text = text_of(&c);
	assert_has(text, "\t\ttcp option mptcp subtype 0 ip daddr . tcp dport @learned4 counter "
			 "return");
	assert_lacks(text, "\t\tip daddr . tcp dport @learned4");
	free(text);
}

static void test_local(void **state)
{
	struct rules_conf c = base();
	char *text;

	(void)state;
	c.n_capture = 0;
	c.capture_local = true;
	c.learn_passive = true;
	c.ports = every_port;
	c.n_ports = 1;
	text = text_of(&c);
	assert_has(text, "type route hook output priority mangle");
	assert_has(text, "iifname \"lo\" meta mark & 0x00000002 == 0x00000002");
	assert_lacks(text, "socket transparent");
	assert_lacks(text, "hook forward"); /* nothing is forwarded to a captured interface */
	assert_lacks(text, "tcp dport !="); /* all ports: no rule needed */
	free(text);
	c.mode = MODE_REDIRECT;
	text = text_of(&c);
	assert_has(text, "type nat hook output");
	assert_lacks(text, "hook prerouting");
	free(text);
}

static void test_udp(void **state)
{
	struct port_range all[] = {{1, 65535}}, quic[] = {{443, 443}, {8443, 8444}};
	struct port_range games[] = {{27000, 27100}}, bad[] = {{9, 8}};
	struct rules_conf c = base();
	char *text = text_of(&c);

	(void)state;
	assert_lacks(text, "udp");
	free(text);
	c.v6 = true;
	c.udp_proxy = (struct port_list){all, 1};
	c.udp_refuse = (struct port_list){quic, 2};
	c.udp_direct = (struct port_list){games, 1};
	text = text_of(&c);
	assert_has(text, "\t\tct direction reply counter return comment \"reply\"\n"
			 "\t\tfib daddr type");
	assert_has(text, "comment \"exclude\"\n"
			 "\t\tudp dport == { 443, 8443-8444 } counter reject with icmpx "
			 "port-unreachable comment \"refused\"\n"
			 "\t\tudp dport == { 27000-27100 } counter return comment \"direct\"\n"
			 "\t\tudp dport != { 1-65535 } counter return comment \"port\"\n"
			 "\t\tgoto take_udp\n\t}\n");
	assert_has(text, "\t\tmeta l4proto udp tproxy to :1077 meta mark set meta mark & "
			 "0xfffffff3 | 0x00000002 counter accept comment \"capture\"\n");
	assert_has(text, "iifname { \"br-lan\" } meta l4proto udp jump capture_udp\n");
	assert_has(text, "type filter hook output priority raw; policy accept;\n"
			 "\t\toifname { \"br-lan\" } meta l4proto udp fib saddr type != local "
			 "notrack\n");
	assert_lacks(text, "capture_udp_local");
	free(text);
	c.capture_local = true;
	text = text_of(&c);
	assert_has(text, "\tchain capture_udp_local {\n");
	assert_has(text, "fib saddr type != local return");
	assert_has(text, "meta l4proto udp jump capture_udp_local\n");
	assert_has(text, "iifname \"lo\" meta mark & 0x00000002 == 0x00000002 meta l4proto udp "
			 "tproxy to :1077 accept\n");
	free(text);
	c.udp_proxy.n = 0; /* only to refuse */
	text = text_of(&c);
	assert_has(text, "reject with icmpx port-unreachable");
	assert_lacks(text, "goto take_udp\n");
	free(text);
	c.mode = MODE_REDIRECT;
	text = text_of(&c);
	assert_lacks(text, "udp");
	free(text);
	c.mode = MODE_TPROXY;
	c.udp_direct = (struct port_list){bad, 1};
	assert_non_null(strstr(rules_conf_bad(&c), "[udp]"));
}

/* It keeps going what is captured, and captures nothing. */
static void test_stand_in(void **state)
{
	struct rules_conf c = base();
	char *text;

	(void)state;
	c.owner = true;
	c.capture_local = true;
	text = rules_text_stand_in(&c);
	nft_takes(text);
	assert_has(text, "table inet sixpath_standin {\n\tflags owner\n");
	assert_has(text,
		   "iifname { \"br-lan\" } meta l4proto tcp socket transparent 1 meta mark set "
		   "meta mark | 0x00000002 accept\n");
	assert_has(text, "ct mark & 0x00000002 == 0x00000002 meta mark set meta mark | 0x00000002");
	assert_lacks(text, "tproxy to");
	assert_lacks(text, "tcp flags");
	free(text);
	c.mode = MODE_REDIRECT;
	text = rules_text_stand_in(&c);
	nft_takes(text);
	assert_has(text, "type nat hook prerouting");
	assert_has(text, "ct state"); /* tracking goes on */
	assert_lacks(text, "redirect to");
	free(text);
}

static void test_upstreams(void **state)
{
	struct addr v[3];
	char *text;

	(void)state;
	assert_true(addr_parse(&v[0], "198.51.100.1:1080", -1));
	assert_true(addr_parse(&v[1], "[2001:db8::5]:1080", -1));
	assert_true(addr_parse(&v[2], "198.51.100.2:1080", -1));
	text = rules_text_upstreams(v, 3, true);
	assert_string_equal(text,
			    "flush set inet sixpath upstream4\n"
			    "add element inet sixpath upstream4 { 198.51.100.1, 198.51.100.2 }\n"
			    "flush set inet sixpath upstream6\n"
			    "add element inet sixpath upstream6 { 2001:db8::5 }\n");
	free(text);
	text = rules_text_upstreams(v, 2, false);
	assert_string_equal(text, "flush set inet sixpath upstream4\n"
				  "add element inet sixpath upstream4 { 198.51.100.1 }\n");
	free(text);
	text = rules_text_upstreams(NULL, 0, true);
	assert_string_equal(text, "flush set inet sixpath upstream4\n"
				  "flush set inet sixpath upstream6\n");
	free(text);
}

static void test_user_table(void **state)
{
	static const char *const sets[] = {"bypass4",    "bypass6",   "proxy4",      "proxy6",
					   "bypass_mac", "proxy_mac", "bypass_port", "proxy_port"};
	char *text = rules_text_user(RULES_MARK), line[64];

	(void)state;
	assert_non_null(text);
	nft_takes(text);
	assert_memory_equal(text, "table inet sixpath_user {\n", 26);
	assert_lacks(text, "owner");
	for (size_t i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		snprintf(line, sizeof(line), "\tset %s {\n", sets[i]);
		assert_has(text, line);
		snprintf(line, sizeof(line), " @%s counter goto set_%s\n", sets[i],
			 sets[i][0] == 'b' ? "bypass" : "proxy");
		assert_has(text, line);
	}
	/* bypass is asked first */
	assert_true(strstr(text, "@bypass_port") < strstr(text, "@proxy4"));
	/* earlier than ours */
	assert_has(text, "hook prerouting priority mangle - 10");
	assert_has(text, "hook output priority mangle - 10");
	/* the daemon's own packets keep their mark as it is */
	assert_has(text, "meta mark != 0x00005061 tcp flags");
	free(text);
}

static struct addr addr_of(const char *text)
{
	struct addr a;

	assert_true(addr_parse(&a, text, -1));
	return a;
}

/* A listener that is not everywhere. */
static void test_listen(void **state)
{
	static const struct port_range all[] = {{1, 65535}};
	struct rules_conf c = base();
	char *text;

	(void)state;
	c.v6 = true;
	c.capture_local = true;
	c.udp_proxy = (struct port_list){(struct port_range *)(uintptr_t)all, 1};
	c.to4 = addr_of("127.0.0.1:1077");
	c.to6 = addr_of("[::1]:1077");
	text = text_of(&c);
	assert_has(text,
		   "\t\tmeta l4proto tcp tproxy ip to 127.0.0.1:1077 meta mark set meta mark & "
		   "0xfffffff3 | 0x00000002 counter accept comment \"capture\"\n"
		   "\t\tmeta l4proto tcp tproxy ip6 to [::1]:1077 meta mark set meta mark & "
		   "0xfffffff3 | 0x00000002 counter accept comment \"capture\"\n"
		   "\t\tcounter comment \"no-listener\"\n");
	assert_has(text, "meta l4proto udp tproxy ip6 to [::1]:1077 meta mark set");
	assert_has(text, "syn tproxy ip to 127.0.0.1:1077 accept\n");
	assert_lacks(text, "tproxy to :");
	assert_lacks(text, "nfproto");
	free(text);
	c.to6 = (struct addr){0}; /* everywhere */
	text = text_of(&c);
	assert_has(text, "meta l4proto tcp tproxy ip6 to :1077 meta mark set");
	free(text);
	c.deaf6 = true;
	text = text_of(&c);
	assert_has(text, "\tchain capture {\n\t\tmeta nfproto ipv6 return\n");
	assert_has(text, "\tchain capture_udp {\n\t\tmeta nfproto ipv6 return\n");
	assert_has(text, "\tchain capture_local {\n\t\tmeta nfproto ipv6 return\n");
	assert_lacks(text, "tproxy ip6");
	assert_has(text, "set learned6"); /* the family is there, for other things */
	free(text);
	c = base();
	c.v6 = c.deaf4 = true;
	c.to6 = addr_of("[fe80::1%lo]:1077");
	text = text_of(&c);
	assert_has(text, "\tchain capture {\n\t\tmeta nfproto ipv4 return\n");
	assert_has(text, "tproxy ip6 to [fe80::1]:1077");
	assert_lacks(text, "tproxy ip to");
	free(text);
	c.mode = MODE_REDIRECT;
	text = text_of(&c);
	assert_has(text, "\tchain capture {\n\t\tmeta nfproto ipv4 return\n");
	assert_has(text, "redirect to :1077");
	free(text);
}

static void test_bad(void **state)
{
	static const char *const names[] = {"",    "lo", "a b", "x\"y", "x;y", "sixteen-letters-",
					    "x\n", "ü"};
	static const struct port_range bad_ports[] = {{0, 80}, {443, 80}};
	struct rules_conf c = base();

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		c.capture = &names[i];
		if (!rules_conf_bad(&c))
			fail_msg("\"%s\" is taken for an interface", names[i]);
	}
	for (uint32_t bit = 0x2; bit <= 0x8; bit <<= 1) {
		c = base();
		c.mark |= bit;
		assert_non_null(rules_conf_bad(&c));
	}
	for (size_t i = 0; i < 2; i++) {
		c = base();
		c.ports = &bad_ports[i];
		c.n_ports = 1;
		assert_non_null(rules_conf_bad(&c));
	}
	c = base();
	c.n_capture = 0;
	assert_non_null(rules_conf_bad(&c));
	c = base();
	c.port = 0;
	assert_non_null(rules_conf_bad(&c));
	c = base();
	c.mark = 0;
	assert_non_null(rules_conf_bad(&c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tproxy_smallest),
		cmocka_unit_test(test_verify),
		cmocka_unit_test(test_listen),
		cmocka_unit_test(test_verify_networks),
		cmocka_unit_test(test_failed),
		cmocka_unit_test(test_redirect_with_all),
		cmocka_unit_test(test_forward_servers),
		cmocka_unit_test(test_actions),
		cmocka_unit_test(test_local),
		cmocka_unit_test(test_udp),
		cmocka_unit_test(test_stand_in),
		cmocka_unit_test(test_upstreams),
		cmocka_unit_test(test_user_table),
		cmocka_unit_test(test_bad),
	};

	in_netns = rig_netns();
	have_nft = system("nft --version >/dev/null 2>&1") == 0;
	if (!in_netns || !have_nft)
		printf("the texts are not checked by nft\n");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
