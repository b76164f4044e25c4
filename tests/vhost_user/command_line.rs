// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The command as a person or a service manager meets it.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Output};
#[cfg(feature = "alsa")]
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::card::Card;
use crate::device::{Device, program, wait_for_end};
#[cfg(feature = "alsa")]
use crate::driver::LIMIT;
use crate::frontend::EVENT_IDX;
#[cfg(feature = "alsa")]
use crate::sound::{Params, RATE_48000, S16};
use crate::sound::{SMALL, noise};
use crate::wav;

/// Runs the command in `folder` until it ends by itself.
pub fn output(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut child = program()
        .current_dir(folder.path())
        .args(arguments)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_end(&mut child);
    child.wait_with_output().unwrap()
}

/// The command fails with one line that holds all of `words`.
pub fn fails_with(folder: &TempDir, arguments: &[&str], words: &[&str]) {
    let output = output(folder, arguments);
    let all = String::from_utf8(output.stderr).unwrap();
    // Whoever runs this test may not be allowed a real-time thread, which is no error.
    let notes = |line: &&str| line.contains("vhost_user_sound::realtime]");
    let lines: Vec<_> = all.lines().filter(|line| !notes(line)).collect();
    let error = lines.join("\n");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    assert_eq!(error.trim_end().lines().count(), 1, "{error}");
    assert!(error.starts_with("vhost-user-sound: "), "{error}");
    for word in words {
        assert!(error.contains(word), "{error:?} does not say {word:?}");
    }
    assert!(output.stdout.is_empty());
    let socket = folder.path().join("socket");
    assert!(
        !fs::metadata(socket).is_ok_and(|found| found.len() == 0),
        "a socket is left behind"
    );
}

