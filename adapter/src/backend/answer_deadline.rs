// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A time limit for calls that wait for the device process.
//!
//! The `vhost` crate reads a reply until it is complete and treats a receive timeout of the socket
//! as "try again" (`Endpoint::recv_into_iovec_all`), so SO_RCVTIMEO cannot end a call. Shutting the
//! socket down does: the read then returns the end of the file. A thread that sleeps while no call
//! is under way does it when the time is up.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    /// No call is under way.
    Idle,
    /// A call is to end before this.
    Running(Instant),
    /// A call took too long; the socket is shut down.
    Expired,
    /// The thread is to end.
    Quit,
}

#[derive(Debug)]
struct Shared {
    clock: Mutex<Clock>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends calls on a socket that take too long by shutting the socket down.
#[derive(Debug)]
pub struct AnswerDeadline {
    limit: Duration,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl AnswerDeadline {
    /// Watches calls on `socket`; each may take `limit`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn new(socket: UnixStream, limit: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            clock: Mutex::new(Clock::Idle),
            changed: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("answer-deadline".into())
            .spawn(move || watch(&watched, &socket))?;
        Ok(Self {
            limit,
            shared,
            thread: Some(thread),
        })
    }

    /// How long a call may take.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Makes a call; returns its result, and whether it was ended because it took too long.
    pub fn limited<T>(&self, call: impl FnOnce() -> T) -> (T, bool) {
        self.set(Clock::Running(Instant::now() + self.limit));
        let result = call();
        let mut clock = self.shared.lock();
        let expired = *clock == Clock::Expired;
        if !expired {
            *clock = Clock::Idle;
        }
        (result, expired)
    }

    fn set(&self, to: Clock) {
        *self.shared.lock() = to;
        self.shared.changed.notify_one();
    }
}

impl Drop for AnswerDeadline {
    fn drop(&mut self) {
        self.set(Clock::Quit);
        if let Some(thread) = self.thread.take() {
            // It runs no code that could panic; there is nothing to do about it if it did.
            let _ = thread.join();
        }
    }
}

fn watch(shared: &Shared, socket: &UnixStream) {
    let mut clock = shared.lock();
    loop {
        clock = match *clock {
            Clock::Quit => return,
            Clock::Idle | Clock::Expired => shared
                .changed
                .wait(clock)
                .unwrap_or_else(PoisonError::into_inner),
            Clock::Running(end) => match end.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => {
                    let waited = shared.changed.wait_timeout(clock, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                _ => {
                    *clock = Clock::Expired;
                    // Fails only if the peer has gone already, which ends the call as well.
                    let _ = socket.shutdown(Shutdown::Both);
                    clock
                }
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn a_call_without_an_answer_ends() {
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        let limit = Duration::from_millis(50);
        let deadline = AnswerDeadline::new(ours.try_clone().unwrap(), limit).unwrap();
        let start = Instant::now();
        let (read, expired) = deadline.limited(|| ours.read(&mut [0; 1]));
        assert!(expired);
        assert_eq!(read.unwrap(), 0);
        assert!(start.elapsed() >= limit);
        let (_, still_expired) = deadline.limited(|| ours.read(&mut [0; 1]));
        assert!(
            !still_expired,
            "the socket is dead, so the next call ends by itself"
        );
    }

    #[test]
    fn calls_in_time_leave_the_socket_alone() {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        let limit = Duration::from_secs(1);
        let deadline = AnswerDeadline::new(ours.try_clone().unwrap(), limit).unwrap();
        for _ in 0..3 {
            theirs.write_all(&[7]).unwrap();
            let (read, expired) = deadline.limited(|| ours.read(&mut [0; 1]));
            assert_eq!((read.unwrap(), expired), (1, false));
        }
        thread::sleep(limit + Duration::from_millis(200));
        theirs.write_all(&[7]).unwrap();
        assert_eq!(
            ours.read(&mut [0; 1]).unwrap(),
            1,
            "no call was under way: no time limit"
        );
    }
}
