//! Reads the values people write: sizes, durations, reserves, retention rules. Pure functions for clap.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::control::{Keep, Limit, Mark};
use crate::volume::{Reserve, ReserveAmount, RetentionRule, Selector};

/// Why a value is refused, as a sentence part that clap puts behind the value.
type Refused = String;

/// The class a reserve may be for.
const CLASSES: [&str; 1] = ["uploads"];
/// Digits behind the point of a size.
const MAX_FRACTION_DIGITS: usize = 9;

/// Bytes: plain, or with a unit. `kB MB GB TB` are powers of 1000, `KiB MiB GiB TiB` and the bare letters `K M G T`
/// powers of 1024. A fraction is allowed with a unit.
///
/// # Errors
/// When it is none, or beyond 2^64 - 1 bytes.
pub fn size(text: &str) -> Result<u64, Refused> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = unit_bytes(unit.trim()).ok_or_else(|| size_hint(text))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let has_bad_fraction = number.contains('.') && (fraction.is_empty() || fraction.contains('.') || factor == 1);
    if whole.is_empty() || has_bad_fraction || fraction.len() > MAX_FRACTION_DIGITS {
        return Err(size_hint(text));
    }
    let too_large = || format!("`{text}` is more than a volume can hold");
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let bytes = whole.checked_mul(factor).ok_or_else(too_large)?;
    bytes.checked_add(fraction_bytes(fraction, factor)).ok_or_else(too_large)
}

fn size_hint(text: &str) -> Refused {
    format!("`{text}` is no size; write bytes, or for example 8MiB, 1.5GiB, 50GB")
}

fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    let (power, base) = match unit.as_str() {
        "" | "b" => (0, 1),
        "kb" => (1, 1000),
        "mb" => (2, 1000),
        "gb" => (3, 1000),
        "tb" => (4, 1000),
        "k" | "kib" => (1, 1024),
        "m" | "mib" => (2, 1024),
        "g" | "gib" => (3, 1024),
        "t" | "tib" => (4, 1024),
        _ => return None,
    };
    Some(u64::pow(base, power))
}

/// The bytes of `0.<fraction>` units, rounded down; at most [`MAX_FRACTION_DIGITS`].
fn fraction_bytes(fraction: &str, factor: u64) -> u64 {
    let digits: u128 = fraction.parse().unwrap_or(0);
    let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    u64::try_from(digits * u128::from(factor) / scale).unwrap_or(u64::MAX)
}

/// A size above zero, or `none`.
///
/// # Errors
/// When it is neither.
pub fn size_limit(text: &str) -> Result<Limit, Refused> {
    match text.trim() {
        "none" => Ok(Limit::None),
        text => above_zero(size(text)?),
    }
}

/// A count above zero, or `none`.
///
/// # Errors
/// When it is neither.
pub fn count_limit(text: &str) -> Result<Limit, Refused> {
    match text.trim() {
        "none" => Ok(Limit::None),
        text => {
            above_zero(text.parse().map_err(|_| format!("`{text}` is no count; write a number above zero, or none"))?)
        }
    }
}

fn above_zero(number: u64) -> Result<Limit, Refused> {
    match number {
        0 => Err("a quota of 0 would refuse everything; write none for no quota".to_owned()),
        number => Ok(Limit::At(number)),
    }
}

/// A time: `30d`, `12h`, `1h 30m`, ...
///
/// # Errors
/// When it is none, or zero.
pub fn duration(text: &str) -> Result<Duration, Refused> {
    match humantime::parse_duration(text.trim()) {
        Ok(Duration::ZERO) => Err("a time of zero makes no sense here".to_owned()),
        Ok(time) => Ok(time),
        Err(_) => Err(format!("`{text}` is no time; write for example 30d, 12h, 90m")),
    }
}

/// How often something is looked at: 200 ms to 30 s.
///
/// # Errors
/// When it is no such time.
pub fn glance(text: &str) -> Result<Duration, Refused> {
    let time = duration(text)?;
    match (Duration::from_millis(200)..=Duration::from_secs(30)).contains(&time) {
        true => Ok(time),
        false => Err("it is 200ms to 30s".to_owned()),
    }
}

/// How often something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Never.
    Off,
    /// Once in this time.
    Every(Duration),
}

