//! The wiring between kernel and volume, through a real mount. What a volume does is tested without one.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use wamedia::fs::{Ended, MountOptions, Stopped, Unmounter, clear_dead, find_mounts, mount, run, unmount};
use wamedia::volume::{AgeBy, InitOptions, OpenOptions, Policy, RetentionRule, Selector, Volume};

const DAY: Duration = Duration::from_secs(86_400);
const GRACE: Duration = Duration::from_millis(200);

/// A mounted volume that goes when it is dropped.
struct Mount {
    path: PathBuf,
    volume: Arc<Volume>,
    unmounter: Unmounter,
    session: Option<JoinHandle<wamedia::error::Result<Ended>>>,
    _dir: TempDir,
}

impl Mount {
    fn join(mut self) -> Ended {
        self.session.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.unmounter.stop(GRACE);
        if let Some(session) = self.session.take() {
            let _ = session.join();
        }
        let _ = self.volume.shutdown();
    }
}

fn policy() -> Policy {
    Policy {
        max_bytes: Some(64 << 20),
        max_media: None,
        reserves: vec![],
        floor_bytes: 0,
        age_by: AgeBy::Written,
        retention: vec![RetentionRule { selector: Selector::Default, keep: Some(DAY) }],
        ..Policy::default()
    }
}

