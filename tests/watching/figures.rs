//! The figures say what was done, in the form that Prometheus's own tools ask for.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use crate::served::Served;
use crate::support::machine::can_mount;
use crate::support::mounted::Mounted;
use crate::support::place::{Place, text};
use crate::tools::{feed, promtool};

/// Samples by name and labels.
pub fn samples(text: &str) -> HashMap<String, f64> {
    let parse = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line:?}")))
    };
    text.lines().filter(|line| !line.starts_with('#')).map(parse).collect()
}

fn told(place: &Place, target: &Path) -> HashMap<String, f64> {
    let text = place.run(&["metrics", "--key-file", text(&place.key()), text(target)]).expect_success();
    let said = feed(promtool(&["check", "metrics"]), &text);
    assert_eq!(said, "", "promtool has something to say of the figures");
    samples(&text)
}

fn of(values: &HashMap<String, f64>, name: &str) -> f64 {
    *values.get(name).unwrap_or_else(|| panic!("no {name}"))
}

fn requests(values: &HashMap<String, f64>, operation: &str) -> f64 {
    of(values, &format!("wamedia_mount_request_duration_seconds_count{{operation=\"{operation}\"}}"))
}

#[test]
fn a_mount_without_a_node_tells_what_it_was_asked() {
    if !can_mount("a_mount_without_a_node_tells_what_it_was_asked") {
        return;
    }
    let place = Place::with_volume(&["--quota", "1MiB"]);
    let mounted = Mounted::start(&place);
    let before = told(&place, &place.mnt());
    assert_eq!((requests(&before, "write"), of(&before, "wamedia_mount_written_bytes_total")), (0.0, 0.0));
    let bytes = vec![7_u8; 300_000];
    fs::write(mounted.path("a.bin"), &bytes).unwrap();
    fs::File::open(mounted.path("a.bin")).unwrap().sync_all().unwrap();
    fs::rename(mounted.path("a.bin"), mounted.path("b.bin")).unwrap();
    assert_eq!(fs::read(mounted.path("b.bin")).unwrap(), bytes);
    fs::read_dir(mounted.root()).unwrap().for_each(drop);
    fs::write(mounted.path("c.bin"), vec![0_u8; 2 << 20]).unwrap_err();
    fs::remove_file(mounted.path("c.bin")).unwrap();
    let after = told(&place, &place.mnt());
    assert_eq!(of(&after, "wamedia_volume_media"), 1.0);
    assert_eq!(of(&after, "wamedia_volume_used_bytes"), 300_000.0);
    assert_eq!(of(&after, "wamedia_volume_quota_bytes"), f64::from(1 << 20));
    assert!(of(&after, "wamedia_volume_refused_writes_total") >= 1.0);
    for operation in ["create", "write", "fsync", "rename", "read", "readdir", "lookup", "release", "unlink"] {
        assert!(requests(&after, operation) >= 1.0, "{operation}");
        let of_operation = format!("{{operation=\"{operation}\"");
        let end = format!("\",operation=\"{operation}\"}}");
        let class = |bound: &str| {
            let same = |le: &str| le.parse::<f64>().ok() == bound.parse().ok();
            let of_operation = |name: &str| {
                let le = name.strip_prefix("wamedia_mount_request_duration_seconds_bucket{le=\"")?;
                le.strip_suffix(&end).map(same)
            };
            let found = after.iter().find(|(name, _)| of_operation(name).unwrap_or(false));
            *found.unwrap_or_else(|| panic!("no class {bound}")).1
        };
        let time = of(&after, &format!("wamedia_mount_request_duration_seconds_sum{of_operation}}}"));
        assert!(class("0.000001") <= class("1") && class("1") <= class("16"), "classes are cumulative");
        assert_eq!(class("+Inf"), requests(&after, operation));
        assert!(time > 0.0 && time < 60.0, "{operation} took {time} s");
    }
    assert_eq!((requests(&after, "rename"), requests(&after, "symlink")), (1.0, 0.0));
    assert_eq!(of(&after, "wamedia_mount_read_bytes_total"), 300_000.0);
    assert!(of(&after, "wamedia_mount_written_bytes_total") >= 300_000.0);
    assert!(after.keys().filter(|name| name.contains("failures_total")).all(|name| after[name] == 0.0));
    mounted.unmount();
    let closed = told(&place, &place.store());
    assert_eq!((of(&closed, "wamedia_volume_media"), requests(&closed, "read")), (1.0, 0.0), "also of a store");
}

