//! A directory as an upstream. What is written there is there whole or not at all, and lasts once it was told: a temporary file,
//! `fsync`, `rename`, `fsync` of the directory. A medium is there when its `<id>.json` is.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;
use tokio_util::io::ReaderStream;
use uuid::Uuid;

use super::{Body, Lookup, MAX_MEDIUM_BYTES, Sent, Source, UpstreamError};
use crate::error::{Error, Result};
use crate::node::client::bounded;

/// The longest media id: a file name with room for `.json`.
const MAX_ID_BYTES: usize = 200;
/// The most bytes of a `<id>.json`.
const MAX_FACTS_BYTES: u64 = 64 * 1024;
/// How much is read at once.
const PIECE_BYTES: usize = 256 * 1024;

type Answer<T> = std::result::Result<T, UpstreamError>;

/// What lies beside a medium.
#[derive(Serialize, Deserialize)]
struct Facts {
    mime_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
}

#[derive(Clone)]
pub(super) struct Directory {
    media: PathBuf,
    messages: PathBuf,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Result<Directory> {
        let directory = Directory { media: path.join("media"), messages: path.join("messages") };
        for dir in [&directory.media, &directory.messages] {
            std::fs::create_dir_all(dir).map_err(|e| Error::io(dir.display(), e))?;
        }
        Ok(directory)
    }

    pub(super) async fn lookup(&self, id: &str) -> Answer<Lookup> {
        let (path, id) = (self.medium(id)?, id.to_owned());
        blocking(move || {
            let mut text = Vec::new();
            let read = open(&facts_path(&path)).and_then(|file| file.take(MAX_FACTS_BYTES).read_to_end(&mut text));
            read.map_err(|e| no_medium(&id, e))?;
            let facts: Facts = serde_json::from_slice(&text)
                .map_err(|e| UpstreamError::local(format!("{}: {e}", facts_path(&path).display())))?;
            let mut file = open(&path).map_err(|e| no_medium(&id, e))?;
            let mut digest = Sha256::new();
            let size = io::copy(&mut file, &mut digest).map_err(|e| failed(&path, &e))?;
            let url = format!("file:{id}");
            Ok(Lookup {
                id,
                url,
                mime_type: facts.mime_type,
                sha256: Some(digest.finalize().into()),
                file_size: Some(size),
            })
        })
        .await
    }

    pub(super) async fn open(&self, lookup: &Lookup) -> Answer<Body> {
        let (path, id) = (self.medium(&lookup.id)?, lookup.id.clone());
        let told = path.clone();
        let (file, length) = blocking(move || {
            let file = open(&told).map_err(|e| no_medium(&id, e))?;
            let length = file.metadata().map_err(|e| failed(&told, &e))?.len();
            Ok((file, length))
        })
        .await?;
        if lookup.file_size.is_some_and(|promised| promised != length) || length > MAX_MEDIUM_BYTES {
            return Err(UpstreamError::Differs { what: format!("{length} bytes") });
        }
        let pieces = ReaderStream::with_capacity(tokio::fs::File::from_std(file), PIECE_BYTES);
        let pieces = pieces.map_err(move |e| failed(&path, &e)).boxed();
        Ok(Body { length: Some(length), content_type: None, pieces: exactly(pieces, length) })
    }

    pub(super) async fn upload(
        &self,
        mut source: Source,
        length: u64,
        mime_type: &str,
        filename: &str,
    ) -> Answer<String> {
        let id = Uuid::new_v4().simple().to_string();
        let path = self.medium(&id)?;
        let temporary = Temporary::in_dir(&self.media);
        let file = temporary.clone_path();
        let file = blocking(move || create(&file).map_err(|e| failed(&file, &e))).await?;
        let mut file = tokio::fs::File::from_std(file);
        let mut left = length;
        while let Some(piece) = source.next().await {
            let piece = piece.map_err(|e| UpstreamError::local(format!("the medium to upload cannot be read: {e}")))?;
            left = left
                .checked_sub(piece.len() as u64)
                .ok_or_else(|| UpstreamError::local("the medium to upload has more bytes than was told"))?;
            file.write_all(&piece).await.map_err(|e| failed(&temporary.0, &e))?;
        }
        if left != 0 {
            let what = format!("the medium to upload ended {left} bytes before the length that was told");
            return Err(UpstreamError::local(what));
        }
        file.flush().await.map_err(|e| failed(&temporary.0, &e))?;
        let file = file.into_std().await;
        let facts = Facts { mime_type: mime_type.to_owned(), filename: Some(filename.to_owned()) };
        let directory = self.media.clone();
        blocking(move || {
            temporary.publish(&file, &path)?;
            // The medium's bytes last before what says that it is there.
            sync(&directory)?;
            write_whole(&directory, &facts_path(&path), &serde_json::to_vec(&facts).map_err(not_json)?)
        })
        .await?;
        Ok(id)
    }

