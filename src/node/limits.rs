//! How much one caller, and all of them together, may ask at a time.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::Semaphore;

use super::config::NodeConfig;
use super::tokens::TokenId;

/// Failed authentications a second that one address may make in the long run, and at once.
const DENIALS_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();
const DENIALS_AT_ONCE: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// Notifications taken at a time: a signature is checked over all of a body, so each is in memory first.
const NOTIFICATIONS: usize = 16;
/// Callers from which on those not seen of late are forgotten.
const MANY_CALLERS: usize = 10_000;

/// The limits of a node.
pub(super) struct Limits {
    requests: DefaultKeyedRateLimiter<TokenId>,
    denials: DefaultKeyedRateLimiter<IpAddr>,
    pub uploads: Arc<Semaphore>,
    /// Bodies of notifications that are in memory, of whoever sends them.
    pub notifications: Semaphore,
}

impl Limits {
    /// Those of the configuration; a caller may make as many requests at once as in two seconds.
    pub fn new(config: &NodeConfig) -> Limits {
        let per_second = NonZeroU32::new(config.requests_per_second).unwrap_or(NonZeroU32::MIN);
        let requests = Quota::per_second(per_second)
            .allow_burst(per_second.saturating_mul(NonZeroU32::new(2).unwrap_or(per_second)));
        Limits {
            requests: RateLimiter::keyed(requests),
            denials: RateLimiter::keyed(Quota::per_second(DENIALS_PER_SECOND).allow_burst(DENIALS_AT_ONCE)),
            uploads: Arc::new(Semaphore::new(config.max_uploads)),
            notifications: Semaphore::new(NOTIFICATIONS),
        }
    }

    /// Whether the holder of this token may make another request now.
    pub fn let_in(&self, token: &TokenId) -> bool {
        self.requests.check_key(token).is_ok()
    }

    /// Notes a failed authentication; false when there were too many from this address.
    pub fn note_denial(&self, from: IpAddr) -> bool {
        if self.denials.len() > MANY_CALLERS {
            self.denials.retain_recent();
        }
        self.denials.check_key(&from).is_ok()
    }
}
