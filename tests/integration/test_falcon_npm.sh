#!/usr/bin/env bash
# FALCON-1024 against two implementations from npm, both ways. $1: the folder with falcon.so.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
"$here/../../scripts/npm-install.sh" "$here/npm-falcon"
exec node "$here/npm-falcon/cross.mjs" "$1"
