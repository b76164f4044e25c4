// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A device process that the adapter starts itself: `run … -- COMMAND`. It gets a connected socket, or
//! listens where it is told to.
//!
//! The process is to end with the adapter, however that ends: PR_SET_PDEATHSIG, which a process can
//! only set for itself. So the adapter starts its own program with a hidden subcommand, which sets
//! it and then becomes COMMAND ([`become_command`]); that needs no code between fork and exec.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getppid};

use crate::command_socket;
use crate::signals::Signals;

/// The running program, even if its file has been replaced.
pub const THIS_PROGRAM: &str = "/proc/self/exe";
/// Name of the hidden subcommand: `device-process PARENT -- COMMAND…`.
pub const SUBCOMMAND: &str = "device-process";

/// How long a device process may take to end after SIGTERM: a sound device saves first what it has been
/// given, and its guard lets it take 9 s.
const END_TIME: Duration = Duration::from_secs(10);
/// The same where another one is to take its place: sound waits for that.
const REPLACE_TIME: Duration = Duration::from_secs(3);
/// In an argument: the number of the file descriptor.
const FD_PLACE: &[u8] = b"{fd}";

/// The device process cannot be started, watched or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// socketpair() or fcntl()
    #[error("cannot make a socket for the device process")]
    Socket(#[source] io::Error),
    /// fork() or exec() of ourselves
    #[error("cannot start a process")]
    Start(#[source] io::Error),
    /// exec() of COMMAND
    #[error("cannot start {command}")]
    Command {
        /// Its first word.
        command: String,
        /// Of exec().
        source: io::Error,
    },
    /// prctl()
    #[error("cannot tie the device process to the adapter")]
    ParentDeathSignal(#[source] io::Error),
    /// The adapter ended before the device process was tied to it.
    #[error("the adapter has ended")]
    Orphan,
    /// waitpid() or kill()
    #[error("cannot watch the device process")]
    Watch(#[source] io::Error),
}

/// A device process that is our child.
#[derive(Debug)]
pub struct DeviceProcess {
    child: Child,
}

impl DeviceProcess {
    /// Starts `command` with one end of a socket pair; returns the other end.
    ///
    /// # Errors
    /// [`ProcessError::Socket`], and those of [`Self::start`].
    pub fn start_connected(
        program: &Path,
        command: &[OsString],
        command_socket: Option<&Path>,
    ) -> Result<(Self, UnixStream), ProcessError> {
        let (ours, theirs) = UnixStream::pair().map_err(ProcessError::Socket)?;
        fcntl(theirs.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))
            .map_err(|errno| ProcessError::Socket(errno.into()))?;
        let command = with_fd(command, theirs.as_raw_fd());
        Ok((Self::start(program, &command, command_socket)?, ours))
    }

    /// Starts `command`, which finds its frontend by itself.
    ///
    /// `program` is this program, see [`THIS_PROGRAM`]; `command_socket` is where the device process
    /// may take commands. Must be called by the main thread: the
    /// kernel sends the parent death signal when the *thread* that started the child ends.
    ///
    /// # Errors
    /// [`ProcessError::Start`]. A COMMAND that cannot be started is seen by its exit status, and says
    /// why itself.
    pub fn start(
        program: &Path,
        command: &[OsString],
        command_socket: Option<&Path>,
    ) -> Result<Self, ProcessError> {
        let child = Command::new(program)
            .arg0(env!("CARGO_PKG_NAME"))
            .arg(SUBCOMMAND)
            .arg(std::process::id().to_string())
            .arg("--")
            .args(command)
            .envs(command_socket.map(|path| (command_socket::VARIABLE, path)))
            .spawn()
            .map_err(ProcessError::Start)?;
        log::debug!("started the device process {}", child.id());
        Ok(Self { child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// [`ProcessError::Watch`]
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        self.child.try_wait().map_err(ProcessError::Watch)
    }

    /// Whether a signal has stopped it: it serves nobody until another one lets it go on.
    ///
    /// # Errors
    /// [`ProcessError::Watch`]
    pub fn is_stopped(&self) -> Result<bool, ProcessError> {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.pid()), flags) {
            Ok(status) => Ok(matches!(status, WaitStatus::Stopped(..))),
            // It has just ended, and nobody has asked how yet.
            Err(Errno::ECHILD) => Ok(false),
            Err(errno) => Err(ProcessError::Watch(errno.into())),
        }
    }

    fn kill(&mut self) -> Result<ExitStatus, ProcessError> {
        self.child.kill().map_err(ProcessError::Watch)?;
        self.child.wait().map_err(ProcessError::Watch)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.id()).unwrap_or(i32::MAX))
    }

    /// Waits at most `time` for it to end.
    ///
    /// # Errors
    /// [`ProcessError::Watch`]
    pub fn wait(
        &mut self,
        signals: &Signals,
        time: Duration,
    ) -> Result<Option<ExitStatus>, ProcessError> {
        let end = Instant::now() + time;
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(Some(status));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            signals.wait(left).map_err(ProcessError::Watch)?;
        }
    }

    /// Ends it: SIGTERM, and SIGKILL if it does not end in time, or is stopped and hears nothing, or if
    /// this process is told to end twice.
    ///
    /// # Errors
    /// [`ProcessError::Watch`]
    pub fn end(&mut self, signals: &Signals) -> Result<ExitStatus, ProcessError> {
        if let Some(status) = self.exit_status()? {
            return Ok(status);
        }
        if self.is_stopped()? {
            return self.kill();
        }
        // The child has not been waited for, so the number is still its own.
        kill(self.pid(), Signal::SIGTERM).map_err(|errno| ProcessError::Watch(errno.into()))?;
        let since = Instant::now();
        loop {
            let limit = match signals.end_requested() {
                true => END_TIME,
                false => REPLACE_TIME,
            };
            let left = limit.saturating_sub(since.elapsed());
            if left.is_zero() || signals.end_insisted() {
                break;
            }
            signals.wait(left).map_err(ProcessError::Watch)?;
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
        }
        let seconds = since.elapsed().as_secs();
        log::warn!("the device process did not end within {seconds} s: killing it");
        self.kill()
    }
}

