//! mmap(2), shared and private.

use rustix::mm::MapFlags;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use crate::support::ground::Ground;
use crate::support::mapping::Mapping;
use crate::support::patterns::{assert_same, bytes};

fn open_with(ground: &Ground, content: &[u8]) -> File {
    fs::write(ground.path("file"), content).unwrap();
    OpenOptions::new().read(true).write(true).open(ground.path("file")).unwrap()
}

#[test]
fn a_shared_mapping_reaches_the_file() {
    let Some(mut ground) = Ground::new("a_shared_mapping_reaches_the_file") else { return };
    let mut model = bytes(1, 300_000);
    let file = open_with(&ground, &model);
    let mapping = Mapping::new(&file, model.len(), MapFlags::SHARED);
    assert_same(&mapping.read(0, model.len()), &model, "through the mapping");
    for at in [0, 4095, 65_530, 150_000, 299_900] {
        mapping.write(at, b"mapped bytes");
        model[at..at + 12].copy_from_slice(b"mapped bytes");
    }
    let mut read = vec![0; model.len()];
    file.read_exact_at(&mut read, 0).unwrap();
    assert_same(&read, &model, "read(2) sees what the mapping has written");
    mapping.sync().unwrap();
    drop((mapping, file));
    ground.remount();
    assert_same(&fs::read(ground.path("file")).unwrap(), &model, "after a remount");
    ground.finish();
}

#[test]
fn a_mapping_outlives_its_handle() {
    let Some(mut ground) = Ground::new("a_mapping_outlives_its_handle") else { return };
    let mut model = bytes(2, 200_000);
    let file = open_with(&ground, &model);
    let mapping = Mapping::new(&file, model.len(), MapFlags::SHARED);
    drop(file);
    mapping.write(100_000, b"written after the close");
    model[100_000..100_023].copy_from_slice(b"written after the close");
    drop(mapping);
    assert_same(&fs::read(ground.path("file")).unwrap(), &model, "after the unmapping");
    ground.remount();
    assert_same(&fs::read(ground.path("file")).unwrap(), &model, "after a remount");
    ground.finish();
}

#[test]
fn a_shared_mapping_shows_what_is_written_beside_it() {
    let Some(ground) = Ground::new("a_shared_mapping_shows_what_is_written_beside_it") else { return };
    let file = open_with(&ground, &bytes(3, 100_000));
    let mapping = Mapping::new(&file, 100_000, MapFlags::SHARED);
    assert_eq!(mapping.read(70_000, 1).len(), 1);
    let other = OpenOptions::new().write(true).open(ground.path("file")).unwrap();
    other.write_all_at(b"from beside", 70_000).unwrap();
    assert_eq!(mapping.read(70_000, 11), b"from beside");
    drop((file, mapping, other));
    ground.finish();
}

#[test]
fn a_private_mapping_never_reaches_the_file() {
    let Some(ground) = Ground::new("a_private_mapping_never_reaches_the_file") else { return };
    let model = bytes(4, 100_000);
    let file = open_with(&ground, &model);
    let mapping = Mapping::new(&file, model.len(), MapFlags::PRIVATE);
    mapping.write(5_000, b"for my eyes only");
    assert_eq!(mapping.read(5_000, 16), b"for my eyes only");
    drop((mapping, file));
    assert_same(&fs::read(ground.path("file")).unwrap(), &model, "the file");
    ground.finish();
}

#[test]
fn the_rest_of_the_last_page_reads_as_zeros() {
    let Some(ground) = Ground::new("the_rest_of_the_last_page_reads_as_zeros") else { return };
    let model = bytes(5, 5_000);
    let file = open_with(&ground, &model);
    let mapping = Mapping::new(&file, 8192, MapFlags::SHARED);
    assert_same(&mapping.read(0, 5_000), &model, "the content");
    assert!(mapping.read(5_000, 3_192).iter().all(|byte| *byte == 0));
    drop((file, mapping));
    ground.finish();
}

#[test]
fn a_removed_file_is_mapped_and_synced_like_any_other() {
    let Some(ground) = Ground::new("a_removed_file_is_mapped_and_synced_like_any_other") else { return };
    let mut model = bytes(6, 200_000);
    let file = open_with(&ground, &model);
    fs::remove_file(ground.path("file")).unwrap();
    let mapping = Mapping::new(&file, model.len(), MapFlags::SHARED);
    for (at, content) in [(0, bytes(7, 5000)), (131_000, bytes(8, 69_000))] {
        mapping.write(at, &content);
        model[at..at + content.len()].copy_from_slice(&content);
        mapping.sync().unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
    }
    let mut read = vec![0; model.len()];
    file.read_exact_at(&mut read, 0).unwrap();
    assert_same(&read, &model, "what was written through the map of a removed file");
    drop((mapping, file));
    assert!(!ground.path("file").exists());
    ground.finish();
}
