//! The sample media against the table of what must be said of each.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use super::{Facts, Kind, Reason, SNIFF_BYTES, Verdict, inspect, kind_of, sniff};

/// One row of the table, with the bytes it is about.
pub(super) struct Sample {
    pub path: String,
    pub bytes: Vec<u8>,
    pub expected: Facts,
}

/// Every row of the table.
pub(super) fn samples() -> Vec<Sample> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media");
    let table = fs::read_to_string(folder.join("verdicts.tsv")).unwrap();
    let rows = table.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    rows.map(|row| sample(&folder, row)).collect()
}

fn sample(folder: &Path, row: &str) -> Sample {
    let columns: Vec<&str> = row.split('\t').collect();
    let [path, mime, kind, verdict, reason] = columns[..] else { panic!("not five columns: {row}") };
    let verdict = match verdict {
        "ready" => Verdict::Ready,
        "unfit" => Verdict::Unfit(*Reason::ALL.iter().find(|known| known.as_str() == reason).unwrap()),
        other => panic!("no verdict: {other}"),
    };
    let expected = Facts { mime: mime.to_owned(), kind: Kind::parse(kind).unwrap(), verdict };
    Sample { path: path.to_owned(), bytes: fs::read(folder.join(path)).unwrap(), expected }
}

fn facts(sample: &Sample) -> Facts {
    let name = Some(sample.path.as_bytes());
    inspect(Cursor::new(&sample.bytes), sample.bytes.len() as u64, name).unwrap()
}

#[test]
fn every_sample_is_what_the_table_says() {
    let samples = samples();
    assert!(samples.len() >= 26);
    for sample in samples {
        assert_eq!(facts(&sample), sample.expected, "{}", sample.path);
    }
}

#[test]
fn every_sample_file_stands_in_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media");
    let known: Vec<PathBuf> = samples().iter().map(|sample| folder.join(&sample.path)).collect();
    for entry in walkdir::WalkDir::new(&folder).min_depth(2) {
        let path = entry.unwrap().into_path();
        assert!(known.contains(&path), "{} has no row", path.display());
    }
}

#[test]
fn the_beginning_tells_the_same_type_as_the_whole() {
    for sample in samples() {
        let head = &sample.bytes[..sample.bytes.len().min(SNIFF_BYTES)];
        let sniffed = sniff(head, sample.bytes.len() as u64, Some(sample.path.as_bytes()));
        assert_eq!(sniffed, sample.expected.mime, "{}", sample.path);
    }
}

#[test]
fn the_kind_found_is_the_kind_of_the_type_found() {
    for sample in samples() {
        assert_eq!(kind_of(&sample.expected.mime), sample.expected.kind, "{}", sample.path);
    }
}

#[test]
fn names_change_no_type_that_the_bytes_tell() {
    for sample in samples().iter().filter(|sample| !sample.expected.mime.starts_with("text/")) {
        let len = sample.bytes.len() as u64;
        let found = inspect(Cursor::new(&sample.bytes), len, Some(b"misleading.csv")).unwrap();
        assert_eq!(found, sample.expected, "{}", sample.path);
    }
}
