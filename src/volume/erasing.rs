//! Erasure: media are removed so that nothing of them is left in the store when it is told, and it is told in a report that
//! the volume signs.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::inode::State;
use super::origin::{self, Actor, Way};
use super::types::Medium;
use super::{Volume, hex};
use crate::clock::Timestamp;
use crate::crypto::{self, PUBLIC_KEY_BYTES, SigningKey};
use crate::error::{Error, Kind, Result};
use crate::ids::{BlobId, Ino};
use crate::sync::atomic::Ordering;
use crate::sync::thread;

/// What a report begins with, and its version.
pub const REPORT_FORMAT: &str = "wamedia erasure report 1";
/// Media that one erasure is about at most.
pub const MAX_ERASED: usize = 100_000;
/// What the signing key is derived for.
const LABEL: &str = "erasure";
/// How often, and how far apart, media are looked at again that somebody is about to close, all of them together.
const CLOSE_TRIES: usize = 40;
const CLOSE_PAUSE: Duration = Duration::from_millis(50);
/// How often blobs are removed until those are gone which wait for what took their place.
const REAP_TRIES: usize = 3;

/// A medium in a report. With `dry_run`, one that would be erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedMedium {
    /// Its media id.
    pub id: String,
    /// SHA-256 of its content, hex; none when it could not be read, or with `dry_run` was not known.
    pub sha256: Option<String>,
    /// Bytes of its content.
    pub size: u64,
    /// When it was removed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<String>,
    /// Its path from the root of the volume, when names were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A medium that stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMedium {
    /// Its media id.
    pub id: String,
    /// Bytes of its content.
    pub size: u64,
    /// Why it stays.
    pub reason: KeptReason,
    /// Its path from the root of the volume, when names were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Why a medium stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeptReason {
    /// Somebody has it open for writing.
    OpenForWriting,
    /// Somebody has it open.
    Open,
    /// It changed again and again while it was to be erased.
    Changed,
    /// Its names are gone, but somebody opened it in that moment: its bytes go when it is closed.
    InUse,
}

impl KeptReason {
    /// The same in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            KeptReason::OpenForWriting => "open for writing",
            KeptReason::Open => "open",
            KeptReason::Changed => "changes all the time",
            KeptReason::InUse => "removed, but its bytes stay until it is closed",
        }
    }
}

/// By what the media were chosen. What names somebody is left out unless names were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// How many were named, by id or by path; none when they were matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub named: Option<u64>,
    /// Their MIME type, or `type/*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Their least age in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_than_seconds: Option<u64>,
    /// Their size is more bytes than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub larger_than_bytes: Option<u64>,
    /// Only expired ones.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
    /// Only those below a directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<String>,
    /// Only those with an extended attribute of this value, `NAME=VALUE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribute: Option<String>,
    /// What was given and is left out here, since names were not asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withheld: Vec<String>,
}

/// What was erased and what was not. All that a signature says is in here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureReport {
    /// `REPORT_FORMAT`.
    pub format: String,
    /// The volume.
    pub volume_id: String,
    /// The version of wamedia.
    pub wamedia: String,
    /// Whether this only tells what would be erased; such a report is not signed.
    pub dry_run: bool,
    /// When it was begun, RFC 3339.
    pub begun: String,
    /// When nothing of what was erased was left in the store, RFC 3339.
    pub ended: String,
    /// Who asked for it, as the system knows them.
    pub asked_by: Option<Actor>,
    /// On whose behalf, in the asker's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
    /// Why, in the asker's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// By what the media were chosen.
    pub selection: Selection,
    /// What was erased.
    pub erased: Vec<ErasedMedium>,
    /// What is held, and stays therefore.
    pub held: Vec<ErasedMedium>,
    /// What stays for another reason.
    pub kept: Vec<KeptMedium>,
    /// What was named and is not in the volume: media ids, and paths when names were asked for.
    pub not_found: Vec<String>,
    /// How many of those there are.
    pub not_found_count: u64,
}

