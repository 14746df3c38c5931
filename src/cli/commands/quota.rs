//! `wamedia quota`.

use super::{Outcome, status};
use crate::cli::args::{OutputArgs, QuotaAction, TargetArgs};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::output::{self, size, size_limit};
use crate::cli::session::{self, Session};
use crate::cli::target::Target;
use crate::cli::views::QuotaView;
use crate::control::{PolicyChange, Reply, Request};
use crate::error::{Error, Kind, Result};
use crate::volume::{Policy, ReserveAmount, Status};

/// Shows or changes quota, reserves and floor.
///
/// # Errors
/// `Invalid` when nothing is to be changed or the outcome makes no sense; those of [`Session`].
pub fn run(action: QuotaAction, environment: &Environment) -> Outcome {
    match action {
        QuotaAction::Show(args) => show(&args.target, &PolicyChange::default(), args.output, environment),
        QuotaAction::Set(args) => {
            let change = args.quota.change();
            if change.is_empty() {
                let message = "say what to change: --quota, --media-quota, --reserve, --floor, --warn-at or --purge-at";
                return Err(Error::new(Kind::Invalid, message).into());
            }
            show(&args.target, &change, args.output, environment)
        }
    }
}

/// Makes a change, if it is one, and shows what is then.
fn show(args: &TargetArgs, change: &PolicyChange, output: OutputArgs, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target)?.whole()?;
    let (policy, status) = session::with(&target, &args.keys, environment, |session| {
        Ok((change_policy(session, change)?, status::ask(session)?))
    })?;
    if output.json {
        output::json(&QuotaView::new(&policy, &status))?;
    } else {
        output::pairs(&rows(&policy, &status))?;
    }
    Ok(Exit::Success)
}

/// Makes a change, if it is one; the policy as it is then.
///
/// # Errors
/// Those of [`PolicyChange::apply`] and [`Session::ask`].
pub fn change_policy(session: &mut Session, change: &PolicyChange) -> Result<Policy> {
    let request = match change.is_empty() {
        true => Request::Policy,
        false => Request::ChangePolicy { change: change.clone() },
    };
    match session.ask_quietly(&request)? {
        Reply::Policy(policy) => Ok(policy),
        _ => Err(session::unexpected()),
    }
}

fn rows(policy: &Policy, status: &Status) -> Vec<(&'static str, String)> {
    let media = policy.max_media.map_or_else(|| "none".to_owned(), |max| max.to_string());
    let mut rows = vec![
        ("quota", format!("{} ({} used)", size_limit(policy.max_bytes), size(status.used_bytes))),
        ("media quota", format!("{media} ({} used)", status.media)),
    ];
    for reserve in &policy.reserves {
        let amount = match reserve.amount {
            ReserveAmount::Bytes(bytes) => size(bytes),
            ReserveAmount::Percent(percent) => format!("{percent} %"),
        };
        rows.push(("reserve", format!("{}: {amount}", reserve.class)));
    }
    rows.push((
        "floor",
        format!("{} stay free ({} are free)", size(policy.floor_bytes), size(status.backing_free_bytes)),
    ));
    let mark = |mark: Option<u8>| mark.map_or_else(|| "none".to_owned(), |percent| format!("{percent} %"));
    rows.push(("warns at", mark(policy.warn_at)));
    rows.push(("purges at", mark(policy.purge_at)));
    rows
}
