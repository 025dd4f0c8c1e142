#!/usr/bin/env bash
# Installs what the package-lock.json of a folder pins, once, and no package's scripts.
set -euo pipefail
cd "${1:?usage: scripts/npm-install.sh FOLDER}"
stamp=node_modules/.lock-sha256
want=$(sha256sum <package-lock.json)
[ "$(cat $stamp 2>/dev/null)" != "$want" ] || exit 0
# Not `npm ci`: it refuses a lock file made where the registry lacks other platforms' binaries.
# `npm install` takes the locked versions and checks their integrity all the same. It may learn of
# optional binaries for other platforms, which the lock file then need not record; it must not have
# wanted anything else. The lock file stays as it is in the tree.
kept=$(mktemp)
trap 'rm -f "$kept"' EXIT
cp package-lock.json "$kept"
npm install --no-audit --no-fund --loglevel=error --ignore-scripts
mv package-lock.json node_modules/.lock-wanted.json
cp "$kept" package-lock.json
node -e '
const [kept, wanted] = process.argv.slice(1).map(
    (f) => JSON.parse(require("fs").readFileSync(f, "utf8")).packages);
const same = (a, b) => a.version === b.version && a.integrity === b.integrity;
const bad = Object.keys(wanted).filter((k) => k !== "" &&
    (kept[k] ? !same(kept[k], wanted[k]) : !wanted[k].optional));
if (bad.length) {
    console.error("npm-install: the lock file does not pin: " + bad.join(" "));
    process.exit(1);
}' "$kept" node_modules/.lock-wanted.json || {
    echo "npm-install: $1: package.json asks for what package-lock.json does not have" >&2
    exit 1
}
echo "$want" >$stamp
