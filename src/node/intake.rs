//! A medium on its way into the volume: written without a name, then published under its id.

use std::sync::Arc;

use bytes::BytesMut;
use uuid::Uuid;

use super::config::FileModes;
use super::core::{Core, blocking};
use crate::error::{Error, Kind, Result};
use crate::ids::{Ino, MediaId};
use crate::media;
use crate::volume::{Allocate, Class, FileKind, NewNode, OpenFile, Volume, XattrMode};

/// The directory of media by their ids.
const SHARED: &str = "shared";

/// A medium that nobody sees yet. Dropped before it is published, it leaves nothing.
pub struct Intake {
    volume: Arc<Volume>,
    file: Option<Arc<OpenFile>>,
    at: u64,
    expected: Option<u64>,
    files: FileModes,
}

impl Intake {
    /// Begins a medium of this type that is charged to `class`, with room for `len` bytes promised when that is known.
    ///
    /// # Errors
    /// `NoSpace` before a byte is taken; those of the volume.
    pub async fn begin(core: &Core, class: Class, mime: Option<String>, len: Option<u64>) -> Result<Intake> {
        let (volume, files) = (Arc::clone(&core.volume), core.config.files);
        blocking(move || {
            let node = NewNode { mode: files.file, uid: files.uid, gid: files.gid };
            let file = volume.begin_upload(class, &node)?;
            let intake =
                Intake { volume: Arc::clone(&volume), file: Some(Arc::new(file)), at: 0, expected: len, files };
            let file = intake.file()?;
            if let Some(len) = len.filter(|len| *len > 0) {
                volume.allocate(&file, 0, len, Allocate::Reserve { keep_size: true })?;
            }
            if let Some(mime) = mime.filter(|mime| !mime.is_empty()) {
                volume.set_xattr(file.ino(), b"user.mime_type", mime.as_bytes(), XattrMode::Any)?;
            }
            Ok(intake)
        })
        .await
    }

    fn file(&self) -> Result<Arc<OpenFile>> {
        self.file.clone().ok_or_else(|| Error::new(Kind::BadHandle, "the upload is over"))
    }

    /// Appends bytes; gives the empty buffer back.
    ///
    /// # Errors
    /// `NoSpace` and those of the volume.
    pub async fn write(&mut self, mut piece: BytesMut) -> Result<BytesMut> {
        let (volume, file, at) = (Arc::clone(&self.volume), self.file()?, self.at);
        self.at += piece.len() as u64;
        blocking(move || {
            volume.write(&file, at, &piece, false)?;
            piece.clear();
            Ok(piece)
        })
        .await
    }

    /// Bytes written.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.at
    }

    /// What the bytes are.
    ///
    /// # Errors
    /// Those of the volume.
    pub async fn inspect(&self) -> Result<media::Facts> {
        let (volume, file) = (Arc::clone(&self.volume), self.file()?);
        blocking(move || volume.inspect_upload(&file)).await
    }

    /// Publishes it under a new id; it is durable on return.
    ///
    /// # Errors
    /// `Invalid` when fewer bytes came than were promised; `NoSpace` and those of the volume.
    pub async fn publish(self) -> Result<MediaId> {
        let id = MediaId(Uuid::new_v4());
        self.publish_as(id).await?;
        Ok(id)
    }

    /// Publishes it under this id; it is durable on return.
    ///
    /// # Errors
    /// `Exists`; as [`Intake::publish`].
    pub async fn publish_as(mut self, id: MediaId) -> Result<()> {
        if self.expected.is_some_and(|expected| expected != self.at) {
            return Err(Error::new(Kind::Invalid, "the medium is not whole"));
        }
        let taken = self.file.take();
        let (volume, files) = (Arc::clone(&self.volume), self.files);
        blocking(move || {
            let Some(file) = taken.and_then(Arc::into_inner) else {
                return Err(Error::new(Kind::BadHandle, "the upload is over"));
            };
            let [first, second, rest] = id.shared_path();
            let made = directory(&volume, &[SHARED, &first, &second], files);
            let dir = match made {
                Ok(dir) => dir,
                Err(error) => {
                    volume.abandon(file);
                    return Err(error);
                }
            };
            volume.publish_upload(file, dir, rest.as_bytes()).map(drop)
        })
        .await
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        let volume = Arc::clone(&self.volume);
        // A write that is still under way has the file too, and ends first.
        let give_up = move || {
            let mut file = file;
            loop {
                match Arc::try_unwrap(file) {
                    Ok(file) => return volume.abandon(file),
                    Err(shared) => file = shared,
                }
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(give_up)),
            Err(_) => give_up(),
        }
    }
}

/// The directory at a path from the root; what is missing of it is made.
fn directory(volume: &Volume, path: &[&str], files: FileModes) -> Result<Ino> {
    let node = NewNode { mode: files.directory, uid: files.uid, gid: files.gid };
    let mut at = Ino::ROOT;
    for name in path {
        at = match volume.lookup(at, name.as_bytes()) {
            Ok(found) if found.kind == FileKind::Directory => found.ino,
            Ok(_) => {
                let message = format!("{name} on the way to the medium is no directory; move it away");
                return Err(Error::new(Kind::NotDirectory, message));
            }
            Err(error) if error.kind() == Kind::NotFound => match volume.mkdir(at, name.as_bytes(), &node) {
                Ok(made) => made.ino,
                // Another upload was faster.
                Err(error) if error.kind() == Kind::Exists => volume.lookup(at, name.as_bytes())?.ino,
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
    }
    Ok(at)
}
