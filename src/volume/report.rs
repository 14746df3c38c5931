//! What operators ask: status, lists.

use std::ops::Bound;

use super::aging::matches_type;
use super::record::Totals;
use super::types::{MediaFilter, Medium, Statfs, Status};
use super::{Volume, policy, quota};
use crate::crypto::Suite;
use crate::error::{Error, Kind, Result};
use crate::ids::Ino;
use crate::index::{Table, schema};
use crate::media;

/// Records looked at for one page at most.
const MAX_SCANNED: usize = 8192;
const STEP: usize = 256;

impl Volume {
    /// Why it takes no more writes; none when it does. Costs nothing.
    #[must_use]
    pub fn poisoned(&self) -> Option<String> {
        self.store.latch().reason().map(str::to_owned)
    }

    /// Bytes and media charged to the quota. Costs nothing.
    #[must_use]
    pub fn used(&self) -> (u64, u64) {
        let (bytes, media, _) = self.quota.used();
        (bytes, media)
    }

    /// Nothing, where the disk of a poisoned volume can no longer be read: that it is so is what its operator must be told.
    pub(super) fn as_far_as_can_be_read<T: Default>(&self, error: Error) -> Result<T> {
        match self.store.latch().reason() {
            Some(_) => Ok(T::default()),
            None => Err(error),
        }
    }

