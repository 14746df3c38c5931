//! Plain files with holes: read without them, written with them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use super::tree::{Sink, Source};
use crate::error::{Error, Result};

/// Bytes of a block as `stat(2)` counts them.
const BLOCK_BYTES: u64 = 512;

/// Reads a file that may have holes.
pub struct SparseReader {
    file: File,
    at: u64,
    /// Up to where there are data for certain, from `at` on.
    data_until: u64,
}

impl SparseReader {
    /// Reads a file from its beginning.
    ///
    /// # Errors
    /// `Io`.
    pub fn new(file: File) -> Result<SparseReader> {
        let meta = file.metadata().map_err(|e| Error::io("cannot read", e))?;
        // A file that takes as much of the disk as it is long is not asked for holes at all.
        let is_dense = meta.blocks().saturating_mul(BLOCK_BYTES) >= meta.size();
        Ok(SparseReader { file, at: 0, data_until: if is_dense { u64::MAX } else { 0 } })
    }

    fn seek(&mut self, to: u64) -> Result<()> {
        self.file.seek(SeekFrom::Start(to)).map(drop).map_err(|e| Error::io("cannot read", e))
    }
}

impl Source for SparseReader {
    fn skip_hole(&mut self) -> Result<u64> {
        use rustix::fs::{SeekFrom as Seek, seek};
        if self.at < self.data_until {
            return Ok(0);
        }
        let begun = self.at;
        match seek(&self.file, Seek::Data(begun)) {
            Ok(data) => {
                self.at = data;
                self.data_until = seek(&self.file, Seek::Hole(data)).unwrap_or(u64::MAX);
            }
            // Nothing but a hole up to the end, where reading gives nothing.
            Err(Errno::NXIO) => {
                let end = self.file.metadata().map_err(|e| Error::io("cannot read", e))?.size();
                (self.at, self.data_until) = (end.max(begun), u64::MAX);
            }
            // A file system that does not tell: all is data.
            Err(_) => self.data_until = u64::MAX,
        }
        self.seek(self.at)?;
        Ok(self.at - begun)
    }
}

impl Read for SparseReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.data_until.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let count = self.file.read(buffer.get_mut(..length).unwrap_or_default())?;
        self.at = self.at.saturating_add(u64::try_from(count).unwrap_or(0));
        Ok(count)
    }
}

/// Writes a file that was empty, leaving holes.
pub struct SparseWriter {
    file: File,
    at: u64,
}

impl SparseWriter {
    /// Writes an empty file from its beginning.
    #[must_use]
    pub fn new(file: File) -> SparseWriter {
        SparseWriter { file, at: 0 }
    }

    /// Gives the file its length, which a hole at the end does not.
    ///
    /// # Errors
    /// `Io`, `NoSpace`.
    pub fn finish(self) -> Result<File> {
        self.file.set_len(self.at).map_err(|e| Error::io("cannot write", e))?;
        Ok(self.file)
    }
}

impl Write for SparseWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.at = self.at.saturating_add(u64::try_from(count).unwrap_or(0));
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for SparseWriter {
    fn leave_hole(&mut self, bytes: u64) -> Result<()> {
        self.at = self.at.saturating_add(bytes);
        self.file.seek(SeekFrom::Start(self.at)).map(drop).map_err(|e| Error::io("cannot write", e))
    }
}