/// Leaves no device process behind on an error path.
impl Drop for DeviceProcess {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // Both fail only if it has just ended.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The hidden subcommand: ties this process to its parent and becomes `command`.
///
/// # Errors
/// Whatever it is that keeps it from that; it does not return otherwise.
pub fn become_command(parent: u32, command: &[OsString]) -> Result<(), ProcessError> {
    set_pdeathsig(Signal::SIGTERM)
        .map_err(|errno| ProcessError::ParentDeathSignal(errno.into()))?;
    // The signal is not sent for a parent that has ended before.
    if u32::try_from(getppid().as_raw()) != Ok(parent) {
        return Err(ProcessError::Orphan);
    }
    let (program, arguments) = command.split_first().ok_or(ProcessError::Orphan)?;
    let source = Command::new(program).args(arguments).exec();
    Err(ProcessError::Command {
        command: program.to_string_lossy().into_owned(),
        source,
    })
}

/// `command` with every `{fd}` replaced, or with `--fd=N` appended where there is none
/// (vhost-user specification, "Backend program conventions").
fn with_fd(command: &[OsString], fd: i32) -> Vec<OsString> {
    let number = fd.to_string();
    let mut replaced = false;
    let mut words: Vec<OsString> = command
        .iter()
        .map(|word| {
            let (word, any) = replace(word, number.as_bytes());
            replaced |= any;
            word
        })
        .collect();
    if !replaced {
        words.push(format!("--fd={fd}").into());
    }
    words
}

fn replace(word: &OsStr, number: &[u8]) -> (OsString, bool) {
    let mut rest = word.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    let mut any = false;
    while let Some((first, tail)) = rest.split_first() {
        match rest.strip_prefix(FD_PLACE) {
            Some(tail) => {
                bytes.extend_from_slice(number);
                any = true;
                rest = tail;
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    (OsString::from_vec(bytes), any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_descriptor_goes_where_it_is_asked_for() {
        let command = words(&["sh", "-c", "exec dev --fd {fd} {fd}", "{fd"]);
        let expected = words(&["sh", "-c", "exec dev --fd 7 7", "{fd"]);
        assert_eq!(with_fd(&command, 7), expected);
    }

    #[test]
    fn otherwise_it_is_appended() {
        let command = words(&["vhost-user-sound", "--host", "null"]);
        assert_eq!(
            with_fd(&command, 12),
            words(&["vhost-user-sound", "--host", "null", "--fd=12"])
        );
    }

    #[test]
    fn a_process_that_has_just_ended_is_not_stopped() {
        let mut process = DeviceProcess::start(Path::new("/bin/false"), &[], None).unwrap();
        let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(process.pid()), ended).unwrap();
        assert!(!process.is_stopped().unwrap());
        assert_eq!(process.exit_status().unwrap().unwrap().code(), Some(1));
    }

    #[test]
    fn an_argument_need_not_be_text() {
        let command = vec![OsString::from_vec(b"\xff{fd}\xfe".to_vec())];
        assert_eq!(
            with_fd(&command, 3),
            vec![OsString::from_vec(b"\xff3\xfe".to_vec())]
        );
    }
}
