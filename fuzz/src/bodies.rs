//! What each fuzz target does with the bytes it is given. The fuzzer and the replay of the corpus call the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation
)]

use std::io::{Cursor, Write};
use std::os::fd::AsRawFd;

use rustix::fs::{MemfdFlags, memfd_create};
use sha2::{Digest, Sha256};
use wamedia::crypto::KeySource;
use wamedia::format::attributes::{Attributes, is_name};
use wamedia::format::codec::{Reader, Writer};
use wamedia::format::content::{Content, Place};
use wamedia::format::frame::{HEAD_LEN, HEADER_BODY_LEN, Head, Header, decode_trailer, encode_trailer};
use wamedia::format::geometry::MAX_FILE_LEN;
use wamedia::format::journal::{JournalHeader, Record};
use wamedia::format::superblock::{SUPERBLOCK_BYTES, Superblock, pick};
use wamedia::ids::MediaId;
use wamedia::index::schema;
use wamedia::{cli, control, fs, index, media, volume};

use crate::script;

type Body = fn(&[u8]);

/// Every target.
pub const TARGETS: [(&str, Body); 13] = [
    ("superblock", superblock),
    ("frames", frames),
    ("content", content),
    ("attributes", attributes),
    ("journal", journal),
    ("recovery", script::recovery),
    ("policy", policy),
    ("index", index_values),
    ("names", names),
    ("media", media_parsers),
    ("values", values),
    ("keys", keys),
    ("control", control_lines),
];

/// Does what the target of this name does.
pub fn run(target: &str, bytes: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target of this name");
    body(bytes);
}

/// Two copies of a superblock; each also with magic and checksum put right, so that what is behind them is reached.
fn superblock(bytes: &[u8]) {
    let mut copies = bytes.to_vec();
    copies.resize(2 * SUPERBLOCK_BYTES, 0);
    for mended in [false, true] {
        for copy in copies.chunks_exact_mut(SUPERBLOCK_BYTES) {
            if mended {
                copy[..8].copy_from_slice(b"wamedia\n");
                let sum = Sha256::digest(&copy[..SUPERBLOCK_BYTES - 32]);
                copy[SUPERBLOCK_BYTES - 32..].copy_from_slice(&sum);
            }
            if let Ok(read) = Superblock::decode(copy) {
                assert_eq!(&read.encode()[..], copy, "a superblock is written as it was read");
            }
        }
        let (first, second) = copies.split_at(SUPERBLOCK_BYTES);
        for pair in [[Some(first), Some(second)], [Some(first), None], [None, Some(second)], [Some(bytes), Some(first)]]
        {
            let _either = pick(pair);
        }
    }
}

fn frames(bytes: &[u8]) {
    if let Ok(header) = Header::decode(bytes) {
        assert_eq!(header.encode()[..], bytes[..HEADER_BODY_LEN]);
    }
    if let Ok(head) = Head::decode(bytes) {
        assert_eq!(head.encode()[..], bytes[..HEAD_LEN]);
        assert!(head.frame_len() < 5 << 20);
        let _bound = head.aad(1, wamedia::ids::VolumeId([0; 16]), wamedia::ids::BlobId(1), u64::MAX);
    }
    if let Ok(len) = decode_trailer(bytes) {
        assert_eq!(encode_trailer(len)[..], bytes[..16]);
    }
    let mut reader = Reader::new(bytes);
    while let Ok(number) = reader.var("a number") {
        let mut writer = Writer::new();
        writer.var(number);
        assert_eq!(Reader::new(&writer.finish()).var("the same"), Ok(number));
    }
}

/// An end frame behind the place that the first 16 bytes tell.
fn content(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let (Ok(offset), Ok(frame)) = (reader.number("offset"), reader.number("frame")) else { return };
    let payload = reader.rest();
    let Ok(mut read) = Content::decode(payload, offset, frame) else { return };
    assert_eq!(read.encode(), payload, "a content is written as it was read");
    assert!(read.len <= MAX_FILE_LEN && read.map.stored_chunks() <= read.map.allocated_chunks());
    assert!(read.map.stretches() <= read.map.runs().len());
    for run in read.map.runs().to_vec() {
        for chunk in [run.first, run.first + run.count / 2, run.first + run.count - 1, run.first + run.count] {
            if let Some(Place::Stored { offset: at, frame: number }) = read.map.find(chunk) {
                assert!(at < offset && number < frame, "a chunk lies before its end frame");
            }
            let _next = read.map.run_from(chunk);
        }
        read.map.set(run.first + run.count / 2, 1, None);
    }
    let _shorter = read.encode();
}

