use sha2::{Digest, Sha256};

use super::*;
use crate::crypto::Secret;
use crate::format::superblock::{SUPERBLOCK_BYTES, pick};
use crate::ids::BlobId;

const CIPHER: Suite = Suite::XChaCha20Poly1305;
const VOLUME: VolumeId = VolumeId([7; 16]);
const CHEAP: KdfCost = KdfCost { m_kib: 8, t: 1, p: 1 };

fn passphrase(text: &str) -> KeySource {
    KeySource::Passphrase(Secret::new(text.as_bytes().to_vec()))
}

fn key_file(byte: u8) -> KeySource {
    KeySource::KeyFile { path: "backup.key".into(), secret: Secret::new(vec![byte; 32]) }
}

fn credential(byte: u8) -> KeySource {
    KeySource::Credential { name: "wamedia.key".to_owned(), secret: Secret::new(vec![byte; 32]) }
}

/// A superblock with slot 0 for the passphrase "open" and slot 1 for the key file of ones.
fn two_slots() -> (Superblock, VolumeKey) {
    let key = VolumeKey::generate();
    let mut superblock = Superblock::new(VOLUME, CIPHER, &key).unwrap();
    assert_eq!(superblock.add_slot_at_cost(&key, &passphrase("open"), "operator", CHEAP).unwrap(), 0);
    assert_eq!(superblock.add_slot(&key, &key_file(1), "").unwrap(), 1);
    (superblock, key)
}

fn reread(superblock: &Superblock) -> Superblock {
    Superblock::decode(&superblock.encode()).unwrap()
}

fn refusal<T>(result: Result<T>) -> Kind {
    result.err().expect("this was to be refused").kind()
}

#[test]
fn each_slot_opens_with_its_own_source_after_writing_and_reading() {
    let (superblock, key) = two_slots();
    let superblock = reread(&superblock);
    for (source, id) in [(passphrase("open"), 0), (key_file(1), 1), (credential(1), 1)] {
        let (opened, slot) = superblock.unlock(&[source]).unwrap();
        assert_eq!((opened.expose(), slot), (key.expose(), Some(id)));
    }
    assert_eq!(superblock.generation(), 3);
}

#[test]
fn a_key_is_tried_before_a_passphrase_is_stretched() {
    let (superblock, _) = two_slots();
    let (_, slot) = superblock.unlock(&[passphrase("open"), key_file(1)]).unwrap();
    assert_eq!(slot, Some(1));
}

