//! `wamedia audit`: who removed what, by which way, through every way there is.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::Value;

use crate::served::Served;
use crate::support::machine;
use crate::support::mounted::Mounted;
use crate::support::place::{Place, run, text};
use crate::support::xattr;
use crate::wait_until;

fn tool(name: &str, args: &[&str]) {
    let mut command = Command::new(name);
    command.args(args);
    run(command).expect_success();
}

fn audit(place: &Place, args: &[&str], target: &Path) -> Vec<Value> {
    place.run(&[&["audit", "--json"], args, &[text(target)]].concat()).json_lines()
}

/// The newest removal of what had this path.
fn of_path(removals: &[Value], path: &str) -> Value {
    removals.iter().rfind(|one| one["path"] == path).unwrap_or_else(|| panic!("{path} is not in {removals:#?}")).clone()
}

fn write(path: &Path) {
    fs::write(path, path.to_str().unwrap()).unwrap();
}

#[test]
fn every_removal_is_told_with_who_and_by_which_way() {
    if !machine::can_mount("every_removal_is_told_with_who_and_by_which_way") {
        return;
    }
    let served = Served::start(&["--retention", "30d"], &[]);
    let (root, place) = (served.mounted.root().to_owned(), &served.place);
    let path = |name: &str| root.join(name);
    fs::create_dir(path("in")).unwrap();
    for name in ["rm", "old", "new", "kept", "linked", "expired", "purged", "erased", "scheduled", "written"] {
        write(&path(&format!("in/{name}-secret.txt")));
    }
    let id = xattr::text(&path("in/rm-secret.txt"), "user.wamedia.id");
    let me = rustix::process::geteuid().as_raw();

    tool("rm", &[text(&path("in/rm-secret.txt"))]);
    tool("mv", &["-f", text(&path("in/new-secret.txt")), text(&path("in/old-secret.txt"))]);
    fs::create_dir(path("in/empty")).unwrap();
    fs::remove_dir(path("in/empty")).unwrap();
    // A second name, a content written over, and one that is cut: nothing of that is a removal.
    fs::hard_link(path("in/linked-secret.txt"), path("in/link")).unwrap();
    fs::remove_file(path("in/link")).unwrap();
    fs::write(path("in/written-secret.txt"), "anew").unwrap();
    File::options().write(true).open(path("in/written-secret.txt")).unwrap().set_len(0).unwrap();

    let told = audit(place, &[], &root);
    assert_eq!(told.len(), 3, "{told:#?}");
    let one = of_path(&told, "in/rm-secret.txt");
    assert_eq!((&one["way"], &one["name"], &one["uid"]), (&"mount".into(), &"rm".into(), &me.into()));
    assert_eq!((&one["id"], &one["size"]), (&id.as_str().into(), &(path("in/rm-secret.txt").as_os_str().len()).into()));
    assert!(one["pid"].as_u64().is_some_and(|pid| pid > 0));
    let one = of_path(&told, "in/old-secret.txt");
    assert_eq!((&one["way"], &one["name"], &one["replaced"]), (&"mount".into(), &"mv".into(), &true.into()));
    assert_eq!(of_path(&told, "in/empty")["what"], "directory");

    let uploaded = served.ask(Method::POST, "/v1/media").header("Content-Type", "text/plain").body("by the API");
    let uploaded: Value = serde_json::from_str(&uploaded.send().unwrap().text().unwrap()).unwrap();
    let uploaded = uploaded["media"][0]["id"].as_str().unwrap().to_owned();
    assert!(served.ask(Method::DELETE, &format!("/v1/media/{uploaded}")).send().unwrap().status().is_success());

    for name in ["expired", "purged", "scheduled"] {
        tool("touch", &["-d", "40 days ago", text(&path(&format!("in/{name}-secret.txt")))]);
    }
    let entry = fs::read_dir(path(".expired")).unwrap().map(|entry| entry.unwrap().path());
    let entry = entry.into_iter().find(|entry| text(entry).ends_with("expired-secret.txt")).unwrap();
    tool("rm", &[text(&entry)]);
    place.run(&["hold", text(&path("in/scheduled-secret.txt"))]).expect_success();
    place.run(&["expired", "purge", "--yes", text(&root)]).expect_success();
    place.run(&["erase", "--yes", text(&path("in/erased-secret.txt"))]).expect_success();
    place.run(&["retention", "set", "--action", "purge", "--grace", "0s", text(&root)]).expect_success();
    place.run(&["release", text(&path("in/scheduled-secret.txt"))]).expect_success();
    wait_until("the daemon's own purge", || !path("in/scheduled-secret.txt").exists());

    let told = audit(place, &[], &root);
    let ways = |name: &str| {
        let one = of_path(&told, &format!("in/{name}-secret.txt"));
        (one["way"].as_str().unwrap().to_owned(), one["name"].as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(ways("expired"), ("expired".into(), "rm".into()));
    assert_eq!(ways("purged"), ("purge".into(), "wamedia".into()));
    assert_eq!(ways("scheduled"), ("schedule".into(), "-".into()));
    let by_api = told.iter().find(|one| one["id"] == uploaded.as_str()).unwrap();
    assert_eq!((&by_api["way"], &by_api["name"], &by_api["uid"]), (&"api".into(), &"tester".into(), &Value::Null));
    let erased = told.iter().find(|one| one["way"] == "erase").unwrap();
    assert_eq!((&erased["path"], &erased["name"]), (&Value::Null, &"wamedia".into()));
    assert_eq!(erased["sha256"].as_str().unwrap().len(), 64);

    assert_eq!(audit(place, &["--id", &id.to_uppercase()], &root).len(), 1);
    assert_eq!(audit(place, &["--since", "1h"], &root), told);
    assert!(audit(place, &["--until", "1h"], &root).is_empty());
    assert!(audit(place, &["--since", "2999-01-01T00:00:00Z"], &root).is_empty());
    assert_eq!(place.run(&["audit", "--id", "none", text(&root)]).status.code(), Some(2));
    assert!(place.run(&["audit", text(&root)]).expect_success().contains("in/old-secret.txt (replaced)"));

    // The last was acknowledged a moment before the daemon is killed.
    write(&path("in/last-secret.txt"));
    File::open(path("in/last-secret.txt")).unwrap().sync_all().unwrap();
    fs::remove_file(path("in/last-secret.txt")).unwrap();
    let Served { mounted, place, .. } = served;
    mounted.kill();
    let unmounted = |args: &[&str]| {
        let [option, key, store] = place.unmounted();
        place.run(&[&["audit", "--json"], args, &[option.as_str(), &key, &store]].concat())
    };
    let after = unmounted(&[]).json_lines();
    assert_eq!(after.len(), told.len() + 1);
    of_path(&after, "in/last-secret.txt");
    assert!(after.iter().enumerate().all(|(nth, one)| one["number"] == nth + 1));
    place.check().expect_success();

    // Sealed, and found when it is not what was written.
    let log = place.store().join("audit.0000000000000001");
    let mut bytes = fs::read(&log).unwrap();
    for needle in ["secret", "wamedia", "tester", &id] {
        assert!(!bytes.windows(needle.len()).any(|part| part == needle.as_bytes()), "{needle} lies in plain");
    }
    bytes[100] ^= 1;
    fs::write(&log, &bytes).unwrap();
    let damaged = unmounted(&[]);
    assert_eq!(damaged.status.code(), Some(5));
    assert_eq!(damaged.stdout.lines().count(), after.len() - 1);
    assert_eq!(place.check().status.code(), Some(5));
    let [option, key, store] = place.unmounted();
    place.run(&["check", "--repair", &option, &key, &store]).expect_success();
    place.check().expect_success();
    assert_eq!(unmounted(&[]).stdout.lines().count(), after.len() - 1);
}

#[test]
fn programs_of_other_users_are_told_by_their_number() {
    if !machine::can_mount("programs_of_other_users_are_told_by_their_number")
        || !machine::is_root("programs_of_other_users_are_told_by_their_number")
    {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    let dir = mounted.path("open");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(1234), Some(1234)).unwrap();
    write(&dir.join("a.txt"));
    tool("setpriv", &["--reuid", "1234", "--regid", "1234", "--clear-groups", "rm", "-f", text(&dir.join("a.txt"))]);
    let one = of_path(&audit(&place, &[], mounted.root()), "open/a.txt");
    assert_eq!((&one["uid"], &one["name"]), (&1234.into(), &"rm".into()));
    mounted.unmount();
}
