//! The quota: asked and taken under one lock before a byte is accepted.

use std::time::Duration;

use super::Volume;
use super::types::{Policy, ReserveAmount, Statfs};
use crate::error::{Error, Kind, Result};
use crate::store::{Space, Store};
use crate::sync::Mutex;
use crate::sync::thread;

/// Unit of the counts of `statfs`, in bytes.
const BLOCK_SIZE: u64 = 4096;
/// What a file costs on the backing file system beside its content, in bytes.
const FILE_COST: u64 = 8192;

/// What a commit of names costs on the backing file system at most, but for many names or attributes, in bytes.
const COMMIT_COST: u64 = 64 << 10;
/// Room on the disk above the floor that is enough not to think of each write.
const PLENTY: u64 = 1 << 30;

/// How often, and how far apart, room is asked for again while a removed medium may be about to give its own back.
const CLOSE_TRIES: usize = 4;
const CLOSE_PAUSE: Duration = Duration::from_millis(5);

/// Who asks for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// What comes in, and everything written through the mount.
    General,
    /// What is uploaded to be sent.
    Uploads,
}

#[derive(Debug, Default)]
struct Usage {
    bytes: u64,
    media: u64,
    refused: u64,
}

/// Bytes and media in use, against what the policy lets.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// A leaf lock: nothing else is taken while it is held.
    usage: Mutex<Usage>,
}

/// Bytes kept for classes.
pub(super) fn reserved_bytes(policy: &Policy) -> u64 {
    let max = policy.max_bytes.unwrap_or(0);
    let sum = policy.reserves.iter().fold(0u64, |sum, reserve| {
        sum.saturating_add(match reserve.amount {
            ReserveAmount::Bytes(bytes) => bytes,
            ReserveAmount::Percent(percent) => max / 100 * u64::from(percent.min(100)),
        })
    });
    if policy.max_bytes.is_some() { sum.min(max) } else { sum }
}

impl Quota {
    /// Starts from what is in use.
    pub fn set(&self, bytes: u64, media: u64) {
        let mut usage = self.usage.lock();
        usage.bytes = bytes;
        usage.media = media;
    }

    /// Takes `bytes` and `media` for `class`, all or nothing. `space` tells what the disk has free.
    ///
    /// # Errors
    /// `NoSpace` saying which bound refused; `ClassLimit` when only the reserve of another class does.
    pub fn take(
        &self,
        policy: &Policy,
        space: impl FnOnce() -> Result<Space>,
        class: Class,
        (bytes, media): (u64, u64),
    ) -> Result<()> {
        let mut usage = self.usage.lock();
        let outcome = usage.check(policy, class, bytes, media).and_then(|()| {
            let cost = bytes.saturating_add(media * FILE_COST);
            if cost == 0 { Ok(()) } else { check_disk(policy, space()?, cost) }
        });
        outcome.inspect(|()| {
            usage.bytes += bytes;
            usage.media += media;
        })
    }

    /// Counts a refusal: one for each that somebody is told of, however often room was asked for.
    fn refused(&self) {
        self.usage.lock().refused += 1;
    }

    /// Gives `bytes` and `media` back.
    pub fn give(&self, bytes: u64, media: u64) {
        let mut usage = self.usage.lock();
        debug_assert!(usage.bytes >= bytes && usage.media >= media, "more was given back than was taken");
        usage.bytes = usage.bytes.saturating_sub(bytes);
        usage.media = usage.media.saturating_sub(media);
    }

    /// Bytes and media in use, and how often a write was refused.
    pub fn used(&self) -> (u64, u64, u64) {
        let usage = self.usage.lock();
        (usage.bytes, usage.media, usage.refused)
    }

    /// What `statfs(2)` shows.
    pub fn statfs(&self, policy: &Policy, store: &dyn Store) -> Result<Statfs> {
        Ok(self.usage.lock().statfs(policy, store.space()?))
    }
}

impl Usage {
    /// The size is what is used and what can still be stored: the quota, unless the disk has no room for all of it.
    fn statfs(&self, policy: &Policy, space: Space) -> Statfs {
        let room = space.free.saturating_sub(policy.floor_bytes);
        let left = policy.max_bytes.map_or(room, |max| max.saturating_sub(self.bytes));
        let reserve = if policy.max_bytes.is_some() { reserved_bytes(policy) } else { 0 };
        let free = left.min(room);
        let files = policy.max_media.unwrap_or_else(|| self.media.saturating_add(room / BLOCK_SIZE));
        Statfs {
            block_size: BLOCK_SIZE as u32,
            blocks: self.bytes.saturating_add(free) / BLOCK_SIZE,
            free: free / BLOCK_SIZE,
            available: left.saturating_sub(reserve).min(room) / BLOCK_SIZE,
            files,
            files_free: files.saturating_sub(self.media),
        }
    }

