//! Volumes made by somebody who has the key and means harm: every tag fits. They can make an error, never a panic, a hang
//! or a memory that grows; and a good medium beside the bad ones is served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

#[path = "../fuzz/src/forge.rs"]
mod forge;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use forge::{Forge, attributes, policy};
use support::place::{Outcome, Place, run, text};
use wamedia::clock::Timestamp;
use wamedia::error::Kind;
use wamedia::format::attributes::{EndRef, Link, MAX_LINKS, Swap};
use wamedia::format::content::{ChunkMap, Content, Place as ChunkPlace};
use wamedia::format::frame::FrameKind;
use wamedia::format::journal::Record;
use wamedia::ids::{BlobId, FileKind, Ino, NUMBER_END, NUMBER_LIMIT};
use wamedia::volume::{OpenMode, OpenOptions, Volume};

/// The memory that a command may have (`RLIMIT_DATA`): several times what it needs.
const MEMORY: &str = "--data=402653184";
/// The medium that is well.
const GOOD: u64 = 900;
const CONTENT: &[u8] = b"somebody else's picture";

/// A store to be written by hand, with a good medium in it.
struct Bench {
    place: Place,
    forge: Forge,
}

impl Bench {
    fn new() -> Bench {
        let place = Place::new();
        let forge = Forge::open_to_all(&place.store());
        forge.medium(GOOD, 1, b"good.jpg", CONTENT);
        Bench { place, forge }
    }

    /// Runs a command on the store with little memory; it must end by itself.
    fn command(&self, args: &[&str]) -> Outcome {
        let mut command = Command::new("prlimit");
        command.args([MEMORY, "--", env!("CARGO_BIN_EXE_wamedia")]).args(args).arg(self.place.store());
        command.env("WAMEDIA_RUNTIME_DIR", "").env_remove("WAMEDIA_KEY_FILE").env_remove("WAMEDIA_PASSPHRASE_FILE");
        let outcome = run(command);
        assert!(!outcome.stderr.contains("panicked at"), "{} panicked:\n{}", outcome.call, outcome.stderr);
        assert!(outcome.status.code().is_some(), "{}: {}\n{}", outcome.call, outcome.status, outcome.stderr);
        outcome
    }

    /// Reads the store in every way commands have, then as a program does; the good medium must be there.
    fn survives(&self) -> std::sync::Arc<Volume> {
        self.command(&["check", "--read-all"]);
        self.command(&["status"]).expect_success();
        self.command(&["expired", "list"]).expect_success();
        let listed = self.command(&["ls"]).expect_success();
        assert!(listed.contains("good.jpg"), "the good medium is not listed:\n{listed}");
        let volume = Volume::open(&self.place.store(), &[], OpenOptions::default()).unwrap();
        let ino = volume.resolve(b"good.jpg").unwrap();
        let file = volume.open_file(ino, OpenMode { read: true, ..OpenMode::default() }).unwrap();
        let mut bytes = [0; 100];
        let count = volume.read(&file, 0, &mut bytes).unwrap();
        assert_eq!(&bytes[..count], CONTENT);
        volume.close(file);
        volume
    }

    /// How many findings a check has.
    fn findings(&self) -> usize {
        self.command(&["check"]).stdout.lines().filter(|line| line.starts_with("blob ")).count()
    }

    /// What is in a directory.
    fn names(volume: &Volume, dir: Ino) -> Vec<String> {
        let entries = volume.readdir(dir, 0, 10_000, false).unwrap();
        entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect()
    }
}

fn medium(ino: u64, name: &[u8]) -> wamedia::format::attributes::Attributes {
    attributes(ino, FileKind::Regular, 1, name)
}

