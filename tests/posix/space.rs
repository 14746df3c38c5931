//! Holes, fallocate(2), copy_file_range(2), statfs(2).

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{FallocateFlags, SeekFrom, copy_file_range, fallocate, seek, statvfs};
use rustix::io::Errno;

use crate::support::ground::Ground;
use crate::support::patterns::{assert_same, bytes};

const MIB: u64 = 1 << 20;

fn open_new(ground: &Ground, name: &str) -> File {
    OpenOptions::new().read(true).write(true).create_new(true).open(ground.path(name)).unwrap()
}

/// The stored ranges of a file, as SEEK_DATA and SEEK_HOLE show them.
fn data_ranges(file: &File) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut at = 0;
    loop {
        match seek(file, SeekFrom::Data(at)) {
            Ok(start) => {
                let end = seek(file, SeekFrom::Hole(start)).expect("a hole after data, the end at the latest");
                assert!(start >= at && end > start, "SEEK_DATA {at} = {start}, SEEK_HOLE {start} = {end}");
                ranges.push((start, end));
                at = end;
            }
            Err(Errno::NXIO) => return ranges,
            Err(other) => panic!("SEEK_DATA {at}: {other}"),
        }
    }
}

#[test]
fn holes_are_found_and_take_no_room() {
    let Some(mut ground) = Ground::new("holes_are_found_and_take_no_room") else { return };
    let file = open_new(&ground, "sparse");
    let (head, tail) = (bytes(1, 65_536), bytes(2, 65_536));
    file.write_all_at(&head, 0).unwrap();
    file.write_all_at(&tail, 8 * MIB).unwrap();
    file.set_len(16 * MIB).unwrap();
    file.sync_all().unwrap();
    drop(file);
    for _ in 0..2 {
        let file = File::open(ground.path("sparse")).unwrap();
        let ranges = data_ranges(&file);
        assert!(ranges.iter().any(|(start, _)| *start == 0), "{ranges:?}");
        let covered = |at: u64| ranges.iter().any(|(start, end)| (*start..*end).contains(&at));
        for at in [0, 65_535, 8 * MIB, 8 * MIB + 65_535] {
            assert!(covered(at), "byte {at} was written, but the data ranges are {ranges:?}");
        }
        for at in [MIB, 4 * MIB, 7 * MIB, 10 * MIB, 16 * MIB - 1] {
            assert!(!covered(at), "byte {at} is in a hole, but the data ranges are {ranges:?}");
        }
        assert_eq!(seek(&file, SeekFrom::Data(9 * MIB)), Err(Errno::NXIO));
        assert_eq!(seek(&file, SeekFrom::Data(16 * MIB)), Err(Errno::NXIO));
        assert_eq!(seek(&file, SeekFrom::Hole(16 * MIB)), Err(Errno::NXIO));
        assert_eq!(seek(&file, SeekFrom::Hole(12 * MIB)), Ok(12 * MIB));
        let meta = file.metadata().unwrap();
        assert_eq!(meta.len(), 16 * MIB);
        assert!(meta.blocks() * 512 < MIB, "{} blocks for 128 KiB of data", meta.blocks());
        let mut expected = head.clone();
        expected.resize(usize::try_from(8 * MIB).unwrap(), 0);
        expected.extend_from_slice(&tail);
        expected.resize(usize::try_from(16 * MIB).unwrap(), 0);
        assert_same(&fs::read(ground.path("sparse")).unwrap(), &expected, "the sparse file");
        drop(file);
        ground.remount();
    }
    ground.finish();
}

#[test]
fn a_file_without_holes_is_one_range() {
    let Some(ground) = Ground::new("a_file_without_holes_is_one_range") else { return };
    let file = open_new(&ground, "dense");
    file.write_all_at(&bytes(3, 300_000), 0).unwrap();
    assert_eq!(data_ranges(&file), [(0, 300_000)]);
    assert_eq!(seek(&file, SeekFrom::Data(299_999)), Ok(299_999));
    assert_eq!(seek(&file, SeekFrom::Data(300_000)), Err(Errno::NXIO));
    drop(file);
    ground.finish();
}

#[test]
fn fallocate_extends_with_zeros_unless_told_to_keep_the_size() {
    let Some(mut ground) = Ground::new("fallocate_extends_with_zeros_unless_told_to_keep_the_size") else { return };
    let file = open_new(&ground, "file");
    file.write_all_at(b"head", 0).unwrap();
    fallocate(&file, FallocateFlags::KEEP_SIZE, 0, MIB).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 4);
    fallocate(&file, FallocateFlags::empty(), 0, 2).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 4, "room that is there already does not cut");
    fallocate(&file, FallocateFlags::empty(), 100_000, 100_000).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 200_000);
    drop(file);
    ground.remount();
    let mut expected = b"head".to_vec();
    expected.resize(200_000, 0);
    assert_same(&fs::read(ground.path("file")).unwrap(), &expected, "head and zeros");
    ground.finish();
}

#[test]
fn punching_a_hole_zeroes_exactly_the_range() {
    let Some(mut ground) = Ground::new("punching_a_hole_zeroes_exactly_the_range") else { return };
    let mut model = bytes(4, 1_000_000);
    let file = open_new(&ground, "file");
    file.write_all_at(&model, 0).unwrap();
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for (at, len) in [(10, 20), (65_536, 65_536), (200_000, 333_333), (999_990, 100)] {
        fallocate(&file, mode, at, len).unwrap();
        let (start, end) = (usize::try_from(at).unwrap(), usize::try_from(at + len).unwrap().min(model.len()));
        model[start..end].fill(0);
        assert_same(&fs::read(ground.path("file")).unwrap(), &model, &format!("hole of {len} at {at}"));
    }
    // Past the end: nothing to do, and no growth.
    fallocate(&file, mode, 2_000_000, 4096).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1_000_000);
    drop(file);
    ground.remount();
    assert_same(&fs::read(ground.path("file")).unwrap(), &model, "after a remount");
    ground.finish();
}

