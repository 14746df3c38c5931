//! Everything that a volume shows.

use std::sync::Arc;

use wamedia::error::{Kind, Result};
use wamedia::ids::{FileKind, Ino};
use wamedia::volume::Volume;

use crate::child::XATTR;
use crate::history::{Found, State};

/// More than any workload writes to one file.
const MAX_LEN: usize = 2 << 20;

/// Reads all directories and files.
pub fn read(volume: &Volume) -> Found {
    let mut found = Found::new();
    let mut next = vec![(String::new(), Ino::ROOT)];
    while let Some((above, dir)) = next.pop() {
        let entries = match volume.readdir(dir, 0, usize::MAX, false) {
            Ok(entries) => entries,
            Err(e) => {
                found.insert(above, (State::Unreadable(e.to_string()), None));
                continue;
            }
        };
        for entry in entries {
            let path =
                format!("{above}{}{}", if above.is_empty() { "" } else { "/" }, String::from_utf8_lossy(&entry.name));
            let state = match entry.kind {
                FileKind::Directory => {
                    next.push((path.clone(), entry.ino));
                    Ok(State::Dir)
                }
                _ => content(volume, entry.ino),
            };
            let xattr = match volume.get_xattr(entry.ino, XATTR.as_bytes()) {
                Ok(value) => Some(String::from_utf8_lossy(&value).into_owned()),
                Err(_) => None,
            };
            found.insert(path, (state.unwrap_or_else(|e| State::Unreadable(e.to_string())), xattr));
        }
    }
    found
}

fn content(volume: &Volume, ino: Ino) -> Result<State> {
    let file = volume.open_medium(ino)?;
    let mut bytes = vec![0; MAX_LEN];
    let got = volume.read(&file, 0, &mut bytes);
    volume.close(file);
    bytes.truncate(got?);
    let size = volume.getattr(ino)?.size;
    if size != bytes.len() as u64 {
        return Err(wamedia::error::Error::new(Kind::Damaged, format!("{size} bytes long, {} read", bytes.len())));
    }
    Ok(State::File(Arc::new(bytes)))
}
