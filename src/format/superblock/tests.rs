use sha2::{Digest, Sha256};

use super::*;
use crate::error::Kind;

fn slot(id: u8, kind: SlotKind, label: &str) -> Slot {
    let cost = if kind == SlotKind::Passphrase { KdfCost::DEFAULT } else { KdfCost::NONE };
    let (salt, nonce, wrapped, tag) = ([1 + id; 32], [2; 24], [3; 32], [4; 16]);
    Slot { id, kind, cost, salt, nonce, wrapped, tag, label: label.to_owned() }
}

fn superblock(generation: u64) -> Superblock {
    Superblock {
        suite: Suite::XChaCha20Poly1305,
        volume: VolumeId([7; 16]),
        generation,
        slots: vec![slot(0, SlotKind::Passphrase, "operator"), slot(5, SlotKind::Credential, "wamedia.key")],
        mac: [9; 32],
    }
}

fn plain() -> Superblock {
    Superblock { suite: Suite::Checksum, slots: Vec::new(), ..superblock(1) }
}

/// The bytes with one place overwritten and the checksum made to fit again, as a forger would leave them.
fn forged(at: usize, with: &[u8]) -> Vec<u8> {
    let mut bytes = superblock(1).encode().to_vec();
    bytes[at..at + with.len()].copy_from_slice(with);
    let sum = Sha256::digest(&bytes[..4064]);
    bytes[4064..].copy_from_slice(&sum);
    bytes
}

fn fault_of_slot(at: usize, with: &[u8]) -> (u8, &'static str) {
    match Superblock::decode(&forged(at, with)) {
        Err(Malformed::Slot { id, fault }) => (id, fault),
        other => panic!("{at}: {other:?}"),
    }
}

#[test]
fn what_was_encoded_decodes_to_the_same() {
    let mut full = superblock(u64::MAX);
    full.slots = (0..8).map(|id| slot(id, SlotKind::KeyFile, &"ü".repeat(32))).collect();
    for superblock in [superblock(1), plain(), full] {
        assert_eq!(Superblock::decode(&superblock.encode()).unwrap(), superblock);
    }
}

#[test]
fn every_flipped_byte_is_found() {
    let whole = superblock(1).encode();
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = whole;
            bytes[at] ^= flip;
            assert!(Superblock::decode(&bytes).is_err(), "byte {at}");
        }
    }
}

#[test]
fn every_other_length_is_refused() {
    let long = [&superblock(1).encode()[..], &[0]].concat();
    for len in (0..4096).chain([4097]) {
        assert_eq!(Superblock::decode(&long[..len]).unwrap_err(), Malformed::Length(len));
    }
}

#[test]
fn zeros_and_foreign_files_are_no_superblock() {
    for byte in [0, b'w', 0xff] {
        assert_eq!(Superblock::decode(&[byte; 4096]).unwrap_err(), Malformed::Magic);
    }
}

#[test]
fn the_head_is_held_to_its_rules_even_when_the_checksum_fits() {
    for (at, with, expected) in [
        (8, &[2, 0][..], Malformed::Version(2)),
        (8, &[0, 0], Malformed::Version(0)),
        (10, &[0], Malformed::Suite(0)),
        (10, &[3], Malformed::Suite(3)),
        (10, &[2], Malformed::SlotCount(2)),
        (11, &[15], Malformed::ChunkSize(15)),
        (12, &[1], Malformed::Reserved(12)),
        (15, &[1], Malformed::Reserved(12)),
        (32, &[0; 8], Malformed::Generation),
        (40, &[1], Malformed::Reserved(40)),
        (255, &[1], Malformed::Reserved(40)),
        (2304, &[1], Malformed::Reserved(2304)),
        (4031, &[1], Malformed::Reserved(2304)),
        (256, &[0; 2048], Malformed::SlotCount(0)),
    ] {
        assert_eq!(Superblock::decode(&forged(at, with)).unwrap_err(), expected);
    }
}

