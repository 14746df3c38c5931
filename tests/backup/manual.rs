//! The commands of the operator's manual, run as they stand there.

use std::path::PathBuf;
use std::process::Command;

use crate::support::place::{Outcome, Place, run, text, wamedia};

/// The manual.
const MANUAL: &str = include_str!("../../docs/OPERATIONS.md");

/// The blocks of commands under a heading, in their order.
fn blocks(heading: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let (mut is_here, mut block) = (false, None::<String>);
    for line in MANUAL.lines() {
        match &mut block {
            Some(text) if line == "```" => {
                blocks.push(std::mem::take(text));
                block = None;
            }
            Some(text) => *text += &format!("{line}\n"),
            None if line.starts_with('#') => is_here = line.trim_start_matches('#').trim() == heading,
            None if is_here && line == "```sh" => block = Some(String::new()),
            None => {}
        }
    }
    blocks
}

/// The places that the manual's commands are for, below a place of the test's own.
pub struct Desk<'a> {
    /// The test's place, whose key opens the volume.
    pub place: &'a Place,
    /// The store, by its own path.
    pub store: PathBuf,
}

impl Desk<'_> {
    /// Runs the `nth` block under `heading` with a shell that stops at the first failure.
    pub fn follow(&self, heading: &str, nth: usize) -> Outcome {
        let blocks = blocks(heading);
        let block = blocks.get(nth).unwrap_or_else(|| panic!("the manual has {} blocks under {heading}", blocks.len()));
        let binary = wamedia();
        let programs = PathBuf::from(binary.get_program()).parent().unwrap().to_owned();
        let path = std::env::var("PATH").unwrap();
        let mut shell = Command::new("sh");
        for (name, value) in binary.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let at = |name: &str| text(&self.place.path(name)).to_owned();
        shell
            .args(["-euc", block])
            .env("PATH", format!("{}:{path}", text(&programs)))
            .env("STORE", &self.store)
            .envs([("BACKUPS", at("backups")), ("EXCLUDE", at("exclude")), ("KEY", at("key"))])
            .envs([("LOOK", at("look")), ("MNT", at("seen")), ("FROM", at("backups/latest")), ("TO", at("restored"))])
            // A store that is only read takes no socket.
            .env("WAMEDIA_RUNTIME_DIR", at("run"))
            .envs([("RESTIC_REPOSITORY", at("restic")), ("RESTIC_PASSWORD_FILE", at("restic.password"))])
            .envs([("RESTIC_CACHE_DIR", at("restic.cache")), ("HOME", at("home"))])
            .current_dir(self.place.dir());
        run(shell)
    }
}
