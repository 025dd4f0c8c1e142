#!/usr/bin/env bash
# Unpacks the third-party sources pinned in deps.lock into deps/ and checks their integrity.
# Idempotent: a folder that already holds the pinned bytes is left alone. No package script is run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")

fail() { echo "fetch-deps: $*" >&2; exit 1; }

mkdir -p "$root/deps" || fail "cannot make $root/deps (a dangling link? remove it)"
exec 8>"$root/deps/.lock"
flock -w 300 8 || fail "another fetch holds deps/.lock for five minutes"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Sets $tarball.
fetch_npm() {
    local name=$1 version=$2
    command -v npm >/dev/null || fail "npm is missing: run deploy/setup.sh build"
    (cd "$work" && npm pack --loglevel=error --ignore-scripts --prefer-offline "$name@$version") \
        >"$work/name" 2>"$work/log" || {
        tail -5 "$work/log" >&2
        fail "npm pack $name@$version failed; is the registry reachable? (npm ping)"
    }
    tarball=$work/$(tail -1 "$work/name")
}

while read -r registry name version integrity folder; do
    case $registry in '' | '#'*) continue ;; esac
    target=$root/deps/$folder
    if [ "$(cat "$target/.integrity" 2>/dev/null)" = "$integrity" ]; then continue; fi
    echo "fetch-deps: $name $version"
    case $registry in
    npm) fetch_npm "$name" "$version" ;;
    *) fail "deps.lock: no way to fetch from '$registry'" ;;
    esac
    want=$(base64 -d <<<"${integrity#sha512-}" | od -An -v -tx1 | tr -d ' \n')
    have=$(sha512sum <"$tarball" | cut -d' ' -f1)
    [ "$want" = "$have" ] || fail "$name $version: sha512 is $have, deps.lock says $want: not used"
    rm -rf "$target.new" "$target"
    mkdir "$target.new"
    tar -xzf "$tarball" -C "$target.new" --strip-components=1 --no-same-owner
    echo "$integrity" >"$target.new/.integrity"
    mv "$target.new" "$target"
done <"$here/deps.lock"
