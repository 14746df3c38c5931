# The volume plugin under Docker.
make_image
at=/usr/local/wamedia
place=$places/whatsappMedia

step "the socket is there before the plugin, which is started by the first request"
listen_for_plugin
start_docker
import_image || fail "no image"
must docker volume create -d wamedia -o quota=50MiB -o retention=30d whatsappMedia
same "$(docker volume inspect -f '{{.Driver}} {{.Mountpoint}}' whatsappMedia)" "wamedia $place" "inspect"
same "$(stat -c %a /var/lib/wamedia/docker/state.json)$(stat -c %a /etc/wamedia/keys/docker.key)" 600600 "modes of state and key"
end_of $plugin TERM
test -S $socket || fail "the plugin has removed a socket that was handed to it"
rm $socket

step "one plugin at a time, and only for root"
start_plugin
same "$(stat -c %a $socket)" 600 "mode of the socket"
must_not "another plugin keeps the volumes" wamedia docker-plugin --socket "$dir/other.sock"
must_not "served by another process" wamedia docker-plugin --base "$dir/other"
must_not "run it as root" setpriv --reuid 1000 --clear-groups wamedia docker-plugin --base "$dir/third"

step "options that are not known are named, with those that are"
must_not "unknown options device, size; known are action, " docker volume create -d wamedia -o size=1GiB -o device=/x other
grep -qF "retention, retention_prefix" "$dir/told" || fail "the known options are not all named: $(cat "$dir/told")"
must_not "no size" docker volume create -d wamedia -o quota=much other
must_not "no such volume" docker volume inspect other

step "made again it stays as it is"
same "$(ask VolumeDriver.Create '{"Name":"whatsappMedia","Opts":{"quota":"50MiB","retention":"30d"}}')" "{}" "the same"
ask VolumeDriver.Create '{"Name":"whatsappMedia","Opts":{"quota":"1MiB"}}' | grep -q "made with other options" || fail "other options were taken"

step "requests have bounds"
head -c 2000000 /dev/zero | tr '\0' ' ' >"$dir/long"
ask VolumeDriver.Get "@$dir/long" | grep -q "too long" || fail "a long request was taken"
ask VolumeDriver.Get '{"Name":' | grep -q "makes no sense" || fail "half a request was taken"
ask VolumeDriver.Create '{"Name":"../x"}' | grep -q "begins with a letter" || fail "a name that leads elsewhere was taken"
ask VolumeDriver.Other '{}' | grep -q "has no /VolumeDriver.Other" || fail "an unknown request"

step "two containers, one mount; what one writes the other reads"
status_is whatsappMedia state "not mounted" || fail "state: $(status_of whatsappMedia state)"
must box_on --name first -v whatsappMedia:$at wa/box sleep 1000
must box_on --name second -u 1000:1000 -v whatsappMedia:$at:ro wa/box sleep 1000
status_is whatsappMedia mounts 2 || fail "mounts: $(status_of whatsappMedia mounts)"
must docker exec first sh -c "echo picture >$at/photo"
same "$(docker exec second cat $at/photo)" picture "what the second reads"
must_not "Read-only file system" docker exec -u 0 second touch $at/other
same "$(setpriv --reuid 1000 --clear-groups cat $place/photo)" picture "what another user of the host reads"
must_not "Permission denied" docker exec -u 1000 first touch $at/other
[ ! -e $place/from-image ] || fail "the image's content was copied"

step "the status map"
same "$(docker volume inspect -f '{{.Status.state}}, {{.Status.used}} of {{.Status.quota}}, {{.Status.media}} media, {{.Status.expired}} expired' whatsappMedia)" \
    "ok, 8 B of 50.0 MiB, 1 media, 0 expired" "status"
ask VolumeDriver.Get '{"Name":"whatsappMedia"}' | grep -qF '"quota_bytes":52428800' || fail "no bytes of the quota"
same "$(wamedia quota show --json $place | grep -o '"max_bytes":[0-9]*')" '"max_bytes":52428800' "the quota"

step "the quota is met in the container"
must_not "No space left on device" docker exec first dd if=/dev/zero of=$at/large bs=1M count=60
must docker exec first rm -f $at/large

step "the plugin killed, and ended, with containers running"
end_of $plugin KILL
must docker exec first sh -c "echo 2 >>$at/photo"
start_plugin
status_is whatsappMedia mounts 2 || fail "mounts after a kill: $(status_of whatsappMedia mounts)"
end_of $plugin TERM
[ ! -e $socket ] || fail "the plugin has left its socket"
must docker exec first sh -c "echo 3 >>$at/photo"
start_plugin
must docker rm -f second
status_is whatsappMedia mounts 1 || fail "mounts: $(status_of whatsappMedia mounts)"
is_mounted $place || fail "unmounted with a container left"

step "a daemon that does not answer keeps nobody waiting"
serving=$(daemon_of $place)
kill -STOP "$serving"
began=$SECONDS
[[ "$(status_of whatsappMedia state)" == *"does not answer"* ]] || fail "state: $(status_of whatsappMedia state)"
kill -CONT "$serving"
[ $((SECONDS - began)) -lt 60 ] || fail "inspect has waited for it"

step "the volume's daemon killed with a container running: the container is restarted"
end_of "$serving" KILL
must_not "not connected" docker exec first cat $at/photo
[[ "$(status_of whatsappMedia state)" == *"daemon is gone"* ]] || fail "state: $(status_of whatsappMedia state)"
must docker restart first
same "$(docker exec first tail -1 $at/photo)" 3 "the medium after the restart"
status_is whatsappMedia mounts 1 || fail "mounts: $(status_of whatsappMedia mounts)"

