// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! System calls that nobody else wraps safely: taking over a descriptor that the parent process left
//! open, and real-time scheduling. With `audio/mixer/control_device.rs` and `audio/alsa/kernel.rs`
//! the only files with unsafe code.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::socket::{SockType, getsockopt, sockopt};

/// The lowest descriptor that is none of the standard streams.
const FIRST_FREE: RawFd = 3;

/// Takes over an inherited, connected stream socket.
///
/// To be called once, before this process opens anything: a number that was not inherited is then
/// no open descriptor, and is refused.
///
/// # Errors
/// The descriptor is not open, is a standard stream, or is no stream socket.
pub fn connected_socket(fd: RawFd) -> std::io::Result<UnixStream> {
    if fd < FIRST_FREE {
        return Err(std::io::Error::from(Errno::EBADF));
    }
    // SAFETY: fcntl(F_GETFD) accepts any number and only looks it up; the borrow ends here.
    let probe = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    fcntl(probe, FcntlArg::F_GETFD)?;
    if getsockopt(&probe, sockopt::SockType)? != SockType::Stream {
        return Err(std::io::Error::from(Errno::EPROTOTYPE));
    }
    fcntl(probe, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: the descriptor is open (checked above), it was inherited (the caller has opened
    // nothing yet), and nothing else in this process knows its number, so this is its only owner.
    Ok(UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Gives the calling thread a real-time priority (SCHED_FIFO). Threads that it starts have none.
///
/// # Errors
/// EPERM: the process may not have that priority.
pub fn set_realtime_priority(priority: u8) -> nix::Result<()> {
    let param = libc::sched_param {
        sched_priority: priority.into(),
    };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: thread 0 is the calling one; the kernel reads `param`, which lives until the call
    // has returned, and keeps no pointer to it.
    Errno::result(unsafe { libc::sched_setscheduler(0, policy, &raw const param) }).map(drop)
}
