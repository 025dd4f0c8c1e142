#!/usr/bin/env bash
# Builds the page into dashboard/dist. Installs its npm packages when the lock file changed.
set -euo pipefail
cd "$(dirname "$0")/../dashboard"
stamp=node_modules/.lock-sha256
want=$(sha256sum <package-lock.json)
if [ "$(cat $stamp 2>/dev/null)" != "$want" ]; then
    # Not `npm ci`: it refuses a lock file made where the registry lacks other platforms' binaries.
    # `npm install` takes the locked versions and checks their integrity all the same; it must not
    # have wanted anything else.
    npm install --no-audit --no-fund --loglevel=error --ignore-scripts
    [ "$(sha256sum <package-lock.json)" = "$want" ] || {
        echo "build-dashboard: package.json asks for what package-lock.json does not have" >&2
        exit 1
    }
    echo "$want" >$stamp
fi
npm run --silent build
