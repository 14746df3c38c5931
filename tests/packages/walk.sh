#!/bin/bash
# The packages from their making to their purge: walk.sh DIR PROJECT BINARY MANUAL
#
# DIR is an empty directory to work in. Everything that is mounted or started is gone at the end, also after a failure.
set -uo pipefail
dir=$1 project=$2 binary=$3 manual=$4
systemd=$project/tests/systemd
export LC_ALL=C.UTF-8

tell_more() {
    [ -n "$leader" ] || return 0
    inside systemctl status --no-pager --full 'wamedia*'
    inside journalctl --no-pager -o short-precise -n 60 -u 'wamedia*' -t wamedia
}

patience=120
source "$systemd/tools.sh"

main_pid() { inside systemctl show wamedia@media -p MainPID --value; }

is_mounted() { [ "$(inside findmnt --noheadings --output FSTYPE --mountpoint /srv/media)" = fuse.wamedia ]; }

reads() { [ "$(inside cat "/srv/media/$1")" = "$1" ] || fail "$1 is not read as it was written"; }

clean_up() {
    local status=$?
    if [ -d "$dir/disk" ]; then
        "$systemd/stop.sh" "$dir" || status=1
        umount "$dir/disk" || status=1
    fi
    exit $status
}
leader=

step "both packages in two revisions; the same tree gives the same bytes"
build() { "$project/packaging/build" --fast --binary "$binary" --manual "$manual" "$@" >/dev/null || fail "packaging/build $*"; }
build --output "$dir/first"
build --output "$dir/again"
build --output "$dir/second" --revision 2
for package in "$dir"/first/*; do
    cmp "$package" "$dir/again/$(basename "$package")" || fail "two makings differ"
done
first_deb=$(echo "$dir"/first/*.deb) first_rpm=$(echo "$dir"/first/*.rpm)
second_deb=$(echo "$dir"/second/*.deb) second_rpm=$(echo "$dir"/second/*.rpm)
[ -f "$first_deb" ] && [ -f "$first_rpm" ] && [ -f "$second_deb" ] && [ -f "$second_rpm" ] || fail "a package is missing"

step "lintian"
# As root it looks at the package as another user, who must be let in.
chmod 755 "$dir" "$dir/first"
# It leaves databases of what it saw where temporary files are made.
mkdir --mode 1777 "$dir/tmp"
TMPDIR=$dir/tmp lintian --allow-root --fail-on error,warning "$first_deb" || fail lintian

step "what is in them"
dpkg-deb --fsys-tarfile "$first_deb" | tar -t | sed 's:^\./:/:' | grep -v '/$' | sort >"$dir/deb.files"
rpm_says() { rpm --dbpath "$dir/rpmdb" -qp "$@" "$first_rpm"; }
rpm_says --list | sort >"$dir/rpm.files"
for file in /usr/bin/wamedia /usr/sbin/mount.wamedia /usr/sbin/mount.fuse.wamedia /usr/lib/systemd/system/wamedia@.service \
    /usr/lib/tmpfiles.d/wamedia.conf /usr/share/man/man8/mount.wamedia.8.gz /usr/share/doc/wamedia/OPERATIONS.md \
    /usr/share/bash-completion/completions/wamedia /usr/share/fish/vendor_completions.d/wamedia.fish; do
    grep -qx "$file" "$dir/deb.files" || fail "$file is not in the .deb"
    grep -qx "$file" "$dir/rpm.files" || fail "$file is not in the .rpm"
done
for unit in "$project"/systemd/*.service "$project"/systemd/*.socket; do
    [ ! -e "$unit" ] || grep -qx "/usr/lib/systemd/system/$(basename "$unit")" "$dir/deb.files" || fail "$unit is in no package"
done
rpm_says --queryformat '[%{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILENAMES} %{FILELINKTOS}\n]' >"$dir/rpm.modes"
grep -qx -- '-rwxr-xr-x root:root /usr/bin/wamedia ' "$dir/rpm.modes" || fail "the program's mode in the .rpm"
grep -qx 'lrwxrwxrwx root:root /usr/sbin/mount.wamedia ../bin/wamedia' "$dir/rpm.modes" || fail "the link in the .rpm"
rpm_says --requires | grep -c '^libc.so.6' >/dev/null || fail "the .rpm requires no libc"
dpkg-deb -f "$first_deb" Depends | grep -c 'libc6 (>= ' >/dev/null || fail "the .deb depends on no libc"
gunzip -c "$project/target/packages/tree/usr/share/doc/wamedia/THIRD-PARTY.gz" | grep -c '^==== sled 0.34' >/dev/null || fail "the crates' licences"

step "manual pages"
mkdir "$dir/pages"
dpkg-deb --fsys-tarfile "$first_deb" | tar -x -C "$dir/pages" ./usr/share/man ./usr/share/bash-completion ./usr/share/zsh ./usr/share/fish
for page in "$dir"/pages/usr/share/man/man8/*.gz; do
    told=$(MANROFFSEQ='' MANWIDTH=100 man --warnings -E UTF-8 -Tutf8 -Z -l "$page" 2>&1 >/dev/null) || fail "$page: $told"
    [ -z "$told" ] || fail "$page: $told"
done
commands_of() { "$binary" "$@" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\).*/\1/p' | grep -vx help; }
[ "$(commands_of | wc -l)" -ge 18 ] || fail "the help's commands are not read"
for command in $(commands_of); do
    [ -f "$dir/pages/usr/share/man/man8/wamedia-$command.8.gz" ] || fail "wamedia $command has no page"
    for part in $(commands_of "$command"); do
        [ -f "$dir/pages/usr/share/man/man8/wamedia-$command-$part.8.gz" ] || fail "wamedia $command $part has no page"
    done
