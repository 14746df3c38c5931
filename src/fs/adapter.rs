//! The volume as a FUSE file system: what every request needs. The requests themselves are in `operations`.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use fuser::{Errno, FileHandle, Generation, INodeNo, ReplyEmpty, ReplyEntry, ReplyXattr, Request};

use crate::clock::Stopwatch;
use crate::error::{Error, Kind, Result};
use crate::ids::Ino;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::volume::origin::{self, Actor, Origin, Way};
use crate::volume::{Attr, FileKind, Meter, OpenFile, OpenMode, Operation, SetAttr, Volume};

use super::agreement::Agreement;
use super::chunks::ChunkGiver;
use super::convert::file_attr;
use super::errno::errno;
use super::expired::{self, ExpiredListing};
use super::handles::{FileGuard, Handle, Handles, ToldKind};
use super::inherited::Inherited;
use super::options::MountOptions;
use super::passing::Passing;
use super::pulse::{Pulse, Served};
use super::reach::Caller;
use super::references::References;

/// How long the kernel may trust names and attributes: long, since it is told of every change it did not make.
pub(super) const TTL: Duration = Duration::from_secs(3600);
/// For what changes with the clock.
pub(super) const TTL_NONE: Duration = Duration::ZERO;
/// Inode numbers are never used twice, so one generation is enough.
pub(super) const GENERATION: Generation = Generation(0);

/// Most bytes of one read or write request.
pub(super) const MAX_REQUEST: u32 = 1 << 20;

/// How long the kernel may trust these attributes. It does not notice when a write takes setuid and setgid from a file,
/// so it has to ask each time about a file that has them.
pub(super) fn attr_ttl(attr: &Attr) -> Duration {
    if attr.mode & 0o6000 != 0 && attr.kind != FileKind::Directory { TTL_NONE } else { TTL }
}

/// What a request comes to: a value, or the errno to reply.
pub(super) type Answer<T> = std::result::Result<T, Errno>;

thread_local! {
    /// Where a thread reads to; it grows to the largest request once and is used again and again.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(vec![]) };
    /// Who asked this thread for something last, and in which second that was.
    static LAST_ACTOR: RefCell<Option<(i64, Actor)>> = const { RefCell::new(None) };
}

/// A volume, served to the kernel.
pub(super) struct WamediaFs {
    pub(super) volume: Arc<Volume>,
    pub(super) handles: Handles,
    pub(super) references: Arc<References>,
    pub(super) expired_listed: bool,
    pub(super) chunks: Arc<ChunkGiver>,
    pub(super) agreement: Arc<OnceLock<Agreement>>,
    pub(super) passing: Arc<Passing>,
    /// Whether media may be read by the kernel alone.
    pub(super) passes_through: bool,
    inherited: Arc<Inherited>,
    pulse: Arc<Pulse>,
    poison_told: AtomicBool,
}

/// A request that is being answered: counted, and timed, until it is dropped.
pub(super) struct Answering<'a> {
    meter: &'a Meter,
    operation: Operation,
    watch: Stopwatch,
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.meter.answered(self.operation, self.watch.nanos());
    }
}

impl WamediaFs {
    /// Serves a volume; where it takes a mount over, with what the process before has left.
    pub(super) fn new(
        volume: Arc<Volume>,
        options: &MountOptions,
        pulse: Arc<Pulse>,
        inherited: Arc<Inherited>,
    ) -> WamediaFs {
        WamediaFs {
            handles: Handles::new(inherited.note()),
            references: Arc::new(References::new(inherited.is_taken_over())),
            volume,
            expired_listed: options.expired_listed,
            passing: Arc::default(),
            passes_through: options.pass_through,
            chunks: Arc::default(),
            agreement: Arc::default(),
            inherited,
            pulse,
            poison_told: AtomicBool::new(false),
        }
    }

