#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A browser: headless Chromium through the front door by SOCKS 5 and HTTP CONNECT, and on a device that is captured
. "$(dirname "$0")/lib.sh"

NAME=www.browser.test

for c in chromium-headless-shell chromium google-chrome none; do
	BROWSER=$(command -v $c) && break
done
[ -n "$BROWSER" ] || lab_skip_all "needs Chromium, which is too big to be installed for each run: apt-get install chromium-headless-shell"

# page NS URL OPTION...: the document after its scripts have run, in $LAB_DIR/page
page() {
	rm -rf "$LAB_DIR/profile"
	lab_in "$1" env HOME="$LAB_DIR" timeout 60 "$BROWSER" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage \
		--user-data-dir="$LAB_DIR/profile" --disable-background-networking --disable-component-update --no-first-run \
		--ignore-certificate-errors --timeout=20000 --virtual-time-budget=15000 "${@:3}" --dump-dom "$2" \
		>"$LAB_DIR/page" 2>"$LAB_DIR/browser.log"
}

# rendered NAME: the page, its style, script, picture and what the script has fetched
rendered() {
	check_eq "$1: the page as its script has made it" "$(grep -o '<p id="out">[^<]*' "$LAB_DIR/page")" \
		'<p id="out">style rgb(1, 2, 3) picture 3x2 fetched 42'
}

# asked LOG FROM-LINE: what the server was asked for, and by whom
asked() { tail -n "+$2" "$LAB_DIR/nginx-$1/access.log" | awk '{ print $1, $7 }' | sort -u | grep -v favicon | tr '\n' ' '; }
next() { echo $(($(wc -l <"$LAB_DIR/nginx-$1/access.log") + 1)); }
BY_PROXY="203.0.113.1 / 203.0.113.1 /answer.json 203.0.113.1 /dot.gif 203.0.113.1 /script.js 203.0.113.1 /style.css "

counter() { lab_ctl redir status --json | json - "j['counters']['$1']"; }

lab_up
lab_need openssl
mkdir -p "$LAB_DIR/www"
cat >"$LAB_DIR/www/index.html" <<-'END'
	<!DOCTYPE html><title>lab</title><link rel="stylesheet" href="style.css">
	<p id="out">nothing</p><img id="dot" src="dot.gif"><script src="script.js"></script>
END
echo '#out { color: rgb(1, 2, 3) }' >"$LAB_DIR/www/style.css"
echo '{"answer": 42}' >"$LAB_DIR/www/answer.json"
printf 'GIF89a\3\0\2\0\200\0\0\0\0\0\377\377\377,\0\0\0\0\3\0\2\0\0\2\3\104\34\5\0;' >"$LAB_DIR/www/dot.gif"
cat >"$LAB_DIR/www/script.js" <<-'END'
	addEventListener("load", async () => {
	  const out = document.getElementById("out"), dot = document.getElementById("dot");
	  const got = await (await fetch("answer.json")).json();
	  out.textContent = "style " + getComputedStyle(out).color + " picture " + dot.naturalWidth + "x" + dot.naturalHeight +
	    " fetched " + got.answer;
	});
END
chmod -R a+rX "$LAB_DIR/www"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$NAME" \
	-keyout "$LAB_DIR/key.pem" -out "$LAB_DIR/cert.pem" 2>/dev/null || lab_die "no certificate"
TYPES="types { text/html html; text/css css; text/javascript js; application/json json; image/gif gif; }"
lab_nginx "$SRV" 80 "" "$TYPES"
lab_nginx "$SRV" 443 ssl "$TYPES ssl_certificate $LAB_DIR/cert.pem; ssl_certificate_key $LAB_DIR/key.pem; add_header Alt-Svc 'h3=\":443\"';"
echo "answer $SRV4" >"$LAB_DIR/dns"
lab_bg dns "$PRX" python3 -u "$LAB_SRC/tests/lab/nameserver.py" 127.0.0.1 5353 "$LAB_DIR/dns"
lab_wait 10 lab_logged dns ready || lab_die "nameserver.py"
lab_daemons --redir "redir.socks=[::1]:1080, 127.0.0.1:1080" --proxy "proxy.resolve=127.0.0.1:5353"

# ---- the front door ----

