//! Keeps the stores of container volumes, and the daemons that mount them.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::IFlags;
use serde_json::{Value, json};

use super::options::{Settled, settle};
use crate::cli::args::{Cipher, KeyArgs};
use crate::cli::commands::{MakeStore, make_store};
use crate::cli::environment::Environment;
use crate::cli::output::{size, size_limit};
use crate::cli::session;
use crate::cli::target::{self, Target};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::control::{Client, Reply, Request};
use crate::crypto::Suite;
use crate::docker::{Asked, Figures, Found, Keeper, Left, Wishes};
use crate::error::{Error, Kind, Result};
use crate::volume::Status;
use crate::{fs, store};

/// Where stores lie, below the base.
const STORES: &str = "stores";
/// Beginnings of names in there that no volume can have: a store that is being made, and one that is being deleted.
const UNMADE: &str = ".new-";
const DELETED: &str = ".deleted-";
/// How long a daemon may take to say who it is, and then how the volume is doing.
const FIGURES_LIMIT: Duration = Duration::from_secs(2);
/// Variables of a service manager that are for the plugin and not for the daemons.
const NOT_FOR_DAEMONS: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Places {
    /// The directory of the state and the stores, absolute.
    pub base: PathBuf,
    /// The directory of the mount points, absolute.
    pub mounts: PathBuf,
    /// What opens volumes of which nothing else was said.
    pub keys: KeyArgs,
    /// The program that mounts: this one.
    pub program: PathBuf,
}

/// Stores below one directory.
pub struct Stores {
    places: Places,
    environment: Environment,
    making: Mutex<()>,
}

impl Stores {
    /// Makes the directories that are missing, and takes away what a crash has left of stores that were being made or
    /// deleted.
    ///
    /// # Errors
    /// `Io`, naming the directory.
    pub fn open(mut places: Places, environment: Environment) -> Result<Stores> {
        make_directory(&places.base, 0o700)?;
        make_directory(&places.base.join(STORES), 0o700)?;
        make_open_directory(&places.mounts)?;
        // The mount table has them without links.
        let real = |path: &Path| std::fs::canonicalize(path).map_err(|e| Error::io(path.display(), e));
        (places.base, places.mounts) = (real(&places.base)?, real(&places.mounts)?);
        let stores = places.base.join(STORES);
        let entries = std::fs::read_dir(&stores).map_err(|e| Error::io(stores.display(), e))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            if [UNMADE, DELETED].iter().any(|begin| name.to_string_lossy().starts_with(begin)) {
                tracing::warn!(path = %entry.path().display(), "removing what is left of a store that was being made or deleted");
                remove_tree(&entry.path())?;
            }
        }
        Ok(Stores { places, environment, making: Mutex::new(()) })
    }

    /// The directory of the state.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.places.base
    }

    fn store(&self, volume: Asked<'_>, settled: &Settled) -> PathBuf {
        settled.store.clone().unwrap_or_else(|| self.places.base.join(STORES).join(volume.name))
    }

    fn place(&self, volume: Asked<'_>) -> PathBuf {
        self.places.mounts.join(volume.name)
    }

    /// What opens a volume: what its options say, else what the plugin was told.
    fn keys(&self, settled: &Settled) -> KeyArgs {
        match settled.keys.is_empty() {
            true => self.places.keys.clone(),
            false => settled.parsed.keys.clone(),
        }
    }

    fn key_words(&self, settled: &Settled) -> Vec<OsString> {
        if !settled.keys.is_empty() {
            return settled.keys.clone();
        }
        let word = |name: &str, value: &Path| {
            let mut word = OsString::from(name);
            word.push(value);
            word
        };
        let keys = &self.places.keys;
        let key_file = keys.key_file.as_deref().map(|path| word("--key-file=", path));
        let passphrase = keys.passphrase_file.as_deref().map(|path| word("--passphrase-file=", path));
        let credential = keys.credential.as_deref().map(|name| word("--credential=", Path::new(name)));
        key_file.into_iter().chain(passphrase).chain(credential).collect()
    }

    /// Makes a store, whole or not at all.
    fn make_store(&self, volume: Asked<'_>, settled: &Settled) -> Result<()> {
        let target = self.store(volume, settled);
        let mut keys = self.keys(settled);
        if settled.parsed.new.cipher == Some(Cipher::None) {
            keys = settled.parsed.keys.clone();
        }
        // The key file of all volumes is made with the first of them, and only once.
        let _alone = self.making.lock();
        if let Some(directory) = keys.key_file.as_deref().filter(|path| !path.exists()).and_then(Path::parent) {
            make_directory(directory, 0o700)?;
        }
        if settled.store.is_some() {
            return make_store(&MakeStore { store: &target, keys: &keys, new: &settled.parsed.new }, &self.environment)
                .map(drop);
        }
        let stores = self.places.base.join(STORES);
        let fresh = stores.join(format!("{UNMADE}{}", volume.name));
        remove_tree(&fresh)?;
        make_store(&MakeStore { store: &fresh, keys: &keys, new: &settled.parsed.new }, &self.environment)?;
        std::fs::rename(&fresh, &target).and_then(|()| sync(&stores)).map_err(|e| Error::io(target.display(), e))
    }

    /// Takes up a store that is there: sees to it that it opens, and gives it the policy that was asked for.
    fn take_up(&self, store: &Path, settled: &Settled) -> Result<()> {
        let is_plain = store::read_superblock(store)?.suite() == Suite::Checksum;
        let wants_plain = settled.parsed.new.cipher.map(|cipher| cipher == Cipher::None);
        if wants_plain.is_some_and(|wants| wants != is_plain) {
            let message = format!("{} is there already, with another cipher; leave `cipher` out", store.display());
            return Err(Error::new(Kind::Exists, message));
        }
        let change = settled.parsed.new.policy();
        tracing::info!(store = %store.display(), "taking up a store that is there");
        let keys = if is_plain { KeyArgs::default() } else { self.keys(settled) };
        let target = Target { store: store.to_owned(), mount: None, inside: None, is_dead: false };
        let request = match change.is_empty() {
            true => Request::Policy,
            false => Request::ChangePolicy { change },
        };
        session::with(&target, &keys, &self.environment, |session| session.ask_quietly(&request)).map(drop)
    }
}

