#!/bin/bash
# What docs/OPERATIONS.md says of systemd, done on a real one: walk.sh DIR PROJECT BINARY
#
# DIR is an empty directory to work in. Everything that is mounted or started is gone at the end, also after a failure.
set -uo pipefail
dir=$1 project=$2 binary=$3
here=$project/tests/systemd

clean_up() {
    local status=$?
    fsfreeze --unfreeze "$dir/disk" 2>/dev/null
    "$here/stop.sh" "$dir" || status=1
    umount "$dir/disk" || status=1
    exit $status
}

tell_more() {
    inside systemctl status --no-pager --full 'wamedia@*' 'wamedia-sandboxed@*' srv-table.mount srv-auto.mount
    inside journalctl --no-pager -o short-precise -n 120 -u 'wamedia@*' -u 'wamedia-sandboxed@*' -u 'srv-*' -t wamedia -t mount
}

patience=120
source "$here/tools.sh"

property() { inside systemctl show "$1" -p "$2" --value; }

# The service that is walked through.
unit=wamedia@media

main_pid() { property $unit MainPID; }

is_mounted() { [ "$(inside findmnt --noheadings --output FSTYPE --mountpoint "$1")" = fuse.wamedia ]; }

is_unmounted() { ! inside findmnt --noheadings --mountpoint "$1" >/dev/null; }

# Whether the service runs in another process than this one, and its mount answers.
is_back_after() {
    local pid
    pid=$(main_pid)
    [ "$pid" != "$1" ] && [ "$pid" != 0 ] && is_active && [ "$(inside cat /srv/media/photo)" = picture ]
}

is_active() { [ "$(property $unit ActiveState)" = active ]; }

status_says() { [[ $(property $unit StatusText) == *"$1"* ]]; }

# How often a daemon has gone on with the mount of the one before.
takeovers() { inside journalctl --no-pager -u $unit | grep -c 'is_taken_over=true'; }

has_taken_over() { [ "$(takeovers)" -gt "$1" ]; }

# A program begins to use the mount.
begin_load() {
    must mkdir -p /run/load
    must sh -c 'rm -f /run/load/*; seq 1000000 >/srv/media/lines; sync /srv/media/lines'
    install -m 0755 "$here/load.sh" "$dir/root/usr/bin/load.sh"
    nsenter -t "$leader" -a -- /usr/bin/load.sh /srv/media /run/load </dev/null >/dev/null 2>&1 &
    load=$!
    until_holds inside test -s /run/load/acked
}

# It goes on: it has synced more than before.
load_goes_on() {
    local before
    before=$(inside wc -l </dev/null /run/load/acked)
    goes_on() { [ "$(inside wc -l </dev/null /run/load/acked)" != "$before" ]; }
    until_holds goes_on
}

# It ends, has met nothing but that something unsynced was lost, and what it has synced is there.
end_load() {
    must touch /run/load/over
    wait $load || fail "the program that uses the mount has failed"
    inside cat /run/load/errors | grep -v 'Input/output error$' && fail "a program has met an error"
    must sh -c 'sort -u /srv/media/load >/run/load/found && sort -u /run/load/acked | comm -23 - /run/load/found >/run/load/missing'
    must_not test -s /run/load/missing
    echo "$(inside wc -l </dev/null /run/load/acked), $(inside grep -c . /run/load/errors) times told of a loss"
}

# Another program takes the daemon's place, as at an upgrade.
upgrade() {
    { cat "$binary" && echo "$RANDOM"; } >"$dir/root/usr/bin/wamedia.new"
    chmod 0755 "$dir/root/usr/bin/wamedia.new"
    must mv /usr/bin/wamedia.new /usr/bin/wamedia
    must systemctl restart $unit
}

quota_is() { inside wamedia quota show --json /srv/media | grep -q "\"max_bytes\":$1\b"; }

mkdir "$dir/disk"
truncate -s 256M "$dir/image"
mkfs.ext4 -q "$dir/image" && mount -o loop "$dir/image" "$dir/disk" || exit 1
trap clean_up EXIT
trap 'exit 130' INT TERM
leader=
"$here/boot.sh" "$dir" "$binary" || exit 1
leader=$(cat "$dir/leader")

