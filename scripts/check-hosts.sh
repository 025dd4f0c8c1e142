#!/usr/bin/env bash
# No tracked file names a package registry or mirror: those come from the machine's configuration.
# The words are spelled in two halves so that this file does not find itself.
set -euo pipefail
cd "$(dirname "$0")/.."
words=("registry.npm""js" "deb.debi""an.org" "ftp.debi""an" "security.debi""an.org" \
    "npm""mirror" "yarn""pkg.com" "pypi.o""rg" "crates.i""o")
bad=0
for w in "${words[@]}"; do
    if git grep -nIF -e "$w" -- .; then bad=1; fi
done
# Lock files record names and integrity only.
if git grep -nE '"resolved": *"https?:' -- '*package-lock.json' | head -5 | grep .; then bad=1; fi
exit $bad
