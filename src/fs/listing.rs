//! Reading directories: pages of the volume become entries of a reply until that is full.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuser::{Errno, FileAttr, FileHandle, FileType, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use crate::error::Kind;
use crate::ids::Ino;
use crate::volume::Operation;

use super::adapter::{Answer, GENERATION, TTL_NONE, WamediaFs, attr_ttl};
use super::convert::{dot_attr, file_attr, file_type};
use super::expired::{self, ExpiredListing};
use super::handles::Handle;
use super::reach::Caller;

/// Entries asked of the volume at once: about as many as one reply of the kernel's usual size takes.
const PAGE: usize = 512;
/// The same with attributes, which make an entry three times as long.
const PAGE_WITH_ATTRS: usize = 128;

/// The volume's own entries have offsets above this one.
const LAST_SPECIAL: u64 = 16;

/// One entry on its way into a reply.
struct Entry<'a> {
    ino: Ino,
    file_type: FileType,
    name: &'a [u8],
    /// Where to go on after this entry.
    offset: u64,
    /// What a listing with attributes shows; always there when one was asked for.
    attr: Option<FileAttr>,
    /// How long the kernel may remember name and attributes.
    ttl: Duration,
}

/// Where a listing goes on: the directory, its handle, and the offset.
pub(super) type Place = (INodeNo, FileHandle, u64);

