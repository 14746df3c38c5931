//! Pipes, sockets and locks: named by the volume, worked by the kernel.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use rustix::fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat};
use rustix::io::Errno;

use crate::support::ground::Ground;

#[test]
fn a_named_pipe_passes_bytes() {
    let Some(mut ground) = Ground::new("a_named_pipe_passes_bytes") else { return };
    let path = ground.path("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::from(0o640), 0).unwrap();
    ground.remount();
    let meta = fs::metadata(&path).unwrap();
    assert!(meta.file_type().is_fifo());
    assert_eq!(meta.permissions().mode() & 0o777, 0o640);
    let writer_path = path.clone();
    let writer = thread::spawn(move || {
        OpenOptions::new().write(true).open(writer_path).unwrap().write_all(b"through the pipe").unwrap();
    });
    let mut received = Vec::new();
    File::open(&path).unwrap().read_to_end(&mut received).unwrap();
    writer.join().unwrap();
    assert_eq!(received, b"through the pipe");
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    ground.finish();
}

#[test]
fn a_socket_is_bound_and_reached_by_its_name() {
    let Some(mut ground) = Ground::new("a_socket_is_bound_and_reached_by_its_name") else { return };
    let path = ground.path("socket");
    let listener = UnixListener::bind(&path).unwrap();
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    let client_path = path.clone();
    let client = thread::spawn(move || UnixStream::connect(client_path).unwrap().write_all(b"hello").unwrap());
    let mut received = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
    client.join().unwrap();
    assert_eq!(received, b"hello");
    drop(listener);
    ground.remount();
    assert!(fs::metadata(&path).unwrap().file_type().is_socket());
    fs::remove_file(&path).unwrap();
    ground.finish();
}

#[test]
fn locks_exclude_other_handles() {
    let Some(ground) = Ground::new("locks_exclude_other_handles") else { return };
    fs::write(ground.path("file"), b"x").unwrap();
    let one = File::open(ground.path("file")).unwrap();
    let two = File::open(ground.path("file")).unwrap();
    flock(&one, FlockOperation::LockExclusive).unwrap();
    assert_eq!(flock(&two, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    flock(&one, FlockOperation::Unlock).unwrap();
    flock(&two, FlockOperation::NonBlockingLockExclusive).unwrap();
    drop((one, two));
    ground.finish();
}
