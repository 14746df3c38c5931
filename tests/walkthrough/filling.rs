//! Media go in, are judged, found, and refused when they do not fit.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use rustix::fs::statvfs;
use rustix::io::Errno;

use crate::support::mounted::Mounted;
use crate::support::place::{Place, run, text};
use crate::support::samples;
use crate::support::tree::digest;
use crate::support::xattr;
use crate::{quota, tool};

const QUOTA: u64 = 8 << 20;
const UUID: &str = "463eb7ec-ff4e-4d9b-b110-1879cbd411b2";
const OTHER_UUID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

/// Bytes of all regular files below `root`, `.expired` left out, as a sum of what `stat` says.
fn bytes_below(root: &Path) -> u64 {
    let walk = walkdir::WalkDir::new(root).into_iter().filter_entry(|entry| entry.file_name() != ".expired");
    let files = walk.map(|entry| entry.unwrap()).filter(|entry| entry.file_type().is_file());
    files.map(|entry| entry.metadata().unwrap().len()).sum()
}

/// The kernel tells of a last close without waiting, so the room may be free a moment later.
fn wait_for_used(root: &Path, wanted: u64) {
    let mut tries = 0;
    while quota(root, "used_bytes") != wanted && tries < 1000 {
        std::thread::sleep(std::time::Duration::from_millis(5));
        tries += 1;
    }
    assert_eq!(quota(root, "used_bytes"), wanted, "bytes in use after a removal");
}

fn all_samples_are_intact(root: &Path) {
    for sample in samples::all() {
        let found = fs::read(root.join("in").join(&sample.path)).unwrap_or_else(|e| panic!("{}: {e}", sample.path));
        assert!(found == sample.bytes, "{} has changed", sample.path);
    }
}

/// Copies all samples in, compares them, and asks the attributes of each.
pub fn samples_are_stored_and_judged(mounted: &Mounted) {
    let root = mounted.root();
    tool("cp", &["-r", text(&samples::dir()), text(&root.join("in"))]);
    tool("diff", &["-r", text(&samples::dir()), text(&root.join("in"))]);
    all_samples_are_intact(root);

    let size = statvfs(root).unwrap();
    assert_eq!(size.f_blocks * size.f_frsize, QUOTA, "df shows the quota");
    assert_eq!(quota(root, "max_bytes"), QUOTA);
    assert_eq!(quota(root, "used_bytes"), bytes_below(root));
    let taken = (size.f_blocks - size.f_bfree) * size.f_frsize;
    let used = quota(root, "used_bytes");
    assert!((used..used + 2 * size.f_frsize).contains(&taken), "df says {taken} used, the attribute {used}");
    assert_eq!(quota(root, "media"), samples::all().len() as u64 + 2, "the samples, README.md and verdicts.tsv");
    assert_eq!(quota(root, "expired"), 0);

    let mut faults = Vec::new();
    for sample in samples::all() {
        let path = root.join("in").join(&sample.path);
        let expected = [
            ("user.mime_type", sample.mime.clone()),
            ("user.wamedia.kind", sample.kind.clone()),
            ("user.wamedia.verdict", sample.verdict.clone()),
            ("user.wamedia.sha256", digest(&sample.bytes)),
            ("user.wamedia.path", format!("in/{}", sample.path)),
        ];
        for (name, value) in expected {
            let found = xattr::text(&path, name);
            if found != value {
                faults.push(format!("{}: {name} is {found:?}, not {value:?}", sample.path));
            }
        }
        let id = xattr::text(&path, "user.wamedia.id");
        assert!(uuid::Uuid::try_parse(&id).is_ok() && id.len() == 36, "{}: id {id:?}", sample.path);
        assert!(!xattr::text(&path, "user.wamedia.expires").is_empty());
    }
    assert!(faults.is_empty(), "{} attributes are wrong:\n{}", faults.len(), faults.join("\n"));
}

/// Puts a medium at a path of each layout of the API client: its id is the path's.
pub fn both_layouts_give_ids(mounted: &Mounted) {
    let sample = fs::read(samples::dir().join("image/photo.jpg")).unwrap();
    let split = mounted.path("shared/463e/b7ec/ff4e4d9bb1101879cbd411b2");
    let whole = mounted.path(format!("shared/{OTHER_UUID}"));
    fs::create_dir_all(split.parent().unwrap()).unwrap();
    for path in [&split, &whole] {
        fs::write(path, &sample).unwrap();
        assert_eq!(xattr::text(path, "user.mime_type"), "image/jpeg");
    }
    assert_eq!(xattr::text(&split, "user.wamedia.id"), UUID);
    assert_eq!(xattr::text(&whole, "user.wamedia.id"), OTHER_UUID);
    // Any other name gets an id of its own, and keeps it when it is moved.
    let moved = mounted.path("shared/moved.jpg");
    fs::write(mounted.path("fresh.jpg"), &sample).unwrap();
    let fresh = xattr::text(&mounted.path("fresh.jpg"), "user.wamedia.id");
    assert!(fresh != UUID && fresh != OTHER_UUID);
    fs::rename(mounted.path("fresh.jpg"), &moved).unwrap();
    assert_eq!(xattr::text(&moved, "user.wamedia.id"), fresh);
}

