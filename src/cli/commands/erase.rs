//! `wamedia erase`.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine as _;

use super::Outcome;
use crate::cli::args::{Erase, EraseAction, ErasePublicKey, EraseVerify, MatchArgs};
use crate::cli::commands::media;
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::output::{self, printable};
use crate::cli::progress;
use crate::cli::session::{self, Session};
use crate::cli::target::Target;
use crate::control::{EraseRequest, Event, Reply, Request};
use crate::error::{Error, Kind, Result};
use crate::volume::{ErasedMedium, ErasureReport, SignedReport};

/// Bytes a list of media, and a report, may have.
const MAX_INPUT: u64 = 256 << 20;
/// What an Ed25519 key begins with in DER (RFC 8410).
const DER_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Erases media after asking, checks a report, or tells the public key.
///
/// # Errors
/// `Invalid` when nothing is chosen, or there is nobody to ask; `Exists` for a report that is there; `Damaged` for one that
/// does not hold; those of [`Session`].
pub fn run(args: Erase, environment: &Environment) -> Outcome {
    match &args.action {
        Some(EraseAction::Verify(verify)) => check(verify),
        Some(EraseAction::PublicKey(key)) => public_key(key, environment),
        None => erase(&args, environment),
    }
}

fn erase(args: &Erase, environment: &Environment) -> Outcome {
    let named = args.target.as_deref().ok_or_else(|| Error::new(Kind::Invalid, "name a store or a mount point"))?;
    let target = Target::find(named)?;
    let request = EraseRequest { dry_run: args.dry_run, ..request(args, &target)? };
    let is_asked = !args.dry_run && !args.yes;
    if is_asked && (!environment.interactive || args.from.as_deref() == Some(Path::new("-"))) {
        return Err(Error::new(
            Kind::Invalid,
            "stdin is no terminal to ask at; give --yes, or --dry-run to see what would go",
        )
        .into());
    }
    // Before anything is removed that could not be told of then.
    let mut file = args.report.as_deref().map(new_file).transpose()?;
    let told = session::with(&target, &args.keys, environment, |session| {
        if is_asked {
            let (_, planned) = ask(session, &EraseRequest { dry_run: true, ..request.clone() })?;
            write_lists(&planned.report)?;
            if planned.report.erased.is_empty() || !confirm(&planned.report)? {
                return Ok(None);
            }
        }
        ask(session, &request).map(Some)
    });
    let told = told.and_then(|told| match (&told, &mut file) {
        (Some((text, _)), Some((path, file))) => {
            let written = file.write_all(text.as_bytes()).and_then(|()| file.write_all(b"\n"));
            written.and_then(|()| file.sync_all()).map_err(|e| Error::io(path.display(), e))?;
            Ok(told)
        }
        _ => Ok(told),
    });
    let nothing_told = !matches!(told, Ok(Some(_)));
    if let (true, Some((path, _))) = (nothing_told, &file) {
        // Empty: it says nothing.
        let _stays = std::fs::remove_file(path);
    }
    let Some((text, signed)) = told? else {
        output::line("nothing was erased")?;
        return Ok(Exit::Success);
    };
    match args.output.json {
        true => output::line(&text)?,
        false => write_outcome(&signed.report)?,
    }
    Ok(exit_of(&signed.report))
}

/// What is asked for, which chooses media in one way.
fn request(args: &Erase, target: &Target) -> Result<EraseRequest> {
    let mut media = args.media.clone();
    if let Some(path) = &args.from {
        let text = read(path)?;
        media.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    let is_named = !media.is_empty() || target.inside.is_some() || args.from.is_some();
    let is_matched = args.matching != MatchArgs::default();
    let (media, matching) = match (is_named, is_matched) {
        (true, true) => return Err(Error::new(Kind::Invalid, "either name media or match them, not both")),
        (false, false) => {
            let message = "say what to erase: media by id or path, --from FILE, or options that match media";
            return Err(Error::new(Kind::Invalid, message));
        }
        (true, false) => (media::names(target, &media)?, None),
        (false, true) => (Vec::new(), Some(args.matching.filter())),
    };
    Ok(EraseRequest {
        media,
        matching,
        dry_run: false,
        with_names: args.names,
        on_behalf_of: args.on_behalf_of.clone(),
        reason: args.reason.clone(),
    })
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = match path == Path::new("-") {
        true => std::io::stdin().take(MAX_INPUT).read_to_string(&mut text),
        false => File::open(path).and_then(|file| file.take(MAX_INPUT).read_to_string(&mut text)),
    };
    read.map_err(|e| Error::io(path.display(), e))?;
    Ok(text)
}

fn new_file(path: &Path) -> Result<(&Path, File)> {
    match File::options().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => Ok((path, file)),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::new(
            Kind::Exists,
            format!("{} is there already; name a new file for the report", path.display()),
        )),
        Err(e) => Err(Error::io(path.display(), e)),
    }
}

