//! Called as `mount.wamedia` by mount(8): its arguments become those of `wamedia mount --daemon`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{ArgAction, CommandFactory};

use super::args::Cli;
use super::exit::Exit;

/// What mount(8) calls a file system's helper.
const PREFIX: &str = "mount.";
/// Exit code of mount(8) for a call that makes no sense.
pub const USAGE: u8 = 1;
/// Options of `wamedia mount` that mean nothing in a table of file systems: it is a daemon there in any case, with nobody
/// to ask.
const NOT_FOR_TABLES: [&str; 5] = ["daemon", "keep-mount", "passphrase", "help", "version"];

/// Whether the program was called as a helper of mount(8).
#[must_use]
pub fn is_called(words: &[OsString]) -> bool {
    let name = words.first().map(Path::new).and_then(Path::file_name);
    name.and_then(OsStr::to_str).is_some_and(|name| name.starts_with(PREFIX))
}

/// The exit code that mount(8) passes on.
#[must_use]
pub fn exit_of(exit: Exit) -> Exit {
    if exit == Exit::Success { exit } else { Exit::MountFailed }
}

/// What a call of the helper comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// Nothing is to be done (`-f`).
    Fake,
    /// This command line.
    Mount(Vec<OsString>),
}

/// Reads `mount.wamedia SOURCE DIR [-fnsv] [-t TYPE] [-o OPTIONS]`.
///
/// # Errors
/// What makes no sense, in words.
pub fn read(words: &[OsString]) -> Result<Call, String> {
    let (mut places, mut lists, mut is_fake) = (Vec::new(), Vec::new(), false);
    let mut rest = words.iter().skip(1);
    while let Some(word) = rest.next() {
        let text = word.to_string_lossy();
        match text.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            None => places.push(word.clone()),
            Some("o") => lists.push(rest.next().ok_or("-o needs options")?.to_string_lossy().into_owned()),
            Some("t") => drop(rest.next().ok_or("-t needs a type")?),
            Some(letters) if letters.chars().all(|letter| "fnsv".contains(letter)) => {
                is_fake |= letters.contains('f');
            }
            Some(_) => return Err(format!("{text} is not known")),
        }
    }
    let [source, directory] = <[OsString; 2]>::try_from(places)
        .map_err(|_| "usage: mount.wamedia STORE DIR [-o OPTIONS]; see `wamedia mount --help`".to_owned())?;
    if is_fake {
        return Ok(Call::Fake);
    }
    let mut line: Vec<OsString> = ["wamedia", "mount", "--daemon"].map(OsString::from).into();
    let mut left = Vec::new();
    for word in lists.iter().flat_map(|list| words_of(list)) {
        match as_option(word)? {
            Some(option) => line.push(option.into()),
            None => left.push(word),
        }
    }
    if !left.is_empty() {
        line.extend([OsString::from("-o"), left.join(",").into()]);
    }
    line.extend(["--".into(), source, directory]);
    Ok(Call::Mount(line))
}

/// The words of a list of options; `\,` is no end of one.
pub(super) fn words_of(list: &str) -> Vec<&str> {
    let (mut words, mut from) = (Vec::new(), 0);
    for (at, _) in list.match_indices(',') {
        if !list.get(..at).is_some_and(|before| before.ends_with('\\')) {
            words.extend(list.get(from..at));
            from = at + 1;
        }
    }
    words.extend(list.get(from..));
    words.retain(|word| !word.is_empty());
    words
}

/// A mount option as the option of `wamedia mount` that it names, with `_` or `-`; none for all others.
fn as_option(word: &str) -> Result<Option<String>, String> {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let long = name.replace('_', "-");
    let mut command = Cli::command();
    command.build();
    let mount = command.find_subcommand("mount").into_iter().flat_map(clap::Command::get_arguments);
    let found = mount.into_iter().find(|argument| argument.get_long() == Some(&long));
    let Some(argument) = found.filter(|_| !NOT_FOR_TABLES.contains(&long.as_str())) else { return Ok(None) };
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    match (takes_value, value) {
        (true, Some(value)) => Ok(Some(format!("--{long}={}", value.replace("\\,", ",")))),
        (true, None) => Err(format!("mount option {name} needs a value: {name}=...")),
        (false, None) => Ok(Some(format!("--{long}"))),
        (false, Some(_)) => Err(format!("mount option {name} takes no value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Command;
    use clap::Parser;

    fn call(line: &str) -> Result<Call, String> {
        read(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    fn mount_of(line: &str) -> crate::cli::args::Mount {
        let Ok(Call::Mount(words)) = call(line) else { panic!("{line}: {:?}", call(line)) };
        match Cli::try_parse_from(words).unwrap().command {
            Command::Mount(mount) => *mount,
            _ => panic!("no mount"),
        }
    }

    #[test]
    fn only_the_name_makes_it_a_helper() {
        let named = |name: &str| is_called(&[OsString::from(name)]);
        assert!(named("/sbin/mount.wamedia") && named("mount.fuse.wamedia"));
        assert!(!named("/usr/bin/wamedia") && !named("/mount.d/wamedia") && !is_called(&[]));
    }

    #[test]
    fn what_mount_passes_on_becomes_a_mount_in_the_background() {
        let mount = mount_of(
            "/sbin/mount.wamedia /s /m -n -v -t fuse.wamedia -o rw,key_file=/k,dev,suid,scrub-every=off,fsname=x",
        );
        assert!(mount.daemon.in_background && !mount.init);
        assert_eq!((mount.store.as_path(), mount.mount_point.as_path()), (Path::new("/s"), Path::new("/m")));
        assert_eq!(mount.keys.key_file.as_deref(), Some(Path::new("/k")));
        assert_eq!(mount.options, ["rw,dev,suid,fsname=x"]);
        assert_eq!(mount_of("mount.wamedia /s /m").options, Vec::<String>::new());
    }

    #[test]
    fn a_comma_may_be_part_of_a_value() {
        let mount = mount_of(r"mount.wamedia /s /m -o key_file=/a\,b,ro,fsname=c\,d");
        assert_eq!(mount.keys.key_file.as_deref(), Some(Path::new("/a,b")));
        assert_eq!(mount.options, [r"ro,fsname=c\,d"]);
    }

    #[test]
    fn a_call_to_pretend_does_nothing() {
        assert_eq!(call("mount.wamedia -fn /s /m").unwrap(), Call::Fake);
    }

    #[test]
    fn calls_that_make_no_sense_are_refused() {
        for line in [
            "mount.wamedia",
            "mount.wamedia /s",
            "mount.wamedia /s /m /n",
            "mount.wamedia /s /m -o",
            "mount.wamedia /s /m -N /ns",
            "mount.wamedia /s /m -o key_file",
            "mount.wamedia /s /m -o init=yes",
        ] {
            assert!(call(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_exit_code_is_one_that_mount_knows() {
        assert_eq!(exit_of(Exit::WrongKey), Exit::MountFailed);
        assert_eq!(exit_of(Exit::Success), Exit::Success);
    }
}
