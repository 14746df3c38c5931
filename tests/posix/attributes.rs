//! Modes, owners, times and extended attributes.

use std::fs::{self, File, FileTimes, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{XattrFlags, setxattr};
use rustix::io::Errno;

use crate::support::ground::Ground;
use crate::support::xattr;

#[test]
fn modes_owners_and_times_survive_a_remount() {
    let Some(mut ground) = Ground::new("modes_owners_and_times_survive_a_remount") else { return };
    let path = ground.path("file");
    fs::write(&path, b"x").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o4751)).unwrap();
    let owned = rustix::process::geteuid().is_root();
    if owned {
        chown(&path, Some(1234), Some(5678)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o4751)).unwrap();
    }
    // Before 1970, with nanoseconds; and after 2106, where 32 bits end.
    let early = UNIX_EPOCH - Duration::new(1_000_000, 999_999_999);
    let late = UNIX_EPOCH + Duration::new(4_500_000_000, 123_456_789);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_times(FileTimes::new().set_modified(late).set_accessed(early)).unwrap();
    drop(file);
    for _ in 0..2 {
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o4751);
        assert_eq!(meta.modified().unwrap(), late);
        assert_eq!(meta.accessed().unwrap(), early);
        if owned {
            assert_eq!((meta.uid(), meta.gid()), (1234, 5678));
        }
        ground.remount();
    }
    ground.finish();
}

#[test]
fn writing_moves_the_times_forward_and_chmod_only_one() {
    let Some(ground) = Ground::new("writing_moves_the_times_forward_and_chmod_only_one") else { return };
    let path = ground.path("file");
    let before = SystemTime::now() - Duration::from_secs(1);
    fs::write(&path, b"x").unwrap();
    let made = fs::metadata(&path).unwrap();
    assert!(made.modified().unwrap() >= before);
    // Birth times reach programs only through statx, which not every kernel interface of a file system passes on.
    let born = made.created().ok();
    assert!(born.is_none_or(|born| born >= before));
    thread::sleep(Duration::from_millis(30));
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let changed = fs::metadata(&path).unwrap();
    assert_eq!(changed.modified().unwrap(), made.modified().unwrap());
    assert!((changed.ctime(), changed.ctime_nsec()) > (made.ctime(), made.ctime_nsec()));
    thread::sleep(Duration::from_millis(30));
    let file = OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut &file, b"y").unwrap();
    drop(file);
    let written = fs::metadata(&path).unwrap();
    assert!(written.modified().unwrap() > changed.modified().unwrap());
    assert!((written.ctime(), written.ctime_nsec()) > (changed.ctime(), changed.ctime_nsec()));
    assert_eq!(written.created().ok(), born);
    ground.finish();
}

#[test]
fn a_directory_changes_with_its_entries() {
    let Some(ground) = Ground::new("a_directory_changes_with_its_entries") else { return };
    let dir = ground.path("dir");
    fs::create_dir(&dir).unwrap();
    let mut last = fs::metadata(&dir).unwrap().modified().unwrap();
    let mut moved = |what: &str| {
        let now = fs::metadata(&dir).unwrap().modified().unwrap();
        assert!(now > last, "{what} did not move the directory's time");
        last = now;
        thread::sleep(Duration::from_millis(30));
    };
    thread::sleep(Duration::from_millis(30));
    File::create(dir.join("a")).unwrap();
    moved("creating");
    fs::rename(dir.join("a"), dir.join("b")).unwrap();
    moved("renaming");
    fs::hard_link(dir.join("b"), dir.join("c")).unwrap();
    moved("linking");
    fs::remove_file(dir.join("b")).unwrap();
    moved("removing");
    fs::create_dir(dir.join("sub")).unwrap();
    moved("mkdir");
    fs::remove_dir(dir.join("sub")).unwrap();
    moved("rmdir");
    ground.finish();
}

