// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! SIGTERM and SIGINT: they end every wait of this program, so that it ends in order.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGINT, SIGTERM};

/// A descriptor that becomes readable when a signal comes, and stays so.
pub struct Signals(UnixStream);

impl Signals {
    /// Listens to the signals from now on.
    ///
    /// # Errors
    /// The system gives no descriptors, or does not let this process handle signals.
    pub fn register() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGTERM, writer.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, writer)?;
        Ok(Self(reader))
    }

    /// Waits until `fd` is readable or closed by its peer; false if a signal came.
    ///
    /// # Errors
    /// The system cannot wait for it.
    pub fn wait_for(&self, fd: BorrowedFd<'_>) -> io::Result<bool> {
        loop {
            let mut fds = [
                PollFd::new(fd, PollFlags::POLLIN),
                PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {
                    let [_, signalled] = fds.map(|fd| fd.any().unwrap_or(false));
                    return Ok(!signalled);
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Runs `talk`, and hangs `socket` up when a signal comes meanwhile: a peer that stops in the
    /// middle of a message would keep `talk` waiting for the rest.
    ///
    /// # Errors
    /// The system gives no descriptors, or no thread.
    pub fn hanging_up<T>(&self, socket: &UnixStream, talk: impl FnOnce() -> T) -> io::Result<T> {
        let (done, talking) = UnixStream::pair()?;
        std::thread::scope(|scope| {
            std::thread::Builder::new().spawn_scoped(scope, move || {
                if !matches!(self.wait_for(done.as_fd()), Ok(true)) {
                    // It fails only if the peer has hung up before.
                    let _ = socket.shutdown(Shutdown::Both);
                }
            })?;
            let result = talk();
            drop(talking);
            Ok(result)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_signal_ends_a_read_that_has_no_end() {
        let (signal, mut raise) = UnixStream::pair().unwrap();
        let signals = Signals(signal);
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        let socket = ours.try_clone().unwrap();
        let read = signals.hanging_up(&socket, || {
            raise.write_all(b"!").unwrap();
            ours.read(&mut [0; 12])
        });
        assert_eq!(read.unwrap().unwrap(), 0);
        assert!(!signals.wait_for(socket.as_fd()).unwrap());
    }

    #[test]
    fn a_talk_that_ends_by_itself_leaves_the_socket_open() {
        let (signal, _raise) = UnixStream::pair().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        Signals(signal).hanging_up(&ours, || ()).unwrap();
        theirs.write_all(b"still there").unwrap();
    }
}