impl Keeper for Stores {
    fn wishes(&self, volume: Asked<'_>) -> Result<Wishes> {
        settle(volume.options).map(|settled| settled.wishes)
    }

    fn make(&self, volume: Asked<'_>) -> Result<()> {
        let settled = settle(volume.options)?;
        let store = self.store(volume, &settled);
        match target::is_store(&store)? {
            true => self.take_up(&store, &settled)?,
            false => self.make_store(volume, &settled)?,
        }
        make_mount_point(&self.place(volume))
    }

    fn look(&self, volume: Asked<'_>) -> Result<Found> {
        let place = self.place(volume);
        let is_mounted = || Ok::<_, Error>(fs::find_mounts()?.iter().any(|mount| mount.path == place));
        if !is_mounted()? {
            return Ok(Found::Absent);
        }
        let mut found = Found::Alive;
        // Of several upon each other all may be dead.
        while is_mounted()? && fs::clear_dead(&place)? {
            found = Found::Dead;
        }
        Ok(if is_mounted()? { Found::Alive } else { found })
    }

    fn mount(&self, volume: Asked<'_>) -> Result<()> {
        let settled = settle(volume.options)?;
        let (store, place) = (self.store(volume, &settled), self.place(volume));
        if !target::is_store(&store)? {
            let message = format!("the store {} of volume {} is gone", store.display(), volume.name);
            return Err(Error::new(Kind::NotFound, message));
        }
        make_mount_point(&place)?;
        let is_plain = store::read_superblock(&store)?.suite() == Suite::Checksum;
        let keys = if is_plain { Vec::new() } else { self.key_words(&settled) };
        let mut command = Command::new(&self.places.program);
        command.args(["mount", "--daemon"]).args(&settled.mount).args(keys).arg("--").args([&store, &place]);
        for name in NOT_FOR_DAEMONS {
            command.env_remove(name);
        }
        let failed = |e| Error::io(format!("starting {}", self.places.program.display()), e);
        let told = command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).output().map_err(failed)?;
        let said = String::from_utf8_lossy(&told.stderr);
        let said = said.lines().map(|line| line.trim_start_matches("wamedia: ")).collect::<Vec<_>>().join("; ");
        if !told.status.success() {
            return Err(Error::new(Kind::Io, format!("{} cannot be mounted: {said}", volume.name)));
        }
        tracing::info!(name = volume.name, place = %place.display(), "mounted{}", beside(&said));
        Ok(())
    }

    fn unmount(&self, volume: Asked<'_>) -> Result<Left> {
        let (store, place) = (self.store(volume, &settle(volume.options)?), self.place(volume));
        let client = Client::connect(&store)?.filter(|client| client.hello().mount.as_deref() == place.to_str());
        let Some(mut client) = client else {
            return match fs::unmount(&place, false) {
                Err(error) if error.kind() == Kind::Busy => Ok(Left::InUse),
                done => done.map(|()| Left::Unmounted),
            };
        };
        match client.ask(&Request::Stop { lazy: false }, &mut |_| {}) {
            Err(error) if error.kind() == Kind::Busy => Ok(Left::InUse),
            Err(error) => Err(error),
            Ok(_) => {
                client.wait_for_end();
                tracing::info!(name = volume.name, "unmounted");
                Ok(Left::Unmounted)
            }
        }
    }

    fn discard(&self, volume: Asked<'_>, deletes: bool) -> Result<()> {
        let place = self.place(volume);
        set_immutable(&place, false);
        gone(std::fs::remove_dir(&place)).map_err(|e| Error::io(place.display(), e))?;
        let settled = settle(volume.options).ok();
        let store = settled.map(|settled| self.store(volume, &settled));
        if !deletes {
            let store = store.map(|store| store.display().to_string()).unwrap_or_default();
            tracing::info!(name = volume.name, store, "removed; the media stay in the store");
            return Ok(());
        }
        let stores = self.places.base.join(STORES);
        let (store, condemned) = (stores.join(volume.name), stores.join(format!("{DELETED}{}", volume.name)));
        remove_tree(&condemned)?;
        // From here on it is gone, whatever happens.
        gone(std::fs::rename(&store, &condemned))
            .and_then(|()| sync(&stores))
            .map_err(|e| Error::io(store.display(), e))?;
        remove_tree(&condemned)?;
        tracing::info!(name = volume.name, "removed, with its media");
        Ok(())
    }

    fn mountpoint(&self, volume: Asked<'_>) -> PathBuf {
        self.place(volume)
    }

    fn figures(&self, volume: Asked<'_>, last: Option<&Figures>) -> Figures {
        let settled = match settle(volume.options) {
            Ok(settled) => settled,
            Err(error) => return state_alone(error.to_string()),
        };
        let store = self.store(volume, &settled);
        let mut figures = match ask(&store) {
            Ok(Some(mut figures)) => {
                figures.insert("as_of".to_owned(), self.now().into());
                figures
            }
            Ok(None) => not_served(&store, &self.place(volume), last),
            Err(error) => state_alone(format!("its daemon does not answer: {error}")),
        };
        figures.insert("store".to_owned(), store.display().to_string().into());
        if let Some(path) = self.keys(&settled).key_file {
            figures.insert("key_file".to_owned(), path.display().to_string().into());
        }
        figures
    }

    fn now(&self) -> String {
        let now = SystemClock.now();
        Timestamp { nanos: 0, ..now }.rfc3339()
    }
}

