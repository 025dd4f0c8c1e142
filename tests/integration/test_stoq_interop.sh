#!/usr/bin/env bash
# STOQ and ngtcp2, in both directions: handshake, transfer, Retry, key update, both versions and their
# negotiation, clients that move, a preferred address. ngtcp2's client and server know no ML-KEM in
# Debian, so X25519 it is, and its client asks by HTTP/3.
# $1: stoq-server; $2: interop_probe.
set -euo pipefail
server=$(realpath "$1") probe=$(realpath "$2")
if ! command -v gtlsclient >/dev/null || [ ! -x /usr/sbin/gtlsserver ]; then
    echo "SKIPPED: no ngtcp2-client and ngtcp2-server (deploy/setup.sh interop)"
    exit 77
fi
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
V1=0x00000001 V2=0x6b3343cf

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem \
    -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:::1 2>err
chmod 600 key.pem

# ---- ngtcp2's client, our server ------------------------------------------------------------------

start() { # ARG...
    : >server.log
    "$server" run --dir data --listen '[::1]:0' --metrics-listen off --cert cert.pem --key key.pem \
        --groups X25519 "$@" >server.out 2>server.log &
    pid=$!
    pids+=($pid)
    until_true grep -q '"running"' server.log
    port=$(sed -n 's/.*"running" stoq=[^ ]*:\([0-9]*\) .*/\1/p' server.log)
}
stop() {
    kill -TERM "$pid"
    wait "$pid" || fail "exit code $? after SIGTERM"
}
# get BYTES ARG...: gets a file of so many zeros; what ngtcp2 logged is in the file err.
get() {
    local bytes=$1
    shift
    rm -rf down
    mkdir down
    timeout 240 gtlsclient -q --exit-on-all-streams-close --download down "$@" ::1 "$port" \
        "https://localhost:$port/$bytes" >out 2>err || fail "gtlsclient $*: exit code $?"
    [ "$(stat -c %s "down/$bytes")" = "$bytes" ] || fail "gtlsclient $*: not $bytes bytes"
}

say "ngtcp2's client: versions"
start --qlog .
get 3000000
get 1000 --version=$V2 --available-versions=$V2
get 1000 --version=$V1 --preferred-versions=$V2,$V1 --available-versions=$V1,$V2
stop
versions() { # of the connections, in their order, by our logs
    python3 - <<'PY'
import glob, json
for path in sorted(glob.glob("*-server.sqlog")):
    for r in open(path).read().split("\x1e")[1:]:
        e = json.loads(r)
        if e.get("name") == "quic:version_information":
            print(int(e["data"]["chosen_version"], 16) == 1 and 1 or 2, end="")
PY
    rm -f ./*-server.sqlog
}
[ "$(versions)" = 121 ] || fail "the versions with our default"
start --qlog . --quic 2,1
get 1000 --version=$V1 --preferred-versions=$V2,$V1 --available-versions=$V1,$V2
get 1000 --version=$V1 --available-versions=$V1
stop
[ "$(versions)" = 21 ] || fail "the versions with a server that prefers 2"
start --qlog . --quic 1
get 1000 --version=$V2 --preferred-versions=$V1,$V2 --available-versions=$V1,$V2
stop
[ "$(versions)" = 1 ] || fail "the version after a Version Negotiation packet"

say "ngtcp2's client: Retry"
start --retry
for v in $V1 $V2; do
    get 1000 --version=$v --available-versions=$v --qlog-file "$dir/client.qlog"
    grep -q '"packet_type":"retry"' client.qlog || fail "no Retry in version $v"
done
stop

say "ngtcp2's client: key update, another address"
frames() { # WHICH: how many of them there are in our logs
    cat ./*-server.sqlog | grep -oE "$1" | wc -l
    rm -f ./*-server.sqlog
}
start --qlog .
get 200000000 --key-update=50ms
stop
[ "$(frames '"key_type":"client_1rtt_secret","trigger":"remote_update","key_phase":1')" = 1 ] ||
    fail "no key update"
proofs='"name":"quic:packet_received".*"frame_type":"path_response"' # to our PATH_CHALLENGE
# As behind an address translator, and as a client that proves the way before it goes.
for how in --nat-rebinding ""; do
    start --qlog .
    get 3000000 --delay-stream=600ms --change-local-addr=300ms ${how:+"$how"}
    stop
    answers=$(cat ./*-server.sqlog | grep -c '"name":"quic:packet_sent".*"frame_type":"path_response"' || true)
    # One for each challenge: a client that is slow gets a second one.
    [ "$(frames "$proofs")" -ge 1 ] || fail "the client has not moved ${how:-by itself}"
    [ -n "$how" ] || [ "$answers" -ge 1 ] || fail "the probe was not answered"
done

say "ngtcp2's client: a preferred address"
other=$(free_port)
start --preferred "[::1]:$other" --qlog .
get 20000000
stop
[ "$(frames "$proofs")" -ge 1 ] || fail "the client has not moved to the preferred address"
start --preferred "[::1]:$other" --qlog .
get 1000 --no-preferred-addr
stop
[ "$(frames "$proofs")" = 0 ] || fail "the client was to stay"

# ---- our client, ngtcp2's server ------------------------------------------------------------------

mkdir htdocs
head -c 5000000 /dev/zero >htdocs/five
head -c 1000 /dev/zero >htdocs/small
serve() { # ARG...
    port=$(free_port)
    /usr/sbin/gtlsserver -q -d htdocs "$@" ::1 "$port" key.pem cert.pem \
        >server.log 2>&1 &
    pid=$!
    pids+=($pid)
    until_true listening
}
listening() { ss -Hlun "sport = :$port" | grep -q .; }
end() {
    kill "$pid"
    wait "$pid" 2>/dev/null || true
}
# ask PATH VERSIONS WANTED [ARG...]: WANTED is a Python expression over the probe's answer.
ask() {
    local path=$1 versions=$2 want=$3
    shift 3
    timeout 240 "$probe" "$port" cert.pem "$path" "$versions" "$@" >out 2>err ||
        fail "the probe: $path $versions $*"
    python3 -c 'import json, sys
a = json.load(open("out"))
assert eval(sys.argv[1], {}, a), a' "$want" || fail "$path $versions $*: not $want"
}

say "ngtcp2's server: transfer, key update, versions"
serve --available-versions=$V1,$V2
ask /five 1,2 'bytes > 5000000 and version == 1 and key_updates == 0'
ask /five 1 'bytes > 5000000 and key_updates == 1' keys
ask /five 2 'bytes > 5000000 and version == 2 and key_updates == 1' keys
end
serve --preferred-versions=$V2,$V1 --available-versions=$V1,$V2
ask /small 1,2 'bytes > 1000 and version == 2'
ask /small 1 'bytes > 1000 and version == 1'
end

say "ngtcp2's server: Retry, in both versions"
serve -V
ask /small 1 'bytes > 1000 and version == 1'
ask /small 2 'bytes > 1000 and version == 2'
end

say "ngtcp2's server: our client moves, and changes keys meanwhile"
head -c 20000000 /dev/zero >htdocs/twenty
serve
ask /twenty 1,2 'bytes > 20000000 and moved >= 3 and stayed == 0 and key_updates == 1' move keys
end

say "ngtcp2's server: a preferred address"
other=$(free_port)
serve --preferred-ipv6-addr="[::1]:$other"
ask /five 1,2 'bytes > 5000000 and at_preferred'
ask /five 1,2 'bytes > 5000000 and not at_preferred' stay
ask /twenty 1,2 'bytes > 20000000 and at_preferred and moved >= 2 and stayed == 0' move
end
say "passed"
