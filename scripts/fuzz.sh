#!/usr/bin/env bash
# Runs one fuzz target for some seconds from its kept corpus; new inputs go to build-fuzz/corpus.
# A finding is kept in build-fuzz/findings and ends with exit code 1.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 2 ] || { echo "usage: scripts/fuzz.sh TARGET SECONDS" >&2; exit 2; }
target=build-fuzz/fuzz/fuzz_$1
[ -x "$target" ] || { echo "fuzz: no $target; run scripts/build.sh fuzz" >&2; exit 1; }
mkdir -p "build-fuzz/corpus/$1" build-fuzz/findings "fuzz/corpus/$1"
exec "$target" -max_total_time="$2" -timeout=10 -rss_limit_mb=3000 -print_final_stats=1 \
    -artifact_prefix="build-fuzz/findings/$1-" "build-fuzz/corpus/$1" "fuzz/corpus/$1"
