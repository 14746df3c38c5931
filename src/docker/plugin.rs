//! The volumes: making, mounting, counting, removing them.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use super::state::{Entry, StateFile};
use crate::error::{Error, Kind, Result};
use crate::sync::Mutex;

/// What is said of a volume when it is made.
pub type Options = BTreeMap<String, String>;
/// How a volume is doing, as names and values.
pub type Figures = serde_json::Map<String, serde_json::Value>;

/// Volumes at most.
const MAX_VOLUMES: usize = 4096;
/// Uses of one volume that are remembered at most.
const MAX_MOUNTS: usize = 4096;
/// Bytes in an engine's id for a use at most.
const MAX_ID_BYTES: usize = 256;
/// Bytes in a name at most.
const MAX_NAME_BYTES: usize = 255;
/// Requests about one volume that wait for each other at most.
const MAX_WAITING: usize = 16;

/// A volume, as an engine has asked for it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its name: letters, digits, `_`, `.` and `-`, the first a letter or digit.
    pub name: &'a str,
    /// Its options.
    pub options: &'a Options,
}

/// What the options of a volume say to the plugin itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// It stays mounted when nobody uses it.
    pub stays: bool,
    /// Its media go with it.
    pub deletes: bool,
}

/// What was found where a volume is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A mount that answers.
    Alive,
    /// A mount without a daemon; it was taken away.
    Dead,
    /// No mount.
    Absent,
}

/// How an unmount came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It is not mounted any more.
    Unmounted,
    /// Some program on the host uses it, so it stays.
    InUse,
}

