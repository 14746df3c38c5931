//! Repair: what can be mended is, the rest is moved, nothing is deleted, and a second run finds nothing to do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use wamedia::ids::Ino;
use wamedia::volume::{CheckReport, Fault, Finding, NewNode, Repair, RepairOptions, SetAttr, Volume, XattrMode};

use super::bench::{Bench, HEADER, NODE, STRIDE, bytes, expect_clean, expect_damaged, get, put, walk};

const LEN: usize = 200_000;
const ALL: RepairOptions = RepairOptions { read_all: true, move_damaged: false };

fn repair(volume: &Volume, options: RepairOptions) -> CheckReport {
    volume.repair(options, &mut |_, _| {}).unwrap()
}

/// A volume of three media and a directory with attributes of its own, shut down.
fn scene() -> (Bench, Ino, Ino) {
    let bench = Bench::new(true);
    let (hurt, dir) = bench.with(|volume| {
        let dir = volume.mkdir(Ino::ROOT, b"dir", &NewNode { mode: 0o750, ..NODE }).unwrap().ino;
        volume.set_xattr(dir, b"user.label", b"of the directory", XattrMode::Any).unwrap();
        let hurt = put(volume, dir, "hurt", &bytes(LEN, 1));
        volume.set_xattr(hurt, b"user.label", b"of the medium", XattrMode::Any).unwrap();
        volume.link(hurt, Ino::ROOT, b"second").unwrap();
        put(volume, Ino::ROOT, "well", &bytes(LEN, 2));
        (hurt, dir)
    });
    (bench, hurt, dir)
}

fn expect_well(volume: &Volume) {
    let well = volume.lookup(Ino::ROOT, b"well").unwrap().ino;
    assert!(get(volume, well).unwrap() == bytes(LEN, 2), "a neighbour is harmed");
}

/// Expects one thing wrong, and gives what was done about it.
fn only(report: &CheckReport) -> &Finding {
    let [finding] = report.findings.as_slice() else { panic!("{report:?}") };
    finding
}

/// Expects that a report moved something, that it lies there as it was, and that nobody else can read it.
fn expect_moved(bench: &Bench, finding: &Finding, was: &[u8]) {
    let Some(Repair::Moved(place)) = &finding.repair else { panic!("{finding:?}") };
    let place = bench.store().join(place);
    assert!(fs::read(&place).unwrap() == was, "it lies there as it was");
    assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o600);
    let mut above = place.parent().unwrap();
    while above != bench.store() {
        assert_eq!(fs::metadata(above).unwrap().permissions().mode() & 0o777, 0o700, "{}", above.display());
        above = above.parent().unwrap();
    }
}

/// Repairs once more, and expects nothing to do, in this process and after the next open, without the index too.
fn expect_all_in_order(bench: &Bench) {
    for _ in 0..2 {
        bench.with(|volume| {
            assert_eq!(repair(volume, ALL).findings, []);
            expect_clean(volume);
            expect_well(volume);
        });
        let _gone = fs::remove_dir_all(bench.store().join("index"));
    }
}

#[test]
fn a_medium_whose_attributes_are_damaged_is_written_anew() {
    for at_end in [30, 60, 150] {
        let (bench, hurt, _) = scene();
        let shown = bench.with(|volume| walk(volume).unwrap());
        let mut blob = fs::read(bench.blob(hurt)).unwrap();
        let at = blob.len() - at_end;
        blob[at] ^= 1;
        fs::write(bench.blob(hurt), &blob).unwrap();
        bench.with(|volume| {
            expect_damaged(volume, hurt, "before");
            let report = repair(volume, ALL);
            assert!(matches!(only(&report).repair, Some(Repair::Mended(_))), "{report:?}");
            let place = report.quarantine.as_deref().unwrap();
            let kept = bench.store().join(place).join(super::bench::blob_path(hurt));
            assert!(fs::read(kept).unwrap() == blob, "the damaged blob is kept");
            assert!(get(volume, hurt).unwrap() == bytes(LEN, 1));
        });
        expect_all_in_order(&bench);
        bench.with(|volume| {
            assert!(get(volume, hurt).unwrap() == bytes(LEN, 1));
            assert_eq!(walk(volume).unwrap(), shown);
        });
    }
}

