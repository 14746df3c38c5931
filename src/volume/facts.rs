//! Facts of a medium: digest, type, kind and verdict, found from its bytes when they are asked for.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::Volume;
use super::inode::{Inode, State};
use super::types::{Medium, OpenMode};
use crate::error::{Error, Kind, Result};
use crate::format::attributes::Facts;
use crate::ids::Ino;
use crate::media;

/// Bytes hashed or inspected with one read.
const STEP: usize = 1 << 20;
/// Verdict code of `ready`; reasons follow.
const READY: u8 = 1;

/// A medium as a stream for the parsers. Each read locks the inode for its own time only.
pub(super) struct Stream<'a> {
    volume: &'a Volume,
    inode: Arc<Inode>,
    at: u64,
    pub(super) len: u64,
}

impl Read for Stream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let state = self.inode.state.read();
        if let Some(writer) = &state.writer {
            writer.flight.wait();
        }
        let got = self.volume.read_state(&state, self.at, buf).map_err(io::Error::other)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Seek for Stream<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

impl Volume {
    /// The bytes of a medium, as they are now.
    pub(super) fn stream(&self, ino: Ino) -> Result<Stream<'_>> {
        let inode = self.inode(ino)?;
        let len = {
            let mut state = inode.state.write();
            if !state.record.is_medium() {
                return Err(Error::new(Kind::Invalid, "not a medium"));
            }
            self.load(&mut state).map_err(|e| self.name_medium(&state, e))?;
            state.record.len
        };
        Ok(Stream { volume: self, inode, at: 0, len })
    }

    /// Inspects the bytes of a medium unless that was done since they changed; gives what was found.
    pub(super) fn inspect(&self, ino: Ino) -> Result<Facts> {
        let inode = self.inode(ino)?;
        let (known, name, mtime) = {
            let state = inode.state.read();
            let name = state.record.attrs.links.first().map(|l| l.name.clone());
            (state.record.attrs.facts.clone().filter(|f| f.verdict != 0), name, state.record.attrs.mtime)
        };
        if let Some(facts) = known {
            return Ok(facts);
        }
        let stream = self.stream(ino)?;
        let len = stream.len;
        let found = media::inspect(stream, len, name.as_deref())
            .map_err(|e| Error::new(Kind::Damaged, format!("a medium could not be inspected: {e}")).with_source(e))?;
        let facts = Facts {
            mime: found.mime,
            kind: found.kind.code(),
            verdict: READY - media::Verdict::Ready.code() + found.verdict.code(),
        };
        let mut state = inode.state.write();
        if state.record.attrs.mtime == mtime && state.record.len == len && !state.removed {
            state.record.attrs.facts = Some(facts.clone());
            drop(state);
            self.mark_dirty(&inode);
        }
        Ok(facts)
    }

    /// The SHA-256 of a medium, computed unless it is known.
    pub(super) fn digest(&self, ino: Ino) -> Result<[u8; 32]> {
        self.digest_while(ino, &|| true)
    }

    /// The same as long as `goes_on` says so, which it is asked after every [`STEP`].
    ///
    /// # Errors
    /// As [`Volume::digest`]; `Busy` when it was given up.
    pub(super) fn digest_while(&self, ino: Ino, goes_on: &dyn Fn() -> bool) -> Result<[u8; 32]> {
        let inode = self.inode(ino)?;
        let (known, mtime) = {
            let state = inode.state.read();
            (state.record.attrs.digest.filter(|_| !state.content_changed), state.record.attrs.mtime)
        };
        if let Some(digest) = known {
            return Ok(digest);
        }
        let mut stream = self.stream(ino)?;
        let (mut sha, mut buf) = (Sha256::new(), vec![0; STEP]);
        loop {
            let got = stream
                .read(&mut buf)
                .map_err(|e| Error::new(Kind::Damaged, format!("a medium could not be read: {e}")).with_source(e))?;
            if got == 0 {
                break;
            }
            sha.update(buf.get(..got).unwrap_or_default());
            if !goes_on() {
                return Err(Kind::Busy.into());
            }
        }
        let digest = sha.finalize().into();
        let mut state = inode.state.write();
        if state.record.attrs.mtime == mtime && !state.content_changed && !state.removed {
            state.record.attrs.digest = Some(digest);
            drop(state);
            self.mark_dirty(&inode);
        }
        Ok(digest)
    }

    /// The verdict in words.
    pub(super) fn verdict_text(facts: &Facts) -> Option<String> {
        let code = (facts.verdict + media::Verdict::Ready.code()).checked_sub(READY)?;
        if facts.verdict == 0 { None } else { media::Verdict::from_code(code).map(|v| v.to_string()) }
    }

    /// All facts of a medium. `deep` computes digest and verdict when they are not known yet.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for what is no medium; with `deep` also `Damaged`, `Io`.
    pub fn medium(&self, ino: Ino, deep: bool) -> Result<Medium> {
        let inode = self.inode(ino)?;
        if !inode.state.read().record.is_medium() {
            return Err(Error::new(Kind::Invalid, "only a regular file is a medium"));
        }
        if deep {
            self.inspect(ino)?;
            self.digest(ino)?;
        }
        let (id, path) = (self.id_of(ino)?, self.path_of(ino)?);
        let state = inode.state.read();
        Ok(self.describe(&state, id.to_string(), &path))
    }

    fn describe(&self, state: &State, id: String, path: &[u8]) -> Medium {
        let record = &state.record;
        let facts = record.attrs.facts.as_ref();
        let mime = record.mime().unwrap_or("application/octet-stream");
        let kind = facts.and_then(|f| media::Kind::from_code(f.kind)).unwrap_or_else(|| media::kind_of(mime));
        Medium {
            ino: record.attrs.ino.0,
            id,
            path: String::from_utf8_lossy(path).into_owned(),
            mime_type: mime.to_owned(),
            kind: kind.as_str().to_owned(),
            verdict: facts.and_then(Volume::verdict_text),
            size: record.len,
            sha256: record.attrs.digest.filter(|_| !state.content_changed).map(|d| hex(&d)),
            mtime: record.attrs.mtime,
            used: record.attrs.mtime.max(record.attrs.used),
            expires: self.expires_at(record),
            expired: self.is_expired(state),
            held: record.attrs.held.is_some(),
            open_for_writing: state.writers > 0,
        }
    }

    /// Opens a medium for reading, for use beside the mount.
    ///
    /// # Errors
    /// As [`Volume::open_file`].
    pub fn open_medium(&self, ino: Ino) -> Result<super::OpenFile> {
        self.open_file(ino, OpenMode { read: true, ..OpenMode::default() })
    }

    /// The same for who only looks at it to decide what becomes of it, which is no use of it: it ages on.
    ///
    /// # Errors
    /// As [`Volume::open_file`].
    pub fn open_to_look(&self, ino: Ino) -> Result<super::OpenFile> {
        let file = self.open_file(ino, OpenMode::default())?;
        Ok(super::OpenFile { is_look: true, ..file })
    }
}

/// Bytes as lower-case hexadecimal digits, as digests are shown.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
