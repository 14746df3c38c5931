//! `wamedia audit`.

use serde::Serialize;

use super::Outcome;
use crate::cli::args::Audit;
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::output::{self, printable};
use crate::cli::session;
use crate::cli::target::Target;
use crate::clock::{Clock, SystemClock};
use crate::control::{Event, Reply, Request};
use crate::error::Result;
use crate::volume::{AuditFilter, AuditState, Removed};

/// A removal, for programs.
#[derive(Serialize)]
struct RemovedView<'a> {
    number: u64,
    time: String,
    way: &'a str,
    uid: Option<u32>,
    pid: Option<u32>,
    /// The program, or the token's name.
    name: Option<&'a str>,
    what: &'a str,
    id: Option<&'a str>,
    path: Option<&'a str>,
    names: u32,
    size: u64,
    sha256: Option<&'a str>,
    replaced: bool,
}

/// Shows what was removed.
///
/// # Errors
/// Those of [`session::Session`].
pub fn run(args: &Audit, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target.target)?.whole()?;
    let now = SystemClock.now();
    let filter = AuditFilter {
        since: args.since.map(|when| when.from(now)),
        until: args.until.map(|when| when.from(now)),
        id: args.id.as_deref().map(str::to_ascii_lowercase),
    };
    let mut writer = Writer { json: args.output.json, header_written: false };
    let state = session::with(&target, &args.target.keys, environment, |session| {
        let mut written = Ok(());
        let reply = session.ask(&Request::Audit { filter }, &mut |event| {
            if let (Event::Removals(removals), Ok(())) = (event, &written) {
                written = writer.write(&removals);
            }
        });
        written?;
        match reply? {
            Reply::Audited(state) => Ok(state),
            _ => Err(session::unexpected()),
        }
    })?;
    let flaws = flaws_of(&state);
    for flaw in &flaws {
        eprintln!("wamedia: {flaw}");
    }
    if state.missed > 0 {
        eprintln!("wamedia: {} removals have no record, since the disk had no room", state.missed);
    }
    Ok(if flaws.is_empty() { Exit::Success } else { Exit::Damaged })
}

fn flaws_of(state: &AuditState) -> Vec<String> {
    let mut flaws = Vec::new();
    if state.damaged_bytes > 0 {
        flaws.push(format!(
            "{} bytes of the audit log are damaged; `wamedia check --repair` keeps the rest",
            state.damaged_bytes
        ));
    }
    if state.lost > 0 {
        flaws.push(format!("{} records are missing from the middle of the audit log", state.lost));
    }
    flaws
}

struct Writer {
    json: bool,
    header_written: bool,
}

impl Writer {
    fn write(&mut self, removals: &[Removed]) -> Result<()> {
        if self.json {
            return removals.iter().try_for_each(|removed| output::json(&view(removed)));
        }
        let header: &[&str] = if self.header_written { &[] } else { &["TIME", "WAY", "WHO", "SIZE", "ID", "PATH"] };
        self.header_written = true;
        let mut table = output::table(header, &[3]);
        for removed in removals {
            table.add_row([
                output::time(removed.at),
                removed.way.as_str().to_owned(),
                printable(&who(removed)),
                output::size(removed.size),
                removed.id.clone().unwrap_or_else(|| removed.what.clone()),
                printable(&path(removed)),
            ]);
        }
        output::print(&table)
    }
}

fn view(removed: &Removed) -> RemovedView<'_> {
    let actor = removed.actor.as_ref();
    RemovedView {
        number: removed.number,
        time: removed.at.rfc3339(),
        way: removed.way.as_str(),
        uid: actor.and_then(|actor| actor.uid),
        pid: actor.and_then(|actor| actor.pid),
        name: actor.map(|actor| actor.name.as_str()).filter(|name| !name.is_empty()),
        what: &removed.what,
        id: removed.id.as_deref(),
        path: removed.path.as_deref(),
        names: removed.names,
        size: removed.size,
        sha256: removed.sha256.as_deref(),
        replaced: removed.replaced,
    }
}

/// `rm[4711] uid 1000`, or the token's name.
fn who(removed: &Removed) -> String {
    let Some(actor) = &removed.actor else { return "-".to_owned() };
    let pid = actor.pid.map_or_else(String::new, |pid| format!("[{pid}]"));
    let uid = actor.uid.map_or_else(String::new, |uid| format!(" uid {uid}"));
    format!("{}{pid}{uid}", actor.name).trim().to_owned()
}

fn path(removed: &Removed) -> String {
    let mut text = removed.path.clone().unwrap_or_else(|| "-".to_owned());
    match removed.names {
        0 | 1 => {}
        names => text.push_str(&format!(" (and {} more names)", names - 1)),
    }
    if removed.replaced {
        text.push_str(" (replaced)");
    }
    text
}
