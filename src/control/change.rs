//! Changes of a volume's policy, as values: what `quota`, `retention` and `init` ask for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::volume::{AgeBy, ExpiryAction, Policy, Reserve, ReserveAmount, RetentionRule, Selector};

/// Rules a policy may have at most.
pub const MAX_RULES: usize = 1024;

/// A number with an end, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// No limit.
    None,
    /// At most this.
    At(u64),
}

impl Limit {
    /// The limit as the policy writes it.
    #[must_use]
    pub fn as_option(self) -> Option<u64> {
        match self {
            Limit::None => None,
            Limit::At(limit) => Some(limit),
        }
    }
}

/// How long something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// For ever.
    Forever,
    /// For this long.
    For(Duration),
}

impl Keep {
    /// The time as the policy writes it.
    #[must_use]
    pub fn as_option(self) -> Option<Duration> {
        match self {
            Keep::Forever => None,
            Keep::For(time) => Some(time),
        }
    }
}

/// What is to become of a policy; what is not named stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyChange {
    /// The byte quota.
    pub max_bytes: Option<Limit>,
    /// The media quota.
    pub max_media: Option<Limit>,
    /// Reserves to set; an amount of 0 takes a class's reserve away.
    pub reserves: Vec<Reserve>,
    /// Bytes of the backing file system that are never used.
    pub floor_bytes: Option<u64>,
    /// How age is counted.
    pub age_by: Option<AgeBy>,
    /// Retention rules to set, each in the place of one with the same selector.
    pub rules: Vec<RetentionRule>,
    /// Retention rules to take away.
    pub removed_rules: Vec<Selector>,
    /// What becomes of expired media.
    pub action: Option<ExpiryAction>,
    /// How long a medium is shown as expired before it is removed by itself.
    pub grace: Option<Duration>,
    /// From how many hundredths of the room in use on somebody is warned.
    pub warn_at: Option<Mark>,
    /// From how many hundredths of the room in use on expired media are removed.
    pub purge_at: Option<Mark>,
}

/// A watermark, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// No mark.
    None,
    /// At so many hundredths.
    At(u8),
}

impl Mark {
    /// The mark as the policy writes it.
    #[must_use]
    pub fn as_option(self) -> Option<u8> {
        match self {
            Mark::None => None,
            Mark::At(percent) => Some(percent),
        }
    }
}

impl PolicyChange {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == PolicyChange::default()
    }

    /// The policy with this change made.
    ///
    /// # Errors
    /// [`Kind::Invalid`] when the outcome makes no sense (a reserve in percent without a quota, reserves beyond the
    /// quota, the default rule removed, too many rules), [`Kind::NotFound`] when a rule to remove is not there.
    pub fn apply(&self, mut policy: Policy) -> Result<Policy> {
        if let Some(limit) = self.max_bytes {
            policy.max_bytes = limit.as_option();
        }
        if let Some(limit) = self.max_media {
            policy.max_media = limit.as_option();
        }
        if let Some(floor) = self.floor_bytes {
            policy.floor_bytes = floor;
        }
        if let Some(age_by) = self.age_by {
            policy.age_by = age_by;
        }
        if let Some(action) = self.action {
            policy.action = action;
        }
        if let Some(grace) = self.grace {
            policy.grace = grace;
        }
        if let Some(mark) = self.warn_at {
            policy.warn_at = mark.as_option();
        }
        if let Some(mark) = self.purge_at {
            policy.purge_at = mark.as_option();
        }
        for reserve in &self.reserves {
            policy.reserves.retain(|present| present.class != reserve.class);
            if !is_nothing(reserve.amount) {
                policy.reserves.push(reserve.clone());
            }
        }
        for selector in &self.removed_rules {
            remove_rule(&mut policy, selector)?;
        }
        for rule in &self.rules {
            set_rule(&mut policy, rule);
        }
        validate(&policy)?;
        Ok(policy)
    }
}

fn is_nothing(amount: ReserveAmount) -> bool {
    matches!(amount, ReserveAmount::Bytes(0) | ReserveAmount::Percent(0))
}

fn remove_rule(policy: &mut Policy, selector: &Selector) -> Result<()> {
    if *selector == Selector::Default {
        return Err(Error::new(Kind::Invalid, "the default retention cannot be removed; set it to `forever` instead"));
    }
    let before = policy.retention.len();
    policy.retention.retain(|rule| rule.selector != *selector);
    if policy.retention.len() == before {
        let what = describe(selector);
        return Err(Error::new(
            Kind::NotFound,
            format!("there is no retention rule for {what}; `wamedia retention show` lists them"),
        ));
    }
    Ok(())
}

fn set_rule(policy: &mut Policy, rule: &RetentionRule) {
    match policy.retention.iter_mut().find(|present| present.selector == rule.selector) {
        Some(present) => present.keep = rule.keep,
        None => policy.retention.push(rule.clone()),
    }
}

/// A selector in words.
#[must_use]
pub fn describe(selector: &Selector) -> String {
    match selector {
        Selector::Default => "everything else".to_owned(),
        Selector::Type(mime) => format!("type {mime}"),
        Selector::Prefix(path) => format!("directory {path}"),
    }
}

