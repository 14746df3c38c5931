//! A place of its own for one test: store, mount point, key file, and the built binary to run on them.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long one command may take before it is taken for hung and killed.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// A temporary directory that other users can pass through, with the parts of one volume in it.
pub struct Place {
    dir: TempDir,
}

impl Place {
    /// Makes an empty place with an empty mount point.
    pub fn new() -> Place {
        let dir = tempfile::Builder::new().prefix("wamedia-test-").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod of the own directory");
        let place = Place { dir };
        fs::create_dir(place.mnt()).expect("mkdir of the mount point");
        place
    }

    /// Makes a place with a volume in it: `wamedia init --key-file KEY <options> STORE`.
    pub fn with_volume(options: &[&str]) -> Place {
        let place = Place::new();
        place.init(options);
        place
    }

    /// Makes a place with a volume without a cipher in it.
    pub fn with_plain_volume(options: &[&str]) -> Place {
        let place = Place::new();
        place.run(&[&["init", "--cipher", "none"], options, &[text(&place.store())]].concat()).expect_success();
        place
    }

    /// Makes the volume of this place.
    pub fn init(&self, options: &[&str]) {
        let (key, store) = (self.key(), self.store());
        self.give_key(&key);
        let mut args = vec!["init", "--key-file", text(&key)];
        args.extend_from_slice(options);
        args.push(text(&store));
        self.run(&args).expect_success();
    }

    /// Writes a key file (64 hex digits) that fits no other volume.
    pub fn give_key(&self, path: &Path) {
        let path = self.path(path);
        let mut key = [0u8; 32];
        fs::File::open("/dev/urandom").expect("urandom").read_exact(&mut key).expect("32 random bytes");
        fs::write(&path, super::tree::hex(&key)).expect("the key file");
        fs::set_permissions(path, Permissions::from_mode(0o600)).expect("chmod of the key file");
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Something in it.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the store is.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Where the volume is mounted.
    pub fn mnt(&self) -> PathBuf {
        self.path("mnt")
    }

    /// The key file.
    pub fn key(&self) -> PathBuf {
        self.path("key")
    }

    /// Runs the binary to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Outcome {
        let mut command = wamedia();
        command.args(args).current_dir(self.dir());
        run(command)
    }

    /// The volume as commands name it while it is not mounted: key options, then the store.
    pub fn unmounted(&self) -> [String; 3] {
        ["--key-file".to_owned(), text(&self.key()).to_owned(), text(&self.store()).to_owned()]
    }

    /// `wamedia check --key-file KEY STORE` of the unmounted store, of a volume without a cipher without the key.
    pub fn check(&self) -> Outcome {
        if !self.key().exists() {
            return self.run(&["check", text(&self.store())]);
        }
        self.run(&["check", "--key-file", text(&self.key()), text(&self.store())])
    }
}

/// The built binary, without settings that the environment might bring.
pub fn wamedia() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wamedia"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WAMEDIA_") {
            command.env_remove(name);
        }
    }
    // In the store, so that nothing of a killed daemon stays behind outside of the test's place.
    command.env("WAMEDIA_RUNTIME_DIR", "");
    command
}

/// What a command did.
pub struct Outcome {
    /// How it was called.
    pub call: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed as its result.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
}

impl Outcome {
    /// Its standard output; panics when the command failed.
    pub fn expect_success(self) -> String {
        assert!(self.status.success(), "{}: {}\n{}{}", self.call, self.status, self.stdout, self.stderr);
        self.stdout
    }

    /// Everything it said; panics when the command did not fail by itself with an exit code.
    pub fn expect_failure(self) -> String {
        let code = self.status.code().unwrap_or_else(|| panic!("{}: {}\n{}", self.call, self.status, self.stderr));
        assert!(code != 0, "{} succeeded but must not\n{}", self.call, self.stdout);
        assert!(!self.stderr.contains("panicked at"), "{} panicked:\n{}", self.call, self.stderr);
        assert!(!self.stderr.trim().is_empty(), "{} failed with {code} and said nothing", self.call);
        self.stderr
    }

    /// Its standard output as JSON, one value per line.
    pub fn json_lines(self) -> Vec<serde_json::Value> {
        let call = self.call.clone();
        let out = self.expect_success();
        let parse =
            |line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{call} printed no JSON ({e}):\n{out}"));
        out.lines().filter(|line| !line.trim().is_empty()).map(parse).collect()
    }

    /// Its standard output as one JSON value.
    pub fn json(self) -> serde_json::Value {
        let call = self.call.clone();
        let mut values = self.json_lines();
        assert_eq!(values.len(), 1, "{call} printed {} JSON values", values.len());
        values.remove(0)
    }
}

/// Runs a command to its end, killing it when it hangs.
pub fn run(mut command: Command) -> Outcome {
    let call = format!("{command:?}");
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{call}: {e}"));
    let output = wait_with_limit(child, &call);
    Outcome {
        call,
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn wait_with_limit(mut child: Child, call: &str) -> Output {
    let mut out = child.stdout.take().expect("stdout is piped");
    let mut err = child.stderr.take().expect("stderr is piped");
    // A daemon keeps the pipes of the command that started it, unless it lets go of them as it should; the readers
    // are therefore given a moment after the end and not waited for without bound.
    let out = thread::spawn(move || drain(&mut out));
    let err = thread::spawn(move || drain(&mut err));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("waiting for the own child") {
            break status;
        }
        if started.elapsed() > COMMAND_LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{call}: no end after {COMMAND_LIMIT:?}, killed");
        }
        thread::sleep(Duration::from_millis(2));
    };
    let ended = Instant::now();
    while !(out.is_finished() && err.is_finished()) {
        assert!(ended.elapsed() < Duration::from_secs(20), "{call} ended, but something still holds its output");
        thread::sleep(Duration::from_millis(2));
    }
    Output { status, stdout: out.join().expect("reader"), stderr: err.join().expect("reader") }
}

fn drain(pipe: &mut impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    bytes
}

/// A path as the text that the tests' own paths are.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("the tests' paths are plain text")
}
