// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! System calls that nobody else wraps safely: taking over descriptors that the parent process left
//! open, access to memory, shared libraries, a second process, and real-time scheduling. With `audio/mixer/control_device.rs` and `audio/alsa/kernel.rs`
//! the only files with unsafe code.

#[cfg(feature = "pipewire")]
use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
#[cfg(feature = "pipewire")]
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
#[cfg(feature = "pipewire")]
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::mman::{ProtFlags, mprotect};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::unistd::{ForkResult, Pid, getpid, getppid};
use vm_memory::MmapRegion;

/// The lowest descriptor that is none of the standard streams.
const FIRST_FREE: RawFd = 3;

/// Takes over an inherited, connected stream socket. To be called as [`stream_socket`] is.
///
/// # Errors
/// The descriptor is not open, is a standard stream, or is no stream socket.
pub fn connected_socket(fd: RawFd) -> std::io::Result<UnixStream> {
    let socket = UnixStream::from(stream_socket(fd)?);
    // The parent process may have it otherwise; whoever reads from it would ask it all the time.
    socket.set_nonblocking(false)?;
    Ok(socket)
}

/// Takes over an inherited stream socket of the Unix domain that listens. To be called as
/// [`stream_socket`] is.
///
/// # Errors
/// The descriptor is not open, is a standard stream, or is no such socket.
pub fn listening_socket(fd: RawFd) -> std::io::Result<UnixListener> {
    let socket = stream_socket(fd)?;
    if !getsockopt(&socket, sockopt::AcceptConn)? {
        return Err(std::io::Error::from(Errno::EINVAL));
    }
    let listener = UnixListener::from(socket);
    // It has an address of its domain alone.
    listener.local_addr()?;
    Ok(listener)
}

/// Takes over an inherited stream socket.
///
/// To be called once for each number, before this process opens anything: a number that was not
/// inherited is then no open descriptor, and is refused.
fn stream_socket(fd: RawFd) -> std::io::Result<OwnedFd> {
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
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets a mapping that was made without any access be read and written. Where all memory to come is locked
/// (`MCL_ONFAULT`), the kernel still goes through all pages of a mapping that it does not lock, as one of the kernel
/// driver's file, when it is made; but not of one that nobody can access yet.
///
/// # Errors
/// The file can only be read, or the system has no memory for it.
pub fn allow_access(map: &MmapRegion) -> nix::Result<()> {
    let start = NonNull::new(map.as_ptr().cast()).ok_or(Errno::EFAULT)?;
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: the range is that of the mapping, which is whole, and which nobody has a reference into: what is
    // done with it goes through vm-memory's volatile accesses.
    unsafe { mprotect(start, map.size(), access) }
}

/// The file that a function of a shared library has come from.
#[cfg(feature = "pipewire")]
pub fn library_of(function: *const libc::c_void) -> Option<PathBuf> {
    let mut found = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: any address may be asked for; what is found is written to `found`.
    if unsafe { libc::dladdr(function, found.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: a call that succeeds has written the whole of it.
    let name = unsafe { found.assume_init() }.dli_fname;
    // SAFETY: it is a string of the dynamic linker's, which stays as long as the library, whose function the
    // caller has.
    let name = unsafe { CStr::from_ptr(name) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

/// Loads a shared library, which stays, if it is there.
#[cfg(feature = "pipewire")]
pub fn keep_library(path: &Path) {
    if let Ok(path) = CString::new(path.as_os_str().as_bytes()) {
        // SAFETY: `path` is a string; what a library does as it is loaded is what it does where PipeWire loads it.
        unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    }
}

/// Ends this process, whatever its threads do. Libraries are not asked to clean up: one whose thread is at
/// work, such as PipeWire's that looks for its server, would find what it uses gone.
pub fn end(status: u8) -> ! {
    // SAFETY: it takes no pointer, and ends the process.
    unsafe { libc::_exit(status.into()) }
}

/// Has the kernel tell this process of the ends of those that it makes, and keep them until they are asked for:
/// a parent process that does not want to hear of its own (SIGCHLD ignored) hands that on.
///
/// # Errors
/// None that is known.
pub fn hear_of_ends() -> nix::Result<()> {
    // SAFETY: the default action runs no code of this process.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.map(drop)
}

/// Whether this process ignores a signal.
pub fn is_ignored(signal: Signal) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: no action is set; the kernel's is written to `action`, which lives until the call has returned.
    let result =
        unsafe { libc::sigaction(signal as libc::c_int, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: a call that succeeds has written the whole of it.
    result == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

/// Makes a copy of this process: returns its id here, and `None` in the copy, which ends with this process.
/// To be called while there is one thread.
///
/// # Errors
/// The system gives no process.
pub fn fork() -> nix::Result<Option<Pid>> {
    let parent = getpid();
    // SAFETY: there is one thread (the caller's promise), so that nobody else holds a lock in the copy.
    match unsafe { nix::unistd::fork()? } {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // It may have gone before that.
            if getppid() != parent {
                std::process::exit(1);
            }
            Ok(None)
        }
    }
}

/// The calling thread's scheduling policy, and whether threads that it starts are ordinary all the same.
fn policy() -> (libc::c_int, libc::c_int) {
    // SAFETY: thread 0 is the calling one; the call takes no pointer.
    let policy = unsafe { libc::sched_getscheduler(0) };
    let reset = policy & libc::SCHED_RESET_ON_FORK;
    (policy & !reset, reset)
}

/// Whether the calling thread is real-time, and threads that it starts are: what `chrt` makes of a
/// process.
pub fn hands_on_realtime() -> bool {
    matches!(policy(), (libc::SCHED_FIFO | libc::SCHED_RR, 0))
}

/// Takes a real-time policy from the calling thread. Threads that it starts have none.
///
/// # Errors
/// The system refuses; every thread may become ordinary.
pub fn be_ordinary() -> nix::Result<()> {
    let (libc::SCHED_FIFO | libc::SCHED_RR, reset) = policy() else {
        return Ok(());
    };
    let param = libc::sched_param { sched_priority: 0 };
    // SAFETY: thread 0 is the calling one; the kernel reads `param`, which lives until the call has
    // returned, and keeps no pointer to it.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER | reset, &raw const param) };
    Errno::result(set).map(drop)
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
