//! The end of media and what is told of it: erasure with its signed report, the audit log. Real mounts, real processes, and
//! openssl and jq for what others must be able to check.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../node/served.rs"]
#[allow(dead_code)]
mod served;
#[path = "../support/mod.rs"]
mod support;

mod audit;
mod erasing;
