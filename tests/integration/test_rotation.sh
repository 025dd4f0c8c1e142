#!/usr/bin/env bash
# A new issuing key for the edge family while certificates are issued: nobody is refused, openssl
# follows both chains and believes the lists, deltas and OCSP answers of both keys, and renewals go
# on; the old key stays as long as a certificate is under it. With the root here, away, and in a
# token. $1: folder with falcon.so; $2: trustchain-server; $3: hypermesh; $4: softhsm.sh.
set -euo pipefail
module=$(realpath "$1") server=$(realpath "$2") hypermesh=$(realpath "$3") softhsm=$(realpath "$4")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/integration/rotation.sh
. "$(dirname "${BASH_SOURCE[0]}")/rotation.sh"
logs=(server.log out err answer)
: >err

family=edge profile=server P=()
# issue NAME [SECONDS]: NAME.key, NAME.crt with its chain, NAME.serial
issue() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
    openssl req -new -key "$1.key" -subj / -addext "subjectAltName=DNS:$1.test" -out "$1.csr"
    certify "$@"
}
present() { get /v1/issuing | python3 -c 'import json, sys
print(*[i["id"] for i in json.load(sys.stdin)["items"] if i["present"] and i["family"] == "edge"])'; }
issues() { [ "$(present)" = "$1" ]; }
rotate() { # the new one's id in $id
    code 0 "$server" rotate --family edge --dir "$data"
    says SIGHUP
    id=$(sed -n 's/^issuing: //p' out)
}
take() { # ID: the server issues with it
    kill -HUP $pid
    until_true issues "$1"
}

api=$(free_port tcp) port=$(free_port tcp) public="http://[::1]:$port"
"$server" init --dir data --mesh test >init.log
start data
first=$(present)

say "what cannot be is refused"
code 2 "$server" rotate --family both --dir data; says 'mesh or edge'
code 2 "$server" issuing --dir data; says 'issuing list'
code 1 "$server" issuing remove "$first" --dir data; says 'rotate first'
code 1 "$server" issuing remove 0123 --dir data; says 'no issuing CA of the id'
curl -sSg -o out -w '%{http_code}' --cacert data/edge-root.crt "https://[::1]:$api/v1/crl?family=edge&issuing=x" |
    grep -q 400 || fail "issuing=x"
for path in crl/edge-0123456789abcdef.crl crl/mesh-$first.crl crl/edge-.crl ca/edge.crl crl/edge ca/x.crt; do
    [ "$(curl -sSg -o out -w '%{http_code}' "$public/$path")" = 404 ] || fail "$path is there"
done

say "rotated while certificates are issued one after the other"
for name in old oldgone oldlater; do issue $name; done
revoke oldgone
lists old; cp old.crl old.base
keep_issuing old
until_true some 5
rotate
second=$id
issues "$first" || fail "it issues with the new key before it was told"
take "$second"
more 5
no_more
curl -sSg --fail "$public/ca/edge.crt" | cmp - <(curl -sSg --fail "$public/ca/edge-$second.crt") || fail "/ca/edge.crt"
grep -q 'issuing CAs changed' data/audit.log || fail "not in the audit log"
get '/v1/roots?name=edge-issuing' | openssl x509 -noout -subject | grep -q "edge issuing $second" || fail "its name"

say "two keys, each with lists, deltas and OCSP answers of its own"
two_keys "$first"

say "a certificate of the old key is renewed with its key"
post /v1/certificates "$(python3 -c 'import json
print(json.dumps({"profile": "server", "csr": open("old.csr").read(), "life_seconds": 90}))')"
serial=$(field serial)
rotate
third=$id
take "$third"
cat >renew.py <<'PY'
import json, subprocess, sys, time
serial, csr = sys.argv[1], open("old.csr").read()
t = int(time.time() * 1000)
open("msg", "wb").write(b"hypermesh renewal v1\0" + bytes.fromhex(serial) + t.to_bytes(8, "big") + csr.encode())
sig = subprocess.run(["openssl", "dgst", "-sha256", "-sign", "old.key", "msg"], check=True, capture_output=True)
print(json.dumps({"serial": serial, "time_ms": t, "csr": csr, "signature": sig.stdout.hex()}))
PY
renewed() { # 409 until a third of its life is over
    python3 renew.py "$serial" >body
    get /v1/certificates/renew -H 'Content-Type: application/json' --data-binary @body >answer 2>/dev/null
}
until_true renewed
field chain >renewed.crt
openssl verify -CAfile data/edge-root.crt -untrusted renewed.crt renewed.crt >out
by renewed "$third" || fail "renewed by another"

say "what is there after kill -9, and what rotate leaves when it is killed"
lists old; cp old.crl.der before
killed
issues "$third" || fail "another one issues"
lists old; cmp before old.crl.der || fail "another list"
ocsp oldgone revoked
for i in 1 2 3 4 5 6; do
    was=$(lines | grep -c '^edge')
    timeout -s KILL "0.0$((i * 7 % 10))$i" "$server" rotate --dir data >out 2>err || true
    now=$(lines | grep -c '^edge')
    [ "$now" = "$was" ] || [ "$now" = $((was + 1)) ] || fail "$now issuing CAs, of $was"
    [ "$now" -lt 7 ] || break
    kill -HUP $pid
    id=$(lines | sed -n 's/^edge \([0-9a-f]*\) present.*/\1/p')
    until_true issues "$id"
    issue after$i
    openssl verify -CAfile data/edge-root.crt -untrusted after$i.crt after$i.crt >out
done

say "eight at most"
while [ "$(lines | grep -c '^edge')" -lt 8 ]; do rotate; done
code 1 "$server" rotate --dir data; says 'remove one'
take "$id"
get /readyz >out
stop

say "removed only when nobody is under it any more"
"$server" init --dir short --mesh test >init.log
start short # its own certificate is the first key's
stop
rotate
second=$id
start short # and still good
issue brief 60
issue briefgone 60
revoke briefgone
[ "$(live "$second")" = 2 ] || fail "$(lines)"
rotate
code 1 "$server" issuing remove "$second" --dir short; says SIGHUP
take "$id"
code 1 "$server" issuing remove "$second" --dir short; says 'not over: 2'
lists brief; cp brief.ca briefgone.ca
ocsp briefgone revoked
over() { [ "$(live "$second")" = 0 ]; }
until_true over
code 0 "$server" issuing remove "$second" --dir short; says SIGHUP
[ -e short/authority/edge-ca-2.key ] || fail "the server may still need it"
kill -HUP $pid
gone() { [ ! -e short/authority/edge-ca-2.key ]; }
until_true gone
compgen -G 'short/authority/edge-*-2*' >out && fail "$(cat out) is left"
[ "$(curl -sSg -o out -w '%{http_code}' "$public/crl/edge-$second.crl")" = 404 ] || fail "its list is there"
get "/v1/certificates/$(cat briefgone.serial)" | grep -q '"state":"revoked"' || fail "its record is gone"
issued_by briefgone brief.ca
"$hypermesh" log verify >out || fail "the log"
code 1 "$server" issuing remove "$first" --dir short; says 'no issuing CA'
lines >out; says present; says older
stop

say "with the root elsewhere"
echo 'correct horse battery staple' >phrase
chmod 600 phrase
root() { local act=$1; shift; unshare -rn "$hypermesh" cert root "$act" --passphrase-file phrase "$@"; }
for f in mesh edge; do root create --family $f --mesh test --out offline >out; done
"$server" init --dir alone --mesh test --issuing-only >out
for f in mesh edge; do
    root sign --key offline/$f-root.key alone/authority/$f-ca.csr -o $f.chain
done
"$server" install-issuing --dir alone mesh.chain edge.chain >out
start alone
first=$(present)
issue old
code 2 "$server" rotate --dir alone --edge-names a.test; says 'root sign'
code 0 "$server" rotate --dir alone; says edge-ca-2.csr
id=$(sed -n 's/^issuing: //p' out)
code 0 "$server" rotate --dir alone; says "$id" # the same request
kill -HUP $pid
issue still
openssl x509 -in still.crt -noout -issuer | grep -q "$id" && fail "issued by a CA without a certificate"
root sign --key offline/edge-root.key "$(sed -n 's/^request: //p' out)" -o second.chain
code 0 "$server" install-issuing --dir alone second.chain; says SIGHUP
take "$id"
issue new
for name in old new; do
    lists $name
    expect good $name -CRLfile $name.crl
    ocsp $name good
done
# A longer life for the old one is still to be had.
root sign --key offline/edge-root.key --days 3000 alone/authority/edge-ca.csr -o longer.chain
code 0 "$server" install-issuing --dir alone longer.chain
openssl x509 -in longer.chain -out longer.crt
kill -HUP $pid
longer() { curl -sSg --fail "$public/ca/edge-$first.crt" | openssl x509 -inform DER | cmp -s - longer.crt; }
until_true longer
issues "$id" || fail "another one issues"
stop

say "in a token, the root too"
"$softhsm" "$dir/hsm" >env.sh 2>softhsm.log || { cat softhsm.log >&2; fail "no token"; }
source ./env.sh
export SOFTHSM2_CONF
"$server" init --dir token --mesh test --hsm "$TRUSTCHAIN_HSM" >out
unset TRUSTCHAIN_HSM
start token
stop
rotate
second=$id
start token
issue brief 45
rotate
take "$id"
issue new
! compgen -G 'token/authority/edge-*.key' >out || fail "$(cat out): a private key is in a file"
for name in brief new; do
    openssl verify -CAfile token/edge-root.crt -untrusted $name.crt $name.crt >out
    lists $name
    ocsp $name good
done
get /readyz >out
keys() { pkcs11-tool --module "$(sed -n 's/.*module-path=\([^&]*\).*/\1/p' env.sh)" --token-label hypermesh -l \
    -p "$(cat hsm/pin)" -O 2>/dev/null | grep -c '^Private Key Object'; }
[ "$(keys)" = 4 ] || fail "$(keys) private keys, not a root and three" # of the edge
until_true over
code 0 "$server" issuing remove "$second" --dir token
kill -HUP $pid
three() { [ "$(keys)" = 3 ]; }
until_true three
[ ! -e token/authority/edge-ca-2.hsm ] || fail "its file is left"
get /readyz >out
issue last
stop
say "all well"
