//! ZIP archives that are documents: told by the names of their entries, which stand in the clear.

use std::io::{Read, Seek};

use file_format::FileFormat;

use super::window::Window;

/// How much of the end, where the table of entries is, is looked at.
const TAIL_BYTES: usize = 64 * 1024;

/// How a record that names an entry begins, where its length of the name is, and where the name.
struct Record {
    mark: &'static [u8],
    length_at: usize,
    name_at: usize,
}

const LOCAL: Record = Record { mark: b"PK\x03\x04", length_at: 26, name_at: 30 };
const CENTRAL: Record = Record { mark: b"PK\x01\x02", length_at: 28, name_at: 46 };

/// Folders that make an Office Open XML package this document.
const PARTS: [(&[u8], &str); 4] = [
    (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    (b"visio/", "application/vnd.ms-visio.drawing.main+xml"),
];

#[derive(Default)]
struct Seen {
    part: Option<&'static str>,
    is_package: bool,
    is_android: bool,
    is_java: bool,
}

impl Seen {
    fn note(&mut self, name: &[u8]) {
        match name {
            b"[Content_Types].xml" | b"_rels/.rels" => self.is_package = true,
            b"AndroidManifest.xml" => self.is_android = true,
            b"META-INF/MANIFEST.MF" => self.is_java = true,
            _ => {
                let part = PARTS.iter().find(|(folder, _)| name.starts_with(folder));
                self.part = self.part.or(part.map(|&(_, mime)| mime));
            }
        }
    }

    fn mime(&self) -> &'static str {
        match self.part {
            Some(part) if self.is_package => part,
            _ if self.is_android => "application/vnd.android.package-archive",
            _ if self.is_java => "application/java-archive",
            _ => "application/zip",
        }
    }
}

/// The type of the archive in `window`, whose first bytes are `head`.
pub(super) fn mime<R: Read + Seek>(window: &mut Window<R>, head: &[u8]) -> &'static str {
    if let Some(mime) = declared(head) {
        return mime;
    }
    let tail_at = window.len().saturating_sub(TAIL_BYTES as u64);
    let tail = window.bytes_at(tail_at, TAIL_BYTES).unwrap_or_default();
    let mut seen = Seen::default();
    for name in LOCAL.names(head).chain(CENTRAL.names(&tail)) {
        seen.note(name);
    }
    seen.mime()
}

impl Record {
    fn names<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let starts = bytes.windows(self.mark.len()).enumerate();
        starts.filter(|(_, window)| *window == self.mark).filter_map(|(at, _)| {
            let record = bytes.get(at..)?;
            let length = record.get(self.length_at..)?.first_chunk().copied()?;
            record.get(self.name_at..)?.get(..usize::from(u16::from_le_bytes(length)))
        })
    }
}

/// What an archive says of itself in a first, uncompressed entry `mimetype`, as EPUB and OpenDocument do.
fn declared(head: &[u8]) -> Option<&'static str> {
    let content = head.get(LOCAL.name_at..)?.strip_prefix(b"mimetype")?;
    let length = u32::from_le_bytes(head.get(18..)?.first_chunk().copied()?);
    let content = content.get(..usize::try_from(length).ok()?)?;
    let content = std::str::from_utf8(content).ok()?.trim();
    // Nothing that is not an archive may be claimed here.
    if content != "application/epub+zip" && !content.starts_with("application/vnd.") {
        return None;
    }
    FileFormat::from_media_type(content).first().map(FileFormat::media_type)
}

#[cfg(test)]
mod tests {
    use super::super::sniff;

    fn entry(name: &str, content: &[u8]) -> Vec<u8> {
        let mut bytes = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(content);
        bytes
    }

    fn type_of(names: &[&str]) -> &'static str {
        let bytes: Vec<u8> = names.iter().flat_map(|name| entry(name, b"")).collect();
        sniff(&bytes, bytes.len() as u64, None)
    }

    #[test]
    fn office_documents_are_told_by_their_entries() {
        let document = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
        assert_eq!(type_of(&["[Content_Types].xml", "word/document.xml"]), document);
        assert_eq!(type_of(&["_rels/.rels", "docProps/app.xml", "word/a.xml"]), document);
        assert_eq!(type_of(&["word/holiday.jpg", "word/notes.txt"]), "application/zip");
        assert_eq!(type_of(&["META-INF/MANIFEST.MF", "a.class"]), "application/java-archive");
    }

    #[test]
    fn archives_that_declare_their_type_are_believed_when_it_is_a_known_one() {
        let epub = entry("mimetype", b"application/epub+zip");
        assert_eq!(sniff(&epub, epub.len() as u64, None), "application/epub+zip");
        for odd in ["application/vnd.nobody-knows", "image/png"] {
            let bytes = entry("mimetype", odd.as_bytes());
            assert_eq!(sniff(&bytes, bytes.len() as u64, None), "application/zip", "{odd}");
        }
    }
}
