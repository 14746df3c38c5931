//! `wamedia ls` and `wamedia expired list`.

use std::cmp::Reverse;

use comfy_table::Table;

use super::Outcome;
use crate::cli::args::{ExpiredList, Ls, SortBy};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::output::{self, printable};
use crate::cli::session::{self, Session};
use crate::cli::target::Target;
use crate::cli::views::MediumView;
use crate::control::message::MAX_PAGE;
use crate::control::{Reply, Request};
use crate::error::{Error, Kind, Result};
use crate::volume::{MediaFilter, Medium};

/// Lists media.
///
/// # Errors
/// Those of [`Session`].
pub fn list(args: &Ls, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target.target)?;
    let filter = filter(args, &target)?;
    let mut writer = Writer { json: args.output.json, header_written: false };
    session::with(&target, &args.target.keys, environment, |session| match args.sort {
        None => {
            let mut left = args.limit.unwrap_or(usize::MAX);
            each_page(session, &filter, |page| {
                let page = page.get(..left.min(page.len())).unwrap_or_default();
                left -= page.len();
                writer.write(page)?;
                Ok(left > 0)
            })
        }
        Some(by) => {
            let mut media = Vec::new();
            each_page(session, &filter, |page| {
                media.extend_from_slice(page);
                Ok(true)
            })?;
            sort(&mut media, by);
            media.truncate(args.limit.unwrap_or(usize::MAX));
            media.chunks(MAX_PAGE).try_for_each(|page| writer.write(page))
        }
    })?;
    Ok(Exit::Success)
}

/// The filter of the options; a directory below the mount point filters too.
fn filter(args: &Ls, target: &Target) -> Result<MediaFilter> {
    let below = match (&target.inside, &args.matching.below) {
        (Some(_), Some(_)) => {
            return Err(Error::new(Kind::Invalid, "name the directory either with --below or as part of TARGET"));
        }
        (Some(inside), None) => Some(super::media::path_text(inside)?),
        (None, below) => below.clone(),
    };
    Ok(MediaFilter { held: args.held, below, ..args.matching.filter() })
}

/// Gives page after page to `take` until it says that it has enough.
fn each_page(
    session: &mut Session,
    filter: &MediaFilter,
    mut take: impl FnMut(&[Medium]) -> Result<bool>,
) -> Result<()> {
    let mut cursor = String::new();
    loop {
        let request = Request::List { filter: filter.clone(), cursor, limit: MAX_PAGE };
        let Reply::Media { media, next } = session.ask_quietly(&request)? else {
            return Err(session::unexpected());
        };
        match next {
            Some(next) if take(&media)? => cursor = next,
            Some(_) => return Ok(()),
            None => return take(&media).map(drop),
        }
    }
}

fn sort(media: &mut [Medium], by: SortBy) {
    match by {
        SortBy::Path => media.sort_by(|a, b| a.path.cmp(&b.path)),
        SortBy::Size => media.sort_by_key(|medium| Reverse(medium.size)),
        SortBy::Age => media.sort_by_key(|medium| medium.mtime),
        SortBy::Expires => media.sort_by_key(|medium| (medium.expires.is_none(), medium.expires)),
        SortBy::Type => media.sort_by(|a, b| (&a.mime_type, &a.path).cmp(&(&b.mime_type, &b.path))),
    }
}

/// Writes media page by page, the table's header once.
struct Writer {
    json: bool,
    header_written: bool,
}

impl Writer {
    fn write(&mut self, media: &[Medium]) -> Result<()> {
        if self.json {
            return media.iter().try_for_each(|medium| output::json(&MediumView::new(medium, None)));
        }
        if media.is_empty() {
            return Ok(());
        }
        let header: &[&str] =
            if self.header_written { &[] } else { &["ID", "SIZE", "TYPE", "WRITTEN", "EXPIRES", "PATH"] };
        self.header_written = true;
        let mut table = output::table(header, &[1]);
        for medium in media {
            table.add_row([
                medium.id.clone(),
                output::size(medium.size),
                printable(&medium.mime_type),
                output::time(medium.mtime),
                expiry(medium),
                printable(&medium.path),
            ]);
        }
        output::print(&table)
    }
}

/// When a medium expires, or why it does not.
fn expiry(medium: &Medium) -> String {
    match medium.expires {
        _ if medium.held => "held".to_owned(),
        _ if medium.expired => "expired".to_owned(),
        Some(at) => output::time(at),
        None => "never".to_owned(),
    }
}

/// Lists expired media with their names in `.expired`.
///
/// # Errors
/// Those of [`Session`].
pub fn list_expired(args: &ExpiredList, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target.target)?.whole()?;
    session::with(&target, &args.target.keys, environment, |session| write_expired(session, args))?;
    Ok(Exit::Success)
}

fn write_expired(session: &mut Session, args: &ExpiredList) -> Result<()> {
    let mut cursor = String::new();
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut header: &[&str] = &["NAME IN .expired", "SIZE", "TYPE", "WRITTEN", "EXPIRED", "PATH"];
    while left > 0 {
        let request = Request::Expired { cursor, limit: MAX_PAGE.min(left) };
        let Reply::Expired { media, next } = session.ask_quietly(&request)? else {
            return Err(session::unexpected());
        };
        left = left.saturating_sub(media.len());
        if args.output.json {
            for (name, medium) in &media {
                output::json(&MediumView::new(medium, Some(name)))?;
            }
        } else if !media.is_empty() {
            let mut table = output::table(header, &[1]);
            header = &[];
            for (name, medium) in &media {
                add_expired(&mut table, name, medium);
            }
            output::print(&table)?;
        }
        match next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    Ok(())
}

fn add_expired(table: &mut Table, name: &str, medium: &Medium) {
    table.add_row([
        printable(name),
        output::size(medium.size),
        printable(&medium.mime_type),
        output::time(medium.mtime),
        output::time_or_dash(medium.expires),
        printable(&medium.path),
    ]);
}
