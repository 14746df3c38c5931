//! A small file system that fills up.

use std::fs;
use std::process::Command;

use super::base::{Base, Changes};
use super::disk::Disk;
use super::*;
use crate::error::Kind;

/// A small tmpfs, gone when this is.
struct Small(tempfile::TempDir);

impl Small {
    /// Mounts one of so many MiB; `None` where that is not allowed.
    fn mount(mib: u32) -> Option<Small> {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={mib}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(dir.path()).output();
        if done.is_ok_and(|output| output.status.success()) {
            return Some(Small(dir));
        }
        eprintln!("SKIPPED: a test of a full disk needs the right to mount a tmpfs");
        None
    }

    fn index(&self) -> std::path::PathBuf {
        self.0.path().join("index")
    }

    /// Takes all space but about `spare` KiB.
    fn take_space(&self, spare: u64) {
        let free = files::free_bytes(self.0.path()).unwrap();
        fs::write(self.0.path().join("filler"), vec![1; free.saturating_sub(spare * 1024) as usize]).unwrap();
    }

    fn give_back(&self) {
        fs::remove_file(self.0.path().join("filler")).unwrap();
    }

    /// Everything but the filler, by path.
    fn left(&self) -> Vec<String> {
        let all = walkdir::WalkDir::new(self.0.path()).min_depth(1).into_iter().map(|entry| entry.unwrap());
        let names = all.map(|e| e.path().strip_prefix(self.0.path()).unwrap().display().to_string());
        let mut names: Vec<String> = names.filter(|name| name != "filler").collect();
        names.sort();
        names
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // A file that another test's child inherits between fork and exec keeps the mount busy for an instant.
        let is_done = (0..50).any(|_| {
            let done = Command::new("umount").arg(self.0.path()).output().is_ok_and(|output| output.status.success());
            if !done {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            done
        });
        assert!(std::thread::panicking() || is_done, "a mount was left behind");
    }
}

#[test]
fn a_batch_for_which_there_is_no_room_waits_and_reads_go_on() {
    let Some(small) = Small::mount(64) else { return };
    let index = opened(&small.index());
    fill(&index, 500);
    write(&index);
    index.flush().unwrap();
    for spare in [0, 64, 1024] {
        small.take_space(spare);
        index.put(Table::Inodes, &3_u64.to_be_bytes(), b"new".to_vec());
        assert!(index.freeze());
        assert_eq!(index.write_frozen().unwrap_err().kind(), Kind::NoSpace);
        assert_eq!(index.get(Table::Inodes, &3_u64.to_be_bytes()).unwrap(), Some(b"new".to_vec()));
        assert_eq!(index.get(Table::Inodes, &4_u64.to_be_bytes()).unwrap(), Some(vec![4; 104]));
        assert_eq!(index.scan(Table::Inodes, Bound::Unbounded, Bound::Unbounded, usize::MAX).unwrap().len(), 500);
        small.give_back();
        index.write_frozen().unwrap();
        index.flush().unwrap();
    }
    index.close().unwrap();
    let again = opened(&small.index());
    assert_eq!(again.get(Table::Inodes, &3_u64.to_be_bytes()).unwrap(), Some(b"new".to_vec()));
}

#[test]
fn a_full_disk_is_told_as_one_and_keeps_an_index_as_it_is() {
    let Some(small) = Small::mount(64) else { return };
    for clean in [true, false] {
        let index = opened(&small.index());
        fill(&index, 2000);
        write(&index);
        index.flush().unwrap();
        if clean {
            index.close().unwrap();
        }
        drop(index);
        let before = small.left();
        for spare in [0, 4, 100, 1500] {
            small.take_space(spare);
            assert!(refused(&small.index(), sealer()).1);
            assert_eq!(small.left(), before);
            small.give_back();
        }
        let index = opened(&small.index());
        assert_eq!(index.scan(Table::Inodes, Bound::Unbounded, Bound::Unbounded, usize::MAX).unwrap().len(), 2000);
    }
}

#[test]
fn no_index_is_begun_on_a_full_disk() {
    let Some(small) = Small::mount(16) else { return };
    small.take_space(100);
    assert!(refused(&small.index(), sealer()).1);
    assert!(small.left().iter().all(|name| name == "index"), "{:?}", small.left());
    small.give_back();
    assert!(opened(&small.index()).is_new());
}

/// Space that goes after it was asked for: sled itself meets the full disk.
#[test]
fn a_disk_that_fills_up_under_sled_is_an_error_for_all_writes_that_follow_and_keeps_what_was_flushed() {
    let Some(small) = Small::mount(48) else { return };
    let page = |n: u32| (n.to_be_bytes().to_vec(), Some(vec![n as u8; 700]));
    let path = small.0.path().join("tree");
    let disk = Disk::open(&path, 1 << 20).unwrap();
    disk.apply((0..1000).map(page).collect()).unwrap();
    disk.flush(0).unwrap();
    small.take_space(0);
    let failed = (1000..9000).find_map(|n| disk.write(Changes::from([page(n)])).and_then(|()| disk.flush(0)).err());
    assert_eq!(failed.unwrap().kind(), Kind::Io);
    assert_eq!(disk.page(&5_u32.to_be_bytes()).unwrap(), page(5).1);
    assert_eq!(disk.first(Bound::Unbounded).unwrap().unwrap().0, page(0).0);
    assert_eq!(disk.write(Changes::from([page(1)])).unwrap_err().kind(), Kind::Io);
    assert_eq!(disk.flush(0).unwrap_err().kind(), Kind::Io);
    drop(disk);
    small.give_back();
    let disk = Disk::open(&path, 1 << 20).unwrap();
    for n in 0..1000_u32 {
        assert_eq!(disk.page(&n.to_be_bytes()).unwrap(), page(n).1);
    }
}
