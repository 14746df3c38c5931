//! What a copy did.

use std::path::Path;

use serde::Serialize;

use super::tree::Losses;
use crate::cli::output;
use crate::error::Error;

/// Failures that are kept word for word; further ones are only counted.
const MAX_FAILURES: usize = 1000;

/// What a copy did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Files written.
    pub files: u64,
    /// Of these, files that were there with another size or time.
    pub replaced: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Files written that were read back and have the digest of the source.
    pub verified: u64,
    /// Files and other entries that were there already.
    pub skipped: u64,
    /// Directories made.
    pub directories: u64,
    /// Hard links made.
    pub hard_links: u64,
    /// Symbolic links made.
    pub symlinks: u64,
    /// Pipes, sockets and devices made.
    pub others: u64,
    /// Entries left out because a volume keeps their name for itself.
    pub left_out: u64,
    /// Entries whose owner could not be kept (only root may give files away).
    pub owners_lost: u64,
    /// Extended attributes that could not be kept.
    pub attributes_lost: u64,
    /// Entries that failed.
    pub failed: u64,
    /// The first thousand of them.
    pub failures: Vec<FailedEntry>,
}

/// An entry that could not be copied.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FailedEntry {
    /// Its path.
    pub path: String,
    /// What went wrong.
    pub problem: String,
}

impl Report {
    /// Notes a failure, and tells of it on stderr.
    pub fn fail(&mut self, path: &Path, error: &Error) {
        let path = path.display().to_string();
        eprintln!("wamedia: {}: {error}", output::printable(&path));
        self.failed += 1;
        if self.failures.len() < MAX_FAILURES {
            self.failures.push(FailedEntry { path, problem: error.to_string() });
        }
    }

    /// Notes an entry whose name a volume keeps for itself, and tells of it on stderr.
    pub fn leave_out(&mut self, path: &Path) {
        eprintln!(
            "wamedia: {0} is left out: a volume shows expired media under that name; rename it to take it along",
            output::printable(&path.display().to_string())
        );
        self.left_out += 1;
    }

    /// Notes what could not be kept.
    pub fn lose(&mut self, losses: Losses) {
        self.owners_lost += u64::from(losses.owner);
        self.attributes_lost += losses.attributes;
    }

    /// The report as names and values; what is zero and of no interest then is left out.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            (
                "written",
                format!(
                    "{} files ({}), of which {} replaced others",
                    self.files,
                    output::size(self.bytes),
                    self.replaced
                ),
            ),
            ("verified", format!("{} files", self.verified)),
            ("skipped", format!("{} entries that were there already", self.skipped)),
            ("directories", self.directories.to_string()),
        ];
        for (name, count) in [
            ("hard links", self.hard_links),
            ("symlinks", self.symlinks),
            ("others", self.others),
            ("LEFT OUT", self.left_out),
            ("owners lost", self.owners_lost),
            ("attributes lost", self.attributes_lost),
            ("FAILED", self.failed),
        ] {
            if count > 0 {
                rows.push((name, count.to_string()));
            }
        }
        rows
    }
}
