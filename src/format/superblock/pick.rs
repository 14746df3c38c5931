//! Choosing between the two copies of a superblock.

use super::{Malformed, Superblock};
use crate::error::{Error, Kind, Result};

/// The file names of the two copies, in the order in which [`pick`] takes them.
const NAMES: [&str; 2] = ["superblock", "superblock.bak"];

/// Chooses the newer valid one of the two copies: the content of `superblock` and of `superblock.bak`, `None` when missing.
///
/// The notes name each copy that is missing, damaged or older; none means that both copies are whole and alike. When there
/// are notes, both copies are to be written anew, but only after the chosen one was unlocked: until then it is intact,
/// not authentic.
///
/// # Errors
/// `NotFound` when both are missing, `Version` when either was written by a version unknown here, `Damaged` when no copy
/// is valid or the two contradict each other.
pub fn pick(copies: [Option<&[u8]>; 2]) -> Result<(Superblock, Vec<String>)> {
    let [first, second] = copies.map(|copy| copy.map(Superblock::decode));
    for copy in [&first, &second] {
        if let Some(Err(unknown @ (Malformed::Version(_) | Malformed::Suite(_)))) = copy {
            return Err(unknown.clone().into());
        }
    }
    match (first, second) {
        (Some(Ok(first)), Some(Ok(second))) => newer(first, second),
        (Some(Ok(only)), other) => Ok((only, vec![note(NAMES[1], other)])),
        (other, Some(Ok(only))) => Ok((only, vec![note(NAMES[0], other)])),
        (None, None) => Err(Error::new(Kind::NotFound, "there is no superblock: no volume was made here")),
        (first, second) => Err(Error::new(
            Kind::Damaged,
            format!("no copy of the superblock is whole: {}; {}", note(NAMES[0], first), note(NAMES[1], second)),
        )),
    }
}

fn newer(first: Superblock, second: Superblock) -> Result<(Superblock, Vec<String>)> {
    if first.volume != second.volume {
        let message = format!(
            "{} is of volume {} and {} of volume {}; put the one aside that does not belong here",
            NAMES[0], first.volume, NAMES[1], second.volume
        );
        return Err(Error::new(Kind::Damaged, message));
    }
    if first == second {
        return Ok((first, Vec::new()));
    }
    if first.generation == second.generation {
        let message = format!("both copies of the superblock have generation {} but differ", first.generation);
        return Err(Error::new(Kind::Damaged, message));
    }
    let (newer, older, name) =
        if first.generation > second.generation { (first, second, NAMES[1]) } else { (second, first, NAMES[0]) };
    let note = format!("{name} is of generation {}, the other copy of {}", older.generation, newer.generation);
    Ok((newer, vec![note]))
}

/// What is wrong with a copy that was not chosen.
fn note(name: &str, copy: Option<std::result::Result<Superblock, Malformed>>) -> String {
    match copy {
        None => format!("{name} is missing"),
        Some(Err(fault)) => format!("{name} is damaged: {fault}"),
        Some(Ok(_)) => format!("{name} is whole"),
    }
}
