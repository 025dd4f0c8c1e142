#!/usr/bin/env bash
# Installs what the package-lock.json of a folder pins, once, and no package's scripts.
set -euo pipefail
cd "${1:?usage: scripts/npm-install.sh FOLDER}"
stamp=node_modules/.lock-sha256
want=$(sha256sum <package-lock.json)
[ "$(cat $stamp 2>/dev/null)" != "$want" ] || exit 0
# Not `npm ci`: it refuses a lock file made where the registry lacks other platforms' binaries.
# `npm install` takes the locked versions and checks their integrity all the same; it must not
# have wanted anything else.
npm install --no-audit --no-fund --loglevel=error --ignore-scripts
[ "$(sha256sum <package-lock.json)" = "$want" ] || {
    echo "npm-install: $1: package.json asks for what package-lock.json does not have" >&2
    exit 1
}
echo "$want" >$stamp
