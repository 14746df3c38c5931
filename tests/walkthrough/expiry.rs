//! Media that are past their retention, and those that must not be taken for such.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

use crate::support::mounted::Mounted;
use crate::support::place::{Place, text};
use crate::support::tree::names;
use crate::support::xattr;
use crate::{quota, tool};

const HELD: &str = "in/audio/speech.mp3";
const OPEN: &str = "in/video/h264-aac.mp4";
const FIRST: &str = "in/image/photo.jpg";
const SECOND: &str = "in/document/contract.pdf";
const THIRD: &str = "in/sticker/static.webp";
const BY_ID: &str = "shared/463e/b7ec/ff4e4d9bb1101879cbd411b2";

fn age(path: &Path) {
    tool("touch", &["-d", "40 days ago", text(path)]);
}

/// The name in `.expired` of a medium whose own name says something.
fn entry_of(root: &Path, path: &str) -> String {
    let id = xattr::text(&root.join(path), "user.wamedia.id");
    format!("{id}_{}", path.rsplit('/').next().unwrap())
}

fn errno_of<T: std::fmt::Debug>(result: std::io::Result<T>, what: &str) -> Errno {
    match result {
        Ok(done) => panic!("{what} succeeded: {done:?}"),
        Err(error) => Errno::from_raw_os_error(error.raw_os_error().unwrap()),
    }
}

/// Ages media with `touch -d`, lists them in `.expired`, and tries to remove there what must stay.
pub fn only_the_expired_are_shown_and_removed(place: &Place, mounted: &Mounted) {
    let root = mounted.root();
    let expired = root.join(".expired");
    assert!(names(root).contains(&".expired".to_owned()));
    assert!(names(&expired).is_empty());
    assert_eq!(errno_of(fs::metadata(expired.join("nothing")), "stat"), Errno::NOENT);

    let writer = OpenOptions::new().append(true).open(root.join(OPEN)).unwrap();
    for path in [FIRST, SECOND, THIRD, BY_ID, HELD, OPEN] {
        age(&root.join(path));
    }
    let entries: Vec<String> = [FIRST, SECOND, THIRD].iter().map(|path| entry_of(root, path)).collect();
    let listed = names(&expired);
    assert_eq!(listed.len(), 4, "the held and the open one are not among {listed:?}");
    for entry in &entries {
        assert!(listed.contains(entry), "{entry} is not among {listed:?}");
    }
    let by_id = listed.iter().find(|name| !entries.contains(name)).unwrap();
    assert!(by_id.starts_with("463eb7ec-ff4e-4d9b-b110-1879cbd411b2."), "{by_id}: id and extension");
    assert_eq!(quota(root, "expired"), 4);
    let said = place.run(&["expired", text(root), "--json"]).json_lines();
    assert_eq!(said.len(), 4);
    assert_eq!(place.run(&["ls", "--expired", text(root), "--json"]).json_lines().len(), 4);

    an_entry_shows_the_medium(root, &expired.join(&entries[0]));
    nothing_is_written_there(root, &expired, &entries[0]);
    what_is_no_longer_expired_survives(place, root, &expired, &entries);

    // What is expired goes, everywhere and at once.
    let (used, size) = (quota(root, "used_bytes"), fs::metadata(root.join(FIRST)).unwrap().len());
    remove_when_closed(&expired.join(&entries[0]));
    assert_eq!(errno_of(fs::metadata(root.join(FIRST)), "stat"), Errno::NOENT);
    assert!(!names(&expired).contains(&entries[0]));
    assert!(!names(&root.join("in/image")).contains(&"photo.jpg".to_owned()));
    assert_eq!(quota(root, "used_bytes"), used - size);

    purge_takes_only_the_expired(place, root);
    drop(writer);
    // Nobody writes it any more: now it is expired.
    let entry = entry_of(root, OPEN);
    wait_until("the closed medium is listed", || names(&expired).contains(&entry));
    tool("touch", &[text(&root.join(OPEN))]);
    assert!(!names(&expired).contains(&entry), "a young medium is listed");
}

fn an_entry_shows_the_medium(root: &Path, entry: &Path) {
    let (shown, real) = (fs::metadata(entry).unwrap(), fs::metadata(root.join(FIRST)).unwrap());
    assert_eq!((shown.len(), shown.mtime()), (real.len(), real.mtime()));
    assert!(fs::read(entry).unwrap() == fs::read(root.join(FIRST)).unwrap());
    assert!(tool("ls", &["-l", text(entry.parent().unwrap())]).contains(&real.len().to_string()));
}

