//! The volume without a mount: what is written is read again, also after a clean and an unclean end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wamedia::clock::ManualClock;
use wamedia::crypto::{KeySource, make_key_file};
use wamedia::error::Kind;
use wamedia::ids::Ino;
use wamedia::volume::{
    FileKind, InitOptions, NewNode, OpenMode, OpenOptions, Policy, RenameMode, RetentionRule, Selector, SetAttr,
    Volume, XattrMode,
};

const RW: OpenMode = OpenMode { read: true, write: true, append: false, truncate: false };
const NODE: NewNode = NewNode { mode: 0o644, uid: 1, gid: 2 };

struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Bench {
    fn new(policy: Policy) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        make_key_file(&dir.path().join("key")).unwrap();
        let bench = Bench { dir, clock: Arc::new(ManualClock::new(1_700_000_000)) };
        let options = InitOptions { encrypted: true, policy, root_uid: 0, root_gid: 0, root_mode: 0o755 };
        Volume::init(&bench.store(), Some(&bench.key()), &options).unwrap();
        bench
    }

    fn store(&self) -> std::path::PathBuf {
        self.dir.path().join("store")
    }

    fn key(&self) -> KeySource {
        KeySource::key_file(&self.dir.path().join("key")).unwrap()
    }

    fn open(&self) -> Arc<Volume> {
        let clock = Arc::clone(&self.clock) as Arc<dyn wamedia::clock::Clock>;
        Volume::open(&self.store(), &[self.key()], OpenOptions { clock, ..OpenOptions::default() }).unwrap()
    }

    /// The store as a killed process would have left it.
    fn image(&self) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        copy(self.dir.path(), dir.path());
        Bench { dir, clock: Arc::clone(&self.clock) }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 32) as u8
        })
        .collect()
}

fn put(volume: &Volume, parent: Ino, name: &str, content: &[u8]) -> Ino {
    let (attr, file) = volume.create(parent, name.as_bytes(), &NODE, RW).unwrap();
    for (nth, part) in content.chunks(100_000).enumerate() {
        volume.write(&file, nth as u64 * 100_000, part, false).unwrap();
    }
    volume.close(file);
    attr.ino
}

fn get(volume: &Volume, ino: Ino) -> Vec<u8> {
    let file = volume.open_medium(ino).unwrap();
    let size = volume.getattr(ino).unwrap().size as usize;
    let mut out = vec![0; size + 10];
    let got = volume.read(&file, 0, &mut out).unwrap();
    volume.close(file);
    assert_eq!(got, size);
    out.truncate(got);
    out
}

fn check_clean(volume: &Volume) {
    let report = volume.check(true, &mut |_, _| {}).unwrap();
    assert_eq!(report.findings, []);
}

#[test]
fn what_is_written_is_read_again_after_each_kind_of_end() {
    let bench = Bench::new(Policy::default());
    let sizes = [0, 1, 1000, 65535, 65536, 65537, 1_000_000, 5_000_003];
    let volume = bench.open();
    let dir = volume.mkdir(Ino::ROOT, b"d", &NODE).unwrap().ino;
    for (nth, size) in sizes.iter().enumerate() {
        put(&volume, dir, &format!("f{nth}"), &bytes(*size, nth as u64));
    }
    let all = |volume: &Volume| {
        let dir = volume.lookup(Ino::ROOT, b"d").unwrap().ino;
        for (nth, size) in sizes.iter().enumerate() {
            let ino = volume.lookup(dir, format!("f{nth}").as_bytes()).unwrap().ino;
            assert_eq!(get(volume, ino), bytes(*size, nth as u64), "size {size}");
        }
        assert_eq!(volume.readdir(dir, 0, 100, false).unwrap().len(), sizes.len());
        assert_eq!(volume.status().unwrap().used_bytes, sizes.iter().sum::<usize>() as u64);
        check_clean(volume);
    };
    all(&volume);
    let killed = bench.image();
    all(&killed.open());
    volume.shutdown().unwrap();
    drop(volume);
    let volume = bench.open();
    all(&volume);
    volume.shutdown().unwrap();
    drop(volume);
    std::fs::remove_dir_all(bench.store().join("index")).unwrap();
    all(&bench.open());
}

