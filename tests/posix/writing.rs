//! Bytes in and out: any offset, both ways of truncation, other processes, synchronous writes.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::process::Command;

use crate::support::ground::Ground;
use crate::support::patterns::{Numbers, assert_same, bytes};

#[test]
fn writes_at_any_offset_are_read_back_and_survive_a_remount() {
    let Some(mut ground) = Ground::new("writes_at_any_offset_are_read_back_and_survive_a_remount") else { return };
    let path = ground.path("file");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
    let mut model: Vec<u8> = Vec::new();
    let mut numbers = Numbers::new(1);
    for round in 0..300 {
        let at = usize::try_from(numbers.below(2_000_000)).unwrap();
        let len = usize::try_from(numbers.below(if round % 10 == 0 { 400_000 } else { 9_000 })).unwrap();
        let piece = numbers.bytes(len);
        file.write_all_at(&piece, at as u64).unwrap();
        if len > 0 && model.len() < at + len {
            model.resize(at + len, 0);
        }
        model[at..at + len].copy_from_slice(&piece);
    }
    assert_same(&fs::read(&path).unwrap(), &model, "through the open handle");
    drop(file);
    assert_same(&fs::read(&path).unwrap(), &model, "after the close");
    ground.remount();
    assert_same(&fs::read(&path).unwrap(), &model, "after a remount");
    ground.finish();
}

#[test]
fn chunk_and_page_borders_are_no_borders() {
    let Some(mut ground) = Ground::new("chunk_and_page_borders_are_no_borders") else { return };
    let mut written = Vec::new();
    for border in [4096_usize, 65_536, 131_072, 262_144, 1_048_576] {
        for len in [border - 1, border, border + 1] {
            let path = ground.path(format!("{len}"));
            let content = bytes(len as u64, len);
            fs::write(&path, &content).unwrap();
            written.push((path, content));
        }
    }
    for _ in 0..2 {
        for (path, content) in &written {
            assert_same(&fs::read(path).unwrap(), content, &path.display().to_string());
            let file = File::open(path).unwrap();
            for at in [0, content.len() / 2, content.len().saturating_sub(70_000), content.len() - 1] {
                let mut piece = vec![0; (content.len() - at).min(70_001)];
                file.read_exact_at(&mut piece, at as u64).unwrap();
                assert_same(&piece, &content[at..at + piece.len()], &format!("{} from {at}", path.display()));
            }
        }
        ground.remount();
    }
    ground.finish();
}

#[test]
fn what_is_cut_off_reads_as_zeros_when_the_file_grows_again() {
    let Some(mut ground) = Ground::new("what_is_cut_off_reads_as_zeros_when_the_file_grows_again") else { return };
    let path = ground.path("file");
    for (len, cut, grown) in [(100, 5, 10), (70_000, 65_536, 200_000), (300_000, 1, 300_000), (4096, 0, 4096)] {
        let content = bytes(len, usize::try_from(len).unwrap());
        fs::write(&path, &content).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(cut).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), cut);
        file.set_len(grown).unwrap();
        let mut expected = content[..usize::try_from(cut).unwrap()].to_vec();
        expected.resize(usize::try_from(grown).unwrap(), 0);
        assert_same(&fs::read(&path).unwrap(), &expected, &format!("{len} cut to {cut} grown to {grown}"));
        drop(file);
        ground.remount();
        assert_same(&fs::read(&path).unwrap(), &expected, &format!("{len} to {cut} to {grown}, remounted"));
    }
    ground.finish();
}

#[test]
fn a_write_past_the_end_leaves_zeros_between() {
    let Some(ground) = Ground::new("a_write_past_the_end_leaves_zeros_between") else { return };
    let path = ground.path("file");
    fs::write(&path, b"head").unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"tail", 150_000).unwrap();
    drop(file);
    let mut expected = b"head".to_vec();
    expected.resize(150_000, 0);
    expected.extend_from_slice(b"tail");
    assert_same(&fs::read(&path).unwrap(), &expected, "head, gap, tail");
    ground.finish();
}

#[test]
fn another_process_reads_at_once_what_one_has_written() {
    let Some(ground) = Ground::new("another_process_reads_at_once_what_one_has_written") else { return };
    let path = ground.path("file");
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
    for round in 1..=3 {
        let content = bytes(round, 100_000);
        file.write_all_at(&content, 0).unwrap();
        let other = Command::new("cat").arg(&path).output().unwrap();
        assert!(other.status.success());
        assert_same(&other.stdout, &content, "what cat has read while the file is open for writing");
    }
    drop(file);
    ground.finish();
}

#[test]
fn synchronous_writes_and_syncs_succeed() {
    let Some(ground) = Ground::new("synchronous_writes_and_syncs_succeed") else { return };
    let path = ground.path("file");
    let flags = libc::O_SYNC;
    let file = OpenOptions::new().write(true).create(true).truncate(true).custom_flags(flags).open(&path).unwrap();
    file.write_all_at(b"synchronous", 0).unwrap();
    file.sync_all().unwrap();
    file.sync_data().unwrap();
    rustix::fs::syncfs(&file).unwrap();
    let reader = File::open(&path).unwrap();
    reader.sync_all().unwrap();
    let root = File::open(ground.root()).unwrap();
    root.sync_all().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"synchronous");
    drop((file, reader, root));
    ground.finish();
}

#[test]
fn an_empty_write_changes_nothing() {
    let Some(ground) = Ground::new("an_empty_write_changes_nothing") else { return };
    let path = ground.path("file");
    fs::write(&path, b"abc").unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    assert_eq!(file.write_at(b"", 1_000_000).unwrap(), 0);
    assert_eq!(file.metadata().unwrap().size(), 3);
    drop(file);
    ground.finish();
}
