//! The files around sled's own: what the index needs of the file system.
//!
//! ```text
//! index/tree/    sled's directory
//! index/flushed  how many batches were durable at the last flush
//! index/clean    the state in which the index was closed; there only while it is closed
//! index/session  the mount of the file system under which the index was last opened
//! ```

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Kind, Result};
use crate::own_file;

/// The mark of a clean close.
const CLEAN: &str = "clean";

/// The note of the last flush.
const FLUSHED: &str = "flushed";

/// What a mark begins with when not all pages were looked at before.
pub(super) const UNCHECKED: &str = "unchecked ";

/// The note of the session.
const SESSION: &str = "session";

/// The kernel's request and answer for a mount number that is never used again (`STATX_MNT_ID_UNIQUE`, Linux 6.8).
const MNT_ID_UNIQUE: u32 = 0x4000;

/// How long a mark may be.
const MARK_LIMIT: u64 = 256;

/// sled's directory below `dir`.
pub(super) fn tree_dir(dir: &Path) -> PathBuf {
    dir.join("tree")
}

fn named(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |e| Error::io(path.display(), e)
}

/// The bytes an unprivileged process may still write where `path` lies.
///
/// # Errors
/// `Io` when the file system does not say.
#[expect(unsafe_code, reason = "statvfs has no safe wrapper in the standard library")]
pub(super) fn free_bytes(path: &Path) -> Result<u64> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|e| Error::new(Kind::Invalid, "a path with a zero byte").with_source(e))?;
    // SAFETY: all fields of statvfs are integers, for which zero bytes are a value.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: `name` ends with a zero byte and outlives the call; `found` is a valid place for the answer.
    if unsafe { libc::statvfs(name.as_ptr(), &raw mut found) } != 0 {
        return Err(Error::io(path.display(), io::Error::last_os_error()));
    }
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Has the kernel read the first `len` bytes of a file, without waiting for them: a hint.
pub(super) fn read_ahead(path: &Path, len: u64) {
    if let Ok(file) = File::open(path) {
        let _hint = rustix::fs::fadvise(&file, 0, std::num::NonZeroU64::new(len), rustix::fs::Advice::WillNeed);
    }
}

/// Makes the names in `dir` durable.
///
/// # Errors
/// `Io`, `NoSpace`.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|file| file.sync_all()).map_err(named(dir))
}

/// Makes every file in `dir`, and its names, durable; nothing to do when there is none.
///
/// # Errors
/// `Io`, `NoSpace`.
pub(super) fn sync_all_in(dir: &Path) -> Result<()> {
    let mut any = false;
    for entry in fs::read_dir(dir).map_err(named(dir))? {
        let path = entry.map_err(named(dir))?.path();
        match File::open(&path).and_then(|file| file.sync_all()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(named(&path))?,
        }
        any = true;
    }
    if any { sync_dir(dir) } else { Ok(()) }
}

/// The bytes that the files below `dir` take, those of holes not counted.
pub(super) fn tree_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let found = walkdir::WalkDir::new(dir).into_iter().flatten();
    found.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|meta| meta.blocks() * 512).sum()
}

/// Refuses a directory in which, or in whose place, something else lies than directories and regular files. sled follows
/// links, and would write to where they lead, and waits for the other end of a pipe.
///
/// # Errors
/// `Damaged` naming it; `Io`. A missing directory is none.
pub(super) fn expect_own(dir: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(dir).follow_root_links(false) {
        match entry {
            Ok(entry) if entry.file_type().is_file() || entry.file_type().is_dir() => {}
            Ok(entry) => {
                let what = format!("{} is neither a file nor a directory", entry.path().display());
                return Err(Error::new(Kind::Damaged, what));
            }
            Err(e) if e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {}
            Err(e) => return Err(named(dir)(e.into())),
        }
    }
    Ok(())
}