/// Takes one entry; whether the reply was too full for it.
type Add<'a> = &'a mut dyn FnMut(&Entry<'_>) -> bool;

impl WamediaFs {
    /// Answers `readdir`.
    pub(super) fn list(&self, caller: &Caller, place: Place, mut reply: ReplyDirectory) {
        let answer = self.fill(caller, place, false, &mut |entry| {
            reply.add(INodeNo(entry.ino.0), entry.offset, entry.file_type, OsStr::from_bytes(entry.name))
        });
        match answer {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    /// Answers `readdirplus`, in which each entry is a look-up too and so counts.
    pub(super) fn list_with_attrs(&self, caller: &Caller, place: Place, mut reply: ReplyDirectoryPlus) {
        let telling = self.references.telling();
        let answer = self.fill(caller, place, true, &mut |entry| {
            let attr = entry.attr.unwrap_or_else(|| dot_attr(entry.ino));
            let name = OsStr::from_bytes(entry.name);
            let full = reply.add(INodeNo(entry.ino.0), entry.offset, name, &entry.ttl, &attr, GENERATION);
            if !full && !matches!(entry.name, b"." | b"..") {
                telling.told(expired::real(INodeNo(entry.ino.0)));
            }
            full
        });
        drop(telling);
        match answer {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    /// Adds what follows `offset`. A failure after the first entry ends the page; it comes back with the next one.
    fn fill(&self, caller: &Caller, place: Place, with_attrs: bool, add: Add<'_>) -> Answer<()> {
        let _answering = self.answering(Operation::Readdir);
        let (number, handle, offset) = place;
        let handle = self.handle_at(number, handle, offset)?;
        let mut added = false;
        let answer = {
            let mut add_and_note = |entry: &Entry<'_>| {
                let full = add(entry);
                added |= !full;
                full
            };
            match &*handle {
                Handle::File(_) => Err(Errno::ENOTDIR),
                Handle::Directory(dir) => self.fill_directory(*dir, offset, with_attrs, &mut add_and_note),
                Handle::Expired(listing) => self.fill_expired(caller, (listing, offset), with_attrs, &mut add_and_note),
            }
        };
        if added { Ok(()) } else { answer }
    }

    fn fill_directory(&self, dir: Ino, offset: u64, with_attrs: bool, add: Add<'_>) -> Answer<()> {
        if offset <= LAST_SPECIAL && self.fill_special(dir, offset, add)? {
            return Ok(());
        }
        let mut after = if offset <= LAST_SPECIAL { 0 } else { offset };
        let page = if with_attrs { PAGE_WITH_ATTRS } else { PAGE };
        // The kernel asks for the beginning of every listing with attributes, in replies as large as the program's buffer,
        // which may hold thousands of entries. Whoever then looks at some of the first is given the rest with attributes too;
        // whoever wants names alone does not pay for more than these.
        let is_trial = with_attrs && offset == 0;
        loop {
            let entries =
                self.ask_within(Operation::Readdir, dir, |volume| volume.readdir(dir, after, page, with_attrs))?;
            for found in &entries {
                let entry = Entry {
                    ino: found.ino,
                    file_type: file_type(found.kind),
                    name: &found.name,
                    offset: found.cookie,
                    attr: found.attr.as_ref().map(file_attr),
                    ttl: found.attr.as_ref().map_or(TTL_NONE, attr_ttl),
                };
                if add(&entry) {
                    return Ok(());
                }
            }
            match entries.last() {
                Some(last) if entries.len() == page && !is_trial => after = last.cookie,
                _ => return Ok(()),
            }
        }
    }

    /// Adds `.`, `..` and, in the root, `.expired`; whether the reply is full.
    fn fill_special(&self, dir: Ino, offset: u64, add: Add<'_>) -> Answer<bool> {
        if offset < 1 && add(&dot(b".", dir, 1)) {
            return Ok(true);
        }
        if offset < 2 {
            let parent = self.ask_within(Operation::Readdir, dir, |volume| volume.parent_of(dir)).unwrap_or(dir);
            if add(&dot(b"..", parent, 2)) {
                return Ok(true);
            }
        }
        if offset < expired::ROOT_OFFSET && dir == Ino::ROOT && self.expired_listed {
            let attr = self.ask_within(Operation::Readdir, dir, expired::attributes)?;
            let entry = Entry { attr: Some(attr), ..dot(expired::NAME, expired::INO, expired::ROOT_OFFSET) };
            return Ok(add(&entry));
        }
        Ok(false)
    }

    fn fill_expired(
        &self,
        caller: &Caller,
        (listing, offset): (&ExpiredListing, u64),
        with_attrs: bool,
        add: Add<'_>,
    ) -> Answer<()> {
        if (offset < 1 && add(&dot(b".", expired::INO, 1))) || (offset < 2 && add(&dot(b"..", Ino::ROOT, 2))) {
            return Ok(());
        }
        // The first page of every listing is asked for with attributes, whoever lists. They would take the records of the media,
        // which lie apart, so it ends here; who then looks at the entries is asked for with attributes further on.
        if with_attrs && offset < 2 {
            return Ok(());
        }
        let mut after = offset;
        let limit = if with_attrs { PAGE_WITH_ATTRS } else { PAGE };
        loop {
            let page =
                self.ask_within(Operation::Readdir, expired::INO, |volume| listing.page(volume, after, limit))?;
            for (offset, found) in &page {
                let attr = self.ask_within(Operation::Readdir, found.ino, |volume| {
                    if !caller.reaches_one_of(volume, &found.parents)? {
                        return Err(Kind::AccessDenied.into());
                    }
                    with_attrs.then(|| volume.getattr(found.ino)).transpose()
                });
                // A medium that went since the page was made is left out, as is one that the caller could not come to.
                let Ok(attr) = attr else { continue };
                let entry = Entry {
                    ino: expired::alias(found.ino),
                    file_type: FileType::RegularFile,
                    name: &found.name,
                    offset: *offset,
                    attr: attr.as_ref().map(expired::entry_attributes),
                    ttl: TTL_NONE,
                };
                if add(&entry) {
                    return Ok(());
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == limit => after = *last,
                _ => return Ok(()),
            }
        }
    }
}

/// A directory of which a listing shows no more than the number.
fn dot(name: &[u8], ino: Ino, offset: u64) -> Entry<'_> {
    Entry { ino, file_type: FileType::Directory, name, offset, attr: None, ttl: TTL_NONE }
}
