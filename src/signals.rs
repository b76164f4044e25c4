// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! SIGTERM, SIGINT, and SIGHUP of a terminal that goes: they end every wait of this program, so that it ends in order.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::system;

/// Where one is talked to, if anywhere.
type Talk = Arc<Mutex<Option<UnixStream>>>;

/// What has ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The descriptor is readable, or closed by its peer.
    Ready,
    /// A signal has come.
    Signal,
    /// It was long enough.
    Nothing,
}

/// The signals that tell this program to end: not SIGHUP where who started it has it ignored, as `nohup` does.
pub fn that_end() -> impl Iterator<Item = Signal> {
    let all = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    let hangs_up = !system::is_ignored(Signal::SIGHUP);
    all.into_iter()
        .filter(move |&signal| hangs_up || signal != Signal::SIGHUP)
}

/// Knows whether a signal has come.
pub struct Signals {
    /// Becomes readable when one comes, and stays so.
    come: UnixStream,
    talk: Talk,
}

impl Signals {
    /// Listens to the signals from now on.
    ///
    /// # Errors
    /// The system gives no descriptors, or no thread, or does not let this process handle signals.
    pub fn register() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        for signal in that_end() {
            signal_hook::low_level::pipe::register(signal as i32, writer.try_clone()?)?;
        }
        Self::of(reader)
    }

    /// With a thread that hangs up. It is there from the start: where there is no memory left, one could
    /// not be made when somebody wants to talk.
    fn of(come: UnixStream) -> io::Result<Self> {
        let (watched, talk) = (come.try_clone()?, Talk::default());
        let theirs = Arc::clone(&talk);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let mut fds = [PollFd::new(watched.as_fd(), PollFlags::POLLIN)];
                while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
                hang_up(&lock(&theirs));
            })?;
        Ok(Self { come, talk })
    }

    /// Waits until `fd` is readable or closed by its peer, no longer than `limit`.
    ///
    /// # Errors
    /// The system cannot wait for it.
    pub fn wait_for(&self, fd: BorrowedFd<'_>, limit: PollTimeout) -> io::Result<Awaited> {
        loop {
            let mut fds = [
                PollFd::new(fd, PollFlags::POLLIN),
                PollFd::new(self.come.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, limit) {
                Ok(0) => return Ok(Awaited::Nothing),
                Ok(_) => {
                    let [_, signalled] = fds.map(|fd| fd.any().unwrap_or(false));
                    return Ok(match signalled {
                        true => Awaited::Signal,
                        false => Awaited::Ready,
                    });
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
    /// The system gives no descriptors.
    pub fn hanging_up<T>(&self, socket: &UnixStream, talk: impl FnOnce() -> T) -> io::Result<T> {
        *lock(&self.talk) = Some(socket.try_clone()?);
        if self.have_come() {
            hang_up(&lock(&self.talk));
        }
        let result = talk();
        *lock(&self.talk) = None;
        Ok(result)
    }

    fn have_come(&self) -> bool {
        let mut fds = [PollFd::new(self.come.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }
}

fn lock(talk: &Mutex<Option<UnixStream>>) -> MutexGuard<'_, Option<UnixStream>> {
    talk.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hang_up(socket: &Option<UnixStream>) {
    if let Some(socket) = socket {
        // It fails only if the peer has hung up before.
        let _ = socket.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_signal_ends_a_read_that_has_no_end() {
        let (signal, mut raise) = UnixStream::pair().unwrap();
        let signals = Signals::of(signal).unwrap();
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        let socket = ours.try_clone().unwrap();
        let read = signals.hanging_up(&socket, || {
            raise.write_all(b"!").unwrap();
            ours.read(&mut [0; 12])
        });
        assert_eq!(read.unwrap().unwrap(), 0);
        let awaited = signals.wait_for(socket.as_fd(), PollTimeout::NONE);
        assert_eq!(awaited.unwrap(), Awaited::Signal);
    }

    #[test]
    fn a_wait_ends_with_what_comes_first() {
        let (signal, _raise) = UnixStream::pair().unwrap();
        let signals = Signals::of(signal).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let wait = |limit| signals.wait_for(ours.as_fd(), limit).unwrap();
        assert_eq!(wait(PollTimeout::ZERO), Awaited::Nothing);
        drop(theirs);
        assert_eq!(wait(PollTimeout::NONE), Awaited::Ready);
    }

    #[test]
    fn a_talk_that_ends_by_itself_leaves_the_socket_open() {
        let (signal, _raise) = UnixStream::pair().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let signals = Signals::of(signal).unwrap();
        signals.hanging_up(&ours, || ()).unwrap();
        theirs.write_all(b"still there").unwrap();
    }
}
