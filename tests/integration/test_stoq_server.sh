#!/usr/bin/env bash
# stoq-server as it runs: enrolled by a real authority; asked by hypermesh stoq and by openssl;
# clients that are refused, each with its line and counter; killed and started again; valgrind.
# $1: folder with falcon.so; $2: stoq-server; $3: trustchain-server; $4: hypermesh; $5: the check of
# qlogs.
set -euo pipefail
module=$(realpath "$1") server=$(realpath "$2") trustchain=$(realpath "$3")
hypermesh=$(realpath "$4") qlog_check=$(realpath "$5")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

P=(-provider-path "$module" -provider falcon -provider default)
o() { local command=$1; shift; openssl "$command" "${P[@]}" "$@"; }
running() {
    kill -0 "$pid" 2>/dev/null || fail "the server ended at its start"
    grep -q '"running"' server.log
}
# start ARG...: runs the server in data/; its addresses go to $at and $metrics.
start() {
    : >server.log # the line of the run before is no answer
    ${under:-} "$server" run --dir data --listen "[::1]:${port:-0}" --metrics-listen '[::1]:0' \
        "$@" >server.out 2>server.log &
    pid=$!
    pids+=($pid)
    until_true running
    at=$(sed -n 's/.*"running" stoq=\([^ ]*\) .*/\1/p' server.log)
    metrics=$(sed -n 's/.*"running" .* metrics=\([^ ]*\)$/\1/p' server.log)
}
stop() { # and it must end well
    local rc=0
    kill -TERM "$pid"
    wait "$pid" || rc=$?
    [ $rc = 0 ] || fail "exit code $rc after SIGTERM"
    grep -q '"stopped"' server.log || fail "no last line"
}
counter() { # NAME WITH LABELS
    curl -sS -g --cacert ca/edge-root.crt "https://$metrics/metrics" |
        awk -v n="$1" '$1 == n {print $2; found = 1} END {exit !found}' || fail "no counter $1"
}
zeros() { [ "$(tr -dc '\0' <out | wc -c)" = "$1" ]; } # so many, besides words
ping() { "$hypermesh" stoq ping "$at" --count 2 --interval 10 "$@"; }
# refused REASON COMMAND...: exactly one line and one count more with this reason.
refused() {
    local reason=$1 name="hm_stoq_refused_total{reason=\"$1\"}" before lines
    shift
    before=$(counter "$name") lines=$(grep -c "\"refused\".* reason=$reason " server.log || true)
    "$@"
    one_more() { [ "$(counter "$name")" = $((before + 1)) ]; }
    until_true one_more
    [ "$(grep -c "\"refused\".* reason=$reason " server.log)" = $((lines + 1)) ] ||
        fail "no line about $reason"
}
# s_client ARG...: what came from the server is in the file out; the exit code does not matter. It stays
# until the command $hold is true.
s_client() {
    : >out
    # shellcheck disable=SC2086
    { cat request; [ -z "${hold:-}" ] || until_true $hold; } |
        timeout 240 openssl s_client -quic -connect "$at" -CAfile ca/edge-root.crt \
            -verify_return_error "$@" >out 2>err || true
}

say "an authority, and what is wrong before a server runs"
"$trustchain" init --dir ca --mesh test >out
: >ca.log
"$trustchain" run --dir ca --listen '[::1]:0' >ca.out 2>ca.log &
pids+=($!)
ca_pid=$!
until_true grep -q '"running"' ca.log
ca=$(ss -Hlntp | sed -n "s/.* \(\[::1\]:[0-9]*\) .*pid=$ca_pid,.*/https:\/\/\1/p")
[ -n "$ca" ] || fail "no address of the authority"
code 2 "$server" run
code 2 "$server" run --dir none --listen 127.0.0.1:9292; says IPv4
code 2 "$server" run --dir none --listen '[::1]'; says 'port'
code 2 "$server" run --dir none --max-connections 0; says max-connections
code 2 "$server" run --dir none; says 'run init and enroll'
code 2 "$server" run --dir none --cert x; says 'go together'
code 2 "$server" run --dir none --client-crl x; says client-ca
code 2 "$server" run --dir none --nosuch; says nosuch
code 2 "$server" nosuch
[ ! -e none ] || fail "a refused start left a directory"
code 1 "$server" init --dir data --name 'Bad Name'
rm -rf data

