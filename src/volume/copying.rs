//! Copying from one file to another within the volume.

use super::{OpenFile, Volume};
use crate::error::Result;

/// Bytes copied at a time.
const COPY_LEN: usize = 1 << 20;

impl Volume {
    /// Copies bytes from one open file to another (`copy_file_range(2)`); how many were copied.
    ///
    /// # Errors
    /// As [`Volume::read`] and [`Volume::write`], when nothing was copied before.
    pub fn copy_range(
        &self,
        from: &OpenFile,
        from_offset: u64,
        to: &OpenFile,
        to_offset: u64,
        length: u64,
    ) -> Result<u64> {
        let mut buf = vec![0; COPY_LEN.min(usize::try_from(length).unwrap_or(COPY_LEN))];
        let mut done = 0;
        while done < length {
            let want = usize::try_from(length - done).unwrap_or(COPY_LEN).min(COPY_LEN);
            let part = buf.get_mut(..want).unwrap_or_default();
            let step = self.read(from, from_offset + done, part).and_then(|got| {
                self.write(to, to_offset + done, part.get(..got).unwrap_or_default(), false)?;
                Ok(got as u64)
            });
            match step {
                Ok(0) => break,
                Ok(got) => done += got,
                Err(_) if done > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}