#[test]
fn numbers_beyond_the_bounds_are_damage_of_one_medium() {
    let bench = Bench::new();
    let mut bad = Vec::new();
    for number in [0, NUMBER_END, 1 << 62 | GOOD, u64::MAX - 1, u64::MAX] {
        let mut attrs = medium(number, b"ino");
        (attrs.seq, attrs.links[0].id) = (1000, 1000);
        bad.push(attrs);
        let mut attrs = medium(5, b"parent");
        attrs.links[0].parent = Ino(number);
        bad.push(attrs);
        if number > 0 {
            bad.push(medium(6, b"seq"));
            bad.last_mut().unwrap().seq = number;
        }
        bad.push(medium(7, b"link"));
        bad.last_mut().unwrap().links[0].id = number;
        let swap = Swap { ino: Ino(number), parent: Ino(1), id: 100, name: b"other".to_vec() };
        bad.push(medium(8, b"swap"));
        bad.last_mut().unwrap().links[0].swapped = Some(swap);
        let end = EndRef { offset: 80, len: 64, frame: 0, content_len: 7, allocated: 7 };
        if number > 0 {
            let ends = [
                EndRef { offset: number, ..end },
                EndRef { frame: number, ..end },
                EndRef { content_len: number, ..end },
                EndRef { allocated: number, ..end },
            ];
            for end in ends {
                bad.push(medium(9, b"end"));
                bad.last_mut().unwrap().end = Some(end);
            }
        }
    }
    // A link number as a directory shows it of itself: a listing would begin again at every page.
    for id in [1, 16] {
        bad.push(medium(10, b"low"));
        bad.last_mut().unwrap().links[0].id = id;
    }
    for len in [0, (4 << 20) + 1, u32::MAX] {
        bad.push(medium(11, b"len"));
        bad.last_mut().unwrap().end = Some(EndRef { offset: 80, len, frame: 0, content_len: 7, allocated: 7 });
    }
    for (blob, attrs) in (20..).zip(&bad) {
        let mut blob = bench.forge.blob(blob);
        blob.attributes(attrs);
        blob.put();
    }
    let volume = bench.survives();
    assert_eq!(Bench::names(&volume, Ino::ROOT), ["good.jpg"]);
    volume.shutdown().unwrap();
}

#[test]
fn a_volume_whose_numbers_are_used_up_is_refused() {
    for high in [NUMBER_LIMIT, NUMBER_END - 1] {
        let bench = Bench::new();
        let mut attrs = medium(5, b"seq");
        attrs.seq = high;
        bench.forge.inode(&attrs);
        let refused = Volume::open(&bench.place.store(), &[], OpenOptions::default()).err().unwrap();
        assert_eq!(refused.kind(), Kind::Invalid, "{refused}");
        assert!(bench.command(&["check"]).expect_failure().contains("numbers"));
    }
    // Files with such names are none of ours.
    let bench = Bench::new();
    for number in [NUMBER_LIMIT, u64::MAX] {
        let path = bench.forge.blob_path(number);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"something").unwrap();
    }
    fs::write(bench.place.store().join("blobs/0000000000fff"), b"no directory").unwrap();
    fs::create_dir(bench.place.store().join("blobs/1")).unwrap();
    bench.survives().shutdown().unwrap();
}

#[test]
fn names_that_are_none_are_damage_of_one_medium() {
    let bench = Bench::new();
    let names: [&[u8]; 9] = [b"", b".", b"..", b"/", b"a/b", b"/etc/passwd", b"a\0b", b"\0", &[b'x'; 256]];
    for (ino, name) in (20..).zip(names) {
        bench.forge.inode(&medium(ino, name));
    }
    let mut many = medium(50, b"many");
    many.links = (0..MAX_LINKS as u64 + 1)
        .map(|n| Link { parent: Ino(1), id: 5000 + n, name: format!("n{n}").into_bytes(), swapped: None })
        .collect();
    bench.forge.inode(&many);
    let mut twice = medium(51, b"twice");
    twice.links.push(Link { id: 77, ..twice.links[0].clone() });
    bench.forge.inode(&twice);
    many.ino = Ino(52);
    many.links.truncate(MAX_LINKS);
    bench.forge.inode(&many);
    let volume = bench.survives();
    let shown = Bench::names(&volume, Ino::ROOT);
    assert_eq!(shown.len(), 1 + MAX_LINKS, "{shown:?}");
    assert_eq!(shown.iter().filter(|name| name.starts_with('n')).count(), MAX_LINKS);
    volume.shutdown().unwrap();
}

