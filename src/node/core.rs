//! What all parts of a node share.

use std::sync::Arc;

use super::config::NodeConfig;
use super::limits::Limits;
use super::settings::Settings;
use super::tokens::Tokens;
use crate::error::{Error, Kind, Result};
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
    pub(super) limits: Limits,
}

impl Core {
    /// Reads what the volume keeps for the node.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn new(volume: Arc<Volume>, config: NodeConfig) -> Result<Arc<Core>> {
        let tokens = Tokens::load(&volume)?;
        let settings = Settings::load(&volume)?;
        let limits = Limits::new(&config);
        Ok(Arc::new(Core { volume, config, tokens, settings, limits }))
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
