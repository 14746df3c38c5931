//! Telling text from binary bytes, and one text type from another.

use super::detect::extension_of;

/// Text types that only a file's name can tell.
const NAMES: [(&[u8], &str); 18] = [
    (b"csv", "text/csv"),
    (b"tsv", "text/tab-separated-values"),
    (b"json", "application/json"),
    (b"xml", "text/xml"),
    (b"html", "text/html"),
    (b"htm", "text/html"),
    (b"md", "text/markdown"),
    (b"css", "text/css"),
    (b"js", "text/javascript"),
    (b"yaml", "application/yaml"),
    (b"yml", "application/yaml"),
    (b"toml", "application/toml"),
    (b"sql", "application/sql"),
    (b"eml", "message/rfc822"),
    (b"vcf", "text/vcard"),
    (b"ics", "text/calendar"),
    (b"srt", "application/x-subrip"),
    (b"vtt", "text/vtt"),
];

/// Types other than `text/...` whose files are, or may be, text from end to end.
const TEXTUAL: [&str; 13] = [
    "application/pdf",
    "application/rtf",
    "application/x-abiword",
    "application/x-abiword-template",
    "application/x-pem-file",
    "application/x-subrip",
    "application/vnd.ms-wpl",
    "audio/x-mpegurl",
    "audio/x-scpls",
    "image/x-eps",
    "image/x-xpixmap",
    "model/step",
    "model/vrml",
];

const HTML_STARTS: [&[u8]; 4] = [b"<!doctype html", b"<html", b"<head", b"<body"];
const UTF8_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Whether these first bytes are UTF-8 without control characters; a character cut off at the end does not count.
pub(super) fn is_unicode(head: &[u8]) -> bool {
    let whole = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && error.valid_up_to() > 0,
    };
    whole && !head.iter().any(|&byte| is_binary(byte))
}

/// Whether these first bytes are text in any usual encoding: UTF-8, UTF-16 with its mark, or an 8-bit one.
pub(super) fn is_text(head: &[u8]) -> bool {
    is_unicode(head) || is_utf16(head) || is_eight_bit(head)
}

/// Whether a file of type `found` may be the text `head`; a binary signature met by chance is not to be believed.
pub(super) fn may_be(found: &str, head: &[u8]) -> bool {
    found.starts_with("text/")
        || found.ends_with("+xml")
        || found.ends_with("+json")
        || found.starts_with("application/pgp")
        || (found == "application/postscript" && head.starts_with(b"%!PS"))
        || TEXTUAL.contains(&found)
}

/// The type of a text: what it begins with, else what its name says, else `text/plain`.
pub(super) fn mime(head: &[u8], name: Option<&[u8]>) -> &'static str {
    let text = head.strip_prefix(UTF8_MARK).unwrap_or(head).trim_ascii_start();
    let begins = |mark: &&[u8]| text.get(..mark.len()).is_some_and(|start| start.eq_ignore_ascii_case(mark));
    if HTML_STARTS.iter().any(begins) {
        return "text/html";
    }
    let extension = name.and_then(extension_of).unwrap_or_default();
    let known = NAMES.iter().find(|(known, _)| *known == extension);
    known.map_or("text/plain", |&(_, mime)| mime)
}

/// A byte that no text has; the list is that of the WHATWG MIME sniffing standard, section 3.
fn is_binary(byte: u8) -> bool {
    matches!(byte, 0x00..=0x08 | 0x0B | 0x0E..=0x1A | 0x1C..=0x1F)
}

fn is_utf16(head: &[u8]) -> bool {
    let unit: fn([u8; 2]) -> u16 = match head {
        [0xFF, 0xFE, _, _, ..] => u16::from_le_bytes,
        [0xFE, 0xFF, _, _, ..] => u16::from_be_bytes,
        _ => return false,
    };
    let (pairs, _) = head.as_chunks::<2>();
    let low = |code: u16| u8::try_from(code).is_ok_and(is_binary);
    pairs.iter().map(|&pair| unit(pair)).all(|code| code != 0xFFFF && !low(code))
}

/// Latin-1 and its like: no binary byte, and mostly ASCII, which compressed bytes are not.
fn is_eight_bit(head: &[u8]) -> bool {
    let high = head.iter().filter(|byte| !byte.is_ascii()).count();
    high * 3 < head.len() && !head.iter().any(|&byte| is_binary(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_known_in_every_usual_encoding() {
        assert!(is_text("Grüße, 日本".as_bytes()));
        assert!(is_unicode(&"日".as_bytes().repeat(3)[..8]));
        assert!(is_text(b"Name;Stra\xDFe;Ort\r\nM\xFCller;Am Wall;Kiel\r\n"));
        assert!(is_text(b"\xFF\xFEa\x00;\x00b\x00"));
        assert!(!is_text(b"abc\x00def"));
        assert!(!is_text(b"\xFF\xD8\xFF\xE0"));
        assert!(!is_text(b"\xE2"));
    }

    #[test]
    fn web_pages_are_known_whatever_their_name_says() {
        for page in ["<!DocType HTML>", "\n  <html lang=de>", "\u{feff}<BODY>"] {
            assert_eq!(mime(page.as_bytes(), Some(b"photo.jpg")), "text/html", "{page}");
        }
    }

    #[test]
    fn names_tell_text_types_only() {
        assert_eq!(mime(b"a,b\n", Some(b"report.CSV")), "text/csv");
        assert_eq!(mime(b"a,b\n", Some(b"photo.jpg")), "text/plain");
        assert_eq!(mime(b"a,b\n", Some(b"csv")), "text/plain");
        assert_eq!(mime(b"a,b\n", None), "text/plain");
    }
}
