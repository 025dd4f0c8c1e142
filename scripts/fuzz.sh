#!/usr/bin/env bash
# One fuzz target: runs it for some seconds from its kept corpus, new inputs go to build-asan/corpus,
# a finding is kept in build-asan/findings and ends with exit code 1; or makes the kept corpus anew
# from all inputs there are: a few that reach together whatever any of them reaches.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# = 2 ] || { echo "usage: scripts/fuzz.sh TARGET SECONDS|merge" >&2; exit 2; }
target=build-asan/fuzz/fuzz_$1 kept=fuzz/corpus/$1 all=build-asan/corpus/$1
[ -x "$target" ] || { echo "fuzz: no $target; run scripts/build.sh asan" >&2; exit 1; }
mkdir -p "$all" build-asan/findings "$kept"
if [ "$2" = merge ]; then
    rm -rf "$all.merged"
    mkdir "$all.merged"
    "$target" -set_cover_merge=1 -use_counters=0 -verbosity=0 "$all.merged" "$all" "$kept"
    cp "$kept"/* "$all"/ 2>/dev/null || true
    rm -rf "$kept"
    mv "$all.merged" "$kept"
    echo "fuzz: $kept has $(find "$kept" -type f | wc -l) inputs, $(du -sb "$kept" | cut -f1) bytes"
    exit
fi
exec "$target" -max_total_time="$2" -timeout=10 -rss_limit_mb=3000 -print_final_stats=1 \
    -artifact_prefix="build-asan/findings/$1-" "$all" "$kept"
