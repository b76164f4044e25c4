// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Connecting to a socket without waiting for who listens there.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

/// Connects, to a listener whose queue has room. Whoever waits for room in a queue that is full
/// (EAGAIN here) hears no signal meanwhile. The socket does not wait later either.
///
/// # Errors
/// Of socket() and connect().
pub fn connect_at_once(path: &Path) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let new: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(new.as_raw_fd(), &address)?;
    Ok(new.into())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::ErrorKind;
    use std::os::unix::net::UnixListener;

    use nix::sys::socket::{Backlog, listen};

    use super::*;

    /// Connections that nobody has accepted, until there is no room for another one.
    pub(crate) fn fill_queue(listener: &UnixListener, path: &Path) -> (Vec<UnixStream>, io::Error) {
        // Some thousands would take more descriptors than a test may have.
        listen(listener, Backlog::new(1).unwrap()).unwrap();
        let mut waiting = Vec::new();
        loop {
            match connect_at_once(path) {
                Ok(socket) => waiting.push(socket),
                Err(error) => return (waiting, error),
            }
        }
    }

    #[test]
    fn a_queue_that_is_full_and_a_socket_without_listener_are_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full");
        let listener = UnixListener::bind(&path).unwrap();
        let (waiting, error) = fill_queue(&listener, &path);
        assert!(!waiting.is_empty());
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        drop((listener, waiting));
        let error = connect_at_once(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    }
}