fn attributes(bytes: &[u8]) {
    if let Ok(read) = Attributes::decode(bytes) {
        let again = Attributes::decode(&read.encode());
        assert_eq!(again.as_ref(), Ok(&read), "attributes are written as they were read");
        assert!(read.links.iter().all(|link| is_name(&link.name)));
    }
}

fn journal(bytes: &[u8]) {
    if let Ok(header) = JournalHeader::decode(bytes) {
        assert!(bytes.starts_with(&header.encode()));
    }
    for chunk in bytes.chunks(24) {
        if let Ok(record) = Record::decode(chunk) {
            assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }
}

fn policy(bytes: &[u8]) {
    if let Ok(read) = serde_json::from_slice::<volume::Policy>(bytes) {
        let text = serde_json::to_vec(&read).unwrap();
        assert_eq!(serde_json::from_slice::<volume::Policy>(&text).unwrap(), read);
    }
}

fn index_values(bytes: &[u8]) {
    let _either = volume::decode_index_values(bytes);
    let _either = index::decode_page(bytes);
    let _either = (schema::parse_inode(bytes), schema::parse_entry(bytes), schema::parse_name(bytes));
    let _either = (schema::parse_id(bytes), schema::parse_age(bytes), schema::parse_mime(bytes));
    if let Some(end) = schema::after(bytes) {
        assert!(&end[..] > bytes);
    }
}

fn names(bytes: &[u8]) {
    if let Some(id) = MediaId::parse(bytes) {
        let [first, second, rest] = id.shared_path();
        assert_eq!(MediaId::from_shared_path(first.as_bytes(), second.as_bytes(), rest.as_bytes()), Some(id));
    }
    for name in bytes.split(|byte| *byte == b'/') {
        let is_plain = !name.is_empty() && name != b"." && name != b"..";
        assert_eq!(is_name(name), is_plain && name.len() < 256 && !name.contains(&0));
    }
    let parts: Vec<_> = bytes.splitn(3, |byte| *byte == b'/').collect();
    if let [first, second, rest] = parts[..] {
        let _either = MediaId::from_shared_path(first, second, rest);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _extension = media::extension(text);
        assert!(media::limit(media::kind_of(text)) > 0);
        let _either = (media::Kind::parse(text), cli::values::directory(text));
    }
}

/// The first byte says how much longer than its bytes a medium claims to be, and how it is named.
fn media_parsers(bytes: &[u8]) {
    let Some((first, medium)) = bytes.split_first() else { return };
    let names: [Option<&[u8]>; 4] = [None, Some(b"x.csv"), Some(b"x.doc"), Some(b"\xff.")];
    let name = names[usize::from(first & 3)];
    let more = [0, 1, 1 << 20, 1 << 45][usize::from(first >> 2 & 3)];
    let len = medium.len() as u64 + more;
    let sniffed = media::sniff(&medium[..medium.len().min(media::SNIFF_BYTES)], len, name);
    assert!(sniffed.contains('/'));
    if let Ok(facts) = media::inspect(Cursor::new(medium), len, name) {
        assert!(facts.mime.contains('/') && media::kind_of(&facts.mime) == facts.kind);
    }
}

fn values(bytes: &[u8]) {
    use cli::values::{
        count_limit, directory, duration, keep, mime_pattern, prefix_rule, reserve, size, size_limit, type_rule,
    };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _either = (size(text), size_limit(text), count_limit(text), keep(text));
    let _either = (reserve(text), directory(text), prefix_rule(text), type_rule(text));
    if let Ok(time) = duration(text) {
        let _shown = wamedia::clock::short(time);
    }
    if let Ok(pattern) = mime_pattern(text) {
        assert_eq!(mime_pattern(&pattern).as_ref(), Ok(&pattern), "a type reads back as it is shown");
    }
    let _either = fs::MountOptions::parse(&[text]);
}

/// What an operator's key or passphrase file may hold.
fn keys(bytes: &[u8]) {
    let mut file = std::fs::File::from(memfd_create("key", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    for read in [KeySource::key_file, KeySource::passphrase_file] {
        if let Err(refused) = read(path.as_ref()) {
            let said = refused.to_string();
            assert!(said.starts_with("key file") || said.starts_with("passphrase file"), "{said}");
        }
    }
}

fn control_lines(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<control::Request>(bytes) {
        let _kind = (request.is_change(), serde_json::to_vec(&request).unwrap());
    }
    let _either = serde_json::from_slice::<control::Hello>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(cursor) = control::message::cursor_bytes(text)
    {
        assert_eq!(control::message::cursor_bytes(&control::message::cursor_text(&cursor)).unwrap(), cursor);
    }
}
