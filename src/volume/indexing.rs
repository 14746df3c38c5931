//! The bridge to the index: what is put where, and read back.

use std::ops::Bound;
use std::sync::Arc;

use super::inode::{Inode, State, recount};
use super::listed::Listed;
use super::record::{Named, Record, Totals};
use super::types::{DirEntry, FileKind};
use super::{Volume, own_id};
use crate::crypto::IndexKey;
use crate::error::{Error, Kind, Result};
use crate::format::attributes::Link;
use crate::ids::{Ino, MediaId};
use crate::index::{Sealer, Table, schema};

/// Pseudonyms of names.
const NAME: u8 = 1;
/// Pseudonyms of media ids.
const ID: u8 = 2;
/// Pseudonyms of MIME types.
const MIME: u8 = 3;
/// Key of the counters.
const TOTALS: &str = "totals";
/// Prefix of the keys under which the MIME types that occur are listed.
const TYPE_PREFIX: &str = "type ";

/// Seals the pages of the index with the key of the volume.
pub(super) struct IndexSealer(pub Arc<IndexKey>);

impl Sealer for IndexSealer {
    fn seal(&self, key: &[u8], plain: &[u8]) -> Vec<u8> {
        self.0.seal(key, plain)
    }

    fn open(&self, key: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.open(key, sealed)
    }
}

pub(super) fn damaged(what: &str) -> Error {
    Error::new(Kind::Damaged, format!("a record of the index is damaged ({what}); run `wamedia rebuild-index`"))
}

impl Volume {
    pub(super) fn read_record(&self, ino: Ino) -> Result<Option<Record>> {
        match self.index.get(Table::Inodes, &schema::inode(ino))? {
            Some(bytes) => Record::decode(&bytes).map(Some).map_err(|e| damaged(e.0)),
            None => Ok(None),
        }
    }

    fn name_key(&self, parent: Ino, name: &[u8]) -> [u8; 20] {
        schema::name(parent, &self.index_key.prf(NAME, &[&parent.0.to_le_bytes(), name]))
    }

    pub(super) fn read_name(&self, parent: Ino, name: &[u8]) -> Result<Option<Named>> {
        match self.index.get(Table::Names, &self.name_key(parent, name))? {
            Some(bytes) => Named::decode(&bytes).map(|(named, _)| Some(named)).map_err(|e| damaged(e.0)),
            None => Ok(None),
        }
    }

    /// Puts a name into the tables; one that was there is no longer found.
    pub(super) fn put_name(&self, link: &Link, ino: Ino, kind: FileKind) {
        let named = Named { ino, link: link.id, kind };
        self.absent.forget(link.parent, &link.name);
        self.index.put(Table::Names, &self.name_key(link.parent, &link.name), named.encode(&[]));
        self.index.put(Table::Entries, &schema::entry(link.parent, link.id), named.encode(&link.name));
        if let Some(id) = MediaId::parse(&link.name).filter(|_| kind == FileKind::Regular) {
            self.index.put(Table::Ids, &schema::id(&self.id_code(&id), ino), Vec::new());
        }
    }

    /// Takes a name out of the tables, unless another inode has taken it over.
    pub(super) fn delete_name(&self, link: &Link, ino: Ino) {
        let is_ours = self.read_name(link.parent, &link.name).is_ok_and(|n| n.is_none_or(|n| n.link == link.id));
        if is_ours {
            self.index.delete(Table::Names, &self.name_key(link.parent, &link.name));
        }
        self.index.delete(Table::Entries, &schema::entry(link.parent, link.id));
        if let Some(id) = MediaId::parse(&link.name) {
            self.index.delete(Table::Ids, &schema::id(&self.id_code(&id), ino));
        }
    }

    fn id_code(&self, id: &MediaId) -> [u8; 16] {
        self.index_key.prf(ID, &[id.0.as_bytes()])
    }

