//! Extended attributes: those that are stored, and those that tell what the volume knows.

use std::time::Duration;

use super::Volume;
use super::facts::hex;
use super::types::{FileKind, XattrMode};
use crate::clock::{self, Timestamp};
use crate::error::{Error, Kind, Result};
use crate::format::attributes::{MAX_XATTR_LEN, MAX_XATTRS_LEN};
use crate::ids::Ino;

/// The longest name of an extended attribute (`XATTR_NAME_MAX`).
const MAX_XATTR_NAME: usize = 255;
const MIME: &[u8] = b"user.mime_type";
const OURS: &[u8] = b"user.wamedia.";
const HOLD: &[u8] = b"user.wamedia.hold";
const RETENTION: &[u8] = b"user.wamedia.retention";
/// What names of attributes begin with; `system.` is for access control lists, which the volume has not.
const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
/// The longest MIME type that can be set.
const MAX_MIME: usize = 255;

fn none() -> Error {
    Kind::NoAttribute.into()
}

/// The label of a security module. `ls -l` asks each file for it, but no further one of a file system that has none.
const LABEL: &[u8] = b"security.selinux";

/// The failure to find an attribute, which one without a namespace can never have been.
fn absent(name: &[u8]) -> Error {
    if name == LABEL {
        return Error::new(Kind::Unsupported, "nothing is labelled here");
    }
    require_namespace(name).err().unwrap_or_else(none)
}

fn refused(name: &[u8]) -> Error {
    Error::new(Kind::NotPermitted, format!("{} tells what is and cannot be set", String::from_utf8_lossy(name)))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, message)
}

/// A time as RFC 3339 in UTC, to the second.
fn utc(at: Timestamp) -> String {
    jiff::Timestamp::from_second(at.secs).map_or_else(|_| at.secs.to_string(), |t| t.to_string())
}

/// Reads `30d`, `12h`, `forever`.
fn parse_keep(value: &[u8]) -> Result<Option<Duration>> {
    let text = std::str::from_utf8(value).map_err(|_| invalid("a retention is text such as 30d or forever"))?;
    match text.trim() {
        "forever" => Ok(None),
        other => match humantime::parse_duration(other) {
            Ok(keep) if keep < Duration::from_secs(1) => {
                Err(invalid("a retention of zero would make the medium expire at once"))
            }
            Ok(keep) => Ok(Some(keep)),
            Err(e) => Err(invalid(format!("a retention is written 30d, 12h or forever, not `{other}` ({e})"))),
        },
    }
}

/// Refuses the names that no other file system takes either, as they do.
fn require_namespace(name: &[u8]) -> Result<()> {
    match NAMESPACES.iter().find_map(|namespace| name.strip_prefix(*namespace)) {
        None => Err(Error::new(Kind::Unsupported, "the name of an attribute begins with user., trusted. or security.")),
        Some(b"") => Err(invalid("an attribute has a name behind its namespace")),
        Some(_) => Ok(()),
    }
}

