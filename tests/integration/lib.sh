# Sourced by tests that run programs of ours, before anything else but the paths of their arguments:
# a folder of its own that goes with the test and with what it started, and words for what is
# expected. Files whose ends are shown when something fails: $logs.
# shellcheck shell=bash
dir=$(mktemp -d)
pids=() # killed at the end
logs=(server.log out err)
cleanup() {
    for p in ${pids[@]+"${pids[@]}"}; do kill -9 "$p" 2>/dev/null || true; done
    rm -rf "$dir"
}
trap cleanup EXIT
cd "$dir"
for v in $(compgen -e | grep -E '^(HYPERMESH|TRUSTCHAIN|STOQ)_'); do unset "$v"; done

say() { echo "test: $*"; }
fail() {
    echo "FAILED: $*" >&2
    tail -n 20 "${logs[@]}" >&2 2>/dev/null || true
    exit 1
}
# code WANTED COMMAND...: the exit code is that; output in the files out and err.
code() {
    local want=$1 rc=0
    shift
    "$@" >out 2>err || rc=$?
    [ $rc = "$want" ] || fail "exit code $rc, not $want: $*"
}
says() { grep -q -- "$1" out err || fail "no word of \"$1\""; }
# until_true COMMAND...: for at most three minutes, which only end a test that would wait for ever. What
# takes long is asked for less often, down to once a second: each time costs the other tests.
until_true() {
    local end=$((SECONDS + 180)) ms=50
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "not within three minutes: $*"
        pause $ms
        ms=$((ms < 667 ? ms * 3 / 2 : 1000))
    done
}
# pause MILLISECONDS: without starting a program
exec {never}<> <(:) # where nothing is ever to be read
pause() {
    local seconds
    printf -v seconds '%d.%03d' $(($1 / 1000)) $(($1 % 1000))
    read -rt "$seconds" -u "$never" || true
}
# issuing_name FAMILY CERTIFICATE: how the addresses of that issuing CA's lists begin. $module: falcon.so's
# folder.
issuing_name() {
    local p=(-provider-path "$module" -provider falcon -provider default)
    echo "$1-$(openssl x509 "${p[@]}" -in "$2" -noout -pubkey | openssl pkey "${p[@]}" -pubin -outform DER |
        sha256sum | cut -c 1-16)"
}
# free_port [tcp]: of UDP, or of TCP; below those that the kernel gives to whoever asks for any, so
# that it is still free when it is used, and used again after a restart.
free_port() {
    python3 -c 'import random, socket, sys
kind = socket.SOCK_STREAM if sys.argv[1] == "tcp" else socket.SOCK_DGRAM
while True:
    port = random.randrange(10000, 32000)
    with socket.socket(socket.AF_INET6, kind) as s:
        try:
            s.bind(("::1", port))
        except OSError:
            continue
        print(port)
        break' "${1:-udp}"
}
