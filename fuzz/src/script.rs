//! A volume made by a script of bytes: blobs of sealed frames that say anything, journals, a policy. It is opened, read in
//! every way, closed, and opened again; the second time it has to be what it was the first.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation
)]

use std::collections::BTreeSet;
use std::sync::Arc;

use wamedia::clock::Timestamp;
use wamedia::error::{Kind, Result};
use wamedia::format::attributes::{Attributes, EndRef, Link, Swap};
use wamedia::format::content::{Content, Place};
use wamedia::format::frame::FrameKind;
use wamedia::format::journal::Record;
use wamedia::ids::{BlobId, FileKind, Ino};
use wamedia::volume::{MediaFilter, OpenMode, OpenOptions, RenameMode, Volume};

use crate::forge::{Forge, ForgedBlob};

/// Names and inodes are few, so that they meet.
const NAMES: [&[u8]; 8] =
    [b"a", b"b", b"c.jpg", b"lost+found", b"shared", b"463eb7ec-ff4e-4d9b-b110-1879cbd411b2", b"5", b"."];
/// The most entries of a tree that a script can make, by far.
const MANY: usize = 5000;

struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Mostly small, sometimes any.
    fn number(&mut self) -> Option<u64> {
        Some(match self.byte()? {
            255 => u64::from_le_bytes(self.bytes(8).try_into().ok()?),
            254 => 1 << (self.byte()? & 63),
            small => u64::from(small),
        })
    }

    fn inode(&mut self) -> Option<u64> {
        Some(1 + self.number()? % if self.byte()? == 255 { u64::MAX } else { 12 })
    }

    fn name(&mut self) -> Option<Vec<u8>> {
        let which = usize::from(self.byte()?);
        Some(NAMES.get(which % 9).map_or_else(|| self.bytes(which % 300).to_vec(), |name| name.to_vec()))
    }

    fn time(&mut self) -> Option<Timestamp> {
        Some(Timestamp { secs: self.number()? as i64, nanos: u32::from(self.byte()?) })
    }

    fn attributes(&mut self, end: Option<EndRef>) -> Option<Attributes> {
        let kind = FileKind::from_code(1 + self.byte()? % 4)?;
        let mut attrs = Attributes::new(Ino(self.inode()?), kind, self.time()?);
        (attrs.seq, attrs.mode) = (self.number()?, u32::from(self.byte()?) << 4);
        for _ in 0..self.byte()? % 4 {
            let (parent, id, name) = (Ino(self.inode()?), 17 + self.number()? % 40, self.name()?);
            let swapped = if self.byte()? % 4 == 0 {
                Some(Swap {
                    ino: Ino(self.inode()?),
                    parent: Ino(self.inode()?),
                    id: 17 + self.number()?,
                    name: self.name()?,
                })
            } else {
                None
            };
            attrs.links.push(Link { parent, id, name, swapped });
        }
        if kind == FileKind::Symlink {
            attrs.target = Some(self.name()?);
        }
        let more = self.byte()?;
        if more & 1 != 0 {
            attrs.end = end;
        }
        if more & 2 != 0 {
            attrs.xattrs.insert(self.name()?, self.bytes(20).to_vec());
        }
        if more & 4 != 0 {
            attrs.held = Some(self.time()?);
        }
        if more & 8 != 0 {
            attrs.retention = Some(self.number()?);
        }
        if more & 16 != 0 {
            (attrs.mtime, attrs.used) = (self.time()?, self.time()?);
        }
        if more & 32 != 0 {
            let number = self.number()?;
            attrs.end = Some(EndRef {
                offset: number,
                len: number as u32,
                frame: number,
                content_len: number,
                allocated: number,
            });
        }
        Some(attrs)
    }

    fn content(&mut self, places: &[(u64, u64, u64)]) -> Option<Content> {
        let mut content = Content { len: self.number()?, ..Content::default() };
        for (chunk, offset, frame) in places {
            content.map.set(*chunk, 1, Some(Place::Stored { offset: *offset, frame: *frame }));
        }
        for _ in 0..self.byte()? % 3 {
            content.map.set(self.number()? % (1 << 30), 1 + self.number()? % (1 << 20), Some(Place::Reserved));
        }
        Some(content)
    }

    fn blob(&mut self, blob: &mut ForgedBlob<'_>) -> Option<()> {
        let (mut end, mut places) = (None, Vec::new());
        for _ in 0..=self.byte()? % 8 {
            match self.byte()? % 7 {
                0 | 1 => blob.attributes(&self.attributes(end)?),
                2 => {
                    let (chunk, bytes) = (self.number()? % (1 << 31), self.bytes(200));
                    if !bytes.is_empty() {
                        let (offset, frame) = blob.frame(FrameKind::Data, chunk, bytes);
                        places.push((chunk % (1 << 30), offset, frame));
                    }
                }
                3 => {
                    let content = self.content(&places)?;
                    end = Some(blob.end(&content.encode(), content.len));
                }
                4 => {
                    let bytes = self.bytes(300);
                    if !bytes.is_empty() {
                        blob.attributes_as(bytes);
                    }
                }
                5 => {
                    let bytes = self.bytes(300);
                    if !bytes.is_empty() {
                        end = Some(blob.end(bytes, self.number()?));
                    }
                }
                _ => {
                    let bytes = self.bytes(60);
                    blob.bytes.extend_from_slice(bytes);
                }
            }
        }
        Some(())
    }

    fn records(&mut self) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        for _ in 0..self.byte()? % 8 {
            let (a, b) = (self.inode()?, self.inode()?);
            records.push(match self.byte()? % 4 {
                0 => Record::Touched(Ino(a)),
                1 => Record::Removed(Ino(a), BlobId(b)),
                2 => Record::Dropped(BlobId(a)),
                _ => Record::Superseded(Ino(a), Ino(b)),
            });
        }
        Some(records)
    }

    fn play(&mut self, forge: &Forge) -> Option<()> {
        let what = self.byte()?;
        if what & 1 != 0 {
            let first_new = self.number()?;
            forge.journal(1, first_new, &self.records()?);
        }
        if what & 2 != 0 {
            let len = usize::from(self.byte()?) * 4;
            forge.policy(self.bytes(len));
        }
        for _ in 0..12 {
            let mut blob = forge.blob(2 + u64::from(self.byte()? % 16));
            let played = self.blob(&mut blob);
            blob.put();
            played?;
        }
        None
    }
}

