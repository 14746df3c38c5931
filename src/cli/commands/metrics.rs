//! `wamedia metrics`.

use std::fs::{File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Outcome;
use crate::cli::args::Metrics;
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::output;
use crate::cli::session;
use crate::cli::target::Target;
use crate::control::{Reply, Request};
use crate::error::{Error, Kind, Result};

/// Writes all figures in Prometheus's text form.
///
/// # Errors
/// Those of [`session::with`]; `Io` when the file cannot be written.
pub fn run(args: &Metrics, environment: &Environment) -> Outcome {
    let target = Target::find(&args.target.target)?.whole()?;
    let asked = session::with(&target, &args.target.keys, environment, |session| {
        match session.ask_quietly(&Request::Metrics)? {
            Reply::Metrics(text) => Ok(text),
            _ => Err(session::unexpected()),
        }
    });
    let text = asked?;
    match &args.output {
        Some(path) => replace(path, &text)?,
        None => output::line(text.trim_end())?,
    }
    Ok(Exit::Success)
}

/// Puts a whole file in the place of another. A crash leaves the one or the other, and at worst a file beside them whose name
/// no collector takes for its own.
fn replace(path: &Path, text: &str) -> Result<()> {
    let name = path.file_name().ok_or_else(|| Error::new(Kind::Invalid, "--output names no file"))?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(beside);
    let written = File::create(&beside).and_then(|mut file| {
        // Whoever collects it is another user.
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        std::fs::rename(&beside, path)
    });
    written.map_err(|error| {
        // What is left of it has no use; that it could not be written is told.
        let _ = std::fs::remove_file(&beside);
        Error::io(path.display(), error)
    })
}
