//! What programs read: the JSON of `--json`. Fields are only ever added.

use std::time::Duration;

use serde::Serialize;

use crate::clock::Timestamp;
use crate::control::Hello;
use crate::volume::{
    AgeBy, DamagedMedium, ExpiryAction, Finding, Medium, Policy, ReserveAmount, RetentionRule, ScrubStatus, Selector,
    Status, SweepStatus,
};

/// A medium.
#[derive(Serialize)]
pub struct MediumView<'a> {
    id: &'a str,
    path: &'a str,
    mime_type: &'a str,
    kind: &'a str,
    verdict: Option<&'a str>,
    size: u64,
    sha256: Option<&'a str>,
    written: String,
    used: String,
    expires: Option<String>,
    expired: bool,
    held: bool,
    open_for_writing: bool,
    /// Its name in `.expired`, when that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    expired_name: Option<&'a str>,
}

impl<'a> MediumView<'a> {
    /// A medium, with its name in `.expired` when it is known.
    #[must_use]
    pub fn new(medium: &'a Medium, expired_name: Option<&'a str>) -> MediumView<'a> {
        MediumView {
            id: &medium.id,
            path: &medium.path,
            mime_type: &medium.mime_type,
            kind: &medium.kind,
            verdict: medium.verdict.as_deref(),
            size: medium.size,
            sha256: medium.sha256.as_deref(),
            written: medium.mtime.rfc3339(),
            used: medium.used.rfc3339(),
            expires: medium.expires.map(Timestamp::rfc3339),
            expired: medium.expired,
            held: medium.held,
            open_for_writing: medium.open_for_writing,
            expired_name,
        }
    }
}

/// The state of a volume.
#[derive(Serialize)]
pub struct StatusView<'a> {
    volume_id: &'a str,
    store: &'a str,
    mount: Option<&'a str>,
    pid: Option<u32>,
    cipher: &'a str,
    encrypted: bool,
    pass_through: bool,
    state: &'a str,
    used_bytes: u64,
    max_bytes: Option<u64>,
    reserved_bytes: u64,
    media: u64,
    max_media: Option<u64>,
    directories: u64,
    expired: u64,
    expired_bytes: u64,
    held: u64,
    oldest: Option<String>,
    backing_free_bytes: u64,
    floor_bytes: u64,
    by_kind: Vec<KindView<'a>>,
    refused_writes: u64,
    recovery: &'a [String],
    scrub: ScrubView<'a>,
    sweep: SweepView,
}

/// What the daemon does about expired media by itself.
#[derive(Serialize)]
struct SweepView {
    scheduled: bool,
    action: ExpiryAction,
    grace_secs: u64,
    warn_at_percent: Option<u8>,
    purge_at_percent: Option<u8>,
    percent: u8,
    warned: bool,
    last: Option<String>,
    purged_media: u64,
    purged_bytes: u64,
}

impl SweepView {
    fn new(status: &SweepStatus) -> SweepView {
        SweepView {
            scheduled: status.is_scheduled,
            action: status.action,
            grace_secs: status.grace.as_secs(),
            warn_at_percent: status.warn_at,
            purge_at_percent: status.purge_at,
            percent: status.percent,
            warned: status.is_warned,
            last: status.last.map(Timestamp::rfc3339),
            purged_media: status.purged_media,
            purged_bytes: status.purged_bytes,
        }
    }
}

/// How scrubs are doing.
#[derive(Serialize)]
pub struct ScrubView<'a> {
    running: bool,
    rate: Option<u64>,
    /// The one that runs, or waits to go on.
    run: Option<ScrubRunView>,
    last: Option<ScrubRunView>,
    next: Option<String>,
    damaged_media: u64,
    damaged: Vec<DamagedView<'a>>,
}

#[derive(Serialize)]
struct ScrubRunView {
    started: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<String>,
    blobs: u64,
    bytes: u64,
    damaged_media: u64,
}

