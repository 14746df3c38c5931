//! What the volume takes and gives: plain values, no behaviour.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::ids::{Ino, MediaId};

pub use crate::ids::FileKind;

/// Attributes of an inode, as `stat(2)` shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Its number.
    pub ino: Ino,
    /// What it is.
    pub kind: FileKind,
    /// Permission, setuid, setgid and sticky bits (0o7777).
    pub mode: u32,
    /// Hard links; 2 + subdirectories for a directory.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, else 0.
    pub rdev: u32,
    /// Length in bytes.
    pub size: u64,
    /// Allocated units of 512 bytes: holes count nothing.
    pub blocks: u64,
    /// Last access, kept to about a day.
    pub atime: Timestamp,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of anything.
    pub ctime: Timestamp,
    /// Birth.
    pub btime: Timestamp,
}

/// What a new node starts with. The mode has the umask applied already.
#[derive(Clone, Copy, Debug)]
pub struct NewNode {
    /// Permission bits (0o7777).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group, unless the parent directory has its setgid bit.
    pub gid: u32,
}

/// Attributes to change; `None` leaves one as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    /// Permission bits (0o7777).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length: cuts or extends with a hole.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<Timestamp>,
    /// Last change of the content.
    pub mtime: Option<Timestamp>,
    /// Clear setuid and setgid as a change of content or owner by an unprivileged caller does.
    pub drop_privileges: bool,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenMode {
    /// Reads are allowed.
    pub read: bool,
    /// Writes are allowed.
    pub write: bool,
    /// Each write goes to the end of the file, wherever that is then.
    pub append: bool,
    /// The file is cut to nothing first.
    pub truncate: bool,
}

/// What `fallocate(2)` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Promise room; extend the length unless `keep_size`.
    Reserve {
        /// Leave the length as it is.
        keep_size: bool,
    },
    /// Make a hole; the length stays.
    PunchHole,
    /// Make a range read as zeros, with room promised.
    ZeroRange {
        /// Leave the length as it is.
        keep_size: bool,
    },
}

/// What `lseek(2)` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next byte that is stored.
    Data,
    /// The next byte that is not (the end of the file at the latest).
    Hole,
}

/// How `rename` treats the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replace what is there.
    Replace,
    /// Fail when the target exists.
    NoReplace,
    /// Exchange the two.
    Exchange,
}

/// How `setxattr` treats what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Create or replace.
    Any,
    /// Fail when it exists.
    Create,
    /// Fail when it does not.
    Replace,
}

/// One name in a directory.
#[derive(Clone, Debug)]
pub struct DirEntry {
    /// The name, any bytes but `/` and NUL.
    pub name: Vec<u8>,
    /// The inode it names.
    pub ino: Ino,
    /// What that is.
    pub kind: FileKind,
    /// Where to go on: pass it as `after` to get what follows. Above 16, ascending, stable while entries come and go.
    pub cookie: u64,
    /// Its attributes, when they were asked for.
    pub attr: Option<Attr>,
}

/// What `statfs(2)` shows: the quota as the size.
#[derive(Clone, Copy, Debug)]
pub struct Statfs {
    /// Unit of the three counts, in bytes.
    pub block_size: u32,
    /// What is used and what can still be stored: the quota, when the backing file system has room for it.
    pub blocks: u64,
    /// Free units, the reserve included.
    pub free: u64,
    /// Free units for everybody, without the reserve.
    pub available: u64,
    /// The media-count quota, or a large number.
    pub files: u64,
    /// What is left of it.
    pub files_free: u64,
}

/// How the age of a medium is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum AgeBy {
    /// From its last write (`mtime`).
    #[default]
    Written,
    /// From its last use: the later of the last write and the last read or send.
    Used,
}

/// What a retention rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selector {
    /// Everything without a rule of its own.
    Default,
    /// A MIME type, `type/subtype` or `type/*`.
    Type(String),
    /// Everything below a directory, as a path from the root of the volume.
    Prefix(String),
}

/// How long something is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionRule {
    /// What it is about. A longer prefix goes before a shorter, a prefix before a type, a full type before `type/*`.
    pub selector: Selector,
    /// For how long; `None` is for ever.
    pub keep: Option<Duration>,
}

/// A part of the quota that only one class of media may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reserve {
    /// The class: `uploads`.
    pub class: String,
    /// How much is kept.
    pub amount: ReserveAmount,
}

/// How much a reserve keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReserveAmount {
    /// Bytes.
    Bytes(u64),
    /// Hundredths of the byte quota.
    Percent(u8),
}

/// What becomes of expired media.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExpiryAction {
    /// They are shown in `.expired`, and removed when somebody does.
    #[default]
    Show,
    /// The daemon removes those that have been shown for the grace period.
    Purge,
}

/// How long a medium is shown as expired before it is removed by itself, when nobody says otherwise.
pub const GRACE: Duration = Duration::from_secs(86_400);

fn default_grace() -> Duration {
    GRACE
}

/// What the operator has set; kept in the store, changed while mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Bytes of media the volume may hold; `None` is as much as the backing file system lets.
    pub max_bytes: Option<u64>,
    /// Media the volume may hold.
    pub max_media: Option<u64>,
    /// Bytes of the quota kept for classes.
    pub reserves: Vec<Reserve>,
    /// Bytes of the backing file system that are never used.
    pub floor_bytes: u64,
    /// How age is counted.
    pub age_by: AgeBy,
    /// How long media are kept. The rule for [`Selector::Default`] is always there.
    pub retention: Vec<RetentionRule>,
    /// What becomes of expired media.
    #[serde(default)]
    pub action: ExpiryAction,
    /// How long a medium has been shown as expired at least when the daemon removes it by itself.
    #[serde(default = "default_grace")]
    pub grace: Duration,
    /// From how many hundredths of the room in use on somebody is warned, 1 to 100.
    #[serde(default)]
    pub warn_at: Option<u8>,
    /// From how many hundredths of the room in use on expired media are removed, 1 to 100.
    #[serde(default)]
    pub purge_at: Option<u8>,
}