/// Asks for the erasure; gives the report as it came, and as it is read.
fn ask(session: &mut Session, request: &EraseRequest) -> Result<(String, SignedReport)> {
    let bar = progress::counter(if request.dry_run { "looking" } else { "erasing" });
    let mut text = String::new();
    let reply = session.ask(&Request::Erase { request: Box::new(request.clone()) }, &mut |event| match event {
        Event::Progress { done, total } => progress::set(&bar, done, total),
        Event::Report(piece) => text.push_str(&piece),
        _ => {}
    });
    bar.finish_and_clear();
    match reply? {
        Reply::Done => {}
        _ => return Err(session::unexpected()),
    }
    let signed = serde_json::from_str(&text).map_err(|_| session::unexpected())?;
    Ok((text, signed))
}

fn confirm(planned: &ErasureReport) -> Result<bool> {
    let failed = |error| Error::io("cannot ask", error);
    let bytes = planned.erased.iter().map(|medium| medium.size).sum();
    let count = output::media_count(planned.erased.len() as u64);
    eprint!("Erase {count} ({}) for good? [y/N] ", output::size(bytes));
    std::io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn write_lists(report: &ErasureReport) -> Result<()> {
    let shown =
        |path: &Option<String>| path.as_deref().map_or_else(String::new, |path| format!("  {}", printable(path)));
    let medium = |what: &str, medium: &ErasedMedium| {
        output::line(&format!("{}  {}  {what}{}", medium.id, output::size(medium.size), shown(&medium.path)))
    };
    let gone = if report.dry_run { "would be erased" } else { "erased" };
    report.erased.iter().try_for_each(|one| medium(gone, one))?;
    report.held.iter().try_for_each(|one| medium("held: stays", one))?;
    for kept in &report.kept {
        let why = kept.reason.as_str();
        output::line(&format!("{}  {}  {why}: stays{}", kept.id, output::size(kept.size), shown(&kept.path)))?;
    }
    report.not_found.iter().try_for_each(|name| output::line(&format!("{}  not in the volume", printable(name))))
}

fn write_outcome(report: &ErasureReport) -> Result<()> {
    write_lists(report)?;
    let bytes = report.erased.iter().map(|medium| medium.size).sum();
    let mut said = format!(
        "{} {} ({})",
        if report.dry_run { "would erase" } else { "erased" },
        output::media_count(report.erased.len() as u64),
        output::size(bytes)
    );
    let others = [
        (report.held.len() as u64, "held"),
        (report.kept.len() as u64, "in use"),
        (report.not_found_count, "not in the volume"),
    ];
    for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
        said.push_str(&format!("; {} {what}", output::media_count(count)));
    }
    output::line(&said)
}

fn exit_of(report: &ErasureReport) -> Exit {
    match (report.held.len() + report.kept.len(), report.not_found_count) {
        (0, 0) => Exit::Success,
        (0, _) => Exit::NotFound,
        _ => Exit::NotAll,
    }
}

fn check(args: &EraseVerify) -> Outcome {
    let text = read(&args.report)?;
    let signed = SignedReport::verify(&text, &args.public_key)?;
    let report = &signed.report;
    if args.output.json {
        output::json(report)?;
        return Ok(Exit::Success);
    }
    write_lists(report)?;
    let asked_by = report.asked_by.as_ref().map_or_else(String::new, |actor| {
        let uid = actor.uid.map_or_else(String::new, |uid| format!("user {uid}"));
        format!("{uid} with {}", actor.name)
    });
    let selection = serde_json::to_string(&report.selection).unwrap_or_default();
    output::pairs(&[
        ("signature", "good".to_owned()),
        ("volume", report.volume_id.clone()),
        ("begun", report.begun.clone()),
        ("ended", report.ended.clone()),
        ("asked by", asked_by),
        ("on behalf of", report.on_behalf_of.clone().unwrap_or_else(|| "-".to_owned())),
        ("reason", report.reason.clone().unwrap_or_else(|| "-".to_owned())),
        ("selection", selection),
    ])?;
    write_outcome_line(report)
}

fn write_outcome_line(report: &ErasureReport) -> Outcome {
    let counts = [
        ("erased", report.erased.len() as u64),
        ("held", report.held.len() as u64),
        ("in use", report.kept.len() as u64),
        ("not there", report.not_found_count),
    ];
    output::pairs(&counts.map(|(name, count)| (name, count.to_string())))?;
    Ok(Exit::Success)
}

fn public_key(args: &ErasePublicKey, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target.target)?.whole()?;
    let reply = session::with(&target, &args.target.keys, environment, |session| {
        session.ask_quietly(&Request::ErasurePublicKey)
    })?;
    let Reply::PublicKey(key) = reply else { return Err(session::unexpected().into()) };
    if args.output.json {
        output::json(&serde_json::json!({ "public_key": key }))?;
    } else if args.pem {
        output::line(&pem(&key))?;
    } else {
        output::line(&key)?;
    }
    Ok(Exit::Success)
}

/// A public key in the form that OpenSSL takes (RFC 8410).
fn pem(key: &str) -> String {
    let digits: Vec<u8> =
        key.chars().filter_map(|digit| digit.to_digit(16)).filter_map(|digit| u8::try_from(digit).ok()).collect();
    let bytes = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit));
    let der: Vec<u8> = DER_HEAD.into_iter().chain(bytes).collect();
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_as_others_read_it() {
        // The public key of RFC 8410, section 10.1.
        let key = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
        let text = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        assert!(pem(key).contains(text), "{}", pem(key));
    }
}
