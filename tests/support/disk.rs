//! A disk whose power can fail: a file system in an image, which can be stopped without writing what it has not written.

use std::ffi::c_int;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

use super::machine;
use super::place::{Place, run, text};

/// Size of the image in bytes; xfs takes no less than 300 MiB. Only what is written takes room.
const SIZE: u64 = 512 << 20;
/// How long the kernel may take to let go of a file system, or of the loop device below it.
const PATIENCE: Duration = Duration::from_secs(20);
/// `FS_IOC_SHUTDOWN`: `_IOR('X', 125, __u32)`.
const SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;

/// What of the log still reaches the disk when the power fails.
#[derive(Clone, Copy, Debug)]
pub enum Log {
    /// Names and sizes that were changed, without the bytes that belong to them.
    Flushed = 1,
    /// Nothing.
    Lost = 2,
}

/// A file system of its own below a place, with the place's store on it.
pub struct Disk {
    at: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// Makes and mounts one; `None`, said loudly, when the machine lacks the tools.
    pub fn new(test: &str, place: &Place, kind: &str) -> Option<Disk> {
        let mkfs = format!("mkfs.{kind}");
        if Command::new(&mkfs).arg("-V").output().is_err() {
            machine::skip(test, &format!("{mkfs} is not installed"));
            return None;
        }
        let disk = Disk { at: place.path("disk"), image: place.path("image") };
        fs::create_dir(&disk.at).unwrap();
        File::create(&disk.image).unwrap().set_len(SIZE).unwrap();
        let mut make = Command::new(mkfs);
        make.arg("-q").arg(&disk.image);
        run(make).expect_success();
        disk.mount();
        fs::create_dir(disk.at.join("store")).unwrap();
        std::os::unix::fs::symlink(disk.at.join("store"), place.store()).unwrap();
        Some(disk)
    }

    fn mount(&self) {
        let started = Instant::now();
        loop {
            let mut command = Command::new("mount");
            command.args(["-o", "loop", text(&self.image), text(&self.at)]);
            let outcome = run(command);
            if outcome.status.success() {
                return;
            }
            // The loop device of the last mount goes a moment after it.
            assert!(started.elapsed() < PATIENCE, "mounting the image: {}", outcome.stderr);
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The power fails: from now on nothing is written, and what was not written is lost.
    pub fn power_fails(&self, log: Log) {
        let root = File::open(&self.at).unwrap();
        let how = log as u32;
        #[expect(unsafe_code, reason = "ioctl(2) has no safe form")]
        // SAFETY: the request reads one u32 through the pointer, which lives as long as the call.
        let done: c_int = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &raw const how) };
        assert_eq!(done, 0, "stopping the file system: {}", std::io::Error::last_os_error());
    }

    /// The file system meets a fault of its own, as a bad sector in its metadata is one, and goes read-only.
    pub fn turns_read_only(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(text(&self.at))).expect("the disk is mounted");
        let device = line.split(" - ").nth(1).and_then(|source| source.split(' ').nth(1)).unwrap();
        let name = device.rsplit('/').next().unwrap();
        let mut remount = Command::new("mount");
        remount.args(["-o", "remount,errors=remount-ro", text(&self.at)]);
        run(remount).expect_success();
        fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), b"on purpose").unwrap();
    }

    /// The file system is checked and mended while nobody has it mounted, and mounted again.
    pub fn is_mended(&self) {
        self.leave();
        let mut check = Command::new("e2fsck");
        check.args(["-f", "-y", text(&self.image)]);
        let checked = run(check);
        assert!(checked.status.code().is_some_and(|code| code <= 1), "e2fsck: {}{}", checked.stdout, checked.stderr);
        self.mount();
    }

    /// The power is back: the file system is mounted anew, which replays its journal. Nothing may have it in use.
    pub fn power_returns(&self) {
        self.leave();
        self.mount();
    }

    fn leave(&self) {
        let started = Instant::now();
        while let Err(why) = unmount(&self.at, UnmountFlags::empty()) {
            assert!(started.elapsed() < PATIENCE, "unmounting the image: {why}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _gone = unmount(&self.at, UnmountFlags::DETACH);
    }
}
