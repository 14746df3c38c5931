//! `wamedia check` and `wamedia rebuild-index`.

use super::Outcome;
use crate::cli::args::{Check, RebuildIndex};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::session::{self, Session, open_directly};
use crate::cli::target::Target;
use crate::cli::views::{CheckView, RepairedView};
use crate::cli::{output, progress};
use crate::control::{Event, Reply, Request};
use crate::error::{Error, Kind, Result};
use crate::volume::{Finding, Repair};

/// What a check or a repair came to.
#[derive(Default)]
struct Checked {
    blobs: u64,
    bytes: u64,
    findings: Vec<Finding>,
    unlisted: u64,
    quarantine: Option<String>,
    needs_rebuild: bool,
}

/// Verifies a volume, and mends it when asked. The exit code is 0 only when nothing is wrong any more.
///
/// # Errors
/// Those of [`session::Session`].
pub fn check(args: &Check, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target.target)?.whole()?;
    if args.repair && target.connect()?.is_none() {
        session::require_writable(&target)?;
    }
    let mut is_mounted = true;
    let first = session::with(&target, &args.target.keys, environment, |session| {
        is_mounted = session.hello().is_some();
        ask(session, args, args.repair)
    });
    let checked = match first {
        // The index alone can be damaged as a whole.
        Err(e) if args.repair && !is_mounted && e.kind() == Kind::Damaged => {
            rebuild(&target, args, environment)?;
            session::with(&target, &args.target.keys, environment, |session| ask(session, args, true))?
        }
        Ok(checked) if checked.needs_rebuild && !is_mounted => {
            rebuild(&target, args, environment)?;
            let again = session::with(&target, &args.target.keys, environment, |session| ask(session, args, true))?;
            joined(checked, again)
        }
        other => other?,
    };
    write(&checked, args)?;
    let is_left = |finding: &Finding| !matches!(finding.repair, Some(Repair::Mended(_) | Repair::Moved(_)));
    Ok(if checked.unlisted > 0 || checked.findings.iter().any(is_left) { Exit::Damaged } else { Exit::Success })
}

fn ask(session: &mut Session, args: &Check, repair: bool) -> Result<Checked> {
    let mut findings = Vec::new();
    let bar = progress::counter(if repair { "repairing" } else { "checking" });
    let request = Request::Check { read_all: args.read_all, repair, move_damaged: args.move_damaged };
    let reply = session.ask(&request, &mut |event| match event {
        Event::Progress { done, total } => progress::set(&bar, done, total),
        Event::Finding(finding) => findings.push(finding),
        _ => {}
    });
    bar.finish_and_clear();
    match reply? {
        Reply::Checked { blobs, bytes, unlisted, quarantine, needs_rebuild, .. } => {
            Ok(Checked { blobs, bytes, findings, unlisted, quarantine, needs_rebuild })
        }
        _ => Err(session::unexpected()),
    }
}

/// Makes the index anew: what it had wrong is right then.
fn rebuild(target: &Target, args: &Check, environment: &Environment) -> Result<()> {
    open_directly(target, &args.target.keys, environment, true)?.volume().shutdown()
}

/// What two runs found, with the index made anew between them: what the second does not find any more is mended.
fn joined(first: Checked, second: Checked) -> Checked {
    let is_same =
        |a: &Finding, b: &Finding| (a.fault, &a.blob, a.inode, a.chunk) == (b.fault, &b.blob, b.inode, b.chunk);
    let mut findings = first.findings;
    for finding in &mut findings {
        let is_found = second.findings.iter().any(|again| is_same(finding, again));
        if !is_found && matches!(finding.repair, Some(Repair::Left(_))) {
            finding.repair = Some(Repair::Mended("the index was made anew".to_owned()));
        }
    }
    let is_left = |finding: &Finding| matches!(finding.repair, Some(Repair::Left(_)));
    findings.retain(|finding| !is_left(finding) || !second.findings.iter().any(|again| is_same(finding, again)));
    findings.extend(second.findings);
    Checked { findings, quarantine: first.quarantine.or(second.quarantine), ..second }
}

fn write(checked: &Checked, args: &Check) -> Result<()> {
    let Checked { blobs, bytes, findings, unlisted, quarantine, .. } = checked;
    let count =
        |which: fn(&Repair) -> bool| findings.iter().filter_map(|f| f.repair.as_ref()).filter(|r| which(r)).count();
    let mended = count(|repair| matches!(repair, Repair::Mended(_)));
    let moved = count(|repair| matches!(repair, Repair::Moved(_)));
    let clean = findings.is_empty();
    if args.output.json {
        let repaired = args.repair.then(|| RepairedView {
            mended,
            moved,
            left: unlisted + (findings.len() - mended - moved) as u64,
            quarantine: quarantine.as_deref(),
        });
        return output::json(&CheckView {
            clean,
            blobs: *blobs,
            bytes: *bytes,
            findings,
            unlisted: *unlisted,
            repaired,
        });
    }
    findings.iter().try_for_each(|finding| output::line(&output::printable(&sentence(finding))))?;
    let verdict = match (clean, args.repair) {
        (true, _) => "clean".to_owned(),
        (false, false) => format!("{} finding(s)", findings.len()),
        (false, true) => {
            let left = findings.len() - mended - moved;
            format!("{} finding(s): {mended} mended, {moved} moved, {left} left", findings.len())
        }
    };
    if *unlisted > 0 {
        output::line(&format!("and {unlisted} more finding(s), which the next check names once these are mended"))?;
    }
    output::line(&format!("{verdict}: {blobs} blobs, {} verified", output::size(*bytes)))
}

fn sentence(finding: &Finding) -> String {
    let mut parts = Vec::new();
    parts.extend(finding.medium.as_ref().map(|medium| format!("medium {medium}")));
    parts.extend(finding.blob.as_ref().map(|blob| format!("blob {blob}")));
    parts.extend(finding.chunk.map(|chunk| format!("chunk {chunk}")));
    let what = match parts.is_empty() {
        true => finding.problem.clone(),
        false => format!("{}: {}", parts.join(", "), finding.problem),
    };
    match &finding.repair {
        None => what,
        Some(Repair::Mended(how)) => format!("{what} -- mended: {how}"),
        Some(Repair::Moved(place)) => format!("{what} -- moved to {place}"),
        Some(Repair::Left(why)) if *why == finding.problem => format!("{what} -- left"),
        Some(Repair::Left(why)) => format!("{what} -- left: {why}"),
    }
}

/// Makes the index of an unmounted volume anew.
///
/// # Errors
/// `Busy` when it is mounted; those of [`crate::volume::Volume::open`].
pub fn rebuild_index(args: &RebuildIndex, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target.target)?.whole()?;
    if let Some(client) = target.connect()? {
        let mount = client.hello().mount.clone().unwrap_or_else(|| target.store.display().to_string());
        let message = format!("the volume is mounted; `wamedia umount {mount}` first");
        return Err(Error::new(Kind::Busy, message).into());
    }
    session::require_writable(&target)?;
    let service = open_directly(&target, &args.target.keys, environment, true)?;
    let status = service.volume().status();
    service.volume().shutdown()?;
    let status = status?;
    if args.output.json {
        output::json(
            &serde_json::json!({ "media": status.media, "directories": status.directories, "bytes": status.used_bytes }),
        )?;
    } else {
        let (media, bytes) = (output::media_count(status.media), output::size(status.used_bytes));
        output::line(&format!("index rebuilt: {media} ({bytes}), {} directories", status.directories))?;
    }
    Ok(Exit::Success)
}
