//! MP4 and 3GP: which tracks there are, how they are coded, and whether the file is whole.

use std::io::{Read, Seek};

use mp4parse::{CodecType, MediaContext, SampleEntry, Track, TrackType};

use super::shield::shield;
use super::verdict::Reason;
use super::window::Window;

/// How many boxes are walked at the top of a file; a fragmented film has two for every second or so.
const MAX_BOXES: u32 = 4096;

/// The largest index that is read. One of a film within its limit has some ten or a hundred KiB, and rarely some
/// MiB of cover picture.
const MAX_INDEX_BYTES: u64 = 8 * 1024 * 1024;

/// How many tracks, ways of coding one, or protections an index may have: the parser spends half a KiB on an empty
/// box of eight bytes.
const MAX_PARTS: u32 = 256;

/// The tables of a track, for whose entries the parser makes room before it reads them: the name, where the number of
/// entries stands in the box, and how many bytes of it an entry takes at least (ISO 14496-12, sections 8.5 to 8.7).
const TABLES: [([u8; 4], usize, u64); 9] = [
    (*b"co64", 12, 8),
    (*b"ctts", 12, 8),
    (*b"elst", 12, 12),
    (*b"stco", 12, 4),
    (*b"stsc", 12, 12),
    (*b"stsd", 12, 8),
    (*b"stss", 12, 4),
    (*b"stsz", 16, 4),
    (*b"stts", 12, 8),
];

/// The largest `esds` box that is handed to the parser, which recurses within it.
const MAX_DESCRIPTOR_BYTES: usize = 4096;

/// The largest `dfLa` box that is handed to the parser, which makes a list of its blocks of four bytes.
const MAX_FLAC_BYTES: usize = 64 * 1024;

/// What stands at the top of a file. Of the index only the tracks are kept.
#[derive(Default)]
struct Outline {
    brand: [u8; 4],
    index: Option<Vec<u8>>,
    has_samples: bool,
    is_cut: bool,
}