    pub(super) async fn delete(&self, id: &str) -> Answer<()> {
        let (path, id, directory) = (self.medium(id)?, id.to_owned(), self.media.clone());
        blocking(move || {
            std::fs::remove_file(facts_path(&path)).map_err(|e| no_medium(&id, e))?;
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(failed(&path, &e)),
                _ => {}
            }
            sync(&directory)
        })
        .await
    }

    pub(super) async fn send(&self, message: &Value) -> Answer<Sent> {
        let text = serde_json::to_vec_pretty(message).map_err(not_json)?;
        let id = format!("wamid.{}", Uuid::new_v4().simple());
        let (directory, path) = (self.messages.clone(), self.messages.join(format!("{id}.json")));
        blocking(move || write_whole(&directory, &path, &text)).await?;
        Ok(Sent { ids: vec![id] })
    }

    /// Where a medium lies, if `id` can be the name of one.
    fn medium(&self, id: &str) -> Answer<PathBuf> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let named = !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(plain) && !id.starts_with('.');
        if !named || id.ends_with(".json") {
            return Err(UpstreamError::UnknownId { id: bounded(id) });
        }
        Ok(self.media.join(id))
    }
}

/// A file that is gone again unless it is published.
struct Temporary(PathBuf);

impl Temporary {
    fn in_dir(dir: &Path) -> Temporary {
        Temporary(dir.join(format!(".{}.part", Uuid::new_v4().simple())))
    }

    fn clone_path(&self) -> PathBuf {
        self.0.clone()
    }

    fn publish(&self, file: &File, path: &Path) -> Answer<()> {
        file.sync_all().map_err(|e| failed(&self.0, &e))?;
        std::fs::rename(&self.0, path).map_err(|e| failed(path, &e))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Once published there is nothing of this name.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn write_whole(dir: &Path, path: &Path, bytes: &[u8]) -> Answer<()> {
    let temporary = Temporary::in_dir(dir);
    let mut file = create(&temporary.0).map_err(|e| failed(&temporary.0, &e))?;
    file.write_all(bytes).map_err(|e| failed(&temporary.0, &e))?;
    temporary.publish(&file, path)?;
    sync(dir)
}

fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Opens a regular file; a symbolic link could lead out of the directory, and a pipe would keep us waiting.
fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

fn sync(dir: &Path) -> Answer<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|e| failed(dir, &e))
}

/// Exactly `length` bytes of `pieces`: a file that changes while it is read is found out.
fn exactly(
    pieces: stream::BoxStream<'static, Answer<Bytes>>,
    length: u64,
) -> stream::BoxStream<'static, Answer<Bytes>> {
    stream::try_unfold((pieces, length), move |(mut pieces, left)| async move {
        let differs = || UpstreamError::Differs { what: format!("the file no longer has {length} bytes") };
        match pieces.next().await.transpose()? {
            None if left == 0 => Ok(None),
            None => Err(differs()),
            Some(piece) => {
                let left = left.checked_sub(piece.len() as u64).ok_or_else(differs)?;
                Ok(Some((piece, (pieces, left))))
            }
        }
    })
    .boxed()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Answer<T> + Send + 'static) -> Answer<T> {
    spawn_blocking(work).await.unwrap_or_else(|e| Err(UpstreamError::local(format!("the upstream's directory: {e}"))))
}

fn facts_path(medium: &Path) -> PathBuf {
    let mut path = medium.as_os_str().to_owned();
    path.push(".json");
    path.into()
}

fn no_medium(id: &str, error: io::Error) -> UpstreamError {
    match error.kind() {
        ErrorKind::NotFound => UpstreamError::UnknownId { id: bounded(id) },
        _ => UpstreamError::local(format!("the medium {id} of the upstream's directory: {error}")),
    }
}

fn failed(path: &Path, error: &io::Error) -> UpstreamError {
    UpstreamError::local(format!("{}: {error}", path.display()))
}

