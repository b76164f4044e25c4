// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! Signals as a file to poll: SIGCHLD, and those that are to end this program: SIGTERM, SIGINT, and SIGHUP
//! unless that was ignored at the start, as nohup has it.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

/// The signals that the adapter acts on.
#[derive(Debug)]
pub struct Signals {
    woken: UnixStream,
    end: Arc<AtomicBool>,
    /// A byte for each word of somebody: a terminal that goes says so more than once.
    words: UnixStream,
    /// Those that have been read.
    heard: AtomicUsize,
}

impl Signals {
    /// Takes the signals over for the rest of the process's life.
    ///
    /// # Errors
    /// Of socketpair() and sigaction().
    pub fn register() -> io::Result<Self> {
        let (woken, wake) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let end = Arc::new(AtomicBool::new(false));
        let (words, say) = UnixStream::pair()?;
        words.set_nonblocking(true)?;
        for signal in ends() {
            // The flag and the word first: whoever is woken must see them.
            signal_hook::flag::register(signal, Arc::clone(&end))?;
            if signal != SIGHUP {
                signal_hook::low_level::pipe::register(signal, say.try_clone()?)?;
            }
            signal_hook::low_level::pipe::register(signal, wake.try_clone()?)?;
        }
        signal_hook::low_level::pipe::register(SIGCHLD, wake)?;
        Ok(Self {
            woken,
            end,
            words,
            heard: AtomicUsize::new(0),
        })
    }

    /// Whether a signal has come that is to end this program.
    pub fn end_requested(&self) -> bool {
        self.end.load(Ordering::SeqCst)
    }

    /// The same for who does not know signals.
    pub fn end_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.end)
    }

    /// Whether somebody has said so more than once.
    pub fn end_insisted(&self) -> bool {
        let more = read_all(&self.words);
        self.heard.fetch_add(more, Ordering::SeqCst) + more > 1
    }

    /// Forgets what woke us; [`Signals::end_requested`] stays.
    pub fn drain(&self) {
        read_all(&self.woken);
    }

    /// Waits for a signal, at most `time`.
    ///
    /// # Errors
    /// Of poll().
    pub fn wait(&self, time: Duration) -> io::Result<()> {
        let mut files = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
        poll_until(&mut files, Some(Instant::now() + time))?;
        self.drain();
        Ok(())
    }
}

/// Readable when a signal has come.
impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}

/// Ends this program in good order at a signal that is to end it, whatever it waits for then.
///
/// # Errors
/// Of sigaction().
pub fn end_at_once() -> io::Result<()> {
    let always = Arc::new(AtomicBool::new(true));
    for signal in ends() {
        signal_hook::flag::register_conditional_shutdown(signal, 0, Arc::clone(&always))?;
    }
    Ok(())
}

/// How many bytes there are to be read.
fn read_all(mut file: &UnixStream) -> usize {
    let (mut bytes, mut count) = ([0; 64], 0);
    while let Ok(length @ 1..) = file.read(&mut bytes) {
        count += length;
    }
    count
}

fn ends() -> impl Iterator<Item = i32> {
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    [SIGTERM, SIGINT].into_iter().chain(hangup)
}

/// Whether this program has been started with a signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (signal - 1) != 0)
}

/// poll(), for ever or until `end`; an interrupted call is a wake-up without events.
///
/// # Errors
/// Of poll().
pub fn poll_until(files: &mut [PollFd<'_>], end: Option<Instant>) -> io::Result<()> {
    let timeout = match end.map(|end| end.saturating_duration_since(Instant::now())) {
        None => PollTimeout::NONE,
        // One more: a poll() that wakes just before the end would be called again at once.
        Some(left) => {
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        }
    };
    match poll(files, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
