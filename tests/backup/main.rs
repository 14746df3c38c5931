//! Copies of a store that is in use: what was synced before a copy was begun is in it, and it opens and checks clean.
//! The commands are those of docs/OPERATIONS.md, run as they stand there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod load;
mod manual;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use load::{Known, Load};
use manual::Desk;
use rustix::mount::{UnmountFlags, unmount};
use support::disk::Disk;
use support::machine::{self, say};
use support::mounted::Mounted;
use support::place::{Outcome, Place, run, text, wamedia};
use support::tree;

/// Media that are there before the first copy is begun.
const MEDIA: usize = 120;

/// What a copy says.
struct Promise<'a> {
    /// Who made it.
    by: &'a str,
    /// What was known when it was begun, and when it was done.
    begun: &'a Known,
    done: &'a Known,
    /// Whether it is of one moment: then it has all that was there.
    is_of_one_moment: bool,
}

impl Promise<'_> {
    /// Looks at the media in `root`, a mounted copy.
    fn is_kept_in(&self, root: &Path) {
        let by = self.by;
        for (name, digest) in &self.begun.kept {
            let bytes = fs::read(root.join(name)).unwrap_or_else(|e| panic!("{by}: {name}, synced before: {e}"));
            assert_eq!(&tree::digest(&bytes), digest, "{by}: {name}, {} bytes", bytes.len());
        }
        let mut missing = 0;
        for (name, all) in &self.done.hot {
            match fs::read(root.join(name)) {
                Ok(bytes) => {
                    let was = all.iter().any(|whole| whole.starts_with(&bytes));
                    assert!(was, "{by}: {name} never was these {} bytes", bytes.len());
                }
                Err(e) => {
                    assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{by}: {name}");
                    missing += usize::from(self.begun.hot.contains_key(name));
                }
            }
        }
        assert!(!self.is_of_one_moment || missing == 0, "{by}: {missing} media are missing");
        let back: Vec<_> = self.begun.removed.iter().filter(|name| root.join(name).exists()).collect();
        let lost = fs::read_dir(root.join("lost+found")).map_or(0, Iterator::count);
        say(&format!(
            "backup by {by}: {} media synced before are in it, of {} changing ones {missing} not, {lost} older ones are \
             beside them, of {} removed ones {} are back",
            self.begun.kept.len(),
            self.done.hot.len(),
            self.begun.removed.len(),
            back.len(),
        ));
        assert!(back.is_empty() || by == "restic", "{by}: removed before and back: {back:?}");
    }
}

/// Takes away the mounts of a copy that a failed test has left.
struct Looking<'a>(&'a Place);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        for name in ["seen", "restored-mnt", "look"] {
            let at = self.0.path(name);
            while machine::mounted_type(&at).is_some() && unmount(&at, UnmountFlags::DETACH).is_ok() {}
        }
    }
}

/// Checks the store at `copy`, which must be clean.
fn assert_clean(place: &Place, copy: &Path, by: &str) {
    let outcome = place.run(&["check", "--read-all", "--key-file", text(&place.key()), text(copy)]);
    assert!(outcome.status.success(), "{by}: {}{}", outcome.stdout, outcome.stderr);
}

/// Runs the binary with a place for the socket that cannot be in a store that is only read.
fn on_read_only(place: &Place, args: &[&str]) -> Outcome {
    let mut command = wamedia();
    command.args(args).env("WAMEDIA_RUNTIME_DIR", place.path("run"));
    run(command)
}

/// Whether a program is there; says loudly which package has it when not.
fn need(test: &str, program: &str, package: &str) -> bool {
    if Command::new(program).arg("version").output().is_ok() {
        return true;
    }
    machine::skip(test, &format!("{program} is not installed; mend: apt-get install {package}"));
    false
}

