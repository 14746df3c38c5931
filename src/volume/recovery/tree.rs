//! What the names of all inodes must make is a tree. Where two directories were moved, the later into the earlier, and a
//! power loss took the first of the moves, each lies in the other; and who makes a volume can say anything. What has no
//! way to the root is put under `lost+found`.

use std::collections::HashSet;

use super::Recovery;
use crate::error::{Error, Kind, Result};
use crate::format::attributes::Link;
use crate::ids::{Ino, NUMBER_LIMIT};

/// Names that are looked at at a time.
const STEP: usize = 256;

impl Recovery<'_> {
    /// Sees to it that every directory that was put in leads to the root, and that every other name is in a directory.
    pub(super) fn straighten(&mut self) -> Result<()> {
        for parent in std::mem::take(&mut self.no_directories) {
            self.empty_out(parent)?;
        }
        let mut grounded = HashSet::from([Ino::ROOT]);
        let directories = std::mem::take(&mut self.directories);
        // Each cut leads one directory to the root for good.
        let mut cuts = 0..directories.len();
        for dir in directories {
            while let Some(loop_of) = self.ground(dir, &mut grounded)? {
                cuts.next().ok_or_else(|| Error::new(Kind::Damaged, "the directories of the volume make no tree"))?;
                self.cut_loop(loop_of)?;
            }
        }
        Ok(())
    }

    /// Takes the names out of an inode that is no directory; who has no other name is nameless then.
    fn empty_out(&mut self, parent: Ino) -> Result<()> {
        let mut met = HashSet::new();
        loop {
            let entries = self.volume.read_entries(parent, 0, STEP)?;
            if entries.is_empty() {
                return Ok(());
            }
            for entry in entries {
                let lost = Link { parent, id: entry.cookie, name: entry.name, swapped: None };
                let Some(mut record) = self.volume.read_record(entry.ino)? else {
                    self.volume.delete_name(&lost, entry.ino);
                    continue;
                };
                self.take_out(&record);
                self.volume.delete_name(&lost, entry.ino);
                record.attrs.links.retain(|link| link.parent != parent);
                self.volume.tracking.to_commit.lock().push(entry.ino);
                if met.insert(entry.ino) {
                    self.put_in(record)?;
                } else {
                    // An exchange has brought it here again.
                    record.attrs.links.clear();
                    self.nameless.push(record);
                }
            }
        }
    }

    /// Walks from a directory to one that is known to lead to the root; gives the directories of a loop if it comes to one.
    fn ground(&self, dir: Ino, grounded: &mut HashSet<Ino>) -> Result<Option<Vec<(Ino, Link)>>> {
        let (mut way, mut on_way, mut at): (Vec<(Ino, Link)>, _, _) = (Vec::new(), HashSet::new(), dir);
        while !grounded.contains(&at) {
            if !on_way.insert(at) {
                let from = way.iter().position(|(seen, _)| *seen == at).unwrap_or_default();
                return Ok(Some(way.split_off(from)));
            }
            // Who is not there, or has no name, is settled by others.
            let Some(record) = self.volume.read_record(at)? else { break };
            let Some(link) = record.attrs.links.into_iter().next() else { break };
            let above = link.parent;
            way.push((at, link));
            at = above;
        }
        grounded.extend(on_way);
        Ok(None)
    }

    /// Puts the directory of a loop that got its name first under `lost+found`: it is the one whose later name was lost.
    fn cut_loop(&mut self, dirs: Vec<(Ino, Link)>) -> Result<()> {
        let Some((ino, _)) = dirs.into_iter().min_by_key(|(_, link)| link.id) else { return Ok(()) };
        let record = self.volume.read_record(ino)?;
        let record = record.ok_or_else(|| Error::new(Kind::Damaged, format!("directory {ino} is gone")))?;
        let name = super::nameless::lost_name(&record);
        self.notes.push(format!("directory {ino} lay in itself; it is lost+found/{ino}_..."));
        self.take_out(&record);
        let top = self.lost_found()?;
        self.put_under(record, top, name)
    }

    /// Refuses a volume whose numbers are used up, which none gets by use.
    pub(super) fn expect_numbers_left(&self) -> Result<()> {
        if self.next_blob < NUMBER_LIMIT && self.next_seq < NUMBER_LIMIT {
            return Ok(());
        }
        Err(Error::new(
            Kind::Invalid,
            "the volume's numbers are used up: it says so of itself, and it cannot be opened",
        ))
    }
}
