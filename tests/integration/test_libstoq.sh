#!/usr/bin/env bash
# libstoq as a stranger has it: installed elsewhere, found by pkg-config; what it shows, and the
# examples, built against that copy alone and run against each other over ::1.
# $1: build folder; $2: source folder.
set -euo pipefail
build=$(realpath "$1") source=$(realpath "$2")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
logs=(out err server.err)
# As in lib.sh, but a program that hangs ends.
code() {
    local want=$1 rc=0
    shift
    timeout 240 "$@" >out 2>err || rc=$?
    [ $rc = "$want" ] || fail "exit code $rc, not $want: $*"
}
says() { until_true grep -q -- "$1" out err server.err; } # the server may say it later than the client ends

say "installed into a folder of its own"
meson install -C "$build" --no-rebuild --destdir "$dir/root" >out 2>err || fail "meson install"
pc=$(find "$dir/root" -name stoq.pc)
[ -n "$pc" ] || fail "no stoq.pc"
lib=$(dirname "$(dirname "$pc")") prefix=${pc%/lib*}
export PKG_CONFIG_PATH=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$dir/root LD_LIBRARY_PATH=$lib
[ "$(pkg-config --modversion stoq)" = "$(readlink -f "$lib/libstoq.so" | sed 's/.*\.so\.//')" ] ||
    fail "pkg-config and the library disagree on the version"
# Not by a pipe: objdump would fail where grep has seen enough.
grep -q 'SONAME *libstoq\.so\.[0-9]*$' < <(objdump -p "$lib/libstoq.so") || fail "no SONAME"

say "visible is what the headers declare, and nothing else"
nm -D --defined-only "$lib/libstoq.so" | awk '$2 != "A" {sub(/@.*/, "", $3); print $3}' | sort >visible
for h in base stoq stoq_bundle stoq_group stoq_tls; do
    echo "#include <hypermesh/$h.h>" >one.c # each stands on its own
    # shellcheck disable=SC2046
    gcc -std=c17 -Wall -Wextra -Wpedantic -Werror -fsyntax-only one.c $(pkg-config --cflags stoq) 2>err ||
        fail "hypermesh/$h.h"
    # Neither comments nor the bodies of inline functions declare anything.
    sed 's,//.*,,; /^    return/d' "$prefix/include/hypermesh/$h.h" | tr '\n' ' ' |
        grep -oE '\b(stoq|hm)_[a-z0-9_]+\([^{;]*\);' | sed 's/(.*//'
done | sort -u >declared
[ "$(wc -l <declared)" -gt 50 ] || fail "the declarations were not found"
diff declared visible >out || fail "declared (<) and visible (>) differ"

say "the examples, warnings are errors"
for e in "$source"/examples/*.c; do
    # shellcheck disable=SC2046
    gcc -std=gnu17 -O1 -g -Wall -Wextra -Werror -o "$(basename "$e" .c)" "$e" \
        $(pkg-config --cflags --libs stoq) 2>err || fail "$e"
done
for name in server client other; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $name.key \
        -out $name.crt -days 2 -subj "/CN=$name" -addext "subjectAltName=IP:::1" 2>err || fail "openssl"
    chmod 600 $name.key
done

# start ARG...: echo_server under valgrind; its port goes to $port.
start() {
    : >server.out
    valgrind -q --leak-check=full --errors-for-leak-kinds=definite --error-exitcode=99 \
        ./echo_server 0 server.crt server.key "$@" >server.out 2>server.err &
    pid=$!
    pids=($pid)
    until_true listens
}
listens() {
    kill -0 $pid 2>/dev/null || fail "the server ended at its start"
    port=$(sed -n 's/^port //p' server.out)
    [ -n "$port" ]
}
stop() {
    local rc=0
    kill -TERM $pid
    wait $pid || rc=$?
    pids=()
    [ $rc = 0 ] || fail "exit code $rc of the server"
    ! grep -q '^==' server.err || fail "valgrind complains"
}

say "they talk"
start
code 0 ./echo_client ::1 "$port" server.crt 'hello, mesh'
[ "$(cat out)" = 'hello, mesh' ] || fail "not what was said"
says X25519MLKEM768
head -c 20000000 /dev/urandom >file
code 0 ./send_file ::1 "$port" server.crt file
says '^20000000 bytes lent, 20000000 returned, 20000000 the same$'
code 0 ./datagrams ::1 "$port" server.crt 200
says '^200 sent, '

say "what goes wrong is told"
code 1 ./echo_client ::1 "$port" other.crt x; says 'certificate'
code 1 ./echo_client ::1 "$port" nosuch.crt x; says 'nosuch.crt'
code 2 ./echo_client 127.0.0.1 "$port" server.crt x; says 'no IPv6 address'
code 1 ./echo_server "$port" server.crt server.key; says 'another program has this port'
code 1 ./echo_server 0 server.crt client.key; says 'not for its key'
stop

say "certificates on both sides"
start client.crt
code 0 ./echo_client ::1 "$port" server.crt 'hello' client.crt client.key
code 1 ./echo_client ::1 "$port" server.crt 'hello'; says 'no certificate was presented'
code 1 ./echo_client ::1 "$port" server.crt 'hello' other.crt other.key; says 'client is refused'
stop
say "passed"
