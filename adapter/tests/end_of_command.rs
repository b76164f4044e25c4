// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! How the end of a COMMAND is waited for. A program of its own: signals are all of a process's.

#![allow(
    clippy::unwrap_used,
    reason = "a test, also where clippy.toml does not see it: outside of #[test] functions"
)]

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use virtio_loopback::device_process::DeviceProcess;
use virtio_loopback::event_loop::{Ending, command_ending};
use virtio_loopback::signals::Signals;

/// A command that takes 5 s to save something when it is told to end.
fn saver(saved: &Path) -> DeviceProcess {
    let trap = format!("trap 'sleep 5; echo all >{}; exit 3' TERM", saved.display());
    let script = format!("{trap}; echo >&{{fd}}; while :; do sleep 0.1; done");
    let command = ["bash".into(), "-c".into(), script.into()];
    let program = Path::new(env!("CARGO_BIN_EXE_virtio-loopback"));
    let (process, mut socket) = DeviceProcess::start_connected(program, &command, None).unwrap();
    socket.read_exact(&mut [0]).unwrap();
    process
}

#[test]
fn a_command_that_is_stopped_serves_no_more() {
    let program = Path::new(env!("CARGO_BIN_EXE_virtio-loopback"));
    let command = ["sleep".into(), "60".into()];
    let mut process = DeviceProcess::start(program, &command, None).unwrap();
    assert_eq!(command_ending(Some(&mut process)).unwrap(), None);
    let id = Pid::from_raw(process.id().try_into().unwrap());
    kill(id, Signal::SIGSTOP).unwrap();
    waitid(Id::Pid(id), WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT).unwrap();
    let ending = command_ending(Some(&mut process)).unwrap();
    assert_eq!(ending, Some(Ending::CommandStopped));
    assert_eq!(command_ending(None).unwrap(), None);
}

#[test]
fn a_command_has_time_to_save_what_it_was_given_unless_somebody_insists() {
    let signals = Signals::register().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved");
    // A terminal that goes says so twice, to its session and to who is in front.
    raise(Signal::SIGHUP).unwrap();
    raise(Signal::SIGHUP).unwrap();
    raise(Signal::SIGTERM).unwrap();
    assert_eq!(saver(&saved).end(&signals).unwrap().code(), Some(3));
    assert_eq!(fs::read_to_string(&saved).unwrap(), "all\n");

    fs::remove_file(&saved).unwrap();
    let mut process = saver(&saved);
    let insisting = thread::spawn(|| {
        thread::sleep(Duration::from_secs(1));
        raise(Signal::SIGINT).unwrap();
    });
    assert_eq!(process.end(&signals).unwrap().signal(), Some(9));
    assert!(!saved.exists());
    insisting.join().unwrap();
}