#[test]
fn a_store_in_use_is_copied_by_rsync_restic_and_snapshot_and_restored() {
    let test = "a_store_in_use_is_copied_by_rsync_restic_and_snapshot_and_restored";
    if !(machine::can_mount(test) && machine::is_root(test)) {
        return;
    }
    if !["rsync", "restic"].into_iter().all(|program| need(test, program, program)) {
        return;
    }
    let place = Place::new();
    let Some(disk) = Disk::new(test, &place, "ext4") else { return };
    place.init(&["--quota", "400MiB", "--retention", "30d"]);
    let desk = Desk { place: &place, store: place.path("disk/store") };
    fs::write(place.path("restic.password"), "of the repository\n").unwrap();
    let _looking = Looking(&place);
    let mounted = Mounted::start(&place);
    place.run(&["token", "create", "--role", "admin", "--name", "ops", text(mounted.root())]).expect_success();
    let load = Load::start(mounted.root());
    load.wait_for(MEDIA);

    let begun = load.known();
    desk.follow("With rsync", 0).expect_success();
    let first = (begun, load.known());
    // A backup is named by the second in which it is begun.
    thread::sleep(Duration::from_millis(1_100));
    let begun = load.known();
    desk.follow("With rsync", 0).expect_success();
    let second = (begun, load.known());
    let begun = load.known();
    desk.follow("With restic", 0).expect_success();
    desk.follow("With restic", 2).expect_success();
    let third = (begun, load.known());
    let begun = load.known();
    let image = snapshot(&place);
    let fourth = (begun, load.known());
    let last = load.stop();
    assert!(last.kept.len() > fourth.0.kept.len().max(first.0.kept.len() + 10), "nothing was written meanwhile");

    let backups = tree::names(&place.path("backups"));
    assert_eq!(backups.len(), 3, "two backups and the link to the newer: {backups:?}");
    for (name, (begun, done)) in backups.iter().zip([&first, &second]) {
        let copy = place.path("backups").join(name);
        std::os::unix::fs::symlink(&copy, place.path("latest.new")).unwrap();
        fs::rename(place.path("latest.new"), place.path("backups/latest")).unwrap();
        let before = tree::files(&copy);
        assert!(
            !before.keys().any(|path| path.starts_with("index") || path.ends_with("session")),
            "{:?}",
            before.keys()
        );
        desk.follow("Check of a backup", 0).expect_success();
        Promise { by: "rsync", begun, done, is_of_one_moment: false }.is_kept_in(&place.path("seen"));
        desk.follow("Check of a backup", 1).expect_success();
        assert!(tree::files(&copy) == before, "the check has changed the backup");
    }

    let newest = walkdir::WalkDir::new(place.path("backups").join(&backups[1]).join("blobs")).into_iter();
    let shared = newest.filter(|entry| {
        let found = entry.as_ref().unwrap().metadata().unwrap();
        found.is_file() && found.nlink() == 2
    });
    assert!(shared.count() >= MEDIA / 2, "the second backup does not share what has not changed with the first");

    // The newest is restored as after the loss of everything but the key.
    desk.follow("Restore", 1).expect_success();
    let (begun, done) = &second;
    is_restored(&place, &Promise { by: "rsync", begun, done, is_of_one_moment: false });
    fs::remove_dir_all(place.path("restored")).unwrap();

    desk.follow("From restic", 0).expect_success();
    let (begun, done) = &third;
    is_restored(&place, &Promise { by: "restic", begun, done, is_of_one_moment: false });
    fs::remove_dir_all(place.path("restored")).unwrap();

    desk.follow("With restic", 1).expect_success();
    desk.follow("From restic", 0).expect_success();
    let (begun, done) = &second;
    is_restored(&place, &Promise { by: "rsync, then restic", begun, done, is_of_one_moment: false });
    fs::remove_dir_all(place.path("restored")).unwrap();

    let (begun, done) = &fourth;
    let promise = Promise { by: "snapshot", begun, done, is_of_one_moment: true };
    let at = place.path("look");
    let mut mount = Command::new("mount");
    mount.args(["-o", "ro,loop", text(&image), text(&at)]);
    run(mount).expect_success();
    assert_clean(&place, &at.join("store"), "snapshot");
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(at.join("store")).arg(place.path("restored"));
    run(copy).expect_success();
    unmount(&at, UnmountFlags::DETACH).unwrap();
    is_restored(&place, &promise);

    mounted.unmount();
    place.check().expect_success();
    drop(disk);
}

