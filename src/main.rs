//! The `wamedia` binary; see [`wamedia::cli`].

use std::process::ExitCode;

/// sled makes and frees many small pieces, on many threads at once.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    wamedia::cli::run()
}
