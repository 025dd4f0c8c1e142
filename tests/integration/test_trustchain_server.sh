#!/usr/bin/env bash
# trustchain-server as it runs: made, asked by curl, openssl and hypermesh, killed and started
# again. $1: folder with falcon.so; $2: trustchain-server; $3: hypermesh; $4: enroll_probe.
set -euo pipefail
module=$(realpath "$1") server=$(realpath "$2") hypermesh=$(realpath "$3")
probe=$(realpath "$4")
docs=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../../docs/authority.md")
dir=$(mktemp -d)
pid=
cleanup() {
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT
cd "$dir"

say() { echo "test: $*"; }
fail() { echo "FAILED: $*" >&2; tail -n 20 server.log >&2 2>/dev/null || true; exit 1; }
P=(-provider-path "$module" -provider falcon -provider default)
o() { local command=$1; shift; openssl "$command" "${P[@]}" "$@"; }

# The sockets that process $1 listens on: "FAMILY PORT". By ss, which asks the kernel for them one by
# one: lines of /proc/net/tcp6 go missing while other programs open and close sockets.
listening() {
    ss -Hlntp | awk -v p="pid=$1," 'index($0, p) {
        n = split($4, at, ":"); print ($4 ~ /^\[/ ? "tcp6" : "tcp"), at[n]}'
}
# The port comes from the kernel: the only listening socket of the server.
start() {
    local n=0
    : >server.log # the line of the run before is no answer
    "$server" run --dir data --listen '[::1]:0' "$@" >server.out 2>server.log &
    pid=$!
    until grep -q '"running"' server.log; do
        kill -0 $pid 2>/dev/null || fail "the server ended at its start"
        n=$((n + 1))
        [ $n -lt 1800 ] || fail "the server does not start"
        sleep 0.1
    done
    [ "$(listening $pid | wc -l)" = 1 ] || fail "not exactly one listening socket"
    [ "$(listening $pid | cut -d' ' -f1)" = tcp6 ] || fail "an IPv4 socket listens"
    url="https://[::1]:$(listening $pid | cut -d' ' -f2)"
}
# get PATH [CURL ARG...], post PATH BODY: the status goes to $status, the answer to the file "answer".
get() {
    local path=$1
    shift
    status=$(curl -sS -g --cacert data/edge-root.crt -o answer -w '%{http_code}' "$@" "$url$path")
}
post() {
    get "$1" -H "Authorization: Bearer $(cat data/api.token)" -H 'Content-Type: application/json' \
        --data-binary "$2"
}
expect() { [ "$status" = "$1" ] || { cat answer >&2; fail "$2: status $status, not $1"; }; }
field() { python3 -c 'import json, sys; print(json.load(open("answer"))[sys.argv[1]])' "$1"; }
refused() { # NAME STATUS WORDS: an answer that says clearly what is wrong
    expect "$2" "$1"
    python3 -c 'import json; e = json.load(open("answer"))["error"]; print(e["detail"])' |
        grep -q -- "$3" || { cat answer >&2; fail "$1: the answer does not say \"$3\""; }
}
request() { # PROFILE CSR-FILE
    python3 -c 'import json, sys
print(json.dumps({"profile": sys.argv[1], "csr": open(sys.argv[2]).read()}))' "$1" "$2"
}

say "init"
"$server" init --dir data --mesh test >init.log
[ "$(stat -c %a data/api.token)" = 600 ] || fail "the token's mode"
[ "$(stat -c %a data)" = 700 ] || fail "the directory's mode"
cp data/mesh-root.crt kept-root.crt
if "$server" init --dir data --mesh test >again.log 2>&1; then fail "init twice"; fi
grep -q 'holds an authority already' again.log || fail "init twice, without a reason"
cmp kept-root.crt data/mesh-root.crt || fail "the second init changed the root"
# Many at once on one folder: one makes the authority, the others say why not.
for i in 1 2 3 4 5 6; do
    { "$server" init --dir race --mesh test >race.$i 2>&1 && echo done >race.$i; } &
done
wait
[ "$(grep -lx done race.? | wc -l)" = 1 ] || fail "not exactly one of many inits made the authority"
for i in 1 2 3 4 5 6; do
    grep -qx done race.$i || grep -qE 'in use by another process|holds an authority already' race.$i ||
        { cat race.$i >&2; fail "an init at the same time, without a reason"; }
done
for f in mesh edge; do
    o verify -CAfile race/$f-root.crt race/authority/$f-ca.crt >verify.log || fail "the race's $f CA"
done
if "$server" init --dir other --mesh 'Bad Name' >again.log 2>&1; then fail "a bad name"; fi
rc=0
"$server" run >again.log 2>&1 || rc=$?
[ $rc = 2 ] || fail "no --dir: exit code $rc"

say "run"
start
get /healthz; expect 200 healthz
get /readyz; expect 200 readyz
get /v1/roots; expect 200 roots
cat data/mesh-root.crt data/edge-root.crt | cmp - answer || fail "the roots"
get '/v1/roots?name=mesh-issuing'; expect 200 "issuing CA"
cp answer mesh-issuing.crt
o verify -CAfile data/mesh-root.crt mesh-issuing.crt
get '/v1/roots?name=cross'; expect 200 "cross certificate"
o verify -CAfile data/mesh-root.crt answer
get /openapi.yaml; expect 200 "the definition"
grep -q '/v1/certificates/{serial}/revoke' answer || fail "the definition's content"
if "$server" run --dir data --listen '[::1]:0' >again.log 2>&1; then fail "two servers, one data"; fi
grep -qi busy again.log || fail "two servers, one data: without a reason"

say "issue to a node, by curl"
o genpkey -algorithm falcon1024 -out node.key
o req -new -key node.key -subj '/CN=node-a' -out node.csr
post /v1/certificates "$(request node node.csr)"; expect 201 "a node's certificate"
node_serial=$(field serial)
field chain >node.crt
o verify -CAfile data/mesh-root.crt -untrusted node.crt node.crt
grep -q 'URI:hypermesh:node:' < <(o x509 -in node.crt -noout -text) || fail "no node in the certificate"

say "issue to a server, by curl"
openssl ecparam -name prime256v1 -genkey -noout -out web.key
openssl req -new -key web.key -subj / -addext 'subjectAltName=DNS:web.test,IP:fd48::1' -out web.csr
post /v1/certificates "$(request server web.csr)"; expect 201 "a server's certificate"
web_serial=$(field serial)
field chain >web.crt
openssl verify -CAfile data/edge-root.crt -untrusted web.crt web.crt

say "bad requests"
get /v1/certificates -X POST -d '{}'; expect 401 "no token"
get /v1/certificates -X POST -H 'Authorization: Bearer 00' -d '{}'; expect 401 "a wrong token"
post /v1/certificates 'no json'; refused "no JSON" 400 JSON
post /v1/certificates ''; refused "nothing" 400 empty
post /v1/certificates '{"profile":"node"}'; refused "no request" 400 csr
post /v1/certificates '{"profile":"node","csr":"x","more":1}'; refused "a field more" 400 more
post /v1/certificates '{"profile":"root","csr":"x"}'
refused "another profile" 422 'node, server, client, code'
post /v1/certificates '{"profile":"","csr":"x"}'; refused "an empty profile" 400 profile
post /v1/certificates '{"profile":"node","csr":"x"}'; refused "no PEM" 422 'CERTIFICATE REQUEST'
short() { request node node.csr | sed "s/}\$/, \"life_seconds\": $1}/"; }
post /v1/certificates "$(short 0)"; refused "no life" 400 life_seconds
post /v1/certificates "$(short 2592001)"; refused "too long a life" 422 2592000
post /v1/certificates "$(request server node.csr)"; refused "a node as server" 422 ECDSA
post /v1/certificates "$(request node web.csr)"; refused "a server as node" 422 FALCON
openssl req -new -key web.key -subj / -addext 'subjectAltName=IP:127.0.0.1' -out v4.csr
post /v1/certificates "$(request server v4.csr)"; refused "an IPv4 address" 422 IPv6
sed 's/[A-Z]/B/5' node.csr >broken.csr
post /v1/certificates "$(request node broken.csr)"; expect 422 "a damaged request"
head -c 400000 /dev/zero | tr '\0' ' ' >big
get /v1/certificates -H "Authorization: Bearer $(cat data/api.token)" --data-binary @big
expect 413 "a large body"
# Each row of the table in docs/authority.md, which names the status and the code.
rows=0
bad() { # ROW STATUS CODE
    expect "$2" "$1"
    python3 -c 'import json; print(json.load(open("answer"))["error"]["code"])' | grep -qx "$3" ||
        { cat answer >&2; fail "$1: the code is not $3"; }
    grep -qF "| $1 | $2 | \`$3\` |" "$docs" || fail "docs/authority.md: no row \"$1\" $2 $3"
    rows=$((rows + 1))
}
ask() { # PROFILE SUBJECT [SUBJECTALTNAME]: of an ECDSA key
    openssl req -new -key web.key -subj "$2" ${3:+-addext "subjectAltName=$3"} -out bad.csr
    post /v1/certificates "$(request "$1" bad.csr)"
}
get /v1/certificates -X POST -d '{}'; bad "no token, or none that is known" 401 DENIED
post /v1/certificates '{"profile":'; bad "no JSON" 400 PARSE
post /v1/certificates '{"profile":"node"}'; bad "a field missing" 400 PARSE
post /v1/certificates '{"profile":"node","csr":"x","more":1}'; bad "a field that there is not" 400 PARSE
post /v1/certificates "$(short 0)"; bad "no life at all" 400 RANGE
post /v1/certificates "$(short 2592001)"; bad "a longer life than the profile's" 422 CSR
post /v1/certificates '{"profile":"ca","csr":"x"}'; bad "a profile that there is not" 422 CSR
post /v1/certificates '{"profile":"node","csr":"x"}'; bad "no request in PEM" 422 CSR
post /v1/certificates "$(request node broken.csr)"; bad "a request changed on its way" 422 CSR
post /v1/certificates "$(request node web.csr)"; bad "a node's key that is not FALCON-1024" 422 CSR
openssl genpkey -algorithm ed25519 -out ed.key
openssl req -new -key ed.key -subj / -addext 'subjectAltName=DNS:web.test' -out ed.csr
post /v1/certificates "$(request server ed.csr)"; bad "an edge key that is not ECDSA on P-256 or P-384" 422 CSR
o req -new -key node.key -subj '/CN=Node A' -out bad.csr
post /v1/certificates "$(request node bad.csr)"; bad "a node's name beyond a-z, 0-9, -" 422 CSR
ask server /CN=web.test; bad "a server without a subjectAltName" 422 CSR
ask server / IP:192.0.2.1; bad "an IPv4 address" 422 CSR
ask server / 'DNS:*.web.test'; bad "a wildcard" 422 CSR
ask server / email:a@web.test; bad "a name of another kind" 422 CSR
ask server / "$(seq -f DNS:n%g.test -s , 33)"; bad "more than 32 names" 422 CSR
ask client /; bad "a client without any name" 422 CSR
ask client '/CN=two words'; bad "a client's common name with other characters" 422 CSR
ask code /CN=release DNS:web.test; bad "a signer of code with a subjectAltName" 422 CSR
get /v1/certificates -H "Authorization: Bearer $(cat data/api.token)" --data-binary @big
bad "more than 256 KiB" 413 LIMIT
get /v1/certificates/xyz; refused "no serial" 400 '32 hex'
get /v1/certificates/00000000000000000000000000000000; expect 404 "an unknown serial"
get '/v1/certificates?limit=0'; refused "limit 0" 400 limit
get '/v1/certificates?family=x'; refused "another family" 400 family
get '/v1/roots?name=x'; refused "another root" 400 name
get /v1/nothing; expect 404 "an unknown path"
get /v1/crl -X DELETE; expect 405 "another method"
post "/v1/certificates/$node_serial/revoke" '{"reason":"boredom"}'; refused "a reason" 400 reason

say "list and pages"
get '/v1/certificates?limit=2'; expect 200 "the list"
python3 - "$node_serial" "$web_serial" <<'PY'
import json, sys
a = json.load(open("answer"))
assert [i["serial"] for i in a["items"]] == [sys.argv[2], sys.argv[1]], a
assert a["items"][0]["subject"] == "web.test fd48::1" and a["items"][1]["family"] == "mesh", a
open("next", "w").write(a["next"])
PY
get "/v1/certificates?cursor=$(cat next)"; expect 200 "the second page"
python3 -c 'import json
a = json.load(open("answer"))
assert len(a["items"]) == 1 and a["next"] is None, a # the server its own'
get "/v1/certificates/$web_serial"; expect 200 "one certificate"
field certificate >one.crt
openssl x509 -in web.crt -outform DER -out a.der && openssl x509 -in one.crt -outform DER -out b.der
cmp a.der b.der || fail "another certificate is shown"

say "hypermesh cert"
export HYPERMESH_AUTHORITY=$url HYPERMESH_CA=data/edge-root.crt HYPERMESH_TOKEN_FILE=data/api.token
o genpkey -algorithm falcon1024 -out b.key
o req -new -key b.key -subj '/CN=node-b' -out b.csr
"$hypermesh" cert issue b.csr -o b.crt
"$hypermesh" cert verify b.crt --root data/mesh-root.crt >verify.log
grep -q node-b verify.log || fail "verify does not name the node"
"$hypermesh" cert show b.crt >show.log
b_serial=$(o x509 -in b.crt -noout -serial | cut -d= -f2 | tr A-F a-f)
grep -q "$b_serial" show.log || fail "show does not name the serial"
"$hypermesh" cert show "$b_serial" --json | grep -q '"state":"valid"' || fail "show by serial"
"$hypermesh" cert list --json >answer
python3 -c 'import json
assert len(json.load(open("answer"))["items"]) == 4'
"$hypermesh" cert issue web.csr --profile server -o web2.crt
"$hypermesh" cert verify web2.crt --root data/edge-root.crt >verify.log
openssl req -new -key web.key -subj /CN=alice@web.test -out alice.csr
for profile in client code; do
    "$hypermesh" cert issue alice.csr --profile $profile --hours 8 -o $profile.crt
    "$hypermesh" cert verify $profile.crt --root data/edge-root.crt --json >verify.log
    grep -q "\"profile\":\"$profile\"" verify.log || fail "verify does not name the profile $profile"
    life=$(($(date -d "$(openssl x509 -in $profile.crt -noout -enddate | cut -d= -f2)" +%s) - $(date +%s)))
    [ $life -le 28800 ] && [ $life -gt 28500 ] || fail "8 hours are $life seconds"
done
V="openssl verify -CAfile data/edge-root.crt"
$V -untrusted client.crt -purpose sslclient client.crt
$V -untrusted code.crt -purpose codesign code.crt
if $V -untrusted client.crt -purpose sslserver client.crt 2>/dev/null; then fail "a client as server"; fi
if $V -untrusted code.crt -purpose sslclient code.crt 2>/dev/null; then fail "code as client"; fi
rc=0
"$hypermesh" cert issue alice.csr --profile client --days 91 -o long.crt 2>refused.log || rc=$?
[ $rc = 4 ] || fail "91 days: exit code $rc"
grep -q 7776000 refused.log || fail "91 days: the limit is not named"
rc=0
"$hypermesh" cert issue alice.csr --profile client --days 1 --hours 1 -o long.crt 2>refused.log || rc=$?
[ $rc = 2 ] || fail "days and hours: exit code $rc"
if "$hypermesh" cert verify web2.crt --root data/mesh-root.crt >verify.log 2>&1; then
    fail "a certificate of another root verifies"
fi
rc=0
"$hypermesh" cert issue v4.csr --profile server -o v4.crt 2>refused.log || rc=$?
[ $rc = 4 ] || fail "a refused request: exit code $rc"
grep -q IPv6 refused.log || fail "a refused request without a reason"
[ ! -e v4.crt ] || fail "a refused request left a file"

say "hypermesh cert renew: by the key alone, after a third of the life"
# not_renewed CODE WORD ARGUMENT...
not_renewed() {
    local code=$1 word=$2 rc=0
    shift 2
    "$hypermesh" cert renew "$@" >/dev/null 2>refused.log || rc=$?
    [ $rc = "$code" ] || fail "cert renew $*: exit code $rc, $(cat refused.log)"
    grep -q "$word" refused.log || fail "cert renew $*: $(cat refused.log)"
}
# short NAME CSR PROFILE: a certificate of a minute.
short() {
    post /v1/certificates "$(python3 -c 'import json, sys
print(json.dumps({"csr": open(sys.argv[1]).read(), "profile": sys.argv[2], "life_seconds": 60}))' "$2" "$3")"
    expect 201 "a short certificate of profile $3"
    field chain >"$1"
}
unset HYPERMESH_TOKEN_FILE
openssl ecparam -name prime256v1 -genkey -noout -out other.key
short s.crt web.csr server
short n.crt b.csr node
short a.crt alice.csr client
not_renewed 4 "two thirds" web2.crt --key web.key
not_renewed 1 "another certificate" s.crt --key other.key
not_renewed 6 "not signed by the certificate's key" s.crt --key other.key --csr web.csr
not_renewed 1 "no such file" gone.crt --key web.key
not_renewed 1 "gone.key" s.crt --key gone.key
not_renewed 1 "no certificate" web.csr --key web.key
not_renewed 2 "key" s.crt
# renewed WAS NOW KEY ARGUMENT...: as soon as it may be
renewed() {
    local was=$1 now=$2 key=$3 before end=$((SECONDS + 60))
    shift 3
    before=$(o x509 -in "$was" -noout -serial)
    until "$hypermesh" cert renew "$was" --key "$key" "$@" --json >answer 2>refused.log; do
        grep -q "two thirds" refused.log || fail "cert renew $was: $(cat refused.log)"
        [ $SECONDS -lt $end ] || fail "cert renew $was: still too early"
        sleep 0.3
    done
    [ "$(o x509 -in "$now" -noout -serial)" != "$before" ] || fail "$now is the old certificate"
    [ "$(o x509 -in "$now" -noout -serial | cut -d= -f2 | tr A-F a-f)" = "$(field serial)" ] || fail "the serial of $now"
}
names() { o x509 -in "$1" -noout -subject -ext subjectAltName,extendedKeyUsage; }
names s.crt >s.was
names n.crt >n.was
names a.crt >a.was
openssl req -new -key other.key -subj /CN=alice@web.test -out next.csr
renewed a.crt next.crt web.key --csr next.csr -o next.crt
renewed s.crt s.crt web.key
renewed n.crt n.crt b.key
names next.crt | cmp - a.was || fail "alice's next certificate has other names"
names s.crt | cmp - s.was || fail "the server's next certificate has other names"
names n.crt | cmp - n.was || fail "the node's next certificate has other names"
[ "$(openssl x509 -in next.crt -noout -pubkey)" = "$(openssl pkey -in other.key -pubout)" ] || fail "not the new key"
$V -untrusted s.crt -purpose sslserver s.crt
"$hypermesh" cert verify n.crt --root data/mesh-root.crt >/dev/null
export HYPERMESH_TOKEN_FILE=data/api.token

say "enrol a node"
mkdir node kept
cp b.csr node/node.csr
cp web.csr node/edge.csr
"$probe" "$url" data/edge-root.crt data/api.token node kept >enroll.log
[ "$(cut -d' ' -f1 enroll.log)" = "$(o x509 -in kept/node.crt -noout -serial | cut -d= -f2 |
    tr A-F a-f)" ] || fail "the serial of the node's certificate"
"$hypermesh" cert verify kept/node.crt --root kept/mesh-root.crt >/dev/null
"$hypermesh" cert verify kept/edge.crt --root kept/edge-root.crt >/dev/null
cmp kept/mesh-root.crt data/mesh-root.crt || fail "another mesh root"
if "$probe" "$url" data/mesh-root.crt data/api.token node kept 2>enroll.log; then
    fail "an authority that does not prove itself is believed"
fi
echo wrong >wrong.token
if "$probe" "$url" data/edge-root.crt wrong.token node kept 2>enroll.log; then fail "wrong token"; fi
rm node/edge.csr
if "$probe" "$url" data/edge-root.crt data/api.token node kept 2>enroll.log; then fail "no CSR"; fi
grep -q 'edge.csr.*was init run' enroll.log || fail "no CSR, without a reason"

say "revoke"
post "/v1/certificates/$node_serial/revoke" '{"reason":"keyCompromise"}'; expect 200 revoke
post "/v1/certificates/$node_serial/revoke" ''; refused "revoked twice" 409 already
"$hypermesh" cert revoke "$b_serial" --reason superseded --json | grep -q '"state":"revoked"' ||
    fail "revoke by hypermesh"
get '/v1/crl?family=mesh'; expect 200 "the mesh's list"
cp answer mesh.crl
o crl -inform DER -in mesh.crl -CAfile mesh-issuing.crt -noout -text >crl.log 2>crl.err
grep -qi "$node_serial" crl.log || fail "the list does not name the certificate"
grep -q 'Key Compromise' crl.log || fail "the list does not name the reason"
grep -q 'verify OK' crl.err || fail "the list is not signed by the issuing CA"
o crl -inform DER -in mesh.crl -out mesh.crl.pem
if o verify -CAfile data/mesh-root.crt -untrusted node.crt -CRLfile mesh.crl.pem -crl_check node.crt \
    >verify.log 2>&1; then fail "openssl takes a revoked certificate"; fi
grep -q revoked verify.log || fail "openssl refuses for another reason"
"$hypermesh" cert verify b.crt --root data/mesh-root.crt >/dev/null
rc=0
"$hypermesh" cert verify b.crt --root data/mesh-root.crt --crl mesh.crl 2>verify.log || rc=$?
[ $rc = 1 ] || fail "verify of a revoked certificate: exit code $rc"
grep -q revoked verify.log || fail "verify refuses for another reason"
get '/v1/crl?family=edge'; expect 200 "the edge's list"
grep -q 'No Revoked' < <(openssl crl -inform DER -in answer -noout -text) || fail "the edge's list"
"$hypermesh" cert verify web2.crt --root data/edge-root.crt --crl answer >/dev/null
rc=0
"$hypermesh" cert verify web2.crt --root data/edge-root.crt --crl mesh.crl 2>verify.log || rc=$?
[ $rc = 1 ] || fail "another family's list is believed: exit code $rc"
web2_serial=$(openssl x509 -in web2.crt -noout -serial | cut -d= -f2 | tr A-F a-f)
"$hypermesh" cert revoke "$web2_serial" >/dev/null
get '/v1/crl?family=edge'; expect 200 "the edge's list, newer"
rc=0
"$hypermesh" cert verify web2.crt --root data/edge-root.crt --crl answer 2>verify.log || rc=$?
[ $rc = 1 ] && grep -q revoked verify.log || fail "verify of a revoked server certificate: $rc"
: >empty.crl
for crl in empty.crl /dev/null; do for crt in web2.crt:edge b.crt:mesh; do
    rc=0
    "$hypermesh" cert verify "${crt%:*}" --root "data/${crt#*:}-root.crt" --crl $crl >verify.log 2>&1 || rc=$?
    [ $rc = 1 ] && grep -q 'not a revocation list' verify.log || fail "$crl counts as a list: exit code $rc"
done; done

say "kill -9 and start again: nothing is lost"
get '/v1/certificates?limit=500'; cp answer before.json
kill -9 $pid
wait $pid 2>/dev/null || true
start
get '/v1/certificates?limit=500'; expect 200 "the list"
cmp answer before.json || fail "another list after kill -9"
get '/v1/crl?family=mesh' && cmp answer mesh.crl || fail "another revocation list after kill -9"
get "/v1/certificates/$node_serial" && [ "$(field state)" = revoked ] || fail "not revoked any more"
: >answered.txt
for i in 1 2 3; do # killed while it issues: what was answered is kept, the rest whole or absent
    (while post /v1/certificates "$(request server web.csr)" && [ "$status" = 201 ]; do
        field serial >>answered.txt
    done) 2>/dev/null &
    busy=$!
    n=$(wc -l <answered.txt)
    until [ "$(wc -l <answered.txt)" -ge $((n + 2)) ]; do
        kill -0 $busy 2>/dev/null || fail "a certificate was refused"
        sleep 0.05
    done
    kill -9 $pid
    wait $pid 2>/dev/null || true
    wait $busy || true
    start
done
while read -r serial; do
    get "/v1/certificates/$serial"; expect 200 "an answered certificate after kill -9"
done <answered.txt
[ "$(sort answered.txt | uniq -d | wc -l)" = 0 ] || fail "a serial was used twice"

say "the server's own certificate is renewed without a restart"
own() {
    openssl s_client -connect "${url#https://}" -CAfile data/edge-root.crt -verify_return_error \
        </dev/null 2>/dev/null | openssl x509 -noout -serial
}
before=$(own)
[ -n "$before" ] || fail "no certificate of the server"
kill -HUP $pid
n=0
until [ "$(own)" != "$before" ]; do
    n=$((n + 1))
    [ $n -lt 1800 ] || fail "the certificate is the old one"
    sleep 0.1
done
get /metrics; expect 200 metrics
grep -q 'hm_trust_issued_total{family="mesh"} 6' answer || { cat answer; fail "the count of issued"; }
grep -q 'hm_trust_revoked_total{family="mesh"} 2' answer || fail "the count of revoked"
tail -1 answer | grep -q '^# EOF$' || fail "no end of the metrics"
get /metrics/performance; expect 200 "metrics as JSON"
python3 -m json.tool answer >/dev/null

say "roles, and the audit log"
export HYPERMESH_AUTHORITY=$url # the port is another one since the restart
as() { # TOKEN PATH [CURL ARG...]
    local token=$1 path=$2
    shift 2
    get "$path" -H "Authorization: Bearer $token" "$@"
}
viewer=$("$server" token add vera --role viewer --dir data)
operator=$("$server" token add otto --role operator --days 0 --dir data)
[ "$(stat -c %a data/tokens)" = 600 ] || fail "the mode of the tokens' file"
if grep -qF "$viewer" data/tokens; then fail "the token itself is in the file"; fi
if "$server" token add vera --dir data 2>again.log; then fail "two tokens of one name"; fi
grep -q 'there is a token named vera' again.log || fail "two tokens of one name, without a reason"
if "$server" token add x --role king --dir data 2>again.log; then fail "an unknown role"; fi
grep -q 'viewer, operator or authority' again.log || fail "an unknown role, without a reason"
as "$viewer" /v1/audit; expect 200 "the audit log for a viewer"
get /v1/audit; expect 401 "the audit log for nobody"
as "$viewer" /v1/certificates --data-binary "$(request server web.csr)"
refused "issuing by a viewer" 403 'has the role viewer, this needs operator'
as "$operator" /v1/certificates --data-binary "$(request server web.csr)"; expect 201 "issuing"
otto_serial=$(field serial)
as "$operator" "/v1/certificates/$otto_serial/revoke" --data-binary '{}'; expect 200 "revoking"
as "$operator" '/v1/audit?limit=2'; expect 200 "the audit log for an operator"
python3 - "$otto_serial" <<'PY' || { cat answer; fail "the audit log's entries"; }
import json, sys
revoked, issued = json.load(open("answer"))["items"]
for e, act in ((revoked, "certificate revoked"), (issued, "certificate issued")):
    assert (e["act"], e["who"], e["from"], e["serial"]) == (act, "otto", "::1", sys.argv[1]), e
PY
get /v1/whoami; expect 401 "who am I, for nobody"
as "$viewer" /v1/whoami; expect 200 "who am I"
[ "$(field name) $(field role)" = "vera viewer" ] || { cat answer; fail "who am I"; }
as "$operator" /v1/tokens; refused "the tokens for an operator" 403 'this needs authority'
as "$(cat data/api.token)" /v1/tokens; expect 200 "the tokens"
python3 - "$viewer" <<'PY' || { cat answer; fail "the tokens"; }
import hashlib, json, sys
text = open("answer").read()
vera, otto = json.loads(text)["items"]
assert (vera["name"], vera["role"], otto["name"], otto["role"]) == ("vera", "viewer", "otto", "operator")
assert vera["ends_ms"] - vera["made_ms"] == 90 * 86400000 and otto["ends_ms"] == 0
assert sys.argv[1] not in text and hashlib.sha256(sys.argv[1].encode()).hexdigest() not in text
PY
"$server" token list --dir data | grep -q '^otto *operator *made .* ends never' || fail "token list"
"$server" token remove otto --dir data
as "$operator" /v1/audit; expect 401 "a token that was taken back"
"$hypermesh" cert audit --limit 3 | grep -q 'certificate issued' || fail "cert audit"
"$hypermesh" cert audit --verify --json >head.json
head=$(python3 -c 'import json; print(json.load(open("head.json"))["head"])')
post /v1/certificates "$(request server web.csr)"; expect 201 "one more"
"$hypermesh" cert audit --verify --head "$head" >/dev/null || fail "an earlier head"
"$hypermesh" cert audit --verify --file data/audit.log --head "$head" >/dev/null || fail "the file"
# Each kind of damage, against the chain or against the head that was noted.
bad_log() { # WORDS [OPTION...]
    local words=$1 rc=0
    shift
    "$hypermesh" cert audit --verify --file bad.log "$@" >verify.log 2>&1 || rc=$?
    [ $rc = 1 ] && grep -q -- "$words" verify.log || { cat verify.log; fail "not found: $words ($rc)"; }
}
sed '3s/"who":"[^"]*"/"who":"eve"/' data/audit.log >bad.log; bad_log 'is not the one that line'
sed 3d data/audit.log >bad.log; bad_log 'some are missing'
sed 1d data/audit.log >bad.log; bad_log 'earlier ones are missing'
head -n 3 data/audit.log >bad.log; bad_log 'written anew' --head "$head"
head -c -5 data/audit.log >bad.log; bad_log 'cut off'
echo hello >>bad.log; bad_log 'none of the audit log'
kill -9 $pid
wait $pid 2>/dev/null || true
start
post /v1/certificates "$(request server web.csr)"; expect 201 "one after kill -9"
"$hypermesh" cert audit --authority "$url" --verify --head "$head" >/dev/null || fail "after kill -9"

say "name constraints, against whoever has an issuing key"
steal() { # DATA FAMILY NAMES CSR: a certificate that the authority does not know, in stolen.crt
    echo "subjectAltName=$3" >stolen.ext
    o x509 -req -in "$4" -CA "$1/authority/$2-ca.crt" -CAkey "$1/authority/$2-ca.key" -days 1 \
        -extfile stolen.ext -out stolen.crt 2>/dev/null
}
believed() { # DATA FAMILY
    o verify -CAfile "$1/$2-root.crt" -untrusted "$1/authority/$2-ca.crt" stolen.crt >verify.log 2>&1
}
disbelieved() {
    believed "$@" && fail "a certificate outside the constraints: $(cat stolen.ext)"
    grep -qE '(permitted|excluded) subtree violation' verify.log || fail "another reason: $(cat verify.log)"
}
o x509 -in data/authority/mesh-ca.crt -noout -ext nameConstraints >verify.log
grep -q 'Name Constraints: critical' verify.log || fail "the mesh CA is not constrained"
steal data mesh DNS:a.test.internal,IP:fd48:4d00::1 node.csr; believed data mesh || fail "inside"
steal data mesh DNS:www.example.org node.csr; disbelieved data mesh
steal data mesh IP:2001:db8::1 node.csr; disbelieved data mesh
steal data edge DNS:www.example.org,IP:2001:db8::1 web.csr; believed data edge || fail "edge, not tied"
if "$server" init --dir tied --mesh test --edge-names '*.org' >again.log 2>&1; then fail "no name"; fi
grep -q '"\*.org"' again.log || fail "a name that is none, without a reason"
"$server" init --dir tied --mesh test --edge-names example.org,fd48::/16 >init.log
steal tied edge DNS:www.example.org,IP:fd48::1 web.csr; believed tied edge || fail "inside the names"
steal tied edge DNS:www.example.net web.csr; disbelieved tied edge
steal tied edge IP:2001:db8::1 web.csr; disbelieved tied edge
steal tied edge IP:192.0.2.1 web.csr; disbelieved tied edge
for d in data tied; do # and the edge root across
    o verify -CAfile $d/mesh-root.crt $d/authority/edge-root-cross.crt >verify.log || fail "cross"
    o verify -CAfile $d/mesh-root.crt -untrusted $d/authority/edge-root-cross.crt \
        $d/authority/edge-ca.crt >verify.log || fail "the edge CA across"
done
if timeout 240 "$server" run --dir tied --listen '[::1]:0' >again.log 2>&1; then fail "a host outside the names"; fi
grep -q 'name constraints' again.log || fail "a host outside the names, without a reason"

say "a policy"
kill $pid
wait $pid || fail "the end before the policy"
no_start() { # WORDS: the policy is refused before anything is touched
    local rc=0
    "$server" run --dir data --listen '[::1]:0' --policy policy.ini >again.log 2>&1 || rc=$?
    [ $rc = 2 ] && grep -q -- "$1" again.log || { cat again.log; fail "policy: exit code $rc, not: $1"; }
}
no_start 'policy.ini'
printf '[server]\nallow = .test\ndeny == \n' >policy.ini; no_start 'policy.ini, line 3: "="'
printf '[server]\nallow = .test\nalow = x\n' >policy.ini; no_start 'line 3: unknown key "alow"'
printf '[server]\nallow = .test\n' >policy.ini; no_start '--host: .*localhost'
printf '[server]\nallow = .test, localhost, ::1, fd48::/16\ndeny = b.test\n[client]\ndeny = *\n' >policy.ini
start --policy policy.ini
post /v1/certificates "$(request server web.csr)"; expect 201 "names within the policy"
openssl req -new -key web.key -subj / -addext 'subjectAltName=DNS:a.test,DNS:b.test' -out denied.csr
post /v1/certificates "$(request server denied.csr)"; refused "a denied name" 403 'b\.test'
openssl req -new -key web.key -subj / -addext 'subjectAltName=DNS:a.test,IP:fd49::1' -out denied.csr
post /v1/certificates "$(request server denied.csr)"; refused "an address beyond" 403 'fd49::1'
post /v1/certificates "$(request client alice.csr)"; refused "no client" 403 alice
post /v1/certificates "$(request client alice.csr)"; bad "a name that the policy denies" 403 DENIED
[ "$(grep -c '^| .* | 4[0-9][0-9] | `' "$docs")" = $rows ] || fail "docs/authority.md: rows not asked"
post /v1/certificates "$(request code alice.csr)"; expect 201 "a profile without rules"

say "SIGTERM"
kill -TERM $pid
rc=0
wait $pid || rc=$?
[ $rc = 0 ] || fail "exit code $rc after SIGTERM"
pid=
grep -q '"stopped"' server.log || fail "no last line"
grep -q audit server.log || fail "no audit line"
if grep -qF "$(cat data/api.token)" server.log; then fail "the token is in the log"; fi
start
kill -INT $pid
wait $pid || fail "SIGINT"
pid=
say "passed"
