//! The running daemon's own socket: what an operator may ask of a mounted volume.
//!
//! One connection carries JSON lines. The daemon speaks first ([`Hello`]); then each request line is answered by any
//! number of [`Event`] lines and exactly one last line, a [`Reply`] or an error. A command on a volume that is not
//! mounted gives the same [`Request`] to the same [`VolumeService`] in its own process, so both say the same.

pub mod change;
pub mod client;
pub mod erase;
pub mod kinds;
pub mod message;
pub mod server;
pub mod service;
pub mod socket;
#[cfg(test)]
mod tests;

pub use change::{Keep, Limit, Mark, PolicyChange};
pub use client::Client;
pub use erase::EraseRequest;
pub use message::{Event, Hello, PROTOCOL_VERSION, Reply, Request, ScrubWish};
pub use server::{Server, Stop};
pub use service::{NodeDoor, Service, VolumeService};
