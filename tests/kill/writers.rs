//! A writer: makes, overwrites, extends, replaces and removes files until the daemon dies under it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::{Model, State};
use crate::support::patterns::Numbers;

/// Names that one writer uses; few, so that they are overwritten and removed often.
const NAMES: u64 = 24;

/// Works in `dir` until the daemon is killed; panics when a call fails before that.
pub fn work(dir: &Path, mut model: Model, seed: u64, killing: &AtomicBool) -> Model {
    let mut numbers = Numbers::new(seed);
    loop {
        let name = format!("file-{}", numbers.below(NAMES));
        let done = match numbers.below(10) {
            0..=2 => overwrite(dir, &name, &mut model, &mut numbers),
            3..=5 => replace(dir, &name, &mut model, &mut numbers),
            6..=7 => extend(dir, &name, &mut model, &mut numbers),
            _ => remove(dir, &name, &mut model),
        };
        if let Err(error) = done {
            assert!(killing.load(Ordering::SeqCst), "{name}: {error}, though the daemon was not killed");
            return model;
        }
    }
}

/// Bytes of a size that is sometimes below and sometimes above a chunk.
fn content(numbers: &mut Numbers) -> Vec<u8> {
    let limit = [1, 300, 5_000, 70_000, 400_000][usize::try_from(numbers.below(5)).unwrap()];
    let len = usize::try_from(numbers.below(limit + 1)).unwrap();
    numbers.bytes(len)
}

fn write_in_pieces(file: &mut File, bytes: &[u8], numbers: &mut Numbers) -> io::Result<()> {
    let piece = 1 + usize::try_from(numbers.below(130_000)).unwrap();
    bytes.chunks(piece).try_for_each(|piece| file.write_all(piece))
}

/// Makes or overwrites a file in place, syncing it or only closing it.
fn overwrite(dir: &Path, name: &str, model: &mut Model, numbers: &mut Numbers) -> io::Result<()> {
    let new: State = Some(Arc::new(content(numbers)));
    if model.now(name).is_none() {
        // The name may last before its first content does.
        model.may_become(name, Some(Arc::new(Vec::new())));
    }
    model.may_become(name, new.clone());
    let mut file = File::create(dir.join(name))?;
    write_in_pieces(&mut file, new.as_ref().map_or(&[][..], |bytes| bytes), numbers)?;
    if numbers.below(3) > 0 {
        file.sync_all()?;
        model.must_be(name, new);
        model.synced_this_round += 1;
    }
    Ok(())
}

/// Writes beside, syncs, and renames over, as careful programs do.
fn replace(dir: &Path, name: &str, model: &mut Model, numbers: &mut Numbers) -> io::Result<()> {
    let new: State = Some(Arc::new(content(numbers)));
    let draft = format!("{name}.draft");
    if model.now(&draft).is_none() {
        model.may_become(&draft, Some(Arc::new(Vec::new())));
    }
    model.may_become(&draft, new.clone());
    let mut file = File::create(dir.join(&draft))?;
    write_in_pieces(&mut file, new.as_ref().map_or(&[][..], |bytes| bytes), numbers)?;
    file.sync_all()?;
    drop(file);
    model.must_be(&draft, new.clone());
    model.synced_this_round += 1;

    model.may_become(&draft, None);
    model.may_become(name, new.clone());
    fs::rename(dir.join(&draft), dir.join(name))?;
    model.remember(name, "renamed over by", new.clone());
    if numbers.below(2) == 0 {
        File::open(dir)?.sync_all()?;
        model.must_be(&draft, None);
        model.must_be(name, new);
    }
    Ok(())
}

/// Appends to a file, syncing after each piece: every synced length is a content that may last.
fn extend(dir: &Path, name: &str, model: &mut Model, numbers: &mut Numbers) -> io::Result<()> {
    let mut bytes = model.now(name).map_or_else(Vec::new, |bytes| bytes.to_vec());
    if bytes.len() > 1_000_000 {
        return Ok(());
    }
    if model.now(name).is_none() {
        model.may_become(name, Some(Arc::new(Vec::new())));
    }
    let mut file = OpenOptions::new().append(true).create(true).open(dir.join(name))?;
    for _ in 0..=numbers.below(4) {
        let len = 1 + usize::try_from(numbers.below(30_000)).unwrap();
        let piece = numbers.bytes(len);
        bytes.extend_from_slice(&piece);
        let state: State = Some(Arc::new(bytes.clone()));
        model.may_become(name, state.clone());
        file.write_all(&piece)?;
        file.sync_data()?;
        model.must_be(name, state);
        model.synced_this_round += 1;
    }
    Ok(())
}

/// Removes a file: once that has returned, the file stays away.
fn remove(dir: &Path, name: &str, model: &mut Model) -> io::Result<()> {
    if model.now(name).is_none() {
        return Ok(());
    }
    model.may_become(name, None);
    fs::remove_file(dir.join(name))?;
    model.must_be(name, None);
    model.removed_this_round += 1;
    Ok(())
}
