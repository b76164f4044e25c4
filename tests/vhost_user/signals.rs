// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How the device process ends.

use nix::sys::signal::Signal;

use crate::card::{Card, TX};
use crate::device::Device;
use crate::raw_frontend::RawFrontend;
use crate::sound::*;
use crate::wav;

/// A device that has played at least five periods of ten seconds and plays on.
fn playing() -> (Device, Card, Vec<u8>) {
    let device = Device::player();
    let mut card = Card::attach(&device);
    let samples = noise(80 * 50 + (1 << 16), 1);
    card.prepare(0, &SMALL);
    let (periods, rest) = samples.split_at(80 * 50);
    let heads = card.queue_periods(0, periods, 80);
    card.queue_playback(0, rest);
    card.kick(TX);
    card.must(START, 0);
    for head in &heads[..5] {
        card.completion(TX).expect_played(*head);
    }
    (device, card, samples)
}

#[test]
fn signals_that_end_it_while_it_plays_leave_a_whole_file_and_no_socket() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let (mut device, _card, samples) = playing();
        let status = device.end_by(signal);
        assert!(status.success(), "{status}: {}", device.log());
        assert!(!device.path("socket").exists());
        let (spec, heard) = wav::read(&device.path("out.wav"));
        assert_eq!(spec, wav::spec(8000, 1, 8));
        assert!(heard.len() >= 5 * 80, "{} bytes", heard.len());
        assert!(samples.starts_with(&heard));
        let file = std::fs::metadata(device.path("out.wav")).unwrap();
        let told = 44 + heard.len() as u64;
        assert!(
            (told..=told + 1).contains(&file.len()),
            "the header is not the file's"
        );
    }
}

#[test]
fn a_device_that_was_killed_leaves_a_file_that_can_be_read() {
    let (mut device, _card, samples) = playing();
    device.end_by(Signal::SIGKILL);
    let (_, heard) = wav::read(&device.path("out.wav"));
    assert!(samples.starts_with(&heard));
}

#[test]
fn signals_are_seen_without_and_with_a_frontend() {
    let device = Device::null();
    drop(device.connect());
    drop(device);
    let device = Device::null();
    let socket = device.connect();
    drop(device);
    drop(socket);
}

#[test]
fn the_end_of_a_terminal_ends_it_unless_who_started_it_ignores_that() {
    for (options, ignored) in [(&[][..], false), (&[], true), (&["--respawn"], true)] {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let program = crate::device::program();
        let mut command = std::process::Command::new("env");
        if ignored {
            command.arg("--ignore-signal=HUP");
        }
        command.arg(program.get_program());
        command.arg("--socket-path").arg(&socket).args(options);
        let mut device = command.spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(device.id()).unwrap());
        // It handles signals before it listens.
        let end = std::time::Instant::now() + crate::driver::LIMIT;
        while !socket.exists() {
            assert!(std::time::Instant::now() < end, "it does not listen");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        nix::sys::signal::kill(pid, Signal::SIGHUP).unwrap();
        if ignored {
            std::thread::sleep(std::time::Duration::from_millis(200));
            assert_eq!(device.try_wait().unwrap(), None, "{options:?}");
            nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        }
        assert!(crate::device::wait_for_end(&mut device).success());
        assert!(!socket.exists());
    }
}

#[test]
fn sigterm_is_heard_in_the_middle_of_a_message() {
    use std::io::Write;
    // A whole header whose message never comes, and a part of one.
    for bytes in [&words(&[8, 1, 8])[..], &[8, 0, 0, 0, 1]] {
        let device = Device::null();
        let mut socket = device.connect();
        socket.write_all(bytes).unwrap();
        // Until the device waits for the rest; ending earlier would only be easier for it.
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(device);
    }
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_the_device_from_its_end() {
    let device = Device::start_unread(&["--host", "null"]);
    let mut card = Card::attach(&device);
    card.expect_service();
    device.fill_log();
    // What has become of this queue is a word for the log.
    let ring = &mut card.queues[TX];
    let jump = ring.avail_index.wrapping_add(257);
    card.memory.store16(ring.avail + 2, jump);
    ring.kick_anyway();
    card.pcm_infos(2);
    drop(card);
    // So is nonsense of a frontend.
    let mut raw = RawFrontend::new(device.connect());
    raw.send(u32::MAX, 1, &[], &[]);
    assert_eq!(raw.answer(), None);
    drop(device);
}

#[test]
fn the_socket_of_a_device_that_was_killed_is_taken_over() {
    let mut first = Device::null();
    drop(Card::attach(&first));
    first.end_by(Signal::SIGKILL);
    assert!(first.path("socket").exists());
    let socket = first.path("socket");
    let mut second = crate::device::program()
        .arg("--socket-path")
        .arg(&socket)
        .spawn()
        .unwrap();
    // It is there when it accepts a connection.
    Card::unattached([16; 4], 0).reattach(first.connect());
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(second.id()).unwrap()),
        Signal::SIGTERM,
    )
    .unwrap();
    assert!(crate::device::wait_for_end(&mut second).success());
}
