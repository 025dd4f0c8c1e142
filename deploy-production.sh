#!/usr/bin/env bash
# HyperMesh as services of this machine: installs, upgrades, copies, restores and removes them.
# Idempotent: a run that was cut off is run again. docs/production.md is the manual.
set -euo pipefail
here=$PWD # paths on the command line are from here
cd -P "$(dirname "$0")"
me=deploy-production
dir=/var/lib # whose disk a failing step may have filled
. deploy/lib.sh
. deploy/production-data.sh
. deploy/production-hardware.sh

usage() {
    cat <<'USAGE'
usage: ./deploy-production.sh [OPTIONS]                  install, or upgrade what is installed
       ./deploy-production.sh --backup FILE | --restore FILE --passphrase-file FILE
       ./deploy-production.sh --status | --uninstall [--purge]
  --prefix DIR           programs there (default /usr/local)
  --mesh NAME            name of a new mesh, [a-z0-9-] (default mesh)
  --address ADDR         IPv6 address of this machine that others reach (default ::1: nobody does)
  --hsm                  a new authority's keys in a PKCS #11 token; SoftHSM2 when no other is named
  --hsm-module PATH      the token's module
  --hsm-pin-file FILE    the token's PIN
  --hsm-token NAME       the token's label (default hypermesh)
  --hardware-accel       report what this machine can do, and have stoq-server use AF_XDP if it can
  --backup FILE          stop, copy everything into FILE, start; what is secret is encrypted
  --restore FILE         make this machine, which has no data, what FILE holds
  --passphrase-file FILE its first line encrypts and decrypts a copy
  --status               what runs, and how it is
  --uninstall            stop and remove the programs; data and settings stay
  --purge                with --uninstall: data, settings and users go too
  --no-build             install what is built, look for no packages
  --dry-run              change nothing, print what would be done
Needs root, systemd and Debian 12 or 13. With --no-build, HM_BUILD names another build folder.
USAGE
}
from_here() { (cd "$here" && realpath -m -- "$1"); }
wrong() { echo "$me: $*" >&2; exit 2; }

prefix='' mesh='' address='' action='' file='' passphrase='' dry=0 build=1 purge=0
hsm=0 hsm_module='' hsm_pin='' hsm_token='' accel=0
one_action() { [ -z "$action" ] || wrong "--$action and $1 are two things; one at a time"; }
while [ $# -gt 0 ]; do
    o=$1
    case $o in
    --prefix | --mesh | --address | --hsm-module | --hsm-pin-file | --hsm-token | --backup | \
        --restore | --passphrase-file)
        [ -n "${2:-}" ] || wrong "$o needs a value; see --help"
        ;;&
    --prefix) prefix=$2; shift ;;
    --mesh) mesh=$2; shift ;;
    --address) address=$2; shift ;;
    --hsm) hsm=1 ;;
    --hsm-module) hsm=1 hsm_module=$2; shift ;;
    --hsm-pin-file) hsm=1 hsm_pin=$(from_here "$2"); shift ;;
    --hsm-token) hsm=1 hsm_token=$2; shift ;;
    --hardware-accel) accel=1 ;;
    --backup | --restore) one_action "$o"; action=${o#--} file=$(from_here "$2"); shift ;;
    --passphrase-file) passphrase=$(from_here "$2"); shift ;;
    --status | --uninstall) one_action "$o"; action=${o#--} ;;
    --purge) purge=1 ;;
    --no-build) build=0 ;;
    --dry-run) dry=1 ;;
    -h | --help) usage; exit 0 ;;
    *) wrong "there is no option $o; see --help" ;;
    esac
    shift
done
action=${action:-install}

etc=/etc/hypermesh
units=/etc/systemd/system
services=(trustchain hypermesh stoq)
authority_url='https://[::1]:8443'
api_url='https://[::1]:8444'

