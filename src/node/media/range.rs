//! Which bytes of a medium are asked for (RFC 9110, section 14).

/// What a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Everything: no header, one that is to be ignored, or one for several ranges.
    All,
    /// These bytes: first and last.
    Part(u64, u64),
    /// Nothing that there is.
    Nothing,
}

/// Reads the header for a medium of `len` bytes.
#[must_use]
pub fn wanted(header: Option<&str>, len: u64) -> Wanted {
    let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else { return Wanted::All };
    let Some((first, last)) = spec.split_once('-').map(|(first, last)| (first.trim(), last.trim())) else {
        return Wanted::All;
    };
    let number =
        |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().unwrap_or(u64::MAX));
    match (first, last) {
        ("", "") => Wanted::All,
        ("", suffix) => match number(suffix) {
            None => Wanted::All,
            Some(0) => Wanted::Nothing,
            Some(_) if len == 0 => Wanted::Nothing,
            Some(count) => Wanted::Part(len.saturating_sub(count), len - 1),
        },
        (first, last) => match (number(first), if last.is_empty() { Some(u64::MAX) } else { number(last) }) {
            (Some(first), Some(last)) if first <= last => match first < len {
                true => Wanted::Part(first, last.min(len - 1)),
                false => Wanted::Nothing,
            },
            _ => Wanted::All,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_says() {
        for (header, len, expected) in [
            ("bytes=0-0", 10, Wanted::Part(0, 0)),
            ("bytes=2-", 10, Wanted::Part(2, 9)),
            ("bytes=-3", 10, Wanted::Part(7, 9)),
            ("bytes=-30", 10, Wanted::Part(0, 9)),
            ("bytes=5-99999999999999999999999", 10, Wanted::Part(5, 9)),
            ("bytes=10-", 10, Wanted::Nothing),
            ("bytes=-0", 10, Wanted::Nothing),
            ("bytes=0-", 0, Wanted::Nothing),
            ("bytes=-1", 0, Wanted::Nothing),
            ("bytes=3-2", 10, Wanted::All),
            ("bytes=0-1,4-5", 10, Wanted::All),
            ("bytes=a-b", 10, Wanted::All),
            ("bytes=-", 10, Wanted::All),
            ("lines=1-2", 10, Wanted::All),
        ] {
            assert_eq!(wanted(Some(header), len), expected, "{header} of {len}");
        }
        assert_eq!(wanted(None, 10), Wanted::All);
    }
}
