//! `wamedia expired purge`.

use std::io::Write;

use super::Outcome;
use crate::cli::args::ExpiredPurge;
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::session::{self, Session};
use crate::cli::target::Target;
use crate::cli::{output, progress};
use crate::control::{Event, Reply, Request};
use crate::error::{Error, Kind, Result};
use crate::volume::{PurgeReport, Purged};

/// Removes expired media, after asking.
///
/// # Errors
/// `Invalid` when there is nobody to ask and `--yes` is missing; those of [`Session`].
pub fn purge(args: &ExpiredPurge, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target.target)?.whole()?;
    if !args.dry_run && !args.yes && !environment.interactive {
        return Err(Error::new(
            Kind::Invalid,
            "stdin is no terminal to ask at; give --yes, or --dry-run to see what would go",
        )
        .into());
    }
    let report = session::with(&target, &args.target.keys, environment, |session| {
        if !args.dry_run && !args.yes {
            let planned = ask(session, args, true, false)?;
            if planned.media == 0 || !confirm(&planned)? {
                return Ok(None);
            }
        }
        ask(session, args, args.dry_run, args.list).map(Some)
    })?;
    let nothing = PurgeReport::default();
    let report = report.as_ref().unwrap_or(&nothing);
    if args.output.json {
        output::json(report)?;
    } else {
        output::line(&sentence(report, args.dry_run))?;
    }
    Ok(Exit::Success)
}

fn ask(session: &mut Session, args: &ExpiredPurge, dry_run: bool, list: bool) -> Result<PurgeReport> {
    let bar = progress::counter(if dry_run { "looking" } else { "removing" });
    let older_than = args.older_than;
    let request = match args.scheduled {
        true => Request::PurgeDue { dry_run, older_than, list },
        false => Request::Purge { dry_run, older_than, list },
    };
    let mut written = Ok(());
    let reply = session.ask(&request, &mut |event| match event {
        Event::Purged(report) => bar.set_position(report.media.saturating_add(report.kept)),
        // After the first failure to write the rest is only waited for.
        Event::Gone(gone) if written.is_ok() => written = write_gone(&gone, args.output.json),
        _ => {}
    });
    bar.finish_and_clear();
    written?;
    match reply? {
        Reply::Purged(report) => Ok(report),
        _ => Err(session::unexpected()),
    }
}

fn write_gone(gone: &Purged, json: bool) -> Result<()> {
    if json {
        return output::json(gone);
    }
    output::line(&format!("{}  {}  {}", gone.id, output::size(gone.size), output::printable(&gone.path)))
}

fn confirm(planned: &PurgeReport) -> Result<bool> {
    let failed = |error| Error::io("cannot ask", error);
    eprint!("Remove {} ({}) for good? [y/N] ", output::media_count(planned.media), output::size(planned.bytes));
    std::io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn sentence(report: &PurgeReport, dry_run: bool) -> String {
    let what = output::media_count(report.media);
    let bytes = output::size(report.bytes);
    let disk = output::size(report.blob_bytes);
    let kept = match report.kept {
        0 => String::new(),
        kept => format!("; {} passed over", output::media_count(kept)),
    };
    match dry_run {
        true => format!("would remove {what} ({bytes}), which frees {disk} of the disk{kept}"),
        false => format!("removed {what} ({bytes}), which frees {disk} of the disk{kept}"),
    }
}
