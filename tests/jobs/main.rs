//! What a node does behind its API, over real sockets: webhooks, downloads, messages, with a stand-in for the upstream,
//! a receiver for the business, and crashes in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../standin/mod.rs"]
mod standin;

mod downloads;
mod notifications;
mod receiver;
mod sending;
mod settling;
mod telling;
mod upkeep;
mod world;