done

step "completions"
share=$dir/pages/usr/share
told=$(bash --norc -c "source $share/bash-completion/completions/wamedia || exit 1
    COMP_WORDS=(wamedia retention s) COMP_CWORD=2; _wamedia wamedia s retention; echo \"\${COMPREPLY[@]}\"")
[ "$told" = "show set" ] || fail "bash completes: $told"
told=$(HOME=$dir fish --no-config -c "source $share/fish/vendor_completions.d/wamedia.fish; complete -C 'wamedia retention s'" | cut -f1 | sort | xargs)
[ "$told" = "set show" ] || fail "fish completes: $told"
told=$(zsh -fc "fpath=($share/zsh/vendor-completions \$fpath); autoload -U compinit; compinit -D; print \$_comps[wamedia]
    autoload +X _wamedia && whence -w _wamedia" 2>&1 | xargs)
[ "$told" = "_wamedia _wamedia: function" ] || fail "zsh says: $told"
zsh -n "$share/zsh/vendor-completions/_wamedia" || fail "zsh does not read the completion"

step "a systemd to install them on"
mkdir "$dir/disk"
truncate -s 256M "$dir/image"
mkfs.ext4 -q "$dir/image" && mount -o loop "$dir/image" "$dir/disk" || exit 1
trap clean_up EXIT
trap 'exit 130' INT TERM
"$systemd/boot.sh" "$dir" "$binary" || exit 1
leader=$(cat "$dir/leader")
rm "$dir/root/usr/bin/wamedia"
# Nobody reads an index of all pages here.
rm -f "$dir/root/var/lib/man-db/auto-update"
mkdir "$dir/root/packages" "$dir/root/srv/media"
cp "$first_deb" "$dir/root/packages/first.deb" && cp "$second_deb" "$dir/root/packages/second.deb" &&
    cp "$first_rpm" "$dir/root/packages/first.rpm" && cp "$second_rpm" "$dir/root/packages/second.rpm" || exit 1

# Used with what the package brings alone: $1 installs, $2 upgrades, $3 removes.
live_with() {
    local install=$1 upgrade=$2 remove=$3 before told
    must $install
    [ "$(inside stat -c %a /etc/wamedia/keys)" = 700 ] || fail "the keys' directory is not made, or open to others"
    must systemd-analyze verify wamedia@media.service
    [ "$(inside systemctl is-enabled wamedia@media)" = disabled ] || fail "a volume is enabled without being asked for"
    [ -d "$dir/disk/media" ] || must wamedia init --quota 100MiB /var/lib/wamedia/media
    must systemctl enable --now --quiet wamedia@media
    is_mounted || fail "the service is started and nothing is mounted"
    must sh -c 'echo "$0" >"/srv/media/$0" && sync "/srv/media/$0"' "${install##*/}"
    reads "${install##*/}"

    before=$(main_pid)
    told=$(inside $upgrade 2>&1) || fail "$upgrade: $told"
    is_mounted || fail "the upgrade has unmounted the volume"
    [ "$(main_pid)" = "$before" ] || fail "the upgrade has restarted the daemon"
    reads "${install##*/}"
    must systemctl restart wamedia@media
    reads "${install##*/}"

    must $remove
    [ ! -e "$dir/root/usr/bin/wamedia" ] || fail "$remove leaves the program"
    ! is_mounted || fail "$remove leaves the mount"
    inside test -e /var/lib/wamedia/media/superblock || fail "$remove has removed the store"
    inside sh -c 'ls /etc/wamedia/keys/*.key' >/dev/null || fail "$remove has removed the key"
}

step ".deb: installed, used, upgraded, removed"
live_with "dpkg -i /packages/first.deb" "dpkg -i /packages/second.deb" "dpkg -r wamedia"
[ -h "$dir/root/etc/systemd/system/multi-user.target.wants/wamedia@media.service" ] || fail "a removal disables for good"

step ".deb: purged, which keeps stores and keys"
told=$(inside dpkg -P wamedia) || fail "purge: $told"
[[ $told == *"/var/lib/wamedia is kept"* ]] || fail "purge says: $told"
inside test -e /var/lib/wamedia/media/superblock || fail "the purge has removed the store"
inside sh -c 'ls /etc/wamedia/keys/*.key' >/dev/null || fail "the purge has removed the key"
[ ! -h "$dir/root/etc/systemd/system/multi-user.target.wants/wamedia@media.service" ] || fail "the purge leaves a link to nothing"
while read -r file; do
    [ ! -e "$dir/root$file" ] || fail "the purge leaves $file"
done <"$dir/deb.files"

step ".rpm: installed over what the purge has kept, used, upgraded, removed"
live_with "rpm -i --nodeps /packages/first.rpm" "rpm -U --nodeps /packages/second.rpm" "rpm -e wamedia"
while read -r file; do
    [ ! -e "$dir/root$file" ] || fail "rpm -e leaves $file"
done <"$dir/rpm.files"
echo "--- done"
