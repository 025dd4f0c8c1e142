#!/usr/bin/env bash
# OpenSSL's own command line with falcon.so: keys, certificates, CMS, TLS 1.3 with client
# certificates. $1: the folder with falcon.so.
set -euo pipefail
module=$1
dir=$(mktemp -d)
server=
cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT
cd "$dir"

say() { echo "test: $*"; }
fail() { echo "FAILED: $*" >&2; exit 1; }
P=(-provider-path "$module" -provider falcon -provider default)
o() { local command=$1; shift; openssl "$command" "${P[@]}" "$@"; }
# refuse TEXT COMMAND...: the command must fail.
refuse() { local what=$1; shift; if "$@" >refused.log 2>&1; then fail "$what was accepted"; fi; }

say "keys"
o genpkey -algorithm falcon1024 -out ca.key
o pkey -in ca.key -check -pubcheck -noout 2>/dev/null || o pkey -in ca.key -noout
grep -q 'FALCON-1024 Private-Key' < <(o pkey -in ca.key -text -noout) || fail "no text of the key"
o pkey -in ca.key -outform DER -out ca.der
o pkey -in ca.der -inform DER -out again.key
cmp ca.key again.key || fail "PEM and DER differ"
o pkey -in ca.key -pubout -out ca.pub
grep -q 'FALCON-1024 Public-Key' < <(o pkey -pubin -in ca.pub -text -noout) || fail "no text"
o pkcs8 -topk8 -in ca.key -v2 aes-256-cbc -passout pass:secret -out sealed.key
grep -q 'ENCRYPTED PRIVATE KEY' sealed.key || fail "the key is not encrypted"
o pkey -in sealed.key -passin pass:secret -out open.key
cmp ca.key open.key || fail "the encrypted key opens to another one"
refuse "a wrong passphrase" o pkey -in sealed.key -passin pass:wrong -noout
head -c 4000 ca.der >cut.der
refuse "a truncated key" o pkey -in cut.der -inform DER -noout
{ head -c 4121 ca.der; printf '\x00'; } >flipped.der
cmp -s ca.der flipped.der || refuse "a key with another's public half" \
    o pkey -in flipped.der -inform DER -noout

say "signatures"
printf 'the message' >msg
o pkeyutl -sign -rawin -inkey ca.key -in msg -out sig
o pkeyutl -verify -rawin -pubin -inkey ca.pub -in msg -sigfile sig
printf 'the messagE' >other
refuse "a signature over other bytes" o pkeyutl -verify -rawin -pubin -inkey ca.pub -in other \
    -sigfile sig
head -c 1000 sig >cutsig
refuse "a truncated signature" o pkeyutl -verify -rawin -pubin -inkey ca.pub -in msg \
    -sigfile cutsig
{ cat sig; head -c 7 /dev/zero; } >padsig
refuse "a padded signature" o pkeyutl -verify -rawin -pubin -inkey ca.pub -in msg -sigfile padsig

say "certificates"
o req -x509 -new -key ca.key -subj '/CN=mesh root' -days 2 -out ca.crt
for name in server client; do
    o genpkey -algorithm falcon1024 -out $name.key
    o req -new -key $name.key -subj "/CN=$name" -out $name.csr
    o req -in $name.csr -verify -noout
    printf 'subjectAltName=DNS:%s.test\n' $name >ext
    o x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -days 1 -extfile ext -out $name.crt
    o verify -CAfile ca.crt $name.crt
done
grep -q 'Signature Algorithm: falcon1024' < <(o x509 -in server.crt -noout -text) ||
    fail "the certificate does not name its algorithm"
o genpkey -algorithm falcon1024 -out rogue.key
o req -x509 -new -key rogue.key -subj '/CN=mesh root' -days 2 -out rogue.crt
refuse "a certificate of another root" o verify -CAfile rogue.crt server.crt

say "CMS"
o cms -sign -in msg -binary -nodetach -signer server.crt -inkey server.key -md sha512 \
    -outform DER -out msg.cms
o cms -verify -in msg.cms -inform DER -CAfile ca.crt -purpose any -out msg.out 2>/dev/null
cmp msg msg.out || fail "CMS gives other bytes"

say "TLS 1.3, mutual, X25519MLKEM768"
mkfifo hold
# -naccept ends the server; its port is the kernel's choice, printed once it listens.
openssl s_server "${P[@]}" -6 -accept '[::1]:0' -cert server.crt -key server.key -CAfile ca.crt \
    -Verify 2 -verify_return_error -tls1_3 -groups X25519MLKEM768 -sigalgs falcon1024 \
    -client_sigalgs falcon1024 -naccept 4 -rev <hold >server.log 2>&1 &
server=$!
exec 7>hold
port=
for _ in $(seq 1800); do
    port=$(sed -n 's/^ACCEPT .*:\([0-9]*\).*$/\1/p' server.log | head -1)
    [ -n "$port" ] && break
    kill -0 $server 2>/dev/null || { cat server.log; fail "s_server ended"; }
    sleep 0.1
done
[ -n "$port" ] || { cat server.log; fail "s_server does not listen"; }
client() {
    printf 'hello\n' | timeout 20 openssl s_client "${P[@]}" -connect "[::1]:$port" -CAfile ca.crt \
        -verify_return_error -verify_hostname server.test -tls1_3 -ign_eof "$@" 2>&1
}
client -cert client.crt -key client.key -groups X25519MLKEM768 >client.log || true
grep -q olleh client.log || { cat client.log server.log; fail "no answer over TLS"; }
grep -q 'X25519MLKEM768' client.log || fail "another group was used"
grep -Eq 'Peer signature type: falcon1024' client.log || { cat client.log; fail "not FALCON"; }
client -groups X25519MLKEM768 >client.log || true
grep -q olleh client.log && fail "a client without a certificate was served"
client -cert client.crt -key client.key -groups X25519 >client.log || true
grep -q olleh client.log && fail "a client with X25519 only was served"
client -cert rogue.crt -key rogue.key -groups X25519MLKEM768 >client.log || true
grep -q olleh client.log && fail "a client of another root was served"
say "passed"
