//! Extended attributes as the tests read them.

use std::path::Path;

use rustix::io::Errno;

/// The value of an attribute, or the errno.
pub fn get(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 65536];
    let len = rustix::fs::lgetxattr(path, name, &mut value[..])?;
    value.truncate(len);
    Ok(value)
}

/// The value of an attribute as text; panics when there is none.
pub fn text(path: &Path, name: &str) -> String {
    let value = get(path, name).unwrap_or_else(|e| panic!("{}: {name}: {e}", path.display()));
    String::from_utf8(value).unwrap_or_else(|e| panic!("{}: {name} is no text: {e}", path.display()))
}

/// The value of an attribute as a number; panics when there is none.
pub fn number(path: &Path, name: &str) -> u64 {
    let value = text(path, name);
    value.trim().parse().unwrap_or_else(|e| panic!("{}: {name} = {value:?}: {e}", path.display()))
}

/// The names of all attributes, sorted.
pub fn list(path: &Path) -> Result<Vec<String>, Errno> {
    let mut names = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut names[..])?;
    let mut list: Vec<String> = names[..len]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    list.sort();
    Ok(list)
}
