// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! The program as a user meets it, on a machine without the kernel module.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test, also where clippy.toml does not see it: outside of #[test] functions"
)]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use virtio_loopback::device_process::DeviceProcess;
use virtio_loopback::driver::CONTROL_PATH;
use virtio_loopback::signals::Signals;

const PROGRAM: &str = env!("CARGO_BIN_EXE_virtio-loopback");

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn without_the_module_every_command_says_how_to_load_it() {
    if Path::new(CONTROL_PATH).exists() {
        eprintln!("not tested: the module is loaded here");
        return;
    }
    let commands: [&[&str]; 6] = [
        &["list"],
        &["list", "--json"],
        &["status", "music"],
        &["destroy", "music"],
        &["run", "--name", "music", "--socket", "/nonexistent"],
        &["run", "--name", "music", "--", "/nonexistent"],
    ];
    for arguments in commands {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let text = stderr(&output);
        assert_eq!(text.lines().count(), 1, "one clear message: {text}");
        assert!(
            text.starts_with("virtio-loopback: error: cannot open /dev/"),
            "{text}"
        );
        assert!(text.contains("modprobe virtio_loopback"), "{text}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    let wrong: [(&[&str], &str); 6] = [
        (&[], "Usage"),
        (&["run", "--name", "music"], "--socket"),
        (
            &["run", "--name", "a b", "--socket", "x"],
            "A-Z a-z 0-9 _ and -",
        ),
        (
            &["run", "--name", "a", "--device", "piano", "--socket", "x"],
            "sound, rng, console",
        ),
        (
            &["run", "--name", "a", "--queue-size", "100", "--socket", "x"],
            "power of two",
        ),
        (&["status", &"x".repeat(32)], "at most 31"),
    ];
    for (arguments, says) in wrong {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(
            stderr(&output).contains(says),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn help_documents_the_exit_status() {
    let output = run(&["--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Exit status:"), "{text}");
    assert!(
        !text.contains("device-process"),
        "the hidden subcommand shows: {text}"
    );
}

#[test]
fn a_command_gets_the_connected_socket() {
    // bash: dash knows no descriptors above 9.
    let script = "printf %s \"$0\" >&{fd}".to_owned();
    let command = ["bash".into(), "-c".into(), script.into(), "hello".into()];
    let (mut process, mut socket) = DeviceProcess::start(Path::new(PROGRAM), &command).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    let signals = Signals::register().unwrap();
    let status = process.wait(&signals, Duration::from_secs(20)).unwrap();
    assert_eq!(status.unwrap().code(), Some(0));
}

#[test]
fn a_command_is_ended_and_killed_if_it_does_not_end() {
    let signals = Signals::register().unwrap();
    let start = |script: &str| {
        let command = [
            "bash".into(),
            "-c".into(),
            format!("{script}; : {{fd}}").into(),
        ];
        let (process, mut socket) = DeviceProcess::start(Path::new(PROGRAM), &command).unwrap();
        socket.read_exact(&mut [0]).unwrap();
        process
    };
    let mut obedient = start("echo >&{fd}; exec sleep 1000");
    assert_eq!(obedient.end(&signals).unwrap().signal(), Some(15));
    let mut stubborn = start("trap '' TERM; echo >&{fd}; exec sleep 1000");
    assert_eq!(stubborn.end(&signals).unwrap().signal(), Some(9));
}

#[test]
fn a_command_dies_with_its_adapter() {
    // A shell takes the adapter's place; the device process tells when it is there, by its output,
    // and that it has gone, by the end of it.
    let script = format!(
        "{PROGRAM} device-process $$ -- sh -c 'echo up; while :; do sleep 0.1; done' & wait"
    );
    let mut adapter = Command::new("sh")
        .args(["-c", &script])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(adapter.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    kill(Pid::from_raw(adapter.id() as i32), Signal::SIGKILL).unwrap();
    adapter.wait().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn a_command_without_its_adapter_is_not_started() {
    let output = run(&["device-process", "1", "--", "echo", "started"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_command_that_does_not_exist_is_named() {
    let parent = std::process::id().to_string();
    let output = run(&["device-process", &parent, "--", "/nonexistent/sound"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot start /nonexistent/sound: No such file"));
}
