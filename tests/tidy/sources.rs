//! The source files as the rules see them.

use std::fs;
use std::path::{Path, PathBuf};

/// One line that is code: comments taken away, number kept.
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// The code in it.
    pub code: String,
}

/// One `.rs` file below `src/`.
pub struct Source {
    /// Path from the root of the project.
    pub path: String,
    /// The top module it belongs to (`store` for `src/store/lock.rs`, `clock` for `src/clock.rs`).
    pub module: String,
    /// All of it.
    pub text: String,
    /// What is compiled into the program: no comments, no tests.
    pub code: Vec<Line>,
}

/// The root of the project.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All source files, tests within them left out of their code.
pub fn all() -> Vec<Source> {
    let paths = files_below("src", &["rs"]);
    assert!(!paths.is_empty(), "no sources found");
    paths.into_iter().map(|path| read(&path)).collect()
}

fn read(path: &str) -> Source {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let below = path.strip_prefix("src/").unwrap();
    let module = below.split(['/', '.']).next().unwrap().to_owned();
    let code = if is_test_file(path) { Vec::new() } else { code_of(&text) };
    Source { path: path.to_owned(), module, text, code }
}

/// Whether a file holds only tests, going by its name.
pub fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests" || part == "tests.rs" || part.ends_with("_tests.rs"))
}

/// The code of a file up to its test module, without comments.
fn code_of(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut numbered = text.lines().enumerate().peekable();
    while let Some((index, line)) = numbered.next() {
        let next = numbered.peek().map_or("", |(_, line)| line.trim());
        if line.trim() == "#[cfg(test)]" && next.starts_with("mod ") && next.ends_with('{') {
            break;
        }
        let code = without_comment(line);
        if !code.trim().is_empty() {
            lines.push(Line { number: index + 1, code });
        }
    }
    lines
}

/// A line without its `//` comment; slashes in text (`"http://"`) are no comment.
pub fn without_comment(line: &str) -> String {
    let mut in_text = false;
    let bytes = line.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if in_text => at += 1,
            b'"' => in_text = !in_text,
            b'/' if !in_text && bytes.get(at + 1) == Some(&b'/') => return line[..at].to_owned(),
            _ => {}
        }
        at += 1;
    }
    line.to_owned()
}

/// Files below a directory of the project with one of these endings, as paths from its root, sorted.
pub fn files_below(dir: &str, endings: &[&str]) -> Vec<String> {
    let start = root().join(dir);
    if !start.exists() {
        return Vec::new();
    }
    let mut paths = Vec::new();
    for entry in walkdir::WalkDir::new(&start).sort_by_file_name() {
        let entry = entry.unwrap_or_else(|e| panic!("{dir}: {e}"));
        let ending = entry.path().extension().and_then(|e| e.to_str()).unwrap_or_default();
        if entry.file_type().is_file() && endings.contains(&ending) {
            paths.push(relative(entry.path()));
        }
    }
    paths
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_str().expect("source paths are plain text").to_owned()
}

/// Whether `word` stands in `code` as a whole word.
pub fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        !code[..at].chars().next_back().is_some_and(is_part)
            && !code[at + word.len()..].chars().next().is_some_and(is_part)
    })
}

#[test]
fn comments_are_told_from_code() {
    assert_eq!(without_comment("let a = 1; // fuser"), "let a = 1; ");
    assert_eq!(without_comment(r#"let a = "http://x"; // y"#), r#"let a = "http://x"; "#);
    assert_eq!(without_comment(r#"let a = "\"//";"#), r#"let a = "\"//";"#);
    assert_eq!(without_comment("/// docs"), "");
    assert!(has_word("use fuser::Session;", "fuser"));
    assert!(!has_word("let fusers = 1;", "fuser"));
    assert!(!has_word("my_fuser()", "fuser"));
}
