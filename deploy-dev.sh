#!/usr/bin/env bash
# A mesh on this machine for development: builds, makes what is missing, starts everything, and
# waits until the ledger finalises. Idempotent, asks nothing; data stay in run/dev/.
set -euo pipefail
cd -P "$(dirname "$0")"
me=deploy-dev
. deploy/lib.sh

usage() {
    cat <<'USAGE'
usage: ./deploy-dev.sh [--nodes N] [--dir DIR] [--no-build] [--stop | --status | --clean]
  --nodes N   nodes of a new mesh (default 4; 4 stand one that lies)
  --dir DIR   keep the mesh there, in a folder that is new or empty at the first start (default
              run/dev; one at a time has the ports)
  --no-build  start what is built, look for no packages
  --stop      stop everything, keep the data
  --status    what runs, and where each node's ledger is
  --clean     stop everything and delete the mesh, and nothing else that lies in its folder
Without an option it starts what does not run. Works as root, and as any user once the packages are
there (deploy/setup.sh build run). With --no-build, HM_BUILD names another build folder, such as
build-asan.
USAGE
}

nodes='' nodes_given=0 action='' build=1 dir=$PWD/run/dev
one_action() { [ -z "$action" ] || { usage >&2; exit 2; }; }
while [ $# -gt 0 ]; do
    case $1 in
    --nodes) nodes=${2:-} nodes_given=1; shift ;;
    --nodes=*) nodes=${1#*=} nodes_given=1 ;;
    --dir) dir=${2:-}; shift ;;
    --dir=*) dir=${1#*=} ;;
    --no-build) build=0 ;;
    --stop | --status | --clean) one_action; action=${1#--} ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift || { usage >&2; exit 2; }
done
[ -n "$dir" ] || { usage >&2; exit 2; }
given_dir=$dir
dir=$(realpath -m -- "$dir")
if [ $nodes_given = 1 ] && ! [[ $nodes =~ ^[1-9][0-9]?$ ]]; then
    echo "deploy-dev: --nodes takes a number from 1 to 99" >&2
    exit 2
fi
if [ $nodes_given = 1 ] && [ -n "$action" ]; then
    echo "deploy-dev: --nodes is for a start; --$action takes all there are" >&2
    exit 2
fi

# Settings of the person's own shell are not this mesh's.
for v in $(compgen -e | grep -E '^(HYPERMESH|TRUSTCHAIN|STOQ)_'); do unset "$v"; done

bin=$PWD/${HM_BUILD:-build-release}/src
authority_url='https://[::1]:8443'
page_url=http://localhost:5173/
trustchain_bin=$bin/server/trustchain-server
node_bin=$bin/server/hypermesh-server
stoq_bin=$bin/server/stoq-server
cli_bin=$bin/cli/hypermesh
programs=("$trustchain_bin" "$node_bin" "$stoq_bin" "$cli_bin")

# ---- the folder: only what this script made in it is taken away -------------------------------

entries() { find "$dir" -mindepth 1 -maxdepth 1 -printf '%f\n'; }
made_here='(trustchain|stoq|node-[1-9][0-9]?)(\.pid|\.log|\.log\.1)?|(init|build|page)\.log'
made_here+='|genesis\.bin(\.new)?|mesh-issuing\.crt|nodes|\.lock'
foreign() { entries | grep -vxE "$made_here"; }
# `nodes` comes only after the build; before that, a start that was cut off has left few files.
holds_mesh() { [ -e "$dir/.lock" ] && { [ -e "$dir/nodes" ] || [ -z "$(foreign)" ]; }; }

# Whatever is to be done: the folder must be the person's own (root may do all).
check_folder() {
    local why
    if ! why=$(LC_ALL=C stat -L "$dir" 2>&1 >/dev/null); then
        [[ $why == *'No such file'* ]] || die "$dir cannot be looked at: ${why##*: }"
        return 0
    fi
    [ -d "$dir" ] || die "$dir is no folder"
    [ -O "$dir" ] || [ $EUID = 0 ] ||
        die "$dir is another user's ($(stat -c %U "$dir")), and so is what runs there"
}

# ---- processes: NAME.pid beside NAME.log, alive only when it is our program in our folder -----

# is_ours PID NAME: one of our servers, of whatever build, that runs on that folder.
is_ours() {
    local exe args arg
    exe=$(readlink "/proc/$1/exe" 2>/dev/null) || return 1
    exe=${exe% (deleted)}
    case ${exe##*/} in trustchain-server | hypermesh-server | stoq-server) ;; *) return 1 ;; esac
    mapfile -d '' args 2>/dev/null <"/proc/$1/cmdline" || return 1
    [ "${args[1]:-}" = run ] || return 1
    # No grep -q: it closes the pipe early, which pipefail takes for a no.
    for arg in "${args[@]}"; do [ "$arg" != "$dir/$2" ] || return 0; done
    return 1
}

# The first thread of a program that ends may be gone while another holds its files yet.
threads_left() {
    local t=("/proc/$1/task/"[0-9]*)
    [ ${#t[@]} -gt 1 ]
}

pid_of() {
    local pid pids
    pid=$(cat "$dir/$1.pid" 2>/dev/null) && is_ours "$pid" "$1" && echo "$pid" && return
    # A start that was cut off had no time to note the number.
    pids=$(grep -slzxF -- "$dir/$1" /proc/[0-9]*/cmdline | cut -d / -f 3)
    for pid in $pids; do
        if is_ours "$pid" "$1"; then
            echo "$pid"
            return
        fi
    done
    return 1
}

# The names of all processes of this mesh, in the order in which they start.
names() {
    local i
    echo trustchain
    for ((i = 1; i <= $(cat "$dir/nodes" 2>/dev/null || echo 0); i++)); do echo "node-$i"; done
    echo stoq
}

stopped=''
stop_all() {
    local name pid found=() n
    for name in $(names | tac); do
        if pid=$(pid_of "$name"); then
            kill -TERM "$pid" 2>/dev/null || true
            found+=("$name $pid")
        fi
    done
    for name in ${found[@]+"${found[@]}"}; do
        pid=${name#* } name=${name% *} n=0
        while is_ours "$pid" "$name" || { threads_left "$pid" && [ $n -lt 300 ]; }; do
            n=$((n + 1))
            if [ $n = 200 ] && is_ours "$pid" "$name"; then
                say "$name does not stop after 20 s: killed (it comes back whole)"
                kill -KILL "$pid" 2>/dev/null || true
            fi
            sleep 0.1
        done
        rm -f "$dir/$name.pid"
        stopped+=" $name"
    done
}

# And what another deploy-dev.sh was just starting. Holds the lock then, if there is a mesh.
stop_for_good() {
    stop_all
    if holds_mesh && lock; then stop_all; fi
    say "stopped:${stopped:- nothing ran}"
}

mesh_port() { echo $((9293 + $1 - 1)); }
api_port() { echo $((8444 + $1 - 1)); }
dns_port() { echo $((8853 + $1 - 1)); }   # by QUIC and TLS
local_port() { echo $((5301 + $1 - 1)); } # DNS by plain UDP and TCP
api_url() { echo "https://[::1]:$(api_port "$1")"; }
ask() { # NODE-NUMBER COMMAND...
    local i=$1
    shift
    "$cli_bin" "$@" --node "$(api_url "$i")" --ca "$dir/trustchain/edge-root.crt"
}
# One field of a node's status, or nothing.
field() { ask "$1" status --json 2>/dev/null | sed -n "s/.*\"$2\": *\([^,}]*\).*/\1/p"; }

show_status() {
    local name pid i what
    [ -e "$dir" ] || { say "nothing is here yet: ./deploy-dev.sh"; return 1; }
    holds_mesh || die "$dir holds no mesh"
    local down=0
    for name in $(names); do
        what=
        if pid=$(pid_of "$name"); then
            case $name in
            node-*)
                i=${name#node-}
                what=$(field "$i" height)
                what="${what:+height $what  peers $(field "$i" peers_connected)  ready $(field "$i" ready)}"
                what="$(api_url "$i")  ${what:-does not answer}"
                ;;
            trustchain) what=$authority_url ;;
            stoq)
                what='does not answer'
                if "$cli_bin" stoq ping '[::1]:9292' --count 1 --ca "$dir/trustchain/mesh-root.crt" \
                    >/dev/null 2>&1; then what='answers'; fi
                what="udp [::1]:9292  $what  metrics https://[::1]:9292/metrics"
                ;;
            esac
            printf '%-11s pid %-8s %s\n' "$name" "$pid" "$what"
        else
            printf '%-11s down\n' "$name"
            down=1
        fi
    done
    return $down
}

# ---- starting ---------------------------------------------------------------------------------

# start NAME COMMAND...: in the background, unless it runs; its log of last time is kept beside.
start() {
    local name=$1
    shift
    local pid
    if pid=$(pid_of "$name"); then
        echo "$pid" >"$dir/$name.pid"
        return
    fi
    [ ! -e "$dir/$name.log" ] || mv "$dir/$name.log" "$dir/$name.log.1"
    setsid "$@" >"$dir/$name.log" 2>&1 </dev/null 9>&- &
    pid=$!
    echo $pid >"$dir/$name.pid"
    # Until it is the program: before that it is a shell, and then setsid.
    while kill -0 $pid 2>/dev/null && ! is_ours $pid "$name"; do
        sleep 0.01
    done
}
start_hint() {
    echo "Is its port taken (ss -lntup)? Otherwise ./deploy-dev.sh --stop and again;" \
        "--clean begins with an empty mesh."
}

# wait_for TEXT SECONDS NAME COMMAND...: until the command is true while NAME lives.
wait_for() {
    local text=$1 limit=$2 name=$3 start=$SECONDS shown=0
    shift 3
    until "$@"; do
        if ! pid_of "$name" >/dev/null; then
            give_up "$text: $name ended" "$(start_hint "$name")" "$dir/$name.log"
        fi
        [ $((SECONDS - start)) -lt "$limit" ] ||
            give_up "$text: not within $limit s" \
                "Look at ./deploy-dev.sh --status; a busy machine may need another try." \
                "$dir/$name.log"
        progress
    done
    [ -t 1 ] && printf '\r\033[K'
    say "$text: done, $((SECONDS - start)) s"
}

running() { grep -q '"running"' "$dir/$1.log" 2>/dev/null; }
is_revoked() { # NODE-NUMBER
    local serial
    serial=$(openssl x509 -in "$dir/node-$1/node.crt" -noout -serial | tr A-F a-f)
    serial=$(printf %32s "${serial#*=}" | tr ' ' 0)
    "$cli_bin" cert show "$serial" --json --authority "$authority_url" \
        --ca "$dir/trustchain/edge-root.crt" | grep '"state": *"revoked"' >/dev/null
}
# A quorum is connected, the ledger moves, and blocks are final.
finalises() {
    [ "$(field "$1" ready)" = true ] && [ "$(field "$1" height)" -gt 0 ]
}

# ---- making a mesh ----------------------------------------------------------------------------

init_authority() {
    if [ ! -e "$dir/trustchain/edge-root.crt" ]; then
        "$trustchain_bin" init --dir "$dir/trustchain" --mesh dev
    fi
}

# Each part that is done is not done again, so that a start that was cut off goes on.
init_node() {
    local i=$1 n=$dir/node-$1
    if [ ! -e "$n/node.ini" ]; then # written last
        "$node_bin" init --dir "$n" --name "node-$i" --mesh-host ::1 \
            --mesh-port "$(mesh_port "$i")" --api-host ::1 --api-listen "[::1]:$(api_port "$i")"
    fi
    # Certificates live 30 days: a mesh that rested longer gets new ones.
    if ! fresh "$n/node.crt" || ! fresh "$n/edge.crt"; then
        "$node_bin" enroll --dir "$n" --authority "$authority_url" \
            --root "$dir/trustchain/edge-root.crt" --token-file "$dir/trustchain/api.token"
    fi
    if [ ! -e "$n/join.json" ]; then
        "$node_bin" join --dir "$n" >"$n/join.json.new"
        mv "$n/join.json.new" "$n/join.json"
    fi
}

init_nodes() {
    local i pids='' bad=0
    # Of a pipeline in the background bash may remember its last command's status alone.
    for ((i = 1; i <= nodes; i++)); do
        { init_node "$i" 2>&1 | sed "s/^/node-$i: /"; } &
        pids+=" $!"
    done
    for i in $pids; do wait "$i" || bad=1; done
    for ((i = 1; i <= nodes; i++)); do [ -s "$dir/node-$i/join.json" ] || bad=1; done
    return $bad
}

init_stoq() {
    local s=$dir/stoq
    [ -e "$s/edge.csr" ] || "$stoq_bin" init --dir "$s" --name stoq # its last file
    if ! fresh "$s/node.crt" || ! fresh "$s/edge.crt"; then
        "$stoq_bin" enroll --dir "$s" --authority "$authority_url" \
            --root "$dir/trustchain/edge-root.crt" --token-file "$dir/trustchain/api.token"
    fi
}

make_genesis() {
    local i joins=()
    if [ -e "$dir/genesis.bin" ]; then return; fi
    for ((i = 1; i <= nodes; i++)); do joins+=("$dir/node-$i/join.json"); done
    # node.crt is leaf first, then the issuing CA.
    awk '/BEGIN CERT/ {n++} n == 2' "$dir/node-1/node.crt" >"$dir/mesh-issuing.crt"
    "$node_bin" genesis dev "$dir/trustchain/mesh-root.crt" "$dir/mesh-issuing.crt" \
        "$dir/genesis.bin.new" "${joins[@]}"
    mv "$dir/genesis.bin.new" "$dir/genesis.bin"
}

# One at a time; what a script that was killed left at work ends by itself first. False when the
# file cannot be made; made anew when who had it deleted the mesh.
lock() {
    until [ "$dir/.lock" -ef /proc/$$/fd/9 ]; do
        { exec 9>"$dir/.lock"; } 2>/dev/null || return 1
        if ! flock -n 9; then
            say "waits for another deploy-dev.sh, or for what one that was killed left at work here"
            flock -w 300 9 || die "another deploy-dev.sh is at work here"
        fi
    done
}

open_folder() {
    if [ -d "$dir" ] && ! holds_mesh && entries | grep -vx '\.lock' >/dev/null; then
        die "$dir holds other things and no mesh; name a folder that is new or empty"
    fi
    until mkdir -p "$dir" && { holds_mesh || chmod 700 "$dir"; } && lock; do
        [ ! -d "$dir" ] || die "$dir cannot be written to"
    done
}

start_all() {
    local i began=$SECONDS kept left
    open_folder
    kept=$(cat "$dir/nodes" 2>/dev/null || true)
    if [ -n "$kept" ] && [ -n "$nodes" ] && [ "$kept" != "$nodes" ]; then
        say "the mesh in $dir has $kept nodes; ./deploy-dev.sh --clean, then --nodes $nodes" >&2
        exit 1
    fi
    nodes=${kept:-${nodes:-4}}
    left=$(disk_left_mib)
    [ "$left" -ge 1024 ] ||
        say "warning: $left MiB are left on the disk of $dir; below 1024 nodes take no content"

    if [ $build = 1 ]; then
        deploy/setup.sh build run 9>&-
        step "build" "Try: scripts/build.sh release; is memory or disk short?" "$dir/build.log" \
            scripts/build.sh release "${programs[@]#"$PWD/build-release/"}"
        if scripts/build-dashboard.sh --is-old; then
            step "page" "Try: scripts/build-dashboard.sh" "$dir/page.log" \
                scripts/build-dashboard.sh
        fi
    fi
    echo "$nodes" >"$dir/nodes"

    step "authority" "Try: ./deploy-dev.sh --clean" "$dir/init.log" init_authority
    start trustchain "$trustchain_bin" run --dir "$dir/trustchain" --listen '[::1]:8443' \
        --host localhost,::1 --page-dir "$PWD/dashboard/dist"
    wait_for "authority answers" 120 trustchain running trustchain
    step "keys, certificates and sectors of $nodes nodes" "Try again; --clean begins anew." \
        "$dir/init.log" init_nodes
    step "keys and certificates of stoq-server" "Try again; --clean begins anew." \
        "$dir/init.log" init_stoq
    step "genesis" "Try: ./deploy-dev.sh --clean" "$dir/init.log" make_genesis

    for ((i = 1; i <= nodes; i++)); do
        local page=()
        [ "$i" != 1 ] || page=(--page-dir "$PWD/dashboard/dist" --page-listen '[::1]:5173')
        start "node-$i" "$node_bin" run --dir "$dir/node-$i" --genesis "$dir/genesis.bin" \
            --mesh-listen "[::1]:$(mesh_port "$i")" --api-listen "[::1]:$(api_port "$i")" \
            --dns-listen "[::1]:$(dns_port "$i")" --dns-local "[::1]:$(local_port "$i")" \
            --authority "$authority_url" \
            "${page[@]}"
    done
    start stoq "$stoq_bin" run --dir "$dir/stoq" --listen '[::1]:9292' \
        --metrics-listen '[::1]:9292'
    wait_for "stoq-server runs" 120 stoq running stoq
    for ((i = 1; i <= nodes; i++)); do wait_for "node-$i runs" 120 "node-$i" running "node-$i"; done
    for ((i = 1; i <= nodes; i++)); do
        is_revoked "$i" || continue
        give_up "node-$i's certificate is revoked: the other nodes refuse it" \
            "The others run on. To enrol it anew: --stop, delete $dir/node-$i/node.crt, start" \
            "$dir/node-$i.log"
    done
    for ((i = 1; i <= nodes; i++)); do
        wait_for "ledger of node-$i finalises" 300 "node-$i" finalises "$i"
    done

    show_status || give_up "all processes run" "$(start_hint)" "$dir/stoq.log"
    echo
    echo "page:      $page_url"
    echo "authority: $authority_url (its page too)   root: $dir/trustchain/edge-root.crt"
    printf "command:   export HYPERMESH_NODE='%s' HYPERMESH_CA=%q\n" \
        "$(api_url 1)" "$dir/trustchain/edge-root.crt"
    printf "           export HYPERMESH_TOKEN_FILE=%q PATH=%q:\$PATH\n" \
        "$dir/node-1/api.token" "${cli_bin%/*}"
    echo "           hypermesh status"
    printf "transport: hypermesh stoq ping '[::1]:9292' --ca %q\n" "$dir/trustchain/mesh-root.crt"
    echo "names:     dig @::1 -p $(local_port 1) node-1.nodes.dev.internal AAAA"
    say "up after $((SECONDS - began)) s"
}

# A folder that a link or a mount leads to stays, empty, so that it can be used again.
clean() {
    local left
    if ! holds_mesh; then
        if [ -d "$dir" ] && [ -n "$(entries)" ]; then die "$dir holds no mesh; it stays"; fi
        say "there is no mesh in $dir"
        return
    fi
    entries | grep -xE "$made_here" | while IFS= read -r left; do rm -rf "${dir:?}/$left"; done
    left=$(foreign || true)
    if [ -n "$left" ]; then
        say "the mesh in $dir is gone; what else lies there stays: ${left//$'\n'/, }"
    elif [ -L "${given_dir%/}" ] || ! rmdir "$dir" 2>/dev/null; then
        say "the mesh in $dir is gone; the folder stays, empty"
    else
        say "$dir is gone"
    fi
}

check_folder
case ${action:-start} in
start) start_all ;;
stop) stop_for_good ;;
status) show_status ;;
clean) stop_for_good; clean ;;
esac