#[test]
fn directories_that_lie_in_themselves_are_put_under_lost_and_found() {
    let bench = Bench::new();
    let dir = |ino, parent, name: &[u8]| bench.forge.inode(&attributes(ino, FileKind::Directory, parent, name));
    dir(20, 20, b"own-parent");
    dir(30, 31, b"first");
    dir(31, 30, b"second");
    for ino in 100..300 {
        dir(ino, if ino == 299 { 100 } else { ino + 1 }, b"round");
    }
    // A way that leads into a loop without being in it.
    dir(40, 30, b"below");
    bench.forge.medium(41, 40, b"in-a-loop.jpg", b"deep");
    // Two names would let a directory be looked up below itself.
    let mut both = attributes(60, FileKind::Directory, 1, b"both");
    both.links.push(Link { parent: Ino(60), id: 9999, name: b"itself".to_vec(), swapped: None });
    bench.forge.inode(&both);
    let volume = bench.survives();
    assert_eq!(Bench::names(&volume, Ino::ROOT), ["good.jpg", "lost+found"]);
    let mut met = 0;
    let mut next = vec![volume.resolve(b"lost+found").unwrap()];
    while let Some(dir) = next.pop() {
        met += 1;
        assert!(met < 1000, "the tree has no end");
        let entries = volume.readdir(dir, 0, 10_000, false).unwrap();
        next.extend(entries.iter().filter(|entry| entry.kind == FileKind::Directory).map(|entry| entry.ino));
    }
    assert_eq!(met, 1 + 1 + 2 + 200 + 1);
    let found =
        volume.resolve(b"lost+found/30_first/second").or_else(|_| volume.resolve(b"lost+found/31_second/first"));
    assert_eq!(found.unwrap_or_else(|e| panic!("{e}")).0 / 2, 15);
    volume.shutdown().unwrap();
    // The one that was refused is nobody's.
    assert_eq!(bench.findings(), 1);
}

#[test]
fn names_in_what_is_no_directory_are_put_under_lost_and_found() {
    let bench = Bench::new();
    bench.forge.medium(20, 21, b"in-a-file.jpg", b"x");
    bench.forge.medium(21, 1, b"file.jpg", b"y");
    bench.forge.medium(22, 23, b"in-a-link.jpg", b"z");
    bench.forge.inode(&attributes(23, FileKind::Symlink, 1, b"link"));
    // In itself, though it is a file; and beside a name that is well.
    let mut own = medium(24, b"well.jpg");
    own.links.push(Link { parent: Ino(24), id: 9998, name: b"in-itself".to_vec(), swapped: None });
    bench.forge.inode(&own);
    // The name of the place itself belongs to a file.
    bench.forge.medium(25, 1, b"lost+found", b"taken");
    // The root as a file, or with a name.
    for (blob, kind) in [(70, FileKind::Regular), (71, FileKind::Directory)] {
        let mut blob = bench.forge.blob(blob);
        blob.attributes(&attributes(1, kind, 20, b"root"));
        blob.put();
    }
    let volume = bench.survives();
    let mut shown = Bench::names(&volume, Ino::ROOT);
    shown.sort_unstable();
    assert_eq!(shown, ["file.jpg", "good.jpg", "link", "lost+found", "well.jpg"]);
    let lost = Bench::names(&volume, volume.resolve(b"lost+found").unwrap());
    assert_eq!(lost.len(), 3, "{lost:?}");
    assert!(lost.contains(&"25_lost+found".to_owned()), "{lost:?}");
    volume.shutdown().unwrap();
    assert_eq!(bench.findings(), 2);
}

#[test]
fn the_number_of_a_lost_directory_is_not_given_out_again() {
    let bench = Bench::new();
    // Two directories whose blobs are gone, with the numbers that come next.
    bench.forge.medium(20, GOOD + 1, b"one.jpg", b"x");
    bench.forge.medium(21, GOOD + 3, b"two.jpg", b"y");
    let volume = bench.survives();
    for (path, number) in [("lost+found/901", GOOD + 1), ("lost+found/903", GOOD + 3)] {
        assert_eq!(volume.resolve(path.as_bytes()).unwrap().0, number);
        assert_eq!(Bench::names(&volume, Ino(number)).len(), 1);
    }
    let node = wamedia::volume::NewNode { mode: 0o755, uid: 0, gid: 0 };
    let made: Vec<u64> =
        (0..4).map(|n| volume.mkdir(Ino::ROOT, format!("d{n}").as_bytes(), &node).unwrap().ino.0).collect();
    assert!(made.iter().all(|number| *number > GOOD + 3), "{made:?}");
    volume.shutdown().unwrap();
    bench.command(&["check"]).expect_success();
}

