//! Where the operator keeps what opens the volume: a passphrase, a key file, a systemd credential.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Secret, SlotKind};
use crate::clock;
use crate::error::{Error, Kind, Result};

/// Longest passphrase, and longest passphrase or key file, in bytes.
pub const MAX_PASSPHRASE_BYTES: usize = 64 * 1024;
/// Length of a key.
const KEY_BYTES: usize = 32;
/// The variable in which systemd names the directory of a service's credentials.
const CREDENTIALS_VARIABLE: &str = "CREDENTIALS_DIRECTORY";

/// A secret that opens key slots, and where it is from. No `Debug`; its `Display` tells the origin, never the secret.
pub enum KeySource {
    /// A passphrase, as bytes; it is neither trimmed nor normalised.
    Passphrase(Secret),
    /// 32 random bytes from a file.
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The 32 bytes.
        secret: Secret,
    },
    /// 32 random bytes that systemd handed over.
    Credential {
        /// The credential's name.
        name: String,
        /// The 32 bytes.
        secret: Secret,
    },
}

impl KeySource {
    /// Reads a passphrase: the first line of a file, without its line end. Warns when others may read the file.
    ///
    /// # Errors
    /// `Invalid` when the line is empty or the file longer than [`MAX_PASSPHRASE_BYTES`]; `NotFound`, `AccessDenied` or
    /// `Io` when it cannot be read.
    pub fn passphrase_file(path: &Path) -> Result<KeySource> {
        let content = read_bounded(path, "passphrase file")?;
        let line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(Error::new(
                Kind::Invalid,
                format!("passphrase file {}: its first line is empty", path.display()),
            ));
        }
        Ok(KeySource::Passphrase(Secret::new(line.to_vec())))
    }

    /// Reads a key file: 32 raw bytes, or 64 hex digits with white space around them, as [`make_key_file`] writes them.
    /// Warns when others may read the file.
    ///
    /// # Errors
    /// `Invalid` when it is neither, is text, or is all zeros; `NotFound`, `AccessDenied` or `Io` when it cannot be read.
    pub fn key_file(path: &Path) -> Result<KeySource> {
        let content = read_bounded(path, "key file")?;
        let secret = parse_key(&content)
            .map_err(|why| Error::new(Kind::Invalid, format!("key file {}: {why}", path.display())))?;
        Ok(KeySource::KeyFile { path: path.to_owned(), secret })
    }

    /// Reads the credential `name` of this service from `$CREDENTIALS_DIRECTORY`. Its content is that of a key file.
    ///
    /// # Errors
    /// `NotFound` when systemd passed no credentials, or none of this name; else as [`KeySource::key_file`].
    pub fn credential(name: &str) -> Result<KeySource> {
        match std::env::var_os(CREDENTIALS_VARIABLE) {
            Some(directory) => KeySource::credential_in(Path::new(&directory), name),
            None => Err(Error::new(
                Kind::NotFound,
                format!(
                    "credential {name}: ${CREDENTIALS_VARIABLE} is not set; LoadCredentialEncrypted= in the unit sets it"
                ),
            )),
        }
    }

    fn credential_in(directory: &Path, name: &str) -> Result<KeySource> {
        let is_file_name = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
        if !is_file_name {
            return Err(Error::new(Kind::Invalid, format!("{name:?} is no name of a credential")));
        }
        let (content, _) = read_unchecked(&directory.join(name), "credential")?;
        let secret =
            parse_key(&content).map_err(|why| Error::new(Kind::Invalid, format!("credential {name}: {why}")))?;
        Ok(KeySource::Credential { name: name.to_owned(), secret })
    }

    /// The kind of slot this makes.
    #[must_use]
    pub fn kind(&self) -> SlotKind {
        match self {
            KeySource::Passphrase(_) => SlotKind::Passphrase,
            KeySource::KeyFile { .. } => SlotKind::KeyFile,
            KeySource::Credential { .. } => SlotKind::Credential,
        }
    }

    pub(super) fn secret(&self) -> &Secret {
        match self {
            KeySource::Passphrase(secret)
            | KeySource::KeyFile { secret, .. }
            | KeySource::Credential { secret, .. } => secret,
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Passphrase(_) => f.write_str("passphrase"),
            KeySource::KeyFile { path, .. } => write!(f, "key file {}", path.display()),
            KeySource::Credential { name, .. } => write!(f, "credential {name}"),
        }
    }
}

