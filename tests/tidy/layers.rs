//! Who may know whom: section "layers" of docs/ARCHITECTURE.md as a table.

use crate::assert_tidy;
use crate::sources::{self, Source, has_word};

/// A module and the modules of this crate that it may name, itself apart.
const LAYERS: &[(&str, &[&str])] = &[
    ("ids", &["error", "clock"]),
    ("error", &["ids", "clock"]),
    ("clock", &["ids", "error"]),
    ("own_file", &["error"]),
    ("sync", &[]),
    ("words", &["clock"]),
    ("crypto", &["ids", "error", "clock", "format"]),
    ("format", &["ids", "error", "clock", "crypto"]),
    ("store", &["ids", "error", "clock", "sync", "crypto", "format", "own_file"]),
    ("index", &["ids", "error", "clock", "sync", "format", "own_file"]),
    ("media", &["ids", "error", "clock"]),
    ("volume", &["ids", "error", "clock", "sync", "crypto", "format", "store", "index", "media"]),
    ("fs", &["ids", "error", "clock", "sync", "volume"]),
    ("node", &["ids", "error", "clock", "sync", "words", "crypto", "media", "volume"]),
    ("control", &["ids", "error", "clock", "sync", "volume"]),
    ("docker", &["error", "sync", "own_file"]),
    (
        "cli",
        &[
            "ids", "error", "clock", "own_file", "words", "crypto", "store", "index", "media", "volume", "fs", "node",
            "control", "docker",
        ],
    ),
];

/// A crate, the modules that may name it, and what to do instead.
const CRATES: &[(&str, &[&str], &str)] = &[
    ("fuser", &["fs"], "convert in fs/ and pass the volume's own types"),
    ("sled", &["index"], "add a method to the index instead"),
    ("clap", &["cli", "main"], "parse in cli/ and pass a plain struct"),
    (
        "tokio",
        &["node", "control", "docker", "cli", "main"],
        "the core is synchronous: enter it through spawn_blocking",
    ),
    ("chacha20poly1305", &["crypto"], "ask crypto for a sealed or opened frame"),
    ("hkdf", &["crypto"], "ask crypto for a derived key"),
    ("argon2", &["crypto"], "ask crypto for a key slot"),
    ("parking_lot", &["sync", "cli"], "take the locks of crate::sync, whose order is watched"),
    ("crossbeam_channel", &["sync", "fs"], "take the channels of crate::sync, which can be modelled"),
    ("getrandom", &["clock"], "take random bytes from clock::random_bytes"),
];

/// Words that reach outside, the modules that may use them, and what to do instead.
const WORDS: &[(&str, &[&str], &str)] = &[
    ("SystemTime::now", &["clock"], "ask a clock::Clock"),
    (
        "Instant",
        &["clock", "cli", "node"],
        "take a clock::Clock; how long something lasts is the command line's business",
    ),
    ("std::fs", NOT_FORMAT, "format is pure: let store/ do the I/O"),
    ("std::io", NOT_FORMAT, "format is pure: let store/ do the I/O"),
    ("std::net", NOT_FORMAT, "format is pure"),
    ("Mutex", NOT_FORMAT, "format is pure: no locks"),
    ("RwLock", NOT_FORMAT, "format is pure: no locks"),
];

const NOT_FORMAT: &[&str] = &[
    "lib", "main", "ids", "error", "clock", "own_file", "sync", "crypto", "store", "index", "media", "volume", "fs",
    "node", "control", "docker", "cli",
];

/// Modules that speak of failures by their kind alone. The others meet errno because they make system calls themselves.
const WITHOUT_ERRNO: &[&str] = &["ids", "clock", "crypto", "format", "index", "media", "volume"];