#[test]
fn a_medium_whose_header_is_damaged_is_written_anew() {
    let (bench, hurt, _) = scene();
    let mut blob = fs::read(bench.blob(hurt)).unwrap();
    blob[..HEADER].fill(0);
    fs::write(bench.blob(hurt), &blob).unwrap();
    bench.with(|volume| {
        let report = repair(volume, ALL);
        assert!(matches!(only(&report).repair, Some(Repair::Mended(_))), "{report:?}");
    });
    expect_all_in_order(&bench);
    bench.with(|volume| assert!(get(volume, hurt).unwrap() == bytes(LEN, 1)));
}

#[test]
fn a_damaged_or_missing_directory_is_written_anew() {
    for is_missing in [false, true] {
        let (bench, hurt, dir) = scene();
        let shown = bench.with(|volume| walk(volume).unwrap());
        match is_missing {
            true => fs::remove_file(bench.blob(dir)).unwrap(),
            false => fs::write(bench.blob(dir), "no directory").unwrap(),
        }
        bench.with(|volume| {
            let report = repair(volume, ALL);
            assert!(matches!(only(&report).repair, Some(Repair::Mended(_))), "{report:?}");
        });
        expect_all_in_order(&bench);
        bench.with(|volume| {
            assert_eq!(walk(volume).unwrap(), shown);
            assert!(get(volume, hurt).unwrap() == bytes(LEN, 1));
        });
    }
}

#[test]
fn an_older_version_with_the_same_content_is_written_anew_and_one_with_another_is_moved() {
    let (bench, hurt, _) = scene();
    let older = fs::read(bench.blob(hurt)).unwrap();
    bench.with(|volume| volume.setattr(hurt, &SetAttr { mode: Some(0o600), ..SetAttr::default() }).unwrap());
    fs::write(bench.blob(hurt), &older).unwrap();
    bench.with(|volume| {
        let report = repair(volume, ALL);
        assert!(matches!(only(&report).repair, Some(Repair::Mended(_))), "{report:?}");
        assert_eq!(volume.getattr(hurt).unwrap().mode, 0o600, "the newer attributes stand");
        assert!(get(volume, hurt).unwrap() == bytes(LEN, 1));
    });
    expect_all_in_order(&bench);

    let (bench, hurt, _) = scene();
    let older = fs::read(bench.blob(hurt)).unwrap();
    bench.with(|volume| {
        let file = volume.open_file(hurt, super::bench::RW).unwrap();
        volume.write(&file, LEN as u64, b"more", false).unwrap();
        volume.close(file);
    });
    fs::write(bench.blob(hurt), &older).unwrap();
    bench.with(|volume| {
        let report = repair(volume, ALL);
        expect_moved(&bench, only(&report), &older);
        assert!(volume.resolve(b"second").is_err());
    });
    expect_all_in_order(&bench);
}

#[test]
fn a_medium_with_a_damaged_chunk_stays_readable_where_it_is_whole_until_it_is_moved_by_order() {
    let (bench, hurt, _) = scene();
    let mut blob = fs::read(bench.blob(hurt)).unwrap();
    blob[HEADER + STRIDE + 1000] ^= 1;
    fs::write(bench.blob(hurt), &blob).unwrap();
    bench.with(|volume| {
        for _ in 0..2 {
            let report = repair(volume, ALL);
            assert_eq!((only(&report).fault, only(&report).chunk), (Fault::Chunk, Some(1)));
            assert!(matches!(only(&report).repair, Some(Repair::Left(_))), "{report:?}");
            assert_eq!(report.quarantine, None);
            let file = volume.open_medium(hurt).unwrap();
            let mut first = vec![0; 65_536];
            assert_eq!(volume.read(&file, 0, &mut first).unwrap(), first.len());
            assert!(first == bytes(LEN, 1)[..65_536]);
            volume.close(file);
        }
        let report = repair(volume, RepairOptions { move_damaged: true, ..ALL });
        expect_moved(&bench, only(&report), &blob);
        assert!(volume.resolve(b"second").is_err() && volume.resolve(b"dir/hurt").is_err());
    });
    expect_all_in_order(&bench);
}

