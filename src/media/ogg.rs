//! Ogg: which codecs its streams have, and whether an Opus voice note is mono and whole.

use std::io::{BufReader, Read, Seek, SeekFrom};

use ::ogg::PacketReader;

use super::shield::shield;
use super::verdict::Reason;
use super::window::Window;

/// The one Ogg type WhatsApp takes.
pub(super) const OPUS: &str = "audio/ogg; codecs=opus";

/// How many streams of one file are looked at for their codec.
const STREAMS: usize = 16;

/// Where the channel count stands in an Opus identification header: RFC 7845, section 5.1.
const CHANNELS_AT: usize = 9;

const OPUS_MARK: &[u8] = b"OpusHead";
const SKELETON_MARK: &[u8] = b"fishead\0";
const SOUND_MARKS: [&[u8]; 4] = [b"\x01vorbis", b"Speex   ", b"\x7FFLAC", b"PCM     "];

/// The type of an Ogg file that `found` is the signature of; `found`'s own where no stream can be read.
pub(super) fn mime<R: Read + Seek>(window: &mut Window<R>, found: &'static str) -> &'static str {
    let marks = shield(|| beginnings(window)).unwrap_or_default();
    let all = |known: fn(&[u8]) -> bool| !marks.is_empty() && marks.iter().all(|mark| known(mark));
    if all(is_opus) {
        OPUS
    } else if all(is_sound) {
        "audio/ogg"
    } else if marks.is_empty() {
        if found == "audio/opus" { OPUS } else { found }
    } else if found == "application/ogg" {
        "application/ogg"
    } else {
        "video/ogg"
    }
}

/// `Damaged` unless every page is whole and its checksum right; `NotSingleChannel` when any stream is not mono.
pub(super) fn fault<R: Read + Seek>(window: &mut Window<R>) -> Option<Reason> {
    shield(|| examine(window)).unwrap_or(Some(Reason::Damaged))
}

fn is_opus(packet: &[u8]) -> bool {
    packet.starts_with(OPUS_MARK)
}

fn is_sound(packet: &[u8]) -> bool {
    is_opus(packet) || SOUND_MARKS.iter().any(|mark| packet.starts_with(mark))
}

/// The first packets of the streams that begin together, which an Ogg file opens with; skeletons are left out.
fn beginnings<R: Read + Seek>(window: &mut Window<R>) -> Vec<Vec<u8>> {
    let mut packets = packets(window);
    let mut found = Vec::new();
    while let Ok(Some(packet)) = packets.read_packet() {
        if !packet.first_in_stream() || found.len() == STREAMS {
            break;
        }
        if !packet.data.starts_with(SKELETON_MARK) {
            found.push(packet.data);
        }
    }
    found
}

fn examine<R: Read + Seek>(window: &mut Window<R>) -> Option<Reason> {
    let mut packets = packets(window);
    let mut sound_packets = 0u64;
    loop {
        match packets.read_packet() {
            Err(_) => return Some(Reason::Damaged),
            Ok(None) => break,
            Ok(Some(packet)) if packet.first_in_stream() && is_opus(&packet.data) => {
                if packet.data.get(CHANNELS_AT) != Some(&1) {
                    return Some(Reason::NotSingleChannel);
                }
            }
            Ok(Some(_)) => sound_packets += 1,
        }
    }
    // The first packet behind the header is the comment, the second is sound.
    (sound_packets < 2).then_some(Reason::Damaged)
}

fn packets<R: Read + Seek>(window: &mut Window<R>) -> PacketReader<BufReader<&mut Window<R>>> {
    // Seeking within the window can not fail.
    let _ = window.seek(SeekFrom::Start(0));
    PacketReader::new(BufReader::new(window))
}
