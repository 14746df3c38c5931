//! Error kinds on the wire: each has its own name as word.

use crate::error::Kind;

macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        /// The word for a kind. A kind that is missing here does not compile.
        #[must_use]
        pub fn name(kind: Kind) -> &'static str {
            match kind { $(Kind::$kind => stringify!($kind)),* }
        }

        /// The kind of a word; one that a newer daemon may know is [`Kind::Io`].
        #[must_use]
        pub fn parse(name: &str) -> Kind {
            match name {
                $(stringify!($kind) => Kind::$kind,)*
                _ => Kind::Io,
            }
        }
    };
}

kinds!(
    NotFound,
    Exists,
    NotDirectory,
    IsDirectory,
    NotEmpty,
    NameTooLong,
    Invalid,
    NoSpace,
    ClassLimit,
    ReadOnly,
    Poisoned,
    Damaged,
    Io,
    NoAttribute,
    TooSmall,
    TooManyLinks,
    TooLarge,
    TooBig,
    NotPermitted,
    AccessDenied,
    Unsupported,
    Busy,
    BadHandle,
    NoPosition,
    TooManyOpen,
    WrongKey,
    Locked,
    NotExpired,
    Version,
);
