#!/bin/sh
# The first process of a machine, in namespaces of its own: it makes a root for the machine and becomes its init.
#
# The root is in memory. Of the host it has programs and libraries, which cannot be written, and what the file
# `shares` lists; so nothing that runs here can change the host's files.
set -eu
dir=$1
read -r pid _ </proc/self/stat
exec 4>"$dir/init"
mkdir -p "$dir/root" "$dir/disk"
mount --make-rprivate /
mount -t tmpfs -o mode=755 machine "$dir/root"
cd "$dir/root"

mkdir dev disk etc old proc root run sys tmp var
for entry in /usr /bin /sbin /lib /lib32 /lib64 /libx32; do
    if [ -L "$entry" ]; then
        cp -P "$entry" ".$entry"
    elif [ -d "$entry" ]; then
        mkdir ".$entry"
        mount --bind "$entry" ".$entry"
        mount -o remount,bind,ro ".$entry"
    fi
done
for entry in passwd group nsswitch.conf ld.so.cache; do
    [ ! -e "/etc/$entry" ] || cp "/etc/$entry" etc/
done
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
mount --bind "$dir/disk" disk
while read -r kind path; do
    mkdir -p ".$path"
    mount --bind "$path" ".$path"
    [ "$kind" = rw ] || mount -o remount,bind,ro ".$path"
done <"$dir/shares"

# systemd mounts over what is no mount of its own.
mount -t tmpfs -o mode=755 dev dev
mount -t tmpfs -o mode=755 run run
for device in full null random tty urandom zero; do
    : >"dev/$device"
    mount --bind "/dev/$device" "dev/$device"
done
mkdir dev/shm run/lock run/netns run/systemd run/systemd/system
while read -r name path; do
    : >"run/netns/$name"
    mount --bind "$path" "run/netns/$name"
done <"$dir/networks"
cp "$dir"/units/* run/systemd/system/

mount -t proc proc proc
# Of the kernel's settings only those of the machine's own network may be changed from within.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,rw proc/sys/net
cat proc/sys/kernel/random/uuid >run/boot_id
mount --bind run/boot_id proc/sys/kernel/random/boot_id
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf -o mode=700 bpf sys/fs/bpf

pivot_root . old
umount -l /old
rmdir /old
hostname machine
# Whoever enters the machine finds it whole.
echo "$pid" >&4
exec 4>&-
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=lab SYSTEMD_UNIT_PATH=/run/systemd/system \
    /lib/systemd/systemd --system --unit=machine.target --log-target=console --show-status=0
