//! `wamedia webhooks`.

use super::Outcome;
use crate::cli::args::{TargetArgs, WebhooksAction, WebhooksList, WebhooksReplay};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::session::Session;
use crate::cli::target::Target;
use crate::cli::{node, output, session};
use crate::error::Result;
use crate::node::admin::{Answer, Wish};
use crate::node::webhooks::dead::DeadWebhook;

/// Lists webhooks that were given up, or has them tried again.
///
/// # Errors
/// Those of [`session::with`].
pub fn run(action: WebhooksAction, environment: &Environment) -> Outcome {
    match action {
        WebhooksAction::List(args) => list(&args, environment),
        WebhooksAction::Replay(args) => replay(args, environment),
    }
}

fn with<T>(args: &TargetArgs, environment: &Environment, work: impl FnOnce(&mut Session) -> Result<T>) -> Result<T> {
    let target = Target::find(&args.target)?.whole()?;
    session::with(&target, &args.keys, environment, work)
}

fn list(args: &WebhooksList, environment: &Environment) -> Outcome {
    let mut table = output::table(&["ID", "MADE", "TRIES", "ERROR"], &[0, 2]);
    with(&args.target, environment, |session| {
        let mut after = 0;
        loop {
            let Answer::Dead(page) = node::ask(session, &Wish::DeadWebhooks { after })? else {
                return Err(session::unexpected());
            };
            let Some(last) = page.last() else { return Ok(()) };
            after = last.id;
            for dead in &page {
                if args.output.json {
                    output::json(dead)?;
                } else {
                    table.add_row(row(dead));
                }
            }
        }
    })?;
    if !args.output.json {
        output::print(&table)?;
    }
    Ok(Exit::Success)
}

fn row(dead: &DeadWebhook) -> [String; 4] {
    [dead.id.to_string(), dead.made.clone(), dead.attempts.to_string(), output::printable(&dead.error)]
}

fn replay(args: WebhooksReplay, environment: &Environment) -> Outcome {
    let ids = (!args.id.is_empty()).then_some(args.id);
    let answer = with(&args.target, environment, |session| node::ask(session, &Wish::ReplayWebhooks { ids }))?;
    match answer {
        Answer::Replayed(count) if args.output.json => output::json(&serde_json::json!({ "replayed": count }))?,
        Answer::Replayed(count) => output::line(&format!("{count} are tried again"))?,
        _ => return Err(session::unexpected().into()),
    }
    Ok(Exit::Success)
}
