//! Copies a tree of media into a volume or out of it, so that it can be cut short and go on.

mod copy;
mod digest;
mod plain;
mod report;
mod sparse;
#[cfg(test)]
mod tests;
mod tree;
mod volume;

pub use copy::{Copied, copy, total_bytes};
pub use plain::PlainTree;
pub use report::Report;
pub use tree::Tree;
pub use volume::VolumeTree;
