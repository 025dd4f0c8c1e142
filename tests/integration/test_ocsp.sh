#!/usr/bin/env bash
# What certificates point at: OCSP, revocation lists and issuing certificates over plain HTTP, asked
# by openssl's own client and curl. $1: folder with falcon.so; $2: trustchain-server.
set -euo pipefail
module=$(realpath "$1") server=$(realpath "$2")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
: >err # what says() reads beside out

P=(-provider-path "$module" -provider falcon -provider default)
o() { local command=$1; shift; openssl "$command" "${P[@]}" "$@"; }
running() {
    kill -0 $pid 2>/dev/null || fail "the server ended at its start"
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
post() { # PATH BODY
    curl -sS -g --fail --cacert data/edge-root.crt -H "Authorization: Bearer $(cat data/api.token)" \
        -H 'Content-Type: application/json' --data-binary "$2" "https://[::1]:$api$1" >answer
}
field() { python3 -c 'import json, sys; print(json.load(open("answer"))[sys.argv[1]])' "$1"; }
issue() { # PROFILE CSR OUT: also the serial in $serial
    post /v1/certificates "$(python3 -c 'import json, sys
print(json.dumps({"profile": sys.argv[1], "csr": open(sys.argv[2]).read()}))' "$1" "$2")"
    field chain >"$3"
    serial=$(field serial)
}
# ask FAMILY ARG...: openssl verifies the answer's signature up to the root.
ask() {
    local f=$1
    shift
    o ocsp -issuer "$f-ca.pem" -CAfile "data/$f-root.crt" -url "$public/ocsp" "$@" >out 2>&1
}
raw() { # REQUEST ANSWER
    curl -sS -g --fail -H 'Content-Type: application/ocsp-request' --data-binary "@$1" \
        "$public/ocsp" >"$2"
}
status() { # ANSWER WORDS
    openssl ocsp -respin "$1" -noverify -resp_text >out 2>&1 || true
    says "$2"
}

"$server" init --dir data --mesh test >init.log
api=$(free_port tcp) port=$(free_port tcp) public="http://[::1]:$port"
for url in https://x http:// http://x/ 'http://x,URI:http://y' 'http://x y'; do
    rc=0
    "$server" run --dir data --listen "[::1]:$api" --public-url "$url" >out 2>&1 || rc=$?
    [ $rc = 2 ] && grep -q 'the public URL' out || { cat out >&2; fail "taken: $url ($rc)"; }
done
start

say "certificates point at what is there"
o genpkey -algorithm falcon1024 -out node.key
o req -new -key node.key -subj '/CN=node-a' -out node.csr
openssl ecparam -name prime256v1 -genkey -noout -out web.key
openssl req -new -key web.key -subj / -addext 'subjectAltName=DNS:web.test' -out web.csr
issue node node.csr mesh.crt
mesh_serial=$serial
issue server web.csr edge.crt
edge_serial=$serial
for f in mesh edge; do
    o x509 -in $f.crt -noout -text >text
    curl -sSg --fail "$public/ca/$f.crt" | o x509 -inform DER -out $f-ca.pem
    ca=$(issuing_name $f $f-ca.pem)
    for at in "/crl/$ca.crl" /ocsp "/ca/$ca.crt"; do
        grep -qF "URI:$public$at" text || { cat text >&2; fail "$f: no $at in the certificate"; }
    done
    curl -sSg --fail "$public/ca/$ca.crt" | o x509 -inform DER | cmp - $f-ca.pem || fail "$f: another CA"
    cmp <(curl -sSg --fail "$public/crl/$ca.crl") <(curl -sSg --fail "$public/crl/$f.crl") ||
        fail "$f: another list"
    o verify -CAfile data/$f-root.crt -untrusted $f-ca.pem $f.crt >out
    curl -sSg --fail "$public/crl/$f.crl" | o crl -inform DER -CAfile $f-ca.pem -noout 2>out
    says 'verify OK'
done
# openssl finds the list by the certificate alone.
openssl verify -CAfile data/edge-root.crt -untrusted edge-ca.pem -crl_check -crl_download edge.crt >out 2>&1 ||
    fail "openssl does not get the list"
curl -sSg "$public/v1/certificates" -o out -w '%{http_code}' | grep -q 404 || fail "the API without TLS"

say "good, with and without a nonce, by several hashes"
for f in mesh edge; do
    ask $f -cert $f.crt || fail "$f"
    says 'Response verify OK'; says "$f.crt: good"
    grep -q 'no nonce' out && fail "$f: the nonce does not come back"
    for hash in sha1 sha256 sha384 sha512; do
        ask $f -no_nonce -$hash -cert $f.crt || fail "$f $hash"
        says 'Response verify OK'; says "$f.crt: good"
    done
done

say "unknown"
for serial in 0x1 0x7fffffffffffffffffffffffffffffff "0x$mesh_serial"; do
    ask edge -serial "$serial" || fail "edge $serial"
    says 'Response verify OK'; says "$serial: unknown"
done

say "GET"
by_get() { # REQUEST: the same as by POST, escaped and not
    raw "$1" by-post
    path=$(base64 -w0 "$1" | sed 's:/:%2F:g; s:+:%2B:g; s:=:%3D:g')
    curl -sSg --fail "$public/ocsp/$path" >by-get
    cmp by-post by-get || fail "another answer by GET"
    curl -sSg --fail "$public/ocsp/$(base64 -w0 "$1")" | cmp - by-post || fail "a path that is not escaped"
}
ask edge -no_nonce -cert edge.crt -reqout get.req
by_get get.req
status by-get 'Cert Status: good'
# Slashes beside each other, of which libwebsockets makes one: in a serial, one run of two to four.
for run in 2 3 4; do
    python3 - get.req $run <<'PY' >slashes.req
import base64, os, re, sys
req, run = open(sys.argv[1], "rb").read(), int(sys.argv[2])
while True:
    other = req[:-16] + b"\x40" + os.urandom(15)
    if max(map(len, re.findall("/+", base64.b64encode(other).decode()[-20:])), default=0) == 0:
        break
text = base64.b64encode(other).decode()
at = len(text) - 16
text = text[:at] + "/" * run + text[at + run:]
sys.stdout.buffer.write(base64.b64decode(text))
PY
    base64 -w0 slashes.req | grep -q "[^/]/\{$run\}[^/]" || fail "no slashes beside each other"
    if base64 -w0 get.req | grep -q /; then # then it may fit in several places
        raw slashes.req by-post
        status by-post 'Cert Status: unknown'
        curl -sSg --fail "$public/ocsp/$(base64 -w0 slashes.req)" >by-get
        cmp -s by-post by-get || status by-get malformedrequest
    else
        by_get slashes.req
        status by-get 'Cert Status: unknown'
    fi
done
say "GET of a certificate whose request has slashes beside each other"
python3 - "$api" data/api.token data/edge-root.crt web.csr <<'PY' || fail "no certificate with slashes"
import base64, http.client, json, ssl, subprocess, sys
port, token, root, csr = sys.argv[1:]
c = http.client.HTTPSConnection("::1", int(port), context=ssl.create_default_context(cafile=root))
body = json.dumps({"profile": "server", "csr": open(csr).read()})
one = open("get.req", "rb").read()
for _ in range(5000):
    c.request("POST", "/v1/certificates", body, {"Authorization": "Bearer " + open(token).read().strip(),
                                                 "Content-Type": "application/json"})
    r = c.getresponse()
    answer = json.loads(r.read())
    assert r.status == 201, answer
    req = one[:-16] + bytes.fromhex(answer["serial"])
    if b"//" in base64.b64encode(req):
        open("slashes.req", "wb").write(req)
        sys.exit(0)
sys.exit(1)
PY
by_get slashes.req
status by-get 'Cert Status: good'

say "what is refused, and with which error"
ask mesh -no_nonce -cert mesh.crt -reqout one.req
head -c -1 one.req >cut.req
{ cat one.req; printf x; } >more.req
: >none.req
printf 'hello' >text.req
ask mesh -no_nonce -serial 1 -serial 2 -reqout two.req || true
for bad in cut more none text two; do
    raw $bad.req bad.resp; status bad.resp 'malformedrequest'
done
for len in 0 129; do # RFC 9654: 1 to 128
    python3 - "$len" <<'PY' >nonce.req
import sys
def tlv(t, v):
    n = len(v)
    return bytes([t]) + (bytes([n]) if n < 128 else b"\x82" + n.to_bytes(2, "big")) + v
one = open("one.req", "rb").read()
body = one[2:] if one[1] < 128 else one[3:]          # TBSRequest
tbs = body[2:] if body[1] < 128 else body[3:]
nonce = tlv(4, tlv(4, b"n" * int(sys.argv[1])))
ext = tlv(0x30, bytes.fromhex("06092b0601050507300102") + nonce)
sys.stdout.buffer.write(tlv(0x30, tlv(0x30, tbs + tlv(0xa2, tlv(0x30, ext)))))
PY
    raw nonce.req bad.resp; status bad.resp 'malformedrequest'
done
curl -sSg --fail "$public/ocsp/AAA" >bad.resp; status bad.resp malformedrequest
curl -sSg --fail "$public/ocsp/%21%21%21%21" >bad.resp; status bad.resp malformedrequest
o ocsp -issuer data/edge-root.crt -no_nonce -serial 1 -reqout other.req >out 2>&1
raw other.req bad.resp; status bad.resp unauthorized
head -c 2049 /dev/zero >big.req
curl -sSg -o out -w '%{http_code}' --data-binary @big.req "$public/ocsp" | grep -q 413 || fail "a large request"

say "a flood is answered from what is kept"
# Signatures of ECDSA and of FALCON are never twice the same: equal answers were signed once.
for f in mesh edge; do
    ask $f -no_nonce -cert $f.crt -reqout $f.req
    raw $f.req first
    curl -sSg --fail --data-binary "@$f.req" "$public/ocsp?x=[1-2]" -o q -w '' 2>/dev/null && fail "a query is taken"
    python3 - "$port" $f.req first <<'PY' || fail "$f: answers differ"
import http.client, sys
c = http.client.HTTPConnection("::1", int(sys.argv[1]))
req, first = (open(p, "rb").read() for p in sys.argv[2:])
for _ in range(2000):
    c.request("POST", "/ocsp", req)
    assert c.getresponse().read() == first
PY
done
# With a new serial each time nothing is kept: beyond the rate they are told to try later (3).
python3 - "$port" edge.req <<'PY' || fail "a flood of other serials"
import http.client, sys, time
c = http.client.HTTPConnection("::1", int(sys.argv[1]))
req = open(sys.argv[2], "rb").read()
begin, signed, later = time.monotonic(), 0, 0
for i in range(3000):
    c.request("POST", "/ocsp", req[:-8] + i.to_bytes(8, "big"))
    a = c.getresponse().read()
    if a[:5] == b"\x30\x03\x0a\x01\x03":
        later += 1
    else:
        assert len(a) > 100, a
        signed += 1
seconds = time.monotonic() - begin
print(f"{signed} signed, {later} told to try later in {seconds:.1f} s")
assert signed <= 200 + 100 * (seconds + 1) and signed + later == 3000
assert later > 0 or seconds > 20
PY
raw edge.req again
status again 'Cert Status: good'

say "revoked, at once, with its time and reason"
post "/v1/certificates/$mesh_serial/revoke" '{"reason":"keyCompromise"}'
post "/v1/certificates/$edge_serial/revoke" '{}'
for f in mesh edge; do
    n=0
    until ask $f -no_nonce -cert $f.crt && grep -q "$f.crt: revoked" out; do # the rate, after the flood
        grep -q "$f.crt: good" out && fail "$f: good after its revocation"
        n=$((n + 1))
        [ $n -lt 1800 ] || fail "$f: not revoked"
        sleep 0.1
    done
    says 'Response verify OK'; says 'Revocation Time'
    [ $f = edge ] || says 'Reason: keyCompromise'
done

say "metrics"
curl -sSg --fail --cacert data/edge-root.crt "https://[::1]:$api/metrics" >metrics
python3 - <<'PY' || { cat metrics >&2; fail "the metrics of OCSP"; }
import re
m = {k: int(v) for k, v in re.findall(r"^(hm_ocsp_\S+) (\d+)$", open("metrics").read(), re.M)}
of = lambda result: m[f'hm_ocsp_answers_total{{result="{result}"}}']
assert of("revoked") >= 2 and of("unknown") >= 3 and of("unauthorized") == 1, m
assert of("malformedRequest") >= 8 and of("internalError") == 0 and of("good") >= 4000, m
assert m["hm_ocsp_cached_total"] >= 4000 and m["hm_ocsp_signed_total"] > 0, m
assert of("good") + of("revoked") + of("unknown") == \
    m["hm_ocsp_cached_total"] + m["hm_ocsp_signed_total"], m
PY

say "SIGTERM"
kill -TERM $pid
wait $pid || fail "exit code $?"
say "passed"
