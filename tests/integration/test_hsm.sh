#!/usr/bin/env bash
# An authority with its keys in SoftHSM2's token: made, used, its token taken away and put back.
# usage: test_hsm.sh FALCON_FOLDER TRUSTCHAIN_SERVER SOFTHSM_SCRIPT
set -euo pipefail
falcon=$(realpath "$1") server=$(realpath "$2") softhsm=$(realpath "$3")
source "$(dirname "$0")/lib.sh"

o() {
    local command=$1
    shift
    openssl "$command" -provider-path "$falcon" -provider falcon -provider default "$@"
}
public=$(free_port tcp)
ocsp() { # FAMILY WORDS: with a nonce, so that it is signed now
    o ocsp -issuer "$1-issuing.crt" -CAfile "data/$1-root.crt" -cert "$1.pem" \
        -url "http://[::1]:$public/ocsp" >ocsp.log 2>&1 || true
    grep -q -- "$2" ocsp.log || { cat ocsp.log >&2; fail "OCSP of $1: no \"$2\""; }
}
start() {
    : >server.log
    "$server" run --dir data --listen '[::1]:0' --public-listen "[::1]:$public" >>server.log 2>&1 &
    pid=$!
    pids+=($pid)
    until_true eval 'grep -q "\"running\"" server.log || ! kill -0 $pid 2>/dev/null'
    kill -0 $pid 2>/dev/null || fail "the server ended at its start"
    port=$(ss -Hlntp | awk -v p="pid=$pid," -v q="$public" \
        'index($0, p) {n = split($4, at, ":"); if (at[n] != q) print at[n]}')
    url=https://[::1]:$port
}
get() { # PATH ARG...: body in the file answer
    local path=$1
    shift
    status=$(curl -s -m 120 --cacert data/edge-root.crt -o answer -w '%{http_code}' "$@" "$url$path")
}
issue() { # PROFILE CSR
    python3 -c 'import json, sys
print(json.dumps({"profile": sys.argv[1], "csr": open(sys.argv[2]).read()}))' "$1" "$2" >body
    get /v1/certificates -H "Authorization: Bearer $(cat data/api.token)" --data-binary @body
}
expect() { [ "$status" = "$1" ] || { cat answer >&2; fail "$2: HTTP $status, not $1"; }; }
chain() { python3 -c 'import json; print(json.load(open("answer"))["chain"], end="")'; }
ready() { get /readyz && [ "$status" = 200 ]; }

"$softhsm" "$dir/hsm" >env.sh 2>softhsm.log || { cat softhsm.log >&2; fail "no token"; }
"$softhsm" "$dir/hsm" 2>&1 | cmp - env.sh || fail "a second run of softhsm.sh does something else"
source ./env.sh
export SOFTHSM2_CONF
uri=$TRUSTCHAIN_HSM
unset TRUSTCHAIN_HSM

say "init refuses what cannot be right"
code 2 "$server" init --dir data --hsm 'pkcs11:token=hypermesh'
says module-path
code 2 "$server" init --dir data --hsm "pkcs11:token=hypermesh?module-path=/x&pin-value=1234"
says 'no PIN may stand'
code 2 "$server" init --dir data --hsm 'file:x'
says 'RFC 7512'
code 2 "$server" init --dir data --hsm "${uri/libsofthsm2/nothing}"
says 'no PKCS #11 module'
code 1 "$server" init --dir data --hsm "${uri/token=hypermesh/token=other}"
says 'no slot holds it'
code 2 "$server" init --dir data --hsm "${uri%&*}"
says 'where is the PIN'
echo 0000wrong >wrong.pin
chmod 600 wrong.pin
code 1 "$server" init --dir data --hsm "${uri%file:*}file:$dir/wrong.pin"
says 'refuses the PIN'
chmod 644 wrong.pin
code 1 "$server" init --dir data --hsm "${uri%file:*}file:$dir/wrong.pin"
says 'wrong.pin'
[ ! -e data/authority ] || fail "a refused init left an authority"

