//! A mounted volume that cannot be left behind.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

use super::machine::{mounted_type, processes_naming, say};
use super::place::{Place, text, wamedia};
use super::watchdog;

/// How long a daemon may take to mount or to end before it is taken for hung.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one mount may live: past it the daemon is killed, so that a test that hangs in a system call fails.
const LIFETIME: Duration = Duration::from_secs(400);

/// Unmounts also when the daemon answers no more: whoever waits for an answer gets an error.
const ABORT: UnmountFlags = UnmountFlags::FORCE.union(UnmountFlags::DETACH);

/// A daemon in the foreground, our own child, with its mount. Dropping it unmounts and, if need be, kills it.
pub struct Mounted {
    child: Arc<Mutex<Child>>,
    pid: u32,
    mnt: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    end_of_watch: Sender<()>,
}

impl Mounted {
    /// Mounts the volume of `place` and waits until the mount answers.
    pub fn start(place: &Place) -> Mounted {
        Mounted::start_with(place, &[])
    }

    /// The same with further options before the store.
    pub fn start_with(place: &Place, options: &[&str]) -> Mounted {
        Mounted::start_prepared(place, options, |_| {})
    }

    /// The same with a process that `prepare` has done something to.
    pub fn start_prepared(place: &Place, options: &[&str], prepare: impl FnOnce(&mut Command)) -> Mounted {
        Mounted::launch(place, options, prepare, LIFETIME)
    }

    /// Mounts the volume of `place` for a test that takes longer than others.
    pub fn start_to_live(place: &Place, lifetime: Duration) -> Mounted {
        Mounted::launch(place, &[], |_| {}, lifetime)
    }

    fn launch(place: &Place, options: &[&str], prepare: impl FnOnce(&mut Command), lifetime: Duration) -> Mounted {
        let log = place.path("daemon.log");
        let sink = File::options().create(true).append(true).open(&log).expect("the daemon's log");
        let (key, store, mnt) = (place.key(), place.store(), place.mnt());
        let mut command = wamedia();
        command
            .arg("mount")
            // A volume without a cipher takes no key.
            .args(if key.exists() { vec!["--key-file", text(&key)] } else { Vec::new() })
            .args(options)
            .args([&store, &mnt])
            .stdin(Stdio::null())
            .stdout(sink.try_clone().expect("a second handle of the log"))
            .stderr(sink);
        prepare(&mut command);
        let child = command.spawn().expect("the built binary starts");
        let pid = child.id();
        let child = Arc::new(Mutex::new(child));
        let (end_of_watch, watch) = mpsc::channel();
        let (watched, watched_mnt) = (Arc::clone(&child), mnt.clone());
        thread::spawn(move || {
            if watch.recv_timeout(lifetime) == Err(RecvTimeoutError::Timeout) {
                say(&format!("\n  !!! the daemon {pid} has lived for {lifetime:?}: killing it\n"));
                // Who hangs is told before it is let go: this test too, which may wait for something else.
                say(&(watchdog::stacks(pid) + &watchdog::stacks(std::process::id())));
                let _ = watched.lock().expect("child").kill();
                let _ = unmount(&watched_mnt, ABORT);
            }
        });
        let mounted = Mounted { child, pid, mnt, dir: place.dir().to_owned(), log, end_of_watch };
        mounted.wait_for_mount();
        mounted
    }