/// A medium as `info`, `ls` and `.expired` show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Medium {
    /// Inode number.
    pub ino: u64,
    /// Media id.
    pub id: String,
    /// Path from the root of the volume, `/`-separated, without a leading slash; bytes that are not UTF-8 as U+FFFD.
    pub path: String,
    /// MIME type: what was set, else what the bytes say.
    pub mime_type: String,
    /// WhatsApp's kind: `audio`, `document`, `image`, `sticker`, `video`.
    pub kind: String,
    /// `ready`, or `unfit: <reason>`.
    pub verdict: Option<String>,
    /// Bytes.
    pub size: u64,
    /// SHA-256 of the content, hex.
    pub sha256: Option<String>,
    /// Last write.
    pub mtime: Timestamp,
    /// Last use.
    pub used: Timestamp,
    /// When its retention ends; `None` when it is held or kept for ever.
    pub expires: Option<Timestamp>,
    /// Whether it is past its retention now.
    pub expired: bool,
    /// Whether it is held.
    pub held: bool,
    /// Whether somebody has it open for writing.
    pub open_for_writing: bool,
}

/// Which media `ls` shows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MediaFilter {
    /// Only expired media.
    pub expired: bool,
    /// Only media of this type, `type/subtype` or `type/*`.
    pub mime_type: Option<String>,
    /// Only media whose age is at least this.
    pub older_than: Option<Duration>,
    /// Only media of more bytes than this.
    pub larger: Option<u64>,
    /// Only held media.
    pub held: bool,
    /// Only media below this directory.
    pub below: Option<String>,
    /// Only media with an extended attribute of this name and value.
    #[serde(default)]
    pub attribute: Option<(String, String)>,
}

/// How a volume is doing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The volume's id.
    pub volume_id: String,
    /// `xchacha20-poly1305`, or `none`.
    pub cipher: String,
    /// Whether large media are read by the kernel alone, so that nothing verifies what is read.
    #[serde(default)]
    pub pass_through: bool,
    /// `ok`, or `poisoned: <why>`.
    pub state: String,
    /// Bytes of media.
    pub used_bytes: u64,
    /// The byte quota.
    pub max_bytes: Option<u64>,
    /// Bytes kept for classes.
    pub reserved_bytes: u64,
    /// Media (regular files).
    pub media: u64,
    /// The media quota.
    pub max_media: Option<u64>,
    /// Directories.
    pub directories: u64,
    /// Media that are expired now.
    pub expired: u64,
    /// Bytes of them.
    pub expired_bytes: u64,
    /// Held media.
    pub held: u64,
    /// The oldest medium's age basis.
    pub oldest: Option<Timestamp>,
    /// Free bytes of the backing file system.
    pub backing_free_bytes: u64,
    /// Its floor.
    pub floor_bytes: u64,
    /// Media by WhatsApp kind: (kind, count, bytes).
    pub by_kind: Vec<(String, u64, u64)>,
    /// Writes refused by quota, reserve or floor since the mount.
    pub refused_writes: u64,
    /// What recovery did at the last open, one sentence each.
    pub recovery: Vec<String>,
    /// How scrubs are doing.
    #[serde(default)]
    pub scrub: super::ScrubStatus,
    /// What the daemon does about expired media by itself.
    #[serde(default)]
    pub sweep: super::SweepStatus,
}

/// What `expired purge` did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PurgeReport {
    /// Media removed.
    pub media: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Media that were passed over because they had become held, young or open meanwhile.
    pub kept: u64,
    /// Bytes of their blobs, which the disk has free when nobody has them open any more.
    #[serde(default)]
    pub blob_bytes: u64,
}

/// Which expired media a purge is about, and whether it removes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PurgeWish {
    /// Only tell.
    pub dry_run: bool,
    /// Only media of at least this age.
    pub older_than: Option<Duration>,
    /// Only media that the daemon would remove by itself now: shown as expired for the grace period.
    pub due: bool,
}

/// A medium that a purge has removed, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Its media id.
    pub id: String,
    /// Its path from the root; bytes that are not UTF-8 as U+FFFD.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Bytes of its blob.
    pub blob_bytes: u64,
}

/// One expired medium, as `.expired` needs it.
#[derive(Clone, Debug)]
pub struct Expired {
    /// Its inode.
    pub ino: Ino,
    /// Its media id.
    pub id: MediaId,
    /// Its name in `.expired`: `<id>.<extension>` or `<id>_<name>`, at most 255 bytes.
    pub name: Vec<u8>,
    /// The directories that it has its names in.
    pub parents: Vec<Ino>,
    /// Where to go on: pass it as `after` to get what follows.
    pub cursor: Vec<u8>,
}

/// Told when something changed that a cache above may hold. Called without locks held.
pub trait Watcher: Send + Sync {
    /// A name is gone (removed through another way than the mount).
    fn name_gone(&self, parent: Ino, name: &[u8], child: Ino);
    /// Attributes or content of an inode changed through another way than the mount.
    fn inode_changed(&self, ino: Ino);
}

/// Told which inodes have acknowledged changes that no blob says yet, so that the end of the process would lose them. Called
/// with locks held: it must not call the volume.
pub trait Witness: Send + Sync {
    /// This inode is about to have such a change.
    fn unsettled(&self, ino: Ino);
    /// Everything acknowledged of this inode outlives the process, or nobody knows the inode any more.
    fn settled(&self, ino: Ino);
}