/// Mounts a fresh volume, or says that this machine does not let us.
fn mounted(options: &str) -> Option<Mount> {
    if File::options().read(true).write(true).open("/dev/fuse").is_err() {
        eprintln!("SKIPPED: /dev/fuse cannot be opened, nothing was tested");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let (store, path) = (dir.path().join("store"), dir.path().join("mnt"));
    fs::create_dir(&path).unwrap();
    let init = InitOptions { encrypted: false, policy: policy(), root_uid: 0, root_gid: 0, root_mode: 0o755 };
    Volume::init(&store, None, &init).unwrap();
    let volume = Volume::open(&store, &[], OpenOptions::default()).unwrap();
    let options = MountOptions::parse(&[options]).unwrap();
    let mounted = mount(&path, &options).unwrap();
    let unmounter = mounted.unmounter();
    let (ready, is_ready) = mpsc::channel();
    let served = volume.clone();
    let session = std::thread::spawn(move || run(&served, mounted, &options, |_| ready.send(()).unwrap()));
    is_ready.recv().unwrap();
    let path = fs::canonicalize(path).unwrap();
    Some(Mount { path, volume, unmounter, session: Some(session), _dir: dir })
}

fn make_old(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - 3 * DAY).unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_written_is_read_back_and_moves_and_goes() {
    let Some(mount) = mounted("") else { return };
    let file = mount.path.join("a");
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    fs::write(&file, &bytes).unwrap();
    assert_eq!(fs::read(&file).unwrap(), bytes);
    fs::create_dir(mount.path.join("d")).unwrap();
    fs::rename(&file, mount.path.join("d/b")).unwrap();
    fs::hard_link(mount.path.join("d/b"), mount.path.join("c")).unwrap();
    assert_eq!(fs::metadata(mount.path.join("d/b")).unwrap().nlink(), 2);
    std::os::unix::fs::symlink("d/b", mount.path.join("s")).unwrap();
    assert_eq!(fs::read(mount.path.join("s")).unwrap().len(), bytes.len());
    fs::remove_file(mount.path.join("d/b")).unwrap();
    assert_eq!(fs::metadata(mount.path.join("c")).unwrap().nlink(), 1);
    fs::remove_dir(mount.path.join("d")).unwrap();
    assert_eq!(names(&mount.path), [".expired", "c", "s"]);
}

#[test]
fn a_removed_file_stays_usable_while_it_is_open() {
    let Some(mount) = mounted("") else { return };
    let path = mount.path.join("a");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    file.write_all_at(b"still here", 0).unwrap();
    let mut back = [0; 10];
    file.read_exact_at(&mut back, 0).unwrap();
    assert_eq!(&back, b"still here");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    assert_eq!(fs::read(&path).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn appending_goes_to_the_end_and_opening_can_cut() {
    let Some(mount) = mounted("") else { return };
    let path = mount.path.join("log");
    fs::write(&path, "one").unwrap();
    File::options().append(true).open(&path).unwrap().write_all(b"two").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"onetwo");
    File::options().write(true).custom_flags(libc::O_TRUNC).open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn a_long_directory_is_listed_once_and_whole_while_entries_go() {
    let Some(mount) = mounted("") else { return };
    for number in 0..700 {
        fs::write(mount.path.join(format!("f{number:03}")), b"").unwrap();
    }
    let mut seen = vec![];
    for entry in fs::read_dir(&mount.path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::remove_file(entry.path()).unwrap();
            seen.push(entry.file_name());
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 700);
    assert_eq!(names(&mount.path), [".expired"]);
}

#[test]
fn expired_media_are_listed_read_and_removed_under_all_their_names() {
    let Some(mount) = mounted("") else { return };
    let (file, expired) = (mount.path.join("old"), mount.path.join(".expired"));
    fs::write(&file, "old").unwrap();
    fs::write(mount.path.join("young"), "young").unwrap();
    assert!(names(&expired).is_empty());
    make_old(&file);
    let listed = names(&expired);
    assert_eq!(listed.len(), 1);
    let shown = expired.join(&listed[0]);
    assert_eq!(fs::read(&shown).unwrap(), b"old");
    // Another number than under its own name: that is how a write by this name is told from one by the other.
    assert_ne!(fs::metadata(&shown).unwrap().ino(), fs::metadata(&file).unwrap().ino());
    let refused = File::options().append(true).open(&shown).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    let open = File::options().append(true).open(&file).unwrap();
    let refused = fs::remove_file(&shown).unwrap_err().raw_os_error();
    // Whether it is found at all depends on what the kernel remembers.
    assert!(matches!(refused, Some(libc::EPERM | libc::ENOENT)), "open for writing: {refused:?}");
    drop(open);
    while fs::remove_file(&shown).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    while file.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(names(&expired).is_empty());
    assert_eq!(names(&mount.path), [".expired", "young"]);
}

#[test]
fn nothing_can_be_put_into_expired_or_in_its_place() {
    let Some(mount) = mounted("") else { return };
    let expired = mount.path.join(".expired");
    let file = mount.path.join("f");
    fs::write(&file, "x").unwrap();
    for error in [
        fs::write(expired.join("f"), "x").unwrap_err(),
        fs::create_dir(expired.join("d")).unwrap_err(),
        fs::rename(&file, expired.join("f")).unwrap_err(),
        fs::hard_link(&file, expired.join("f")).unwrap_err(),
        std::os::unix::fs::symlink("f", expired.join("s")).unwrap_err(),
        fs::rename(&expired, mount.path.join("e")).unwrap_err(),
        fs::remove_dir(&expired).unwrap_err(),
    ] {
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    }
    assert_eq!(fs::create_dir(&expired).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn hidden_expired_is_not_listed_but_found() {
    let Some(mount) = mounted("expired=hidden") else { return };
    assert!(names(&mount.path).is_empty());
    assert!(fs::metadata(mount.path.join(".expired")).unwrap().is_dir());
}

#[test]
fn purging_by_another_way_is_seen_at_once_through_the_mount() {
    let Some(mount) = mounted("") else { return };
    let file = mount.path.join("old");
    fs::write(&file, "old").unwrap();
    make_old(&file);
    assert!(file.exists(), "the kernel now remembers the name");
    let report = mount.volume.purge(false, None, &mut |_| {}).unwrap();
    assert_eq!(report.media, 1);
    while file.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn special_files_and_a_read_only_mount_are_as_elsewhere() {
    let Some(mount) = mounted("ro") else { return };
    assert_eq!(fs::write(mount.path.join("f"), "x").unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert!(!fs::metadata(&mount.path).unwrap().file_type().is_fifo());
}

#[test]
fn a_umount_from_outside_ends_the_session() {
    let Some(mount) = mounted("") else { return };
    assert!(find_mounts().unwrap().iter().any(|found| found.path == mount.path));
    unmount(&mount.path, false).unwrap();
    assert!(!find_mounts().unwrap().iter().any(|found| found.path == mount.path));
    assert_eq!(mount.join(), Ended::Unmounted);
}

#[test]
fn an_idle_mount_stops_cleanly() {
    let Some(mount) = mounted("") else { return };
    assert_eq!(mount.unmounter.stop(Duration::from_secs(5)), Stopped::Clean);
    assert_eq!(mount.join(), Ended::Stopped);
}

#[test]
fn a_mount_in_use_refuses_umount_and_is_cut_off_by_stop() {
    let Some(mount) = mounted("") else { return };
    fs::write(mount.path.join("f"), "x").unwrap();
    let mut file = File::open(mount.path.join("f")).unwrap();
    assert_eq!(unmount(&mount.path, false).unwrap_err().kind(), wamedia::error::Kind::Busy);
    let stopped = mount.unmounter.stop(GRACE);
    assert!(!find_mounts().unwrap().iter().any(|found| found.path == mount.path), "the path is free at once");
    if stopped == Stopped::StillHeld {
        eprintln!("SKIPPED: connections cannot be cut here (no fusectl)");
        drop(file);
    } else {
        assert_eq!(stopped, Stopped::Aborted);
        assert_eq!(file.read(&mut [0]).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    }
    assert_eq!(mount.join(), Ended::Stopped);
}

#[test]
fn a_mount_whose_daemon_is_gone_is_cleared_by_the_next() {
    if mounted("").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = MountOptions::default();
    mount(dir.path(), &options).unwrap().leave_to_child();
    assert_eq!(fs::metadata(dir.path()).unwrap_err().raw_os_error(), Some(libc::ENOTCONN));
    let again = mount(dir.path(), &options).unwrap();
    drop(again);
    assert!(!clear_dead(dir.path()).unwrap(), "a mount that is never served is taken away");
    assert!(fs::metadata(dir.path()).is_ok());
}
