//! Damage to the store: found, named, and the cost of one medium alone. Each case of the promise is a test of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation
)]

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod blobs;
mod flips;
mod mounted;
mod repair;
mod scrub;
mod store;
