#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test. Asks nothing.
set -euo pipefail
cd "$(dirname "$0")"
# Debian's programs, whatever else the machine has by their names: a python3 of a version manager takes
# longer to begin than most of what the tests ask it for.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH

usage() {
    cat <<'USAGE'
usage: ./run-tests.sh [--list] [--no-setup] [STAGE | TEST]...
  STAGE      one of: style unit integration sim dashboard e2e asan tsan fuzz (default: all)
  TEST       one test by its name in tests/ (such as proof_time), in the debug build
  --list     list the stages and the tests
  --no-setup do not look for missing packages
Ends with one line "N passed, N failed" and exit code 0 only if nothing failed.
HM_FUZZ_SECONDS (default 5) is the time of each fuzz target in the stage fuzz.
USAGE
}

stages=(style unit integration sim dashboard e2e asan tsan fuzz)
setup=1 list=0 wanted=() later=()
for a in "$@"; do
    case $a in
    --list) list=1 ;;
    --no-setup) setup=0 ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) wanted+=("$a") ;;
    esac
done

passed=0 failed=0 failures=()
start=$SECONDS
note() { printf '%4d s  %s\n' $((SECONDS - start)) "$*"; }
pass() { passed=$((passed + 1)); }
fail() { failed=$((failed + 1)); failures+=("$1"); note "FAILED: $1"; }

# check NAME COMMAND...: one test that is not meson's; its output is shown only when it fails.
check() {
    local name=$1 out
    shift
    if out=$("$@" 2>&1); then pass; else fail "$name"; tail -n 30 <<<"$out" | sed 's/^/        /'; fi
}

# Most tests wait more than they compute: what the later stages need is built meanwhile, and only with
# processors that no test wants.
ahead=() ahead_pid='' ahead_dir=''
end_ahead() {
    [ -z "$ahead_pid" ] || kill -- "-$ahead_pid" 2>/dev/null || true
    [ -z "$ahead_dir" ] || rm -rf "$ahead_dir"
}
build_ahead() {
    ahead=("$@")
    ahead_dir=$(mktemp -d)
    trap end_ahead EXIT
    set -m # a group of its own, to be ended as one
    (
        trap - EXIT
        for a in "${ahead[@]}"; do
            nice -n 19 scripts/build.sh "$a" >/dev/null 2>&1 || true # build() says why
            : >"$ahead_dir/$a"
        done
    ) &
    ahead_pid=$!
    set +m
}

# build NAME: a build folder; a failure counts once and skips what needs it.
build() {
    local out
    note "build $1"
    if [[ " ${ahead[*]} " == *" $1 "* ]]; then
        while [ ! -e "$ahead_dir/$1" ] && kill -0 "$ahead_pid" 2>/dev/null; do sleep 0.2; done
    fi
    if out=$(scripts/build.sh "$1" 2>&1); then return 0; fi
    fail "build $1"
    grep -E -A6 'error|FAILED|cannot|missing' <<<"$out" | head -n 40 | sed 's/^/        /'
    return 1
}

# meson_tests DIR ARG...: runs tests of a build folder and counts each. The limits of time are for what
# hangs: a machine that is four times slower fails nothing.
meson_tests() {
    local dir=$1 log results
    shift
    log=$dir/meson-logs/run.log
    rm -f "$dir"/meson-logs/testlog.json
    meson test -C "$dir" --no-rebuild --print-errorlogs --timeout-multiplier 4 "$@" >"$log" 2>&1 || true
    results=$(python3 - "$dir/meson-logs/testlog.json" <<'PY'
import json, sys
try:
    for line in open(sys.argv[1]):
        t = json.loads(line)
        print("ok" if t["result"] in ("OK", "EXPECTEDFAIL") else "bad", t["name"].split(" / ")[-1].split(":")[-1])
except FileNotFoundError:
    pass
PY
    )
    if [ -z "$results" ] && ! grep -q 'No suitable tests\|No tests' "$log"; then
        fail "tests of $dir"
        tail -n 20 "$log"
        return
    fi
    while read -r how name; do
        case $how in
        ok) pass ;;
        bad) fail "$name ($dir)" ;;
        esac
    done <<<"$results"
    if grep -q '^bad' <<<"$results"; then
        grep -vE '^ *[0-9]+/[0-9]+ .* OK ' "$log" | tail -n 80 | sed 's/^/        /'
    fi
}

stage_style() {
    check format scripts/check-format.sh
    check layers scripts/check-layers.py
    check hosts scripts/check-hosts.sh
}
# All but the sanitizers test what is deployed, so that there is one build less.
stage_unit() { build release && meson_tests build-release --suite unit; }
stage_sim() { build release && meson_tests build-release --suite sim; }
# These wait for clocks more than they compute: more at a time than there are processors.
stage_integration() {
    build release && meson_tests build-release --suite integration --num-processes $((2 * $(nproc) + 1))
}
stage_dashboard() { check dashboard scripts/build-dashboard.sh; }
stage_e2e() {
    if scripts/build-dashboard.sh --is-old; then stage_dashboard; fi # nodes read it when they start
    build release && meson_tests build-release --suite e2e
}
sanitizer_env() {
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:strict_string_checks=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    export TSAN_OPTIONS="halt_on_error=1:suppressions=$PWD/tests/tsan.supp"
}
# sanitized NAME FACTOR SUITE: these tests, and a whole mesh of such nodes that loses some of them.
sanitized() {
    sanitizer_env
    build "$1" || return 0
    meson_tests "build-$1" --suite "$3" --timeout-multiplier "$2"
    check "mesh ($1)" env HM_BUILD="build-$1" python3 tests/e2e/test_mesh.py \
        /usr/include/flint /usr/include/openssl
}
stage_asan() { sanitized asan 5 unit; }
stage_tsan() { sanitized tsan 8 threads; }
stage_fuzz() {
    sanitizer_env
    build asan || return 0
    local how name
    while read -r how name; do
        if [ "$how" = ok ]; then pass; else fail "fuzz $name"; tail -n 30 "build-asan/$name.log"; fi
    done < <(find build-asan/fuzz -maxdepth 1 -type f -name 'fuzz_*' -executable -printf '%f\n' | sort |
        sed 's/^fuzz_//' | xargs -P 2 -I{} sh -c \
        'scripts/fuzz.sh {} '"${HM_FUZZ_SECONDS:-5}"' >build-asan/{}.log 2>&1 && echo ok {} || echo bad {}')
}

if [ $list = 1 ]; then
    echo "stages: ${stages[*]}"
    [ -f build/build.ninja ] && meson test -C build --list 2>/dev/null | sed 's/^/test: /'
    exit 0
fi
[ $setup = 0 ] || deploy/setup.sh build test e2e interop

[ ${#wanted[@]} -gt 0 ] || { wanted=("${stages[@]}"); later=(asan tsan); }
for w in "${wanted[@]}"; do
    if [[ " ${stages[*]} " == *" $w "* ]]; then
        note "stage $w"
        "stage_$w" || true
        if [ "$w" = unit ] && [ ${#later[@]} -gt 0 ]; then build_ahead "${later[@]}"; fi
    else
        note "test $w"
        build debug && meson_tests build "$w"
    fi
done

for f in "${failures[@]}"; do echo "failed: $f"; done
note "done"
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
