//! Damage beside the blobs: superblock and key slots, policy, journal, session note, index.

use std::fs;
use std::path::Path;

use wamedia::error::Kind;
use wamedia::ids::Ino;
use wamedia::volume::Volume;

use super::bench::{Bench, Files, GONE, bytes, expect_clean, get, put};

/// A named way to damage a file; nothing is left of the file when it gives none.
type Damage = (&'static str, fn(&[u8]) -> Option<Vec<u8>>);

/// A name for what stands in the place of the index, and how it is made.
type Stand = (&'static str, fn(&Path));

/// In each kind that a file can be damaged in.
const DAMAGES: [Damage; 6] = [
    ("deleted", |_| None),
    ("emptied", |_| Some(Vec::new())),
    ("cut in half", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
    ("zeroed", |bytes| Some(vec![0; bytes.len()])),
    ("other bytes", |was| Some(bytes(was.len(), 77))),
    ("longer", |was| Some([was, &bytes(1000, 78)].concat())),
];

fn apply(bench: &Bench, file: &Path, damage: Damage) {
    let path = bench.store().join(file);
    let was = fs::read(&path).unwrap();
    match damage.1(&was) {
        Some(changed) => fs::write(&path, changed).unwrap(),
        None => fs::remove_file(&path).unwrap(),
    }
}

/// A volume of two media, shut down, with its files.
fn scene() -> (Bench, Files) {
    let bench = Bench::new(true);
    bench.with(|volume| {
        put(volume, Ino::ROOT, "one", &bytes(100_000, 1));
        put(volume, Ino::ROOT, "two", &bytes(300, 2));
    });
    let files = bench.take();
    (bench, files)
}

fn expect_media(volume: &Volume, what: &str) {
    for (name, content) in [("one", bytes(100_000, 1)), ("two", bytes(300, 2))] {
        let ino = volume.lookup(Ino::ROOT, name.as_bytes()).unwrap_or_else(|e| panic!("{what}: {name}: {e}")).ino;
        assert!(get(volume, ino).unwrap() == content, "{what}: {name}");
    }
}

#[test]
fn one_copy_of_the_superblock_suffices_and_mends_the_other() {
    let (bench, files) = scene();
    for copy in ["superblock", "superblock.bak"] {
        for damage in DAMAGES {
            bench.put_back(&files);
            apply(&bench, Path::new(copy), damage);
            bench.with(|volume| expect_media(volume, damage.0));
            assert_eq!(fs::read(bench.store().join(copy)).unwrap(), files[Path::new(copy)], "{copy} {}", damage.0);
        }
    }
}

#[test]
fn a_damaged_key_slot_in_one_copy_costs_nothing() {
    let (bench, files) = scene();
    for copy in ["superblock", "superblock.bak"] {
        for at in [256, 256 + 16, 256 + 80, 256 + 110] {
            bench.put_back(&files);
            let path = bench.store().join(copy);
            let mut bytes = fs::read(&path).unwrap();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            bench.with(|volume| expect_media(volume, copy));
            assert_eq!(fs::read(&path).unwrap(), files[Path::new(copy)]);
        }
    }
}

#[test]
fn with_both_superblocks_damaged_the_error_is_clear_and_nothing_is_touched() {
    let (bench, files) = scene();
    for damage in DAMAGES.into_iter().skip(1) {
        bench.put_back(&files);
        apply(&bench, Path::new("superblock"), damage);
        apply(&bench, Path::new("superblock.bak"), damage);
        let before = bench.take();
        let error = bench.try_open().err().expect("it does not open");
        assert_eq!(error.kind(), Kind::Damaged, "{}: {error}", damage.0);
        assert!(error.to_string().contains("superblock"), "{}: {error}", damage.0);
        assert_eq!(bench.take(), before, "{}", damage.0);
    }
    // One copy from a backup is enough.
    fs::write(bench.store().join("superblock.bak"), &files[Path::new("superblock")]).unwrap();
    bench.with(|volume| expect_media(volume, "a copy from a backup"));
}

#[test]
fn the_superblock_of_another_volume_with_the_same_key_opens_nothing() {
    let (bench, files) = scene();
    let (other, _) = scene();
    for copy in ["superblock", "superblock.bak"] {
        fs::copy(other.store().join(copy), bench.store().join(copy)).unwrap();
    }
    assert_eq!(bench.try_open().err().expect("it does not open").kind(), Kind::WrongKey);
    bench.put_back(&files);
    bench.with(|volume| expect_media(volume, "put back"));
}

#[test]
fn one_copy_of_the_policy_suffices_and_mends_the_other() {
    let (bench, files) = scene();
    for copy in ["policy", "policy.bak"] {
        for damage in DAMAGES {
            bench.put_back(&files);
            apply(&bench, Path::new(copy), damage);
            bench.with(|volume| {
                expect_media(volume, damage.0);
                assert_eq!(volume.policy().max_bytes, Some(1 << 30), "{copy} {}", damage.0);
            });
            let (one, two) = (fs::read(bench.store().join("policy")), fs::read(bench.store().join("policy.bak")));
            assert_eq!(one.unwrap(), two.unwrap(), "{copy} {}", damage.0);
            assert_eq!(bench.with(|volume| volume.status().unwrap().recovery), [""; 0], "{copy} {}", damage.0);
        }
    }
}

#[test]
fn with_both_policies_damaged_media_are_read_and_none_expires() {
    let (bench, files) = scene();
    for damage in DAMAGES {
        bench.put_back(&files);
        apply(&bench, Path::new("policy"), damage);
        apply(&bench, Path::new("policy.bak"), damage);
        bench.with(|volume| {
            expect_media(volume, damage.0);
            assert!(volume.policy().retention.iter().all(|rule| rule.keep.is_none()), "{}", damage.0);
            let said = volume.status().unwrap().recovery;
            assert!(said.iter().any(|note| note.contains("policy")), "{}: {said:?}", damage.0);
        });
    }
}

#[test]
fn a_damaged_session_note_costs_nothing() {
    let (bench, files) = scene();
    for damage in DAMAGES {
        bench.put_back(&files);
        apply(&bench, Path::new("session"), damage);
        bench.with(|volume| {
            expect_media(volume, damage.0);
            expect_clean(volume);
        });
    }
}

/// A volume that was killed with media that its index does not know, and a removal that only its journal knows.
fn killed() -> (Bench, Files) {
    let bench = Bench::new(true);
    bench.with(|volume| put(volume, Ino::ROOT, "one", &bytes(100_000, 1)));
    let volume = bench.open();
    put(&volume, Ino::ROOT, "two", &bytes(300, 2));
    put(&volume, Ino::ROOT, "gone", GONE);
    volume.sync_all().unwrap();
    volume.unlink(Ino::ROOT, b"gone").unwrap();
    let image = bench.image();
    let files = image.take();
    (image, files)
}

fn journal_of(files: &Files) -> &Path {
    let is_journal = |path: &&std::path::PathBuf| path.to_string_lossy().starts_with("journal.");
    files.keys().rfind(is_journal).unwrap()
}

#[test]
fn a_damaged_journal_hides_no_medium_that_the_index_does_not_know() {
    let (bench, files) = killed();
    let journal = journal_of(&files);
    let header = 56;
    assert!(files[journal].len() > header);
    for at in 0..files[journal].len() {
        for is_same_session in [true, false] {
            bench.put_back(&files);
            if is_same_session {
                bench.note_session();
            }
            let mut bytes = files[journal].clone();
            bytes[at] ^= 1;
            fs::write(bench.store().join(journal), bytes).unwrap();
            bench.with(|volume| {
                expect_media(volume, &format!("byte {at}"));
                expect_clean(volume);
                // Behind a damaged header the records still hold.
                let is_gone = volume.lookup(Ino::ROOT, b"gone").is_err();
                let said = volume.status().unwrap().recovery;
                assert!(is_gone || at >= header, "byte {at}: what was removed is back");
                assert!(
                    is_gone || !is_same_session || said.iter().any(|note| note.contains("may be back")),
                    "{said:?}"
                );
            });
        }
    }
}

#[test]
fn a_journal_damaged_in_each_kind_costs_no_medium() {
    let (bench, files) = killed();
    for damage in DAMAGES {
        bench.put_back(&files);
        bench.note_session();
        apply(&bench, journal_of(&files), damage);
        bench.with(|volume| {
            expect_media(volume, damage.0);
            expect_clean(volume);
        });
    }
}

#[test]
fn each_file_of_the_index_may_be_damaged_in_each_kind() {
    for (bench, files) in [scene(), killed()] {
        let of_index: Vec<_> = files.keys().filter(|path| path.starts_with("index")).cloned().collect();
        assert!(of_index.len() > 3, "{of_index:?}");
        for file in &of_index {
            for damage in DAMAGES {
                let what = format!("{} {}", file.display(), damage.0);
                bench.put_back(&files);
                bench.note_session();
                apply(&bench, file, damage);
                let volume = bench.try_open().unwrap_or_else(|e| panic!("{what}: {e}"));
                expect_media(&volume, &what);
                assert!(volume.lookup(Ino::ROOT, b"gone").is_err(), "{what}");
                let is_clean = volume.shutdown().is_ok();
                drop(volume);
                // What is found damaged in use is made anew by the next open.
                bench.with(|volume| {
                    expect_media(volume, &format!("{what}, opened again (clean end: {is_clean})"));
                    expect_clean(volume);
                });
            }
        }
    }
}

#[test]
fn an_index_that_is_gone_empty_or_a_file_is_made_anew() {
    let (bench, files) = scene();
    let index = bench.store().join("index");
    let cases: [Stand; 3] = [
        ("gone", |_| {}),
        ("an empty directory", |index| fs::create_dir(index).unwrap()),
        ("a file", |index| fs::write(index, "no index").unwrap()),
    ];
    for (what, make) in cases {
        bench.put_back(&files);
        fs::remove_dir_all(&index).unwrap();
        make(&index);
        bench.with(|volume| {
            expect_media(volume, what);
            expect_clean(volume);
        });
        let _file = fs::remove_file(&index);
    }
}

#[test]
fn links_and_pipes_in_the_index_lead_nowhere_and_keep_nobody_waiting() {
    let (bench, files) = scene();
    let victim = bench.store().join("../victim");
    let mut places: Vec<_> = files.keys().filter(|path| path.starts_with("index")).cloned().collect();
    assert!(places.len() > 3, "{places:?}");
    places.extend(["index/tree/blobs", "index/tree/other", "index/tree", "index"].map(Into::into));
    for place in &places {
        for is_link in [true, false] {
            bench.put_back(&files);
            let path = bench.store().join(place);
            let _dir = fs::remove_dir_all(&path);
            let _file = fs::remove_file(&path);
            let _none = fs::remove_dir_all(&victim);
            fs::create_dir_all(victim.join("tree")).unwrap();
            for name in ["db", "session", "clean", "tree/snap.1.generating"] {
                fs::write(victim.join(name), bytes(1_500_000, 9)).unwrap();
            }
            let to = match place.to_str() {
                Some("index") => victim.clone(),
                Some("index/tree") => victim.join("tree"),
                _ => victim.join("db"),
            };
            match is_link {
                true => std::os::unix::fs::symlink(&to, &path).unwrap(),
                false => assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success()),
            }
            let mut before = Files::new();
            super::bench::read_below(&victim, Path::new(""), &mut before);
            bench.with(|volume| {
                expect_media(volume, &place.display().to_string());
                expect_clean(volume);
            });
            let mut after = Files::new();
            super::bench::read_below(&victim, Path::new(""), &mut after);
            assert!(before == after, "{}: something outside of the store was changed", place.display());
        }
    }
}

#[test]
fn an_older_index_put_back_is_not_believed() {
    let (bench, _) = scene();
    let older = bench.take();
    bench.with(|volume| {
        volume.unlink(Ino::ROOT, b"two").unwrap();
        put(volume, Ino::ROOT, "three", &bytes(500, 3));
    });
    let mut mixed = bench.take();
    mixed.retain(|path, _| !path.starts_with("index"));
    mixed.extend(older.into_iter().filter(|(path, _)| path.starts_with("index")));
    bench.put_back(&mixed);
    bench.note_session();
    bench.with(|volume| {
        assert!(volume.lookup(Ino::ROOT, b"two").is_err(), "what was removed is back");
        let three = volume.lookup(Ino::ROOT, b"three").unwrap().ino;
        assert!(get(volume, three).unwrap() == bytes(500, 3));
        expect_clean(volume);
    });
}