#[test]
fn a_medium_whose_blob_is_gone_loses_its_names_and_one_that_is_emptied_is_moved() {
    for is_gone in [true, false] {
        let (bench, hurt, _) = scene();
        match is_gone {
            true => fs::remove_file(bench.blob(hurt)).unwrap(),
            false => fs::write(bench.blob(hurt), "").unwrap(),
        }
        bench.with(|volume| {
            let report = repair(volume, ALL);
            match &only(&report).repair {
                Some(Repair::Mended(how)) => assert!(is_gone && how.contains("backup"), "{how}"),
                _ => expect_moved(&bench, only(&report), b""),
            }
            assert!(only(&report).medium.as_deref().unwrap().ends_with("hurt"));
            assert!(volume.resolve(b"second").is_err() && volume.resolve(b"dir/hurt").is_err());
        });
        expect_all_in_order(&bench);
        bench.with(|volume| assert_eq!(volume.status().unwrap().used_bytes, LEN as u64));
    }
}

#[test]
fn strays_and_strangers_are_moved() {
    let (bench, hurt, _) = scene();
    let blob = fs::read(bench.blob(hurt)).unwrap();
    let number = Ino(0x123);
    let strange = [Path::new("blobs/0000000000000/copy of a blob"), Path::new("superblock.orig")];
    fs::write(bench.blob(number), &blob).unwrap();
    strange.iter().for_each(|path| fs::write(bench.store().join(path), "strange").unwrap());
    bench.with(|volume| {
        let report = repair(volume, ALL);
        assert_eq!(report.findings.len(), 3, "{report:?}");
        for finding in &report.findings {
            let was = if finding.fault == Fault::Stray { blob.as_slice() } else { b"strange" };
            expect_moved(&bench, finding, was);
        }
    });
    assert!(!bench.blob(number).exists() && strange.iter().all(|path| !bench.store().join(path).exists()));
    expect_all_in_order(&bench);
    bench.with(|volume| assert!(get(volume, hurt).unwrap() == bytes(LEN, 1)));
}

#[test]
fn copies_that_are_damaged_while_the_volume_is_open_are_written_again() {
    let (bench, _, _) = scene();
    let whole = bench.take();
    bench.with(|volume| {
        for name in ["superblock", "superblock.bak", "policy", "policy.bak"] {
            fs::write(bench.store().join(name), "damaged").unwrap();
            let report = repair(volume, ALL);
            assert_eq!(only(&report).fault, Fault::Copy);
            assert!(matches!(only(&report).repair, Some(Repair::Mended(_))), "{report:?}");
            assert_eq!(repair(volume, ALL).findings, []);
        }
    });
    assert_eq!(fs::read(bench.store().join("superblock")).unwrap(), whole[Path::new("superblock")]);
    expect_all_in_order(&bench);
}

#[test]
fn a_medium_that_is_open_for_writing_is_left() {
    let (bench, hurt, _) = scene();
    bench.with(|volume| {
        let file = volume.open_file(hurt, super::bench::RW).unwrap();
        let mut blob = fs::read(bench.blob(hurt)).unwrap();
        let at = blob.len() - 60;
        blob[at] ^= 1;
        fs::write(bench.blob(hurt), &blob).unwrap();
        let left = volume.repair(RepairOptions { move_damaged: true, ..ALL }, &mut |_, _| {}).unwrap();
        assert!(left.findings.iter().all(|f| matches!(f.repair, Some(Repair::Left(_)))), "{left:?}");
        volume.close(file);
    });
}