#[test]
fn inodes_that_claim_the_same_with_the_same_right_are_settled() {
    let bench = Bench::new();
    for ino in 20..30 {
        let mut attrs = medium(ino, b"one-name.jpg");
        (attrs.links[0].id, attrs.seq) = (500, 600);
        bench.forge.inode(&attrs);
    }
    // Two blobs of one inode with the same sequence number; and two that say by exchanges that each went to the other.
    for blob in [40, 41] {
        let mut attrs = medium(40, b"same.jpg");
        attrs.seq = 700;
        let mut blob = bench.forge.blob(blob);
        blob.attributes(&attrs);
        blob.put();
    }
    for (ino, other) in [(50, 51), (51, 50)] {
        let mut attrs = medium(ino, b"swapped.jpg");
        let swap = Swap { ino: Ino(other), parent: Ino(1), id: 800, name: b"swapped.jpg".to_vec() };
        (attrs.links[0].id, attrs.links[0].swapped) = (800, Some(swap));
        bench.forge.inode(&attrs);
    }
    let volume = bench.survives();
    let shown = Bench::names(&volume, Ino::ROOT);
    for name in ["one-name.jpg", "same.jpg", "swapped.jpg"] {
        assert_eq!(shown.iter().filter(|shown| *shown == name).count(), 1, "{shown:?}");
    }
    assert_eq!(Bench::names(&volume, volume.resolve(b"lost+found").unwrap()).len(), 10);
    volume.shutdown().unwrap();
    bench.command(&["check"]).expect_success();
}

#[test]
fn a_damaged_medium_that_lost_its_name_costs_itself_alone() {
    let bench = Bench::new();
    bench.forge.medium(20, 1, b"one-name.jpg", b"the later one");
    // It has to go to lost+found, which its blob shall tell; but where its content is said to be there is none.
    let mut loser = medium(19, b"one-name.jpg");
    loser.end = Some(EndRef { offset: 80, len: 64, frame: 0, content_len: 7, allocated: 7 });
    bench.forge.inode(&loser);
    let volume = bench.survives();
    let lost = volume.resolve(b"lost+found/19_one-name.jpg").unwrap();
    let refused = volume.open_file(lost, OpenMode { read: true, ..OpenMode::default() }).err().unwrap();
    assert_eq!(refused.kind(), Kind::Damaged, "{refused}");
    volume.shutdown().unwrap();
    bench.forge.forget_index();
    bench.survives().shutdown().unwrap();
}

#[test]
fn fields_that_do_not_go_with_the_kind_are_damage_of_one_inode() {
    let bench = Bench::new();
    for (ino, kind) in (20..).zip([FileKind::Directory, FileKind::Symlink, FileKind::Fifo]) {
        let mut attrs = attributes(ino, kind, 1, format!("end{ino}").as_bytes());
        let mut blob = bench.forge.blob(ino);
        attrs.end = Some(blob.content(b"a content"));
        blob.attributes(&attrs);
        blob.put();
    }
    let mut no_target = attributes(30, FileKind::Symlink, 1, b"no-target");
    no_target.target = None;
    bench.forge.inode(&no_target);
    let mut target = medium(31, b"target");
    target.target = Some(b"elsewhere".to_vec());
    bench.forge.inode(&target);
    let mut mode = medium(32, b"mode");
    mode.mode = 0o170_777;
    bench.forge.inode(&mode);
    let volume = bench.survives();
    assert_eq!(Bench::names(&volume, Ino::ROOT), ["good.jpg"]);
    volume.shutdown().unwrap();
}

#[test]
fn times_out_of_range_are_shown_and_do_not_stop_anything() {
    let bench = Bench::new();
    for (ino, secs) in (20..).zip([i64::MIN, i64::MIN + 1, -1, 1 << 40, i64::MAX - 1, i64::MAX]) {
        let at = Timestamp { secs, nanos: 999_999_999 };
        let mut attrs = medium(ino, format!("{ino}.jpg").as_bytes());
        [attrs.atime, attrs.mtime, attrs.ctime, attrs.btime, attrs.used] = [at; 5];
        bench.forge.inode(&attrs);
        (attrs.ino, attrs.seq, attrs.links[0].id) = (Ino(ino + 20), attrs.seq + 500, attrs.links[0].id + 500);
        attrs.links[0].name.insert(0, b'r');
        attrs.retention = Some(u64::MAX - 1);
        bench.forge.inode(&attrs);
        (attrs.ino, attrs.seq, attrs.links[0].id) = (Ino(ino + 40), attrs.seq + 500, attrs.links[0].id + 500);
        attrs.links[0].name.insert(0, b'h');
        attrs.held = Some(at);
        bench.forge.inode(&attrs);
    }
    let volume = bench.survives();
    volume.shutdown().unwrap();
    bench.command(&["check"]).expect_success();
    assert_eq!(bench.command(&["ls", "--json"]).json_lines().len(), 19);
}