    fn wait_for_mount(&self) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                panic!("the daemon ended with {status} and did not mount:\n{}", self.log_tail());
            }
            if mounted_type(&self.mnt).is_some() && fs::metadata(&self.mnt).is_ok() {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "no mount after {PATIENCE:?}:\n{}", self.log_tail());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The root of the mounted volume.
    pub fn root(&self) -> &Path {
        &self.mnt
    }

    /// Something in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mnt.join(name)
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How the daemon ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.lock().expect("child").try_wait().expect("waiting for the own child")
    }

    /// Unmounts as an operator does. The daemon must end by itself, with success, and leave neither mount nor process.
    pub fn unmount(self) {
        let (started, mut told) = (Instant::now(), String::new());
        loop {
            let mut command = wamedia();
            command.arg("umount").arg(&self.mnt);
            let outcome = super::place::run(command);
            if outcome.status.success() {
                break;
            }
            told.push_str(&outcome.stderr);
            // A handle that another test's child inherits between fork and exec keeps the mount busy for an instant.
            assert!(started.elapsed() < Duration::from_secs(5), "umount fails: {told}");
            thread::sleep(Duration::from_millis(100));
        }
        let status = self
            .wait_for_end()
            .unwrap_or_else(|| panic!("the daemon still runs {PATIENCE:?} after umount:\n{}", self.hung()));
        assert!(status.success(), "the daemon ended with {status} after umount:\n{}", self.log_tail());
        assert_eq!(mounted_type(&self.mnt), None, "the mount is still there after umount");
        let left = processes_naming(&self.dir);
        assert!(left.is_empty(), "processes left after umount: {left:?}");
    }

    /// Kills the daemon with SIGKILL, reaps it, and takes its dead mount away.
    pub fn kill(self) {
        self.kill_now();
        self.clear_dead_mount();
    }

    /// Takes the dead mount of a killed daemon away.
    pub fn clear(self) {
        self.clear_dead_mount();
    }

    /// Kills the daemon with SIGKILL and reaps it; the dead mount stays until the drop.
    pub fn kill_now(&self) {
        let mut child = self.child.lock().expect("child");
        child.kill().expect("killing the own child");
        let status = child.wait().expect("reaping the own child");
        assert_eq!(status.signal(), Some(9), "the daemon had ended before it was killed: {status}");
    }

    fn clear_dead_mount(&self) {
        if mounted_type(&self.mnt).is_some() {
            unmount(&self.mnt, UnmountFlags::DETACH).expect("unmounting the own dead mount");
        }
    }

    /// Waits for the daemon to end by itself; none when it does not.
    pub fn wait_for_end(&self) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// All that the daemon said.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What there is to say of a daemon that hangs.
    fn hung(&self) -> String {
        watchdog::stacks(self.pid) + &self.log_tail()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Ends what `mount --daemon` started for a place, when a test fails before its umount.
pub struct DaemonGuard<'a>(pub &'a Place);

impl Drop for DaemonGuard<'_> {
    fn drop(&mut self) {
        let mnt = self.0.mnt();
        if mounted_type(&mnt).is_some() {
            let _ = unmount(&mnt, ABORT);
        }
        let started = Instant::now();
        while !processes_naming(self.0.dir()).is_empty() && started.elapsed() < Duration::from_secs(10) {
            thread::sleep(Duration::from_millis(20));
        }
        // Only processes that name this test's own temporary directory are left here.
        for (pid, line) in processes_naming(self.0.dir()) {
            say(&format!("killing what a failed test left: {pid} {line}"));
            let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
            let _ = pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = self.end_of_watch.send(());
        if self.ended().is_none() {
            // Ends a daemon that works; one that does not is killed below.
            let _ = unmount(&self.mnt, UnmountFlags::DETACH);
            let started = Instant::now();
            while self.ended().is_none() && started.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(5));
            }
        }
        let hung = self.ended().is_none();
        if hung {
            say(&watchdog::stacks(self.pid));
            // The abort frees a daemon that waits for an answer of its own mount, which no signal would reach.
            let _ = unmount(&self.mnt, ABORT);
            let mut child = self.child.lock().expect("child");
            let _ = child.kill();
            let _ = child.wait();
        }
        if mounted_type(&self.mnt).is_some() {
            let _ = unmount(&self.mnt, ABORT);
        }
        if thread::panicking() {
            say(&format!("--- the daemon's log ---\n{}", self.log_tail()));
        } else {
            assert!(!hung, "the daemon did not end after umount and was killed:\n{}", self.log_tail());
        }
    }
}
