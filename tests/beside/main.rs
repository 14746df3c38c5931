//! Random sequences of system calls on a mount and on a plain directory of ext4, compared after each.
//!
//! The sequences are those of `tests/model`; what only a volume has (its policy, its clock) is left out. The plain directory
//! is one of ext4: where temporary files are, below `WAMEDIA_BESIDE_PLAIN`, or in an image.
//! `WAMEDIA_BESIDE_CASES` sets how many sequences are tried (24), `WAMEDIA_BESIDE_OPS` how long they are at most (120),
//! `WAMEDIA_BESIDE_SEED` the seed they come from (1; 0: another one in each run).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod look;
#[path = "../model/ops.rs"]
mod ops;
mod run;
mod side;

use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::umask;
use support::disk::Disk;
use support::machine;
use support::place::Place;
use support::sequences::try_all;

/// What `statfs(2)` says of ext4.
const EXT4: i64 = 0xEF53;

#[test]
fn a_mount_does_what_a_local_file_system_does() {
    let test = "a_mount_does_what_a_local_file_system_does";
    if !machine::can_mount(test) || !machine::is_root(test) {
        return;
    }
    let mut plain = std::env::var_os("WAMEDIA_BESIDE_PLAIN").map_or_else(std::env::temp_dir, PathBuf::from);
    let (image, mut disk) = (Place::new(), None);
    if rustix::fs::statfs(&plain).unwrap().f_type != EXT4 {
        disk = Disk::new(test, &image, "ext4");
        if disk.is_none() {
            return;
        }
        plain = image.store();
    }
    umask(Mode::empty());
    let steps = run::Steps::default();
    try_all("BESIDE", ops::sequences, (24, 120), |ops| run::run(&plain, ops, &steps));
    drop(disk);
    machine::say(&format!("beside: {steps}"));
}

#[test]
fn a_file_without_a_name_is_refused_as_the_documentation_says() {
    let Some(ground) = support::ground::Ground::new("a_file_without_a_name_is_refused_as_the_documentation_says")
    else {
        return;
    };
    let made = rustix::fs::open(ground.root(), OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR);
    if !ground.is_plain() {
        assert_eq!(made.map(drop), Err(Errno::OPNOTSUPP));
    }
    ground.finish();
}
