#!/usr/bin/env bash
# hypermesh stoq send and recv: files that arrive whole, and what is refused.
# $1: hypermesh.
set -euo pipefail
hypermesh=$(realpath "$1")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
logs=(out err recv.out recv.err)
told() { until_true grep -q -- "$1" recv.err recv.out; } # it may say so when the sender is gone
# recv ARG...: in the background; its address goes to $at.
recv() {
    : >recv.err
    "$hypermesh" stoq recv inbox --listen '[::1]:0' --cert server.crt --key server.key "$@" \
        >recv.out 2>recv.err &
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
send() { "$hypermesh" stoq send "$at" --ca server.crt "$@"; }

for name in server client other; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key \
        -out $name.crt -days 2 -subj "/CN=$name" -addext "subjectAltName=IP:::1" 2>err || fail "openssl"
    chmod 600 $name.key
done
mkdir inbox
head -c 150000001 /dev/urandom >big
: >empty
echo small >small

say "files arrive whole"
recv --count 4 --json
code 0 send --file big
says "$(sha256sum big | cut -d' ' -f1)"
cmp big inbox/big || fail "not the same"
code 0 send --file empty --json
code 0 send --file small --name 'another name' --json
code 0 send --file small --datagram 1200 --json
python3 - "$(sha256sum <small | cut -d' ' -f1)" <<'PY'
import json, sys
a = json.load(open("out"))
assert a["name"] == "small" and a["bytes"] == 6 and a["sha256"] == sys.argv[1], a
PY
ended 0
for pair in "small:another name" empty:empty small:small; do
    cmp "${pair%%:*}" "inbox/${pair#*:}" || fail "not the same"
done
python3 - <<'PY'
import json
a = json.load(open("recv.out"))
assert [f["name"] for f in a["files"]] == ["big", "empty", "another name", "small"], a
assert a["files"][0]["bytes"] == 150000001, a
PY

say "what is refused leaves nothing"
echo mine >inbox/taken
recv --limit 1M
code 4 send --file small --name taken; says 'a file of this name exists'; told 'exists'
code 4 send --file big --name much; says 'are more than the 1048576 that are taken'
code 4 send --file small --name ../out; says 'no plain one'
code 4 send --file small --name .hidden; says 'no plain one'
code 5 send --file nosuch; says nosuch
code 1 send --file inbox; says 'not a file'
code 3 "$hypermesh" stoq send "$at" --ca other.crt --file small
code 2 send --file small --name ''
[ "$(cat inbox/taken)" = mine ] || fail "a file has lost its place"
# By another program: a hash that is wrong, an end that comes too early.
begun() { [ -n "$(find inbox -name '.hypermesh-*')" ]; }
quic() { # COMMAND...: until this is true it stays; what the receiver answers is in the file out
    : >out
    { cat; until_true "$@"; } | timeout 240 openssl s_client -quic -quiet -no_ign_eof \
        -alpn hypermesh-file/1 -connect "$at" -CAfile server.crt >out 2>err || true
}
{ printf '\3lie\0\0\0\0\0\0\0\5hello'; head -c 32 /dev/zero; } | quic grep -q 'the hashes differ' out
says 'the hashes differ'
{ printf '\5short\0\0\0\0\0\0\0\5hel'; } | quic begun
told 'connection was lost\|ends before'
{ printf '\4true\0\0\0\0\0\0\0\5hello'; printf hello | openssl dgst -sha256 -binary; } | quic test -s out
ended 0
[ "$(ls inbox)" = "$(printf '%s\n' 'another name' big empty small taken true)" ] ||
    fail "not the files that should be there"
[ "$(cat inbox/true)" = hello ] || fail "not what was sent"

say "a sender that is killed, a receiver that is told to end"
recv
# The kernel kills it, after a second of computing: that is too little for a file of this length.
truncate -s 60G long
(ulimit -t 1 && exec "$hypermesh" stoq send "$at" --ca server.crt --file long --name half) >out 2>err &
sender=$!
some() { [ -n "$(find inbox -name '.hypermesh-*' -size +1000k)" ]; }
until_true some
rc=0
wait $sender 2>/dev/null || rc=$?
[ $rc = 137 ] || fail "the sender was not killed: exit code $rc"
[ ! -e inbox/half ] || fail "the file was faster than the kill: make it larger"
kill -INT $pid
ended 1
told interrupted
[ ! -e inbox/half ] || fail "half a file"

say "only senders with a certificate of a root"
recv --ca client.crt
code 6 send --file small --name mutual; says 'certificate required'
code 6 send --file small --name mutual --cert other.crt --key other.key
code 0 send --file small --name mutual --cert client.crt --key client.key
ended 0
cmp small inbox/mutual || fail "not the same"
code 5 "$hypermesh" stoq recv nowhere --cert server.crt --key server.key
code 2 "$hypermesh" stoq recv inbox --cert server.crt --key server.key --listen 127.0.0.1:1; says IPv4
say "passed"
