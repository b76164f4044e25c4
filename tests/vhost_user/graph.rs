// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A card in the graph of a real PipeWire server, which has a sink without a sound card and no session
//! manager: links are made by the test. What is heard is compared in the virtual machine.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::card::{Card, TX};
use crate::device::Device;
use crate::driver::LIMIT;
use crate::idle::sleeps;
use crate::sound::*;

const SERVER: &str = r#"
context.properties = { core.daemon = true, core.name = pipewire-0 }
context.spa-libs = {
    audio.convert.* = audioconvert/libspa-audioconvert
    support.* = support/libspa-support
}
context.modules = [
    { name = libpipewire-module-protocol-native }
    { name = libpipewire-module-spa-node-factory }
    { name = libpipewire-module-client-node }
    { name = libpipewire-module-access }
    { name = libpipewire-module-adapter }
    { name = libpipewire-module-link-factory }
]
context.objects = [
    { factory = adapter args = {
        factory.name = support.null-audio-sink, node.name = speakers, media.class = Audio/Sink
        audio.position = [ FL FR ], adapter.auto-port-config = { mode = dsp }
    } }
]
"#;

/// A server in a folder of its own.
struct Server {
    folder: TempDir,
    process: Child,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Self::launch(folder.path());
        Self { folder, process }
    }

    fn launch(folder: &Path) -> Child {
        let configuration = folder.join("pipewire.conf");
        fs::write(&configuration, SERVER).unwrap();
        let mut command = Command::new("pipewire");
        command.arg("-c").arg(&configuration);
        command.env("PIPEWIRE_RUNTIME_DIR", folder);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("pipewire is installed");
        wait_for("the server's socket", || folder.join("pipewire-0").exists());
        process
    }

    fn restart(&mut self) {
        self.process = Self::launch(self.folder.path());
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let _ = fs::remove_file(self.folder.path().join("pipewire-0"));
    }

    fn device(&self, arguments: &[&str]) -> Device {
        let variable = format!("PIPEWIRE_RUNTIME_DIR={}", self.folder.path().display());
        let ports = "adapter.auto-port-config={ mode = dsp }";
        let own = [
            "--host",
            "pipewire",
            "--node-name",
            "music",
            "--property",
            ports,
        ];
        Device::start_by(&["env", &variable], &[&own, arguments].concat())
    }

    /// Links the card with the speakers, or takes the links away again.
    fn link(&self, options: &[&str]) {
        for channel in ["FL", "FR"] {
            wait_for("ports to link", || {
                let mut command = Command::new("pw-link");
                command.env("PIPEWIRE_RUNTIME_DIR", self.folder.path());
                command.args(options);
                command.arg(format!("music:output_{channel}"));
                command.arg(format!("speakers:playback_{channel}"));
                command.output().unwrap().status.success()
            });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "not within the limit: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn params() -> Params {
    Params {
        buffer_bytes: 16 * 4800,
        period_bytes: 4800,
        features: 0,
        channels: 2,
        format: S16,
        rate: RATE_48000,
    }
}

/// A card with a stream that has been started with 16 periods.
fn playing(device: &Device) -> Card {
    let mut card = Card::attach(device);
    card.prepare(0, &params());
    card.queue_periods(0, &noise(16 * 4800, 1), 4800);
    card.kick(TX);
    card.must(START, 0);
    card
}

#[test]
fn a_held_stream_moves_nothing_and_costs_nothing_and_goes_on_with_the_graph() {
    let server = Server::start();
    let device = server.device(&["--on-cork", "hold"]);
    let mut card = playing(&device);
    sleeps(&device, "held from the start");
    assert!(card.completed(TX).is_none(), "nothing was linked");
    server.link(&[]);
    card.completion(TX);
    server.link(&["-d"]);
    std::thread::sleep(Duration::from_millis(500));
    while card.completed(TX).is_some() {}
    sleeps(&device, "held");
    assert!(card.completed(TX).is_none(), "nothing is linked");
    card.queue_periods(0, &noise(20 * 4800, 2), 4800);
    card.kick(TX);
    server.link(&[]);
    for _ in 0..10 {
        card.completion(TX);
    }
    card.close(0);
}

#[test]
fn a_server_that_goes_and_returns_is_told_of_once_and_time_passes_meanwhile() {
    let mut server = Server::start();
    let device = server.device(&[]);
    let mut card = playing(&device);
    server.link(&[]);
    let said = |words: &str| device.whole_log().matches(words).count();
    card.completion(TX);
    server.kill();
    // More than what was in the graph: the clock has taken over.
    for _ in 0..12 {
        card.completion(TX);
    }
    wait_for("a complaint", || said("the server is gone") == 1);
    server.restart();
    card.queue_periods(0, &noise(16 * 4800, 2), 4800);
    card.kick(TX);
    wait_for("its return", || said("is back") == 1);
    card.completion(TX);
    card.close(0);
    assert_eq!(said("goes on in silence until it can be used"), 1);
    assert_eq!(device.whole_log().matches("panicked").count(), 0);
}
