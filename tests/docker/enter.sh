#!/bin/bash
# Runs a script in a world of its own, where container engines may do what they like: enter.sh DIR BINARY SCRIPT
#
# The world has its own processes, mounts and network; /run, /etc and /var/lib are copies or empty. With the script everything
# that it has started or mounted ends, also when it fails, is killed, or leaves daemons behind; what is left of its control
# groups is removed.
set -u
dir=$1 binary=$2 script=$3
here=$(dirname "$(readlink -f "$0")")
groups=wamedia-test-$$ status=1

left() { find /sys/fs/cgroup -depth -type d -path "*/$1*" 2>/dev/null; }

remove() { left "$1" | while read -r group; do rmdir "$group" 2>/dev/null; done; }

# Those of a run that was killed before it could remove them.
find /sys/fs/cgroup -maxdepth 2 -type d -name 'wamedia-test-*' -printf '%f\n' 2>/dev/null | sort -u | while read -r old; do
    [ -d "/proc/${old##*-}" ] || remove "$old"
done

unshare --mount --propagation private --pid --fork --kill-child --mount-proc --net \
    bash -c 'source "$1/world.sh" && source "$2"' world "$here" "$script" "$dir" "$binary" "/$groups" </dev/null &
world=$!
trap 'kill -KILL $world' INT TERM HUP
while [ -d "/proc/$world" ]; do
    wait $world
    status=$?
done
# Mount points that nobody can write into would keep the directory from being removed.
chattr -R -f -i "$dir/lib/docker-volumes" "$dir/srv" 2>/dev/null
for _ in $(seq 50); do
    remove "$groups"
    [ -z "$(left "$groups")" ] && exit "$status"
    sleep 0.1
done
echo "control groups stay behind:" "$(left "$groups")" >&2
exit 1