check_input() {
    local name='^[a-z0-9-]{1,32}$' kept
    [ $purge = 0 ] || [ "$action" = uninstall ] || wrong "--purge goes with --uninstall"
    case $action in
    backup | restore)
        [ -n "$passphrase" ] || wrong "--$action needs --passphrase-file FILE"
        check_passphrase
        ;;
    *) [ -z "$passphrase" ] || wrong "--passphrase-file goes with --backup and --restore" ;;
    esac
    [[ ${mesh:-mesh} =~ $name ]] || wrong "--mesh takes 1 to 32 of a-z, 0-9 and -"
    [[ ${hsm_token:-hypermesh} =~ ^[A-Za-z0-9-]{1,32}$ ]] ||
        wrong "--hsm-token takes 1 to 32 letters, digits and -"
    [[ ${address:-::1} =~ ^[0-9a-fA-F:]{2,39}$ && ${address:-::1} == *:*:* ]] ||
        wrong "--address takes an IPv6 address without brackets, not '$address'"
    if [ -n "$hsm_module$hsm_pin" ]; then
        [ -n "$hsm_module" ] && [ -n "$hsm_pin" ] ||
            wrong "a token of your own needs both --hsm-module and --hsm-pin-file"
        [ -r "$hsm_module" ] || wrong "there is no module $hsm_module"
        [[ $hsm_module =~ ^/[A-Za-z0-9/._+-]+$ ]] || wrong "--hsm-module takes an absolute path"
        [ -s "$hsm_pin" ] || wrong "no PIN is in $hsm_pin"
    fi
    kept=$(cat $etc/prefix 2>/dev/null || true)
    [ -z "$kept" ] || [ -z "$prefix" ] || [ "$kept" = "$prefix" ] ||
        wrong "this machine has it under $kept; --uninstall first to move it to $prefix"
    prefix=${kept:-${prefix:-/usr/local}}
    [[ $prefix =~ ^/[A-Za-z0-9/._-]+$ ]] || wrong "--prefix takes an absolute path, plain letters"
    if [ -e $etc/mesh ] && [ "$action" = install ]; then
        kept=$(cat $etc/mesh)
        [ -z "$mesh" ] || [ "$mesh" = "$kept" ] || wrong "the mesh here is called $kept"
        [ -z "$address" ] || grep -qxF "mesh_host = $address" $etc/hypermesh.ini ||
            wrong "the node here has another address, which is in the mesh's genesis"
        [ $hsm = 0 ] || [ -e $etc/hsm-pin ] || [ ! -e /var/lib/trustchain/edge-root.crt ] ||
            wrong "the authority here has its keys in files; --hsm is for a new one"
    fi
    mesh=${mesh:-$(cat $etc/mesh 2>/dev/null || echo mesh)} address=${address:-::1}
    hsm_token=${hsm_token:-hypermesh}
    releases=$prefix/lib/hypermesh
}

check_machine() {
    [ $EUID = 0 ] || die "this needs root"
    [ -d /run/systemd/system ] || die "systemd does not run here; it starts and guards the services"
}

# One at a time.
lock() {
    exec 9>/run/hypermesh-deploy.lock
    flock -n 9 || die "another $me is at work"
}

# as USER COMMAND...: as that user, in a unit, so that it has the credentials the service will have.
as() {
    local user=$1 more=()
    shift
    if [ "$user" = trustchain ] && [ -e $etc/hsm-pin ]; then
        more=(-p "LoadCredential=hsm-pin:$etc/hsm-pin"
            -p Environment=SOFTHSM2_CONF=/var/lib/trustchain/softhsm/softhsm2.conf)
    fi
    systemd-run --quiet --wait --pipe --collect -p "User=$user" -p UMask=0077 "${more[@]}" "$@"
}

# ---- programs: PREFIX/lib/hypermesh/ID is a release, `current` leads to the one in use ----------

build_it() {
    deploy/setup.sh build run 9>&-
    if [ $hsm = 1 ] && [ -z "$hsm_module" ]; then deploy/setup.sh softhsm 9>&-; fi
    step "build" "Try: scripts/build.sh release; is memory or disk short?" $log \
        scripts/build.sh release
    if scripts/build-dashboard.sh --is-old; then
        step "page" "Try: scripts/build-dashboard.sh" $log scripts/build-dashboard.sh
    fi
}

