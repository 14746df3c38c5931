//! Mount options: what `-o` may say, as mount(8) and its helpers hand it on.

use std::fmt::Write as _;

use libc::c_ulong;

use crate::error::{Error, Kind, Result};

/// Threads that serve a mount unless `threads=` says otherwise.
pub const DEFAULT_THREADS: usize = 4;
/// Most threads that `threads=` may ask for: each holds a request buffer of its own.
pub const MAX_THREADS: usize = 64;
/// What shows as the source of a mount when `fsname=` is not given.
pub const DEFAULT_SOURCE: &str = "wamedia";

/// Flags of mount(2) by name: bit, word that sets it, word that clears it.
const FLAGS: &[(c_ulong, &str, &str)] = &[
    (libc::MS_RDONLY, "ro", "rw"),
    (libc::MS_NOSUID, "nosuid", "suid"),
    (libc::MS_NODEV, "nodev", "dev"),
    (libc::MS_NOEXEC, "noexec", "exec"),
    (libc::MS_NOATIME, "noatime", "atime"),
    (libc::MS_NODIRATIME, "nodiratime", "diratime"),
    (libc::MS_SYNCHRONOUS, "sync", "async"),
    (libc::MS_DIRSYNC, "dirsync", "nodirsync"),
];

/// Words for mount(8), fstab(5) and systemd, which mean nothing to a file system. `default_permissions` is among them
/// because it is always on: the volume leaves permissions to the kernel.
const IGNORED: &[&str] = &[
    "defaults",
    "auto",
    "noauto",
    "user",
    "users",
    "nouser",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "silent",
    "loud",
    "relatime",
    "norelatime",
    "strictatime",
    "lazytime",
    "nolazytime",
    "nonempty",
    "default_permissions",
];

/// Beginnings of words that are ignored the same way.
const IGNORED_PREFIXES: &[&str] = &["x-", "X-", "comment=", "subtype="];

/// Who may use the mount besides the user who made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Nobody else; not even root.
    #[default]
    Owner,
    /// Root (`allow_root`).
    OwnerAndRoot,
    /// Everybody, as far as permissions let (`allow_other`).
    Everybody,
}

/// How a volume is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// What the mount table shows as the source: `fsname=`.
    pub source: String,
    /// Who may use the mount.
    pub access: Access,
    /// Whether `.expired` is listed in the root: `expired=shown` (the default) or `expired=hidden`.
    pub expired_listed: bool,
    /// Threads that serve requests, 1 to [`MAX_THREADS`]: `threads=`.
    pub threads: usize,
    /// Most bytes of one read request: `max_read=`; `None` leaves it to the kernel.
    pub max_read: Option<u32>,
    /// Whether large media of a volume without a cipher are read by the kernel alone, unverified: `pass_through`.
    pub pass_through: bool,
    /// Flags for mount(2); nosuid and nodev unless lifted by `suid` and `dev`.
    pub(super) flags: c_ulong,
}

impl Default for MountOptions {
    fn default() -> MountOptions {
        MountOptions {
            source: DEFAULT_SOURCE.to_owned(),
            access: Access::Owner,
            expired_listed: true,
            threads: DEFAULT_THREADS,
            max_read: None,
            pass_through: false,
            flags: libc::MS_NOSUID | libc::MS_NODEV,
        }
    }
}

impl MountOptions {
    /// Reads the arguments of `-o`, each a comma-separated list; later words win. `\,` is a comma within a value.
    ///
    /// # Errors
    /// [`Kind::Invalid`] for a word that is not known (the message names it and the known ones), a value that makes no
    /// sense, or `allow_other` together with `allow_root`.
    pub fn parse<S: AsRef<str>>(lists: &[S]) -> Result<MountOptions> {
        let mut options = MountOptions::default();
        for word in lists.iter().flat_map(|list| split(list.as_ref())) {
            options.take(&word)?;
        }
        Ok(options)
    }

    /// Whether the mount refuses changes.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.flags & libc::MS_RDONLY != 0
    }

    fn take(&mut self, word: &str) -> Result<()> {
        if self.take_flag(word) || is_ignored(word) {
            return Ok(());
        }
        match word.split_once('=') {
            Some(("fsname", value)) => self.source = source(value)?,
            Some(("expired", "shown")) => self.expired_listed = true,
            Some(("expired", "hidden")) => self.expired_listed = false,
            Some(("expired", _)) => return Err(invalid(word, "`expired` is `shown` or `hidden`")),
            Some(("threads", value)) => self.threads = threads(word, value)?,
            Some(("max_read", value)) => self.max_read = Some(max_read(word, value)?),
            None if word == "pass_through" => self.pass_through = true,
            None if word == "allow_other" => self.access = self.widened(Access::Everybody)?,
            None if word == "allow_root" => self.access = self.widened(Access::OwnerAndRoot)?,
            _ => return Err(unknown(word)),
        }
        Ok(())
    }

    fn take_flag(&mut self, word: &str) -> bool {
        for &(bit, set, clear) in FLAGS {
            if word == set {
                self.flags |= bit;
                return true;
            }
            if word == clear {
                self.flags &= !bit;
                return true;
            }
        }
        false
    }

    fn widened(&self, wanted: Access) -> Result<Access> {
        if self.access != Access::Owner && self.access != wanted {
            return Err(Error::new(Kind::Invalid, "mount options `allow_other` and `allow_root` exclude each other"));
        }
        Ok(wanted)
    }

    /// Options of the FUSE kernel module, the descriptor and the owner included.
    pub(super) fn kernel_words(&self, fd: i32, owner: (u32, u32)) -> String {
        let (uid, gid) = owner;
        let mut words = format!("fd={fd},rootmode=40000,user_id={uid},group_id={gid},default_permissions");
        if self.access != Access::Owner {
            words.push_str(",allow_other");
        }
        if let Some(bytes) = self.max_read {
            let _ = write!(words, ",max_read={bytes}");
        }
        words
    }

    /// What the kernel keeps of them for as long as the mount is there.
    pub(super) fn agreed_words(&self) -> String {
        format!("{:x},{}", self.flags, self.kernel_words(0, (0, 0)))
    }

    /// The same for `fusermount3 -o`, which adds descriptor and owner by itself.
    pub(super) fn fusermount_words(&self) -> String {
        let source = self.source.replace('\\', "\\\\").replace(',', "\\,");
        let mut words = format!("subtype=wamedia,fsname={source},default_permissions");
        for &(bit, set, _) in FLAGS {
            if self.flags & bit != 0 {
                words.push(',');
                words.push_str(set);
            }
        }
        if self.access != Access::Owner {
            words.push_str(",allow_other");
        }
        if let Some(bytes) = self.max_read {
            let _ = write!(words, ",max_read={bytes}");
        }
        words
    }
}

