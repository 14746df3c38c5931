//! No secret stays where it is not needed: in the daemon's memory, its command line, its environment, what it and its
//! commands say, or a file that others may read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::machine;
use support::mounted::{DaemonGuard, Mounted};
use support::place::{Place, run, text, wamedia};

const PASSPHRASE: &str = "correct-horse-battery-staple-7F3A";

/// Each place in the memory of a process where `needle` lies.
fn found_in_memory(pid: u32, needle: &[u8]) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines() {
        let Some((range, rest)) = line.split_once(' ') else { continue };
        let (from, to) = range.split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        if !rest.starts_with("rw") {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // Some ranges are the kernel's own.
        let Ok(read) = memory.read_at(&mut bytes, from) else { continue };
        for at in bytes[..read].windows(needle.len()).enumerate().filter(|(_, window)| *window == needle) {
            found.push(format!("{:x} in {line}", from + at.0 as u64));
        }
    }
    found
}

/// Whether the memory of others can be read here.
fn can_read_memory(test: &str) -> bool {
    let kept = std::hint::black_box(PASSPHRASE.to_owned());
    let own = !found_in_memory(std::process::id(), kept.as_bytes()).is_empty();
    assert!(own, "the search does not find what is there");
    machine::can_mount(test) && machine::is_root(test)
}

/// The key in hex and raw.
fn key_bytes(place: &Place) -> (Vec<u8>, Vec<u8>) {
    let hex = fs::read(place.key()).unwrap();
    let digits = std::str::from_utf8(&hex).unwrap().trim().to_owned();
    let raw = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
    (digits.into_bytes(), raw)
}

