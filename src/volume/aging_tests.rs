//! Which media are expired, as time goes on and rules change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::{AgeBy, InitOptions, NewNode, OpenMode, OpenOptions, Policy, RenameMode, RetentionRule, Selector, Volume};
use crate::clock::{Clock, ManualClock};
use crate::error::Kind;
use crate::ids::Ino;
use crate::index::{Table, schema};

pub(super) const RW: OpenMode = OpenMode { read: true, write: true, append: false, truncate: false };
pub(super) const NODE: NewNode = NewNode { mode: 0o644, uid: 1, gid: 2 };
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

/// A volume without a cipher whose time is moved by hand.
pub(super) struct Bench {
    dir: TempDir,
    clock: Arc<ManualClock>,
}

impl Bench {
    pub(super) fn new(policy: Policy) -> Bench {
        let bench = Bench { dir: tempfile::tempdir().unwrap(), clock: Arc::new(ManualClock::new(1_700_000_000)) };
        let options = InitOptions { encrypted: false, policy, root_uid: 0, root_gid: 0, root_mode: 0o755 };
        Volume::init(&bench.store(), None, &options).unwrap();
        bench
    }

    pub(super) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub(super) fn open(&self) -> Arc<Volume> {
        let clock = Arc::clone(&self.clock) as Arc<dyn Clock>;
        Volume::open(&self.store(), &[], OpenOptions { clock, ..OpenOptions::default() }).unwrap()
    }

    pub(super) fn pass(&self, secs: u64) {
        self.clock.advance(secs.try_into().unwrap());
    }
}

fn end(volume: Arc<Volume>) {
    volume.shutdown().unwrap();
}

pub(super) fn put(volume: &Volume, parent: Ino, name: &str, content: &[u8]) -> Ino {
    let (attr, file) = volume.create(parent, name.as_bytes(), &NODE, RW).unwrap();
    volume.write(&file, 0, content, false).unwrap();
    volume.close(file);
    attr.ino
}

fn mkdir(volume: &Volume, parent: Ino, name: &str) -> Ino {
    volume.mkdir(parent, name.as_bytes(), &NODE).unwrap().ino
}

fn read(volume: &Volume, ino: Ino) {
    volume.close(volume.open_medium(ino).unwrap());
}

fn expired(volume: &Volume) -> Vec<Ino> {
    volume.expired(&[], 1000).unwrap().iter().map(|entry| entry.ino).collect()
}

fn keeping(default: Option<u64>, prefixes: &[(&str, Option<u64>)]) -> Policy {
    let rule = |selector, keep: Option<u64>| RetentionRule { selector, keep: keep.map(Duration::from_secs) };
    let below = |(dir, keep): &(&str, Option<u64>)| rule(Selector::Prefix((*dir).to_owned()), *keep);
    let retention = std::iter::once(rule(Selector::Default, default)).chain(prefixes.iter().map(below)).collect();
    Policy { retention, ..Policy::default() }
}

fn by_use(policy: Policy) -> Policy {
    Policy { age_by: AgeBy::Used, ..policy }
}

#[test]
fn a_medium_used_within_its_retention_is_never_expired() {
    for keep in [16 * HOUR, 3 * DAY, 40 * DAY] {
        let bench = Bench::new(by_use(keeping(Some(keep), &[])));
        let mut volume = bench.open();
        let ino = put(&volume, Ino::ROOT, "f", b"f");
        // Every other use goes without a note, the last one too.
        let gap = keep.min(16 * DAY) / 16 - 1;
        for _ in 0..9 {
            bench.pass(gap);
            read(&volume, ino);
        }
        end(volume);
        std::fs::remove_dir_all(bench.store().join("index")).unwrap();
        volume = bench.open();
        bench.pass(keep - 1);
        assert_eq!(expired(&volume), [], "kept {keep} s from the last use");
        assert!(volume.medium(ino, false).unwrap().expires.unwrap() > volume.now());
        assert_eq!(volume.remove_expired(ino).unwrap_err().kind(), Kind::NotExpired);
        bench.pass(gap + 2);
        assert_eq!(expired(&volume), [ino], "kept {keep} s from the last use, and no use since");
        assert!(volume.medium(ino, false).unwrap().expires.unwrap() <= volume.now());
    }
}

