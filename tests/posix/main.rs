//! The POSIX tree of a mounted volume, call by call.
//!
//! Run over another file system as a control: `WAMEDIA_TEST_PLAIN=/var/tmp cargo test --test posix`; on volumes without a cipher,
//! read by the kernel alone: `WAMEDIA_TEST_PASS_THROUGH=1 cargo test --test posix`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod attributes;
mod crowds;
mod directories;
mod ends;
mod links;
mod mapping;
mod names;
mod nodes;
mod opening;
mod passing;
mod renames;
mod space;
mod writing;

use rustix::io::Errno;

/// The errno of a failed call of the standard library.
fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Errno {
    let error = result.expect_err("the call must fail");
    Errno::from_raw_os_error(error.raw_os_error().unwrap_or_else(|| panic!("no errno: {error}")))
}