# Puts the release that is built beside the others; its name is the hash of what is in it.
stage() {
    local tree=$releases/.new
    umask 022
    rm -rf "$tree"
    mkdir -p "$tree/share/hypermesh"
    DESTDIR=$tree/dest meson install -C "${HM_BUILD:-build-release}" --no-rebuild >/dev/null
    cp -a "$tree/dest/usr/local/." "$tree/"
    rm -r "$tree/dest"
    sed -i "s|^prefix=.*|prefix=$prefix|" "$tree"/lib/*/pkgconfig/stoq.pc
    mkdir -p "$tree/share/doc/hypermesh"
    cp docs/*.md "$tree/share/doc/hypermesh/"
    cp -r deploy/systemd "$tree/share/hypermesh/systemd"
    sed -i "s|@PREFIX@|$prefix|" "$tree"/share/hypermesh/systemd/*
    if [ -e dashboard/dist/index.html ]; then cp -r dashboard/dist "$tree/share/hypermesh/page"; fi
    chown -R root:root "$tree"
    id=$(cd "$tree" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c -12)
    if [ -d "$releases/$id" ]; then rm -rf "$tree"; else mv "$tree" "$releases/$id"; fi
}
current() { readlink "$releases/current" 2>/dev/null || true; }

# use ID: programs, units and users of that release.
use() {
    local f s=$releases/current/share/hypermesh/systemd
    ln -sfn "$1" "$releases/current.new"
    mv -T "$releases/current.new" "$releases/current"
    unlink_files
    (cd "$releases/$1" && find . \( -type f -o -type l \) -not -path './share/hypermesh/*') |
        while IFS= read -r f; do
            mkdir -p "$prefix/$(dirname "$f")"
            ln -sfn "$releases/current/${f#./}" "$prefix/${f#./}"
        done
    ldconfig
    systemd-sysusers "$s/hypermesh.sysusers"
    cp "$s"/*.service $units/
    mkdir -p $units/{trustchain,stoq}.service.d
    rm -f $units/{trustchain,stoq}.service.d/hypermesh.conf
    if [ -e $etc/hsm-pin ]; then
        printf '[Service]\nLoadCredential=hsm-pin:%s\nEnvironment=SOFTHSM2_CONF=%s\n' \
            $etc/hsm-pin /var/lib/trustchain/softhsm/softhsm2.conf \
            >$units/trustchain.service.d/hypermesh.conf
    fi
    if grep -qs '^xdp' $etc/stoq.ini; then
        cp "$s/stoq-xdp.conf" $units/stoq.service.d/hypermesh.conf
    fi
    # The page goes with the programs when the prefix is another than it was.
    [ ! -e $etc/hypermesh.ini ] || sed -i \
        "s|^dir = /.*/share/hypermesh/page$|dir = $releases/current/share/hypermesh/page|" \
        $etc/hypermesh.ini
    systemctl daemon-reload
}
unlink_files() {
    local d
    for d in bin lib include share; do
        [ ! -d "$prefix/$d" ] || find "$prefix/$d" -type l -lname "$releases/current/*" -delete
    done
}
# All but the one in use and the one before it.
tidy_releases() {
    local keep r
    keep=" $(current) ${before:-} "
    for r in "$releases"/*; do
        r=${r##*/}
        [ "$r" = current ] || [[ $keep == *" $r "* ]] || rm -rf "${releases:?}/$r"
    done
}

# ---- first run ---------------------------------------------------------------------------------

write_settings() {
    local page=''
    install -d -m 755 $etc
    echo "$prefix" >$etc/prefix
    [ ! -e $etc/mesh ] || return 0 # written last; the settings are the person's from then on
    [ ! -d "$releases/current/share/hypermesh/page" ] ||
        page=$(printf '[page]\ndir = %s\nlisten = [::1]:5173\n' "$releases/current/share/hypermesh/page")
    printf '[trustchain]\ndir = /var/lib/trustchain\nmesh = %s\n[api]\nhost = %s\n' \
        "$mesh" "$(printf 'localhost\n::1\n%s\n' "$address" | awk '!n[$0]++' | paste -sd ,)" \
        >$etc/trustchain.ini
    printf '[node]\ndir = /var/lib/hypermesh\nname = %s\nmesh_host = %s\napi_host = %s\n%s\n%s\n' \
        "$mesh-1" "$address" "$address" "authority = $authority_url" "$page" >$etc/hypermesh.ini
    printf '[stoq]\ndir = /var/lib/stoq\nauthority = %s\nhost = %s\n' "$authority_url" \
        "$(printf 'localhost\n::1\n%s\n' "$address" | awk '!n[$0]++' | paste -sd ,)" >$etc/stoq.ini
    echo "$mesh" >$etc/mesh
}

# What the authority keeps its keys in: prints the URI.
prepare_token() {
    local out s=/var/lib/trustchain/softhsm
    if [ -n "$hsm_module" ]; then
        install -m 600 "$hsm_pin" $etc/hsm-pin
        echo "pkcs11:token=$hsm_token?module-path=$hsm_module"
        return
    fi
    out=$(deploy/softhsm.sh $s "$hsm_token")
    chown -R trustchain:trustchain $s
    # The PIN stays in the token's folder too: with a token in software it guards nothing.
    install -m 600 $s/pin $etc/hsm-pin
    out=$(sed -n "s/^TRUSTCHAIN_HSM='\(.*\)&pin-source=.*/\1/p" <<<"$out")
    echo "$out"
}

