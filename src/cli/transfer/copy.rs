//! The copy itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::digest::{self, Digest};
use super::report::Report;
use super::tree::{Meta, Tree};
use crate::cli::output;
use crate::clock::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::volume::FileKind;

/// The virtual directory of a volume's root: it is not content.
const VIRTUAL_DIRECTORY: &str = ".expired";
/// Files that are written before they are made durable and read back.
const BATCH_FILES: usize = 256;
/// Bytes that are written before they are made durable and read back.
const BATCH_BYTES: u64 = 256 << 20;

/// How a copy ended.
pub struct Copied {
    /// What it did, whole or in part.
    pub report: Report,
    /// Why it stopped before the end.
    pub stopped: Option<Error>,
}

/// Copies all of `from` into `to`; `moved` is told of bytes as they are written or skipped.
///
/// What is there already with the same size and time of last write is skipped; a file that differs is written again.
/// Every file written is made durable, read back and compared. An entry that fails is noted and the copy goes on,
/// unless nothing could succeed any more (no space, the volume poisoned or gone).
pub fn copy(from: &dyn Tree, to: &dyn Tree, moved: &mut dyn FnMut(u64)) -> Copied {
    let mut copy = Copy {
        from,
        to,
        moved,
        report: Report::default(),
        links: HashMap::new(),
        batch: Vec::new(),
        batch_bytes: 0,
        is_stopped: false,
    };
    let walked = copy.directory(Path::new(""));
    // Also after a stop: what was written until then is to be kept.
    let verified = copy.verify_batch();
    Copied { report: copy.report, stopped: walked.and(verified).err() }
}

/// The bytes of all files of a tree, `counted` being called for each; what cannot be read counts nothing.
#[must_use]
pub fn total_bytes(tree: &dyn Tree, counted: &mut dyn FnMut()) -> u64 {
    let mut total = 0_u64;
    let mut left = vec![PathBuf::new()];
    while let Some(directory) = left.pop() {
        for name in tree.list(&directory).unwrap_or_default() {
            let path = directory.join(name);
            match tree.stat(&path) {
                Ok(Some(meta)) if meta.kind == FileKind::Directory && path != Path::new(VIRTUAL_DIRECTORY) => {
                    left.push(path)
                }
                Ok(Some(meta)) if meta.kind == FileKind::Regular => {
                    total = total.saturating_add(meta.size);
                    counted();
                }
                _ => {}
            }
        }
    }
    total
}

/// A file that was written and waits to be read back.
struct Written {
    path: PathBuf,
    digest: Digest,
}

struct Copy<'a> {
    from: &'a dyn Tree,
    to: &'a dyn Tree,
    moved: &'a mut dyn FnMut(u64),
    report: Report,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
    batch: Vec<Written>,
    batch_bytes: u64,
    /// Whether the failure that is on its way up ends the copy; it names the entry already.
    is_stopped: bool,
}

