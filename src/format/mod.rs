//! The bytes on disk: pure functions between structures and byte strings. No I/O, no clock, no locks.
pub mod attributes;
pub mod audit;
pub mod codec;
pub mod content;
pub mod frame;
pub mod geometry;
pub mod journal;
pub mod state;
pub mod superblock;
