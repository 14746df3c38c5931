//! Damaged blobs: each case of the promise, read through the volume.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use wamedia::error::Kind;
use wamedia::ids::Ino;
use wamedia::volume::{FileKind, SetAttr, Volume};

use super::bench::{
    Bench, HEADER, NODE, STRIDE, bytes, check, expect_clean, expect_damaged, get, overwrite, put, walk,
};

/// Four chunks, the last one short.
const LEN: usize = 200_000;
const CHUNK: usize = 65_536;

/// A volume of three media and a directory, shut down.
struct Scene {
    bench: Bench,
    hurt: Ino,
    well: Ino,
    other: Ino,
}

impl Scene {
    fn new() -> Scene {
        let bench = Bench::new(true);
        let (hurt, well, other) = bench.with(|volume| {
            let dir = volume.mkdir(Ino::ROOT, b"dir", &NODE).unwrap().ino;
            let hurt = put(volume, Ino::ROOT, "hurt", &bytes(LEN, 1));
            (hurt, put(volume, Ino::ROOT, "well", &bytes(LEN, 2)), put(volume, dir, "other", &bytes(LEN, 3)))
        });
        Scene { bench, hurt, well, other }
    }

    fn blob(&self, ino: Ino) -> Vec<u8> {
        fs::read(self.bench.blob(ino)).unwrap()
    }

    /// Puts other bytes in the place of the blob of `hurt`, and expects the cost of that medium alone.
    fn damage(&self, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let whole = self.blob(self.hurt);
        let changed = change(whole.clone());
        assert_ne!(changed, whole, "the damage is done");
        write(&self.bench.blob(self.hurt), &changed);
        self.expect_one_hurt();
    }

    /// Expects that `hurt` is listed, not readable as a whole, named, and alone in that.
    fn expect_one_hurt(&self) {
        self.bench.with(|volume| {
            self.expect_others(volume);
            expect_damaged(volume, self.hurt, "the whole medium");
            assert_eq!(walk(volume).unwrap()["/hurt"].1.size, LEN as u64);
            expect_named(volume, self.hurt, "hurt");
        });
        self.expect_no_lies_without_index();
    }

    fn expect_others(&self, volume: &Volume) {
        assert!(get(volume, self.well).unwrap() == bytes(LEN, 2), "a neighbour is harmed");
        assert!(get(volume, self.other).unwrap() == bytes(LEN, 3), "a neighbour is harmed");
    }

    /// With the index goes what it knew; wrong bytes may not come instead.
    fn expect_no_lies_without_index(&self) {
        fs::remove_dir_all(self.bench.store().join("index")).unwrap();
        self.bench.with(|volume| {
            self.expect_others(volume);
            match get(volume, self.hurt) {
                Ok(read) => panic!("{} bytes are read without an error", read.len()),
                Err(e) => assert!(matches!(e.kind(), Kind::Damaged | Kind::NotFound), "{e}"),
            }
            let said = volume.status().unwrap().recovery.len() + check(volume).findings.len();
            assert!(said > 0, "neither check nor status says that something is damaged");
        });
    }

    /// Reads one chunk of `hurt`.
    fn chunk(&self, volume: &Volume, nth: usize) -> wamedia::error::Result<Vec<u8>> {
        let file = volume.open_medium(self.hurt)?;
        let mut out = vec![0; CHUNK];
        let got = volume.read(&file, (nth * CHUNK) as u64, &mut out);
        volume.close(file);
        out.truncate(got?);
        Ok(out)
    }

    /// Expects that of `hurt` these chunks cannot be read and all others can.
    fn expect_chunks_hurt(&self, hurt: &[usize]) {
        self.bench.with(|volume| {
            for (nth, written) in bytes(LEN, 1).chunks(CHUNK).enumerate() {
                match self.chunk(volume, nth) {
                    Ok(read) => assert!(!hurt.contains(&nth) && read == written, "chunk {nth}"),
                    Err(e) => assert!(hurt.contains(&nth) && e.kind() == Kind::Damaged, "chunk {nth}: {e}"),
                }
            }
            let mut found: Vec<usize> =
                check(volume).findings.iter().filter_map(|finding| finding.chunk).map(|chunk| chunk as usize).collect();
            found.sort_unstable();
            assert_eq!(found, hurt, "check names the chunks");
        });
    }
}

/// Expects that all findings name this medium and its blob.
fn expect_named(volume: &Volume, ino: Ino, name: &str) {
    let findings = check(volume).findings;
    assert!(!findings.is_empty(), "check finds nothing");
    for finding in &findings {
        assert!(finding.medium.as_deref().is_some_and(|medium| medium.ends_with(name)), "{finding:?}");
        assert_eq!(finding.blob.as_deref(), Some(format!("{:016x}", ino.0).as_str()), "{finding:?}");
    }
}

fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Where a chunk's frame lies.
fn frame(nth: usize) -> std::ops::Range<usize> {
    HEADER + nth * STRIDE..HEADER + (nth + 1) * STRIDE
}

#[test]
fn one_flipped_bit_costs_one_chunk_of_one_medium() {
    let scene = Scene::new();
    let whole = scene.blob(scene.hurt);
    let mut flipped = whole.clone();
    flipped[frame(1).start + 1000] ^= 1;
    write(&scene.bench.blob(scene.hurt), &flipped);
    scene.expect_chunks_hurt(&[1]);
    write(&scene.bench.blob(scene.hurt), &whole);
    scene.bench.with(expect_clean);
    scene.damage(|_| flipped);
}

#[test]
fn two_swapped_chunks_cost_one_medium() {
    let scene = Scene::new();
    let whole = scene.blob(scene.hurt);
    let swapped = [&whole[..HEADER], &whole[frame(1)], &whole[frame(0)], &whole[frame(1).end..]].concat();
    write(&scene.bench.blob(scene.hurt), &swapped);
    scene.expect_chunks_hurt(&[0, 1]);
    scene.expect_one_hurt();
}

#[test]
fn a_chunk_of_another_blob_costs_one_medium() {
    let scene = Scene::new();
    let other = scene.blob(scene.other);
    scene.damage(|mut blob| {
        blob[frame(2)].copy_from_slice(&other[frame(2)]);
        blob
    });
}

#[test]
fn a_chunk_written_twice_costs_one_medium() {
    let scene = Scene::new();
    scene.damage(|mut blob| {
        blob.copy_within(frame(0), frame(1).start);
        blob
    });
}

#[test]
fn a_cut_by_1000_bytes_costs_one_medium() {
    let scene = Scene::new();
    scene.damage(|blob| blob[..blob.len() - 1000].to_vec());
}

#[test]
fn a_cut_at_a_chunk_boundary_costs_one_medium() {
    for chunks in 0..4 {
        let scene = Scene::new();
        scene.damage(|blob| blob[..HEADER + chunks * STRIDE].to_vec());
    }
}

#[test]
fn an_emptied_blob_costs_one_medium_and_is_no_empty_file() {
    let scene = Scene::new();
    scene.damage(|_| Vec::new());
}

#[test]
fn a_zeroed_chunk_costs_one_medium_and_is_no_hole() {
    let scene = Scene::new();
    scene.damage(|mut blob| {
        blob[frame(1)].fill(0);
        blob
    });
}

#[test]
fn a_blob_of_zeros_costs_one_medium() {
    let scene = Scene::new();
    scene.damage(|blob| vec![0; blob.len()]);
}

#[test]
fn two_exchanged_blobs_cost_those_two_media() {
    let scene = Scene::new();
    let (one, two) = (scene.blob(scene.hurt), scene.blob(scene.well));
    write(&scene.bench.blob(scene.hurt), &two);
    write(&scene.bench.blob(scene.well), &one);
    scene.bench.with(|volume| {
        expect_damaged(volume, scene.hurt, "the one");
        expect_damaged(volume, scene.well, "the other");
        assert!(get(volume, scene.other).unwrap() == bytes(LEN, 3), "a neighbour is harmed");
        let named: Vec<String> = check(volume).findings.into_iter().filter_map(|finding| finding.medium).collect();
        assert!(["hurt", "well"].iter().all(|name| named.iter().any(|medium| medium.ends_with(name))), "{named:?}");
    });
    fs::remove_dir_all(scene.bench.store().join("index")).unwrap();
    scene.bench.with(|volume| {
        for ino in [scene.hurt, scene.well] {
            assert!(matches!(get(volume, ino).unwrap_err().kind(), Kind::Damaged | Kind::NotFound));
        }
        assert!(get(volume, scene.other).unwrap() == bytes(LEN, 3), "a neighbour is harmed");
    });
}

