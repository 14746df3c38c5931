//! What the volumes of the plugin are: stores below one directory, each mounted by a daemon of its own.

mod keeper;
mod options;

pub use keeper::{Places, Stores};
pub use options::{Settled, known, settle};
