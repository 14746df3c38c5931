//! Says what everybody waits for when nothing moves: a deadlock found at night is of no use without it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::machine::say;

/// How long work may stand still before it is taken for stuck.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Counts steps of work, and notices when there are none.
#[derive(Default)]
pub struct Watchdog {
    steps: AtomicU64,
    done: AtomicBool,
    /// Whether the work stood still for longer than allowed.
    pub barked: AtomicBool,
}

impl Watchdog {
    /// Something was done.
    pub fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// There is no more to do: [`Watchdog::watch`] returns.
    pub fn rest(&self) {
        self.done.store(true, Ordering::SeqCst);
    }

    /// How much was done.
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Watches until the work is done. When nothing moves for `patience`, tells what each thread of `pids` waits for and
    /// returns; `free` then has to free whoever hangs.
    pub fn watch(&self, patience: Duration, pids: &[u32], free: impl FnOnce()) {
        let (mut seen, mut since) = (self.steps(), Instant::now());
        while !self.done.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(50));
            if self.steps() != seen {
                (seen, since) = (self.steps(), Instant::now());
            }
            if since.elapsed() > patience {
                self.barked.store(true, Ordering::SeqCst);
                for pid in pids {
                    say(&stacks(*pid));
                }
                return free();
            }
        }
    }
}

/// What each thread of a process waits for: its system call, where in the kernel it is, and, where gdb is installed, where
/// in the program.
pub fn stacks(pid: u32) -> String {
    let mut told = format!("--- threads of process {pid} ---\n");
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let (id, comm, at) = (thread.file_name(), read("comm"), read("wchan"));
        told += &format!("{} {} in {at}, {}", id.display(), comm.trim(), read("syscall"));
        told += &read("stack");
    }
    if pid == std::process::id() {
        // It could not read what gdb says of it, stopped by gdb.
        return told;
    }
    let gdb = Command::new("timeout")
        .args(["20", "gdb", "-batch", "-p", &pid.to_string(), "-ex", "thread apply all backtrace 30"])
        .output();
    if let Ok(output) = gdb.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()) {
        told += &output;
    }
    told
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> usize {
    fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).map_or(0, Iterator::count)
}