/// What is to be erased, and how it is told.
#[derive(Clone, Debug, Default)]
pub struct ErasureWish {
    /// Only tell what would be erased.
    pub dry_run: bool,
    /// Tell the media's paths.
    pub with_names: bool,
    /// On whose behalf.
    pub on_behalf_of: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// By what the media were chosen.
    pub selection: Selection,
    /// What was named and not found.
    pub not_found: Vec<String>,
    /// How many of those there are.
    pub not_found_count: u64,
}

/// A report with its signature, as it is handed out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedReport {
    /// The report.
    pub report: ErasureReport,
    /// The public key it is signed with, hex; none when it is not signed.
    pub public_key: Option<String>,
    /// Ed25519 signature over the canonical form (RFC 8785) of `report`, hex.
    pub signature: Option<String>,
}

/// The bytes that a signature is over: canonical JSON (RFC 8785). Reports have no fractions, so sorted names and no white
/// space make it so.
fn canonical(report: &Value) -> Vec<u8> {
    let mut sorted = report.clone();
    sorted.sort_all_objects();
    sorted.to_string().into_bytes()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

impl SignedReport {
    /// Reads a report and checks that the volume behind `public_key` (64 hex digits) has signed it. Nothing else is
    /// believed, so that neither volume nor store is needed.
    ///
    /// # Errors
    /// `Invalid` for a key that is none; `Damaged` for what is no report, is not signed, or is not what was signed.
    pub fn verify(text: &str, public_key: &str) -> Result<SignedReport> {
        let key = unhex(public_key.trim()).filter(|key| key.len() == PUBLIC_KEY_BYTES).ok_or_else(|| {
            Error::new(
                Kind::Invalid,
                "a public key is 64 hex digits, as `wamedia erase public-key` of the volume tells it",
            )
        })?;
        let damaged = |what: String| Error::new(Kind::Damaged, what);
        let whole: Value = serde_json::from_str(text).map_err(|e| damaged(format!("this is no report: {e}")))?;
        let signed: SignedReport =
            serde_json::from_value(whole.clone()).map_err(|e| damaged(format!("this is no report: {e}")))?;
        if signed.report.format != REPORT_FORMAT {
            return Err(damaged(format!("this is a report of another form: {}", signed.report.format)));
        }
        let Some(signature) = &signed.signature else {
            let why = match signed.report.dry_run {
                true => "it only tells what would be erased",
                false => "a volume without a cipher has no key to sign with",
            };
            return Err(damaged(format!("the report is not signed: {why}")));
        };
        let signature = unhex(signature).unwrap_or_default();
        let message = whole.get("report").map(canonical).unwrap_or_default();
        match crypto::is_signed(&key, &message, &signature) {
            true => Ok(signed),
            false => Err(damaged(
                "the signature does not fit: the report was changed, or another volume has signed it".to_owned(),
            )),
        }
    }

    /// The report as one line of JSON, in the form in which it can be checked.
    ///
    /// # Errors
    /// `Invalid` for what is no JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|e| Error::new(Kind::Invalid, e.to_string()))
    }
}

/// What has become of one medium.
enum Fate {
    Erased(ErasedMedium),
    Held(ErasedMedium),
    Kept(KeptMedium),
    Gone,
}

/// Blobs of each inode that was removed.
type Blobs = HashMap<Ino, Vec<BlobId>>;

impl Volume {
    /// The key that erasure reports are signed with; none for a volume without a cipher, whose key everybody has.
    fn erasure_key(&self) -> Option<SigningKey> {
        (!self.key.is_public()).then(|| self.key.signing_key(self.suite, self.id, LABEL))
    }

    /// The public key, in hex, with which erasure reports of this volume are checked.
    ///
    /// # Errors
    /// `Unsupported` for a volume without a cipher.
    pub fn erasure_public_key(&self) -> Result<String> {
        let key = self.erasure_key().ok_or_else(|| {
            Error::new(
                Kind::Unsupported,
                "a volume without a cipher has no key to sign with; its reports are not signed",
            )
        })?;
        Ok(hex(&key.public_key()))
    }

