//! JPEG: whether the picture is there from its beginning to its end mark.

use std::io::{BufRead, Read, Seek, SeekFrom};

use super::verdict::Reason;
use super::window::Window;

/// Markers of ITU T.81, table B.1.
const END_OF_IMAGE: u8 = 0xD9;
const START_OF_SCAN: u8 = 0xDA;

/// `Damaged` unless the file has a frame header with a width, a scan, and the end mark behind it. The compressed
/// samples are not decoded, and bytes behind the end mark do not count: cameras put further pictures there.
pub(super) fn fault<R: Read + Seek>(window: &mut Window<R>) -> Option<Reason> {
    is_whole(window).is_none().then_some(Reason::Damaged)
}

fn is_whole<R: Read + Seek>(window: &mut Window<R>) -> Option<()> {
    window.seek(SeekFrom::Start(2)).ok()?;
    let mut has_frame = false;
    let mut has_scan = false;
    loop {
        match next_marker(window)? {
            END_OF_IMAGE => return (has_frame && has_scan).then_some(()),
            0x01 | 0xD0..=0xD8 => {}
            marker => {
                let size = u64::from(u16::from_be_bytes(bytes(window)?)).checked_sub(2)?;
                let next = window.stream_position().ok()?.checked_add(size)?;
                if is_frame(marker) {
                    let [_, _, _, width @ ..] = bytes::<5, R>(window)?;
                    has_frame |= width != [0, 0];
                }
                has_scan |= marker == START_OF_SCAN;
                window.seek(SeekFrom::Start(next)).ok()?;
            }
        }
    }
}

/// Start of frame of any coding process; 0xC4, 0xC8 and 0xCC between them mean other things.
fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC)
}

/// The code of the next marker, past compressed samples (in which 0xFF is followed by zero) and fill bytes.
fn next_marker<R: Read + Seek>(window: &mut Window<R>) -> Option<u8> {
    let mut after_prefix = false;
    loop {
        let buffer = window.fill_buf().ok()?;
        if buffer.is_empty() {
            return None;
        }
        let mut taken = 0;
        let mut found = None;
        for &byte in buffer {
            taken += 1;
            if after_prefix && byte != 0x00 && byte != 0xFF {
                found = Some(byte);
                break;
            }
            after_prefix = byte == 0xFF;
        }
        window.consume(taken);
        if found.is_some() {
            return found;
        }
    }
}

fn bytes<const N: usize, R: Read + Seek>(window: &mut Window<R>) -> Option<[u8; N]> {
    let at = window.stream_position().ok()?;
    window.array_at(at).ok()
}
