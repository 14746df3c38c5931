//! What the integration tests share: a place of their own, the built binary, a mount that cannot be left behind,
//! and snapshots of a tree. Each test crate uses a part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod disk;
pub mod ground;
pub mod machine;
pub mod mapping;
pub mod mounted;
pub mod patterns;
pub mod place;
pub mod samples;
pub mod sequences;
pub mod suites;
pub mod tree;
pub mod watchdog;
pub mod xattr;
