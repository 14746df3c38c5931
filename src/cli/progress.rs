//! Progress on stderr, and only when that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often a bar shows that the command is alive.
const TICK: Duration = Duration::from_millis(200);

/// A bar that counts things; its total comes with the first news ([`set`]).
#[must_use]
pub fn counter(what: &str) -> ProgressBar {
    bar(what, "{msg} {wide_bar} {human_pos}/{human_len} {eta}")
}

/// A bar that counts bytes of `total`.
#[must_use]
pub fn bytes(what: &str, total: u64) -> ProgressBar {
    let bar = bar(what, "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}");
    bar.set_length(total);
    bar
}

/// Sets how far a counter is.
pub fn set(bar: &ProgressBar, done: u64, total: u64) {
    bar.set_length(total);
    bar.set_position(done);
}

fn bar(what: &str, template: &str) -> ProgressBar {
    // Hidden by indicatif itself when stderr is no terminal.
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar.enable_steady_tick(TICK);
    bar
}
