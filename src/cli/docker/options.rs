//! Options of a container volume: those of `wamedia mount`, and some of the plugin's own.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, Args, Parser};

use crate::cli::args::{Cli, Command, Init, Mount};
use crate::cli::helper::words_of;
use crate::cli::node;
use crate::docker::{Options, Wishes};
use crate::error::{Error, Kind, Result};
use crate::fs::MountOptions;

/// Options of `wamedia mount` that are the plugin's business, or that nobody can answer to.
const NOT_FOR_VOLUMES: [&str; 6] = ["daemon", "init", "force", "passphrase", "help", "version"];
/// Options that say what opens the volume.
const KEYS: [&str; 3] = ["key-file", "passphrase-file", "credential"];
/// The plugin's own options.
const OWN: [&str; 4] = ["o", "on-remove", "store", "when-idle"];

/// What the options of a volume come to.
#[derive(Debug)]
pub struct Settled {
    /// For the plugin.
    pub wishes: Wishes,
    /// The store, when it is not to lie with the others.
    pub store: Option<PathBuf>,
    /// Words of `wamedia mount` for each time it is mounted, but for what opens it.
    pub mount: Vec<OsString>,
    /// Words of `wamedia mount` that say what opens it, when the options say so.
    pub keys: Vec<OsString>,
    /// All of them as `wamedia mount` reads them.
    pub parsed: Box<Mount>,
}

/// The options that there are, with `_` as mount options are written, in the order of the alphabet.
#[must_use]
pub fn known() -> Vec<String> {
    let mount = mount_command();
    let longs = mount.get_arguments().filter_map(Arg::get_long).filter(|long| !NOT_FOR_VOLUMES.contains(long));
    let mut names: Vec<String> = longs.chain(OWN).map(|name| name.replace('-', "_")).collect();
    names.sort();
    names
}