/// The command line itself is wrong; the message holds all of `words`.
pub fn is_wrong_usage(arguments: &[&str], words: &[&str]) {
    let output = output(&tempfile::tempdir().unwrap(), arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
    for word in words {
        assert!(error.contains(word), "{error:?} does not say {word:?}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_explained() {
    is_wrong_usage(&[], &["--socket-path", "--fd"]);
    is_wrong_usage(
        &["--socket-path", "s", "--fd", "3"],
        &["cannot be used with"],
    );
    is_wrong_usage(
        &["--socket-path", "s", "--host", "tape"],
        &["null", "file", "loop", "alsa", "pipewire"],
    );
    is_wrong_usage(&["--socket-path", "s", "--formats", "S17"], &["S17", "S16"]);
    is_wrong_usage(
        &["--socket-path", "s", "--rates", "12345"],
        &["12345", "48000"],
    );
    is_wrong_usage(&["--socket-path", "s", "--channels", "0"], &["0"]);
    is_wrong_usage(&["--socket-path", "s", "--channels", "3-2"], &["3-2"]);
    is_wrong_usage(&["--fd", "three"], &["three"]);
    is_wrong_usage(&["--turbo"], &["--turbo"]);
}

#[test]
fn help_and_version_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let help = output(&folder, &["--help"]);
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    for word in [
        "--socket-path",
        "--fd",
        "--host",
        "--playback-file",
        "Examples",
    ] {
        assert!(help.contains(word), "{word}");
    }
    let version = output(&folder, &["--version"]);
    assert_eq!(
        String::from_utf8(version.stdout).unwrap(),
        format!("vhost-user-sound {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn capabilities_are_json_of_the_backend_conventions() {
    let output = output(&tempfile::tempdir().unwrap(), &["--print-capabilities"]);
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    let printed: String = printed.split_whitespace().collect();
    assert_eq!(printed, r#"{"type":"sound","features":[]}"#);
    assert!(output.stderr.is_empty());
}

#[test]
fn a_role_that_would_bypass_the_policy_is_refused_with_the_list() {
    let line = ["--socket-path", "s", "--host", "pipewire", "--role"];
    let list = [
        "Navigatoin",
        "bypassed",
        "Multimedia",
        "Navigation",
        "Emergency",
    ];
    is_wrong_usage(&[&line[..], &["Navigatoin"]].concat(), &list);
    let line = ["--socket-path", "s", "--host", "pipewire", "--property"];
    let words = ["media.role", "`role`"];
    is_wrong_usage(&[&line[..], &["media.role=Made-Up"]].concat(), &words);
}

#[test]
fn a_file_host_without_files_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["--playback-file", "--capture-file"];
    fails_with(
        &folder,
        &["--socket-path", "socket", "--host", "file"],
        &words,
    );
}

#[test]
fn options_that_the_host_would_ignore_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let misplaced = ["--socket-path", "socket", "--playback-file", "out.wav"];
    fails_with(&folder, &misplaced, &["--playback-file", "null"]);
    let misplaced = [
        "--socket-path",
        "socket",
        "--host",
        "loop",
        "--capture-device",
        "hw:0",
    ];
    fails_with(&folder, &misplaced, &["--capture-device", "loop"]);
}

#[cfg(feature = "alsa")]
#[test]
fn a_sound_card_that_is_not_there_is_named_at_once_and_played_to_in_silence() {
    let device = Device::start(&["--host", "alsa", "--playback-device", "nosuch"]);
    let end = Instant::now() + LIMIT;
    while !device.log().contains("ALSA device nosuch") {
        assert!(Instant::now() < end, "log: {}", device.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    let params = Params {
        format: S16,
        channels: 2,
        rate: RATE_48000,
        buffer_bytes: 4 * 1920,
        period_bytes: 1920,
        ..SMALL
    };
    Card::attach(&device).play(0, &params, &noise(3 * 1920, 1));
}

#[test]
fn a_file_that_cannot_be_captured_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("text.wav"), "no sound at all").unwrap();
    fs::write(folder.path().join("empty.wav"), "").unwrap();
    wav::write(
        &folder.path().join("odd.wav"),
        wav::spec(12_345, 1, 16),
        &[0; 8],
    );
    for (name, word) in [
        ("missing.wav", "No such file"),
        (".", "directory"),
        ("text.wav", "WAV"),
        ("empty.wav", "WAV"),
        ("odd.wav", "odd.wav"),
    ] {
        let arguments = [
            "--socket-path",
            "socket",
            "--host",
            "file",
            "--capture-file",
            name,
        ];
        fails_with(&folder, &arguments, &[name, word]);
    }
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_anybody_plays() {
    let folder = tempfile::tempdir().unwrap();
    for (name, word) in [("nowhere/out.wav", "No such file"), (".", "directory")] {
        let arguments = [
            "--socket-path",
            "socket",
            "--host",
            "file",
            "--playback-file",
            name,
        ];
        fails_with(&folder, &arguments, &[name, word]);
    }
}

#[test]
fn a_socket_that_somebody_serves_is_refused_and_not_disturbed() {
    let first = Device::null();
    let mut card = Card::attach(&first);
    let folder = tempfile::tempdir().unwrap();
    let path = first.path("socket");
    fails_with(
        &folder,
        &["--socket-path", path.to_str().unwrap()],
        &["listen", "socket"],
    );
    card.expect_service();
    drop(card);
    Card::attach(&first).expect_service();
}

#[test]
fn a_path_where_no_socket_can_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fails_with(
        &folder,
        &["--socket-path", "nowhere/socket"],
        &["nowhere/socket", "No such file"],
    );
}

#[test]
fn a_file_at_the_sockets_path_is_not_destroyed() {
    let folder = tempfile::tempdir().unwrap();
    let precious = folder.path().join("precious");
    fs::write(&precious, "years of work").unwrap();
    fails_with(&folder, &["--socket-path", "precious"], &["precious"]);
    assert_eq!(fs::read_to_string(precious).unwrap(), "years of work");
}

#[test]
fn descriptors_that_are_no_sockets_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for fd in ["0", "2", "-1", "999"] {
        let option = format!("--fd={fd}");
        fails_with(&folder, &[&option], &["--fd", fd]);
    }
}

/// A device process with one end of a socket pair, and the other end.
fn child(folder: &TempDir, arguments: &[&str]) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    (child_with(&theirs, folder, arguments), ours)
}

/// A device process with this socket.
fn child_with(theirs: &UnixStream, folder: &TempDir, arguments: &[&str]) -> Child {
    fcntl(theirs, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let fd = theirs.as_raw_fd().to_string();
    let mut command = program();
    command
        .current_dir(folder.path())
        .args(["--fd", &fd])
        .args(arguments);
    command.spawn().unwrap()
}

#[test]
fn an_inherited_socket_that_does_not_wait_is_made_to() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut child = child_with(&theirs, &folder, &[]);
    let mut card = Card::unattached([64; 4], EVENT_IDX);
    card.reattach(ours);
    // Both processes have the same socket.
    let flags = fcntl(&theirs, FcntlArg::F_GETFL).unwrap();
    assert!(!OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
    drop(card);
    assert!(wait_for_end(&mut child).success());
}

#[test]
fn a_device_on_an_inherited_socket_serves_it_and_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, socket) = child(&folder, &["--host", "file", "--playback-file", "out.wav"]);
    let mut card = Card::unattached([64; 4], EVENT_IDX);
    card.reattach(socket);
    let samples = noise(80 * 8, 1);
    card.play(0, &SMALL, &samples);
    assert!(child.try_wait().unwrap().is_none());
    drop(card);
    assert!(wait_for_end(&mut child).success());
    assert!(wav::read(&folder.path().join("out.wav")).1 == samples);
}

#[test]
fn a_device_on_an_inherited_socket_ends_when_nobody_ever_speaks() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, socket) = child(&folder, &[]);
    drop(socket);
    assert!(wait_for_end(&mut child).success());
}

#[test]
fn a_device_on_an_inherited_socket_ends_by_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, socket) = child(&folder, &[]);
    let mut card = Card::unattached([64; 4], EVENT_IDX);
    card.reattach(socket);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    assert!(wait_for_end(&mut child).success());
}
