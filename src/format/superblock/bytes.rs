//! The byte layout of a superblock: "Superblock" in `docs/FORMAT.md`.

use sha2::{Digest, Sha256};

use super::{CHUNK_LOG2, FORMAT_VERSION, MAX_LABEL_BYTES, MAX_SLOTS, Malformed, Slot, Superblock, is_label};
use crate::crypto::{KdfCost, SlotKind, Suite};
use crate::ids::VolumeId;

/// Length of an encoded superblock in bytes.
pub const SUPERBLOCK_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"wamedia\n";

// Offsets in the superblock, each after the field before it.
const VERSION: usize = MAGIC.len();
const SUITE: usize = VERSION + 2;
const CHUNK: usize = SUITE + 1;
const HEAD_RESERVED: usize = CHUNK + 1;
const VOLUME: usize = HEAD_RESERVED + 4;
const GENERATION: usize = VOLUME + 16;
const HEAD_END: usize = GENERATION + 8;
const SLOTS: usize = 256;
const SLOTS_END: usize = SLOTS + MAX_SLOTS as usize * SLOT_BYTES;
const MAC: usize = CHECKSUM - 32;
const CHECKSUM: usize = SUPERBLOCK_BYTES - 32;

// Offsets in a slot.
const STATE: usize = 0;
const KIND: usize = STATE + 1;
const ID: usize = KIND + 1;
const LABEL_LEN: usize = ID + 1;
const COST_M: usize = LABEL_LEN + 1;
const COST_T: usize = COST_M + 4;
const COST_P: usize = COST_T + 4;
const SALT: usize = COST_P + 4;
const NONCE: usize = SALT + 32;
const WRAPPED: usize = NONCE + 24;
const TAG: usize = WRAPPED + 32;
const LABEL: usize = TAG + 16;
const SLOT_END: usize = LABEL + MAX_LABEL_BYTES;
const SLOT_BYTES: usize = 256;

const STATE_FREE: u8 = 0;
const STATE_USED: u8 = 1;

const _: () = {
    assert!(HEAD_RESERVED == 12 && VOLUME == 16 && GENERATION == 32 && HEAD_END == 40);
    assert!(HEAD_END <= SLOTS && SLOTS_END == 2304 && SLOTS_END <= MAC);
    assert!(MAC == 4032 && CHECKSUM == 4064 && CHECKSUM + 32 == SUPERBLOCK_BYTES);
    assert!(SALT == 16 && NONCE == 48 && WRAPPED == 72 && TAG == 104 && LABEL == 120);
    assert!(SLOT_END == 184 && SLOT_END <= SLOT_BYTES && MAX_LABEL_BYTES <= u8::MAX as usize);
};

impl Superblock {
    /// The bytes on disk.
    #[must_use]
    pub fn encode(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = self.encode_open();
        put(&mut bytes, MAC, &self.mac);
        let sum = Sha256::digest(bytes.split_at(CHECKSUM).0);
        put(&mut bytes, CHECKSUM, &sum);
        bytes
    }

    /// What the authentication code covers: all that stands before it.
    pub(crate) fn mac_input(&self) -> Vec<u8> {
        self.encode_open().split_at(MAC).0.to_vec()
    }

    fn encode_open(&self) -> [u8; SUPERBLOCK_BYTES] {
        let mut bytes = [0; SUPERBLOCK_BYTES];
        put(&mut bytes, 0, &MAGIC);
        put(&mut bytes, VERSION, &FORMAT_VERSION.to_le_bytes());
        put(&mut bytes, SUITE, &[self.suite.as_u8()]);
        put(&mut bytes, CHUNK, &[CHUNK_LOG2]);
        put(&mut bytes, VOLUME, &self.volume.0);
        put(&mut bytes, GENERATION, &self.generation.to_le_bytes());
        for slot in &self.slots {
            put(&mut bytes, SLOTS + usize::from(slot.id) * SLOT_BYTES, &slot.encode());
        }
        bytes
    }

    /// Reads the bytes on disk. What this gives is intact and keeps the rules of the format; that it is authentic is known
    /// only once a key slot was opened.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong. The checksum is looked at before all else but the magic, so that damage is never
    /// taken for another version.
    pub fn decode(bytes: &[u8]) -> Result<Superblock, Malformed> {
        let bytes: &[u8; SUPERBLOCK_BYTES] = bytes.try_into().map_err(|_| Malformed::Length(bytes.len()))?;
        if get(bytes, 0)? != MAGIC {
            return Err(Malformed::Magic);
        }
        if Sha256::digest(bytes.split_at(CHECKSUM).0)[..] != get::<32>(bytes, CHECKSUM)? {
            return Err(Malformed::Checksum);
        }
        let version = u16::from_le_bytes(get(bytes, VERSION)?);
        if version != FORMAT_VERSION {
            return Err(Malformed::Version(version));
        }
        let [suite, chunk_log2] = get(bytes, SUITE)?;
        let suite = Suite::from_u8(suite).ok_or(Malformed::Suite(suite))?;
        if chunk_log2 != CHUNK_LOG2 {
            return Err(Malformed::ChunkSize(chunk_log2));
        }
        for (from, to) in [(HEAD_RESERVED, VOLUME), (HEAD_END, SLOTS), (SLOTS_END, MAC)] {
            if !is_zero(bytes, from, to) {
                return Err(Malformed::Reserved(from));
            }
        }
        let generation = u64::from_le_bytes(get(bytes, GENERATION)?);
        if generation == 0 {
            return Err(Malformed::Generation);
        }
        let slots = decode_slots(bytes)?;
        if slots.is_empty() == (suite == Suite::XChaCha20Poly1305) {
            return Err(Malformed::SlotCount(slots.len()));
        }
        Ok(Superblock { suite, volume: VolumeId(get(bytes, VOLUME)?), generation, slots, mac: get(bytes, MAC)? })
    }
}

