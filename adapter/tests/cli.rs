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
    let commands: [&[&str]; 7] = [
        &["list"],
        &["status"],
        &["status", "music"],
        &["status", "--watch"],
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
fn with_json_errors_are_json_too() {
    if Path::new(CONTROL_PATH).exists() {
        eprintln!("not tested: the module is loaded here");
        return;
    }
    let commands: [&[&str]; 5] = [
        &["list", "--json"],
        &["status", "--json"],
        &["status", "music", "--json", "--watch"],
        &["destroy", "music", "--json"],
        &[
            "run",
            "--json",
            "--name",
            "music",
            "--socket",
            "/nonexistent",
        ],
    ];
    for arguments in commands {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let line: serde_json::Value = serde_json::from_str(&stderr(&output)).unwrap();
        assert_eq!(line["level"], "error", "{arguments:?}");
        let message = line["message"].as_str().unwrap();
        assert!(message.contains("modprobe virtio_loopback"), "{message}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn bash_completes_a_word() {
    let completed = |words: [&str; 3]| {
        let [program, before, word] = words;
        let script = format!(
            "source <({PROGRAM} completions bash); COMP_WORDS=({program} {before} {word}); \
             COMP_CWORD=2; function=$(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
             $function {program} {word} {before}; echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["-c", &script]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert_eq!(
        completed(["virtio-loopback", "status", "--wa"]),
        "--watch\n"
    );
    assert_eq!(
        completed(["virtio-loopback", "run", "--queue-"]),
        "--queue-size\n"
    );
    assert_eq!(run(&["completions", "toaster"]).status.code(), Some(2));
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
    let (mut process, mut socket) =
        DeviceProcess::start_connected(Path::new(PROGRAM), &command, None).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    let signals = Signals::register().unwrap();
    let status = process.wait(&signals, Duration::from_secs(20)).unwrap();
    assert_eq!(status.unwrap().code(), Some(0));
}

#[test]
fn a_command_is_told_where_to_take_commands() {
    let script = "printf %s \"$VHOST_USER_COMMAND_SOCKET\" >&{fd}";
    let command = ["bash".into(), "-c".into(), script.into()];
    let path = Path::new("/run/virtio-loopback/music.commands");
    let start =
        |socket| DeviceProcess::start_connected(Path::new(PROGRAM), &command, socket).unwrap();
    let (_process, mut socket) = start(Some(path));
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert_eq!(text, "/run/virtio-loopback/music.commands");
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
        let (process, mut socket) =
            DeviceProcess::start_connected(Path::new(PROGRAM), &command, None).unwrap();
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