/// The type of the file in `window`, told by its tracks; by its brand where they can not be read.
pub(super) fn mime<R: Read + Seek>(window: &mut Window<R>, found: &'static str) -> &'static str {
    let outline = outline(window);
    let tracks = outline.index.as_deref().and_then(tracks);
    match (&outline.brand, tracks) {
        ([b'3', b'g', ..], tracks) if found == "video/3gpp" => match tracks {
            Some(tracks) if !has(&tracks, &TrackType::Video) => "audio/3gpp",
            _ => "video/3gpp",
        },
        // These may have a cover picture as a video track.
        ([b'M', b'4', b'A' | b'B' | b'P', _], _) => "audio/mp4",
        (_, Some(tracks)) if has(&tracks, &TrackType::Video) => "video/mp4",
        (_, Some(tracks)) if has(&tracks, &TrackType::Audio) => "audio/mp4",
        (_, Some(_)) => "application/mp4",
        (_, None) if found == "audio/mp4" => "audio/mp4",
        (_, None) => "video/mp4",
    }
}

/// `Damaged` unless the index and all samples are there; for video, the first codec rule that is broken.
pub(super) fn fault<R: Read + Seek>(window: &mut Window<R>, mime: &str) -> Option<Reason> {
    let outline = outline(window);
    if outline.is_cut || !outline.has_samples {
        return Some(Reason::Damaged);
    }
    let Some(tracks) = outline.index.as_deref().and_then(tracks) else {
        return Some(Reason::Damaged);
    };
    if mime.starts_with("video/") { codec_fault(&tracks) } else { None }
}

fn codec_fault(tracks: &[Track]) -> Option<Reason> {
    let of = |kind| tracks.iter().filter(move |track| track.track_type == kind);
    if !of(TrackType::Video).all(|track| is_coded(track, CodecType::H264)) {
        Some(Reason::VideoCodecNotH264)
    } else if !of(TrackType::Audio).all(|track| is_coded(track, CodecType::AAC)) {
        Some(Reason::AudioCodecNotAac)
    } else if of(TrackType::Audio).count() > 1 {
        Some(Reason::MoreThanOneAudioStream)
    } else {
        None
    }
}

fn has(tracks: &[Track], kind: &TrackType) -> bool {
    tracks.iter().any(|track| track.track_type == *kind)
}

fn is_coded(track: &Track, codec: CodecType) -> bool {
    let descriptions = track.stsd.iter().flat_map(|table| table.descriptions.iter());
    let mut codecs = descriptions.map(|entry| match entry {
        SampleEntry::Video(video) => video.codec_type,
        SampleEntry::Audio(audio) => audio.codec_type,
        SampleEntry::Unknown => CodecType::Unknown,
    });
    codecs.next() == Some(codec) && codecs.all(|other| other == codec)
}

/// Walks the boxes at the top: ISO 14496-12, section 4.2.
fn outline<R: Read + Seek>(window: &mut Window<R>) -> Outline {
    let mut outline = Outline::default();
    let mut at = 0;
    for _ in 0..MAX_BOXES {
        let Some((name, end)) = header(window, at) else {
            break;
        };
        let is_needed = matches!(&name, b"moov" | b"moof" | b"mdat");
        if end > window.len() {
            outline.is_cut |= is_needed;
            break;
        }
        match &name {
            b"ftyp" => outline.brand = window.array_at(at.saturating_add(8)).unwrap_or_default(),
            b"moov" => outline.index = index(window, at, end),
            b"moof" | b"mdat" => outline.has_samples = true,
            _ => {}
        }
        at = end;
    }
    outline
}

/// The name of the box at `at` and the offset of its end; `None` where there is no box.
fn header<R: Read + Seek>(window: &mut Window<R>, at: u64) -> Option<([u8; 4], u64)> {
    let [a, b, c, d, name @ ..] = window.array_at::<8>(at).ok()?;
    let size = match u32::from_be_bytes([a, b, c, d]) {
        0 => window.len().checked_sub(at)?,
        1 => u64::from_be_bytes(window.array_at(at.checked_add(8)?).ok()?),
        size => u64::from(size),
    };
    if size < 8 {
        return None;
    }
    Some((name, at.saturating_add(size)))
}

fn index<R: Read + Seek>(window: &mut Window<R>, at: u64, end: u64) -> Option<Vec<u8>> {
    let size = end.checked_sub(at).filter(|&size| size <= MAX_INDEX_BYTES)?;
    tracks_alone(&window.bytes_at(at, usize::try_from(size).ok()?).ok()?)
}

/// An index with the tracks of this one and nothing else: cover pictures and protections would only be copied, and
/// could be taken for boxes. `None` when its boxes do not fit into it.
fn tracks_alone(index: &[u8]) -> Option<Vec<u8>> {
    let mut kept = vec![0, 0, 0, 0, b'm', b'o', b'o', b'v'];
    // A size of 1 says that the true one is in the eight bytes behind the name.
    let mut rest = index.get(if index.starts_with(&[0, 0, 0, 1]) { 16 } else { 8 }..)?;
    while let Some(name) = rest.get(4..8) {
        let size = match u32_at(rest, 0)? {
            1 => u64_at(rest, 8)?,
            size => u64::from(size),
        };
        let (child, behind) = rest.split_at_checked(usize::try_from(size).ok()?)?;
        if child.len() < 8 {
            return None;
        }
        if name == b"trak" {
            kept.extend_from_slice(child);
        }
        rest = behind;
    }
    let size = u32::try_from(kept.len()).ok()?;
    kept.iter_mut().zip(size.to_be_bytes()).for_each(|(digit, known)| *digit = known);
    Some(kept)
}

/// The tracks of an index; `None` when it is none to give to the parser, or the parser makes no sense of it.
fn tracks(index: &[u8]) -> Option<Vec<Track>> {
    if !is_modest(index) {
        return None;
    }
    let parsed = shield(|| mp4parse::read_mp4(&mut &*index).ok()).flatten();
    parsed.map(|MediaContext { tracks, .. }| tracks.into_iter().collect())
}

/// Whether nothing in an index would make the parser recurse deeply or ask for far more memory than the index has.
///
/// Boxes are recognised by their names alone, wherever these stand, so that none can hide.
fn is_modest(index: &[u8]) -> bool {
    let mut parts = 0;
    (0..index.len()).all(|at| {
        let found = index.get(at..).unwrap_or_default();
        match found.get(4..8) {
            Some(b"esds") => is_within(found, MAX_DESCRIPTOR_BYTES),
            Some(b"dfLa") => is_within(found, MAX_FLAC_BYTES),
            // The parser makes room for all that the length of these says.
            Some(b"auxl" | b"av1C" | b"avcC" | b"d263" | b"damr" | b"hdlr") => is_within(found, index.len()),
            Some(b"trak" | b"sinf") => {
                parts += 1;
                parts <= MAX_PARTS
            }
            Some(name) => TABLES.iter().all(|&(table, count_at, entry_bytes)| {
                name != table || (is_within(found, index.len()) && is_filled(found, count_at, entry_bytes))
            }),
            None => true,
        }
    })
}

/// Whether what looks like a box says that it has `most` bytes at most; one whose length stands elsewhere does not.
fn is_within(found: &[u8], most: usize) -> bool {
    u32_at(found, 0).and_then(|size| usize::try_from(size).ok()).is_some_and(|size| (8..=most).contains(&size))
}

/// Whether what looks like a table is long enough for as many entries as it says it has.
fn is_filled(found: &[u8], count_at: usize, entry_bytes: u64) -> bool {
    // Where the index ends before the count, the parser ends too.
    let (Some(size), Some(count)) = (u32_at(found, 0), u32_at(found, count_at)) else { return true };
    let is_room_made = match found.get(4..8) {
        // Samples of one size, which stands before the count, have no entries.
        Some(b"stsz") => u32_at(found, 12) == Some(0),
        Some(b"stsd") if count > MAX_PARTS => return false,
        _ => true,
    };
    !is_room_made || u64::from(count).saturating_mul(entry_bytes) <= u64::from(size)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|&chunk| u32::from_be_bytes(chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|&chunk| u64::from_be_bytes(chunk))
}

#[cfg(test)]
mod tests {
    use super::super::Reason;
    use super::super::hostile_tests::{agrees, reason};

    /// A box of ISO 14496-12.
    fn boxed(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
        let size = u32::try_from(content.len() + 8).unwrap();
        [&size.to_be_bytes(), name, content].concat()
    }

    #[test]
    fn descriptors_nested_deep_do_not_exhaust_the_stack() {
        assert_eq!(reason(&with_nested_descriptors(400_000)), Some(Reason::Damaged));
        agrees(&with_nested_descriptors(500));
    }

    /// A sound file whose stream descriptor contains itself so many times.
    fn with_nested_descriptors(levels: usize) -> Vec<u8> {
        let mut nested = Vec::new();
        for _ in 0..levels {
            // Tag 3, a length of four digits, id and flags; the length always reaches to the end.
            nested.extend_from_slice(&[3, 0xFF, 0xFF, 0xFF, 0x7F, 0, 0, 0]);
        }
        let total = nested.len();
        for (level, head) in nested.chunks_exact_mut(8).enumerate() {
            let left = total - level * 8 - 5;
            for (digit, shift) in head[1..5].iter_mut().zip([21, 14, 7, 0]) {
                *digit = u8::try_from(left >> shift & 0x7F).unwrap() | if shift > 0 { 0x80 } else { 0 };
            }
        }
        let esds = boxed(b"esds", &[&[0; 4], &nested[..]].concat());
        let entry = boxed(b"mp4a", &[&[0; 28], &esds[..]].concat());
        let table = boxed(b"stsd", &[&[0, 0, 0, 0, 0, 0, 0, 1], &entry[..]].concat());
        let handler = boxed(b"hdlr", &[&[0; 8], &b"soun"[..], &[0; 13]].concat());
        let media = boxed(b"minf", &boxed(b"stbl", &table));
        let track = boxed(b"trak", &boxed(b"mdia", &[handler, media].concat()));
        [boxed(b"ftyp", b"isom\0\0\0\0"), boxed(b"moov", &track), boxed(b"mdat", b"samples")].concat()
    }

    #[test]
    fn an_index_of_hundreds_of_empty_parts_is_not_parsed() {
        let empty = |part| boxed(part, b"").repeat(300);
        for parts in [empty(b"trak"), boxed(b"trak", &empty(b"sinf"))] {
            let index = boxed(b"moov", &parts);
            let file = [boxed(b"ftyp", b"isom\0\0\0\0"), index, boxed(b"mdat", b"")].concat();
            assert_eq!(reason(&file), Some(Reason::Damaged));
        }
    }

    #[test]
    fn counts_that_promise_billions_of_entries_cost_nothing() {
        let count_first = [&[0; 4][..], &[0xFF; 16]].concat();
        let count_second = [&[0; 8][..], &[0xFF; 12]].concat();
        for table in [b"stsd", b"stts", b"stsz", b"stsc", b"stco", b"ctts", b"stss"] {
            for content in [&count_first, &count_second] {
                let table = boxed(b"stbl", &boxed(table, content));
                let track = boxed(b"trak", &boxed(b"mdia", &boxed(b"minf", &table)));
                let index = boxed(b"moov", &track);
                agrees(&[boxed(b"ftyp", b"isom\0\0\0\0"), index, boxed(b"mdat", b"")].concat());
            }
        }
    }
}
