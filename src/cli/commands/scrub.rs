//! `wamedia scrub`.

use std::time::Duration;

use super::Outcome;
use crate::cli::args::{OutputArgs, Scrub, ScrubAction, ScrubArgs, TargetArgs};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::output::{self, size};
use crate::cli::progress;
use crate::cli::session::{self, Session};
use crate::cli::target::Target;
use crate::cli::views::ScrubView;
use crate::control::{Limit, Reply, Request, ScrubWish};
use crate::error::{Error, Kind, Result};
use crate::volume::{DamagedMedium, ScrubStatus};

/// How often the state is asked for while a scrub is followed.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Runs, starts, stops or shows a scrub.
///
/// # Errors
/// `Invalid` to start or stop one of a volume that is not mounted; those of [`Session`].
pub fn run(args: Scrub, environment: &Environment) -> Outcome {
    match args.action {
        Some(ScrubAction::Start(start)) => {
            let wish = wish_of(start.scrub);
            act(&start.target, start.output, environment, |session| ask_mounted(session, wish))
        }
        Some(ScrubAction::Stop(stop)) => {
            act(&stop.target, stop.output, environment, |session| ask_mounted(session, ScrubWish::Stop))
        }
        Some(ScrubAction::Status(status)) => {
            act(&status.target, status.output, environment, |session| ask(session, ScrubWish::Status))
        }
        None => {
            let target = args.target.ok_or_else(|| Error::new(Kind::Invalid, "name a store or a mount point"))?;
            let target = TargetArgs { target, keys: args.keys };
            act(&target, args.output, environment, |session| follow(session, args.scrub))
        }
    }
}

fn act(
    args: &TargetArgs,
    output: OutputArgs,
    environment: &Environment,
    work: impl FnOnce(&mut Session) -> Result<ScrubStatus>,
) -> Outcome {
    let target = Target::find(&args.target)?.whole()?;
    let status = session::with(&target, &args.keys, environment, work)?;
    if output.json {
        output::json(&ScrubView::new(&status))?;
    } else {
        output::pairs(&rows(&status))?;
    }
    Ok(if status.damaged_media == 0 { Exit::Success } else { Exit::Damaged })
}

fn wish_of(args: ScrubArgs) -> ScrubWish {
    let rate = match args.rate {
        Limit::None => None,
        Limit::At(rate) => Some(rate),
    };
    ScrubWish::Start { rate, anew: args.anew }
}

fn ask(session: &mut Session, wish: ScrubWish) -> Result<ScrubStatus> {
    match session.ask_quietly(&Request::Scrub { wish })? {
        Reply::Scrub(status) => Ok(*status),
        _ => Err(session::unexpected()),
    }
}

fn ask_mounted(session: &mut Session, wish: ScrubWish) -> Result<ScrubStatus> {
    if session.hello().is_none() {
        let message =
            "the volume is not mounted, so no scrub runs in the background; `wamedia scrub STORE` runs one here";
        return Err(Error::new(Kind::Invalid, message));
    }
    ask(session, wish)
}

/// Starts a scrub and waits for its end.
fn follow(session: &mut Session, args: ScrubArgs) -> Result<ScrubStatus> {
    let total = match session.ask_quietly(&Request::Status)? {
        Reply::Status(status) => status.used_bytes,
        _ => return Err(session::unexpected()),
    };
    let before = ask(session, ScrubWish::Status)?.last;
    let mut status = ask(session, wish_of(args))?;
    let bar = progress::bytes("scrubbing", total);
    while status.is_running {
        bar.set_position(status.run.as_ref().map_or(0, |run| run.bytes));
        std::thread::sleep(ASK_EVERY);
        status = ask(session, ScrubWish::Status)?;
    }
    bar.finish_and_clear();
    match status.last == before {
        false => Ok(status),
        true => Err(Error::new(
            Kind::Io,
            "the scrub was stopped, or failed (the log tells more); the next one goes on where it was",
        )),
    }
}

/// The state for people; `status` shows the same.
pub fn rows(status: &ScrubStatus) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let Some(run) = &status.run {
        let state = match (status.is_running, status.rate) {
            (true, Some(rate)) => format!("running at {}/s", size(rate)),
            (true, None) => "running".to_owned(),
            (false, _) => "not at its end".to_owned(),
        };
        let (since, done) = (output::time(run.started), size(run.bytes));
        rows.push(("scrub", format!("{state}, begun {since}: {} blobs, {done} verified", run.blobs)));
    }
    rows.push((
        "scrubbed",
        match &status.last {
            None => "never to the end".to_owned(),
            Some(last) => {
                let found = if last.damaged == 0 { "clean".to_owned() } else { format!("{} damaged", last.damaged) };
                let (when, done) = (output::time(last.finished), size(last.bytes));
                format!("{when}: {} blobs, {done} verified, {found}", last.blobs)
            }
        },
    ));
    rows.extend(status.next.map(|next| ("next scrub", output::time(next))));
    rows.extend(status.damaged.iter().map(|damaged| ("damaged", output::printable(&sentence(damaged)))));
    let unnamed = status.damaged_media.saturating_sub(status.damaged.len() as u64);
    if unnamed > 0 {
        rows.push(("damaged", format!("and {unnamed} more; `wamedia check --read-all` names all")));
    }
    rows
}

fn sentence(damaged: &DamagedMedium) -> String {
    let chunk = damaged.chunk.map_or_else(String::new, |chunk| format!(", chunk {chunk}"));
    format!("medium {} {}, blob {}{chunk}: {}", damaged.id, damaged.path, damaged.blob, damaged.problem)
}
