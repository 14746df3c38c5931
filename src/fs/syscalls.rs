//! The system calls that mounting needs and the standard library does not have, behind safe functions.

use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::ptr;

/// Room for the control message with one descriptor: `CMSG_SPACE(sizeof(int))` is 24 on 64-bit machines.
const CONTROL_WORDS: usize = 8;

/// Bytes of one descriptor in a control message.
const FD_BYTES: u32 = 4;
const _: () = assert!(mem::size_of::<RawFd>() == FD_BYTES as usize);

/// The effective user and group of this process.
pub(super) fn effective_ids() -> (u32, u32) {
    #[expect(unsafe_code, reason = "the standard library has no geteuid")]
    // SAFETY: both calls take nothing, cannot fail and touch no memory of ours.
    unsafe {
        (libc::geteuid(), libc::getegid())
    }
}

/// `mount(2)`.
pub(super) fn mount(
    source: &str,
    target: &Path,
    fs_type: &CStr,
    flags: libc::c_ulong,
    options: &str,
) -> io::Result<()> {
    let source = CString::new(source)?;
    let target = c_path(target)?;
    let options = CString::new(options)?;
    #[expect(unsafe_code, reason = "the standard library has no mount")]
    // SAFETY: all four pointers are to NUL-terminated strings that live until the call returns.
    let status =
        unsafe { libc::mount(source.as_ptr(), target.as_ptr(), fs_type.as_ptr(), flags, options.as_ptr().cast()) };
    result(status)
}

/// `umount2(2)`, never following a symbolic link at the end of the path; `lazy` is `MNT_DETACH`.
pub(super) fn unmount(target: &Path, lazy: bool) -> io::Result<()> {
    let target = c_path(target)?;
    let flags = libc::UMOUNT_NOFOLLOW | if lazy { libc::MNT_DETACH } else { 0 };
    #[expect(unsafe_code, reason = "the standard library has no umount2")]
    // SAFETY: the pointer is to a NUL-terminated string that lives until the call returns.
    let status = unsafe { libc::umount2(target.as_ptr(), flags) };
    result(status)
}

/// Waits for one message on `socket` and takes the descriptor that came with it; `None` when the other side closed
/// the socket or sent a message without one. The descriptor is close-on-exec.
pub(super) fn receive_fd(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0u8; 1];
    let mut control = [0u64; CONTROL_WORDS];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    #[expect(unsafe_code, reason = "msghdr has private padding on some targets, so it is made from zeros")]
    // SAFETY: msghdr is plain data for which all zeros is a valid, empty value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = mem::size_of_val(&control) as _;
    loop {
        #[expect(unsafe_code, reason = "the standard library cannot receive descriptors")]
        // SAFETY: the header points to buffers above, with their true lengths, that outlive the call.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match received {
            0 => return Ok(None),
            1.. => break,
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(first_fd(&message))
}

/// The first descriptor in a received control message.
fn first_fd(message: &libc::msghdr) -> Option<OwnedFd> {
    #[expect(unsafe_code, reason = "control messages are walked with the C macros")]
    // SAFETY: the kernel filled msg_control and msg_controllen; the macros stay within them and give null at the end.
    // A header of type SCM_RIGHTS that is long enough for one int carries a descriptor that now belongs to us alone.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            let found = &*header;
            let wanted = libc::CMSG_LEN(FD_BYTES) as usize;
            if found.cmsg_level == libc::SOL_SOCKET
                && found.cmsg_type == libc::SCM_RIGHTS
                && found.cmsg_len as usize >= wanted
            {
                let fd: RawFd = ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                return (fd >= 0).then(|| OwnedFd::from_raw_fd(fd));
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    None
}

/// Whether a descriptor of the FUSE device belongs to a mount that has not ended.
pub(super) fn is_connected(device: BorrowedFd<'_>) -> io::Result<bool> {
    let mut asked = libc::pollfd { fd: device.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    #[expect(unsafe_code, reason = "the standard library has no poll")]
    // SAFETY: the pointer is to one structure, as the count says, that lives until the call returns.
    let status = unsafe { libc::poll(&raw mut asked, 1, 0) };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(asked.revents & (libc::POLLERR | libc::POLLNVAL) == 0)
}

/// Has the number of `old` stand for what `new` stands for, close-on-exec.
pub(super) fn replace(old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> io::Result<()> {
    #[expect(unsafe_code, reason = "the standard library has no dup3")]
    // SAFETY: both are open, since they are borrowed. Whoever owns `old` goes on owning that number, which is never free in
    // between, and what it stood for is closed.
    let status = unsafe { libc::dup3(new.as_raw_fd(), old.as_raw_fd(), libc::O_CLOEXEC) };
    result(if status < 0 { status } else { 0 })
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn result(status: libc::c_int) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
