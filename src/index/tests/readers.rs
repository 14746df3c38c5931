//! Layers, and readers beside the writer.

use std::sync::atomic::AtomicU64;

use super::*;

#[test]
fn the_uppermost_layer_wins_and_a_deletion_hides_what_is_below() {
    let dir = tempfile::tempdir().unwrap();
    for index in [opened(dir.path()), Index::in_memory(sealer())] {
        let all = || index.scan(Table::Meta, Bound::Unbounded, Bound::Unbounded, 10).unwrap();
        for (key, value) in [(b"a", b"1"), (b"b", b"1"), (b"c", b"1"), (b"d", b"1")] {
            index.put(Table::Meta, key, value.to_vec());
        }
        write(&index);
        index.put(Table::Meta, b"b", b"2".to_vec());
        index.delete(Table::Meta, b"c");
        index.put(Table::Meta, b"e", b"2".to_vec());
        assert!(index.freeze());
        index.put(Table::Meta, b"c", b"3".to_vec());
        index.delete(Table::Meta, b"d");
        index.delete(Table::Meta, b"e");
        let wanted =
            vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec()), (b"c".to_vec(), b"3".to_vec())];
        assert_eq!(all(), wanted);
        assert_eq!(index.get(Table::Meta, b"d").unwrap(), None);
        assert_eq!(index.last(Table::Meta, Bound::Unbounded, Bound::Unbounded).unwrap(), wanted.last().cloned());
        assert_eq!(index.pending(), 6);
        index.write_frozen().unwrap();
        assert_eq!(index.pending(), 3);
        assert_eq!(all(), wanted);
        write(&index);
        assert_eq!(index.pending(), 0);
        assert!(!index.freeze());
        index.write_frozen().unwrap();
        assert_eq!(all(), wanted);
    }
}

#[test]
fn a_second_freeze_joins_a_batch_that_still_waits() {
    let index = Index::in_memory(sealer());
    index.put(Table::Meta, b"a", b"1".to_vec());
    index.put(Table::Meta, b"b", b"1".to_vec());
    assert!(index.freeze());
    index.put(Table::Meta, b"a", b"2".to_vec());
    assert!(index.freeze());
    index.write_frozen().unwrap();
    assert_eq!(index.pending(), 0);
    assert_eq!(index.get(Table::Meta, b"a").unwrap(), Some(b"2".to_vec()));
    assert_eq!(index.get(Table::Meta, b"b").unwrap(), Some(b"1".to_vec()));
}

#[test]
fn tables_do_not_see_each_other() {
    let index = Index::in_memory(sealer());
    index.put(Table::Inodes, b"", b"i".to_vec());
    index.put(Table::Entries, b"", b"e".to_vec());
    index.put(Table::Entries, &[255; 50], b"f".to_vec());
    for _ in 0..2 {
        assert_eq!(
            index.scan(Table::Inodes, Bound::Unbounded, Bound::Unbounded, 9).unwrap(),
            [(vec![], b"i".to_vec())]
        );
        assert_eq!(
            index.scan_keys(Table::Entries, Bound::Unbounded, Bound::Unbounded, 9).unwrap(),
            [vec![], vec![255; 50]]
        );
        assert_eq!(index.last(Table::Meta, Bound::Unbounded, Bound::Unbounded).unwrap(), None);
        assert_eq!(index.get(Table::Names, b"").unwrap(), None);
        index.freeze();
        index.write_frozen().unwrap();
    }
}

#[test]
fn ranges_without_room_for_a_key_are_empty() {
    let index = Index::in_memory(sealer());
    index.put(Table::Meta, b"b", Vec::new());
    for _ in 0..2 {
        for (from, to) in [
            (Bound::Excluded(&b"b"[..]), Bound::Excluded(&b"b"[..])),
            (Bound::Included(b"b"), Bound::Excluded(b"b")),
            (Bound::Included(b"c"), Bound::Included(b"a")),
        ] {
            assert!(index.scan(Table::Meta, from, to, 9).unwrap().is_empty());
            assert!(index.scan_rev(Table::Meta, from, to, 9).unwrap().is_empty());
        }
        assert!(index.scan(Table::Meta, Bound::Unbounded, Bound::Unbounded, 0).unwrap().is_empty());
        index.freeze();
        index.write_frozen().unwrap();
    }
}

#[test]
fn wants_write_once_the_limit_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { pending_limit: 3, ..Options::default() };
    let Opened::Ready(index) = Index::open(dir.path(), options, sealer()) else { panic!("not opened") };
    index.put(Table::Meta, b"a", Vec::new());
    index.put(Table::Meta, b"b", Vec::new());
    assert!(!index.wants_write());
    index.delete(Table::Meta, b"c");
    assert!(index.wants_write());
    write(&index);
    assert!(!index.wants_write());
}

/// One thread changes, one moves batches down, two read: what was seen once is never unseen.
#[test]
fn readers_beside_the_writer_see_every_record_at_its_latest_value_or_later() {
    let dir = tempfile::tempdir().unwrap();
    let index = opened(dir.path());
    let (reached, done) = (AtomicU64::new(0), AtomicBool::new(false));
    const KEYS: u64 = 40;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=150_u64 {
                for key in 0..KEYS {
                    index.put(Table::Names, &key.to_be_bytes(), round.to_be_bytes().repeat(20));
                }
                reached.store(round, Ordering::SeqCst);
                std::thread::yield_now();
            }
            done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) || index.pending() > 0 {
                if index.freeze() {
                    index.write_frozen().unwrap();
                }
            }
        });
        for down in [false, true] {
            let (index, reached, done) = (&index, &reached, &done);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    let at_least = reached.load(Ordering::SeqCst);
                    let rows = if down {
                        index.scan_rev(Table::Names, Bound::Unbounded, Bound::Unbounded, usize::MAX)
                    } else {
                        index.scan(Table::Names, Bound::Unbounded, Bound::Unbounded, usize::MAX)
                    };
                    let rows = rows.unwrap();
                    assert!(at_least == 0 || rows.len() as u64 == KEYS, "{} rows", rows.len());
                    for (_, value) in rows {
                        assert!(u64::from_be_bytes(value[..8].try_into().unwrap()) >= at_least);
                    }
                    let one = index.get(Table::Names, &7_u64.to_be_bytes()).unwrap();
                    let one = one.map_or(0, |value| u64::from_be_bytes(value[..8].try_into().unwrap()));
                    assert!(one >= at_least);
                }
            });
        }
    });
    assert!(index.pages.sum_up().unwrap().same_pages(&index.head.lock()));
}