/// A volume as programs see it: the path, inode and length of everything.
fn tree(volume: &Volume) -> BTreeSet<(Vec<u8>, u64, u64)> {
    let (mut met, mut next) = (BTreeSet::new(), vec![(Ino::ROOT, Vec::new())]);
    while let Some((dir, path)) = next.pop() {
        let mut after = 0;
        loop {
            let entries = volume.readdir(dir, after, 64, true).unwrap_or_default();
            for entry in &entries {
                assert!(entry.cookie > after.max(16), "a listing goes on");
                after = entry.cookie;
                let path = [path.as_slice(), b"/", &entry.name].concat();
                let len = entry.attr.map_or(0, |attr| attr.size);
                assert!(met.insert((path.clone(), entry.ino.0, len)) && met.len() < MANY, "the tree has no end");
                if entry.kind == FileKind::Directory {
                    next.push((entry.ino, path));
                }
            }
            if entries.len() < 64 {
                break;
            }
        }
    }
    met
}

fn look_around(volume: &Volume) {
    for (path, ino, len) in tree(volume) {
        let ino = Ino(ino);
        let _either = (volume.resolve(&path), volume.readlink(ino), volume.list_xattr(ino));
        if len < 1 << 20 {
            let _either = volume.medium(ino, true);
        }
        for name in
            ["user.mime_type", "user.wamedia.id", "user.wamedia.expires", "user.wamedia.path", "user.wamedia.verdict"]
        {
            let _either = volume.get_xattr(ino, name.as_bytes());
        }
        if let Ok(file) = volume.open_file(ino, OpenMode { read: true, ..OpenMode::default() }) {
            let mut buffer = vec![0; 70_000];
            for at in [0, len / 2, len.saturating_sub(3), 1 << 46, u64::MAX] {
                let _either = volume.read(&file, at, &mut buffer);
            }
            volume.close(file);
        }
    }
    let _either = (volume.status(), volume.statfs(), volume.list(&MediaFilter::default(), &[], 100));
    for expired in volume.expired(&[], 100).unwrap_or_default() {
        let _either = (volume.expired_by_name(&expired.name), volume.holders_of(expired.ino));
    }
}

/// Changes that meet what a script has made.
fn change(volume: &Volume) {
    let _either = volume.rename(Ino::ROOT, b"a", Ino::ROOT, b"z", RenameMode::Replace);
    let dirs: Vec<Ino> = volume.resolve(b"lost+found").into_iter().chain(volume.resolve(b"b")).collect();
    for dir in dirs {
        let _either = volume.rename(Ino::ROOT, b"b", dir, b"y", RenameMode::Replace);
        let _either = volume.rename(Ino::ROOT, b"z", dir, b"a", RenameMode::Exchange);
        let _either = (volume.fsync_dir(dir), volume.unlink(dir, b"c.jpg"), volume.rmdir(dir, b"y"));
    }
    for expired in volume.expired(&[], 2).unwrap_or_default() {
        let _either = volume.remove_expired(expired.ino);
    }
}

fn open(store: &std::path::Path) -> Result<Arc<Volume>> {
    let opened = Volume::open(store, &[], OpenOptions::default());
    if let Err(e) = &opened {
        assert!(matches!(e.kind(), Kind::Invalid | Kind::Damaged), "{e:?}");
    }
    opened
}

/// Plays a script and opens what it has made.
pub fn recovery(bytes: &[u8]) {
    let dir = tempfile::Builder::new().tempdir_in("/dev/shm").unwrap();
    let store = dir.path().join("store");
    let forge = Forge::open_to_all(&store);
    let _end = Script(bytes).play(&forge);
    // Only with one are contents looked at, and what is not whole stays where it is, for a look without one to find.
    let has_journal = store.join("journal.0000000000000001").exists();
    let Ok(volume) = open(&store) else { return };
    let before = tree(&volume);
    look_around(&volume);
    volume.shutdown().unwrap();
    drop(volume);
    let volume = open(&store).expect("what was opened opens again");
    assert_eq!(tree(&volume), before, "opened again it is what it was");
    change(&volume);
    look_around(&volume);
    let before = tree(&volume);
    volume.shutdown().unwrap();
    drop(volume);
    // Without its index it is still the same.
    forge.forget_index();
    let volume = open(&store).expect("without its index it opens as well");
    if !has_journal {
        assert_eq!(tree(&volume), before, "made anew, the index says what it said");
    }
    volume.shutdown().unwrap();
}