#[test]
fn a_listing_from_the_table_of_ages_says_what_the_records_say() {
    let bench = Bench::new(keeping(Some(DAY), &[]));
    let mut volume = bench.open();
    let (dir, other) = (mkdir(&volume, Ino::ROOT, "d"), mkdir(&volume, Ino::ROOT, "e"));
    let shared = ["shared", "12", "34"].iter().fold(Ino::ROOT, |at, name| mkdir(&volume, at, name));
    put(&volume, dir, "invoice", b"%PDF-1.7\n");
    put(&volume, dir, "0b4d9f5c-2a77-4c0f-9b1e-3d6a51c7e001", b"\xFF\xD8\xFF\xE0");
    put(&volume, shared, "56789012-3456-7890-1234-", b"no such name");
    put(&volume, shared, "567890123456789012345678", b"text");
    put(&volume, dir, "named later", b"later");
    put(&volume, dir, "typed", b"typed");
    let twice = put(&volume, dir, "twice", b"twice");
    bench.pass(DAY + 1);
    let listed = |volume: &Volume| {
        let told = |e: crate::volume::Expired| (e.ino, e.id, String::from_utf8(e.name).unwrap(), e.parents);
        volume.expired(&[], 1000).unwrap().into_iter().map(told).collect::<Vec<_>>()
    };
    // The records are in memory now; after an end they are not.
    let before = listed(&volume);
    end(volume);
    volume = bench.open();
    assert_eq!(listed(&volume), before);
    end(volume);
    volume = bench.open();
    volume.rename(dir, b"named later", other, b"by another name", RenameMode::Replace).unwrap();
    let typed = volume.lookup(dir, b"typed").unwrap().ino;
    volume.set_xattr(typed, b"user.mime_type", b"image/png", crate::volume::XattrMode::Any).unwrap();
    volume.link(twice, other, b"again").unwrap();
    let after = listed(&volume);
    assert_ne!(after, before);
    end(volume);
    volume = bench.open();
    assert_eq!(listed(&volume), after);
    assert_eq!(after.iter().filter(|(_, _, name, _)| name.ends_with("_by another name")).count(), 1);
    assert_eq!(after.iter().find(|(ino, ..)| *ino == twice).unwrap().3, [dir, other]);
}

#[test]
fn a_medium_that_is_open_is_in_use_until_its_close() {
    let bench = Bench::new(by_use(keeping(Some(DAY), &[])));
    let volume = bench.open();
    let ino = put(&volume, Ino::ROOT, "f", b"f");
    let file = volume.open_medium(ino).unwrap();
    bench.pass(9 * DAY);
    assert_eq!(expired(&volume), []);
    volume.close(file);
    assert_eq!(expired(&volume), []);
    bench.pass(2 * DAY);
    assert_eq!(expired(&volume), [ino]);
}

#[test]
fn a_policy_put_into_the_store_holds_once_it_is_read_again() {
    let bench = Bench::new(by_use(keeping(Some(90 * DAY), &[])));
    let volume = bench.open();
    let ino = put(&volume, Ino::ROOT, "f", b"f");
    let copies = ["policy", "policy.bak"].map(|name| bench.store().join(name));
    let old = copies.each_ref().map(|copy| std::fs::read(copy).unwrap());
    assert!(!volume.reload_policy().unwrap(), "it is the one in force");
    volume.set_policy(keeping(Some(HOUR), &[])).unwrap();
    bench.pass(DAY);
    // Of this use no note is made: the policy in force does not ask for it.
    read(&volume, ino);
    assert_eq!(expired(&volume), [ino]);
    for (copy, bytes) in copies.iter().zip(&old) {
        std::fs::write(copy, bytes).unwrap();
    }
    assert_eq!(expired(&volume), [ino]);
    assert!(volume.reload_policy().unwrap());
    assert_eq!(expired(&volume), []);
    assert_eq!(volume.policy().retention, keeping(Some(90 * DAY), &[]).retention);
    bench.pass(90 * DAY - 1);
    assert_eq!(expired(&volume), [], "uses count from when the policy was read again");
    for copy in &copies {
        std::fs::write(copy, b"damaged").unwrap();
    }
    assert_eq!(volume.reload_policy().unwrap_err().kind(), Kind::Damaged);
    assert_eq!(volume.policy().age_by, AgeBy::Used, "the policy in force stays");
}

#[test]
fn uses_from_before_a_shorter_retention_count_under_it() {
    let bench = Bench::new(by_use(keeping(None, &[])));
    let volume = bench.open();
    let (ruled, own) = (put(&volume, Ino::ROOT, "ruled", b"1"), put(&volume, Ino::ROOT, "own", b"2"));
    bench.pass(20 * HOUR);
    read(&volume, ruled);
    read(&volume, own);
    bench.pass(60);
    volume.set_policy(by_use(keeping(Some(HOUR), &[]))).unwrap();
    volume.set_medium_retention(own, Some(Some(Duration::from_secs(HOUR)))).unwrap();
    assert_eq!(expired(&volume), [], "both were used a minute ago");
    for ino in [ruled, own] {
        assert_eq!(volume.remove_expired(ino).unwrap_err().kind(), Kind::NotExpired);
    }
    bench.pass(HOUR - 100);
    assert_eq!(expired(&volume), []);
    bench.pass(DAY);
    assert_eq!(expired(&volume).len(), 2);
}

