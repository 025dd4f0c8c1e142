#!/usr/bin/env bash
# Delta revocation lists (RFC 5280, 5.2.4), read and used by openssl: what is only in the delta counts
# for who uses deltas. $1: folder with falcon.so; $2: trustchain-server; $3: hypermesh.
set -euo pipefail
module=$(realpath "$1") server=$(realpath "$2") hypermesh=$(realpath "$3")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
: >err

P=(-provider-path "$module" -provider falcon -provider default)
o() { local command=$1; shift; openssl "$command" "${P[@]}" "$@"; }
running() {
    kill -0 $pid 2>/dev/null || { cat server.log >&2; fail "the server ended at its start"; }
    grep -q '"running"' server.log
}
start() {
    : >server.log
    "$server" run --dir data --listen "[::1]:$api" --public-listen "[::1]:$port" \
        --public-url "$public" >server.out 2>server.log &
    pid=$!
    pids=($pid)
    until_true running
}
api() { curl -sS -g --fail --cacert data/edge-root.crt "https://[::1]:$api$1" "${@:2}"; }
post() { # PATH BODY
    api "$1" -H "Authorization: Bearer $(cat data/api.token)" -H 'Content-Type: application/json' \
        --data-binary "$2" >answer
}
field() { python3 -c 'import json, sys; print(json.load(open("answer"))[sys.argv[1]])' "$1"; }
# issue FAMILY NAME: NAME.key, NAME.crt and NAME.serial
issue() {
    if [ "$1" = mesh ]; then
        o genpkey -algorithm falcon1024 -out "$2.key"
        o req -new -key "$2.key" -subj "/CN=$2" -out "$2.csr"
        profile=node
    else
        openssl ecparam -name prime256v1 -genkey -noout -out "$2.key"
        openssl req -new -key "$2.key" -subj / -addext "subjectAltName=DNS:$2.test" -out "$2.csr"
        profile=server
    fi
    post /v1/certificates "$(python3 -c 'import json, sys
print(json.dumps({"profile": sys.argv[1], "csr": open(sys.argv[2]).read()}))' $profile "$2.csr")"
    field chain >"$2.crt"
    field serial | tr a-f A-F >"$2.serial"
}
revoke() { post "/v1/certificates/$(cat "$1.serial")/revoke" "{\"reason\":\"${2:-superseded}\"}"; }
# list FAMILY[-delta] OUT: as DER and PEM, the signature checked by openssl, and its text
list() {
    curl -sSg --fail "$public/crl/$1.crl" >"$2.der"
    o crl -inform DER -in "$2.der" -CAfile "${1%-delta}-ca.pem" -out "$2.pem" 2>out
    says 'verify OK'
    o crl -in "$2.pem" -noout -text >"$2.text"
}
lines_after() { grep -A1 "$2" "$1" | tail -n1 | tr -d ' '; }
number() { lines_after "$1.text" 'X509v3 CRL Number'; }
base() { lines_after "$1.text" 'X509v3 Delta CRL Indicator: critical'; }
has() { grep -q "Serial Number: $(cat "$2.serial")" "$1.text"; }
# judge FAMILY NAME OPTION...: what openssl says of the certificate by these lists
judge() {
    local f=$1 name=$2
    shift 2
    if o verify -CAfile "data/$f-root.crt" -untrusted $f-ca.pem -crl_check "$@" "$name.crt" >out 2>&1; then
        echo good
    elif grep -q 'certificate revoked' out; then
        echo revoked
    else
        cat out >&2
        echo refused
    fi
}
expect() { # WORD FAMILY NAME OPTION...
    local word=$1 got
    shift
    got=$(judge "$@")
    [ "$got" = "$word" ] || fail "$*: $got, not $word"
}
deltas=(-use_deltas -extended_crl)

