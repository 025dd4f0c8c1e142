#!/usr/bin/env bash
# AF_XDP between two network namespaces of this test's own, joined by a veth pair: our sockets and
# ngtcp2's client against it, what else uses the interface, and every way back to sockets.
# $1: stoq-server; $2: hypermesh.
set -euo pipefail
server=$(realpath "$1") hypermesh=$(realpath "$2")
skip() { echo "SKIPPED: $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root: the kernel loads no program of others, in user namespaces neither"
a=hm-xdp-$$-a b=hm-xdp-$$-b
ip netns add $a 2>/dev/null || skip "no network namespaces here"
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
trap 'cleanup; ip netns del $a; ip netns del $b 2>/dev/null' EXIT
logs=(server.log recv.log out err)
ip netns add $b
at_a() { ip netns exec $a "$@"; }
at_b() { ip netns exec $b "$@"; }
# (What runs in the background is started without these, so that its number is known.)
ip -n $a link add v0 type veth peer name v1 netns $b
at_a sysctl -qw net.ipv6.conf.v0.keep_addr_on_down=1
ip -n $a addr add fd00::1/64 dev v0 nodad
ip -n $b addr add fd00::2/64 dev v1 nodad
for ns in $a $b; do ip -n $ns link set lo up; done
ip -n $a link set v0 up
ip -n $b link set v1 up

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem \
    -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:fd00::1,IP:fd00::2 2>err
chmod 600 key.pem
"$server" init --dir data --name xdp >out

# listens PID LOG: until it does.
listens() {
    kill -0 "$1" 2>/dev/null || fail "it ended at its start"
    grep -qE '"running"|^listening at ' "$2"
}
# start LOG PORT ARG...: a server at a; its number goes to $pid.
start() {
    local log=$1 port=$2
    shift 2
    : >"$log"
    ip netns exec $a "$server" run --dir data --listen "[::]:$port" --metrics-listen "[::1]:$port" \
        --cert cert.pem --key key.pem "$@" >"$log" 2>&1 &
    pid=$!
    pids+=("$pid")
    until_true listens "$pid" "$log"
}
stop() {
    kill "$pid"
    wait "$pid" || fail "the server's exit code is $?"
}
count() { # NAME [PORT]
    at_a curl -sk "https://[::1]:${2:-9292}/metrics" | sed -n "s/^$1 //p"
}
perf() { at_b "$hypermesh" stoq perf "[fd00::1]:${port:-9292}" --ca cert.pem --json "$@"; }
# more_than N NAME
more_than() { [ "$(count "$2")" -gt "$1" ]; }

say "AF_XDP takes the packets, both ways"
start server.log 9292 --xdp v0 --groups X25519MLKEM768:X25519
if grep -q '"no AF_XDP' server.log; then
    grep -qE 'Function not implemented|Address family not supported' server.log &&
        skip "this kernel has no AF_XDP"
    fail "no AF_XDP"
fi
grep -q '"AF_XDP" interface=v0 queues=1 mode=' server.log || fail "no line about AF_XDP"
[ "$(count hm_stoq_xdp_queues)" = 1 ] || fail "the statistics do not say so"
for way in down up; do
    code 0 perf --$way 20M
    python3 - $way <<'PY'
import json, sys
run = json.load(open("out"))["runs"][0]
assert run["bytes"] == 20 << 20 and run["mtu_bytes"] == 1452 and run["ecn"], run
PY
done
[ "$(count hm_stoq_xdp_received_total)" -ge 14000 ] || fail "not received by AF_XDP"
[ "$(count hm_stoq_xdp_sent_total)" -ge 14000 ] || fail "not sent by AF_XDP"
[ "$(count hm_stoq_datagrams_dropped_total)" = 0 ] || fail "something was no QUIC"

say "AF_XDP at both ends"
code 0 perf --up 20M --xdp v1
grep -q '"AF_XDP" interface=v1' err || fail "not at the client"

say "ngtcp2's client"
if command -v gtlsclient >/dev/null; then
    before=$(count hm_stoq_xdp_sent_total)
    mkdir down
    code 0 at_b timeout 240 gtlsclient -q --exit-on-all-streams-close --download down fd00::1 9292 \
        https://localhost:9292/3000000
    [ "$(stat -c %s down/3000000)" = 3000000 ] || fail "not all of it came"
    more_than $((before + 2000)) hm_stoq_xdp_sent_total || fail "not by AF_XDP"
else
    echo "not run: no ngtcp2-client (deploy/setup.sh interop)"
fi

say "what else uses the interface does so still"
cat >echo.py <<'PY'
import socket, sys, threading
def udp():
    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind(("::", 9000))
    print("ready", flush=True)
    while True:
        data, peer = s.recvfrom(2048)
        s.sendto(data, peer)
t = socket.create_server(("::", 9292 + 1), family=socket.AF_INET6)
threading.Thread(target=udp, daemon=True).start()
while True:
    c, _ = t.accept()
    c.sendall(c.recv(100))
    c.close()
PY
ip netns exec $a python3 echo.py >echo.out &
pids+=($!)
until_true grep -q ready echo.out
code 0 at_b python3 - <<'PY'
import socket
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
u.settimeout(60)
u.sendto(b"other port", ("fd00::1", 9000))
assert u.recv(100) == b"other port"
t = socket.create_connection(("fd00::1", 9293), 60)
t.sendall(b"tcp")
assert t.recv(100) == b"tcp"
PY
received=$(count hm_stoq_datagrams_received_total)
code 0 at_b python3 - <<'PY'
# The port is ours, the datagram no QUIC: it is counted and dropped.
import socket
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
u.sendto(b"noise", ("fd00::1", 9292))
u.sendto(b"", ("fd00::1", 9292))
PY
until_true more_than "$received" hm_stoq_datagrams_received_total
# More peers than are remembered: they are forgotten, and served.
received=$(count hm_stoq_datagrams_received_total)
cat >peers.py <<'PY'
import socket
for port in range(20000, 28000):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as u:
        u.bind(("::", port))
        u.sendto(b"noise", ("fd00::1", 9292))
PY
many_came() { # once more when the server had no room for them: 4500 are more than it remembers
    at_b python3 peers.py
    more_than $((received + 4500)) hm_stoq_datagrams_received_total
}
until_true many_came
code 0 perf --down 5M
code 0 at_a "$hypermesh" stoq perf '[::1]:9292' --ca cert.pem --server-name localhost --down 1M

say "a connection outlives that the interface goes down and comes up"
before=$(count hm_stoq_xdp_received_total)
# Held back, so that it lasts until then, however slow this is.
at_b tc qdisc add dev v1 root tbf rate 100mbit burst 1mb latency 50ms
perf --up 500M >long.out 2>long.err &
long=$!
pids+=($long)
until_true more_than $((before + 1000)) hm_stoq_xdp_received_total
ip -n $a link set v0 down
kill -0 $long || fail "it was over before"
ip -n $a link set v0 up
at_b tc qdisc del dev v1 root
wait $long || fail "the connection broke: $(cat long.err)"
before=$(count hm_stoq_xdp_received_total)
code 0 perf --up 5M
more_than $((before + 3000)) hm_stoq_xdp_received_total || fail "AF_XDP is not used any more"

say "the interface is another's: sockets"
port=9295
first=$pid
start second.log $port --xdp v0
grep -q '"no AF_XDP: the socket carries all".*Device or resource busy.*another program' second.log ||
    fail "no reason in the log: $(cat second.log)"
[ "$(count hm_stoq_xdp_queues $port)" = 0 ] || fail "the statistics say nothing of it"
code 0 perf --down 5M
stop
pid=$first
port=9292

say "it is gone after a kill -9"
kill -9 "$pid"
wait "$pid" 2>/dev/null || true
detached() { ! ip -n $a link show v0 | grep -q prog/xdp; }
until_true detached # the kernel does it in its own time
start server.log 9292 --xdp v0
grep -q '"AF_XDP" interface=v0' server.log || fail "not after a kill -9"
stop

say "no right: sockets"
# Root without capabilities is whoever owns the files, and no more.
: >server.log
ip netns exec $a setpriv --inh-caps=-all --bounding-set=-all "$server" run --dir data --listen '[::]:9292' \
    --metrics-listen off --cert cert.pem --key key.pem --xdp v0 >server.log 2>&1 &
pid=$!
pids+=("$pid")
until_true listens "$pid" server.log
grep -q '"no AF_XDP.*CAP_NET_ADMIN' server.log || fail "no reason in the log"
code 0 perf --down 1M
stop

say "no such interface, no room for its frames: sockets"
start server.log 9292 --xdp v7
grep -q '"no AF_XDP.*there is no interface v7' server.log || fail "no reason in the log"
stop
ip -n $a link set v0 mtu 9000
ip -n $b link set v1 mtu 9000
start server.log 9292 --xdp v0
grep -q '"no AF_XDP.*MTU of 9000' server.log || fail "no reason in the log"
code 0 perf --down 1M
stop
ip -n $a link set v0 mtu 1500
ip -n $b link set v1 mtu 1500

say "what makes no sense is refused"
code 2 at_a "$server" run --dir data --listen '[::]:9292' --cert cert.pem --key key.pem --xdp v0 \
    --workers 2
says 'one worker'

say "contents, compared"
head -c 30000001 /dev/urandom >big
mkdir inbox
# transfer RECEIVER-ARGS -- SENDER-ARGS
transfer() {
    local receiver=()
    while [ "$1" != -- ]; do receiver+=("$1"); shift; done
    shift
    rm -f inbox/big
    : >recv.log
    ip netns exec $a "$hypermesh" stoq recv inbox --listen '[::]:9293' --cert cert.pem --key key.pem \
        "${receiver[@]}" >recv.log 2>&1 &
    pid=$!
    pids+=("$pid")
    until_true listens "$pid" recv.log
    code 0 at_b "$hypermesh" stoq send '[fd00::1]:9293' --ca cert.pem --file big "$@"
    wait "$pid" || fail "the receiver's exit code is $?"
    cmp big inbox/big || fail "not the same"
}
transfer --xdp v0 --
grep -q '"AF_XDP" interface=v0' recv.log || fail "the receiver had no AF_XDP"
transfer -- --xdp v1
grep -q '"AF_XDP" interface=v1' err || fail "the sender had no AF_XDP"
transfer --xdp v0 -- --xdp v1
echo passed
