//! What `check` finds, and what a repair does about it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a finding is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The volume as a whole.
    #[default]
    Volume,
    /// One of two copies of a small file.
    Copy,
    /// The index, which can be made anew.
    Index,
    /// A blob's attributes, its end, or all of it.
    Blob,
    /// One chunk of a medium.
    Chunk,
    /// Values in the state log.
    State,
    /// Records of the audit log.
    Audit,
    /// A blob that no inode has.
    Stray,
    /// A file in the store that is none of its own.
    Stranger,
}

/// What a repair did about a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Repair {
    /// It is in order again; how.
    Mended(String),
    /// What was wrong lies elsewhere in the store now; where, from the store directory.
    Moved(String),
    /// It is as it was; why, and what to do.
    Left(String),
}

/// One finding of `check`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is about.
    #[serde(default)]
    pub fault: Fault,
    /// Blob id, when one is concerned.
    pub blob: Option<String>,
    /// A file's path from the store directory, when one that is no blob is concerned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Inode number, when one is concerned.
    #[serde(default)]
    pub inode: Option<u64>,
    /// Media id and path, when they are known.
    pub medium: Option<String>,
    /// Chunk number, when one is concerned.
    pub chunk: Option<u64>,
    /// What is wrong, and what to do.
    pub problem: String,
    /// What was done about it, after a repair.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<Repair>,
}

impl Finding {
    /// A finding that concerns nothing that has a number.
    #[must_use]
    pub fn new(fault: Fault, problem: impl Into<String>) -> Finding {
        Finding { fault, problem: problem.into(), ..Finding::default() }
    }
}

/// What `check` found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    /// Blobs looked at.
    pub blobs: u64,
    /// Bytes read and verified.
    pub bytes: u64,
    /// What is wrong, or was before a repair; empty when clean.
    pub findings: Vec<Finding>,
    /// How many more there are, beyond those that one report has room for. A repair leaves them to the next.
    #[serde(default)]
    pub unlisted: u64,
    /// Where a repair put what it took away, from the store directory.
    #[serde(default)]
    pub quarantine: Option<String>,
    /// Whether the index has to be made anew for the rest.
    #[serde(default)]
    pub needs_rebuild: bool,
}

/// What a repair may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairOptions {
    /// Verify every byte.
    pub read_all: bool,
    /// Move media away that can be read in part.
    pub move_damaged: bool,
}
