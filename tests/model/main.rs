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

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap_or_else(|e| panic!("{name}={value}: {e}")))
}

/// Tries random sequences; one that fails is made small, and shown as it can be written into a test.
fn try_all<S: Strategy<Value = Vec<ops::Op>>>(sequences: impl Fn(usize) -> S, cases: u64, run: impl Fn(&[ops::Op])) {
    let seed = setting("WAMEDIA_MODEL_SEED", 1);
    let cases = u32::try_from(setting("WAMEDIA_MODEL_CASES", cases)).expect("a number of cases");
    let config = Config {
        cases,
        max_shrink_iters: 2000,
        failure_persistence: None,
        rng_seed: if seed == 0 { RngSeed::Random } else { RngSeed::Fixed(seed) },
        ..Config::default()
    };
    let most = usize::try_from(setting("WAMEDIA_MODEL_OPS", 120)).expect("a length");
    let outcome = TestRunner::new(config).run(&sequences(most), |ops| {
        run(&ops);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn a_volume_does_what_the_model_does() {
    try_all(ops::for_a_volume, 32, run::run);
}
