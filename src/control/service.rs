//! Answers requests with a volume.

use std::cell::RefCell;
use std::sync::Arc;

use super::change::Keep;
use super::message::{Event, MAX_NAMED_MEDIA, MAX_PAGE, Reply, Request, ScrubWish, cursor_bytes, cursor_text};
use crate::error::{Error, Kind, Result};
use crate::ids::{Ino, MediaId};
use crate::sync::Mutex;
use crate::volume::{
    AuditFilter, CheckReport, FileKind, MediaFilter, Medium, Policy, PurgeWish, Purged, RepairOptions, Volume,
};

/// The beginning of a path in the virtual directory of expired media.
const EXPIRED_PREFIX: &str = ".expired/";
/// The virtual directory itself.
const EXPIRED_NAME: &str = ".expired";

/// Somebody who answers requests; may block.
pub trait Service: Send + Sync {
    /// Answers one request; news on the way go to `events`.
    ///
    /// # Errors
    /// Those of the volume's methods.
    fn answer(&self, request: Request, events: &mut dyn FnMut(Event)) -> Result<Reply>;
}

/// Somebody who answers what is for the media node; may block.
pub trait NodeDoor: Send + Sync {
    /// Answers one wish.
    ///
    /// # Errors
    /// The node's own.
    fn answer(&self, wish: serde_json::Value) -> Result<serde_json::Value>;

    /// How its work is doing, in its own form.
    ///
    /// # Errors
    /// The node's own.
    fn figures(&self) -> Result<serde_json::Value>;

    /// All figures of the volume and the node, in Prometheus's text form.
    ///
    /// # Errors
    /// The node's own, and those of the volume.
    fn metrics(&self) -> Result<String>;
}

/// Answers with an open volume.
pub struct VolumeService {
    volume: Arc<Volume>,
    node: Option<Arc<dyn NodeDoor>>,
    /// Held while a policy is read, changed and written back. No other lock of ours is taken under it.
    policy_change: Mutex<()>,
    is_read_only: bool,
}

impl VolumeService {
    /// A service for an open volume.
    #[must_use]
    pub fn new(volume: Arc<Volume>) -> VolumeService {
        VolumeService { volume, node: None, policy_change: Mutex::new(()), is_read_only: false }
    }

    /// The same, giving `node` what is for it.
    #[must_use]
    pub fn with_node(mut self, node: Arc<dyn NodeDoor>) -> VolumeService {
        self.node = Some(node);
        self
    }

    /// The same, refusing all that changes the volume when `is_read_only`.
    #[must_use]
    pub fn read_only(mut self, is_read_only: bool) -> VolumeService {
        self.is_read_only = is_read_only;
        self
    }

    /// The volume it answers for.
    #[must_use]
    pub fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// The inode of a medium named by its id, by its path in the volume, or by its place in `.expired`.
    pub(super) fn find(&self, medium: &str) -> Result<Ino> {
        if let Some(id) = MediaId::parse(medium.as_bytes())
            && let Some(ino) = self.volume.find(&id)?
        {
            return Ok(ino);
        }
        let path = medium.trim_start_matches('/');
        let found = match path.strip_prefix(EXPIRED_PREFIX) {
            Some(name) => self.volume.expired_by_name(name.as_bytes()).map(|expired| expired.ino),
            None => self.volume.resolve(path.as_bytes()),
        };
        found.map_err(|error| match error.kind() {
            Kind::NotFound | Kind::NotDirectory => Error::new(
                Kind::NotFound,
                format!("the volume has no medium `{medium}`; name it by its media id or by its path from the root of the volume"),
            ),
            _ => error,
        })
    }