found_authority() {
    local uri='' more=()
    if [ ! -e /var/lib/trustchain/edge-root.crt ]; then
        if [ $hsm = 1 ]; then
            uri=$(prepare_token)
            more=(--hsm "$uri")
            use "$(current)" # the unit gets the PIN
        fi
        as trustchain "$prefix/bin/trustchain-server" init --config $etc/trustchain.ini "${more[@]}"
    fi
    systemctl enable --now trustchain.service
    until_true 30 authority_ready trustchain
    if [ ! -s $etc/enroll.token ]; then
        as trustchain "$prefix/bin/trustchain-server" token remove enroll --config $etc/trustchain.ini \
            >/dev/null 2>&1 || true # of a run that was cut off
        (umask 077 && as trustchain "$prefix/bin/trustchain-server" token add enroll \
            --role operator --days 1 --config $etc/trustchain.ini >$etc/enroll.token.new)
        mv $etc/enroll.token.new $etc/enroll.token
    fi
}

# enroll USER: the first certificates; the service itself renews them.
enroll() {
    local d=/var/lib/$1
    [ -e "$d/edge-root.crt" ] ||
        install -o "$1" -g "$1" -m 644 /var/lib/trustchain/edge-root.crt "$d/edge-root.crt"
    systemctl start "$1-enroll.service" || { journalctl -u "$1-enroll" -n 10 -o cat --no-pager; return 1; }
    [ -s "$d/node.crt" ] && [ -s "$d/edge.crt" ] ||
        { journalctl -u "$1-enroll" -n 10 -o cat --no-pager; return 1; }
}

# Who has a certificate needs no token any more.
end_enrolment() {
    as trustchain "$prefix/bin/trustchain-server" token remove enroll --config $etc/trustchain.ini \
        >>$log 2>&1
    rm -f $etc/enroll.token
}

found_node() {
    local d=/var/lib/hypermesh
    [ -e $d/node.ini ] || # written last
        as hypermesh "$prefix/bin/hypermesh-server" init --config $etc/hypermesh.ini
    enroll hypermesh
    [ -e $d/genesis.bin ] || as hypermesh sh -euc "cd $d
        '$prefix/bin/hypermesh-server' join --config $etc/hypermesh.ini >join.json
        awk '/BEGIN CERT/ {n++} n == 2' node.crt >mesh-issuing.crt # leaf first, then the issuing CA
        '$prefix/bin/hypermesh-server' genesis '$mesh' mesh-root.crt mesh-issuing.crt genesis.bin.new join.json
        mv genesis.bin.new genesis.bin"
}
found_stoq() {
    [ -e /var/lib/stoq/edge.csr ] || # its last file
        as stoq "$prefix/bin/stoq-server" init --config $etc/stoq.ini
    enroll stoq
}

# ---- health ------------------------------------------------------------------------------------

authority_ready() {
    curl -sf -m 5 --cacert /var/lib/trustchain/edge-root.crt "$authority_url/readyz" >/dev/null
}
node_field() { # FIELD
    "$prefix/bin/hypermesh" status --json --node "$api_url" --ca /var/lib/hypermesh/edge-root.crt \
        2>/dev/null | sed -n "s/.*\"$1\": *\([^,}]*\).*/\1/p"
}
node_ready() { [ "$(node_field ready)" = true ] && [ "$(node_field height)" -gt 0 ]; }
stoq_ready() {
    "$prefix/bin/hypermesh" stoq ping '[::1]:9292' --count 1 --ca /var/lib/stoq/mesh-root.crt \
        >/dev/null 2>&1
}
all_ready() { authority_ready && node_ready && stoq_ready; }

# until_true SECONDS CONDITION UNIT...: or, when it is not or a unit has failed for good, says what the
# units' journals end with.
until_true() {
    local end=$((SECONDS + $1)) what=$2 u
    shift 2
    until $what; do
        if [ $SECONDS -ge $end ] || systemctl -q is-failed "${@/%/.service}"; then
            for u in "$@"; do
                echo "$u: $(systemctl is-active "$u.service" || true)"
                journalctl -u "$u" -n 5 -o cat --no-pager | cut -b -300
            done
            return 1
        fi
        sleep 0.2
    done
}

show_status() {
    local u bad=0 ready
    [ -n "$(current)" ] || { say "nothing is installed under $prefix"; return 1; }
    echo "release $(current) of $releases"
    for u in "${services[@]}"; do
        case $u in
        trustchain) ready=authority_ready ;; hypermesh) ready=node_ready ;; stoq) ready=stoq_ready ;;
        esac
        if $ready; then ready=ready; else ready='does not answer' bad=1; fi
        [ "$u" != hypermesh ] || ready+="  height $(node_field height)"
        printf '%-11s %-9s %s\n' "$u" "$(systemctl is-active $u.service || true)" "$ready"
    done
    return $bad
}

