//! A secret of any length.

use zeroize::Zeroizing;

/// Bytes that must not leak: no `Debug`, no `Clone`, wiped on drop.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over `bytes`; they are wiped when the secret is dropped. Copies the caller made stay the caller's.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(Zeroizing::new(bytes))
    }

    /// The bytes themselves.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}