say "init, enroll"
code 0 "$server" init --dir data --name stoq-1
[ "$(stat -c %a data)" = 700 ] || fail "the directory's mode"
[ "$(stat -c %a data/node.key data/edge.key | sort -u)" = 600 ] || fail "the keys' modes"
code 1 "$server" init --dir data; says 'holds keys already'
enroll=("$server" enroll --dir data --authority "$ca" --root ca/edge-root.crt)
code 2 "${enroll[@]}"; says token-file
code 0 "${enroll[@]}" --token-file ca/api.token
o verify -CAfile ca/mesh-root.crt -untrusted data/node.crt data/node.crt >out
openssl verify -CAfile ca/edge-root.crt -untrusted data/edge.crt data/edge.crt >out
chmod 640 data/node.key
code 2 "$server" run --dir data --listen '[::1]:0' --metrics-listen off; says 'chmod 600'
chmod 600 data/node.key
code 2 "$server" run --dir data --listen '[::1]:0' --metrics-listen off --groups NOSUCH; says NOSUCH

say "run"
port=$(free_port) start # again by another, later
[ "$(stat -c '%a %s' data/stoq.secret)" = '600 32' ] || fail "the secret's mode or size"
ss -Hlntup | grep "pid=$pid," >sockets || fail "no socket"
[ "$(wc -l <sockets)" = 2 ] || fail "not one socket of UDP and one of TCP"
awk '$5 !~ /^\[::1\]:[0-9]+$/ {exit 1}' sockets || { cat sockets; fail "a socket that is not IPv6"; }
code 2 "$server" run --dir data --listen "$at" --metrics-listen off; says 'another program has this port'

say "ping and perf"
code 0 ping --ca ca/edge-root.crt; says '2 requests, 2 answers'
code 0 ping --ca ca/mesh-root.crt --json
python3 - <<'PY'
import json
a = json.load(open("out"))
assert a["answers"] == 2 and a["group"] == "X25519MLKEM768" and a["peer"].startswith("node stoq-1 "), a
assert 0 < a["min_us"] <= a["p50_us"] <= a["p99_us"] <= a["max_us"] and a["handshake_us"] > 0, a
PY
for v in 1 2 1,2 2,1; do
    code 0 ping --ca ca/mesh-root.crt --quic "$v" --json
    python3 -c 'import json, sys; assert json.load(open("out"))["quic"] == int(sys.argv[1])' \
        "$([ "$v" = 2 ] && echo 2 || echo 1)" || fail "the version of QUIC with $v"
