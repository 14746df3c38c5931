//! The policy of a volume: kept sealed in the store, replaced as a whole.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Volume;
use super::aging::{grain_under, has_prefixes, longest_first};
use super::types::{AgeBy, Policy, RetentionRule, Selector};
use crate::clock::Timestamp;
use crate::crypto::{BlobKey, nonce};
use crate::error::{Error, Kind, Result};
use crate::ids::VolumeId;
use crate::index::{Table, schema};
use crate::store::Layout;

const FILES: [&str; 2] = ["policy", "policy.bak"];
/// Key of what the index is sorted under.
const SORTED: &str = "sorted";
/// The most retention rules a policy has.
pub const MAX_RULES: usize = 256;
/// The most reserves a policy has.
pub const MAX_RESERVES: usize = 8;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;

/// What is said while no copy of the policy is whole.
pub(super) const LOST: &str = "no copy of the policy is whole: nothing expires and no quota holds; put the file `policy` back \
from a backup and mount again, or say it anew with `wamedia retention set` and `wamedia quota set`";

/// The policy in force, with what follows from how it came to be.
#[derive(Clone)]
pub(super) struct InForce {
    /// The policy.
    pub policy: Arc<Policy>,
    /// From when uses have been noted as finely as its rules need; none when that was always so.
    pub used_since: Option<Timestamp>,
    /// How finely they are noted, in seconds.
    pub grain: i64,
    /// From when what is removed by itself has been decided by rules as they are; none when that was always so.
    pub acting_since: Option<Timestamp>,
    /// Whether it only stands in for one of which no copy is whole.
    pub is_lost: bool,
}

impl InForce {
    /// A policy as it is in the store.
    pub fn new(policy: Policy, used_since: Option<Timestamp>, is_lost: bool) -> InForce {
        InForce { grain: grain_under(&policy), policy: Arc::new(policy), used_since, acting_since: None, is_lost }
    }

    /// What stands in for a lost policy: no medium may go for it.
    fn stand_in() -> InForce {
        let retention = vec![RetentionRule { selector: Selector::Default, keep: None }];
        InForce::new(Policy { retention, ..Policy::default() }, None, true)
    }

    /// What is in force when `policy` takes the place of this one.
    fn followed_by(&self, policy: Policy, now: Timestamp) -> InForce {
        let was_coarser = self.is_lost || self.policy.age_by == AgeBy::Written || grain_under(&policy) < self.grain;
        let is_since_now = policy.age_by == AgeBy::Used && was_coarser;
        let old = &self.policy;
        let is_acting_alike =
            (&old.retention, old.age_by, old.action) == (&policy.retention, policy.age_by, policy.action);
        let acting_since = if is_acting_alike && !self.is_lost { self.acting_since } else { Some(now) };
        let used_since = if is_since_now { Some(now) } else { self.used_since };
        InForce { acting_since, ..InForce::new(policy, used_since, false) }
    }

    /// A digest of what the index is sorted by age under: two policies with the same one need no sorting between them.
    fn sorting(&self) -> Vec<u8> {
        let rules = &self.policy.retention;
        let selectors: Vec<_> = rules.iter().map(|rule| &rule.selector).collect();
        // Of several names the one that is kept longest decides.
        let order = has_prefixes(rules).then(|| longest_first(rules));
        let parts = serde_json::to_vec(&(selectors, order, self.policy.age_by, self.used_since));
        Sha256::digest(parts.unwrap_or_default()).to_vec()
    }
}

/// A policy as its file has it.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    policy: Policy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used_since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acting_since: Option<Timestamp>,
}

fn bound_to(volume: VolumeId) -> Vec<u8> {
    [b"wamedia policy 1".as_slice(), &volume.0].concat()
}

/// Seals and writes both copies.
pub(super) fn write(layout: &Layout, key: &BlobKey, volume: VolumeId, force: &InForce) -> Result<()> {
    let policy = Policy::clone(&force.policy);
    let kept = Kept { policy, used_since: force.used_since, acting_since: force.acting_since };
    let mut bytes = serde_json::to_vec(&kept).map_err(|e| Error::new(Kind::Invalid, format!("policy: {e}")))?;
    let nonce = nonce();
    let tag = key.seal(&nonce, &bound_to(volume), &mut bytes);
    let sealed = [nonce.as_slice(), &bytes, &tag].concat();
    FILES.iter().rev().try_for_each(|name| layout.write_small(name, &sealed))
}

fn open(sealed: &[u8], key: &BlobKey, volume: VolumeId) -> Option<InForce> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let (body, tag) = rest.split_last_chunk::<TAG_LEN>()?;
    let mut bytes = body.to_vec();
    key.open(nonce, &bound_to(volume), &mut bytes, tag).ok()?;
    let kept: Kept = serde_json::from_slice(&bytes).ok()?;
    validate(&kept.policy).ok()?;
    Some(InForce { acting_since: kept.acting_since, ..InForce::new(kept.policy, kept.used_since, false) })
}

/// Whether each copy of the policy is whole, and what the first whole one says.
fn read_copies(layout: &Layout, key: &BlobKey, volume: VolumeId) -> Result<(Option<InForce>, Vec<&'static str>)> {
    let (mut force, mut bad) = (None, Vec::new());
    for name in FILES {
        match layout.read_small(name) {
            Err(e) if e.kind() != Kind::Damaged => return Err(e),
            found => match found.ok().flatten().and_then(|bytes| open(&bytes, key, volume)) {
                Some(found) => force = force.or(Some(found)),
                None => bad.push(name),
            },
        }
    }
    Ok((force, bad))
}

