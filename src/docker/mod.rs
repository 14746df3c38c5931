//! Volumes for container engines: the volume plugin protocol of Docker, which podman speaks too.
//!
//! The plugin keeps a list of volumes ([`State`]) and counts who uses them ([`Plugin`]); what a volume is, is the business
//! of a [`Keeper`]. A volume is served by a process of its own, so neither the plugin's end nor an engine's touches a
//! container that runs.

mod plugin;
mod protocol;
mod server;
mod state;

pub use plugin::{Asked, Figures, Found, Keeper, Left, Options, Plugin, Wishes};
pub use protocol::answer;
pub use server::{Listening, listen, serve};
pub use state::{Entry, State, StateFile};
