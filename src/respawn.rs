// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `--respawn`: a guard process, which does nothing but wait, and a worker, which serves. A worker that dies is
//! replaced by another copy of the guard.
//!
//! What takes long at the start of a program has happened in the guard already: the libraries are loaded, the card
//! file is read, a service manager has set up its sandbox. So whoever plays hears a hole that is a small part of
//! the one which a service manager would make.

use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, alarm};

use crate::{signals, system};

/// A life shorter than that is short.
const SHORT: Duration = Duration::from_secs(1);
/// After more short lives in a row, there is a pause before the next: who dies at once takes no CPU.
const MOST_SHORT: u32 = 3;
/// See [`MOST_SHORT`].
const PAUSE: Duration = Duration::from_millis(100);
/// Seconds for a worker to end in when it is told, more than a pipeline of GStreamer has for that. Service
/// managers may have less patience.
const END_TIME: u32 = 9;

/// What a process is, after [`split`].
pub enum Role {
    /// It serves, where another one has served before or not.
    Worker {
        /// That one has died.
        replaces: bool,
    },
    /// The workers have ended for good; it is to end with this status.
    Guard(u8),
}

/// How a worker has ended.
enum End {
    Exited(i32),
    Killed(Signal),
}

/// Returns in each worker when that starts, and in the guard when the last one has ended: by itself, with its
/// status, or since the guard was told to end ([`signals::that_end`]). To be called while there is one thread.
///
/// # Errors
/// The system gives no process.
pub fn split() -> nix::Result<Role> {
    let endings: Vec<_> = signals::that_end().collect();
    let heard = [Signal::SIGCHLD, Signal::SIGALRM];
    let signals = SigSet::from_iter(heard.iter().chain(&endings).copied());
    signals.thread_block()?;
    system::hear_of_ends()?;
    let (mut ending, mut short, mut replaced, mut failing) = (false, 0, None, false);
    loop {
        let start = Instant::now();
        let worker = match system::fork() {
            Ok(Some(worker)) => worker,
            Ok(None) => {
                signals.thread_unblock()?;
                return Ok(Role::Worker {
                    replaces: replaced.is_some(),
                });
            }
            // There was room for one before, and will be again.
            Err(error) if replaced.is_some() => {
                if !std::mem::replace(&mut failing, true) {
                    let error = std::io::Error::from(error);
                    log::error!("cannot start a process that serves, and tries on: {error}");
                }
                sleep(PAUSE);
                if told_to_end(&signals) {
                    return Ok(Role::Guard(0));
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        failing = false;
        // Not before: it is to serve at once.
        if let Some((dead, signal)) = replaced {
            log::warn!(
                "process {dead}, which served, was ended by {signal}; another one takes its place"
            );
        }
        match watch(worker, &signals, &mut ending)? {
            End::Exited(status) => {
                let status = u8::try_from(status).unwrap_or(u8::MAX);
                return Ok(Role::Guard(status));
            }
            // A service manager tells both, this one perhaps a moment later.
            End::Killed(signal) if ending || endings.contains(&signal) => {
                return Ok(Role::Guard(0));
            }
            End::Killed(signal) => replaced = Some((worker, signal)),
        }
        short = if start.elapsed() < SHORT {
            short + 1
        } else {
            0
        };
        if short > MOST_SHORT {
            sleep(PAUSE);
        }
    }
}

/// Whether this process was told to end while there is no worker, which it would wait for.
fn told_to_end(signals: &SigSet) -> bool {
    let Ok(told) = SignalFd::with_flags(signals, SfdFlags::SFD_NONBLOCK) else {
        return false; // it is asked again
    };
    while let Ok(Some(signal)) = told.read_signal() {
        if signal.ssi_signo != Signal::SIGCHLD as u32 {
            return true;
        }
    }
    false
}

/// Waits for the end of a worker, and tells it to end when this process is told: one that does not is killed.
fn watch(worker: Pid, signals: &SigSet, ending: &mut bool) -> nix::Result<End> {
    let look = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
    loop {
        match waitpid(worker, Some(look))? {
            WaitStatus::Exited(_, status) => return Ok(End::Exited(status)),
            WaitStatus::Signaled(_, signal, _) => return Ok(End::Killed(signal)),
            // Whoever plays cannot wait until somebody lets it go on.
            WaitStatus::Stopped(_, Signal::SIGSTOP) => send(worker, Signal::SIGKILL)?,
            WaitStatus::StillAlive => match signals.wait()? {
                Signal::SIGCHLD => {}
                Signal::SIGALRM => send(worker, Signal::SIGKILL)?,
                signal => {
                    if !std::mem::replace(ending, true) {
                        alarm::set(END_TIME);
                    }
                    send(worker, signal)?;
                }
            },
            _ => {}
        }
    }
}

/// Sends a signal to a worker, which may have ended.
fn send(worker: Pid, signal: Signal) -> nix::Result<()> {
    match kill(worker, signal) {
        Err(Errno::ESRCH) => Ok(()),
        result => result,
    }
}
