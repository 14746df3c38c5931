//! The small numbers of the format that say which cryptography is meant.

use std::fmt;

/// How the frames of a volume are protected. Its number is a byte on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Suite {
    /// XChaCha20-Poly1305: secret, and every change by another is found.
    XChaCha20Poly1305 = 1,
    /// No secrecy (`--cipher none`): frames lie in plain and carry an XXH3-128 checksum. It finds accidents, not forgers.
    Checksum = 2,
}

impl Suite {
    /// The suite with this number on disk, if this build knows it.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Suite> {
        match number {
            1 => Some(Suite::XChaCha20Poly1305),
            2 => Some(Suite::Checksum),
            _ => None,
        }
    }

    /// Its number on disk.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Suite::XChaCha20Poly1305 => "xchacha20-poly1305",
            Suite::Checksum => "none",
        })
    }
}

/// What opens a key slot. Its number is a byte on disk; 0 stands for a free slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SlotKind {
    /// A passphrase, stretched with Argon2id.
    Passphrase = 1,
    /// A file with 32 random bytes.
    KeyFile = 2,
    /// The same 32 bytes, handed over as a systemd credential.
    Credential = 3,
}

impl SlotKind {
    /// The kind with this number on disk, if this build knows it.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<SlotKind> {
        match number {
            1 => Some(SlotKind::Passphrase),
            2 => Some(SlotKind::KeyFile),
            3 => Some(SlotKind::Credential),
            _ => None,
        }
    }

    /// Its number on disk.
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether a key given as `self` may open a slot of kind `slot`.
    ///
    /// A key file and a credential hold the same 32 bytes, so that the offline copy of a credential in a file opens
    /// the volume when the host that could decrypt the credential is gone.
    #[must_use]
    pub fn opens(self, slot: SlotKind) -> bool {
        (self == SlotKind::Passphrase) == (slot == SlotKind::Passphrase)
    }
}

impl fmt::Display for SlotKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SlotKind::Passphrase => "passphrase",
            SlotKind::KeyFile => "key file",
            SlotKind::Credential => "credential",
        })
    }
}