/// Makes a key file: 32 random bytes as 64 hex digits and a newline, readable by its owner alone (mode 0600).
///
/// On return file and name survive power loss. A file that exists is never touched; one that could not be written
/// whole is removed.
///
/// # Errors
/// `Exists` when there is something at `path`; `NotFound`, `AccessDenied`, `NoSpace` or `Io` when it cannot be written.
pub fn make_key_file(path: &Path) -> Result<()> {
    let what = format!("making key file {}", path.display());
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| failure(&what, e))?;
    write_key(file, path).map_err(|e| {
        // The first failure is the one to tell; a file left behind would only be refused later.
        let _ = fs::remove_file(path);
        failure(&what, e)
    })
}

fn write_key(mut file: File, path: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    clock::random_bytes(&mut *key);
    let mut line = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES + 1));
    line.extend(key.iter().flat_map(|byte| [hex_digit(byte >> 4), hex_digit(byte & 15)]));
    line.push(b'\n');
    // An umask could have taken away even the owner's right to read it back.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(&line)?;
    file.sync_all()?;
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
}

/// Reads the bytes of a key in either form, or tells why there is none.
fn parse_key(content: &[u8]) -> std::result::Result<Secret, &'static str> {
    let key = match parse_hex(content.trim_ascii()) {
        Some(key) => key,
        None if content.len() != KEY_BYTES => {
            return Err("a key is 32 raw bytes or 64 hex digits, and this is neither");
        }
        // Text has far less randomness than it has bytes, and a key is not stretched as a passphrase is.
        None if content.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => {
            return Err("these 32 bytes are text, not a random key; give a passphrase as a passphrase");
        }
        None => Zeroizing::new(content.to_vec()),
    };
    if key.iter().all(|byte| *byte == 0) {
        return Err("the key is all zeros, as a file cut off by a crash would be");
    }
    Ok(Secret::new(key.to_vec()))
}

fn parse_hex(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    if text.len() != 2 * KEY_BYTES {
        return None;
    }
    let mut key = Zeroizing::new(Vec::with_capacity(KEY_BYTES));
    for pair in text.chunks_exact(2) {
        let mut byte = 0;
        for digit in pair {
            byte = byte << 4 | u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        }
        key.push(byte);
    }
    Some(key)
}

/// Reads a file of at most [`MAX_PASSPHRASE_BYTES`], and warns when it lies open to others.
fn read_bounded(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>> {
    let (content, metadata) = read_unchecked(path, what)?;
    // systemd hands credentials to a service by an access list, which shows in the group's bits; nobody else reaches them.
    let is_credential = std::env::var_os(CREDENTIALS_VARIABLE).is_some_and(|directory| path.starts_with(directory));
    if let Some(mode) = exposed_mode(&metadata).filter(|_| !is_credential) {
        tracing::warn!("{what} {} may be read by others (mode {mode:04o}); chmod 600 mends it", path.display());
    }
    Ok(content)
}

/// The permission bits of a regular file that group or others may read.
fn exposed_mode(metadata: &Metadata) -> Option<u32> {
    let mode = metadata.permissions().mode() & 0o7777;
    (metadata.is_file() && mode & 0o044 != 0).then_some(mode)
}

/// Reads a file, pipe or terminal into memory that is wiped and never reallocated.
fn read_unchecked(path: &Path, what: &str) -> Result<(Zeroizing<Vec<u8>>, Metadata)> {
    let what = format!("{what} {}", path.display());
    let mut file = File::open(path).map_err(|e| failure(&what, e))?;
    let metadata = file.metadata().map_err(|e| failure(&what, e))?;
    let mut content = Zeroizing::new(vec![0; MAX_PASSPHRASE_BYTES + 1]);
    let mut len = 0;
    while let Some(rest) = content.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failure(&what, e)),
        }
    }
    if len > MAX_PASSPHRASE_BYTES {
        return Err(Error::new(Kind::Invalid, format!("{what} is longer than {MAX_PASSPHRASE_BYTES} bytes")));
    }
    content.truncate(len);
    Ok((content, metadata))
}

fn failure(what: &str, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::PermissionDenied => Kind::AccessDenied,
        io::ErrorKind::AlreadyExists => Kind::Exists,
        _ => return Error::io(what, error),
    };
    Error::new(kind, format!("{what}: {error}")).with_source(error)
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