/// A content of `runs` runs of promised room, each of `count` chunks.
fn promised(runs: u64, count: u64) -> Content {
    let mut map = ChunkMap::default();
    for n in 0..runs {
        map.set(2 * n * count, count, Some(ChunkPlace::Reserved));
    }
    Content { len: 1 << 46, digest: None, map }
}

#[test]
fn gigantic_lengths_cost_neither_time_nor_memory() {
    let bench = Bench::new();
    for ino in 20..420 {
        let mut blob = bench.forge.blob(ino);
        let mut attrs = medium(ino, format!("{ino}.bin").as_bytes());
        let content = if ino % 2 == 0 { promised(1, 1 << 30) } else { promised(1, 1) };
        attrs.end = Some(blob.end(&content.encode(), 1 << 46));
        blob.attributes(&attrs);
        blob.put();
    }
    // All blobs are in doubt, so contents are read.
    bench.forge.journal(1, 2, &[Record::Touched(Ino(20))]);
    let volume = bench.survives();
    let ino = volume.resolve(b"20.bin").unwrap();
    let file = volume.open_file(ino, OpenMode { read: true, ..OpenMode::default() }).unwrap();
    let mut bytes = [7; 4096];
    assert_eq!(volume.read(&file, (1 << 46) - 10, &mut bytes).unwrap(), 10);
    assert_eq!(bytes[..10], [0; 10]);
    volume.close(file);
    volume.shutdown().unwrap();
}

#[test]
fn a_blob_of_thousands_of_states_is_read_in_bounded_time() {
    let bench = Bench::new();
    let mut blob = bench.forge.blob(20);
    let mut attrs = medium(20, b"states.bin");
    // A data frame that is none, in as many runs as there can be; each state tells of the same content.
    let mut content = promised(100_000, 1);
    content.map.set(1, 1, Some(ChunkPlace::Stored { offset: 80, frame: 0 }));
    blob.frame(FrameKind::Data, 9, b"another chunk");
    attrs.end = Some(blob.end(&content.encode(), content.len));
    for _ in 0..40_000 {
        attrs.seq += 1;
        blob.attributes(&attrs);
    }
    blob.put();
    bench.forge.journal(1, 2, &[]);
    let volume = bench.survives();
    assert_eq!(Bench::names(&volume, Ino::ROOT), ["good.jpg"]);
    volume.shutdown().unwrap();
}

#[test]
fn a_blob_of_large_states_is_read_in_bounded_memory() {
    let bench = Bench::new();
    let mut blob = bench.forge.blob(20);
    let mut attrs = medium(20, b"attributes.bin");
    attrs.xattrs = (0..10_000u32).map(|n| (n.to_be_bytes()[1..].to_vec(), Vec::new())).collect();
    let payload = attrs.encode();
    for _ in 0..600 {
        blob.attributes_as(&payload);
    }
    // Without the last trailer all of it is walked through.
    blob.bytes.extend_from_slice(&[1; 100]);
    blob.put();
    let volume = bench.survives();
    assert_eq!(volume.list_xattr(volume.resolve(b"attributes.bin").unwrap()).unwrap().len(), 10_000);
    volume.shutdown().unwrap();
}

