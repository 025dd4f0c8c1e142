#!/usr/bin/env bash
# ACME by programs that none of us wrote, as Debian has them: certbot, lego, acme.sh and dehydrated get,
# renew and revoke certificates over IPv6, by all three challenges, from a trustchain-server in a
# network of its own whose names come from unbound. $1: trustchain-server; $2: acme_faults.py.
set -euo pipefail
if [ "${HM_ACME_ISOLATED:-}" != 1 ]; then
    user=() && [ "$(id -u)" = 0 ] || user=(-r)
    HM_ACME_ISOLATED=1 exec unshare ${user[@]+"${user[@]}"} -n -p -f -m --mount-proc --kill-child \
        bash "$0" "$@"
fi
server=$(realpath "$1") faults=$(realpath "$2") here=$(realpath "$(dirname "$0")")
. "$here/lib.sh"
logs=(server.log out err client.log)

say "a network with names"
net=fd48:acee:
ip link set lo up
for i in 1 2 53; do ip addr add $net:$i/128 dev lo nodad; done
cp /etc/hosts hosts
echo "$net:1 ca.test" >>hosts
mount --bind hosts /etc/hosts
cat >unbound.conf <<UNBOUND
server:
  interface: $net:53
  do-ip4: no
  username: ""
  chroot: ""
  directory: "$dir"
  pidfile: "$dir/unbound.pid"
  use-syslog: no
  do-daemonize: no
  access-control: ::/0 allow
  module-config: "iterator"
  local-zone: "test." static
  local-data: "example.test. IN NS ns.example.test."
  local-data: "example.test. IN SOA ns.example.test. a.example.test. 1 60 60 60 60"
  local-data: "_acme-challenge.b.example.test. IN TXT other"
  local-data: "_acme-challenge.i.example.test. IN AAAA $net:2"
remote-control:
  control-enable: yes
  control-interface: $dir/unbound.sock
UNBOUND
for n in a b c d e f g h i; do
    sed -i "/^remote-control/i \  local-data: \"$n.example.test. IN AAAA $net:2\"" unbound.conf
done
unbound -c unbound.conf >unbound.log 2>&1 &
pids+=($!)
dns() { unbound-control -c "$dir/unbound.conf" -s "$dir/unbound.sock" "$@" >/dev/null; }
until_true dns status

