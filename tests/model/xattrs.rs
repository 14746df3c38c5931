//! The model's extended attributes.

use wamedia::clock::Timestamp;
use wamedia::error::Kind;
use wamedia::volume::XattrMode;

use crate::tree::{Node, Said};

const MIME: &[u8] = b"user.mime_type";
const HOLD: &[u8] = b"user.wamedia.hold";
const RETENTION: &[u8] = b"user.wamedia.retention";
const MAX_VALUE: usize = 65_536;
const MAX_ALL: usize = 1 << 20;

fn is_set(node: &Node, name: &[u8]) -> bool {
    match name {
        HOLD => node.attrs.held.is_some(),
        RETENTION => node.attrs.retention.is_some(),
        MIME if node.is_medium() => node.attrs.mime.is_some(),
        _ => node.attrs.xattrs.contains_key(name),
    }
}

fn check_mode(node: &Node, name: &[u8], mode: XattrMode) -> Said<()> {
    match (mode, is_set(node, name)) {
        (XattrMode::Create, true) => Err(Kind::Exists),
        (XattrMode::Replace, false) => Err(Kind::NoAttribute),
        _ => Ok(()),
    }
}

fn check_name(name: &[u8]) -> Said<()> {
    match name {
        b"user." => Err(Kind::Invalid),
        _ if name.starts_with(b"system.") => Err(Kind::Unsupported),
        _ => Ok(()),
    }
}

fn medium(node: &Node) -> Said<()> {
    if node.is_medium() { Ok(()) } else { Err(Kind::Invalid) }
}

pub fn set(node: &mut Node, name: &[u8], value: &[u8], mode: XattrMode, now: Timestamp) -> Said<()> {
    if value.len() > MAX_VALUE {
        return Err(Kind::TooBig);
    }
    check_name(name)?;
    match name {
        HOLD => {
            let held = match value {
                b"1" | b"yes" => Some(node.attrs.held.unwrap_or(now)),
                b"0" => None,
                _ => return Err(Kind::Invalid),
            };
            check_mode(node, name, mode)?;
            medium(node)?;
            node.attrs.held = held;
        }
        RETENTION => {
            let own = match value {
                b"forever" => u64::MAX,
                b"7d" => 7 * 86_400,
                b"1h 30m" => 5_400,
                _ => return Err(Kind::Invalid),
            };
            check_mode(node, name, mode)?;
            medium(node)?;
            node.attrs.retention = Some(own);
        }
        MIME if node.is_medium() => {
            check_mode(node, name, mode)?;
            if !value.contains(&b'/') {
                return Err(Kind::Invalid);
            }
            node.attrs.mime = Some(value.to_vec());
        }
        _ if name.starts_with(b"user.wamedia.") => return Err(Kind::NotPermitted),
        _ => {
            check_mode(node, name, mode)?;
            let rest = node.attrs.xattrs.iter().filter(|(other, _)| *other != name);
            let rest: usize = rest.map(|(name, value)| name.len() + value.len()).sum();
            if rest + name.len() + value.len() > MAX_ALL {
                return Err(Kind::NoSpace);
            }
            node.attrs.xattrs.insert(name.to_vec(), value.to_vec());
        }
    }
    Ok(())
}

pub fn remove(node: &mut Node, name: &[u8]) -> Said<()> {
    let is_set = is_set(node, name);
    match name {
        HOLD | RETENTION | MIME if !is_set => return Err(Kind::NoAttribute),
        HOLD => node.attrs.held = None,
        RETENTION => node.attrs.retention = None,
        MIME if node.is_medium() => node.attrs.mime = None,
        _ if name.starts_with(b"user.wamedia.") => return Err(Kind::NotPermitted),
        _ => {
            check_name(name)?;
            node.attrs.xattrs.remove(name).ok_or(Kind::NoAttribute)?;
        }
    }
    Ok(())
}
