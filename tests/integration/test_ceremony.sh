#!/usr/bin/env bash
# Roots made away from the server: their keys are encrypted files that openssl reads with the
# passphrase; they sign an authority's issuing keys, and each other across; the authority then issues,
# revokes, and holds no root's key; and what is wrong in between is said.
# $1: folder with falcon.so; $2: trustchain-server; $3: hypermesh.
set -euo pipefail
module=$(realpath "$1") server=$(realpath "$2") hypermesh=$(realpath "$3")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
logs=(server.log out err answer)

P=(-provider-path "$module" -provider falcon -provider default)
o() { local command=$1; shift; openssl "$command" "${P[@]}" "$@"; }
root() { # create|sign ARG..., with no network to use
    local act=$1
    shift
    unshare -rn "$hypermesh" cert root "$act" --passphrase-file phrase "$@"
}
install_() { "$server" install-issuing --dir ca "$@"; }

say "two roots, on a machine without a network"
echo 'correct horse battery staple' >phrase
chmod 600 phrase
code 0 root create --family mesh --mesh test --out offline; says offline/mesh-root.key
code 0 root create --family edge --mesh test --out offline
[ "$(stat -c %a offline/mesh-root.key offline/edge-root.key | sort -u)" = 600 ] || fail "the keys' modes"
for f in mesh edge; do
    head -1 offline/$f-root.key | grep -q 'BEGIN ENCRYPTED PRIVATE KEY' || fail "$f: not encrypted"
    openssl asn1parse -in offline/$f-root.key >out
    grep -q scrypt out && grep -q aes-256-cbc out || fail "$f: not scrypt with AES-256"
    # Somebody else's program reads it with the passphrase, and finds the certificate's key.
    o pkey -in offline/$f-root.key -passin file:phrase -pubout >key.pub
    o x509 -in offline/$f-root.crt -noout -pubkey | cmp - key.pub || fail "$f: another key"
    code 1 o pkey -in offline/$f-root.key -passin pass:wrong -noout
    o verify -CAfile offline/$f-root.crt offline/$f-root.crt >out
done
cp offline/mesh-root.key kept
code 4 root create --family mesh --mesh test --out offline; says 'there already'
cmp kept offline/mesh-root.key || fail "the second create changed the key"
code 1 root create --family mesh --mesh 'Bad Name' --out other; says 'a-z'
code 2 root create --family root --mesh test --out other; says 'mesh edge'
echo short >short
chmod 600 short
code 1 "$hypermesh" cert root create --family mesh --mesh test --out other --passphrase-file short
says '12 to 255'
[ ! -e other ] || fail "a refused create left a folder"

say "an authority with issuing keys alone"
code 0 "$server" init --dir ca --mesh test --issuing-only; says mesh-ca.csr
code 0 "$server" init --dir ca --mesh test --issuing-only # once more: what is there stays
code 2 "$server" init --dir other-ca --mesh test --issuing-only --edge-names a.test; says 'root sign'
[ -z "$(find ca -name '*root*')" ] || fail "the server has something of a root"
o req -in ca/authority/mesh-ca.csr -noout -verify 2>err >out
o req -in ca/authority/edge-ca.csr -noout -verify 2>err >out
code 2 "$server" run --dir ca --listen '[::1]:0'; says 'install-issuing'