impl Copy<'_> {
    /// Copies what is in a directory, then the directory's attributes.
    fn directory(&mut self, path: &Path) -> Result<()> {
        let names = match self.from.list(path) {
            Ok(names) => names,
            Err(error) => return self.note(path, error),
        };
        for name in names {
            let entry = path.join(name);
            if entry == Path::new(VIRTUAL_DIRECTORY) {
                if !self.from.is_volume() {
                    self.report.leave_out(&entry);
                }
                continue;
            }
            if let Err(error) = self.entry(&entry) {
                self.note(&entry, error)?;
            }
        }
        let finished = self.finish_directory(path);
        finished.or_else(|error| self.note(path, error))
    }

    fn finish_directory(&mut self, path: &Path) -> Result<()> {
        let Some(meta) = self.from.stat(path)? else { return Ok(()) };
        let attributes = self.from.attributes(path)?;
        let losses = self.to.finish_directory(path, &meta, &attributes)?;
        self.report.lose(losses);
        Ok(())
    }

    /// Notes a failure; fails itself when nothing could succeed any more.
    fn note(&mut self, path: &Path, error: Error) -> Result<()> {
        if self.is_stopped {
            return Err(error);
        }
        if is_final(&error) {
            self.is_stopped = true;
            let message = format!("stopped at {}: {error}", output::printable(&path.display().to_string()));
            return Err(Error::new(error.kind(), message).with_source(error));
        }
        self.report.fail(path, &error);
        Ok(())
    }

    fn entry(&mut self, path: &Path) -> Result<()> {
        // Removed since the directory was read.
        let Some(source) = self.from.stat(path)? else { return Ok(()) };
        let present = self.to.stat(path)?;
        if let Some(present) = present
            && (present.kind == FileKind::Directory) != (source.kind == FileKind::Directory)
        {
            return Err(Error::new(Kind::Exists, "there is a directory on one side and something else on the other"));
        }
        if source.kind == FileKind::Directory {
            if present.is_none() {
                self.to.make_directory(path)?;
                self.report.directories += 1;
            }
            return self.directory(path);
        }
        if source.nlink > 1 && self.linked(path, &source, present.as_ref())? {
            return Ok(());
        }
        self.leaf(path, &source, present.as_ref())?;
        if source.nlink > 1 {
            self.links.insert(source.identity, path.to_owned());
        }
        Ok(())
    }

    /// Makes a hard link when another name of the file was copied before; whether it was.
    fn linked(&mut self, path: &Path, source: &Meta, present: Option<&Meta>) -> Result<bool> {
        let Some(first) = self.links.get(&source.identity) else { return Ok(false) };
        let Some(original) = self.to.stat(first)? else { return Ok(false) };
        (self.moved)(source.size);
        if present.is_some_and(|present| present.identity == original.identity) {
            self.report.skipped += 1;
            return Ok(true);
        }
        if present.is_some() {
            self.to.remove(path)?;
        }
        self.to.put_link(path, first)?;
        self.report.hard_links += 1;
        Ok(true)
    }

    /// Copies anything but a directory.
    fn leaf(&mut self, path: &Path, source: &Meta, present: Option<&Meta>) -> Result<()> {
        if present.is_some_and(|present| is_same(source, present)) && self.links_alike(path, source)? {
            self.report.skipped += 1;
            (self.moved)(source.size);
            return Ok(());
        }
        // One that is replaced must not change what its other names show.
        let stays = present.is_some_and(|present| present.kind == FileKind::Regular && present.nlink == 1);
        if present.is_some() && !(stays && source.kind == FileKind::Regular) {
            self.to.remove(path)?;
        }
        let losses = match source.kind {
            FileKind::Regular => return self.file(path, source, present.is_some()),
            FileKind::Symlink => {
                self.report.symlinks += 1;
                self.to.put_symlink(path, source, &self.from.read_link(path)?)?
            }
            _ => {
                self.report.others += 1;
                self.to.put_node(path, source)?
            }
        };
        self.report.lose(losses);
        Ok(())
    }

    /// Whether two symbolic links point to the same; true for all else.
    fn links_alike(&self, path: &Path, source: &Meta) -> Result<bool> {
        Ok(source.kind != FileKind::Symlink || self.from.read_link(path)? == self.to.read_link(path)?)
    }

    fn file(&mut self, path: &Path, source: &Meta, replaces: bool) -> Result<()> {
        let attributes = self.from.attributes(path)?;
        let mut reader = self.from.open(path, false)?;
        let mut written = None;
        let moved = &mut self.moved;
        let losses = self.to.put_file(path, source, &attributes, &mut |writer| {
            written = Some(digest::pass(&mut *reader, writer, moved)?);
            Ok(())
        })?;
        drop(reader);
        let (bytes, digest) = written.ok_or_else(|| Error::new(Kind::Io, "nothing was written"))?;
        self.require_unchanged(path, source, bytes)?;
        self.report.files += 1;
        self.report.replaced += u64::from(replaces);
        self.report.bytes = self.report.bytes.saturating_add(bytes);
        self.report.lose(losses);
        self.batch.push(Written { path: path.to_owned(), digest });
        self.batch_bytes = self.batch_bytes.saturating_add(bytes);
        if self.batch.len() >= BATCH_FILES || self.batch_bytes >= BATCH_BYTES {
            self.verify_batch()?;
        }
        Ok(())
    }

    /// A file that changed while it was read is taken away again, so that the next run copies it.
    fn require_unchanged(&self, path: &Path, source: &Meta, bytes: u64) -> Result<()> {
        let now = self.from.stat(path)?;
        let is_unchanged =
            now.is_some_and(|now| now.mtime == source.mtime && now.size == source.size) && bytes == source.size;
        if is_unchanged {
            return Ok(());
        }
        self.to.remove(path)?;
        Err(Error::new(Kind::Busy, "it was changed while it was read; run the command again"))
    }

    /// Makes what was written durable, reads it back, and compares.
    fn verify_batch(&mut self) -> Result<()> {
        self.batch_bytes = 0;
        if self.batch.is_empty() {
            return self.to.settle();
        }
        self.to.settle()?;
        for written in std::mem::take(&mut self.batch) {
            match self.verify(&written) {
                Ok(()) => self.report.verified += 1,
                Err(error) => self.note(&written.path, error)?,
            }
        }
        Ok(())
    }

    fn verify(&self, written: &Written) -> Result<()> {
        let mut reader = self.to.open(&written.path, true)?;
        let (_, digest) = digest::pass(&mut *reader, &mut digest::Nowhere, &mut |_| {})?;
        if digest == written.digest {
            return Ok(());
        }
        Err(Error::new(Kind::Damaged, "what was written does not read back as it was in the source; check the disk"))
    }
}

/// Whether an entry was copied before.
fn is_same(source: &Meta, present: &Meta) -> bool {
    source.kind == present.kind
        && (source.kind != FileKind::Regular || source.size == present.size)
        && (source.kind == FileKind::Symlink || is_same_time(source.mtime, present.mtime))
}

/// Whether two times are one, given that some file systems keep whole seconds only.
fn is_same_time(a: Timestamp, b: Timestamp) -> bool {
    a.secs == b.secs && (a.nanos == b.nanos || a.nanos == 0 || b.nanos == 0)
}

/// Whether nothing could succeed after this failure.
fn is_final(error: &Error) -> bool {
    matches!(error.kind(), Kind::NoSpace | Kind::Poisoned | Kind::ReadOnly)
        || matches!(error.os_errno(), Some(libc::ENOTCONN | libc::EROFS))
}
