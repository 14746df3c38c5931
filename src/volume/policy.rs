//! The policy of a volume: kept sealed in the store, replaced as a whole.

use std::sync::Arc;

use super::Volume;
use super::types::{Policy, Selector};
use crate::crypto::{BlobKey, nonce};
use crate::error::{Error, Kind, Result};
use crate::ids::VolumeId;
use crate::store::Layout;

const FILES: [&str; 2] = ["policy", "policy.bak"];
/// The most retention rules a policy has.
pub const MAX_RULES: usize = 256;
/// The most reserves a policy has.
pub const MAX_RESERVES: usize = 8;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;

fn bound_to(volume: VolumeId) -> Vec<u8> {
    [b"wamedia policy 1".as_slice(), &volume.0].concat()
}

/// Seals and writes both copies.
pub(super) fn write(layout: &Layout, key: &BlobKey, volume: VolumeId, policy: &Policy) -> Result<()> {
    let mut bytes = serde_json::to_vec(policy).map_err(|e| Error::new(Kind::Invalid, format!("policy: {e}")))?;
    let nonce = nonce();
    let tag = key.seal(&nonce, &bound_to(volume), &mut bytes);
    let sealed = [nonce.as_slice(), &bytes, &tag].concat();
    FILES.iter().rev().try_for_each(|name| layout.write_small(name, &sealed))
}

fn open(sealed: &[u8], key: &BlobKey, volume: VolumeId) -> Option<Policy> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let (body, tag) = rest.split_last_chunk::<TAG_LEN>()?;
    let mut bytes = body.to_vec();
    key.open(nonce, &bound_to(volume), &mut bytes, tag).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Reads the policy; notes say what was wrong with a copy. With no whole copy the defaults hold.
pub(super) fn read(layout: &Layout, key: &BlobKey, volume: VolumeId) -> Result<(Policy, Vec<String>)> {
    let mut notes = Vec::new();
    for name in FILES {
        let found = layout.read_small(name)?.and_then(|bytes| open(&bytes, key, volume));
        match found {
            Some(policy) => return Ok((policy, notes)),
            None => notes.push(format!("the copy `{name}` of the policy is missing or damaged")),
        }
    }
    notes.push("no copy of the policy is whole: defaults hold (no quota, 30 days); set it with `wamedia quota` and `wamedia retention`".into());
    Ok((Policy::default(), notes))
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
    if policy.max_bytes.is_some_and(|max| super::quota::reserved_bytes(policy) >= max) {
        return invalid("the reserve leaves nothing of the quota");
    }
    Ok(())
}

impl Volume {
    /// The policy that holds now.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read())
    }

    /// Replaces the policy; it holds at once and is durable on return. Media are sorted anew when rules changed.
    ///
    /// # Errors
    /// `Invalid` saying what makes no sense; `NoSpace`, `Io`, with the old policy still in force.
    pub fn set_policy(&self, policy: Policy) -> Result<()> {
        validate(&policy)?;
        let _one = self.policy_change.lock();
        write(&self.layout, &self.policy_key, self.id, &policy)?;
        let old = std::mem::replace(&mut *self.policy.write(), Arc::new(policy));
        let new = self.policy();
        let same_rules = old.retention.iter().map(|r| &r.selector).eq(new.retention.iter().map(|r| &r.selector));
        if same_rules && old.age_by == new.age_by { Ok(()) } else { self.reclass_all() }
    }
}
