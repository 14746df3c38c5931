//! The tables of the volume's state log that are the node's. The numbers are on disk and never change.

/// Access tokens by the SHA-256 of the token.
pub const TOKENS: u8 = 1;
/// Settings by name.
pub const SETTINGS: u8 = 2;
/// Providers of linked media by name.
pub const PROVIDERS: u8 = 3;
