# shellcheck shell=bash
# What the tests of a changing issuing key share, after lib.sh. Set before: $server, $hypermesh, $family
# (mesh or edge), $profile (of the certificates), P (options of every openssl command), $api, $port and
# $public (the server's addresses).
# shellcheck disable=SC2034,SC2154
o() { local command=$1; shift; openssl "$command" "${P[@]}" "$@"; }

# ---- the server ---------------------------------------------------------------------------------

running() {
    kill -0 $pid 2>/dev/null || fail "the server ended at its start"
    grep -q '"running"' server.log
}
start() { # DIR
    data=$1
    : >server.log
    "$server" run --dir "$data" --listen "[::1]:$api" --public-listen "[::1]:$port" \
        --public-url "$public" >server.out 2>server.log &
    pid=$!
    pids+=($pid)
    until_true running
    export HYPERMESH_AUTHORITY=https://[::1]:$api HYPERMESH_CA=$data/edge-root.crt
    export HYPERMESH_TOKEN_FILE=$data/api.token
}
stop() {
    kill -TERM $pid
    wait $pid || fail "exit code $? after SIGTERM"
}
killed() {
    kill -9 $pid
    wait $pid 2>/dev/null || true
    start "$data"
}
get() { curl -sSg --fail -m 120 --cacert "$data/edge-root.crt" "https://[::1]:$api$1" "${@:2}"; }
post() { # PATH BODY
    get "$1" -H 'Content-Type: application/json' -H "Authorization: Bearer $(cat "$data/api.token")" \
        --data-binary "$2" >answer
}
field() { python3 -c 'import json, sys; print(json.load(open("answer"))[sys.argv[1]])' "$1"; }
lines() { "$server" issuing list --dir "$data"; }
live() { lines | sed -n "s/^$family $1 .* live \([0-9]*\) .*/\1/p"; }

# ---- certificates -------------------------------------------------------------------------------

# certify NAME [SECONDS]: of NAME.csr NAME.crt with its chain, and NAME.serial
certify() {
    post /v1/certificates "$(python3 -c 'import json, sys
print(json.dumps({"profile": sys.argv[1], "csr": open(sys.argv[2]).read(), "life_seconds": int(sys.argv[3])}))' \
        "$profile" "$1.csr" "${2:-86400}")"
    field chain >"$1.crt"
    field serial >"$1.serial"
}
revoke() { post "/v1/certificates/$(cat "$1.serial")/revoke" '{"reason":"keyCompromise"}'; }
by() { o x509 -in "$1.crt" -noout -issuer | grep -q "$family issuing $2"; } # NAME ID

# Issues for NAME.csr one after the other, until no_more.
keep_issuing() {
    cat >loop.sh <<'LOOP'
set -euo pipefail
n=0
while [ ! -e enough ]; do
    curl -sSg --fail --cacert data/edge-root.crt -H "Authorization: Bearer $(cat data/api.token)" \
        -H 'Content-Type: application/json' --data-binary @body "https://[::1]:$1/v1/certificates" >"issued.$n"
    n=$((n + 1))
    echo $n >issued
done
LOOP
    python3 -c 'import json, sys
print(json.dumps({"profile": sys.argv[1], "csr": open(sys.argv[2]).read()}))' "$profile" "$1.csr" >body
    bash loop.sh "$api" 2>loop.err &
    loop=$!
    pids+=($loop)
}
some() { [ -e issued ] && [ "$(cat issued)" -ge "$1" ]; }
more() { until_true some $(($(cat issued) + $1)); }
# None was refused, each is good, and the issuing CA changed once, from the first to the last.
no_more() {
    touch enough
    wait $loop || { cat loop.err >&2; fail "a request failed"; }
    python3 - "data/$family-root.crt" "${P[@]}" <<'PY'
import json, glob, re, subprocess, sys
seen = []
for i in range(len(glob.glob("issued.[0-9]*"))):
    chain = json.load(open(f"issued.{i}"))["chain"]
    open("chain.pem", "w").write(chain)
    subprocess.run(["openssl", "verify", *sys.argv[2:], "-CAfile", sys.argv[1], "-untrusted", "chain.pem", "chain.pem"],
                   check=True, stdout=subprocess.DEVNULL)
    seen.append(re.findall("-BEGIN CERT.*?-END", chain, re.S)[1])
turn = seen.index(seen[-1])
assert 0 < turn < len(seen) and seen == [seen[0]] * turn + [seen[-1]] * (len(seen) - turn), turn
assert seen[0] != seen[-1]
PY
}

