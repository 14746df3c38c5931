//! A volume to ask: through its daemon when it is mounted, opened here when it is not.

use std::sync::Arc;

use super::args::KeyArgs;
use super::environment::Environment;
use super::node::Door;
use super::target::{Target, daemon_is_gone};
use super::{holder, keys, progress};
use crate::control::{Client, Event, Hello, Reply, Request, Service, VolumeService};
use crate::error::{Error, Kind, Result};
use crate::store;
use crate::volume::origin::{self, Actor, Origin};
use crate::volume::{OpenOptions, Volume};

/// Somebody who answers requests about a volume.
pub enum Session {
    /// The daemon that has it mounted.
    Mounted(Box<Client>),
    /// This process, which has it open.
    Direct(VolumeService),
}

impl Session {
    /// Reaches the volume: asks its daemon if there is one, else opens the store, for which a key is needed.
    ///
    /// # Errors
    /// Those of [`Target::connect`], [`keys::read`] and [`Volume::open`]; `Io` for a mount whose daemon is gone.
    pub fn open(target: &Target, keys: &KeyArgs, environment: &Environment) -> Result<Session> {
        if let Some(client) = target.connect()? {
            return Ok(Session::Mounted(Box::new(client)));
        }
        if let Some(mount) = &target.mount {
            return Err(daemon_is_gone(mount));
        }
        open_directly(target, keys, environment, false).map(Session::Direct)
    }

    /// What the daemon says of itself, when there is one.
    #[must_use]
    pub fn hello(&self) -> Option<&Hello> {
        match self {
            Session::Mounted(client) => Some(client.hello()),
            Session::Direct(_) => None,
        }
    }

    /// Asks; news on the way go to `events`.
    ///
    /// # Errors
    /// Those of the volume's methods, and of the connection.
    pub fn ask(&mut self, request: &Request, events: &mut dyn FnMut(Event)) -> Result<Reply> {
        match self {
            Session::Mounted(client) => client.ask(request, events),
            Session::Direct(service) => {
                let actor = Actor::of_process(rustix::process::geteuid().as_raw(), std::process::id());
                let origin = Origin { actor: Some(actor), ..Origin::default() };
                origin::acting(origin, || service.answer(request.clone(), events))
            }
        }
    }

    /// Asks where there are no news on the way.
    ///
    /// # Errors
    /// As [`Session::ask`].
    pub fn ask_quietly(&mut self, request: &Request) -> Result<Reply> {
        self.ask(request, &mut |_| {})
    }

    /// Ends the session; a volume opened here is shut down.
    ///
    /// # Errors
    /// Those of [`Volume::shutdown`].
    pub fn close(self) -> Result<()> {
        match self {
            Session::Mounted(_) => Ok(()),
            Session::Direct(service) => service.volume().shutdown(),
        }
    }
}

/// Opens a store that is not mounted; one that cannot be written to be read only.
///
/// # Errors
/// Those of [`keys::read`], [`store::lay_memory_over`] and [`Volume::open`].
pub fn open_directly(
    target: &Target,
    keys: &KeyArgs,
    environment: &Environment,
    rebuild_index: bool,
) -> Result<VolumeService> {
    let superblock = store::read_superblock(&target.store)?;
    let sources = keys::read(keys, environment, &superblock)?;
    holder::wait_for(&target.store);
    let bar = progress::counter(if rebuild_index { "rebuilding the index" } else { "opening the volume" });
    let shown = bar.clone();
    let options = OpenOptions {
        rebuild_index,
        progress: Some(Box::new(move |done, total| progress::set(&shown, done, total))),
        ..OpenOptions::default()
    };
    let is_read_only = store::is_read_only(&target.store);
    let place = match is_read_only {
        true => store::lay_memory_over(&target.store)?,
        false => target.store.clone(),
    };
    let opened = Volume::open(&place, &sources, options);
    bar.finish_and_clear();
    let volume = opened?;
    let node = Arc::new(Door::new(Arc::clone(&volume)));
    Ok(VolumeService::new(volume).with_node(node).read_only(is_read_only))
}

/// Refuses to change a store that cannot be written.
///
/// # Errors
/// `ReadOnly`.
pub fn require_writable(target: &Target) -> Result<()> {
    match store::is_read_only(&target.store) {
        true => Err(Error::new(
            Kind::ReadOnly,
            format!("{} lies on a read-only file system; copy the store to change it", target.store.display()),
        )),
        false => Ok(()),
    }
}

/// Opens a session, does something with it, and ends it in any case.
///
/// # Errors
/// The first failure of the three.
pub fn with<T>(
    target: &Target,
    keys: &KeyArgs,
    environment: &Environment,
    work: impl FnOnce(&mut Session) -> Result<T>,
) -> Result<T> {
    let mut session = Session::open(target, keys, environment)?;
    let outcome = work(&mut session);
    let closed = session.close();
    let value = outcome?;
    closed.map(|()| value)
}

/// The failure of an answer to another question.
#[must_use]
pub fn unexpected() -> Error {
    Error::new(
        Kind::Version,
        "the daemon answered another question than was asked; unmount with the version that mounted",
    )
}
