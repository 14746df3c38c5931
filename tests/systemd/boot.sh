#!/bin/bash
# Boots this machine's own root file system, with memory laid over it, under a systemd of its own.
#
#     boot.sh DIR BINARY
#
# BINARY becomes /usr/bin/wamedia in there, and DIR/disk, which must be there, /var/lib/wamedia. DIR/leader names the
# process that is its init; `nsenter -t $(cat DIR/leader) -a` is the way in. stop.sh ends it.
set -euo pipefail
dir=$1 binary=$2
mkdir "$dir/memory" "$dir/root"
mount -t tmpfs wamedia-systemd "$dir/memory"
mkdir "$dir/memory/upper" "$dir/memory/work"
mount -t overlay wamedia-systemd -o "lowerdir=/,upperdir=$dir/memory/upper,workdir=$dir/memory/work" "$dir/root"
root=$dir/root

# Nothing of this machine starts in there but what belongs to systemd itself.
rm -f "$root/etc/machine-id"
: >"$root/etc/machine-id"
: >"$root/etc/fstab"
rm -rf "$root/etc/systemd/system" "$root/etc/wamedia" "$root/etc/credstore" "$root/etc/credstore.encrypted" \
    "$root/var/lib/wamedia" "$root/usr/lib/tmpfiles.d/wamedia.conf"
mkdir -p "$root/etc/systemd/system" "$root/var/log/journal" "$root/var/lib/wamedia"
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer man-db.timer dpkg-db-backup.timer fstrim.timer \
    systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-networkd.service \
    getty.target console-getty.service docker.service docker.socket containerd.service; do
    ln -s /dev/null "$root/etc/systemd/system/$unit"
done
ln -s /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
install -m 0755 "$binary" "$root/usr/bin/wamedia"

setsid systemd-nspawn --quiet --register=no --keep-unit --machine="wamedia-$$" --directory="$root" --resolv-conf=off \
    --timezone=off --private-network --system-call-filter=pidfd_getfd --bind=/dev/fuse --bind=/dev/autofs --bind="$dir/disk:/var/lib/wamedia" --boot \
    </dev/null >"$dir/console.log" 2>&1 &
echo $! >"$dir/nspawn"
for _ in $(seq 600); do
    leader=$(pgrep -P "$(cat "$dir/nspawn")" | head -1) || leader=
    if [ -n "$leader" ] && nsenter -t "$leader" -a test -S /run/systemd/private 2>/dev/null; then
        echo "$leader" >"$dir/leader"
        exit 0
    fi
    sleep 0.1
done
echo "systemd did not come up:" >&2
cat "$dir/console.log" >&2
exit 1
