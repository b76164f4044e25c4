// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sockets that a service manager has made and handed to this process: systemd's `sd_listen_fds`.

use std::env;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::net::UnixListener;

use crate::system;

/// The first descriptor that is handed over.
const FIRST: RawFd = 3;

/// The sockets of a card.
pub struct Handed {
    /// Where frontends connect.
    pub frontends: UnixListener,
    /// Where commands come from.
    pub commands: Option<UnixListener>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// Nobody has handed anything over.
    #[error(
        "--socket-activation: {0} is not set: no service manager has handed a socket to this process; \
         start it by a .socket unit, or listen with --socket-path"
    )]
    Nobody(&'static str),
    /// What was handed over is for somebody else.
    #[error(
        "--socket-activation: LISTEN_PID is {0}, and this is process {1}: the sockets are for that \
         one; have the unit start this program itself"
    )]
    OtherProcess(String, u32),
    /// There are too few or too many.
    #[error(
        "--socket-activation: LISTEN_FDS is {0}; it must be 1, the vhost-user socket, or 2, with the \
         command socket behind it"
    )]
    Count(String),
    /// One of them is no socket to listen on.
    #[error(
        "--socket-activation: descriptor {0}, the {1}, is no listening stream socket: {2}; it needs \
         ListenStream=/a/path and Accept=no"
    )]
    Socket(RawFd, &'static str, #[source] io::Error),
}

/// Takes the sockets over. To be called before this process opens anything.
///
/// # Errors
/// There are none for this process, or they cannot be listened on.
pub fn take() -> Result<Handed, ActivationError> {
    let variable = |name| env::var(name).map_err(|_| ActivationError::Nobody(name));
    let pid = variable("LISTEN_PID")?;
    let own = std::process::id();
    if pid.parse() != Ok(own) {
        return Err(ActivationError::OtherProcess(pid, own));
    }
    let count = variable("LISTEN_FDS")?;
    let two = match count.as_str() {
        "1" => false,
        "2" => true,
        _ => return Err(ActivationError::Count(count)),
    };
    let listener = |fd, what| {
        let taken = system::listening_socket(fd).and_then(|listener| {
            // A service manager may have it otherwise.
            listener.set_nonblocking(false)?;
            Ok(listener)
        });
        taken.map_err(|error| ActivationError::Socket(fd, what, error))
    };
    let frontends = listener(FIRST, "vhost-user socket")?;
    let commands = two.then(|| listener(FIRST + 1, "command socket"));
    Ok(Handed {
        frontends,
        commands: commands.transpose()?,
    })
}
