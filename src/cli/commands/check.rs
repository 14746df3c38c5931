//! `wamedia check` and `wamedia rebuild-index`.

use super::Outcome;
use crate::cli::args::{Check, RebuildIndex};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::session::{self, open_directly};
use crate::cli::target::Target;
use crate::cli::views::CheckView;
use crate::cli::{output, progress};
use crate::control::{Event, Reply, Request};
use crate::error::{Error, Kind, Result};
use crate::volume::Finding;

/// Verifies a volume. The exit code is 0 only when nothing is wrong.
///
/// # Errors
/// Those of [`session::Session`].
pub fn check(args: &Check, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target.target)?.whole()?;
    let mut findings: Vec<Finding> = Vec::new();
    let (blobs, bytes) = session::with(&target, &args.target.keys, environment, |session| {
        let bar = progress::counter("checking");
        let reply = session.ask(&Request::Check { read_all: args.read_all }, &mut |event| match event {
            Event::Progress { done, total } => progress::set(&bar, done, total),
            Event::Finding(finding) => findings.push(finding),
            _ => {}
        });
        bar.finish_and_clear();
        match reply? {
            Reply::Checked { blobs, bytes, .. } => Ok((blobs, bytes)),
            _ => Err(session::unexpected()),
        }
    })?;
    let clean = findings.is_empty();
    if args.output.json {
        output::json(&CheckView { clean, blobs, bytes, findings: &findings })?;
    } else {
        write_findings(&findings)?;
        let verdict = if clean { "clean".to_owned() } else { format!("{} finding(s)", findings.len()) };
        output::line(&format!("{verdict}: {blobs} blobs, {} verified", output::size(bytes)))?;
    }
    Ok(if clean { Exit::Success } else { Exit::Damaged })
}

fn write_findings(findings: &[Finding]) -> Result<()> {
    findings.iter().try_for_each(|finding| output::line(&output::printable(&sentence(finding))))
}

fn sentence(finding: &Finding) -> String {
    let mut parts = Vec::new();
    parts.extend(finding.medium.as_ref().map(|medium| format!("medium {medium}")));
    parts.extend(finding.blob.as_ref().map(|blob| format!("blob {blob}")));
    parts.extend(finding.chunk.map(|chunk| format!("chunk {chunk}")));
    match parts.is_empty() {
        true => finding.problem.clone(),
        false => format!("{}: {}", parts.join(", "), finding.problem),
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
