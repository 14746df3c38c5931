//! Programs of others that the tests need.

use std::io::Write;
use std::process::{Command, Stdio};

/// A program that must be there: the test fails without, and says which Debian package has it.
pub fn tool(name: &str, package: &str) -> Command {
    let found = std::env::var_os("PATH").iter().flat_map(std::env::split_paths).any(|dir| dir.join(name).is_file());
    assert!(found, "{name} is not installed; mend: apt-get install {package}");
    Command::new(name)
}

/// Gives a program `input` and has it end with success; what it said.
pub fn feed(mut command: Command, input: &str) -> String {
    let call = format!("{command:?}");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{call}: {}\n{said}", output.status);
    said
}

/// `promtool`, of Debian's package `prometheus`.
pub fn promtool(args: &[&str]) -> Command {
    let mut command = tool("promtool", "prometheus");
    command.args(args);
    command
}
