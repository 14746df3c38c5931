//! Erasure as it is asked for: media that are named or matched, and the report in pieces.

use std::cell::RefCell;

use serde::{Deserialize, Serialize};

use super::message::{Event, Reply};
use super::service::VolumeService;
use crate::error::{Error, Kind, Result};
use crate::ids::{Ino, MediaId};
use crate::volume::{ErasureWish, MAX_ERASED, MediaFilter, Selection, SignedReport};

/// Bytes of a report in one event at most.
const PIECE: usize = 256 << 10;
/// Media looked at in one step.
const STEP: usize = 1000;

/// What is to be erased.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EraseRequest {
    /// Media ids, or paths from the root.
    pub media: Vec<String>,
    /// All media that this matches; nothing with `media`.
    pub matching: Option<MediaFilter>,
    /// Only tell what would be erased.
    pub dry_run: bool,
    /// Tell paths in the report.
    pub with_names: bool,
    /// On whose behalf.
    pub on_behalf_of: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl EraseRequest {
    /// By what media are chosen, without what names somebody unless names were asked for.
    fn selection(&self) -> Selection {
        let Some(filter) = &self.matching else {
            return Selection { named: Some(self.media.len() as u64), ..Selection::default() };
        };
        let mut withheld = Vec::new();
        let mut told = |name: &str, value: Option<String>| {
            if value.is_some() && !self.with_names {
                withheld.push(name.to_owned());
                return None;
            }
            value
        };
        let below = told("below", filter.below.clone());
        let attribute = told("attribute", filter.attribute.as_ref().map(|(name, value)| format!("{name}={value}")));
        Selection {
            named: None,
            mime_type: filter.mime_type.clone(),
            older_than_seconds: filter.older_than.map(|time| time.as_secs()),
            larger_than_bytes: filter.larger,
            expired: filter.expired,
            below,
            attribute,
            withheld,
        }
    }
}

impl VolumeService {
    /// Erases, and tells the report in events.
    pub(super) fn erase(&self, request: &EraseRequest, events: &mut dyn FnMut(Event)) -> Result<Reply> {
        let events = RefCell::new(events);
        let (mut media, mut not_found, mut missing) = (Vec::new(), Vec::new(), 0);
        match &request.matching {
            Some(_) if !request.media.is_empty() => {
                return Err(Error::new(Kind::Invalid, "either name media or match them"));
            }
            Some(filter) => media = self.matched(filter)?,
            None => {
                for name in &request.media {
                    match self.find(name) {
                        Ok(ino) => media.push(ino),
                        Err(e) if e.kind() == Kind::NotFound => {
                            missing += 1;
                            let is_id = MediaId::parse(name.as_bytes()).is_some();
                            not_found.extend((is_id || request.with_names).then(|| name.clone()));
                        }
                        Err(e) => return Err(e),
                    }
                }
            }
        }
        let wish = ErasureWish {
            dry_run: request.dry_run,
            with_names: request.with_names,
            on_behalf_of: request.on_behalf_of.clone(),
            reason: request.reason.clone(),
            selection: request.selection(),
            not_found,
            not_found_count: missing,
        };
        let mut progress = |done, total| (events.borrow_mut())(Event::Progress { done, total });
        let signed = self.volume().erase(&media, wish, &mut progress)?;
        tell(&signed, &mut |piece| (events.borrow_mut())(Event::Report(piece)))?;
        Ok(Reply::Done)
    }

    fn matched(&self, filter: &MediaFilter) -> Result<Vec<Ino>> {
        if let Some(below) = &filter.below {
            self.require_directory(below)?;
        }
        let (mut media, mut cursor) = (Vec::new(), Vec::new());
        loop {
            let (page, next) = self.volume().list(filter, &cursor, STEP)?;
            media.extend(page.iter().map(|medium| Ino(medium.ino)));
            match next {
                Some(next) if media.len() <= MAX_ERASED => cursor = next,
                _ => return Ok(media),
            }
        }
    }
}

/// Tells a report in pieces that fit an event each.
fn tell(signed: &SignedReport, take: &mut dyn FnMut(String)) -> Result<()> {
    let text = signed.to_json()?;
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let mut at = rest.len().min(PIECE);
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        let (piece, behind) = rest.split_at(at);
        take(piece.to_owned());
        rest = behind;
    }
    Ok(())
}
