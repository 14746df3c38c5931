//! A process that is killed while it writes.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// Set in the environment of the process to be killed: where its index is.
const CHILD_DIR: &str = "WAMEDIA_TEST_INDEX_CHILD";

/// Records that every batch sets to the batch's number.
const RECORDS: u64 = 300;

fn key(n: u64) -> Vec<u8> {
    xxh3_128(&n.to_be_bytes()).to_be_bytes().to_vec()
}

/// The number of the last batch, which every record must hold; 0 in an empty index.
fn state(index: &Index) -> u64 {
    let number = |value: Option<Vec<u8>>| value.map_or(0, |v| u64::from_be_bytes(v[..8].try_into().unwrap()));
    let first = number(index.get(Table::Names, &key(0)).unwrap());
    for n in 0..RECORDS {
        assert_eq!(number(index.get(Table::Names, &key(n)).unwrap()), first, "record {n} is of another batch");
    }
    let rows = index.scan(Table::Inodes, Bound::Unbounded, Bound::Unbounded, usize::MAX).unwrap();
    let wanted: Vec<u64> = (first.saturating_sub(20) + 1..=first).collect();
    let found: Vec<u64> = rows.iter().map(|(k, _)| u64::from_be_bytes(k[..].try_into().unwrap())).collect();
    assert_eq!(found, wanted);
    first
}

/// Not a test of its own: what the killed process runs. Without its variable it does nothing.
#[test]
fn child_writes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let index = opened(Path::new(&dir));
    let mut batch = state(&index);
    loop {
        batch += 1;
        for n in 0..RECORDS {
            let mut value = batch.to_be_bytes().to_vec();
            value.resize(8 + (n * batch % 200) as usize, 1);
            index.put(Table::Names, &key(n), value);
        }
        index.put(Table::Inodes, &batch.to_be_bytes(), vec![0; 300]);
        if let Some(old) = batch.checked_sub(20) {
            index.delete(Table::Inodes, &old.to_be_bytes());
        }
        write(&index);
        if batch.is_multiple_of(5) {
            index.flush().unwrap();
            println!("flushed {batch}");
        }
    }
}

#[test]
fn a_kill_at_any_time_leaves_whole_batches_and_all_that_were_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index");
    let mut reached = 0;
    for round in 0..6_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "index::tests::crash::child_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD_DIR, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let lines = out.lines().map_while(|line| line.ok());
            let flushed = lines.filter_map(|line| line.split("flushed ").nth(1)?.parse::<u64>().ok());
            flushed.max().unwrap_or(0)
        });
        std::thread::sleep(Duration::from_millis(400 + 137 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let flushed = reader.join().unwrap();
        let index = opened(&path);
        let found = state(&index);
        assert!(found >= flushed.max(reached), "{found} found, {flushed} flushed, {reached} before");
        reached = found;
        if round % 2 == 0 {
            index.close().unwrap();
        }
    }
    assert!(reached > 0, "no round wrote anything");
}
