//! What all parts of a node share.

use std::sync::Arc;

use super::config::NodeConfig;
use super::limits::Limits;
use super::metrics::Metrics;
use super::queue::Jobs;
use super::settings::Settings;
use super::tokens::Tokens;
use super::upstream::Upstream;
use super::webhooks::Seen;
use crate::error::{Error, Kind, Result};
use crate::sync::Mutex;
use crate::volume::Volume;

/// The volume, the configuration, and what is kept in the volume for the node.
pub struct Core {
    /// The volume.
    pub volume: Arc<Volume>,
    /// The configuration.
    pub config: NodeConfig,
    /// Who may ask.
    pub tokens: Tokens,
    /// What is set through the API.
    pub settings: Settings,
    /// What is still to be done.
    pub jobs: Arc<Jobs>,
    /// Where media come from and go to.
    pub(super) upstream: Option<Upstream>,
    pub(super) limits: Limits,
    pub(super) metrics: Metrics,
    /// What the upstream has told already.
    pub(super) seen: Seen,
    /// Held while what is known of an inbound medium changes. Taken before the queue's and the state log's.
    pub(super) inbound: Mutex<()>,
    /// Held while the mark of a message changes. Taken before the queue's and the state log's.
    pub(super) marks: Mutex<()>,
    /// Held while a removal of expired media is begun. Taken before the queue's and the state log's.
    pub(super) gc: Mutex<()>,
}

impl Core {
    /// Reads what the volume keeps for the node. The upstream is not asked.
    ///
    /// # Errors
    /// `Damaged`, `Io`; `Invalid` for an upstream that makes no sense.
    pub fn new(volume: Arc<Volume>, config: NodeConfig) -> Result<Arc<Core>> {
        let tokens = Tokens::load(&volume)?;
        let settings = Settings::load(&volume)?;
        let (limits, metrics) = (Limits::new(&config), Metrics::new());
        let jobs = Arc::new(Jobs::load(&volume)?);
        let seen = Seen::load(&volume)?;
        let upstream = config.upstream.clone().map(Upstream::new).transpose()?;
        let (inbound, marks, gc) = Default::default();
        Ok(Arc::new(Core {
            volume,
            config,
            tokens,
            settings,
            jobs,
            upstream,
            limits,
            metrics,
            seen,
            inbound,
            marks,
            gc,
        }))
    }

    /// Asks the volume something on a thread that may wait for the disk.
    ///
    /// # Errors
    /// Those of `work`; `Io` when its thread failed.
    pub async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Volume>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let volume = Arc::clone(&self.volume);
        blocking(move || work(&volume)).await
    }
}

/// Does something that may wait for the disk on a thread for that.
///
/// # Errors
/// Those of `work`; `Io` when its thread failed.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::new(Kind::Io, "a thread of the node failed").with_source(error)))
}