#[test]
fn overwriting_appending_and_cutting_leave_what_posix_says() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    let mut model = bytes(300_000, 1);
    let ino = put(&volume, Ino::ROOT, "f", &model);
    let file = volume.open_file(ino, RW).unwrap();
    for (offset, len, seed) in
        [(10usize, 5usize, 2u64), (65_530, 20, 3), (299_999, 70_000, 4), (500_000, 10, 5), (131_072, 65_536, 6)]
    {
        let part = bytes(len, seed);
        volume.write(&file, offset as u64, &part, false).unwrap();
        if model.len() < offset + len {
            model.resize(offset + len, 0);
        }
        model[offset..offset + len].copy_from_slice(&part);
        if seed % 2 == 0 {
            volume.fsync(&file, false).unwrap();
        }
    }
    for len in [400_000usize, 65_537, 65_537 + 200_000, 100] {
        volume.setattr(ino, &SetAttr { size: Some(len as u64), ..SetAttr::default() }).unwrap();
        model.resize(len, 0);
        assert_eq!(get(&volume, ino), model);
    }
    volume.close(file);
    assert_eq!(get(&volume, ino), model);
    check_clean(&volume);
    let image = bench.image();
    let again = image.open();
    assert_eq!(get(&again, again.lookup(Ino::ROOT, b"f").unwrap().ino), model);
    check_clean(&again);
}

#[test]
fn a_removed_medium_stays_removed_after_a_kill() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    put(&volume, Ino::ROOT, "gone", &bytes(100, 1));
    put(&volume, Ino::ROOT, "kept", &bytes(100, 2));
    volume.sync_all().unwrap();
    volume.unlink(Ino::ROOT, b"gone").unwrap();
    let image = bench.image();
    let again = image.open();
    assert_eq!(again.lookup(Ino::ROOT, b"gone").unwrap_err().kind(), Kind::NotFound);
    assert!(again.lookup(Ino::ROOT, b"kept").is_ok());
    assert_eq!(again.status().unwrap().used_bytes, 100);
    check_clean(&again);
}

#[test]
fn renames_survive_a_kill_and_the_loss_of_the_index() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    let dir = volume.mkdir(Ino::ROOT, b"d", &NODE).unwrap().ino;
    let a = put(&volume, Ino::ROOT, "a", b"aaa");
    put(&volume, dir, "b", b"bbb");
    let c = put(&volume, Ino::ROOT, "c", b"ccc");
    let d = put(&volume, Ino::ROOT, "e", b"eee");
    volume.rename(Ino::ROOT, b"a", dir, b"b", RenameMode::Replace).unwrap();
    volume.rename(Ino::ROOT, b"c", Ino::ROOT, b"e", RenameMode::Exchange).unwrap();
    volume.link(a, Ino::ROOT, b"again").unwrap();
    let look = |volume: &Volume| {
        let dir = volume.lookup(Ino::ROOT, b"d").unwrap().ino;
        assert_eq!(volume.lookup(dir, b"b").unwrap().ino, a);
        assert_eq!(volume.lookup(Ino::ROOT, b"again").unwrap().nlink, 2);
        assert_eq!(volume.lookup(Ino::ROOT, b"e").unwrap().ino, c);
        assert_eq!(volume.lookup(Ino::ROOT, b"c").unwrap().ino, d);
        assert!(volume.lookup(Ino::ROOT, b"a").is_err());
        assert_eq!(volume.status().unwrap().used_bytes, 9);
        assert_eq!(volume.getattr(Ino::ROOT).unwrap().nlink, 3);
        check_clean(volume);
    };
    look(&volume);
    let image = bench.image();
    look(&image.open());
    volume.shutdown().unwrap();
    drop(volume);
    std::fs::remove_dir_all(bench.store().join("index")).unwrap();
    look(&bench.open());
}

