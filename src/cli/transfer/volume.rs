//! The tree of a volume that this process has open.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use super::tree::{Attribute, Content, Losses, Meta, Sink, Source, Tree, is_carried};
use crate::error::{Error, Kind, Result};
use crate::ids::Ino;
use crate::volume::{Attr, NewNode, OpenFile, OpenMode, Seek, SetAttr, Volume, XattrMode};

/// Entries of a directory that are read at a time.
const PAGE: usize = 1000;
/// Mode of a directory before it gets its own.
const DIRECTORY_MODE: u32 = 0o700;

/// A volume as a tree.
pub struct VolumeTree {
    volume: Arc<Volume>,
}

impl VolumeTree {
    /// The tree of an open volume.
    #[must_use]
    pub fn new(volume: Arc<Volume>) -> VolumeTree {
        VolumeTree { volume }
    }

    fn find(&self, path: &Path) -> Result<Ino> {
        match path.as_os_str().as_bytes() {
            b"" => Ok(Ino::ROOT),
            bytes => self.volume.resolve(bytes),
        }
    }

    /// The directory of an entry, and its name there.
    fn place<'a>(&self, path: &'a Path) -> Result<(Ino, &'a [u8])> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Ok((self.find(parent)?, name.as_bytes())),
            _ => Err(Error::new(Kind::Invalid, "the root of a volume is no entry")),
        }
    }

    fn set_attributes(&self, ino: Ino, attributes: &[Attribute]) -> Result<u64> {
        let mut lost = 0;
        for (name, value) in attributes {
            match self.volume.set_xattr(ino, name, value, XattrMode::Any) {
                Ok(()) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        Kind::Unsupported | Kind::TooBig | Kind::NotPermitted | Kind::Invalid
                    ) =>
                {
                    lost += 1
                }
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

    /// Sets owner, mode and times.
    fn dress(&self, ino: Ino, meta: &Meta) -> Result<()> {
        let change = SetAttr {
            mode: Some(meta.mode),
            uid: Some(meta.uid),
            gid: Some(meta.gid),
            atime: Some(meta.atime),
            mtime: Some(meta.mtime),
            ..SetAttr::default()
        };
        self.volume.setattr(ino, &change).map(drop)
    }

    fn open_to_write(&self, path: &Path, meta: &Meta) -> Result<(Ino, OpenFile)> {
        let mode = OpenMode { write: true, truncate: true, ..OpenMode::default() };
        let (parent, name) = self.place(path)?;
        match self.volume.create(parent, name, &node(meta), mode) {
            Ok((attr, file)) => Ok((attr.ino, file)),
            Err(error) if error.kind() == Kind::Exists => {
                let ino = self.find(path)?;
                Ok((ino, self.volume.open_file(ino, mode)?))
            }
            Err(error) => Err(error),
        }
    }

    fn write(
        &self,
        ino: Ino,
        file: &OpenFile,
        meta: &Meta,
        attributes: &[Attribute],
        content: Content<'_>,
    ) -> Result<Losses> {
        let mut writer = FileWriter { volume: &self.volume, file, offset: 0 };
        content(&mut writer)?;
        if writer.offset > self.volume.getattr(ino)?.size {
            // It ends with a hole.
            let change = SetAttr { size: Some(writer.offset), ..SetAttr::default() };
            self.volume.setattr(ino, &change)?;
        }
        let lost = self.set_attributes(ino, attributes)?;
        self.dress(ino, meta)?;
        Ok(Losses { owner: false, attributes: lost })
    }
}

fn node(meta: &Meta) -> NewNode {
    NewNode { mode: meta.mode, uid: meta.uid, gid: meta.gid }
}

fn meta(attr: &Attr) -> Meta {
    Meta {
        kind: attr.kind,
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev.into(),
        size: attr.size,
        atime: attr.atime,
        mtime: attr.mtime,
        identity: (0, attr.ino.0),
        nlink: attr.nlink.into(),
    }
}

impl Tree for VolumeTree {
    fn stat(&self, path: &Path) -> Result<Option<Meta>> {
        match self.find(path).and_then(|ino| self.volume.getattr(ino)) {
            Ok(attr) => Ok(Some(meta(&attr))),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, directory: &Path) -> Result<Vec<OsString>> {
        let directory = self.find(directory)?;
        let mut names = Vec::new();
        let mut after = 0;
        loop {
            let page = self.volume.readdir(directory, after, PAGE, false)?;
            let Some(last) = page.last() else { break };
            after = last.cookie;
            names.extend(page.into_iter().map(|entry| OsString::from_vec(entry.name)));
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read_link(&self, path: &Path) -> Result<OsString> {
        self.volume.readlink(self.find(path)?).map(OsString::from_vec)
    }

    fn attributes(&self, path: &Path) -> Result<Vec<Attribute>> {
        let ino = self.find(path)?;
        let mut attributes = Vec::new();
        for name in self.volume.list_xattr(ino)?.into_iter().filter(|name| is_carried(name)) {
            match self.volume.get_xattr(ino, &name) {
                Ok(value) => attributes.push((name, value)),
                Err(error) if error.kind() == Kind::NoAttribute => {}
                Err(error) => return Err(error),
            }
        }
        Ok(attributes)
    }

    fn open(&self, path: &Path, _fresh: bool) -> Result<Box<dyn Source + '_>> {
        let mode = OpenMode { read: true, ..OpenMode::default() };
        let file = self.volume.open_file(self.find(path)?, mode)?;
        Ok(Box::new(FileReader { volume: &self.volume, file: Some(file), offset: 0, data_until: 0 }))
    }

    fn is_volume(&self) -> bool {
        true
    }

    fn put_file(&self, path: &Path, meta: &Meta, attributes: &[Attribute], content: Content<'_>) -> Result<Losses> {
        let (ino, file) = self.open_to_write(path, meta)?;
        let written = self.write(ino, &file, meta, attributes, content);
        self.volume.close(file);
        self.volume.forget(ino);
        if written.is_err() {
            // The first failure is the one to tell; what is left has a time that does not fit, and is written again.
            let _ = self.remove(path);
        }
        written
    }

    fn make_directory(&self, path: &Path) -> Result<()> {
        let (parent, name) = self.place(path)?;
        let attr = self.volume.mkdir(parent, name, &NewNode { mode: DIRECTORY_MODE, uid: 0, gid: 0 })?;
        self.volume.forget(attr.ino);
        Ok(())
    }

    fn finish_directory(&self, path: &Path, meta: &Meta, attributes: &[Attribute]) -> Result<Losses> {
        let ino = self.find(path)?;
        let lost = self.set_attributes(ino, attributes)?;
        self.dress(ino, meta)?;
        Ok(Losses { owner: false, attributes: lost })
    }

    fn put_symlink(&self, path: &Path, meta: &Meta, target: &OsString) -> Result<Losses> {
        let (parent, name) = self.place(path)?;
        let attr = self.volume.symlink(parent, name, target.as_bytes(), &node(meta))?;
        let dressed = self.dress(attr.ino, meta);
        self.volume.forget(attr.ino);
        dressed.map(|()| Losses::default())
    }

    fn put_node(&self, path: &Path, meta: &Meta) -> Result<Losses> {
        let (parent, name) = self.place(path)?;
        let rdev =
            u32::try_from(meta.rdev).map_err(|_| Error::new(Kind::Unsupported, "its device number is too large"))?;
        let attr = self.volume.mknod(parent, name, meta.kind, rdev, &node(meta))?;
        let dressed = self.dress(attr.ino, meta);
        self.volume.forget(attr.ino);
        dressed.map(|()| Losses::default())
    }

    fn put_link(&self, path: &Path, existing: &Path) -> Result<()> {
        let ino = self.find(existing)?;
        let (parent, name) = self.place(path)?;
        self.volume.link(ino, parent, name)?;
        self.volume.forget(ino);
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let (parent, name) = self.place(path)?;
        self.volume.unlink(parent, name)
    }

    fn settle(&self) -> Result<()> {
        self.volume.sync_all()
    }
}

struct FileReader<'a> {
    volume: &'a Volume,
    /// Taken only when it is closed.
    file: Option<OpenFile>,
    offset: u64,
    /// Up to where there are data for certain, from `offset` on.
    data_until: u64,
}

impl Source for FileReader<'_> {
    fn skip_hole(&mut self) -> Result<u64> {
        let Some(file) = &self.file else { return Ok(0) };
        if self.offset < self.data_until {
            return Ok(0);
        }
        let begun = self.offset;
        match self.volume.seek(file, begun, Seek::Data) {
            Ok(data) => {
                self.offset = data;
                self.data_until = self.volume.seek(file, data, Seek::Hole)?;
            }
            // Nothing but a hole up to the end, where reading gives nothing.
            Err(error) if error.kind() == Kind::NoPosition => {
                let end = self.volume.getattr(file.ino())?.size;
                (self.offset, self.data_until) = (end.max(begun), u64::MAX);
            }
            Err(error) => return Err(error),
        }
        Ok(self.offset - begun)
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(file) = &self.file else { return Ok(0) };
        let left = usize::try_from(self.data_until.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        let count = self.volume.read(file, self.offset, buffer).map_err(io::Error::other)?;
        self.offset = self.offset.saturating_add(u64::try_from(count).unwrap_or(0));
        Ok(count)
    }
}

impl Drop for FileReader<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            self.volume.close(file);
        }
    }
}

impl Sink for FileWriter<'_> {
    fn leave_hole(&mut self, bytes: u64) -> Result<()> {
        self.offset = self.offset.saturating_add(bytes);
        Ok(())
    }
}

struct FileWriter<'a> {
    volume: &'a Volume,
    file: &'a OpenFile,
    offset: u64,
}

impl Write for FileWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.volume.write(self.file, self.offset, bytes, false).map_err(io::Error::other)?;
        self.offset = self.offset.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::FileKind;

    #[test]
    fn attributes_become_what_a_copy_compares() {
        let at = crate::clock::Timestamp { secs: 5, nanos: 6 };
        let attr = Attr {
            ino: Ino(9),
            kind: FileKind::Regular,
            mode: 0o640,
            nlink: 2,
            uid: 1,
            gid: 2,
            rdev: 0,
            size: 3,
            blocks: 1,
            atime: at,
            mtime: at,
            ctime: at,
            btime: at,
        };
        let meta = meta(&attr);
        assert_eq!((meta.identity, meta.nlink, meta.size, meta.mtime), ((0, 9), 2, 3, at));
    }
}