/// Reads the options of a volume.
///
/// # Errors
/// `Invalid`, naming each option that is not known and those that are, or the value that makes no sense.
pub fn settle(options: &Options) -> Result<Settled> {
    let (mount, init) = (mount_command(), Init::augment_args(clap::Command::new("init")));
    refuse_unknown(options, &mount)?;
    let mut wishes = Wishes::default();
    let (mut store, mut lists) = (None, None);
    let (mut making, mut mounting, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in options {
        let long = name.replace('_', "-");
        match long.as_str() {
            "o" => lists = Some(value.clone()),
            "on-remove" => wishes.deletes = choice(name, value, "keep", "delete")?,
            "when-idle" => wishes.stays = choice(name, value, "unmount", "stay")?,
            "store" => store = Some(absolute(value)?),
            _ => {
                let words = words(find(&mount, &long), name, value)?;
                let place = match KEYS.contains(&long.as_str()) {
                    true => &mut keys,
                    false if find(&init, &long).is_some() => &mut making,
                    false => &mut mounting,
                };
                place.extend(words);
            }
        }
    }
    if wishes.deletes && store.is_some() {
        return Err(invalid("on_remove=delete is for stores that lie with the others; leave it or `store` out"));
    }
    if let Some(list) = &lists {
        MountOptions::parse(&[list])?;
        mounting.extend([OsString::from("-o"), list.into()]);
    }
    let parsed = parse([making, mounting.clone(), keys.clone()].concat())?;
    node::config_of(&parsed.node, None)?;
    Ok(Settled { wishes, store, mount: mounting, keys, parsed })
}

fn refuse_unknown(options: &Options, mount: &clap::Command) -> Result<()> {
    let is_known = |name: &str| {
        let long = name.replace('_', "-");
        let is_of_mount = find(mount, &long).is_some() && !NOT_FOR_VOLUMES.contains(&long.as_str());
        is_of_mount || OWN.contains(&long.as_str())
    };
    let unknown: Vec<&str> = options.keys().map(String::as_str).filter(|name| !is_known(name)).collect();
    match unknown.as_slice() {
        [] => Ok(()),
        names => {
            let which = if names.len() == 1 { "option" } else { "options" };
            Err(invalid(format!("unknown {which} {}; known are {}", names.join(", "), known().join(", "))))
        }
    }
}

/// An option and its value as words of the command line.
fn words(argument: Option<&Arg>, name: &str, value: &str) -> Result<Vec<OsString>> {
    // It is there: what is not known has been refused.
    let Some(long) = argument.and_then(Arg::get_long) else { return Ok(Vec::new()) };
    let with = |value: &str| OsString::from(format!("--{long}={value}"));
    match argument.map(Arg::get_action) {
        Some(ArgAction::Set) => Ok(vec![with(value)]),
        Some(ArgAction::Append) => {
            Ok(words_of(value).into_iter().map(|word| with(&word.replace("\\,", ","))).collect())
        }
        _ => match value {
            "" | "true" => Ok(vec![format!("--{long}").into()]),
            "false" => Ok(Vec::new()),
            _ => Err(invalid(format!("option {name} is `true` or `false`, not `{value}`"))),
        },
    }
}

fn parse(words: Vec<OsString>) -> Result<Box<Mount>> {
    let line = ["wamedia", "mount", "--init"].map(OsString::from).into_iter().chain(words);
    let line = line.chain(["--", "STORE", "MNT"].map(OsString::from));
    match Cli::try_parse_from(line).map(|parsed| parsed.command) {
        Ok(Command::Mount(mount)) => Ok(mount),
        Ok(_) => Err(invalid("the options make no mount")),
        Err(error) => {
            let told = error.to_string();
            let sentence = told.lines().take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
            Err(invalid(sentence.trim_start_matches("error: ")))
        }
    }
}

/// Whether the second of two values was chosen.
fn choice(name: &str, value: &str, first: &str, second: &str) -> Result<bool> {
    match value {
        _ if value == first => Ok(false),
        _ if value == second => Ok(true),
        _ => Err(invalid(format!("option {name} is `{first}` or `{second}`, not `{value}`"))),
    }
}

fn absolute(value: &str) -> Result<PathBuf> {
    let path = PathBuf::from(value);
    match path.is_absolute() {
        true => Ok(path),
        false => Err(invalid(format!("store={value} is no absolute path"))),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}

/// Not looked up in the whole command line, of whose help the known options are a part.
fn mount_command() -> clap::Command {
    Mount::augment_args(clap::Command::new("mount"))
}

fn find<'a>(command: &'a clap::Command, long: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|argument| argument.get_long() == Some(long))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Limit;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn refusal(pairs: &[(&str, &str)]) -> String {
        let error = settle(&options(pairs)).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        error.to_string()
    }

    fn text(words: &[OsString]) -> Vec<&str> {
        words.iter().map(|word| word.to_str().unwrap()).collect()
    }

    #[test]
    fn what_makes_a_volume_is_told_from_what_mounts_it() {
        let settled = settle(&options(&[
            ("quota", "50GiB"),
            ("retention", "30d"),
            ("retention_type", "image/*=7d,audio/ogg=forever"),
            ("reserve", "uploads=10%"),
            ("owner", "1000:1000"),
            ("scrub_every", "7d"),
            ("listen", "127.0.0.1:8080"),
            ("strict", ""),
            ("o", "ro,expired=hidden"),
            ("key-file", "/k"),
        ]))
        .unwrap();
        assert_eq!(settled.parsed.new.quota.quota, Some(Limit::At(50 << 30)));
        assert_eq!(settled.parsed.new.policy().rules.len(), 3);
        assert_eq!(settled.parsed.new.owner.map(|owner| owner.uid), Some(1000));
        let mut mount = text(&settled.mount);
        mount.sort_unstable();
        assert_eq!(mount, ["--listen=127.0.0.1:8080", "--scrub-every=7d", "--strict", "-o", "ro,expired=hidden"]);
        assert_eq!(text(&settled.keys), ["--key-file=/k"]);
        assert_eq!(settled.wishes, Wishes::default());
    }

    #[test]
    fn the_plugins_own_options_say_what_becomes_of_a_volume() {
        let settled = settle(&options(&[("on_remove", "delete"), ("when_idle", "stay")])).unwrap();
        assert_eq!(settled.wishes, Wishes { stays: true, deletes: true });
        assert_eq!(settle(&options(&[("store", "/data/s")])).unwrap().store, Some("/data/s".into()));
        assert!(refusal(&[("store", "data/s")]).contains("no absolute path"));
        assert!(refusal(&[("on_remove", "yes")]).contains("`keep` or `delete`"));
        assert!(refusal(&[("when_idle", "")]).contains("`unmount` or `stay`"));
        assert!(refusal(&[("on_remove", "delete"), ("store", "/data/s")]).contains("on_remove=delete"));
    }

    #[test]
    fn what_is_not_known_is_named_with_what_is() {
        let told = refusal(&[("size", "1G"), ("quota", "1GiB"), ("type", "none")]);
        assert!(told.starts_with("unknown options size, type; known are "), "{told}");
        for name in ["quota", "retention", "retention_type", "key_file", "scrub_every", "on_remove", "store", "o"] {
            assert!(known().iter().any(|known| known == name), "{name} is missing in {:?}", known());
        }
        for name in NOT_FOR_VOLUMES {
            assert!(refusal(&[(name, "")]).starts_with(&format!("unknown option {name};")), "{name}");
            assert!(!known().contains(&name.to_owned()), "{name}");
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for (name, value, part) in [
            ("quota", "much", "no size"),
            ("retention", "0", "retention of zero"),
            ("retention_type", "image/*=7d,x", "no rule"),
            ("o", "unknown", "unknown"),
            ("strict", "perhaps", "`true` or `false`"),
            ("scrub_every", "never", "no time"),
            ("strict", "true", "--listen"),
        ] {
            let told = refusal(&[(name, value)]);
            assert!(told.contains(part), "{name}={value}: {told}");
        }
        assert!(refusal(&[("scrub_every", "7d"), ("scrub-every", "8d")]).contains("multiple times"));
        assert!(refusal(&[("key_file", "/k"), ("passphrase_file", "/p")]).contains("cannot be used with"));
    }
}