say "an authority"
"$server" init --dir data --mesh test >init.log
start() { # OPTION...
    "$server" run --dir data --listen "[$net:1]:8443" --host "ca.test,$net:1" \
        --acme-resolver "[$net:53]:53" "$@" >server.out 2>>server.log &
    pid=$!
    pids+=($pid)
    until_true grep -q '"running"' server.log
}
start
url=https://ca.test:8443
root=$dir/data/edge-root.crt
export REQUESTS_CA_BUNDLE=$root LEGO_CA_CERTIFICATES=$root CURL_CA_BUNDLE=$root
ask() { curl -sS --cacert "$root" "$@"; }
ask $url/acme/directory | grep -q newOrder || fail "no directory"
[ "$(ask -o /dev/null -w '%{http_code}' -I $url/acme/new-nonce)" = 200 ] || fail "HEAD of newNonce"
[ "$(ask -o /dev/null -w '%{http_code}' $url/acme/new-nonce)" = 204 ] || fail "GET of newNonce"
client() { timeout 300 "$@" >client.log 2>&1 </dev/null || fail "$*"; }
serial() { openssl x509 -in "$1" -noout -serial | cut -d= -f2 | tr A-F a-f; }
# good LEAF CHAIN NAME...: verifies, and is for these names.
good() {
    local leaf=$1 chain=$2 n
    shift 2
    openssl verify -CAfile "$root" -untrusted "$chain" "$leaf" >out 2>err || fail "$leaf"
    for n; do openssl x509 -in "$leaf" -noout -ext subjectAltName | grep -qi -- "$n" || fail "$leaf: $n"; done
}
state() { ask "$url/v1/certificates/$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)["state"])'; }
revoked() { [ "$(state "$1")" = revoked ] || fail "$1 is not revoked"; }
renewed() { # FILE SERIAL: another than before
    [ "$(serial "$1")" != "$2" ] || fail "$1 was not renewed"
}

say "certbot: http-01 for two names, renew, revoke"
bot() { client certbot "$@" --config-dir bot --work-dir bot/work --logs-dir bot/log -n; }
bot certonly --standalone --server $url/acme/directory --agree-tos -m a@example.test \
    --no-eff-email --preferred-challenges http -d a.example.test -d b.example.test
live=bot/live/a.example.test
good $live/cert.pem $live/chain.pem a.example.test b.example.test
before=$(serial $live/cert.pem)
bot renew --force-renewal --no-random-sleep-on-renew
renewed $live/cert.pem "$before"
before=$(serial $live/cert.pem)
bot revoke --server $url/acme/directory --cert-path $live/cert.pem --reason superseded \
    --no-delete-after-revoke
revoked "$before"

say "certbot: dns-01, its account's address, its account's end"
printf '#!/bin/sh\nexec unbound-control -c %s/unbound.conf -s %s/unbound.sock "$@" >/dev/null\n' \
    "$dir" "$dir" >ctl
printf '#!/bin/sh\n%s/ctl local_data "_acme-challenge.$CERTBOT_DOMAIN 1 IN TXT $CERTBOT_VALIDATION"\n' \
    "$dir" >hook-add
printf '#!/bin/sh\n%s/ctl local_data_remove "_acme-challenge.$CERTBOT_DOMAIN"\n' "$dir" >hook-del
chmod +x ctl hook-add hook-del
bot certonly --manual --server $url/acme/directory --preferred-challenges dns \
    --manual-auth-hook "$dir/hook-add" --manual-cleanup-hook "$dir/hook-del" -d c.example.test
good bot/live/c.example.test/cert.pem bot/live/c.example.test/chain.pem c.example.test
bot update_account --server $url/acme/directory -m b@example.test
bot unregister --server $url/acme/directory

say "lego: http-01, renew, revoke"
go() { client lego --server $url/acme/directory --email a@example.test --accept-tos --path lego "$@"; }
go --domains d.example.test --http --http.port "[$net:2]:80" run
good lego/certificates/d.example.test.crt lego/certificates/d.example.test.issuer.crt d.example.test
before=$(serial lego/certificates/d.example.test.crt)
go --domains d.example.test --http --http.port "[$net:2]:80" renew --days 90 --no-random-sleep
renewed lego/certificates/d.example.test.crt "$before"
before=$(serial lego/certificates/d.example.test.crt)
go --domains d.example.test revoke
revoked "$before"
say "lego: tls-alpn-01, and an RSA account"
go --domains e.example.test --tls --tls.port "[$net:2]:443" run
good lego/certificates/e.example.test.crt lego/certificates/e.example.test.issuer.crt e.example.test
say "lego: dns-01 by its exec hook"
printf '#!/bin/sh\nname=${2%%.}\ncase $1 in\npresent) exec %s/ctl local_data "$name 1 IN TXT $3" ;;\ncleanup) exec %s/ctl local_data_remove "$name" ;;\nesac\n' \
    "$dir" "$dir" >lego-hook
chmod +x lego-hook
EXEC_PATH=$dir/lego-hook go --domains f.example.test --dns exec --dns.disable-cp \
    --dns.resolvers "[$net:53]:53" run
good lego/certificates/f.example.test.crt lego/certificates/f.example.test.issuer.crt f.example.test

say "acme.sh: http-01, renew, revoke; tls-alpn-01; an address"
sh_() {
    client acme.sh --home "$dir/acmesh" --config-home "$dir/acmesh" --server $url/acme/directory \
        --ca-bundle "$root" --no-color "$@"
}
sh_ --register-account -m a@example.test
sh_ --issue --standalone --listen-v6 -d g.example.test
crt=$(find acmesh -name g.example.test.cer)
good "$crt" "$(dirname "$crt")/ca.cer" g.example.test
before=$(serial "$crt")
sh_ --renew --force --ecc -d g.example.test
renewed "$crt" "$before"
before=$(serial "$crt")
sh_ --revoke --ecc -d g.example.test
revoked "$before"
sh_ --issue --alpn --listen-v6 -d h.example.test
good "$(find acmesh -name h.example.test.cer)" "$(find acmesh -name ca.cer | grep h.example)" h.example.test

say "acme.sh: an address"
sh_ --issue --standalone --listen-v6 -d $net:2
ip_crt=$(find acmesh -name "$net:2.cer")
openssl verify -CAfile "$root" -untrusted "$(dirname "$ip_crt")/ca.cer" "$ip_crt" >out 2>err || fail "$ip_crt"
openssl x509 -in "$ip_crt" -noout -ext subjectAltName | grep -q 'IP Address:FD48:ACEE' || fail "no address"

say "dehydrated: http-01, renew, revoke, its account's other key"
mkdir -p web/.well-known/acme-challenge
(cd web && exec python3 -m http.server --bind $net:2 80) >web.log 2>&1 &
web=$!
pids+=($web)
until_true ask -o /dev/null "http://[$net:2]/"
cat >dehydrated.conf <<DEHYDRATED
CA=$url/acme/directory
CURL_OPTS="--cacert $root"
BASEDIR=$dir/dehydrated
WELLKNOWN=$dir/web/.well-known/acme-challenge
CONTACT_EMAIL=a@example.test
IP_VERSION=6
DEHYDRATED
mkdir dehydrated
hyd() { client dehydrated -f dehydrated.conf "$@"; }
hyd --register --accept-terms
hyd -c -d a.example.test
crt=dehydrated/certs/a.example.test/cert.pem
good $crt dehydrated/certs/a.example.test/chain.pem a.example.test
before=$(serial $crt)
hyd -c --force -d a.example.test
renewed $crt "$before"
before=$(serial $crt)
hyd -r "$crt"
revoked "$before"
kill $web
wait $web 2>/dev/null || true

say "a name that somebody else has"
code 1 timeout 300 lego --server $url/acme/directory --email a@example.test --accept-tos --path lego \
    --domains a.example.test --http --http.port "[$net:1]:80" run
says 'acme:error:connection'

say "what was issued is there after kill -9, and so are the accounts"
kill -9 $pid
wait $pid 2>/dev/null || true
: >server.log
start
go --domains e.example.test --tls --tls.port "[$net:2]:443" renew --days 90 --no-random-sleep
revoked "$before"

say "another issuing key: certificates of the old one are renewed by the new one, and revoked"
"$server" rotate --family edge --dir data >out
new=$(sed -n 's/^issuing: //p' out)
kill -HUP $pid
issues() { ask $url/v1/issuing | python3 -c 'import json, sys
sys.exit(sys.argv[1] not in [i["id"] for i in json.load(sys.stdin)["items"] if i["present"]])' "$new"; }
until_true issues
# window FILE: when its renewal is suggested (RFC 9773), named by its issuer's key and its serial
window() {
    local id
    id=$(openssl x509 -in "$1" -noout -ext authorityKeyIdentifier -serial | python3 -c 'import base64, re, sys
key, serial = re.search("((?:[0-9A-F]{2}:)+[0-9A-F]{2}).*serial=([0-9A-F]+)", sys.stdin.read(), re.S).groups()
enc = lambda h: base64.urlsafe_b64encode(bytes.fromhex(h.replace(":", ""))).decode().rstrip("=")
print(enc(key) + "." + enc(serial))')
    ask --fail "$(ask $url/acme/directory | sed 's/.*"renewalInfo":"\([^"]*\)".*/\1/')/$id" | grep -q suggestedWindow ||
        fail "no window for $1"
}
by_new() { openssl x509 -in "$1" -noout -issuer | grep -q "$new"; }
f=lego/certificates/f.example.test h=$(find acmesh -name h.example.test.cer)
window $f.crt
by_new $f.crt && fail "issued by a key that was not there"
before=$(serial $f.crt)
EXEC_PATH=$dir/lego-hook go --domains f.example.test --dns exec --dns.disable-cp \
    --dns.resolvers "[$net:53]:53" renew --days 90 --no-random-sleep
renewed $f.crt "$before"
by_new $f.crt || fail "renewed by the old key"
good $f.crt $f.issuer.crt f.example.test
window $f.crt
before=$(serial "$h")
sh_ --revoke --ecc -d h.example.test
revoked "$before"
before=$(serial $f.crt)
go --domains f.example.test revoke
revoked "$before"

say "every kind of fault"
python3 "$faults" $url "$root" $net:2 >client.log 2>&1 || { cat client.log >&2; fail "faults"; }

say "accounts bound to keys of the authority"
kill $pid
wait $pid
: >server.log
printf '[server]\ndeny = h.example.test\n' >policy.ini
start --acme-eab required --policy policy.ini
code 1 timeout 300 lego --server $url/acme/directory --email b@example.test --accept-tos --path bound \
    --domains e.example.test --http --http.port "[$net:2]:80" run
says 'External Account Binding'
"$server" eab --dir data >eab
kid=$(awk '/^key id/ {print $3}' eab) key=$(awk '/^key:/ {print $2}' eab)
client lego --server $url/acme/directory --email b@example.test --accept-tos --path bound --eab \
    --kid "$kid" --hmac "$key" --domains e.example.test --http --http.port "[$net:2]:80" run
# The same account, for a name that the policy denies.
code 1 timeout 300 lego --server $url/acme/directory --email b@example.test --accept-tos --path bound --eab \
    --kid "$kid" --hmac "$key" --domains h.example.test --http --http.port "[$net:2]:80" run
says 'rejectedIdentifier'
says 'h.example.test'
bot() { client certbot "$@" --config-dir bot2 --work-dir bot2/work --logs-dir bot2/log -n; }
"$server" eab --dir data >eab
kid=$(awk '/^key id/ {print $3}' eab) key=$(awk '/^key:/ {print $2}' eab)
bot register --server $url/acme/directory --agree-tos -m a@example.test --no-eff-email \
    --eab-kid "$kid" "--eab-hmac-key=$key"
# Once used, a key is used.
code 1 timeout 300 lego --server $url/acme/directory --email c@example.test --accept-tos --path twice \
    --eab --kid "$kid" --hmac "$key" --domains e.example.test --http --http.port "[$net:2]:80" run
says 'an account has used this key'

say "a clean end"
kill $pid
wait $pid || fail "exit code $?"
grep -q '"stopped"' server.log || fail "no clean end"