#[test]
fn a_slot_is_held_to_its_rules_even_when_the_checksum_fits() {
    const FIRST: usize = 256;
    const SIXTH: usize = 256 + 5 * 256;
    for (at, with, id, fault) in [
        (FIRST, &[0][..], 0, "it is free but not zero"),
        (FIRST, &[2], 0, "its state is unknown"),
        (FIRST + 1, &[0], 0, "its kind is unknown"),
        (FIRST + 1, &[4], 0, "its kind is unknown"),
        (FIRST + 2, &[5], 0, "it belongs to another place"),
        (FIRST + 3, &[65], 0, "its label breaks the rules"),
        (FIRST + 3, &[7], 0, "its label breaks the rules"),
        (FIRST + 120, &[0xff], 0, "its label breaks the rules"),
        (FIRST + 120, b"\x1b", 0, "its label breaks the rules"),
        (FIRST + 183, b"x", 0, "its label breaks the rules"),
        (FIRST + 4, &[0xff; 4], 0, "its Argon2id parameters are out of bounds"),
        (FIRST + 8, &[0; 4], 0, "its Argon2id parameters are out of bounds"),
        (FIRST + 12, &[17], 0, "its Argon2id parameters are out of bounds"),
        (FIRST + 1, &[2], 0, "its Argon2id parameters are out of bounds"),
        (SIXTH + 4, &[8], 5, "its Argon2id parameters are out of bounds"),
        (FIRST + 184, &[1], 0, "a reserved byte is not zero"),
        (SIXTH + 255, &[1], 5, "a reserved byte is not zero"),
        (FIRST + 256 + 40, &[1], 1, "it is free but not zero"),
    ] {
        assert_eq!(fault_of_slot(at, with), (id, fault), "byte {at}");
    }
}

#[test]
fn two_whole_and_equal_copies_leave_nothing_to_note() {
    let bytes = superblock(3).encode();
    let (picked, notes) = pick([Some(&bytes), Some(&bytes)]).unwrap();
    assert_eq!((picked, notes.len()), (superblock(3), 0));
}

#[test]
fn the_newer_copy_holds_and_the_older_is_noted() {
    let (old, new) = (superblock(3).encode(), superblock(4).encode());
    for (copies, name) in
        [([Some(&old[..]), Some(&new[..])], "superblock "), ([Some(&new), Some(&old)], "superblock.bak ")]
    {
        let (picked, notes) = pick(copies).unwrap();
        assert_eq!(picked.generation(), 4);
        assert!(notes[0].starts_with(name), "{notes:?}");
    }
}

#[test]
fn one_whole_copy_is_enough_even_when_the_damaged_one_was_newer() {
    let good = superblock(3).encode();
    let mut bad = superblock(4).encode();
    bad[300] ^= 1;
    for (copies, name) in [
        ([Some(&good[..]), Some(&bad[..])], "superblock.bak is damaged"),
        ([Some(&bad), Some(&good)], "superblock is damaged"),
        ([Some(&good), None], "superblock.bak is missing"),
        ([None, Some(&good)], "superblock is missing"),
        ([Some(&good), Some(&[])], "superblock.bak is damaged"),
    ] {
        let (picked, notes) = pick(copies).unwrap();
        assert_eq!(picked, superblock(3));
        assert!(notes.len() == 1 && notes[0].starts_with(name), "{notes:?}");
    }
}

#[test]
fn copies_that_help_nobody_are_told_apart() {
    let good = superblock(3).encode();
    let other_volume = Superblock { volume: VolumeId([8; 16]), ..superblock(3) }.encode();
    let same_generation = Superblock { mac: [8; 32], ..superblock(3) }.encode();
    let unknown = forged(8, &[2, 0]);
    for (copies, kind) in [
        ([None, None], Kind::NotFound),
        ([Some(&good[1..]), None], Kind::Damaged),
        ([Some(&[0; 4096][..]), Some(&[][..])], Kind::Damaged),
        ([Some(&good), Some(&other_volume)], Kind::Damaged),
        ([Some(&good), Some(&same_generation)], Kind::Damaged),
        ([Some(&good), Some(&unknown)], Kind::Version),
        ([Some(&unknown), None], Kind::Version),
    ] {
        assert_eq!(pick(copies).unwrap_err().kind(), kind);
    }
}
