//! The `wamedia` binary; see [`wamedia::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    wamedia::cli::run()
}