# ---- lists of revocations -----------------------------------------------------------------------

# place CERTIFICATE END: an address that a certificate names
place() {
    o x509 -in "$1" -noout -text | sed -n 's/^.*URI://p' | grep -F "$public/" | grep -E -- "$2\$" | head -n1
}
# lists NAME: what NAME's certificate points at, fetched there: NAME.ca, .crl, .delta (PEM)
lists() {
    local l
    curl -sSg --fail "$(place "$1.crt" '\.crt')" | o x509 -inform DER -out "$1.ca"
    curl -sSg --fail "$(place "$1.crt" '[0-9a-f]\.crl')" >"$1.crl.der"
    curl -sSg --fail "$(place "$1.crt" '-delta\.crl')" >"$1.delta.der"
    for l in crl delta; do
        o crl -inform DER -in "$1.$l.der" -CAfile "$1.ca" -out "$1.$l" 2>out
        says 'verify OK'
    done
}
number() { echo $((16#$(o crl -in "$1" -noout -crlnumber | sed 's/.*=0*x*//'))); }
# expect WORD NAME OPTION...: what openssl says of it with these lists
expect() {
    local got=refused
    if o verify -CAfile "$data/$family-root.crt" -untrusted "$2.ca" -crl_check "${@:3}" "$2.crt" >out 2>&1; then
        got=good
    elif grep -q 'certificate revoked' out; then
        got=revoked
    fi
    [ "$got" = "$1" ] || fail "${*:2}: $got, not $1"
}
ocsp() { # NAME WORD
    o ocsp -issuer "$1.ca" -CAfile "$data/$family-root.crt" -cert "$1.crt" -url "$public/ocsp" >out 2>err ||
        fail "OCSP of $1"
    says "Response verify OK"
    says "$1.crt: $2"
}
# issued_by NAME CERTIFICATE: what the server says of it, also when that CA issues no more
issued_by() {
    get "/v1/certificates/$(cat "$1.serial")" | python3 -c 'import json, sys
print(json.load(sys.stdin)["issuing"], end="")' | cmp - "$2" || fail "another CA than its own"
}
# two_keys FIRST: old and new are of two keys, FIRST the old one's; oldgone is revoked, and old.base is the
# old one's list of then. Each key has lists, deltas and OCSP answers of its own.
two_keys() {
    local name n root=data/$family-root.crt
    for name in new newgone newlater; do issue $name; done
    for name in old new; do
        o verify -CAfile "$root" -untrusted $name.crt $name.crt >out
        "$hypermesh" cert verify $name.crt --root "$root" >out
        "$hypermesh" log verify --cert $name.crt >out || fail "$name in the log"
    done
    lists new; cp new.crl new.base
    cmp <(curl -sSg --fail "$public/crl/$family.crl") new.crl.der || fail "/crl/$family.crl is not the present one's"
    get "/v1/crl?family=$family" | cmp - new.crl.der || fail "/v1/crl is not the present one's"
    get "/v1/crl?family=$family&issuing=$1" | cmp - old.crl.der || fail "/v1/crl of the old one"
    [ "$(number new.crl)" -gt "$(number old.crl)" ] || fail "the number of /crl/$family.crl went back"
    revoke newgone
    revoke oldlater
    revoke newlater
    for name in old new; do
        lists $name
        for n in gone later; do cp $name.ca $name$n.ca; done
        expect good $name -CRLfile $name.crl
        expect revoked ${name}gone -CRLfile $name.crl
        expect revoked ${name}later -CRLfile $name.crl
        expect good ${name}later -CRLfile $name.base # the delta has it
        expect revoked ${name}later -use_deltas -extended_crl -CRLfile $name.base -CRLfile $name.delta
        expect good $name -use_deltas -extended_crl -CRLfile $name.base -CRLfile $name.delta
        ocsp $name good
        ocsp ${name}gone revoked
        code 1 "$hypermesh" cert verify ${name}gone.crt --root "$root" --crl $name.crl.der; says revoked
        "$hypermesh" cert verify $name.crt --root "$root" --crl $name.crl.der >out
    done
    expect refused old -CRLfile new.crl # it says nothing of the other's
    expect refused new -CRLfile old.crl
    o crl -in old.crl -noout -text >out
    [ "$(grep -c 'Serial Number' out)" = 2 ] || fail "the old list has the new one's"
    o ocsp -issuer new.ca -CAfile "$root" -serial "0x$(cat old.serial)" -url "$public/ocsp" >out 2>err
    says ': unknown'
    issued_by old old.ca
}
