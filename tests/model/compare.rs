//! The whole volume against the whole model.

use std::collections::BTreeMap;

use wamedia::ids::Ino;
use wamedia::volume::{Attr, Volume};

use crate::support::patterns::assert_same;
use crate::support::tree::digest;
use crate::tree::{Attrs, Id, Model, ROOT};

/// Entries asked for at once, so that listings go on in the middle.
const PAGE: usize = 3;

pub fn bytes_of(volume: &Volume, id: Id) -> Vec<u8> {
    let file = volume.open_medium(Ino(id)).unwrap();
    let len = volume.getattr(Ino(id)).unwrap().size as usize;
    let mut bytes = vec![0xEE; len + 1];
    let got = volume.read(&file, 0, &mut bytes).unwrap();
    volume.close(file);
    bytes.truncate(got);
    bytes
}

/// Everything that a name or a handle leads to.
pub fn whole(volume: &Volume, model: &mut Model, when: &str) {
    adopt_times(volume, model);
    let model = &*model;
    let mut seen = 0;
    for (id, node) in model.nodes.iter().filter(|(id, node)| node.is_named(**id)) {
        inode(volume, model, *id, when);
        if node.is_dir() {
            seen += directory(volume, model, *id, when);
        }
    }
    assert_eq!(seen, model.entries().len());
    for (id, node) in model.nodes.iter().filter(|(id, node)| !node.is_named(**id)) {
        attributes(model, *id, &volume.getattr(Ino(*id)).unwrap(), when);
        assert_same(&bytes_of(volume, *id), &node.content.bytes, &format!("{when}: the nameless inode {id}"));
    }
    totals(volume, model, when);
    expired(volume, model, when);
}

/// The times of directories after a crash are those of some moment before.
fn adopt_times(volume: &Volume, model: &mut Model) {
    let unknown: Vec<Id> = model.nodes.iter().filter(|(_, node)| node.times_unknown).map(|(id, _)| *id).collect();
    for id in unknown {
        let attr = volume.getattr(Ino(id)).unwrap();
        let node = model.node_mut(id);
        (node.attrs.mtime, node.attrs.ctime, node.times_unknown) = (attr.mtime, attr.ctime, false);
    }
}

fn directory(volume: &Volume, model: &Model, id: Id, when: &str) -> usize {
    let mut found = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = volume.readdir(Ino(id), after, PAGE, true).unwrap();
        let Some(last) = page.last() else { break };
        after = last.cookie;
        for entry in page {
            assert_eq!(entry.attr, Some(volume.getattr(entry.ino).unwrap()), "{when}: attributes in a listing");
            assert_eq!(entry.kind, model.get(entry.ino.0).kind, "{when}: kind in a listing");
            assert_eq!(found.insert(entry.name, entry.ino.0), None, "{when}: a name is listed twice");
        }
    }
    assert_eq!(found, model.get(id).children, "{when}: directory {id}");
    for (name, child) in &found {
        assert_eq!(volume.lookup(Ino(id), name).unwrap().ino, Ino(*child), "{when}: {name:?}");
    }
    found.len()
}

/// What `stat` shows. Access times are left out: "kept to a day".
pub fn attributes(model: &Model, id: Id, found: &Attr, when: &str) {
    let node = model.get(id);
    let size = if node.is_medium() { node.content.len() } else { node.target.len() as u64 };
    let there = (found.kind, found.mode, found.uid, found.gid, found.rdev, found.nlink, found.size, found.blocks);
    let wanted = (node.kind, node.attrs.mode, node.attrs.uid, node.attrs.gid, node.rdev, model.nlink(id), size);
    let blocks = node.content.charge().div_ceil(512);
    let (a, b, c, d, e, f, g) = wanted;
    assert_eq!(there, (a, b, c, d, e, f, g, blocks), "{when}: kind, mode, owner, device, links, size, blocks of {id}");
    if !node.times_unknown {
        assert_eq!((found.mtime, found.ctime), (node.attrs.mtime, node.attrs.ctime), "{when}: times of {id}");
    }
}

/// The attributes of an inode as the model has them.
pub fn read_attrs(volume: &Volume, id: Id) -> Attrs {
    let attr = volume.getattr(Ino(id)).unwrap();
    let mut attrs = Attrs {
        mode: attr.mode,
        uid: attr.uid,
        gid: attr.gid,
        mtime: attr.mtime,
        ctime: attr.ctime,
        xattrs: BTreeMap::new(),
        mime: None,
        held: None,
        retention: None,
    };
    let is_medium = attr.kind == wamedia::volume::FileKind::Regular;
    for name in volume.list_xattr(Ino(id)).unwrap() {
        let value = volume.get_xattr(Ino(id), &name);
        let value = value.unwrap_or_else(|e| panic!("{} of {id} is listed: {e:?}", String::from_utf8_lossy(&name)));
        let text = || String::from_utf8(value.clone()).unwrap();
        match name.as_slice() {
            b"user.wamedia.hold" => {
                let secs = text().parse::<jiff::Timestamp>().unwrap().as_second();
                attrs.held = Some(wamedia::clock::Timestamp { secs, nanos: 0 });
            }
            b"user.wamedia.retention" if value == b"forever" => attrs.retention = Some(u64::MAX),
            b"user.wamedia.retention" => {
                attrs.retention = Some(humantime::parse_duration(&text()).unwrap().as_secs());
            }
            b"user.mime_type" if is_medium => attrs.mime = Some(value),
            _ => assert_eq!(attrs.xattrs.insert(name, value), None),
        }
    }
    attrs
}

