//! Progress on stderr, and only when that is a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often a bar shows that the command is alive.
const TICK: Duration = Duration::from_millis(200);

/// How far a counter is that does not know its total: a bar of nothing in nothing would look full.
const UNKNOWN: &str = "{msg} {spinner} {human_pos}";
const COUNTED: &str = "{msg} {wide_bar} {human_pos}/{human_len} {eta}";
const MEASURED: &str = "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";

/// Counts things; it becomes a bar when the total comes ([`set`]), if one comes.
#[must_use]
pub fn counter(what: &str) -> ProgressBar {
    let bar = ProgressBar::no_length();
    dress(&bar, UNKNOWN);
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}

/// A bar that counts bytes of `total`.
#[must_use]
pub fn bytes(what: &str, total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    dress(&bar, MEASURED);
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}

/// Whether somebody sees progress.
#[must_use]
pub fn is_shown() -> bool {
    std::io::stderr().is_terminal()
}

/// Sets how far a counter is.
pub fn set(bar: &ProgressBar, done: u64, total: u64) {
    if total > 0 && bar.length().is_none() {
        dress(bar, COUNTED);
    }
    if total > 0 {
        bar.set_length(total);
    }
    bar.set_position(done);
}

/// Gives a bar its looks. It is hidden by indicatif itself when stderr is no terminal.
fn dress(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_shows_no_bar_before_it_knows_its_total() {
        let bar = counter("removing");
        assert_eq!(bar.length(), None);
        bar.set_position(5);
        set(&bar, 0, 0);
        assert_eq!(bar.length(), None, "a total of nothing is none yet");
        set(&bar, 3, 9);
        assert_eq!((bar.position(), bar.length()), (3, Some(9)));
    }
}
