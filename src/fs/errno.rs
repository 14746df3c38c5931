//! From error kinds to errno: the one place where they meet.

use fuser::Errno;

use crate::error::Kind;

/// The errno a program sees for a failure of this kind.
///
/// [`Kind::NotExpired`] is `EPERM` whatever the cause (held, young, open for writing): `EBUSY` would invite a caller
/// to try again, and a medium that is within its retention does not become removable by waiting a moment.
#[must_use]
pub fn errno(kind: Kind) -> Errno {
    match kind {
        Kind::NotFound => Errno::ENOENT,
        Kind::Exists => Errno::EEXIST,
        Kind::NotDirectory => Errno::ENOTDIR,
        Kind::IsDirectory => Errno::EISDIR,
        Kind::NotEmpty => Errno::ENOTEMPTY,
        Kind::NameTooLong => Errno::ENAMETOOLONG,
        Kind::Invalid => Errno::EINVAL,
        Kind::NoSpace => Errno::ENOSPC,
        Kind::ClassLimit => Errno::EDQUOT,
        Kind::ReadOnly | Kind::Poisoned => Errno::EROFS,
        Kind::Damaged | Kind::Io => Errno::EIO,
        Kind::NoAttribute => Errno::NO_XATTR,
        Kind::TooSmall => Errno::ERANGE,
        Kind::TooManyLinks => Errno::EMLINK,
        Kind::TooLarge => Errno::EFBIG,
        Kind::TooBig => Errno::E2BIG,
        Kind::NotPermitted | Kind::NotExpired => Errno::EPERM,
        Kind::AccessDenied | Kind::WrongKey => Errno::EACCES,
        Kind::Unsupported => Errno::EOPNOTSUPP,
        Kind::Busy | Kind::Locked => Errno::EBUSY,
        Kind::BadHandle => Errno::EBADF,
        Kind::NoPosition => Errno::ENXIO,
        Kind::TooManyOpen => Errno::ENFILE,
        Kind::Version => Errno::EPROTO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_volume_and_a_full_class_are_told_apart() {
        assert_eq!(errno(Kind::NoSpace).code(), libc::ENOSPC);
        assert_eq!(errno(Kind::ClassLimit).code(), libc::EDQUOT);
    }

    #[test]
    fn damage_is_an_input_error_and_a_poisoned_volume_is_read_only() {
        assert_eq!(errno(Kind::Damaged).code(), libc::EIO);
        assert_eq!(errno(Kind::Poisoned).code(), libc::EROFS);
        assert_eq!(errno(Kind::NotExpired).code(), libc::EPERM);
    }
}
