//! What the parsers of media ask the allocator for: never what a file merely claims.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use walkdir::WalkDir;
use wamedia::media::inspect;

const MIB: usize = 1024 * 1024;

/// What one examination may hold at any moment: `inspect`'s own promise.
const MOST: usize = 64 * MIB;

/// More than this is refused, so that what a machine would promise does not matter.
const REFUSED: usize = 1024 * MIB;

/// The system's allocator, which counts. What it refuses it counts as held at that moment.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator is unsafe by nature")]
// SAFETY: all is left to the system's allocator, save that much is answered with null, which any allocator may do.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(held, Ordering::Relaxed);
        if layout.size() > REFUSED {
            HELD.fetch_sub(layout.size(), Ordering::Relaxed);
            return ptr::null_mut();
        }
        // SAFETY: the caller's own promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's own promises; it was the system's allocator that gave this.
        unsafe { System.dealloc(place, layout) };
    }
}

/// Examines a file of these bytes; how much was held at most meanwhile, or asked for in vain.
fn peak_of(bytes: &[u8]) -> usize {
    let before = HELD.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let _ = inspect(Cursor::new(bytes), bytes.len() as u64, None).unwrap();
    PEAK.load(Ordering::Relaxed) - before
}

/// A box of ISO 14496-12.
fn boxed(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len() + 8).unwrap();
    [&size.to_be_bytes(), name, content].concat()
}

/// The same with its size behind the name, in eight bytes; `size` is what it claims.
fn wide(name: &[u8; 4], size: u64, content: &[u8]) -> Vec<u8> {
    [&1u32.to_be_bytes(), &name[..], &size.to_be_bytes(), content].concat()
}

fn film(index: &[u8]) -> Vec<u8> {
    [boxed(b"ftyp", b"isom\0\0\0\0"), boxed(b"moov", index), boxed(b"mdat", b"samples")].concat()
}

/// A track of this kind of handler with one description, of this name and so many bytes, in which `inner` stands.
fn described(handler: &[u8; 4], name: &[u8; 4], head_bytes: usize, inner: &[u8]) -> Vec<u8> {
    let handler = boxed(b"hdlr", &[&[0; 8], &handler[..], &[0; 13]].concat());
    let entry = boxed(name, &[&vec![0; head_bytes], inner].concat());
    let table = boxed(b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1], &entry[..]].concat());
    boxed(b"trak", &boxed(b"mdia", &[handler, boxed(b"minf", &boxed(b"stbl", &table))].concat()))
}

fn track_with(table: &[u8]) -> Vec<u8> {
    boxed(b"trak", &boxed(b"mdia", &boxed(b"minf", &boxed(b"stbl", table))))
}

/// Makes an index around a box.
type Around = fn(&[u8]) -> Vec<u8>;

