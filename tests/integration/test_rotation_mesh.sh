#!/usr/bin/env bash
# A new issuing key for the mesh family beside the old one, in one server: nothing is issued by it before
# the ledger believes it, nobody is refused in between, openssl follows both chains and believes the lists,
# deltas and OCSP answers of both keys, and renewals go on; killed at any step it goes on from there. With
# the root here, away, and in a token. The ledger is a folder of answers here; a whole mesh is in
# tests/e2e/test_mesh_key.py. $1: folder with falcon.so; $2: trustchain-server; $3: hypermesh;
# $4: softhsm.sh; $5: fake_node.py.
set -euo pipefail
module=$(realpath "$1") server=$(realpath "$2") hypermesh=$(realpath "$3") softhsm=$(realpath "$4")
fake_node=$(realpath "$5")
python=$(type -P /usr/bin/python3 || type -P python3) # the program, whose end is the test's to see to
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=tests/integration/rotation.sh
. "$(dirname "${BASH_SOURCE[0]}")/rotation.sh"
logs=(server.log out err answer)
: >err

family=mesh profile=node P=(-provider-path "$module" -provider falcon -provider default)
issue() { # NAME [SECONDS]: NAME.key, NAME.crt with its chain, NAME.serial
    o genpkey -algorithm falcon1024 -out "$1.key"
    o req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
    certify "$@"
}
states() { # "ID STATE" of the mesh's, as the server has them
    get /v1/issuing | python3 -c 'import json, sys
for i in json.load(sys.stdin)["items"]:
    if i["family"] == "mesh":
        assert i["present"] == (i["state"] == "present")
        print(i["id"], i["state"])'
}
is() { grep -qx "$1 $2" <<<"$(states)"; }
present() { states | sed -n 's/ present//p'; }
hup() { # ID STATE: SIGHUP, until the server has it so
    kill -HUP $pid
    until_true is "$1" "$2"
}
rotate() { # the new one's id in $id, its certificate in $file
    code 0 "$server" rotate --family mesh --dir "$data"
    says 'trust propose'
    id=$(sed -n 's/^issuing: //p' out) file=$(sed -n 's/^certificate: //p' out)
}
use() { "$server" issuing use "$1" --family mesh --dir "$data" --node "$node"; }
remove() { "$server" issuing remove "$1" --family mesh --dir "$data" --node "$node"; }
key_of() { # CERTIFICATE: what the ledger calls the authority
    o x509 -in "$1" -noout -pubkey | o pkey -pubin -outform DER | sha256sum | cut -c 1-64
}
# ledger SINCE HEIGHT KEY...: the node's answers: these are in force since that block, and its peer has
# the other.
ledger() {
    python3 - "$@" <<'PY'
import json, sys
since, height, *keys = sys.argv[1:]
items = [{"id": k, "kind": "authority", "since_height": int(since)} for k in keys]
items.append({"id": "0" * 64, "kind": "proposal", "height": 1})
peers = [{"name": "node-1", "state": "up", "height": 100}, {"name": "node-2", "state": "up", "height": int(height)},
         {"name": "node-3", "state": "down", "height": 0}]
for name, what in (("status", {"ready": True}), ("trust", {"items": items}), ("nodes", {"items": peers})):
    open(f"node/_v1_{name}", "w").write(json.dumps(what))
PY
}

api=$(free_port tcp) port=$(free_port tcp) public="http://[::1]:$port"
nodeport=$(free_port tcp) node="https://[::1]:$nodeport"
mkdir node
"$server" init --dir data --mesh test >init.log
start data
first=$(present)
openssl ecparam -name prime256v1 -genkey -noout -out node.key
openssl req -new -key node.key -subj / -addext 'subjectAltName=IP:::1' -out node.csr
"$hypermesh" cert issue node.csr --profile server -o node.crt >out
"$python" "$fake_node" node "$nodeport" node.crt node.key 2>node.err &
pids+=($!)
answers() { curl -sSg --fail --cacert data/edge-root.crt "$node/v1/status" >answer 2>/dev/null; }
ledger 0 100 "$(key_of data/authority/mesh-ca.crt)"
until_true answers

say "what cannot be is refused"
code 2 "$server" rotate --family both --dir data; says 'mesh or edge'
code 2 "$server" rotate --family mesh --edge-names a.test --dir data; says 'edge family'
code 2 "$server" issuing use "$first" --dir data; says 'family mesh'
code 1 use 0123456789abcdef; says 'no issuing CA of the id'
code 1 use "$first"; says 'the one that issues'
code 1 remove "$first"; says 'rotate first'
edge=$(lines | sed -n 's/^edge \([0-9a-f]*\) .*/\1/p')
code 1 use "$edge"; says 'it is of the edge family'
code 1 "$server" issuing remove "$first" --dir data; says 'it is of the mesh family'
[ "$(curl -sSg -o out -w '%{http_code}' "$public/crl/mesh-0123456789abcdef.crl")" = 404 ] || fail "it is there"

