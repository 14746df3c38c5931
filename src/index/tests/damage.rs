//! Directories in which something is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::error::Kind;

/// Records by key.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

const RECORDS: u64 = 3000;

/// A closed index with [`RECORDS`] records; `clean` or as after a kill.
fn make(dir: &Path, clean: bool) {
    let index = opened(dir);
    fill(&index, RECORDS / 2);
    write(&index);
    fill(&index, RECORDS);
    write(&index);
    for n in (0..RECORDS).step_by(7) {
        index.delete(Table::Inodes, &n.to_be_bytes());
    }
    write(&index);
    index.flush().unwrap();
    if clean {
        index.close().unwrap();
    }
}

/// What [`make`] wrote.
fn wanted() -> BTreeMap<Vec<u8>, Vec<u8>> {
    let memory = Index::in_memory(sealer());
    fill(&memory, RECORDS);
    for n in (0..RECORDS).step_by(7) {
        memory.delete(Table::Inodes, &n.to_be_bytes());
    }
    let all = |table| memory.scan(table, Bound::Unbounded, Bound::Unbounded, usize::MAX).unwrap();
    all(Table::Inodes).into_iter().chain(all(Table::Names)).collect()
}

/// The files of a directory tree, in memory.
struct Copied(Vec<(PathBuf, Vec<u8>)>);

impl Copied {
    fn of(dir: &Path) -> Copied {
        let entries = walkdir::WalkDir::new(dir).into_iter().map(|entry| entry.unwrap());
        let files = entries.filter(|entry| entry.file_type().is_file());
        Copied(
            files
                .map(|file| (file.path().strip_prefix(dir).unwrap().to_owned(), fs::read(file.path()).unwrap()))
                .collect(),
        )
    }

    fn restore(&self, dir: &Path) {
        for (path, bytes) in &self.0 {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

/// All files with something in them.
fn files_in(dir: &Path) -> Vec<PathBuf> {
    let all = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(|entry| entry.unwrap());
    all.filter(|e| e.file_type().is_file() && e.metadata().unwrap().len() > 0).map(|e| e.into_path()).collect()
}

/// An index that opened must answer rightly or say that it cannot.
fn honest(dir: &Path, wanted: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let Opened::Ready(index) = Index::open(dir, Options::default(), sealer()) else { return };
    assert!(!index.is_new());
    let allowed = [Kind::Damaged, Kind::Io, Kind::Version];
    // What an open under the same mount puts off.
    loop {
        match index.check_some(1000) {
            Ok(true) => {}
            Ok(false) => break,
            Err(e) => return assert!(allowed.contains(&e.kind()), "{e}"),
        }
    }
    for n in 0..RECORDS {
        for (table, key) in [
            (Table::Inodes, n.to_be_bytes().to_vec()),
            (Table::Names, xxh3_128(&n.to_be_bytes()).to_be_bytes().to_vec()),
        ] {
            match index.get(table, &key) {
                Ok(value) => assert_eq!(value.as_ref(), wanted.get(&key), "{table:?} {n}"),
                Err(e) => assert!(allowed.contains(&e.kind()), "{e:?}"),
            }
        }
    }
    for table in [Table::Inodes, Table::Names] {
        match index.scan(table, Bound::Unbounded, Bound::Unbounded, usize::MAX) {
            Ok(rows) => {
                assert_eq!(rows.len(), wanted.keys().filter(|k| (k.len() == 8) == (table == Table::Inodes)).count())
            }
            Err(e) => assert!(allowed.contains(&e.kind()), "{e:?}"),
        }
    }
    // Writing on top may fail, but only with an error.
    index.put(Table::Inodes, b"new", vec![1; 500]);
    index.freeze();
    let _ = index.write_frozen().and_then(|()| index.flush()).and_then(|()| index.close());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 800, ..ProptestConfig::default() })]
    #[test]
    fn a_changed_byte_or_a_cut_file_is_an_error_and_never_a_wrong_value(
        clean in any::<bool>(), pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), mask in 1_u8..=255, cut in prop::bool::weighted(0.2),
    ) {
        use std::sync::OnceLock;
        // In memory, since nothing drops a static.
        static MADE: OnceLock<([Copied; 2], Records)> = OnceLock::new();
        let (made, wanted) = MADE.get_or_init(|| {
            let made = [false, true].map(|clean| {
                let dir = tempfile::tempdir().unwrap();
                make(dir.path(), clean);
                Copied::of(dir.path())
            });
            (made, wanted())
        });
        let dir = tempfile::tempdir().unwrap();
        made[usize::from(clean)].restore(dir.path());
        let files = files_in(dir.path());
        // Half of all cases go to the log, which is nearly all of the bytes.
        let log = files.iter().find(|path| path.ends_with("db")).unwrap();
        let path = if mask % 2 == 0 { log } else { pick.get(&files) };
        let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
        let offset = at.index(file.metadata().unwrap().len() as usize) as u64;
        if cut {
            file.set_len(offset).unwrap();
        } else {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset).unwrap();
            file.write_all_at(&[byte[0] ^ mask], offset).unwrap();
        }
        honest(dir.path(), wanted);
    }
}

