//! Exit codes. They are part of what scripts rely on and are never renumbered.

use crate::error::Kind;

/// How a command ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was told.
    Success = 0,
    /// It failed in a way without a number of its own.
    Failure = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// No key that was given or found opens the volume.
    WrongKey = 3,
    /// Another process holds the store.
    StoreLocked = 4,
    /// The store is damaged.
    Damaged = 5,
    /// Quota, reserve, floor or disk has no room.
    NoSpace = 6,
    /// The store, mount point or medium is not there.
    NotFound = 7,
    /// Something is in use.
    Busy = 8,
    /// The user may not do this.
    Denied = 9,
    /// The store or the daemon is of a version this build does not know.
    Version = 10,
    /// The mount, or the file system of the store, is read-only.
    ReadOnly = 11,
    /// Not all of what was to be erased could be: it is held, or in use.
    NotAll = 12,
    /// The daemon has left its mount to the next process.
    HandedOver = 13,
    /// The volume could not be mounted.
    MountFailed = 32,
}

/// The table of exit codes, for `--help`.
pub const TABLE: &str = "Exit codes:
   0  success
   1  failure without a number of its own
   2  wrong usage
   3  no key that was given or found opens the volume
   4  another process holds the store
   5  damage was found
   6  no space: quota, reserve, floor of free space, or disk
   7  no such store, mount point or medium
   8  in use
   9  permission denied
  10  store or daemon of an unknown version
  11  the mount, or the file system of the store, is read-only
  12  not all was erased: some is held, or in use
  13  the daemon has left its mount to the next process
  32  the volume could not be mounted";

impl Exit {
    const ALL: [Exit; 15] = [
        Exit::Success,
        Exit::Failure,
        Exit::Usage,
        Exit::WrongKey,
        Exit::StoreLocked,
        Exit::Damaged,
        Exit::NoSpace,
        Exit::NotFound,
        Exit::Busy,
        Exit::Denied,
        Exit::Version,
        Exit::ReadOnly,
        Exit::NotAll,
        Exit::HandedOver,
        Exit::MountFailed,
    ];

    /// The meaning of an exit code; one that is not ours is a failure.
    #[must_use]
    pub fn of_code(code: u8) -> Exit {
        Exit::ALL.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Exit::Failure)
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Exit {
        match kind {
            Kind::WrongKey => Exit::WrongKey,
            Kind::Locked => Exit::StoreLocked,
            Kind::Damaged => Exit::Damaged,
            Kind::NoSpace | Kind::ClassLimit => Exit::NoSpace,
            Kind::NotFound | Kind::NoAttribute => Exit::NotFound,
            Kind::Busy => Exit::Busy,
            Kind::AccessDenied | Kind::NotPermitted => Exit::Denied,
            Kind::Version => Exit::Version,
            Kind::ReadOnly => Exit::ReadOnly,
            Kind::Invalid => Exit::Usage,
            Kind::Exists
            | Kind::NotDirectory
            | Kind::IsDirectory
            | Kind::NotEmpty
            | Kind::NameTooLong
            | Kind::Poisoned
            | Kind::Io
            | Kind::TooSmall
            | Kind::TooManyLinks
            | Kind::TooLarge
            | Kind::TooBig
            | Kind::Unsupported
            | Kind::BadHandle
            | Kind::NoPosition
            | Kind::TooManyOpen
            | Kind::NotExpired => Exit::Failure,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> std::process::ExitCode {
        std::process::ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_in_the_table() {
        assert_eq!(TABLE.lines().count(), 1 + Exit::ALL.len());
        for (line, exit) in TABLE.lines().skip(1).zip(Exit::ALL) {
            assert_eq!(line.split_whitespace().next(), Some((exit as u8).to_string().as_str()));
            assert_eq!(Exit::of_code(exit as u8), exit);
        }
    }

    #[test]
    fn the_codes_scripts_rely_on_stay() {
        for (kind, code) in [
            (Kind::WrongKey, 3),
            (Kind::Locked, 4),
            (Kind::Damaged, 5),
            (Kind::NoSpace, 6),
            (Kind::ReadOnly, 11),
            (Kind::Io, 1),
        ] {
            assert_eq!(Exit::from(kind) as u8, code);
        }
    }
}
