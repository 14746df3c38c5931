//! Images of the store taken in the middle of work, as a killed process leaves them, around checkpoints.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use super::{InitOptions, NewNode, OpenMode, OpenOptions, Policy, RenameMode, Volume};
use crate::crypto::{KeySource, make_key_file};
use crate::ids::Ino;

const RW: OpenMode = OpenMode { read: true, write: true, append: false, truncate: false };
const ANEW: OpenMode = OpenMode { truncate: true, ..RW };
const NODE: NewNode = NewNode { mode: 0o644, uid: 1, gid: 2 };

fn open(dir: &Path) -> Arc<Volume> {
    let key = KeySource::key_file(&dir.join("key")).unwrap();
    Volume::open(&dir.join("store"), &[key], OpenOptions::default()).unwrap()
}

fn new_volume() -> (TempDir, Arc<Volume>) {
    let dir = tempfile::tempdir().unwrap();
    make_key_file(&dir.path().join("key")).unwrap();
    let options =
        InitOptions { encrypted: true, policy: Policy::default(), root_uid: 0, root_gid: 0, root_mode: 0o755 };
    let key = KeySource::key_file(&dir.path().join("key")).unwrap();
    Volume::init(&dir.path().join("store"), Some(&key), &options).unwrap();
    let volume = open(dir.path());
    (dir, volume)
}