/// What `/proc` shows of a process without reading its memory.
fn shown_in_proc(pid: u32) -> Vec<u8> {
    let files = ["cmdline", "environ", "comm", "status", "maps", "smaps", "mountinfo", "limits", "stat", "wchan"];
    let mut shown = Vec::new();
    for file in files {
        shown.extend(fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
    }
    shown
}

fn has(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn the_key_of_a_file_is_gone_from_the_daemon_when_it_serves() {
    if !can_read_memory("the_key_of_a_file_is_gone_from_the_daemon_when_it_serves") {
        return;
    }
    let place = Place::with_volume(&[]);
    let (hex, raw) = key_bytes(&place);
    let mounted = Mounted::start_with(&place, &["--log", "trace"]);
    fs::write(mounted.path("medium.jpg"), b"bytes of a medium, only for the search").unwrap();
    for (what, needle) in [("its key in hex", &hex), ("its key", &raw)] {
        let found = found_in_memory(mounted.pid(), needle);
        assert!(found.is_empty(), "the daemon still has {what}: {found:#?}");
        assert!(!has(&shown_in_proc(mounted.pid()), needle), "/proc shows {what}");
        assert!(!has(mounted.log().as_bytes(), needle), "the log tells {what}");
    }
    mounted.unmount();
}

#[test]
fn a_passphrase_is_gone_from_the_daemon_when_it_serves() {
    let test = "a_passphrase_is_gone_from_the_daemon_when_it_serves";
    if !can_read_memory(test) {
        return;
    }
    let place = Place::new();
    let (file, store, mnt) = (place.path("passphrase"), place.store(), place.mnt());
    fs::write(&file, format!("{PASSPHRASE}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    place.run(&["init", "--passphrase-file", text(&file), text(&store)]).expect_success();
    let log = place.path("daemon.log");
    let _guard = DaemonGuard(&place);
    let mount = ["--log", "trace", "mount", "--daemon", "--log-file", text(&log), "--passphrase-file", text(&file)];
    place.run(&[&mount[..], &[text(&store), text(&mnt)]].concat()).expect_success();
    let daemons = machine::processes_naming(place.dir());
    let [(pid, _)] = &daemons[..] else { panic!("one daemon, not {daemons:?}") };
    let found = found_in_memory(*pid, PASSPHRASE.as_bytes());
    assert!(found.is_empty(), "the daemon still has the passphrase: {found:#?}");
    assert!(!has(&shown_in_proc(*pid), PASSPHRASE.as_bytes()));
    place.run(&["umount", text(&mnt)]).expect_success();
    assert!(!fs::read_to_string(log).unwrap().contains(PASSPHRASE));
}

#[test]
fn no_core_is_dumped_and_no_other_process_of_the_user_may_look() {
    if !machine::can_mount("no_core_is_dumped_and_no_other_process_of_the_user_may_look") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    let proc = |file: &str| format!("/proc/{}/{file}", mounted.pid());
    let limits = fs::read_to_string(proc("limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    // Of a process that may not be dumped, root owns what /proc shows, and the key's page is not in a dump anyway.
    let locked = fs::read_to_string(proc("status")).unwrap();
    let locked = locked.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap().trim().to_owned();
    assert_ne!(locked, "0 kB", "the volume key is not locked in memory");
    let smaps = fs::read_to_string(proc("smaps")).unwrap();
    let flags = smaps.lines().filter(|line| line.starts_with("VmFlags:"));
    assert!(
        flags.clone().any(|flags| flags.contains(" lo") && flags.contains(" dd")),
        "no page is locked and undumped"
    );
    mounted.unmount();
}

#[test]
fn a_user_who_is_not_root_cannot_look_into_the_own_daemon() {
    let test = "a_user_who_is_not_root_cannot_look_into_the_own_daemon";
    if !machine::is_root(test) {
        return;
    }
    // A command that waits for its key in a pipe is as hardened as a daemon: it reads the key after that.
    let place = Place::with_volume(&[]);
    for path in [place.dir().to_owned(), place.key(), place.store()] {
        let mut chown = Command::new("chown");
        chown.args(["-R", "65534:65534"]).arg(path);
        run(chown).expect_success();
    }
    let pipe = place.path("pipe");
    let mut mkfifo = Command::new("mkfifo");
    mkfifo.args(["-m", "0666"]).arg(&pipe);
    run(mkfifo).expect_success();
    let waiting =
        as_nobody(&[text(env!("CARGO_BIN_EXE_wamedia").as_ref()), "check", "--key-file", text(&pipe)], &place);
    let mut waiting = Waiting(waiting);
    let pid = waiting.0.id();
    let is_hardened = || {
        fs::metadata(format!("/proc/{pid}/mem")).is_ok_and(|mem| mem.permissions().mode() & 0o777 == 0o600)
            && owner_of(Path::new(&format!("/proc/{pid}/mem"))) == 0
    };
    for _ in 0..2000 {
        if is_hardened() && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == "wamedia") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(is_hardened(), "the memory of a command that reads a key belongs to its user");
    let look = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        as_nobody(&["cat", &path], &place).wait().unwrap().success()
    };
    assert!(!look("environ") && !look("maps"), "another process of the user may look into it");
    File::options().write(true).open(&pipe).unwrap().write_all(&fs::read(place.key()).unwrap()).unwrap();
    assert!(waiting.0.wait().unwrap().success());
}

/// A process that does not outlive its test.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn owner_of(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata(path).unwrap())
}

fn as_nobody(words: &[&str], place: &Place) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).args(words);
    if words[0] != "cat" {
        command.arg(place.store());
    }
    let nothing = || Stdio::null();
    command.env("WAMEDIA_RUNTIME_DIR", "").stdin(nothing()).stdout(nothing()).stderr(nothing()).spawn().unwrap()
}

#[test]
fn files_of_the_store_are_for_their_owner_alone() {
    if !machine::can_mount("files_of_the_store_are_for_their_owner_alone") {
        return;
    }
    let place = Place::with_volume(&[]);
    // As open to all as can be: what the daemon makes does not go by the umask it was started with.
    let mounted = Mounted::start_with(&place, &["-o", "allow_other"]);
    for n in 0..20 {
        fs::write(mounted.path(format!("{n}.jpg")), vec![n; 100_000]).unwrap();
    }
    File::open(mounted.path("0.jpg")).unwrap().sync_all().unwrap();
    let look = || {
        let mut met = 0;
        for entry in walkdir::WalkDir::new(place.store()) {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            met += 1;
            let path = entry.path().display();
            assert_eq!(mode & 0o077, 0, "{path} has mode {mode:04o}");
            if entry.file_type().is_dir() {
                assert_eq!(mode, 0o700, "{path} has mode {mode:04o}");
            }
        }
        assert!(met > 25, "only {met} files");
    };
    look();
    mounted.unmount();
    look();
    let made = place.path("made.key");
    let mut command = wamedia();
    command.args(["init", "--key-file", text(&made), text(&place.path("other"))]);
    run(command).expect_success();
    assert_eq!(fs::metadata(made).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn errors_and_logs_tell_no_key_and_no_passphrase() {
    let place = Place::with_volume(&[]);
    let (hex, raw) = key_bytes(&place);
    let wrong = place.path("wrong");
    fs::write(&wrong, format!("{PASSPHRASE}\nand more of it")).unwrap();
    let store = place.store();
    let key = place.key();
    let calls: [&[&str]; 6] = [
        &["check", "--passphrase-file", text(&wrong)],
        &["check", "--key-file", text(&wrong)],
        &["check", "--key-file", text(&key)],
        &["key", "add", "--key-file", text(&key), "--new-passphrase-file", text(&wrong)],
        &["key", "list"],
        &["status", "--key-file", text(&key)],
    ];
    for call in calls {
        let outcome = place.run(&[&["--log", "trace"], call, &[text(&store)]].concat());
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        for secret in [PASSPHRASE.as_bytes(), &hex, &raw, b"and more of it"] {
            assert!(!has(said.as_bytes(), secret), "{}: {said}", outcome.call);
        }
    }
}
