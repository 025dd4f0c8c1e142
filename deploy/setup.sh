#!/usr/bin/env bash
# Installs what is missing of deploy/packages.txt on Debian 12 or 13, and the pinned third-party
# sources. Idempotent, asks nothing, under a second when nothing is missing.
# What is needed but older in the host's own suite comes, by name only, from the Debian 13 suite,
# which is added beside the host's own Debian entry (same mirror, same key) and pinned low.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: deploy/setup.sh [--check] [GROUP...]
  GROUP    build run test e2e interop softhsm (default: build); see deploy/packages.txt
  --check  install nothing; list what is missing and exit with 1 if anything is
USAGE
}

here=$(cd "$(dirname "$0")" && pwd)
newer=trixie # the suite that has everything
groups=()
check=0
for a in "$@"; do
    case $a in
    --check) check=1 ;;
    -h | --help) usage; exit 0 ;;
    build | run | test | e2e | interop | bench | softhsm) groups+=("$a") ;;
    *) usage >&2; exit 2 ;;
    esac
done
[ ${#groups[@]} -gt 0 ] || groups=(build)

say() { echo "setup: $*"; }

# ---- what is missing -------------------------------------------------------------------------

# Fills missing[] with package names and minimum[] with their versions, unpacked[] with the names of
# those that are only unpacked.
declare -A minimum=() installed=()
missing=()
unpacked=()

command_version() { "$1" --version 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)+' | head -1; }

find_missing() {
    local name min in_groups g wanted v
    missing=()
    unpacked=()
    while read -r name v; do installed[${name%%:*}]=$v; done < <(
        dpkg-query -W -f='${db:Status-Status} ${Package} ${Version}\n' | sed -n 's/^installed //p')
    while read -r name min in_groups _; do
        case $name in '' | '#'*) continue ;; esac
        wanted=0
        for g in "${groups[@]}"; do [[ ",$in_groups," == *",$g,"* ]] && wanted=1; done
        [ $wanted = 1 ] || continue
        case $name in
        unpack:*)
            name=${name#unpack:}
            [ -d "$here/../deps/$name" ] || unpacked+=("$name")
            continue
            ;;
        cmd:*)
            v=$(command_version "${name#cmd:}" || true)
            name=${name#cmd:}
            [ "$name" = node ] && name=nodejs
            ;;
        *) v=${installed[$name]:-} ;;
        esac
        minimum[$name]=$min
        if [ -z "$v" ]; then missing+=("$name"); continue; fi
        if [ "$min" != - ] && dpkg --compare-versions "${v#*:}" lt "$min"; then
            missing+=("$name")
        fi
    done <"$here/packages.txt"
}

command -v dpkg-query >/dev/null || {
    echo "setup: this installs Debian packages, and there is no dpkg here." >&2
    echo "On another system install by hand what deploy/packages.txt names." >&2
    exit 1
}
find_missing