done
code 2 ping --ca ca/mesh-root.crt --quic 3; says 'versions of QUIC'
at_preferred() { # yes|no COMMAND...
    local want=$1
    shift
    code 0 "$@" --json
    python3 -c 'import json, sys
a = json.load(open("out"))
assert a.get("runs", [a])[-1]["at_preferred"] == (sys.argv[1] == "yes"), a' "$want" || fail "at_preferred"
}
at_preferred no ping --ca ca/mesh-root.crt
perf() { "$hypermesh" stoq perf "$at" --ca ca/mesh-root.crt "$@"; }
check_perf() { # STREAMS DOWN UP [BYTES OF A DATAGRAM]
    python3 - "$@" <<'PY'
import json, sys
a = json.load(open("out"))
streams, down, up, datagram = map(int, (sys.argv[1:] + ["65527"])[:4])
got = {r["direction"]: r for r in a["runs"]}
assert got["down"]["bytes"] == down and got["up"]["bytes"] == up, a
assert all(r["streams"] == streams and r["bits_per_second"] > 0 for r in a["runs"]), a
assert got["down"]["packets_received"] * datagram > down, a
assert got["up"]["packets_sent"] * datagram > up, a
assert all(1200 <= r["mtu_bytes"] <= datagram for r in a["runs"]), a
PY
}
code 0 perf --down 20M --up 20M --json; check_perf 1 20971520 20971520
code 0 perf --down 20M --up 20M --datagram 1452 --json; check_perf 1 20971520 20971520 1452
code 2 perf --datagram 1199; says 1199
code 0 perf --down 30000001 --up 30000001 --streams 200 --json
check_perf 200 30000001 30000001
code 0 perf --down 4000 --up 4000 --streams 1000 --json # more than the server takes at once
check_perf 1000 4000 4000
code 0 perf --seconds 1 --streams 16; says '16 streams'
code 0 perf --down 30000001 --up 30000001 --connections 32 --streams 3 --json
check_perf 96 30000001 30000001
python3 -c 'import json; assert json.load(open("out"))["connections"] == 32' || fail "not 32 connections"
before=$(counter hm_stoq_accepted_total)
code 0 perf --seconds 1 --connections 8; says '8 connections  8 streams'
[ $(($(counter hm_stoq_accepted_total) - before)) = 8 ] || fail "not 8 connections"
code 2 perf --connections 33; says 33
code 2 perf --connections 32 --streams 129; says together
code 2 perf --connections 2 --handshakes 1; says either
code 2 perf --connections 2 --session kept; says either
idle() { [ "$(counter hm_stoq_streams)" = 0 ]; }
until_true idle # when the client's last word is there
code 2 perf --seconds 1 --up 1; says either
code 2 perf --up 1X; says 1X

say "requests and answers of so many bytes; handshakes"
code 0 ping --ca ca/mesh-root.crt --request 5000 --response 200000 --interval 0 --count 50 --json
python3 - <<'PY'
import json
a = json.load(open("out"))
assert a["requests"] == a["answers"] == 50, a
assert a["request_bytes"] == 5000 and a["response_bytes"] == 200000, a
order = [a[k] for k in ("min_us", "p50_us", "p99_us", "p999_us", "max_us")]
assert order == sorted(order) and a["min_us"] > 0 and a["requests_per_second"] > 0, a
PY
code 2 ping --ca ca/mesh-root.crt --request 7; says request
# handshakes ARG...: what the client counts the server has accepted.
handshakes() {
    local before
    before=$(counter hm_stoq_accepted_total)
    code 0 "$hypermesh" stoq perf "$at" --ca ca/mesh-root.crt --handshakes 3 --json "$@"
    settled() { [ "$(counter hm_stoq_half_open)" = 0 ]; }
    until_true settled
    python3 - $(($(counter hm_stoq_accepted_total) - before)) <<'PY'
import json, sys
a = json.load(open("out"))
assert 0 < a["handshakes"] <= int(sys.argv[1]) <= a["handshakes"] + a["parallel"], (a, sys.argv)
assert a["handshakes_per_second"] > 0 and a["min_us"] > 0 and a["group"] == "X25519MLKEM768", a
PY
}
handshakes
handshakes --parallel 3
code 2 perf --handshakes 1 --up 1; says either
code 3 "$hypermesh" stoq perf '[::1]:1' --ca ca/mesh-root.crt --handshakes 30; says 'does not answer'

say "whom the client refuses"
code 2 ping; says '--ca is needed'
code 2 ping --ca nosuch; says nosuch
refused client_gave_up code 3 ping --ca ca/edge-root.crt --server-name elsewhere.test
says 'mismatch'
refused client_gave_up code 3 ping --ca ca/mesh-root.crt --server-name stoq-2; says 'mismatch'
code 0 ping --ca ca/mesh-root.crt --server-name stoq-1
"$trustchain" init --dir other --mesh test >out
refused client_gave_up code 3 ping --ca other/mesh-root.crt; says 'certificate'
code 2 "$hypermesh" stoq ping 127.0.0.1 --ca ca/edge-root.crt; says IPv4

