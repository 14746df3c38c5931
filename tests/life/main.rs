//! The end of media and what is told of it: erasure with its signed report, the audit log, and what a hook and a URL are told. Real mounts, real processes, and
//! openssl and jq for what others must be able to check.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../node/served.rs"]
#[allow(dead_code)]
mod served;
#[path = "../support/mod.rs"]
mod support;

mod audit;
mod erasing;
mod hooks;

use std::thread;
use std::time::{Duration, Instant};

/// Waits for what comes by itself, for a minute at most.
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        thread::sleep(Duration::from_millis(50));
    }
}
