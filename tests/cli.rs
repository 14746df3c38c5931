//! The binary as a shell meets it: help, exit codes, and which stream says what. Nothing here needs a mount.

use std::path::Path;
use std::process::{Command, Output};

struct Shell {
    home: tempfile::TempDir,
}

impl Shell {
    fn new() -> Shell {
        Shell { home: tempfile::tempdir().expect("a temporary directory") }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_wamedia"))
            .args(arguments)
            .current_dir(self.home.path())
            .env_clear()
            .env("HOME", self.home.path())
            .output()
            .expect("the binary runs")
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const COMMANDS: &[&[&str]] = &[
    &[],
    &["init"],
    &["mount"],
    &["umount"],
    &["status"],
    &["ls"],
    &["info"],
    &["expired"],
    &["expired", "list"],
    &["expired", "purge"],
    &["hold"],
    &["release"],
    &["quota"],
    &["quota", "show"],
    &["quota", "set"],
    &["retention"],
    &["retention", "show"],
    &["retention", "set"],
    &["retention", "remove"],
    &["key"],
    &["key", "add"],
    &["key", "remove"],
    &["key", "list"],
    &["key", "change"],
    &["check"],
    &["rebuild-index"],
    &["import"],
    &["export"],
];

#[test]
fn each_command_has_help_with_an_example() {
    let shell = Shell::new();
    for command in COMMANDS {
        let output = shell.run(&[command, &["--help"][..]].concat());
        assert_eq!(output.status.code(), Some(0), "{command:?}");
        assert!(stdout(&output).contains("Example:"), "{command:?}: {}", stdout(&output));
        assert!(output.stderr.is_empty(), "{command:?}");
    }
}

#[test]
fn help_lists_the_exit_codes() {
    let help = stdout(&Shell::new().run(&["--help"]));
    for line in
        ["  0  success", "  3  no key", "  4  another process holds the store", " 32  the volume could not be mounted"]
    {
        assert!(help.contains(line), "{help}");
    }
}

#[test]
fn the_version_is_told() {
    let output = Shell::new().run(&["--version"]);
    assert_eq!(stdout(&output).trim(), concat!("wamedia ", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_exits_with_2_and_says_why_on_stderr() {
    let shell = Shell::new();
    for (line, says) in [
        (&[][..], "Usage"),
        (&["fly"], "fly"),
        (&["init"], "STORE"),
        (&["init", "--quota", "lots", "S"], "8MiB"),
        (&["init", "--quota", "0", "S"], "none"),
        (&["init", "--retention", "30", "S"], "30d"),
        (&["init", "--reserve", "uploads=200%", "S"], "0% to 100%"),
        (&["init", "--reserve", "uploads=10%", "S"], "--quota"),
        (&["init", "--cipher", "rot13", "S"], "xchacha20-poly1305"),
        (&["init", "--cipher", "none", "--key-file", "k", "S"], "--cipher none has no key"),
        (&["init", "--key-file", "a", "--passphrase-file", "b", "S"], "cannot be used with"),
        (&["mount", "S"], "MNT"),
        (&["mount", "--quota", "1GiB", "S", "M"], "--init"),
        (&["mount", "-o", "no-such-option", "S", "M"], "no-such-option"),
        (&["mount", "--init", "S", "S/below"], ""),
        (&["ls", "--sort", "colour", "M"], "size"),
        (&["quota", "set", "M"], "--quota"),
        (&["retention", "set", "M"], "--default"),
        (&["key", "add", "S"], "--new-key-file"),
        (&["--log", "wamedia=loud", "status", "S"], "log level"),
        (&["--log", "wran", "status", "S"], "error, warn, info, debug, trace"),
    ] {
        let output = shell.run(line);
        let told = stderr(&output);
        // A path whose parent is missing is found missing before anything else.
        let expected: &[i32] = if says.is_empty() { &[2, 7] } else { &[2] };
        assert!(
            output.status.code().is_some_and(|code| expected.contains(&code)),
            "{line:?}: {:?} {told}",
            output.status
        );
        assert!(told.contains(says), "{line:?}: {told}");
        assert!(output.stdout.is_empty(), "{line:?}");
    }
}

#[test]
fn what_is_not_there_exits_with_7_and_names_the_mend() {
    let shell = Shell::new();
    std::fs::create_dir(shell.home.path().join("plain")).expect("a directory");
    for line in [
        &["status", "plain"][..],
        &["status", "nowhere"],
        &["ls", "plain"],
        &["info", "plain", "x"],
        &["expired", "plain"],
        &["expired", "purge", "--yes", "plain"],
        &["hold", "plain", "x"],
        &["release", "plain", "x"],
        &["quota", "show", "plain"],
        &["quota", "set", "--quota", "1GiB", "plain"],
        &["retention", "show", "plain"],
        &["key", "list", "plain"],
        &["check", "plain"],
        &["rebuild-index", "plain"],
        &["import", ".", "plain"],
        &["export", "plain", "out"],
        &["umount", "plain"],
        &["mount", "nowhere", "plain"],
    ] {
        let output = shell.run(line);
        assert_eq!(output.status.code(), Some(7), "{line:?}: {}", stderr(&output));
        let told = stderr(&output);
        // A store that was named as such can be made; at a mount point a volume is mounted.
        let mend = match line {
            ["mount", ..] => "--init",
            ["status", "nowhere"] => "there is no directory",
            _ => "wamedia mount STORE",
        };
        assert!(told.starts_with("wamedia: ") && told.contains(mend), "{line:?}: {told}");
        assert!(output.stdout.is_empty(), "{line:?}");
    }
}

#[test]
fn a_missing_mount_point_exits_with_32_and_leaves_nothing_behind() {
    let shell = Shell::new();
    let file = shell.home.path().join("file");
    std::fs::write(&file, "").expect("a file");
    for line in [&["mount", "store", "missing"][..], &["mount", "--init", "store", "file"]] {
        let output = shell.run(line);
        assert_eq!(output.status.code(), Some(32), "{line:?}: {}", stderr(&output));
    }
    assert!(!shell.home.path().join("store").exists());
    assert!(!Path::new(&shell.home.path().join(".config")).exists());
}

#[test]
fn a_purge_without_a_terminal_needs_yes() {
    let shell = Shell::new();
    std::fs::write(shell.home.path().join("superblock"), "").expect("a file");
    let output = shell.run(&["expired", "purge", "."]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--yes"));
}

#[test]
fn a_damaged_superblock_exits_with_5() {
    let shell = Shell::new();
    std::fs::write(shell.home.path().join("superblock"), "nonsense").expect("a file");
    let output = shell.run(&["status", "."]);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
}
