//! Writes the manual pages, and the completions of shells, from the definition of the command line: `manual DIR`.
//!
//! Below DIR afterwards: `man/*.8`, one page for each command and subcommand, and `completions/`.
#![allow(clippy::expect_used)]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use wamedia::cli::args::Cli;

const SECTION: &str = "8";
const MANUAL: &str = "wamedia";

fn main() -> Result<(), Box<dyn Error>> {
    let dir = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: manual DIR")?);
    let (pages, completions) = (dir.join("man"), dir.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    write_pages(&command, &pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &completions)?;
    }
    Ok(())
}

/// Writes the page of a command and those of its subcommands.
fn write_pages(command: &Command, dir: &Path) -> Result<(), Box<dyn Error>> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        write_pages(subcommand, dir)?;
    }
    let source = format!("wamedia {}", env!("CARGO_PKG_VERSION"));
    // A subcommand's page has no version of its own to tell.
    let page = Man::new(command.clone()).section(SECTION).source(source).manual(MANUAL);
    let mut text = Vec::new();
    page.render(&mut text)?;
    let text = String::from_utf8(text)?.replace("\n.SH EXTRA\n", "\n.SH NOTES\n") + &see_also(command);
    fs::write(dir.join(page.get_filename()), text)?;
    Ok(())
}

fn see_also(command: &Command) -> String {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut parents: Vec<&str> = name.match_indices('-').map(|(end, _)| name.split_at(end).0).collect();
    if name == "wamedia-mount" {
        parents.push("mount.wamedia");
    }
    let parents: String =
        parents.iter().map(|parent| format!(".BR {} ({SECTION}),\n", parent.replace('-', "\\-"))).collect();
    format!(".SH \"SEE ALSO\"\n{parents}the files below\n.I /usr/share/doc/wamedia\n")
}