#[test]
fn another_key_makes_the_index_unusable() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), true);
    let (reason, full_disk) = refused(dir.path(), TestSealer::new(8));
    assert!(reason.contains("key"), "{reason}");
    assert!(!full_disk);
    assert_eq!(opened(dir.path()).get(Table::Inodes, &1_u64.to_be_bytes()).unwrap(), Some(vec![1; 101]));
}

#[test]
fn pages_that_do_not_open_are_damaged() {
    let sealer = TestSealer::new(7);
    let index = Index::in_memory(sealer.clone());
    fill(&index, 100);
    write(&index);
    sealer.set_broken(true);
    let kind = |result: Result<()>| result.unwrap_err().kind();
    let key = 5_u64.to_be_bytes();
    assert_eq!(kind(index.get(Table::Inodes, &key).map(drop)), Kind::Damaged);
    assert_eq!(kind(index.scan(Table::Inodes, Bound::Unbounded, Bound::Unbounded, 1).map(drop)), Kind::Damaged);
    assert_eq!(kind(index.last(Table::Inodes, Bound::Unbounded, Bound::Unbounded).map(drop)), Kind::Damaged);
    index.put(Table::Inodes, &key, Vec::new());
    assert_eq!(index.get(Table::Inodes, &key).unwrap(), Some(Vec::new()));
    assert!(index.freeze());
    assert_eq!(kind(index.write_frozen()), Kind::Damaged);
    sealer.set_broken(false);
    index.write_frozen().unwrap();
    assert_eq!(index.get(Table::Inodes, &6_u64.to_be_bytes()).unwrap(), Some(vec![6; 106]));
}

#[test]
fn a_missing_page_is_noticed_by_whoever_comes_by() {
    let index = Index::in_memory(sealer());
    fill(&index, 100);
    write(&index);
    let key = 50_u64.to_be_bytes();
    let leaf = index.pages.holding(&full_key(Table::Inodes, &key)).unwrap().unwrap();
    let name = base::page_name(leaf.front, leaf.end.as_deref());
    index.pages.base.apply(base::Changes::from([(name, None)])).unwrap();
    index.pages.leaves.clear();
    let kind = |result: Result<()>| result.unwrap_err().kind();
    assert_eq!(kind(index.get(Table::Inodes, &key).map(drop)), Kind::Damaged);
    assert_eq!(
        kind(index.scan(Table::Inodes, Bound::Unbounded, Bound::Unbounded, usize::MAX).map(drop)),
        Kind::Damaged
    );
    assert_eq!(
        kind(index.scan_rev(Table::Inodes, Bound::Unbounded, Bound::Unbounded, usize::MAX).map(drop)),
        Kind::Damaged
    );
    assert_eq!(index.get(Table::Inodes, &0_u64.to_be_bytes()).unwrap(), Some(vec![0; 100]));
    assert!(!index.pages.sum_up().unwrap().same_pages(&index.head.lock()));
}

#[test]
fn a_half_written_snapshot_is_swept_away() {
    for clean in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path(), clean);
        let left = dir.path().join("tree/snap.7FFFFFFFFFFFFFFF.generating");
        fs::write(&left, b"half").unwrap();
        let index = opened(dir.path());
        assert!(!left.exists());
        assert_eq!(index.get(Table::Inodes, &1_u64.to_be_bytes()).unwrap(), Some(vec![1; 101]));
    }
}

#[test]
fn an_index_that_was_never_finished_is_unusable_until_it_is_discarded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    fs::create_dir_all(path.join("tree")).unwrap();
    assert!(refused(&path, sealer()).0.contains("never finished"));
    discard(&path).unwrap();
    discard(&path).unwrap();
    assert!(opened(&path).is_new());
}

#[test]
fn an_index_of_another_format_is_unusable() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path());
    let mut head = index.head.lock().encode();
    head[0] += 1;
    let sealed = index.pages.seal(&base::HEAD_NAME, &head);
    index.pages.base.apply(base::Changes::from([(base::HEAD_NAME.to_vec(), Some(sealed))])).unwrap();
    drop(index);
    assert!(refused(dir.path(), sealer()).0.contains("format"));
}

#[test]
fn pages_brought_back_after_an_unclean_end_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path());
    fill(&index, 50);
    write(&index);
    let name = base::page_name(Table::Inodes as u8 * 2 + 1, None);
    let old = index.pages.base.page(&name).unwrap();
    index.put(Table::Inodes, &49_u64.to_be_bytes(), vec![1]);
    write(&index);
    index.pages.base.apply(base::Changes::from([(name, old)])).unwrap();
    index.flush().unwrap();
    drop(index);
    let index = opened(dir.path());
    assert_eq!(index.check_some(1000).unwrap_err().kind(), Kind::Damaged);
    drop(index);
    assert!(refused(dir.path(), sealer()).0.contains("lost or mixed"));
}

#[test]
fn a_second_opener_is_told_that_it_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path());
    assert!(matches!(Index::open(dir.path(), Options::default(), sealer()), Opened::Locked));
    index.put(Table::Meta, b"a", b"b".to_vec());
    index.close().unwrap();
    assert_eq!(index.get(Table::Meta, b"a").unwrap_err().kind(), Kind::BadHandle);
    assert_eq!(opened(dir.path()).get(Table::Meta, b"a").unwrap(), Some(b"b".to_vec()));
}
