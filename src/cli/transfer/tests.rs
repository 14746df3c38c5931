//! Copies between directories, which stand for volumes here: both are a `Tree`.

use std::cell::Cell;
use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::tree::{Attribute, Content, Losses, Meta, Source, is_carried};
use super::{Copied, PlainTree, Report, Tree, copy, total_bytes};
use crate::error::{Error, Kind, Result};

struct Pair {
    directory: tempfile::TempDir,
}

impl Pair {
    fn new() -> Pair {
        let directory = tempfile::tempdir().unwrap();
        for name in ["from", "to"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        Pair { directory }
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    fn put(&self, path: &str, content: &[u8], age_secs: u64) {
        let path = self.at(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age_secs)).unwrap();
    }

    fn tree(&self, name: &str) -> PlainTree {
        PlainTree::open(&self.at(name), None).unwrap()
    }

    fn copy(&self) -> Report {
        let Copied { report, stopped } = copy(&self.tree("from"), &self.tree("to"), &mut |_| {});
        assert!(stopped.is_none(), "{stopped:?}");
        report
    }
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).is_ok()
}

#[test]
fn holes_stay_holes_and_bytes_stay_bytes() {
    use std::os::unix::fs::FileExt;
    let pair = Pair::new();
    let file = std::fs::File::create(pair.at("from/sparse")).unwrap();
    file.write_all_at(b"in the middle", 8 << 20).unwrap();
    file.set_len(64 << 20).unwrap();
    std::fs::File::create(pair.at("from/hole")).unwrap().set_len(16 << 20).unwrap();
    if pair.at("from/hole").metadata().unwrap().blocks() > 0 {
        eprintln!("SKIPPED: no holes on the file system of the temporary directory");
        return;
    }
    let report = pair.copy();
    assert_eq!((report.files, report.verified, report.bytes, report.failed), (2, 2, 80 << 20, 0));
    for name in ["sparse", "hole"] {
        let [from, to] = ["from", "to"].map(|side| std::fs::read(pair.at(side).join(name)).unwrap());
        assert!(from == to, "{name}");
        let blocks = pair.at("to").join(name).metadata().unwrap().blocks();
        assert!(blocks < 1024, "{name} takes {blocks} blocks");
    }
}

#[test]
fn what_a_volume_keeps_a_name_for_is_left_out_and_counted() {
    let pair = Pair::new();
    pair.put("from/.expired/old", b"old", 10);
    pair.put("from/sub/.expired", b"taken along", 10);
    let report = pair.copy();
    assert_eq!((report.left_out, report.files), (1, 1));
    assert!(report.rows().iter().any(|(name, _)| *name == "LEFT OUT"));
    let of_volume = PlainTree::open(&pair.at("from"), Some(Box::new(|| Ok(())))).unwrap();
    let Copied { report, .. } = copy(&of_volume, &pair.tree("to"), &mut |_| {});
    assert_eq!(report.left_out, 0, "a mounted volume shows it, and has nothing in it that is not elsewhere");
}

