//! The audit log over reopening, rotation, torn ends, damage and a volume.

use std::path::Path;

use super::super::aging_tests::{Bench, put};
use super::super::origin::{Actor, Origin, acting};
use super::*;
use crate::clock::Timestamp;
use crate::crypto::{Suite, VolumeKey};
use crate::ids::FileKind;
use crate::store::Layout;
use crate::volume::Policy;

fn log(store: &Path) -> AuditLog {
    let key = VolumeKey::none().sub_key(Suite::Checksum, VolumeId([1; 16]), "audit");
    AuditLog::new(store.to_owned(), VolumeId([1; 16]), key, Arc::default(), Arc::new(Ballast::new(store)))
}

fn removal(ino: u64, path: &str) -> Removal {
    Removal {
        at: Timestamp { secs: 7, nanos: 0 },
        way: Way::Mount.code(),
        kind: FileKind::Regular,
        ino: Ino(ino),
        id: None,
        size: 5,
        names: 1,
        digest: None,
        successor: None,
        uid: Some(0),
        pid: None,
        name: b"rm".to_vec(),
        path: path.as_bytes().to_vec(),
    }
}

/// Inodes, and the numbers of their records, over all files.
fn told(log: &AuditLog) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    for generation in JournalFile::generations(Series::Audit, &log.store).unwrap() {
        all.extend(log.load(generation, None).unwrap().entries().map(|(number, entry)| match entry {
            Entry::Removal(removal) => (number, removal.ino.0),
            Entry::Missed(count) => (number, 1_000_000 + count),
        }));
    }
    all
}

fn only_file(store: &Path) -> PathBuf {
    let generations = JournalFile::generations(Series::Audit, store).unwrap();
    assert_eq!(generations, [1]);
    store.join("audit.0000000000000001")
}

#[test]
fn numbers_go_on_over_reopening_and_behind_a_torn_end_which_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    for ino in 1..=3 {
        log(dir.path()).note(removal(ino, "a")).unwrap();
    }
    let file = only_file(dir.path());
    let whole = std::fs::read(&file).unwrap();
    for cut in 1..40 {
        std::fs::write(&file, &whole[..whole.len() - cut]).unwrap();
        let log = log(dir.path());
        let before = told(&log);
        log.note(removal(9, "b")).unwrap();
        // A record ends with at most 15 bytes that say nothing.
        let expected: &[(u64, u64)] =
            if before.len() == 3 { &[(1, 1), (2, 2), (3, 3), (4, 9)] } else { &[(1, 1), (2, 2), (3, 9)] };
        assert_eq!(told(&log), expected, "cut by {cut}");
        assert_eq!(log.damaged().unwrap(), [], "cut by {cut}");
    }
}

#[test]
fn a_flipped_bit_costs_one_record_is_found_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    let first = log(dir.path());
    (1..=3).for_each(|ino| first.note(removal(ino, "a")).unwrap());
    first.sync().unwrap();
    first.note(removal(4, "a")).unwrap();
    let file = only_file(dir.path());
    let whole = std::fs::read(&file).unwrap();
    let end = whole.len() - (whole.len() - AUDIT_MAGIC.len()) / 4;
    for at in 0..end {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&file, &bytes).unwrap();
        let log = log(dir.path());
        let left = told(&log);
        assert!(left.len() >= 3, "byte {at}");
        if left.len() == 3 || at < AUDIT_MAGIC.len() {
            assert_eq!(log.damaged().unwrap().len(), 1, "byte {at}");
        }
    }
    let mut bytes = whole.clone();
    bytes[AUDIT_MAGIC.len() + 40] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let damaged = log(dir.path());
    let mut kept = Vec::new();
    damaged.note(removal(5, "b")).unwrap();
    let layout = Layout::new(dir.path());
    let mut keep = |path: &Path| {
        kept.push(path.to_owned());
        Ok(())
    };
    damaged.mend(&layout, &mut keep).unwrap();
    assert_eq!(kept, [Path::new("audit.0000000000000001")]);
    damaged.note(removal(6, "b")).unwrap();
    let inodes: Vec<u64> = told(&damaged).into_iter().map(|(_, ino)| ino).collect();
    assert_eq!(inodes.last(), Some(&6));
    assert_eq!(inodes.len(), 5, "all but the one that is damaged: {inodes:?}");
}

