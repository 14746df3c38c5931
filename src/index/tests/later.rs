//! The check of all pages that an open puts off.

use std::fs;

use super::*;
use crate::index::base;

/// An index whose process was killed after a batch, opened again.
fn killed(dir: &Path) -> Index {
    let index = opened(dir);
    fill(&index, 3000);
    write(&index);
    index.flush().unwrap();
    drop(index);
    let index = opened(dir);
    assert!(index.checking.lock().is_some(), "what was written is in the page cache at least");
    index
}

#[test]
fn batches_go_on_while_the_pages_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let index = killed(dir.path());
    let mut step = 0u64;
    while index.check_some(20).unwrap() {
        for n in 0..40u64 {
            let n = (n * 797 + step * 131) % 3500;
            index.put(Table::Inodes, &n.to_be_bytes(), vec![1; 150]);
            index.delete(Table::Names, &xxh3_128(&(n + 1).to_be_bytes()).to_be_bytes());
        }
        write(&index);
        step += 1;
    }
    assert!(step > 10, "{step} steps");
    assert!(index.checking.lock().is_none());
    assert!(index.pages.sum_up().unwrap().same_pages(&index.head.lock()));
    index.close().unwrap();
    assert!(opened(dir.path()).checking.lock().is_none(), "a clean end leaves nothing to check");
}

#[test]
fn a_page_that_was_lost_is_noticed_and_the_next_open_looks_first() {
    let dir = tempfile::tempdir().unwrap();
    let index = killed(dir.path());
    let leaf = index.pages.holding(&base::full_key(Table::Inodes, &1500_u64.to_be_bytes())).unwrap().unwrap();
    let name = base::page_name(leaf.front, leaf.end.as_deref());
    index.pages.base.apply(base::Changes::from([(name, None)])).unwrap();
    let found = loop {
        match index.check_some(50) {
            Ok(more) => assert!(more, "the pages sum up without one of them"),
            Err(e) => break e,
        }
    };
    assert_eq!(found.kind(), crate::error::Kind::Damaged);
    index.flush().unwrap();
    drop(index);
    assert!(refused(dir.path(), sealer()).0.contains("lost or mixed"));
}

#[test]
fn under_another_mount_or_boot_nothing_is_put_off() {
    let dir = tempfile::tempdir().unwrap();
    drop(killed(dir.path()));
    fs::write(dir.path().join("session"), "another boot 7\n").unwrap();
    assert!(opened(dir.path()).checking.lock().is_none());
    fs::write(dir.path().join("session"), [0xff; 10]).unwrap();
    assert!(opened(dir.path()).checking.lock().is_none());
    fs::remove_file(dir.path().join("session")).unwrap();
    assert!(opened(dir.path()).checking.lock().is_none());
}
