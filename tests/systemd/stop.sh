#!/bin/bash
# Ends what boot.sh has begun, and takes away what it has mounted: stop.sh DIR
set -u
dir=$1
nspawn=$(cat "$dir/nspawn" 2>/dev/null)
is_running() {
    [ -n "$nspawn" ] && [ -d "/proc/$nspawn" ] && ! grep -q '^State:.*Z' "/proc/$nspawn/status" 2>/dev/null
}
if [ -s "$dir/leader" ]; then
    kill -s SIGRTMIN+4 "$(cat "$dir/leader")" 2>/dev/null
fi
for _ in $(seq 300); do
    is_running || break
    sleep 0.1
done
if is_running; then
    echo "systemd did not power off and is killed" >&2
    kill -KILL "$nspawn"
    sleep 1
fi
status=0
for place in root memory; do
    if mountpoint -q "$dir/$place"; then
        umount "$dir/$place" || { umount --lazy "$dir/$place"; status=1; }
    fi
done
exit $status
