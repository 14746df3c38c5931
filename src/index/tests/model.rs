//! Random operations on an index and on a `BTreeMap`, compared after each.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const TABLES: [Table; 3] = [Table::Meta, Table::Names, Table::Types];

type Model = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

#[derive(Clone, Debug)]
enum Op {
    Put(usize, Vec<u8>, Vec<u8>),
    /// Many ascending keys at once, so that pages split.
    Fill(usize, u16, u16),
    Delete(usize, Vec<u8>),
    /// Deletes up to so many records from the given rank on.
    Clear(usize, u16, u16),
    Freeze,
    Write,
    Flush,
    Reopen,
    Drop,
    Scan(usize, Bound<Vec<u8>>, Bound<Vec<u8>>, usize),
}

/// Keys that collide, extend each other and touch the ends of the byte range.
fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(prop_oneof![Just(0_u8), Just(1), Just(127), Just(254), Just(255)], 0..8),
        2 => any::<u16>().prop_map(|n| u64::from(n).to_be_bytes().to_vec()),
        1 => vec(Just(255_u8), 0..40),
        1 => vec(any::<u8>(), 0..30),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 0..80),
        2 => Just(Vec::new()),
        2 => vec(any::<u8>(), 250..400),
        1 => (any::<u8>(), 1_000_usize..20_000).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![key().prop_map(Bound::Included), key().prop_map(Bound::Excluded), Just(Bound::Unbounded)]
}

fn op() -> impl Strategy<Value = Op> {
    let table = 0..TABLES.len();
    prop_oneof![
        12 => (table.clone(), key(), value()).prop_map(|(t, k, v)| Op::Put(t, k, v)),
        3 => (table.clone(), any::<u16>(), 1_u16..300).prop_map(|(t, from, n)| Op::Fill(t, from, n)),
        6 => (table.clone(), key()).prop_map(|(t, k)| Op::Delete(t, k)),
        2 => (table.clone(), any::<u16>(), 1_u16..400).prop_map(|(t, from, n)| Op::Clear(t, from, n)),
        3 => Just(Op::Freeze),
        3 => Just(Op::Write),
        1 => Just(Op::Flush),
        1 => Just(Op::Reopen),
        1 => Just(Op::Drop),
        6 => (table, bound(), bound(), prop_oneof![1_usize..20, Just(usize::MAX)]).prop_map(|(t, a, b, n)| Op::Scan(t, a, b, n)),
    ]
}

fn inside(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>, key: &Vec<u8>) -> bool {
    let above = match from {
        Bound::Included(from) => key >= from,
        Bound::Excluded(from) => key > from,
        Bound::Unbounded => true,
    };
    let below = match to {
        Bound::Included(to) => key <= to,
        Bound::Excluded(to) => key < to,
        Bound::Unbounded => true,
    };
    above && below
}

fn records(model: &Model, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let of_table = model.iter().filter(|((t, _), _)| *t == table as u8);
    of_table.map(|((_, key), value)| (key.clone(), value.clone())).collect()
}

fn compare_scan(index: &Index, model: &Model, table: Table, from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>, limit: usize) {
    let mut wanted = records(model, table);
    wanted.retain(|(key, _)| inside(from, to, key));
    let (from, to) = (from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice));
    let up: Vec<_> = wanted.iter().take(limit).cloned().collect();
    let down: Vec<_> = wanted.iter().rev().take(limit).cloned().collect();
    assert_eq!(index.last(table, from, to).unwrap(), wanted.last().cloned());
    assert_eq!(
        index.scan_keys(table, from, to, limit).unwrap(),
        up.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>()
    );
    assert_eq!(index.scan(table, from, to, limit).unwrap(), up);
    assert_eq!(index.scan_rev(table, from, to, limit).unwrap(), down);
}

/// Runs `ops` on an index on disk, one in memory and the model; `reopen` gives the one on disk anew.
fn run(ops: Vec<Op>, dir: &Path) {
    let mut disk = Some(opened(dir));
    let memory = Index::in_memory(sealer());
    let mut model = Model::new();
    for op in ops {
        let index = disk.as_ref().unwrap();
        let both = [index, &memory];
        match op {
            Op::Put(table, key, value) => {
                both.iter().for_each(|i| i.put(TABLES[table], &key, value.clone()));
                model.insert((TABLES[table] as u8, key), value);
            }
            Op::Fill(table, from, n) => {
                for number in from..from.saturating_add(n) {
                    let (key, value) = (u64::from(number).to_be_bytes(), vec![number as u8; usize::from(number) % 90]);
                    both.iter().for_each(|i| i.put(TABLES[table], &key, value.clone()));
                    model.insert((TABLES[table] as u8, key.to_vec()), value);
                }
            }
            Op::Delete(table, key) => {
                both.iter().for_each(|i| i.delete(TABLES[table], &key));
                model.remove(&(TABLES[table] as u8, key));
            }
            Op::Clear(table, from, n) => {
                let all = records(&model, TABLES[table]);
                let from = usize::from(from) % (all.len() + 1);
                for (key, _) in all.into_iter().skip(from).take(usize::from(n)) {
                    both.iter().for_each(|i| i.delete(TABLES[table], &key));
                    model.remove(&(TABLES[table] as u8, key));
                }
            }
            Op::Freeze => both.iter().for_each(|i| _ = i.freeze()),
            Op::Write => both.iter().for_each(|i| i.write_frozen().unwrap()),
            Op::Flush => both.iter().for_each(|i| i.flush().unwrap()),
            Op::Reopen | Op::Drop => {
                let index = disk.take().unwrap();
                if matches!(op, Op::Reopen) {
                    index.close().unwrap();
                } else {
                    while index.freeze() {
                        index.write_frozen().unwrap();
                    }
                }
                drop(index);
                disk = Some(opened(dir));
                assert!(!disk.as_ref().unwrap().is_new());
            }
            Op::Scan(table, from, to, limit) => {
                both.iter().for_each(|i| compare_scan(i, &model, TABLES[table], &from, &to, limit));
            }
        }
    }
    for index in [disk.as_ref().unwrap(), &memory] {
        for table in TABLES {
            compare_scan(index, &model, table, &Bound::Unbounded, &Bound::Unbounded, usize::MAX);
            for (key, value) in records(&model, table) {
                assert_eq!(index.get(table, &key).unwrap(), Some(value));
                let other = [key.as_slice(), b"x"].concat();
                assert_eq!(index.get(table, &other).unwrap(), model.get(&(table as u8, other)).cloned());
            }
        }
        while index.freeze() {
            index.write_frozen().unwrap();
        }
        assert!(index.pages.sum_up().unwrap().same_pages(&index.head.lock()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn all_layers_together_are_one_ordered_map_on_disk_and_in_memory(ops in vec(op(), 1..120)) {
        let dir = tempfile::tempdir().unwrap();
        run(ops, &dir.path().join("index"));
    }
}
