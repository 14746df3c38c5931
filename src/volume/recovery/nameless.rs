//! What has lost its name or its directory is put under `lost+found`.

use std::collections::HashMap;

use super::Recovery;
use super::blobs::Found;
use crate::error::Result;
use crate::format::attributes::{Attributes, MAX_NAME_LEN};
use crate::ids::{FileKind, Ino};
use crate::volume::record::Record;
use crate::volume::truth::Truth;

/// Where it is put.
const LOST_FOUND: &[u8] = b"lost+found";

impl Recovery<'_> {
    /// Settles the inodes whose names others have: a name may be free again by now; what the journal says is gone goes,
    /// unless something lies in it; what is left had been renamed when its old name was given away, and the renaming was lost.
    pub(super) fn settle_nameless(&mut self) -> Result<()> {
        // Whoever comes to lost+found may take a name from one that has it there.
        while !self.nameless.is_empty() {
            let mut waiting = std::mem::take(&mut self.nameless);
            waiting.sort_unstable_by_key(|record| record.attrs.seq);
            for record in waiting {
                let ino = record.attrs.ino;
                if self.journals.removed.contains_key(&ino) && self.volume.is_empty_dir(ino)? {
                    self.gone.extend(record.location.map(|at| at.blob));
                    continue;
                }
                self.put_in(record)?;
            }
            for record in std::mem::take(&mut self.nameless) {
                self.settle_one(record)?;
            }
        }
        Ok(())
    }

    /// Keeps what would go of the inodes without a name: a program may have them open.
    pub(super) fn keep_nameless(&mut self) -> Result<()> {
        let mut newest: HashMap<Ino, Truth> = HashMap::new();
        for id in self.gone.clone() {
            if self.journals.dropped.contains(&id) {
                continue;
            }
            let Found::Truth(truth) = self.look_at(id, None)? else { continue };
            let ino = truth.record.attrs.ino;
            let is_newest = newest.get(&ino).is_none_or(|other| other.record.attrs.seq < truth.record.attrs.seq);
            if is_newest && self.volume.read_record(ino)?.is_none() {
                newest.insert(ino, *truth);
            }
        }
        for truth in newest.into_values() {
            self.cut_behind(&truth)?;
            let kept = truth.record.location.map(|at| at.blob);
            self.gone.retain(|blob| Some(*blob) != kept);
            self.volume.adopt_nameless(truth.record);
        }
        Ok(())
    }

    fn settle_one(&mut self, record: Record) -> Result<()> {
        let ino = record.attrs.ino;
        let is_gone = self.journals.superseded.contains(&ino) || self.journals.removed.contains_key(&ino);
        // A directory was empty when it went: what lies in it now was removed or moved out of it, and that was lost.
        let is_full = record.attrs.kind == FileKind::Directory && !self.volume.is_empty_dir(ino)?;
        if is_gone && !is_full {
            self.gone.extend(record.location.map(|at| at.blob));
            return Ok(());
        }
        let name = lost_name(&record);
        self.notes.push(format!("inode {ino} lost its name to another one; it is lost+found/{ino}_..."));
        let top = self.lost_found()?;
        self.put_under(record, top, name)
    }

    /// Makes a directory that was lost, under `lost+found`, so that what lies in it can be reached.
    pub(super) fn make_lost(&mut self, ino: Ino) -> Result<()> {
        let top = self.lost_found()?;
        self.notes.push(format!("directory {ino} was lost; what lies in it is under lost+found/{ino}"));
        self.make_dir(ino, top, ino.to_string().into_bytes())
    }

    pub(super) fn lost_found(&mut self) -> Result<Ino> {
        match self.volume.read_name(Ino::ROOT, LOST_FOUND)? {
            Some(named) if named.kind == FileKind::Directory => Ok(named.ino),
            _ => {
                let top = Ino(self.next_blob);
                self.next_blob += 1;
                self.make_dir(top, Ino::ROOT, LOST_FOUND.to_vec())?;
                Ok(top)
            }
        }
    }

    fn make_dir(&mut self, ino: Ino, parent: Ino, name: Vec<u8>) -> Result<()> {
        let mut attrs = Attributes::new(ino, FileKind::Directory, self.volume.clock.now());
        attrs.mode = 0o700;
        self.put_under(Record::new(attrs), parent, name)
    }
}

/// The inode's number and its old name.
pub(super) fn lost_name(record: &Record) -> Vec<u8> {
    let mut name = record.attrs.ino.to_string().into_bytes();
    if let Some(link) = record.attrs.links.first() {
        name.push(b'_');
        name.extend_from_slice(&link.name);
        name.truncate(MAX_NAME_LEN);
    }
    name
}