#[test]
fn a_repair_that_was_cut_short_is_finished_by_the_next() {
    let (bench, hurt, _) = scene();
    let mut blob = fs::read(bench.blob(hurt)).unwrap();
    let at = blob.len() - 60;
    blob[at] ^= 1;
    fs::write(bench.blob(hurt), &blob).unwrap();
    // Its second name is in the quarantine, and no more was done.
    bench.with(|_| {});
    let kept = bench.store().join("quarantine/20200101T000000Z/blobs");
    fs::create_dir_all(&kept).unwrap();
    fs::hard_link(bench.blob(hurt), kept.join("it")).unwrap();
    expect_mended_after_kill(&bench, hurt);
}

/// Repairs, kills the volume right after, and expects all in order.
fn expect_mended_after_kill(bench: &Bench, hurt: Ino) {
    let volume = bench.open();
    let report = repair(&volume, ALL);
    assert!(matches!(only(&report).repair, Some(Repair::Mended(_))), "{report:?}");
    let image = bench.image();
    drop(volume);
    expect_all_in_order(&image);
    image.with(|volume| assert!(get(volume, hurt).unwrap() == bytes(LEN, 1)));
}

#[test]
fn what_is_no_file_in_the_place_of_a_blob_is_moved_and_nothing_behind_it_is_touched() {
    for is_known in [true, false] {
        for is_link in [true, false] {
            let (bench, hurt, _) = scene();
            let place = bench.blob(if is_known { hurt } else { Ino(0x123) });
            let outside = bench.store().join("../outside");
            fs::write(&outside, "outside").unwrap();
            fs::set_permissions(&outside, fs::Permissions::from_mode(0o644)).unwrap();
            let _blob = fs::remove_file(&place);
            match is_link {
                true => symlink(&outside, &place).unwrap(),
                false => fs::create_dir(&place).unwrap(),
            }
            bench.with(|volume| {
                let report = repair(volume, ALL);
                assert!(matches!(only(&report).repair, Some(Repair::Moved(_))), "{report:?}");
                assert!(fs::symlink_metadata(&place).is_err());
                assert_eq!(volume.resolve(b"dir/hurt").is_ok(), !is_known);
            });
            assert_eq!(fs::read(&outside).unwrap(), b"outside");
            assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o644);
            expect_all_in_order(&bench);
        }
    }
}

#[test]
fn a_medium_whose_blob_is_a_directory_can_be_removed_and_the_volume_goes_on() {
    let (bench, _, _) = scene();
    let alone = bench.with(|volume| put(volume, Ino::ROOT, "alone", &bytes(LEN, 3)));
    fs::remove_file(bench.blob(alone)).unwrap();
    fs::create_dir(bench.blob(alone)).unwrap();
    bench.with(|volume| {
        volume.unlink(Ino::ROOT, b"alone").unwrap();
        repair(volume, ALL);
        put(volume, Ino::ROOT, "later", &bytes(LEN, 3));
    });
    expect_all_in_order(&bench);
}

#[test]
fn a_directory_of_blobs_that_lies_elsewhere_is_refused_and_left() {
    for name in ["blobs", "blobs/0000000000000"] {
        let (bench, hurt, _) = scene();
        let (place, elsewhere) = (bench.store().join(name), bench.store().join("../elsewhere"));
        fs::rename(&place, &elsewhere).unwrap();
        symlink(&elsewhere, &place).unwrap();
        let refused = bench.try_open().err().expect("it does not open");
        assert!(refused.to_string().contains("symbolic link"), "{refused}");
        fs::remove_file(&place).unwrap();
        fs::rename(&elsewhere, &place).unwrap();
        bench.with(|volume| assert!(get(volume, hurt).unwrap() == bytes(LEN, 1)));
    }
}

#[test]
fn what_one_report_has_no_room_for_is_counted_and_left_to_the_next() {
    let (bench, _, _) = scene();
    for nth in 0..10_020 {
        fs::write(bench.store().join(format!("blobs/0000000000000/strange{nth}")), "").unwrap();
    }
    bench.with(|volume| {
        for (listed, unlisted) in [(10_000, 20), (20, 0), (0, 0)] {
            let report = repair(volume, ALL);
            assert_eq!((report.findings.len(), report.unlisted), (listed, unlisted));
        }
    });
}