#[test]
fn a_snapshot_that_btrfs_keeps_read_only_is_checked_and_mounted_where_it_is() {
    let test = "a_snapshot_that_btrfs_keeps_read_only_is_checked_and_mounted_where_it_is";
    if !(machine::can_mount(test) && machine::is_root(test) && need(test, "btrfs", "btrfs-progs")) {
        return;
    }
    let place = Place::new();
    let Some(_disk) = Disk::new(test, &place, "btrfs") else { return };
    place.init(&[]);
    let mounted = Mounted::start(&place);
    fs::write(mounted.path("synced"), "before the snapshot").unwrap();
    fs::File::open(mounted.path("synced")).unwrap().sync_all().unwrap();
    let mut take = Command::new("btrfs");
    take.args(["subvolume", "snapshot", "-r", text(&place.path("disk")), text(&place.path("disk/.before"))]);
    run(take).expect_success();
    fs::write(mounted.path("later"), "behind it").unwrap();

    let copy = place.path("disk/.before/store");
    let before = tree::files(&copy);
    assert_clean(&place, &copy, "btrfs");
    let (key, seen, log) = (place.key(), place.path("seen"), place.path("seen.log"));
    fs::create_dir(&seen).unwrap();
    let _looking = Looking(&place);
    let options = ["mount", "--daemon", "-o", "ro", "--log-file", text(&log), "--key-file", text(&key)];
    on_read_only(&place, &[&options[..], &[text(&copy), text(&seen)]].concat()).expect_success();
    assert_eq!(fs::read_to_string(seen.join("synced")).unwrap(), "before the snapshot");
    assert!(!seen.join("later").exists());
    on_read_only(&place, &["umount", text(&seen)]).expect_success();
    let quota = ["quota", "set", "--quota", "1GB", "--key-file", text(&key), text(&copy)];
    assert_eq!(place.run(&quota).status.code(), Some(11), "what changes the volume is refused");
    assert!(tree::files(&copy) == before);
    mounted.unmount();
    place.check().expect_success();
}

/// A snapshot of the disk below: its image, copied while the file system stands still.
fn snapshot(place: &Place) -> PathBuf {
    let (disk, image) = (place.path("disk"), place.path("snapshot"));
    let freeze = |how: &str| {
        let mut command = Command::new("fsfreeze");
        command.args([how, text(&disk)]);
        run(command)
    };
    freeze("--freeze").expect_success();
    let mut copy = Command::new("cp");
    copy.arg("--sparse=always").arg(place.path("image")).arg(&image);
    let copied = run(copy);
    freeze("--unfreeze").expect_success();
    copied.expect_success();
    image
}

/// Looks at a store that was restored: clean, with its media, tokens and audit log, and in use again.
fn is_restored(place: &Place, promise: &Promise) {
    let (store, mnt, key) = (place.path("restored"), place.path("restored-mnt"), place.key());
    let by = promise.by;
    assert_clean(place, &store, by);
    fs::create_dir_all(&mnt).unwrap();
    let log = place.path("restored.log");
    place
        .run(&["mount", "--daemon", "--log-file", text(&log), "--key-file", text(&key), text(&store), text(&mnt)])
        .expect_success();
    promise.is_kept_in(&mnt);
    let tokens = place.run(&["token", "list", text(&mnt)]).expect_success();
    assert!(tokens.contains("ops"), "{by}: {tokens}");
    let removals = place.run(&["audit", "--json", text(&mnt)]).json_lines();
    assert!(removals.len() >= promise.begun.removed.len(), "{by}: {} removals are told", removals.len());
    let retention = place.run(&["retention", "show", text(&mnt)]).expect_success();
    assert!(retention.contains("30"), "{by}: {retention}");
    fs::write(mnt.join("after"), "and it goes on").unwrap();
    place.run(&["umount", text(&mnt)]).expect_success();
    assert_clean(place, &store, by);
}
