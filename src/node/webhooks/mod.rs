//! Webhooks: what the upstream tells us, and what we tell the business.

mod convert;
pub mod dead;
mod event;
pub mod incoming;
pub mod outgoing;
mod seen;

pub(super) use convert::Carried;
pub use event::Events;
pub use outgoing::Posts;
pub use seen::Seen;
