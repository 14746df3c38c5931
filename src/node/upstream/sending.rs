//! The bytes of an upload on their way: counted, so that too few or too many are found here, and watched, so that a
//! transfer that moves may take as long as it needs while one that stands still is given up.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::timeout;

use super::{Source, Timeouts, UpstreamError};

use crate::sync::Mutex;

/// How far an upload has come.
#[derive(Default)]
pub(super) struct Progress {
    /// Pieces asked for; one more at the end.
    steps: AtomicU64,
    /// Bytes still to come.
    left: AtomicU64,
    /// Why the source failed, once it did.
    failure: Mutex<Option<String>>,
}

impl Progress {
    pub(super) fn of(length: u64) -> Arc<Progress> {
        Arc::new(Progress { left: AtomicU64::new(length), ..Progress::default() })
    }

    /// Why the source failed, if it did.
    pub(super) fn failure(&self) -> Option<UpstreamError> {
        self.failure.lock().take().map(UpstreamError::local)
    }

    fn fail(&self, what: String) -> io::Error {
        *self.failure.lock() = Some(what);
        io::Error::other("the source of the upload failed")
    }
}

/// The pieces of `source`, which must be as many bytes as `progress` was made for.
pub(super) fn watched(
    source: Source,
    progress: Arc<Progress>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::try_unfold((source, progress), |(mut source, progress)| async move {
        let piece = source.next().await.transpose();
        let piece = piece.map_err(|e| progress.fail(format!("the medium to upload cannot be read: {e}")))?;
        progress.steps.fetch_add(1, Ordering::Relaxed);
        let left = progress.left.load(Ordering::Relaxed);
        let Some(piece) = piece else {
            let whole = left == 0;
            return whole.then_some(None).ok_or_else(|| {
                progress.fail(format!("the medium to upload ended {left} bytes before the length that was told"))
            });
        };
        let Some(left) = left.checked_sub(piece.len() as u64) else {
            return Err(progress.fail("the medium to upload has more bytes than was told".to_owned()));
        };
        progress.left.store(left, Ordering::Relaxed);
        Ok(Some((piece, (source, progress))))
    })
}

/// Waits for `work` as long as the upload moves: `idle` between two pieces, `answer` after the last. `None` when it
/// stands still.
pub(super) async fn while_it_moves<T>(
    work: impl Future<Output = T>,
    progress: &Progress,
    timeouts: Timeouts,
) -> Option<T> {
    let mut work = pin!(work);
    loop {
        let steps = progress.steps.load(Ordering::Relaxed);
        let patience = if progress.left.load(Ordering::Relaxed) == 0 { timeouts.answer } else { timeouts.idle };
        match timeout(patience, &mut work).await {
            Ok(done) => return Some(done),
            Err(_) if progress.steps.load(Ordering::Relaxed) == steps => return None,
            Err(_) => {}
        }
    }
}
