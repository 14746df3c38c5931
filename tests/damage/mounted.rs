//! Damage as programs and operators see it: through a real mount and the built binary.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::bench::{HEADER, STRIDE, bytes};
use super::support::machine;
use super::support::mounted::Mounted;
use super::support::place::{Place, text};

const LEN: usize = 200_000;

/// A volume with two media, unmounted, and the blob of the first.
fn scene(test: &str) -> Option<(Place, PathBuf)> {
    if !machine::can_mount(test) {
        return None;
    }
    let place = Place::with_volume(&[]);
    let mounted = Mounted::start(&place);
    fs::write(mounted.path("hurt"), bytes(LEN, 1)).unwrap();
    fs::File::open(mounted.path("hurt")).unwrap().sync_all().unwrap();
    fs::write(mounted.path("well"), bytes(LEN, 2)).unwrap();
    let number = std::os::unix::fs::MetadataExt::ino(&fs::metadata(mounted.path("hurt")).unwrap());
    mounted.unmount();
    let blob = place.store().join(format!("blobs/{:013x}/{number:016x}", number >> 12));
    assert!(blob.exists());
    Some((place, blob))
}

fn read_chunk(mounted: &Mounted, nth: usize) -> std::io::Result<Vec<u8>> {
    let mut out = vec![0; 65_536];
    fs::File::open(mounted.path("hurt"))?.read_exact_at(&mut out, nth as u64 * 65_536)?;
    Ok(out)
}

fn expect_eio<T>(outcome: std::io::Result<T>) {
    assert_eq!(outcome.err().and_then(|e| e.raw_os_error()), Some(libc::EIO));
}

#[test]
fn a_flipped_bit_is_an_error_of_its_chunk_and_scrub_status_and_repair_name_it() {
    let Some((place, blob)) = scene("a_flipped_bit_is_an_error_of_its_chunk") else { return };
    let mut flipped = fs::read(&blob).unwrap();
    // Far enough from the beginning that no read-ahead of the first chunk meets it.
    flipped[HEADER + 2 * STRIDE + 1000] ^= 1;
    fs::write(&blob, &flipped).unwrap();
    let mounted = Mounted::start_with(&place, &["--scrub-every", "off"]);
    assert!(fs::read(mounted.path("well")).unwrap() == bytes(LEN, 2));
    assert!(read_chunk(&mounted, 0).unwrap() == bytes(LEN, 1)[..65_536]);
    expect_eio(read_chunk(&mounted, 2));
    expect_eio(fs::read(mounted.path("hurt")));
    assert_eq!(fs::metadata(mounted.path("hurt")).unwrap().len(), LEN as u64);

    let mnt = text(&place.mnt()).to_owned();
    let outcome = place.run(&["scrub", "--json", "--rate", "none", &mnt]);
    assert_eq!(outcome.status.code(), Some(5), "{}", outcome.stderr);
    let scrub: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&scrub["damaged_media"], &scrub["damaged"][0]["path"]), (&1.into(), &"hurt".into()));
    assert_eq!(scrub["damaged"][0]["chunk"], 2);
    let status = place.run(&["status", "--json", &mnt]).json();
    assert_eq!(status["scrub"]["damaged"][0]["path"], "hurt");
    let shown = place.run(&["status", &mnt]).expect_success();
    assert!(shown.contains("damaged") && shown.contains("hurt"), "{shown}");
    let log = mounted.log();
    assert!(log.contains("the scrub found damage") && !log.contains("hurt"), "{log}");

    let left = place.run(&["check", "--read-all", "--repair", "--json", &mnt]);
    assert_eq!(left.status.code(), Some(5), "{}", left.stderr);
    assert!(read_chunk(&mounted, 0).is_ok(), "it stays readable where it is whole");
    let moved = place.run(&["check", "--read-all", "--repair", "--move-damaged", "--json", &mnt]).json();
    assert_eq!((&moved["moved"], &moved["left"]), (&1.into(), &0.into()), "{moved}");
    let kept = place.store().join(moved["findings"][0]["repair"]["moved"].as_str().unwrap());
    assert!(fs::read(kept).unwrap() == flipped);
    assert_eq!(fs::metadata(mounted.path("hurt")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(place.run(&["check", "--read-all", "--repair", "--json", &mnt]).json()["clean"], true);
    mounted.unmount();
    place.check().expect_success();
}

#[test]
fn swapped_chunks_and_a_missing_blob_are_errors_through_the_mount() {
    let Some((place, blob)) = scene("swapped_chunks_and_a_missing_blob") else { return };
    let whole = fs::read(&blob).unwrap();
    let frame = |nth: usize| &whole[HEADER + nth * STRIDE..HEADER + (nth + 1) * STRIDE];
    let rest = &whole[HEADER + 2 * STRIDE..];
    fs::write(&blob, [&whole[..HEADER], frame(1), frame(0), rest].concat()).unwrap();
    let mounted = Mounted::start(&place);
    expect_eio(read_chunk(&mounted, 0));
    expect_eio(read_chunk(&mounted, 1));
    assert!(fs::read(mounted.path("well")).unwrap() == bytes(LEN, 2));
    mounted.unmount();
    fs::remove_file(&blob).unwrap();
    let mounted = Mounted::start(&place);
    expect_eio(fs::read(mounted.path("hurt")));
    assert_eq!(fs::read_dir(mounted.root()).unwrap().count(), 3, "both are listed, and .expired");
    assert!(fs::read(mounted.path("well")).unwrap() == bytes(LEN, 2));
    mounted.unmount();
}

#[test]
fn an_unmounted_store_is_repaired_with_its_index_made_anew() {
    let place = Place::with_volume(&[]);
    let [option, key, store] = place.unmounted();
    let directory = place.path("plain");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("one"), bytes(LEN, 1)).unwrap();
    if !machine::can_mount("an_unmounted_store_is_repaired") {
        return;
    }
    let mounted = Mounted::start(&place);
    fs::copy(directory.join("one"), mounted.path("one")).unwrap();
    mounted.unmount();
    // A medium the index has never known: made in a copy of the store whose index is not taken over.
    let other = place.path("index-before");
    let copied = std::process::Command::new("cp").args(["-a", &store, text(&other)]).status().unwrap();
    assert!(copied.success());
    let mounted = Mounted::start(&place);
    fs::write(mounted.path("two"), bytes(LEN, 2)).unwrap();
    let number = std::os::unix::fs::MetadataExt::ino(&fs::metadata(mounted.path("two")).unwrap());
    mounted.unmount();
    let blob = format!("blobs/{:013x}/{number:016x}", number >> 12);
    let bytes_of_two = fs::read(place.store().join(&blob)).unwrap();
    fs::remove_dir_all(place.store()).unwrap();
    fs::rename(&other, place.store()).unwrap();
    // The next medium would have this number: what is put there is beyond what the index has given out.
    fs::write(place.store().join(&blob), &bytes_of_two).unwrap();
    let repaired = place.run(&["check", "--repair", "--json", &option, &key, &store]).json();
    assert_eq!(repaired["left"], 0, "{repaired}");
    assert_eq!(place.run(&["check", "--repair", "--json", &option, &key, &store]).json()["clean"], true);
    let outcome = place.run(&["scrub", "--rate", "none", "--json", &option, &key, &store]).json();
    assert_eq!(outcome["damaged_media"], 0);
    place.run(&["scrub", "start", &option, &key, &store]).expect_failure();
    place.run(&["scrub", "status", &option, &key, &store]).expect_success();
}
