//! Makes volumes as somebody makes them who has the key and no scruples: every tag fits, and what it protects says anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::fs;
use std::path::{Path, PathBuf};

use wamedia::clock::Timestamp;
use wamedia::crypto::{BlobKey, KeySource, Suite, VolumeKey};
use wamedia::format::attributes::{Attributes, EndRef, Link};
use wamedia::format::content::Content;
use wamedia::format::frame::{CHUNK_LEN, FrameKind, HEAD_LEN, HEADER_LEN, Head, Header, encode_trailer};
use wamedia::format::journal::{JournalHeader, Record};
use wamedia::ids::{BlobId, FileKind, Ino, VolumeId};
use wamedia::store::read_superblock;
use wamedia::volume::{InitOptions, Policy, RetentionRule, Selector, Volume};

/// A store that is written by hand.
pub struct Forge {
    store: PathBuf,
    key: VolumeKey,
    suite: Suite,
    volume: VolumeId,
}

/// A policy with one rule: everything is kept for so many seconds.
pub fn policy(keep_secs: u64) -> Policy {
    let keep = Some(std::time::Duration::from_secs(keep_secs));
    let retention = vec![RetentionRule { selector: Selector::Default, keep }];
    Policy {
        max_bytes: None,
        max_media: None,
        reserves: Vec::new(),
        floor_bytes: 0,
        age_by: wamedia::volume::AgeBy::Written,
        retention,
        ..Policy::default()
    }
}

impl Forge {
    /// Makes a store without a cipher in `store`: its key is known to all.
    pub fn open_to_all(store: &Path) -> Forge {
        let options = InitOptions { encrypted: false, policy: policy(1), root_uid: 0, root_gid: 0, root_mode: 0o755 };
        Volume::init(store, None, &options).unwrap();
        Forge::of(store, &[])
    }

    /// Takes over a volume that is not open, and forgets its index.
    pub fn of(store: &Path, sources: &[KeySource]) -> Forge {
        let superblock = read_superblock(store).unwrap();
        let (key, _) = superblock.unlock(sources).unwrap();
        let forge = Forge { store: store.to_owned(), key, suite: superblock.suite(), volume: superblock.volume() };
        forge.forget_index();
        forge
    }

    /// Removes what is derived, so that the next open reads every blob.
    pub fn forget_index(&self) {
        let _none = fs::remove_dir_all(self.store.join("index"));
        for entry in fs::read_dir(&self.store).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with("journal.") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    }

    /// A blob to be filled.
    pub fn blob(&self, number: u64) -> ForgedBlob<'_> {
        let (id, salt) = (BlobId(number), [7; 24]);
        let key = self.key.blob_key(self.suite, self.volume, id, &salt);
        let header = Header { suite: self.suite as u8, volume: self.volume, blob: id, salt };
        let mut bytes = header.encode().to_vec();
        let tag = key.seal(&[0; 24], &bytes, &mut []);
        bytes.extend_from_slice(&tag);
        assert_eq!(bytes.len(), HEADER_LEN);
        ForgedBlob { forge: self, id, key, bytes, frames: 0 }
    }

    /// An inode of one attribute frame.
    pub fn inode(&self, attrs: &Attributes) {
        let mut blob = self.blob(attrs.ino.0);
        blob.attributes(attrs);
        blob.put();
    }

    /// A medium with a content of its own, in the blob of its number.
    pub fn medium(&self, ino: u64, parent: u64, name: &[u8], content: &[u8]) {
        let mut blob = self.blob(ino);
        let mut attrs = attributes(ino, FileKind::Regular, parent, name);
        attrs.end = Some(blob.content(content));
        blob.attributes(&attrs);
        blob.put();
    }

    /// Where a blob's file is.
    pub fn blob_path(&self, number: u64) -> PathBuf {
        self.store.join(format!("blobs/{:013x}/{number:016x}", number >> 12))
    }

    /// A journal with these records.
    pub fn journal(&self, generation: u64, first_new_blob: u64, records: &[Record]) {
        let header = JournalHeader { volume: self.volume, generation, first_new_blob };
        let key = self.key.index_key(self.suite, self.volume);
        let mut bytes = Vec::new();
        for body in std::iter::once(header.encode()).chain(records.iter().map(|record| record.encode().to_vec())) {
            let position = bytes.len() as u64;
            let code = key.mac(&[&self.volume.0, &generation.to_le_bytes(), &position.to_le_bytes(), &body]);
            bytes.extend_from_slice(&body);
            bytes.extend_from_slice(&code);
        }
        fs::write(self.store.join(format!("journal.{generation:016x}")), bytes).unwrap();
    }

    /// A policy of these bytes, in both copies.
    pub fn policy(&self, json: &[u8]) {
        let key = self.key.sub_key(self.suite, self.volume, "policy");
        let mut bytes = json.to_vec();
        let tag = key.seal(&[9; 24], &[b"wamedia policy 1".as_slice(), &self.volume.0].concat(), &mut bytes);
        for name in ["policy", "policy.bak"] {
            fs::write(self.store.join(name), [&[9; 24], bytes.as_slice(), &tag].concat()).unwrap();
        }
    }
}

