//! A file in memory.

use std::fs::File;
use std::{io, ptr};

use rustix::mm::{Advice, MapFlags, MsyncFlags, ProtFlags, madvise, mmap, msync, munmap};

/// A mapped range of a file, unmapped when dropped.
pub struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    /// Maps the first `len` bytes, to be read and written.
    pub fn new(file: &File, len: usize, flags: MapFlags) -> Mapping {
        Mapping::try_new(file, len, flags).expect("mmap")
    }

    /// Maps the first `len` bytes, shared, to be read only.
    pub fn read_only(file: &File, len: usize) -> Mapping {
        Mapping::map(file, len, MapFlags::SHARED, ProtFlags::READ).expect("mmap")
    }

    /// The same as [`Mapping::new`] where it may fail.
    pub fn try_new(file: &File, len: usize, flags: MapFlags) -> io::Result<Mapping> {
        Mapping::map(file, len, flags, ProtFlags::READ | ProtFlags::WRITE)
    }

    fn map(file: &File, len: usize, flags: MapFlags, prot: ProtFlags) -> io::Result<Mapping> {
        #[expect(unsafe_code, reason = "mapping memory is unsafe by nature")]
        // SAFETY: the kernel chooses the address, and the range is touched only through this value, within `len`.
        let start = unsafe { mmap(ptr::null_mut(), len, prot, flags, file, 0) }?;
        Ok(Mapping { start: start.cast(), len })
    }

    /// Leaves it out of what children begin with: the kernel writes it when one of them lets go of it, and waits for that.
    pub fn keep_from_children(&self) {
        #[expect(unsafe_code, reason = "madvise takes a raw range")]
        // SAFETY: the range is the mapping, and its content stays as it is.
        unsafe { madvise(self.start.cast(), self.len, Advice::LinuxDontFork) }.expect("madvise");
    }

    /// A copy of a part.
    pub fn read(&self, at: usize, len: usize) -> Vec<u8> {
        assert!(at + len <= self.len);
        let mut copy = vec![0; len];
        #[expect(unsafe_code, reason = "reading mapped memory, which another handle may change")]
        // SAFETY: the range lies in the mapping, and a copy of it is all that leaves.
        unsafe {
            ptr::copy_nonoverlapping(self.start.add(at), copy.as_mut_ptr(), len);
        }
        copy
    }

    /// Changes a part.
    pub fn write(&self, at: usize, content: &[u8]) {
        assert!(at + content.len() <= self.len);
        #[expect(unsafe_code, reason = "writing mapped memory")]
        // SAFETY: the range lies in the mapping, and no reference into it exists.
        unsafe {
            ptr::copy_nonoverlapping(content.as_ptr(), self.start.add(at), content.len());
        }
    }

    /// Waits until what was changed is on the disk: `msync(2)` with `MS_SYNC`.
    pub fn sync(&self) -> io::Result<()> {
        #[expect(unsafe_code, reason = "msync takes a raw range")]
        // SAFETY: the range is the mapping.
        unsafe { msync(self.start.cast(), self.len, MsyncFlags::SYNC) }?;
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "munmap takes a raw range")]
        // SAFETY: the range was mapped by `new` and is used no more.
        let _ = unsafe { munmap(self.start.cast(), self.len) };
    }
}
