//! How an operator watches a volume: figures for Prometheus, with its own tools; the page, in a browser; the terminal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../node/served.rs"]
#[allow(dead_code, reason = "other tests use the rest of it")]
mod served;

mod browser;
mod figures;
mod monitoring;
mod page;
mod tools;
mod top;