/// Removes what a crash or a full disk left of a snapshot being written, which sled would take for a finished one.
///
/// # Errors
/// `Io`.
pub(super) fn remove_unfinished(tree: &Path) -> Result<()> {
    for entry in fs::read_dir(tree).map_err(named(tree))? {
        let path = entry.map_err(named(tree))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(&path).map_err(named(&path))?;
        }
    }
    Ok(())
}

/// Writes the mark of a clean close, durably.
///
/// # Errors
/// `Io`, `NoSpace`; then there is none, which costs the next open some time and nothing else.
pub(super) fn write_mark(dir: &Path, mark: &str) -> Result<()> {
    let path = dir.join(CLEAN);
    let options = &mut File::options();
    let written = own_file::open(&path, options.write(true).create(true).truncate(true)).and_then(|mut file| {
        file.write_all(mark.as_bytes())?;
        file.sync_all()
    });
    if let Err(e) = written {
        let _ = fs::remove_file(&path);
        return Err(named(&path)(e));
    }
    sync_dir(dir)
}

/// Takes the mark of a clean close away, durably, and returns it.
///
/// # Errors
/// `Io`.
pub(super) fn take_mark(dir: &Path) -> Result<Option<String>> {
    let path = dir.join(CLEAN);
    let text = match fs::symlink_metadata(&path) {
        Ok(_) => own_file::read(&path, MARK_LIMIT).ok().flatten().unwrap_or_default(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(named(&path)(e)),
    };
    fs::remove_file(&path).map_err(named(&path))?;
    sync_dir(dir)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

/// Names the boot of the machine and the mount of the file system of `dir`: as long as both stay, what was written to its
/// files is there, written back or not, however a process ends. `None` when the kernel does not tell.
pub fn session(dir: &Path) -> Option<String> {
    use rustix::fs::{AtFlags, CWD, StatxFlags};
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let wanted = StatxFlags::INO | StatxFlags::from_bits_retain(MNT_ID_UNIQUE);
    let found = rustix::fs::statx(CWD, dir, AtFlags::empty(), wanted).ok()?;
    // The directory's number, so that a copy made while the original was in use is none of its sessions.
    let is_known = found.stx_mask & wanted.bits() == wanted.bits();
    is_known.then(|| format!("{} {} {}\n", boot.trim(), found.stx_mnt_id, found.stx_ino))
}

/// Reads the note of [`write_session`].
pub(super) fn read_session(dir: &Path) -> Option<String> {
    String::from_utf8(own_file::read(&dir.join(SESSION), MARK_LIMIT).ok()??).ok()
}

/// Notes the session, or that there is none to rely on.
///
/// # Errors
/// `Io` when an older note cannot be removed.
pub(super) fn write_session(dir: &Path, session: Option<&str>) -> Result<()> {
    let path = dir.join(SESSION);
    if session.is_some() && session == read_session(dir).as_deref() {
        return Ok(());
    }
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(named(&path)(e)),
        _ => {}
    }
    // Without one the next open only looks at all pages before it goes on.
    let _best_effort = session.map(|session| fs::write(&path, session));
    Ok(())
}

/// Notes how many batches are durable. The note itself need not be: an older one only allows more.
///
/// # Errors
/// `Io`, `NoSpace`.
pub(super) fn write_flushed(dir: &Path, batches: u64) -> Result<()> {
    let path = dir.join(FLUSHED);
    let number = batches.to_be_bytes();
    let note = [number, xxh3_64(&number).to_be_bytes()].concat();
    let file = own_file::open(&path, File::options().write(true).create(true).truncate(false));
    file.and_then(|file| file.write_all_at(&note, 0)).map_err(named(&path))
}

/// Reads the note of [`write_flushed`]; `None` when there is none that is whole.
pub(super) fn read_flushed(dir: &Path) -> Option<u64> {
    let note = own_file::read(&dir.join(FLUSHED), MARK_LIMIT).ok()??;
    let (number, rest) = note.split_first_chunk()?;
    (rest == xxh3_64(number).to_be_bytes()).then_some(u64::from_be_bytes(*number))
}
