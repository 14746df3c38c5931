//! Random sequences: how many are tried, how long they are, where they come from, and what is made of one that fails.
//!
//! Of a set of tests called `NAME`, `WAMEDIA_NAME_CASES` sets how many sequences are tried, `WAMEDIA_NAME_OPS` how long they
//! are at most, `WAMEDIA_NAME_SEED` the seed they come from (1; 0: another one in each run).

use std::fmt::Debug;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// The number of a setting in the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap_or_else(|e| panic!("{name}={value}: {e}")))
}

/// Tries random sequences; one that fails is made small, and shown as it can be written into a test.
pub fn try_all<T: Debug, S: Strategy<Value = Vec<T>>>(
    name: &str,
    sequences: impl Fn(usize) -> S,
    (cases, ops): (u64, u64),
    run: impl Fn(&[T]),
) {
    let setting = |what: &str, default| setting(&format!("WAMEDIA_{name}_{what}"), default);
    let seed = setting("SEED", 1);
    let config = Config {
        cases: u32::try_from(setting("CASES", cases)).expect("a number of cases"),
        max_shrink_iters: 2000,
        failure_persistence: None,
        rng_seed: if seed == 0 { RngSeed::Random } else { RngSeed::Fixed(seed) },
        ..Config::default()
    };
    let most = usize::try_from(setting("OPS", ops)).expect("a length");
    let outcome = TestRunner::new(config).run(&sequences(most), |ops| {
        run(&ops);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}