/// Every module of this crate that a line of code names as `crate::module`.
fn named_modules(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut group: Option<(usize, String)> = None;
    for line in &source.code {
        // A `use crate::{...}` group may span lines: it is read to its end first.
        if let Some((number, mut text)) = group.take() {
            text.push_str(&line.code);
            if line.code.contains(';') {
                found.extend(group_heads(&text).into_iter().map(|name| (number, name)));
            } else {
                group = Some((number, text));
            }
            continue;
        }
        for (at, matched) in line.code.match_indices("crate::") {
            if line.code[..at].ends_with(|c: char| c == '$' || c == '_' || c.is_alphanumeric()) {
                continue;
            }
            let rest = &line.code[at + matched.len()..];
            if rest.starts_with('{') && !line.code.contains(';') {
                group = Some((line.number, rest.to_owned()));
            } else if rest.starts_with('{') {
                found.extend(group_heads(rest).into_iter().map(|name| (line.number, name)));
            } else {
                found.push((line.number, head(rest)));
            }
        }
    }
    found
}

fn head(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first names in a group: `{volume::{A, B}, error::C}` names `volume` and `error`.
fn group_heads(text: &str) -> Vec<String> {
    let (mut depth, mut heads, mut current) = (0, Vec::new(), String::new());
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => heads.push(head(std::mem::take(&mut current).trim())),
            _ if depth == 1 => current.push(c),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads.push(head(current.trim()));
    heads.retain(|name| !name.is_empty());
    heads
}

#[test]
fn modules_name_only_those_below_them() {
    let mut findings = Vec::new();
    for source in sources::all() {
        if ["lib", "main"].contains(&source.module.as_str()) {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(module, _)| *module == source.module) else {
            findings.push(format!(
                "{}: the module {} has no layer; mend: give it one here and in docs/ARCHITECTURE.md",
                source.path, source.module
            ));
            continue;
        };
        let known = |name: &String| LAYERS.iter().any(|(module, _)| module == name);
        for (number, name) in named_modules(&source) {
            if known(&name) && name != source.module && !allowed.contains(&name.as_str()) {
                findings.push(format!(
                    "{}:{number}: {} must not know {name}; mend: let a layer above join the two",
                    source.path, source.module
                ));
            }
        }
    }
    assert_tidy(&findings);
}

#[test]
fn foreign_crates_stay_in_their_module() {
    let mut findings = Vec::new();
    for source in sources::all() {
        for line in &source.code {
            for (name, modules, mend) in CRATES {
                let path = format!("{name}::");
                let used = line.code.contains(&path) && has_word(&line.code, name);
                if used && !modules.contains(&source.module.as_str()) {
                    findings
                        .push(format!("{}:{}: {name} in {}; mend: {mend}", source.path, line.number, source.module));
                }
            }
        }
    }
    assert_tidy(&findings);
}

#[test]
fn the_outside_world_is_reached_only_where_it_may_be() {
    let mut findings = Vec::new();
    for source in sources::all() {
        for line in &source.code {
            for (word, modules, mend) in WORDS {
                if has_word(&line.code, word) && !modules.contains(&source.module.as_str()) {
                    findings.push(format!("{}:{}: {word}; mend: {mend}", source.path, line.number));
                }
            }
        }
    }
    assert_tidy(&findings);
}

#[test]
fn errno_stays_where_system_calls_are_made() {
    let mut findings = Vec::new();
    for source in sources::all() {
        if !WITHOUT_ERRNO.contains(&source.module.as_str()) {
            continue;
        }
        for line in &source.code {
            let constant = line.code.match_indices("libc::E").any(|(at, matched)| {
                line.code[at + matched.len()..].starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit())
            });
            if constant || has_word(&line.code, "Errno") || has_word(&line.code, "raw_os_error") {
                findings.push(format!(
                    "{}:{}: an errno in {}; mend: use an error::Kind, fs/ turns it into an errno",
                    source.path, line.number, source.module
                ));
            }
        }
    }
    assert_tidy(&findings);
}

#[test]
fn groups_of_imports_are_read() {
    assert_eq!(group_heads("{volume::{A, B}, error::C, ids}"), ["volume", "error", "ids"]);
    assert_eq!(group_heads("{store}"), ["store"]);
}
