//! rename(2) and renameat2(2).

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::errno;
use crate::support::ground::Ground;
use crate::support::tree::names;

fn rename_with(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, from, CWD, to, flags)
}

#[test]
fn renaming_replaces_and_readers_keep_what_they_have_open() {
    let Some(mut ground) = Ground::new("renaming_replaces_and_readers_keep_what_they_have_open") else { return };
    fs::write(ground.path("old"), b"the old content").unwrap();
    fs::write(ground.path("new"), b"the new content").unwrap();
    let number = fs::metadata(ground.path("new")).unwrap().ino();
    let mut reader = File::open(ground.path("old")).unwrap();
    fs::rename(ground.path("new"), ground.path("old")).unwrap();
    assert_eq!(fs::read(ground.path("old")).unwrap(), b"the new content");
    assert_eq!(fs::metadata(ground.path("old")).unwrap().ino(), number, "a rename keeps the inode");
    assert!(!ground.path("new").exists());
    let mut content = Vec::new();
    reader.read_to_end(&mut content).unwrap();
    assert_eq!(content, b"the old content");
    assert_eq!(reader.metadata().unwrap().nlink(), 0);
    drop(reader);
    ground.remount();
    assert_eq!(fs::read(ground.path("old")).unwrap(), b"the new content");
    assert!(!ground.path("new").exists());
    ground.finish();
}

#[test]
fn renaming_without_replacing_refuses_a_taken_name() {
    let Some(ground) = Ground::new("renaming_without_replacing_refuses_a_taken_name") else { return };
    let (a, b, c) = (ground.path("a"), ground.path("b"), ground.path("c"));
    fs::write(&a, b"a").unwrap();
    fs::write(&b, b"b").unwrap();
    assert_eq!(rename_with(&a, &b, RenameFlags::NOREPLACE), Err(Errno::EXIST));
    assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"a".to_vec(), b"b".to_vec()));
    rename_with(&a, &c, RenameFlags::NOREPLACE).unwrap();
    assert_eq!(fs::read(&c).unwrap(), b"a");
    assert!(!a.exists());
    ground.finish();
}

#[test]
fn an_exchange_swaps_both_whatever_they_are() {
    let Some(mut ground) = Ground::new("an_exchange_swaps_both_whatever_they_are") else { return };
    fs::create_dir_all(ground.path("one/deep")).unwrap();
    fs::create_dir(ground.path("two")).unwrap();
    fs::write(ground.path("one/deep/inside"), b"inside").unwrap();
    fs::write(ground.path("two/file"), b"file").unwrap();
    fs::write(ground.path("two/other"), b"other").unwrap();
    rename_with(&ground.path("one/deep"), &ground.path("two/file"), RenameFlags::EXCHANGE).unwrap();
    rename_with(&ground.path("two/other"), &ground.path("one/deep"), RenameFlags::EXCHANGE).unwrap();
    for _ in 0..2 {
        assert_eq!(fs::read(ground.path("two/file/inside")).unwrap(), b"inside");
        assert_eq!(fs::read(ground.path("one/deep")).unwrap(), b"other");
        assert_eq!(fs::read(ground.path("two/other")).unwrap(), b"file");
        ground.remount();
    }
    let absent = rename_with(&ground.path("one/deep"), &ground.path("absent"), RenameFlags::EXCHANGE);
    assert_eq!(absent, Err(Errno::NOENT));
    ground.finish();
}

#[test]
fn a_rename_that_makes_no_sense_is_refused() {
    let Some(ground) = Ground::new("a_rename_that_makes_no_sense_is_refused") else { return };
    fs::create_dir_all(ground.path("dir/child")).unwrap();
    fs::create_dir(ground.path("empty")).unwrap();
    fs::write(ground.path("file"), b"x").unwrap();
    let rename = |from: &str, to: &str| errno(fs::rename(ground.path(from), ground.path(to)));
    assert_eq!(rename("dir", "dir/child/below"), Errno::INVAL);
    assert_eq!(rename("empty", "dir"), Errno::NOTEMPTY);
    assert_eq!(rename("dir", "file"), Errno::NOTDIR);
    assert_eq!(rename("file", "dir"), Errno::ISDIR);
    assert_eq!(rename("absent", "file"), Errno::NOENT);
    assert_eq!(rename("file", "absent/file"), Errno::NOENT);
    assert_eq!(rename("file", "file/below"), Errno::NOTDIR);
    let exchange = rename_with(&ground.path("dir"), &ground.path("dir/child"), RenameFlags::EXCHANGE);
    assert_eq!(exchange, Err(Errno::INVAL));
    assert_eq!(fs::read(ground.path("file")).unwrap(), b"x");
    assert_eq!(names(&ground.path("dir")), ["child"]);
    // A directory may replace an empty one.
    fs::rename(ground.path("dir"), ground.path("empty")).unwrap();
    assert_eq!(names(&ground.path("empty")), ["child"]);
    ground.finish();
}

#[test]
fn renaming_one_link_over_another_of_the_same_file_does_nothing() {
    let Some(ground) = Ground::new("renaming_one_link_over_another_of_the_same_file_does_nothing") else { return };
    fs::write(ground.path("a"), b"x").unwrap();
    fs::hard_link(ground.path("a"), ground.path("b")).unwrap();
    fs::rename(ground.path("a"), ground.path("b")).unwrap();
    assert!(ground.path("a").exists() && ground.path("b").exists());
    assert_eq!(fs::metadata(ground.path("a")).unwrap().nlink(), 2);
    ground.finish();
}

#[test]
fn a_moved_directory_takes_everything_along() {
    let Some(mut ground) = Ground::new("a_moved_directory_takes_everything_along") else { return };
    fs::create_dir_all(ground.path("from/a/b/c")).unwrap();
    fs::create_dir(ground.path("to")).unwrap();
    fs::write(ground.path("from/a/b/c/file"), b"deep").unwrap();
    let open = File::open(ground.path("from/a/b/c/file")).unwrap();
    fs::rename(ground.path("from/a"), ground.path("to/a")).unwrap();
    assert_eq!(fs::read(ground.path("to/a/b/c/file")).unwrap(), b"deep");
    assert_eq!(open.metadata().unwrap().len(), 4);
    drop(open);
    let up = fs::metadata(ground.path("to/a/..")).unwrap().ino();
    assert_eq!(up, fs::metadata(ground.path("to")).unwrap().ino(), "`..` leads to the new parent");
    assert_eq!(fs::metadata(ground.path("from")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(ground.path("to")).unwrap().nlink(), 3);
    ground.remount();
    assert_eq!(fs::read(ground.path("to/a/b/c/file")).unwrap(), b"deep");
    assert!(names(&ground.path("from")).is_empty());
    ground.finish();
}
