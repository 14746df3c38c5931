//! Media on their way to the upstream: each once, however many messages carry it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures_util::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::ids::{Ino, MediaId};
use crate::media;
use crate::node::config::identity_of;
use crate::node::core::{Core, blocking};
use crate::node::media::reading::Open;
use crate::node::queue::{Plan, decode, each, encode};
use crate::node::tables::UPLOADED;
use crate::node::upstream::{Upstream, UpstreamError};
use crate::sync::Mutex;
use crate::volume::Medium;

/// How long an upstream keeps an upload, less a day for the message that carries it.
const LIFE_MS: i64 = 29 * 24 * 3600 * 1000;
/// Uploads known to be under way from which on those that are over are looked for.
const MANY: usize = 256;

/// The digest of a medium's digest, type, and the upstream.
pub type UploadKey = [u8; 32];

#[derive(Serialize, Deserialize)]
struct Uploaded {
    upstream_id: String,
    until: i64,
}

/// A medium as the upstream has it.
pub struct AtUpstream {
    /// The upstream's id.
    pub id: String,
    /// Under what it is kept that it was uploaded.
    pub key: UploadKey,
    /// Whether it was uploaded before now.
    pub is_old: bool,
}

/// Uploads under way.
#[derive(Default)]
pub struct Uploads(Mutex<HashMap<UploadKey, Weak<tokio::sync::Mutex<()>>>>);

/// Why a medium did not get to the upstream.
pub enum UploadError {
    /// The volume.
    Volume(crate::error::Error),
    /// The upstream.
    Upstream(UpstreamError),
}

impl From<crate::error::Error> for UploadError {
    fn from(error: crate::error::Error) -> UploadError {
        UploadError::Volume(error)
    }
}

fn key(core: &Core, medium: &Medium) -> UploadKey {
    let mut key = Sha256::new();
    let identity = core.config.upstream.as_ref().map(identity_of).unwrap_or_default();
    for part in [medium.sha256.as_deref().unwrap_or_default(), &medium.mime_type, &identity] {
        key.update(part.as_bytes());
        key.update([0]);
    }
    key.finalize().into()
}

impl Uploads {
    fn lock(&self, key: UploadKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut known = self.0.lock();
        if let Some(lock) = known.get(&key).and_then(Weak::upgrade) {
            return lock;
        }
        if known.len() >= MANY {
            known.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::default();
        known.insert(key, Arc::downgrade(&lock));
        lock
    }

    /// The upstream's id of a medium, which is uploaded if it was not, or is too old there. Counts as a use of it.
    pub async fn id_of(
        &self,
        core: &Core,
        upstream: &Upstream,
        id: MediaId,
        medium: &Medium,
    ) -> std::result::Result<AtUpstream, UploadError> {
        let key = key(core, medium);
        let lock = self.lock(key);
        let _one = lock.lock().await;
        let ino = Ino(medium.ino);
        // Opening it notes the use.
        let open = core.ask(move |volume| Open::new(volume, ino)).await?;
        let kept = core.ask(move |volume| volume.state_get(UPLOADED, &key)).await?;
        let kept = kept.and_then(|bytes| decode::<Uploaded>(&bytes).ok()).filter(|kept| kept.until > core.jobs.now());
        if let Some(kept) = kept {
            return Ok(AtUpstream { id: kept.upstream_id, key, is_old: true });
        }
        let source = open.pieces(0, medium.size).map_err(std::io::Error::other).boxed();
        let name = format!("{id}.{}", media::extension(&medium.mime_type));
        let upstream_id =
            upstream.upload(source, medium.size, &medium.mime_type, &name).await.map_err(UploadError::Upstream)?;
        let uploaded = Uploaded { upstream_id: upstream_id.clone(), until: core.jobs.now().saturating_add(LIFE_MS) };
        let jobs = Arc::clone(&core.jobs);
        blocking(move || {
            let mut plan = Plan::new();
            plan.put(UPLOADED, &key, encode(&uploaded)?);
            jobs.commit(plan)
        })
        .await?;
        Ok(AtUpstream { id: upstream_id, key, is_old: false })
    }
}

/// Forgets uploads that the upstream no longer has.
///
/// # Errors
/// Those of the state log.
pub fn sweep(core: &Core) -> Result<()> {
    let (mut plan, now) = (Plan::new(), core.jobs.now());
    each(&core.volume, UPLOADED, |key, value| {
        if decode::<Uploaded>(value).is_ok_and(|kept| kept.until <= now) {
            plan.delete(UPLOADED, key);
        }
    })?;
    core.jobs.commit(plan)
}
