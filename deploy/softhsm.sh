#!/usr/bin/env bash
# A token in software (SoftHSM2) for tests and trials: it shows how a real one behaves, and protects
# nothing, since its keys are files. Idempotent, asks nothing.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: deploy/softhsm.sh DIR [TOKEN]
Makes in DIR the token TOKEN (default hypermesh), with DIR/pin and DIR/so-pin; what is there stays.
Prints two lines for the shell, which trustchain-server needs in its environment and its init:
    SOFTHSM2_CONF=...
    TRUSTCHAIN_HSM='pkcs11:token=TOKEN?module-path=...&pin-source=file:DIR/pin'
USAGE
}

case ${1:-} in
-h | --help) usage; exit 0 ;;
'' | -*) usage >&2; exit 2 ;;
esac
[ $# -le 2 ] || { usage >&2; exit 2; }
dir=$(realpath -m -- "$1")
token=${2:-hypermesh}
[[ $token =~ ^[a-z0-9-]{1,32}$ ]] || { echo "softhsm: a token's name is 1 to 32 of a-z, 0-9, -" >&2; exit 2; }
[[ $dir =~ ^[A-Za-z0-9/._-]+$ ]] || { echo "softhsm: the folder's name must do in a URI" >&2; exit 2; }
module=
for m in /usr/lib/softhsm/libsofthsm2.so /usr/lib/*/softhsm/libsofthsm2.so; do
    [ -e "$m" ] && module=$m && break
done
[ -n "$module" ] && command -v softhsm2-util >/dev/null || {
    echo "softhsm: the package softhsm2 is missing: deploy/setup.sh test" >&2
    exit 1
}

umask 077
mkdir -p "$dir/tokens"
export SOFTHSM2_CONF=$dir/softhsm2.conf
printf 'directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\n' "$dir" \
    >"$SOFTHSM2_CONF"
for f in pin so-pin; do
    [ -s "$dir/$f" ] || od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$dir/$f"
done
if ! grep -qE "^ *Label: +$token *$" < <(softhsm2-util --show-slots); then
    # SoftHSM's own tool asks for PINs on a terminal or takes them as arguments: these guard nothing.
    softhsm2-util --init-token --free --label "$token" --pin "$(cat "$dir/pin")" \
        --so-pin "$(cat "$dir/so-pin")" >&2
fi
echo "SOFTHSM2_CONF=$SOFTHSM2_CONF"
echo "TRUSTCHAIN_HSM='pkcs11:token=$token?module-path=$module&pin-source=file:$dir/pin'"