say "signed by the roots"
sign=(root sign --key offline/mesh-root.key)
code 0 "${sign[@]}" ca/authority/mesh-ca.csr -o mesh.chain --days 900
code 0 root sign --key offline/edge-root.key ca/authority/edge-ca.csr -o edge.chain
code 0 "${sign[@]}" offline/edge-root.crt -o cross.chain
o verify -CAfile offline/mesh-root.crt mesh.chain >out
o verify -CAfile offline/edge-root.crt edge.chain >out
o verify -CAfile offline/mesh-root.crt cross.chain >out
o x509 -in mesh.chain -noout -ext basicConstraints,keyUsage >out
says 'CA:TRUE, pathlen:0'; says 'Certificate Sign, CRL Sign'
o x509 -in mesh.chain -noout -checkend $((899 * 86400)) >out || fail "it ends before its days"
o x509 -in mesh.chain -noout -checkend $((901 * 86400)) >out && fail "it lives longer than its days"
o x509 -in mesh.chain -noout -ext nameConstraints >out
says critical; says 'DNS:test.internal'; says 'IP:FD48:4D00:0:0:0:0:0:0/FFFF:FFFF'
openssl x509 -in edge.chain -noout -text >out
if grep -q 'Name Constraints' out; then fail "an edge CA that nobody tied"; fi
code 0 root sign --key offline/edge-root.key ca/authority/edge-ca.csr -o tied.chain --edge-names example.org
openssl verify -CAfile offline/edge-root.crt tied.chain >out
openssl x509 -in tied.chain -noout -ext nameConstraints >out
says critical; says 'DNS:example.org'
code 2 root sign --key offline/edge-root.key ca/authority/edge-ca.csr -o no.chain --edge-names .org
code 1 "${sign[@]}" ca/authority/mesh-ca.csr -o no.chain --edge-names example.org; says 'edge-names'
code 1 "${sign[@]}" offline/edge-root.crt -o no.chain --edge-names example.org; says 'edge-names'
code 1 "${sign[@]}" ca/authority/edge-ca.csr -o no.chain; says 'another family'
code 1 root sign --key offline/edge-root.key offline/mesh-root.crt -o no.chain; says 'only a mesh root'
code 1 "${sign[@]}" mesh.chain -o no.chain; says 'not that of a root'
code 1 "${sign[@]}" phrase -o no.chain; says 'neither a certificate request'
sed '3s/[A-Za-z]/B/7' ca/authority/mesh-ca.csr >broken.csr
code 1 "${sign[@]}" broken.csr -o no.chain
code 2 "${sign[@]}" ca/authority/mesh-ca.csr -o no.chain --days 3651
echo 'another passphrase' >wrong
chmod 600 wrong
code 6 "$hypermesh" cert root sign --passphrase-file wrong --key offline/mesh-root.key \
    ca/authority/mesh-ca.csr -o no.chain
says 'cannot be read with that passphrase'
chmod 644 wrong
code 6 "$hypermesh" cert root sign --passphrase-file wrong --key offline/mesh-root.key \
    ca/authority/mesh-ca.csr -o no.chain
says 'read by others'
[ ! -e no.chain ] || fail "a refused signature wrote a file"

say "installed"
code 2 install_; says FILE
code 1 install_ cross.chain; says 'after both families'
code 1 install_ offline/mesh-root.crt; says 'two certificates'
cat edge.chain mesh.chain >swapped
code 1 install_ swapped; says 'two certificates'
{ o x509 -in mesh.chain; cat offline/edge-root.crt; } >swapped
code 1 install_ swapped
code 0 root create --family mesh --mesh test --out stranger # the same names, another key
code 0 root create --family edge --mesh test --out stranger
code 0 "$server" init --dir other-ca --mesh test --issuing-only
code 0 root sign --key stranger/mesh-root.key other-ca/authority/mesh-ca.csr -o strange.chain
code 1 install_ strange.chain; says 'neither issuing key'
code 0 install_ mesh.chain; says 'edge family.s is still missing'
code 2 "$server" run --dir ca --listen '[::1]:0'; says 'edge family has no issuing'
code 0 install_ edge.chain; says edge-root.crt
code 1 install_ mesh.chain; says 'mesh family has an issuing certificate that ends no sooner'
code 1 install_ edge.chain; says 'ends no sooner'
cmp ca/mesh-root.crt offline/mesh-root.crt && cmp ca/edge-root.crt offline/edge-root.crt ||
    fail "other roots"

start() {
    : >server.log
    "$server" run --dir ca --listen '[::1]:0' >server.out 2>server.log &
    pid=$!
    pids+=($pid)
    until_true grep -q '"running"' server.log
    url=$(ss -Hlntp | sed -n "s/.* \(\[::1\]:[0-9]*\) .*pid=$pid,.*/https:\/\/\1/p")
    export HYPERMESH_AUTHORITY=$url HYPERMESH_CA=offline/edge-root.crt
    export HYPERMESH_TOKEN_FILE=ca/api.token
}
get() { status=$(curl -sS -g --cacert offline/edge-root.crt -o answer -w '%{http_code}' "$url$1"); }
start
get '/v1/roots?name=cross'
[ "$status" = 404 ] || fail "a cross-signature that nobody installed: $status"
code 0 install_ cross.chain; says SIGHUP
kill -HUP "$pid"
has_cross() {
    get '/v1/roots?name=cross'
    [ "$status" = 200 ]
}
until_true has_cross

