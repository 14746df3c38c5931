//! Opening the files of a store as what they must be. A store may have been unpacked or carried here by anybody: a
//! symbolic link in the place of a file of ours would have us write to where it leads, and a pipe would keep us waiting.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Opens a regular file as `options` say; a new one has mode 0600. Symbolic links are not followed in its last part.
///
/// # Errors
/// `InvalidData` when something else lies there; those of `open(2)`.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // O_NONBLOCK: else the open of a pipe would wait for its other end. It means nothing to a regular file.
    let opened = options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|e| match e.raw_os_error() {
        Some(libc::ELOOP | libc::ENXIO | libc::EISDIR | libc::ENODEV) => no_file(),
        _ => e,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(no_file()) }
}

/// Reads a whole file; `None` when it has more than `most` bytes, of which no more are read.
///
/// # Errors
/// As [`open`]; those of `read(2)`.
pub fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = open(path, File::options().read(true))?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(Some(bytes).filter(|bytes| bytes.len() as u64 <= most))
}

fn no_file() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "there is something else than a regular file in its place")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("file"), b"four").unwrap();
        std::os::unix::fs::symlink("file", path("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", path("dangling")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            path("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        std::fs::create_dir(path("directory")).unwrap();
        for name in ["link", "dangling", "pipe", "directory"] {
            for options in [File::options().read(true), File::options().write(true).create(true).truncate(true)] {
                let refused = open(&path(name), options).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::InvalidData, "{name}: {refused}");
            }
        }
        assert!(!path("nowhere").exists());
        assert_eq!(read(&path("file"), 4).unwrap().unwrap(), b"four");
        assert!(read(&path("file"), 3).unwrap().is_none());
    }
}