/// The words of a list; empty ones are left out.
fn split(list: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word = String::new();
    let mut letters = list.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if matches!(letters.peek(), Some(',' | '\\')) => word.extend(letters.next()),
            ',' => words.push(std::mem::take(&mut word)),
            _ => word.push(letter),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}

fn is_ignored(word: &str) -> bool {
    IGNORED.contains(&word) || IGNORED_PREFIXES.iter().any(|prefix| word.starts_with(prefix))
}

fn source(value: &str) -> Result<String> {
    if value.is_empty() || value.contains(['\0', '\n']) {
        return Err(Error::new(Kind::Invalid, "mount option `fsname` needs a name without line breaks"));
    }
    Ok(value.to_owned())
}

fn threads(word: &str, value: &str) -> Result<usize> {
    match value.parse() {
        Ok(count @ 1..=MAX_THREADS) => Ok(count),
        _ => Err(invalid(word, &format!("`threads` is a number from 1 to {MAX_THREADS}"))),
    }
}

fn max_read(word: &str, value: &str) -> Result<u32> {
    match value.parse() {
        Ok(bytes @ 4096..) => Ok(bytes),
        _ => Err(invalid(word, "`max_read` is a number of bytes, at least 4096")),
    }
}

fn invalid(word: &str, rule: &str) -> Error {
    Error::new(Kind::Invalid, format!("mount option `{word}`: {rule}"))
}

fn unknown(word: &str) -> Error {
    let mut known = String::from(
        "allow_other, allow_root, default_permissions, expired=shown|hidden, fsname=, max_read=, pass_through, threads=",
    );
    for (_, set, clear) in FLAGS {
        let _ = write!(known, ", {set}, {clear}");
    }
    Error::new(Kind::Invalid, format!("unknown mount option `{word}`; known are: {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(list: &str) -> MountOptions {
        MountOptions::parse(&[list]).unwrap()
    }

    #[test]
    fn nothing_means_private_nosuid_nodev_and_expired_shown() {
        let options = parse("");
        assert_eq!(options, MountOptions::default());
        assert_eq!(options.flags, libc::MS_NOSUID | libc::MS_NODEV);
        assert!(options.expired_listed);
        assert!(!options.read_only() && !options.pass_through);
        assert!(parse("ro,pass_through").pass_through);
    }

    #[test]
    fn words_for_mount_and_systemd_are_ignored() {
        let list = "defaults,noauto,nofail,_netdev,user,x-systemd.automount,x-systemd.idle-timeout=3s,comment=a";
        assert_eq!(parse(list), MountOptions::default());
    }

    #[test]
    fn the_later_word_wins() {
        assert!(parse("rw,ro").read_only());
        assert!(!parse("ro,rw").read_only());
        assert_eq!(parse("suid,dev").flags, 0);
        assert!(!MountOptions::parse(&["expired=shown", "noexec,expired=hidden"]).unwrap().expired_listed);
    }

    #[test]
    fn an_unknown_word_is_named_together_with_the_known_ones() {
        let error = MountOptions::parse(&["ro,fsnmae=x"]).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid);
        let text = error.to_string();
        assert!(text.contains("`fsnmae=x`") && text.contains("fsname=") && text.contains("noatime"), "{text}");
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        for list in
            ["threads=0", "threads=65", "threads=", "expired=maybe", "max_read=12", "fsname=", "allow_root,allow_other"]
        {
            assert_eq!(MountOptions::parse(&[list]).unwrap_err().kind(), Kind::Invalid, "{list}");
        }
        assert_eq!(parse("threads=1").threads, 1);
        assert_eq!(parse("threads=64").threads, 64);
    }

    #[test]
    fn a_comma_in_the_source_survives_the_way_through_fusermount() {
        let options = parse(r"fsname=a\,b\\c");
        assert_eq!(options.source, r"a,b\c");
        assert!(options.fusermount_words().contains(r"fsname=a\,b\\c,"));
    }

    #[test]
    fn the_kernel_gets_no_option_that_it_does_not_know() {
        let words = parse("allow_root,noexec,fsname=x,max_read=65536").kernel_words(7, (1, 2));
        assert_eq!(words, "fd=7,rootmode=40000,user_id=1,group_id=2,default_permissions,allow_other,max_read=65536");
    }
}