    pub(super) fn mime_code(&self, mime: &str) -> [u8; 16] {
        self.index_key.prf(MIME, &[mime.to_ascii_lowercase().as_bytes()])
    }

    pub(super) fn read_entries(&self, dir: Ino, after: u64, limit: usize) -> Result<Vec<DirEntry>> {
        let (from, to) = (schema::entry(dir, after), schema::entry(Ino(dir.0 + 1), 0));
        let found = self.index.scan(Table::Entries, Bound::Excluded(&from), Bound::Excluded(&to), limit)?;
        found
            .into_iter()
            .map(|(_, mut value)| {
                let (named, name) = Named::decode(&value).map_err(|e| damaged(e.0))?;
                let name_at = value.len() - name.len();
                // In place, since listings are made of thousands of these.
                value.drain(..name_at);
                Ok(DirEntry { name: value, ino: named.ino, kind: named.kind, cookie: named.link, attr: None })
            })
            .collect()
    }

    pub(super) fn is_empty_dir(&self, dir: Ino) -> Result<bool> {
        let (from, to) = (schema::entry(dir, 0), schema::entry(Ino(dir.0 + 1), 0));
        Ok(self.index.scan_keys(Table::Entries, Bound::Included(&from), Bound::Excluded(&to), 1)?.is_empty())
    }

    /// Takes the record of an inode out of the tables; its names are the caller's business.
    pub(super) fn unindex(&self, state: &mut State) {
        let Some(old) = state.indexed.take() else { return };
        self.unindex_record(&old);
    }

    pub(super) fn unindex_record(&self, old: &Record) {
        let ino = old.attrs.ino;
        self.index.delete(Table::Inodes, &schema::inode(ino));
        if let Some(age) = old.age {
            self.index.delete(Table::Ages, &schema::age(age.class, age.when, ino));
            self.forget_shown(age, ino);
        }
        if let Some(mime) = old.mime().filter(|_| old.is_medium()) {
            self.index.delete(Table::Types, &schema::mime(&self.mime_code(mime), ino));
        }
        recount(&mut self.totals.lock(), Some(old), None);
    }

    /// Puts the record of an inode into the tables, in place of what they had.
    pub(super) fn index_state(&self, state: &mut State) {
        if state.removed {
            return;
        }
        state.record.age = self.age_of(&state.record);
        self.index_record(&state.record, state.indexed.as_ref());
        state.indexed = Some(state.record.clone());
    }

    pub(super) fn index_record(&self, new: &Record, old: Option<&Record>) {
        let ino = new.attrs.ino;
        let old_age = old.and_then(|o| o.age);
        let has_moved = old_age != new.age || old.is_some_and(|o| o.len != new.len);
        if let Some(age) = old_age.filter(|_| has_moved) {
            self.index.delete(Table::Ages, &schema::age(age.class, age.when, ino));
            self.forget_shown(age, ino);
        }
        if let Some(age) = new.age.filter(|_| has_moved || old.is_some_and(|o| !Listed::is_same(o, new))) {
            self.index.put(Table::Ages, &schema::age(age.class, age.when, ino), Listed::of(new).encode());
        }
        if new.is_medium() {
            let old_mime = old.and_then(Record::mime);
            if old_mime != new.mime() {
                if let Some(mime) = old_mime {
                    self.index.delete(Table::Types, &schema::mime(&self.mime_code(mime), ino));
                }
                if let Some(mime) = new.mime() {
                    self.index.put(Table::Types, &schema::mime(&self.mime_code(mime), ino), Vec::new());
                    self.list_type(mime);
                }
            }
        }
        self.index.put(Table::Inodes, &schema::inode(ino), new.encode());
        recount(&mut self.totals.lock(), old, Some(new));
    }

