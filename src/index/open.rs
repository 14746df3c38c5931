//! Opening: from a directory in any state to an index that can be trusted, or to the reason why there is none.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::base::{Changes, HEAD_NAME};
use super::disk::{self, Disk};
use super::files;
use super::head::Head;
use super::pages::Pages;
use super::{Index, Opened, Options, Sealer};
use crate::error::{Error, Kind, Result};

/// Opens or makes the index in `dir`.
pub(super) fn open(dir: &Path, options: Options, sealer: Arc<dyn Sealer>) -> Opened {
    if let Err(e) = files::expect_own(dir) {
        return Opened::Unusable { reason: e.to_string(), full_disk: false };
    }
    let tree = files::tree_dir(dir);
    let result = match fs::metadata(&tree) {
        Ok(_) => open_existing(dir, &tree, options, sealer),
        Err(e) if e.kind() == io::ErrorKind::NotFound => create(dir, &tree, options, sealer),
        Err(e) => Err(Error::io(tree.display(), e)),
    };
    result.map_or_else(|e| unusable(dir, &e), Opened::Ready)
}

/// What a failed open is told as.
fn unusable(dir: &Path, error: &Error) -> Opened {
    if error.kind() == Kind::Locked {
        return Opened::Locked;
    }
    let tree = files::tree_dir(dir);
    let _ = files::remove_unfinished(&tree);
    let full = || files::free_bytes(dir).is_ok_and(|free| free < disk::space_to_open(&tree));
    Opened::Unusable { reason: error.to_string(), full_disk: error.kind() == Kind::NoSpace || full() }
}

/// Refuses to start what a full disk would leave half done.
fn ask_for_room(dir: &Path, tree: &Path) -> Result<()> {
    let (free, needed) = (files::free_bytes(dir)?, disk::space_to_open(tree));
    if free < needed {
        let message = format!("the index needs {needed} bytes of free space to open, {free} are there");
        return Err(Error::new(Kind::NoSpace, message));
    }
    Ok(())
}

fn create(dir: &Path, tree: &Path, options: Options, sealer: Arc<dyn Sealer>) -> Result<Index> {
    fs::create_dir_all(dir).map_err(|e| Error::io(dir.display(), e))?;
    ask_for_room(dir, tree)?;
    let made = make(dir, tree, options, sealer);
    if made.is_err() {
        let _ = fs::remove_dir_all(tree);
    }
    made
}

/// Makes an empty index, durable with its head.
fn make(dir: &Path, tree: &Path, options: Options, sealer: Arc<dyn Sealer>) -> Result<Index> {
    files::take_mark(dir)?;
    let base = Disk::open(tree, options.cache_bytes)?;
    let pages = Pages::new(Box::new(base), sealer);
    let head = Head::default();
    let sealed = pages.seal(&HEAD_NAME, &head.encode());
    pages.base.apply(Changes::from([(HEAD_NAME.to_vec(), Some(sealed))]))?;
    pages.base.flush(0)?;
    files::sync_dir(tree)?;
    files::sync_dir(dir)?;
    files::write_session(dir, files::session(dir).as_deref())?;
    Ok(Index::new(pages, head, options, true))
}

fn open_existing(dir: &Path, tree: &Path, options: Options, sealer: Arc<dyn Sealer>) -> Result<Index> {
    files::remove_unfinished(tree)?;
    ask_for_room(dir, tree)?;
    let base = Disk::open(tree, options.cache_bytes)?;
    // Only now: while another process has the index open, the mark is not ours to take.
    let mark = files::take_mark(dir)?;
    let pages = Pages::new(Box::new(base), sealer);
    let head =
        pages.read_head()?.ok_or_else(|| Error::new(Kind::Damaged, "the index was never finished or lost its head"))?;
    if files::read_flushed(dir).is_some_and(|batches| head.batches < batches) {
        return Err(Error::new(Kind::Damaged, "the index lost batches that were durable"));
    }
    let session = files::session(dir);
    let is_same_session = session.is_some() && session == files::read_session(dir);
    files::write_session(dir, session.as_deref())?;
    let found = Closed::of(mark.as_deref(), &head);
    if found == Closed::Not && !is_same_session && !pages.sum_up()?.same_pages(&head) {
        return Err(Error::new(Kind::Damaged, "the index lost or mixed pages when it was last open"));
    }
    let is_unchecked = found == Closed::Unchecked || (found == Closed::Not && is_same_session);
    let index = Index::new(pages, head, options, false);
    Ok(if is_unchecked { index.with_check_put_off(dir) } else { index })
}

/// How an index was closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closed {
    /// Not at all, or it is another one by now.
    Not,
    /// With its pages not all looked at.
    Unchecked,
    /// With all pages looked at.
    Checked,
}

impl Closed {
    fn of(mark: Option<&str>, head: &Head) -> Closed {
        match mark {
            Some(mark) if mark == head.fingerprint() => Closed::Checked,
            Some(mark) if mark.strip_prefix(files::UNCHECKED) == Some(&head.fingerprint()) => Closed::Unchecked,
            _ => Closed::Not,
        }
    }
}
