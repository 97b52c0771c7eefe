#!/bin/sh
# Boots a machine again whenever its init ends, until the standard input does: then nothing is left of it.
#
# Arguments: directory of the machine, cgroup of its own, script that boots it.
set -u
dir=$1 cgroup=$2 boot=$3
exec 3<&0 </dev/null

# Whoever made the machine has ended, or has had enough of it.
(
    read -r _ <&3
    kill -KILL $$
    for _ in $(seq 200); do
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && break
        echo 1 2>/dev/null >"$cgroup/cgroup.kill"
        sleep 0.05
    done
) &
exec 3<&-

while :; do
    : >"$dir/init"
    mkdir -p "$cgroup"
    find "$cgroup" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null
    # In its cgroup before there is anything of it, so that whoever kills the cgroup leaves nothing.
    sh -c 'echo $$ >"$2/cgroup.procs" && exec unshare --pid --fork --kill-child --mount --uts --ipc --cgroup \
        sh "$3" "$1"' boot "$dir" "$cgroup" "$boot"
    echo "the machine is down ($?)"
    sleep 0.1
done