say "init; the PIN as a credential"
mkdir credentials
cp hsm/pin credentials/hsm-pin
CREDENTIALS_DIRECTORY=$dir/credentials "$server" init --dir data --mesh test --hsm "${uri%&*}"
ls data/authority/*.key >/dev/null 2>&1 && fail "a private key is in a file"
# The log's key is no CA's and stays in a file.
[ "$(grep -rla 'PRIVATE KEY' data/authority)" = data/authority/log-key ] ||
    fail "a private key is in the directory"
code 2 "$server" run --dir data --listen '[::1]:0'
says 'where is the PIN'
export CREDENTIALS_DIRECTORY=$dir/credentials
python3 - "$(cat hsm/pin)" <<'PY'
import os, re, subprocess, sys
# What the token itself says of its private and secret keys.
module = re.search("module-path=([^&]*)", open("env.sh").read())[1]
text = subprocess.run(["pkcs11-tool", "--module", module, "--token-label", "hypermesh", "-l", "-p",
                       "env:PIN", "-O"], env={**os.environ, "PIN": sys.argv[1]}, check=True,
                      capture_output=True, text=True).stdout
keys = [k for k in re.split(r"(?m)^(?=\w)", text) if re.match("(Private|Secret) Key Object", k)]
assert len(keys) == 3, text # root and issuing of the edge; the one that wraps
for k in keys:
    assert "never extractable" in k and "always sensitive" in k, k
PY

say "issuing keys alone, for roots elsewhere"
"$server" init --dir alone --mesh alone --issuing-only --hsm "${uri%&*}" >out
for f in mesh edge; do
    o req -in alone/authority/$f-ca.csr -noout -verify >out 2>err || fail "the request of $f"
done
[ "$(grep -rla 'PRIVATE KEY' alone/authority)" = alone/authority/log-key ] ||
    fail "a private key is in a file"

say "issue, revoke, lists"
start
get /readyz; expect 200 readyz
o genpkey -algorithm falcon1024 -out node.key
o req -new -key node.key -subj '/CN=node-a' -out node.csr
openssl ecparam -name prime256v1 -genkey -noout -out web.key
openssl req -new -key web.key -subj / -addext 'subjectAltName=DNS:web.test' -out web.csr
issue node node.csr; expect 201 "a node's certificate"
chain >node.crt
o verify -CAfile data/mesh-root.crt -untrusted node.crt node.crt
issue server web.csr; expect 201 "a server's certificate"
chain >web.crt
openssl verify -CAfile data/edge-root.crt -untrusted web.crt web.crt
get '/v1/crl?family=edge'; expect 200 "the edge's list"
get '/v1/roots?name=edge-issuing'; cp answer edge-issuing.crt
get '/v1/crl?family=edge'
openssl crl -inform DER -in answer -CAfile edge-issuing.crt -noout 2>&1 | grep -q 'verify OK' ||
    fail "the list is not signed by the token's key"
get '/v1/roots?name=mesh-issuing'; cp answer mesh-issuing.crt
cp node.crt mesh.pem
cp web.crt edge.pem
for f in mesh edge; do ocsp $f "$f.pem: good"; grep -q 'verify OK' ocsp.log || fail "OCSP of $f"; done
locked=$(awk '/VmLck/ {print $2}' /proc/$pid/status)
[ "$locked" = 0 ] || fail "a key stays in memory after the signature: $locked kB are locked"

say "the token is taken away and put back, five times"
for i in 1 2 3 4 5; do
    mv hsm/tokens hsm/away
    [ $((i % 2)) = 1 ] || mkdir hsm/tokens # gone altogether, or a reader without a token
    issue server web.csr; expect 503 "a server's certificate without the token"
    grep -q 'the token hypermesh cannot be used' answer || fail "503 without a reason"
    issue node node.csr; expect 503 "a node's certificate without the token"
    get /readyz; expect 503 "readyz without the token"
    grep -q 'the token hypermesh cannot be used' answer || fail "not ready, without a reason"
    get /healthz; expect 200 "healthz without the token"
    ocsp edge trylater
    ocsp mesh trylater
    get '/v1/certificates'; expect 200 "the list of certificates without the token"
    rm -rf hsm/tokens
    mv hsm/away hsm/tokens
    issue node node.csr; expect 201 "a node's certificate, the token is back"
    issue server web.csr; expect 201 "a server's certificate, the token is back"
    chain >web.crt
    openssl verify -CAfile data/edge-root.crt -untrusted web.crt web.crt >verify.log
    get /readyz; expect 200 "readyz, the token is back"
done

say "another start; a damaged key; a PIN that changed"
kill -TERM $pid
wait $pid || fail "exit code $? after SIGTERM"
if grep -qF "$(cat hsm/pin)" server.log; then fail "the PIN is in the log"; fi
start
issue node node.csr; expect 201 "after another start"
kill -TERM $pid
wait $pid || fail "exit code $? after SIGTERM"
cp -p data/authority/mesh-ca.hsm kept.hsm
python3 - <<'PY'
b = bytearray(open("data/authority/mesh-ca.hsm", "rb").read())
b[len(b) // 2] ^= 1
open("data/authority/mesh-ca.hsm", "wb").write(b)
PY
code 1 "$server" run --dir data --listen '[::1]:0'
says 'does not unwrap'
cp -p kept.hsm data/authority/mesh-ca.hsm
echo 1111wrong >credentials/hsm-pin
code 1 "$server" run --dir data --listen '[::1]:0'
says 'refuses the PIN'
say "passed"
