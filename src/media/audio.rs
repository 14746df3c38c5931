//! Sound that is a plain row of frames: AAC in ADTS, MPEG audio, AMR; and the ID3 tags before them.

use std::io::{Read, Seek};

use super::detect::UNKNOWN;
use super::verdict::Reason;
use super::window::Window;

/// How many frames in a row are looked at.
const FRAMES: u32 = 8;

/// How many tags may precede the sound.
const TAGS: u32 = 8;

/// How far behind the tags the first frame may lie; encoders pad there.
const PADDING_BYTES: usize = 4096;

const AMR_MARK: &[u8] = b"#!AMR\n";
const AMR_WIDE_MARK: &[u8] = b"#!AMR-WB\n";

/// Reads a frame's first bytes and tells its whole length, header included; `None` when it is no such frame.
type FrameLen = fn([u8; 6]) -> Option<u64>;

/// What was found where a row of frames should begin.
struct Row {
    /// How many frames stand there whole.
    whole: u32,
    /// Whether something else than a frame or a closing tag follows them.
    is_broken: bool,
}

/// The type of a medium that begins with an ID3 tag or with the two bytes `found` goes by.
pub(super) fn mime<R: Read + Seek>(window: &mut Window<R>, found: &'static str) -> &'static str {
    let start = after_tags(window);
    let begins = window.bytes_at(start, 6).unwrap_or_default();
    if begins.starts_with(b"fLaC") {
        return "audio/flac";
    }
    for (mime, len) in [("audio/aac", aac_len as FrameLen), ("audio/mpeg", mpeg_len)] {
        if first_six(&begins).and_then(len).is_some() && !row(window, start, len).is_broken {
            return mime;
        }
    }
    match found {
        // Tags are hardly ever put before anything else.
        "application/x-id3v2" => "audio/mpeg",
        // Where not even one frame fits in, the two bytes are all there is to go by.
        _ if begins.len() < 6 => found,
        _ => UNKNOWN,
    }
}

/// The type of a medium that begins with `#!AMR`.
pub(super) fn amr(head: &[u8]) -> &'static str {
    if head.starts_with(AMR_MARK) {
        "audio/amr"
    } else if head.starts_with(AMR_WIDE_MARK) {
        "audio/amr-wb"
    } else {
        UNKNOWN
    }
}

/// `Damaged` unless there is at least one whole frame of type `mime`. A last frame that is cut short is no fault:
/// recorders that are stopped leave such files, and players take them.
pub(super) fn fault<R: Read + Seek>(window: &mut Window<R>, mime: &str) -> Option<Reason> {
    let found = match mime {
        "audio/amr" => row(window, AMR_MARK.len() as u64, amr_len),
        "audio/aac" => {
            let start = after_tags(window);
            row(window, start, aac_len)
        }
        _ => mpeg_row(window),
    };
    (found.whole == 0 || found.is_broken).then_some(Reason::Damaged)
}

/// The row of MPEG frames behind the tags and what an encoder may have left between.
fn mpeg_row<R: Read + Seek>(window: &mut Window<R>) -> Row {
    let start = after_tags(window);
    let padding = window.bytes_at(start, PADDING_BYTES).unwrap_or_default();
    let candidates = padding.windows(6).zip(start..).filter_map(|(bytes, at)| {
        let header = bytes.first_chunk().copied()?;
        mpeg_len(header).map(|_| at)
    });
    for at in candidates.collect::<Vec<u64>>() {
        let found = row(window, at, mpeg_len);
        if found.whole > 0 && !found.is_broken {
            return found;
        }
    }
    Row { whole: 0, is_broken: true }
}

/// The offset behind all ID3 tags at the beginning.
fn after_tags<R: Read + Seek>(window: &mut Window<R>) -> u64 {
    let mut at = 0u64;
    for _ in 0..TAGS {
        let Ok([b'I', b'D', b'3', _, _, flags, a, b, c, d]) = window.array_at::<10>(at) else {
            break;
        };
        let size = [a, b, c, d].iter().fold(0, |size, digit| size << 7 | u64::from(digit & 0x7F));
        let footer = if flags & 0x10 == 0 { 0 } else { 10 };
        at += 10 + size + footer;
    }
    at
}

fn row<R: Read + Seek>(window: &mut Window<R>, start: u64, len: FrameLen) -> Row {
    let mut at = start;
    let mut whole = 0;
    while whole < FRAMES && at < window.len() {
        let bytes = window.bytes_at(at, 6).unwrap_or_default();
        let Some(frame) = first_six(&bytes).and_then(len) else {
            let is_broken = !is_end(&bytes);
            return Row { whole, is_broken };
        };
        at += frame;
        if at > window.len() {
            break;
        }
        whole += 1;
    }
    Row { whole, is_broken: false }
}

