//! The media node as programs use it: a real mount, real sockets, real kills.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../jobs/receiver.rs"]
mod receiver;
#[path = "../standin/mod.rs"]
mod standin;

mod access;
mod chain;
mod ending;
mod figures;
mod limits;
mod media;
mod served;
