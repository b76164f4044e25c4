// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Connecting to a socket without waiting for who listens there.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

/// Connects to a listener whose queue has room; one that is full is not waited for (EAGAIN). The socket does
/// not wait later either.
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
