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
    asan     build-asan/     clang's AddressSanitizer and UndefinedBehaviorSanitizer, and libFuzzer targets
    tsan     build-tsan/     ThreadSanitizer
  Without a TARGET the last two build what ./run-tests.sh runs of them, the others everything; the
  target "all" is everything in each.
USAGE
}

# What sanitizers need of a compiler, which takes three fifths of the time so: lines of code in what they
# tell, and the first level of optimisation.
light=(-Doptimization=1 -Dc_args=-g1)
name=${1:-}
suite=
case $name in
debug) dir=build options=() ;;
release) dir=build-release options=(--buildtype=release -Ddebug=true) ;;
asan) # with coverage of code for the fuzzers, so that these are no build of their own
    suite=unit dir=build-asan
    options=(-Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false "${light[@]}")
    export CC=clang
    ;;
tsan) # gcc warns of what cannot be there: only the other builds take warnings for errors
    suite=threads dir=build-tsan
    options=(-Db_sanitize=thread -Db_lundef=false "${light[@]}" -Dwerror=false)
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
# programs_of SUITE: what its tests run, of the build folder.
programs_of() {
    python3 - "$dir/meson-info" "$1" <<'PY'
import json, os, sys
info, suite = sys.argv[1:]
build = os.path.dirname(os.path.abspath(info))
with open(f"{info}/intro-targets.json") as f:
    files = {t["id"]: [os.path.relpath(name, build) for name in t["filename"]] for t in json.load(f)}
with open(f"{info}/intro-tests.json") as f:
    wanted = {i for t in json.load(f) if suite in (s.split(":")[-1] for s in t["suite"]) for i in t["depends"]}
print(*sorted(name for i in wanted for name in files[i]))
PY
}
if [ $# = 0 ] && [ -n "$suite" ]; then
    # shellcheck disable=SC2046 # their names have no spaces
    set -- $(programs_of "$suite") src/cli/hypermesh src/server/{trustchain,hypermesh,stoq}-server
    [ "$name" != asan ] || set -- "$@" fuzzers
fi
# What the cache does not have is not read twice: once to look for it, and once to compile it.
export CCACHE_DEPEND=1
ninja -C "$dir" "$@"
