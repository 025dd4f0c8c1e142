#!/usr/bin/env bash
# hypermesh stoq send and recv over bundles of 1, 2, 8 and 32 connections; and in a network namespace
# of the test's own, where the flow of one of them is cut in the middle, the file arrives all the same.
# $1: hypermesh.
set -euo pipefail
hypermesh=$(realpath "$1")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
logs=(out err recv.out recv.err)
within=() # what a command is run in
# recv ARG...: in the background; its address goes to $at.
recv() {
    : >recv.err
    ${within[@]+"${within[@]}"} "$hypermesh" stoq recv inbox --listen '[::1]:0' --cert cert.pem \
        --key key.pem "$@" >recv.out 2>recv.err &
    pid=$!
    pids=($pid)
    until_true listens
}
listens() {
    kill -0 $pid 2>/dev/null || fail "the receiver ended at its start"
    at=$(sed -n 's/^listening at //p' recv.err)
    [ -n "$at" ]
}
ended() { # with this code
    local rc=0
    wait $pid || rc=$?
    pids=()
    [ $rc = "$1" ] || fail "exit code $rc of the receiver, not $1"
    [ -z "$(find inbox -name '.hypermesh-*')" ] || fail "something unfinished is left"
}
send() { ${within[@]+"${within[@]}"} "$hypermesh" stoq send "$at" --ca cert.pem "$@"; }

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem \
    -days 2 -subj /CN=receiver -addext subjectAltName=IP:::1 2>err || fail "openssl"
chmod 600 key.pem
mkdir inbox
head -c 40000001 /dev/urandom >big
: >empty

say "files arrive whole over 1, 2, 8 and 32 connections"
recv --count 5
for n in 1 2 8 32; do
    code 0 send --file big --name big-$n --connections $n --json
    python3 - $n "$(sha256sum <big | cut -d' ' -f1)" <<'PY'
import json, sys
a = json.load(open("out"))
assert a["connections"] == int(sys.argv[1]) and a["sha256"] == sys.argv[2], a
PY
    cmp big inbox/big-$n || fail "not the same over $n"
done
code 0 send --file empty --connections 3
ended 0
cmp empty inbox/empty || fail "not empty"

say "what is refused"
code 2 send --file big --connections 33
code 2 send --file big --connections 0
code 2 send --file big --connections 2 --session kept
echo mine >inbox/taken
recv --count 1 --limit 50M --connections 4
code 4 send --file big --name taken --connections 4; says 'a file of this name exists'
code 4 send --file big --name ../out --connections 4; says 'no plain one'
code 0 send --file big --name fewer --connections 6; says 'a bundle has at most 4 connections'
ended 0
cmp big inbox/fewer || fail "not the same"
[ "$(cat inbox/taken)" = mine ] || fail "a file has lost its place"

ns=hm-bundle-$$
if [ "$(id -u)" != 0 ] || ! ip netns add $ns 2>/dev/null; then
    say "passed, but for what needs a network namespace"
    exit 0
fi
trap 'cleanup; ip netns del $ns' EXIT
within=(ip netns exec $ns)
ip -n $ns link set lo up
rate() { ip netns exec $ns tc qdisc replace dev lo root tbf rate "$1" burst 1mb latency 50ms; }
rate 10mbit # so that it lasts until the cut is made and noticed, however slow this is
# So that rules come before the table of local addresses.
ip -n $ns -6 rule add pref 100 lookup local
ip -n $ns -6 rule del pref 0

say "one flow of four is cut, and the file arrives"
recv --count 1
send --file big --name cut --connections 4 --datagram 1452 --json >out 2>err &
sender=$!
pids+=($sender)
half() { [ -n "$(find inbox -name '.hypermesh-*' -size +2000k)" ]; }
until_true half
port=$(ip netns exec $ns ss -Huna | awk '{ print $4 }' | sed 's/.*://' | grep -vx "${at##*:}" | sed -n 2p)
[ -n "$port" ] || fail "the sender has no second port"
for way in sport dport; do
    ip -n $ns -6 rule add pref 10 ipproto udp $way "$port" prohibit
done
[ ! -e inbox/cut ] || fail "the file was faster than the cut: make it larger"
until_true grep -q '3 connections are left' err
rate 160mbit
rc=0
wait $sender || rc=$?
[ $rc = 0 ] || fail "exit code $rc of the sender"
ended 0
cmp big inbox/cut || fail "not the same"
python3 - <<'PY'
import json
a = json.load(open("out"))
assert a["connections"] == 3, a
PY
says '3 connections are left'
say "passed"
