//! What is written stays bounded: chunks in memory, runs of an end frame, dead bytes of a blob.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::crash_tests::{NODE, RW, after_a_crash, blob_file, image_of, new_volume, reopen};
use super::writer::MAX_DIRTY_CHUNKS;
use super::writing::allocated;
use super::{Allocate, OpenFile, Policy, SetAttr, Volume, XattrMode};
use crate::error::Kind;
use crate::format::content::{MAX_RUNS, Place};
use crate::format::frame::STRIDE;
use crate::ids::Ino;

/// Numbers that look random, always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// How many blobs there are, and their bytes.
fn blobs_in(dir: &Path) -> (usize, u64) {
    let files = walkdir::WalkDir::new(dir.join("store/blobs")).into_iter().map(Result::unwrap);
    let lens: Vec<u64> =
        files.filter(|e| e.file_type().is_file()).map(|e| e.metadata().map_or(0, |meta| meta.len())).collect();
    (lens.len(), lens.iter().sum())
}

fn contents(volume: &Volume, ino: Ino) -> Vec<u8> {
    let file = volume.open_medium(ino).unwrap();
    let mut out = vec![0; 16 << 20];
    let got = volume.read(&file, 0, &mut out).unwrap();
    volume.close(file);
    out.truncate(got);
    out
}

#[test]
fn parts_of_many_chunks_leave_memory_and_are_read_again() {
    let (dir, volume) = new_volume();
    let (attr, file) = volume.create(Ino::ROOT, b"f", &NODE, RW).unwrap();
    let (mut dice, mut model) = (Dice(1), vec![0u8; 0]);
    let len = 100 * 65_536;
    volume.allocate(&file, 0, len / 2, Allocate::Reserve { keep_size: false }).unwrap();
    model.resize(len as usize / 2, 0);
    for n in 0..3000u64 {
        let (at, part) = (dice.below(len) as usize, vec![n as u8 | 1; 1 + dice.below(9000) as usize]);
        match dice.below(200) {
            0..10 => {
                let end = (at + part.len()).min(model.len());
                if at < end {
                    volume.allocate(&file, at as u64, (end - at) as u64, Allocate::PunchHole).unwrap();
                    model[at..end].fill(0);
                }
            }
            10..20 if n > 1000 => {
                let size = model.len() - dice.below(70_000) as usize;
                volume.setattr(attr.ino, &SetAttr { size: Some(size as u64), ..SetAttr::default() }).unwrap();
                model.resize(size, 0);
            }
            20 => volume.fsync(&file, false).unwrap(),
            _ => {
                volume.write(&file, at as u64, &part, false).unwrap();
                model.resize(model.len().max(at + part.len()), 0);
                model[at..at + part.len()].copy_from_slice(&part);
            }
        }
        let state = file.inode.state.read();
        let waiting = state.writer.as_ref().map_or(0, |writer| writer.dirty.len());
        assert!(waiting <= 2 * MAX_DIRTY_CHUNKS, "{waiting} chunks in memory");
        assert_eq!(state.record.allocated, allocated(&state.content.as_ref().unwrap().map, state.record.len));
    }
    assert!(contents(&volume, attr.ino) == model);
    volume.fsync(&file, false).unwrap();
    let (_image, killed) = after_a_crash(&dir);
    assert!(contents(&killed, attr.ino) == model);
    drop(killed);
    volume.close(file);
    assert!(contents(&volume, attr.ino) == model);
    let (_image, killed) = after_a_crash(&dir);
    assert!(contents(&killed, attr.ino) == model);
    let digest = volume.digest(attr.ino).unwrap();
    assert_eq!(digest, <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(&model)));
}

/// A file whose map says that it lies in nearly as many pieces as can be told.
fn cut_to_pieces(volume: &Volume) -> OpenFile {
    let (_, file) = volume.create(Ino::ROOT, b"f", &NODE, RW).unwrap();
    volume.write(&file, 0, b"x", false).unwrap();
    let mut state = file.inode.state.write();
    let pieces = MAX_RUNS as u64 / 2;
    let len = 2 * pieces * 65_536;
    let content = state.content.as_mut().unwrap();
    content.map.set(0, 2 * pieces, Some(Place::Reserved));
    content.len = len;
    for n in 1..pieces {
        content.map.set(2 * n, 1, Some(Place::Stored { offset: 80 + 4 * n * STRIDE, frame: 4 * n }));
    }
    assert!(content.map.runs().len() + 4 > MAX_RUNS);
    let charged = allocated(&content.map, len);
    (state.record.len, state.record.allocated) = (len, charged);
    drop(state);
    file
}

