//! Our id of a message on its way through the upstream and back, in `biz_opaque_callback_data`.

use std::fmt;

/// What the data begins with.
const PREFIX: &str = "wamedia:";
/// Characters the upstream takes.
pub const MAX_OPAQUE: usize = 512;

/// The data of a message: our id, and what the business gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpaqueId {
    /// Our id.
    pub message_id: String,
    /// What the business gave, and gets back.
    pub rest: Option<String>,
}

impl OpaqueId {
    /// Reads it; none for data that is not ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<OpaqueId> {
        let own = text.strip_prefix(PREFIX)?;
        let (message_id, rest) = match own.split_once(':') {
            Some((id, rest)) => (id, Some(rest.to_owned())),
            None => (own, None),
        };
        (!message_id.is_empty()).then(|| OpaqueId { message_id: message_id.to_owned(), rest })
    }
}

impl fmt::Display for OpaqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.message_id)?;
        self.rest.as_ref().map_or(Ok(()), |rest| write!(f, ":{rest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_out_comes_back() {
        for rest in [None, Some(String::new()), Some("a:b".to_owned())] {
            let own = OpaqueId { message_id: "m-1".into(), rest };
            assert_eq!(OpaqueId::parse(&own.to_string()), Some(own));
        }
        for foreign in ["", "theirs", "wamedia:", "wamedia::a"] {
            assert_eq!(OpaqueId::parse(foreign), None, "{foreign}");
        }
    }
}
