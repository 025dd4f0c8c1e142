# Copies of a machine's data, for deploy-production.sh.
#
# A copy is a tar file of three: data.tar has what is large and no secret (ledger, contents, sectors,
# the authority's certificates), keys.cms has all else, and key.pem opens keys.cms. keys.cms also has
# the SHA-256 of data.tar, so one passphrase answers for every byte. It is CMS AuthEnvelopedData
# (RFC 5083) with AES-256-GCM to a P-384 key made for this copy alone, and that key is PKCS #8 under
# the passphrase by scrypt (RFC 7914). The public half is kept nowhere, so nobody can write another.

bulk=(var/lib/hypermesh/ledger var/lib/hypermesh/content var/lib/trustchain/authority/store)

check_passphrase() {
    [ -r "$passphrase" ] || wrong "the passphrase's file $passphrase cannot be read"
    [ "$(stat -Lc %a "$passphrase" | tail -c 3)" = 00 ] ||
        wrong "others can read $passphrase: chmod 600 it"
    [ "$(head -n 1 "$passphrase" | tr -d '\n' | wc -c)" -ge 12 ] ||
        wrong "the passphrase in $passphrase has fewer than 12 characters"
}

# The large things that are there, under / or under a folder.
bulk_there() {
    local f
    (cd "$1" && for f in "${bulk[@]}" var/lib/hypermesh/sector-*; do [ ! -e "$f" ] || echo "$f"; done)
}

# copy_aside DIR: as it is, for root alone. Only the last one is kept.
copy_aside() {
    install -d -m 700 /var/backups/hypermesh
    rm -rf /var/backups/hypermesh/before-*
    mkdir "$1.new"
    tar -C / -cf - var/lib/{trustchain,hypermesh,stoq} etc/hypermesh | tar -C "$1.new" -xpf -
    mv "$1.new" "$1"
}

backup() {
    local u
    work='' was=() # not local: the trap looks at them
    [ ! -e "$file" ] || wrong "$file is there already"
    [ -d "$(dirname "$file")" ] || wrong "there is no folder $(dirname "$file")"
    [ -e $etc/mesh ] || die "nothing is here that could be copied"
    if [ $dry = 1 ]; then
        echo "would stop the services, copy their data and settings into $file, and start them"
        return
    fi
    for u in "${services[@]}"; do ! systemctl -q is-active $u.service || was+=("$u.service"); done
    work=$(mktemp -d "$(dirname "$file")/.hypermesh-backup.XXXXXX")
    # Whatever happens, what ran runs again.
    trap 'rm -rf "$work"; [ ${#was[@]} = 0 ] || systemctl start "${was[@]}"' EXIT
    stop_all
    step "copy" "Is the disk of $file full?" $log write_copy "$work"
    mv "$work/copy" "$file"
    rm -rf "$work"
    trap - EXIT
    if [ ${#was[@]} -gt 0 ]; then
        systemctl start "${was[@]}"
        until_true 90 all_ready "${services[@]}" || die "the copy is made; not all came up again"
    fi
    say "the copy is $file ($(stat -c %s "$file") bytes); without the passphrase it is worth nothing"
}

write_copy() { # WORK
    local skip=() f
    umask 077
    cd "$1"
    mapfile -t f < <(bulk_there /)
    tar -C / --exclude lock.mdb -cf data.tar "${f[@]}"
    sha256sum data.tar >data.sha256
    for f in "${f[@]}"; do skip+=("--exclude=$f"); done
    # The pipe keeps the secret files off the disk.
    openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out plain.pem
    openssl req -x509 -new -key plain.pem -subj /CN=copy -out public.pem
    openssl pkcs8 -topk8 -scrypt -in plain.pem -passout "file:$passphrase" -out key.pem
    rm plain.pem
    tar --exclude lock.mdb "${skip[@]}" -cf - data.sha256 -C / etc/hypermesh var/lib/trustchain \
        var/lib/hypermesh var/lib/stoq |
        openssl cms -encrypt -binary -aes-256-gcm -outform DER -out keys.cms public.pem
    tar -cf copy key.pem keys.cms data.tar
    sync copy
}

restore() {
    local staging=/var/lib/.hypermesh-restore u d sum before='' id
    [ -r "$file" ] || wrong "there is no copy $file"
    sum=$(sha256sum <"$file")
    if [ "$(cat $staging/verified 2>/dev/null)" != "$sum" ]; then # else a run that was cut off
        for d in $etc/mesh /var/lib/{trustchain,hypermesh,stoq}; do
            [ ! -e $d ] || die "$d is there: a copy is restored to a machine without data (--uninstall --purge)"
        done
        [ $dry = 0 ] || { echo "would check $file, install, and put its data in place"; return; }
        rm -rf $staging
        step "check of the copy" "Is it the right passphrase, and the whole file?" $log \
            read_copy $staging
        echo "$sum" >$staging/verified
    fi
    [ $build = 0 ] || build_it
    # The programs may be under another prefix than they were.
    stage
    if [ -e $staging/etc/hypermesh ]; then
        echo "$prefix" >$staging/etc/hypermesh/prefix
        rm -rf $etc
        mv $staging/etc/hypermesh $etc
    fi
    use "$id"
    for u in "${services[@]}"; do
        [ -e $staging/var/lib/$u ] || continue
        chown -R $u:$u $staging/var/lib/$u
        mv $staging/var/lib/$u /var/lib/
    done
    rm -rf $staging
    step "services" "See journalctl -u NAME." $log start_and_check
    show_status
    say "restored; the machine that the copy is from must never run again"
}

read_copy() { # STAGING
    umask 077
    mkdir "$1"
    tar -C "$1" -xf "$file" key.pem keys.cms data.tar
    openssl cms -decrypt -binary -inform DER -in "$1/keys.cms" -inkey "$1/key.pem" \
        -passin "file:$passphrase" -out "$1/keys.tar"
    tar -C "$1" --no-same-owner -xpf "$1/keys.tar"
    (cd "$1" && sha256sum -c --quiet data.sha256)
    tar -C "$1" --no-same-owner -xpf "$1/data.tar"
    rm "$1"/{key.pem,keys.cms,keys.tar,data.tar,data.sha256}
}
