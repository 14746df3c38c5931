//! wamedia: an encrypted, quota-keeping volume for WhatsApp Business media, mounted with FUSE.
//!
//! The layers, from the bottom: [`ids`], [`error`], [`clock`], [`own_file`], [`sync`]; [`crypto`] and [`mod@format`]; [`store`] and [`index`];
//! [`volume`], which alone joins them; above it [`fs`], [`node`], [`control`] and [`cli`]. [`media`] and [`docker`] stand beside.
pub mod cli;
pub mod clock;
pub mod control;
pub mod crypto;
pub mod docker;
pub mod error;
pub mod format;
pub mod fs;
pub mod ids;
pub mod index;
pub mod media;
pub mod node;
pub mod own_file;
pub mod store;
pub mod sync;
pub mod volume;
mod words;