    fn check(&self, policy: &Policy, class: Class, bytes: u64, media: u64) -> Result<()> {
        if let Some(max) = policy.max_media
            && self.media.saturating_add(media) > max
            && media > 0
        {
            return Err(no_space(format!("the volume may hold {max} media and holds {}", self.media)));
        }
        if let Some(max) = policy.max_bytes {
            let reserve = if class == Class::Uploads { 0 } else { reserved_bytes(policy) };
            let after = self.bytes.saturating_add(bytes);
            if after > max.saturating_sub(reserve) && bytes > 0 {
                return Err(no_space(format!(
                    "the quota is {max} bytes, {} are in use, {reserve} are reserved, and {bytes} more do not fit",
                    self.bytes
                )));
            }
        }
        Ok(())
    }
}

fn check_disk(policy: &Policy, space: Space, bytes: u64) -> Result<()> {
    if space.free.saturating_sub(policy.floor_bytes) >= bytes {
        return Ok(());
    }
    Err(no_space(format!(
        "the disk under the store has {} bytes free and a floor of {}; {bytes} more do not fit",
        space.free, policy.floor_bytes
    )))
}

impl Volume {
    /// Takes room for `bytes` and `media`, all or nothing. The disk is asked each time: a program beside this one may
    /// be filling it.
    ///
    /// # Errors
    /// `NoSpace`, `ClassLimit` as [`Quota::take`]; `Io`.
    pub(super) fn take_room(&self, class: Class, bytes: u64, media: u64) -> Result<()> {
        let take = || self.quota.take(&self.policy(), || self.store.space(), class, (bytes, media));
        // The kernel tells of a last close without waiting, so room that its program takes for free may be on its way.
        for _ in 0..CLOSE_TRIES {
            match take() {
                Err(e) if e.kind() == Kind::NoSpace && self.is_orphan_open() => {
                    thread::sleep(CLOSE_PAUSE);
                }
                other => return other.inspect_err(|_| self.quota.refused()),
            }
        }
        take().inspect_err(|_| self.quota.refused())
    }

    /// Refuses what has to be written at once on a disk that has no room left at all.
    ///
    /// # Errors
    /// `NoSpace`, `Io`.
    pub(super) fn require_room_to_commit(&self) -> Result<()> {
        self.ballast.with_room(|| match self.store.space()?.free {
            COMMIT_COST.. => Ok(()),
            _ => Err(no_space("the disk under the store is full".into())),
        })
    }

    /// What the disk has above the floor, when that is so little that what is acknowledged needs a promise of it.
    ///
    /// # Errors
    /// `Io`.
    pub(super) fn tight_room(&self) -> Result<Option<u64>> {
        let room = self.store.space()?.free.saturating_sub(self.policy().floor_bytes);
        Ok(Some(room).filter(|room| *room <= PLENTY))
    }
}

fn no_space(message: String) -> Error {
    Error::new(Kind::NoSpace, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::types::Reserve;

    fn policy(max: u64, percent: u8) -> Policy {
        Policy {
            max_bytes: Some(max),
            reserves: vec![Reserve { class: "uploads".into(), amount: ReserveAmount::Percent(percent) }],
            ..Policy::default()
        }
    }

    #[test]
    fn a_reserve_is_a_part_of_the_quota() {
        assert_eq!(reserved_bytes(&policy(1000, 10)), 100);
        assert_eq!(reserved_bytes(&policy(1000, 200)), 1000);
    }

    const MIB: u64 = 1 << 20;
    const BLOCKS: u64 = MIB / BLOCK_SIZE;

    /// Size, used, free and available as `df` shows them, in MiB, of a quota of 1000 MiB with 100 reserved.
    fn shown(used: u64, disk: u64) -> (u64, u64, u64, u64) {
        let policy = Policy { floor_bytes: 20 * MIB, ..policy(1000 * MIB, 10) };
        let usage = Usage { bytes: used * MIB, ..Usage::default() };
        let shown = usage.statfs(&policy, Space { total: 5000 * MIB, free: disk * MIB });
        let used = shown.blocks - shown.free;
        (shown.blocks / BLOCKS, used / BLOCKS, shown.free / BLOCKS, shown.available / BLOCKS)
    }

    #[test]
    fn the_size_is_the_quota_while_the_disk_has_room_for_it() {
        assert_eq!(shown(0, 1020), (1000, 0, 1000, 900));
        assert_eq!(shown(300, 720), (1000, 300, 700, 600));
        assert_eq!(shown(950, 720), (1000, 950, 50, 0));
        assert_eq!(shown(1200, 720), (1200, 1200, 0, 0), "more is used than a lowered quota lets");
    }

    #[test]
    fn a_disk_smaller_than_the_quota_shows_no_more_used_than_there_is() {
        assert_eq!(shown(1, 520), (501, 1, 500, 500));
        assert_eq!(shown(1, 10), (1, 1, 0, 0));
    }

    #[test]
    fn the_reserve_is_a_part_of_the_quota_and_not_of_the_disk() {
        assert_eq!(shown(300, 620), (900, 300, 600, 600), "the quota has 700 left, of which 100 are reserved");
        assert_eq!(shown(300, 670), (950, 300, 650, 600));
    }
}