    /// A request begins; it ends, answered, when what this gives is dropped. Does not return when another process is to
    /// serve it.
    pub(super) fn enter(&self) -> Served<'_> {
        self.pulse.request()
    }

    /// Counts and times a request, or one part of it, from now until the guard is dropped.
    pub(super) fn answering(&self, operation: Operation) -> Answering<'_> {
        Answering { meter: self.volume.meter(), operation, watch: Stopwatch::start() }
    }

    /// Asks the volume once, for a request that needs no more.
    pub(super) fn ask<T>(&self, operation: Operation, ino: Ino, ask: impl FnOnce(&Volume) -> Result<T>) -> Answer<T> {
        let _answering = self.answering(operation);
        self.ask_within(operation, ino, ask)
    }

    /// Asks the volume. This is the edge where failures are logged, once each, and where a panic, which would leave
    /// the mount with one thread less and in the end hanging, becomes `EIO`.
    pub(super) fn ask_within<T>(
        &self,
        operation: Operation,
        ino: Ino,
        ask: impl FnOnce(&Volume) -> Result<T>,
    ) -> Answer<T> {
        let what = operation.as_str();
        let Ok(answer) = catch_unwind(AssertUnwindSafe(|| ask(&self.volume))) else {
            tracing::error!(what, %ino, "a request has panicked: this is a fault of wamedia");
            self.volume.meter().failed(operation);
            return Err(Errno::EIO);
        };
        answer.map_err(|error| self.refusal(operation, ino, &error))
    }

    /// Asks the volume for what may remove something, in the name of the program whose request it is.
    pub(super) fn ask_for<T>(
        &self,
        request: &Request,
        way: Way,
        operation: Operation,
        ino: Ino,
        ask: impl FnOnce(&Volume) -> Result<T>,
    ) -> Answer<T> {
        let actor = self.actor_of(request.uid(), request.pid());
        self.ask(operation, ino, |volume| origin::acting(Origin { way, actor: Some(actor) }, || ask(volume)))
    }

    /// The process that a request comes from. Its name is asked for once a second, since programs remove much at a time.
    fn actor_of(&self, uid: u32, pid: u32) -> Actor {
        let second = self.volume.now().secs;
        LAST_ACTOR.with_borrow_mut(|last| match last {
            Some((at, actor)) if *at == second && actor.uid == Some(uid) && actor.pid.unwrap_or(0) == pid => {
                actor.clone()
            }
            _ => last.insert((second, Actor::of_process(uid, pid))).1.clone(),
        })
    }

    /// Asks the volume about an inode that the kernel knows. Where it is gone the kernel remembers a name of it: it looks
    /// again, and makes a file anew where that is what a program has asked for.
    pub(super) fn ask_inode<T>(
        &self,
        operation: Operation,
        ino: Ino,
        ask: impl FnOnce(&Volume) -> Result<T>,
    ) -> Answer<T> {
        self.ask(operation, ino, ask).map_err(|errno| if errno.code() == libc::ENOENT { Errno::ESTALE } else { errno })
    }

    fn refusal(&self, operation: Operation, ino: Ino, error: &Error) -> Errno {
        let what = operation.as_str();
        if matches!(error.kind(), Kind::Io | Kind::Damaged | Kind::Poisoned) {
            self.volume.meter().failed(operation);
        }
        let worth_telling = match error.kind() {
            Kind::Io | Kind::Damaged => true,
            Kind::Poisoned => !self.poison_told.swap(true, Ordering::Relaxed),
            _ => false,
        };
        if worth_telling {
            tracing::error!(what, %ino, kind = ?error.kind(), %error, "a request has failed");
        }
        errno(error.kind())
    }

    /// What a number stands for that the kernel has for an open inode.
    pub(super) fn handle(&self, ino: INodeNo, number: FileHandle) -> Answer<Arc<Handle>> {
        self.handle_at(ino, number, 0)
    }

    /// The same for a listing that is at `offset`.
    pub(super) fn handle_at(&self, ino: INodeNo, number: FileHandle, offset: u64) -> Answer<Arc<Handle>> {
        match self.handles.get(number) {
            Some(handle) => Ok(handle),
            None => self.inherit(ino, number, offset),
        }
    }

    /// Opens what an earlier process had open, the first time it is asked for.
    fn inherit(&self, ino: INodeNo, number: FileHandle, offset: u64) -> Answer<Arc<Handle>> {
        let told = self.handles.inherited(number).ok_or(Errno::EBADF)?;
        let real = expired::real(ino);
        let handle = match told.kind {
            ToldKind::Directory => Handle::Directory(real),
            ToldKind::Expired => Handle::Expired(ExpiredListing::begun_again(offset)),
            ToldKind::File { read, write, append } => {
                if self.inherited.is_lost(real, told.epoch) {
                    return Err(Errno::EIO);
                }
                let mode = OpenMode { read, write, append, truncate: false };
                let opened = self.ask(Operation::Open, real, |volume| volume.open_file(real, mode));
                // It was open, so it was there: what is gone now was lost.
                let file = opened.map_err(|errno| if errno.code() == libc::ENOENT { Errno::EIO } else { errno })?;
                Handle::File(FileGuard::new(self.volume.clone(), file))
            }
        };
        self.handles.adopt(number, handle).ok_or(Errno::EBADF)
    }

    /// Opens the files again that an earlier process had open for writing, so that they count as such.
    pub(super) fn reopen(&self, writers: &[(u64, Ino)]) {
        for (number, ino) in writers {
            if let Err(errno) = self.inherit(INodeNo(ino.0), FileHandle(*number), 0) {
                tracing::warn!(%ino, ?errno, "a file that was open for writing is lost to who has it open");
            }
        }
    }

    /// Whether what the kernel remembers of an inode may be what was lost.
    pub(super) fn was_lost(&self, ino: Ino) -> bool {
        self.inherited.was_lost(ino)
    }

    /// Refuses to say that a file is safe when something of it was lost and nobody was told: whoever syncs it may be the one
    /// who has written that.
    pub(super) fn expect_safe(&self, ino: Ino) -> Answer<()> {
        if self.inherited.is_safe(ino) { Ok(()) } else { Err(Errno::EIO) }
    }

    /// The kernel has forgotten an inode.
    pub(super) fn forgotten(&self, ino: Ino) {
        self.inherited.forgotten(ino);
        let _ = self.ask(Operation::Forget, ino, |volume| {
            volume.forget(ino);
            Ok(())
        });
    }

    /// Asks the volume about an open file. The handle is let go before this returns, so before any reply.
    pub(super) fn ask_file<T>(
        &self,
        operation: Operation,
        ino: INodeNo,
        number: FileHandle,
        ask: impl FnOnce(&Volume, &OpenFile) -> Result<T>,
    ) -> Answer<T> {
        let handle = self.handle(ino, number)?;
        let Handle::File(guard) = &*handle else { return Err(Errno::EBADF) };
        let file = guard.file().ok_or(Errno::EBADF)?;
        self.ask(operation, Ino(ino.0), |volume| ask(volume, file))
    }

    /// Reads into this thread's buffer and gives what was read to `reply`.
    pub(super) fn read_file(
        &self,
        ino: INodeNo,
        number: FileHandle,
        offset: u64,
        size: u32,
        reply: impl FnOnce(Answer<&[u8]>),
    ) {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let size = size.min(MAX_REQUEST) as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            let place = buffer.get_mut(..size).unwrap_or_default();
            let read = self.ask_file(Operation::Read, ino, number, |volume, file| volume.read(file, offset, place));
            let length = *read.as_ref().unwrap_or(&0);
            self.volume.meter().read(length as u64);
            reply(read.map(|length| buffer.get(..length).unwrap_or_default()));
            // An entry of `.expired` has pages of its own.
            if !expired::is_alias(ino) {
                self.chunks.was_read(Ino(ino.0), offset, length);
            }
        });
    }

    /// Makes an entry or finds one, counts it, and replies.
    pub(super) fn entry(
        &self,
        operation: Operation,
        parent: INodeNo,
        reply: ReplyEntry,
        make: impl FnOnce(&Volume) -> Result<Attr>,
    ) {
        let telling = self.references.telling();
        match self.ask(operation, Ino(parent.0), make) {
            Ok(attr) => {
                telling.told(attr.ino);
                drop(telling);
                reply.entry_with_ttls(&attr_ttl(&attr), &TTL, &file_attr(&attr), GENERATION);
            }
            Err(errno) => reply.error(errno),
        }
    }

    /// Finds a medium by its name in `.expired`. It may cease to be expired at any time, and is not there for everybody, so
    /// the name is not remembered.
    pub(super) fn expired_entry(&self, caller: &Caller, name: &[u8], reply: ReplyEntry) {
        let telling = self.references.telling();
        let found = self.ask(Operation::Lookup, expired::INO, |volume| {
            let expired = volume.expired_by_name(name)?;
            if !caller.reaches(volume, expired.ino)? {
                return Err(Kind::NotFound.into());
            }
            volume.getattr(expired.ino)
        });
        match found {
            Ok(attr) => {
                telling.told(attr.ino);
                drop(telling);
                reply.entry(&TTL_NONE, &expired::entry_attributes(&attr), GENERATION);
            }
            Err(errno) => reply.error(errno),
        }
    }
}