say "made while certificates are issued one after the other"
for name in old oldgone oldlater; do issue $name; done
for life in 60 180 540; do issue old$life $life; done # however slow this is, one of them can be renewed
revoke oldgone
lists old; cp old.crl old.base
keep_issuing old
until_true some 5
rotate
second=$id key=$(key_of "$file")
code 1 "$server" rotate --family mesh --dir data; says 'under way'; says "$second"
[ "$(states)" = "$first present" ] || fail "the server has it before it was told"
hup "$second" ready
is "$first" present || fail "it issues with a key that nobody believes yet"
grep -q 'mesh-.* issues, of 2' data/audit.log || fail "not in the audit log"
get "/v1/crl?family=mesh&issuing=$second" | o crl -inform DER -noout -text >out
says 'No Revoked Certificates'

say "it does not issue before the members believe it"
code 2 "$server" issuing use "$second" --family mesh --dir data; says '--node is needed'
code 1 use "$second"; says 'no authority in force'; says 'trust propose'
ledger 101 100 "$(key_of data/authority/mesh-ca.crt)" "$key"
code 1 use "$second"; says 'node-1 has not said yet'
ledger 90 89 "$(key_of data/authority/mesh-ca.crt)" "$key"
code 1 use "$second"; says 'node-2 has not said yet'
ledger 90 95 "$(key_of data/authority/mesh-ca.crt)" "$key"
echo '{"ready": false}' >node/_v1_status
code 1 use "$second"; says 'is not ready'
rm node/_v1_status
code 1 use "$second"; says ":$nodeport"; says 'not found'
code 1 "$server" issuing use "$second" --family mesh --dir data --node "https://[::1]:1"; says "the node"
code 1 remove "$second"; says 'the node' # who does not know does not say that it may go
ledger 90 95 "$(key_of data/authority/mesh-ca.crt)" "$key"
code 1 remove "$second"; says 'trust withdraw'
lines >out
[ "$(grep -c '^mesh' out)" = 2 ] && grep -q "^mesh $second ready .* live 0 " out || fail "$(lines)"
more 5
code 0 use "$second"; says SIGHUP
is "$first" present || fail "it issues with the new key before it was told"
hup "$second" present
is "$first" older || fail "$(states)"
more 5
no_more
code 1 use "$first"; says 'does not again'
code 1 use "$second"; says 'the one that issues'
get '/v1/roots?name=mesh-issuing' | o x509 -noout -subject | grep -q "mesh issuing $second" || fail "its name"
curl -sSg --fail "$public/ca/mesh.crt" | cmp - <(curl -sSg --fail "$public/ca/mesh-$second.crt") || fail "/ca/mesh.crt"

say "two keys, each with lists, deltas and OCSP answers of its own"
two_keys "$first"
by new "$second" || fail "another CA issued it"

say "a certificate of the old key is renewed by the new one"
renewed() { # a third of its life over, but not all
    for life in 60 180 540; do
        "$hypermesh" cert renew old$life.crt --key old$life.key -o renewed.crt >out 2>err && return
    done
    return 1
}
until_true renewed
by renewed "$second" || fail "renewed by another"
o verify -CAfile data/mesh-root.crt -untrusted renewed.crt renewed.crt >out

say "killed at each step of the next change, it goes on from there"
lists old; cp old.crl.der before
rotate
third=$id thirdkey=$(key_of "$file")
killed
is "$second" present && is "$third" ready || fail "$(states)"
issue step1; by step1 "$second" || fail "another CA issued it"
ledger 90 95 "$key" "$thirdkey"
code 0 use "$third"
killed # before it was told
is "$third" present && is "$second" older && is "$first" older || fail "$(states)"
issue step2; by step2 "$third" || fail "another CA issued it"
killed
is "$third" present || fail "$(states)"
lists old; cmp before old.crl.der || fail "another list"
ocsp oldgone revoked
lists new; ocsp newgone revoked; ocsp new good
for i in 1 2 3 4 5 6; do
    timeout -s KILL "0.$((i * 7 % 10))$i" "$server" rotate --family mesh --dir data >out 2>err || true
    waits=$(lines | sed -n 's/^mesh \([0-9a-f]*\) ready .*/\1/p')
    [ -n "$waits" ] || continue
    ledger 90 95 "$thirdkey"
    hup "$waits" ready
    code 0 remove "$waits" # given up
    says SIGHUP
    kill -HUP $pid
    left() { ! grep -q "$waits" <<<"$(states)"; }
    until_true left
done
[ "$(lines | grep -c '^mesh')" = 3 ] || fail "$(lines)"
for delay in 0 0.002 0.005 0.009 0.014 0.02 0.03; do # while it takes a new one, and lets go of it
    rotate
    kill -HUP $pid
    sleep $delay
    killed
    is "$third" present && is "$id" ready || fail "$(states)"
    get "/v1/crl?family=mesh&issuing=$id" | o crl -inform DER -noout -text >out
    says 'No Revoked Certificates'
    code 0 remove "$id"
    kill -HUP $pid
    sleep $delay
    killed
    is "$third" present && [ "$(states | wc -l)" = 3 ] || fail "$(states)"
    ! compgen -G 'data/authority/mesh-ca-4.*' >out || fail "files of $id are left"
