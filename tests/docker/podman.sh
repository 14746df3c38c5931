# Volumes of podman: its own, and those of the same plugin.
make_image
start_plugin
at=/usr/local/wamedia
place=$places/media
mkdir -p "$dir/containers"
cat >"$dir/containers.conf" <<END
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[engine.volume_plugins]
wamedia = "$socket"
END
export CONTAINERS_CONF=$dir/containers.conf
podman() { command podman --storage-driver=vfs "$@"; }
# Limits of this machine may be lower than those that podman asks for.
limits=(--network none --cgroup-parent "$groups" --ulimit nofile=1024:1024 --ulimit nproc=1024:1024)
box() { podman run --rm "${limits[@]}" "$@"; }
box_on() { podman run -d "${limits[@]}" --stop-timeout 0 "$@"; }
tar -C "$dir/image" -c . | podman import -c 'CMD ["/bin/sh"]' -c 'ENV PATH=/bin' - wa/box >/dev/null || fail "no image"

step "a mount over the directory of a plain volume is refused"
must podman volume create plain
must wamedia init --key-file "$dir/key" "$dir/store"
must_not "podman volume rm" wamedia mount --daemon --key-file "$dir/key" "$dir/store" "$(podman volume inspect -f '{{.Mountpoint}}' plain)"

step "a volume of the plugin"
must_not "unknown option size; known are" podman volume create --driver wamedia --opt size=1GiB media
must podman volume create --driver wamedia --opt quota=50MiB --opt retention=30d media
must box -v media:$at wa/box sh -c "echo picture >$at/photo"
must box_on --name first -v media:$at wa/box sleep 1000
same "$(box --user 1000 -v media:$at:ro wa/box cat $at/photo)" picture "what another user reads"
same "$(podman exec first cat $at/photo)" picture "what the first reads after another has ended"
same "$(podman volume inspect -f '{{.Driver}} {{.Status.used}} of {{.Status.quota}}' media)" "wamedia 8 B of 50.0 MiB" "inspect"
must_not "No space left on device" podman exec first dd if=/dev/zero of=$at/large bs=1M count=60
must podman exec first rm -f $at/large

step "plugin and daemon killed"
end_of $plugin KILL
same "$(podman exec first cat $at/photo)" picture "without the plugin"
start_plugin
end_of "$(daemon_of $place)" KILL
must_not "not connected" podman exec first cat $at/photo
# Not `podman restart`: it may start the container before it has ended its use of the volume.
must podman stop -t 0 first
must podman start first
same "$(podman exec first cat $at/photo)" picture "after the restart"
must podman rm -f -t 0 first
is_unmounted $place || fail "mounted without containers"
must podman volume prune -f
test -f $stores/media/superblock || fail "prune has removed the store"
podman volume rm media >/dev/null 2>&1
must podman volume create --driver wamedia media
same "$(box -v media:$at wa/box cat $at/photo)" picture "the medium of the volume made again"
must podman volume rm media

step "a bind volume of podman's own driver: no container without the mount"
mkdir "$dir/srv"
must podman volume create --opt type=none --opt o=bind --opt "device=$dir/srv/.expired/.." bound
! box -v bound:$at wa/box touch $at/plain 2>"$dir/told" || fail "a container was started without the mount"
same "$(ls -A "$dir/srv")" "" "what lies in plain"
must wamedia mount --daemon --key-file "$dir/key" "$dir/store" "$dir/srv"
must box -v bound:$at wa/box sh -c "echo picture >$at/photo"
must podman volume prune -f
podman volume rm bound >/dev/null 2>&1
same "$(cat "$dir/srv/photo")" picture "the medium after the volume was removed"
must wamedia umount "$dir/srv"
end_of $plugin TERM
