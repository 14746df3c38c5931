//! Inbound media: known by a media id of our own before they are fetched, fetched from the upstream by durable jobs,
//! published only when their digest is the one that was told.

mod api;
mod fetching;
mod pace;
mod table;

pub use api::router;
pub use fetching::Downloads;
pub use table::{Look, MAX_ID, look, media_id, note_inbound, sweep};
