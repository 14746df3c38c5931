//! The built binary as an operator uses it, from `init` to a rebuilt index.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod expiry;
mod filling;
mod keys;
mod logs;
mod mounts;
mod reach;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use support::machine;
use support::mounted::Mounted;
use support::place::{Place, run, text};
use support::{tree, xattr};

/// Runs a command of the machine (`cp`, `touch`) that must succeed.
fn tool<S: AsRef<OsStr>>(name: &str, args: &[S]) -> String {
    let mut command = Command::new(name);
    command.args(args);
    run(command).expect_success()
}

/// A quota of the root, as its extended attribute shows it.
fn quota(root: &Path, name: &str) -> u64 {
    xattr::number(root, &format!("user.wamedia.quota.{name}"))
}

#[test]
fn an_operator_walks_through_a_volume() {
    if !machine::can_mount("an_operator_walks_through_a_volume") {
        return;
    }
    let place = Place::with_volume(&["--quota", "8MiB", "--retention", "30d"]);
    let mounted = Mounted::start(&place);
    assert_eq!(machine::mounted_type(mounted.root()).as_deref(), Some("fuse.wamedia"));

    filling::samples_are_stored_and_judged(&mounted);
    filling::both_layouts_give_ids(&mounted);
    filling::commands_find_media_by_path_and_id(&place, &mounted);
    filling::writing_past_the_quota_is_refused(&place, &mounted);
    make_more_than_media(&place, mounted.root());
    expiry::only_the_expired_are_shown_and_removed(&place, &mounted);

    let before = tree::read(mounted.root());
    let used = quota(mounted.root(), "used_bytes");
    mounted.unmount();
    place.check().expect_success();

    let mounted = Mounted::start(&place);
    tree::assert_same(&tree::read(mounted.root()), &before, "after a remount");
    assert_eq!(quota(mounted.root(), "used_bytes"), used);
    mounted.unmount();

    fs::remove_dir_all(place.store().join("index")).expect("the store has an index to delete");
    let mounted = Mounted::start(&place);
    tree::assert_same(&tree::read(mounted.root()), &before, "after the index was deleted");
    assert_eq!(quota(mounted.root(), "used_bytes"), used);
    expiry::the_held_one_is_still_held(&place, &mounted);
    mounted.unmount();
    place.check().expect_success();

    keys::a_wrong_key_changes_nothing(&place);
    let mounted = Mounted::start(&place);
    expiry::the_held_one_can_be_released(&place, &mounted);
    mounted.unmount();
    place.check().expect_success();
}

/// Adds what a volume holds besides media that were only copied in.
fn make_more_than_media(place: &Place, root: &Path) {
    let dir = root.join("kept");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("one"), b"a file with two names").unwrap();
    fs::hard_link(dir.join("one"), dir.join("two")).unwrap();
    symlink("one", dir.join("link")).unwrap();
    mknodat(CWD, dir.join("pipe"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    fs::set_permissions(dir.join("one"), fs::Permissions::from_mode(0o640)).unwrap();
    setxattr(dir.join("one"), "user.origin", b"scanner\0two", XattrFlags::empty()).unwrap();
    let photo = root.join("in/image/photo.jpg");
    setxattr(&photo, "user.mime_type", b"image/x-our-own", XattrFlags::empty()).unwrap();
    assert_eq!(xattr::text(&photo, "user.mime_type"), "image/x-our-own");
    let kept = root.join("in/document/report.csv");
    setxattr(&kept, "user.wamedia.retention", b"90d", XattrFlags::empty()).unwrap();
    assert!(!xattr::text(&kept, "user.wamedia.retention").is_empty());
    tool("touch", &["-d", "2001-02-03 04:05:06.789", text(&dir.join("link")), "-h"]);
    tool("touch", &["-d", "2024-05-06 07:08:09", text(&dir)]);
    place.run(&["hold", text(root), "in/audio/speech.mp3"]).expect_success();
}
