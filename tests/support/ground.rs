//! The directory a test works in: a wamedia mount, or, as a control of the test itself, any directory.
//!
//! `WAMEDIA_TEST_PLAIN=DIR` runs the POSIX tests below DIR instead of on a mount. A test that fails on a native file
//! system tests the wrong thing; what differs there by design asks [`Ground::is_plain`].
//!
//! `WAMEDIA_TEST_PASS_THROUGH=1` runs them on volumes without a cipher that are mounted with `-o pass_through`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::machine;
use super::mounted::Mounted;
use super::place::Place;

fn passes_through() -> bool {
    std::env::var_os("WAMEDIA_TEST_PASS_THROUGH").is_some()
}

fn start(place: &Place) -> Mounted {
    Mounted::start_with(place, if passes_through() { &["-o", "pass_through"] } else { &[] })
}

/// An empty directory to test in, gone when dropped.
pub struct Ground {
    root: PathBuf,
    plain: Option<TempDir>,
    // Fields drop in this order: the mount must end before its place is removed.
    mounted: Option<Mounted>,
    place: Option<Place>,
}

impl Ground {
    /// A ground for `test`; `None`, said loudly, when the machine cannot mount.
    pub fn new(test: &str) -> Option<Ground> {
        Ground::of_size(test, "256MiB")
    }

    /// The same with another quota.
    pub fn of_size(test: &str, quota: &str) -> Option<Ground> {
        if let Some(dir) = std::env::var_os("WAMEDIA_TEST_PLAIN") {
            let plain = TempDir::new_in(dir).expect("a directory below WAMEDIA_TEST_PLAIN");
            fs::set_permissions(plain.path(), Permissions::from_mode(0o755)).expect("chmod of the own directory");
            let root = plain.path().to_owned();
            return Some(Ground { root, plain: Some(plain), mounted: None, place: None });
        }
        if !machine::can_mount(test) {
            return None;
        }
        let place = match passes_through() {
            true => Place::with_plain_volume(&["--quota", quota]),
            false => Place::with_volume(&["--quota", quota]),
        };
        let mounted = start(&place);
        Some(Ground { root: mounted.root().to_owned(), plain: None, mounted: Some(mounted), place: Some(place) })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Something in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Whether this is the control on another file system.
    pub fn is_plain(&self) -> bool {
        self.plain.is_some()
    }

    /// The process that serves it, unless it is plain.
    pub fn daemon(&self) -> Option<u32> {
        self.mounted.as_ref().map(Mounted::pid)
    }

    /// Unmounts and mounts again, so that what follows is read from the store; does nothing on a plain directory.
    pub fn remount(&mut self) {
        if let (Some(mounted), Some(place)) = (self.mounted.take(), &self.place) {
            mounted.unmount();
            self.mounted = Some(start(place));
        }
    }

    /// Ends the test: the daemon must go by itself and the store must check clean.
    pub fn finish(mut self) {
        if let (Some(mounted), Some(place)) = (self.mounted.take(), &self.place) {
            mounted.unmount();
            place.check().expect_success();
        }
    }
}
