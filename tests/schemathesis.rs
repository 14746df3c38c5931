//! schemathesis 4.32.5 against a node on a real mount: what it makes up from the node's own OpenAPI document is answered
//! as that document says, and the document is valid.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "node/served.rs"]
#[allow(dead_code)]
mod served;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use served::{Served, make_token};
use support::machine::{can_mount, say};
use support::place::{Place, run, text};
use support::suites;

const VERSION: &str = "4.32.5";
/// Every run makes up the same.
const SEED: &str = "463";
/// How many cases of each operation.
const CASES: &str = "15";
/// What notifications show.
const VERIFY_TOKEN: &str = "the-verify-token-of-the-test";

#[test]
fn what_is_made_up_from_the_document_is_answered_as_it_says() {
    let test = "what_is_made_up_from_the_document_is_answered_as_it_says";
    let Some(python) = suites::python(test) else { return };
    if !can_mount(test) {
        return;
    }
    let place = Place::with_volume(&[]);
    let token = make_token(&place, "admin", "tester");
    let verify = place.path("verify");
    fs::write(&verify, VERIFY_TOKEN).unwrap();
    fs::set_permissions(&verify, PermissionsExt::from_mode(0o600)).unwrap();
    let upstream = place.path("upstream");
    fs::create_dir(&upstream).unwrap();
    let (verify, upstream) = (text(&verify).to_owned(), text(&upstream).to_owned());
    let options = [
        ["--verify-token-file", &verify],
        ["--upstream", "directory"],
        ["--upstream-directory", &upstream],
        ["--requests-per-second", "100000"],
    ];
    let served = Served::again(place, token, &options.concat());

    let mut command = Command::new(python.with_file_name("schemathesis"));
    command
        .arg("--config-file")
        .arg(suites::file("schemathesis.toml"))
        .args(["run", "--seed", SEED, "--max-examples", CASES, "--no-color", "--continue-on-failure"])
        .args(["--warnings", "off", "--request-timeout", "20"])
        .arg(format!("{}/openapi.json", served.base))
        .current_dir(served.place.dir())
        .env("WAMEDIA_TEST_TOKEN", &served.token)
        .env("WAMEDIA_TEST_NOTIFICATIONS", VERIFY_TOKEN)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    // Some 25 s, and minutes on a busy machine. The mount lives no longer than its watchdog lets it: this ends then.
    let outcome = command.stdin(Stdio::null()).output().unwrap();
    let (told, said) = (String::from_utf8_lossy(&outcome.stdout), String::from_utf8_lossy(&outcome.stderr));
    assert!(told.contains(&format!("Schemathesis v{VERSION}")), "{told}\n{said}");
    assert!(outcome.status.success(), "{told}\n{said}\n{}", served.mounted.log_tail());
    let phases = told.lines().filter(|line| line.contains("passed")).map(str::trim);
    say(&format!("schemathesis {VERSION}: {}", phases.collect::<Vec<_>>().join("; ")));
    let log = served.mounted.log();
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
    let Served { mounted, place, .. } = served;
    mounted.unmount();
    place.check().expect_success();
}

#[test]
fn the_document_is_valid() {
    let Some(python) = suites::python("the_document_is_valid") else { return };
    let mut command = Command::new(python.with_file_name("openapi-spec-validator"));
    command.args(["--schema", "3.1"]).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json"));
    assert!(run(command).expect_success().trim_end().ends_with("OK"));
}
