//! What is agreed upon with the kernel when a mount begins, for as long as it lasts.

use fuser::{InitFlags, KernelConfig};

use super::adapter::MAX_REQUEST;

/// What the kernel may do for us or leave to us. Write-back caching is not among it: with it a `write` would succeed
/// before the quota has been asked.
const CAPABILITIES: &[InitFlags] = &[
    InitFlags::FUSE_ASYNC_READ,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_HAS_RESEND,
];

/// Background requests, read-ahead above all, that the kernel may have under way.
const MAX_BACKGROUND: u16 = 64;

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreement {
    /// Minor version of the kernel's protocol.
    pub minor: u32,
    /// Those of the capabilities that the kernel has.
    pub flags: InitFlags,
}

impl Agreement {
    /// Asks for what this build makes use of.
    pub(super) fn reach(config: &mut KernelConfig, passes_through: bool) -> Agreement {
        let mut flags = InitFlags::empty();
        for &capability in CAPABILITIES {
            match config.add_capabilities(capability) {
                Ok(()) => flags |= capability,
                Err(_) => tracing::debug!(?capability, "this kernel lacks a capability; the mount works without it"),
            }
        }
        if passes_through {
            let agreed = config.add_capabilities(InitFlags::FUSE_PASSTHROUGH);
            // The store lies on a file system that lies on no other.
            if agreed.is_ok() && config.set_max_stack_depth(1).is_ok() {
                flags |= InitFlags::FUSE_PASSTHROUGH;
            } else {
                tracing::info!(
                    "this kernel (before Linux 6.9) passes nothing through: media are read the ordinary way"
                );
            }
        }
        // Each of these gives back the nearest value that works when the one asked for does not.
        let _ = config.set_max_write(MAX_REQUEST);
        if let Err(nearest) = config.set_max_readahead(u32::MAX) {
            let _ = config.set_max_readahead(nearest);
        }
        let _ = config.set_max_background(MAX_BACKGROUND);
        Agreement { minor: config.kernel_abi().1, flags }
    }

    /// Whether the kernel reads files by itself that it is given for others.
    pub(super) fn passes_through(&self) -> bool {
        self.flags.contains(InitFlags::FUSE_PASSTHROUGH)
    }

    /// Whether the kernel hands out once more what a process had taken up and not answered.
    pub(super) fn resends(&self) -> bool {
        self.flags.contains(InitFlags::FUSE_HAS_RESEND)
    }
}
