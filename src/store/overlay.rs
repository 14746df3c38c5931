//! A store on a read-only file system, opened without a byte of it being written: memory is laid over it.

use std::fs::{DirBuilder, File};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, CWD, Mode, OFlags, StatVfsMountFlags, access, openat, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen, mount, unmount,
};

use super::lock::{StoreLock, cannot_write};
use crate::clock;
use crate::error::Result;

/// Where a directory for a moment can be made, the one to be preferred first.
const SCRATCH: [&str; 3] = ["/run", "/dev/shm", "/tmp"];

/// Whether the file system of a store is, or is mounted, read-only; or the part of it that the store is in, as a snapshot of
/// btrfs is.
#[must_use]
pub fn is_read_only(store: &Path) -> bool {
    statvfs(store).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
        || access(store, Access::WRITE_OK) == Err(Errno::ROFS)
}

/// A path by which a store on a read-only file system can be opened; what is written there lies in memory. It lasts, and
/// keeps writers from the store, as long as this process.
///
/// # Errors
/// `Locked` when a process has the store open to write, `ReadOnly` with the mend when no memory can be laid over it (that
/// takes root and a kernel with overlayfs), `Io`.
pub fn lay_memory_over(store: &Path) -> Result<PathBuf> {
    let readers = StoreLock::share(store)?;
    let root = with_memory(|memory| overlay(store, memory)).map_err(|error| cannot_write(store, error))?;
    // The end of the process closes both.
    let _lasts = readers.map(File::into_raw_fd);
    Ok(path_of(root.into_raw_fd()))
}

fn path_of(fd: i32) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{fd}"))
}

/// Calls `work` with a directory in memory, which is in the tree of files only that long.
fn with_memory<T>(work: impl FnOnce(&Path) -> std::io::Result<T>) -> std::io::Result<T> {
    let mut random = [0; 8];
    clock::random_bytes(&mut random);
    let name = format!("wamedia-{:016x}", u64::from_ne_bytes(random));
    let places = SCRATCH.iter().map(|place| Path::new(place).join(&name));
    let make = |place: &PathBuf| DirBuilder::new().mode(0o700).create(place).is_ok();
    let place = places.into_iter().find(make).ok_or(std::io::ErrorKind::PermissionDenied)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let worked = match mount("none", &place, "tmpfs", flags, c"mode=0700") {
        Ok(()) => {
            let worked = work(&place);
            // Whoever was given a hold on it keeps it.
            let _stays = unmount(&place, UnmountFlags::DETACH);
            worked
        }
        Err(error) => Err(error.into()),
    };
    let _stays = std::fs::remove_dir(&place);
    worked
}

/// An overlay that is mounted nowhere: only its descriptor leads to it.
fn overlay(store: &Path, memory: &Path) -> std::io::Result<File> {
    let directory = |path: &Path| openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let (upper, work) = (memory.join("upper"), memory.join("work"));
    std::fs::create_dir(&upper)?;
    std::fs::create_dir(&work)?;
    // By its descriptor, whatever the name is: a colon in it would part two names.
    let lower = directory(store)?;
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "lowerdir", path_of(std::os::fd::AsRawFd::as_raw_fd(&lower)))?;
    fsconfig_set_string(&context, "upperdir", &upper)?;
    fsconfig_set_string(&context, "workdir", &work)?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    Ok(File::from(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn what_is_written_over_a_store_leaves_the_store_alone() {
        let store = tempfile::tempdir().unwrap();
        std::fs::write(store.path().join("lock"), "").unwrap();
        std::fs::write(store.path().join("kept"), "old").unwrap();
        assert!(!is_read_only(store.path()));
        let place = match lay_memory_over(store.path()) {
            Ok(place) => place,
            Err(error) => {
                assert_eq!(error.kind(), Kind::ReadOnly);
                eprintln!("SKIPPED: no overlay can be mounted here: {error:?}");
                return;
            }
        };
        std::fs::write(place.join("kept"), "new").unwrap();
        std::fs::remove_file(place.join("lock")).unwrap();
        assert_eq!(std::fs::read(place.join("kept")).unwrap(), b"new");
        assert_eq!(std::fs::read(store.path().join("kept")).unwrap(), b"old");
        assert_eq!(StoreLock::take(store.path()).unwrap_err().kind(), Kind::Locked, "a reader keeps writers out");
    }
}
