//! Where the key of a volume is looked for, and how it is read.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::args::{KeyArgs, NewKeyArgs};
use super::environment::Environment;
use crate::crypto::Superblock;
use crate::crypto::{KeySource, Secret, SlotKind, Suite, make_key_file};
use crate::error::{Error, Kind, Result};
use crate::ids::VolumeId;

/// The credential that is tried when no key option is given.
pub const DEFAULT_CREDENTIAL: &str = "wamedia.key";

/// A place where a key may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPlace {
    /// A file with a passphrase.
    PassphraseFile(PathBuf),
    /// A key file.
    KeyFile(PathBuf),
    /// A systemd credential.
    Credential(String),
    /// The head of somebody at the terminal.
    Terminal,
}

impl KeyPlace {
    /// Reads the key, asking for it when it is at the terminal.
    ///
    /// # Errors
    /// Those of [`KeySource`]; `Invalid` when there is no terminal.
    pub fn read(&self) -> Result<KeySource> {
        match self {
            KeyPlace::PassphraseFile(path) => KeySource::passphrase_file(path),
            KeyPlace::KeyFile(path) => KeySource::key_file(path),
            KeyPlace::Credential(name) => KeySource::credential(name),
            KeyPlace::Terminal => ask("Passphrase: ").map(KeySource::Passphrase),
        }
    }

    /// The key file that [`KeyPlace::read_new`] would make, if it would make one.
    #[must_use]
    pub fn file_to_make(&self) -> Option<&Path> {
        match self {
            KeyPlace::KeyFile(path) if !path.exists() => Some(path),
            _ => None,
        }
    }

    /// Reads the key of a volume or slot to come: a key file that is not there is made, a passphrase asked for twice.
    ///
    /// # Errors
    /// As [`KeyPlace::read`]; `Invalid` when the two passphrases differ.
    pub fn read_new(&self) -> Result<KeySource> {
        match self {
            KeyPlace::KeyFile(path) if self.file_to_make().is_some() => {
                make_key_file(path)?;
                let shown = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                eprintln!(
                    "wamedia: a new key was made in {}; whoever has it and the store can read the media",
                    shown.display()
                );
                KeySource::key_file(path)
            }
            KeyPlace::Terminal => {
                let first = ask("New passphrase: ")?;
                let second = ask("The same again: ")?;
                if first.expose() != second.expose() {
                    return Err(Error::new(Kind::Invalid, "the two passphrases differ; nothing was changed"));
                }
                Ok(KeySource::Passphrase(first))
            }
            _ => self.read(),
        }
    }
}

/// Says on stderr where the only key of a volume is, and what that means.
pub fn tell_of_only_key(path: &Path) {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    eprintln!("wamedia: the key of this volume is in {}", path.display());
    eprintln!(
        "wamedia: WARNING: without that file the media is lost. Keep a copy of it in another place than the store."
    );
}

/// Asks on the terminal, without showing what is typed.
fn ask(prompt: &str) -> Result<Secret> {
    let answer = rpassword::prompt_password(prompt).map_err(|error| {
        Error::new(
            Kind::Invalid,
            format!("there is no terminal to ask for a passphrase ({error}); give --passphrase-file"),
        )
    })?;
    let answer = Zeroizing::new(answer);
    if answer.is_empty() {
        return Err(Error::new(Kind::Invalid, "an empty passphrase opens nothing"));
    }
    Ok(Secret::new(answer.as_bytes().to_vec()))
}

/// The place that key options name, if they name one.
#[must_use]
pub fn named_place(args: &KeyArgs) -> Option<KeyPlace> {
    let passphrase_file = args.passphrase_file.clone().map(KeyPlace::PassphraseFile);
    passphrase_file
        .or_else(|| args.key_file.clone().map(KeyPlace::KeyFile))
        .or_else(|| args.credential.clone().map(KeyPlace::Credential))
        .or_else(|| args.passphrase.then_some(KeyPlace::Terminal))
}

/// The place that the options for a new key name; clap sees to it that there is one.
///
/// # Errors
/// `Invalid` when there is none.
pub fn new_place(args: &NewKeyArgs) -> Result<KeyPlace> {
    let passphrase_file = args.new_passphrase_file.clone().map(KeyPlace::PassphraseFile);
    passphrase_file
        .or_else(|| args.new_key_file.clone().map(KeyPlace::KeyFile))
        .or_else(|| args.new_credential.clone().map(KeyPlace::Credential))
        .or_else(|| args.new_passphrase.then_some(KeyPlace::Terminal))
        .ok_or_else(|| {
            Error::new(
                Kind::Invalid,
                "name the new key: --new-key-file, --new-passphrase-file, --new-passphrase or --new-credential",
            )
        })
}