done
issue step3; by step3 "$third" || fail "another CA issued it"
lists old; cmp before old.crl.der || fail "another list"
get /readyz >out

say "removed only when the members let go of it and nobody is under it any more"
ledger 90 95 "$key" "$thirdkey" "$(key_of data/authority/mesh-ca.crt)"
code 1 remove "$first"; says 'trust withdraw'
ledger 90 95 "$key" "$thirdkey"
code 1 remove "$first"; says 'not over:'
stop
"$server" init --dir short --mesh test >init.log
start short
firstkey=$(key_of short/authority/mesh-ca.crt) first=$(present)
# Each authority needs a node whose certificate is its own.
issue_node() {
    openssl req -new -key node.key -subj / -addext 'subjectAltName=IP:::1' -out node.csr
    "$hypermesh" cert issue node.csr --profile server -o node.crt >out
    nodeport=$(free_port tcp) node="https://[::1]:$nodeport"
    "$python" "$fake_node" node "$nodeport" node.crt node.key 2>node.err &
    pids+=($!)
    answers() { curl -sSg --fail --cacert "$data/edge-root.crt" "$node/v1/status" >answer 2>/dev/null; }
    until_true answers
}
issue_node
issue brief 60
issue briefgone 60
revoke briefgone
rotate
second=$id
ledger 90 95 "$firstkey" "$(key_of "$file")"
code 0 use "$second"
ledger 90 95 "$(key_of "$file")"
code 1 remove "$first"; says SIGHUP
hup "$second" present
code 1 remove "$first"; says 'not over: 2'
lists brief; cp brief.ca briefgone.ca
ocsp briefgone revoked
over() { [ "$(live "$first")" = 0 ]; }
until_true over
code 0 remove "$first"; says SIGHUP
[ -e short/authority/mesh-ca.key ] || fail "the server may still need it"
kill -HUP $pid
gone() { [ ! -e short/authority/mesh-ca.key ]; }
until_true gone
for f in ca.crt ca.csr crl.der crl-base.der crl-delta.der; do
    [ ! -e short/authority/mesh-$f ] || fail "mesh-$f is left"
done
get "/v1/certificates/$(cat briefgone.serial)" | grep -q '"state":"revoked"' || fail "its record is gone"
"$hypermesh" log verify >out || fail "the log"
stop
start short # without any file of the first one
issue after; by after "$second" || fail "another CA issued it"
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
issue_node
issue old
code 0 "$server" rotate --family mesh --dir alone; says mesh-ca-2.csr
id=$(sed -n 's/^issuing: //p' out) request=$(sed -n 's/^request: //p' out)
code 0 "$server" rotate --family mesh --dir alone; says "$id" # the same request
code 1 use "$id"; says 'no issuing CA of the id' # it has no certificate
kill -HUP $pid
issue still; by still "$id" && fail "issued by a CA without a certificate"
root sign --key offline/mesh-root.key --days 30 "$request" -o brief.chain
code 1 "$server" install-issuing --dir alone brief.chain; says 'ends before'
root sign --key offline/mesh-root.key "$request" -o second.chain
code 0 "$server" install-issuing --dir alone second.chain; says SIGHUP
hup "$id" ready
o x509 -in second.chain -out second.crt
ledger 7 7 "$(key_of second.crt)"
code 0 use "$id"
hup "$id" present
issue new; by new "$id" || fail "another CA issued it"
for name in old new; do
    lists $name
    expect good $name -CRLfile $name.crl
    ocsp $name good
done
stop

say "in a token, the root too"
"$softhsm" "$dir/hsm" >env.sh 2>softhsm.log || { cat softhsm.log >&2; fail "no token"; }
source ./env.sh
export SOFTHSM2_CONF
"$server" init --dir token --mesh test --hsm "$TRUSTCHAIN_HSM" >out
unset TRUSTCHAIN_HSM
start token
first=$(present)
issue_node
issue brief 30
rotate
second=$id
[ -e token/authority/mesh-ca-2.hsm ] && ! compgen -G 'token/authority/mesh-*.key' >out || fail "a private key is in a file"
ledger 7 7 "$(key_of "$file")"
code 0 use "$second"
hup "$second" present
issue new; by new "$second" || fail "another CA issued it"
for name in brief new; do
    lists $name
    ocsp $name good
done
until_true over
code 0 remove "$first"
kill -HUP $pid
gone() { [ ! -e token/authority/mesh-ca.hsm ]; }
until_true gone
get /readyz >out # what unwraps the new one is still in the token
issue last; by last "$second" || fail "another CA issued it"
stop
start token
issue again
stop
say "all well"
