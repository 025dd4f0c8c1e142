#!/usr/bin/env bash
# A client with two links to its server moves from one to the other while a stream goes there and
# back, and each link is cut when it is no longer wanted, or before. In two network namespaces of
# this test's own.
# $1: migrate_probe; $2: echo_server of examples/.
set -euo pipefail
probe=$(realpath "$1") server=$(realpath "$2")
skip() { echo "SKIPPED: $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root"
a=hm-move-$$-a b=hm-move-$$-b
ip netns add $a 2>/dev/null || skip "no network namespaces here"
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
trap 'cleanup; ip netns del $a; ip netns del $b 2>/dev/null' EXIT
logs=(server.log err)
ip netns add $b
# The server is at fd02::1 and listens at ::, so that it must answer from there: the kernel would choose
# the link's address. From each of the client's two links there is a way of its own to it.
ip -n $a link set lo up
ip -n $b link set lo up
ip -n $a addr add fd02::1/128 dev lo nodad
for n in 0 1; do
    ip -n $a link add v$n type veth peer name w$n netns $b
    ip -n $a addr add fd0$n::1/64 dev v$n nodad noprefixroute
    ip -n $b addr add fd0$n::2/64 dev w$n nodad
    ip -n $a link set v$n up
    ip -n $b link set w$n up
    ip -n $a route add fd0$n::/64 dev v$n
    ip -n $b route add fd02::1 via fd0$n::1 dev w$n table $((100 + n))
    ip -6 -n $b rule add from fd0$n::/64 table $((100 + n))
done
ip -n $b addr add fd01::3/64 dev w1 nodad
# Nobody has a way back to this one.
ip -n $b addr add fd09::2/128 dev lo nodad
ip -n $b route add fd02::1 via fd01::1 dev w1

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem \
    -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost 2>err
chmod 600 key.pem
ip netns exec $a "$server" 4433 cert.pem key.pem >server.log 2>&1 &
pids+=($!)
until_true grep -q '^port 4433' server.log

coproc client { exec ip netns exec $b "$probe" fd02::1 4433 cert.pem fd00::2 40000000 2>err; }
pids+=("$client_PID")
said() { # WANTED
    local line
    read -r -t 180 line <&"${client[0]}" || fail "nothing, not \"$1\""
    [ "$line" = "$1" ] || fail "\"$line\", not \"$1\""
}
order() { echo "$1" >&"${client[1]}"; }
received() { ip netns exec $b cat "/sys/class/net/$1/statistics/rx_bytes"; }

say "from one link to the other, then the first is cut"
said 'at 1'
order fd01::2
said moved
ip -n $b addr del fd00::2/64 dev w0
ip -n $b link set w0 down
before=$(received w1)
order go

say "an address that is gone already is left"
said 'at 2'
[ "$(received w1)" -gt "$before" ] || fail "nothing more came by the second link"
ip -n $b addr del fd01::2/64 dev w1
order fd01::3
said moved

say "where nobody answers it does not go"
order fd09::2
said stayed
order go
said same # it went on meanwhile
say passed
