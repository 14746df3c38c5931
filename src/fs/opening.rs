//! Opening a medium for the kernel.

use fuser::{Errno, FopenFlags, INodeNo, OpenFlags, ReplyOpen, Request};

use crate::volume::{OpenMode, Operation};

use super::adapter::{Answer, WamediaFs, drop_privileges_of};
use super::convert::open_mode;
use super::expired;
use super::handles::{FileGuard, Handle};
use super::passing::Way;
use super::reach::Caller;

/// What every open file is told: pages stay valid, since other changes are notified; nothing waits for `close`.
const OPEN_FLAGS: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE.union(FopenFlags::FOPEN_NOFLUSH);

/// What a handle is told that can only write: its writes come straight from the program's memory. Through the page cache
/// each would be copied once more, and the first one to a file would ask for its `security.capability`.
pub(super) fn open_flags(mode: OpenMode) -> FopenFlags {
    if mode.write && !mode.read { OPEN_FLAGS | FopenFlags::FOPEN_DIRECT_IO } else { OPEN_FLAGS }
}

impl WamediaFs {
    /// Answers the kernel's request to open a file, by its own name or that in `.expired`.
    pub(super) fn open_medium(&self, req: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let mode = open_mode(flags);
        let mut open_flags = open_flags(mode);
        let is_alias = expired::is_alias(number);
        if is_alias {
            if mode.write || mode.truncate {
                return reply.error(Errno::EROFS);
            }
            // What is written by its own name is not notified to this one.
            open_flags.remove(FopenFlags::FOPEN_KEEP_CACHE);
        }
        if self.was_lost(expired::real(number)) {
            open_flags.remove(FopenFlags::FOPEN_KEEP_CACHE);
        }
        let mut guard = match self.open_guard(req, number, mode) {
            Ok(guard) => guard,
            Err(errno) => return reply.error(errno),
        };
        let mut way = Way::Ordinary;
        // An alias is another inode to the kernel.
        if let Some(file) = guard.file().filter(|_| !is_alias) {
            let (passage, chosen) = self.passing.opened(&self.volume, file, &reply);
            guard.goes_by(passage);
            way = chosen;
        }
        let handle = self.handles.insert(Handle::File(guard));
        match way {
            Way::Ordinary => reply.opened(handle, open_flags),
            Way::Passed(backing) => {
                open_flags.remove(FopenFlags::FOPEN_KEEP_CACHE);
                reply.opened_passthrough(handle, open_flags, &backing);
            }
        }
    }

    fn open_guard(&self, req: &Request, number: INodeNo, mode: OpenMode) -> Answer<FileGuard> {
        let (is_alias, number) = (expired::is_alias(number), expired::real(number));
        let passage = if is_alias { None } else { self.passing.begin_open(number, mode)? };
        self.ask_inode(Operation::Open, number, |volume| {
            if is_alias {
                Caller::of(req).expect_reach(volume, number)?;
            }
            let file = volume.open_file(number, mode)?;
            let mut guard = FileGuard::new(self.volume.clone(), file);
            guard.goes_by(passage);
            if mode.truncate && req.uid() != 0 {
                drop_privileges_of(volume, number)?;
            }
            Ok(guard)
        })
    }
}
