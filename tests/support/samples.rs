//! The sample media and what must be said of each.

use std::fs;
use std::path::PathBuf;

/// One line of `tests/media/verdicts.tsv`.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Path below `tests/media`.
    pub path: String,
    /// What detection from the bytes must say.
    pub mime: String,
    /// The kind of WhatsApp media the bytes fit.
    pub kind: String,
    /// `ready`, or `unfit: <reason>`.
    pub verdict: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Sample {
    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// Where the samples lie.
pub fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/media")
}

/// All samples.
pub fn all() -> Vec<Sample> {
    let table = fs::read_to_string(dir().join("verdicts.tsv")).expect("tests/media/verdicts.tsv");
    let lines = table.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let samples: Vec<Sample> = lines
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let &[path, mime, kind, verdict, reason] = &columns[..] else { panic!("verdicts.tsv: {line:?}") };
            let verdict = if reason == "-" { verdict.to_owned() } else { format!("{verdict}: {reason}") };
            let bytes = fs::read(dir().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
            Sample { path: path.to_owned(), mime: mime.to_owned(), kind: kind.to_owned(), verdict, bytes }
        })
        .collect();
    assert!(samples.len() > 20, "verdicts.tsv has only {} samples", samples.len());
    samples
}