fn inode(volume: &Volume, model: &Model, id: Id, when: &str) {
    let node = model.get(id);
    attributes(model, id, &volume.getattr(Ino(id)).unwrap(), when);
    assert_eq!(read_attrs(volume, id), node.attrs, "{when}: attributes of {id}");
    if node.is_medium() {
        assert_same(&bytes_of(volume, id), &node.content.bytes, &format!("{when}: inode {id}"));
        let found = volume.get_xattr(Ino(id), b"user.wamedia.sha256").unwrap();
        assert_eq!(String::from_utf8(found).unwrap(), digest(&node.content.bytes), "{when}: digest of {id}");
    } else if !node.target.is_empty() {
        assert_eq!(volume.readlink(Ino(id)).unwrap(), node.target, "{when}: target of {id}");
    }
}

fn totals(volume: &Volume, model: &Model, when: &str) {
    let status = volume.status().unwrap();
    assert_eq!(status.state, "ok");
    let expired = model.expired();
    let bytes: u64 = expired.iter().map(|id| model.get(*id).content.len()).sum();
    let held = model.nodes.values().filter(|node| !node.names.is_empty() && node.attrs.held.is_some()).count();
    let (used, media) = model.used();
    let found = (status.used_bytes, status.media, status.directories, status.held);
    let wanted = (used, media, model.directories().len() as u64, held as u64);
    assert_eq!(found, wanted, "{when}: bytes, media, directories, held media");
    let found = (status.expired, status.expired_bytes);
    assert_eq!(found, (expired.len() as u64, bytes), "{when}: expired media, their bytes; expired are {expired:?}");
}

fn expired(volume: &Volume, model: &Model, when: &str) {
    let mut found = Vec::new();
    let mut after = Vec::new();
    loop {
        let page = volume.expired(&after, PAGE).unwrap();
        let Some(last) = page.last() else { break };
        after.clone_from(&last.cursor);
        found.extend(page);
    }
    let mut inos: Vec<Id> = found.iter().map(|entry| entry.ino.0).collect();
    inos.sort_unstable();
    assert_eq!(inos, model.expired(), "{when}: .expired");
    for entry in &found {
        let twins = found.iter().filter(|other| other.id == entry.id).count();
        // "Of two files whose names are the same UUID the older one is found by it."
        if twins == 1 && model.nodes.values().filter(|n| n.names.iter().any(|(_, n)| is_id(n))).count() < 2 {
            assert_eq!(volume.expired_by_name(&entry.name).unwrap().ino, entry.ino, "{when}: by name");
        }
    }
}

fn is_id(name: &[u8]) -> bool {
    name.len() == 36
}

/// After a crash: takes of what the model allows what is there, or fails.
pub fn settle(volume: &Volume, model: &mut Model, when: &str) {
    let media: Vec<Id> = model.nodes.iter().filter(|(id, _)| **id != ROOT).map(|(id, _)| *id).collect();
    for id in media {
        let is_dir = model.get(id).is_dir();
        let mut attrs = volume
            .getattr(Ino(id))
            .map(|_| read_attrs(volume, id))
            .unwrap_or_else(|e| panic!("{when}: inode {id} is gone: {e:?}; its names were {:?}", model.get(id).names));
        let node = model.node_mut(id);
        if is_dir {
            (attrs.mtime, attrs.ctime) = (node.attrs.mtime, node.attrs.ctime);
        }
        let allowed = &node.kept.attrs;
        let is_allowed = if is_dir { attrs == node.attrs } else { allowed.contains(&attrs) };
        assert!(is_allowed, "{when}: attributes of {id}:\nfound   {attrs:?}\nallowed {allowed:?}");
        node.attrs = attrs;
        if node.is_medium() {
            let found = bytes_of(volume, id);
            let blocks = volume.getattr(Ino(id)).unwrap().blocks;
            let is_it = |c: &&crate::content::Content| c.bytes == found && c.charge().div_ceil(512) == blocks;
            let content = node.kept.contents.iter().find(is_it).cloned();
            node.content = content.unwrap_or_else(|| {
                let allowed = &node.kept.contents;
                panic!("{when}: content of {id}: {} bytes, {blocks} blocks; allowed are {allowed:?}", found.len())
            });
        }
        model.commit(id);
    }
}
