//! Hard links, symbolic links, and files that lose their name while they are open.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};

use rustix::io::Errno;

use crate::errno;
use crate::support::ground::Ground;
use crate::support::patterns::{assert_same, bytes};

#[test]
fn hard_links_are_one_file() {
    let Some(mut ground) = Ground::new("hard_links_are_one_file") else { return };
    fs::create_dir(ground.path("dir")).unwrap();
    fs::write(ground.path("one"), b"content").unwrap();
    fs::hard_link(ground.path("one"), ground.path("dir/two")).unwrap();
    fs::write(ground.path("dir/two"), b"new content").unwrap();
    for _ in 0..2 {
        assert_eq!(fs::read(ground.path("one")).unwrap(), b"new content");
        let (one, two) = (fs::metadata(ground.path("one")).unwrap(), fs::metadata(ground.path("dir/two")).unwrap());
        assert_eq!((one.ino(), one.nlink()), (two.ino(), two.nlink()));
        assert_eq!(one.nlink(), 2);
        ground.remount();
    }
    assert_eq!(errno(fs::hard_link(ground.path("one"), ground.path("dir/two"))), Errno::EXIST);
    assert_eq!(errno(fs::hard_link(ground.path("dir"), ground.path("dir2"))), Errno::PERM);
    fs::remove_file(ground.path("one")).unwrap();
    assert_eq!(fs::read(ground.path("dir/two")).unwrap(), b"new content");
    assert_eq!(fs::metadata(ground.path("dir/two")).unwrap().nlink(), 1);
    ground.remount();
    assert_eq!(fs::read(ground.path("dir/two")).unwrap(), b"new content");
    assert!(!ground.path("one").exists());
    ground.finish();
}

#[test]
fn a_removed_file_lives_on_behind_its_handle() {
    let Some(ground) = Ground::new("a_removed_file_lives_on_behind_its_handle") else { return };
    let path = ground.path("file");
    let content = bytes(1, 200_000);
    fs::write(&path, &content).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(errno(fs::metadata(&path)), Errno::NOENT);
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    let mut read = vec![0; content.len()];
    file.read_exact_at(&mut read, 0).unwrap();
    assert_same(&read, &content, "after the removal");
    file.write_all_at(b"still writable", 199_990).unwrap();
    file.set_len(200_100).unwrap();
    file.sync_all().unwrap();
    fs::write(&path, b"another file of that name").unwrap();
    let mut tail = [0; 14];
    file.read_exact_at(&mut tail, 199_990).unwrap();
    assert_eq!(&tail, b"still writable");
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"another file of that name");
    ground.finish();
}

#[test]
fn symbolic_links_keep_their_target_byte_for_byte() {
    let Some(mut ground) = Ground::new("symbolic_links_keep_their_target_byte_for_byte") else { return };
    // As long as there is room for in what the kernel takes for a path.
    let long = "x/".repeat(2047) + "x";
    let targets: [&[u8]; 5] =
        [b"target", b"/absolute/path", b"no\xffutf8\xfe", b" spaces and\nnewline ", long.as_bytes()];
    for (number, target) in targets.iter().enumerate() {
        symlink(OsStr::from_bytes(target), ground.path(format!("link{number}"))).unwrap();
    }
    for _ in 0..2 {
        for (number, target) in targets.iter().enumerate() {
            let path = ground.path(format!("link{number}"));
            assert_eq!(fs::read_link(&path).unwrap().as_os_str().as_bytes(), *target);
            let meta = fs::symlink_metadata(&path).unwrap();
            assert_eq!((meta.len(), meta.is_symlink()), (target.len() as u64, true));
        }
        ground.remount();
    }
    assert_eq!(errno(fs::read_link(ground.root())), Errno::INVAL);
    assert_eq!(errno(symlink("x".repeat(4096), ground.path("longer"))), Errno::NAMETOOLONG);
    ground.finish();
}

#[test]
fn a_path_leads_through_symbolic_links() {
    let Some(ground) = Ground::new("a_path_leads_through_symbolic_links") else { return };
    fs::create_dir_all(ground.path("a/b")).unwrap();
    symlink("a/b", ground.path("short")).unwrap();
    symlink("../short/file", ground.path("a/far")).unwrap();
    fs::write(ground.path("short/file"), b"found").unwrap();
    assert_eq!(fs::read(ground.path("a/far")).unwrap(), b"found");
    assert_eq!(fs::read(ground.path("a/b/file")).unwrap(), b"found");
    fs::remove_file(ground.path("short")).unwrap();
    assert_eq!(errno(fs::read(ground.path("a/far"))), Errno::NOENT);
    ground.finish();
}

#[test]
fn a_file_has_as_many_names_as_the_volume_says_and_no_more() {
    /// The most names of one inode, as docs/FORMAT.md bounds them.
    const MOST: u64 = 1024;
    let Some(mut ground) = Ground::new("a_file_has_as_many_names_as_the_volume_says_and_no_more") else { return };
    if ground.is_plain() {
        return;
    }
    let path = ground.path("file");
    fs::write(&path, b"many names").unwrap();
    for number in 1..MOST {
        fs::hard_link(&path, ground.path(format!("name-{number}"))).unwrap();
    }
    assert_eq!(errno(fs::hard_link(&path, ground.path("one-more"))), Errno::MLINK);
    ground.remount();
    assert_eq!(fs::metadata(&path).unwrap().nlink(), MOST);
    assert_eq!(errno(fs::hard_link(&path, ground.path("one-more"))), Errno::MLINK);
    fs::remove_file(ground.path("name-1")).unwrap();
    fs::hard_link(&path, ground.path("one-more")).unwrap();
    ground.finish();
}
