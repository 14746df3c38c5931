//! Wrapping the volume key in key slots and unwrapping it: "Key slots" in `docs/FORMAT.md`.

use super::{BlobKey, KdfCost, KeySource, SlotKind, Suite, VolumeKey, kek, nonce};
use crate::clock;
use crate::error::{Error, Kind, Result};
use crate::format::superblock::{MAX_LABEL_BYTES, MAX_SLOTS, Slot, Superblock, is_label, slot_aad};
use crate::ids::VolumeId;

/// The label of the key that authenticates a superblock.
const MAC_LABEL: &str = "superblock";

/// What is drawn at random for each wrapping.
struct Draw {
    salt: [u8; 32],
    nonce: [u8; 24],
}

impl Draw {
    fn fresh() -> Draw {
        let mut salt = [0; 32];
        clock::random_bytes(&mut salt);
        Draw { salt, nonce: nonce() }
    }
}

impl Superblock {
    /// The superblock of a new volume, in generation 1. With a cipher it needs a slot before it can be written.
    ///
    /// # Errors
    /// `Invalid` when there is a cipher and `key` is the public one, or the other way round.
    pub fn new(volume: VolumeId, suite: Suite, key: &VolumeKey) -> Result<Superblock> {
        if key.is_public() != (suite == Suite::Checksum) {
            return Err(Error::new(Kind::Invalid, "the volume key does not go with the cipher suite"));
        }
        let mut superblock = Superblock { suite, volume, generation: 1, slots: Vec::new(), mac: [0; 32] };
        superblock.seal_mac(key);
        Ok(superblock)
    }

    /// Finds the volume key: tries each source on each slot it may open, quick ones first, and verifies the superblock with it.
    /// Gives the key and the slot that opened, which a volume without a cipher does not have.
    ///
    /// Each passphrase costs a run of Argon2id per passphrase slot, about 0.2 s at [`KdfCost::DEFAULT`].
    ///
    /// # Errors
    /// `WrongKey` when no source opens a slot, or when a key was given and the volume has no cipher: who expects secrecy
    /// must not write into a volume that someone exchanged for a plain one. `Damaged` when a slot opens but the superblock
    /// is not as it was sealed. `Io` when there is no memory to try a slot, `Invalid` for an empty secret.
    pub fn unlock(&self, sources: &[KeySource]) -> Result<(VolumeKey, Option<u8>)> {
        let (key, slot) = if self.suite == Suite::Checksum {
            if !sources.is_empty() {
                return Err(Error::new(
                    Kind::WrongKey,
                    format!("a key was given, but volume {} has no cipher", self.volume),
                ));
            }
            (VolumeKey::none(), None)
        } else {
            let (key, id) = self.open_a_slot(sources)?;
            (key, Some(id))
        };
        self.verify(&key)?;
        Ok((key, slot))
    }