/// Makes volumes and mounts them. Calls about one volume come one at a time, but for [`Keeper::figures`].
pub trait Keeper: Send + Sync {
    /// Reads the options.
    ///
    /// # Errors
    /// `Invalid` for an option that is not known, with those that are, and for a value that makes no sense.
    fn wishes(&self, volume: Asked<'_>) -> Result<Wishes>;

    /// Makes the volume's store, or takes up the one that is there; durable on return.
    ///
    /// # Errors
    /// What keeps the volume from being made.
    fn make(&self, volume: Asked<'_>) -> Result<()>;

    /// Looks where the volume is mounted, and takes a mount without a daemon away.
    ///
    /// # Errors
    /// `Busy` when the mount does not answer, `Io`.
    fn look(&self, volume: Asked<'_>) -> Result<Found>;

    /// Mounts a volume that is not mounted; the mount answers on return.
    ///
    /// # Errors
    /// What keeps it from being mounted.
    fn mount(&self, volume: Asked<'_>) -> Result<()>;

    /// Unmounts a volume and waits until it is shut down.
    ///
    /// # Errors
    /// What keeps it from being unmounted, but for its being used.
    fn unmount(&self, volume: Asked<'_>) -> Result<Left>;

    /// Takes the mount point of an unmounted volume away, and with `deletes` its store, durable on return. What is gone
    /// already is no failure.
    ///
    /// # Errors
    /// `Io`.
    fn discard(&self, volume: Asked<'_>, deletes: bool) -> Result<()>;

    /// Where the volume is mounted.
    fn mountpoint(&self, volume: Asked<'_>) -> PathBuf;

    /// How the volume is doing; within a few seconds, whatever its daemon does. `last` is how it was when it was unmounted.
    fn figures(&self, volume: Asked<'_>, last: Option<&Figures>) -> Figures;

    /// The time, RFC 3339.
    fn now(&self) -> String;
}

/// The plugin.
pub struct Plugin<K> {
    keeper: K,
    state: Mutex<StateFile>,
    turns: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl<K: Keeper> Plugin<K> {
    /// A plugin that has this state.
    #[must_use]
    pub fn new(keeper: K, state: StateFile) -> Plugin<K> {
        Plugin { keeper, state: Mutex::new(state), turns: Mutex::default() }
    }

    /// The names of all volumes, and where they are mounted.
    pub fn list(&self) -> Vec<(String, PathBuf)> {
        let file = self.state.lock();
        let volumes = file.state().volumes.iter();
        volumes.map(|(name, entry)| (name.clone(), self.keeper.mountpoint(asked(name, entry)))).collect()
    }

    /// A volume that there is.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn entry(&self, name: &str) -> Result<Entry> {
        self.state.lock().state().volumes.get(name).cloned().ok_or_else(|| absent(name))
    }

    /// Where a volume is mounted.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        Ok(self.keeper.mountpoint(asked(name, &self.entry(name)?)))
    }

    /// How a volume is doing.
    pub fn figures(&self, name: &str, entry: &Entry) -> Figures {
        self.keeper.figures(asked(name, entry), entry.last.as_ref())
    }

    /// Makes a volume. One that is there already stays as it is.
    ///
    /// A crash before the state is written leaves a store that the next call takes up.
    ///
    /// # Errors
    /// `Invalid` for a name or options that make no sense, `Exists` when the volume was made with other options, those of
    /// [`Keeper::make`].
    pub fn create(&self, name: &str, options: &Options) -> Result<()> {
        require_name(name)?;
        self.in_turn(name, || {
            if let Ok(entry) = self.entry(name) {
                return match options.is_empty() || *options == entry.options {
                    true => Ok(()),
                    false => Err(differs(name)),
                };
            }
            if self.state.lock().state().volumes.len() >= MAX_VOLUMES {
                return Err(Error::new(Kind::TooManyOpen, format!("there are {MAX_VOLUMES} volumes already")));
            }
            let volume = Asked { name, options };
            self.keeper.wishes(volume)?;
            self.keeper.make(volume)?;
            let entry = Entry { created: self.keeper.now(), options: options.clone(), ..Entry::default() };
            self.state.lock().change(|state| state.volumes.insert(name.to_owned(), entry))?;
            Ok(())
        })
    }

    /// Mounts a volume for one more user and says where. One that has it already may ask again.
    ///
    /// A crash before the state is written leaves the volume mounted, for the next call or the next unmount to find.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` for an id that makes no sense, those of the keeper.
    pub fn mount(&self, name: &str, id: &str) -> Result<PathBuf> {
        require_id(id)?;
        self.in_turn(name, || {
            let entry = self.entry(name)?;
            let volume = asked(name, &entry);
            if !entry.mounts.contains(id) && entry.mounts.len() >= MAX_MOUNTS {
                return Err(Error::new(Kind::TooManyOpen, format!("{name} has {MAX_MOUNTS} users already")));
            }
            let found = self.bring_up(volume)?;
            self.change(name, |entry| {
                if found == Found::Absent {
                    // Who had the mount that is gone has nothing of this one.
                    entry.mounts.clear();
                }
                entry.mounts.insert(id.to_owned());
            })?;
            Ok(self.keeper.mountpoint(volume))
        })
    }

    /// Ends one use of a volume, and unmounts it with the last unless it is to stay. An id that is not known is no
    /// failure, nor is a volume that somebody on the host uses: it stays mounted.
    ///
    /// A crash in between leaves the volume mounted without users, for the next call to find.
    ///
    /// # Errors
    /// `NotFound`, `Io` for the state.
    pub fn unmount(&self, name: &str, id: &str) -> Result<()> {
        self.in_turn(name, || {
            self.change(name, |entry| {
                entry.mounts.remove(id);
            })?;
            let entry = self.entry(name)?;
            let volume = asked(name, &entry);
            let stays = self.keeper.wishes(volume).is_ok_and(|wishes| wishes.stays);
            if !entry.mounts.is_empty() || stays {
                return Ok(());
            }
            // The user is gone in any case: an engine must not take it for still there.
            match self.take_down(volume) {
                Ok(Left::Unmounted) => {}
                Ok(Left::InUse) => tracing::warn!(name, "a program of the host uses the volume; it stays mounted"),
                Err(error) => tracing::error!(name, %error, "the volume could not be unmounted"),
            }
            Ok(())
        })
    }

    /// Forgets a volume. Its store stays and a volume of that name takes it up again, unless the volume was made to be
    /// deleted with its removal. One that is not there is no failure.
    ///
    /// A crash before the state is written leaves a volume that can be removed again; a store that was to be deleted is
    /// then gone or whole.
    ///
    /// # Errors
    /// `Busy` while it is used, those of the keeper.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.in_turn(name, || {
            let Ok(entry) = self.entry(name) else { return Ok(()) };
            let volume = asked(name, &entry);
            // Options that were known when the volume was made; without them nothing is deleted.
            let deletes = self.keeper.wishes(volume).is_ok_and(|wishes| wishes.deletes);
            let is_mounted = self.keeper.look(volume)? == Found::Alive;
            let place = self.keeper.mountpoint(volume);
            let place = place.display();
            if is_mounted && !entry.mounts.is_empty() {
                let message = format!(
                    "{name} is used: {} not ended; if nothing uses it any more, `wamedia umount {place}` ends that",
                    uses(entry.mounts.len())
                );
                return Err(Error::new(Kind::Busy, message));
            }
            if is_mounted && self.keeper.unmount(volume)? == Left::InUse {
                let message = format!("a program of the host uses {place} (`fuser -vm {place}` shows which)");
                return Err(Error::new(Kind::Busy, message));
            }
            self.keeper.discard(volume, deletes)?;
            self.state.lock().change(|state| state.volumes.remove(name))?;
            Ok(())
        })
    }

    /// What a plugin does first: mounts what was mounted and has lost its daemon, mounts what is to stay mounted, and
    /// forgets the users of mounts that are gone, as after the machine has started.
    pub fn restore(&self) {
        for (name, _) in self.list() {
            if let Err(error) = self.in_turn(&name, || self.restore_one(&name)) {
                tracing::error!(%name, %error, "the volume could not be brought back");
            }
        }
    }

    fn restore_one(&self, name: &str) -> Result<()> {
        // Removed meanwhile.
        let Ok(entry) = self.entry(name) else { return Ok(()) };
        let volume = asked(name, &entry);
        let found = self.keeper.look(volume)?;
        if found == Found::Absent {
            self.change(name, |entry| entry.mounts.clear())?;
        }
        let is_used = found == Found::Dead && !entry.mounts.is_empty();
        let stays = self.keeper.wishes(volume).is_ok_and(|wishes| wishes.stays);
        if found != Found::Alive && (is_used || stays) {
            self.keeper.mount(volume)?;
        }
        Ok(())
    }

    /// Sees to it that a volume is mounted; what was found before.
    fn bring_up(&self, volume: Asked<'_>) -> Result<Found> {
        let found = self.keeper.look(volume)?;
        if found != Found::Alive {
            self.keeper.mount(volume)?;
        }
        Ok(found)
    }

    fn take_down(&self, volume: Asked<'_>) -> Result<Left> {
        if self.keeper.look(volume)? != Found::Alive {
            return Ok(Left::Unmounted);
        }
        let last = self.keeper.figures(volume, None);
        let left = self.keeper.unmount(volume)?;
        if left == Left::Unmounted {
            self.change(volume.name, |entry| entry.last = Some(last))?;
        }
        Ok(left)
    }

    fn change(&self, name: &str, work: impl FnOnce(&mut Entry)) -> Result<()> {
        self.state.lock().change(|state| state.volumes.get_mut(name).map(work).ok_or_else(|| absent(name)))?
    }

    /// Does something about a volume while nobody else does.
    fn in_turn<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let turn = Arc::clone(self.turns.lock().entry(name.to_owned()).or_default());
        let outcome = match Arc::strong_count(&turn) <= MAX_WAITING {
            true => {
                let _turn = turn.lock();
                work()
            }
            false => Err(Error::new(Kind::Busy, format!("too many requests wait for volume {name}; try again"))),
        };
        drop(turn);
        self.turns.lock().retain(|_, turn| Arc::strong_count(turn) > 1);
        outcome
    }
}

fn asked<'a>(name: &'a str, entry: &'a Entry) -> Asked<'a> {
    Asked { name, options: &entry.options }
}

fn absent(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("no such volume: {name}"))
}

fn differs(name: &str) -> Error {
    Error::new(
        Kind::Exists,
        format!(
            "volume {name} is there already, made with other options; `wamedia quota set` and `wamedia retention set` change \
it where it is mounted, or remove it (the media stay) and make it anew"
        ),
    )
}

fn uses(count: usize) -> String {
    match count {
        1 => "1 use was".to_owned(),
        count => format!("{count} uses were"),
    }
}

fn require_name(name: &str) -> Result<()> {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric();
    let begins_well = name.bytes().next().is_some_and(is_letter);
    let goes_on_well = name.bytes().all(|byte| is_letter(byte) || b"_.-".contains(&byte));
    match begins_well && goes_on_well && name.len() <= MAX_NAME_BYTES {
        true => Ok(()),
        false => Err(Error::new(
            Kind::Invalid,
            "a volume's name has letters, digits, `_`, `.` and `-`, begins with a letter or digit, and has 255 of them at most",
        )),
    }
}

fn require_id(id: &str) -> Result<()> {
    match (1..=MAX_ID_BYTES).contains(&id.len()) {
        true => Ok(()),
        false => Err(Error::new(Kind::Invalid, format!("the id of a use has 1 to {MAX_ID_BYTES} bytes"))),
    }
}

#[cfg(test)]
#[path = "plugin_tests.rs"]
mod tests;