/// How often something is done: a time, or `off`.
///
/// # Errors
/// When it is neither.
pub fn period(text: &str) -> Result<Period, Refused> {
    match text.trim() {
        "off" => Ok(Period::Off),
        text => duration(text).map(Period::Every).map_err(|why| format!("{why}, off")),
    }
}

/// How long something is kept: a time, or `forever`.
///
/// # Errors
/// When it is neither.
pub fn keep(text: &str) -> Result<Keep, Refused> {
    match text.trim() {
        "forever" => Ok(Keep::Forever),
        "0" | "0s" => Err("a retention of zero would make everything expire at once".to_owned()),
        text => duration(text).map(Keep::For).map_err(|why| format!("{why}, forever")),
    }
}

/// How long something is waited for: a time, `0` too.
///
/// # Errors
/// When it is none.
pub fn grace(text: &str) -> Result<Duration, Refused> {
    match text.trim() {
        "0" | "0s" => Ok(Duration::ZERO),
        text => duration(text),
    }
}

/// A watermark: `1%` to `100%`, or `none`.
///
/// # Errors
/// When it is neither.
pub fn mark(text: &str) -> Result<Mark, Refused> {
    let text = text.trim();
    let percent = || text.strip_suffix('%')?.trim().parse().ok().filter(|percent| (1..=100).contains(percent));
    match text {
        "none" => Ok(Mark::None),
        _ => percent().map(Mark::At).ok_or_else(|| format!("`{text}` is no mark; write 1% to 100%, or none")),
    }
}

/// Who owns a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// An owner: `1000:1000`, or `1000` for the group of the same number.
///
/// # Errors
/// When it is none.
pub fn owner(text: &str) -> Result<Owner, Refused> {
    let refused = || format!("`{text}` is no owner; write for example 1000:1000");
    let (uid, gid) = text.split_once(':').unwrap_or((text, text));
    // The highest number means "unchanged" to chown(2).
    let number = |text: &str| text.parse().ok().filter(|id| *id != u32::MAX).ok_or_else(refused);
    Ok(Owner { uid: number(uid)?, gid: number(gid)? })
}

/// The mode of a directory, in octal: `0775`.
///
/// # Errors
/// When it is none.
pub fn mode(text: &str) -> Result<u32, Refused> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("`{text}` is no mode; write for example 0775"))
}

/// A reserve: `uploads=10%` or `uploads=1GiB`; 0 takes it away.
///
/// # Errors
/// When it is none.
pub fn reserve(text: &str) -> Result<Reserve, Refused> {
    let (class, amount) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is no reserve; write for example uploads=10%"))?;
    if !CLASSES.contains(&class) {
        return Err(format!("`{class}` is no class of media with a reserve; known: {}", CLASSES.join(", ")));
    }
    let amount = match amount.strip_suffix('%') {
        Some(percent) => match percent.parse::<u8>() {
            Ok(percent @ 0..=100) => ReserveAmount::Percent(percent),
            _ => return Err(format!("`{amount}` is no share; write 0% to 100%")),
        },
        None => ReserveAmount::Bytes(size(amount)?),
    };
    Ok(Reserve { class: class.to_owned(), amount })
}

/// A MIME type or `type/*`, in lower case, with its parameters if it has some: `audio/ogg; codecs=opus`.
///
/// # Errors
/// When it is neither.
pub fn mime_pattern(text: &str) -> Result<String, Refused> {
    let refused = || format!("`{text}` is no type; write for example image/jpeg or image/*");
    let lower = text.to_ascii_lowercase();
    let mut parts = lower.split(';').map(str::trim);
    let name = parts.next().filter(|name| is_type_name(name)).ok_or_else(refused)?;
    let parameters: Vec<String> = parts.map(parameter).collect::<Option<_>>().ok_or_else(refused)?;
    if name.ends_with("/*") && !parameters.is_empty() {
        return Err(refused());
    }
    Ok(std::iter::once(name.to_owned()).chain(parameters).collect::<Vec<_>>().join("; "))
}

fn is_token(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
}

fn is_type_name(name: &str) -> bool {
    name.split_once('/').is_some_and(|(kind, sub)| is_token(kind) && (sub == "*" || is_token(sub)))
}