    fn open_a_slot(&self, sources: &[KeySource]) -> Result<(VolumeKey, u8)> {
        let mut failure = None;
        for needs_stretching in [false, true] {
            for source in sources.iter().filter(|s| (s.kind() == SlotKind::Passphrase) == needs_stretching) {
                for slot in self.slots.iter().filter(|slot| source.kind().opens(slot.kind)) {
                    match self.unwrap_slot(slot, source) {
                        Ok(Some(key)) => return Ok((key, slot.id)),
                        Ok(None) => {}
                        Err(e) => failure = Some(e),
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| self.no_key(sources)))
    }

    /// The volume key, or `None` when the source is not the one the slot was made with.
    fn unwrap_slot(&self, slot: &Slot, source: &KeySource) -> Result<Option<VolumeKey>> {
        let kek = kek::derive(source, self.volume, &slot.salt, slot.cost)?;
        let aad = slot_aad(self.suite, self.volume, slot.id, slot.kind, slot.cost);
        let key = VolumeKey::unwrapped(&slot.wrapped, |buf| kek.open(&slot.nonce, &aad, buf, &slot.tag));
        match key {
            Ok(key) if key.is_public() => Err(Error::new(Kind::Damaged, "a key slot holds the public key")),
            Ok(key) => Ok(Some(key)),
            Err(_) => Ok(None),
        }
    }

    fn no_key(&self, sources: &[KeySource]) -> Error {
        let tried: Vec<String> = sources.iter().map(ToString::to_string).collect();
        let tried =
            if tried.is_empty() { "no key was given".to_owned() } else { format!("tried: {}", tried.join(", ")) };
        let slots: Vec<String> = self.slots.iter().map(describe).collect();
        let message = format!("no key opens volume {}; {tried}; its key slots: {}", self.volume, slots.join(", "));
        Error::new(Kind::WrongKey, message)
    }

    /// Adds a slot that `source` opens and gives its id, the lowest free one. Without a label a credential's slot is labelled
    /// with its name. Generation and authentication code are brought up to date; nothing is written.
    ///
    /// # Errors
    /// `NotPermitted` when all slots are taken, `Unsupported` when the volume has no cipher, `Damaged` when `key` is not this
    /// volume's key, `Invalid` for an empty secret or a label that is too long or has control characters. Nothing has
    /// changed then.
    pub fn add_slot(&mut self, key: &VolumeKey, source: &KeySource, label: &str) -> Result<u8> {
        self.add_slot_at_cost(key, source, label, KdfCost::DEFAULT)
    }

    /// [`Superblock::add_slot`] with a cost of the caller's choice for a passphrase: more for a big machine, less in tests.
    ///
    /// # Errors
    /// As [`Superblock::add_slot`]; `Invalid` also when the cost is out of bounds.
    pub fn add_slot_at_cost(&mut self, key: &VolumeKey, source: &KeySource, label: &str, cost: KdfCost) -> Result<u8> {
        self.verify(key)?;
        let Some(id) = (0..MAX_SLOTS).find(|id| self.place(*id).is_err()) else {
            return Err(Error::new(
                Kind::NotPermitted,
                format!("all {MAX_SLOTS} key slots are taken; remove one first"),
            ));
        };
        let slot = self.wrap(key, source, label, cost, id, Draw::fresh())?;
        let at = self.slots.partition_point(|other| other.id < id);
        self.change(key, |slots| slots.insert(at, slot))?;
        Ok(id)
    }

    /// Puts a slot that `source` opens in the place of slot `id`: how a passphrase is changed. The volume key stays, so
    /// nothing is encrypted anew. Generation and authentication code are brought up to date; nothing is written.
    ///
    /// # Errors
    /// `NotFound` when there is no such slot, else as [`Superblock::add_slot`]. Nothing has changed then.
    pub fn replace_slot(&mut self, key: &VolumeKey, id: u8, source: &KeySource, label: &str) -> Result<()> {
        self.replace_slot_at_cost(key, id, source, label, KdfCost::DEFAULT)
    }

    /// [`Superblock::replace_slot`] with a cost of the caller's choice for a passphrase.
    ///
    /// # Errors
    /// As [`Superblock::replace_slot`]; `Invalid` also when the cost is out of bounds.
    pub fn replace_slot_at_cost(
        &mut self,
        key: &VolumeKey,
        id: u8,
        source: &KeySource,
        label: &str,
        cost: KdfCost,
    ) -> Result<()> {
        self.verify(key)?;
        let at = self.place(id)?;
        let slot = self.wrap(key, source, label, cost, id, Draw::fresh())?;
        self.change(key, |slots| {
            slots.remove(at);
            slots.insert(at, slot);
        })
    }

    /// Removes slot `id`. Generation and authentication code are brought up to date; nothing is written.
    ///
    /// Who has both an older copy of the superblock and what opened the slot still has the volume key.
    ///
    /// # Errors
    /// `NotFound` when there is no such slot, `NotPermitted` when it is the last one, `Damaged` when `key` is not this
    /// volume's key. Nothing has changed then.
    pub fn remove_slot(&mut self, key: &VolumeKey, id: u8) -> Result<()> {
        self.verify(key)?;
        let at = self.place(id)?;
        if self.slots.len() == 1 {
            let message = format!("key slot {id} is the last one: without it nothing could open the volume");
            return Err(Error::new(Kind::NotPermitted, message));
        }
        self.change(key, |slots| drop(slots.remove(at)))
    }

    /// Verifies the authentication code. [`Superblock::unlock`] and every change do it themselves.
    ///
    /// # Errors
    /// `Damaged` when the superblock is not as it was sealed with this key.
    pub fn verify(&self, key: &VolumeKey) -> Result<()> {
        let is_own = key.is_public() == (self.suite == Suite::Checksum);
        if is_own && key.mac_key(self.suite, self.volume, MAC_LABEL).fits(&self.mac_input(), &self.mac) {
            return Ok(());
        }
        let message = format!("the superblock of volume {} was changed without its key", self.volume);
        Err(Error::new(Kind::Damaged, message))
    }

    fn change(&mut self, key: &VolumeKey, change: impl FnOnce(&mut Vec<Slot>)) -> Result<()> {
        let Some(generation) = self.generation.checked_add(1) else {
            return Err(Error::new(Kind::TooLarge, "the superblock's generation cannot be counted on"));
        };
        change(&mut self.slots);
        self.generation = generation;
        self.seal_mac(key);
        Ok(())
    }

    fn seal_mac(&mut self, key: &VolumeKey) {
        self.mac = key.mac_key(self.suite, self.volume, MAC_LABEL).code(&self.mac_input());
    }

    /// Where slot `id` stands in the list.
    fn place(&self, id: u8) -> Result<usize> {
        let found = self.slots.iter().position(|slot| slot.id == id);
        found.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no key slot {id}")))
    }

    fn wrap(
        &self,
        key: &VolumeKey,
        source: &KeySource,
        label: &str,
        cost: KdfCost,
        id: u8,
        Draw { salt, nonce }: Draw,
    ) -> Result<Slot> {
        if self.suite == Suite::Checksum {
            return Err(Error::new(Kind::Unsupported, "a volume without a cipher has no key slots"));
        }
        let kind = source.kind();
        let label = match source {
            KeySource::Credential { name, .. } if label.is_empty() => name,
            _ => label,
        };
        if !is_label(label) {
            let message = format!("a label has at most {MAX_LABEL_BYTES} bytes and no control characters");
            return Err(Error::new(Kind::Invalid, message));
        }
        let cost = if kind == SlotKind::Passphrase { cost } else { KdfCost::NONE };
        let kek: BlobKey = kek::derive(source, self.volume, &salt, cost)?;
        let aad = slot_aad(self.suite, self.volume, id, kind, cost);
        let mut wrapped = *key.expose();
        let tag = kek.seal(&nonce, &aad, &mut wrapped);
        Ok(Slot { id, kind, cost, salt, nonce, wrapped, tag, label: label.to_owned() })
    }
}

/// A slot in an error message.
fn describe(slot: &Slot) -> String {
    match slot.label.as_str() {
        "" => format!("{} ({})", slot.id, slot.kind),
        label => format!("{} ({} \"{label}\")", slot.id, slot.kind),
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
