//! The type of a medium from its bytes: signatures first, then what each family of formats asks for.

use std::io::{BufReader, Read, Seek, SeekFrom};

use file_format::FileFormat;

use super::shield::shield;
use super::window::Window;
use super::{audio, movie, ogg, text, zip};

/// The type of a medium without bytes.
pub(super) const EMPTY: &str = "application/x-empty";

/// The type of bytes nothing is known of.
pub(super) const UNKNOWN: &str = "application/octet-stream";

/// Containers whose kind of content can not be read, because it lies behind the bytes given or is damaged.
const CONTAINERS: [(usize, &[u8], &str); 5] = [
    (4, b"ftyp", "application/mp4"),
    (0, b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "application/x-cfb"),
    (0, b"\x1A\x45\xDF\xA3", "application/x-ebml"),
    (0, b"\x30\x26\xB2\x75\x8E\x66\xCF\x11", "application/vnd.ms-asf"),
    (0, b"MZ", "application/x-dosexec"),
];

/// Office documents of the old binary kind, most of which do not say which program wrote them.
const COMPOUND_NAMES: [(&[u8], &str); 6] = [
    (b"doc", "application/msword"),
    (b"xls", "application/vnd.ms-excel"),
    (b"ppt", "application/vnd.ms-powerpoint"),
    (b"msg", "application/vnd.ms-outlook"),
    (b"mpp", "application/vnd.ms-project"),
    (b"vsd", "application/vnd.visio"),
];

/// The best MIME type of the medium in `window`, whose first bytes are `head`.
pub(super) fn mime<R: Read + Seek>(window: &mut Window<R>, head: &[u8], name: Option<&[u8]>) -> &'static str {
    if head.is_empty() {
        return EMPTY;
    }
    let found = signature(window);
    if text::is_unicode(head) && !text::may_be(found, head) {
        return text::mime(head, name);
    }
    match found {
        UNKNOWN if text::is_text(head) => text::mime(head, name),
        UNKNOWN => refine(window, head, name, container(head)),
        _ => refine(window, head, name, found),
    }
}

/// The lower-case extension of a file name, without the dot.
pub(super) fn extension_of(name: &[u8]) -> Option<Vec<u8>> {
    let dot = name.iter().rposition(|&byte| byte == b'.')?;
    let extension = name.get(dot + 1..)?;
    Some(extension.to_ascii_lowercase())
}

fn signature<R: Read + Seek>(window: &mut Window<R>) -> &'static str {
    let found = shield(|| {
        window.seek(SeekFrom::Start(0)).ok()?;
        FileFormat::from_reader(BufReader::new(window)).ok()
    });
    // The crate lends its names for as long as the format lives; those of its own table live for ever.
    let named = |format: FileFormat| FileFormat::from_media_type(format.media_type()).first();
    found.flatten().and_then(named).map_or(UNKNOWN, FileFormat::media_type)
}

fn container(head: &[u8]) -> &'static str {
    let starts = |&&(at, mark, _): &&(usize, &[u8], &str)| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
    CONTAINERS.iter().find(starts).map_or(UNKNOWN, |&(_, _, mime)| mime)
}

/// Looks closer where a signature is shared by several types or is too short to be believed.
fn refine<R: Read + Seek>(
    window: &mut Window<R>,
    head: &[u8],
    name: Option<&[u8]>,
    found: &'static str,
) -> &'static str {
    match found {
        "image/apng" => "image/png",
        "application/zip" => zip::mime(window, head),
        "application/x-cfb" => compound(name),
        "application/x-ebml" if is_matroska(head) => "video/matroska",
        "application/ogg" | "audio/ogg" | "audio/opus" | "video/ogg" => ogg::mime(window, found),
        "application/x-id3v2" | "audio/aac" | "audio/mpeg" => audio::mime(window, found),
        "audio/amr" => audio::amr(head),
        "application/mp4" | "audio/mp4" | "audio/x-m4a" | "video/mp4" | "video/x-m4v" | "video/3gpp" => {
            movie::mime(window, found)
        }
        _ => found,
    }
}

/// Whether an EBML file names itself Matroska, though no track was in sight.
fn is_matroska(head: &[u8]) -> bool {
    let header = head.get(..64).unwrap_or(head);
    header.windows(8).any(|window| window == b"matroska")
}

fn compound(name: Option<&[u8]>) -> &'static str {
    let extension = name.and_then(extension_of).unwrap_or_default();
    let known = COMPOUND_NAMES.iter().find(|(known, _)| *known == extension);
    known.map_or("application/x-cfb", |&(_, mime)| mime)
}

#[cfg(test)]
mod tests {
    use super::super::sniff;

    fn type_of(bytes: &[u8], name: &str) -> &'static str {
        sniff(bytes, bytes.len() as u64, Some(name.as_bytes()))
    }

    #[test]
    fn texts_that_begin_like_binary_formats_are_texts() {
        for text in [
            "true friends",
            "the free lunch",
            "solid advice",
            "0707 123456",
            "BZh",
            "MZ and MZ",
            "GIF89a",
            "OggS",
            "P1 at noon",
            "%! see below",
        ] {
            assert_eq!(type_of(text.as_bytes(), "x"), "text/plain", "{text}");
        }
    }

    #[test]
    fn two_byte_signatures_need_a_second_frame() {
        let mut noise = vec![0x5A; 3000];
        noise[..4].copy_from_slice(b"\xFF\xFB\x90\x64");
        assert_eq!(type_of(&noise, "x.mp3"), "application/octet-stream");
        noise[..8].copy_from_slice(b"\xFF\xF1\x50\x80\x10\x1F\xFC\x00");
        assert_eq!(type_of(&noise, "x.aac"), "application/octet-stream");
    }

    #[test]
    fn old_office_documents_are_told_apart_by_name_when_they_do_not_say() {
        let mut bytes = vec![0; 600];
        bytes[..8].copy_from_slice(b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1");
        assert_eq!(type_of(&bytes, "a.DOC"), "application/msword");
        assert_eq!(type_of(&bytes, "a.xls"), "application/vnd.ms-excel");
        assert_eq!(type_of(&bytes, "a.jpg"), "application/x-cfb");
    }

    #[test]
    fn containers_are_named_even_when_their_content_can_not_be_read() {
        assert_eq!(type_of(b"\x1A\x45\xDF\xA3\x8B\x42\x82\x88matroska\xEC", "x"), "video/matroska");
        assert_eq!(type_of(b"\x1A\x45\xDF\xA3\x8B\x42\x82\x84webm\xEC", "x"), "video/webm");
        assert_eq!(type_of(b"\x1A\x45\xDF\xA3\x8B\x00\x01", "x"), "application/x-ebml");
        assert_eq!(type_of(b"\x00\x00\x00\x18ftypnew1\x00\x00\x00\x01", "x"), "video/mp4");
        assert_eq!(type_of(b"\x00\x01\x02\x03 nothing", "x.jpg"), "application/octet-stream");
    }
}
