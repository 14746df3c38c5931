//! Names of any bytes, up to 255 of them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use rustix::io::Errno;

use crate::errno;
use crate::support::ground::Ground;

fn listed(ground: &Ground) -> BTreeSet<OsString> {
    fs::read_dir(ground.root()).unwrap().map(|entry| entry.unwrap().file_name()).filter(|n| n != ".expired").collect()
}

#[test]
fn a_name_may_be_any_bytes() {
    let Some(mut ground) = Ground::new("a_name_may_be_any_bytes") else { return };
    let mut names: BTreeSet<OsString> =
        (1..=255_u8).filter(|byte| !b"/.".contains(byte)).map(|byte| OsString::from_vec(vec![byte])).collect();
    let special: [&[u8]; 8] =
        [b"...", b" ", b"-rf", b"a\nb", b"caf\xc3\xa9", b"cafe\xcc\x81", b"\xc3\x28\xff\xfe", b".hidden"];
    names.extend(special.iter().map(|name| OsStr::from_bytes(name).to_owned()));
    for name in &names {
        fs::write(ground.path(name), name.as_bytes()).unwrap_or_else(|e| panic!("{name:?}: {e}"));
    }
    for _ in 0..2 {
        assert_eq!(listed(&ground), names);
        for name in &names {
            assert_eq!(fs::read(ground.path(name)).unwrap(), name.as_bytes(), "{name:?}");
        }
        ground.remount();
    }
    ground.finish();
}

#[test]
fn names_that_differ_in_case_are_different() {
    let Some(ground) = Ground::new("names_that_differ_in_case_are_different") else { return };
    fs::write(ground.path("Name"), b"upper").unwrap();
    fs::write(ground.path("name"), b"lower").unwrap();
    assert_eq!(fs::read(ground.path("Name")).unwrap(), b"upper");
    assert_eq!(fs::read(ground.path("name")).unwrap(), b"lower");
    ground.finish();
}

#[test]
fn a_name_has_at_most_255_bytes() {
    let Some(mut ground) = Ground::new("a_name_has_at_most_255_bytes") else { return };
    for (byte, len) in [(b'a', 254), (b'b', 255), (0xfe, 255)] {
        let name = OsString::from_vec(vec![byte; len]);
        fs::write(ground.path(&name), b"fits").unwrap();
        ground.remount();
        assert_eq!(fs::read(ground.path(&name)).unwrap(), b"fits");
        assert!(listed(&ground).contains(&name));
    }
    let long = ground.path("c".repeat(256));
    let short = ground.path("short");
    fs::write(&short, b"x").unwrap();
    assert_eq!(errno(File::create(&long)), Errno::NAMETOOLONG);
    assert_eq!(errno(fs::metadata(&long)), Errno::NAMETOOLONG);
    assert_eq!(errno(fs::create_dir(&long)), Errno::NAMETOOLONG);
    assert_eq!(errno(fs::rename(&short, &long)), Errno::NAMETOOLONG);
    assert_eq!(errno(fs::hard_link(&short, &long)), Errno::NAMETOOLONG);
    assert_eq!(errno(std::os::unix::fs::symlink("x", &long)), Errno::NAMETOOLONG);
    assert_eq!(fs::read(&short).unwrap(), b"x");
    ground.finish();
}

#[test]
fn directories_nest_deeply() {
    let Some(mut ground) = Ground::new("directories_nest_deeply") else { return };
    let mut path = ground.path("d");
    for depth in 0..100 {
        path.push(format!("level-{depth}"));
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("bottom"), b"deep").unwrap();
    ground.remount();
    assert_eq!(fs::read(path.join("bottom")).unwrap(), b"deep");
    fs::remove_dir_all(ground.path("d")).unwrap();
    assert!(listed(&ground).is_empty());
    ground.finish();
}
