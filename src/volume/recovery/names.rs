//! Who has which name: of two inodes that claim one, the one that got it later has it.

use super::Recovery;
use crate::error::Result;
use crate::format::attributes::Link;
use crate::ids::{FileKind, Ino};
use crate::volume::record::Record;

impl Recovery<'_> {
    /// Takes an inode and its names out of the tables.
    pub(super) fn take_out(&mut self, old: &Record) {
        for link in &old.attrs.links {
            self.volume.delete_name(link, old.attrs.ino);
            self.count_subdir(old.attrs.kind, link.parent, -1);
        }
        if old.attrs.kind == FileKind::Directory {
            // It may be put in again, and what lies in it is still there then.
            *self.subdirs.entry(old.attrs.ino).or_default() += i64::from(old.subdirs);
            self.missing.insert(old.attrs.ino);
        }
        self.volume.unindex_record(old);
    }

    fn count_subdir(&mut self, kind: FileKind, parent: Ino, by: i64) {
        if kind == FileKind::Directory {
            *self.subdirs.entry(parent).or_default() += by;
        }
    }

    /// Puts an inode into the tables with the names it has; one that has none waits for the end.
    pub(super) fn put_in(&mut self, record: Record) -> Result<()> {
        let mut waiting = vec![record];
        while let Some(record) = waiting.pop() {
            self.put_one(record, &mut waiting)?;
        }
        Ok(())
    }

    /// Puts one inode in; those that lose names to it are taken out and wait to be put in again.
    fn put_one(&mut self, mut record: Record, waiting: &mut Vec<Record>) -> Result<()> {
        let ino = record.attrs.ino;
        record.subdirs = 0;
        let (mut links, mut losers) = (Vec::new(), Vec::new());
        let mut claims = record.attrs.links.clone();
        while let Some(link) = claims.pop() {
            match self.volume.read_name(link.parent, &link.name)? {
                // Of two claims that are alike one has to be the later, too.
                Some(other) if other.ino != ino && (other.link, other.ino) > (link.id, ino) => {
                    claims.extend(self.moved_by(other.ino, &link, ino)?);
                }
                Some(other) if other.ino != ino => {
                    losers.push(other.ino);
                    links.push(link);
                }
                _ if links.iter().any(|other| other.parent == link.parent && other.name == link.name) => {}
                _ => links.push(link),
            }
        }
        if links.is_empty() && ino != Ino::ROOT {
            self.nameless.push(record);
            return Ok(());
        }
        for loser in losers {
            if let Some(loser) = self.volume.read_record(loser)? {
                self.take_out(&loser);
                waiting.push(loser);
            }
        }
        links.reverse();
        record.attrs.links = links;
        if self.missing.remove(&ino) && record.attrs.kind != FileKind::Directory {
            self.no_directories.insert(ino);
        }
        if record.attrs.kind == FileKind::Directory {
            self.directories.push(ino);
        }
        for link in &record.attrs.links {
            self.volume.put_name(link, ino, record.attrs.kind);
            self.count_subdir(record.attrs.kind, link.parent, 1);
            match self.volume.read_record(link.parent)? {
                None if link.parent != ino => drop(self.missing.insert(link.parent)),
                Some(parent) if parent.attrs.kind != FileKind::Directory => {
                    self.no_directories.insert(link.parent);
                }
                _ => {}
            }
        }
        record.age = self.volume.age_of(&record);
        self.volume.index_record(&record, None);
        if !self.is_rebuild {
            self.settled.push((ino, record.attrs.kind));
        }
        Ok(())
    }

    /// Where an inode went whose name another one has got by an exchange.
    fn moved_by(&self, winner: Ino, lost: &Link, loser: Ino) -> Result<Option<Link>> {
        let Some(record) = self.volume.read_record(winner)? else { return Ok(None) };
        let link = record.attrs.links.iter().find(|l| l.parent == lost.parent && l.name == lost.name);
        let swap = link.and_then(|l| l.swapped.as_ref()).filter(|s| s.ino == loser && s.id > lost.id);
        Ok(swap.map(|s| Link { parent: s.parent, id: s.id, name: s.name.clone(), swapped: None }))
    }

    /// An inode with one name, made by recovery or put where it can be found.
    pub(super) fn put_under(&mut self, mut record: Record, parent: Ino, name: Vec<u8>) -> Result<()> {
        let ino = record.attrs.ino;
        record.attrs.links = vec![Link { parent, id: self.next_seq, name, swapped: None }];
        self.next_seq += 1;
        self.put_in(record)?;
        self.volume.tracking.to_commit.lock().push(ino);
        Ok(())
    }
}