#[test]
fn a_file_in_too_many_pieces_is_cut_no_further() {
    let (_dir, volume) = new_volume();
    let file = cut_to_pieces(&volume);
    let whole = vec![1; 65_536];
    let refused = volume.write(&file, 65_536, &whole, false).unwrap_err();
    assert_eq!(refused.kind(), Kind::TooLarge);
    let refused = volume.allocate(&file, 3 * 65_536, 65_536, Allocate::PunchHole).unwrap_err();
    assert_eq!(refused.kind(), Kind::TooLarge);
    assert!(volume.store.latch().reason().is_none());
}

#[test]
fn an_end_frame_that_could_not_be_read_is_not_written() {
    let (dir, volume) = new_volume();
    let file = cut_to_pieces(&volume);
    let mut state = file.inode.state.write();
    let map = &mut state.content.as_mut().unwrap().map;
    for n in 0..10u64 {
        let place = Place::Stored { offset: 80 + 3 * n * STRIDE, frame: 3 * n };
        map.set(MAX_RUNS as u64 + 2 + 2 * n, 1, Some(place));
    }
    assert!(map.runs().len() > MAX_RUNS);
    let before = blobs_in(dir.path());
    let refused = volume.commit(&file.inode, &mut state).unwrap_err();
    assert_eq!(refused.kind(), Kind::TooLarge);
    assert_eq!(blobs_in(dir.path()), before);
}

/// A file much of whose blob is dead.
fn scattered(volume: &Volume) -> (Ino, Vec<u8>) {
    let (attr, file) = volume.create(Ino::ROOT, b"f", &NODE, RW).unwrap();
    let mut model = vec![1; 40 * 65_536];
    volume.write(&file, 0, &model, false).unwrap();
    volume.fsync(&file, false).unwrap();
    // In an order that no digest runs along with.
    for chunk in [30, 20, 10, 5] {
        volume.write(&file, chunk * 65_536, &[2; 65_536], false).unwrap();
        model[chunk as usize * 65_536..][..65_536].fill(2);
    }
    volume.close(file);
    (attr.ino, model)
}

#[test]
fn a_rewrite_that_cannot_be_done_leaves_everything_as_it_was() {
    let (dir, volume) = new_volume();
    let (ino, model) = scattered(&volume);
    let inode = volume.inode(ino).unwrap();
    let before = blobs_in(dir.path());
    let is_as_before = |kind: Kind| {
        let mut state = inode.state.write();
        let (blob, seq) = (state.record.location, state.record.attrs.seq);
        assert_eq!(volume.rewrite(&inode, &mut state).unwrap_err().kind(), kind);
        assert_eq!((state.record.location, state.record.attrs.seq), (blob, seq));
        drop(state);
        assert_eq!(blobs_in(dir.path()), before);
        assert!(volume.tracking.young.lock().is_empty());
        assert!(volume.store.latch().reason().is_none());
    };
    let policy = volume.policy();
    volume.policy.write().policy = Arc::new(Policy { floor_bytes: u64::MAX / 2, ..Policy::clone(&policy) });
    is_as_before(Kind::NoSpace);
    volume.policy.write().policy = policy;
    let blob = blob_file(dir.path(), ino);
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&blob, &mut byte, 80 + 35 * STRIDE + 100).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&blob, &[byte[0] ^ 1], 80 + 35 * STRIDE + 100).unwrap();
    is_as_before(Kind::Damaged);
    std::os::unix::fs::FileExt::write_all_at(&blob, &byte, 80 + 35 * STRIDE + 100).unwrap();
    volume.rewrite(&inode, &mut inode.state.write()).unwrap();
    assert!(contents(&volume, ino) == model);
    assert_eq!(inode.state.read().content.as_ref().unwrap().map.runs().len(), 1);
    let (_image, killed) = after_a_crash(&dir);
    assert!(contents(&killed, ino) == model);
}

