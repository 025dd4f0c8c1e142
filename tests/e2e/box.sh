#!/usr/bin/env bash
# A machine of its own for box.py: this machine's files under a layer in memory, and systemd as the
# first process. Started by unshare in new mount, process, network, IPC, name and cgroup namespaces.
set -euo pipefail
top=$1 share=$2
mount --make-rprivate /
mount -t tmpfs -o mode=755 box "$top"
mkdir "$top"/{upper,work,root}
mount -t overlay -o "lowerdir=/,upperdir=$top/upper,workdir=$top/work" box "$top/root"
cd "$top/root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 box dev
for d in null zero full random urandom tty; do
    touch dev/$d
    mount --bind /dev/$d dev/$d
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 box run
mount -t tmpfs box tmp
mkdir share
mount --bind "$share" share
rm -f etc/fstab etc/machine-id
touch etc/fstab etc/machine-id
# What tests have installed here is no part of the machine.
for u in knot unbound dnsdist ngtcp2d console-getty; do ln -sfn /dev/null etc/systemd/system/$u.service; done
ip link set lo up
mkdir .old
pivot_root . .old
umount -l /.old
rmdir /.old
# In a container systemd leaves this to whoever made it; credentials reach services by it.
mount --make-rshared /
exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
    --unit=multi-user.target >/run/boot.log 2>&1