/// A parameter of a type, without blanks around its `=`.
fn parameter(text: &str) -> Option<String> {
    let (name, value) = text.split_once('=').map(|(name, value)| (name.trim(), value.trim()))?;
    let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    let is_value = !bare.is_empty() && bare.bytes().all(|b| b == b' ' || (b.is_ascii_graphic() && b != b'"'));
    (is_token(name) && is_value).then(|| format!("{name}={value}"))
}

/// A directory of the volume, as a path from its root without slashes at the ends.
///
/// # Errors
/// When it is the root, or has empty, `.` or `..` parts.
pub fn directory(text: &str) -> Result<String, Refused> {
    let path = text.trim_matches('/');
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("`{text}` is no directory below the root of the volume; write for example outgoing"));
    }
    Ok(path.to_owned())
}

/// A point in time: RFC 3339, or how long ago it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At this time.
    At(Timestamp),
    /// So long ago.
    Ago(Duration),
}

impl When {
    /// The point in time, seen from `now`.
    #[must_use]
    pub fn from(self, now: Timestamp) -> Timestamp {
        match self {
            When::At(at) => at,
            When::Ago(ago) => now.plus_secs(-i64::try_from(ago.as_secs()).unwrap_or(i64::MAX)),
        }
    }
}

/// A point in time: `2024-05-01T12:00:00Z`, or `7d` for seven days ago.
///
/// # Errors
/// When it is neither.
pub fn when(text: &str) -> Result<When, Refused> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        let nanos = at.subsec_nanosecond();
        let (secs, nanos) =
            if nanos < 0 { (at.as_second() - 1, nanos + 1_000_000_000) } else { (at.as_second(), nanos) };
        return Ok(When::At(Timestamp { secs, nanos: u32::try_from(nanos).unwrap_or(0) }));
    }
    let refused = |_| format!("`{text}` is no time; write 2024-05-01T12:00:00Z, or 7d for seven days ago");
    duration(text).map(When::Ago).map_err(refused)
}