if [ $check = 1 ]; then
    missing+=("${unpacked[@]}")
    [ ${#missing[@]} = 0 ] && { say "nothing is missing for: ${groups[*]}"; exit 0; }
    say "missing for ${groups[*]}: ${missing[*]}"
    exit 1
fi

# ---- steps: progress, and what to say when one fails -----------------------------------------

log=$(mktemp "${TMPDIR:-/tmp}/hypermesh-setup.XXXXXX")

# While a package manager replaces the C library, a program that is started can fail: the loop below
# waits by the shell itself, on a pipe that nobody writes to.
exec {never}<> <(:)

# step TEXT HINT COMMAND...: runs it with its output in the log.
step() {
    local text=$1 hint=$2 start=$SECONDS pid shown=0
    shift 2
    echo "== $text" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null &
    pid=$!
    while kill -0 $pid 2>/dev/null; do
        if [ -t 1 ]; then
            printf '\r\033[Ksetup: %s (%d s) %.60s' "$text" $((SECONDS - start)) \
                "$(tail -n 1 "$log" 2>/dev/null | tr -d '\r' 2>/dev/null)"
        elif [ $((SECONDS - start)) -ge $((shown + 20)) ]; then
            shown=$((SECONDS - start))
            say "$text (${shown} s)"
        fi
        read -rt 0.2 -u "$never" || true
    done
    [ -t 1 ] && printf '\r\033[K'
    if wait $pid; then
        say "$text: done, $((SECONDS - start)) s"
        return
    fi
    {
        echo "setup: FAILED at: $text"
        sed -n '/^== /{h;d};H;${x;p}' "$log" | tail -n 15 | sed 's/^/    /'
        echo "setup: $hint"
        echo "setup: the whole log is $log"
    } >&2
    exit 1
}

apt() {
    DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -y -q \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef \
        -o Dpkg::Options::=--force-confold -o APT::Install-Recommends=false \
        -o Dpkg::Use-Pty=0 "$@"
}

update() {
    local try
    for try in 1 2 3; do
        apt update -o APT::Update::Error-Mode=any && return
        sleep $((try * 2)) # another apt-get update holds its lock, which has no time-out of its own
    done
    return 1
}

# ---- the Debian 13 suite beside the host's own -----------------------------------------------

# Codename of the Debian suites among the sources, oldest first; from apt's own index.
debian_suites() {
    apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(ORIGIN)' 'Created-By: Packages' |
        awk '$2 == "main" && $3 == "Debian" && $1 !~ /-/ {print $1}' | sort -u
}

# Prints "ADDRESS NAME" of the entry that serves suite $1 ("bookworm", "bookworm-security"); NAME is
# how the entry may also call it ("oldstable").
debian_entry() {
    apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(ORIGIN) $(REPO_URI) $(SUITE)' \
        'Created-By: Packages' | awk -v s="$1" '$1 == s && $2 == "main" && $3 == "Debian" {
            sub("/$", "", $4); print $4, $5; exit}'
}

# Prints the host's entry for suite $1 with suite $2 in its place, as one deb822 stanza or one line:
# mirror, keys and options stay the host's own.
derive_entry() {
    local f uri alias
    read -r uri alias < <(debian_entry "$1") || return 1
    for f in /etc/apt/sources.list.d/*.sources; do
        [ -e "$f" ] || continue
        awk -v uri="$uri" -v suite="$1" -v alias="$alias" -v new="$2" '
            function flush(   i, hit_uri, hit_suite, n, w, out) {
                for (i = 1; i <= count; i++) {
                    n = split(lines[i], w, /[ \t]+/)
                    if (tolower(w[1]) == "enabled:" && tolower(w[2]) ~ /^(no|false|0)$/) count = 0
                    for (j = 2; j <= n; j++) {
                        sub("/$", "", w[j])
                        if (tolower(w[1]) == "uris:" && w[j] == uri) hit_uri = 1
                        if (tolower(w[1]) == "suites:" && (w[j] == suite || w[j] == alias)) hit_suite = 1
                    }
                }
                if (hit_uri && hit_suite && !done) {
                    for (i = 1; i <= count; i++) {
                        if (lines[i] ~ /^#/) continue
                        if (tolower(lines[i]) ~ /^types:/) print "Types: deb"
                        else if (tolower(lines[i]) ~ /^suites:/) print "Suites: " new
                        else if (tolower(lines[i]) ~ /^components:/) print "Components: main"
                        else print lines[i]
                    }
                    done = 1
                }
                count = 0
            }
            /^[ \t]*$/ { flush(); next }
            { lines[++count] = $0 }
            END { flush(); exit !done }' "$f" && return
    done
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -e "$f" ] || continue
        awk -v uri="$uri" -v suite="$1" -v alias="$alias" -v new="$2" '
            $1 == "deb" {
                i = 2
                if ($i ~ /^\[/) while ($i !~ /\]$/ && i < NF) i++
                if ($2 ~ /^\[/) i++
                u = $i; sub("/$", "", u)
                if (u == uri && ($(i + 1) == suite || $(i + 1) == alias)) {
                    line = ""
                    for (k = 1; k <= i; k++) line = line $k " "
                    print line new " main"
                    done = 1
                    exit
                }
            }
            END { exit !done }' "$f" && return
    done
    return 1
}

add_newer_suite() {
    local host entry security kind
    host=$(debian_suites | head -1)
    [ -n "$host" ] || { echo "no Debian archive among this host's apt sources"; return 1; }
    entry=$(derive_entry "$host" "$newer") || {
        echo "cannot find the sources entry of suite $host"
        return 1
    }
    kind=list
    grep -qi '^types:' <<<"$entry" && kind=sources
    # Security updates of what we take, where the host gets its own.
    if security=$(derive_entry "$host-security" "$newer-security"); then
        entry+=$'\n\n'$security
    fi
    echo "$entry" >"/etc/apt/sources.list.d/hypermesh-$newer.$kind"
    printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n\n' "$newer" "$newer-security" \
        >"/etc/apt/preferences.d/hypermesh-$newer"
    echo "derived from suite $host: hypermesh-$newer.$kind"
}

# ---- installing ------------------------------------------------------------------------------

candidate() { apt-cache policy "$1" | sed -n 's/^  Candidate: //p'; }

# Splits missing[] into host[] and new[] (needs the newer suite).
host=()
new=()
split_missing() {
    local p v
    host=()
    new=()
    for p in "${missing[@]}"; do
        v=$(candidate "$p")
        if [ -z "$v" ] || [ "$v" = "(none)" ]; then
            new+=("$p")
        elif [ "${minimum[$p]}" != - ] && dpkg --compare-versions "${v#*:}" lt "${minimum[$p]}"; then
            new+=("$p")
        else
            host+=("$p")
        fi
    done
}

# Lays the files of package $1, and of what it depends on in one version alone, into deps/$1. No
# script of theirs is run.
unpack() {
    local work deb dir=$here/../deps/$1
    work=$(mktemp -d)
    mkdir -p "$dir.new"
    (
        cd "$work"
        apt download "$1=$(candidate "$1")"
        dpkg-deb -f "$1"_*.deb Depends | { grep -oE '[a-z0-9][a-z0-9+.-]+ \(= [^)]+\)' || true; } |
            tr -d '() ' | xargs -r apt-get -q download
        for deb in *.deb; do dpkg-deb -x "$deb" "$dir.new"; done
    )
    rm -rf "$work"
    mv "$dir.new" "$dir"
}

net="Are the host's apt sources reachable? Try: apt-get update"
lists=old
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "setup: missing: ${missing[*]}" >&2
        echo "setup: run once as root: deploy/setup.sh ${groups[*]}" >&2
        exit 1
    fi
    . /etc/os-release
    case ${ID:-} in
    debian) ;;
    *)
        echo "setup: this is ${PRETTY_NAME:-not Debian}; Debian 12 and 13 are supported." >&2
        echo "setup: install by hand what deploy/packages.txt names: ${missing[*]}" >&2
        exit 1
        ;;
    esac
    exec 9>/var/lock/hypermesh-setup
    flock -w 900 9 || { echo "setup: another setup runs for 15 minutes already" >&2; exit 1; }
    say "to install: ${missing[*]}"
    step "package lists" "$net" update
    lists=new
    split_missing
    two_suites=0
    [ "$(debian_suites | tail -1)" = "$newer" ] && [ "$(debian_suites | wc -l)" -gt 1 ] && two_suites=1
    if [ ${#new[@]} -gt 0 ] && ! debian_suites | grep -x "$newer" >/dev/null; then
        step "Debian 13 suite" "Add suite $newer to the apt sources by hand, then run again." \
            add_newer_suite
        step "package lists of Debian 13" "$net" update
        two_suites=1
    fi
    # The host's own first: afterwards their dependencies may be newer than they can stand.
    if [ ${#host[@]} -gt 0 ] && [ "$two_suites" = 1 ] && ! apt -s install "${host[@]}" >>"$log" 2>&1
    then
        new+=("${host[@]}")
        host=()
    fi
    if [ ${#host[@]} -gt 0 ]; then
        step "${#host[@]} packages of the host's suite" \
            "Try: apt-get -f install, then run again." apt install "${host[@]}"
    fi
    # -t and not PACKAGE/SUITE: their dependencies must come along, and only those do.
    if [ ${#new[@]} -gt 0 ]; then
        step "${#new[@]} packages of Debian 13" "Try: apt-get -f install, then run again." \
            apt install -t "$newer" "${new[@]}"
    fi
    # Tests start these themselves; on this machine nobody asked for them as services.
    for name in knot unbound dnsdist; do
        if [ -d /run/systemd/system ] && [[ " ${host[*]} ${new[*]} " == *" $name "* ]]; then
            systemctl disable --now "$name.service" >>"$log" 2>&1 || true
        fi
    done
    hash -r
    find_missing
    if [ ${#missing[@]} -gt 0 ]; then
        echo "setup: installed, and still missing or too old: ${missing[*]}" >&2
        echo "setup: is an older one held back or first in PATH? The log is $log" >&2
        exit 1
    fi
fi

if [ ${#unpacked[@]} -gt 0 ] && [ $lists = old ] && [ "$(id -u)" = 0 ]; then
    step "package lists" "$net" update
fi
for name in "${unpacked[@]}"; do
    step "files of $name" "$net" unpack "$name"
done

for g in "${groups[@]}"; do
    if [ "$g" = build ]; then "$here/fetch-deps.sh"; fi
done
rm -f "$log"
