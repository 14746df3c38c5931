//! Uploads are whole or nothing, at every moment a process can be killed.

use super::crash_tests::{NODE, after_a_crash, new_volume};
use super::{Allocate, Class, Policy, Volume};
use crate::error::Kind;
use crate::ids::Ino;

const LEN: usize = 3 * 65_536 + 1000;

fn write_all(volume: &Volume, file: &super::OpenFile) {
    for (nth, part) in vec![7u8; LEN].chunks(10_000).enumerate() {
        volume.write(file, nth as u64 * 10_000, part, false).unwrap();
    }
}

#[test]
fn an_upload_is_seen_whole_or_not_at_all() {
    let (dir, volume) = new_volume();
    let file = volume.begin_upload(Class::Uploads, &NODE).unwrap();
    volume.allocate(&file, 0, LEN as u64, Allocate::Reserve { keep_size: true }).unwrap();
    let charged = volume.status().unwrap().used_bytes;
    assert!(charged >= LEN as u64, "the room is promised before the first byte");
    write_all(&volume, &file);
    volume.drain().unwrap();
    volume.checkpoint().unwrap();
    assert_eq!(volume.readdir(Ino::ROOT, 0, 10, false).unwrap().len(), 0);
    let (_image, killed) = after_a_crash(&dir);
    assert_eq!(killed.status().unwrap().used_bytes, 0, "nothing of it is left after a crash");
    assert_eq!(killed.readdir(Ino::ROOT, 0, 10, false).unwrap().len(), 0);

    let attr = volume.publish_upload(file, Ino::ROOT, b"photo").unwrap();
    assert_eq!((attr.size, attr.mode, attr.nlink), (LEN as u64, 0o644, 1));
    let (_image, killed) = after_a_crash(&dir);
    for volume in [&volume, &killed] {
        let ino = volume.lookup(Ino::ROOT, b"photo").unwrap().ino;
        let medium = volume.medium(ino, true).unwrap();
        assert_eq!(medium.size, LEN as u64);
        assert!(!medium.open_for_writing);
        assert_eq!(volume.status().unwrap().used_bytes, LEN as u64);
        assert_eq!(volume.check(true, &mut |_, _| {}).unwrap().findings, []);
    }
}

#[test]
fn an_upload_that_is_given_up_leaves_nothing() {
    let (dir, volume) = new_volume();
    for is_begun in [false, true] {
        let file = volume.begin_upload(Class::Uploads, &NODE).unwrap();
        if is_begun {
            write_all(&volume, &file);
        }
        volume.abandon(file);
    }
    assert_eq!(volume.status().unwrap().used_bytes, 0);
    volume.shutdown().unwrap();
    let (image, volume) = super::crash_tests::reopen(dir);
    assert_eq!(volume.status().unwrap().media, 0);
    let blobs = walkdir::WalkDir::new(image.path().join("store/blobs")).into_iter().filter_map(Result::ok);
    assert_eq!(blobs.filter(|entry| entry.file_type().is_file()).count(), 1, "the root's alone");
}

#[test]
fn an_upload_whose_name_is_taken_gives_its_room_back() {
    let (_dir, volume) = new_volume();
    for taken in [false, true] {
        let file = volume.begin_upload(Class::Uploads, &NODE).unwrap();
        write_all(&volume, &file);
        let published = volume.publish_upload(file, Ino::ROOT, b"photo");
        assert_eq!(published.err().map(|e| e.kind()), taken.then_some(Kind::Exists));
    }
    let status = volume.status().unwrap();
    assert!(status.used_bytes < 2 * LEN as u64);
    volume.drain().unwrap();
    assert_eq!(volume.status().unwrap().media, 1);
}

#[test]
fn an_upload_that_does_not_fit_is_refused_before_its_first_byte() {
    let (_dir, volume) = new_volume();
    volume.set_policy(Policy { max_bytes: Some(100_000), ..(*volume.policy()).clone() }).unwrap();
    let file = volume.begin_upload(Class::Uploads, &NODE).unwrap();
    let reserve = Allocate::Reserve { keep_size: true };
    assert_eq!(volume.allocate(&file, 0, 200_000, reserve).unwrap_err().kind(), Kind::NoSpace);
    volume.allocate(&file, 0, 50_000, reserve).unwrap();
    volume.abandon(file);
    assert_eq!(volume.status().unwrap().used_bytes, 0);
}

#[test]
fn a_damaged_medium_is_named_by_the_id_its_path_says() {
    use std::os::unix::fs::FileExt;

    let (dir, volume) = new_volume();
    let mut at = Ino::ROOT;
    for name in ["shared", "463e", "b7ec"] {
        at = volume.mkdir(at, name.as_bytes(), &NODE).unwrap().ino;
    }
    let file = volume.begin_upload(Class::Uploads, &NODE).unwrap();
    write_all(&volume, &file);
    let ino = volume.publish_upload(file, at, b"ff4e4d9bb1101879cbd411b2").unwrap().ino;
    super::crash_tests::blob_file(dir.path(), ino).write_all_at(&[0xaa; 8], 20_000).unwrap();
    let id = "463eb7ec-ff4e-4d9b-b110-1879cbd411b2";
    let file = volume.open_medium(ino).unwrap();
    let error = volume.read(&file, 0, &mut [0; 65_536]).unwrap_err();
    assert!(error.to_string().contains(id), "{error}");
    volume.close(file);
    let findings = volume.check(true, &mut |_, _| {}).unwrap().findings;
    assert!(findings.iter().all(|finding| finding.medium.as_ref().unwrap().starts_with(id)), "{findings:?}");
    assert!(!findings.is_empty());
}
