//! Every read of a scrub fails in turn.

use std::thread::sleep;
use std::time::{Duration, Instant};

use wamedia::crypto::KeySource;
use wamedia::ids::Ino;
use wamedia::volume::{NewNode, OpenMode, OpenOptions, ScrubStatus, Volume};

use crate::enumerate::Bench;
use crate::faults::Fault;
use crate::support::patterns;

const PATIENCE: Duration = Duration::from_secs(60);
const MEDIA: u64 = 3;
const LEN: usize = 200_000;
const RW: OpenMode = OpenMode { read: true, write: true, append: false, truncate: false };

/// Scrubs a volume of which the read number `nth` fails meanwhile; says whether there were so many, and what was found.
fn scrubbed(bench: &Bench, nth: u64) -> (bool, ScrubStatus) {
    let disk = bench.disk(bench.new_volume());
    let key = KeySource::key_file(&bench.key()).unwrap();
    let volume = Volume::open(&disk.root().join("store"), &[key], OpenOptions::default()).unwrap();
    for medium in 0..MEDIA {
        let node = NewNode { mode: 0o644, uid: 0, gid: 0 };
        let (_, file) = volume.create(Ino::ROOT, format!("m{medium}").as_bytes(), &node, RW).unwrap();
        volume.write(&file, 0, &patterns::bytes(medium, LEN), false).unwrap();
        volume.close(file);
    }
    volume.sync_all().unwrap();
    volume.checkpoint().unwrap();
    disk.state.lock().faults.plan(Fault::ReadOnce, nth);
    volume.start_scrub(None, false).unwrap();
    let started = Instant::now();
    while volume.scrub_status().is_running {
        assert!(started.elapsed() < PATIENCE, "{:?}", volume.scrub_status());
        sleep(Duration::from_millis(5));
    }
    let happened = disk.state.lock().faults.end();
    let status = volume.scrub_status();
    let _whatever = volume.shutdown();
    (happened, status)
}

/// A part of the disk that gives nothing back costs its medium, and the scrub comes to its end.
pub fn at_every_read() {
    let bench = Bench::new();
    let mut found = 0;
    for nth in 0.. {
        let (happened, status) = scrubbed(&bench, nth);
        if !happened {
            break;
        }
        let last = status.last.unwrap_or_else(|| panic!("read {nth}: the scrub has not come to its end"));
        assert!(last.damaged <= 1, "read {nth}: {:?}", status.damaged);
        found += last.damaged;
    }
    let chunks = MEDIA * LEN.div_ceil(65_536) as u64;
    assert!(found >= chunks, "{found} of {chunks} chunks");
}
