//! `.expired` at the root: a directory that is not in the volume. Its entries are the expired media themselves.
//!
//! It has the owner and mode of the root directory. What a caller sees and removes here is what it could see and remove by
//! the media's own paths (`reach`).

use std::collections::VecDeque;

use fuser::{FileAttr, INodeNo};

use crate::error::{Kind, Result};
use crate::ids::Ino;
use crate::sync::Mutex;
use crate::volume::{Attr, Expired, Volume};

use super::convert::file_attr;

/// Its name in the root directory.
pub(super) const NAME: &[u8] = b".expired";

/// Its inode number: far above those of a volume, which count up from 1.
pub(super) const INO: Ino = Ino(u64::MAX - 1);

/// Set in the numbers under which media are known here. The same inode has another number in its own directory, so that a
/// request tells by which way it came: here nothing can be written.
const ALIAS: u64 = 1 << 62;

/// The number of a medium as an entry of `.expired`.
pub(super) fn alias(ino: Ino) -> Ino {
    Ino(ino.0 | ALIAS)
}

/// Whether a number is that of an entry of `.expired`.
pub(super) fn is_alias(number: INodeNo) -> bool {
    number.0 != INO.0 && number.0 & ALIAS != 0
}

/// The inode a number of the kernel stands for.
pub(super) fn real(number: INodeNo) -> Ino {
    if is_alias(number) { Ino(number.0 & !ALIAS) } else { Ino(number.0) }
}

/// What `stat` shows of an entry.
pub(super) fn entry_attributes(attr: &Attr) -> FileAttr {
    FileAttr { ino: INodeNo(alias(attr.ino).0), ..file_attr(attr) }
}

/// Its place in a listing of the root; those of the volume's own entries are above 16.
pub(super) const ROOT_OFFSET: u64 = 3;

/// Whether this is its name in its directory.
pub(super) fn is_named(parent: Ino, name: &[u8]) -> bool {
    parent == Ino::ROOT && name == NAME
}

/// What `stat` shows of it.
pub(super) fn attributes(volume: &Volume) -> Result<FileAttr> {
    let root = file_attr(&volume.getattr(Ino::ROOT)?);
    Ok(FileAttr { ino: INodeNo(INO.0), size: 0, blocks: 0, nlink: 2, ..root })
}

/// Places of a listing that can be gone back to; an older one can only be reached by starting again.
const PLACES: usize = 65_536;

/// Offsets of `.` and `..` come before the first entry.
const DOTS: u64 = 2;

/// A directory handle: which cursor of the volume each offset given to the kernel stands for.
///
/// The volume's cursors are not numbers, and entries go while a listing is read (`rm` does just that), so offsets
/// count the entries given out by this handle and the cursor of each is kept, the newest [`PLACES`] of them.
#[derive(Default)]
pub(super) struct ExpiredListing {
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    /// Entries given out before the first one in `cursors`.
    dropped: u64,
    cursors: VecDeque<Vec<u8>>,
}

impl ExpiredListing {
    /// A listing that an earlier process has given entries out of, up to `offset`: it begins again there. Entries may come
    /// twice, and none is left out.
    pub(super) fn begun_again(offset: u64) -> ExpiredListing {
        match offset.checked_sub(DOTS + 1) {
            Some(dropped) => {
                let places = Places { dropped, cursors: VecDeque::from([vec![]]) };
                ExpiredListing { places: Mutex::new(places) }
            }
            None => ExpiredListing::default(),
        }
    }

    /// The entries after `offset`, each with the offset to go on from.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for an offset that this handle never gave out, or too long ago.
    pub(super) fn page(&self, volume: &Volume, offset: u64, limit: usize) -> Result<Vec<(u64, Expired)>> {
        let first = offset.max(DOTS);
        let after = self.places.lock().cursor(first)?;
        let found = volume.expired(&after, limit)?;
        let mut places = self.places.lock();
        let numbered = (first + 1..).zip(found);
        Ok(numbered.inspect(|(offset, expired)| places.set(*offset, &expired.cursor)).collect())
    }
}

impl Places {
    fn cursor(&self, offset: u64) -> Result<Vec<u8>> {
        if offset == DOTS {
            return Ok(vec![]);
        }
        let place = (offset - DOTS - 1).checked_sub(self.dropped).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.cursors.get(place)).cloned().ok_or(Kind::Invalid.into())
    }

    /// Remembers what an offset stands for. Starting again (`rewinddir`) overwrites from the front.
    fn set(&mut self, offset: u64, cursor: &[u8]) {
        let place = offset - DOTS - 1;
        if place == 0 {
            *self = Places::default();
        }
        let Some(place) = place.checked_sub(self.dropped).and_then(|place| usize::try_from(place).ok()) else { return };
        match self.cursors.get_mut(place) {
            Some(known) => *known = cursor.to_vec(),
            None => self.cursors.push_back(cursor.to_vec()),
        }
        while self.cursors.len() > PLACES {
            self.cursors.pop_front();
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_needs_no_memory() {
        assert!(Places::default().cursor(DOTS).unwrap().is_empty());
        assert_eq!(Places::default().cursor(DOTS + 1).unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn each_offset_leads_back_to_its_entry() {
        let mut places = Places::default();
        for entry in 0..10u8 {
            places.set(DOTS + 1 + u64::from(entry), &[entry]);
        }
        assert_eq!(places.cursor(DOTS + 4).unwrap(), [3]);
        places.set(DOTS + 4, &[99]);
        assert_eq!(places.cursor(DOTS + 4).unwrap(), [99], "entries that went are replaced by what follows");
        assert_eq!(places.cursor(DOTS + 10).unwrap(), [9]);
    }

    #[test]
    fn a_listing_begun_again_goes_on_from_the_start_at_any_offset() {
        for offset in [0, DOTS, DOTS + 1, DOTS + 4] {
            let listing = ExpiredListing::begun_again(offset);
            assert!(listing.places.lock().cursor(offset.max(DOTS)).unwrap().is_empty());
            listing.places.lock().set(offset.max(DOTS) + 1, b"entry");
            assert_eq!(listing.places.lock().cursor(offset.max(DOTS) + 1).unwrap(), b"entry");
        }
    }

    #[test]
    fn only_the_newest_places_are_kept_and_starting_again_forgets_all() {
        let mut places = Places::default();
        for entry in 0..PLACES as u64 + 2 {
            places.set(DOTS + 1 + entry, &entry.to_be_bytes());
        }
        assert!(places.cursor(DOTS + 2).is_err());
        assert_eq!(places.cursor(DOTS + 3).unwrap(), 2u64.to_be_bytes());
        places.set(DOTS + 1, b"again");
        assert_eq!(places.cursor(DOTS + 1).unwrap(), b"again");
        assert!(places.cursor(DOTS + 3).is_err());
    }
}