/// Asks the daemon of a store how the volume is doing; none when there is no daemon.
fn ask(store: &Path) -> Result<Option<Figures>> {
    let Some(mut client) = Client::connect_within(store, FIGURES_LIMIT, FIGURES_LIMIT)? else { return Ok(None) };
    let pid = client.hello().pid;
    match client.ask(&Request::Status, &mut |_| {})? {
        Reply::Status(status) => {
            let mut figures = figures_of(&status);
            figures.insert("pid".to_owned(), pid.into());
            Ok(Some(figures))
        }
        _ => Err(session::unexpected()),
    }
}

/// The figures of a volume that nobody serves: those of the last time, or none.
fn not_served(store: &Path, place: &Path, last: Option<&Figures>) -> Figures {
    let is_mounted = fs::find_mounts().is_ok_and(|mounts| mounts.iter().any(|mount| mount.path == place));
    let state = match (is_mounted, target::is_store(store)) {
        (true, _) => "its daemon is gone; the next use mounts it anew",
        (false, Ok(true)) => "not mounted",
        (false, _) => "its store is gone",
    };
    let mut figures = last.cloned().unwrap_or_default();
    figures.remove("pid");
    figures.insert("state".to_owned(), state.into());
    figures
}

fn state_alone(state: String) -> Figures {
    Figures::from_iter([("state".to_owned(), state.into())])
}