/// The boxes whose length the parser makes room for, each with what stands around it.
fn lengths_believed() -> [(&'static [u8; 4], Around); 8] {
    [
        (b"auxl", |claim| boxed(b"trak", &boxed(b"tref", claim))),
        (b"hdlr", |claim| boxed(b"trak", &boxed(b"mdia", claim))),
        (b"avcC", |claim| described(b"vide", b"avc1", 78, claim)),
        (b"av1C", |claim| described(b"vide", b"av01", 78, claim)),
        (b"d263", |claim| described(b"vide", b"s263", 78, claim)),
        (b"esds", |claim| described(b"vide", b"mp4v", 78, claim)),
        (b"esds", |claim| described(b"soun", b"mp4a", 28, claim)),
        (b"damr", |claim| described(b"soun", b"samr", 28, claim)),
    ]
}

/// Films whose index claims far more than it has.
fn liars() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    // 2^32 - 1 is refused by most machines; the others some would promise.
    for count in [u32::MAX, 1 << 29, 1 << 24] {
        let count_first = [&[0; 4][..], &count.to_be_bytes()].concat();
        let count_second = [&[0; 8][..], &count.to_be_bytes()].concat();
        for name in [b"co64", b"ctts", b"elst", b"stco", b"stsc", b"stsd", b"stss", b"stsz", b"stts"] {
            let content = if name == b"stsz" { &count_second } else { &count_first };
            let around = |table: &[u8]| match name {
                b"elst" => boxed(b"trak", &boxed(b"edts", table)),
                _ => track_with(table),
            };
            let swollen = [&u32::MAX.to_be_bytes(), &name[..], content].concat();
            let wide = wide(name, 1 << 40, content);
            for (how, table) in [("narrow", boxed(name, content)), ("swollen", swollen), ("wide", wide)] {
                let label = format!("{} of {count} entries, {how}", name.escape_ascii());
                found.push((label, film(&around(&table))));
            }
        }
        let keys = [&[1, 0, 0, 0][..], &[0; 16], &count.to_be_bytes()].concat();
        found.push((format!("pssh of {count} keys"), film(&boxed(b"pssh", &keys))));
        for (name, around) in lengths_believed() {
            let content = [0; 24];
            let narrow = [&count.to_be_bytes()[..], name, &content].concat();
            for (how, claim) in [("narrow", narrow), ("wide", wide(name, u64::from(count), &content))] {
                found.push((format!("{} of {count} bytes, {how}", name.escape_ascii()), film(&around(&claim))));
            }
        }
    }
    // A million empty descriptions, each of which the parser turns into some hundred bytes.
    let many = boxed(b"abcd", b"").repeat(7 * MIB / 8);
    let content = [&[0; 4][..], &u32::MAX.to_be_bytes(), &many].concat();
    let few_in_its_low_half = wide(b"stsd", 0x2_0000_0010, &[&[0; 4][..], &(1u32 << 20).to_be_bytes(), &many].concat());
    found.push(("a million descriptions".into(), film(&track_with(&boxed(b"stsd", &content)))));
    found.push(("a million descriptions, wide".into(), film(&track_with(&few_in_its_low_half))));
    found
}

/// The samples, each with its path.
fn samples() -> Vec<(String, Vec<u8>)> {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/media");
    let files = WalkDir::new(samples).into_iter().map(Result::unwrap).filter(|entry| entry.file_type().is_file());
    files.map(|entry| (entry.path().display().to_string(), fs::read(entry.path()).unwrap())).collect()
}

/// The samples that are films or MP4 sound, each with every four bytes of its index in turn claiming much.
fn greatest_peak_of_swollen_indexes() -> (usize, String) {
    let mut greatest = (0, String::new());
    let mut tried = 0;
    for (path, mut bytes) in samples() {
        let Some(moov) = bytes.windows(4).position(|name| name == b"moov") else { continue };
        let size = u32::from_be_bytes(bytes[moov - 4..moov].try_into().unwrap());
        let end = (moov - 4 + usize::try_from(size).unwrap()).min(bytes.len());
        for at in moov + 4..end - 4 {
            let true_ones: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
            for claim in [u32::MAX, 1 << 26] {
                bytes[at..at + 4].copy_from_slice(&claim.to_be_bytes());
                let peak = peak_of(&bytes);
                tried += 1;
                if peak > greatest.0 {
                    greatest = (peak, format!("{path}: {claim} at {at}"));
                }
            }
            bytes[at..at + 4].copy_from_slice(&true_ones);
        }
    }
    assert!(tried > 10_000, "only {tried} indexes were tried");
    println!("{tried} indexes with a swollen number");
    greatest
}

#[test]
fn no_file_makes_the_parsers_ask_for_what_it_merely_claims() {
    let mut peaks: Vec<_> = liars().into_iter().map(|(label, bytes)| (peak_of(&bytes), label)).collect();
    for (label, bytes) in samples() {
        let peak = peak_of(&bytes);
        assert!(peak > 0, "{label}: nothing was counted");
        peaks.push((peak, label));
    }
    peaks.push(greatest_peak_of_swollen_indexes());
    peaks.sort_unstable();
    for (peak, label) in &peaks {
        println!("{peak:>14} bytes: {label}");
    }
    let greedy: Vec<_> = peaks.iter().filter(|(peak, _)| *peak > MOST).collect();
    assert!(greedy.is_empty(), "{greedy:#?}");
}