page "$RTR" "http://$NAME/" --proxy-server=socks5://127.0.0.1:1080
rendered "SOCKS 5"
check_eq "SOCKS 5: the server was asked by the proxy for all of it" "$(asked 80 1)" "$BY_PROXY"
check_num "SOCKS 5: flows by the front door" "$(counter front)" ">=" 1
check "SOCKS 5: with the name" lab_wait 5 lab_logged redir "-> $NAME:80 entry=socks5 route=proxy"
check "the proxy looked it up" lab_logged dns browser

page "$RTR" "https://$NAME/" --proxy-server=http://127.0.0.1:1080
rendered "HTTP CONNECT, TLS"
check_eq "HTTP CONNECT, TLS: by the proxy" "$(asked 443 1)" "$BY_PROXY"
check "HTTP CONNECT: with the name" lab_wait 5 lab_logged redir "-> $NAME:443 entry=http route=proxy"

# ---- captured ----

before=$(next 443)
page "$DEV" "https://$NAME/" "--host-resolver-rules=MAP $NAME $SRV4"
rendered "captured, TLS"
check_eq "captured, TLS: by the proxy" "$(asked 443 "$before")" "$BY_PROXY"

lab_daemons_stop

# ---- QUIC ----

if command -v gtlsserver >/dev/null; then
	key=$(openssl x509 -in "$LAB_DIR/cert.pem" -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64)
	quic=("--host-resolver-rules=MAP $NAME $SRV4" "--ignore-certificate-errors-spki-list=$key")
	bound() { [ -n "$(lab_in "$SRV" ss -Hlun "sport = :443")" ]; }
	lab_bg quic "$SRV" gtlsserver -d "$LAB_DIR/www" "*" 443 "$LAB_DIR/key.pem" "$LAB_DIR/cert.pem"
	lab_wait 10 bound || lab_die "gtlsserver: $(cat "$LAB_DIR/quic.log")"
	rm -f "$LAB_DIR/rules.log"
	lab_daemons --no-rules --redir redir.socks= --redir rules.install=yes --redir rules.capture=lan --redir udp.proxy=443
	lab_wait 10 lab_in "$RTR" nft list chain inet sixpath take_udp || lab_die "no UDP rules"
	lab_capture srv "$SRV" eth0 "udp dst port 443"
	before=$(next 443)
	page "$DEV" "https://$NAME/" "${quic[@]}" "--origin-to-force-quic-on=$NAME:443"
	rendered "QUIC"
	check_eq "QUIC: all of it by HTTP/3" "$(grep -ao ':path: [^]]*' "$LAB_DIR/quic.log" | sort -u | grep -v favicon | tr '\n' ' ')" \
		":path: / :path: /answer.json :path: /dot.gif :path: /script.js :path: /style.css "
	check_eq "QUIC: nothing by TCP" "$(asked 443 "$before")" ""
	lab_capture_stop srv
	check_eq "QUIC: the server sees the proxy" \
		"$(tcpdump -nr "$LAB_DIR/srv.pcap" 2>/dev/null | awk '{ sub(/\.[0-9]*$/, "", $3); print $3 }' | sort -u)" 203.0.113.1
	lab_daemon_stop redir
	lab_conf redir udp.refuse=443
	lab_conf_write
	lab_daemon_start redir
	lab_wait 10 lab_in "$RTR" nft list chain inet sixpath take_udp || lab_die "no UDP rules"
	lab_capture dev "$DEV" eth0 "icmp or udp port 443"
	before=$(next 443)
	lab_capture refused "$SRV" eth0 "udp dst port 443"
	page "$DEV" "https://$NAME/" "${quic[@]}" # the server offers it: Alt-Svc
	rendered "QUIC is refused"
	lab_capture_stop dev
	lab_capture_stop refused
	check_num "QUIC is refused: the browser has tried and was told" \
		"$(tcpdump -nr "$LAB_DIR/dev.pcap" 2>/dev/null | grep -c "ICMP $SRV4 udp port 443 unreachable")" ">=" 1
	check_eq "QUIC is refused: nothing got to the server" "$(tcpdump -nr "$LAB_DIR/refused.pcap" 2>/dev/null | wc -l)" 0
	check_eq "QUIC is refused: all by TCP, through the proxy" "$(asked 443 "$before")" "$BY_PROXY"
	lab_daemons_stop
else
	skip "QUIC" "needs the program 'gtlsserver'"
fi
lab_end