#[test]
fn records_that_were_never_synced_may_be_missing_and_those_that_were_may_not() {
    let dir = tempfile::tempdir().unwrap();
    let first = log(dir.path());
    first.note(removal(1, "a")).unwrap();
    first.sync().unwrap();
    (2..=4).for_each(|ino| first.note(removal(ino, "a")).unwrap());
    let file = only_file(dir.path());
    let whole = std::fs::read(&file).unwrap();
    let record = (whole.len() - AUDIT_MAGIC.len()) / 4;
    let without = |nth: usize| {
        let mut bytes = whole.clone();
        bytes[AUDIT_MAGIC.len() + nth * record..][..record].fill(0);
        std::fs::write(&file, &bytes).unwrap();
        log(dir.path())
    };
    // A crash of power keeps what it likes of what was not synced.
    for nth in 1..3 {
        let log = without(nth);
        assert_eq!(log.damaged().unwrap(), [], "record {nth}");
        // Those that go on behind it say nothing of it, either.
        log.note(removal(5, "b")).unwrap();
        log.sync().unwrap();
        log.note(removal(6, "b")).unwrap();
        assert_eq!(log.damaged().unwrap(), [], "record {nth}");
    }
    assert_eq!(without(0).damaged().unwrap(), [(PathBuf::from("audit.0000000000000001"), record as u64)]);
}

#[test]
fn a_file_whose_beginning_a_crash_has_lost_is_no_damage_and_begun_anew() {
    for beginning in [&b""[..], &b"wam"[..], &[0; 16][..]] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("audit.0000000000000001"), beginning).unwrap();
        let log = log(dir.path());
        assert_eq!(log.damaged().unwrap(), []);
        log.note(removal(1, "a")).unwrap();
        log.sync().unwrap();
        log.note(removal(2, "a")).unwrap();
        assert_eq!((told(&log), log.damaged().unwrap()), (vec![(1, 1), (2, 2)], vec![]));
    }
}

#[test]
fn the_oldest_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path());
    let path = "d".repeat(4000);
    let records = (FILES + 3) * FILE_BYTES / 4000;
    (1..=records).for_each(|ino| log.note(removal(ino, &path)).unwrap());
    let generations = JournalFile::generations(Series::Audit, dir.path()).unwrap();
    assert_eq!(generations.len() as u64, FILES);
    let all = told(&log);
    assert_eq!(all.last(), Some(&(records, records)));
    assert!(all.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1));
    let bytes: u64 = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= FILES * (FILE_BYTES + 8192), "{bytes} bytes");
}

#[test]
fn what_found_no_room_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path());
    log.note(removal(1, "a")).unwrap();
    log.writing.lock().missed = 17;
    log.note(removal(2, "a")).unwrap();
    assert_eq!(told(&log), [(1, 1), (2, 1_000_017), (3, 2)]);
    assert_eq!(log.writing.lock().missed, 0);
}

#[test]
fn a_volume_tells_what_was_removed_and_by_whom() {
    let bench = Bench::new(Policy { floor_bytes: 0, ..Policy::default() });
    let volume = bench.open();
    let first = put(&volume, Ino::ROOT, "first.jpg", &[1; 10]);
    put(&volume, Ino::ROOT, "second.jpg", &[2; 20]);
    volume.link(first, Ino::ROOT, b"again.jpg").unwrap();
    let actor = Actor { uid: Some(7), pid: Some(8), name: "rm".into() };
    let origin = || Origin { way: Way::Mount, actor: Some(actor.clone()) };
    acting(origin(), || volume.unlink(Ino::ROOT, b"first.jpg")).unwrap();
    assert_eq!(all(&volume), [], "it has another name");
    acting(origin(), || {
        volume.rename(Ino::ROOT, b"second.jpg", Ino::ROOT, b"again.jpg", crate::volume::RenameMode::Replace)
    })
    .unwrap();
    let id = volume.own_id(first).to_string();
    let mut removed = all(&volume);
    assert_eq!(removed.len(), 1);
    let one = removed.remove(0);
    assert_eq!((one.way, one.actor, one.size, one.replaced), (Way::Mount, Some(actor), 10, true));
    assert_eq!((one.id, one.path.as_deref()), (Some(id), Some("again.jpg")));
    volume.shutdown().unwrap();
    let volume = bench.open();
    volume.unlink(Ino::ROOT, b"again.jpg").unwrap();
    let ways: Vec<_> = all(&volume).into_iter().map(|removed| (removed.number, removed.way)).collect();
    assert_eq!(ways, [(1, Way::Mount), (2, Way::Other)]);
    volume.shutdown().unwrap();
}

fn all(volume: &Volume) -> Vec<Removed> {
    let mut all = Vec::new();
    let mut take = |removed| {
        all.push(removed);
        Ok(())
    };
    volume.audit(&AuditFilter::default(), &mut take).unwrap();
    all
}
