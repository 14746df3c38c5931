//! Contents apart: what lies where, what a crash leaves, what damage to them costs, and what who reads them beside us sees.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::crash_tests::{NODE, RW, image_of};
use super::{Allocate, InitOptions, OpenFile, OpenMode, OpenOptions, Policy, RepairOptions, SetAttr, Volume};
use crate::crypto::KeySource;
use crate::error::Kind;
use crate::ids::Ino;
use crate::store::View;

const READ: OpenMode = OpenMode { read: true, write: false, append: false, truncate: false };
const WRITE: OpenMode = OpenMode { read: false, write: true, ..READ };
const MIB: usize = 1 << 20;
const CHUNK: usize = 65_536;

fn open_with(dir: &Path, contents_apart: bool) -> Arc<Volume> {
    let options = OpenOptions { contents_apart, ..OpenOptions::default() };
    Volume::open(&dir.join("store"), &[] as &[KeySource], options).unwrap()
}

fn new_volume() -> (TempDir, Arc<Volume>) {
    let dir = tempfile::tempdir().unwrap();
    let options =
        InitOptions { encrypted: false, policy: Policy::default(), root_uid: 0, root_gid: 0, root_mode: 0o755 };
    Volume::init(&dir.path().join("store"), None, &options).unwrap();
    let volume = open_with(dir.path(), true);
    (dir, volume)
}

/// Opens a copy of the store, as it is now, as after a power loss; all of it must be whole.
fn after_a_crash(dir: &TempDir, volume: &Volume) -> (TempDir, Arc<Volume>) {
    let no_removal = volume.tracking.reaping.lock();
    let image = image_of(dir);
    drop(no_removal);
    let volume = open_with(image.path(), true);
    assert_eq!(volume.check(true, &mut |_, _| {}).unwrap().findings, []);
    (image, volume)
}

/// Bytes that differ from place to place.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    };
    (0..len).map(|_| next()).collect()
}

fn put(volume: &Volume, name: &str, bytes: &[u8]) -> Ino {
    let (attr, file) = volume.create(Ino::ROOT, name.as_bytes(), &NODE, RW).unwrap();
    write_all(volume, &file, bytes);
    volume.close(file);
    attr.ino
}

fn write_all(volume: &Volume, file: &OpenFile, bytes: &[u8]) {
    for (nth, part) in bytes.chunks(300_000).enumerate() {
        volume.write(file, nth as u64 * 300_000, part, false).unwrap();
    }
}

fn read(volume: &Volume, ino: Ino) -> Vec<u8> {
    let file = volume.open_file(ino, READ).unwrap();
    let mut out = vec![0; 32 * MIB];
    let got = volume.read(&file, 0, &mut out).unwrap();
    volume.close(file);
    out.truncate(got);
    out
}

/// What is read of a medium by its contents file; none when it is not to be read so.
fn passed(volume: &Volume, ino: Ino) -> Option<Vec<u8>> {
    let file = volume.open_file(ino, READ).unwrap();
    let view = volume.pass_through(&file).unwrap();
    volume.end_pass(&file);
    volume.close(file);
    view.map(|view| shown(&view))
}

fn shown(view: &View) -> Vec<u8> {
    let file = File::from(std::os::fd::AsFd::as_fd(view).try_clone_to_owned().unwrap());
    let mut out = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut out, 0).unwrap();
    out
}

fn files(dir: &Path, is_contents: bool) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(dir.join("store/blobs")).into_iter().map(|entry| entry.unwrap().into_path());
    all.filter(|path| path.is_file() && path.to_string_lossy().ends_with(".c") == is_contents).collect()
}

fn contents_of(dir: &Path, volume: &Volume, ino: Ino) -> PathBuf {
    let blob = volume.inode(ino).unwrap().state.read().record.location.unwrap().blob;
    dir.join(format!("store/blobs/{:013x}/{blob}.c", blob.0 >> 12))
}