step "install"
install -m 0644 "$project/systemd/wamedia@.service" "$dir/root/usr/lib/systemd/system/"
install -m 0644 "$project/systemd/wamedia.tmpfiles.conf" "$dir/root/usr/lib/tmpfiles.d/wamedia.conf"
ln -s /usr/bin/wamedia "$dir/root/usr/sbin/mount.wamedia"
must systemctl daemon-reload
must systemd-tmpfiles --create wamedia.conf
[ "$(inside stat -c %a /etc/wamedia/keys)" = 700 ] || fail "the keys' directory is open to others"
printf 'd /srv/media 0755 root root -\nh /srv/media - - - - +i\n' >"$dir/root/etc/tmpfiles.d/media.conf"
must systemd-tmpfiles --create media.conf

step "what systemd-analyze says of the unit"
must systemd-analyze verify --man=no wamedia@media.service
simple=$(inside systemd-analyze security --no-pager --threshold=44 wamedia@media.service) ||
    fail "exposure: $(tail -1 <<<"$simple")"
tail -1 <<<"$simple"

step "without a store the service does not start, and nothing can be written where it would be mounted"
must_not systemctl start wamedia@media
must_not touch /srv/media/plain
until_holds is_unmounted /srv/media
inside systemctl stop wamedia@media
inside systemctl reset-failed wamedia@media

step "init; the key becomes a credential"
must wamedia init --key-file /etc/wamedia/keys/first.key --quota 100MiB /var/lib/wamedia/media
must install -m 0600 /etc/wamedia/keys/first.key /run/first.key
must install -D -m 0600 /etc/wamedia/keys/first.key /etc/credstore/wamedia-media.key

step "started is mounted"
must systemctl start wamedia@media
is_mounted /srv/media || fail "the service is started and nothing is mounted"
is_active || fail "the service is not active"
must sh -c 'echo picture >/srv/media/photo && sync /srv/media/photo'
[ "$(inside cat /srv/media/photo)" = picture ] || fail "what was written is not read"

step "the status text"
until_holds status_says "1 media, "
status_says " of 100.0 MiB used (0 %), mounted on /srv/media" || fail "status: $(property wamedia@media StatusText)"

step "reload takes over the policy file"
must cp -a /var/lib/wamedia/media/policy /var/lib/wamedia/media/policy.bak /run/
must wamedia quota set --quota 50MiB /srv/media
quota_is 52428800 || fail "the quota was not set"
must cp -a /run/policy /run/policy.bak /var/lib/wamedia/media/
quota_is 52428800 || fail "the policy was taken over before anybody asked for it"
before=$(main_pid)
must systemctl reload wamedia@media
until_holds quota_is 104857600
[ "$(main_pid)" = "$before" ] || fail "reload has restarted the daemon"
until_holds is_active

step "a daemon that is killed comes back, and programs go on"
begin_load
must kill -KILL "$before"
until_holds is_back_after "$before"
until_holds has_taken_over 0
load_goes_on

# From here on a watchdog that a test can wait for.
mkdir -p "$dir/root/etc/systemd/system/wamedia@.service.d"
printf '[Service]\nWatchdogSec=4s\n' >"$dir/root/etc/systemd/system/wamedia@.service.d/test.conf"
must systemctl daemon-reload
must systemctl restart wamedia@media

step "the watchdog lets an idle mount be"
before=$(main_pid)
sleep 9
[ "$(main_pid)" = "$before" ] || fail "the watchdog has killed an idle daemon"

step "the watchdog ends a daemon that is stopped"
must kill -STOP "$before"
until_holds is_back_after "$before"
inside journalctl --no-pager -u wamedia@media | grep -q 'Watchdog timeout' || fail "it was not the watchdog"
until_holds has_taken_over 2
load_goes_on

step "the watchdog ends a daemon that runs while its mount does not answer"
before=$(main_pid)
fsfreeze --freeze "$dir/disk" || fail "fsfreeze"
for name in 1 2 3 4 5 6 7 8; do
    inside sh -c "echo stuck >/srv/media/stuck-$name" >/dev/null 2>&1 &
done
# The second: the daemon that was stopped had the first.
is_starved() { [ "$(inside journalctl --no-pager -u wamedia@media | grep -c 'Watchdog timeout')" -ge 2 ]; }
until_holds is_starved
inside journalctl --no-pager -u wamedia@media | grep -q 'the mount does not answer' || fail "the daemon has not noticed"
fsfreeze --unfreeze "$dir/disk" || fail "fsfreeze"
until_holds is_back_after "$before"
load_goes_on
rm "$dir/root/etc/systemd/system/wamedia@.service.d/test.conf"
must systemctl daemon-reload
must systemctl restart wamedia@media

