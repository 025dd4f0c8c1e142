#!/usr/bin/env bash
# Builds the page into dashboard/dist.
#   --if-old   only when a source was changed since it was built, or it never was whole
#   --is-old   builds nothing; its exit code says whether that is so
set -euo pipefail
cd "$(dirname "$0")/.."
built=dashboard/dist/.built # the build empties the folder first
is_old() {
    [ ! -e $built ] || [ -n "$(find dashboard/src dashboard/public dashboard/*.html \
        dashboard/*.json dashboard/*.ts scripts/build-dashboard.sh -newer $built -print -quit)" ]
}
case ${1-} in
--is-old) is_old; exit ;;
--if-old | '') ;;
*) echo "usage: scripts/build-dashboard.sh [--if-old | --is-old]" >&2; exit 2 ;;
esac
exec 8<dashboard
flock 8 # one at a time
[ "${1-}" = '' ] || is_old || exit 0
scripts/npm-install.sh dashboard
began=$(date +%s.%N)
npm --prefix dashboard run --silent build
touch -d "@$began" $built