# ---- install and upgrade -----------------------------------------------------------------------

start_all() {
    systemctl reset-failed "${services[@]/%/.service}" 2>/dev/null || true
    systemctl enable --now "${services[@]/%/.service}"
}
stop_all() { systemctl stop "${services[@]/%/.service}" 2>/dev/null || true; }

# The data stay as they are when the release goes back: a node that forgets votes it has cast
# could vote twice. The copy is for a person.
upgrade() {
    local copy=/var/backups/hypermesh/before-$id
    trap start_all EXIT # when there is no room for the copy, all goes on as it was
    stop_all
    step "copy of data and settings" "Is the disk full? Nothing was replaced." $log copy_aside "$copy"
    trap - EXIT
    use "$id"
    start_all || true
    if until_true 90 all_ready "${services[@]}" >$log 2>&1; then
        say "upgraded from $before to $id; what was before is in $copy"
        return
    fi
    last_lines <$log | sed 's/^/    /' >&2
    say "release $id does not come up: back to $before" >&2
    stop_all
    use "$before"
    start_all || true
    until_true 90 all_ready "${services[@]}" >&2 || die "and $before does not come up either"
    die "$before runs again; the copy of before is in $copy, the log is $log"
}

plan() { # what install would do, for --dry-run
    [ $build = 0 ] || echo "would install what is missing of deploy/packages.txt and build the release"
    echo "would install under $releases, with links in $prefix, and units in $units"
    if [ -n "$(current)" ]; then
        echo "would stop, copy the data to /var/backups/hypermesh, replace $(current), start, check"
        return
    fi
    echo "would make the users ${services[*]}, /var/lib/{trustchain,hypermesh,stoq}, $etc"
    [ $hsm = 0 ] || echo "would keep the authority's keys in ${hsm_module:-a SoftHSM2 token}"
    echo "would make authority, node and genesis of the mesh $mesh at $address, and start them"
}

install_all() {
    local before id
    if [ $dry = 1 ]; then
        plan
        [ $accel = 0 ] || report_hardware
        return
    fi
    [ $build = 0 ] || build_it
    before=$(current)
    stage
    if [ -n "$before" ] && [ "$before" != "$id" ] && [ -e /var/lib/hypermesh/genesis.bin ]; then
        upgrade
    else
        use "$id"
    fi
    write_settings
    [ $accel = 0 ] || switch_on_hardware
    local u
    for u in "${services[@]}"; do install -d -o $u -g $u -m 700 /var/lib/$u; done
    step "authority" "Put right what it says and run this again." $log found_authority
    step "node" "Put right what it says and run this again." $log found_node
    step "transport" "Put right what it says and run this again." $log found_stoq
    end_enrolment
    step "services" "See journalctl -u NAME; run this again." $log start_and_check
    tidy_releases
    show_status
    say "roots: /var/lib/trustchain/{mesh,edge}-root.crt; make a first copy: --backup FILE"
}
start_and_check() { start_all && until_true 90 all_ready "${services[@]}"; }

uninstall() {
    local u
    if [ $dry = 1 ]; then
        echo "would stop and remove services and programs under $prefix"
        [ $purge = 0 ] || echo "would delete /var/lib/{trustchain,hypermesh,stoq}, $etc and the copies"
        return
    fi
    systemctl disable --now "${services[@]/%/.service}" 2>/dev/null || true
    for u in "${services[@]}"; do
        rm -f $units/$u.service $units/$u-enroll.service
        rm -f $units/$u.service.d/hypermesh.conf
        rmdir $units/$u.service.d 2>/dev/null || true
    done
    systemctl daemon-reload
    unlink_files
    rm -rf "$releases"
    ldconfig
    if [ $purge = 1 ]; then
        rm -rf /var/lib/{trustchain,hypermesh,stoq} $etc /var/backups/hypermesh
        for u in "${services[@]}"; do ! getent passwd $u >/dev/null || userdel $u; done
        say "programs, data, settings and users are gone"
    else
        rm -f $etc/prefix
        say "the programs are gone; data and settings stay in /var/lib/{trustchain,hypermesh,stoq}, $etc"
    fi
}

check_input
[ "$action" = install ] && [ $dry = 1 ] || check_machine
log=/var/log/hypermesh-deploy.log
case $action in
install) [ $dry = 1 ] || lock; install_all ;;
status) show_status ;;
backup) lock; backup ;;
restore) lock; restore ;;
uninstall) lock; uninstall ;;
esac