step "daemon and plugin killed: the plugin mounts again by itself"
end_of "$(daemon_of $place)" KILL
end_of $plugin KILL
start_plugin
until_holds wamedia status $place
must docker restart first
same "$(docker exec first tail -1 $at/photo)" 3 "the medium after the restart"

step "Docker restarted, and killed, with a container running"
must docker update --restart=always first
stop_docker TERM
start_docker
until_holds is_running first
same "$(docker exec first tail -1 $at/photo)" 3 "the medium after Docker was restarted"
stop_docker KILL
start_docker
until_holds is_running first
same "$(docker exec first tail -1 $at/photo)" 3 "the medium after Docker was killed"
status_is whatsappMedia mounts 1 || fail "mounts after Docker was killed: $(status_of whatsappMedia mounts)"

step "without the plugin nothing is taken for anything else, nor deleted"
end_of $plugin TERM
# Docker waits 15 seconds for the plugin.
must_not "wamedia" docker volume rm whatsappMedia
same "$(docker exec first tail -1 $at/photo)" 3 "the medium while the plugin is away"
start_plugin
# A container that ends while the plugin is away leaves a use that nobody ends.
same "$(ask VolumeDriver.Mount '{"Name":"whatsappMedia","ID":"lost"}')" "{\"Mountpoint\":\"$place\"}" "Mount"
status_is whatsappMedia mounts 2 || fail "mounts: $(status_of whatsappMedia mounts)"

step "the machine starts: Docker comes before the plugin, the socket before Docker"
stop_docker TERM
end_of $plugin TERM
listen_for_plugin
start_docker
until_holds is_running first
same "$(docker volume inspect -f '{{.Driver}}' whatsappMedia)" wamedia "driver"
same "$(docker exec first tail -1 $at/photo)" 3 "the medium"

step "prune leaves it, rm refuses it while it is used"
must docker volume prune -f
must_not "volume is in use" docker volume rm whatsappMedia
must docker rm -f first
must docker volume prune -f
must_not "whatsappMedia is used: 1 use was not ended" docker volume rm whatsappMedia
must_not "wamedia umount $place" docker volume rm whatsappMedia
must wamedia umount $place
status_is whatsappMedia state "not mounted" || fail "state: $(status_of whatsappMedia state)"

step "rm keeps the media, and a volume of the name has them again"
must docker volume rm whatsappMedia
test -f $stores/whatsappMedia/superblock || fail "rm has removed the store"
[ ! -e $place ] || fail "rm has left the mount point"
must docker volume create -d wamedia -o quota=60MiB whatsappMedia
same "$(box -v whatsappMedia:$at wa/box tail -1 $at/photo)" 3 "the medium of the volume made again"
status_is whatsappMedia quota "60.0 MiB" || fail "quota: $(status_of whatsappMedia quota)"
is_unmounted $place || fail "mounted without containers"
must wamedia check --read-all --key-file /etc/wamedia/keys/docker.key $stores/whatsappMedia

step "on_remove=delete deletes"
must docker volume create -d wamedia -o on_remove=delete brief
must box -v brief:$at wa/box touch $at/photo
must docker volume rm brief
same "$(ls -A $stores)" whatsappMedia "the stores that are left"

step "when_idle=stay stays, from the plugin's start on"
must docker volume create -d wamedia -o when_idle=stay staying
must box -v staying:$at wa/box touch $at/photo
is_mounted $places/staying || fail "unmounted with the last container"
end_of $plugin TERM
rm -f $socket
must wamedia umount $places/staying
start_plugin
until_holds is_mounted $places/staying
must docker volume rm staying

step "nothing is written beside a volume that is not mounted"
must_not "not permitted" touch $place/plain

step "users: a root directory for one, and the content of an image"
must docker volume create -d wamedia -o owner=1000:1000 -o mode=0750 of-user
must box -u 1000:1000 -v of-user:$at wa/box touch $at/photo
must docker volume create -d wamedia -o o=expired=hidden copied
must box -u 1000:1000 -v copied:$at wa/box touch $at/photo
same "$(box -v copied:$at wa/box sh -c "cat $at/from-image && stat -c '%u:%g %a' $at")" "image
1000:1000 750" "what was copied from the image"
must docker volume create -d wamedia -o o=expired=hidden not-copied
must_not "No such file" box -v not-copied:$at:nocopy wa/box cat $at/from-image

step "a volume made by the mount that uses it, and one whose store is there already"
must wamedia init --key-file "$dir/own.key" "$dir/own"
must box --mount "type=volume,volume-driver=wamedia,volume-opt=store=$dir/own,volume-opt=key_file=$dir/own.key,src=own,dst=$at" \
    wa/box touch $at/photo
same "$(status_of own media) $(status_of own store)" "1 $dir/own" "the volume of a store"
must docker volume rm own
must wamedia status --key-file "$dir/own.key" "$dir/own"

step "what keeps a volume from being mounted is told"
mv $stores/copied "$dir/away"
must_not "the store $stores/copied of volume copied is gone" box -v copied:$at wa/box true
mv "$dir/away" $stores/copied
printf 0123456789abcdef0123456789abcdef >"$dir/wrong.key"
must docker volume create -d wamedia -o cipher=none plain
must box -v plain:$at wa/box touch $at/photo
must_not "key" docker volume create -d wamedia -o "store=$dir/own" -o "key_file=$dir/wrong.key" own

step "removed, nothing is left but the stores"
for name in of-user copied not-copied plain whatsappMedia; do must docker volume rm $name; done
same "$(ls -A $places)" "" "mount points that are left"
same "$(grep -c fuse.wamedia /proc/self/mounts)" 0 "mounts that are left"
end_of $plugin TERM
stop_docker TERM
