//! The volume and its parts under interleavings of their threads that are chosen, not met by chance. Only built with the
//! feature `interleavings`.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::aging_tests::{Bench, RW, put};
use super::frames::BlobCipher;
use super::quota::{Class, Quota};
use super::sealer::{Batch, Flight, Lane, Pending, Sealer};
use super::{OpenMode, Policy, RenameMode, Volume};
use crate::crypto::{Suite, VolumeKey};
use crate::error::Kind;
use crate::format::frame::{CHUNK_LEN, STRIDE};
use crate::ids::{BlobId, Ino, VolumeId};
use crate::store::{Ballast, DirStore, Space, Store};
use crate::sync::{explore, thread};

const ANEW: OpenMode = OpenMode { truncate: true, ..RW };

fn spawn(work: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(work)
}

/// Writes a file of some chunks through the sealer, one batch each, and checks what landed.
fn write_through(sealer: &Sealer, store: &dyn Store, blob: BlobId, chunks: u64) {
    let cipher = Arc::new(BlobCipher::new(&VolumeKey::none(), Suite::Checksum, VolumeId([1; 16]), blob, [0; 24]));
    let (blob, flight, lane) = (store.create(blob).unwrap(), Arc::new(Flight::default()), Arc::new(Lane::default()));
    let mut whole = Sha256::new();
    for chunk in 0..chunks {
        let offset = chunk * STRIDE;
        let mut frame = sealer.buffer();
        frame.extend(std::iter::repeat_n(chunk as u8 + 1, CHUNK_LEN));
        whole.update(vec![chunk as u8 + 1; CHUNK_LEN]);
        let batch = Batch {
            blob: Arc::clone(&blob),
            cipher: Arc::clone(&cipher),
            header: None,
            offset,
            chunks: vec![Pending { chunk, number: chunk, offset, frame, apart: None }],
            flight: Arc::clone(&flight),
        };
        sealer.submit(batch, Some(&lane));
    }
    flight.wait();
    assert_eq!(blob.len().unwrap(), chunks * STRIDE, "waited for, and not written");
    assert_eq!(lane.digest().finalize(), whole.finalize(), "the batches have passed the digest in another order");
}

#[test]
fn whoever_waits_for_chunks_finds_them_written_and_hashed_in_order() {
    explore(300, || {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(DirStore::open(&dir.path().join("blobs")).unwrap());
        let ballast = Arc::new(Ballast::new(dir.path()));
        // Two of the six chunks at a time: whoever brings more has to wait.
        let sealer = Arc::new(Sealer::start(2, 2 * CHUNK_LEN, Arc::clone(&store), ballast).unwrap());
        let (other, its_store) = (Arc::clone(&sealer), Arc::clone(&store));
        let beside = spawn(move || write_through(&other, &*its_store, BlobId(7), 3));
        write_through(&sealer, &*store, BlobId(8), 3);
        beside.join().unwrap();
        assert_eq!(sealer.taken(), 6 * CHUNK_LEN as u64);
        assert!(store.latch().reason().is_none());
    });
}

#[test]
fn writers_never_get_more_than_the_quota() {
    explore(2000, || {
        let quota = Arc::new(Quota::default());
        let policy = Policy { max_bytes: Some(100), ..Policy::default() };
        let writers: Vec<_> = (0..3)
            .map(|_| {
                let (quota, policy) = (Arc::clone(&quota), policy.clone());
                spawn(move || {
                    let space = || Ok(Space { total: u64::MAX, free: u64::MAX });
                    for bytes in [60, 30] {
                        match quota.take(&policy, space, Class::General, (bytes, 1)) {
                            Ok(()) => {
                                assert!(quota.used().0 <= 100);
                                quota.give(bytes, 1);
                            }
                            Err(e) => assert_eq!(e.kind(), Kind::NoSpace),
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!((quota.used().0, quota.used().1), (0, 0));
    });
}

fn content(volume: &Volume, name: &str) -> Option<Vec<u8>> {
    let ino = match volume.lookup(Ino::ROOT, name.as_bytes()) {
        Err(e) if e.kind() == Kind::NotFound => return None,
        found => found.unwrap().ino,
    };
    let file = match volume.open_file(ino, RW) {
        // Removed after it was found.
        Err(e) if e.kind() == Kind::NotFound => return None,
        opened => opened.unwrap(),
    };
    let mut bytes = vec![0; 200_000];
    let len = volume.read(&file, 0, &mut bytes).unwrap();
    bytes.truncate(len);
    volume.close_soon(file);
    Some(bytes)
}

/// Two chunks and a bit.
fn long(byte: u8) -> Vec<u8> {
    vec![byte; 2 * CHUNK_LEN + 100]
}

fn replace(volume: &Volume, name: &str, byte: u8) {
    let ino = put(volume, Ino::ROOT, &format!("draft of {name}"), &long(byte));
    let file = volume.open_file(ino, RW).unwrap();
    volume.fsync(&file, false).unwrap();
    volume.close_soon(file);
    let draft = format!("draft of {name}");
    volume.rename(Ino::ROOT, draft.as_bytes(), Ino::ROOT, name.as_bytes(), RenameMode::Replace).unwrap();
}

fn overwrite(volume: &Volume, name: &str, byte: u8) {
    let ino = volume.lookup(Ino::ROOT, name.as_bytes()).unwrap().ino;
    let file = volume.open_file(ino, ANEW).unwrap();
    volume.write(&file, 0, &long(byte), false).unwrap();
    volume.close_soon(file);
}

#[test]
fn no_thread_of_a_volume_waits_for_ever() {
    explore(12, || {
        let bench = Bench::new(Policy::default());
        let volume = bench.open();
        put(&volume, Ino::ROOT, "overwritten", &long(1));
        put(&volume, Ino::ROOT, "removed", &long(1));
        let threads: [fn(&Volume); 4] = [
            |volume| {
                replace(volume, "replaced", 3);
                replace(volume, "replaced", 4);
            },
            |volume| {
                overwrite(volume, "overwritten", 5);
                volume.unlink(Ino::ROOT, b"removed").unwrap();
            },
            |volume| {
                volume.checkpoint().unwrap();
                volume.sync_all().unwrap();
            },
            |volume| {
                let seen = content(volume, "replaced");
                assert!(seen.is_none_or(|seen| seen == long(3) || seen == long(4)), "a mixture");
                volume.drain().unwrap();
                content(volume, "removed");
            },
        ];
        let threads = threads.map(|work| {
            let volume = Arc::clone(&volume);
            spawn(move || work(&volume))
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        volume.shutdown().unwrap();
        drop(volume);

        let volume = bench.open();
        let found: HashMap<&str, Option<Vec<u8>>> =
            ["replaced", "overwritten", "removed"].map(|name| (name, content(&volume, name))).into();
        let right = [("replaced", Some(long(4))), ("overwritten", Some(long(5))), ("removed", None)].into();
        assert!(found == right, "other contents");
        volume.shutdown().unwrap();
    });
}
