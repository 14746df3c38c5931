#!/bin/bash
# The units of the plugin on a real systemd: units.sh DIR PROJECT BINARY
#
# DIR is an empty directory to work in. Everything that is mounted or started is gone at the end, also after a failure.
set -uo pipefail
dir=$1 project=$2 binary=$3
systemd=$project/tests/systemd

clean_up() {
    local status=$?
    "$systemd/stop.sh" "$dir" || status=1
    exit $status
}

tell_more() {
    inside systemctl status --no-pager --full wamedia-docker-plugin.socket wamedia-docker-plugin.service
    inside journalctl --no-pager -o short-precise -n 80 -u wamedia-docker-plugin.service -t wamedia
}

patience=60
source "$systemd/tools.sh"

ask() { inside curl --silent --show-error --max-time 20 --unix-socket /run/docker/plugins/wamedia.sock -d "$2" "http://plugin/VolumeDriver.$1"; }

must_ask() { told=$(ask "$1" "$2") && [[ $told == *"$3"* ]] || fail "$1 $2: $told"; }

property() { inside systemctl show wamedia-docker-plugin.service -p "$1" --value; }

is_active_but_not() { [ "$(property ActiveState)" = active ] && [ "$(property MainPID)" != "$1" ]; }

daemon() { inside wamedia status --json /var/lib/docker-volumes/wamedia/media | grep -o '"pid":[0-9]*'; }

mkdir "$dir/disk"
trap clean_up EXIT
trap 'exit 130' INT TERM
leader=
"$systemd/boot.sh" "$dir" "$binary" || exit 1
leader=$(cat "$dir/leader")

step "install"
install -m 0644 "$project"/systemd/wamedia-docker-plugin.{socket,service} "$dir/root/usr/lib/systemd/system/"
must systemctl daemon-reload
must systemd-analyze verify --man=no wamedia-docker-plugin.socket wamedia-docker-plugin.service
told=$(inside systemd-analyze security --no-pager --threshold=46 wamedia-docker-plugin.service) || fail "exposure: $(tail -1 <<<"$told")"
tail -1 <<<"$told"

step "the socket alone is there, and the first request starts the plugin"
must systemctl enable --now wamedia-docker-plugin.socket
[ "$(property ActiveState)" = inactive ] || fail "the plugin runs without a request"
[ "$(inside stat -c %a /run/docker/plugins/wamedia.sock)" = 600 ] || fail "the socket is open to others"
must_ask Create '{"Name":"media","Opts":{"quota":"50MiB"}}' '{}'
[ "$(property ActiveState)" = active ] || fail "the plugin is not active"
must_ask Mount '{"Name":"media","ID":"a"}' '/var/lib/docker-volumes/wamedia/media'
must sh -c 'echo picture >/var/lib/docker-volumes/wamedia/media/photo'

step "restarted, killed and stopped, the plugin leaves the volume's daemon alone"
serving=$(daemon)
before=$(property MainPID)
must systemctl restart wamedia-docker-plugin.service
is_active_but_not "$before" || fail "not restarted"
before=$(property MainPID)
must kill -KILL "$before"
until_holds is_active_but_not "$before"
must systemctl stop wamedia-docker-plugin.service
[ "$(daemon)" = "$serving" ] || fail "the daemon was $serving and is $(daemon)"
must_ask Get '{"Name":"media"}' '"mounts":1'
[ "$(inside cat /var/lib/docker-volumes/wamedia/media/photo)" = picture ] || fail "the medium is not there"

step "a daemon that a restarted plugin starts has what it needs"
must_ask Unmount '{"Name":"media","ID":"a"}' '{}'
must_ask Get '{"Name":"media"}' 'not mounted'
must_ask Mount '{"Name":"media","ID":"b"}' '/media'
[ "$(inside cat /var/lib/docker-volumes/wamedia/media/photo)" = picture ] || fail "the medium is not there"

must cp /etc/wamedia/keys/docker.key /var/lib/wamedia/

step "the machine is shut down with the volume mounted"
"$systemd/stop.sh" "$dir" || fail "stop.sh"
trap - EXIT
"$binary" check --key-file "$dir/disk/docker.key" "$dir/disk/docker/stores/media"