#[test]
fn extended_attributes_are_kept_as_bytes() {
    let Some(mut ground) = Ground::new("extended_attributes_are_kept_as_bytes") else { return };
    let path = ground.path("file");
    fs::write(&path, b"x").unwrap();
    fs::create_dir(ground.path("dir")).unwrap();
    let long = crate::support::patterns::bytes(1, 2000);
    let values: [(&str, &[u8]); 4] =
        [("user.empty", b""), ("user.text", b"plain"), ("user.binary", b"\0\xff\0"), ("user.long", &long)];
    for (name, value) in values {
        setxattr(&path, name, value, XattrFlags::empty()).unwrap();
    }
    setxattr(ground.path("dir"), "user.dir", b"on a directory", XattrFlags::empty()).unwrap();
    for _ in 0..2 {
        for (name, value) in values {
            assert_eq!(xattr::get(&path, name).unwrap(), value, "{name}");
        }
        assert_eq!(xattr::get(&ground.path("dir"), "user.dir").unwrap(), b"on a directory");
        let listed = xattr::list(&path).unwrap();
        for (name, _) in values {
            assert!(listed.iter().any(|listed| listed == name), "{name} is not in {listed:?}");
        }
        ground.remount();
    }
    rustix::fs::removexattr(&path, "user.text").unwrap();
    assert_eq!(xattr::get(&path, "user.text"), Err(Errno::NODATA));
    ground.remount();
    assert_eq!(xattr::get(&path, "user.text"), Err(Errno::NODATA));
    assert!(!xattr::list(&path).unwrap().contains(&"user.text".to_owned()));
    ground.finish();
}

#[test]
fn attributes_of_root_are_kept_on_files_directories_and_links() {
    let test = "attributes_of_root_are_kept_on_files_directories_and_links";
    if !crate::support::machine::is_root(test) {
        return;
    }
    let Some(mut ground) = Ground::new(test) else { return };
    fs::write(ground.path("file"), b"x").unwrap();
    fs::create_dir(ground.path("dir")).unwrap();
    symlink("file", ground.path("link")).unwrap();
    let values = [("trusted.origin", &b"\0one\xff"[..]), ("security.label", b"two"), ("trusted.empty", b"")];
    for name in ["file", "dir", "link"] {
        for (attribute, value) in values {
            rustix::fs::lsetxattr(ground.path(name), attribute, value, XattrFlags::CREATE).unwrap();
        }
    }
    for _ in 0..2 {
        for name in ["file", "dir", "link"] {
            let path = ground.path(name);
            for (attribute, value) in values {
                assert_eq!(xattr::get(&path, attribute).unwrap(), value, "{attribute} of {name}");
                assert!(xattr::list(&path).unwrap().contains(&attribute.to_owned()), "{attribute} of {name}");
            }
        }
        ground.remount();
    }
    rustix::fs::lremovexattr(ground.path("link"), "trusted.origin").unwrap();
    assert_eq!(xattr::get(&ground.path("link"), "trusted.origin"), Err(Errno::NODATA));
    assert_eq!(
        xattr::get(&ground.path("file"), "trusted.origin").unwrap(),
        values[0].1,
        "the link's target has its own"
    );
    // What is for root is not for others.
    let read = |path: &std::path::Path| {
        use std::os::unix::process::CommandExt;
        let mut command = std::process::Command::new("getfattr");
        command.args(["-d", "-m", "-", "--absolute-names"]).arg(path).uid(65_534).gid(65_534);
        crate::support::place::run(command).stdout
    };
    assert!(!read(&ground.path("file")).contains("trusted."));
    ground.finish();
}

#[test]
fn access_control_lists_are_refused_and_change_nothing() {
    let Some(ground) = Ground::new("access_control_lists_are_refused_and_change_nothing") else { return };
    if ground.is_plain() {
        return;
    }
    fs::create_dir(ground.path("dir")).unwrap();
    fs::set_permissions(ground.path("dir"), Permissions::from_mode(0o2750)).unwrap();
    // Version 2: owner rwx, user 1000 rwx, group r-x, mask rwx, others none.
    let mut list = vec![2, 0, 0, 0];
    for (tag, perm, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 7, 1000), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 0, u32::MAX)]
    {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&perm.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    for name in ["system.posix_acl_access", "system.posix_acl_default"] {
        let refused = setxattr(ground.path("dir"), name, &list, XattrFlags::empty());
        assert_eq!(refused, Err(Errno::OPNOTSUPP), "{name}");
        assert_eq!(xattr::get(&ground.path("dir"), name), Err(Errno::OPNOTSUPP), "{name}");
    }
    assert_eq!(fs::metadata(ground.path("dir")).unwrap().mode() & 0o7777, 0o2750);
    ground.finish();
}