    pub(super) fn require_directory(&self, path: &str) -> Result<()> {
        let found = self.volume.resolve(path.as_bytes()).and_then(|ino| self.volume.getattr(ino));
        let mend = match found {
            Ok(attr) if attr.kind == FileKind::Directory => return Ok(()),
            Ok(_) => "`wamedia info` shows a single medium",
            Err(_) if path == EXPIRED_NAME => "`wamedia expired list` shows what is in there",
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::NotDirectory) => {
                "name it by its path from the root of the volume"
            }
            Err(error) => return Err(error),
        };
        Err(Error::new(Kind::NotFound, format!("the volume has no directory `{path}`; {mend}")))
    }

    fn node(&self) -> Result<&dyn NodeDoor> {
        self.node.as_deref().ok_or_else(|| Error::new(Kind::Unsupported, "there is no media node to ask"))
    }

    fn policy(&self) -> Policy {
        Policy::clone(&self.volume.policy())
    }

    fn list(&self, filter: &MediaFilter, cursor: &str, limit: usize) -> Result<Reply> {
        let cursor = cursor_bytes(cursor)?;
        // Later pages may go on although the directory was removed meanwhile.
        if let (true, Some(below)) = (cursor.is_empty(), &filter.below) {
            self.require_directory(below)?;
        }
        let (media, next) = self.volume.list(filter, &cursor, limit.clamp(1, MAX_PAGE))?;
        Ok(Reply::Media { media, next: next.as_deref().map(cursor_text) })
    }

    fn expired(&self, cursor: &str, limit: usize) -> Result<Reply> {
        let cursor = cursor_bytes(cursor)?;
        let limit = limit.clamp(1, MAX_PAGE);
        let page = self.volume.expired(&cursor, limit)?;
        let next = (page.len() == limit).then(|| page.last().map(|e| cursor_text(&e.cursor))).flatten();
        let mut media = Vec::with_capacity(page.len());
        for entry in &page {
            match self.volume.medium(entry.ino, false) {
                Ok(medium) => media.push((String::from_utf8_lossy(&entry.name).into_owned(), medium)),
                // Removed since the page was read.
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Reply::Expired { media, next })
    }

    /// Finds all media first, so that a wrong name changes nothing.
    fn for_each(&self, media: &[String], change: impl Fn(Ino) -> Result<()>) -> Result<Reply> {
        if media.len() > MAX_NAMED_MEDIA {
            return Err(Error::new(
                Kind::TooBig,
                format!("more than {MAX_NAMED_MEDIA} media in one request; name fewer at a time"),
            ));
        }
        let found = media.iter().map(|name| self.find(name)).collect::<Result<Vec<Ino>>>()?;
        let mut changed: Vec<Medium> = Vec::with_capacity(found.len());
        for ino in found {
            change(ino)?;
            changed.push(self.volume.medium(ino, false)?);
        }
        Ok(Reply::Changed(changed))
    }

    fn purge(&self, wish: &PurgeWish, list: bool, events: &mut dyn FnMut(Event)) -> Result<Reply> {
        let events = RefCell::new(events);
        let mut name = |gone| (events.borrow_mut())(Event::Gone(gone));
        let mut tell = |report: &_| (events.borrow_mut())(Event::Purged(Clone::clone(report)));
        let listed: Option<&mut dyn FnMut(Purged)> = if list { Some(&mut name) } else { None };
        Ok(Reply::Purged(self.volume.purge_some(wish, listed, &mut tell)?))
    }

    fn audit(&self, filter: &AuditFilter, events: &mut dyn FnMut(Event)) -> Result<Reply> {
        filter.require_sense()?;
        let mut page = Vec::new();
        let state = self.volume.audit(filter, &mut |removed| {
            page.push(removed);
            if page.len() >= MAX_PAGE {
                events(Event::Removals(std::mem::take(&mut page)));
            }
            Ok(())
        })?;
        if !page.is_empty() {
            events(Event::Removals(page));
        }
        Ok(Reply::Audited(state))
    }

    fn check(&self, repair: bool, options: RepairOptions, events: &mut dyn FnMut(Event)) -> Result<Reply> {
        let mut progress = |done, total| events(Event::Progress { done, total });
        let mut report = match repair {
            true => self.volume.repair(options, &mut progress)?,
            false => self.volume.check(options.read_all, &mut progress)?,
        };
        let findings = u64::try_from(report.findings.len()).unwrap_or(u64::MAX);
        for finding in std::mem::take(&mut report.findings) {
            events(Event::Finding(finding));
        }
        let CheckReport { blobs, bytes, unlisted, quarantine, needs_rebuild, .. } = report;
        Ok(Reply::Checked { blobs, bytes, findings, unlisted, quarantine, needs_rebuild })
    }
}

impl Service for VolumeService {
    fn answer(&self, request: Request, events: &mut dyn FnMut(Event)) -> Result<Reply> {
        let volume = &self.volume;
        if self.is_read_only && request.is_change() {
            let message =
                "the volume is mounted or stored read-only; mount it without `-o ro`, or copy the store, to change it";
            return Err(Error::new(Kind::ReadOnly, message));
        }
        match request {
            Request::Status => Ok(Reply::Status(Box::new(volume.status()?))),
            Request::Overview => {
                let node = self.node.as_ref().map_or(Ok(serde_json::Value::Null), |node| node.figures())?;
                Ok(Reply::Overview { overview: Box::new(volume.overview()?), node })
            }
            Request::Metrics => self.node()?.metrics().map(Reply::Metrics),
            Request::List { filter, cursor, limit } => self.list(&filter, &cursor, limit),
            Request::Expired { cursor, limit } => self.expired(&cursor, limit),
            Request::Medium { medium, deep } => Ok(Reply::Medium(Box::new(volume.medium(self.find(&medium)?, deep)?))),
            Request::Purge { dry_run, older_than, list } => {
                self.purge(&PurgeWish { dry_run, older_than, due: false }, list, events)
            }
            Request::PurgeDue { dry_run, older_than, list } => {
                self.purge(&PurgeWish { dry_run, older_than, due: true }, list, events)
            }
            Request::Erase { request } => self.erase(&request, events),
            Request::ErasurePublicKey => volume.erasure_public_key().map(Reply::PublicKey),
            Request::Audit { filter } => self.audit(&filter, events),
            Request::Hold { media, held } => self.for_each(&media, |ino| volume.hold(ino, held)),
            Request::KeepMedia { media, keep } => {
                self.for_each(&media, |ino| volume.set_medium_retention(ino, keep.map(Keep::as_option)))
            }
            Request::Policy => Ok(Reply::Policy(self.policy())),
            Request::ChangePolicy { change } => {
                let _alone = self.policy_change.lock();
                volume.set_policy(change.apply(self.policy())?)?;
                Ok(Reply::Policy(self.policy()))
            }
            Request::Check { read_all, repair, move_damaged } => {
                self.check(repair, RepairOptions { read_all, move_damaged }, events)
            }
            Request::Scrub { wish } => {
                match wish {
                    ScrubWish::Start { rate, anew } => volume.start_scrub(rate, anew)?,
                    ScrubWish::Stop => volume.stop_scrub(),
                    ScrubWish::Status => {}
                }
                Ok(Reply::Scrub(Box::new(volume.scrub_status())))
            }
            Request::Node { wish } => self.node()?.answer(wish).map(Reply::Node),
            Request::Sync => volume.sync_all().map(|()| Reply::Done),
            Request::Stop { .. } => {
                Err(Error::new(Kind::Invalid, "the volume is not mounted; there is nothing to stop"))
            }
        }
    }
}
