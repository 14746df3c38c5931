//! The operations, and how random ones are made. They name what they are about by numbers, modulo what there is then, so
//! that nearly all of them hit something, also after others were taken out of a failing sequence.

use proptest::collection::vec;
use proptest::prelude::*;

/// Something with a name, or a place for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// A name that is there.
    Taken(u16),
    /// A name of the pool in a directory that is there.
    Name(u16, u8),
    /// A name of the pool in something that may be no directory.
    Odd(u16, u8),
}

/// A file: by a name, or by a handle, which may have outlived all its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// By a name.
    At(At),
    /// By a handle.
    Handle(u8),
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// For reading.
    Read,
    /// For writing.
    Write,
    /// For both.
    Both,
    /// For writing at the end.
    Append,
    /// For both, emptied first.
    Anew,
}

/// What fallocate does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// Promises room.
    Reserve,
    /// The same and keeps the length.
    ReserveKeeping,
    /// Makes a hole.
    Punch,
    /// Makes zeros.
    Zero,
    /// The same and keeps the length.
    ZeroKeeping,
}

/// How the process ends without a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// As after `kill -9`: the next open finds its own store.
    InPlace,
    /// The store is opened elsewhere, so that the next open has to verify what it finds.
    Elsewhere,
    /// The same, without the index.
    WithoutIndex,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Create {
        at: At,
        mode: u8,
        how: How,
    },
    Mkdir {
        at: At,
        mode: u8,
    },
    Symlink {
        at: At,
        target: u8,
    },
    Mknod {
        at: At,
        kind: u8,
        mode: u8,
    },
    Link {
        from: Of,
        to: At,
    },
    Unlink {
        at: At,
    },
    Rmdir {
        at: At,
    },
    Rename {
        from: At,
        to: At,
        flag: u8,
    },
    Open {
        at: At,
        how: How,
    },
    Close {
        handle: u8,
    },
    Write {
        handle: u8,
        offset: u32,
        len: u32,
        seed: u8,
        unprivileged: bool,
    },
    Read {
        handle: u8,
        offset: u32,
        len: u32,
    },
    Copy {
        from: u8,
        to: u8,
        offset: u32,
        to_offset: u32,
        len: u32,
    },
    Allocate {
        handle: u8,
        offset: u32,
        len: u32,
        what: Range,
    },
    Resize {
        of: Of,
        len: u32,
    },
    Chmod {
        of: Of,
        mode: u8,
    },
    Chown {
        of: Of,
        owner: u8,
    },
    Touch {
        of: Of,
        secs: u32,
    },
    SetXattr {
        of: Of,
        name: u8,
        value: u8,
        flag: u8,
    },
    RemoveXattr {
        of: Of,
        name: u8,
    },
    Fsync {
        handle: u8,
    },
    FsyncDir {
        at: At,
    },
    SyncAll,
    /// Changes the policy.
    Policy {
        number: u8,
    },
    /// Moves the clock on.
    Advance {
        secs: u32,
    },
    /// Removes something as expired, which it may be or not.
    RemoveExpired {
        at: At,
    },
    Purge {
        dry: bool,
    },
    /// Compares everything.
    Compare,
    /// Ends and opens again; with the index made anew or not.
    Reopen {
        anew: bool,
    },
    Crash {
        how: Crash,
    },
}

/// The permission bits that files get.
pub const MODES: [u32; 8] = [0o644, 0o600, 0o755, 0o4755, 0o2775, 0o777, 0o400, 0o1777];

/// The names that are given; some cannot be.
pub fn name(number: u8) -> Vec<u8> {
    match number {
        0..=5 => vec![b'a' + number],
        6 => b"photo.jpg".to_vec(),
        7 => b"463eb7ec-ff4e-4d9b-b110-1879cbd411b2".to_vec(),
        8 => vec![0xff, b' ', 0x80, b'\n'],
        9 => vec![b'n'; 255],
        _ => vec![b'n'; 256],
    }
}

/// The targets of symbolic links; the last is too long.
pub fn target(number: u8) -> Vec<u8> {
    match number {
        0 => b"a".to_vec(),
        1 => b"../no/such".to_vec(),
        2 => vec![b't'; 4095],
        _ => vec![b't'; 4096],
    }
}

fn number() -> impl Strategy<Value = u8> {
    prop_oneof![30 => 0u8..4, 6 => 4u8..10, 1 => Just(10u8)]
}

fn place() -> impl Strategy<Value = At> {
    prop_oneof![
        20 => (any::<u16>(), number()).prop_map(|(dir, name)| At::Name(dir, name)),
        3 => any::<u16>().prop_map(At::Taken),
        1 => (any::<u16>(), number()).prop_map(|(dir, name)| At::Odd(dir, name)),
    ]
}

fn taken() -> impl Strategy<Value = At> {
    prop_oneof![
        20 => any::<u16>().prop_map(At::Taken),
        2 => (any::<u16>(), number()).prop_map(|(dir, name)| At::Name(dir, name)),
        1 => (any::<u16>(), number()).prop_map(|(dir, name)| At::Odd(dir, name)),
    ]
}