say "openssl s_client -quic"
# As docs/stoq.md has it, but for its second, which may be too short here.
: >out
(printf '\0\0\0\0\0\0\0\20'; until_true zeros 16) | openssl s_client -quic -quiet -no_ign_eof \
    -alpn perf -connect "$at" -CAfile ca/edge-root.crt >out 2>/dev/null || true
[ "$(wc -c <out)" = 16 ] || fail "the example of the manual"
printf '\0\0\0\0\0\0\x27\x10' >request # 10,000 bytes, please
hold='zeros 10000' s_client -alpn perf
grep -q '^ALPN protocol: perf' out || fail "no ALPN"
grep -q 'Verification: OK' out || fail "not verified"
zeros 10000 || fail "not the bytes asked for"
refused group s_client -alpn perf -groups X25519
refused protocol s_client -alpn h2

say "HTTP/3"
c() { curl -gsS -m 240 --http3-only --cacert ca/edge-root.crt "$@"; }
h3=https://$at
[ "$(c "$h3/100000000" | tr -d '\0' | wc -c) $(c "$h3/100000000" | wc -c)" = '0 100000000' ] ||
    fail "not 100 MB of zeros"
head -c 100000000 /dev/zero >big
[ "$(c --data-binary @big "$h3/")" = 100000000 ] || fail "not 100 MB taken"
rm big
c --parallel -o /dev/null -o /dev/null "$h3/20000000" "$h3/20000000" \
    $(for i in $(seq 50); do echo "-o /dev/null $h3/$i"; done) || fail "parallel requests"
for ask in "404 $h3/x" "404 $h3/" "404 $h3/99999999999999999999" "405 -X PUT -d x $h3/5" \
    "200 -I $h3/5" "200 $h3/0" "200 -d x $h3/any"; do
    [ "$(c -o /dev/null -w '%{http_code}' ${ask#* })" = "${ask%% *}" ] || fail "not $ask"
done
[ "$(counter hm_http3_requests_total)" -ge 60 ] || fail "requests are not counted"
[ "$(counter hm_perf_received_bytes_total)" -ge 100000000 ] || fail "uploads are not counted"

say "what is no QUIC is counted and harmless"
cat >noise.py <<'PY'
import random, socket, sys
port = int(sys.argv[1].rsplit(":", 1)[1])
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.connect(("::1", port))
r = random.Random(5)
def initial(n): # the head of an Initial packet, then noise
    head = b"\xc3\0\0\0\1\x08" + r.randbytes(8) + b"\0\0" + (0x4000 | (n - 18)).to_bytes(2, "big")
    return head + r.randbytes(n - len(head))
for i in range(300):
    s.send(r.randbytes(r.randrange(1, 1400)))
    s.send(initial(1200)[:r.randrange(1, 1199)])
    s.send(initial(r.randrange(1200, 1400)))
PY
many_dropped() { # as often as it takes: what a socket has no room for is lost
    python3 noise.py "$at"
    [ "$(counter hm_stoq_datagrams_dropped_total)" -ge 600 ]
}
until_true many_dropped
code 0 ping --ca ca/edge-root.crt
[ "$(counter hm_stoq_half_open)" = 0 ] || fail "something is half open"

say "workers: one address, one set of counters, one end"
other=($pid $at $metrics)
port='' start --workers 3
for i in $(seq 12); do code 0 ping --ca ca/edge-root.crt; done
code 0 "$hypermesh" stoq perf "$at" --ca ca/edge-root.crt --down 20M --streams 4
code 0 "$hypermesh" stoq perf "$at" --ca ca/edge-root.crt --up 20M --streams 4
[ "$(counter hm_stoq_accepted_total)" = 14 ] || fail "not 14 connections"
[ "$(counter hm_perf_requests_total)" = 32 ] || fail "not 32 requests"
[ "$(counter hm_stoq_passed_on_total)" = 0 ] || fail "datagrams came to the wrong worker"
[ "$(ls /proc/$pid/task | wc -l)" -ge 4 ] || fail "no threads"
code 0 ping --ca ca/edge-root.crt --session shared
for i in $(seq 8); do # whoever gave the ticket
    code 0 ping --ca ca/edge-root.crt --session shared --json; says '"resumed": *true'
