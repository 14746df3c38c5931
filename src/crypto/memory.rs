//! Where the volume key lies: a page of its own, kept from swap and core dumps.
#![expect(unsafe_code, reason = "mmap, mlock, madvise and prctl have no safe form in the standard library")]

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::{self, NonNull};

use zeroize::Zeroize;

use crate::error::{Error, Result};

/// Length of what is kept.
const KEY_BYTES: usize = 32;

/// 32 bytes in a page of their own: locked in memory and left out of core dumps as far as the kernel allows, wiped on drop.
pub(super) struct KeyPage(NonNull<[u8; KEY_BYTES]>);

// SAFETY: the page belongs to this value alone; it is reached through `&self` and `&mut self` only, as a `Box` is.
unsafe impl Send for KeyPage {}
// SAFETY: as above; `&self` gives shared reading and nothing else.
unsafe impl Sync for KeyPage {}

impl KeyPage {
    /// A page of zeros.
    ///
    /// Aborts when there is no memory, as any allocation does. A refused lock (`RLIMIT_MEMLOCK`) is no failure.
    pub fn zeroed() -> KeyPage {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
        let page = unsafe { libc::mmap(ptr::null_mut(), KEY_BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        let Some(key) = NonNull::new(page.cast()).filter(|_| page != libc::MAP_FAILED) else {
            handle_alloc_error(Layout::new::<[u8; KEY_BYTES]>());
        };
        // SAFETY: the range is the mapping just made; both calls change how the kernel treats it, not its content.
        let unlocked = unsafe {
            libc::madvise(page, KEY_BYTES, libc::MADV_DONTDUMP);
            libc::mlock(page, KEY_BYTES)
        };
        if unlocked != 0 {
            tracing::debug!("the volume key could not be locked in memory (RLIMIT_MEMLOCK); swap may see it");
        }
        KeyPage(key)
    }

    /// The bytes, to read.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        // SAFETY: the mapping is at least 32 bytes, page-aligned, zero-initialised by the kernel, and lives as long as `self`.
        unsafe { self.0.as_ref() }
    }

    /// The bytes, to fill.
    pub fn bytes_mut(&mut self) -> &mut [u8; KEY_BYTES] {
        // SAFETY: as in `bytes`, and `&mut self` makes this the only reference.
        unsafe { self.0.as_mut() }
    }
}

impl Drop for KeyPage {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        // SAFETY: the mapping was made by `zeroed` with this length and no reference to it outlives `self`. It also unlocks the page.
        unsafe { libc::munmap(self.0.as_ptr().cast(), KEY_BYTES) };
    }
}

/// Keeps the memory of this process from core dumps and from other processes of the same user (`PR_SET_DUMPABLE` 0).
///
/// Derived keys and plaintext lie all over the heap, so a page at a time is not enough. To be called before a key is
/// read. It lasts until the process executes another program.
///
/// # Errors
/// `Io` when the kernel refuses.
pub fn forbid_core_dumps() -> Result<()> {
    let off: libc::c_ulong = 0;
    // SAFETY: PR_SET_DUMPABLE takes one integer and changes a flag of this process.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, off, off, off, off) } != 0 {
        return Err(Error::io("forbidding core dumps", std::io::Error::last_os_error()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_page_starts_zeroed_and_keeps_what_is_put_in() {
        let mut page = KeyPage::zeroed();
        assert_eq!(page.bytes(), &[0; 32]);
        page.bytes_mut().fill(7);
        let moved = page;
        assert_eq!(moved.bytes(), &[7; 32]);
    }

    #[test]
    fn core_dumps_can_be_forbidden() {
        forbid_core_dumps().unwrap();
        // SAFETY: PR_GET_DUMPABLE reads a flag of this process.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 0);
    }
}
