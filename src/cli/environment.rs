//! What a command takes from its surroundings, read once.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Where root's key files lie.
const SYSTEM_KEYS: &str = "/etc/wamedia/keys";

/// The surroundings of a command.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The effective user.
    pub uid: u32,
    /// The effective group.
    pub gid: u32,
    /// `WAMEDIA_KEY_FILE`.
    pub key_file: Option<PathBuf>,
    /// `WAMEDIA_PASSPHRASE_FILE`.
    pub passphrase_file: Option<PathBuf>,
    /// `CREDENTIALS_DIRECTORY`, set by systemd.
    pub credentials: Option<PathBuf>,
    /// Where key files made by default lie, the user's own place first.
    pub key_directories: Vec<PathBuf>,
    /// Whether somebody can be asked: stdin is a terminal.
    pub interactive: bool,
}

impl Environment {
    /// Reads the surroundings of this process.
    #[must_use]
    pub fn read() -> Environment {
        Environment::from_variables(
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
            std::io::stdin().is_terminal(),
            |name| std::env::var_os(name).filter(|value| !value.is_empty()),
        )
    }

    fn from_variables(
        uid: u32,
        gid: u32,
        interactive: bool,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Environment {
        let path = |name: &str| variable(name).map(PathBuf::from);
        // The specification of XDG_CONFIG_HOME says that a relative path is to be ignored.
        let config = path("XDG_CONFIG_HOME")
            .filter(|config| config.is_absolute())
            .or_else(|| path("HOME").map(|home| home.join(".config")));
        let own = config.map(|config| config.join("wamedia/keys"));
        let system = PathBuf::from(SYSTEM_KEYS);
        let key_directories = match (uid, own) {
            (0, own) => std::iter::once(system).chain(own).collect(),
            (_, own) => own.into_iter().chain(std::iter::once(system)).collect(),
        };
        Environment {
            uid,
            gid,
            key_file: path("WAMEDIA_KEY_FILE"),
            passphrase_file: path("WAMEDIA_PASSPHRASE_FILE"),
            credentials: path("CREDENTIALS_DIRECTORY"),
            key_directories,
            interactive,
        }
    }

    /// Whether this is root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directories(uid: u32, variables: &[(&str, &str)]) -> Vec<PathBuf> {
        let look = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        Environment::from_variables(uid, uid, false, look).key_directories
    }

    #[test]
    fn the_own_place_for_keys_comes_first() {
        let home = [("HOME", "/h")];
        let own = PathBuf::from("/h/.config/wamedia/keys");
        let system = PathBuf::from(SYSTEM_KEYS);
        assert_eq!(directories(0, &home), [system.clone(), own.clone()]);
        assert_eq!(directories(7, &home), [own.clone(), system.clone()]);
        assert_eq!(directories(7, &[]), std::slice::from_ref(&system));
        assert_eq!(directories(7, &[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")])[0], PathBuf::from("/x/wamedia/keys"));
        assert_eq!(directories(7, &[("XDG_CONFIG_HOME", "x"), ("HOME", "/h")])[0], own);
    }
}