fn of() -> impl Strategy<Value = Of> {
    prop_oneof![3 => taken().prop_map(Of::At), 2 => any::<u8>().prop_map(Of::Handle)]
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        2 => Just(How::Read),
        3 => Just(How::Write),
        4 => Just(How::Both),
        2 => Just(How::Append),
        3 => Just(How::Anew)
    ]
}

/// Offsets and lengths: small ones, those around the ends of chunks, and a few far out.
fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => Just(0u32),
        6 => 0u32..300,
        6 => (0u32..5, -3i32..=3).prop_map(|(chunk, by)| (chunk * 65_536).saturating_add_signed(by)),
        3 => 0u32..300_000,
        1 => (0u32..45).prop_map(|chunk| chunk * 65_536 + 17),
    ]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![
        1 => Just(0u32),
        8 => 1u32..300,
        4 => (1u32..4, -3i32..=3).prop_map(|(chunk, by)| (chunk * 65_536).saturating_add_signed(by)),
        3 => 1u32..150_000,
        1 => 1_000_000u32..3_000_000,
    ]
}

fn range() -> impl Strategy<Value = Range> {
    prop_oneof![
        1 => Just(Range::Reserve),
        1 => Just(Range::ReserveKeeping),
        2 => Just(Range::Punch),
        1 => Just(Range::Zero),
        1 => Just(Range::ZeroKeeping)
    ]
}

fn names_change() -> impl Strategy<Value = Op> {
    let mode = || 0u8..8;
    prop_oneof![
        10 => (place(), mode(), how()).prop_map(|(at, mode, how)| Op::Create { at, mode, how }),
        5 => (place(), mode()).prop_map(|(at, mode)| Op::Mkdir { at, mode }),
        2 => (place(), 0u8..4).prop_map(|(at, target)| Op::Symlink { at, target }),
        2 => (place(), 0u8..5, mode()).prop_map(|(at, kind, mode)| Op::Mknod { at, kind, mode }),
        4 => (of(), place()).prop_map(|(from, to)| Op::Link { from, to }),
        5 => taken().prop_map(|at| Op::Unlink { at }),
        2 => taken().prop_map(|at| Op::Rmdir { at }),
        8 => (taken(), prop_oneof![place(), taken()], 0u8..4).prop_map(|(from, to, flag)| Op::Rename { from, to, flag }),
    ]
}

fn contents_change() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (taken(), how()).prop_map(|(at, how)| Op::Open { at, how }),
        8 => any::<u8>().prop_map(|handle| Op::Close { handle }),
        14 => (any::<u8>(), offset(), length(), any::<u8>(), any::<bool>()).prop_map(
            |(handle, offset, len, seed, unprivileged)| Op::Write { handle, offset, len, seed, unprivileged }
        ),
        4 => (any::<u8>(), offset(), length()).prop_map(|(handle, offset, len)| Op::Read { handle, offset, len }),
        2 => (any::<u8>(), any::<u8>(), offset(), offset(), length())
            .prop_map(|(from, to, offset, to_offset, len)| Op::Copy { from, to, offset, to_offset, len }),
        4 => (any::<u8>(), offset(), length(), range())
            .prop_map(|(handle, offset, len, what)| Op::Allocate { handle, offset, len, what }),
        5 => (of(), offset()).prop_map(|(of, len)| Op::Resize { of, len }),
        5 => any::<u8>().prop_map(|handle| Op::Fsync { handle }),
    ]
}

fn attributes_change() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (of(), 0u8..8).prop_map(|(of, mode)| Op::Chmod { of, mode }),
        2 => (of(), 0u8..9).prop_map(|(of, owner)| Op::Chown { of, owner }),
        3 => (of(), any::<u32>()).prop_map(|(of, secs)| Op::Touch { of, secs }),
        6 => (of(), 0u8..12, 0u8..8, 0u8..4)
            .prop_map(|(of, name, value, flag)| Op::SetXattr { of, name, value, flag }),
        3 => (of(), 0u8..12).prop_map(|(of, name)| Op::RemoveXattr { of, name }),
    ]
}

fn volume_changes() -> impl Strategy<Value = Op> {
    let crash = prop_oneof![3 => Just(Crash::InPlace), 1 => Just(Crash::Elsewhere), 1 => Just(Crash::WithoutIndex)];
    prop_oneof![
        4 => taken().prop_map(|at| Op::FsyncDir { at }),
        1 => Just(Op::SyncAll),
        3 => (0u8..8).prop_map(|number| Op::Policy { number }),
        3 => prop_oneof![1u32..5, 3_000u32..90_000, 86_400u32..3_000_000].prop_map(|secs| Op::Advance { secs }),
        3 => taken().prop_map(|at| Op::RemoveExpired { at }),
        1 => any::<bool>().prop_map(|dry| Op::Purge { dry }),
        3 => Just(Op::Compare),
        1 => any::<bool>().prop_map(|anew| Op::Reopen { anew }),
        4 => crash.prop_map(|how| Op::Crash { how }),
    ]
}

/// Sequences of operations on a volume, its policy, its clock and its ends included.
pub fn sequences(most: usize) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![8 => names_change(), 10 => contents_change(), 3 => attributes_change(), 3 => volume_changes()];
    vec(op, 1..=most)
}
