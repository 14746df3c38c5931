//! Tells the kernel what changed by other ways than the mount, so that its caches may be trusted for long.
//!
//! A notification takes the lock of the directory it is about, and a request that holds that lock may be waiting for
//! an answer of ours. So notifications are never sent by the threads that answer requests: they go through a queue to
//! a thread of their own.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select};
use fuser::{INodeNo, Notifier};

use super::references::References;
use crate::error::{Error, Result};
use crate::ids::Ino;
use crate::sync::Mutex;
use crate::volume::Watcher;

/// Notifications that may wait.
const QUEUE: usize = 65_536;

/// How long a change waits for room in the queue. After that the notification is dropped: the kernel then finds out
/// when the name or inode is next used, or when its own memory of it has run out.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long changed inodes are gathered, so that a thousand changes of one directory are told once.
const GATHERED: Duration = Duration::from_millis(1);

enum Notice {
    NameGone {
        parent: Ino,
        name: Vec<u8>,
        child: Ino,
        sent: Sender<()>,
    },
    /// There are changed inodes.
    Changed,
    Stop,
}

/// Inodes that the kernel is to ask for anew.
type Changed = Mutex<HashSet<Ino>>;

/// The volume's way to the kernel.
pub(super) struct KernelWatcher {
    queue: Sender<Notice>,
    changed: Arc<Changed>,
    references: Arc<References>,
}

impl KernelWatcher {
    /// Starts the thread that sends. What the kernel does not know it is not told of.
    pub(super) fn start(notifier: Notifier, references: Arc<References>) -> Result<Arc<KernelWatcher>> {
        let (queue, notices) = bounded(QUEUE);
        let changed = Arc::new(Changed::default());
        let gathered = Arc::clone(&changed);
        thread::Builder::new()
            .name("fuse-notify".to_owned())
            .spawn(move || send_all(&notifier, &notices, &gathered))
            .map_err(|e| Error::io("starting the notification thread", e))?;
        Ok(Arc::new(KernelWatcher { queue, changed, references }))
    }

    /// Ends the thread once what waits has been sent; later changes go nowhere.
    pub(super) fn stop(&self) {
        let _ = self.queue.send_timeout(Notice::Stop, PATIENCE);
    }

    fn tell(&self, notice: Notice) {
        if let Err(error) = self.queue.send_timeout(notice, PATIENCE)
            && error.is_timeout()
        {
            tracing::warn!("the kernel is slow to take notifications; one was dropped");
        }
    }

    /// Has the kernel ask anew for an inode that it knows, or may know.
    fn tell_of(&self, ino: Ino) {
        let is_first = {
            let mut changed = self.changed.lock();
            if changed.len() >= QUEUE {
                tracing::warn!("the kernel is slow to take notifications; one was dropped");
                return;
            }
            let is_first = changed.is_empty();
            changed.insert(ino);
            is_first
        };
        if is_first {
            self.tell(Notice::Changed);
        }
    }
}

impl Watcher for KernelWatcher {
    fn name_gone(&self, parent: Ino, name: &[u8], child: Ino) {
        if !self.references.knows(child) {
            self.tell_of(parent);
            return;
        }
        let (sent, done) = bounded(1);
        self.tell(Notice::NameGone { parent, name: name.to_vec(), child, sent });
        // Whoever removed it shall find it gone. The kernel may hold the directory until a request of ours is answered,
        // so this waits for a moment only.
        let _late = done.recv_timeout(PATIENCE);
    }

    fn inode_changed(&self, ino: Ino) {
        if self.references.knows(ino) {
            self.tell_of(ino);
        }
    }
}

fn send_all(notifier: &Notifier, notices: &Receiver<Notice>, changed: &Changed) {
    let mut due = never();
    loop {
        let notice = select! {
            recv(notices) -> notice => notice.unwrap_or(Notice::Stop),
            recv(due) -> _ => {
                due = never();
                send_changed(notifier, changed);
                continue;
            }
        };
        match notice {
            Notice::NameGone { parent, name, child, sent } => {
                note(name_gone(notifier, parent, &name, child));
                let _gone = sent.try_send(());
            }
            Notice::Changed => due = after(GATHERED),
            Notice::Stop => break,
        }
    }
    send_changed(notifier, changed);
}

fn send_changed(notifier: &Notifier, changed: &Changed) {
    let changed = std::mem::take(&mut *changed.lock());
    for ino in changed {
        note(notifier.inval_inode(INodeNo(ino.0), 0, 0));
    }
}

fn note(sent: io::Result<()>) {
    if let Err(error) = sent {
        tracing::debug!(%error, "a notification was refused by the kernel");
    }
}

/// The name goes, the child has fewer links, and the directory's own times have changed.
fn name_gone(notifier: &Notifier, parent: Ino, name: &[u8], child: Ino) -> io::Result<()> {
    let deleted = notifier.delete(INodeNo(parent.0), INodeNo(child.0), OsStr::from_bytes(name));
    let child_known = notifier.inval_inode(INodeNo(child.0), -1, 0);
    let parent_known = notifier.inval_inode(INodeNo(parent.0), -1, 0);
    deleted.and(child_known).and(parent_known)
}