    fn list_type(&self, mime: &str) {
        let mime = mime.to_ascii_lowercase();
        let mut known = self.known_types.lock();
        if !known.contains(&mime) {
            let key = schema::meta(&format!("{TYPE_PREFIX}{mime}"));
            self.index.put(Table::Meta, &key, Vec::new());
            known.insert(mime);
        }
    }

    /// The MIME types that occur or occurred.
    pub(super) fn types_known(&self) -> Result<Vec<String>> {
        let from = schema::meta(TYPE_PREFIX);
        let to = schema::after(&from);
        let to = to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let keys = self.index.scan_keys(Table::Meta, Bound::Included(&from), to, usize::MAX)?;
        let name = |key: &Vec<u8>| schema::parse_meta(key).and_then(|k| k.strip_prefix(TYPE_PREFIX)).map(str::to_owned);
        Ok(keys.iter().filter_map(name).collect())
    }

    /// Brings the records of all changed inodes into the index's memory, so that its tables tell what is.
    pub(super) fn settle(&self) {
        let changed: Vec<Arc<Inode>> = self.tracking.dirty.lock().drain().map(|(_, inode)| inode).collect();
        for inode in changed {
            let mut state = inode.state.write();
            if state.record.location.is_none() && !state.removed {
                // Without a blob, recovery would not look at it unless the journal says so.
                let _poisoned = self.ledger.touch(&self.index_key, inode.ino);
            }
            self.index_state(&mut state);
        }
    }

    /// Puts the counters into the batch that is frozen next.
    pub(super) fn put_totals(&self) {
        let mut bytes = self.totals.lock().encode();
        bytes.extend_from_slice(&self.tracking.next_blob.load(std::sync::atomic::Ordering::Acquire).to_le_bytes());
        bytes.extend_from_slice(&self.tracking.next_seq.load(std::sync::atomic::Ordering::Acquire).to_le_bytes());
        self.index.put(Table::Meta, &schema::meta(TOTALS), bytes);
    }

    /// The counters the index has: totals, next blob, next sequence number.
    pub(super) fn read_totals(&self) -> Result<Option<(Totals, u64, u64)>> {
        let Some(bytes) = self.index.get(Table::Meta, &schema::meta(TOTALS))? else { return Ok(None) };
        let (totals, rest) = bytes.split_at_checked(bytes.len().saturating_sub(16)).ok_or_else(|| damaged(TOTALS))?;
        let totals = Totals::decode(totals).map_err(|e| damaged(e.0))?;
        let number = |at: usize| rest.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        match (number(0), number(8)) {
            (Some(blob), Some(seq)) => Ok(Some((totals, blob, seq))),
            _ => Err(damaged(TOTALS)),
        }
    }

    /// The medium with this id.
    ///
    /// # Errors
    /// `Damaged`, `Io`.
    pub fn find(&self, id: &MediaId) -> Result<Option<Ino>> {
        if let Some(ino) = self.find_shared(id)? {
            return Ok(Some(ino));
        }
        let code = self.id_code(id);
        let (from, to) = (schema::id(&code, Ino(0)), schema::id(&code, Ino(u64::MAX)));
        for key in self.index.scan_keys(Table::Ids, Bound::Included(&from), Bound::Included(&to), 16)? {
            if let Some((_, ino)) = schema::parse_id(&key)
                && self.id_of(ino)? == *id
            {
                return Ok(Some(ino));
            }
        }
        match own_id::ino_of(&self.index_key, id) {
            Some(ino) if self.is_medium(ino)? && self.id_of(ino)? == *id => Ok(Some(ino)),
            _ => Ok(None),
        }
    }