#[test]
fn a_large_medium_lies_apart_byte_for_byte_and_a_small_one_in_its_blob() {
    let (dir, volume) = new_volume();
    let (large, small) = (bytes(1, 3 * MIB + 777), bytes(2, MIB - 1));
    let (of_large, of_small) = (put(&volume, "large", &large), put(&volume, "small", &small));
    let contents = contents_of(dir.path(), &volume, of_large);
    assert_eq!(files(dir.path(), true), std::slice::from_ref(&contents));
    assert!(std::fs::read(&contents).unwrap() == large);
    let blob = contents.with_extension("");
    assert!(std::fs::metadata(&blob).unwrap().len() < 8192, "the payload is not in the blob as well");
    let expect = |volume: &Volume| {
        assert!(read(volume, of_large) == large && read(volume, of_small) == small);
        assert!(passed(volume, of_large).unwrap() == large);
        assert!(passed(volume, of_small).is_none());
        let digest = volume.inode(of_large).unwrap().state.read().record.attrs.digest;
        let expected: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(&large).into();
        assert!(digest.is_none_or(|digest| digest == expected));
    };
    expect(&volume);
    let (_image, crashed) = after_a_crash(&dir, &volume);
    expect(&crashed);
    volume.shutdown().unwrap();
    drop(volume);
    // Who does not write so reads so.
    let volume = open_with(dir.path(), false);
    expect(&volume);
    let other = put(&volume, "other", &large);
    assert!(read(&volume, other) == large && passed(&volume, other).is_none());
    assert_eq!(files(dir.path(), true).len(), 1);
    volume.shutdown().unwrap();
}

#[test]
fn writes_of_any_size_from_the_front_go_apart() {
    let (_dir, volume) = new_volume();
    let content = bytes(1, 3 * MIB);
    for step in [4096, 65_000, 700_000, MIB - 4096, MIB, MIB + 4096, 3 * MIB] {
        let name = step.to_string();
        let (attr, file) = volume.create(Ino::ROOT, name.as_bytes(), &NODE, RW).unwrap();
        for (nth, part) in content.chunks(step).enumerate() {
            volume.write(&file, (nth * step) as u64, part, false).unwrap();
        }
        volume.fsync(&file, false).unwrap();
        volume.close(file);
        assert!(passed(&volume, attr.ino).is_some_and(|passed| passed == content), "{step}");
    }
}

#[test]
fn an_encrypted_volume_has_nothing_apart() {
    let (dir, volume) = super::crash_tests::new_volume();
    volume.shutdown().unwrap();
    drop(volume);
    let key = KeySource::key_file(&dir.path().join("key")).unwrap();
    let options = OpenOptions { contents_apart: true, ..OpenOptions::default() };
    let volume = Volume::open(&dir.path().join("store"), &[key], options).unwrap();
    let large = bytes(1, 3 * MIB);
    let ino = put(&volume, "large", &large);
    assert!(read(&volume, ino) == large && passed(&volume, ino).is_none());
    assert_eq!(files(dir.path(), true), [] as [PathBuf; 0]);
}

#[test]
fn what_is_changed_later_goes_into_the_blob_and_a_crash_leaves_one_content_or_the_other() {
    let (dir, volume) = new_volume();
    let first = bytes(1, 3 * MIB + 777);
    let ino = put(&volume, "f", &first);
    let contents = contents_of(dir.path(), &volume, ino);
    let file = volume.open_file(ino, RW).unwrap();
    let mut second = first.clone();
    second[100_000..400_000].copy_from_slice(&bytes(3, 300_000));
    second.extend(bytes(4, 200_000));
    volume.write(&file, 100_000, &second[100_000..400_000], false).unwrap();
    volume.write(&file, first.len() as u64, &second[first.len()..], false).unwrap();
    assert!(std::fs::read(&contents).unwrap() == first, "what was committed stays as it is");
    let (_image, crashed) = after_a_crash(&dir, &volume);
    assert!(read(&crashed, ino) == first);
    volume.fsync(&file, false).unwrap();
    let (_image, crashed) = after_a_crash(&dir, &volume);
    assert!(read(&crashed, ino) == second && passed(&crashed, ino).is_none());
    volume.close(file);
    assert!(read(&volume, ino) == second && passed(&volume, ino).is_none());
    assert_eq!(volume.check(true, &mut |_, _| {}).unwrap().findings, []);

    // Overwritten again and again it is written anew, apart.
    for nth in 0..4 {
        let file = volume.open_file(ino, RW).unwrap();
        second = bytes(nth, second.len());
        write_all(&volume, &file, &second);
        volume.close(file);
    }
    assert!(read(&volume, ino) == second);
    volume.shutdown().unwrap();
    assert_eq!(files(dir.path(), true).len(), 1, "those of former blobs are gone");
}

