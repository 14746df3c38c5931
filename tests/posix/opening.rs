//! The flags of open(2).

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use crate::errno;
use crate::support::ground::Ground;

#[test]
fn appending_goes_to_the_end_wherever_it_is() {
    let Some(ground) = Ground::new("appending_goes_to_the_end_wherever_it_is") else { return };
    let path = ground.path("log");
    let mut one = OpenOptions::new().append(true).create(true).open(&path).unwrap();
    let mut two = OpenOptions::new().append(true).open(&path).unwrap();
    one.write_all(b"first ").unwrap();
    two.write_all(b"second ").unwrap();
    one.write_all(b"third").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first second third");
    // Cut behind the back of both handles: the end has moved.
    OpenOptions::new().write(true).open(&path).unwrap().set_len(6).unwrap();
    two.write_all(b"again").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first again");
    // On Linux a positioned write on an appending handle appends too.
    one.write_at(b"!", 0).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first again!");
    drop((one, two));
    ground.finish();
}

#[test]
fn exclusive_creation_refuses_whatever_has_the_name() {
    let Some(ground) = Ground::new("exclusive_creation_refuses_whatever_has_the_name") else { return };
    File::create(ground.path("file")).unwrap();
    fs::create_dir(ground.path("dir")).unwrap();
    symlink("nowhere", ground.path("dangling")).unwrap();
    for name in ["file", "dir", "dangling"] {
        assert_eq!(errno(File::create_new(ground.path(name))), Errno::EXIST, "{name}");
    }
    assert!(!ground.path("nowhere").exists());
    File::create_new(ground.path("new")).unwrap();
    ground.finish();
}

#[test]
fn creation_through_a_dangling_link_makes_its_target() {
    let Some(ground) = Ground::new("creation_through_a_dangling_link_makes_its_target") else { return };
    symlink("target", ground.path("link")).unwrap();
    fs::write(ground.path("link"), b"through").unwrap();
    assert_eq!(fs::read(ground.path("target")).unwrap(), b"through");
    ground.finish();
}

#[test]
fn a_temporary_file_without_a_name_is_refused_cleanly() {
    let Some(ground) = Ground::new("a_temporary_file_without_a_name_is_refused_cleanly") else { return };
    let opened = open(ground.root(), OFlags::TMPFILE | OFlags::RDWR, Mode::from(0o600));
    if !ground.is_plain() {
        assert_eq!(opened.expect_err("O_TMPFILE"), Errno::OPNOTSUPP);
    }
    // The refusal left nothing behind and the directory works on.
    fs::write(ground.path("named"), b"x").unwrap();
    assert_eq!(crate::support::tree::read(ground.root()).len(), 1);
    ground.finish();
}

#[test]
fn a_handle_allows_what_it_was_opened_for() {
    let Some(ground) = Ground::new("a_handle_allows_what_it_was_opened_for") else { return };
    let path = ground.path("file");
    fs::write(&path, b"content").unwrap();
    let mut reader = File::open(&path).unwrap();
    assert_eq!(errno(reader.write(b"x")), Errno::BADF);
    assert_eq!(errno(reader.set_len(1)), Errno::INVAL);
    let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
    assert_eq!(errno(writer.read(&mut [0; 4])), Errno::BADF);
    assert_eq!(fs::read(&path).unwrap(), b"content");
    drop((reader, writer));
    ground.finish();
}

#[test]
fn the_wrong_type_is_named_by_the_error() {
    let Some(ground) = Ground::new("the_wrong_type_is_named_by_the_error") else { return };
    fs::create_dir(ground.path("dir")).unwrap();
    fs::write(ground.path("file"), b"x").unwrap();
    symlink("file", ground.path("link")).unwrap();
    symlink("loop", ground.path("loop")).unwrap();
    assert_eq!(errno(OpenOptions::new().write(true).open(ground.path("dir"))), Errno::ISDIR);
    assert_eq!(errno(fs::read(ground.path("dir"))), Errno::ISDIR);
    assert_eq!(errno(File::open(ground.path("file/below"))), Errno::NOTDIR);
    assert_eq!(errno(File::open(ground.path("loop"))), Errno::LOOP);
    assert_eq!(errno(File::open(ground.path("absent"))), Errno::NOENT);
    let no_follow = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(ground.path("link"));
    assert_eq!(errno(no_follow), Errno::LOOP);
    let directory = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(ground.path("file"));
    assert_eq!(errno(directory), Errno::NOTDIR);
    ground.finish();
}

#[test]
fn truncation_at_open_shows_at_once_on_other_handles() {
    let Some(ground) = Ground::new("truncation_at_open_shows_at_once_on_other_handles") else { return };
    let path = ground.path("file");
    fs::write(&path, vec![7; 200_000]).unwrap();
    let reader = File::open(&path).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(reader.read_at(&mut buffer, 100_000).unwrap(), 16);
    let mut writer = File::create(&path).unwrap();
    assert_eq!(reader.metadata().unwrap().len(), 0);
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), 0);
    writer.write_all(b"new").unwrap();
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), 3);
    assert_eq!(&buffer[..3], b"new");
    drop((reader, writer));
    ground.finish();
}

#[test]
fn a_file_made_read_only_can_still_be_written_by_its_maker() {
    let Some(ground) = Ground::new("a_file_made_read_only_can_still_be_written_by_its_maker") else { return };
    let path = ground.path("file");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path).unwrap();
    file.write_all(b"written once").unwrap();
    drop(file);
    assert_eq!(fs::read(&path).unwrap(), b"written once");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o400);
    ground.finish();
}

#[test]
fn a_refused_truncation_leaves_a_running_program_whole() {
    let Some(ground) = Ground::new("a_refused_truncation_leaves_a_running_program_whole") else { return };
    let path = ground.path("program");
    fs::copy("/bin/sleep", &path).unwrap();
    let content = fs::read(&path).unwrap();
    let mut running = std::process::Command::new(&path).arg("30").spawn().unwrap();
    let refused = open(&path, OFlags::RDONLY | OFlags::TRUNC, Mode::empty());
    let left = fs::read(&path).unwrap();
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(refused.expect_err("the program is running"), Errno::TXTBSY);
    crate::support::patterns::assert_same(&left, &content, "the program after the refusal");
    ground.finish();
}
