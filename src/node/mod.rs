//! The media node: the WhatsApp Business HTTP media API beside the mount, or without one.

mod client;
pub mod fetch;
mod secret;
pub mod upstream;

pub use secret::Secret;
