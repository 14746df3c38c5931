//! `wamedia retention`.

use super::quota::change_policy;
use super::{Outcome, media};
use crate::cli::args::{OutputArgs, RetentionAction, RetentionRemove, RetentionSet, TargetArgs, default_rule};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::target::Target;
use crate::cli::views::RetentionView;
use crate::cli::{output, session};
use crate::control::change::describe;
use crate::control::{Keep, PolicyChange, Request};
use crate::error::{Error, Kind, Result};
use crate::volume::{AgeBy, ExpiryAction, Policy, Selector};

/// Shows or changes how long media are kept.
///
/// # Errors
/// `Invalid` when nothing is to be changed or the outcome makes no sense, `NotFound` for a rule or medium that is not
/// there; those of [`session::Session`].
pub fn run(action: RetentionAction, environment: &Environment) -> Outcome {
    match action {
        RetentionAction::Show(args) => apply(&args.target, &PolicyChange::default(), None, args.output, environment),
        RetentionAction::Set(args) => {
            let own = args.keep.map(|keep| (args.media.as_slice(), Some(keep)));
            apply(&args.target, &set(&args)?, own, args.output, environment)
        }
        RetentionAction::Remove(args) => {
            let own = (!args.media.is_empty()).then_some((args.media.as_slice(), None));
            apply(&args.target, &remove(&args)?, own, args.output, environment)
        }
    }
}

fn set(args: &RetentionSet) -> Result<PolicyChange> {
    let default = args.default.map(default_rule);
    let change = PolicyChange {
        age_by: args.age_by.map(AgeBy::from),
        action: args.action.map(ExpiryAction::from),
        grace: args.grace,
        rules: default.into_iter().chain(args.types.clone()).chain(args.prefixes.clone()).collect(),
        ..PolicyChange::default()
    };
    if change.is_empty() && args.keep.is_none() {
        return Err(Error::new(
            Kind::Invalid,
            "say what to set: --default, --type, --prefix, --age-by, --action, --grace, or --medium with --keep",
        ));
    }
    Ok(change)
}

fn remove(args: &RetentionRemove) -> Result<PolicyChange> {
    let types = args.types.iter().cloned().map(Selector::Type);
    let prefixes = args.prefixes.iter().cloned().map(Selector::Prefix);
    let change = PolicyChange { removed_rules: types.chain(prefixes).collect(), ..PolicyChange::default() };
    if change.is_empty() && args.media.is_empty() {
        return Err(Error::new(Kind::Invalid, "say what to remove: --type, --prefix or --medium"));
    }
    Ok(change)
}

/// Makes the changes there are, then shows the rules; or the media, when only these were changed.
fn apply(
    args: &TargetArgs,
    change: &PolicyChange,
    own: Option<(&[String], Option<Keep>)>,
    output: OutputArgs,
    environment: &Environment,
) -> Outcome {
    let target = Target::find(&args.target)?.whole()?;
    let (policy, changed) = session::with(&target, &args.keys, environment, |session| {
        let policy = change_policy(session, change)?;
        let changed = match own {
            None => Vec::new(),
            Some((names, keep)) => {
                let request = Request::KeepMedia { media: media::names(&target, names)?, keep };
                media::changed(session.ask_quietly(&request)?)?
            }
        };
        Ok((policy, changed))
    })?;
    media::write_changed(&changed, output, |medium| format!("expires {}", output::time_or_dash(medium.expires)))?;
    if own.is_none() || !change.is_empty() {
        show(&policy, output)?;
    }
    Ok(Exit::Success)
}

fn show(policy: &Policy, output: OutputArgs) -> Result<()> {
    if output.json {
        return output::json(&RetentionView::new(policy));
    }
    let mut table = output::table(&["WHAT", "KEPT"], &[]);
    for rule in &policy.retention {
        table.add_row([output::printable(&describe(&rule.selector)), output::keep(rule.keep)]);
    }
    output::print(&table)?;
    let from = match policy.age_by {
        AgeBy::Written => "the last write",
        AgeBy::Used => "the last use",
    };
    output::line(&format!("age is counted from {from}"))?;
    output::line(&match policy.action {
        ExpiryAction::Show => "expired media are shown in .expired and stay until somebody removes them".to_owned(),
        ExpiryAction::Purge => {
            format!("expired media are removed when they have been shown for {}", crate::clock::short(policy.grace))
        }
    })
}