#[derive(Serialize)]
struct DamagedView<'a> {
    id: &'a str,
    path: &'a str,
    blob: &'a str,
    chunk: Option<u64>,
    problem: &'a str,
    found: String,
}

impl<'a> ScrubView<'a> {
    /// The state.
    #[must_use]
    pub fn new(status: &'a ScrubStatus) -> ScrubView<'a> {
        let damaged = |damaged: &'a DamagedMedium| DamagedView {
            id: &damaged.id,
            path: &damaged.path,
            blob: &damaged.blob,
            chunk: damaged.chunk,
            problem: &damaged.problem,
            found: damaged.found.rfc3339(),
        };
        ScrubView {
            running: status.is_running,
            rate: status.rate,
            run: status.run.as_ref().map(|run| ScrubRunView {
                started: run.started.rfc3339(),
                finished: None,
                blobs: run.blobs,
                bytes: run.bytes,
                damaged_media: run.damaged,
            }),
            last: status.last.as_ref().map(|last| ScrubRunView {
                started: last.started.rfc3339(),
                finished: Some(last.finished.rfc3339()),
                blobs: last.blobs,
                bytes: last.bytes,
                damaged_media: last.damaged,
            }),
            next: status.next.map(Timestamp::rfc3339),
            damaged_media: status.damaged_media,
            damaged: status.damaged.iter().map(damaged).collect(),
        }
    }
}

#[derive(Serialize)]
struct KindView<'a> {
    kind: &'a str,
    media: u64,
    bytes: u64,
}

/// Whether a cipher's name is one that keeps secrets.
#[must_use]
pub fn is_encrypted(cipher: &str) -> bool {
    cipher != "none"
}

impl<'a> StatusView<'a> {
    /// The state, and where the volume is.
    #[must_use]
    pub fn new(status: &'a Status, store: &'a str, hello: Option<&'a Hello>) -> StatusView<'a> {
        StatusView {
            volume_id: &status.volume_id,
            store,
            mount: hello.and_then(|hello| hello.mount.as_deref()),
            pid: hello.map(|hello| hello.pid),
            cipher: &status.cipher,
            encrypted: is_encrypted(&status.cipher),
            pass_through: status.pass_through,
            state: &status.state,
            used_bytes: status.used_bytes,
            max_bytes: status.max_bytes,
            reserved_bytes: status.reserved_bytes,
            media: status.media,
            max_media: status.max_media,
            directories: status.directories,
            expired: status.expired,
            expired_bytes: status.expired_bytes,
            held: status.held,
            oldest: status.oldest.map(Timestamp::rfc3339),
            backing_free_bytes: status.backing_free_bytes,
            floor_bytes: status.floor_bytes,
            by_kind: status
                .by_kind
                .iter()
                .map(|(kind, media, bytes)| KindView { kind, media: *media, bytes: *bytes })
                .collect(),
            refused_writes: status.refused_writes,
            recovery: &status.recovery,
            scrub: ScrubView::new(&status.scrub),
            sweep: SweepView::new(&status.sweep),
        }
    }
}

/// What limits a volume, and how much of it is used.
#[derive(Serialize)]
pub struct QuotaView {
    max_bytes: Option<u64>,
    used_bytes: u64,
    max_media: Option<u64>,
    media: u64,
    reserves: Vec<ReserveView>,
    reserved_bytes: u64,
    floor_bytes: u64,
    warn_at_percent: Option<u8>,
    purge_at_percent: Option<u8>,
}

#[derive(Serialize)]
struct ReserveView {
    class: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    percent: Option<u8>,
}

impl QuotaView {
    /// The limits of a policy beside what is used.
    #[must_use]
    pub fn new(policy: &Policy, status: &Status) -> QuotaView {
        let reserve = |reserve: &crate::volume::Reserve| {
            let (bytes, percent) = match reserve.amount {
                ReserveAmount::Bytes(bytes) => (Some(bytes), None),
                ReserveAmount::Percent(percent) => (None, Some(percent)),
            };
            ReserveView { class: reserve.class.clone(), bytes, percent }
        };
        QuotaView {
            max_bytes: policy.max_bytes,
            used_bytes: status.used_bytes,
            max_media: policy.max_media,
            media: status.media,
            reserves: policy.reserves.iter().map(reserve).collect(),
            reserved_bytes: status.reserved_bytes,
            floor_bytes: policy.floor_bytes,
            warn_at_percent: policy.warn_at,
            purge_at_percent: policy.purge_at,
        }
    }
}

/// How long media are kept.
#[derive(Serialize)]
pub struct RetentionView<'a> {
    age_by: AgeBy,
    rules: Vec<RuleView<'a>>,
    action: ExpiryAction,
    grace_secs: u64,
}

