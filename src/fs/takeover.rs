//! Taking over a mount that has outlived its process: the connection to the kernel goes on as it was agreed upon.
//!
//! The library that talks to the kernel begins each session with the kernel's first request, INIT, which was answered long
//! ago. So it is given one from a socket instead, with what was agreed upon then; once it has answered, the connection takes
//! the socket's place, by its number. No request passes through anything that it would not pass through otherwise.
//!
//! What the process before had taken up and not answered the kernel hands out once more when it is asked to.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::Sender;
use fuser::{Config, Request, Session, SessionACL};

use crate::error::{Error, Kind, Result};
use crate::ids::{Ino, VolumeId};

use super::adapter::{MAX_REQUEST, WamediaFs};
use super::expired;
use super::mount::Mounted;
use super::mountinfo::{self, FS_TYPE};
use super::note::{Agreed, Former, Note};
use super::options::MountOptions;
use super::{syscalls, unmount};

/// The first request of the kernel.
const INIT: u32 = 26;
const MAJOR: u32 = 7;
const REQUEST_HEAD: usize = 40;
const INIT_LEN: usize = REQUEST_HEAD + 64;
/// Flags that say more flags follow.
const INIT_EXT: u64 = 1 << 30;

/// What can be said to the kernel without having been asked.
const NOTIFY_INVAL_INODE: u32 = 2;
const NOTIFY_RESEND: u32 = 7;
const REPLY_HEAD: usize = 16;

/// Set in the number of a request that is handed out once more.
const RESENT: u64 = 1 << 63;

/// Whether an earlier process had taken up a request, and may have done what it asks for.
pub(super) fn is_resent(request: &Request) -> bool {
    request.unique().0 & RESENT != 0
}

/// A mount that has outlived the process that served it. Whoever drops it lets it go.
#[derive(Debug)]
pub struct Outlived {
    connection: OwnedFd,
    note: Arc<Note>,
    former: Former,
    agreed: Agreed,
}

impl Outlived {
    /// Looks at what was kept of a process: the connection, and the note beside it. The mount can be taken over when both
    /// are whole, the kernel has it still where it was, and it is to be mounted there (`asked`, as it was asked for) as it is.
    ///
    /// Asks nothing of the mount itself, which does not answer.
    ///
    /// # Errors
    /// [`Kind::Invalid`] with the reason why it cannot be taken over; [`Kind::Io`].
    pub fn find(
        connection: OwnedFd,
        note: OwnedFd,
        volume: VolumeId,
        asked: &Path,
        options: &MountOptions,
    ) -> Result<Outlived> {
        if !syscalls::is_connected(connection.as_fd()).map_err(|e| Error::io("the connection that was kept", e))? {
            return Err(unfit("its connection has ended"));
        }
        let (note, former) = Note::read(note, volume)?;
        let agreed = note.agreed().ok_or_else(|| unfit("it had not begun"))?;
        if let Err(error) = expect_fit(&agreed, asked, options) {
            // Nobody is going to serve it, so nobody is to wait for that.
            if let Err(error) = unmount::take_away_device(&agreed.place, agreed.device()) {
                tracing::warn!(%error, "the mount that cannot be taken over stays, and answers nothing but errors");
            }
            return Err(error);
        }
        Ok(Outlived { connection, note: Arc::new(note), former, agreed })
    }

    /// The note, which goes on.
    #[must_use]
    pub fn note(&self) -> Arc<Note> {
        Arc::clone(&self.note)
    }

    /// Where it is, without symbolic links.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.agreed.place
    }

    /// Whether somebody else has made it, who takes it away again.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.agreed.is_given
    }

    /// The mount, to be served from now on.
    #[must_use]
    pub fn into_mounted(self, options: &MountOptions) -> Mounted {
        let (device, place) = (self.agreed.device(), self.agreed.place.clone());
        let taken = Taken { note: self.note, former: self.former, agreed: self.agreed };
        Mounted::taken_over(self.connection, place, device, options.threads, taken)
    }
}

fn unfit(why: &str) -> Error {
    Error::new(Kind::Invalid, format!("the mount cannot be taken over: {why}"))
}

/// Refuses a mount that is not as this process is to serve it.
fn expect_fit(agreed: &Agreed, asked: &Path, options: &MountOptions) -> Result<()> {
    let table = mountinfo::read_table()?;
    let is_there = mountinfo::top_at(&table, &agreed.place)
        .is_some_and(|mount| mount.fs_type == FS_TYPE && mount.device == agreed.device());
    if !is_there {
        return Err(unfit("it is not at its place any more"));
    }
    if agreed.asked != asked {
        return Err(unfit("it is to be mounted elsewhere"));
    }
    if agreed.words != options.agreed_words() {
        return Err(unfit("it is to be mounted with other options"));
    }
    if agreed.max_write > MAX_REQUEST {
        return Err(unfit("its requests are larger than this build takes"));
    }
    Ok(())
}