done
rm shared
kill -HUP $pid # and all have their certificates read again
until_true grep -q 'read again' server.log
code 0 ping --ca ca/edge-root.crt
rc=0
"$server" run --dir data --listen "$at" --metrics-listen off --workers 2 >out 2>err || rc=$?
[ $rc != 0 ] || fail "a second server on one address"
says 'another program has this port'
stop
code 2 "$server" run --dir data --listen "$at" --workers 0; says workers
code 2 "$server" run --dir data --listen "$at" --workers 129; says workers
pid=${other[0]} at=${other[1]} metrics=${other[2]} # the one of before

say "kill -9: a client of before learns it by stateless reset"
port=${at##*:}
"$hypermesh" stoq ping "$at" --ca ca/edge-root.crt --count 10000 --interval 20 >long.out 2>long.err &
long=$!
pids+=($long)
until_true grep -q '^answer 3:' long.out
kill -9 $pid
wait $pid 2>/dev/null || true
start
rc=0
wait $long || rc=$?
[ $rc = 3 ] || { cat long.err; fail "exit code $rc of the old client"; }
grep -q 'started anew' long.err || { cat long.err; fail "not ended by a reset"; }
[ "$(counter hm_stoq_resets_total)" -ge 1 ] || fail "no reset is counted"
unset port

say "SIGTERM: requests in progress get their time, then their connection is closed"
"$hypermesh" stoq perf "$at" --ca ca/edge-root.crt --seconds 100 >long.out 2>long.err &
long=$!
pids+=($long)
busy() { [ "$(counter hm_stoq_streams)" = 1 ]; }
until_true busy
stop
rc=0
wait $long || rc=$?
[ $rc = 1 ] && grep -q 'shutting down' long.err || { cat long.err; fail "the client: $rc"; }

say "clients need a certificate"
curl -sS -g --cacert ca/edge-root.crt "$ca/v1/crl?family=mesh" -o mesh.crl
export HYPERMESH_AUTHORITY=$ca HYPERMESH_CA=ca/edge-root.crt HYPERMESH_TOKEN_FILE=ca/api.token
for name in good bad; do
    o genpkey -algorithm falcon1024 -out $name.key
    chmod 600 $name.key
    o req -new -key $name.key -subj "/CN=$name" -out $name.csr
    "$hypermesh" cert issue $name.csr -o $name.crt >out
done
unset HYPERMESH_CA
# A certificate that the mesh's issuing CA gave for a time that is over, and one of another root.
id=$(o pkey -in bad.key -pubout -outform DER | sha256sum | cut -d' ' -f1)
printf 'extendedKeyUsage=clientAuth\nkeyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:FALSE\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\nsubjectAltName=URI:hypermesh:node:%s\n' \
    "$id" >ext
awk '/BEGIN CERT/ {n++} n == 2' good.crt >issuing.crt
serial=0x4$(printf '%031d' 7) # 16 bytes, as the profile has it
o x509 -req -set_serial $serial -in bad.csr -CA issuing.crt -CAkey ca/authority/mesh-ca.key -extfile ext \
    -not_before 20250101000000Z -not_after 20250201000000Z -out expired.crt 2>err
cat issuing.crt >>expired.crt
o genpkey -algorithm falcon1024 -out root.key
o req -x509 -key root.key -subj /CN=root -days 30 -out root.crt \
    -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign'
o x509 -req -set_serial $serial -in bad.csr -CA root.crt -CAkey root.key -extfile ext -days 10 \
    -out foreign.crt 2>err
o x509 -req -in bad.csr -CA issuing.crt -CAkey ca/authority/mesh-ca.key -extfile ext -days 10 \
    -out odd.crt 2>err # another kind of serial
cat issuing.crt >>odd.crt
cat root.crt >>foreign.crt
start --client-ca ca/mesh-root.crt --client-crl mesh.crl
mutual() { ping --ca ca/mesh-root.crt --cert "$1.crt" --key "$2.key"; }
refused certificate_missing code 6 ping --ca ca/mesh-root.crt; says 'certificate required.*--cert'
refused certificate_missing s_client -alpn perf
code 0 mutual good good
code 0 mutual bad bad
refused certificate_missing code 6 perf --handshakes 5 --parallel 1; says 'certificate required'
code 2 ping --ca ca/mesh-root.crt --cert good.crt; says 'go together'
code 2 mutual good bad
refused certificate_expired code 6 mutual expired bad; says 'expired'
refused certificate_untrusted code 6 mutual foreign bad; says 'unknown CA'
refused certificate_profile code 6 mutual odd bad
serial=$(o x509 -in bad.crt -noout -serial | cut -d= -f2 | tr A-F a-f)
HYPERMESH_CA=ca/edge-root.crt "$hypermesh" cert revoke "$serial" >out
curl -sS -g --cacert ca/edge-root.crt "$ca/v1/crl?family=mesh" -o mesh.crl
code 0 mutual bad bad # the server has not read the list yet
kill -HUP $pid
until_true grep -q '"certificates and lists read again"' server.log
refused certificate_revoked code 6 mutual bad bad; says 'revoked'
code 0 mutual good good
echo damaged >mesh.crl
kill -HUP $pid
until_true grep -q 'not read again" why=.*mesh.crl' server.log
code 0 mutual good good
refused certificate_revoked code 6 mutual bad bad
# At the end: those that are cut off make more lines than a second is allowed.
handshakes --cert good.crt --key good.key
stop

say "an own certificate, other groups"
start --cert data/edge.crt --key data/edge.key --groups X25519MLKEM768:X25519
code 0 ping --ca ca/edge-root.crt
code 6 ping --ca ca/mesh-root.crt
hold='grep -q ^ALPN out' s_client -alpn perf -groups X25519
grep -q '^ALPN protocol: perf' out || fail "the group that was allowed is refused"
if command -v gtlsclient >out; then # ngtcp2's
    mkdir down
    gtlsclient -q --exit-on-all-streams-close --download down ::1 "${at##*:}" \
        "https://localhost:${at##*:}/3000000" "https://localhost:${at##*:}/5" 2>err
    [ "$(stat -c %s down/3000000 down/5 | tr '\n' ' ')" = '3000000 5 ' ] || fail "ngtcp2's client"
    # A second connection is resumed and begins early.
    stop
    start --groups X25519MLKEM768:X25519 --early-data
    again() {
        rm -rf down
        mkdir down
        gtlsclient -q --exit-on-all-streams-close --wait-for-ticket --session-file ng.session \
            --tp-file ng.params --download down ::1 "${at##*:}" \
            "https://localhost:${at##*:}/30000" 2>err
        [ "$(stat -c %s down/30000)" = 30000 ] || fail "ngtcp2's client again"
        [ "$(counter hm_stoq_resumed_total) $(counter hm_stoq_early_total)" = "$*" ] ||
            fail "ngtcp2's client: $(counter hm_stoq_resumed_total) resumed, $(counter hm_stoq_early_total) early, not $*"
    }
    again 0 0
    again 1 1
    again 2 2
fi
stop

say "a preferred address"
free_port=$(free_port)
code 2 "$server" run --dir data --listen '[::1]:0' --preferred 127.0.0.1:1; says IPv4
start --preferred "[::1]:$free_port" --quic 2,1
at_preferred yes perf --down 20M --up 20M
at_preferred no perf --down 1M --up 1M --stay
# Proving the way there takes a round trip or two beside the requests: ping until it has moved.
moved() {
    code 0 ping --ca ca/mesh-root.crt --quic 1 --count 20 --json
    grep -q '"at_preferred": *true' out
}
until_true moved
stop

say "qlog"
mkdir logs logs/client logs/server
code 2 "$server" run --dir data --listen '[::1]:0' --qlog nosuch; says 'nosuch'
start --qlog logs/server
code 0 perf --down 2M --up 2M --qlog logs/client --json
cp out perf.json
stop
for side in client server; do
    ls logs/$side/*-$side.sqlog >files
    [ "$(wc -l <files)" = 1 ] || fail "not one log of the $side"
    xargs "$qlog_check" <files >$side.json || fail "the log of the $side"
done
python3 - <<'PY' || fail "the counts of the logs"
import json
runs = json.load(open("perf.json"))["runs"]
client, server = (json.load(open(s + ".json")) for s in ("client", "server"))
assert client["packet_sent"] >= sum(r["packets_sent"] for r in runs) > 0, (client, runs)
assert client["packet_received"] >= sum(r["packets_received"] for r in runs) > 0, (client, runs)
assert client.get("packet_lost", 0) >= sum(r["packets_lost"] for r in runs), (client, runs)
# What one has received the other has sent.
assert server["packet_sent"] >= client["packet_received"], (client, server)
assert client["packet_sent"] >= server["packet_received"], (client, server)
for counts in client, server:
    assert counts["connection_started"] == counts["connection_closed"] == 1, counts
    assert counts["parameters_set"] == 3 and counts["recovery_metrics_updated"] > 0, counts
PY

say "tickets: a second connection is resumed, a third one begins early"
export SSLKEYLOGFILE=$PWD/secrets
start --early-data
unset SSLKEYLOGFILE
resumes() { # RESUMED EARLY ARG...: what ping says of the session in the file kept
    local resumed=$1 early=$2
    shift 2
    code 0 ping --ca ca/edge-root.crt --session kept --json "$@"
    python3 -c 'import json, sys
a = json.load(open("out"))
assert a["answers"] == 2 and a["group"] == "X25519MLKEM768", a
assert [str(a["resumed"]), a["early"]] == sys.argv[1:], a' "$resumed" "$early" || fail "ping $*"
}
code 2 ping --ca ca/edge-root.crt --early; says session
code 2 ping --ca ca/edge-root.crt --session kept --cert good.crt --key good.key; says 'shows a certificate'
resumes False none --early
[ "$(stat -c %a kept)" = 600 ] || fail "the session's mode"
resumes True none
[ "$(counter hm_stoq_early_total)" = 0 ] || fail "something came early"
resumes True accepted --early
[ "$(counter hm_stoq_early_total)" = 1 ] || fail "nothing came early"
cp kept again
resumes True accepted --early
cp again kept # a ticket that came early already
resumes True rejected --early
resumes True accepted --early
code 0 ping --ca ca/edge-root.crt --session kept --early; says 'resumed, early data accepted'
code 0 perf --ca ca/edge-root.crt --session kept --early --down 3M --up 3M --json
check_perf 1 3145728 3145728
says '"early": *"accepted"'
for where in 40 60 500; do
    printf '\377\377' | dd of=kept bs=1 seek=$where conv=notrunc status=none
    resumes False none --early
done
printf x >kept
resumes False none --early
resumed_handshakes() { # ARG...: nearly all are, each with a ticket of its own
    code 0 "$hypermesh" stoq perf "$at" --ca ca/edge-root.crt --handshakes 3 --resume --json "$@"
    python3 -c 'import json
a = json.load(open("out"))
assert a["handshakes"] > 0 and a["whole"] > 0 and a["group"] == "X25519MLKEM768", a
assert a["early"] == ('"${early:-0}"' and a["handshakes"]), a'
}
resumed_handshakes
early=1 resumed_handshakes --early --parallel 3
code 2 perf --ca ca/edge-root.crt --handshakes 1 --early; says resume
code 2 perf --ca ca/edge-root.crt --handshakes 1 --resume --cert good.crt --key good.key
says 'shows a certificate'
code 2 perf --ca ca/edge-root.crt --resume; says handshakes
chmod 640 kept
code 6 ping --ca ca/edge-root.crt --session kept
chmod 600 kept
code 0 ping --ca ca/mesh-root.crt --session kept --json; says '"resumed": *false' # other roots
code 0 ping --ca ca/mesh-root.crt --session kept --json --server-name stoq-1
says '"resumed": *false' # another name
code 0 ping --ca ca/mesh-root.crt --session kept --json --server-name stoq-1 --early
says '"early": *"accepted"' # a node's
rm kept
resumes False none
kill -HUP $pid # with new certificates nothing of before is taken
until_true grep -q '"certificates and lists read again"' server.log
resumes False rejected --early
hold='test -s ossl.session' s_client -alpn perf -sess_out ossl.session
hold='zeros 10000' s_client -alpn perf -sess_in ossl.session
grep -q '^Reused, TLSv1.3' out || fail "OpenSSL's client is not resumed"
zeros 10000 || fail "not the bytes asked for"
stop
start
resumes False rejected --early # the server before had other keys
resumes True none --early      # and gives no tickets for early data any more
stop

say "SSLKEYLOGFILE"
[ "$(stat -c %a secrets)" = 600 ] || fail "the mode of the secrets"
for label in CLIENT_EARLY_TRAFFIC_SECRET CLIENT_HANDSHAKE_TRAFFIC_SECRET SERVER_TRAFFIC_SECRET_0; do
    grep -qE "^$label [0-9a-f]{64} [0-9a-f]{64,96}\$" secrets || fail "no $label of the server"
done
grep -q 'SSLKEYLOGFILE' server.log && fail "the last run had no such variable"
start --tickets 0
rm -f kept
SSLKEYLOGFILE=mine code 0 ping --ca ca/edge-root.crt --session kept; says 'SSLKEYLOGFILE: secrets'
[ ! -e kept ] || fail "a session without a ticket"
grep -q '^SERVER_TRAFFIC_SECRET_0 ' mine || fail "no secrets of the client"
code 0 ping --ca ca/edge-root.crt
grep -q SSLKEYLOGFILE out err && fail "SSLKEYLOGFILE without the variable"
SSLKEYLOGFILE=nosuch/file code 2 ping --ca ca/edge-root.crt; says nosuch
stop

say "valgrind"
valgrind="valgrind -q --leak-check=full --show-leak-kinds=definite,indirect,possible
    --errors-for-leak-kinds=definite,indirect,possible --error-exitcode=99"
under=$valgrind start
h3=https://$at
c --parallel -o /dev/null -o /dev/null "$h3/2000000" "$h3/2000000" || fail "HTTP/3 under valgrind"
[ "$(head -c 2000000 /dev/zero | c --data-binary @- "$h3/")" = 2000000 ] || fail "an upload"
c "$h3/900000000" 2>err | head -c 1000 >out || true # given up
given_up() { [ "$(counter hm_http3_cancelled_total)" = 1 ]; }
until_true given_up
c -o /dev/null --limit-rate 1000 "$h3/900000000" 2>err &
long=$!
pids+=($long)
asked() { [ "$(counter hm_http3_requests_total)" = 5 ]; }
until_true asked
stop
wait $long && fail "a request that was cut off looks whole"
grep -q '^==' server.log && fail "valgrind complains"
under=$valgrind start --client-ca ca/mesh-root.crt
code 0 mutual good good
code 0 perf --cert good.crt --key good.key --down 2M --up 2M --streams 20 --json
check_perf 20 2097152 2097152
refused certificate_missing code 6 ping --ca ca/mesh-root.crt
refused group s_client -alpn perf -groups X25519
kill -HUP $pid
until_true grep -q '"certificates and lists read again"' server.log
code 0 mutual good good
"$hypermesh" stoq perf "$at" --ca ca/mesh-root.crt --cert good.crt --key good.key --seconds 100 \
    >long.out 2>long.err &
long=$!
pids+=($long)
until_true busy
stop
grep -q '^==' server.log && fail "valgrind complains"
wait $long || true
say "passed"