#[test]
fn the_quota_refuses_and_keeps_what_was_acknowledged() {
    let bench = Bench::new(Policy { max_bytes: Some(200_000), ..Policy::default() });
    let volume = bench.open();
    let kept = put(&volume, Ino::ROOT, "kept", &bytes(150_000, 1));
    let (attr, file) = volume.create(Ino::ROOT, b"big", &NODE, RW).unwrap();
    volume.write(&file, 0, &bytes(40_000, 2), false).unwrap();
    let refused = volume.write(&file, 40_000, &bytes(40_000, 3), false).unwrap_err();
    assert_eq!(refused.kind(), Kind::NoSpace);
    volume.close(file);
    assert_eq!(get(&volume, attr.ino), bytes(40_000, 2));
    assert_eq!(get(&volume, kept), bytes(150_000, 1));
    volume.unlink(Ino::ROOT, b"kept").unwrap();
    assert_eq!(volume.status().unwrap().used_bytes, 40_000);
    put(&volume, Ino::ROOT, "fits", &bytes(160_000, 4));
}

#[test]
fn expired_media_are_shown_and_removed_unless_held_young_or_open() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    for name in ["old", "held", "open", "463eb7ec-ff4e-4d9b-b110-1879cbd411b2"] {
        put(&volume, Ino::ROOT, name, name.as_bytes());
    }
    let held = volume.lookup(Ino::ROOT, b"held").unwrap().ino;
    volume.set_xattr(held, b"user.wamedia.hold", b"1", XattrMode::Any).unwrap();
    let open = volume.lookup(Ino::ROOT, b"open").unwrap().ino;
    let writing = volume.open_file(open, RW).unwrap();
    assert!(volume.expired(&[], 100).unwrap().is_empty());
    bench.clock.advance(31 * 86_400);
    put(&volume, Ino::ROOT, "young", b"young");
    let expired = volume.expired(&[], 100).unwrap();
    let names: Vec<String> = expired.iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].ends_with("_old"), "{names:?}");
    assert_eq!(names[1], "463eb7ec-ff4e-4d9b-b110-1879cbd411b2.txt");
    for ino in [held, open, volume.lookup(Ino::ROOT, b"young").unwrap().ino] {
        assert_eq!(volume.remove_expired(ino).unwrap_err().kind(), Kind::NotExpired);
    }
    for entry in &expired {
        assert_eq!(volume.expired_by_name(&entry.name).unwrap().ino, entry.ino);
        volume.remove_expired(entry.ino).unwrap();
    }
    volume.close(writing);
    assert_eq!(volume.status().unwrap().media, 3);
    assert_eq!(volume.status().unwrap().expired, 1);
    assert_eq!(volume.medium(open, true).unwrap().kind, "document");
    assert_eq!(volume.getattr(open).unwrap().kind, FileKind::Regular);
}

#[test]
fn a_write_that_fails_for_a_damaged_chunk_changes_nothing() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    let ino = put(&volume, Ino::ROOT, "f", &bytes(200_000, 1));
    volume.shutdown().unwrap();
    drop(volume);
    let path = bench.store().join("blobs/0000000000000").join(format!("{:016x}", ino.0));
    let mut blob = std::fs::read(&path).unwrap();
    blob[80 + 65_600 + 1000] ^= 1;
    std::fs::write(&path, blob).unwrap();
    let starts = |volume: &Volume| {
        let file = volume.open_medium(ino).unwrap();
        let mut out = vec![0; 65_536];
        assert_eq!(volume.read(&file, 0, &mut out).unwrap(), 65_536);
        volume.close(file);
        assert!(out == bytes(200_000, 1)[..65_536]);
    };
    let volume = bench.open();
    let file = volume.open_file(ino, RW).unwrap();
    let refused = volume.write(&file, 0, &bytes(70_000, 2), false).unwrap_err();
    assert_eq!(refused.kind(), Kind::Damaged);
    starts(&volume);
    // A part of what was not read must not become the whole of it.
    volume.write(&file, 10, &bytes(200_000, 1)[10..20], false).unwrap();
    volume.fsync(&file, false).unwrap();
    starts(&volume);
    volume.close(file);
    assert_eq!(volume.status().unwrap().used_bytes, 200_000);
    volume.shutdown().unwrap();
    drop(volume);
    starts(&bench.open());
}