#[test]
fn names_bytes_times_modes_links_and_attributes_are_kept() {
    let pair = Pair::new();
    pair.put("from/shared/463e/b7ec/ff4e4d9bb1101879cbd411b2", b"photo", 86_400);
    pair.put("from/a", b"", 10);
    std::fs::hard_link(pair.at("from/a"), pair.at("from/b")).unwrap();
    std::os::unix::fs::symlink("nowhere/at all", pair.at("from/link")).unwrap();
    std::fs::set_permissions(pair.at("from/a"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::fs::set_permissions(pair.at("from/shared"), std::fs::Permissions::from_mode(0o2750)).unwrap();
    assert!(Command::new("mkfifo").arg(pair.at("from/pipe")).status().unwrap().success());
    let has_xattrs = set_xattr(&pair.at("from/a"), "user.mime_type", b"image/png");
    let old = SystemTime::now() - Duration::from_secs(1000);
    std::fs::File::open(pair.at("from/shared/463e")).unwrap().set_modified(old).unwrap();

    let report = pair.copy();
    assert_eq!((report.files, report.verified, report.bytes, report.failed), (2, 2, 5, 0));
    assert_eq!((report.hard_links, report.symlinks, report.others, report.directories), (1, 1, 1, 3));
    for name in ["shared/463e/b7ec/ff4e4d9bb1101879cbd411b2", "a", "b", "link", "pipe", "shared", "shared/463e"] {
        let [from, to] = ["from", "to"].map(|side| pair.at(side).join(name).symlink_metadata().unwrap());
        assert_eq!(from.mode(), to.mode(), "{name}");
        assert_eq!((from.uid(), from.gid()), (to.uid(), to.gid()), "{name}");
        assert_eq!((from.mtime(), from.mtime_nsec()), (to.mtime(), to.mtime_nsec()), "{name}");
    }
    assert_eq!(std::fs::read(pair.at("to/shared/463e/b7ec/ff4e4d9bb1101879cbd411b2")).unwrap(), b"photo");
    assert_eq!(std::fs::read_link(pair.at("to/link")).unwrap(), Path::new("nowhere/at all"));
    assert_eq!(pair.at("to/a").metadata().unwrap().ino(), pair.at("to/b").metadata().unwrap().ino());
    if has_xattrs {
        let mut value = [0; 32];
        let length = rustix::fs::getxattr(pair.at("to/a"), "user.mime_type", &mut value[..]).unwrap();
        assert_eq!(&value[..length], b"image/png");
    }
}

#[test]
fn a_second_run_skips_what_is_there() {
    let pair = Pair::new();
    pair.put("from/d/a", b"one", 10);
    std::fs::hard_link(pair.at("from/d/a"), pair.at("from/d/b")).unwrap();
    std::os::unix::fs::symlink("x", pair.at("from/link")).unwrap();
    pair.copy();
    let again = pair.copy();
    assert_eq!(again, Report { skipped: 3, ..Report::default() });
}

#[test]
fn what_differs_is_written_again() {
    let pair = Pair::new();
    pair.put("from/size", b"whole", 10);
    pair.put("from/time", b"newer", 10);
    pair.put("from/kind", b"file", 10);
    pair.copy();
    pair.put("to/size", b"wh", 0);
    pair.put("to/time", b"older", 99);
    std::fs::remove_file(pair.at("to/kind")).unwrap();
    std::os::unix::fs::symlink("x", pair.at("to/kind")).unwrap();
    let report = pair.copy();
    assert_eq!((report.files, report.replaced, report.failed), (3, 3, 0));
    for (name, content) in [("size", "whole"), ("time", "newer"), ("kind", "file")] {
        assert_eq!(std::fs::read_to_string(pair.at("to").join(name)).unwrap(), content);
    }
}

#[test]
fn a_replaced_file_leaves_its_other_names_alone() {
    let pair = Pair::new();
    pair.put("from/a", b"one", 10);
    std::fs::hard_link(pair.at("from/a"), pair.at("from/b")).unwrap();
    pair.copy();
    for name in ["a", "b"] {
        std::fs::remove_file(pair.at("from").join(name)).unwrap();
    }
    pair.put("from/a", b"first", 10);
    pair.put("from/b", b"second", 10);
    pair.copy();
    assert_eq!(std::fs::read(pair.at("to/a")).unwrap(), b"first");
    assert_eq!(std::fs::read(pair.at("to/b")).unwrap(), b"second");
    assert_eq!(pair.copy().skipped, 2);
}

#[test]
fn a_directory_in_the_way_fails_alone() {
    let pair = Pair::new();
    pair.put("from/a", b"file", 10);
    pair.put("from/b", b"file", 10);
    std::fs::create_dir(pair.at("to/a")).unwrap();
    let report = pair.copy();
    assert_eq!((report.files, report.failed), (1, 1));
    assert_eq!(report.failures[0].path, "a");
}

#[test]
fn the_virtual_directory_is_no_content() {
    let pair = Pair::new();
    pair.put("from/.expired/x", b"twice", 10);
    pair.put("from/d/.expired/x", b"once", 10);
    assert_eq!(total_bytes(&pair.tree("from"), &mut || {}), 4);
    assert_eq!(pair.copy().files, 1);
    assert!(!pair.at("to/.expired").exists());
}

#[test]
fn a_link_in_the_target_leads_nobody_out() {
    let pair = Pair::new();
    std::fs::create_dir(pair.at("outside")).unwrap();
    pair.put("from/d/file", b"secret", 10);
    std::os::unix::fs::symlink(pair.at("outside"), pair.at("to/d")).unwrap();
    pair.put("from/f", b"secret", 10);
    std::os::unix::fs::symlink(pair.at("outside/f"), pair.at("to/f")).unwrap();
    let Copied { report, .. } = copy(&pair.tree("from"), &pair.tree("to"), &mut |_| {});
    assert_eq!((report.files, report.failed), (1, 1));
    assert_eq!(std::fs::read_dir(pair.at("outside")).unwrap().count(), 0);
    assert!(pair.at("to/f").symlink_metadata().unwrap().is_file());
}

#[test]
fn more_files_than_a_batch_are_all_verified() {
    let pair = Pair::new();
    for number in 0..300 {
        pair.put(&format!("from/{number}"), number.to_string().as_bytes(), 10);
    }
    let report = pair.copy();
    assert_eq!((report.files, report.verified), (300, 300));
}

/// A tree with one fault.
struct Faulty {
    inner: PlainTree,
    fault: Fault,
    settled: Rc<Cell<u32>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    BentContent,
    NoSpace,
}

impl Tree for Faulty {
    fn stat(&self, path: &Path) -> Result<Option<Meta>> {
        self.inner.stat(path)
    }
    fn list(&self, directory: &Path) -> Result<Vec<OsString>> {
        self.inner.list(directory)
    }
    fn read_link(&self, path: &Path) -> Result<OsString> {
        self.inner.read_link(path)
    }
    fn attributes(&self, path: &Path) -> Result<Vec<Attribute>> {
        self.inner.attributes(path)
    }
    fn open(&self, path: &Path, fresh: bool) -> Result<Box<dyn Source + '_>> {
        self.inner.open(path, fresh)
    }
    fn is_volume(&self) -> bool {
        self.inner.is_volume()
    }
    fn put_file(&self, path: &Path, meta: &Meta, attributes: &[Attribute], content: Content<'_>) -> Result<Losses> {
        if self.fault == Fault::NoSpace && path == Path::new("b") {
            return Err(Error::new(Kind::NoSpace, "the quota refuses"));
        }
        self.inner.put_file(path, meta, attributes, &mut |writer| {
            content(writer)?;
            if self.fault == Fault::BentContent && path == Path::new("b") {
                writer.write_all(b"!").map_err(|e| Error::io("", e))?;
            }
            Ok(())
        })
    }
    fn make_directory(&self, path: &Path) -> Result<()> {
        self.inner.make_directory(path)
    }
    fn finish_directory(&self, path: &Path, meta: &Meta, attributes: &[Attribute]) -> Result<Losses> {
        self.inner.finish_directory(path, meta, attributes)
    }
    fn put_symlink(&self, path: &Path, meta: &Meta, target: &OsString) -> Result<Losses> {
        self.inner.put_symlink(path, meta, target)
    }
    fn put_node(&self, path: &Path, meta: &Meta) -> Result<Losses> {
        self.inner.put_node(path, meta)
    }
    fn put_link(&self, path: &Path, existing: &Path) -> Result<()> {
        self.inner.put_link(path, existing)
    }
    fn remove(&self, path: &Path) -> Result<()> {
        self.inner.remove(path)
    }
    fn settle(&self) -> Result<()> {
        self.settled.set(self.settled.get() + 1);
        Ok(())
    }
}

fn copy_with(fault: Fault) -> (Copied, u32) {
    let pair = Pair::new();
    for name in ["a", "b", "c"] {
        pair.put(&format!("from/{name}"), name.as_bytes(), 10);
    }
    let settled = Rc::new(Cell::new(0));
    let to = Faulty { inner: pair.tree("to"), fault, settled: Rc::clone(&settled) };
    (copy(&pair.tree("from"), &to, &mut |_| {}), settled.get())
}

#[test]
fn a_file_that_reads_back_otherwise_is_a_failure() {
    let (copied, settled) = copy_with(Fault::BentContent);
    assert_eq!((copied.report.verified, copied.report.failed, settled), (2, 1, 1));
    assert_eq!(copied.report.failures[0].path, "b");
}

#[test]
fn a_full_volume_stops_the_copy() {
    let (copied, _) = copy_with(Fault::NoSpace);
    let stopped = copied.stopped.expect("the copy stops");
    assert_eq!((stopped.kind(), stopped.to_string().as_str()), (Kind::NoSpace, "stopped at b: the quota refuses"));
    assert_eq!((copied.report.files, copied.report.verified), (1, 1));
}

#[test]
fn only_attributes_that_mean_something_elsewhere_are_carried() {
    for (name, carried) in [
        ("user.mime_type", true),
        ("user.wamedia.hold", true),
        ("user.wamedia.retention", true),
        ("user.wamedia.id", false),
        ("user.wamedia.sha256", false),
        ("security.selinux", false),
        ("system.posix_acl_access", false),
        ("", false),
    ] {
        assert_eq!(is_carried(name.as_bytes()), carried, "{name}");
    }
}