/// Refuses a new name in `.expired`, and the name `.expired` itself.
pub(super) fn may_add(parent: Ino, name: &[u8]) -> Answer<()> {
    if parent == expired::INO {
        return Err(Errno::EROFS);
    }
    if expired::is_named(parent, name) { Err(Errno::EEXIST) } else { Ok(()) }
}

/// Refuses to take a name out of `.expired` by any way but `unlink`, and the name `.expired` itself.
pub(super) fn may_take(parent: Ino, name: &[u8]) -> Answer<()> {
    if parent == expired::INO || expired::is_named(parent, name) { Err(Errno::EROFS) } else { Ok(()) }
}

/// Clears setuid and setgid of a file that an unprivileged caller has cut while opening it. The kernel leaves
/// that to us, and it is rare enough to cost another call.
pub(super) fn drop_privileges_of(volume: &Volume, ino: Ino) -> Result<()> {
    if volume.getattr(ino)?.mode & 0o6000 != 0 {
        volume.setattr(ino, &SetAttr { drop_privileges: true, ..SetAttr::default() })?;
    }
    Ok(())
}

/// Replies to a request that has no more to say than that it was done.
pub(super) fn reply_done(reply: ReplyEmpty, answer: Answer<()>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// The protocol of extended attributes: their length when the caller has no room yet, `ERANGE` when it has too little.
pub(super) fn reply_sized(reply: ReplyXattr, room: u32, answer: Answer<Vec<u8>>) {
    match answer.and_then(|value| Ok((u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?, value))) {
        Ok((length, _)) if room == 0 => reply.size(length),
        Ok((length, _)) if length > room => reply.error(Errno::ERANGE),
        Ok((_, value)) => reply.data(&value),
        Err(errno) => reply.error(errno),
    }
}
