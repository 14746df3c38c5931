# Volumes of Docker's own driver: the guards, and what removal does.
name=whatsappMedia
data=/var/lib/docker/volumes/$name/_data
store=/var/lib/wamedia/$name
mkdir "$dir/srv" && mkdir -p /var/lib/wamedia || exit 1
place=$dir/srv/$name
mkdir "$place"
make_image
start_docker
import_image || fail "no image"

mount_it() { must wamedia mount --daemon --key-file "$dir/key" "$store" "$place"; }
must wamedia init --key-file "$dir/key" "$store"

step "a mount over the directory of a plain volume is refused, and why"
must docker volume create plain
plain=/var/lib/docker/volumes/plain/_data
must_not "docker volume prune" wamedia mount --daemon --key-file "$dir/key" "$store" "$plain"
wamedia mount --daemon --key-file "$dir/key" "$store" "$plain" 2>/dev/null
same $? 2 "the exit code of the refusal"
must_not "device=/srv/plain/.expired/.. plain" wamedia mount --daemon --key-file "$dir/key" "$store" "$plain"
ln -s "$plain" "$dir/link"
mkdir "$plain/below"
must_not "container volume plain" wamedia mount --daemon --key-file "$dir/key" "$store" "$dir/link"
must_not "container volume plain" wamedia mount --daemon --key-file "$dir/key" "$store" "$plain/below"
ln -s /run/bin/wamedia /run/bin/mount.wamedia
must_not "container volume plain" mount.wamedia "$store" "$plain" -o "key_file=$dir/key"
is_unmounted "$plain" || fail "the refusal has left a mount"

step "with --force it is mounted there, and removal does remove every medium"
must wamedia init --key-file "$dir/key" "$dir/doomed"
must wamedia mount --force --daemon --key-file "$dir/key" "$dir/doomed" "$plain"
echo picture >"$plain/photo"
docker volume rm plain >/dev/null 2>&1
[ ! -e "$plain/photo" ] || fail "the reason of the refusal does not hold any more: the medium is still there"
must wamedia umount "$plain"

step "the bind volume: the exact place, and no container without the mount"
must docker volume create -d local -o type=none -o o=bind -o "device=$place/.expired/.." $name
same "$(docker volume inspect -f '{{.Mountpoint}}' $name)" "$data" "Mountpoint"
must_not "no such file or directory" box -v $name:/usr/local/wamedia wa/box touch /usr/local/wamedia/plain
same "$(ls -A "$place")" "" "what lies in plain below the mount point"
same "$(ls -A "$data")" "" "what lies in plain in the volume's directory"

step "mounted, it is there for containers of all users"
mount_it
must box -v $name:/usr/local/wamedia wa/box sh -c 'echo picture >/usr/local/wamedia/photo && mkdir -m 1777 /usr/local/wamedia/all'
must box -u 1000:1000 -v $name:/usr/local/wamedia wa/box sh -c 'cd /usr/local/wamedia && cat photo && echo mine >all/mine'
same "$(stat -c %u "$place/all/mine")" 1000 "owner"
must_not "Permission denied" box -u 1000:1000 -v $name:/usr/local/wamedia wa/box touch /usr/local/wamedia/mine
must_not "Read-only file system" box -v $name:/usr/local/wamedia:ro wa/box touch /usr/local/wamedia/other
same "$(cat "$place/photo")" picture "what a container wrote"
[ ! -e "$place/from-image" ] || fail "the image's content was copied"

step "prune and rm leave the media alone"
must docker volume prune -f
must docker volume inspect $name
must docker volume rm $name
same "$(cat "$place/photo")" picture "the medium after docker volume rm"
must docker volume create -d local -o type=none -o o=bind -o "device=$place/.expired/.." $name

step "wamedia killed with a container running: mounted anew, the container is restarted"
must box_on --name holder -v $name:/usr/local/wamedia wa/box sleep 1000
same "$(cat "$data/photo")" picture "the medium at the volume's Mountpoint"
end_of "$(daemon_of "$place")" KILL
must_not "not connected" docker exec holder cat /usr/local/wamedia/photo
mount_it
must docker restart -t 0 holder
same "$(docker exec holder cat /usr/local/wamedia/photo)" picture "the medium after the restart"

step "Docker killed, and restarted, with a container running"
must docker update --restart=always holder
stop_docker KILL
start_docker
until_holds is_running holder
same "$(docker exec holder cat /usr/local/wamedia/photo)" picture "the medium after Docker was killed"
stop_docker TERM
same "$(cat "$place/photo")" picture "the medium while Docker is stopped"
start_docker
until_holds is_running holder
same "$(docker exec holder cat /usr/local/wamedia/photo)" picture "the medium after Docker was restarted"

step "the mount ends while a container holds it, and the container does not come back without it"
must wamedia umount --lazy "$place"
until_holds is_unmounted "$place"
must_not "no such file or directory" docker restart -t 0 holder
same "$(ls -A "$place")$(ls -A "$data")" "" "what lies in plain"
mount_it
must docker start holder
same "$(docker exec holder cat /usr/local/wamedia/photo)" picture "the medium"
must docker rm -f holder

step "an immutable mount point is mounted over, and takes nothing while nothing is mounted"
must wamedia umount "$place"
must chattr +i "$place"
must_not "not permitted" touch "$place/plain"
mount_it
same "$(cat "$place/photo")" picture "the medium"
must wamedia umount "$place"
must chattr -i "$place"

must wamedia check --read-all --key-file "$dir/key" "$store"
stop_docker TERM
