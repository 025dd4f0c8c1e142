#!/usr/bin/env bash
# Makes and builds one of the named build folders. Idempotent.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'USAGE'
usage: scripts/build.sh NAME [TARGET...]
  NAME is one of, each a folder of its own:
    debug    build/          optimised lightly, with symbols: everyday work
    release  build-release/  optimised, assertions stay on: what is deployed and measured
    asan     build-asan/     AddressSanitizer and UndefinedBehaviorSanitizer
    tsan     build-tsan/     ThreadSanitizer
    fuzz     build-fuzz/     libFuzzer targets with clang, ASan and UBSan
USAGE
}

# What sanitizers need of a compiler, which takes three fifths of the time so: lines of code in what they
# tell, and the first level of optimisation. There gcc warns of what cannot be, so that only the other
# builds take warnings for errors.
light=(-Doptimization=1 -Dc_args=-g1 -Dwerror=false)
name=${1:-}
case $name in
debug) dir=build options=() ;;
release) dir=build-release options=(--buildtype=release -Ddebug=true) ;;
asan) dir=build-asan options=(-Db_sanitize=address,undefined -Db_lundef=false "${light[@]}") ;;
tsan) dir=build-tsan options=(-Db_sanitize=thread -Db_lundef=false "${light[@]}") ;;
fuzz)
    dir=build-fuzz options=(-Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false)
    export CC=clang
    [ $# -gt 1 ] || set -- fuzz fuzzers
    ;;
-h | --help) usage; exit 0 ;;
*) usage >&2; exit 2 ;;
esac
shift

log=$dir/setup.log
if [ ! -f "$dir/build.ninja" ]; then
    rm -rf "$dir"
    mkdir -p "$dir"
    # A fresh folder, so the log must not lie in it before meson runs.
    log=$(mktemp)
    meson setup "$dir" "${options[@]}" >"$log" 2>&1 || {
        tail -n 15 "$log" >&2
        echo "build: cannot configure $dir; is something missing? deploy/setup.sh build test" >&2
        rm -rf "$dir"
        exit 1
    }
    rm -f "$log"
fi
# What the cache does not have is not read twice: once to look for it, and once to compile it.
export CCACHE_DEPEND=1
ninja -C "$dir" "$@"