say "it issues and revokes, under the roots that it does not have"
o genpkey -algorithm falcon1024 -out node.key
o req -new -key node.key -subj '/CN=node-a' -out node.csr
openssl ecparam -name prime256v1 -genkey -noout -out web.key
openssl req -new -key web.key -subj / -addext 'subjectAltName=DNS:web.test' -out web.csr
code 0 "$hypermesh" cert issue node.csr --profile node -o node.crt
code 0 "$hypermesh" cert issue web.csr --profile server -o web.crt
o verify -CAfile offline/mesh-root.crt -untrusted node.crt node.crt >out
openssl verify -CAfile offline/edge-root.crt -untrusted web.crt web.crt >out
o verify -CAfile offline/mesh-root.crt -untrusted web.crt -untrusted cross.chain web.crt >out
serial=$(openssl x509 -in web.crt -noout -serial | sed 's/.*=//' | tr A-F a-f)
code 0 "$hypermesh" cert revoke "$serial"
get '/v1/crl?family=edge'
openssl crl -inform DER -in answer -CAfile edge.chain -noout 2>err || fail "the list's signature"
get '/v1/crl?family=mesh'
o crl -inform DER -in answer -CAfile mesh.chain -noout 2>err || fail "the mesh list's signature"
[ -z "$(find ca -name '*root*.key' -o -name '*root*.hsm')" ] || fail "a root's key is on the server"

say "a longer life for the issuing certificates, while the server runs"
code 0 root sign --key offline/edge-root.key ca/authority/edge-ca.csr -o short.chain --days 1000
code 1 install_ short.chain; says 'ends no sooner'
code 0 root sign --key stranger/edge-root.key ca/authority/edge-ca.csr -o strange.chain --days 3000
code 1 install_ strange.chain; says 'another root'
code 0 root sign --key offline/mesh-root.key ca/authority/mesh-ca.csr -o longer-mesh.chain --days 3000
code 0 install_ longer-mesh.chain; says SIGHUP
code 0 root sign --key offline/edge-root.key ca/authority/edge-ca.csr -o longer.chain --days 3000
# Somebody asks all the while.
: >asked
while curl -sS -g --cacert offline/edge-root.crt -o /dev/null "$url/v1/crl?family=edge"; do
    echo >>asked
done 2>asker.err &
asker=$!
pids+=($asker)
until_true test -s asked
code 0 install_ longer.chain; says SIGHUP
kill -HUP "$pid"
o x509 -in longer.chain >longer.crt
o x509 -in longer-mesh.chain >longer-mesh.crt
has_longer() {
    get '/v1/roots?name=mesh-issuing'
    cmp -s answer longer-mesh.crt || return
    get '/v1/roots?name=edge-issuing'
    cmp -s answer longer.crt
}
until_true has_longer
served=$(wc -l <asked)
more_asked() { [ "$(wc -l <asked)" -gt $((served + 5)) ]; }
until_true more_asked
kill -0 $asker || { cat asker.err >&2; fail "a request failed"; }
kill $asker
code 0 "$hypermesh" cert issue web.csr --profile server -o web2.crt
openssl verify -CAfile offline/edge-root.crt -untrusted web2.crt web2.crt >out
# What was issued before is good under either, and so is the list that revokes it.
for ca in edge.chain longer.chain; do
    openssl verify -CAfile offline/edge-root.crt -untrusted $ca web.crt >out
    get '/v1/crl?family=edge'
    openssl crl -inform DER -in answer -CAfile $ca -noout 2>err || fail "the list under $ca"
    openssl crl -inform DER -in answer -out edge.crl
    code 2 openssl verify -crl_check -CRLfile edge.crl -CAfile offline/edge-root.crt \
        -untrusted $ca web.crt
    says revoked
    openssl verify -crl_check -CRLfile edge.crl -CAfile offline/edge-root.crt -untrusted $ca \
        web2.crt >out
done
kill -TERM "$pid"
wait "$pid" || fail "exit code $?"
start # and it is so after a start
get '/v1/roots?name=edge-issuing'
cmp answer longer.crt || fail "another certificate after a start"
kill -TERM "$pid"
wait "$pid" || fail "exit code $?"
say "all well"
