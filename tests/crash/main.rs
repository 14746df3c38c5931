//! Crashes at every point, and every call of the disk failing in turn: the volume on a disk that records.
//!
//! The program under test is this binary, started again: it opens a volume on a file system in memory that this process
//! serves with FUSE, and works. What it asked of that disk is then cut at every point, and everything that a disk may
//! hold there is opened as a volume and compared with a model of what was acknowledged.

#[path = "../support/mod.rs"]
mod support;

mod child;
mod disk;
mod enumerate;
mod failures;
mod faults;
mod found;
mod history;
mod images;
mod scrubbed;
mod steps;
mod tree;
mod verify;
mod world;

use support::machine;

#[test]
fn the_program_under_test() {
    child::play();
}

#[test]
fn what_was_acknowledged_survives_a_crash_at_every_point() {
    if machine::can_mount("what_was_acknowledged_survives_a_crash_at_every_point") {
        enumerate::all_workloads();
    }
}

#[test]
fn a_disk_that_fails_at_any_call_costs_nothing_acknowledged() {
    if machine::can_mount("a_disk_that_fails_at_any_call_costs_nothing_acknowledged") {
        failures::at_every_call();
    }
}

#[test]
fn a_part_of_the_disk_that_cannot_be_read_costs_one_medium_and_ends_no_scrub() {
    if machine::can_mount("a_part_of_the_disk_that_cannot_be_read_costs_one_medium_and_ends_no_scrub") {
        scrubbed::at_every_read();
    }
}
