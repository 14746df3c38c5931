//! The media node: the HTTP media API of the WhatsApp Business client, beside the mount or without one.
//!
//! | part | is for |
//! | --- | --- |
//! | [`server`] | sockets, TLS, limits, the drain at the end |
//! | [`router`] | which path leads where |
//! | [`auth`], [`tokens`] | who asks, and what they may |
//! | `media` | `/v1/media` |
//! | `settings` | what is set through the API, kept in the volume |
//! | [`queue`] | durable jobs: what was taken on is done, also after a crash |
//! | [`upstream`], [`fetch`] | where media come from and go to |
//! | `downloads`, `messages`, [`webhooks`] | what the jobs do |
//! | [`page`] | the operator's page |
//! | [`metrics`], [`figures`] | what is told of how it does |
//! | [`envelope`] | the form of every answer |
//!
//! The volume is synchronous: every call into it goes through [`core::blocking`].

pub mod admin;
pub mod auth;
pub mod config;
pub mod core;
pub mod envelope;
pub mod router;
pub mod server;
pub mod settings;
mod tables;
pub mod tokens;

mod arriving;
mod client;
mod downloads;
pub mod fetch;
pub mod figures;
mod happenings;
mod health;
mod intake;
mod limits;
mod linger;
mod media;
mod messages;
pub mod metrics;
mod openapi;
pub mod page;
mod providers;
pub mod queue;
mod secret;
mod services;
mod settings_api;
pub mod upstream;
mod users;
pub mod webhooks;
mod work;

pub use config::{NodeConfig, NotificationConfig, TlsFiles};
pub use core::Core;
pub use happenings::{tell_happening, work_for_events};
pub use secret::Secret;
pub use server::serve;
pub use work::work;
