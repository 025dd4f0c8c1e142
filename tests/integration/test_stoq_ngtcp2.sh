#!/bin/bash
# Our client at ngtcp2's server: resumption and early data.
#   test_stoq_ngtcp2.sh STOQ_PROBE
set -euo pipefail
probe=$(realpath "$1")
if ! command -v gtlsserver >/dev/null; then
    echo "gtlsserver is not installed (deploy/setup.sh interop)"
    exit 77
fi
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
logs=(server.log out)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem \
    -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,digitalSignature,keyCertSign \
    2>/dev/null
mkdir htdocs
head -c 20000 /dev/zero >htdocs/index.html
port=$(free_port)
gtlsserver -d htdocs ::1 "$port" key.pem cert.pem >server.log 2>&1 &
pid=$!
pids=($pid)
listens() {
    kill -0 $pid || fail "the server ended at its start"
    ss -Hlun | grep ":$port " >/dev/null
}
until_true listens
answer() { # WANTED
    "$probe" "$port" cert.pem session >out || fail "the probe at \"$1\""
    read -r how early bytes <out
    [ "$how $early" = "$1" ] || fail "\"$how $early\", not \"$1\""
    [ "$bytes" -ge 20000 ] || fail "$bytes bytes of an answer"
}
answer 'whole none'
answer 'resumed accepted'
answer 'resumed accepted'
echo passed
