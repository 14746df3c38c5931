//! What the node is trusted with: tokens, keys, passwords.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// A text that must not leak: its `Debug` shows nothing, it has no `Display`, and it is wiped with its last copy.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes over `text`. Copies the caller made stay the caller's.
    #[must_use]
    pub fn new(text: String) -> Secret {
        Secret(Arc::new(Zeroizing::new(text)))
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
