//! `wamedia status`.

use super::{Outcome, scrub};
use crate::cli::args::Status as Args;
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::output::{self, size, size_limit};
use crate::cli::session::{self, Session};
use crate::cli::target::Target;
use crate::cli::views::{StatusView, is_encrypted};
use crate::clock::short;
use crate::control::{Hello, Reply, Request};
use crate::error::Result;
use crate::volume::{ExpiryAction, Status, SweepStatus};

/// Shows how a volume is doing.
///
/// # Errors
/// Those of [`Session`].
pub fn run(args: &Args, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target.target)?.whole()?;
    let store = target.store.display().to_string();
    let (status, hello) = session::with(&target, &args.target.keys, environment, |session| {
        Ok((ask(session)?, session.hello().cloned()))
    })?;
    if args.output.json {
        output::json(&StatusView::new(&status, &store, hello.as_ref()))?;
    } else {
        output::pairs(&rows(&status, &store, hello.as_ref()))?;
    }
    Ok(Exit::Success)
}

/// Asks for the state of a volume.
///
/// # Errors
/// Those of [`Session::ask`].
pub fn ask(session: &mut Session) -> Result<Status> {
    match session.ask_quietly(&Request::Status)? {
        Reply::Status(status) => Ok(*status),
        _ => Err(session::unexpected()),
    }
}

fn rows(status: &Status, store: &str, hello: Option<&Hello>) -> Vec<(&'static str, String)> {
    let cipher = match is_encrypted(&status.cipher) {
        true => status.cipher.clone(),
        false => format!("{}: UNENCRYPTED", status.cipher),
    };
    let mut rows = vec![
        ("volume", status.volume_id.clone()),
        ("store", store.to_owned()),
        ("mounted", mounted(hello)),
        ("cipher", cipher),
        ("state", status.state.clone()),
        ("reading", reading(status)),
        ("used", used(status)),
        ("media", format!("{} of {}", status.media, count_limit(status.max_media))),
        ("directories", status.directories.to_string()),
        ("expired", format!("{} ({})", output::media_count(status.expired), size(status.expired_bytes))),
        ("held", output::media_count(status.held)),
        ("oldest", output::time_or_dash(status.oldest)),
        ("reserved", size(status.reserved_bytes)),
        ("disk free", format!("{}, of which {} stay free", size(status.backing_free_bytes), size(status.floor_bytes))),
        ("refused", format!("{} writes", status.refused_writes)),
    ];
    for (kind, media, bytes) in &status.by_kind {
        rows.push(("kind", format!("{kind}: {} ({})", output::media_count(*media), size(*bytes))));
    }
    rows.push(("expiry", expiry(&status.sweep)));
    if status.sweep.is_warned {
        rows.push(("warning", format!("{} % of the room is in use", status.sweep.percent)));
    }
    rows.extend(scrub::rows(&status.scrub));
    rows.extend(status.recovery.iter().map(|note| ("recovery", note.clone())));
    rows
}

/// What becomes of expired media, and what became of some.
fn expiry(sweep: &SweepStatus) -> String {
    let mut parts = vec![match sweep.action {
        ExpiryAction::Show => "shown".to_owned(),
        ExpiryAction::Purge => format!("removed when shown for {}", short(sweep.grace)),
    }];
    if let Some(mark) = sweep.purge_at {
        parts.push(format!("the oldest go from {mark} % on"));
    }
    if sweep.purged_media > 0 {
        let (media, bytes) = (output::media_count(sweep.purged_media), size(sweep.purged_bytes));
        parts.push(format!("{media} ({bytes}) removed by itself"));
    }
    parts.join("; ")
}

/// Who reads large media, and with what it is verified.
fn reading(status: &Status) -> String {
    let by_kernel = "large media by the kernel alone: `check` and `scrub` find their damage, reads do not";
    if status.pass_through { by_kernel } else { "verified" }.to_owned()
}

fn mounted(hello: Option<&Hello>) -> String {
    match hello {
        Some(hello) => format!("{} (process {})", hello.mount.as_deref().unwrap_or("-"), hello.pid),
        None => "no".to_owned(),
    }
}

fn used(status: &Status) -> String {
    let used = size(status.used_bytes);
    match status.max_bytes {
        Some(max) if max > 0 => {
            let percent = u128::from(status.used_bytes) * 100 / u128::from(max);
            format!("{used} of {} ({percent} %)", size(max))
        }
        max => format!("{used} of {}", size_limit(max).replace("none", "unlimited")),
    }
}

fn count_limit(count: Option<u64>) -> String {
    count.map_or_else(|| "unlimited".to_owned(), |count| count.to_string())
}
