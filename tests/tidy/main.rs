//! Reads the sources and fails on what the architecture or the house rules forbid. Each message says the mend.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod document;
mod layers;
mod rust;
mod sources;
mod texts;

/// Fails with all findings at once.
fn assert_tidy(findings: &[String]) {
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}