#[derive(Serialize)]
struct RuleView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<&'a str>,
    default: bool,
    /// Seconds; null is for ever.
    keep_secs: Option<u64>,
}

impl<'a> RetentionView<'a> {
    /// The rules of a policy.
    #[must_use]
    pub fn new(policy: &'a Policy) -> RetentionView<'a> {
        RetentionView {
            age_by: policy.age_by,
            rules: policy.retention.iter().map(RuleView::new).collect(),
            action: policy.action,
            grace_secs: policy.grace.as_secs(),
        }
    }
}

impl<'a> RuleView<'a> {
    fn new(rule: &'a RetentionRule) -> RuleView<'a> {
        let (mime, prefix) = match &rule.selector {
            Selector::Default => (None, None),
            Selector::Type(mime) => (Some(mime.as_str()), None),
            Selector::Prefix(prefix) => (None, Some(prefix.as_str())),
        };
        let default = rule.selector == Selector::Default;
        RuleView { r#type: mime, prefix, default, keep_secs: rule.keep.as_ref().map(Duration::as_secs) }
    }
}

/// The outcome of a check.
#[derive(Serialize)]
pub struct CheckView<'a> {
    /// Whether nothing is wrong.
    pub clean: bool,
    /// Blobs looked at.
    pub blobs: u64,
    /// Bytes read and verified.
    pub bytes: u64,
    /// What is wrong, or was before a repair.
    pub findings: &'a [Finding],
    /// How many more there are.
    pub unlisted: u64,
    /// What a repair did.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub repaired: Option<RepairedView<'a>>,
}

/// The outcome of a repair.
#[derive(Serialize)]
pub struct RepairedView<'a> {
    /// Findings that are in order again.
    pub mended: usize,
    /// Findings that were moved away.
    pub moved: usize,
    /// Findings that are as they were.
    pub left: u64,
    /// Where what was taken away lies, from the store directory.
    pub quarantine: Option<&'a str>,
}

/// A new volume.
#[derive(Serialize)]
pub struct InitView<'a> {
    /// Its id.
    pub volume_id: &'a str,
    /// Its store.
    pub store: &'a str,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// The key file that was made for it.
    pub key_file: Option<&'a str>,
}

/// A key slot.
#[derive(Serialize)]
pub struct SlotView {
    /// Its number.
    pub slot: u8,
    /// `passphrase`, `key file` or `credential`.
    pub kind: String,
    /// What it is called.
    pub label: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_view_tells_forever_from_a_time() {
        let policy = Policy {
            max_bytes: None,
            max_media: None,
            reserves: Vec::new(),
            floor_bytes: 0,
            age_by: AgeBy::Used,
            retention: vec![
                RetentionRule { selector: Selector::Default, keep: Some(Duration::from_secs(60)) },
                RetentionRule { selector: Selector::Type("image/*".into()), keep: None },
            ],
            ..Policy::default()
        };
        assert_eq!(
            serde_json::to_string(&RetentionView::new(&policy)).unwrap(),
            r#"{"age_by":"used","rules":[{"default":true,"keep_secs":60},{"type":"image/*","default":false,"keep_secs":null}],"action":"show","grace_secs":86400}"#
        );
    }
}