/// Numbers for programs, and the same as text: templates of Docker write large numbers as 1.073741824e+09.
fn figures_of(status: &Status) -> Figures {
    let percent = status.max_bytes.filter(|max| *max > 0).map(|max| {
        let percent = u128::from(status.used_bytes) * 100 / u128::from(max);
        u64::try_from(percent).unwrap_or(u64::MAX)
    });
    let pairs: [(&str, Value); 14] = [
        ("state", status.state.clone().into()),
        ("volume_id", status.volume_id.clone().into()),
        ("cipher", status.cipher.clone().into()),
        ("used_bytes", status.used_bytes.into()),
        ("used", size(status.used_bytes).into()),
        ("quota_bytes", json!(status.max_bytes)),
        ("quota", size_limit(status.max_bytes).into()),
        ("used_percent", json!(percent)),
        ("media", status.media.into()),
        ("expired", status.expired.into()),
        ("expired_bytes", status.expired_bytes.into()),
        ("held", status.held.into()),
        ("oldest", json!(status.oldest.map(Timestamp::rfc3339))),
        ("refused_writes", status.refused_writes.into()),
    ];
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What a daemon had to say although it is well.
fn beside(said: &str) -> String {
    match said {
        "" => String::new(),
        said => format!("; it says: {said}"),
    }
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(|e| Error::io(path.display(), e))
}

/// Makes a directory, and those on the way to it, that all may pass through, whatever the umask says.
fn make_open_directory(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    path.parent().map_or(Ok(()), make_open_directory)?;
    let made = std::fs::create_dir(path);
    made.and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(|e| Error::io(path.display(), e))
}

/// Makes an empty mount point that all may pass through and nobody can write into while nothing is mounted there.
fn make_mount_point(place: &Path) -> Result<()> {
    match std::fs::create_dir(place) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(Error::io(place.display(), error)),
    }
    std::fs::set_permissions(place, Permissions::from_mode(0o755)).map_err(|e| Error::io(place.display(), e))?;
    set_immutable(place, true);
    Ok(())
}

/// Not every file system can; the mount point is as good without, only less guarded.
fn set_immutable(place: &Path, is_immutable: bool) {
    let set = || -> std::io::Result<()> {
        let directory = File::open(place)?;
        let mut flags = rustix::fs::ioctl_getflags(&directory)?;
        flags.set(IFlags::IMMUTABLE, is_immutable);
        Ok(rustix::fs::ioctl_setflags(&directory, flags)?)
    };
    if let Err(error) = set() {
        tracing::debug!(%error, place = %place.display(), "the mount point's flag stays as it is");
    }
}

fn sync(directory: &Path) -> std::io::Result<()> {
    File::open(directory)?.sync_all()
}

fn remove_tree(path: &Path) -> Result<()> {
    gone(std::fs::remove_dir_all(path)).map_err(|e| Error::io(path.display(), e))
}

/// What is not there need not be taken away.
fn gone(outcome: std::io::Result<()>) -> std::io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
