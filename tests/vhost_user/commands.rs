// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Commands to a running device: what a user types, and what a program says.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::card::{Card, TX};
use crate::device::{Device, program, wait_for_end};
use crate::driver::LIMIT;
use crate::events::{CARD, device};
use crate::sound::*;

/// The command socket, in the device's folder.
pub const COMMANDS: &str = "commands";

/// Runs `vhost-user-sound tell`; whether it succeeded, and what it printed.
pub fn tell(device: &Device, words: &[&str]) -> (bool, String) {
    // Once the device's main socket is there, so is this one.
    drop(device.connect());
    let output = program()
        .arg("tell")
        .arg(device.path(COMMANDS))
        .args(words)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// A program that talks to a device by itself.
pub struct Client {
    socket: UnixStream,
    replies: BufReader<UnixStream>,
}

impl Client {
    pub fn connect(device: &Device) -> Self {
        drop(device.connect());
        Self::on(UnixStream::connect(device.path(COMMANDS)).unwrap())
    }

    fn on(socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        let replies = BufReader::new(socket.try_clone().unwrap());
        Self { socket, replies }
    }

    /// One line and the reply to it; empty where the device hangs up.
    pub fn say(&mut self, line: &str) -> String {
        // A device that hangs up may do so before it has read it all.
        let _ = self.socket.write_all(format!("{line}\n").as_bytes());
        self.reply()
    }

    fn reply(&mut self) -> String {
        let mut reply = String::new();
        let _ = self.replies.read_line(&mut reply);
        reply
    }
}

#[test]
fn a_user_sees_and_plugs_jacks() {
    let device = device();
    let jacks = "jack 0  headphone  unplugged\njack 1  microphone  plugged\n\
                 jack 2  line-out  unplugged\n";
    assert_eq!(tell(&device, &["jacks"]), (true, jacks.to_owned()));
    let plugged = "jack 0  headphone  plugged\n";
    let plug = ["jack", "headphone", "plugged"];
    assert_eq!(tell(&device, &plug), (true, plugged.to_owned()));
    assert_eq!(
        tell(&device, &["jack", "1", "unplugged"]).1,
        "jack 1  microphone  unplugged\n"
    );
    let json = "{\"jacks\":[{\"id\":0,\"kind\":\"headphone\",\"plugged\":true},\
                {\"id\":1,\"kind\":\"microphone\",\"plugged\":false},\
                {\"id\":2,\"kind\":\"line-out\",\"plugged\":false}]}\n";
    assert_eq!(tell(&device, &["jacks", "--json"]), (true, json.to_owned()));
}

#[test]
fn a_user_sees_how_the_card_is() {
    let device = device();
    let (_, idle) = tell(&device, &["status"]);
    for part in [
        "driver  none\n",
        "stream 0  playback device 0  null  idle\n",
        "line-out",
    ] {
        assert!(idle.contains(part), "{part:?} is not in {idle}");
    }
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    card.queue_periods(0, &noise(80 * 60, 1), 80);
    card.kick(TX);
    card.must(START, 0);
    let (_, running) = tell(&device, &["status"]);
    for part in [
        "driver  attached\n",
        "running  U8 8000 Hz 1 channels  period 80 of 320 bytes",
    ] {
        assert!(running.contains(part), "{part:?} is not in {running}");
    }
    card.close(0);
    let mut client = Client::connect(&device);
    let json = client.say("{\"command\":\"status\"}");
    let process = format!("{{\"process\":{},", device.pid());
    for part in [
        process.as_str(),
        "\"away\":false",
        "\"period_frames\":80,\"buffer_frames\":320",
        "\"driver\":true",
        "\"state\":\"released\"",
        "\"rate\":8000",
        "\"gaps\":0",
    ] {
        assert!(json.contains(part), "{part:?} is not in {json}");
    }
}

#[test]
fn what_makes_no_sense_is_explained() {
    let device = device();
    let wrong: [(&[&str], &str); 4] = [
        (&["jack", "speaker", "plugged"], "there is no speaker jack"),
        (
            &["jack", "7", "plugged"],
            "there is no jack 7; the card has 3",
        ),
        (
            &["jack", "headphone", "out"],
            "possible values: plugged, unplugged",
        ),
        (&["volume"], "volume"),
    ];
    for (words, says) in wrong {
        let (success, output) = tell(&device, words);
        assert!(!success && output.contains(says), "{words:?}: {output}");
    }
    let missing = program()
        .args(["tell", "/nonexistent/x", "jacks"])
        .output()
        .unwrap();
    let error = String::from_utf8(missing.stderr).unwrap();
    assert!(error.contains("--command-socket"), "{error}");
    assert!(!missing.status.success());
    // The vhost-user socket is another one.
    let output = program()
        .arg("tell")
        .arg(device.path("socket"))
        .arg("jacks")
        .output()
        .unwrap();
    assert!(!output.status.success());
}

#[test]
fn malformed_lines_are_answered_and_long_ones_end_the_talk() {
    let device = device();
    let mut client = Client::connect(&device);
    let wrong = [
        "hello",
        "{",
        "[]",
        "{\"command\":\"reboot\"}",
        "{\"command\":\"jack\",\"jack\":\"0\"}",
        "{\"command\":\"jack\",\"jack\":{},\"plugged\":true}",
        "{\"command\":\"jacks\",\"more\":1}",
        "\u{0}\u{1}",
    ];
    for line in wrong {
        let reply = client.say(line);
        assert!(reply.starts_with("{\"error\":\""), "{line:?}: {reply}");
    }
    client.socket.write_all(b"\n \n\xff\xfe\n").unwrap();
    assert!(client.reply().starts_with("{\"error\":\""));
    assert!(
        client
            .say("{\"command\":\"jacks\"}")
            .starts_with("{\"jacks\":")
    );
    assert!(client.say(&"x".repeat(5000)).contains("at most 4096 bytes"));
    assert_eq!(client.reply(), "");
    // Half a line, and the end.
    let mut client = Client::connect(&device);
    client.socket.write_all(b"{\"command\":").unwrap();
    client.socket.shutdown(Shutdown::Write).unwrap();
    assert!(client.reply().starts_with("{\"error\":\""));
}

#[test]
fn clients_that_say_nothing_or_read_nothing_disturb_nobody() {
    let device = device();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    let heads = card.queue_periods(0, &noise(80 * 40, 1), 80);
    card.kick(TX);
    card.must(START, 0);
    let silent: Vec<_> = (0..4).map(|_| Client::connect(&device)).collect();
    let deaf = Client::connect(&device);
    deaf.socket.set_nonblocking(true).unwrap();
    let mut flood = &deaf.socket;
    while flood.write(b"{\"command\":\"status\"}\n").is_ok() {}
    assert_eq!(tell(&device, &["jacks"]).1.lines().count(), 3);
    // More than there is room for.
    let many: Vec<_> = (0..4).map(|_| Client::connect(&device)).collect();
    let mut late = Client::connect(&device);
    assert!(late.reply().contains("too many clients"));
    drop((silent, many, late));
    for head in heads {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
    assert!(!device.log().contains("gaps"), "{}", device.log());
    // Those that went have made room.
    let end = std::time::Instant::now() + LIMIT;
    while !tell(&device, &["jacks"]).0 {
        assert!(std::time::Instant::now() < end, "no room for a client");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_command_socket_is_for_the_user_alone_and_goes_with_the_device() {
    let mut device = device();
    drop(device.connect());
    let path = device.path(COMMANDS);
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A device of its own path leaves this one alone.
    let other = program()
        .current_dir(path.parent().unwrap())
        .args(["--socket-path", "other", "--command-socket", COMMANDS])
        .output()
        .unwrap();
    let error = String::from_utf8(other.stderr).unwrap();
    assert!(error.contains("another device listens there"), "{error}");
    let mut client = Client::connect(&device);
    assert!(device.end_by(nix::sys::signal::Signal::SIGTERM).success());
    assert!(!path.exists());
    assert_eq!(client.say("{\"command\":\"jacks\"}"), "");
}

#[test]
fn commands_work_beside_an_inherited_socket() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("card.toml"), CARD).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let fd = theirs.as_raw_fd().to_string();
    let mut child = program()
        .current_dir(folder.path())
        .args([
            "--fd",
            &fd,
            "--card",
            "card.toml",
            "--command-socket",
            COMMANDS,
        ])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(theirs);
    let path = folder.path().join(COMMANDS);
    let end = std::time::Instant::now() + LIMIT;
    let jacks = loop {
        let output = program()
            .arg("tell")
            .arg(&path)
            .arg("jacks")
            .output()
            .unwrap();
        if output.status.success() {
            break String::from_utf8(output.stdout).unwrap();
        }
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(jacks.lines().count(), 3);
    drop(ours);
    assert!(wait_for_end(&mut child).success());
    assert!(!path.exists());
}

#[test]
fn a_user_sees_how_loud_and_how_late_the_sound_is() {
    let params = Params {
        buffer_bytes: 3200,
        period_bytes: 800,
        ..SMALL
    };
    let play = ["--host", "file", "--playback-file", "out.wav"];
    let device = Device::start(&[&play[..], &["--command-socket", COMMANDS]].concat());
    let mut card = Card::attach(&device);
    card.prepare(0, &params);
    // 4 s of half of full scale.
    card.queue_periods(0, &[0xc0; 800 * 40], 800);
    card.kick(TX);
    card.must(START, 0);
    // Who asks once is told as well: a moment of sound is measured for the answer.
    let (_, loud) = tell(&device, &["status"]);
    assert!(loud.contains("peak -6.02 dB\n"), "{loud}");
    let (_, json) = tell(&device, &["status", "--json"]);
    let reply: serde_json::Value = serde_json::from_str(&json).unwrap();
    let stream = &reply["streams"][0];
    let delay = stream["delay_frames"].as_u64().unwrap();
    let frames = stream["frames"].as_u64().unwrap();
    assert!(delay > 0 && delay + frames <= 800 * 40, "{json}");
    card.close(0);
    let (_, stands) = tell(&device, &["status"]);
    assert!(stands.contains("delay 0 frames  peak"), "{stands}");
    card.set_params(0, &params);
    let (_, silent) = tell(&device, &["status", "--json"]);
    assert!(
        silent.contains("\"peak\":[null],\"delay_frames\":0"),
        "{silent}"
    );
}

#[cfg(feature = "alsa")]
#[test]
fn a_card_that_is_not_there_is_away() {
    let nowhere = ["--host", "alsa", "--playback-device", "hw:nowhere"];
    let device = Device::start(&[&nowhere[..], &["--command-socket", COMMANDS]].concat());
    let mut card = Card::attach(&device);
    // S16, 48000 Hz: what most cards have.
    let params = Params {
        buffer_bytes: 7680,
        period_bytes: 1920,
        channels: 2,
        format: 5,
        rate: 7,
        ..SMALL
    };
    card.prepare(0, &params);
    card.queue_periods(0, &noise(1920 * 40, 1), 1920);
    card.kick(TX);
    card.must(START, 0);
    let (_, status) = tell(&device, &["status"]);
    assert!(
        status.contains("alsa hw:nowhere (away)  running"),
        "{status}"
    );
    let (_, json) = tell(&device, &["status", "--json"]);
    assert!(json.contains("\"away\":true"), "{json}");
    card.close(0);
}

#[cfg(feature = "pipewire")]
#[test]
fn a_stream_that_has_a_role_tells_it() {
    let role = ["--host", "pipewire", "--role", "Navigation"];
    let device = Device::start(&[&role[..], &["--command-socket", COMMANDS]].concat());
    let (_, status) = tell(&device, &["status", "--json"]);
    assert!(status.contains("\"role\":\"Navigation\""), "{status}");
}

/// The lowest number that no descriptor of the device has.
fn free_descriptor(device: &Device) -> usize {
    let folder = fs::read_dir(format!("/proc/{}/fd", device.pid())).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name());
    let taken: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    (0..)
        .find(|free: &usize| !taken.contains(&free.to_string()))
        .unwrap()
}

#[test]
fn a_client_that_cannot_be_let_in_is_told_of_once_and_comes_in_later() {
    let device = Device::start(&["--host", "null", "--command-socket", COMMANDS]);
    let mut card = Card::attach(&device);
    card.expect_service();
    let limit = |descriptors: usize| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &device.pid().to_string()]);
        let limit = command.arg(format!("--nofile={descriptors}:")).status();
        assert!(limit.unwrap().success());
    };
    limit(free_descriptor(&device));
    let socket = UnixStream::connect(device.path(COMMANDS)).unwrap();
    let mut client = Client::on(socket);
    let told = || device.log().matches("cannot let a client in").count();
    let end = Instant::now() + LIMIT;
    while told() == 0 {
        assert!(Instant::now() < end, "no word of it: {}", device.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    // It is tried several times meanwhile.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(told(), 1, "{}", device.log());
    limit(256);
    assert_eq!(client.say("{\"command\":\"jacks\"}"), "{\"jacks\":[]}\n");
}
