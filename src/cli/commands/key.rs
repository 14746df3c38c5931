//! `wamedia key`: changes of the superblock, mounted or not; the volume key stays, so a daemon need not know.

use std::fs::File;
use std::path::Path;

use super::Outcome;
use crate::cli::args::{KeyAction, KeyAdd, KeyChange, KeyList, KeyRemove, OutputArgs, TargetArgs};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::keys::{self, KeyPlace};
use crate::cli::target::Target;
use crate::cli::views::SlotView;
use crate::cli::{output, session};
use crate::crypto::{KeySource, MAX_SLOTS, Suite, VolumeKey};
use crate::crypto::{Slot, Superblock};
use crate::error::{Error, Kind, Result};
use crate::own_file;
use crate::store;

/// Locked while key slots are read, changed and written back. Not the store's lock, which a daemon holds.
const LOCK_NAME: &str = "keys.lock";

/// Shows or changes what opens a volume.
///
/// # Errors
/// `WrongKey`, `NotPermitted` for the last slot, `Unsupported` for a volume without a cipher, `Busy` when another
/// command changes them.
pub fn run(action: KeyAction, environment: &Environment) -> Outcome {
    match action {
        KeyAction::List(args) => list(&args),
        KeyAction::Add(args) => add(&args, environment),
        KeyAction::Remove(args) => remove(&args, environment),
        KeyAction::Change(args) => change(&args, environment),
    }
}

fn list(args: &KeyList) -> Outcome {
    let target = Target::find(&args.target)?.whole()?;
    let superblock = store::read_superblock(&target.store)?;
    if superblock.suite() == Suite::Checksum {
        eprintln!("wamedia: the volume is UNENCRYPTED and has no key slots");
    }
    write_slots(superblock.slots(), args.output)
}

fn add(args: &KeyAdd, environment: &Environment) -> Outcome {
    let place = keys::new_place(&args.new)?;
    let changed = modify(&args.target, environment, |superblock, key, _| {
        require_free_slot(superblock)?;
        with_new_key(&place, |source| superblock.add_slot(key, source, &args.label.label).map(drop))
    })?;
    write_slots(changed.slots(), args.output)
}

fn remove(args: &KeyRemove, environment: &Environment) -> Outcome {
    let changed = modify(&args.target, environment, |superblock, key, _| superblock.remove_slot(key, args.slot))?;
    write_slots(changed.slots(), args.output)
}

fn change(args: &KeyChange, environment: &Environment) -> Outcome {
    let place = keys::new_place(&args.new)?;
    let changed = modify(&args.target, environment, |superblock, key, slot| {
        with_new_key(&place, |source| superblock.replace_slot(key, slot, source, &args.label.label))
    })?;
    write_slots(changed.slots(), args.output)
}

/// Refuses before a key file is made that would open nothing.
fn require_free_slot(superblock: &Superblock) -> Result<()> {
    match superblock.slots().len() < usize::from(MAX_SLOTS) {
        true => Ok(()),
        false => Err(Error::new(
            Kind::NotPermitted,
            format!("all {MAX_SLOTS} key slots are taken; `wamedia key remove` frees one"),
        )),
    }
}

/// Reads or makes a new key and puts it in; a key file that was made goes again when that fails.
fn with_new_key(place: &KeyPlace, put: impl FnOnce(&KeySource) -> Result<()>) -> Result<()> {
    let made = place.file_to_make();
    let source = place.read_new()?;
    let outcome = put(&source);
    if let (Err(_), Some(path)) = (&outcome, made)
        && let Err(error) = std::fs::remove_file(path)
    {
        eprintln!("wamedia: the new key file {}, which opens nothing, cannot be removed: {error}", path.display());
    }
    outcome
}

/// Opens the volume key, changes the superblock, writes it back, all under a lock of its own.
fn modify(
    args: &TargetArgs,
    environment: &Environment,
    change: impl FnOnce(&mut Superblock, &VolumeKey, u8) -> Result<()>,
) -> Result<Superblock> {
    let target = Target::find(&args.target)?.whole()?;
    session::require_writable(&target)?;
    let _alone = lock(&target.store)?;
    let mut superblock = store::read_superblock(&target.store)?;
    if superblock.suite() == Suite::Checksum {
        return Err(Error::new(Kind::Unsupported, "the volume is unencrypted (--cipher none) and has no key slots"));
    }
    let sources = keys::read(&args.keys, environment, &superblock)?;
    let (key, slot) = superblock.unlock(&sources)?;
    let slot = slot.ok_or_else(|| Error::new(Kind::Unsupported, "the volume has no key slots"))?;
    change(&mut superblock, &key, slot)?;
    store::write_superblock(&target.store, &superblock)?;
    Ok(superblock)
}

fn lock(store: &Path) -> Result<File> {
    let path = store.join(LOCK_NAME);
    let file = own_file::open(&path, File::options().create(true).truncate(false).write(true));
    let file = file.map_err(|e| Error::io(format!("cannot lock the key slots ({})", path.display()), e))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::new(Kind::Busy, "another command is changing the key slots; try again when it has ended"))
        }
        Err(error) => Err(Error::io(format!("cannot lock {}", path.display()), error.into())),
    }
}

fn write_slots(slots: &[Slot], output: OutputArgs) -> Outcome {
    let mut table = output::table(&["SLOT", "KIND", "LABEL"], &[0]);
    for slot in slots {
        let view = SlotView { slot: slot.id(), kind: slot.kind().to_string(), label: slot.label().to_owned() };
        if output.json {
            output::json(&view)?;
        } else {
            table.add_row([view.slot.to_string(), view.kind, output::printable(&view.label)]);
        }
    }
    if !output.json && !slots.is_empty() {
        output::print(&table)?;
    }
    Ok(Exit::Success)
}