#[test]
fn zeroing_a_range_works_or_is_refused_cleanly() {
    let Some(ground) = Ground::new("zeroing_a_range_works_or_is_refused_cleanly") else { return };
    let mut model = bytes(5, 200_000);
    let file = open_new(&ground, "file");
    file.write_all_at(&model, 0).unwrap();
    match fallocate(&file, FallocateFlags::ZERO_RANGE, 50_000, 100_000) {
        Ok(()) => model[50_000..150_000].fill(0),
        Err(error) => assert_eq!(error, Errno::OPNOTSUPP),
    }
    assert_same(&fs::read(ground.path("file")).unwrap(), &model, "after the first");
    match fallocate(&file, FallocateFlags::ZERO_RANGE, 190_000, 20_000) {
        Ok(()) => {
            model[190_000..].fill(0);
            model.resize(210_000, 0);
        }
        Err(error) => assert_eq!(error, Errno::OPNOTSUPP),
    }
    assert_same(&fs::read(ground.path("file")).unwrap(), &model, "after one past the end");
    drop(file);
    ground.finish();
}

#[test]
fn shifting_modes_of_fallocate_are_refused_and_change_nothing() {
    let Some(ground) = Ground::new("shifting_modes_of_fallocate_are_refused_and_change_nothing") else { return };
    if ground.is_plain() {
        return;
    }
    let model = bytes(6, 200_000);
    let file = open_new(&ground, "file");
    file.write_all_at(&model, 0).unwrap();
    for mode in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
        assert_eq!(fallocate(&file, mode, 0, 4096), Err(Errno::OPNOTSUPP));
    }
    assert_same(&fs::read(ground.path("file")).unwrap(), &model, "the file");
    drop(file);
    ground.finish();
}

#[test]
fn ranges_are_copied_within_and_between_files() {
    let Some(mut ground) = Ground::new("ranges_are_copied_within_and_between_files") else { return };
    let content = bytes(7, 500_000);
    let source = open_new(&ground, "source");
    source.write_all_at(&content, 0).unwrap();
    let target = open_new(&ground, "target");
    let mut model = Vec::new();
    for (from, to, len) in [(0_usize, 0_usize, 100_000_usize), (65_000, 250_000, 70_000), (499_000, 10, 5_000)] {
        let (mut at, mut out, mut left) = (from as u64, to as u64, len);
        let mut copied = 0;
        while left > 0 {
            let step = copy_file_range(&source, Some(&mut at), &target, Some(&mut out), left).unwrap();
            if step == 0 {
                break;
            }
            copied += step;
            left -= step;
        }
        assert_eq!(copied, len.min(content.len() - from), "a copy ends at the end of the source");
        model.resize(model.len().max(to + copied), 0);
        model[to..to + copied].copy_from_slice(&content[from..from + copied]);
        assert_same(&fs::read(ground.path("target")).unwrap(), &model, &format!("{len} from {from} to {to}"));
    }
    let (mut at, mut out) = (0, 600_000);
    assert_eq!(copy_file_range(&source, Some(&mut at), &source, Some(&mut out), 1000).unwrap(), 1000);
    let mut expected = content.clone();
    expected.resize(600_000, 0);
    expected.extend_from_slice(&content[..1000]);
    drop((source, target));
    ground.remount();
    assert_same(&fs::read(ground.path("source")).unwrap(), &expected, "the copy within one file");
    assert_same(&fs::read(ground.path("target")).unwrap(), &model, "the copy between two files");
    ground.finish();
}

#[test]
fn statfs_follows_what_is_written_and_removed() {
    let Some(ground) = Ground::new("statfs_follows_what_is_written_and_removed") else { return };
    let empty = statvfs(ground.root()).unwrap();
    assert!(empty.f_bavail <= empty.f_bfree && empty.f_bfree <= empty.f_blocks);
    assert_eq!(empty.f_namemax, 255);
    if ground.is_plain() {
        return;
    }
    assert_eq!(empty.f_blocks * empty.f_frsize, 256 * MIB, "the size is the quota");
    fs::write(ground.path("file"), bytes(8, 10 << 20)).unwrap();
    let full = statvfs(ground.root()).unwrap();
    let taken = (empty.f_bfree - full.f_bfree) * empty.f_frsize;
    assert_eq!(taken, 10 * MIB, "what is written is taken from what is free");
    fs::remove_file(ground.path("file")).unwrap();
    assert_eq!(statvfs(ground.root()).unwrap().f_bfree, empty.f_bfree, "what is removed is free at once");
    ground.finish();
}

#[test]
fn a_removed_file_keeps_its_quota_until_its_last_handle_closes() {
    let Some(ground) = Ground::new("a_removed_file_keeps_its_quota_until_its_last_handle_closes") else { return };
    if ground.is_plain() {
        return;
    }
    let empty = statvfs(ground.root()).unwrap().f_bfree;
    let file = open_new(&ground, "file");
    file.write_all_at(&bytes(9, 5 << 20), 0).unwrap();
    fs::remove_file(ground.path("file")).unwrap();
    assert!(statvfs(ground.root()).unwrap().f_bfree < empty, "the bytes are still there");
    drop(file);
    // The kernel tells of a close without waiting for the answer.
    let freed = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        statvfs(ground.root()).unwrap().f_bfree == empty
    });
    assert!(freed, "the bytes of a removed and closed file are not free again");
    ground.finish();
}