/// An extended attribute and its value: `user.customer=4711`.
///
/// # Errors
/// When it is none.
pub fn attribute(text: &str) -> Result<(String, String), Refused> {
    match text.split_once('=') {
        Some((name, value))
            if name.split_once('.').is_some_and(|(space, rest)| !space.is_empty() && !rest.is_empty()) =>
        {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(format!("`{text}` is no attribute with its value; write for example user.customer=4711")),
    }
}

/// A retention rule for a type: `image/*=7d`.
///
/// # Errors
/// When it is none.
pub fn type_rule(text: &str) -> Result<RetentionRule, Refused> {
    rule(text, "image/*=7d", |mime| mime_pattern(mime).map(Selector::Type))
}

/// A retention rule for a directory: `outgoing=3d`.
///
/// # Errors
/// When it is none.
pub fn prefix_rule(text: &str) -> Result<RetentionRule, Refused> {
    rule(text, "outgoing=3d", |path| directory(path).map(Selector::Prefix))
}

fn rule(
    text: &str,
    example: &str,
    selector: impl Fn(&str) -> Result<Selector, Refused>,
) -> Result<RetentionRule, Refused> {
    let (what, time) =
        text.rsplit_once('=').ok_or_else(|| format!("`{text}` is no rule; write for example {example}"))?;
    Ok(RetentionRule { selector: selector(what)?, keep: keep(time)?.as_option() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("8MiB", 8 << 20),
            ("8 MiB", 8 << 20),
            ("8mib", 8 << 20),
            ("8M", 8 << 20),
            ("50GB", 50_000_000_000),
            ("1.5GiB", 3 << 29),
            ("0.5kB", 500),
            ("16B", 16),
            ("2T", 2 << 40),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            " ",
            "x",
            "-1",
            "1.5",
            "1.",
            ".5G",
            "1..2G",
            "1PB",
            "8 Mi B",
            "1e9",
            "18446744073709551616",
            "99999999999TiB",
            "1.0000000001G",
        ] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_are_sizes_above_zero_or_none() {
        assert_eq!(size_limit("none"), Ok(Limit::None));
        assert_eq!(size_limit("1k"), Ok(Limit::At(1024)));
        assert!(size_limit("0").is_err());
        assert_eq!(count_limit("7"), Ok(Limit::At(7)));
        assert_eq!(count_limit("none"), Ok(Limit::None));
        for text in ["0", "1k", "-1", ""] {
            assert!(count_limit(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(keep("30d"), Ok(Keep::For(Duration::from_secs(30 * 86400))));
        assert_eq!(keep("12h"), Ok(Keep::For(Duration::from_secs(12 * 3600))));
        assert_eq!(keep("1h 30m"), Ok(Keep::For(Duration::from_secs(5400))));
        assert_eq!(keep("forever"), Ok(Keep::Forever));
        for text in ["", "0", "0s", "0d", "30", "d", "-1d", "ever"] {
            assert!(keep(text).is_err(), "{text}");
        }
        assert!(duration("forever").is_err());
    }

    #[test]
    fn reserves_are_shares_or_sizes() {
        assert_eq!(reserve("uploads=10%").unwrap().amount, ReserveAmount::Percent(10));
        assert_eq!(reserve("uploads=1GiB").unwrap().amount, ReserveAmount::Bytes(1 << 30));
        assert_eq!(reserve("uploads=0").unwrap().amount, ReserveAmount::Bytes(0));
        for text in ["uploads", "uploads=", "uploads=101%", "uploads=-1%", "uploads=1.5%", "downloads=10%", "=10%"] {
            assert!(reserve(text).is_err(), "{text}");
        }
    }

    #[test]
    fn marks_are_shares() {
        assert_eq!((mark("80%"), mark("100%"), mark("none")), (Ok(Mark::At(80)), Ok(Mark::At(100)), Ok(Mark::None)));
        for text in ["80", "0%", "101%", "-1%", "", "%"] {
            assert!(mark(text).is_err(), "{text}");
        }
        assert_eq!((grace("0"), grace("24h")), (Ok(Duration::ZERO), Ok(Duration::from_secs(86_400))));
    }

    #[test]
    fn owners_and_modes_are_numbers() {
        assert_eq!(owner("1000"), Ok(Owner { uid: 1000, gid: 1000 }));
        assert_eq!(owner("0:33"), Ok(Owner { uid: 0, gid: 33 }));
        assert_eq!((mode("0775"), mode("1777")), (Ok(0o775), Ok(0o1777)));
        for text in ["", ":", "1:", ":1", "root", "-1", "4294967295", "1:2:3"] {
            assert!(owner(text).is_err(), "{text}");
        }
        for text in ["", "rwx", "8", "10000", "-1"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rules_name_a_type_or_a_directory() {
        let seven_days = Some(Duration::from_secs(7 * 86400));
        let types = type_rule("Image/*=7d").unwrap();
        assert_eq!(types, RetentionRule { selector: Selector::Type("image/*".into()), keep: seven_days });
        assert_eq!(type_rule("audio/ogg=forever").unwrap().keep, None);
        let prefix = prefix_rule("/out=going/x/=7d").unwrap();
        assert_eq!(prefix, RetentionRule { selector: Selector::Prefix("out=going/x".into()), keep: seven_days });
        let typed = type_rule("Audio/OGG;codecs = opus=7d").unwrap();
        assert_eq!(
            typed,
            RetentionRule { selector: Selector::Type("audio/ogg; codecs=opus".into()), keep: seven_days }
        );
        let several = mime_pattern("video/mp4; codecs=\"avc1.42E01E, mp4a.40.2\"; x=1").unwrap();
        assert_eq!(several, "video/mp4; codecs=\"avc1.42e01e, mp4a.40.2\"; x=1");
        for text in ["audio/ogg;", "audio/ogg; codecs", "audio/ogg; =opus", "audio/ogg; codecs=", "audio/*; codecs=x"] {
            assert!(mime_pattern(text).is_err(), "{text}");
        }
        for text in ["image=7d", "image/*", "/x=7d", "*/*=7d", "image/a b=7d", "image/*=x"] {
            assert!(type_rule(text).is_err(), "{text}");
        }
        for text in ["=7d", "/=7d", "a//b=7d", "../a=7d", "a", "a="] {
            assert!(prefix_rule(text).is_err(), "{text}");
        }
    }
}