/// Reads the policy; notes say what was wrong with a copy, which is written again from the other. With no whole copy one
/// stands in under which nothing expires.
pub(super) fn read(layout: &Layout, key: &BlobKey, volume: VolumeId) -> Result<(InForce, Vec<String>)> {
    let (force, bad) = read_copies(layout, key, volume)?;
    let notes = bad.iter().map(|name| format!("the copy `{name}` of the policy is missing or damaged")).collect();
    let Some(force) = force else {
        tracing::warn!("{LOST}");
        return Ok((InForce::stand_in(), notes));
    };
    if !bad.is_empty()
        && let Err(e) = write(layout, key, volume, &force)
    {
        // One copy suffices, and a full disk must not keep a volume from opening.
        tracing::warn!("a damaged copy of the policy could not be written again: {e}");
    }
    Ok((force, notes))
}

/// Refuses a policy that makes no sense.
pub(super) fn validate(policy: &Policy) -> Result<()> {
    let invalid = |message: &str| Err(Error::new(Kind::Invalid, message));
    if policy.retention.len() > MAX_RULES || policy.reserves.len() > MAX_RESERVES {
        return invalid("a policy has at most 256 retention rules and 8 reserves");
    }
    if policy.retention.iter().filter(|r| r.selector == Selector::Default).count() != 1 {
        return invalid("a policy has one default retention");
    }
    for (nth, rule) in policy.retention.iter().enumerate() {
        if policy.retention.iter().take(nth).any(|other| other.selector == rule.selector) {
            return invalid("two retention rules are about the same");
        }
        if matches!(&rule.selector, Selector::Type(t) if t.split_once('/').is_none_or(|(a, b)| a.is_empty() || b.is_empty()))
        {
            return invalid("a type is written type/subtype or type/*");
        }
    }
    if policy.reserves.iter().any(|r| r.class != "uploads") {
        return invalid("the only class that can have a reserve is `uploads`");
    }
    let marks = [policy.warn_at, policy.purge_at];
    if marks.into_iter().flatten().any(|percent| !(1..=100).contains(&percent)) {
        return invalid("a watermark is 1 to 100 hundredths of the room");
    }
    if policy.warn_at.zip(policy.purge_at).is_some_and(|(warn, purge)| warn > purge) {
        return invalid("the warning comes after the purge: set warn_at no higher than purge_at");
    }
    if policy.max_bytes.is_some_and(|max| super::quota::reserved_bytes(policy) >= max) {
        return invalid("the reserve leaves nothing of the quota");
    }
    Ok(())
}

impl Volume {
    /// The copies of the policy that are not whole.
    pub(super) fn bad_policies(&self) -> Result<Vec<&'static str>> {
        Ok(read_copies(&self.layout, &self.policy_key, self.id)?.1)
    }

    /// Writes both copies of the policy in force again.
    pub(super) fn rewrite_policy(&self) -> Result<()> {
        let _one = self.policy_change.lock();
        self.store.latch().watch(write(&self.layout, &self.policy_key, self.id, &self.in_force()))
    }

    /// The policy that holds now.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().policy)
    }

    /// The policy that holds now, with what follows from how it came to be.
    pub(super) fn in_force(&self) -> InForce {
        self.policy.read().clone()
    }

    /// Replaces the policy; it holds at once and is durable on return. Media are sorted anew when rules changed.
    ///
    /// # Errors
    /// `Invalid` saying what makes no sense; `NoSpace`, `Io`, with the old policy still in force.
    pub fn set_policy(&self, policy: Policy) -> Result<()> {
        validate(&policy)?;
        let _one = self.policy_change.lock();
        self.put_in_force(policy)
    }

    /// Takes over the policy that its file in the store says now; whether that is another than the one in force. What
    /// else follows from it holds from now on, as for [`Volume::set_policy`].
    ///
    /// # Errors
    /// `Damaged` when no copy in the store is whole, `NoSpace`, `Io`; the policy in force stays.
    pub fn reload_policy(&self) -> Result<bool> {
        let _one = self.policy_change.lock();
        let (found, _) = read_copies(&self.layout, &self.policy_key, self.id)?;
        let found = found.ok_or_else(|| Error::new(Kind::Damaged, "no copy of the policy in the store is whole"))?;
        let old = self.in_force();
        if found.policy == old.policy && !old.is_lost {
            return Ok(false);
        }
        self.put_in_force(Policy::clone(&found.policy))?;
        Ok(true)
    }

    /// Writes a policy and puts it in the place of the one in force. To be called by one at a time.
    fn put_in_force(&self, policy: Policy) -> Result<()> {
        let new = self.in_force().followed_by(policy, self.clock.now());
        self.store.latch().watch(write(&self.layout, &self.policy_key, self.id, &new))?;
        let is_sorted = new.sorting() == self.in_force().sorting();
        if !is_sorted {
            // Before the first record is put in under the new rules.
            self.forget_sorting();
        }
        *self.policy.write() = new;
        if is_sorted { Ok(()) } else { self.reclass_all() }
    }

    /// Whether the index is sorted under the policy in force: a crash may have come between, or another file of it.
    pub(super) fn is_sorted(&self) -> Result<bool> {
        Ok(self.index.get(Table::Meta, &schema::meta(SORTED))?.is_some_and(|found| found == self.in_force().sorting()))
    }

    /// The index is sorted under no policy: its records are on the way from one to another.
    pub(super) fn forget_sorting(&self) {
        self.index.delete(Table::Meta, &schema::meta(SORTED));
    }

    /// The index is sorted under the policy in force.
    pub(super) fn note_sorting(&self) {
        self.index.put(Table::Meta, &schema::meta(SORTED), self.in_force().sorting());
    }
}
