//! What the table of ages holds of a medium: enough to show it in `.expired` without its record.
//!
//! Media of one age lie beside each other in that table, their records do not: a listing that needed those would touch a page
//! of the index for each medium.

use super::record::Record;
use crate::format::codec::{Malformed, Reader, Writer};
use crate::ids::Ino;
use crate::media;

/// How a medium with one name is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// The directory its name is in.
    pub parent: Ino,
    /// Its name there.
    pub name: Vec<u8>,
    /// The usual extension of its MIME type.
    pub extension: String,
}

impl Shown {
    /// How the medium of a record is listed; none where that takes more than one name.
    pub fn of(record: &Record) -> Option<Shown> {
        let [link] = record.attrs.links.as_slice() else { return None };
        let extension = record.mime().map_or("bin", media::extension).to_owned();
        Some(Shown { parent: link.parent, name: link.name.clone(), extension })
    }
}

/// One value of the table of ages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Bytes of content.
    pub len: u64,
    /// How it is listed; none when only its record says so.
    pub shown: Option<Shown>,
}

impl Listed {
    /// The value for a record.
    pub fn of(record: &Record) -> Listed {
        Listed { len: record.len, shown: Shown::of(record) }
    }

    /// Whether two records have the same value.
    pub fn is_same(one: &Record, other: &Record) -> bool {
        one.len == other.len && one.attrs.links == other.attrs.links && one.mime() == other.mime()
    }

    /// Its bytes: the length, then directory, extension (one byte of length before it) and name, if there are any.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.var(self.len);
        if let Some(shown) = &self.shown {
            let extension = shown.extension.as_bytes();
            // The table of types has no extension that long.
            let len = u8::try_from(extension.len()).unwrap_or_default();
            w.var(shown.parent.0)
                .u8(len)
                .bytes(extension.get(..usize::from(len)).unwrap_or_default())
                .bytes(&shown.name);
        }
        w.finish()
    }

    /// Reads what [`Listed::encode`] made.
    ///
    /// # Errors
    /// [`Malformed`] naming the field.
    pub fn decode(bytes: &[u8]) -> Result<Listed, Malformed> {
        let mut r = Reader::new(bytes);
        let len = r.var("length")?;
        if r.is_empty() {
            return Ok(Listed { len, shown: None });
        }
        let parent = Ino(r.var("directory")?);
        let extension_len = r.u8("extension")?;
        let extension = r.bytes(extension_len.into(), "extension")?;
        let extension = std::str::from_utf8(extension).map_err(|_| Malformed("extension"))?.to_owned();
        let name = r.rest().to_vec();
        if name.is_empty() {
            return Err(Malformed("name"));
        }
        Ok(Listed { len, shown: Some(Shown { parent, name, extension }) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_is_read_as_it_was_made(
            len in any::<u64>(), parent in any::<u64>(), name in proptest::collection::vec(any::<u8>(), 1..255),
            extension in "[a-z0-9]{0,8}", is_shown in any::<bool>(),
        ) {
            let shown = is_shown.then_some(Shown { parent: Ino(parent), name, extension });
            let listed = Listed { len, shown };
            prop_assert_eq!(Listed::decode(&listed.encode()).unwrap(), listed);
        }

        #[test]
        fn other_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(listed) = Listed::decode(&bytes) {
                prop_assert_eq!(Listed::decode(&listed.encode()).unwrap(), listed);
            }
        }
    }
}
