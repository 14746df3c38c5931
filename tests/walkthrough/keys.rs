//! Keys that do not fit.

use std::fs;

use crate::support::machine::{self, mounted_type};
use crate::support::mounted::Mounted;
use crate::support::place::{Place, text};
use crate::support::tree;

/// The documented exit code for a key that opens nothing.
const WRONG_KEY: i32 = 3;

/// Tries a key of another volume on everything that takes one: a clear error, and no byte of the store changes.
pub fn a_wrong_key_changes_nothing(place: &Place) {
    let wrong = place.path("wrong-key");
    place.give_key(&wrong);
    refused_and_unchanged(place, &["--key-file", text(&wrong)]);
    fs::remove_file(wrong).unwrap();
}

fn refused_and_unchanged(place: &Place, key: &[&str]) {
    let (store, mnt) = (place.store(), place.mnt());
    let before = tree::files(&store);
    let calls: [(&[&str], &[&str]); 5] = [
        (&["mount"], &[text(&store), text(&mnt)]),
        (&["mount", "--daemon"], &[text(&store), text(&mnt)]),
        (&["check"], &[text(&store)]),
        (&["rebuild-index"], &[text(&store)]),
        (&["hold"], &[text(&store), "in/document/note.txt"]),
    ];
    for (command, targets) in calls {
        let args: Vec<&str> = command.iter().chain(key).chain(targets).copied().collect();
        let outcome = place.run(&args);
        let code = outcome.status.code();
        let said = outcome.expect_failure().to_lowercase();
        assert!(said.contains("key") || said.contains("passphrase"), "{command:?} said only: {said}");
        assert_eq!(code, Some(WRONG_KEY), "{command:?} said: {said}");
        assert_eq!(mounted_type(&mnt), None);
        assert!(tree::files(&store) == before, "{command:?} with a wrong key changed the store");
    }
}

#[test]
fn a_wrong_passphrase_is_refused_and_the_right_one_is_not() {
    let test = "a_wrong_passphrase_is_refused_and_the_right_one_is_not";
    if !machine::can_mount(test) {
        return;
    }
    let place = Place::new();
    let (right, wrong, store) = (place.path("right"), place.path("wrong"), place.store());
    fs::write(&right, "correct horse battery staple\n").unwrap();
    fs::write(&wrong, "correct horse battery stable\n").unwrap();
    place.run(&["init", "--passphrase-file", text(&right), text(&store)]).expect_success();
    refused_and_unchanged(&place, &["--passphrase-file", text(&wrong)]);
    place.run(&["check", "--passphrase-file", text(&right), text(&store)]).expect_success();
}

#[test]
fn a_changed_passphrase_opens_the_volume_and_rewrites_no_media() {
    let test = "a_changed_passphrase_opens_the_volume_and_rewrites_no_media";
    if !machine::can_mount(test) {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    fs::write(mounted.path("medium"), vec![7; 100_000]).unwrap();
    mounted.unmount();
    let (old, new, store) = (place.key(), place.path("new-key"), place.store());
    place.give_key(&new);
    let blobs = |files: tree::Files| -> tree::Files { files.into_iter().filter(|(_, b)| b.len() > 50_000).collect() };
    let before = blobs(tree::files(&store));
    assert!(!before.is_empty(), "the medium lies in the store");
    place
        .run(&["key", "change", "--key-file", text(&old), "--new-key-file", text(&new), text(&store)])
        .expect_success();
    assert!(blobs(tree::files(&store)) == before, "the medium was rewritten");
    place.check().expect_failure();
    fs::rename(&new, &old).unwrap();
    place.check().expect_success();
    let mounted = Mounted::start(&place);
    assert_eq!(fs::read(mounted.path("medium")).unwrap(), vec![7; 100_000]);
    mounted.unmount();
    // The last key cannot be taken away.
    let list = place.run(&["key", "list", "--json", text(&store)]);
    assert!(list.status.success(), "listing slots needs no key: {}", list.stderr);
}

#[test]
fn a_key_for_which_there_is_no_slot_leaves_no_file() {
    let place = Place::with_volume(&[]);
    let (key, store) = (place.key(), place.store());
    let add = |name: &str| {
        let new = place.path(name);
        place.run(&["key", "add", "--key-file", text(&key), "--new-key-file", text(&new), text(&store)])
    };
    for number in 1..8 {
        add(&format!("key-{number}")).expect_success();
    }
    let said = add("one-too-many").expect_failure();
    assert!(said.contains("wamedia key remove"), "{said}");
    assert!(!place.path("one-too-many").exists());
}
