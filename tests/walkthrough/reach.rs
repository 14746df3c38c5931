//! What users other than root see and remove in `.expired`.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::support::machine;
use crate::support::mounted::Mounted;
use crate::support::place::{Outcome, Place, run, text};
use crate::support::tree::names;
use crate::tool;

const GROUP: u32 = 4242;

/// Runs a command as nobody, who is in `groups` too.
fn as_nobody(groups: &str, command: &[&str]) -> Outcome {
    let mut nobody = Command::new("setpriv");
    nobody.args(["--reuid=65534", "--regid=65534", groups]).args(command);
    run(nobody)
}

fn entry(expired: &Path, name: &str) -> String {
    let entry = names(expired).into_iter().find(|entry| entry.ends_with(&format!("_{name}")));
    text(&expired.join(entry.unwrap_or_else(|| panic!("{name} is not expired")))).to_owned()
}

#[test]
fn expired_media_are_reached_by_those_who_may_reach_their_paths() {
    let test = "expired_media_are_reached_by_those_who_may_reach_their_paths";
    if !machine::can_mount(test) || !machine::is_root(test) {
        return;
    }
    let place = Place::with_volume(&["--quota", "8MiB", "--retention", "30d"]);
    let mounted = Mounted::start(&place);
    let root = mounted.root();
    for (dir, mode) in [("closed", 0o700), ("group", 0o750), ("shown", 0o755), ("sticky", 0o1777), ("free", 0o777)] {
        let (dir, file) = (root.join(dir), root.join(dir).join(format!("in-{dir}")));
        fs::create_dir(&dir).unwrap();
        fs::write(&file, b"a medium").unwrap();
        tool("touch", &["-d", "40 days ago", text(&file)]);
        chown(&dir, None, Some(GROUP)).unwrap();
        fs::set_permissions(&dir, Permissions::from_mode(mode)).unwrap();
    }
    fs::write(root.join("free/twice"), b"a medium").unwrap();
    tool("touch", &["-d", "40 days ago", text(&root.join("free/twice"))]);
    fs::hard_link(root.join("free/twice"), root.join("closed/again")).unwrap();
    fs::set_permissions(root, Permissions::from_mode(0o777)).unwrap();

    let expired = root.join(".expired");
    let all = ["in-closed", "in-group", "in-shown", "in-sticky", "in-free", "twice"];
    let entries = all.map(|name| entry(&expired, name));
    let seen = |groups: &str| as_nobody(groups, &["ls", text(&expired)]).expect_success();
    let is_let = |groups: &str, command: &str| {
        entries.each_ref().map(|entry| as_nobody(groups, &[command, entry]).status.success())
    };
    let (alone, in_group) = ("--clear-groups", "--groups=4242");
    for (name, is_seen) in all.iter().zip([false, false, true, true, true, true]) {
        assert_eq!(seen(alone).contains(name), is_seen, "{name}");
    }
    assert!(seen(in_group).contains("in-group"));
    assert_eq!(is_let(alone, "cat"), [false, false, true, true, true, true]);
    assert_eq!(is_let(in_group, "cat"), [false, true, true, true, true, true]);
    assert_eq!(is_let(alone, "unlink"), [false, false, false, false, true, false]);
    let left = names(&expired);
    assert_eq!(left.len(), 5, "{left:?}");
    for entry in entries.iter().filter(|entry| !entry.ends_with("_in-free")) {
        fs::read(entry).unwrap();
        fs::remove_file(entry).unwrap();
    }
    mounted.unmount();
    place.check().expect_success();
}
