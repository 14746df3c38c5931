# What the scripts of these tests share; sourced in the world that enter.sh makes, as its first process.
dir=$3 binary=$4 groups=$5
set -uo pipefail

mkdir "$dir/lib" "$dir/memory" "$dir/image" &&
    mount -t tmpfs wamedia-docker "$dir/memory" &&
    mkdir "$dir/memory/upper" "$dir/memory/work" &&
    mount -t overlay wamedia-docker -o "lowerdir=/etc,upperdir=$dir/memory/upper,workdir=$dir/memory/work" /etc &&
    rm -rf /etc/docker /etc/wamedia /etc/containers/containers.conf &&
    mount -t tmpfs wamedia-docker /run &&
    mount --bind "$dir/lib" /var/lib &&
    # As on a machine with systemd: without it, no mount is handed on.
    mount --make-rshared / || exit 1
# Mounts of other tests, which would be held by this world.
grep ' fuse.wamedia ' /proc/self/mounts | cut -d' ' -f2 | while read -r other; do umount --lazy "$other"; done
mkdir /run/bin && install -m 0755 "$binary" /run/bin/wamedia || exit 1
export PATH=/run/bin:$PATH DOCKER_HOST=unix:///run/docker.sock
unset DOCKER_CONTEXT DOCKER_CONFIG

step() { echo "--- after $SECONDS s: $*"; }

fail() {
    echo "FAILED: $*" >&2
    for log in plugin dockerd; do
        [ -e "$dir/$log.log" ] && { echo "--- the end of $log.log" >&2; tail -n 60 "$dir/$log.log" >&2; }
    done
    grep -E 'wamedia|volumes' /proc/self/mountinfo >&2
    exit 1
}

must() { "$@" >"$dir/told" 2>&1 || fail "$*: $(cat "$dir/told")"; }

# Must fail, and say this.
must_not() {
    local part=$1
    shift
    ! "$@" >"$dir/told" 2>&1 || fail "$* has succeeded: $(cat "$dir/told")"
    grep -qF -- "$part" "$dir/told" || fail "$* does not say \"$part\": $(cat "$dir/told")"
}

same() { [ "$1" = "$2" ] || fail "$3: \"$1\" instead of \"$2\""; }

# Waits until a condition holds.
until_holds() {
    local end=$((SECONDS + 60))
    while [ $SECONDS -lt $end ]; do
        "$@" >/dev/null 2>&1 && return
        sleep 0.05
    done
    fail "$* does not come to hold"
}

is_gone() { [ ! -d "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status"; }

end_of() {
    kill "-$2" "$1" || fail "there is no process $1"
    until_holds is_gone "$1"
}

is_mounted() { [ "$(findmnt --noheadings --output FSTYPE --mountpoint "$1" | tail -1)" = fuse.wamedia ]; }

is_unmounted() { ! findmnt --noheadings --mountpoint "$1" >/dev/null; }

# The process that serves a store or mount.
daemon_of() { wamedia status --json "$1" | grep -o '"pid":[0-9]*' | cut -d: -f2; }

# A root file system of this machine's busybox, with content where volumes are mounted.
make_image() {
    local image=$dir/image applet
    mkdir -p "$image"/{bin,etc,proc,sys,dev,tmp} "$image/usr/local/wamedia"
    chmod 1777 "$image/tmp"
    for applet in $(busybox --list); do ln -sf busybox "$image/bin/$applet"; done
    rm -f "$image/bin/busybox"
    cp "$(command -v busybox)" "$image/bin/busybox"
    echo image >"$image/usr/local/wamedia/from-image"
    chown -R 1000:1000 "$image/usr/local/wamedia"
    chmod 0750 "$image/usr/local/wamedia"
}

start_docker() {
    rm -f /run/docker.pid
    setsid dockerd --iptables=false --ip6tables=false --ip-forward=false --bridge=none --storage-driver=vfs \
        --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent="$groups" --pidfile=/run/docker.pid \
        -H "$DOCKER_HOST" >>"$dir/dockerd.log" 2>&1 </dev/null &
    until_holds docker version
}

stop_docker() { end_of "$(cat /run/docker.pid)" "$1"; }

import_image() { tar -C "$dir/image" -c . | docker import -c 'CMD ["/bin/sh"]' -c 'ENV PATH=/bin' - wa/box >/dev/null; }

# A container that ends by itself, and one that stays.
box() { docker run --rm --network none "$@"; }
box_on() { docker run -d --network none --stop-timeout 0 "$@"; }

status_of() { docker volume inspect -f "{{.Status.$2}}" "$1"; }

status_is() { [ "$(status_of "$1" "$2")" = "$3" ]; }

is_running() { [ "$(docker inspect -f '{{.State.Running}}' "$1")" = true ]; }

# The plugin, with all its defaults.
start_plugin() {
    setsid wamedia docker-plugin >>"$dir/plugin.log" 2>&1 </dev/null &
    plugin=$!
    until_holds is_answered
}

# Its socket, and the plugin when the first request comes: what systemd does.
listen_for_plugin() {
    mkdir -p "${socket%/*}"
    setsid systemd-socket-activate -l $socket --setenv=PATH /run/bin/wamedia docker-plugin >>"$dir/plugin.log" 2>&1 </dev/null &
    plugin=$!
    until_holds test -S $socket
}

# What the plugin answers to a request: ask PATH BODY
ask() { curl --silent --show-error --max-time 20 --unix-socket "$socket" -d "$2" "http://plugin/$1"; }

is_answered() { ask VolumeDriver.Capabilities '{}' | grep -qF '{"Capabilities":{"Scope":"local"}}'; }

socket=/run/docker/plugins/wamedia.sock
places=/var/lib/docker-volumes/wamedia
stores=/var/lib/wamedia/docker/stores