fn validate(policy: &Policy) -> Result<()> {
    if policy.retention.len() > MAX_RULES {
        return Err(Error::new(Kind::Invalid, format!("more than {MAX_RULES} retention rules; remove some first")));
    }
    let mut kept_bytes = 0_u64;
    for reserve in &policy.reserves {
        kept_bytes = kept_bytes.saturating_add(reserve_bytes(reserve, policy.max_bytes)?);
    }
    match policy.max_bytes {
        Some(max) if kept_bytes > max => Err(Error::new(
            Kind::Invalid,
            format!(
                "the reserves ({kept_bytes} bytes) are larger than the quota ({max} bytes); lower one or raise the other"
            ),
        )),
        _ => Ok(()),
    }
}

fn reserve_bytes(reserve: &Reserve, max_bytes: Option<u64>) -> Result<u64> {
    match (reserve.amount, max_bytes) {
        (ReserveAmount::Bytes(bytes), _) => Ok(bytes),
        (ReserveAmount::Percent(percent), Some(max)) => Ok((max / 100).saturating_mul(u64::from(percent))),
        (ReserveAmount::Percent(_), None) => Err(Error::new(
            Kind::Invalid,
            format!(
                "the reserve of `{}` is in percent, but the volume has no byte quota; give --quota too, or the reserve in bytes",
                reserve.class
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            max_bytes: Some(1000),
            max_media: None,
            reserves: Vec::new(),
            floor_bytes: 7,
            age_by: AgeBy::Written,
            retention: vec![RetentionRule { selector: Selector::Default, keep: Some(Duration::from_secs(60)) }],
            ..Policy::default()
        }
    }

    fn uploads(amount: ReserveAmount) -> Reserve {
        Reserve { class: "uploads".into(), amount }
    }

    #[test]
    fn an_empty_change_changes_nothing() {
        assert_eq!(PolicyChange::default().apply(policy()).unwrap(), policy());
    }

    #[test]
    fn a_rule_replaces_the_one_with_its_selector() {
        let rule =
            |secs| RetentionRule { selector: Selector::Type("image/*".into()), keep: Some(Duration::from_secs(secs)) };
        let change = PolicyChange { rules: vec![rule(1), rule(2)], ..Default::default() };
        assert_eq!(change.apply(policy()).unwrap().retention, [policy().retention[0].clone(), rule(2)]);
    }

    #[test]
    fn the_default_rule_and_absent_rules_cannot_be_removed() {
        for (selector, kind) in [(Selector::Default, Kind::Invalid), (Selector::Prefix("x".into()), Kind::NotFound)] {
            let change = PolicyChange { removed_rules: vec![selector], ..Default::default() };
            assert_eq!(change.apply(policy()).unwrap_err().kind(), kind);
        }
    }

    #[test]
    fn reserves_must_fit_the_quota() {
        let set = |amount| PolicyChange { reserves: vec![uploads(amount)], ..Default::default() };
        assert!(set(ReserveAmount::Bytes(1000)).apply(policy()).is_ok());
        assert!(set(ReserveAmount::Bytes(1001)).apply(policy()).is_err());
        assert!(set(ReserveAmount::Percent(100)).apply(policy()).is_ok());
        let unlimited = Policy { max_bytes: None, ..policy() };
        assert!(set(ReserveAmount::Percent(10)).apply(unlimited.clone()).is_err());
        assert!(set(ReserveAmount::Bytes(10)).apply(unlimited).is_ok());
    }

    #[test]
    fn marks_and_the_action_are_set_and_taken_away() {
        let set = PolicyChange {
            action: Some(ExpiryAction::Purge),
            grace: Some(Duration::from_secs(5)),
            warn_at: Some(Mark::At(80)),
            purge_at: Some(Mark::At(90)),
            ..Default::default()
        };
        let text = serde_json::to_string(&set).unwrap();
        let policy = serde_json::from_str::<PolicyChange>(&text).unwrap().apply(policy()).unwrap();
        assert_eq!((policy.action, policy.grace), (ExpiryAction::Purge, Duration::from_secs(5)));
        assert_eq!((policy.warn_at, policy.purge_at), (Some(80), Some(90)));
        let unset = PolicyChange { warn_at: Some(Mark::None), ..Default::default() };
        assert_eq!((unset.apply(policy.clone()).unwrap().warn_at, policy.purge_at), (None, Some(90)));
    }

    #[test]
    fn a_policy_from_before_actions_only_shows() {
        let mut old = serde_json::to_value(policy()).unwrap();
        for field in ["action", "grace", "warn_at", "purge_at"] {
            old.as_object_mut().unwrap().remove(field).unwrap();
        }
        let read: Policy = serde_json::from_value(old).unwrap();
        assert_eq!(read, policy());
        assert_eq!((read.action, read.grace), (ExpiryAction::Show, Duration::from_secs(86_400)));
    }

    #[test]
    fn a_reserve_of_nothing_takes_it_away() {
        let with = Policy { reserves: vec![uploads(ReserveAmount::Bytes(5))], ..policy() };
        let change = PolicyChange { reserves: vec![uploads(ReserveAmount::Percent(0))], ..Default::default() };
        assert!(change.apply(with).unwrap().reserves.is_empty());
    }

    #[test]
    fn unlimited_differs_from_unnamed_on_the_wire() {
        let change = PolicyChange { max_bytes: Some(Limit::None), ..Default::default() };
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(serde_json::from_str::<PolicyChange>(&text).unwrap(), change);
        assert_ne!(change, PolicyChange::default());
    }
}
