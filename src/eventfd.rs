// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The eventfds by which a driver kicks and is interrupted. The frontend shares their open files, and may make
//! those wait who cannot read or write at once; the audio thread must not.

use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc::S_IFMT;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::{ReadWriteFlags, preadv2};

/// Why a file of the frontend is refused.
#[derive(Debug, thiserror::Error)]
pub enum EventfdError {
    /// A pipe, a socket, a file of a server that does not answer.
    #[error("the frontend hands over a file that is no eventfd")]
    Other,
    /// The system does not say what it is, or cannot change it.
    #[error("an eventfd of the frontend: {0}")]
    System(#[from] io::Error),
}

/// Takes a file for one that can be [signalled](signal) and [cleared](clear).
///
/// # Errors
/// It is none.
pub fn take(file: File) -> Result<File, EventfdError> {
    // An eventfd has no type of file. What else has none keeps no reader and no writer waiting.
    if file.metadata()?.mode() & S_IFMT != 0 {
        return Err(EventfdError::Other);
    }
    let flags = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
    fcntl(file.as_fd(), flags).map_err(io::Error::from)?;
    Ok(file)
}

/// Adds one to its counter. One that is full is left alone: nobody has read it yet, who is told anyway.
pub fn signal(mut file: &File) {
    let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLOUT)];
    // Readiness is no promise, but no flag of the call is either: the kernel has none for writing there.
    let _ = poll(&mut polled, PollTimeout::ZERO);
    let [polled] = polled;
    let has_room = |found: PollFlags| found.contains(PollFlags::POLLOUT);
    if polled.revents().is_some_and(has_room) {
        let _ = file.write(&1u64.to_ne_bytes());
    }
}

/// Empties its counter. It may be empty already, where another queue or the frontend has read it.
pub fn clear(file: &File) {
    let mut counter = [0; 8];
    let room = &mut [IoSliceMut::new(&mut counter)];
    // It is read where it is: an eventfd has no places.
    let _ = preadv2(file, room, u64::MAX, ReadWriteFlags::NOWAIT);
}

#[cfg(test)]
mod tests {
    use nix::sys::eventfd::{EfdFlags, EventFd};

    use super::*;

    #[test]
    fn nobody_waits_whatever_the_frontend_has_made_of_it() {
        let ours = EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap();
        let file = take(File::from(ours.as_fd().try_clone_to_owned().unwrap())).unwrap();
        fcntl(&ours, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        clear(&file);
        signal(&file);
        signal(&file);
        assert_eq!(ours.read(), Ok(2));
        ours.write(u64::MAX - 1).unwrap();
        signal(&file);
        clear(&file);
        signal(&file);
        assert_eq!(ours.read(), Ok(1));
    }
}
