//! What can go wrong, sorted by what the caller can do about it.

use std::error::Error as StdError;
use std::fmt;

/// What kind of failure this is. Each kind has one errno (`fs::errno`) and one exit code (`cli`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No such file, directory, medium or attribute target.
    NotFound,
    /// The name is taken.
    Exists,
    /// A directory was needed.
    NotDirectory,
    /// A directory was given where none is allowed.
    IsDirectory,
    /// The directory still has entries.
    NotEmpty,
    /// A name or path is longer than the volume can hold.
    NameTooLong,
    /// An argument makes no sense.
    Invalid,
    /// Quota, reserve or the floor of free space refuses; nothing was changed.
    NoSpace,
    /// A class limit inside a volume that still has room.
    ClassLimit,
    /// The place can never be written (the virtual directory, a read-only mount).
    ReadOnly,
    /// The volume was poisoned by a failed write or sync; it must be mounted again.
    Poisoned,
    /// Bytes of the store are not what was written.
    Damaged,
    /// The store or the operating system failed.
    Io,
    /// No such extended attribute.
    NoAttribute,
    /// The caller's buffer is too small.
    TooSmall,
    /// More hard links than an inode can have.
    TooManyLinks,
    /// Larger than a file can be.
    TooLarge,
    /// An attribute value, argument list or request is larger than its bound.
    TooBig,
    /// The operation is not permitted on this object.
    NotPermitted,
    /// The caller may not do this.
    AccessDenied,
    /// The file system does not do this.
    Unsupported,
    /// The object is in use.
    Busy,
    /// The handle was not opened for this.
    BadHandle,
    /// There is no such position (seek past the end).
    NoPosition,
    /// Too many things are open.
    TooManyOpen,
    /// No key that was given opens the volume.
    WrongKey,
    /// Another process holds the store.
    Locked,
    /// The medium is held, young, or open for writing, so it is not expired.
    NotExpired,
    /// A format or protocol version this build does not know.
    Version,
}

/// A failure: its kind, a sentence for people, and its cause when there is one.
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The result of nearly everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure of `kind`, told in one sentence that names the thing and, where there is one, the mend.
    pub fn new(kind: Kind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into(), source: None }
    }

    /// The same with the failure that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Error {
        self.source = Some(source.into());
        self
    }

    /// A failure of the operating system while doing `what`; a full disk becomes [`Kind::NoSpace`].
    pub fn io(what: impl fmt::Display, error: std::io::Error) -> Error {
        let kind = match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Kind::NoSpace,
            _ => Kind::Io,
        };
        Error { kind, message: format!("{what}: {error}"), source: Some(Box::new(error)) }
    }

    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The errno of the operating system that caused this, if one did.
    #[must_use]
    pub fn os_errno(&self) -> Option<i32> {
        self.source.as_ref()?.downcast_ref::<std::io::Error>()?.raw_os_error()
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Error {
        Error { kind, message: String::new(), source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() { write!(f, "{:?}", self.kind) } else { f.write_str(&self.message) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)?;
        if let Some(source) = &self.source {
            write!(f, " (caused by: {source})")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|e| &**e as &(dyn StdError + 'static))
    }
}
