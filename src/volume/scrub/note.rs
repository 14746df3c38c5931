//! What is known of scrubs across mounts: one sealed note in the store. `docs/FORMAT.md`, "Scrub".

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::crypto::{BlobKey, nonce};
use crate::error::{Error, Kind, Result};
use crate::ids::VolumeId;
use crate::store::Layout;

const FILE: &str = "scrub";
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
/// Damaged media that are named; more are only counted.
pub(super) const MAX_NAMED: usize = 500;

/// A medium that a scrub found damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedMedium {
    /// Its inode number.
    pub inode: u64,
    /// Its media id.
    pub id: String,
    /// Its path from the root of the volume.
    pub path: String,
    /// The blob that is damaged.
    pub blob: String,
    /// The first chunk that is damaged; none when it is not a chunk.
    pub chunk: Option<u64>,
    /// What is wrong.
    pub problem: String,
    /// When it was found.
    pub found: Timestamp,
}

/// How far a scrub has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubRun {
    /// When it began.
    pub started: Timestamp,
    /// The inode that it is at, or has done last.
    pub inode: u64,
    /// The next chunk of it; none when it is done.
    pub chunk: Option<u64>,
    /// Blobs verified.
    pub blobs: u64,
    /// Bytes of media verified.
    pub bytes: u64,
    /// Media found damaged.
    pub damaged: u64,
}

/// A scrub that came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubPast {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Blobs verified.
    pub blobs: u64,
    /// Bytes of media verified.
    pub bytes: u64,
    /// Media found damaged.
    pub damaged: u64,
}

/// The note.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The one that has not come to its end.
    pub run: Option<ScrubRun>,
    /// When somebody stopped it; it does not go on by itself then.
    pub stopped: Option<Timestamp>,
    /// The last one that did.
    pub last: Option<ScrubPast>,
    /// What is damaged, by the run, and before its place by the one before.
    pub damaged: Vec<DamagedMedium>,
}

fn bound_to(volume: VolumeId) -> Vec<u8> {
    [b"wamedia scrub 1".as_slice(), &volume.0].concat()
}

/// Reads the note. One that is missing or damaged says nothing: the next scrub starts from the beginning.
pub(super) fn read(layout: &Layout, key: &BlobKey, volume: VolumeId) -> Note {
    let sealed = layout.read_small(FILE).ok().flatten().unwrap_or_default();
    open(&sealed, key, volume).unwrap_or_default()
}

fn open(sealed: &[u8], key: &BlobKey, volume: VolumeId) -> Option<Note> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let (body, tag) = rest.split_last_chunk::<TAG_LEN>()?;
    let mut bytes = body.to_vec();
    key.open(nonce, &bound_to(volume), &mut bytes, tag).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Seals and writes the note; durable on return.
pub(super) fn write(layout: &Layout, key: &BlobKey, volume: VolumeId, note: &Note) -> Result<()> {
    let mut bytes = serde_json::to_vec(note).map_err(|e| Error::new(Kind::Invalid, format!("scrub: {e}")))?;
    let nonce = nonce();
    let tag = key.seal(&nonce, &bound_to(volume), &mut bytes);
    layout.write_small(FILE, &[nonce.as_slice(), &bytes, &tag].concat())
}
