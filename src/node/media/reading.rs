//! Reading media piece by piece, a little ahead of who takes them.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use crate::error::{Error, Kind, Result};
use crate::ids::Ino;
use crate::node::core::blocking;
use crate::volume::{OpenFile, Volume};

/// Bytes read at a time.
const PIECE: u64 = 128 << 10;
/// Pieces that are read before they are asked for.
const AHEAD: usize = 2;

/// A medium that is open for reading; closed when dropped.
pub struct Open {
    volume: Arc<Volume>,
    file: Option<OpenFile>,
}

/// The bytes of a medium.
pub enum Content {
    /// Read already, all of them.
    Read(Bytes),
    /// To be read.
    Open(Open),
}

impl Open {
    /// Opens a medium, which counts as a use of it.
    ///
    /// # Errors
    /// As [`Volume::open_medium`].
    pub fn new(volume: &Arc<Volume>, ino: Ino) -> Result<Open> {
        let file = volume.open_medium(ino)?;
        Ok(Open { volume: Arc::clone(volume), file: Some(file) })
    }

    /// Opens a medium to look at it, which is no use of it.
    ///
    /// # Errors
    /// As [`Volume::open_to_look`].
    pub fn to_look(volume: &Arc<Volume>, ino: Ino) -> Result<Open> {
        let file = volume.open_to_look(ino)?;
        Ok(Open { volume: Arc::clone(volume), file: Some(file) })
    }

    /// Its first `len` bytes.
    ///
    /// # Errors
    /// Those of the volume; `Io` when it has fewer.
    pub fn first(&self, len: u64) -> Result<Vec<u8>> {
        self.read(0, len).map(Vec::from)
    }

    fn read(&self, at: u64, len: u64) -> Result<Bytes> {
        let Some(file) = &self.file else { return Err(Error::new(Kind::BadHandle, "closed")) };
        let mut buf = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        let got = self.volume.read(file, at, &mut buf)?;
        if got as u64 != len {
            return Err(Error::new(Kind::Io, "the medium was cut short while it was read"));
        }
        Ok(Bytes::from(buf))
    }

    /// Reads a medium of at most one piece to its end and closes it, which costs less than one wait for another thread. A
    /// longer one stays open.
    ///
    /// # Errors
    /// Those of the volume; `Io` when it was cut short since `len` was asked for.
    pub fn content(mut self, len: u64) -> Result<Content> {
        if len > PIECE {
            return Ok(Content::Open(self));
        }
        let read = self.read(0, len).inspect_err(|error| tracing::error!(%error, "a medium cannot be read"));
        if let Some(file) = self.file.take() {
            self.volume.close(file);
        }
        read.map(Content::Read)
    }

    /// The bytes from `first` to before `end`.
    pub fn pieces(self, first: u64, end: u64) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        let open = Arc::new(self);
        let places = stream::iter((first..end).step_by(usize::try_from(PIECE).unwrap_or(usize::MAX)));
        let read = places.map(move |at| {
            let open = Arc::clone(&open);
            blocking(move || {
                let piece = open.read(at, PIECE.min(end - at));
                piece.inspect_err(|error| tracing::error!(%error, "a medium cannot be read"))
            })
        });
        read.buffered(AHEAD)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        let volume = Arc::clone(&self.volume);
        let close = move || volume.close(file);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(close)),
            Err(_) => close(),
        }
    }
}
