# What deploy-dev.sh and deploy-production.sh share. They set `me`, their name in messages, and `dir`,
# the folder whose disk a failing step may have filled.

say() { echo "$me: $*"; }
die() { say "$*" >&2; exit 1; }

disk_left_mib() { df -BM --output=avail "$dir" | tr -dc 0-9; }

# ---- steps: progress, and what to say when one fails ------------------------------------------

# Without what a later progress report overwrote.
last_lines() { sed 's/.*\r\(.\)/\1/' | tail -n 15 | cut -b -500; }

# progress [LOG]: another tenth of a second of what the caller's $text, $start and $shown tell of; on
# a terminal with the last line of the log.
progress() {
    if [ -t 1 ]; then
        printf '\r\033[K%s: %s (%d s) %.60s' "$me" "$text" $((SECONDS - start)) \
            "$([ $# = 0 ] || tail -c 300 "$1" | tr '\r' '\n' | tail -n 1)"
    elif [ $((SECONDS - start)) -ge $((shown + 20)) ]; then
        shown=$((SECONDS - start))
        say "$text (${shown} s)"
    fi
    sleep 0.1
}

# step TEXT HINT LOG COMMAND...: runs it with its output in the log. The last lines come back by a
# pipe too, for the log of a disk that is full is empty.
step() {
    local text=$1 hint=$2 log=$3 start=$SECONDS pid shown=0 out lines
    shift 3
    # With the lock, which it holds on when this script is killed.
    exec {out}< <(
        set +e
        (set -e; "$@") 2>&1 </dev/null | tee "$log" 2>/dev/null | last_lines
        exit "${PIPESTATUS[0]}"
    )
    pid=$!
    while kill -0 $pid 2>/dev/null; do progress "$log"; done
    [ -t 1 ] && printf '\r\033[K'
    if wait $pid; then
        exec {out}<&-
        say "$text: done, $((SECONDS - start)) s"
        return
    fi
    lines=$(cat <&"$out")
    give_up "$text" "$hint" "$log" "$lines"
}

give_up() { # STEP HINT LOG [LAST-LINES]
    local lines=${4:-$(last_lines 2>/dev/null <"$3")}
    {
        echo "$me: FAILED at: $1"
        [ -z "$lines" ] || printf '    %s\n' "${lines//$'\n'/$'\n    '}"
        if [[ $lines == *'No space left'* ]] || [ "$(disk_left_mib)" -lt 1 ]; then
            echo "$me: no space is left on the disk of $dir; free some and start again"
        else
            echo "$me: $2"
        fi
        echo "$me: the whole log is $3"
    } >&2
    exit 1
}

# ---- certificates ------------------------------------------------------------------------------

fresh() { [ -e "$1" ] && openssl x509 -in "$1" -noout -checkend 259200 >/dev/null; }