/// A copy of the store, which is in use.
fn image_of(dir: &TempDir) -> TempDir {
    let image = tempfile::tempdir().unwrap();
    for entry in walkdir::WalkDir::new(dir.path()).min_depth(1) {
        let entry = entry.unwrap();
        let target = image.path().join(entry.path().strip_prefix(dir.path()).unwrap());
        if entry.file_type().is_dir() {
            std::fs::create_dir(&target).unwrap();
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
    image
}

/// Opens a copy of the store as a volume, which must be whole.
fn reopen(image: TempDir) -> (TempDir, Arc<Volume>) {
    let volume = open(image.path());
    assert_eq!(volume.check(true, &mut |_, _| {}).unwrap().findings, []);
    (image, volume)
}

fn after_a_crash(dir: &TempDir) -> (TempDir, Arc<Volume>) {
    reopen(image_of(dir))
}

/// The file of an inode's first blob.
fn blob_file(dir: &Path, ino: Ino) -> File {
    let path = dir.join(format!("store/blobs/{:013x}/{:016x}", ino.0 >> 12, ino.0));
    File::options().read(true).write(true).open(path).unwrap()
}

fn put(volume: &Volume, name: &str, byte: u8, len: usize) -> Ino {
    let (attr, file) = volume.create(Ino::ROOT, name.as_bytes(), &NODE, RW).unwrap();
    volume.write(&file, 0, &vec![byte; len], false).unwrap();
    volume.close(file);
    attr.ino
}

/// The length of a file all of whose bytes are `byte`.
fn len_of(volume: &Volume, name: &str, byte: u8) -> usize {
    let ino = volume.lookup(Ino::ROOT, name.as_bytes()).unwrap().ino;
    let file = volume.open_medium(ino).unwrap();
    let mut out = vec![0; 1 << 20];
    let got = volume.read(&file, 0, &mut out).unwrap();
    volume.close(file);
    assert!(out[..got].iter().all(|b| *b == byte), "{name} holds other bytes");
    got
}

#[test]
fn a_content_begun_before_a_checkpoint_and_synced_after_it_lasts() {
    let (dir, volume) = new_volume();
    let ino = put(&volume, "old", 1, 1000);
    let file = volume.open_file(ino, ANEW).unwrap();
    volume.write(&file, 0, &vec![2; 300_000], false).unwrap();
    let (_, new) = volume.create(Ino::ROOT, b"new", &NODE, RW).unwrap();
    let (_, streamed) = volume.create(Ino::ROOT, b"streamed", &NODE, RW).unwrap();
    volume.write(&streamed, 0, &vec![4; 300_000], false).unwrap();
    volume.checkpoint().unwrap();
    volume.checkpoint().unwrap();
    volume.write(&new, 0, &[3; 5000], false).unwrap();
    for file in [&file, &new, &streamed] {
        volume.fsync(file, false).unwrap();
    }
    let (_image, killed) = after_a_crash(&dir);
    assert_eq!(len_of(&killed, "old", 2), 300_000);
    assert_eq!(len_of(&killed, "new", 3), 5000);
    assert_eq!(len_of(&killed, "streamed", 4), 300_000);
    for file in [file, new, streamed] {
        volume.close(file);
    }
    assert!(volume.tracking.young.lock().is_empty());
}

#[test]
fn a_content_that_is_still_written_is_published_by_nobody_else() {
    let (dir, volume) = new_volume();
    let ino = put(&volume, "file", 1, 100_000);
    let file = volume.open_file(ino, ANEW).unwrap();
    volume.write(&file, 0, &vec![2; 90_000], false).unwrap();
    volume.fsync_dir(Ino::ROOT).unwrap();
    volume.sync_all().unwrap();
    let (_image, killed) = after_a_crash(&dir);
    assert_eq!(len_of(&killed, "file", 1), 100_000);
    drop(killed);

    // Its name may change meanwhile.
    volume.rename(Ino::ROOT, b"file", Ino::ROOT, b"renamed", RenameMode::Replace).unwrap();
    volume.write(&file, 90_000, &vec![2; 90_000], false).unwrap();
    volume.fsync_dir(Ino::ROOT).unwrap();
    let (_image, killed) = after_a_crash(&dir);
    assert_eq!(len_of(&killed, "renamed", 1), 100_000);
    drop(killed);
    volume.checkpoint().unwrap();
    let (_image, killed) = after_a_crash(&dir);
    assert_eq!(len_of(&killed, "renamed", 1), 100_000);
    drop(killed);

    volume.close(file);
    let (_image, killed) = after_a_crash(&dir);
    assert_eq!(len_of(&killed, "renamed", 2), 180_000);
}

/// A volume whose index has given up the file `old` for the file `new`, which was renamed to its name; and the length of
/// the blob of `new` before that.
fn replaced_by_a_rename() -> (TempDir, Arc<Volume>, Ino, u64) {
    let (dir, volume) = new_volume();
    put(&volume, "old", 1, 1000);
    volume.checkpoint().unwrap();
    let new = put(&volume, "new", 2, 3000);
    let len = blob_file(dir.path(), new).metadata().unwrap().len();
    volume.rename(Ino::ROOT, b"new", Ino::ROOT, b"old", RenameMode::Replace).unwrap();
    volume.drain().unwrap();
    (dir, volume, new, len)
}

#[test]
fn what_a_rename_replaced_leaves_no_blob_behind() {
    let (dir, volume, ..) = replaced_by_a_rename();
    let (_image, killed) = after_a_crash(&dir);
    assert_eq!(len_of(&killed, "old", 2), 3000);
    drop(volume);
}

#[test]
fn what_a_rename_replaced_is_there_again_when_the_rename_was_lost() {
    let (dir, volume, new, len) = replaced_by_a_rename();
    let image = image_of(&dir);
    blob_file(image.path(), new).set_len(len).unwrap();
    let (_image, lost) = reopen(image);
    assert_eq!(len_of(&lost, "old", 1), 1000);
    assert_eq!(len_of(&lost, "new", 2), 3000);
    drop(volume);
}

#[test]
fn what_was_overwritten_is_there_again_when_the_new_content_was_lost() {
    let (dir, volume) = new_volume();
    let ino = put(&volume, "file", 1, 1000);
    volume.checkpoint().unwrap();
    let file = volume.open_file(ino, ANEW).unwrap();
    volume.write(&file, 0, &[2; 3000], false).unwrap();
    volume.close(file);
    volume.drain().unwrap();
    let newest = volume.inode(ino).unwrap().state.read().record.location.unwrap().blob;
    let (_image, killed) = after_a_crash(&dir);
    assert_eq!(len_of(&killed, "file", 2), 3000);

    let image = image_of(&dir);
    blob_file(image.path(), Ino(newest.0)).set_len(0).unwrap();
    let (_image, lost) = reopen(image);
    assert_eq!(len_of(&lost, "file", 1), 1000);
}
