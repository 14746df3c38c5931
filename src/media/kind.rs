//! WhatsApp's kinds of media, which types belong to each, and how large each may be.

use std::fmt;

/// What a message can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A voice note or sound.
    Audio,
    /// A file of any type.
    Document,
    /// A photo or drawing.
    Image,
    /// A still sticker.
    Sticker,
    /// A film.
    Video,
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The types that belong to a kind other than `document`.
const TYPES: [(&str, Kind); 9] = [
    ("audio/aac", Kind::Audio),
    ("audio/mp4", Kind::Audio),
    ("audio/amr", Kind::Audio),
    ("audio/mpeg", Kind::Audio),
    ("image/jpeg", Kind::Image),
    ("image/png", Kind::Image),
    ("image/webp", Kind::Sticker),
    ("video/mp4", Kind::Video),
    ("video/3gpp", Kind::Video),
];

impl Kind {
    /// Every kind, in the order of their names.
    pub const ALL: [Kind; 5] = [Kind::Audio, Kind::Document, Kind::Image, Kind::Sticker, Kind::Video];

    /// The name the API uses, lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Audio => "audio",
            Kind::Document => "document",
            Kind::Image => "image",
            Kind::Sticker => "sticker",
            Kind::Video => "video",
        }
    }

    /// Reads the name the API uses; any other text is `None`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The number that stands for this kind in an index; it never changes.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Kind::Audio => 1,
            Kind::Document => 2,
            Kind::Image => 3,
            Kind::Sticker => 4,
            Kind::Video => 5,
        }
    }

    /// The kind a number stands for; one that was never given out is `None`.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The most bytes WhatsApp takes for a medium of this kind.
#[must_use]
pub fn limit(kind: Kind) -> u64 {
    match kind {
        Kind::Audio | Kind::Video => 16 * MIB,
        Kind::Document => 100 * MIB,
        Kind::Image => 5 * MIB,
        Kind::Sticker => 100 * KIB,
    }
}

/// The kind a MIME type belongs to, as clients write it: case, blanks and quotes do not count, nor do parameters,
/// except that Ogg is `audio` only with `codecs=opus`. Every other type is a `document`.
#[must_use]
pub fn kind_of(mime: &str) -> Kind {
    let mut parts = mime.split(';');
    let base = parts.next().unwrap_or_default();
    if same(base, "audio/ogg") && parts.any(|part| same(part, "codecs=opus")) {
        return Kind::Audio;
    }
    TYPES.iter().find(|(known, _)| same(base, known)).map_or(Kind::Document, |&(_, kind)| kind)
}

fn same(one: &str, other: &str) -> bool {
    letters(one).eq(letters(other))
}

fn letters(text: &str) -> impl Iterator<Item = u8> {
    let ignored = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'"';
    text.bytes().filter(move |byte| !ignored(byte)).map(|byte| byte.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_compared_without_regard_to_case_and_blanks() {
        for mime in [
            "audio/ogg; codecs=opus",
            "audio/ogg;codecs=opus",
            "Audio/OGG ; Codecs = \"opus\"",
            " audio/ogg;x=1;codecs=OPUS",
            "audio/aac",
            "AUDIO/MPEG",
        ] {
            assert_eq!(kind_of(mime), Kind::Audio, "{mime}");
        }
        assert_eq!(kind_of("image/jpeg; charset=binary"), Kind::Image);
        assert_eq!(kind_of("Image/WebP"), Kind::Sticker);
        assert_eq!(kind_of("video/3gpp"), Kind::Video);
        for mime in ["audio/ogg", "audio/ogg; codecs=vorbis", "application/pdf", "image/gif", "", ";"] {
            assert_eq!(kind_of(mime), Kind::Document, "{mime}");
        }
    }

    #[test]
    fn names_and_codes_of_kinds_lead_back_to_them() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(Kind::parse("Audio"), None);
        assert_eq!(Kind::from_code(0), None);
    }

    #[test]
    fn limits_are_those_of_the_published_table() {
        assert_eq!(limit(Kind::Audio), 16_777_216);
        assert_eq!(limit(Kind::Document), 104_857_600);
        assert_eq!(limit(Kind::Image), 5_242_880);
        assert_eq!(limit(Kind::Sticker), 102_400);
        assert_eq!(limit(Kind::Video), 16_777_216);
    }
}