/// Whether these bytes, which are no frame, may follow the last one: too few of them, a tag, or padding.
fn is_end(bytes: &[u8]) -> bool {
    bytes.len() < 6
        || [&b"TAG"[..], b"APETAG", b"LYRICS", b"ID3", b"3DI", &[0; 6]].iter().any(|mark| bytes.starts_with(mark))
}

/// The first six bytes of a frame. A frame may be shorter (AMR's silence has one byte), so what is missing is zero.
fn first_six(bytes: &[u8]) -> Option<[u8; 6]> {
    let mut six = [0; 6];
    for (to, from) in six.iter_mut().zip(bytes) {
        *to = *from;
    }
    (!bytes.is_empty()).then_some(six)
}

/// ADTS: ISO 13818-7, section 6.2.
fn aac_len([sync, second, third, a, b, c]: [u8; 6]) -> Option<u64> {
    let is_adts = sync == 0xFF && second & 0xF6 == 0xF0;
    let rate = third >> 2 & 0x0F;
    let len = u64::from(a & 0x03) << 11 | u64::from(b) << 3 | u64::from(c) >> 5;
    (is_adts && rate < 13 && len > 7).then_some(len)
}

/// MPEG audio, layers II and III of versions 1, 2 and 2.5: ISO 11172-3, section 2.4.1.3, and ISO 13818-3.
fn mpeg_len([sync, second, third, ..]: [u8; 6]) -> Option<u64> {
    const VERSION_1_LAYER_2: [u16; 14] = [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384];
    const VERSION_1_LAYER_3: [u16; 14] = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    const VERSION_2: [u16; 14] = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    if sync != 0xFF || second & 0xE0 != 0xE0 {
        return None;
    }
    let (shift, is_first) = match second >> 3 & 3 {
        0 => (2, false),
        2 => (1, false),
        3 => (0, true),
        _ => return None,
    };
    let (rates, samples_per_byte) = match (second >> 1 & 3, is_first) {
        (1, true) => (VERSION_1_LAYER_3, 144),
        (1, false) => (VERSION_2, 72),
        (2, true) => (VERSION_1_LAYER_2, 144),
        (2, false) => (VERSION_2, 144),
        _ => return None,
    };
    let kilobits = *rates.get(usize::from(third >> 4).checked_sub(1)?)?;
    let hertz = [44_100u64, 48_000, 32_000].get(usize::from(third >> 2 & 3))? >> shift;
    let padding = u64::from(third >> 1 & 1);
    Some(samples_per_byte * u64::from(kilobits) * 1000 / hertz + padding)
}

/// AMR narrow band: RFC 4867, section 5.3.
fn amr_len([contents, ..]: [u8; 6]) -> Option<u64> {
    const LENGTHS: [u64; 9] = [13, 14, 16, 18, 20, 21, 27, 32, 6];
    const NO_DATA: u8 = 15;
    if contents & 0x83 != 0 {
        return None;
    }
    match contents >> 3 {
        NO_DATA => Some(1),
        mode => LENGTHS.get(usize::from(mode)).copied(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_frames_are_those_of_the_standards() {
        assert_eq!(mpeg_len([0xFF, 0xFB, 0x90, 0x64, 0, 0]), Some(417));
        assert_eq!(mpeg_len([0xFF, 0xFB, 0x92, 0x64, 0, 0]), Some(418));
        assert_eq!(mpeg_len([0xFF, 0xF3, 0x70, 0xC4, 0, 0]), Some(182));
        assert_eq!(mpeg_len([0xFF, 0xFD, 0x80, 0, 0, 0]), Some(417));
        assert_eq!(mpeg_len([0xFF, 0xFB, 0xF0, 0, 0, 0]), None);
        assert_eq!(mpeg_len([0xFF, 0xFB, 0x9C, 0, 0, 0]), None);
        assert_eq!(aac_len([0xFF, 0xF1, 0x5C, 0x40, 0x25, 0xBF]), Some(301));
        assert_eq!(aac_len([0xFF, 0xF1, 0x7C, 0x40, 0x25, 0xBF]), None);
        assert_eq!(amr_len([0x04, 0, 0, 0, 0, 0]), Some(13));
        assert_eq!(amr_len([0x3C, 0, 0, 0, 0, 0]), Some(32));
        assert_eq!(amr_len([0x7C, 0, 0, 0, 0, 0]), Some(1));
        assert_eq!(amr_len([0x4C, 0, 0, 0, 0, 0]), None);
    }
}
