//! `wamedia init`, and what `wamedia mount --init` does first.

use std::path::{Path, PathBuf};

use super::Outcome;
use crate::cli::args::{Cipher, Init, InitArgs, KeyArgs, default_rule};
use crate::cli::environment::Environment;
use crate::cli::exit::Exit;
use crate::cli::keys::{self, FreshKeyFile, KeyPlace};
use crate::cli::views::InitView;
use crate::cli::{output, target};
use crate::control::Keep;
use crate::error::{Error, Kind, Result};
use crate::ids::VolumeId;
use crate::volume::{AgeBy, InitOptions, Policy, Volume};

/// Days media are kept unless said otherwise.
const DEFAULT_RETENTION_DAYS: u64 = 30;
/// The floor of free space unless said otherwise, at most.
const DEFAULT_FLOOR_BYTES: u64 = 1 << 30;
/// The part of the backing file system that the default floor is, at most: one in so many bytes.
const DEFAULT_FLOOR_SHARE: u64 = 20;
/// Mode of the root directory of a new volume.
const ROOT_MODE: u32 = 0o755;

/// A store to make.
pub struct MakeStore<'a> {
    /// Where, absolute.
    pub store: &'a Path,
    /// What is to open it.
    pub keys: &'a KeyArgs,
    /// What it is to be.
    pub new: &'a InitArgs,
}

/// A store that was made.
pub struct MadeStore {
    /// Its volume.
    pub volume: VolumeId,
    /// The key file made for it.
    pub key_file: Option<PathBuf>,
    /// Whether it is encrypted.
    pub encrypted: bool,
}

/// Does `wamedia init`.
///
/// # Errors
/// Those of [`make_store`].
pub fn run(args: &Init, environment: &Environment) -> Outcome {
    let store = target::absolute(&args.store)?;
    let made = make_store(&MakeStore { store: &store, keys: &args.keys, new: &args.new }, environment)?;
    let volume_id = made.volume.to_string();
    let store = store.display().to_string();
    let key_file = made.key_file.map(|path| path.display().to_string());
    if args.output.json {
        let key_file = key_file.as_deref();
        output::json(&InitView { volume_id: &volume_id, store: &store, encrypted: made.encrypted, key_file })?;
    } else {
        let cipher = if made.encrypted { "xchacha20-poly1305" } else { "none: UNENCRYPTED" };
        let mut rows = vec![("volume", volume_id), ("store", store), ("cipher", cipher.to_owned())];
        rows.extend(key_file.map(|path| ("key file", path)));
        output::pairs(&rows)?;
    }
    Ok(Exit::Success)
}

/// Makes a store, and its key file when no key is named. Says on stderr where a new key file is.
///
/// # Errors
/// `Exists` when there is a store already, `Invalid` when what is asked makes no sense, those of [`Volume::init`].
pub fn make_store(make: &MakeStore<'_>, environment: &Environment) -> Result<MadeStore> {
    let store = make.store;
    if target::is_store(store)? {
        return Err(Error::new(
            Kind::Exists,
            format!("{} is a store already; `wamedia mount` mounts it", store.display()),
        ));
    }
    let encrypted = make.new.cipher != Some(Cipher::None);
    let options = InitOptions {
        encrypted,
        policy: make.new.policy().apply(default_policy(store))?,
        root_uid: make.new.owner.map_or(environment.uid, |owner| owner.uid),
        root_gid: make.new.owner.map_or(environment.gid, |owner| owner.gid),
        root_mode: make.new.mode.unwrap_or(ROOT_MODE),
    };
    if !encrypted {
        if keys::named_place(make.keys).is_some() {
            return Err(Error::new(Kind::Invalid, "a volume with --cipher none has no key; leave the key option out"));
        }
        eprintln!("wamedia: WARNING: --cipher none: media, names and types will lie unencrypted in the store.");
        let volume = Volume::init(store, None, &options)?;
        return Ok(MadeStore { volume, key_file: None, encrypted });
    }
    match keys::named_place(make.keys).or_else(|| keys::variable_place(environment)) {
        Some(place) => {
            let source = place.read_new()?;
            let volume = Volume::init(store, Some(&source), &options)?;
            if let KeyPlace::KeyFile(path) = &place {
                keys::tell_of_only_key(path);
            }
            Ok(MadeStore { volume, key_file: None, encrypted })
        }
        None => make_with_fresh_key(store, &options, environment),
    }
}

fn make_with_fresh_key(store: &Path, options: &InitOptions, environment: &Environment) -> Result<MadeStore> {
    let fresh = FreshKeyFile::make(environment)?;
    let made = fresh.source().and_then(|source| Volume::init(store, Some(&source), options));
    match made {
        Ok(volume) => {
            let path = fresh.name_after(volume)?;
            keys::tell_of_only_key(&path);
            Ok(MadeStore { volume, key_file: Some(path), encrypted: true })
        }
        Err(error) => {
            fresh.discard();
            Err(error)
        }
    }
}

/// The policy of a volume of which nothing was said: no quota, 30 days, and 1 GiB of the backing file system left free,
/// or a twentieth of it when it is small.
fn default_policy(store: &Path) -> Policy {
    let keep = Keep::For(std::time::Duration::from_secs(DEFAULT_RETENTION_DAYS * 86_400));
    let total_bytes = store
        .ancestors()
        .find_map(|place| rustix::fs::statvfs(place).ok())
        .map_or(u64::MAX, |fs| fs.f_blocks.saturating_mul(fs.f_frsize));
    Policy {
        max_bytes: None,
        max_media: None,
        reserves: Vec::new(),
        floor_bytes: DEFAULT_FLOOR_BYTES.min(total_bytes / DEFAULT_FLOOR_SHARE),
        age_by: AgeBy::Written,
        retention: vec![default_rule(keep)],
        ..Policy::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::{RetentionRule, Selector};
    use std::time::Duration;

    #[test]
    fn what_is_said_at_init_changes_the_default_policy() {
        let directory = tempfile::tempdir().unwrap();
        let base = default_policy(&directory.path().join("not/there/yet"));
        assert!(base.floor_bytes > 0 && base.floor_bytes <= DEFAULT_FLOOR_BYTES);
        let thirty = RetentionRule { selector: Selector::Default, keep: Some(Duration::from_secs(30 * 86_400)) };
        assert_eq!(base.retention, [thirty]);

        let new = InitArgs { retention: Some(Keep::Forever), ..Default::default() };
        let changed = new.policy().apply(base).unwrap();
        assert_eq!(changed.retention, [RetentionRule { selector: Selector::Default, keep: None }]);
    }

    #[test]
    fn a_key_for_an_unencrypted_volume_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        let keys = KeyArgs { key_file: Some("k".into()), ..Default::default() };
        let new = InitArgs { cipher: Some(Cipher::None), ..Default::default() };
        let error =
            make_store(&MakeStore { store: &store, keys: &keys, new: &new }, &Environment::read()).err().unwrap();
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(!store.exists());
    }

    #[test]
    fn a_store_is_never_made_over_another() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("superblock"), "").unwrap();
        let make = MakeStore { store: directory.path(), keys: &KeyArgs::default(), new: &InitArgs::default() };
        assert_eq!(make_store(&make, &Environment::read()).err().unwrap().kind(), Kind::Exists);
    }
}