#[test]
fn a_wrong_key_is_no_damage_and_the_message_says_what_was_tried_and_what_there_is() {
    let (superblock, _) = two_slots();
    for sources in [vec![], vec![passphrase("opem")], vec![key_file(2), credential(3), passphrase("")]] {
        let failure = superblock.unlock(&sources).err().unwrap();
        assert!(matches!(failure.kind(), Kind::WrongKey | Kind::Invalid), "{failure:?}");
    }
    let failure = superblock.unlock(&[passphrase("opem"), key_file(2)]).err().unwrap();
    assert_eq!(failure.kind(), Kind::WrongKey);
    let message = failure.to_string();
    for part in
        ["tried: passphrase, key file backup.key", "0 (passphrase \"operator\"), 1 (key file)", &VOLUME.to_string()]
    {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_forger_who_mends_the_checksum_is_found_at_every_byte() {
    let (superblock, _) = two_slots();
    let whole = superblock.encode();
    for at in 0..SUPERBLOCK_BYTES - 32 {
        let mut bytes = whole;
        bytes[at] ^= 1;
        let sum = Sha256::digest(&bytes[..SUPERBLOCK_BYTES - 32]);
        bytes[SUPERBLOCK_BYTES - 32..].copy_from_slice(&sum);
        let opened = Superblock::decode(&bytes).map_err(Error::from).and_then(|s| s.unlock(&[key_file(1)]));
        assert!(opened.is_err(), "byte {at}");
    }
}

#[test]
fn a_slot_of_another_volume_or_place_does_not_open() {
    let (mut one, key) = two_slots();
    let mut other = Superblock::new(VolumeId([8; 16]), CIPHER, &key).unwrap();
    other.add_slot(&key, &key_file(1), "").unwrap();

    let mut pasted = one.slots[1].clone();
    pasted.id = 0;
    other.slots = vec![pasted];
    other.seal_mac(&key);
    assert_eq!(refusal(other.unlock(&[key_file(1)])), Kind::WrongKey);

    one.slots[1].id = 4;
    one.seal_mac(&key);
    assert_eq!(refusal(one.unlock(&[key_file(1)])), Kind::WrongKey);
}

#[test]
fn a_slot_does_not_open_at_another_cost_than_it_was_made_with() {
    let (mut superblock, key) = two_slots();
    superblock.slots[0].cost.t = 2;
    superblock.seal_mac(&key);
    assert_eq!(refusal(superblock.unlock(&[passphrase("open")])), Kind::WrongKey);
}

#[test]
fn a_changed_label_or_generation_is_damage() {
    let (superblock, _) = two_slots();
    let mut relabelled = superblock.clone();
    relabelled.slots[0].label.push('!');
    let mut rewound = superblock;
    rewound.generation += 1;
    for changed in [relabelled, rewound] {
        assert_eq!(refusal(changed.unlock(&[key_file(1)])), Kind::Damaged);
    }
}

#[test]
fn eight_slots_fit_and_a_ninth_is_refused() {
    let key = VolumeKey::generate();
    let mut superblock = Superblock::new(VOLUME, CIPHER, &key).unwrap();
    for id in 0..8 {
        assert_eq!(superblock.add_slot(&key, &key_file(id + 1), "").unwrap(), id);
    }
    let before = superblock.clone();
    assert_eq!(refusal(superblock.add_slot(&key, &key_file(9), "")), Kind::NotPermitted);
    assert_eq!(superblock, before);
    for id in 0..8 {
        assert_eq!(reread(&superblock).unlock(&[key_file(id + 1)]).unwrap().1, Some(id));
    }
}

#[test]
fn a_removed_slot_opens_no_more_and_its_place_is_given_out_again() {
    let (mut superblock, key) = two_slots();
    superblock.remove_slot(&key, 0).unwrap();
    assert_eq!(refusal(reread(&superblock).unlock(&[passphrase("open")])), Kind::WrongKey);
    assert_eq!(superblock.add_slot(&key, &credential(5), "").unwrap(), 0);
    let superblock = reread(&superblock);
    assert_eq!(superblock.slots()[0].label(), "wamedia.key");
    assert_eq!(superblock.unlock(&[credential(5)]).unwrap().1, Some(0));
    assert_eq!(superblock.generation(), 5);
}

#[test]
fn the_last_slot_stays() {
    let (mut superblock, key) = two_slots();
    assert_eq!(refusal(superblock.remove_slot(&key, 7)), Kind::NotFound);
    superblock.remove_slot(&key, 1).unwrap();
    assert_eq!(refusal(superblock.remove_slot(&key, 0)), Kind::NotPermitted);
    assert!(reread(&superblock).unlock(&[passphrase("open")]).is_ok());
}

#[test]
fn changing_a_passphrase_keeps_the_volume_key_and_draws_everything_else_anew() {
    let (mut superblock, key) = two_slots();
    let old = superblock.slots[0].clone();
    superblock.replace_slot_at_cost(&key, 0, &passphrase("sesame"), "operator", CHEAP).unwrap();
    let superblock = reread(&superblock);
    assert_eq!(refusal(superblock.unlock(&[passphrase("open")])), Kind::WrongKey);
    let (opened, slot) = superblock.unlock(&[passphrase("sesame")]).unwrap();
    assert_eq!((opened.expose(), slot), (key.expose(), Some(0)));
    let new = &superblock.slots()[0];
    assert!(new.salt != old.salt && new.nonce != old.nonce && new.wrapped != old.wrapped);
    assert_eq!(superblock.unlock(&[key_file(1)]).unwrap().1, Some(1));
}

#[test]
fn a_refused_change_changes_nothing() {
    let (mut superblock, key) = two_slots();
    let before = superblock.clone();
    let stranger = VolumeKey::generate();
    for kind in [
        refusal(superblock.add_slot(&stranger, &key_file(2), "")),
        refusal(superblock.replace_slot(&stranger, 0, &key_file(2), "")),
        refusal(superblock.remove_slot(&stranger, 0)),
        refusal(superblock.remove_slot(&VolumeKey::none(), 0)),
    ] {
        assert_eq!(kind, Kind::Damaged);
    }
    for kind in [
        refusal(superblock.add_slot(&key, &passphrase(""), "")),
        refusal(superblock.add_slot(&key, &key_file(2), &"x".repeat(65))),
        refusal(superblock.add_slot(&key, &key_file(2), "two\nlines")),
        refusal(superblock.add_slot_at_cost(&key, &passphrase("p"), "", KdfCost { t: 65, ..CHEAP })),
    ] {
        assert_eq!(kind, Kind::Invalid);
    }
    assert_eq!(refusal(superblock.replace_slot(&key, 5, &key_file(2), "")), Kind::NotFound);
    assert_eq!(superblock, before);
    superblock.add_slot(&key, &key_file(2), &"x".repeat(64)).unwrap();
}

#[test]
fn generations_do_not_wrap_round() {
    let (mut superblock, key) = two_slots();
    superblock.generation = u64::MAX;
    superblock.seal_mac(&key);
    assert_eq!(refusal(superblock.remove_slot(&key, 0)), Kind::TooLarge);
    assert_eq!(superblock.slots().len(), 2);
}

#[test]
fn a_volume_without_a_cipher_has_no_slots_and_takes_no_key() {
    let key = VolumeKey::none();
    let mut superblock = Superblock::new(VOLUME, Suite::Checksum, &key).unwrap();
    assert_eq!(refusal(superblock.add_slot(&key, &key_file(1), "")), Kind::Unsupported);
    let superblock = reread(&superblock);
    let (opened, slot) = superblock.unlock(&[]).unwrap();
    assert!(opened.is_public() && slot.is_none());
    assert_eq!(refusal(superblock.unlock(&[key_file(1)])), Kind::WrongKey);
}

#[test]
fn a_key_and_a_suite_that_do_not_go_together_make_no_superblock() {
    assert_eq!(refusal(Superblock::new(VOLUME, CIPHER, &VolumeKey::none())), Kind::Invalid);
    assert_eq!(refusal(Superblock::new(VOLUME, Suite::Checksum, &VolumeKey::generate())), Kind::Invalid);
}

#[test]
fn a_crash_between_the_two_copies_leaves_the_new_passphrase_in_force() {
    let (mut superblock, key) = two_slots();
    let old = superblock.encode();
    superblock.replace_slot_at_cost(&key, 0, &passphrase("sesame"), "operator", CHEAP).unwrap();
    let new = superblock.encode();
    let (picked, notes) = pick([Some(&old), Some(&new)]).unwrap();
    assert_eq!(notes.len(), 1);
    assert!(picked.unlock(&[passphrase("sesame")]).is_ok());
}

/// The fenced block of this name in the format document, as `name value` lines.
fn example(name: &str) -> Vec<(String, String)> {
    let fence = format!("```{name}\n");
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");
    let pages = std::fs::read_dir(directory).unwrap().map(|page| page.unwrap().path());
    let mut texts = pages.filter(|page| page.is_file()).map(|page| std::fs::read_to_string(page).unwrap());
    let text = texts.find(|text| text.contains(&fence)).expect("docs/ has the worked example");
    let block = text.split(&fence).nth(1).unwrap().split("```").next().unwrap();
    let words = |line: &str| line.split_once(' ').map(|(name, value)| (name.to_owned(), value.trim().replace(' ', "")));
    block.lines().filter_map(words).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn counting<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|i| from + i as u8)
}

/// The volume of the worked examples.
fn example_key() -> (VolumeId, VolumeKey) {
    let key = VolumeKey::unwrapped(&counting(0x20), |_| Ok::<(), ()>(())).ok().unwrap();
    (VolumeId(counting(0x00)), key)
}

#[test]
fn the_worked_superblock_of_the_format_document_is_what_this_build_writes() {
    let (volume, key) = example_key();
    let mut superblock = Superblock::new(volume, CIPHER, &key).unwrap();
    let draw = Draw { salt: counting(0x60), nonce: counting(0x80) };
    let cost = KdfCost { m_kib: 64, t: 1, p: 1 };
    let first = superblock.wrap(&key, &passphrase("correct horse"), "operator", cost, 0, draw).unwrap();
    let draw = Draw { salt: counting(0xa0), nonce: counting(0xc0) };
    let file = KeySource::KeyFile { path: "k".into(), secret: Secret::new(counting::<32>(0x40).to_vec()) };
    let second = superblock.wrap(&key, &file, "", cost, 1, draw).unwrap();
    superblock.change(&key, |slots| slots.extend([first, second])).unwrap();

    let mut expected = [0; SUPERBLOCK_BYTES];
    for (offset, row) in example("superblock-example") {
        let at = usize::from_str_radix(&offset, 16).unwrap();
        for (i, pair) in row.as_bytes().chunks(2).enumerate() {
            expected[at + i] = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        }
    }
    assert!(superblock.encode() == expected, "written:\n{}", dump(&superblock.encode()));
    assert!(Superblock::decode(&expected).unwrap().unlock(&[passphrase("correct horse")]).is_ok());
}

fn dump(bytes: &[u8]) -> String {
    let rows = bytes.chunks(16).enumerate().filter(|(_, row)| row.iter().any(|byte| *byte != 0));
    rows.map(|(i, row)| format!("{:04x} {}\n", i * 16, hex(row))).collect()
}

#[test]
fn the_worked_keys_of_the_format_document_are_what_this_build_derives() {
    let (volume, secret) = example_key();
    let (none, nonce) = (VolumeKey::none(), counting(0x80));
    let seal = |key: BlobKey| {
        let mut buf = *b"wamedia";
        let tag = key.seal(&nonce, b"place", &mut buf);
        hex(&[&buf[..], &tag].concat())
    };
    let salt = counting(0xe0);
    let index = secret.index_key(CIPHER, volume);
    let made = [
        ("blob-1", seal(secret.blob_key(CIPHER, volume, BlobId(1), &salt))),
        ("policy", seal(secret.sub_key(CIPHER, volume, "policy"))),
        ("plain-blob-1", seal(none.blob_key(Suite::Checksum, volume, BlobId(1), &salt))),
        ("prf", hex(&index.prf(1, &[b"ab", b"c"]))),
        ("mac", hex(&index.mac(&[b"ab", b"c"]))),
    ];
    let made: Vec<(String, String)> = made.map(|(name, value)| (name.to_owned(), value)).into();
    assert_eq!(example("key-example"), made);
}
