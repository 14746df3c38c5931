//! House rules on the texts themselves: sources, tests, documents.

use std::fs;

use crate::assert_tidy;
use crate::sources::{self, files_below, has_word, is_test_file, root, without_comment};

/// The most lines a source file may have. The one trait that FUSE asks for is the longest.
const MAX_LINES: usize = 600;

/// Words of unfinished work, put together here so that this file is not found by itself.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const UNFINISHED_CODE: &[&str] =
    &[concat!("unimple", "mented!"), concat!("to", "do!"), concat!("db", "g!"), concat!("#[ig", "nore")];

/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/tmp/", "w/"), concat!("/ro", "ot/"), concat!("/home", "/")];

/// The documents, and the names that each must link or mention.
fn documents() -> Vec<String> {
    let mut documents = files_below("docs", &["md"]);
    documents.extend(["README.md", "CHANGELOG.md"].map(str::to_owned).into_iter().filter(|d| root().join(d).exists()));
    documents
}

fn all_texts() -> Vec<(String, String)> {
    let mut paths = files_below("src", &["rs"]);
    paths.extend(files_below("tests", &["rs", "toml", "txt"]));
    paths.extend(documents());
    paths.extend(
        [".ci/run", "Cargo.toml", "deny.toml"].map(str::to_owned).into_iter().filter(|p| root().join(p).exists()),
    );
    paths.into_iter().map(|path| (fs::read_to_string(root().join(&path)).unwrap(), path)).map(|(t, p)| (p, t)).collect()
}

#[test]
fn nothing_is_left_unfinished() {
    let mut findings = Vec::new();
    for (path, text) in all_texts() {
        for (number, line) in text.lines().enumerate() {
            let word = UNFINISHED.iter().find(|word| has_word(line, word));
            let code = UNFINISHED_CODE
                .iter()
                .find(|word| path.rsplit('.').next() == Some("rs") && without_comment(line).contains(**word));
            if let Some(word) = word.or(code) {
                findings.push(format!(
                    "{path}:{}: {word}; mend: finish it, or say in an issue what is missing",
                    number + 1
                ));
            }
        }
    }
    assert_tidy(&findings);
}

#[test]
fn no_text_names_a_place_on_one_machine() {
    let mut findings = Vec::new();
    for (path, text) in all_texts() {
        for (number, line) in text.lines().enumerate() {
            if let Some(place) = MACHINE_PATHS.iter().find(|place| line.contains(**place)) {
                findings.push(format!("{path}:{}: names {place}; mend: a path that every machine has", number + 1));
            }
        }
    }
    assert_tidy(&findings);
}

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    for source in sources::all() {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            findings.push(format!("{}: {lines} lines; mend: split it, {MAX_LINES} are enough", source.path));
        }
    }
    assert_tidy(&findings);
}

#[test]
fn every_source_file_is_named_by_a_module() {
    let sources = sources::all();
    let mut findings = Vec::new();
    for source in &sources {
        let below = source.path.strip_prefix("src/").unwrap();
        if ["lib.rs", "main.rs"].contains(&below) {
            continue;
        }
        let stem = below.strip_suffix(".rs").unwrap();
        let stem = stem.strip_suffix("/mod").unwrap_or(stem);
        let (dir, name) = stem.rsplit_once('/').unwrap_or(("", stem));
        let parents = match dir {
            "" => vec!["src/lib.rs".to_owned(), "src/main.rs".to_owned()],
            dir => vec![format!("src/{dir}/mod.rs"), format!("src/{dir}.rs")],
        };
        let mut candidates = sources.iter().filter(|other| parents.contains(&other.path));
        // Test files may be named by `#[path]` from the file they test, anywhere beside it.
        let by_path = format!("#[path = \"{}\"]", below.rsplit('/').next().unwrap());
        let beside = format!("src/{dir}");
        let named = candidates.any(|parent| names_module(&parent.text, name))
            || sources.iter().any(|other| other.path.starts_with(&beside) && other.text.contains(&by_path));
        if !named {
            findings.push(format!(
                "{}: no file says `mod {name}`; mend: name it in {} or remove it",
                source.path, parents[0]
            ));
        }
    }
    assert_tidy(&findings);
}

fn names_module(text: &str, name: &str) -> bool {
    text.lines().map(str::trim).any(|line| {
        let line = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) ")).unwrap_or(line);
        line == format!("mod {name};") || line == format!("mod {name} {{")
    })
}

#[test]
fn unsafe_code_says_why_it_is_safe() {
    let mut findings = Vec::new();
    for source in sources::all() {
        if is_test_file(&source.path) {
            continue;
        }
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if has_word(code, "unsafe") && code.contains('{') {
                let before = &lines[index.saturating_sub(6)..index];
                if !before.iter().any(|line| line.contains("SAFETY:")) {
                    findings.push(format!(
                        "{}:{}: unsafe without a SAFETY comment; mend: write one",
                        source.path,
                        index + 1
                    ));
                }
            }
        }
    }
    assert_tidy(&findings);
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut findings = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(root().join(&document)).unwrap();
        let dir = root().join(&document).parent().unwrap().to_owned();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', ' ', '\n']).next().unwrap_or_default();
            let path = target.split('#').next().unwrap_or_default();
            let is_local = !path.is_empty() && !path.contains("://") && !path.starts_with("mailto:");
            if is_local && !dir.join(path).exists() {
                findings.push(format!("{document}: a link leads to {target}, which is not there; mend: correct it"));
            }
        }
    }
    assert_tidy(&findings);
}

#[test]
fn every_exclusion_has_its_reason_in_the_semantics() {
    let list = fs::read_to_string(root().join("tests/suites/exclusions.txt")).unwrap();
    let semantics = fs::read_to_string(root().join("docs/SEMANTICS.md")).unwrap_or_default();
    let mut findings = Vec::new();
    for line in list.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let (name, reason) = line.split_once(" | ").unwrap_or((line, ""));
        if reason.trim().is_empty() {
            findings.push(format!("tests/suites/exclusions.txt: {name} has no reason; mend: `name | reason`"));
        }
        if !semantics.contains(name.trim()) {
            findings.push(format!("docs/SEMANTICS.md does not name the excluded test {name}; mend: say there why"));
        }
    }
    assert_tidy(&findings);
}
