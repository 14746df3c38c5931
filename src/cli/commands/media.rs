//! `wamedia info`, `hold` and `release`: commands about single media.

use std::path::Path;

use super::Outcome;
use crate::cli::args::{Info, MediaArgs, OutputArgs};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::session;
use crate::cli::target::Target;
use crate::cli::views::MediumView;
use crate::control::{Reply, Request};
use crate::error::{Error, Kind, Result};
use crate::volume::Medium;

/// Shows all facts of media.
///
/// # Errors
/// Those of [`session::Session`].
pub fn info(args: &Info, environment: &Environment) -> Outcome {
    let target = Target::find(&args.media.target.target)?;
    let names = names(&target, &args.media.media)?;
    session::with(&target, &args.media.target.keys, environment, |session| {
        for (number, medium) in names.into_iter().enumerate() {
            let Reply::Medium(medium) = session.ask_quietly(&Request::Medium { medium, deep: true })? else {
                return Err(session::unexpected());
            };
            if args.output.json {
                output::json(&MediumView::new(&medium, None))?;
                continue;
            }
            if number > 0 {
                output::line("")?;
            }
            output::pairs(&rows(&medium))?;
        }
        Ok(())
    })?;
    Ok(Exit::Success)
}

/// Sets or takes away holds.
///
/// # Errors
/// Those of [`session::Session`].
pub fn hold(args: &MediaArgs, held: bool, output: OutputArgs, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target.target)?;
    let media = names(&target, &args.media)?;
    let changed = session::with(&target, &args.target.keys, environment, |session| {
        changed(session.ask_quietly(&Request::Hold { media, held })?)
    })?;
    write_changed(&changed, output, |medium| if medium.held { "held".to_owned() } else { "released".to_owned() })?;
    Ok(Exit::Success)
}

/// The media of an answer that says which ones changed.
///
/// # Errors
/// When it is another answer.
pub fn changed(reply: Reply) -> Result<Vec<Medium>> {
    match reply {
        Reply::Changed(media) => Ok(media),
        _ => Err(session::unexpected()),
    }
}

/// Writes which media changed, each with what it is now.
///
/// # Errors
/// Those of [`output::line`].
pub fn write_changed(media: &[Medium], output: OutputArgs, now: impl Fn(&Medium) -> String) -> Result<()> {
    for medium in media {
        if output.json {
            output::json(&MediumView::new(medium, None))?;
        } else {
            output::line(&format!("{}  {}  {}", medium.id, now(medium), output::printable(&medium.path)))?;
        }
    }
    Ok(())
}

/// The media a command names: TARGET itself when it lies in a mounted volume, and the rest; each an id, a path from the
/// root of the volume, or an absolute path below the mount point.
///
/// # Errors
/// `Invalid` when none is named, or a path is not UTF-8.
pub fn names(target: &Target, media: &[String]) -> Result<Vec<String>> {
    let mut names = Vec::with_capacity(media.len() + 1);
    if let Some(inside) = &target.inside {
        names.push(path_text(inside)?);
    }
    for name in media {
        let below_mount = target.mount.as_deref().and_then(|mount| Path::new(name).strip_prefix(mount).ok());
        match below_mount {
            Some(inside) => names.push(path_text(inside)?),
            None => names.push(name.clone()),
        }
    }
    if names.is_empty() {
        return Err(Error::new(Kind::Invalid, "name at least one medium, by its id or its path"));
    }
    Ok(names)
}

/// A path as text, which is how media are named on the wire.
///
/// # Errors
/// `Invalid` when it is not UTF-8.
pub fn path_text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::new(
            Kind::Invalid,
            format!("{} is not UTF-8; name the medium by its id (`getfattr -n user.wamedia.id`)", path.display()),
        )
    })
}

fn rows(medium: &Medium) -> Vec<(&'static str, String)> {
    let expires = match medium.expires {
        Some(at) if medium.expired => format!("{} (expired)", output::time(at)),
        Some(at) => output::time(at),
        None if medium.held => "never: held".to_owned(),
        None => "never".to_owned(),
    };
    vec![
        ("id", medium.id.clone()),
        ("path", medium.path.clone()),
        ("type", medium.mime_type.clone()),
        ("kind", medium.kind.clone()),
        ("verdict", medium.verdict.clone().unwrap_or_else(|| "-".to_owned())),
        ("size", format!("{} ({} bytes)", output::size(medium.size), medium.size)),
        ("sha256", medium.sha256.clone().unwrap_or_else(|| "-".to_owned())),
        ("written", output::time(medium.mtime)),
        ("used", output::time(medium.used)),
        ("expires", expires),
        ("held", yes_no(medium.held)),
        ("being written", yes_no(medium.open_for_writing)),
    ]
}

fn yes_no(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(inside: Option<&str>) -> Target {
        Target { store: "/s".into(), mount: Some("/m".into()), inside: inside.map(Into::into), is_dead: false }
    }

    #[test]
    fn media_are_named_by_id_or_path_or_place_in_the_mount() {
        let named = names(&target(Some("a/b.jpg")), &["463e".into(), "/m/c.jpg".into(), "/x".into()]).unwrap();
        assert_eq!(named, ["a/b.jpg", "463e", "c.jpg", "/x"]);
        assert_eq!(names(&target(None), &[]).unwrap_err().kind(), Kind::Invalid);
    }
}
