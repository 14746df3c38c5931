//! Sizes, times and names as people read them.

use bytesize::ByteSize;
use jiff::tz::TimeZone;

use crate::clock::Timestamp;

/// Bytes in binary units.
#[must_use]
pub fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// A point in time in the local time zone, to the second.
#[must_use]
pub fn time(at: Timestamp) -> String {
    match at.civil() {
        Some(at) => at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => format!("@{}", at.secs),
    }
}

/// Text from the volume without what a terminal would obey: control characters become `\x1b` and the like.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || is_bidirectional(letter) {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    safe
}

/// Marks that turn the direction of what follows, with which a name can pose as another.
fn is_bidirectional(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `1 medium`, `2 media`.
#[must_use]
pub fn media_count(count: u64) -> String {
    match count {
        1 => "1 medium".to_owned(),
        count => format!("{count} media"),
    }
}