step "an upgrade loses nothing, and programs go on"
inside sh -c 'exec 3<>/srv/media/open && echo one >&3 && echo open >/run/open && exec sleep 100' &
until_holds inside test -s /run/open
before=$(main_pid) count=$(takeovers)
upgrade
[ "$(main_pid)" != "$before" ] || fail "it was not restarted"
until_holds has_taken_over "$count"
[ "$(inside cat /srv/media/open)" = one ] || fail "what was written and not synced is lost"
inside pkill -x sleep
load_goes_on
end_load

step "stop unmounts, also while a program holds the mount"
inside sh -c 'cd /srv/media && exec 3<photo && echo held >/run/held && exec sleep 100' &
until_holds inside test -e /run/held
must systemctl stop wamedia@media
is_unmounted /srv/media || fail "still mounted"
[ "$(property wamedia@media Result)" = success ] || fail "stopped with $(property wamedia@media Result)"
inside pkill -x sleep

step "a key that is encrypted"
must systemd-creds setup
must install -d -m 0700 /etc/credstore.encrypted
must systemd-creds encrypt --with-key=host --name=wamedia.key /etc/credstore/wamedia-media.key \
    /etc/credstore.encrypted/wamedia-media.key
must rm /etc/credstore/wamedia-media.key /etc/wamedia/keys/first.key
mkdir -p "$dir/root/etc/systemd/system/wamedia@media.service.d"
printf '[Service]\nLoadCredentialEncrypted=wamedia.key:wamedia-%%i.key\n' \
    >"$dir/root/etc/systemd/system/wamedia@media.service.d/key.conf"
must systemctl daemon-reload
must systemctl start wamedia@media
[ "$(inside cat /srv/media/photo)" = picture ] || fail "what was written is not read"

step "options and places of one's own; ready is when the node answers too"
must mkdir /mnt/own
printf 'MOUNT_POINT=/mnt/own\nOPTIONS=--listen 127.0.0.1:8080 --scrub-every 7d\n' >"$dir/root/etc/wamedia/media.env"
must systemctl restart wamedia@media
must bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080 && printf "GET /healthz HTTP/1.0\r\n\r\n" >&3 && head -1 <&3 | grep -q 200'
[ "$(inside cat /mnt/own/photo)" = picture ] || fail "it is not mounted at the place of one's own"
rm "$dir/root/etc/wamedia/media.env"
must systemctl restart wamedia@media

step "umount from outside ends the service, and nothing restarts it"
must umount /srv/media
stopped() { [ "$(property wamedia@media ActiveState)/$(property wamedia@media Result)" = inactive/success ]; }
until_holds stopped

step "mount(8) and fstab"
mkdir "$dir/root/srv/table" "$dir/root/srv/auto"
cat >"$dir/root/etc/fstab" <<TABLE
/var/lib/wamedia/media /srv/table wamedia noauto,nofail,key_file=/run/first.key 0 0
/var/lib/wamedia/media /srv/auto wamedia noauto,nofail,x-systemd.automount,x-systemd.idle-timeout=3s,key_file=/run/first.key,scrub_every=off 0 0
TABLE
must systemctl daemon-reload
must mount /srv/table
is_mounted /srv/table || fail "mount(8) has succeeded and nothing is mounted"
[ "$(inside findmnt -n -o SOURCE --mountpoint /srv/table)" = /var/lib/wamedia/media ] || fail "the source is not the store"
[ "$(inside cat /srv/table/photo)" = picture ] || fail "what was written is not read"
daemon_of_table() { inside pgrep -f 'mount.wamedia.*/srv/table'; }
daemon_of_table >/dev/null || fail "there is no daemon"
must umount /srv/table
no_daemon_of_table() { ! daemon_of_table; }
until_holds no_daemon_of_table
inside mount -t wamedia -o key_file=/etc/wamedia/keys/none.key /var/lib/wamedia/media /srv/table 2>/dev/null
[ $? = 32 ] || fail "a mount that fails does not exit with 32"
must mount -t wamedia -o ro,fsname=name,key_file=/run/first.key /var/lib/wamedia/media /srv/table
[ "$(inside findmnt -n -o SOURCE,FSTYPE --mountpoint /srv/table | tr -s ' ')" = "name fuse.wamedia" ] || fail "fsname"
must_not touch /srv/table/new
must umount /srv/table
until_holds no_daemon_of_table