"$server" init --dir data --mesh test >init.log
api=$(free_port tcp) port=$(free_port tcp) public="http://[::1]:$port"
start
for f in mesh edge; do
    curl -sSg --fail "$public/ca/$f.crt" | o x509 -inform DER -out $f-ca.pem
    ca=$(issuing_name $f $f-ca.pem)
    for name in old new later kept; do
        issue $f $f-$name
    done
    revoke $f-old keyCompromise

    say "$f: the first list is the base, its delta has nothing"
    list $f base; list $f-delta d1
    [ "$(number base)" = "$(number d1)" ] && [ "$(base d1)" = "$(number base)" ] || fail "numbers"
    has base $f-old || fail "not in the list"
    grep -q 'No Revoked Certificates' d1.text || fail "the first delta has something"
    grep -qF "URI:$public/crl/$ca-delta.crl" base.text || fail "the list does not say where its delta is"
    grep -q 'X509v3 Freshest CRL' base.text || fail "no freshest CRL"
    grep -q 'Freshest' d1.text && fail "a delta names a delta"
    o x509 -in $f-new.crt -noout -ext freshestCRL >out
    grep -qF "URI:$public/crl/$ca-delta.crl" out || fail "the certificate does not say where deltas are"
    expect revoked $f $f-old "${deltas[@]}" -CRLfile base.pem -CRLfile d1.pem
    expect good $f $f-new "${deltas[@]}" -CRLfile base.pem -CRLfile d1.pem

    say "$f: revoked in the delta alone"
    revoke $f-new keyCompromise
    list $f-delta d2
    [ "$(base d2)" = "$(number base)" ] || fail "another base"
    [ "$((16#$(number d2 | sed s/^0x//)))" = "$((16#$(number base | sed s/^0x//) + 1))" ] || fail "another number"
    has d2 $f-new && ! has d2 $f-old || fail "the delta's entries"
    grep -q 'Key Compromise' d2.text || fail "no reason"
    expect revoked $f $f-new "${deltas[@]}" -CRLfile base.pem -CRLfile d2.pem
    expect revoked $f $f-old "${deltas[@]}" -CRLfile base.pem -CRLfile d2.pem
    expect good $f $f-kept "${deltas[@]}" -CRLfile base.pem -CRLfile d2.pem
    expect good $f $f-new -CRLfile base.pem # it is the delta that says so
    expect refused $f $f-kept "${deltas[@]}" -CRLfile d2.pem 2>/dev/null # alone it says nothing

    say "$f: the full list of the same time says the same"
    list $f full
    [ "$(number full)" = "$(number d2)" ] || fail "number"
    has full $f-old && has full $f-new || fail "the full list lacks one"
    expect revoked $f $f-new -CRLfile full.pem
    # Whoever has a list from between the base and the delta may use that.
    revoke $f-later
    list $f-delta d3
    has d3 $f-new && has d3 $f-later && ! has d3 $f-old || fail "the next delta's entries"
    expect revoked $f $f-later "${deltas[@]}" -CRLfile full.pem -CRLfile d3.pem
    expect good $f $f-later -CRLfile full.pem
    expect good $f $f-kept "${deltas[@]}" -CRLfile full.pem -CRLfile d3.pem

    say "$f: by the API"
    api "/v1/crl?family=$f&delta=1" | cmp - d3.der || fail "another delta"
    api "/v1/crl?family=$f&delta=0" >full3.der
    curl -sSg --fail "$public/crl/$f.crl" | cmp - full3.der || fail "another list"
    [ "$(curl -sSg --cacert data/edge-root.crt "https://[::1]:$api/v1/crl?delta=2" -o out -w '%{http_code}')" = 400 ] ||
        fail "delta=2"
    mv d3.der $f-d3.der
    cp full3.der $f-full3.der

    say "$f: a delta is no list to our own checks"
    rc=0
    "$hypermesh" cert verify $f-kept.crt --root data/$f-root.crt --crl $f-d3.der >out 2>&1 || rc=$?
    [ $rc != 0 ] && grep -q 'not a whole revocation list' out || { cat out >&2; fail "exit code $rc"; }
    "$hypermesh" cert verify $f-kept.crt --root data/$f-root.crt --crl $f-full3.der >out
done

say "a question that waits is answered with the delta"
n=$((16#$(o crl -inform DER -in edge-full3.der -noout -crlnumber | sed 's/.*=0*x*//')))
api "/v1/crl?family=edge&delta=1&after=$n&wait=60" >waited.der &
waiting=$!
waits() { api /metrics >metrics; grep -q '^hm_trust_crl_waiters 1$' metrics; }
until_true waits
revoke edge-kept
wait $waiting || fail "the question"
cmp <(curl -sSg --fail "$public/crl/edge-delta.crl") waited.der || fail "another delta"

say "all of it is there after kill -9"
kill -9 $pid
wait $pid 2>/dev/null || true
start
curl -sSg --fail "$public/crl/mesh.crl" | cmp - mesh-full3.der || fail "another list"
curl -sSg --fail "$public/crl/mesh-delta.crl" | cmp - mesh-d3.der || fail "another delta"
curl -sSg --fail "$public/crl/edge-delta.crl" | cmp - waited.der || fail "another delta"
kill -TERM $pid
wait $pid || fail "exit code $?"
say "passed"