/// Asks the commands for media, by path from the root and by id, and checks that they agree with the mount.
pub fn commands_find_media_by_path_and_id(place: &Place, mounted: &Mounted) {
    let root = text(mounted.root());
    let by_id = place.run(&["info", root, UUID, "--json"]).json();
    assert_eq!(by_id["path"], "shared/463e/b7ec/ff4e4d9bb1101879cbd411b2");
    let by_path = place.run(&["info", root, "in/audio/voice-stereo.ogg", "--json"]).json();
    assert_eq!(by_path["mime_type"], "audio/ogg; codecs=opus");
    assert_eq!(by_path["verdict"], "unfit: not-single-channel");
    assert_eq!(by_path["id"], xattr::text(&mounted.path("in/audio/voice-stereo.ogg"), "user.wamedia.id").as_str());
    assert_eq!(by_path["size"], fs::metadata(mounted.path("in/audio/voice-stereo.ogg")).unwrap().len());
    let listed = place.run(&["ls", root, "--json"]).json_lines();
    assert_eq!(listed.len() as u64, quota(mounted.root(), "media"));
    let images = place.run(&["ls", root, "--type", "image/*", "--json"]).json_lines();
    assert!(!images.is_empty() && images.iter().all(|m| m["mime_type"].as_str().unwrap().starts_with("image/")));
    let status = place.run(&["status", root, "--json"]).json();
    assert_eq!(status["used_bytes"], quota(mounted.root(), "used_bytes"));
    place.run(&["status", root]).expect_success();
    place.run(&["info", root, "no/such/medium"]).expect_failure();
}

/// Writes more than fits: that file is refused, what was there stays, and what fits still goes in.
pub fn writing_past_the_quota_is_refused(place: &Place, mounted: &Mounted) {
    let root = mounted.root();
    let before = quota(root, "used_bytes");
    let free = QUOTA - before;

    let large = place.path("large");
    fs::write(&large, vec![b'x'; usize::try_from(free).unwrap() + 100_000]).unwrap();
    let mut copy = Command::new("cp");
    copy.arg(&large).arg(mounted.path("large"));
    let said = run(copy).expect_failure();
    assert!(said.contains("No space left"), "cp said: {said}");
    assert!(quota(root, "used_bytes") <= QUOTA);
    all_samples_are_intact(root);
    let _ = fs::remove_file(mounted.path("large"));
    wait_for_used(root, before);

    // Piece by piece: every write that was acknowledged is kept, the first that does not fit is refused.
    let path = mounted.path("pieces");
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
    let (mut acknowledged, piece) = (0, vec![b'p'; 50_000]);
    let refusal = loop {
        match file.write(&piece) {
            Ok(len) => acknowledged += len as u64,
            Err(error) => break error,
        }
        assert!(acknowledged <= free, "{acknowledged} bytes written where {free} were free");
    };
    assert_eq!(refusal.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    assert!(free - acknowledged < 50_000, "refused with {} bytes left", free - acknowledged);
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(fs::metadata(&path).unwrap().len(), acknowledged);
    assert!(fs::read(&path).unwrap().iter().all(|byte| *byte == b'p'));
    fs::remove_file(&path).unwrap();

    // To the last byte.
    let exact = mounted.path("exact");
    fs::write(&exact, vec![b'e'; usize::try_from(free).unwrap()]).unwrap();
    assert_eq!(quota(root, "used_bytes"), QUOTA);
    let mut one_more = OpenOptions::new().append(true).open(&exact).unwrap();
    assert_eq!(errno_of(one_more.write(b"!")), Errno::NOSPC);
    let allocation = rustix::fs::fallocate(&one_more, rustix::fs::FallocateFlags::empty(), free, 1);
    assert_eq!(allocation, Err(Errno::NOSPC));
    drop(one_more);
    assert_eq!(fs::metadata(&exact).unwrap().len(), free);
    assert_eq!(statvfs(root).unwrap().f_bavail, 0);
    // Overwriting in place and removing work on a full volume.
    let overwrite = OpenOptions::new().write(true).open(&exact).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&overwrite, b"EEEE", 0).unwrap();
    drop(overwrite);
    fs::remove_file(&exact).unwrap();
    // A write that needs the room gets it, though the kernel tells of the last close without waiting.
    fs::write(&exact, vec![b'f'; usize::try_from(free).unwrap()]).unwrap();
    fs::remove_file(&exact).unwrap();
    wait_for_used(root, before);
    all_samples_are_intact(root);

    // More room while mounted, and less again.
    let set = |size: &str| place.run(&["quota", "set", "--quota", size, text(root)]).expect_success();
    set("16MiB");
    let size = statvfs(root).unwrap();
    assert_eq!(size.f_blocks * size.f_frsize, 2 * QUOTA);
    tool("cp", &[text(&large), text(&mounted.path("large"))]);
    fs::remove_file(mounted.path("large")).unwrap();
    set("8MiB");
    assert_eq!(quota(root, "max_bytes"), QUOTA);
}

fn errno_of<T: std::fmt::Debug>(result: std::io::Result<T>) -> Errno {
    Errno::from_raw_os_error(result.expect_err("the call must fail").raw_os_error().unwrap())
}
