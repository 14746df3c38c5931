//! WebP: whether the file is whole and still.

use std::io::{Read, Seek, SeekFrom};

use image_webp::WebPDecoder;

use super::shield::shield;
use super::verdict::Reason;
use super::window::Window;

/// Bytes of the RIFF header that its own length does not count.
const RIFF_HEADER_BYTES: u64 = 8;

/// `Damaged` unless all chunks are there, `AnimatedSticker` when the animation mark is set. Pixels are not decoded.
pub(super) fn fault<R: Read + Seek>(window: &mut Window<R>) -> Option<Reason> {
    let Ok(riff_len) = window.array_at::<4>(4).map(u32::from_le_bytes) else {
        return Some(Reason::Damaged);
    };
    if u64::from(riff_len) + RIFF_HEADER_BYTES > window.len() {
        return Some(Reason::Damaged);
    }
    shield(|| examine(window)).unwrap_or(Some(Reason::Damaged))
}

fn examine<R: Read + Seek>(window: &mut Window<R>) -> Option<Reason> {
    // Seeking within the window can not fail.
    let _ = window.seek(SeekFrom::Start(0));
    match WebPDecoder::new(window) {
        Ok(decoder) => decoder.is_animated().then_some(Reason::AnimatedSticker),
        Err(_) => Some(Reason::Damaged),
    }
}