fn decode_slots(bytes: &[u8; SUPERBLOCK_BYTES]) -> Result<Vec<Slot>, Malformed> {
    let mut slots = Vec::new();
    for id in 0..MAX_SLOTS {
        let slot = get::<SLOT_BYTES>(bytes, SLOTS + usize::from(id) * SLOT_BYTES)?;
        slots.extend(Slot::decode(id, &slot)?);
    }
    Ok(slots)
}

impl Slot {
    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        // A label that does not fit was refused when it was set; here it would give bytes that `decode` refuses.
        let label_len = u8::try_from(self.label.len()).unwrap_or(u8::MAX);
        put(&mut bytes, STATE, &[STATE_USED, self.kind.as_u8(), self.id, label_len]);
        put(&mut bytes, COST_M, &cost_bytes(self.cost));
        put(&mut bytes, SALT, &self.salt);
        put(&mut bytes, NONCE, &self.nonce);
        put(&mut bytes, WRAPPED, &self.wrapped);
        put(&mut bytes, TAG, &self.tag);
        put(&mut bytes, LABEL, self.label.as_bytes());
        bytes
    }

    /// The slot at place `id`, or `None` when it is free.
    fn decode(id: u8, bytes: &[u8; SLOT_BYTES]) -> Result<Option<Slot>, Malformed> {
        let broken = |fault| Malformed::Slot { id, fault };
        let [state, kind, stored_id, label_len] = get(bytes, STATE)?;
        match state {
            STATE_FREE if is_zero(bytes, 0, SLOT_BYTES) => return Ok(None),
            STATE_FREE => return Err(broken("it is free but not zero")),
            STATE_USED => {}
            _ => return Err(broken("its state is unknown")),
        }
        if stored_id != id {
            return Err(broken("it belongs to another place"));
        }
        let kind = SlotKind::from_u8(kind).ok_or(broken("its kind is unknown"))?;
        let number = |at| get(bytes, at).map(u32::from_le_bytes);
        let cost = KdfCost { m_kib: number(COST_M)?, t: number(COST_T)?, p: number(COST_P)? };
        if !(if kind == SlotKind::Passphrase { cost.is_bounded() } else { cost == KdfCost::NONE }) {
            return Err(broken("its Argon2id parameters are out of bounds"));
        }
        let label = decode_label(bytes, usize::from(label_len)).ok_or(broken("its label breaks the rules"))?;
        if !is_zero(bytes, SLOT_END, SLOT_BYTES) {
            return Err(broken("a reserved byte is not zero"));
        }
        let (salt, nonce) = (get(bytes, SALT)?, get(bytes, NONCE)?);
        let (wrapped, tag) = (get(bytes, WRAPPED)?, get(bytes, TAG)?);
        Ok(Some(Slot { id, kind, cost, salt, nonce, wrapped, tag, label }))
    }
}

fn decode_label(bytes: &[u8; SLOT_BYTES], len: usize) -> Option<String> {
    if len > MAX_LABEL_BYTES || !is_zero(bytes, LABEL + len, SLOT_END) {
        return None;
    }
    let text = std::str::from_utf8(bytes.get(LABEL..LABEL + len)?).ok()?;
    is_label(text).then(|| text.to_owned())
}

/// The associated data of a slot's wrapped key: the slot opens in this volume, at this place, in this form, or not at all.
pub(crate) fn slot_aad(suite: Suite, volume: VolumeId, id: u8, kind: SlotKind, cost: KdfCost) -> Vec<u8> {
    let mut aad = b"wamedia v1 slot".to_vec();
    aad.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    aad.push(suite.as_u8());
    aad.extend_from_slice(&volume.0);
    aad.extend_from_slice(&[id, kind.as_u8()]);
    aad.extend_from_slice(&cost_bytes(cost));
    aad
}

fn cost_bytes(cost: KdfCost) -> [u8; 12] {
    let mut bytes = [0; 12];
    put(&mut bytes, 0, &cost.m_kib.to_le_bytes());
    put(&mut bytes, 4, &cost.t.to_le_bytes());
    put(&mut bytes, 8, &cost.p.to_le_bytes());
    bytes
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    bytes.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(Malformed::Length(bytes.len()))
}

/// Writes a field. The layout, asserted above, has room for each.
fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    let place = bytes.get_mut(at..).and_then(|rest| rest.get_mut(..field.len()));
    debug_assert!(place.is_some(), "a field of {} bytes at {at} is outside of the layout", field.len());
    if let Some(place) = place {
        place.copy_from_slice(field);
    }
}

fn is_zero(bytes: &[u8], from: usize, to: usize) -> bool {
    bytes.get(from..to).is_some_and(|range| range.iter().all(|byte| *byte == 0))
}