    /// Erases media, but for those that are held or that somebody has open. When this returns, what is told as erased is
    /// in neither index, journal nor blobs of the store, and stays so after a loss of power. `progress` is called with how
    /// many of how many are done.
    ///
    /// # Errors
    /// `TooBig` for more than [`MAX_ERASED`] media, of which none is removed; `NoSpace`, `Poisoned`, `Io`: what was removed before
    /// stays removed, and the audit log tells which.
    pub fn erase(&self, media: &[Ino], wish: ErasureWish, progress: &mut dyn FnMut(u64, u64)) -> Result<SignedReport> {
        if media.len() > MAX_ERASED {
            let what = format!("more than {MAX_ERASED} media are chosen; erase fewer at a time");
            return Err(Error::new(Kind::TooBig, what));
        }
        let begun = self.clock.now();
        let mut report = ErasureReport {
            format: REPORT_FORMAT.to_owned(),
            volume_id: self.id.to_string(),
            wamedia: env!("CARGO_PKG_VERSION").to_owned(),
            dry_run: wish.dry_run,
            begun: begun.rfc3339(),
            ended: String::new(),
            asked_by: origin::current().actor,
            on_behalf_of: wish.on_behalf_of,
            reason: wish.reason,
            selection: wish.selection,
            erased: Vec::new(),
            held: Vec::new(),
            kept: Vec::new(),
            not_found: wish.not_found,
            not_found_count: wish.not_found_count,
        };
        let (mut blobs, mut seen, mut removed) = (Blobs::new(), HashSet::new(), Vec::new());
        let mut patience = if wish.dry_run { 0 } else { CLOSE_TRIES };
        for (nth, ino) in media.iter().copied().enumerate() {
            if seen.insert(ino) {
                match self.erase_one(ino, wish.dry_run, wish.with_names, &mut patience, &mut blobs)? {
                    Fate::Erased(medium) => {
                        report.erased.push(medium);
                        removed.push(ino);
                    }
                    Fate::Held(medium) => report.held.push(medium),
                    Fate::Kept(medium) => report.kept.push(medium),
                    Fate::Gone => {}
                }
            }
            progress(nth as u64 + 1, media.len() as u64);
        }
        if !blobs.is_empty() {
            let staying = self.make_erased_durable(&blobs)?;
            let fates = std::mem::take(&mut report.erased);
            for (medium, ino) in fates.into_iter().zip(removed) {
                match staying.contains(&ino) {
                    false => report.erased.push(medium),
                    true => report.kept.push(KeptMedium {
                        id: medium.id,
                        size: medium.size,
                        reason: KeptReason::InUse,
                        path: medium.path,
                    }),
                }
            }
        }
        report.ended = self.clock.now().rfc3339();
        self.sign(report)
    }

    fn sign(&self, report: ErasureReport) -> Result<SignedReport> {
        let key = if report.dry_run { None } else { self.erasure_key() };
        let value = serde_json::to_value(&report).map_err(|e| Error::new(Kind::Invalid, e.to_string()))?;
        Ok(SignedReport {
            report,
            public_key: key.as_ref().map(|key| hex(&key.public_key())),
            signature: key.map(|key| hex(&key.sign(&canonical(&value)))),
        })
    }