#[test]
fn a_medium_that_was_cut_gives_its_room_back_and_a_removed_one_all_of_it() {
    let (dir, volume) = new_volume();
    let content = bytes(1, 4 * MIB);
    let (cut, removed) = (put(&volume, "cut", &content), put(&volume, "removed", &content));
    volume.setattr(cut, &SetAttr { size: Some(10), ..SetAttr::default() }).unwrap();
    volume.unlink(Ino::ROOT, b"removed").unwrap();
    volume.forget(removed);
    assert!(read(&volume, cut) == content[..10]);
    volume.shutdown().unwrap();
    drop(volume);
    assert_eq!(files(dir.path(), true), [] as [PathBuf; 0]);
    assert_eq!(files(dir.path(), false).len(), 2, "the root and what was cut");
    let volume = open_with(dir.path(), true);
    assert!(read(&volume, cut) == content[..10]);
    assert_eq!(volume.check(true, &mut |_, _| {}).unwrap().findings, []);
}

#[test]
fn a_crash_leaves_no_contents_file_of_what_was_never_committed() {
    let (dir, volume) = new_volume();
    let (attr, file) = volume.create(Ino::ROOT, b"f", &NODE, RW).unwrap();
    write_all(&volume, &file, &bytes(1, 4 * MIB));
    volume.inode(attr.ino).unwrap().state.read().writer.as_ref().unwrap().flight.wait();
    assert_eq!(files(dir.path(), true).len(), 1);
    let image = image_of(&dir);
    let alone = image_of(&dir);
    // A disk that has kept the one name and not the other.
    let contents = files(alone.path(), true).remove(0);
    std::fs::remove_file(contents.with_extension("")).unwrap();
    for image in [image, alone] {
        let crashed = open_with(image.path(), true);
        assert_eq!(crashed.lookup(Ino::ROOT, b"f").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(crashed.check(true, &mut |_, _| {}).unwrap().findings, []);
        assert_eq!(files(image.path(), true), [] as [PathBuf; 0]);
    }
    volume.close(file);
}

#[test]
fn contents_of_which_a_part_was_lost_give_way_to_those_before() {
    let (dir, volume) = new_volume();
    let (first, second) = (bytes(1, 3 * MIB), bytes(2, 4 * MIB));
    let ino = put(&volume, "f", &first);
    volume.checkpoint().unwrap();
    let file = volume.open_file(ino, OpenMode { truncate: true, ..RW }).unwrap();
    write_all(&volume, &file, &second);
    volume.close(file);
    volume.drain().unwrap();
    let newest = contents_of(Path::new(""), &volume, ino);
    for lost in [0..4096u64, 3_900_000..3_904_096] {
        let image = image_of(&dir);
        let contents = File::options().write(true).open(image.path().join(&newest)).unwrap();
        contents.write_all_at(&[0; 4096], lost.start).unwrap();
        let crashed = open_with(image.path(), true);
        assert_eq!(crashed.check(true, &mut |_, _| {}).unwrap().findings, []);
        assert!(read(&crashed, ino) == first);
        assert!(passed(&crashed, ino).unwrap() == first);
    }
    let (_image, crashed) = after_a_crash(&dir, &volume);
    assert!(read(&crashed, ino) == second);
}

#[test]
fn damage_to_contents_is_found_by_reads_checks_and_repairs() {
    let (dir, volume) = new_volume();
    let content = bytes(1, 3 * MIB);
    let names = ["flipped", "cut", "missing", "whole"];
    let inos = names.map(|name| put(&volume, name, &content));
    let paths = inos.map(|ino| contents_of(dir.path(), &volume, ino));
    volume.shutdown().unwrap();
    drop(volume);
    let flipped = File::options().write(true).open(&paths[0]).unwrap();
    flipped.write_all_at(&[content[2 * CHUNK + 9] ^ 1], 2 * CHUNK as u64 + 9).unwrap();
    File::options().write(true).open(&paths[1]).unwrap().set_len(MIB as u64).unwrap();
    std::fs::remove_file(&paths[2]).unwrap();

    let volume = open_with(dir.path(), true);
    let damage = |ino: Ino, chunk: usize| {
        let file = volume.open_file(ino, READ).unwrap();
        let (mut whole, mut part) = (vec![0; CHUNK], [0; 100]);
        let at = (chunk * CHUNK) as u64;
        let outcomes = [volume.read(&file, at, &mut whole), volume.read(&file, at + 50, &mut part)];
        let is_hurt = outcomes.map(|outcome| outcome.is_err_and(|e| e.kind() == Kind::Damaged));
        assert_eq!(is_hurt[0], is_hurt[1]);
        volume.close(file);
        is_hurt[0]
    };
    for (ino, hurt) in inos.into_iter().zip([2..3, 16..48, 0..48, 0..0]) {
        (0..48).for_each(|chunk| assert_eq!(damage(ino, chunk), hurt.contains(&chunk), "{ino} {chunk}"));
    }
    let hurt = |read_all| {
        let report = volume.check(read_all, &mut |_, _| {}).unwrap();
        let mut inodes: Vec<u64> = report.findings.iter().filter_map(|finding| finding.inode).collect();
        inodes.dedup();
        inodes
    };
    assert_eq!(hurt(false), [inos[1].0, inos[2].0], "lengths are looked at");
    assert_eq!(hurt(true), [inos[0].0, inos[1].0, inos[2].0]);
    let options = RepairOptions { read_all: true, move_damaged: true };
    let report = volume.repair(options, &mut |_, _| {}).unwrap();
    let quarantine = dir.path().join("store").join(report.quarantine.unwrap());
    for path in &paths[..2] {
        let kept = quarantine.join(path.strip_prefix(dir.path().join("store")).unwrap());
        assert!(kept.is_file() && kept.with_extension("").is_file(), "{}", kept.display());
    }
    assert_eq!(volume.check(true, &mut |_, _| {}).unwrap().findings, []);
    assert!(read(&volume, inos[3]) == content);
    assert_eq!(files(dir.path(), true), paths[3..]);
}

#[test]
fn who_reads_beside_us_sees_each_change_at_once_and_a_crash_leaves_the_old_or_the_new() {
    let (dir, volume) = new_volume();
    let first = bytes(1, 3 * MIB + 777);
    let ino = put(&volume, "f", &first);
    let reader = volume.open_file(ino, READ).unwrap();
    let view = volume.pass_through(&reader).unwrap().unwrap();
    assert!(shown(&view) == first);
    let mut model = first.clone();
    let writer = volume.open_file(ino, WRITE).unwrap();
    model[70_000..70_500].fill(7);
    volume.write(&writer, 70_000, &[7; 500], false).unwrap();
    assert!(shown(&view) == model);
    let (_image, crashed) = after_a_crash(&dir, &volume);
    assert!(read(&crashed, ino) == first, "what nobody has synced is not there after a crash");
    model.extend([8; 100_000]);
    volume.write(&writer, first.len() as u64, &[8; 100_000], false).unwrap();
    assert!(shown(&view) == model);
    let zeros = 200_000..900_000usize;
    model[zeros.clone()].fill(0);
    volume.allocate(&writer, zeros.start as u64, zeros.len() as u64, Allocate::PunchHole).unwrap();
    assert!(shown(&view) == model);
    volume.fsync(&writer, false).unwrap();
    let (_image, crashed) = after_a_crash(&dir, &volume);
    assert!(read(&crashed, ino) == model);
    let synced = model.clone();
    for len in [2_000_000, 1_999_990, 2_500_000] {
        model.resize(len, 0);
        volume.setattr(ino, &SetAttr { size: Some(len as u64), ..SetAttr::default() }).unwrap();
        assert!(shown(&view) == model);
    }
    let (_image, crashed) = after_a_crash(&dir, &volume);
    assert!(read(&crashed, ino) == synced);
    volume.close(writer);
    let anew = volume.open_file(ino, OpenMode { truncate: true, ..WRITE }).unwrap();
    assert!(shown(&view).is_empty());
    volume.write(&anew, 0, b"anew", false).unwrap();
    assert!(shown(&view) == b"anew" && read(&volume, ino) == b"anew");
    volume.close(anew);
    volume.drain().unwrap();
    volume.reap().unwrap();
    assert!(shown(&view) == b"anew" && read(&volume, ino) == b"anew");
    volume.end_pass(&reader);
    volume.close(reader);
    assert_eq!(volume.check(true, &mut |_, _| {}).unwrap().findings, []);
    volume.shutdown().unwrap();
    assert_eq!(files(dir.path(), true), [] as [PathBuf; 0]);
}

#[test]
fn one_without_a_name_is_changed_for_who_reads_it_beside_us_too() {
    let (dir, volume) = new_volume();
    let mut model = bytes(1, 2 * MIB);
    let ino = put(&volume, "f", &model);
    let reader = volume.open_file(ino, READ).unwrap();
    let view = volume.pass_through(&reader).unwrap().unwrap();
    let writer = volume.open_file(ino, WRITE).unwrap();
    volume.unlink(Ino::ROOT, b"f").unwrap();
    model[65_000..66_000].fill(5);
    volume.write(&writer, 65_000, &[5; 1000], false).unwrap();
    let mut out = vec![0; 3 * MIB];
    let got = volume.read(&reader, 0, &mut out).unwrap();
    assert!(out[..got] == model && shown(&view) == model);
    volume.end_pass(&reader);
    volume.close(writer);
    volume.close(reader);
    volume.forget(ino);
    volume.shutdown().unwrap();
    assert_eq!(files(dir.path(), true), [] as [PathBuf; 0]);
}

#[test]
fn nothing_is_read_beside_us_that_somebody_writes_or_that_has_holes() {
    let (_dir, volume) = new_volume();
    let ino = put(&volume, "f", &bytes(1, 2 * MIB + 5));
    let writer = volume.open_file(ino, WRITE).unwrap();
    assert!(passed(&volume, ino).is_none());
    volume.write(&writer, 2 * MIB as u64 + 5, &bytes(2, 3 * MIB), false).unwrap();
    volume.close(writer);
    assert!(passed(&volume, ino).is_none(), "a chunk that has grown is in the blob");
    let (attr, writer) = volume.create(Ino::ROOT, b"g", &NODE, RW).unwrap();
    write_all(&volume, &writer, &bytes(3, 2 * MIB));
    volume.close_soon(writer);
    assert!(passed(&volume, attr.ino).is_some(), "also when it was closed a moment ago");
    let ino = attr.ino;
    let writer = volume.open_file(ino, WRITE).unwrap();
    volume.setattr(ino, &SetAttr { size: Some(3 * MIB as u64), ..SetAttr::default() }).unwrap();
    volume.close(writer);
    assert!(passed(&volume, ino).is_none());
}

/// Numbers that look random, always the same.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

#[test]
fn any_order_of_changes_and_crashes_keeps_what_was_synced_and_shows_what_is() {
    let (dir, volume) = new_volume();
    let mut dice = Dice(11);
    let mut model = bytes(9, 2 * MIB);
    let ino = put(&volume, "f", &model);
    let mut synced = model.clone();
    let mut reader: Option<(OpenFile, View)> = None;
    for step in 0..150u64 {
        let file = volume.open_file(ino, WRITE).unwrap();
        match dice.below(7) {
            0 => {
                model = bytes(step, 17 * CHUNK + dice.below(20 * CHUNK));
                volume.setattr(ino, &SetAttr { size: Some(0), ..SetAttr::default() }).unwrap();
                write_all(&volume, &file, &model);
            }
            1 => {
                model.resize(dice.below(3 * MIB), 0);
                volume.setattr(ino, &SetAttr { size: Some(model.len() as u64), ..SetAttr::default() }).unwrap();
            }
            2 => {
                let more = bytes(step, dice.below(3 * CHUNK));
                volume.write(&file, model.len() as u64, &more, false).unwrap();
                model.extend(more);
            }
            3 if !model.is_empty() => {
                let at = dice.below(model.len());
                let len = 1 + dice.below(model.len() - at);
                volume.allocate(&file, at as u64, len as u64, Allocate::PunchHole).unwrap();
                model[at..at + len].fill(0);
            }
            _ => {
                let at = dice.below(model.len() + CHUNK);
                let part = bytes(step, 1 + dice.below(2 * CHUNK));
                if model.len() < at + part.len() {
                    model.resize(at + part.len(), 0);
                }
                model[at..at + part.len()].copy_from_slice(&part);
                volume.write(&file, at as u64, &part, false).unwrap();
            }
        }
        if let Some((_, view)) = &reader {
            assert!(shown(view) == model, "step {step}");
        }
        if dice.below(3) == 0 {
            volume.fsync(&file, false).unwrap();
            synced.clone_from(&model);
        }
        if dice.below(6) == 0 {
            let (_image, crashed) = after_a_crash(&dir, &volume);
            assert!(read(&crashed, ino) == synced, "step {step}");
        }
        volume.close(file);
        synced.clone_from(&model);
        assert!(read(&volume, ino) == model, "step {step}");
        if let Some((file, _)) = reader.take_if(|_| dice.below(4) == 0) {
            volume.end_pass(&file);
            volume.close(file);
        }
        if reader.is_none() {
            let file = volume.open_file(ino, READ).unwrap();
            reader = volume.pass_through(&file).unwrap().map(|view| (file, view));
        }
    }
    if let Some((file, _)) = reader {
        volume.end_pass(&file);
        volume.close(file);
    }
    assert_eq!(volume.check(true, &mut |_, _| {}).unwrap().findings, []);
    volume.shutdown().unwrap();
}
