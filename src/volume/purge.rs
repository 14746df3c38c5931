//! Purge: expired media are removed, or told, in one pass.

use super::Volume;
use super::aging::{age_start, secs};
use super::inode::State;
use super::origin::{Way, by_way};
use super::types::{PurgeReport, PurgeWish, Purged};
use crate::error::{Kind, Result};
use crate::ids::Ino;
use crate::index::schema;

/// Media looked at in one step of a purge.
pub(super) const PURGE_STEP: usize = 256;

/// Bytes of the blob that a medium's removal takes away.
pub(super) fn blob_bytes(state: &State) -> u64 {
    state.record.location.map_or(0, |at| at.end())
}

impl Volume {
    /// Removes expired media whose age is at least `older_than`, or tells with `dry_run` which would go.
    /// Each is checked again at the moment of its removal. `progress` is called after every few.
    ///
    /// # Errors
    /// `Poisoned`, `Damaged`, `Io`; what was removed before stays removed.
    pub fn purge(
        &self,
        dry_run: bool,
        older_than: Option<std::time::Duration>,
        progress: &mut dyn FnMut(&PurgeReport),
    ) -> Result<PurgeReport> {
        self.purge_some(&PurgeWish { dry_run, older_than, due: false }, None, progress)
    }

    /// The same for what is wished; `list` is told of each medium that goes, or would.
    ///
    /// # Errors
    /// As [`Volume::purge`].
    pub fn purge_some(
        &self,
        wish: &PurgeWish,
        mut list: Option<&mut dyn FnMut(Purged)>,
        progress: &mut dyn FnMut(&PurgeReport),
    ) -> Result<PurgeReport> {
        let mut report = PurgeReport::default();
        let mut after = Vec::new();
        self.settle();
        loop {
            let keys = self.expired_keys(&after, PURGE_STEP)?;
            let Some((last, _)) = keys.last() else { break };
            after.clone_from(last);
            for (key, _) in keys {
                let Some((_, _, ino)) = schema::parse_age(&key) else { continue };
                if wish.due && !self.is_due(&key)? {
                    continue;
                }
                let told = by_way(Way::Purge, || self.purge_one(ino, &key, wish, list.is_some(), &mut report))?;
                if let (Some(told), Some(list)) = (told, &mut list) {
                    list(told);
                }
            }
            progress(&report);
        }
        if report.media > 0 && !wish.dry_run {
            self.ledger.sync()?;
            self.tell_purged(&report);
        }
        Ok(report)
    }

    /// Removes those of these media that are expired; each is looked at again at the moment of its removal. Durable on return.
    ///
    /// # Errors
    /// As [`Volume::purge`].
    pub fn purge_these(&self, media: &[Ino]) -> Result<PurgeReport> {
        let (mut report, wish) = (PurgeReport::default(), PurgeWish::default());
        for ino in media {
            self.purge_one(*ino, &[], &wish, false, &mut report)?;
        }
        if report.media > 0 {
            self.ledger.sync()?;
        }
        Ok(report)
    }

    fn purge_one(
        &self,
        ino: Ino,
        key: &[u8],
        wish: &PurgeWish,
        is_listed: bool,
        report: &mut PurgeReport,
    ) -> Result<Option<Purged>> {
        let Ok(inode) = self.inode(ino) else { return Ok(None) };
        let (is_expired, is_old, size, blob_bytes) = {
            let state = inode.state.read();
            let start = age_start(&state.record, self.policy().age_by);
            let is_old = wish.older_than.is_none_or(|d| start.plus_secs(secs(d)) <= self.clock.now());
            (self.is_expired(&state), is_old, state.record.len, blob_bytes(&state))
        };
        if !is_old {
            return Ok(None);
        }
        // Its names are gone with it.
        let told = match is_listed && is_expired {
            true => self.purged(ino, size, blob_bytes).ok(),
            false => None,
        };
        let removed = match (is_expired, wish.dry_run, wish.due) {
            (false, ..) => false,
            (true, true, _) => true,
            (true, false, true) => self.remove_due(ino, key)?,
            (true, false, false) => match self.remove_expired(ino) {
                Ok(()) => true,
                Err(e) if matches!(e.kind(), Kind::NotExpired | Kind::NotFound) => false,
                Err(e) => return Err(e),
            },
        };
        if !removed {
            report.kept += 1;
            return Ok(None);
        }
        report.media += 1;
        report.bytes += size;
        report.blob_bytes += blob_bytes;
        Ok(told)
    }

    fn purged(&self, ino: Ino, size: u64, blob_bytes: u64) -> Result<Purged> {
        let (id, path) = (self.id_of(ino)?.to_string(), self.path_of(ino)?);
        Ok(Purged { id, path: String::from_utf8_lossy(&path).into_owned(), size, blob_bytes })
    }
}