step "automount"
must systemctl start srv-auto.automount
[ "$(inside cat /srv/auto/photo)" = picture ] || fail "what was written is not read through the automount"
# Not by findmnt, which asks the path itself and so uses the mount.
is_automounted() { inside grep -q ' /srv/auto .* - fuse.wamedia ' /proc/self/mountinfo; }
is_automounted || fail "nothing is mounted"
is_idle() { ! is_automounted; }
until_holds is_idle
[ "$(inside cat /srv/auto/photo)" = picture ] || fail "it is not mounted a second time"
must systemctl stop srv-auto.automount
until_holds is_idle

step "the log: entries of the journal, with priority and fields"
entries() { inside journalctl --no-pager -o json -u wamedia@media "$@"; }
entries WAMEDIA_STOPPED=Clean WAMEDIA_STOPPED=Aborted WAMEDIA_STOPPED=StillHeld | grep -c '"MESSAGE":"unmounted stopped=' >/dev/null || fail "no entry with a field"
entries PRIORITY=4 _TRANSPORT=journal | grep -c '"WAMEDIA_TARGET":"wamedia::' >/dev/null || fail "no warning is an entry of its own"
entries PRIORITY=3 _TRANSPORT=stdout SYSLOG_IDENTIFIER=wamedia | grep -c '"MESSAGE":"wamedia: ' >/dev/null || fail "what kept the service from starting is no error"
if entries PRIORITY=6 _TRANSPORT=stdout SYSLOG_IDENTIFIER=wamedia | grep -c wamedia:: >/dev/null; then fail "lines of the log go to stderr too"; fi

step "the sandboxed service: what systemd-analyze says of it"
unit=wamedia-sandboxed@media
install -m 0644 "$project/systemd/wamedia-sandboxed@.service" "$dir/root/usr/lib/systemd/system/"
install -D -m 0644 "$project/systemd/wamedia.sysusers.conf" "$dir/root/usr/lib/sysusers.d/wamedia.conf"
must systemd-sysusers wamedia.conf
must install -m 0600 /run/first.key /etc/credstore/wamedia-media.key
must systemctl daemon-reload
must systemd-analyze verify --man=no $unit.service
told=$(inside systemd-analyze security --no-pager --threshold=10 $unit.service) || fail "exposure: $(tail -1 <<<"$told")"
tail -1 <<<"$told"

step "started is mounted, where everybody sees it, by a daemon that may nothing"
must systemctl start $unit
is_mounted /srv/media || fail "the service is started and nothing is mounted"
[ "$(inside cat /srv/media/photo)" = picture ] || fail "what was written is not read"
until_holds status_says ", mounted on /srv/media"
inside cat "/proc/$(main_pid)/status" >"$dir/status"
grep -q '^CapEff:[[:space:]]*0*$' "$dir/status" && grep -q '^CapBnd:[[:space:]]*0*$' "$dir/status" || fail "it has capabilities"
[ "$(inside stat -c %U "/proc/$(main_pid)")" = wamedia ] || fail "it is $(inside stat -c %U "/proc/$(main_pid)")"
must_not wamedia umount /srv/media
must wamedia status /srv/media

step "killed, restarted and upgraded, its mount goes on"
begin_load
for round in 1 2 3; do
    before=$(main_pid) count=$(takeovers)
    case $round in
    1) must kill -KILL "$before" ;;
    2) must systemctl restart $unit ;;
    3) upgrade ;;
    esac
    until_holds is_back_after "$before"
    until_holds has_taken_over "$count"
    load_goes_on
done
end_load

step "it stops while a program holds the mount"
inside sh -c 'cd /srv/media && exec 3<photo && echo held >/run/held && exec sleep 100' &
must systemctl stop $unit
is_unmounted /srv/media || fail "still mounted"
[ "$(property $unit Result)" = success ] || fail "stopped with $(property $unit Result)"
inside pkill -x sleep
must systemctl start $unit
[ "$(inside cat /srv/media/photo)" = picture ] || fail "it is not mounted a second time"
must systemctl stop $unit

step "the store is whole"
until_holds inside wamedia check --read-all --key-file /run/first.key /var/lib/wamedia/media
echo "--- done"