#[test]
fn names_given_to_a_file_that_is_being_written_survive_a_kill() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    let ino = put(&volume, Ino::ROOT, "f", b"old");
    let file = volume.open_file(ino, RW).unwrap();
    volume.write(&file, 0, b"half of the new", false).unwrap();
    volume.link(ino, Ino::ROOT, b"g").unwrap();
    volume.link(ino, Ino::ROOT, b"gone").unwrap();
    volume.unlink(Ino::ROOT, b"gone").unwrap();
    volume.rename(Ino::ROOT, b"f", Ino::ROOT, b"h", RenameMode::Replace).unwrap();
    let other = put(&volume, Ino::ROOT, "f", b"another");
    let image = bench.image();
    let killed = image.open();
    for (name, wanted, content) in [("g", ino, &b"old"[..]), ("h", ino, b"old"), ("f", other, b"another")] {
        assert_eq!(killed.lookup(Ino::ROOT, name.as_bytes()).unwrap().ino, wanted, "{name}");
        assert_eq!(get(&killed, wanted), content, "{name}");
    }
    assert_eq!(killed.readdir(Ino::ROOT, 0, 100, false).unwrap().len(), 3);
    check_clean(&killed);
    volume.close(file);
}

#[test]
fn attributes_changed_while_a_file_was_open_survive_a_kill_after_its_close() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    let ino = put(&volume, Ino::ROOT, "f", b"old");
    let file = volume.open_file(ino, RW).unwrap();
    volume.setattr(ino, &SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
    volume.close(file);
    let image = bench.image();
    assert_eq!(image.open().getattr(ino).unwrap().mode, 0o600);
}

#[test]
fn a_refused_rename_publishes_nothing() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    put(&volume, Ino::ROOT, "f", b"old");
    put(&volume, Ino::ROOT, "taken", b"other");
    let (_, file) = volume.create(Ino::ROOT, b"new", &NODE, RW).unwrap();
    volume.write(&file, 0, b"half of", false).unwrap();
    volume.rename(Ino::ROOT, b"new", Ino::ROOT, b"f", RenameMode::Replace).unwrap();
    let refused = volume.rename(Ino::ROOT, b"f", Ino::ROOT, b"taken", RenameMode::NoReplace).unwrap_err();
    assert_eq!(refused.kind(), Kind::Exists);
    // Nor does one that changes nothing, since both names are of one file.
    let ino = volume.lookup(Ino::ROOT, b"f").unwrap().ino;
    volume.link(ino, Ino::ROOT, b"again").unwrap();
    volume.rename(Ino::ROOT, b"f", Ino::ROOT, b"again", RenameMode::Exchange).unwrap();
    let image = bench.image();
    let killed = image.open();
    assert_eq!(get(&killed, killed.lookup(Ino::ROOT, b"f").unwrap().ino), b"old");
    volume.close(file);
}

#[test]
fn a_name_that_was_taken_over_and_then_removed_stays_removed() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    put(&volume, Ino::ROOT, "f", b"old");
    let (attr, file) = volume.create(Ino::ROOT, b"new", &NODE, RW).unwrap();
    volume.write(&file, 0, b"half of", false).unwrap();
    volume.rename(Ino::ROOT, b"new", Ino::ROOT, b"f", RenameMode::Replace).unwrap();
    volume.link(attr.ino, Ino::ROOT, b"again").unwrap();
    volume.unlink(Ino::ROOT, b"f").unwrap();
    let image = bench.image();
    let killed = image.open();
    assert_eq!(killed.lookup(Ino::ROOT, b"f").unwrap_err().kind(), Kind::NotFound);
    check_clean(&killed);
    volume.close(file);
}

#[test]
fn a_medium_that_was_replaced_stays_gone_when_the_next_has_lost_its_name_too() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    put(&volume, Ino::ROOT, "f", b"first");
    let second = put(&volume, Ino::ROOT, "second", b"second");
    put(&volume, Ino::ROOT, "third", b"third");
    volume.rename(Ino::ROOT, b"second", Ino::ROOT, b"f", RenameMode::Replace).unwrap();
    volume.link(second, Ino::ROOT, b"again").unwrap();
    volume.rename(Ino::ROOT, b"third", Ino::ROOT, b"f", RenameMode::Replace).unwrap();
    volume.rename(Ino::ROOT, b"f", Ino::ROOT, b"elsewhere", RenameMode::Replace).unwrap();
    let image = bench.image();
    let killed = image.open();
    assert_eq!(killed.lookup(Ino::ROOT, b"f").unwrap_err().kind(), Kind::NotFound);
    assert_eq!(killed.readdir(Ino::ROOT, 0, 100, false).unwrap().len(), 2);
    check_clean(&killed);
}