    fn erase_one(
        &self,
        ino: Ino,
        dry_run: bool,
        with_names: bool,
        patience: &mut usize,
        blobs: &mut Blobs,
    ) -> Result<Fate> {
        loop {
            let medium = match self.medium(ino, false) {
                Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Invalid) => return Ok(Fate::Gone),
                medium => medium?,
            };
            if medium.held {
                return Ok(Fate::Held(told(&medium, medium.sha256.clone(), None, with_names)));
            }
            let opens = self.inode(ino)?.state.read().opens;
            let is_open = opens > 0 || medium.open_for_writing;
            if dry_run && !is_open {
                return Ok(Fate::Erased(told(&medium, medium.sha256.clone(), None, with_names)));
            }
            if !is_open && let Some((digest, at)) = self.erase_unused(ino, blobs)? {
                let digest = digest.map(|digest| hex(&digest));
                return Ok(Fate::Erased(told(&medium, digest, Some(at), with_names)));
            }
            // The kernel tells of a last close without waiting, so it may be on its way.
            if *patience == 0 {
                let reason = match (is_open, medium.open_for_writing) {
                    (_, true) => KeptReason::OpenForWriting,
                    (true, false) => KeptReason::Open,
                    (false, false) => KeptReason::Changed,
                };
                let path = with_names.then_some(medium.path);
                return Ok(Fate::Kept(KeptMedium { id: medium.id, size: medium.size, reason, path }));
            }
            *patience -= 1;
            thread::sleep(CLOSE_PAUSE);
        }
    }

    /// Removes a medium that is neither held nor open nor other than its digest says; none when it was one of these.
    fn erase_unused(&self, ino: Ino, blobs: &mut Blobs) -> Result<Option<(Option<[u8; 32]>, Timestamp)>> {
        let digest = match self.digest(ino) {
            Ok(digest) => Some(digest),
            Err(e) if e.kind() == Kind::Damaged => None,
            Err(e) if e.kind() == Kind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let found = RefCell::new(Vec::new());
        let may_go = |state: &State| {
            let attrs = &state.record.attrs;
            let is_other = digest.is_some() && (state.content_changed || attrs.digest != digest);
            if state.removed || attrs.held.is_some() || state.opens > 0 || is_other {
                return Err(Kind::Busy.into());
            }
            let newest = state.blob.as_ref().filter(|open| !open.is_new).map(|open| open.cipher.blob);
            let mut all = state.replaced.clone();
            all.extend(state.record.location.map(|at| at.blob).into_iter().chain(newest));
            found.replace(all);
            Ok(())
        };
        let removed = origin::by_way(Way::Erase, || self.removing(|| self.remove_medium(ino, may_go)));
        match removed {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), Kind::Busy | Kind::NotFound) => return Ok(None),
            Err(e) => return Err(e),
        }
        // The kernel may know it for long still, and its blob must not wait for that.
        self.forget(ino);
        blobs.insert(ino, found.into_inner());
        Ok(Some((digest, self.clock.now())))
    }

    /// Has nothing of removed inodes in the store, durably; gives those of which something stays, since somebody has opened
    /// them meanwhile.
    fn make_erased_durable(&self, blobs: &Blobs) -> Result<HashSet<Ino>> {
        self.ledger.sync()?;
        let mut staying = HashSet::new();
        for _ in 0..REAP_TRIES {
            self.reap()?;
            staying.clear();
            for (ino, of_inode) in blobs {
                for blob in of_inode {
                    if self.store.open(*blob)?.is_some() {
                        staying.insert(*ino);
                    }
                }
            }
            if staying.is_empty() {
                break;
            }
        }
        // Syncs the directories that the blobs were in, too.
        self.checkpoint()?;
        if self.index_waits.load(Ordering::Acquire) {
            let what = "the media are removed, but the index waits for room on the disk to forget them; make room, \
                        and take from the audit log which they were";
            return Err(Error::new(Kind::NoSpace, what));
        }
        Ok(staying)
    }
}

fn told(medium: &Medium, sha256: Option<String>, removed: Option<Timestamp>, with_names: bool) -> ErasedMedium {
    ErasedMedium {
        id: medium.id.clone(),
        sha256,
        size: medium.size,
        removed: removed.map(Timestamp::rfc3339),
        path: with_names.then(|| medium.path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_is_that_of_rfc_8785() {
        let value: Value = serde_json::from_str(
            r#"{ "b": [ 1, true, null ], "a": { "z": "\u20ac\u000f\n\"\\/", "y": 9007199254740991 } }"#,
        )
        .unwrap();
        let expected = "{\"a\":{\"y\":9007199254740991,\"z\":\"\u{20ac}\\u000f\\n\\\"\\\\/\"},\"b\":[1,true,null]}";
        assert_eq!(String::from_utf8(canonical(&value)).unwrap(), expected);
    }

    #[test]
    fn what_is_no_key_or_no_report_is_refused() {
        let key = "00".repeat(32);
        assert_eq!(SignedReport::verify("{}", "0011").unwrap_err().kind(), Kind::Invalid);
        assert_eq!(SignedReport::verify("{}", &"zz".repeat(32)).unwrap_err().kind(), Kind::Invalid);
        for text in ["", "{}", "[]", "{\"report\":{}}"] {
            assert_eq!(SignedReport::verify(text, &key).unwrap_err().kind(), Kind::Damaged, "{text}");
        }
    }
}