    /// How the volume is doing. Of one that is poisoned, as far as its disk can be read.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn status(&self) -> Result<Status> {
        self.settle();
        let policy = self.policy();
        let totals = self.totals.lock().clone();
        let (used_bytes, media, refused_writes) = self.quota.used();
        let (expired, expired_bytes) = self.expired_totals().or_else(|e| self.as_far_as_can_be_read(e))?;
        let state = match self.store.latch().reason() {
            Some(reason) => format!("poisoned: {reason}"),
            None => "ok".to_owned(),
        };
        Ok(Status {
            volume_id: self.id.to_string(),
            cipher: cipher_name(self.suite).to_owned(),
            pass_through: self.contents_apart,
            state,
            used_bytes,
            max_bytes: policy.max_bytes,
            reserved_bytes: quota::reserved_bytes(&policy),
            media,
            max_media: policy.max_media,
            directories: totals.directories,
            expired,
            expired_bytes,
            held: totals.held,
            oldest: self.oldest().or_else(|e| self.as_far_as_can_be_read(e))?,
            backing_free_bytes: self
                .store
                .space()
                .map(|space| space.free)
                .or_else(|e| self.as_far_as_can_be_read(e))?,
            floor_bytes: policy.floor_bytes,
            by_kind: by_kind(&totals),
            refused_writes,
            recovery: self.notes(),
            scrub: self.scrub_status(),
            sweep: self.sweep_status().or_else(|e| self.as_far_as_can_be_read(e))?,
        })
    }

    /// What recovery did at the last open, and what is amiss until somebody mends it.
    fn notes(&self) -> Vec<String> {
        let lost = self.in_force().is_lost.then(|| policy::LOST.to_owned());
        self.recovery_notes.iter().cloned().chain(lost).collect()
    }

    /// From when the oldest medium's age counts, of those that age by a rule.
    fn oldest(&self) -> Result<Option<crate::clock::Timestamp>> {
        let mut oldest = None;
        for class in 0..u16::try_from(self.policy().retention.len()).unwrap_or(u16::MAX) {
            let (from, to) = (schema::age_bound(class, i64::MIN), schema::age_bound(class + 1, i64::MIN));
            let first = self.index.scan_keys(Table::Ages, Bound::Included(&from), Bound::Excluded(&to), 1)?;
            let when = first.first().and_then(|key| schema::parse_age(key)).map(|(_, when, _)| when);
            oldest = match (oldest, when) {
                (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
                (a, b) => a.or(b),
            };
        }
        Ok(oldest)
    }

    /// What `statfs(2)` shows: the quota as the size.
    ///
    /// # Errors
    /// `Io`.
    pub fn statfs(&self) -> Result<Statfs> {
        self.quota.statfs(&self.policy(), &*self.store)
    }

    /// Media by filter, in pages: those after `cursor` (empty: from the start), at most `limit`, and the cursor to go on
    /// with; none at the end. A page may be short, even empty, before the end.
    ///
    /// # Errors
    /// `Invalid` for a cursor that is none, `Damaged`, `Io`.
    pub fn list(&self, filter: &MediaFilter, cursor: &[u8], limit: usize) -> Result<(Vec<Medium>, Option<Vec<u8>>)> {
        if cursor.is_empty() {
            self.settle();
        }
        if filter.expired {
            return self.list_from(filter, cursor, limit, |after, step| {
                Ok(self.expired_keys(after, step)?.into_iter().map(|(key, _)| key).collect())
            });
        }
        match &filter.mime_type {
            Some(pattern) => {
                let mut codes: Vec<[u8; 16]> = self
                    .types_known()?
                    .iter()
                    .filter(|known| matches_type(pattern, known))
                    .map(|known| self.mime_code(known))
                    .collect();
                codes.sort_unstable();
                self.list_from(filter, cursor, limit, |after, step| self.keys_of_types(&codes, after, step))
            }
            None => self.list_from(filter, cursor, limit, |after, step| {
                self.index.scan_keys(Table::Inodes, Bound::Excluded(after), Bound::Unbounded, step)
            }),
        }
    }

    fn keys_of_types(&self, codes: &[[u8; 16]], after: &[u8], step: usize) -> Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        for code in codes {
            let (from, to) = (schema::mime(code, Ino(0)), schema::mime(code, Ino(u64::MAX)));
            if keys.len() >= step || after >= to.as_slice() {
                continue;
            }
            let from = if after > from.as_slice() { after } else { from.as_slice() };
            keys.extend(self.index.scan_keys(
                Table::Types,
                Bound::Excluded(from),
                Bound::Included(&to),
                step - keys.len(),
            )?);
        }
        Ok(keys)
    }

    /// Walks keys that end in an inode number.
    fn list_from(
        &self,
        filter: &MediaFilter,
        cursor: &[u8],
        limit: usize,
        next: impl Fn(&[u8], usize) -> Result<Vec<Vec<u8>>>,
    ) -> Result<(Vec<Medium>, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        let mut after = cursor.to_vec();
        let mut scanned = 0;
        while found.len() < limit && scanned < MAX_SCANNED {
            let keys = next(&after, STEP)?;
            if keys.is_empty() {
                return Ok((found, None));
            }
            for key in keys {
                scanned += 1;
                let number = key.last_chunk::<8>().copied().map(u64::from_be_bytes);
                let ino = number.ok_or_else(|| Error::new(Kind::Invalid, "not a cursor of this list"))?;
                after = key;
                match self.medium(Ino(ino), false) {
                    Ok(medium) if self.passes(filter, &medium) => found.push(medium),
                    Ok(_) => {}
                    Err(e) if matches!(e.kind(), Kind::NotFound | Kind::Invalid) => {}
                    Err(e) => return Err(e),
                }
                if found.len() >= limit {
                    break;
                }
            }
        }
        Ok((found, Some(after)))
    }

    fn passes(&self, filter: &MediaFilter, medium: &Medium) -> bool {
        let now = self.clock.now();
        let start = match self.policy().age_by {
            super::types::AgeBy::Written => medium.mtime,
            super::types::AgeBy::Used => medium.used,
        };
        let is_old =
            |keep: std::time::Duration| start.plus_secs(i64::try_from(keep.as_secs()).unwrap_or(i64::MAX)) <= now;
        (!filter.expired || medium.expired)
            && filter.mime_type.as_deref().is_none_or(|pattern| matches_type(pattern, &medium.mime_type))
            && filter.older_than.is_none_or(is_old)
            && filter.larger.is_none_or(|bytes| medium.size > bytes)
            && (!filter.held || medium.held)
            && filter.below.as_deref().is_none_or(|dir| {
                let dir = dir.trim_matches('/');
                dir.is_empty() || medium.path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
            })
            && filter.attribute.as_ref().is_none_or(|(name, value)| {
                let found = self.get_xattr(Ino(medium.ino), name.as_bytes());
                found.is_ok_and(|found| found == value.as_bytes())
            })
    }
}

/// The name of a cipher suite, as `status` and `--cipher` have it.
fn cipher_name(suite: Suite) -> &'static str {
    match suite {
        Suite::XChaCha20Poly1305 => "xchacha20-poly1305",
        Suite::Checksum => "none",
    }
}

fn by_kind(totals: &Totals) -> Vec<(String, u64, u64)> {
    let name = |nth: usize| {
        let code = u8::try_from(nth + 1).unwrap_or(u8::MAX);
        media::Kind::from_code(code).map_or("unknown", media::Kind::as_str).to_owned()
    };
    let all = totals.by_kind.iter().enumerate();
    all.filter(|(_, (count, _))| *count > 0).map(|(nth, (count, bytes))| (name(nth), *count, *bytes)).collect()
}