#[test]
fn a_policy_of_nonsense_lets_nothing_expire_and_is_told() {
    let rule = r#"{"selector":"default","keep":{"secs":1,"nanos":0}}"#;
    let whole = |rules: &str, rest: &str| {
        format!(
            r#"{{"max_bytes":null,"max_media":null,"reserves":[],"floor_bytes":0,"age_by":"written","retention":[{rules}]{rest}}}"#
        )
    };
    let deep = "[".repeat(100_000);
    for json in [
        String::new(),
        "null".into(),
        deep,
        whole("", ""),
        whole(&format!("{rule},{rule}"), ""),
        whole(
            &(0..300)
                .map(|n| format!(r#"{{"selector":{{"prefix":"{n}"}},"keep":null}}"#))
                .collect::<Vec<_>>()
                .join(","),
            "",
        ),
        whole(&rule.replace("1,", "18446744073709551615,").replace(":0", ":4000000000"), ""),
        whole(rule, r#","used_since":{"secs":1,"nanos":99999999999}"#),
    ] {
        let bench = Bench::new();
        bench.forge.policy(json.as_bytes());
        let volume = bench.survives();
        assert!(volume.expired(&[], 10).unwrap().is_empty(), "{json:.80}");
        volume.shutdown().unwrap();
    }
    // One that can be read, with the longest of all times.
    let bench = Bench::new();
    bench.forge.policy(whole(&rule.replace("1,", "18446744073709551615,"), "").as_bytes());
    bench.survives().shutdown().unwrap();
    let _same = policy(1);
}

#[test]
fn journals_that_name_anything_are_survived() {
    let bench = Bench::new();
    let numbers = [0, 1, 2, GOOD + 1, NUMBER_LIMIT - 2, NUMBER_END, u64::MAX - 1, u64::MAX];
    let mut records = Vec::new();
    for a in numbers {
        records.extend([Record::Touched(Ino(a)), Record::Dropped(BlobId(a))]);
        for b in numbers {
            records.extend([Record::Removed(Ino(a), BlobId(b)), Record::Superseded(Ino(a), Ino(b))]);
        }
    }
    bench.forge.journal(1, 2, &records);
    bench.forge.journal(1 << 40, NUMBER_END - 1, &records);
    bench.survives().shutdown().unwrap();
    bench.forge.forget_index();
    bench.forge.journal(u64::MAX, 2, &records);
    let refused = Volume::open(&bench.place.store(), &[], OpenOptions::default()).err().unwrap();
    assert_eq!(refused.kind(), Kind::Invalid, "{refused}");
}

/// Every file that a store has when it was open once.
const FILES: [&str; 12] = [
    "superblock",
    "policy",
    "policy.bak",
    "session",
    "lock",
    "ballast",
    "superblock.new",
    "superblock.bak.new",
    "policy.new",
    "session.new",
    "index/flushed",
    "index/session",
];

/// Puts something in the place of each file of a store, and opens that.
fn with_each_file(bench: &Bench, put: impl Fn(&Path)) {
    bench.survives().shutdown().unwrap();
    let store = bench.place.store();
    let journals = fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let journals: Vec<String> = journals.filter(|name| name.starts_with("journal.")).collect();
    let next = journals.iter().map(|name| u64::from_str_radix(&name[8..], 16).unwrap() + 1);
    let next: Vec<String> = next.map(|generation| format!("journal.{generation:016x}")).collect();
    let blob = bench.forge.blob_path(20).strip_prefix(&store).unwrap().to_str().unwrap().to_owned();
    let all =
        FILES.iter().map(|name| (*name).to_owned()).chain(journals).chain(next).chain([blob, "index/clean".into()]);
    for name in all {
        let path = store.join(&name);
        let old = fs::read(&path).ok();
        let _none = fs::remove_file(&path);
        put(&path);
        // Some are too much in doubt to go on, which is an error that names them.
        let outcome = bench.command(&["check"]);
        if !outcome.status.success() && outcome.status.code() != Some(5) {
            assert!(outcome.stderr.contains(&name), "{name}: {}", outcome.stderr);
            fs::remove_file(&path).unwrap();
            if let Some(old) = old {
                fs::write(&path, old).unwrap();
            }
        }
        let _gone_or_replaced = fs::remove_file(bench.forge.blob_path(20));
        bench.survives().shutdown().unwrap();
    }
}

#[test]
fn a_link_in_the_place_of_a_file_of_the_store_is_not_followed() {
    let bench = Bench::new();
    let victim = bench.place.path("victim");
    fs::write(&victim, b"not ours").unwrap();
    let nowhere = bench.place.path("nowhere");
    for target in [&victim, &nowhere] {
        with_each_file(&bench, |path| std::os::unix::fs::symlink(target, path).unwrap());
        assert_eq!(fs::read(&victim).unwrap(), b"not ours");
        assert!(!nowhere.exists());
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_of_the_store_keeps_nobody_waiting() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let bench = Bench::new();
    with_each_file(&bench, |path| mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap());
}

#[test]
fn a_huge_file_without_bytes_costs_no_memory() {
    let bench = Bench::new();
    with_each_file(&bench, |path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap());
}

/// What a mount shows of a hostile volume, read as programs do.
fn walk(root: &Path) -> Vec<PathBuf> {
    let mut met = Vec::new();
    for entry in walkdir::WalkDir::new(root).follow_links(true) {
        assert!(met.len() < 20_000, "the tree has no end");
        // A loop of symbolic links is an error of its own.
        let Ok(entry) = entry else { continue };
        let _attributes = support::xattr::list(entry.path());
        met.push(entry.path().to_owned());
    }
    met
}

#[test]
fn a_hostile_volume_is_mounted_walked_and_unmounted() {
    if !support::machine::can_mount("a_hostile_volume_is_mounted_walked_and_unmounted") {
        return;
    }
    let place = Place::with_volume(&["--retention", "1s"]);
    let source = wamedia::crypto::KeySource::key_file(&place.key()).unwrap();
    let forge = Forge::of(&place.store(), &[source]);
    forge.medium(GOOD, 1, b"good.jpg", CONTENT);
    for ino in 20..40 {
        forge.inode(&attributes(ino, FileKind::Directory, if ino == 39 { 20 } else { ino + 1 }, b"round"));
        forge.medium(ino + 100, ino, format!("{ino}.jpg").as_bytes(), b"in a loop");
    }
    for ino in 200..204 {
        let mut link = attributes(ino, FileKind::Symlink, 1, format!("link{ino}").as_bytes());
        link.target = Some(format!("link{}", 200 + (ino + 1) % 4).into_bytes());
        forge.inode(&link);
    }
    let mut outside = attributes(210, FileKind::Symlink, 1, b"long");
    outside.target = Some(vec![b'x'; 4095]);
    forge.inode(&outside);
    for ino in 3000..4000 {
        let mut low = medium(ino, format!("low{ino}.jpg").as_bytes());
        low.links[0].id = ino % 17;
        forge.inode(&low);
    }
    let mut blob = forge.blob(2000);
    let mut huge = medium(2000, b"huge.bin");
    huge.end = Some(blob.end(&promised(1, 1 << 30).encode(), 1 << 46));
    blob.attributes(&huge);
    blob.put();
    let mut xattrs = medium(2001, b"xattrs.bin");
    xattrs.xattrs = (0..5000u32).map(|n| (format!("user.{n:0200}").into_bytes(), Vec::new())).collect();
    xattrs.xattrs.insert(b"user.a\0user.b".to_vec(), vec![0; 65536]);
    xattrs.xattrs.insert(b"no namespace".to_vec(), b"x".to_vec());
    forge.inode(&xattrs);
    for (ino, secs) in [(2002, i64::MIN), (2003, i64::MAX)] {
        let at = Timestamp { secs, nanos: 0 };
        let mut attrs = medium(ino, format!("time{ino}.jpg").as_bytes());
        [attrs.atime, attrs.mtime, attrs.ctime, attrs.btime, attrs.used] = [at; 5];
        forge.inode(&attrs);
    }

    let mounted = support::mounted::Mounted::start_with(&place, &["-o", "allow_other"]);
    let met = walk(mounted.root());
    assert_eq!(fs::read(mounted.path("good.jpg")).unwrap(), CONTENT);
    let round = met.iter().filter(|path| path.as_os_str().as_bytes().ends_with(b"/round")).count();
    assert_eq!(round, 19, "one of the twenty is in lost+found");
    let expired = mounted.path(".expired");
    assert!(fs::read_dir(&expired).unwrap().count() >= 20);
    // Another user's view of it asks the way to the root for each.
    let mut other = Command::new("setpriv");
    other.args(["--reuid=65534", "--regid=65534", "--clear-groups", "ls", "-la"]).arg(&expired);
    run(other).expect_success();
    let mut tail = [0; 16];
    let file = fs::File::open(mounted.path("huge.bin")).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut tail, (1 << 46) - 16).unwrap();
    drop(file);
    fs::rename(mounted.path("lost+found"), mounted.path("lost")).unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", mounted.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap();
    assert!(peak < 400_000, "the daemon took {peak} kB");
    let said = mounted.log();
    assert!(!said.contains("panicked"), "{said}");
    mounted.unmount();
    let _text = text(&place.store());
}

#[test]
fn the_digest_of_a_file_of_holes_keeps_no_unmount_waiting() {
    if !support::machine::can_mount("the_digest_of_a_file_of_holes_keeps_no_unmount_waiting") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = support::mounted::Mounted::start(&place);
    fs::File::create(mounted.path("holes")).unwrap().set_len(1 << 45).unwrap();
    // When nothing is asked of the volume for a while, it looks for digests.
    std::thread::sleep(std::time::Duration::from_secs(2));
    mounted.unmount();
}