/// Waits for the volume's own threads.
fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn attributes_that_change_often_do_not_fill_the_disk() {
    let (dir, volume) = new_volume();
    let (ino, model) = scattered(&volume);
    let parent = volume.mkdir(Ino::ROOT, b"d", &NODE).unwrap().ino;
    volume.mkdir(parent, b"below", &NODE).unwrap();
    let link = volume.symlink(Ino::ROOT, b"l", b"target", &NODE).unwrap().ino;
    let all = [Ino::ROOT, ino, parent, link];
    let size = blobs_in(dir.path()).1;
    let value = |n: u8| vec![n; 60_000];
    for n in 0..200u8 {
        for ino in all {
            volume.set_xattr(ino, b"user.big", &value(n), XattrMode::Any).unwrap();
        }
        if n % 20 == 0 {
            volume.reap().unwrap();
        }
    }
    soon("blobs stay large", || {
        volume.reap().unwrap();
        blobs_in(dir.path()).1 < size + 4 * (60_000 + (256 << 10) + 120_000) + size / 2
    });
    let is_there = |volume: &Volume| {
        for ino in all {
            assert_eq!(volume.get_xattr(ino, b"user.big").unwrap(), value(199), "{ino}");
        }
        assert!(contents(volume, ino) == model);
        assert_eq!(volume.readlink(link).unwrap(), b"target");
        assert_eq!(volume.getattr(parent).unwrap().nlink, 3);
    };
    is_there(&volume);
    volume.fsync_dir(parent).unwrap();
    let (image, killed) = after_a_crash(&dir);
    is_there(&killed);
    killed.shutdown().unwrap();
    drop(killed);
    std::fs::remove_dir_all(image.path().join("store/index")).unwrap();
    let (_image, rebuilt) = super::crash_tests::reopen(image);
    is_there(&rebuilt);
}

#[test]
fn large_attributes_are_refused_when_the_disk_is_full_to_its_floor() {
    let (dir, volume) = new_volume();
    let (ino, _) = scattered(&volume);
    volume.set_xattr(ino, b"user.big", &[1; 60_000], XattrMode::Any).unwrap();
    let before = blobs_in(dir.path());
    let policy = volume.policy();
    volume.policy.write().policy = Arc::new(Policy { floor_bytes: u64::MAX / 2, ..Policy::clone(&policy) });
    let refused = volume.set_xattr(ino, b"user.more", &[1; 9000], XattrMode::Any).unwrap_err();
    assert_eq!(refused.kind(), Kind::NoSpace);
    assert_eq!(volume.get_xattr(ino, b"user.more").unwrap_err().kind(), Kind::NoAttribute);
    // What is there already may change, and waits in memory.
    volume.setattr(ino, &SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
    volume.remove_xattr(ino, b"user.big").unwrap();
    assert_eq!(blobs_in(dir.path()).0, before.0);
    assert_eq!(volume.getattr(ino).unwrap().mode, 0o600);
    volume.policy.write().policy = policy;
    volume.sync_all().unwrap();
    let (_image, killed) = after_a_crash(&dir);
    assert_eq!(killed.getattr(ino).unwrap().mode, 0o600);
    assert_eq!(killed.get_xattr(ino, b"user.big").unwrap_err().kind(), Kind::NoAttribute);
}

/// Bytes that the first blob of an inode takes of the disk beyond its length.
fn ahead_of(dir: &Path, ino: Ino) -> u64 {
    let meta = blob_file(dir, ino).metadata().unwrap();
    (meta.blocks() * 512).saturating_sub(meta.len())
}

#[test]
fn room_that_a_large_file_has_ahead_is_given_back_at_its_close_and_after_a_crash() {
    let (dir, volume) = new_volume();
    let (attr, file) = volume.create(Ino::ROOT, b"f", &NODE, RW).unwrap();
    let part: Vec<u8> = (0..1 << 20).map(|n| (n % 251) as u8).collect();
    for n in 0..10 {
        volume.write(&file, n << 20, &part, false).unwrap();
    }
    volume.fsync(&file, false).unwrap();
    if ahead_of(dir.path(), attr.ino) < 4 << 20 {
        assert!(!has_fallocate(dir.path()), "nothing is ahead of a large file");
        return;
    }
    // Copying a store leaves the room behind.
    let image = image_of(&dir);
    let blob = blob_file(image.path(), attr.ino);
    let len = blob.metadata().unwrap().len();
    rustix::fs::fallocate(&blob, rustix::fs::FallocateFlags::KEEP_SIZE, len, 4 << 20).unwrap();
    let (image, killed) = reopen(image);
    assert!(ahead_of(image.path(), attr.ino) < 1 << 20, "a crash has cost room");
    assert!(contents(&killed, attr.ino) == part.repeat(10));
    volume.close(file);
    assert!(ahead_of(dir.path(), attr.ino) < 1 << 20, "a close has cost room");
    assert!(contents(&volume, attr.ino) == part.repeat(10));
}

/// Whether the disk makes promises.
fn has_fallocate(dir: &Path) -> bool {
    let file = std::fs::File::create(dir.join("probe")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 1 << 20).is_ok()
}
