//! The forms of the commands that scripts rely on, and what they do when something is in the way.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::machine::{can_mount, mounted_type, processes_naming};
use crate::support::mounted::{DaemonGuard, Mounted};
use crate::support::place::{Place, text};
use crate::support::samples;
use crate::support::tree;
use crate::tool;

#[test]
fn one_command_makes_the_volume_and_mounts_it() {
    if !can_mount("one_command_makes_the_volume_and_mounts_it") {
        return;
    }
    let place = Place::new();
    let _guard = DaemonGuard(&place);
    let (key, store, mnt) = (place.key(), place.store(), place.mnt());
    let outcome = place.run(&["mount", "--init", "--daemon", "--key-file", text(&key), text(&store), text(&mnt)]);
    let said = format!("{}{}", outcome.stdout, outcome.stderr);
    outcome.expect_success();
    assert_eq!(mounted_type(&mnt).as_deref(), Some("fuse.wamedia"), "the mount answers when the command returns");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o600);
    assert!(said.contains(text(&key)), "the place of the key is told: {said}");
    assert!(said.to_lowercase().contains("lost"), "and what happens without it: {said}");
    fs::write(mnt.join("medium"), b"kept").unwrap();
    place.run(&["umount", text(&mnt)]).expect_success();
    assert_eq!(mounted_type(&mnt), None);
    // The volume is shut down when umount returns; the process needs a moment more to be gone.
    let gone = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        processes_naming(place.dir()).is_empty()
    });
    assert!(gone, "a daemon is left: {:?}", processes_naming(place.dir()));
    // The same command again mounts what is there.
    place.run(&["mount", "--init", "--daemon", "--key-file", text(&key), text(&store), text(&mnt)]).expect_success();
    assert_eq!(fs::read(mnt.join("medium")).unwrap(), b"kept");
    place.run(&["umount", text(&mnt)]).expect_success();
    place.check().expect_success();
}

#[test]
fn a_second_mount_of_the_store_names_the_holder() {
    if !can_mount("a_second_mount_of_the_store_names_the_holder") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    let elsewhere = place.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let (key, store) = (place.key(), place.store());
    let outcome = place.run(&["mount", "--daemon", "--key-file", text(&key), text(&store), text(&elsewhere)]);
    let said = outcome.expect_failure();
    assert!(said.contains(&mounted.pid().to_string()), "the holder {} is not named: {said}", mounted.pid());
    fs::write(mounted.path("still"), b"working").unwrap();
    mounted.unmount();
}

#[test]
fn commands_say_the_same_of_a_mounted_and_an_unmounted_volume() {
    if !can_mount("commands_say_the_same_of_a_mounted_and_an_unmounted_volume") {
        return;
    }
    let place = Place::with_volume(&["--quota", "20MiB"]);
    let mounted = Mounted::start(&place);
    tool("cp", &["-r", text(&samples::dir()), text(&mounted.path("in"))]);
    place.run(&["hold", text(mounted.root()), "in/document/note.txt"]).expect_success();
    let (store, mnt, key) = (place.store(), place.mnt(), place.key());
    let ask = |target: &str| {
        let with_key: &[&str] = &["--key-file", text(&key)];
        // The verdict on a medium may be found only when it is asked for; after this, every answer has it.
        let info = ["info", "--json", "--key-file", text(&key), target, "in/image/photo.jpg"];
        let mut answers = vec![place.run(&info).json_lines()];
        for command in [&["ls", "--sort", "path"][..], &["ls", "--held"], &["expired", "list"]] {
            let args: Vec<&str> = [command, with_key, &["--json", target]].concat();
            let mut said = place.run(&args).json_lines();
            // A verdict is known once somebody asked for it, or the volume had time to look.
            for medium in said.iter_mut().filter_map(serde_json::Value::as_object_mut) {
                medium.remove("verdict");
            }
            answers.push(said);
        }
        let quota = ["quota", "show", "--json", "--key-file", text(&key), target];
        answers.push(place.run(&quota).json_lines());
        answers
    };
    let by_mount = ask(text(&mnt));
    let by_store = ask(text(&store));
    assert_eq!(by_mount, by_store, "mounted: by mount point and by store");
    mounted.unmount();
    assert_eq!(ask(text(&store)), by_mount, "unmounted");
}

#[test]
fn media_come_in_from_a_plain_directory_and_go_out_again() {
    if !can_mount("media_come_in_from_a_plain_directory_and_go_out_again") {
        return;
    }
    let place = Place::with_volume(&[]);
    let source = place.path("source");
    tool("cp", &["-r", text(&samples::dir()), text(&source)]);
    fs::create_dir_all(source.join("shared/463e/b7ec")).unwrap();
    fs::copy(source.join("image/photo.jpg"), source.join("shared/463e/b7ec/ff4e4d9bb1101879cbd411b2")).unwrap();
    tool("touch", &["-d", "2024-05-06 07:08:09.123456789", text(&source.join("audio/speech.mp3"))]);
    let (key, store) = (place.key(), place.store());
    place.run(&["import", "--key-file", text(&key), text(&source), text(&store)]).expect_success();
    let mounted = Mounted::start(&place);
    let without_ours = |mut tree: tree::Tree| {
        for node in tree.values_mut() {
            node.xattrs.retain(|name, _| !name.starts_with("user.wamedia.") && name != "user.mime_type");
        }
        tree
    };
    let expected = tree::read(&source);
    tree::assert_same(&without_ours(tree::read(mounted.root())), &expected, "after the import");
    let id = crate::support::xattr::text(&mounted.path("shared/463e/b7ec/ff4e4d9bb1101879cbd411b2"), "user.wamedia.id");
    assert_eq!(id, "463eb7ec-ff4e-4d9b-b110-1879cbd411b2");
    // Again: it finds everything there already.
    place.run(&["import", text(&source), text(mounted.root())]).expect_success();
    tree::assert_same(&without_ours(tree::read(mounted.root())), &expected, "after a second import");
    let target = place.path("target");
    place.run(&["export", text(mounted.root()), text(&target)]).expect_success();
    tree::assert_same(&without_ours(tree::read(&target)), &expected, "after the export");
    mounted.unmount();
    place.check().expect_success();
}

#[test]
fn nonsense_is_refused_before_anything_is_touched() {
    let place = Place::new();
    let store = place.store();
    for args in
        [&["init"][..], &["mount", "only-one"], &["no-such-command"], &["init", "--quota", "lots", text(&store)]]
    {
        let outcome = place.run(args);
        assert_eq!(outcome.status.code(), Some(2), "{}", outcome.call);
        outcome.expect_failure();
    }
    assert!(!store.exists());
    place.run(&["check", text(&store)]).expect_failure();
    place.run(&["status", text(&store)]).expect_failure();
    assert!(!store.exists());
}
