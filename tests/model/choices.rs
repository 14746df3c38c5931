//! What the numbers in operations stand for: ways to open, attributes and their values, policies.

use std::time::Duration;

use wamedia::volume::{AgeBy, OpenMode, Policy, Reserve, ReserveAmount, RetentionRule, Selector};

use crate::ops::How;
use crate::support::patterns::bytes;

pub fn open_mode(how: How) -> OpenMode {
    let mode = |read, write| OpenMode { read, write, append: false, truncate: false };
    match how {
        How::Read => mode(true, false),
        How::Write => mode(false, true),
        How::Both => mode(true, true),
        How::Append => OpenMode { append: true, ..mode(false, true) },
        How::Anew => OpenMode { truncate: true, ..mode(true, true) },
    }
}

pub fn xattr_name(number: u8) -> &'static [u8] {
    match number {
        0 => b"user.a",
        1 => b"user.longer name",
        2 => b"trusted.t",
        3 => b"security.s",
        4 | 5 => b"user.mime_type",
        6 | 7 => b"user.wamedia.hold",
        8 => b"user.wamedia.retention",
        9 => b"user.",
        10 => b"system.x",
        _ => b"user.wamedia.id",
    }
}

pub fn xattr_value(name: &[u8], number: u8) -> Vec<u8> {
    match name {
        b"user.mime_type" => [&b"model/x"[..], b"model/y", b"chemical/x", b"none"][usize::from(number) % 4].to_vec(),
        b"user.wamedia.hold" => [&b"1"[..], b"0", b"yes", b"perhaps"][usize::from(number) % 4].to_vec(),
        b"user.wamedia.retention" => [&b"7d"[..], b"forever", b"1h 30m", b"0s"][usize::from(number) % 4].to_vec(),
        _ => match number {
            0 => Vec::new(),
            6 => bytes(6, 4000),
            7 => bytes(7, 65_537),
            n => bytes(u64::from(n), usize::from(n) * 7),
        },
    }
}

pub fn policy(number: u8) -> Policy {
    let days = |days: u64| Some(Duration::from_secs(days * 86_400));
    let rule = |selector, keep| RetentionRule { selector, keep };
    let mut policy = Policy { floor_bytes: 0, age_by: AgeBy::Written, ..Policy::default() };
    match number {
        1 => policy.max_bytes = Some(400_000),
        2 => {
            policy.max_bytes = Some(1_500_000);
            policy.reserves = vec![Reserve { class: "uploads".into(), amount: ReserveAmount::Percent(10) }];
        }
        3 => policy.max_media = Some(6),
        4 => {
            policy.retention = vec![
                rule(Selector::Default, days(10)),
                rule(Selector::Type("model/*".into()), None),
                rule(Selector::Prefix("a".into()), days(1)),
                rule(Selector::Prefix("a/b".into()), None),
            ];
        }
        5 => {
            policy.retention = vec![
                rule(Selector::Default, None),
                rule(Selector::Type("model/x".into()), days(5)),
                rule(Selector::Type("model/*".into()), days(2)),
                rule(Selector::Prefix("b".into()), days(20)),
            ];
        }
        6 => policy.retention.push(rule(Selector::Default, None)),
        _ => {}
    }
    policy
}
