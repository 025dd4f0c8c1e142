#!/usr/bin/env bash
# Certificates of less than a minute's life that stoq-server renews by itself while clients come and stay;
# the same request made by openssl and curl; and what becomes of a server whose certificate is revoked,
# or whose authority is gone. $1: folder with falcon.so; $2: stoq-server; $3: trustchain-server;
# $4: hypermesh.
set -euo pipefail
module=$(realpath "$1") server=$(realpath "$2") trustchain=$(realpath "$3")
hypermesh=$(realpath "$4")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
logs=(ca.log server.log out err answer)

P=(-provider-path "$module" -provider falcon -provider default)
life=40 # the authority may be away, and everything slow, for a third of it

start_ca() { # PORT
    : >ca.log
    "$trustchain" run --dir ca --listen "[::1]:$1" >ca.out 2>ca.log &
    ca_pid=$!
    pids+=($ca_pid)
    until_true grep -q '"running"' ca.log
    port=$(ss -Hlntp | sed -n "s/.* \[::1\]:\([0-9]*\) .*pid=$ca_pid,.*/\1/p")
    ca="https://[::1]:$port"
}
start() {
    : >server.log
    "$server" run --dir data --authority "$ca" --listen '[::1]:0' --metrics-listen '[::1]:0' \
        >server.out 2>server.log &
    pid=$!
    pids+=($pid)
    until_true grep -q '"running"' server.log
    at=$(sed -n 's/.*"running" stoq=\([^ ]*\) .*/\1/p' server.log)
    metrics=$(sed -n 's/.*"running" .* metrics=\([^ ]*\)$/\1/p' server.log)
}
stop() {
    kill -TERM "$1"
    wait "$1" || fail "exit code $? after SIGTERM"
}
post() { # PATH [CURL ARG...] with the body in the file "request"
    local path=$1
    shift
    status=$(curl -sS -g --cacert ca/edge-root.crt -o answer -w '%{http_code}' "$@" \
        --data-binary @request "$ca$path")
}
field() { python3 -c 'import json, sys; print(json.load(open("answer"))[sys.argv[1]])' "$1"; }
issue() { # PROFILE STEM [SECONDS]: a certificate of $life seconds, or as many, into data/
    python3 - "$1" "data/$2.csr" "${3:-$life}" >request <<'PY'
import json, sys
print(json.dumps({"profile": sys.argv[1], "csr": open(sys.argv[2]).read(),
                  "life_seconds": int(sys.argv[3])}))
PY
    post /v1/certificates -H "Authorization: Bearer $(cat ca/api.token)"
    [ "$status" = 201 ] || fail "a certificate: status $status"
    field chain >"data/$2.crt"
    field serial
}
serial_of() {
    openssl x509 "${P[@]}" -in "$1" -noout -serial | sed 's/.*=//' | tr A-F a-f
}
renewed() { grep -c "certificate renewed\" file=$1.crt" server.log || true; }
thrice() { [ "$(renewed node)" -ge 3 ] && [ "$(renewed edge)" -ge 3 ]; }

say "an authority, and a server with certificates of $life s"
"$trustchain" init --dir ca --mesh test >out
start_ca "$(free_port tcp)"
code 0 "$server" init --dir data --name stoq-1
cp ca/mesh-root.crt ca/edge-root.crt data/
node=$(issue node node) edge=$(issue server edge)

