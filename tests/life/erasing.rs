//! `wamedia erase` and its reports.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{XattrFlags, setxattr};
use serde_json::Value;

use crate::support::machine;
use crate::support::mounted::Mounted;
use crate::support::place::{Place, run, text};
use crate::support::xattr;

const NAMED: &str = "463eb7ec-ff4e-4d9b-b110-1879cbd411b2";
const SECRET: &[u8] = b"what nobody may find again, here nor there";

/// All blobs of a store, as paths.
fn blobs(store: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for dir in fs::read_dir(store.join("blobs")).unwrap() {
        found.extend(fs::read_dir(dir.unwrap().path()).unwrap().map(|blob| blob.unwrap().path()));
    }
    found
}

/// Whether bytes lie in some blob.
fn is_in_blobs(store: &Path, bytes: &[u8]) -> bool {
    blobs(store).iter().any(|blob| fs::read(blob).unwrap().windows(bytes.len()).any(|part| part == bytes))
}

fn ids_of(report: &Value, list: &str) -> BTreeSet<String> {
    report["report"][list].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn id_of(path: &Path) -> String {
    xattr::text(path, "user.wamedia.id")
}

fn sync(dir: &Path) {
    File::open(dir).unwrap().sync_all().unwrap();
}

fn set(path: &Path, name: &str, value: &str) {
    setxattr(path, name, value.as_bytes(), XattrFlags::empty()).unwrap();
}

#[test]
fn an_erasure_leaves_nothing_and_its_report_can_be_checked_by_anybody() {
    if !machine::can_mount("an_erasure_leaves_nothing_and_its_report_can_be_checked_by_anybody") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    let root = mounted.root();
    fs::create_dir(root.join("in")).unwrap();
    for name in ["in/a.txt", "in/b.txt", "in/held.txt", "in/open.txt", "in/written.txt", "in/other.txt", NAMED] {
        fs::write(root.join(name), [name.as_bytes(), SECRET].concat()).unwrap();
    }
    for name in ["in/a.txt", "in/b.txt", "in/held.txt", "in/open.txt", "in/written.txt"] {
        set(&root.join(name), "user.customer", "4711");
    }
    set(&root.join("in/other.txt"), "user.customer", "47110");
    fs::hard_link(root.join("in/b.txt"), root.join("b again")).unwrap();
    place.run(&["hold", text(&root.join("in/held.txt"))]).expect_success();
    let reading = File::open(root.join("in/open.txt")).unwrap();
    let writing = File::options().append(true).open(root.join("in/written.txt")).unwrap();
    sync(root);
    let ids: Vec<String> =
        ["a", "b", "held", "open", "written"].map(|n| id_of(&root.join(format!("in/{n}.txt")))).into();
    let before = blobs(&place.store());

    let args = ["erase", "--dry-run", "--json", "--attribute", "user.customer=4711", text(root)];
    let planned = place.run(&args);
    assert_eq!(planned.status.code(), Some(12));
    let planned: Value = serde_json::from_str(&planned.stdout).unwrap();
    assert_eq!(ids_of(&planned, "erased"), ids[..2].iter().cloned().collect());
    assert_eq!(planned["signature"], Value::Null);
    assert!(root.join("in/a.txt").exists());

    let report = place.path("report.json");
    let refused = place.run(&["erase", "--attribute", "user.customer=4711", text(root)]);
    assert_eq!(refused.status.code(), Some(2), "without a terminal it needs --yes: {}", refused.stderr);
    let done = place.run(&[
        "erase",
        "--yes",
        "--attribute",
        "user.customer=4711",
        "--report",
        text(&report),
        "--reason",
        "request 17",
        "--on-behalf-of",
        "data protection",
        text(root),
    ]);
    assert_eq!(done.status.code(), Some(12), "{}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("1 medium held; 2 media in use"), "{}", done.stdout);

    // Gone from the mount, with every name; the others are as they were.
    for name in ["in/a.txt", "in/b.txt", "b again"] {
        assert!(!root.join(name).exists(), "{name} is still there");
    }
    for name in ["in/held.txt", "in/open.txt", "in/written.txt", "in/other.txt", NAMED] {
        assert_eq!(fs::read(root.join(name)).unwrap(), [name.as_bytes(), SECRET].concat());
    }
    // Gone from the store when it was told: two blobs fewer.
    let after = blobs(&place.store());
    assert_eq!(before.difference(&after).count(), 2);
    assert_eq!(after.difference(&before).count(), 0);

    let told: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!(ids_of(&told, "erased"), ids[..2].iter().cloned().collect());
    assert_eq!(ids_of(&told, "held"), [ids[2].clone()].into());
    assert_eq!(ids_of(&told, "kept"), ids[3..].iter().cloned().collect());
    let reasons: BTreeSet<&str> =
        told["report"]["kept"].as_array().unwrap().iter().map(|one| one["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["open", "open-for-writing"].into());
    let digests: BTreeSet<&str> =
        told["report"]["erased"].as_array().unwrap().iter().map(|one| one["sha256"].as_str().unwrap()).collect();
    let expected = ["in/a.txt", "in/b.txt"].map(|n| sha256(&[n.as_bytes(), SECRET].concat()));
    assert_eq!(digests, expected.iter().map(String::as_str).collect());
    assert_eq!(told["report"]["asked_by"]["uid"], rustix::process::geteuid().as_raw());
    assert_eq!(told["report"]["asked_by"]["name"], "wamedia");
    assert_eq!(told["report"]["reason"], "request 17");
    // No name and no attribute's value unless that was asked for.
    let text_of_it = fs::read_to_string(&report).unwrap();
    assert!(!text_of_it.contains("a.txt") && !text_of_it.contains("4711"), "{text_of_it}");
    assert_eq!(told["report"]["selection"]["withheld"], serde_json::json!(["attribute"]));

    // Power may fail: nothing of it comes back.
    drop((reading, writing));
    let key = place.run(&["erase", "public-key", text(root)]).expect_success();
    mounted.kill();
    place.check().expect_success();
    assert!(blobs(&place.store()).is_disjoint(&before.difference(&after).cloned().collect()));
    let left = place.run(&[&["ls", "--json"], &place.unmounted().each_ref().map(String::as_str)[..]].concat());
    assert_eq!(left.json_lines().len(), 5);

    let same = place.run(&[&["erase", "public-key"], &place.unmounted().each_ref().map(String::as_str)[..]].concat());
    assert_eq!(same.expect_success(), key);
    a_report_holds_for_its_key_alone(&place, &report, key.trim());
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    crate::support::tree::hex(&sha2::Sha256::digest(bytes))
}

/// Without volume, store or key file.
fn a_report_holds_for_its_key_alone(place: &Place, report: &Path, key: &str) {
    let verify = |key: &str, report: &Path| place.run(&["erase", "verify", "--public-key", key, text(report)]);
    let pem =
        place.run(&[&["erase", "public-key", "--pem"], &place.unmounted().each_ref().map(String::as_str)[..]].concat());
    fs::write(place.path("key.pem"), pem.expect_success()).unwrap();
    fs::rename(place.store(), place.path("elsewhere")).unwrap();
    let said = verify(key, report).expect_success();
    assert!(said.contains("signature     good") && said.contains("data protection"), "{said}");

    let original = fs::read_to_string(report).unwrap();
    let changed = place.path("changed.json");
    let pretty: Value = serde_json::from_str(&original).unwrap();
    fs::write(&changed, serde_json::to_string_pretty(&pretty).unwrap()).unwrap();
    verify(key, &changed).expect_success();
    for (from, to) in
        [("request 17", "request 18"), ("\"size\":", "\"size\":1"), ("\"held\":[{", "\"held\":[],\"x\":[{")]
    {
        assert!(original.contains(from));
        fs::write(&changed, original.replacen(from, to, 1)).unwrap();
        let refused = verify(key, &changed);
        assert_eq!(refused.status.code(), Some(5), "{to}: {}", refused.stdout);
    }
    let other = Place::with_volume(&[]);
    let of_other =
        other.run(&[&["erase", "public-key"], &other.unmounted().each_ref().map(String::as_str)[..]].concat());
    assert_eq!(verify(of_other.expect_success().trim(), report).status.code(), Some(5));
    assert_eq!(verify("00", report).status.code(), Some(2));

    // As docs/OPERATIONS.md has it, without wamedia.
    let script = "jq -cSj .report report.json > message && jq -r .signature report.json | tr -d '\\n' | xxd -r -p > signature \
                  && openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in message -sigfile signature";
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(place.dir());
    let said = run(shell);
    assert!(said.status.success(), "Debian's packages jq, openssl and xxd are needed: {}{}", said.stdout, said.stderr);
    assert!(said.stdout.contains("Verified Successfully"), "{}", said.stdout);
}

#[test]
fn media_are_named_by_id_by_path_and_in_a_list_on_a_store_that_is_not_mounted() {
    if !machine::can_mount("media_are_named_by_id_by_path_and_in_a_list_on_a_store_that_is_not_mounted") {
        return;
    }
    // Without a cipher its bytes can be looked for, and reports cannot be signed.
    let place = Place::new();
    place.run(&["init", "--cipher", "none", "--retention", "30d", text(&place.store())]).expect_success();
    let tree = place.path("tree");
    fs::create_dir_all(tree.join("in")).unwrap();
    for name in ["in/a.txt", "in/b.txt", "in/c.txt", "in/d.txt", NAMED] {
        fs::write(tree.join(name), [name.as_bytes(), SECRET].concat()).unwrap();
    }
    let store = place.store();
    place.run(&["import", text(&tree), text(&store)]).expect_success();
    assert!(is_in_blobs(&store, &[b"in/a.txt", SECRET].concat()));

    let list = place.path("list");
    fs::write(&list, format!("{NAMED}\n\n in/b.txt \nin/none.txt\n")).unwrap();
    let done = place.run(&["erase", "--yes", "--json", "--names", "--from", text(&list), text(&store), "in/a.txt"]);
    assert_eq!(done.status.code(), Some(7), "one is not there: {}{}", done.stdout, done.stderr);
    let told: Value = serde_json::from_str(&done.stdout).unwrap();
    let paths: BTreeSet<&str> =
        told["report"]["erased"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["in/a.txt", "in/b.txt", NAMED].into());
    assert_eq!(told["report"]["not_found"], serde_json::json!(["in/none.txt"]));
    assert_eq!(told["report"]["selection"]["named"], 4);
    assert_eq!(told["signature"], Value::Null);
    for name in ["in/a.txt", "in/b.txt", NAMED] {
        assert!(!is_in_blobs(&store, &[name.as_bytes(), SECRET].concat()), "{name} still lies in a blob");
    }
    assert!(is_in_blobs(&store, &[b"in/c.txt", SECRET].concat()));
    fs::write(place.path("unsigned"), &done.stdout).unwrap();
    let key = "00".repeat(32);
    let refused = place.run(&["erase", "verify", "--public-key", &key, text(&place.path("unsigned"))]);
    assert!(refused.expect_failure().contains("not signed"));

    let matched = place.run(&["erase", "--yes", "--below", "in", "--type", "text/*", text(&store)]);
    assert!(matched.expect_success().contains("erased 2 media"));
    assert_eq!(place.run(&["ls", "--json", text(&store)]).json_lines().len(), 0);
    for args in [&["erase", "--yes", text(&store)][..], &["erase", "--yes", "--expired", text(&store), NAMED]] {
        assert_eq!(place.run(args).status.code(), Some(2), "{args:?}");
    }
    let there = place.run(&["erase", "--yes", "--expired", "--report", text(&list), text(&store)]);
    assert!(there.expect_failure().contains("there already"));
    assert!(fs::read_to_string(&list).unwrap().contains(NAMED));
    place.run(&["check", "--read-all", text(&store)]).expect_success();
}
