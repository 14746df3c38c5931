//! Images of the store taken in the middle of work, as a killed process leaves them, around checkpoints.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::{InitOptions, NewNode, OpenMode, OpenOptions, Policy, RenameMode, Volume, XattrMode};
use crate::crypto::{KeySource, make_key_file};
use crate::error::Kind;
use crate::format::journal::{JOURNAL_HEADER_LEN, RECORD_BODY_LEN, RECORD_LEN, Record};
use crate::ids::Ino;
use crate::store::StoreLock;

pub(super) const RW: OpenMode = OpenMode { read: true, write: true, append: false, truncate: false };
const ANEW: OpenMode = OpenMode { truncate: true, ..RW };
pub(super) const NODE: NewNode = NewNode { mode: 0o644, uid: 1, gid: 2 };

fn open(dir: &Path) -> Arc<Volume> {
    let key = KeySource::key_file(&dir.join("key")).unwrap();
    Volume::open(&dir.join("store"), &[key], OpenOptions::default()).unwrap()
}

pub(super) fn new_volume() -> (TempDir, Arc<Volume>) {
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
pub(super) fn image_of(dir: &TempDir) -> TempDir {
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
pub(super) fn reopen(image: TempDir) -> (TempDir, Arc<Volume>) {
    let volume = open(image.path());
    assert_eq!(volume.check(true, &mut |_, _| {}).unwrap().findings, []);
    (image, volume)
}

pub(super) fn after_a_crash(dir: &TempDir) -> (TempDir, Arc<Volume>) {
    reopen(image_of(dir))
}

/// The file of an inode's first blob.
fn blob_path(dir: &Path, ino: Ino) -> PathBuf {
    dir.join(format!("store/blobs/{:013x}/{:016x}", ino.0 >> 12, ino.0))
}

pub(super) fn blob_file(dir: &Path, ino: Ino) -> File {
    File::options().read(true).write(true).open(blob_path(dir, ino)).unwrap()
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

#[test]
fn what_a_rename_replaced_is_there_again_when_the_new_file_was_lost() {
    let (dir, volume, new, _) = replaced_by_a_rename();
    let image = image_of(&dir);
    blob_file(image.path(), new).set_len(0).unwrap();
    let (_image, lost) = reopen(image);
    assert_eq!(len_of(&lost, "old", 1), 1000);
    assert_eq!(lost.lookup(Ino::ROOT, b"new").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(lost.status().unwrap().used_bytes, 1000, "what was lost is charged");
    drop(volume);
}

#[test]
fn a_new_file_whose_blob_was_lost_leaves_no_name() {
    let (dir, volume) = new_volume();
    let ino = put(&volume, "file", 1, 1000);
    volume.drain().unwrap();
    let image = image_of(&dir);
    let gone = blob_path(image.path(), ino);
    std::fs::remove_file(gone).unwrap();
    let (_image, lost) = reopen(image);
    assert_eq!(lost.lookup(Ino::ROOT, b"file").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(lost.status().unwrap().media, 0);
    drop(volume);
}

#[test]
fn a_content_of_which_a_part_was_lost_gives_way_to_the_one_before() {
    let (dir, volume) = new_volume();
    let ino = put(&volume, "file", 1, 200_000);
    volume.checkpoint().unwrap();
    let file = volume.open_file(ino, ANEW).unwrap();
    volume.write(&file, 0, &vec![2; 300_000], false).unwrap();
    volume.close(file);
    volume.drain().unwrap();
    let newest = volume.inode(ino).unwrap().state.read().record.location.unwrap().blob;
    let image = image_of(&dir);
    blob_file(image.path(), Ino(newest.0)).write_all_at(&[0; 4096], 100_000).unwrap();
    let (_image, lost) = reopen(image);
    assert_eq!(len_of(&lost, "file", 1), 200_000);

    // The same within one blob.
    let ino = put(&volume, "log", 3, 100_000);
    volume.checkpoint().unwrap();
    let before = blob_file(dir.path(), ino).metadata().unwrap().len();
    let file = volume.open_file(ino, RW).unwrap();
    volume.write(&file, 100_000, &vec![3; 200_000], false).unwrap();
    volume.close(file);
    let image = image_of(&dir);
    blob_file(image.path(), ino).write_all_at(&[0; 4096], before + 8192).unwrap();
    let (_image, lost) = reopen(image);
    assert_eq!(len_of(&lost, "log", 3), 100_000);
}

/// A file that was renamed, and a new one under its old name; gives the first one's blob length before the renaming.
fn rotated(volume: &Volume, dir: &TempDir) -> (Ino, u64) {
    let old = put(volume, "log", 1, 1000);
    volume.checkpoint().unwrap();
    let len = blob_file(dir.path(), old).metadata().unwrap().len();
    volume.rename(Ino::ROOT, b"log", Ino::ROOT, b"log.1", RenameMode::Replace).unwrap();
    let (_, new) = volume.create(Ino::ROOT, b"log", &NODE, RW).unwrap();
    volume.write(&new, 0, &[2; 500], false).unwrap();
    volume.fsync(&new, false).unwrap();
    volume.close(new);
    (old, len)
}

#[test]
fn who_left_a_name_is_synced_with_who_has_got_it() {
    let (dir, volume) = new_volume();
    let (old, _) = rotated(&volume, &dir);
    assert!(!volume.is_unsynced(old));
    let (_image, killed) = after_a_crash(&dir);
    assert_eq!((len_of(&killed, "log.1", 1), len_of(&killed, "log", 2)), (1000, 500));
}

#[test]
fn what_was_renamed_is_found_again_when_the_renaming_was_lost_and_the_name_given_away() {
    let (dir, volume) = new_volume();
    let (old, len) = rotated(&volume, &dir);
    for forget_index in [false, true] {
        let image = image_of(&dir);
        blob_file(image.path(), old).set_len(len).unwrap();
        if forget_index {
            std::fs::remove_dir_all(image.path().join("store/index")).unwrap();
        }
        let (_image, lost) = reopen(image);
        assert_eq!(len_of(&lost, "log", 2), 500);
        let found = lost.resolve(format!("lost+found/{old}_log").as_bytes()).unwrap();
        assert_eq!(lost.getattr(found).unwrap().size, 1000);
        let notes = lost.status().unwrap().recovery;
        assert!(notes.iter().any(|note| note.contains(&format!("lost+found/{old}_"))), "{notes:?}");
        assert!(!notes.iter().any(|note| note.contains("log")), "they are logged, so they show no name: {notes:?}");
    }
}

#[test]
fn a_sync_that_failed_for_who_left_a_name_fails_again_until_there_is_room() {
    let (dir, volume) = new_volume();
    let old = put(&volume, "log", 1, 1000);
    volume.set_xattr(old, b"user.long", &[7; 8000], XattrMode::Any).unwrap();
    let (_, new) = volume.create(Ino::ROOT, b"young", &NODE, RW).unwrap();
    volume.sync_all().unwrap();
    let policy = Policy::clone(&volume.policy());
    volume.set_policy(Policy { floor_bytes: u64::MAX / 2, ..policy.clone() }).unwrap();
    for (from, to) in [("log", "log.1"), ("young", "log")] {
        volume.rename(Ino::ROOT, from.as_bytes(), Ino::ROOT, to.as_bytes(), RenameMode::Replace).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(volume.fsync(&new, false).unwrap_err().kind(), Kind::NoSpace);
    }
    volume.set_policy(policy).unwrap();
    volume.fsync(&new, false).unwrap();
    assert!(!volume.is_unsynced(old));
    let (_image, killed) = after_a_crash(&dir);
    assert_eq!((len_of(&killed, "log.1", 1), len_of(&killed, "log", 2)), (1000, 0));
}

#[test]
fn a_directory_that_lost_its_name_keeps_what_lies_in_it() {
    let (dir, volume) = new_volume();
    let old = volume.mkdir(Ino::ROOT, b"media", &NODE).unwrap().ino;
    let (_, file) = volume.create(old, b"a", &NODE, RW).unwrap();
    volume.write(&file, 0, &[1; 700], false).unwrap();
    volume.close(file);
    volume.checkpoint().unwrap();
    let len = blob_file(dir.path(), old).metadata().unwrap().len();
    volume.rename(Ino::ROOT, b"media", Ino::ROOT, b"media.old", RenameMode::Replace).unwrap();
    volume.mkdir(Ino::ROOT, b"media", &NODE).unwrap();
    volume.sync_all().unwrap();
    let image = image_of(&dir);
    blob_file(image.path(), old).set_len(len).unwrap();
    let (_image, lost) = reopen(image);
    let found = lost.resolve(format!("lost+found/{old}_media/a").as_bytes()).unwrap();
    assert_eq!(lost.getattr(found).unwrap().size, 700);
}

/// A volume in which an empty directory was just renamed over the directory `media`, when nothing was in it any more:
/// `empty_it` has seen to that. Gives the directory that was replaced and the file `a` that had been in it.
fn replaced_directory(empty_it: impl FnOnce(&Volume, Ino)) -> (TempDir, Arc<Volume>, Ino, Ino) {
    let (dir, volume) = new_volume();
    let old = volume.mkdir(Ino::ROOT, b"media", &NewNode { mode: 0o750, ..NODE }).unwrap().ino;
    let (attr, file) = volume.create(old, b"a", &NODE, RW).unwrap();
    volume.write(&file, 0, &[1; 700], false).unwrap();
    volume.close(file);
    volume.mkdir(Ino::ROOT, b"new", &NODE).unwrap();
    volume.checkpoint().unwrap();
    empty_it(&volume, old);
    volume.rename(Ino::ROOT, b"new", Ino::ROOT, b"media", RenameMode::Replace).unwrap();
    (dir, volume, old, attr.ino)
}

/// The file `a` of the directory that lost its name is there, in that one.
fn expect_kept(image: TempDir, old: Ino) {
    let (_image, lost) = reopen(image);
    let dir = lost.resolve(format!("lost+found/{old}_media").as_bytes()).unwrap();
    assert_eq!((dir, lost.getattr(dir).unwrap().mode), (old, 0o750));
    assert_eq!(lost.getattr(lost.lookup(dir, b"a").unwrap().ino).unwrap().size, 700);
    assert!(lost.is_empty_dir(lost.lookup(Ino::ROOT, b"media").unwrap().ino).unwrap());
    let status = lost.status().unwrap();
    assert_eq!((status.media, status.used_bytes), (1, 700));
    assert_eq!(lost.getattr(lost.lookup(Ino::ROOT, b"lost+found").unwrap().ino).unwrap().nlink, 3);
}

/// Takes the record of the newest journal away that says that `ino` was removed, as one that was never synced.
fn lose_removal(image: &Path, ino: Ino) {
    let newest = std::fs::read_dir(image.join("store")).unwrap().map(|e| e.unwrap().path());
    let newest = newest.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("journal.")).max().unwrap();
    let bytes = std::fs::read(&newest).unwrap();
    let at = (JOURNAL_HEADER_LEN..bytes.len()).step_by(RECORD_LEN).find(|at| {
        let record = Record::decode(&bytes[*at..at + RECORD_BODY_LEN]);
        matches!(record, Ok(Record::Removed(removed, _)) if removed == ino)
    });
    let journal = File::options().write(true).open(newest).unwrap();
    journal.write_all_at(&[0; RECORD_LEN], at.unwrap() as u64).unwrap();
}

#[test]
fn what_lay_in_a_replaced_directory_is_found_when_its_removal_was_lost() {
    let (dir, volume, old, removed) = replaced_directory(|volume, dir| volume.unlink(dir, b"a").unwrap());
    for is_settled in [false, true] {
        if is_settled {
            let by = volume.lookup(Ino::ROOT, b"media").unwrap().ino;
            assert!(volume.settle_victims(by).unwrap());
        }
        let image = image_of(&dir);
        lose_removal(image.path(), removed);
        expect_kept(image, old);
    }
}

#[test]
fn what_was_moved_out_of_a_replaced_directory_is_found_when_its_renaming_was_lost() {
    let (dir, volume, old, moved) = replaced_directory(|volume, media| {
        volume.rename(media, b"a", Ino::ROOT, b"b", RenameMode::Replace).unwrap();
    });
    let image = image_of(&dir);
    let newest = volume.inode(moved).unwrap().state.read().record.location.unwrap();
    blob_file(image.path(), moved).set_len(newest.offset).unwrap();
    expect_kept(image, old);
}

#[test]
fn what_lies_in_a_directory_whose_blob_is_missing_is_found() {
    let (dir, volume) = new_volume();
    let sub = volume.mkdir(Ino::ROOT, b"dir", &NODE).unwrap().ino;
    let (_, file) = volume.create(sub, b"a", &NODE, RW).unwrap();
    volume.write(&file, 0, &[1; 700], false).unwrap();
    volume.close(file);
    volume.checkpoint().unwrap();
    volume.set_xattr(sub, b"user.one", b"1", XattrMode::Any).unwrap();
    volume.drain().unwrap();
    volume.index.flush().unwrap();
    let image = image_of(&dir);
    std::fs::remove_file(blob_path(image.path(), sub)).unwrap();
    let lost = open(image.path());
    let found = lost.resolve(format!("lost+found/{sub}/a").as_bytes()).unwrap();
    assert_eq!(lost.getattr(found).unwrap().size, 700);
}

#[test]
fn a_damaged_record_of_the_journal_brings_nothing_removed_back() {
    let (dir, volume) = new_volume();
    for n in 0..20 {
        put(&volume, &format!("f{n}"), 1, 100);
    }
    volume.checkpoint().unwrap();
    let keep = volume.lookup(Ino::ROOT, b"f0").unwrap().ino;
    let held: Vec<_> = (1..20)
        .map(|n| {
            let name = format!("f{n}");
            let file = volume.open_medium(volume.lookup(Ino::ROOT, name.as_bytes()).unwrap().ino).unwrap();
            volume.unlink(Ino::ROOT, name.as_bytes()).unwrap();
            file
        })
        .collect();
    volume.fsync_dir(Ino::ROOT).unwrap();
    let image = image_of(&dir);
    let newest = std::fs::read_dir(image.path().join("store")).unwrap().map(|e| e.unwrap().path());
    let newest = newest.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("journal.")).max().unwrap();
    let journal = File::options().read(true).write(true).open(newest).unwrap();
    journal.write_all_at(&[0xFF; 4], 40 + 5 * 40).unwrap();
    let (_image, opened) = reopen(image);
    assert_eq!(opened.getattr(keep).unwrap().size, 100);
    let left = opened.readdir(Ino::ROOT, 0, 100, false).unwrap();
    // The record that was hit said of one of them that it is gone; all others are.
    assert!(left.len() <= 2, "{left:?}");
    held.into_iter().for_each(|file| volume.close(file));
}

#[test]
fn a_damaged_directory_does_not_keep_a_volume_from_opening() {
    let (dir, volume) = new_volume();
    let sub = volume.mkdir(Ino::ROOT, b"dir", &NODE).unwrap().ino;
    let (_, file) = volume.create(sub, b"a", &NODE, RW).unwrap();
    volume.write(&file, 0, &[1; 700], false).unwrap();
    volume.close(file);
    volume.shutdown().unwrap();
    for ino in [sub, Ino::ROOT] {
        let image = image_of(&dir);
        std::fs::remove_dir_all(image.path().join("store/index")).unwrap();
        let blob = blob_file(image.path(), ino);
        let len = blob.metadata().unwrap().len();
        blob.write_all_at(&vec![0xFF; len as usize - 90], 90).unwrap();
        for _ in 0..2 {
            let opened = open(image.path());
            let path = if ino == sub { format!("lost+found/{sub}/a") } else { "dir/a".to_owned() };
            assert_eq!(opened.getattr(opened.resolve(path.as_bytes()).unwrap()).unwrap().size, 700, "{path}");
            opened.shutdown().unwrap();
        }
    }
}

#[test]
fn a_damaged_newest_frame_is_no_reason_to_go_back_to_an_older_one() {
    let (dir, volume) = new_volume();
    let ino = put(&volume, "file", 1, 1000);
    let file = volume.open_file(ino, RW).unwrap();
    volume.write(&file, 0, &[2; 1000], false).unwrap();
    volume.fsync(&file, false).unwrap();
    volume.close(file);
    volume.drain().unwrap();
    let len = blob_file(dir.path(), ino).metadata().unwrap().len();
    // The end of the process alone: machine and mount of the file system stay.
    drop(volume);
    while StoreLock::take(&dir.path().join("store")).is_err() {
        std::thread::yield_now();
    }
    blob_file(dir.path(), ino).write_all_at(&[0xFF], len - 40).unwrap();
    let killed = open(dir.path());
    let ino = killed.lookup(Ino::ROOT, b"file").unwrap().ino;
    let opened = killed.open_medium(ino);
    assert_eq!(opened.err().map(|e| e.kind()), Some(Kind::Damaged));
    assert_eq!(blob_file(dir.path(), ino).metadata().unwrap().len(), len, "nothing is cut off");
}

#[test]
fn a_damaged_index_is_made_anew() {
    let (dir, volume) = new_volume();
    for n in 0..300 {
        put(&volume, &format!("f{n}"), 1, 100);
    }
    volume.shutdown().unwrap();
    drop(volume);
    let db = dir.path().join("store/index/tree/db");
    let mut bytes = std::fs::read(&db).unwrap();
    for at in (5000..bytes.len()).step_by(701) {
        bytes[at] ^= 0x41;
    }
    std::fs::write(&db, bytes).unwrap();
    let opened = open(dir.path());
    assert_eq!(opened.status().unwrap().media, 300);
    assert_eq!(len_of(&opened, "f7", 1), 100);
}

#[test]
fn an_inode_removed_while_blobs_are_reaped_brings_its_victim_not_back() {
    let (dir, volume) = new_volume();
    put(&volume, "old", 1, 1000);
    volume.checkpoint().unwrap();
    put(&volume, "new", 2, 1000);
    volume.rename(Ino::ROOT, b"new", Ino::ROOT, b"old", RenameMode::Replace).unwrap();
    // What a reaping that waits for the disk has decided on before.
    let seen = volume.tracking.retired.lock().entries().to_vec();
    volume.unlink(Ino::ROOT, b"old").unwrap();
    assert!(volume.tracking.retired.lock().entries().len() >= seen.len());
    let (_image, killed) = after_a_crash(&dir);
    assert_eq!(killed.lookup(Ino::ROOT, b"old").unwrap_err().kind(), Kind::NotFound);
}