impl Volume {
    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `NoAttribute`, `NotFound`; `Damaged` where the bytes have to be read for it.
    pub fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        if name.starts_with(OURS) || (name == MIME && self.is_regular(ino)?) {
            return self.computed(ino, name);
        }
        self.inode(ino)?.state.read().record.attrs.xattrs.get(name).cloned().ok_or_else(|| absent(name))
    }

    fn computed(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        let inode = self.inode(ino)?;
        let kind = inode.state.read().record.attrs.kind;
        if ino == Ino::ROOT {
            return self.of_root(name);
        }
        if kind != FileKind::Regular {
            return Err(none());
        }
        let state = || inode.state.read();
        let text = match name {
            MIME => {
                let set = state().record.attrs.mime_set.clone();
                set.map_or_else(|| self.inspect(ino).map(|f| f.mime), Ok)?
            }
            b"user.wamedia.id" => self.id_of(ino)?.to_string(),
            b"user.wamedia.sha256" => hex(&self.digest(ino)?),
            b"user.wamedia.kind" => self.medium_kind(ino)?,
            b"user.wamedia.verdict" => Volume::verdict_text(&self.inspect(ino)?).ok_or_else(none)?,
            b"user.wamedia.expires" => {
                let state = state();
                self.expires_at(&state.record).map_or_else(|| "never".to_owned(), utc)
            }
            b"user.wamedia.path" => return self.path_of(ino),
            HOLD => state().record.attrs.held.map(utc).ok_or_else(none)?,
            RETENTION => match state().record.attrs.retention.ok_or_else(none)? {
                u64::MAX => "forever".to_owned(),
                secs => clock::short(Duration::from_secs(secs)),
            },
            _ => return Err(none()),
        };
        Ok(text.into_bytes())
    }

    fn medium_kind(&self, ino: Ino) -> Result<String> {
        self.inspect(ino)?;
        Ok(self.medium(ino, false)?.kind)
    }

    fn of_root(&self, name: &[u8]) -> Result<Vec<u8>> {
        let policy = self.policy();
        let (bytes, media, _) = self.quota.used();
        let text = match name {
            b"user.wamedia.quota.max_bytes" => policy.max_bytes.ok_or_else(none)?.to_string(),
            b"user.wamedia.quota.used_bytes" => bytes.to_string(),
            b"user.wamedia.quota.media" => media.to_string(),
            b"user.wamedia.quota.expired" => {
                self.settle();
                self.expired_totals()?.0.to_string()
            }
            b"user.wamedia.volume" => self.id.to_string(),
            b"user.wamedia.store" => {
                use std::os::unix::ffi::OsStrExt;
                return Ok(self.layout.root().as_os_str().as_bytes().to_vec());
            }
            _ => return Err(none()),
        };
        Ok(text.into_bytes())
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// `Exists`, `NoAttribute` as `mode` says; `TooBig`, `NoSpace` for values beyond the bounds; `Unsupported` for
    /// access control lists and names without a namespace; `NotPermitted` for what only tells; `Invalid`, `Poisoned`.
    pub fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode) -> Result<()> {
        if name.len() > MAX_XATTR_NAME {
            return Err(Error::new(Kind::TooSmall, "the name of an attribute is at most 255 bytes long"));
        }
        if value.len() > MAX_XATTR_LEN {
            return Err(Error::new(Kind::TooBig, format!("a value is at most {MAX_XATTR_LEN} bytes long")));
        }
        require_namespace(name)?;
        match name {
            HOLD => {
                let held = is_yes(value)?;
                self.expect_mode(ino, name, mode)?;
                return self.hold(ino, held);
            }
            RETENTION => {
                let keep = parse_keep(value)?;
                self.expect_mode(ino, name, mode)?;
                return self.set_medium_retention(ino, Some(keep));
            }
            MIME if self.is_regular(ino)? => {
                self.expect_mode(ino, name, mode)?;
                return self.set_mime(ino, Some(value));
            }
            _ if name.starts_with(OURS) => return self.set_again(ino, name, value),
            _ => {}
        }
        self.change_xattr(ino, name.len() + value.len(), |xattrs| {
            let old = xattrs.get(name).map(Vec::len);
            allows(mode, old.is_some())?;
            let total: usize = xattrs.iter().map(|(n, v)| n.len() + v.len()).sum();
            if total + name.len() + value.len() - old.unwrap_or(0) > MAX_XATTRS_LEN {
                return Err(Error::new(
                    Kind::NoSpace,
                    format!("attributes of a file are at most {MAX_XATTRS_LEN} bytes"),
                ));
            }
            xattrs.insert(name.to_vec(), value.to_vec());
            Ok(())
        })
    }

    /// Refuses an attribute that is kept in a field of its own as `mode` says. It is set when it is listed.
    fn expect_mode(&self, ino: Ino, name: &[u8], mode: XattrMode) -> Result<()> {
        if mode == XattrMode::Any {
            return Ok(());
        }
        allows(mode, self.list_xattr(ino)?.iter().any(|n| n == name))
    }

    fn is_regular(&self, ino: Ino) -> Result<bool> {
        Ok(self.inode(ino)?.state.read().record.is_medium())
    }

    /// Tools that copy attributes set what they read: the same value is no change.
    fn set_again(&self, ino: Ino, name: &[u8], value: &[u8]) -> Result<()> {
        match self.computed(ino, name) {
            Ok(current) if current == value => Ok(()),
            _ => Err(refused(name)),
        }
    }

    /// Changes attributes by `more` bytes, for which a full disk must have room; taking some away is always possible.
    fn change_xattr(
        &self,
        ino: Ino,
        more: usize,
        change: impl FnOnce(&mut std::collections::BTreeMap<Vec<u8>, Vec<u8>>) -> Result<()>,
    ) -> Result<()> {
        let inode = self.inode(ino)?;
        let mut state = inode.state.write();
        self.store.latch().pass()?;
        if more > 0 {
            self.room_for_attributes(&state, more)?;
        }
        self.note_change(&inode, &state)?;
        change(&mut state.record.attrs.xattrs)?;
        state.record.attrs.ctime = self.clock.now();
        self.attrs_changed(&inode, &mut state)
    }

    fn set_mime(&self, ino: Ino, value: Option<&[u8]>) -> Result<()> {
        let mime = value.map(|value| match std::str::from_utf8(value) {
            Ok(text) if is_mime(text) => Ok(text.to_owned()),
            _ => Err(invalid("a MIME type is written type/subtype, at most 255 characters")),
        });
        let mime = mime.transpose()?;
        let inode = self.inode(ino)?;
        let mut state = inode.state.write();
        self.store.latch().pass()?;
        self.note_change(&inode, &state)?;
        state.record.attrs.mime_set = mime;
        state.record.attrs.ctime = self.clock.now();
        self.attrs_changed(&inode, &mut state)
    }

    /// The names of the attributes that are set. Those that only tell are not listed, so that copying tools, which set
    /// what they find, work.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn list_xattr(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        let inode = self.inode(ino)?;
        let state = inode.state.read();
        let attrs = &state.record.attrs;
        let mut names: Vec<Vec<u8>> = attrs.xattrs.keys().cloned().collect();
        let ours =
            [(MIME, attrs.mime_set.is_some()), (HOLD, attrs.held.is_some()), (RETENTION, attrs.retention.is_some())];
        names.extend(ours.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name.to_vec()));
        Ok(names)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `NoAttribute`, `NotPermitted` for what only tells, `Poisoned`.
    pub fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        let is_set = self.list_xattr(ino)?.iter().any(|n| n == name);
        match name {
            HOLD | RETENTION | MIME if !is_set => return Err(none()),
            HOLD => return self.hold(ino, false),
            RETENTION => return self.set_medium_retention(ino, None),
            MIME if self.is_regular(ino)? => return self.set_mime(ino, None),
            _ if name.starts_with(OURS) => return Err(refused(name)),
            _ if name.starts_with(b"system.") => return Err(Kind::Unsupported.into()),
            _ => {}
        }
        self.change_xattr(ino, 0, |xattrs| xattrs.remove(name).map(|_| ()).ok_or_else(|| absent(name)))
    }
}

