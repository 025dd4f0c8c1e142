#!/bin/bash
# Our client at ngtcp2's server: resumption and early data.
#   test_stoq_ngtcp2.sh STOQ_PROBE
set -euo pipefail
probe=$(realpath "$1")
if ! command -v gtlsserver >/dev/null; then
    echo "gtlsserver is not installed (deploy/setup.sh interop)"
    exit 77
fi
work=$(mktemp -d)
cd "$work"
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
fail() {
    echo "FAILED: $*" >&2
    tail -n 20 server.log out >&2 || true
    exit 1
}
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem \
    -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,digitalSignature,keyCertSign \
    2>/dev/null
mkdir htdocs
head -c 20000 /dev/zero >htdocs/index.html
port=$(python3 -c '
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.bind(("::1", 0))
print(s.getsockname()[1])')
gtlsserver -d htdocs ::1 "$port" key.pem cert.pem >server.log 2>&1 &
pid=$!
until ss -Hlun | grep -q ":$port "; do
    kill -0 $pid || fail "the server ended at its start"
    sleep 0.1
done
says() { # WANTED
    "$probe" "$port" cert.pem session >out || fail "the probe at \"$1\""
    read -r how early bytes <out
    [ "$how $early" = "$1" ] || fail "\"$how $early\", not \"$1\""
    [ "$bytes" -ge 20000 ] || fail "$bytes bytes of an answer"
}
says 'whole none'
says 'resumed accepted'
says 'resumed accepted'
echo passed