/// The place that variables name, if they name one: `WAMEDIA_KEY_FILE` goes before `WAMEDIA_PASSPHRASE_FILE`.
#[must_use]
pub fn variable_place(environment: &Environment) -> Option<KeyPlace> {
    let key_file = environment.key_file.clone().map(KeyPlace::KeyFile);
    key_file.or_else(|| environment.passphrase_file.clone().map(KeyPlace::PassphraseFile))
}

/// The name of a volume's key file in a key directory.
#[must_use]
pub fn key_file_name(volume: VolumeId) -> String {
    format!("{volume}.key")
}

/// Where the key of an existing volume may be: what an option names and nothing else; without an option what a variable
/// names and nothing else; without either the systemd credential `wamedia.key`, then the key file that `init` makes.
#[must_use]
pub fn places(args: &KeyArgs, environment: &Environment, volume: VolumeId) -> Vec<KeyPlace> {
    if let Some(place) = named_place(args).or_else(|| variable_place(environment)) {
        return vec![place];
    }
    let credential = environment.credentials.as_ref().map(|directory| directory.join(DEFAULT_CREDENTIAL));
    let credential =
        credential.filter(|path| path.exists()).map(|_| KeyPlace::Credential(DEFAULT_CREDENTIAL.to_owned()));
    let files = environment.key_directories.iter().map(|directory| directory.join(key_file_name(volume)));
    credential.into_iter().chain(files.filter(|path| path.exists()).map(KeyPlace::KeyFile)).collect()
}

/// Reads what may open a volume. Without a place that is there, asks for the passphrase if the volume has one and there
/// is somebody to ask.
///
/// # Errors
/// `WrongKey` when no key is known, naming where it was looked for; those of [`KeySource`].
pub fn read(args: &KeyArgs, environment: &Environment, superblock: &Superblock) -> Result<Vec<KeySource>> {
    let volume = superblock.volume();
    if superblock.suite() == Suite::Checksum {
        return named_place(args).iter().map(KeyPlace::read).collect();
    }
    let places = places(args, environment, volume);
    if !places.is_empty() {
        return read_any(&places);
    }
    let has_passphrase = superblock.slots().iter().any(|slot| slot.kind() == SlotKind::Passphrase);
    if has_passphrase && environment.interactive {
        return Ok(vec![KeyPlace::Terminal.read()?]);
    }
    Err(no_key(environment, volume))
}

