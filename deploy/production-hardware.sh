# What the machine can do for speed, for deploy-production.sh --hardware-accel.

has_flag() { grep -qm 1 "^flags.*[[:space:]]$1\b" /proc/cpuinfo; }

# The interface of the IPv6 default route, or nothing.
outer_interface() { ip -6 route show default | sed -n 's/.* dev \([^ ]*\).*/\1/p;q' | head -n 1; }

xdp_why_not() { # prints why AF_XDP cannot be, or nothing
    local dev mtu
    dev=$(outer_interface)
    [ -n "$dev" ] || { echo "no interface has an IPv6 default route"; return; }
    grep -qs 'xsk_\|xdp_sock' /proc/kallsyms || { echo "the kernel has no AF_XDP"; return; }
    mtu=$(cat "/sys/class/net/$dev/mtu")
    [ "$mtu" -le 3826 ] || echo "the MTU of $dev is $mtu, above 3826"
}

report_hardware() {
    local f why
    for f in aes vaes avx2 avx512f; do
        printf 'hardware: %-8s %s\n' $f "$(has_flag $f && echo yes || echo no)"
    done
    echo "hardware: the programs choose their AES by these when they start; nothing is to be set"
    echo "hardware: hugepages $(cat /proc/sys/vm/nr_hugepages 2>/dev/null || echo unknown); no program uses them, none are set"
    why=$(xdp_why_not)
    if [ -n "$why" ]; then
        echo "hardware: AF_XDP   no: $why"
    else
        echo "hardware: AF_XDP   possible on $(outer_interface)"
    fi
}

# stoq-server on AF_XDP; the others have no use for it.
switch_on_hardware() {
    report_hardware
    if [ -z "$(xdp_why_not)" ] && ! grep -q '^xdp' $etc/stoq.ini; then
        sed -i "s/^\[stoq\]$/&\nxdp = $(outer_interface)/" $etc/stoq.ini
        use "$(current)"
        systemctl try-restart stoq.service
        say "stoq-server uses AF_XDP on $(outer_interface); its log says how (mode=)"
    fi
}