    fn is_medium(&self, ino: Ino) -> Result<bool> {
        match self.inode(ino) {
            Ok(inode) => Ok(inode.state.read().record.is_medium()),
            Err(e) if e.kind() == Kind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn find_shared(&self, id: &MediaId) -> Result<Option<Ino>> {
        let mut at = Ino::ROOT;
        let parts = id.shared_path();
        for name in std::iter::once("shared").chain(parts.iter().map(String::as_str)) {
            match self.read_name(at, name.as_bytes())? {
                Some(named) => at = named.ino,
                None => return Ok(None),
            }
        }
        Ok(self.is_medium(at)?.then_some(at))
    }

    /// The media id of an inode: what its path or name says, else one of its own.
    pub(super) fn id_of(&self, ino: Ino) -> Result<MediaId> {
        let links = self.inode(ino)?.state.read().record.attrs.links.clone();
        self.id_by_links(ino, &links)
    }

    /// The media id of an inode whose state is locked; its own where the way to it cannot be read.
    pub(super) fn id_of_record(&self, record: &Record) -> MediaId {
        let ino = record.attrs.ino;
        self.id_by_links(ino, &record.attrs.links).unwrap_or_else(|_| self.own_id(ino))
    }

    /// The media id that names give; none when the inode's own holds, or the way to it cannot be read.
    pub(super) fn named_id(&self, links: &[Link]) -> Option<MediaId> {
        links.iter().find_map(|link| self.id_of_name(link.parent, &link.name).ok().flatten())
    }

    fn id_of_name(&self, parent: Ino, name: &[u8]) -> Result<Option<MediaId>> {
        match MediaId::parse(name) {
            Some(id) => Ok(Some(id)),
            None if name.len() == 24 => self.shared_id(parent, name),
            None => Ok(None),
        }
    }

    fn id_by_links(&self, ino: Ino, links: &[Link]) -> Result<MediaId> {
        self.id_by_names(ino, links.iter().map(|link| (link.parent, link.name.as_slice())))
    }

    /// The same for the directories and names of its links.
    pub(super) fn id_by_names<'a>(&self, ino: Ino, names: impl Iterator<Item = (Ino, &'a [u8])>) -> Result<MediaId> {
        for (parent, name) in names {
            if let Some(id) = self.id_of_name(parent, name)? {
                return Ok(id);
            }
        }
        Ok(self.own_id(ino))
    }

    fn shared_id(&self, parent: Ino, name: &[u8]) -> Result<Option<MediaId>> {
        let mut names = vec![name.to_vec()];
        let mut at = parent;
        while names.len() < 4 && at != Ino::ROOT {
            let dir = self.inode(at)?;
            let state = dir.state.read();
            let Some(up) = state.record.attrs.links.first() else { return Ok(None) };
            names.push(up.name.clone());
            at = up.parent;
        }
        match names.as_slice() {
            [rest, second, first, top] if at == Ino::ROOT && top == b"shared" => {
                Ok(MediaId::from_shared_path(first, second, rest))
            }
            _ => Ok(None),
        }
    }

    /// The id of a medium whose names say none.
    pub(super) fn own_id(&self, ino: Ino) -> MediaId {
        own_id::of(&self.index_key, ino)
    }

    /// Resolves a `/`-separated path from the root; symlinks are not followed.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`.
    pub fn resolve(&self, path: &[u8]) -> Result<Ino> {
        let mut at = Ino::ROOT;
        for name in path.split(|b| *b == b'/').filter(|n| !n.is_empty() && *n != b".") {
            at = match self.read_name(at, name)? {
                Some(named) => named.ino,
                None => {
                    let path = String::from_utf8_lossy(path).into_owned();
                    return Err(Error::new(Kind::NotFound, format!("no file {path} in the volume")));
                }
            };
        }
        Ok(at)
    }

    /// The path of an inode from the root, by its first name.
    pub(super) fn path_of(&self, ino: Ino) -> Result<Vec<u8>> {
        let mut names = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT && names.len() < super::MAX_DEPTH {
            let inode = self.inode(at)?;
            let state = inode.state.read();
            let Some(link) = state.record.attrs.links.first() else { break };
            names.push(link.name.clone());
            at = link.parent;
        }
        names.reverse();
        Ok(names.join(&b'/'))
    }
}