/// A blob on its way.
pub struct ForgedBlob<'a> {
    forge: &'a Forge,
    id: BlobId,
    key: BlobKey,
    /// What it has so far.
    pub bytes: Vec<u8>,
    /// How many frames that is.
    pub frames: u64,
}

impl ForgedBlob<'_> {
    /// Seals a frame of any payload behind the others; gives its offset and number.
    pub fn frame(&mut self, kind: FrameKind, chunk: u64, payload: &[u8]) -> (u64, u64) {
        let (offset, number) = (self.bytes.len() as u64, self.frames);
        let len = u32::try_from(payload.len()).unwrap();
        let head = Head { kind, len, number, chunk, nonce: [number as u8; 24] };
        let aad = head.aad(self.forge.suite as u8, self.forge.volume, self.id, offset);
        let mut sealed = payload.to_vec();
        let tag = self.key.seal(&head.nonce, &aad, &mut sealed);
        self.bytes.extend_from_slice(&head.encode());
        self.bytes.extend_from_slice(&sealed);
        self.bytes.extend_from_slice(&tag);
        self.frames += 1;
        assert_eq!(self.bytes.len() as u64, offset + head.frame_len());
        assert_eq!(HEAD_LEN, 48);
        (offset, number)
    }

    /// An end frame of any payload that tells of `content_len` bytes; where it is.
    pub fn end(&mut self, payload: &[u8], content_len: u64) -> EndRef {
        let (offset, frame) = self.frame(FrameKind::End, 0, payload);
        EndRef { offset, len: payload.len() as u32, frame, content_len, allocated: content_len.min(1 << 46) }
    }

    /// A content front to back; where its end frame is.
    pub fn content(&mut self, content: &[u8]) -> EndRef {
        let mut all = Content { len: content.len() as u64, ..Content::default() };
        for (chunk, part) in (0..).zip(content.chunks(CHUNK_LEN)) {
            let (offset, frame) = self.frame(FrameKind::Data, chunk, part);
            all.map.set(chunk, 1, Some(wamedia::format::content::Place::Stored { offset, frame }));
        }
        self.end(&all.encode(), content.len() as u64)
    }

    /// An attribute frame with its trailer.
    pub fn attributes(&mut self, attrs: &Attributes) {
        self.attributes_as(&attrs.encode());
    }

    /// An attribute frame of any payload with its trailer.
    pub fn attributes_as(&mut self, payload: &[u8]) {
        self.frame(FrameKind::Attributes, 0, payload);
        self.bytes.extend_from_slice(&encode_trailer(payload.len() as u32));
    }

    /// Writes it into the store.
    pub fn put(&self) {
        let path = self.forge.blob_path(self.id.0);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &self.bytes).unwrap();
    }
}

/// An inode with one name, whose link has its own number and that of its frame twice that.
pub fn attributes(ino: u64, kind: FileKind, parent: u64, name: &[u8]) -> Attributes {
    let mut attrs = Attributes::new(Ino(ino), kind, Timestamp { secs: 1_700_000_000, nanos: 0 });
    (attrs.mode, attrs.seq) = (0o755, 1000 + 2 * ino);
    attrs.links.push(Link { parent: Ino(parent), id: 1001 + 2 * ino, name: name.to_vec(), swapped: None });
    if kind == FileKind::Symlink {
        attrs.target = Some(b"nowhere".to_vec());
    }
    attrs
}
