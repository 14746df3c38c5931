//! Random sequences of operations on a volume and on a simple model of it, compared after each.
//!
//! `WAMEDIA_MODEL_CASES` sets how many sequences are tried (32), `WAMEDIA_MODEL_OPS` how long they are at most (120),
//! `WAMEDIA_MODEL_SEED` the seed they come from (1; 0: another one in each run).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::cast_possible_truncation)]

#[path = "../support/mod.rs"]
mod support;

mod aging;
mod bench;
mod choices;
mod compare;
mod content;
mod durable;
mod ops;
mod run;
mod tree;
mod xattrs;

use support::sequences::try_all;

#[test]
fn a_volume_does_what_the_model_does() {
    try_all("MODEL", ops::sequences, (32, 120), run::run);
}