say "the request made by openssl: each family, and once only"
ask_by_openssl() { # STEM SERIAL KEY
    python3 - "$1" "$2" <<'PY'
import json, sys, time
csr = open(f"data/{sys.argv[1]}.csr").read()
at = time.time_ns() // 1000000
open("message", "wb").write(b"hypermesh renewal v1\0" + bytes.fromhex(sys.argv[2]) +
                            at.to_bytes(8, "big") + csr.encode())
json.dump({"serial": sys.argv[2], "time_ms": at, "csr": csr}, open("request", "w"))
PY
    if [ "$3" = data/node.key ]; then
        openssl pkeyutl "${P[@]}" -sign -rawin -inkey "$3" -in message -out signature
    else
        openssl dgst -sha256 -sign "$3" -out signature message
    fi
    python3 - <<'PY'
import json
r = json.load(open("request"))
r["signature"] = open("signature", "rb").read().hex()
json.dump(r, open("request", "w"))
PY
    post /v1/certificates/renew
}
ask_by_openssl edge "$(issue server edge 86400)" data/edge.key
[ "$status" = 409 ] || fail "too early: status $status"
grep -q 'two thirds' answer || fail "too early, without a reason"
ask_by_openssl edge "$edge" data/node.key
[ "$status" = 403 ] || fail "another key: status $status"
old_enough() { # NODE OR EDGE: a third of its life is over
    ask_by_openssl "$1" "$2" "data/$1.key"
    [ "$status" = 201 ]
}
until_true old_enough edge "$edge"
field chain >next.crt
openssl verify -CAfile ca/edge-root.crt -untrusted next.crt next.crt >out
[ "$(serial_of next.crt)" != "$edge" ] || fail "the same certificate"
post /v1/certificates/renew
[ "$status" = 409 ] || fail "the same request again: status $status"
until_true old_enough node "$node"
field chain >next.crt
openssl verify "${P[@]}" -CAfile ca/mesh-root.crt -untrusted next.crt next.crt >out
echo '{"serial":"00"}' >request
post /v1/certificates/renew
[ "$status" = 400 ] || fail "half a request: status $status"
# The audit log says so, and of whom.
curl -sS -g --cacert ca/edge-root.crt -H "Authorization: Bearer $(cat ca/api.token)" \
    "$ca/v1/audit?limit=10" >answer
grep -q "in place of $node" answer || fail "no line in the audit log"

say "three renewals of each, while one connection stays and others come"
node=$(issue node node) edge=$(issue server edge)
start
("$hypermesh" stoq ping "$at" --ca ca/mesh-root.crt --count 100000 --interval 50 --json >long.out \
    2>long.err) &
long=$!
pids+=($long)
others=0 end=$((SECONDS + 300))
until thrice; do
    others=$((others + 1))
    [ $SECONDS -lt $end ] || fail "not three renewals"
    code 0 "$hypermesh" stoq ping "$at" --ca ca/mesh-root.crt --count 1; says '1 requests, 1'
    curl -sS -g --cacert ca/edge-root.crt "https://$metrics/metrics" >out || fail "no metrics"
    pause 200 # for the other tests
done
kill -0 $long 2>/dev/null || { cat long.err >&2; fail "the connection that stays has ended"; }
connections() {
    curl -sS -g --cacert ca/edge-root.crt "https://$metrics/metrics" |
        awk '$1 == "hm_stoq_connections" {print $2}'
}
[ "$(connections)" -ge 1 ] || fail "no connection is left"
say "$others connections came and went, $(renewed node) and $(renewed edge) renewals"
[ "$(serial_of data/node.crt)" != "$node" ] && [ "$(serial_of data/edge.crt)" != "$edge" ] ||
    fail "the files have the first certificates"
ls data | grep -q token && fail "a token lies on the node"
kill -INT $long 2>/dev/null || true

say "an authority that is gone for a while"
stop "$ca_pid"
until_true grep -q 'certificate not renewed' server.log
before=$(renewed node)
start_ca "$port"
more() { [ "$(renewed node)" -gt "$before" ]; }
until_true more

say "a revoked certificate is renewed no more, and over one day"
newest_revoked() { # the one that the next renewal stands on
    serial=$(serial_of data/node.crt)
    HYPERMESH_AUTHORITY=$ca HYPERMESH_CA=ca/edge-root.crt HYPERMESH_TOKEN_FILE=ca/api.token \
        "$hypermesh" cert revoke "$serial" --reason keyCompromise >out
    [ "$(serial_of data/node.crt)" = "$serial" ]
}
until_true newest_revoked
until_true grep -q 'not renewed" file=node.crt.*revoked' server.log
until_true grep -q 'certificate is over" file=node.crt' server.log
ask_by_openssl node "$serial" data/node.key
[ "$status" = 422 ] && grep -q CERT_REVOKED answer || fail "a revoked one: status $status"
more_edge() { [ "$(renewed edge)" -gt "$before" ]; } # the other family's goes on
before=$(renewed edge)
until_true more_edge
stop "$pid"
edge=$(serial_of data/edge.crt)
over() {
    ask_by_openssl edge "$edge" data/edge.key
    [ "$status" = 422 ] && grep -q CERT_EXPIRED answer
}
until_true over
say "all well"