#[test]
fn damage_is_counted_where_it_is_met() {
    if !can_mount("damage_is_counted_where_it_is_met") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    fs::write(mounted.path("hurt"), vec![1_u8; 200_000]).unwrap();
    let number = fs::metadata(mounted.path("hurt")).unwrap().ino();
    mounted.unmount();
    let blob = fs::File::options()
        .read(true)
        .write(true)
        .open(place.store().join(format!("blobs/{:013x}/{number:016x}", number >> 12)))
        .unwrap();
    let mut byte = [0];
    blob.read_exact_at(&mut byte, 100_000).unwrap();
    blob.write_all_at(&[byte[0] ^ 1], 100_000).unwrap();
    let mounted = Mounted::start_with(&place, &["--scrub-every", "off"]);
    let before = told(&place, &place.mnt());
    assert_eq!(of(&before, "wamedia_volume_authentication_failures_total"), 0.0);
    fs::read(mounted.path("hurt")).unwrap_err();
    let after = told(&place, &place.mnt());
    assert!(of(&after, "wamedia_volume_authentication_failures_total") >= 1.0);
    assert!(of(&after, "wamedia_mount_request_failures_total{operation=\"read\"}") >= 1.0);
    assert_eq!(of(&after, "wamedia_volume_writable"), 1.0);
    assert!(!after.contains_key("wamedia_volume_scrub_last_finished_timestamp_seconds"), "none has ended");
    assert_eq!(place.run(&["scrub", "--rate", "none", text(&place.mnt())]).status.code(), Some(5));
    let after = told(&place, &place.mnt());
    assert_eq!(of(&after, "wamedia_volume_scrub_damaged_media"), 1.0);
    assert!(of(&after, "wamedia_volume_scrub_last_finished_timestamp_seconds") > 1.6e9);
    mounted.unmount();
}

#[test]
fn a_file_for_the_collector_is_whole_and_readable_by_it() {
    if !can_mount("a_file_for_the_collector_is_whole_and_readable_by_it") {
        return;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    let collected = place.path("collected");
    fs::create_dir(&collected).unwrap();
    let file = collected.join("wamedia.prom");
    for _ in 0..2 {
        place.run(&["metrics", "--output", text(&file), text(&place.mnt())]).expect_success();
    }
    let written = fs::read_to_string(&file).unwrap();
    assert_eq!(feed(promtool(&["check", "metrics"]), &written), "");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(&collected).unwrap().count(), 1, "nothing is left beside it");
    let nowhere = place.path("none/wamedia.prom");
    let said = place.run(&["metrics", "--output", text(&nowhere), text(&place.mnt())]).expect_failure();
    assert!(said.contains("none/wamedia.prom"), "{said}");
    mounted.unmount();
}

#[test]
fn both_forms_have_the_same_figures() {
    if !can_mount("both_forms_have_the_same_figures") {
        return;
    }
    let served = Served::start(&[], &["--scrub-every", "off"]);
    served.upload("text/plain", b"text");
    let ask = |accept: &str| {
        let answer = served.ask(reqwest::Method::GET, "/metrics").header("accept", accept).send().unwrap();
        (answer.headers()["content-type"].to_str().unwrap().to_owned(), answer.text().unwrap())
    };
    let (kind, open) = ask("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.4");
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"), "{kind}");
    let (kind, classic) = ask("*/*");
    assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
    assert_eq!(feed(promtool(&["check", "metrics"]), &classic), "");
    let names = |text: &str| {
        let mut names: Vec<String> = samples(text).into_keys().filter(|name| !name.contains("path=")).collect();
        names.sort();
        names
    };
    assert_eq!(names(&open), names(&classic));
    let by_command = served.place.run(&["metrics", text(&served.place.mnt())]).expect_success();
    assert_eq!(names(&by_command), names(&classic), "the command tells what the node does");
    served.mounted.unmount();
}