#[test]
fn a_directory_stays_removed_after_a_kill_whatever_had_its_name_or_lay_in_it() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    let mut above = Ino::ROOT;
    for depth in 0..5 {
        above = volume.mkdir(above, b"d", &NODE).unwrap().ino;
        put(&volume, above, "f", &[depth]);
    }
    volume.shutdown().unwrap();
    drop(volume);
    let volume = bench.open();
    // From the innermost to the outermost.
    for depth in (0..5).rev() {
        let dir = volume.resolve("d/".repeat(depth + 1).as_bytes()).unwrap();
        volume.unlink(dir, b"f").unwrap();
        volume.rmdir(volume.parent_of(dir).unwrap(), b"d").unwrap();
    }
    // A name that a directory had, then a file with two states, of which the newer has another one.
    volume.mkdir(Ino::ROOT, b"n", &NODE).unwrap();
    volume.rmdir(Ino::ROOT, b"n").unwrap();
    let ino = put(&volume, Ino::ROOT, "n", b"old");
    let file = volume.open_file(ino, OpenMode { truncate: true, ..RW }).unwrap();
    volume.write(&file, 0, b"new", false).unwrap();
    volume.close(file);
    volume.rename(Ino::ROOT, b"n", Ino::ROOT, b"m", RenameMode::Replace).unwrap();
    for without_index in [false, true] {
        let image = bench.image();
        if without_index {
            std::fs::remove_dir_all(image.store().join("index")).unwrap();
        }
        let killed = image.open();
        assert_eq!(killed.status().unwrap().recovery, Vec::<String>::new());
        assert_eq!(killed.getattr(Ino::ROOT).unwrap().nlink, 2);
        assert_eq!(killed.status().unwrap().media, 1);
        assert_eq!(get(&killed, killed.lookup(Ino::ROOT, b"m").unwrap().ino), b"new");
        check_clean(&killed);
    }
}

#[test]
fn media_are_sorted_under_the_policy_in_force_whenever_the_end_comes() {
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    let rule = |selector, keep| RetentionRule { selector, keep };
    let plain = Policy { retention: vec![rule(Selector::Default, days(30))], ..Policy::default() };
    let by_prefix = vec![rule(Selector::Default, days(10)), rule(Selector::Prefix("a".into()), None)];
    let bench = Bench::new(plain.clone());
    let volume = bench.open();
    let dir = volume.mkdir(Ino::ROOT, b"a", &NODE).unwrap().ino;
    let ino = put(&volume, dir, "f", b"x");
    bench.clock.advance(40 * 86_400);
    volume.set_policy(Policy { retention: by_prefix, ..plain.clone() }).unwrap();
    let first = bench.image();
    let volume = first.open();
    assert_eq!(volume.expired(&[], 10).unwrap().len(), 0);
    volume.set_policy(plain).unwrap();
    let second = first.image();
    let volume = second.open();
    assert_eq!(volume.status().unwrap().expired, 1);
    assert_eq!(volume.expired(&[], 10).unwrap()[0].ino, ino);
}

#[test]
fn attributes_of_our_own_are_created_and_replaced_as_asked() {
    let bench = Bench::new(Policy::default());
    let volume = bench.open();
    let ino = put(&volume, Ino::ROOT, "f", b"x");
    let ours: [(&[u8], &[u8]); 3] =
        [(b"user.wamedia.hold", b"1"), (b"user.wamedia.retention", b"7d"), (b"user.mime_type", b"model/x")];
    for (name, value) in ours {
        let set = |mode| volume.set_xattr(ino, name, value, mode).map_err(|e| e.kind());
        assert_eq!(set(XattrMode::Replace), Err(Kind::NoAttribute));
        assert_eq!(set(XattrMode::Create), Ok(()));
        assert_eq!(set(XattrMode::Create), Err(Kind::Exists));
        assert_eq!(set(XattrMode::Replace), Ok(()));
    }
    // Of a directory it is an attribute like any other.
    let dir = volume.mkdir(Ino::ROOT, b"d", &NODE).unwrap().ino;
    volume.set_xattr(dir, b"user.mime_type", b"anything", XattrMode::Any).unwrap();
    assert_eq!(volume.get_xattr(dir, b"user.mime_type").unwrap(), b"anything");
}