#[test]
fn what_is_made_has_the_mode_asked_for_without_the_umask() {
    let Some(mut ground) = Ground::new("what_is_made_has_the_mode_asked_for_without_the_umask") else { return };
    for (mask, file, dir) in [("000", 0o666, 0o777), ("027", 0o640, 0o750), ("777", 0, 0)] {
        let script =
            format!("umask {mask}; : > file-{mask}; mkdir dir-{mask}; mkfifo pipe-{mask}; ln -s x link-{mask}");
        // A process of its own, since the umask is one of the whole process.
        let mut shell = std::process::Command::new("sh");
        shell.args(["-e", "-c", &script]).current_dir(ground.root());
        crate::support::place::run(shell).expect_success();
        for _ in 0..2 {
            let mode =
                |name: &str| fs::symlink_metadata(ground.path(format!("{name}-{mask}"))).unwrap().mode() & 0o7777;
            assert_eq!(
                (mode("file"), mode("dir"), mode("pipe"), mode("link")),
                (file, dir, file, 0o777),
                "umask {mask}"
            );
            ground.remount();
        }
    }
    ground.finish();
}

#[test]
fn extended_attributes_refuse_what_they_must() {
    let Some(ground) = Ground::new("extended_attributes_refuse_what_they_must") else { return };
    let path = ground.path("file");
    fs::write(&path, b"x").unwrap();
    let set = |name: &str, value: &[u8], flags: XattrFlags| setxattr(&path, name, value, flags);
    set("user.a", b"1", XattrFlags::CREATE).unwrap();
    assert_eq!(set("user.a", b"2", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(set("user.b", b"2", XattrFlags::REPLACE), Err(Errno::NODATA));
    set("user.a", b"value", XattrFlags::REPLACE).unwrap();
    assert_eq!(xattr::get(&path, "user.a").unwrap(), b"value");
    assert_eq!(rustix::fs::getxattr(&path, "user.a", &mut [0; 2][..]), Err(Errno::RANGE));
    assert_eq!(rustix::fs::getxattr_query(&path, "user.a"), Ok(5), "an empty buffer asks for the length");
    assert_eq!(rustix::fs::removexattr(&path, "user.absent"), Err(Errno::NODATA));
    assert_eq!(set(&format!("user.{}", "n".repeat(300)), b"", XattrFlags::empty()), Err(Errno::RANGE));
    assert_eq!(set("user.huge", &vec![0; 65_537], XattrFlags::empty()), Err(Errno::TOOBIG));
    for name in ["foo", "unknown.foo"] {
        assert_eq!(set(name, b"1", XattrFlags::empty()), Err(Errno::OPNOTSUPP), "{name}");
        assert_eq!(xattr::get(&path, name), Err(Errno::OPNOTSUPP), "{name}");
        assert_eq!(rustix::fs::removexattr(&path, name), Err(Errno::OPNOTSUPP), "{name}");
    }
    symlink("file", ground.path("link")).unwrap();
    let on_link = rustix::fs::lsetxattr(ground.path("link"), "user.x", b"", XattrFlags::empty());
    assert_eq!(on_link, Err(Errno::PERM));
    ground.finish();
}

#[test]
fn the_volumes_own_attributes_are_read_only() {
    let Some(ground) = Ground::new("the_volumes_own_attributes_are_read_only") else { return };
    if ground.is_plain() {
        return;
    }
    let path = ground.path("file");
    fs::write(&path, b"some text for a medium\n").unwrap();
    let id = xattr::text(&path, "user.wamedia.id");
    for name in ["id", "sha256", "kind", "verdict", "expires", "path", "invented"] {
        let name = format!("user.wamedia.{name}");
        let refused = setxattr(&path, name.as_str(), b"forged", XattrFlags::empty());
        assert!(
            matches!(refused, Err(Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::OPNOTSUPP)),
            "{name}: {refused:?}"
        );
    }
    assert_eq!(xattr::text(&path, "user.wamedia.id"), id);
    ground.finish();
}