/// Reads the keys of several places; one that cannot be read is passed over when another can.
fn read_any(places: &[KeyPlace]) -> Result<Vec<KeySource>> {
    let mut sources = Vec::with_capacity(places.len());
    let mut failure = None;
    for place in places {
        match place.read() {
            Ok(source) => sources.push(source),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if sources.is_empty() => Err(error),
        _ => Ok(sources),
    }
}

fn no_key(environment: &Environment, volume: VolumeId) -> Error {
    let name = key_file_name(volume);
    let looked: Vec<String> =
        environment.key_directories.iter().map(|directory| directory.join(&name).display().to_string()).collect();
    Error::new(
        Kind::WrongKey,
        format!(
            "no key of volume {volume} is known (looked for {}); give --key-file or --passphrase-file",
            looked.join(" and ")
        ),
    )
}

/// A key file made for a volume that does not exist yet; it gets its final name with the volume's id.
pub struct FreshKeyFile {
    directory: PathBuf,
    path: PathBuf,
}

impl FreshKeyFile {
    /// Makes a key file in the user's own key directory (made with mode 0700), durable on return.
    ///
    /// # Errors
    /// `NotFound` when the user has no such directory (neither `HOME` nor `XDG_CONFIG_HOME` is set), those of
    /// [`make_key_file`].
    pub fn make(environment: &Environment) -> Result<FreshKeyFile> {
        use std::os::unix::fs::DirBuilderExt;
        let directory = environment.key_directories.first().ok_or_else(|| {
            Error::new(Kind::NotFound, "there is no place for a key file: HOME is not set; give --key-file")
        })?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
            Error::io(format!("cannot make {}; give --key-file to keep the key elsewhere", directory.display()), error)
        })?;
        let mut random = [0; 8];
        crate::clock::random_bytes(&mut random);
        let path = directory.join(format!("new-{:016x}.key", u64::from_ne_bytes(random)));
        make_key_file(&path)?;
        Ok(FreshKeyFile { directory: directory.clone(), path })
    }

    /// The key in it.
    ///
    /// # Errors
    /// Those of [`KeySource::key_file`].
    pub fn source(&self) -> Result<KeySource> {
        KeySource::key_file(&self.path)
    }

    /// Gives it the name by which it will be found, durable on return; that path.
    ///
    /// # Errors
    /// `Io`, naming where the key is then.
    pub fn name_after(self, volume: VolumeId) -> Result<PathBuf> {
        let path = self.directory.join(key_file_name(volume));
        let renamed =
            std::fs::rename(&self.path, &path).and_then(|()| std::fs::File::open(&self.directory)?.sync_all());
        match renamed {
            Ok(()) => Ok(path),
            Err(error) => Err(Error::io(
                format!(
                    "the key of the new volume is in {}, but cannot be renamed to {}",
                    self.path.display(),
                    path.display()
                ),
                error,
            )),
        }
    }

    /// Takes it away again, when no volume came to be.
    pub fn discard(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove a key file that opens nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: VolumeId = VolumeId([7; 16]);

    struct Surroundings {
        directory: tempfile::TempDir,
        environment: Environment,
    }

    impl Surroundings {
        fn new() -> Surroundings {
            let directory = tempfile::tempdir().unwrap();
            let at = |name: &str| directory.path().join(name);
            let environment = Environment {
                uid: 7,
                gid: 7,
                key_file: None,
                passphrase_file: None,
                credentials: None,
                key_directories: vec![at("own/keys"), at("system")],
                interactive: false,
            };
            Surroundings { directory, environment }
        }

        fn put(&self, path: &str) -> PathBuf {
            let path = self.directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
            path
        }

        fn places(&self, args: &KeyArgs) -> Vec<KeyPlace> {
            places(args, &self.environment, VOLUME)
        }
    }

    #[test]
    fn an_option_goes_before_all_and_alone() {
        let mut it = Surroundings::new();
        it.put(&format!("own/keys/{}", key_file_name(VOLUME)));
        it.environment.key_file = Some("variable".into());
        let options = [
            (KeyArgs { key_file: Some("k".into()), ..Default::default() }, KeyPlace::KeyFile("k".into())),
            (KeyArgs { passphrase_file: Some("p".into()), ..Default::default() }, KeyPlace::PassphraseFile("p".into())),
            (KeyArgs { credential: Some("c".into()), ..Default::default() }, KeyPlace::Credential("c".into())),
            (KeyArgs { passphrase: true, ..Default::default() }, KeyPlace::Terminal),
        ];
        for (args, place) in options {
            assert_eq!(it.places(&args), [place]);
        }
    }

    #[test]
    fn a_variable_goes_before_what_is_found() {
        let mut it = Surroundings::new();
        it.put(&format!("own/keys/{}", key_file_name(VOLUME)));
        it.environment.passphrase_file = Some("p".into());
        assert_eq!(it.places(&KeyArgs::default()), [KeyPlace::PassphraseFile("p".into())]);
        it.environment.key_file = Some("k".into());
        assert_eq!(it.places(&KeyArgs::default()), [KeyPlace::KeyFile("k".into())]);
    }

    #[test]
    fn what_is_found_is_tried_in_order() {
        let mut it = Surroundings::new();
        assert_eq!(it.places(&KeyArgs::default()), []);
        let system = it.put(&format!("system/{}", key_file_name(VOLUME)));
        let own = it.put(&format!("own/keys/{}", key_file_name(VOLUME)));
        it.put("own/keys/another.key");
        assert_eq!(it.places(&KeyArgs::default()), [KeyPlace::KeyFile(own.clone()), KeyPlace::KeyFile(system.clone())]);
        let credentials = it.directory.path().join("credentials");
        it.environment.credentials = Some(credentials);
        assert_eq!(it.places(&KeyArgs::default()).len(), 2);
        it.put("credentials/wamedia.key");
        let credential = KeyPlace::Credential(DEFAULT_CREDENTIAL.into());
        assert_eq!(it.places(&KeyArgs::default()), [credential, KeyPlace::KeyFile(own), KeyPlace::KeyFile(system)]);
    }

    #[test]
    fn a_fresh_key_file_is_private_and_gets_the_name_it_is_looked_for() {
        use std::os::unix::fs::PermissionsExt;
        let it = Surroundings::new();
        let fresh = FreshKeyFile::make(&it.environment).unwrap();
        let path = fresh.name_after(VOLUME).unwrap();
        assert_eq!(it.places(&KeyArgs::default()), [KeyPlace::KeyFile(path.clone())]);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(path.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_key_file_that_opens_nothing_goes() {
        let it = Surroundings::new();
        FreshKeyFile::make(&it.environment).unwrap().discard();
        assert_eq!(std::fs::read_dir(&it.environment.key_directories[0]).unwrap().count(), 0);
    }

    #[test]
    fn without_a_key_the_message_says_where_it_was_looked_for() {
        let it = Surroundings::new();
        let error = no_key(&it.environment, VOLUME);
        assert_eq!(error.kind(), Kind::WrongKey);
        assert!(error.to_string().contains("own/keys/07070707"), "{error}");
    }
}
