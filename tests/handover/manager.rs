//! A service manager as far as a daemon needs one: is told how it is, keeps descriptors, passes them to the next.

use std::collections::HashMap;
use std::fs::File;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::place::{Place, text};

/// How long a daemon may take to begin or to end before it is taken for hung.
const PATIENCE: Duration = Duration::from_secs(60);
/// Numbers above those that the descriptors are to have.
const ASIDE: RawFd = 100;
/// The first number of a descriptor that is passed on.
const FIRST: RawFd = 3;

type Kept = Arc<Mutex<HashMap<String, Vec<OwnedFd>>>>;

/// The manager with its one service. Dropping it ends the daemon and takes the mount away.
pub struct Manager<'a> {
    place: &'a Place,
    binary: PathBuf,
    options: Vec<&'static str>,
    kept: Kept,
    ready: Receiver<()>,
    child: Option<Child>,
}

impl<'a> Manager<'a> {
    /// A manager that has started nothing yet.
    pub fn new(place: &'a Place) -> Manager<'a> {
        let socket = UnixDatagram::bind(place.path("notify")).unwrap();
        let (kept, (told, ready)) = (Kept::default(), channel());
        let keeps = Arc::clone(&kept);
        thread::spawn(move || listen(&socket, &keeps, &told));
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_wamedia"));
        Manager { place, binary, options: Vec::new(), kept, ready, child: None }
    }

    /// The daemon is this program from the next start on.
    pub fn upgrade(&mut self, binary: &Path) {
        binary.clone_into(&mut self.binary);
    }

    /// The daemon gets these options from the next start on.
    pub fn set_options(&mut self, options: &[&'static str]) {
        self.options = options.to_vec();
    }

    /// Starts the daemon with what is kept, and waits until it says that it is ready.
    pub fn start(&mut self) {
        self.begin();
        let begun = Instant::now();
        while self.ready.recv_timeout(Duration::from_millis(50)).is_err() {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                panic!("the daemon ended with {status}:\n{}", self.log());
            }
            assert!(begun.elapsed() < PATIENCE, "the daemon is not ready:\n{}", self.log());
        }
    }

    fn begin(&mut self) {
        while self.ready.try_recv().is_ok() {}
        let log = File::options().create(true).append(true).open(self.place.path("daemon.log")).unwrap();
        let kept = self.kept.lock().unwrap();
        let names: Vec<&str> = kept.iter().flat_map(|(name, fds)| fds.iter().map(|_| name.as_str())).collect();
        let passed: Vec<RawFd> = kept.values().flatten().map(AsRawFd::as_raw_fd).collect();
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""])
            .arg(&self.binary)
            .args(["--log", "info", "mount", "--keep-mount", "--key-file", text(&self.place.key())])
            .args(&self.options)
            .args([self.place.store(), self.place.mnt()])
            .env("NOTIFY_SOCKET", self.place.path("notify"))
            .env("WAMEDIA_RUNTIME_DIR", "")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if !names.is_empty() {
            command.env("LISTEN_FDS", passed.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
            let pass_on = move || give_numbers(&passed);
            #[expect(unsafe_code, reason = "what runs between fork and exec may do little")]
            // SAFETY: it makes system calls only, on memory that was allocated before.
            unsafe {
                command.pre_exec(pass_on);
            }
        }
        self.child = Some(command.spawn().unwrap());
    }

    fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().unwrap())
    }

    /// Kills the daemon in the middle of what it does.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Has the daemon leave its mount to the next one.
    pub fn hand_over(&mut self) {
        kill_process(self.pid(), Signal::USR2).unwrap();
        let status = self.wait();
        assert_eq!(status.code(), Some(13), "{}", self.log());
    }

    /// Has the daemon unmount, as at the end of the service.
    pub fn stop(&mut self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log());
        assert!(self.names().is_empty(), "something is kept of a mount that is gone: {:?}", self.names());
    }

    fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let begun = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if begun.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("the daemon does not end:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The names of what is kept.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.kept.lock().unwrap().keys().cloned().collect();
        names.sort();
        names
    }

    /// Something in the mount.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.mnt().join(name)
    }

    /// What the daemons have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.place.path("daemon.log")).unwrap_or_default()
    }

    /// How often a daemon has taken the mount over.
    pub fn takeovers(&self) -> usize {
        self.log().matches("is_taken_over=true").count()
    }
}

impl Drop for Manager<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.kept.lock().unwrap().clear();
        let _ = unmount(self.place.mnt(), UnmountFlags::FORCE | UnmountFlags::DETACH);
    }
}

/// Gives descriptors the numbers by which they are looked for.
fn give_numbers(passed: &[RawFd]) -> std::io::Result<()> {
    let done = |result: RawFd| if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) };
    #[expect(unsafe_code, reason = "the numbers of descriptors are chosen")]
    // SAFETY: both calls take numbers only, and this process is about to become another program.
    unsafe {
        for (place, fd) in (0..).zip(passed) {
            done(libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, ASIDE + place))?;
        }
        for (place, _) in (0..).zip(passed) {
            done(libc::dup2(ASIDE + place, FIRST + place))?;
        }
    }
    Ok(())
}

/// Takes what daemons say: descriptors to keep or to let go, and that they are ready.
fn listen(socket: &UnixDatagram, kept: &Kept, ready: &Sender<()>) {
    let mut bytes = [0; 4096];
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let Ok(message) = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
        else {
            return;
        };
        let told = String::from_utf8_lossy(&bytes[..message.bytes]).into_owned();
        let says = |line: &str| told.lines().any(|said| said == line);
        let name = told.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or_default();
        let mut given = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                given.extend(fds);
            }
        }
        if says("FDSTORE=1") {
            assert!(says("FDPOLL=0"), "it would be dropped when the mount ends: {told}");
            kept.lock().unwrap().entry(name.to_owned()).or_default().extend(given);
        }
        if says("FDSTOREREMOVE=1") {
            kept.lock().unwrap().remove(name);
        }
        if says("READY=1") && ready.send(()).is_err() {
            return;
        }
    }
}