/// What a session needs of a mount that it takes over.
#[derive(Debug)]
pub(super) struct Taken {
    pub note: Arc<Note>,
    pub former: Former,
    pub agreed: Agreed,
}

/// A session on a connection of which the first request was answered by an earlier process.
pub(super) fn resume(
    fs: WamediaFs,
    connection: &OwnedFd,
    acl: SessionACL,
    config: Config,
    agreed: &Agreed,
) -> io::Result<Session<WamediaFs>> {
    let (ours, theirs) = UnixDatagram::pair()?;
    ours.send(&init_request(agreed))?;
    let session = Session::from_fd(fs, theirs.into(), acl, config)?;
    syscalls::replace(session.as_fd(), connection.as_fd())?;
    Ok(session)
}

/// The request that an earlier process has answered, as the kernel would ask for what was agreed upon.
fn init_request(agreed: &Agreed) -> [u8; INIT_LEN] {
    let mut request = [0; INIT_LEN];
    let flags = (agreed.flags | INIT_EXT).to_le_bytes();
    let (low, high) = flags.split_at(4);
    let number = |number: u32| number.to_ne_bytes();
    let words = [number(INIT_LEN as u32), number(INIT)];
    let unique = 1u64.to_ne_bytes();
    let body = [number(MAJOR), number(agreed.minor), number(u32::MAX)];
    let flags = [low, high].map(|half| half.try_into().map_or(0, u32::from_le_bytes)).map(number);
    let head = words.concat().into_iter().chain(unique);
    for (to, byte) in request.iter_mut().zip(head) {
        *to = byte;
    }
    let body = body.concat().into_iter().chain(flags.concat());
    for (to, byte) in request.iter_mut().skip(REQUEST_HEAD).zip(body) {
        *to = byte;
    }
    request
}

/// The way to tell the kernel what the library does not.
#[derive(Debug)]
pub(super) struct Teller(File);

impl Teller {
    pub(super) fn new(connection: BorrowedFd<'_>) -> io::Result<Teller> {
        connection.try_clone_to_owned().map(|fd| Teller(File::from(fd)))
    }

    /// Has the kernel hand out once more what an earlier process has taken up and not answered.
    ///
    /// # Errors
    /// As the kernel says; `EINVAL` before Linux 6.9.
    pub(super) fn resend(&self) -> io::Result<()> {
        self.tell(NOTIFY_RESEND, &[])
    }

    /// Has the kernel forget what it remembers of an inode: its attributes, and with `content` its pages, for which it waits
    /// for whoever reads them. False when it does not know the inode.
    pub(super) fn forget(&self, ino: Ino, content: bool) -> io::Result<bool> {
        let mut is_known = false;
        for number in [ino, expired::alias(ino)] {
            let from: i64 = if content { 0 } else { -1 };
            let body = [number.0.to_ne_bytes(), from.to_ne_bytes(), 0i64.to_ne_bytes()].concat();
            match self.tell(NOTIFY_INVAL_INODE, &body) {
                Ok(()) => is_known = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(is_known)
    }

    fn tell(&self, what: u32, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(REPLY_HEAD + body.len()).unwrap_or(u32::MAX);
        let head = [&length.to_ne_bytes()[..], &what.to_ne_bytes(), &0u64.to_ne_bytes()].concat();
        // One call is one message: the kernel takes it whole or not at all.
        (&self.0).write_vectored(&[IoSlice::new(&head), IoSlice::new(body)]).map(drop)
    }
}

/// Tells the kernel what changed with the process: what was lost is read anew (then `done` is dropped), and of inodes
/// without a name those go that nobody has open. Runs on a thread of its own, since the kernel may wait for answers meanwhile.
pub(super) fn settle(teller: &Teller, note: &Note, done: Sender<()>, nameless: &[Ino], mut let_go: impl FnMut(Ino)) {
    for ino in note.lost() {
        match teller.forget(ino, true) {
            Ok(true) => {}
            Ok(false) => note.forgotten(ino),
            Err(error) => tracing::debug!(%error, %ino, "the kernel does not forget what was lost"),
        }
    }
    drop(done);
    for ino in nameless {
        match teller.forget(*ino, false) {
            Ok(true) => {}
            Ok(false) => let_go(*ino),
            Err(error) => tracing::debug!(%error, %ino, "the kernel does not say whether it knows an inode"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_says_what_was_agreed_upon() {
        let (flags, words, place, asked) = (1 << 39 | 1, String::new(), "/p".into(), "/a".into());
        let (device, is_given) = ((0, 1), false);
        let request = init_request(&Agreed { minor: 44, flags, max_write: 1, device, words, place, asked, is_given });
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        assert_eq!((word(0) as usize, word(4)), (request.len(), INIT));
        assert_eq!((word(40), word(44)), (7, 44));
        assert_eq!((word(52), word(56)), (1 | 1 << 30, 1 << 7));
    }
}