/// Refuses to create what is set, and to replace what is not.
fn allows(mode: XattrMode, is_set: bool) -> Result<()> {
    match (mode, is_set) {
        (XattrMode::Create, true) => Err(Kind::Exists.into()),
        (XattrMode::Replace, false) => Err(none()),
        _ => Ok(()),
    }
}

/// Whether `value` puts a hold on: anything but `0`, `no`, `false`, `off`. A time, as reading gives it, does.
fn is_yes(value: &[u8]) -> Result<bool> {
    match value {
        b"" | b"0" | b"no" | b"false" | b"off" => Ok(false),
        b"1" | b"yes" | b"true" | b"on" => Ok(true),
        other => {
            let time = std::str::from_utf8(other).ok().and_then(|t| t.parse::<jiff::Timestamp>().ok());
            time.map(|_| true).ok_or_else(|| invalid("a hold is set with 1 and released with 0"))
        }
    }
}

fn is_mime(text: &str) -> bool {
    let is_printable = text.len() <= MAX_MIME && text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    is_printable && text.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_label_is_one_that_no_file_has() {
        assert_eq!(absent(LABEL).kind(), Kind::Unsupported);
        assert_eq!(absent(b"security.capability").kind(), Kind::NoAttribute);
        assert_eq!(absent(b"user.a").kind(), Kind::NoAttribute);
    }

    #[test]
    fn names_of_attributes_need_a_namespace_that_others_take() {
        for name in [&b"user.a"[..], b"trusted.a", b"security.selinux"] {
            assert!(require_namespace(name).is_ok(), "{name:?}");
        }
        for name in [&b"foo"[..], b"", b"userx", b"User.a", b"system.posix_acl_access", b".a"] {
            assert_eq!(require_namespace(name).unwrap_err().kind(), Kind::Unsupported, "{name:?}");
        }
        assert_eq!(require_namespace(b"user.").unwrap_err().kind(), Kind::Invalid);
    }

    #[test]
    fn holds_and_types_are_read_strictly() {
        assert!(is_yes(b"1").unwrap() && is_yes(b"2026-01-01T00:00:00Z").unwrap());
        assert!(!is_yes(b"0").unwrap());
        assert!(is_yes(b"maybe").is_err());
        assert!(is_mime("audio/ogg; codecs=opus") && !is_mime("jpeg") && !is_mime("a/\n"));
        assert_eq!(parse_keep(b"forever").unwrap(), None);
        assert_eq!(parse_keep(b"30d").unwrap(), Some(Duration::from_secs(30 * 86400)));
        for text in [&b"soon"[..], b"0d", b"0s", b""] {
            assert!(parse_keep(text).is_err(), "{text:?}");
        }
    }
}