#[test]
fn of_several_names_the_one_that_is_kept_longest_decides() {
    let bench = Bench::new(keeping(Some(DAY), &[("kept", None)]));
    let volume = bench.open();
    let kept = mkdir(&volume, Ino::ROOT, "kept");
    let ino = put(&volume, Ino::ROOT, "f", b"f");
    volume.link(ino, kept, b"f").unwrap();
    bench.pass(2 * DAY);
    assert_eq!(expired(&volume), []);
    assert_eq!(volume.remove_expired(ino).unwrap_err().kind(), Kind::NotExpired);
    volume.set_policy(keeping(Some(90 * DAY), &[("kept", Some(DAY))])).unwrap();
    assert_eq!(expired(&volume), []);
    volume.set_policy(keeping(Some(HOUR), &[("kept", Some(DAY))])).unwrap();
    assert_eq!(expired(&volume), [ino], "the rules are the same, but another one is the longest");
    volume.set_policy(keeping(Some(HOUR), &[("kept", None)])).unwrap();
    assert_eq!(expired(&volume), []);
    volume.unlink(kept, b"f").unwrap();
    assert_eq!(expired(&volume), [ino]);
}

#[test]
fn what_lies_below_a_directory_that_cannot_be_read_does_not_expire() {
    let bench = Bench::new(keeping(Some(DAY), &[("kept", None)]));
    let volume = bench.open();
    let kept = mkdir(&volume, Ino::ROOT, "kept");
    let dir = mkdir(&volume, kept, "dir");
    let ino = put(&volume, dir, "f", b"f");
    volume.drain().unwrap();
    volume.index.delete(Table::Inodes, &schema::inode(kept));
    volume.cache.remove(kept);
    bench.pass(2 * DAY);
    assert_eq!(volume.remove_expired(ino).unwrap_err().kind(), Kind::NotExpired);
    volume.mark_dirty(&volume.inode(ino).unwrap());
    assert_eq!(expired(&volume), []);
}

#[test]
fn media_are_sorted_by_their_directories_when_the_index_is_made_anew() {
    let bench = Bench::new(keeping(None, &[("short", Some(DAY))]));
    let volume = bench.open();
    let ino = put(&volume, Ino::ROOT, "f", b"f");
    // It has a higher number than what is moved into it, so recovery comes to it later.
    let short = mkdir(&volume, Ino::ROOT, "short");
    volume.rename(Ino::ROOT, b"f", short, b"f", RenameMode::Replace).unwrap();
    end(volume);
    std::fs::remove_dir_all(bench.store().join("index")).unwrap();
    let volume = bench.open();
    bench.pass(2 * DAY);
    assert_eq!(expired(&volume), [ino]);
}

/// Damages both copies of the policy; gives what they were.
fn lose_policy(bench: &Bench) -> Vec<u8> {
    let whole = std::fs::read(bench.store().join("policy")).unwrap();
    std::fs::write(bench.store().join("policy"), b"not ours").unwrap();
    std::fs::remove_file(bench.store().join("policy.bak")).unwrap();
    whole
}

#[test]
fn nothing_expires_while_no_copy_of_the_policy_is_whole() {
    let bench = Bench::new(keeping(None, &[("short", Some(DAY))]));
    let volume = bench.open();
    let short = mkdir(&volume, Ino::ROOT, "short");
    let media = [put(&volume, short, "f", b"f"), put(&volume, Ino::ROOT, "own", b"o")];
    volume.set_medium_retention(media[1], Some(Some(Duration::from_secs(DAY)))).unwrap();
    end(volume);
    lose_policy(&bench);
    bench.pass(99 * DAY);
    let volume = bench.open();
    assert_eq!(expired(&volume), []);
    assert_eq!(volume.purge(false, None, &mut |_| {}).unwrap().media, 0);
    assert_eq!(volume.remove_expired(media[1]).unwrap_err().kind(), Kind::NotExpired);
    assert_eq!((volume.status().unwrap().expired, volume.policy().max_bytes), (0, None));
    let says_so = |volume: &Volume| {
        let told = volume.status().unwrap().recovery.iter().any(|note| note.contains("wamedia retention set"));
        let found = volume.check(false, &mut |_, _| {}).unwrap().findings;
        assert!(found.len() == usize::from(told) && found.iter().all(|f| f.problem.contains("wamedia retention set")));
        told
    };
    assert!(says_so(&volume));
    volume.set_policy(keeping(Some(90 * DAY), &[])).unwrap();
    assert!(!says_so(&volume));
    assert_eq!(expired(&volume).len(), 2);
    end(volume);
    assert!(!says_so(&bench.open()));
}

#[test]
fn media_are_sorted_again_when_another_policy_file_was_put_there() {
    let bench = Bench::new(keeping(None, &[("short", Some(DAY))]));
    let volume = bench.open();
    let short = mkdir(&volume, Ino::ROOT, "short");
    end(volume);
    let whole = lose_policy(&bench);
    let volume = bench.open();
    let ino = put(&volume, short, "f", b"f");
    end(volume);
    std::fs::write(bench.store().join("policy"), whole).unwrap();
    let volume = bench.open();
    bench.pass(2 * DAY);
    assert_eq!(expired(&volume), [ino]);
}
