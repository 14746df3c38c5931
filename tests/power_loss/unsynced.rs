//! The control: a process whose syncs succeed and do nothing.
//!
//! A preloaded library would not do, since the daemon makes these calls without the C library.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Every call that waits for the disk.
const SYNCS: [libc::c_long; 6] = [
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_sync,
    libc::SYS_msync,
];

fn filter(code: u32, k: u32, on_equal: usize) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: u8::try_from(on_equal).unwrap(), jf: 0, k }
}

/// Has the kernel answer every sync of the command with success and without doing it.
pub fn suppress_syncs(command: &mut Command) {
    // The number of a call is the first field of what the program is given.
    let mut program = vec![filter(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for (place, call) in SYNCS.iter().enumerate() {
        let number = u32::try_from(*call).unwrap();
        program.push(filter(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, SYNCS.len() - place));
    }
    program.push(filter(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0));
    program.push(filter(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO, 0));
    let install = move || {
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        let (yes, none) = (1 as libc::c_ulong, 0 as libc::c_ulong);
        #[expect(unsafe_code, reason = "prctl(2) has no safe form")]
        // SAFETY: both calls only read, the second one the program, which lives as long as this closure.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, none, none, none) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER as libc::c_ulong, &raw const program)
                    == 0
        };
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    #[expect(unsafe_code, reason = "what runs between fork and exec may do little")]
    // SAFETY: the closure makes two system calls and neither allocates nor locks.
    unsafe {
        command.pre_exec(install);
    }
}