fn nothing_is_written_there(root: &Path, expired: &Path, entry: &str) {
    let entry = expired.join(entry);
    let refused = [
        (errno_of(File::create_new(expired.join("new")), "create"), "create"),
        (errno_of(fs::create_dir(expired.join("dir")), "mkdir"), "mkdir"),
        (errno_of(OpenOptions::new().append(true).open(&entry), "open for writing"), "open for writing"),
        (errno_of(fs::rename(&entry, expired.join("renamed")), "rename"), "rename"),
        (errno_of(fs::rename(root.join("in/README.md"), expired.join("in")), "rename into"), "rename into"),
        (errno_of(fs::hard_link(root.join("in/README.md"), expired.join("in")), "link into"), "link into"),
        (errno_of(std::os::unix::fs::symlink("x", expired.join("link")), "symlink"), "symlink"),
    ];
    for (errno, what) in refused {
        assert_eq!(errno, Errno::ROFS, "{what}");
    }
    errno_of(fs::remove_dir(expired), "rmdir of .expired");
    errno_of(fs::rename(expired, root.join("elsewhere")), "rename of .expired");
    errno_of(fs::create_dir(expired), "mkdir of .expired");
    assert_eq!(names(expired).len(), 4);
}

/// Each medium was expired when it was listed and is not when it is to be removed.
fn what_is_no_longer_expired_survives(place: &Place, root: &Path, expired: &Path, entries: &[String]) {
    let survives = |entry: &str, path: &str, why: &str| {
        errno_of(fs::remove_file(expired.join(entry)), &format!("the removal of one {why}"));
        assert!(root.join(path).exists(), "{path}, {why}, was removed");
        assert!(!names(expired).contains(&entry.to_owned()), "{path}, {why}, is listed");
    };
    place.run(&["hold", text(root), SECOND]).expect_success();
    survives(&entries[1], SECOND, "held");
    place.run(&["release", text(root), SECOND]).expect_success();
    assert!(names(expired).contains(&entries[1]), "released, it is expired again");

    tool("touch", &[text(&root.join(THIRD))]);
    survives(&entries[2], THIRD, "young");

    let open = OpenOptions::new().append(true).open(root.join(FIRST)).unwrap();
    survives(&entries[0], FIRST, "open for writing");
    drop(open);

    // The ones that never were listed cannot be reached under the name they would have.
    for path in [HELD, OPEN] {
        errno_of(fs::remove_file(expired.join(entry_of(root, path))), "the removal of one never listed");
        assert!(root.join(path).exists());
    }
}

fn purge_takes_only_the_expired(place: &Place, root: &Path) {
    let before = names(&root.join(".expired"));
    assert_eq!(before.len(), 2, "{before:?}");
    place.run(&["expired", "purge", "--dry-run", text(root)]).expect_success();
    assert_eq!(names(&root.join(".expired")), before);
    place.run(&["expired", "purge", "--yes", "--older-than", "90d", text(root)]).expect_success();
    assert_eq!(names(&root.join(".expired")), before, "none is that old");
    place.run(&["expired", "purge", "--yes", text(root)]).expect_success();
    assert!(names(&root.join(".expired")).is_empty());
    for path in [SECOND, BY_ID] {
        assert!(!root.join(path).exists(), "{path} was expired");
    }
    for path in [HELD, OPEN, THIRD, "in/document/note.txt"] {
        assert!(root.join(path).exists(), "{path} was not expired");
    }
}

/// The kernel tells the volume of a close without waiting, so the removal may have to be tried again.
fn remove_when_closed(entry: &PathBuf) {
    wait_until("an expired medium can be removed", || fs::remove_file(entry).is_ok());
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not after ten seconds");
}

/// The hold has survived whatever happened to the volume.
pub fn the_held_one_is_still_held(place: &Place, mounted: &Mounted) {
    let root = mounted.root();
    assert!(names(&root.join(".expired")).is_empty());
    let held = place.run(&["ls", "--held", "--json", text(root)]).json_lines();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0]["path"], HELD);
}

/// Without its hold, the aged medium is expired.
pub fn the_held_one_can_be_released(place: &Place, mounted: &Mounted) {
    let root = mounted.root();
    place.run(&["release", text(root), HELD]).expect_success();
    assert_eq!(names(&root.join(".expired")), [entry_of(root, HELD)]);
    tool("rm", &[text(&root.join(".expired").join(entry_of(root, HELD)))]);
    assert!(!root.join(HELD).exists());
}
