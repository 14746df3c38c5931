//! A wall between hostile bytes and parsers written by others.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs a parser; `None` when it panicked. The panic is reported on stderr by the usual hook.
///
/// What the parser left half done must not be used afterwards, save a `Window`, which is whole at every step.
pub(super) fn shield<T>(parse: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(parse)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_behind_the_shield_is_only_a_missing_answer() {
        assert_eq!(shield(|| 7), Some(7));
        let none: [u8; 0] = [];
        assert_eq!(shield(|| none.iter().max().expect("a panic on purpose")), None);
    }
}