#[test]
fn an_older_version_of_a_blob_is_refused_while_the_index_stands() {
    let scene = Scene::new();
    let older = scene.blob(scene.hurt);
    scene.bench.with(|volume| {
        volume.setattr(scene.hurt, &SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap();
    });
    assert!(scene.blob(scene.hurt).len() > older.len());
    write(&scene.bench.blob(scene.hurt), &older);
    scene.bench.with(|volume| {
        expect_damaged(volume, scene.hurt, "the older version");
        scene.expect_others(volume);
        expect_named(volume, scene.hurt, "hurt");
    });
}

#[test]
fn an_older_content_of_a_blob_is_refused_while_the_index_stands() {
    let scene = Scene::new();
    let file_of = |ino: Ino| scene.bench.blob(ino);
    // Appended to, so that the newer content lies in the same blob.
    let older = scene.blob(scene.hurt);
    scene.bench.with(|volume| {
        let file = volume.open_file(scene.hurt, super::bench::RW).unwrap();
        volume.write(&file, LEN as u64, b"more", false).unwrap();
        volume.close(file);
    });
    write(&file_of(scene.hurt), &older);
    scene.bench.with(|volume| {
        expect_damaged(volume, scene.hurt, "the older content");
        scene.expect_others(volume);
    });
}

#[test]
fn a_blob_that_was_given_up_and_is_put_back_changes_nothing() {
    let scene = Scene::new();
    let older = scene.blob(scene.hurt);
    scene.bench.with(|volume| overwrite(volume, scene.hurt, &bytes(LEN, 9)));
    assert!(!scene.bench.blob(scene.hurt).exists(), "a content of its own has a blob of its own");
    write(&scene.bench.blob(scene.hurt), &older);
    let expect_newer = |volume: &Volume| {
        assert!(get(volume, scene.hurt).unwrap() == bytes(LEN, 9));
        scene.expect_others(volume);
    };
    scene.bench.with(|volume| {
        expect_newer(volume);
        let findings = check(volume).findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].blob.as_deref(), Some(format!("{:016x}", scene.hurt.0).as_str()));
    });
    fs::remove_dir_all(scene.bench.store().join("index")).unwrap();
    scene.bench.with(expect_newer);
}

#[test]
fn a_blob_duplicated_under_another_number_changes_nothing_and_is_named() {
    let scene = Scene::new();
    let number = Ino(0x123);
    write(&scene.bench.blob(number), &scene.blob(scene.hurt));
    let expect_all = |volume: &Volume| {
        assert!(get(volume, scene.hurt).unwrap() == bytes(LEN, 1));
        scene.expect_others(volume);
        let findings = check(volume).findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].blob.as_deref(), Some("0000000000000123"));
    };
    scene.bench.with(expect_all);
    fs::remove_dir_all(scene.bench.store().join("index")).unwrap();
    scene.bench.with(expect_all);
}

#[test]
fn a_removed_blob_costs_one_medium() {
    let scene = Scene::new();
    fs::remove_file(scene.bench.blob(scene.hurt)).unwrap();
    scene.bench.with(|volume| {
        expect_damaged(volume, scene.hurt, "a blob that is gone");
        scene.expect_others(volume);
        assert_eq!(walk(volume).unwrap()["/hurt"].1.size, LEN as u64);
        expect_named(volume, scene.hurt, "hurt");
    });
}

#[test]
fn bytes_behind_a_blob_change_nothing() {
    let scene = Scene::new();
    let longer = [scene.blob(scene.hurt), bytes(5000, 8)].concat();
    write(&scene.bench.blob(scene.hurt), &longer);
    let expect_all = |volume: &Volume| {
        assert!(get(volume, scene.hurt).unwrap() == bytes(LEN, 1));
        scene.expect_others(volume);
    };
    scene.bench.with(expect_all);
    fs::remove_dir_all(scene.bench.store().join("index")).unwrap();
    scene.bench.with(expect_all);
}

#[test]
fn a_damaged_directory_costs_no_medium_in_it() {
    let scene = Scene::new();
    let dir = scene.bench.with(|volume| volume.lookup(Ino::ROOT, b"dir").unwrap().ino);
    write(&scene.bench.blob(dir), b"nothing of a directory");
    let expect_all = |volume: &Volume| {
        assert!(get(volume, scene.hurt).unwrap() == bytes(LEN, 1));
        scene.expect_others(volume);
        assert!(!check(volume).findings.is_empty() || !volume.status().unwrap().recovery.is_empty());
    };
    scene.bench.with(|volume| {
        expect_all(volume);
        assert_eq!(volume.resolve(b"dir/other").unwrap(), scene.other);
    });
    // Without the index the directory's name is lost, not what lies in it.
    fs::remove_dir_all(scene.bench.store().join("index")).unwrap();
    scene.bench.with(|volume| {
        expect_all(volume);
        assert_eq!(volume.getattr(scene.other).unwrap().kind, FileKind::Regular);
        assert!(walk(volume).unwrap().values().any(|(ino, _)| *ino == scene.other));
    });
}
