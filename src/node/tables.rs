//! The tables of the volume's state log that are the node's. The numbers are on disk and never change.

/// Access tokens by the SHA-256 of the token.
pub const TOKENS: u8 = 1;
/// Settings by name.
pub const SETTINGS: u8 = 2;
/// Providers of linked media by name.
pub const PROVIDERS: u8 = 3;
/// What jobs are to do, by topic and number.
pub const JOBS: u8 = 4;
/// When jobs are due and how they went so far, by topic and number.
pub const JOB_HEADS: u8 = 5;
/// The same of jobs that were given up.
pub const DEAD_HEADS: u8 = 6;
/// Messages and statuses of the upstream that were seen, by the digest of their id.
pub const SEEN: u8 = 7;
/// Inbound media by media id.
pub const INBOUND: u8 = 8;
/// Media ids of inbound media by the upstream's number and id.
pub const INBOUND_IDS: u8 = 9;
/// Failed fetches of the last hour by number.
pub const FETCH_FAILURES: u8 = 10;
/// The upstream's ids of media that were uploaded to it, by digest, type and upstream.
pub const UPLOADED: u8 = 11;
/// Messages that were about to be sent, by message id.
pub const ABOUT_TO_SEND: u8 = 12;