fn not_json(error: serde_json::Error) -> UpstreamError {
    UpstreamError::local(format!("it cannot be written as JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(pieces: &[&'static [u8]]) -> Source {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
        stream::iter(pieces).boxed()
    }

    async fn whole(body: Body) -> Answer<Vec<u8>> {
        body.try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        })
        .await
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_medium_comes_back_as_it_was_uploaded() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().join("new")).unwrap();
        let id = directory.upload(source(&[b"one", b"", b"two"]), 6, "text/plain", "a.txt").await.unwrap();
        let lookup = directory.lookup(&id).await.unwrap();
        assert_eq!((lookup.mime_type.as_str(), lookup.file_size), ("text/plain", Some(6)));
        assert_eq!(lookup.sha256.unwrap().as_slice(), Sha256::digest(b"onetwo").as_slice());
        let body = directory.open(&lookup).await.unwrap();
        assert_eq!(body.length(), Some(6));
        assert_eq!(whole(body).await.unwrap(), b"onetwo");
        directory.delete(&id).await.unwrap();
        assert_eq!(names(&directory.media), Vec::<String>::new());
        let gone = UpstreamError::UnknownId { id: id.clone() };
        assert_eq!(directory.lookup(&id).await.unwrap_err(), gone);
        assert_eq!(directory.open(&lookup).await.unwrap_err(), gone);
        assert_eq!(directory.delete(&id).await.unwrap_err(), gone);
    }

    #[tokio::test]
    async fn an_upload_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().to_owned()).unwrap();
        let failing = stream::iter(vec![Ok(Bytes::from_static(b"one")), Err(io::Error::other("gone"))]).boxed();
        for (source, length) in [(failing, 6), (source(&[b"one"]), 4), (source(&[b"one"]), 2)] {
            let failed = directory.upload(source, length, "text/plain", "a").await;
            assert!(matches!(failed, Err(UpstreamError::Local { .. })), "{failed:?}");
        }
        assert_eq!(names(&directory.media), Vec::<String>::new());
    }

    #[tokio::test]
    async fn a_medium_without_its_json_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().to_owned()).unwrap();
        std::fs::write(directory.media.join("7"), b"bytes").unwrap();
        assert!(matches!(directory.lookup("7").await, Err(UpstreamError::UnknownId { .. })));
        std::fs::write(directory.media.join("7.json"), br#"{"mime_type":"image/png"}"#).unwrap();
        assert_eq!(directory.lookup("7").await.unwrap().mime_type, "image/png");
        std::fs::write(directory.media.join("7.json"), b"{").unwrap();
        assert!(matches!(directory.lookup("7").await, Err(UpstreamError::Local { .. })));
    }

    #[tokio::test]
    async fn nothing_outside_of_the_directory_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().join("in")).unwrap();
        for name in ["outside", "outside.json"] {
            std::fs::write(dir.path().join(name), br#"{"mime_type":"image/png"}"#).unwrap();
        }
        for id in ["", ".", "..", "../../outside", "/outside", ".outside", "7.json", "a/b", "a\0b", "ä"] {
            assert!(matches!(directory.lookup(id).await, Err(UpstreamError::UnknownId { .. })), "{id}");
            assert!(matches!(directory.delete(id).await, Err(UpstreamError::UnknownId { .. })), "{id}");
        }
        std::fs::write(directory.media.join("7.json"), br#"{"mime_type":"image/png"}"#).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), directory.media.join("7")).unwrap();
        assert!(matches!(directory.lookup("7").await, Err(UpstreamError::Local { .. })));
    }

    #[tokio::test]
    async fn a_medium_that_changes_is_found_out() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().to_owned()).unwrap();
        let id = directory.upload(source(&[b"onetwo"]), 6, "text/plain", "a").await.unwrap();
        let lookup = directory.lookup(&id).await.unwrap();
        let body = directory.open(&lookup).await.unwrap();
        File::options().write(true).open(directory.media.join(&id)).unwrap().set_len(3).unwrap();
        assert!(matches!(whole(body).await, Err(UpstreamError::Differs { .. })));
        assert!(matches!(directory.open(&lookup).await, Err(UpstreamError::Differs { .. })));
    }

    #[tokio::test]
    async fn a_message_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().to_owned()).unwrap();
        let message = serde_json::json!({"to": "1", "type": "image"});
        let sent = directory.send(&message).await.unwrap();
        assert_eq!(names(&directory.messages), [format!("{}.json", sent.ids[0])]);
        let text = std::fs::read(directory.messages.join(format!("{}.json", sent.ids[0]))).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), message);
    }
}
