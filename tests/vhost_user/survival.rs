// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device process dies: the next one goes on where it was, from the area that the frontend has kept.

use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::sys::signal::Signal::{self, SIGABRT, SIGKILL, SIGTERM};
use tempfile::TempDir;

use crate::card::{Card, RX, TX};
use crate::device::Device;
use crate::driver::Virtqueue;
use crate::frontend::{EVENT_IDX, Kept};
use crate::sound::*;
use crate::wav;

/// Bytes of the header of a WAV file.
const HEADER: usize = 44;
const PERIODS: usize = 60;
/// Of `SMALL`: bytes, which are frames, of a period.
const PERIOD: usize = 80;

fn player(folder: &TempDir) -> Device {
    let path = folder.path().join("out.wav");
    Device::start(&["--host", "file", "--playback-file", path.to_str().unwrap()])
}

fn attach(device: &Device, kept: &mut Option<Kept>) -> Card {
    let mut card = Card::unattached([256; 4], EVENT_IDX);
    card.reattach_keeping(device.connect(), kept);
    card
}

/// The device process ends by a signal, and another one takes its place.
fn replace(card: &mut Card, device: &mut Device, by: Signal, kept: &mut Option<Kept>, new: Device) {
    device.end_by(by);
    card.detach();
    *device = new;
    card.reattach_keeping(device.connect(), kept);
}

/// Plays; returns all periods when ten of them have been played.
fn play_ten(card: &mut Card, samples: &[u8]) -> Vec<u16> {
    card.prepare(0, &SMALL);
    let heads = card.queue_periods(0, samples, PERIOD);
    card.kick(TX);
    card.must(START, 0);
    for &head in &heads[..10] {
        card.completion(TX).expect_played(head);
    }
    heads
}

/// Starts a prepared stream with so many periods to capture into.
fn start_capture(card: &mut Card, stream: u32, periods: usize) -> Vec<u16> {
    let heads = (0..periods).map(|_| card.queue_capture(stream, PERIOD));
    let heads = heads.collect();
    card.kick(RX);
    card.must(START, stream);
    heads
}

/// What has been captured, as these periods come.
fn captured(card: &mut Card, heads: &[u16]) -> Vec<u8> {
    let mut samples = Vec::new();
    for &head in heads {
        let completion = card.completion(RX);
        completion.expect_captured(head, PERIOD);
        samples.extend(completion.samples);
    }
    samples
}

/// What was written, whatever the header says: who dies does not bring it up to date.
fn read(folder: &TempDir, name: &str) -> Vec<u8> {
    let mut bytes = std::fs::read(folder.path().join(name)).unwrap();
    bytes.split_off(HEADER)
}

#[test]
fn a_stream_plays_on_and_nothing_is_played_twice() {
    for signal in [SIGKILL, SIGABRT, SIGTERM] {
        let folder = tempfile::tempdir().unwrap();
        let (mut device, mut kept) = (player(&folder), None);
        let mut card = attach(&device, &mut kept);
        let samples = noise(PERIOD * PERIODS, 21);
        let heads = play_ten(&mut card, &samples);
        let new = player(&folder);
        replace(&mut card, &mut device, signal, &mut kept, new);
        for &head in &heads[10..] {
            card.completion(TX).expect_played(head);
        }
        // The stream is known, with all that belongs to it.
        card.close(0);
        let (before, after) = (read(&folder, "out.wav"), read(&folder, "out-2.wav"));
        assert!(samples.starts_with(&before), "what was played first");
        assert!(samples.ends_with(&after), "what was played then");
        assert!(before.len() + after.len() <= samples.len(), "played twice");
        // The clock went on meanwhile: all but half a buffer may have been passed.
        assert!(!after.is_empty());
    }
}

/// As where hosts take their time to get ready, or the adapter is replaced just then.
#[test]
fn a_stream_plays_on_when_its_queue_comes_late() {
    let folder = tempfile::tempdir().unwrap();
    let (mut device, mut kept) = (player(&folder), None);
    let mut card = attach(&device, &mut kept);
    let samples = noise(PERIOD * PERIODS, 23);
    let heads = play_ten(&mut card, &samples);
    device.end_by(SIGKILL);
    card.detach();
    device = player(&folder);
    card.reattach_slowly(device.connect(), &mut kept, Duration::from_millis(400));
    for &head in &heads[10..] {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
    let after = read(&folder, "out-2.wav");
    assert!(!after.is_empty() && samples.ends_with(&after));
}

#[test]
fn a_stream_captures_on_in_whole_periods() {
    let (mut device, mut kept) = (Device::null(), None);
    let mut card = attach(&device, &mut kept);
    card.prepare(1, &SMALL);
    let heads = start_capture(&mut card, 1, PERIODS);
    captured(&mut card, &heads[..10]);
    replace(&mut card, &mut device, SIGKILL, &mut kept, Device::null());
    // What was missed is silence, of U8.
    let rest = captured(&mut card, &heads[10..]);
    assert_eq!(rest, [0x80; PERIOD * (PERIODS - 10)]);
    card.close(1);
}

/// What starts a device that captures a file in this folder, and what is in that: odd bytes, none of them the
/// silence of U8.
fn recording(folder: &TempDir) -> (impl Fn() -> Device + use<>, Vec<u8>) {
    let path = folder.path().join("in.wav");
    let samples = noise(PERIOD * PERIODS, 27);
    let samples: Vec<u8> = samples.iter().map(|byte| byte | 1).collect();
    wav::write(&path, wav::spec(8000, 1, 8), &samples);
    let path = path.to_str().unwrap().to_owned();
    let start = move || Device::start(&["--host", "file", "--capture-file", &path]);
    (start, samples)
}

#[test]
fn a_stream_that_is_captured_from_a_file_goes_on_in_the_middle_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (start, samples) = recording(&folder);
    let (mut device, mut kept) = (start(), None);
    let mut card = attach(&device, &mut kept);
    card.prepare(0, &SMALL);
    let heads = start_capture(&mut card, 0, PERIODS);
    let mut heard = captured(&mut card, &heads[..10]);
    replace(&mut card, &mut device, SIGKILL, &mut kept, start());
    heard.extend(captured(&mut card, &heads[10..]));
    card.close(0);
    let hole = heard.iter().filter(|byte| **byte == 0x80).count();
    let before = heard.iter().position(|byte| *byte == 0x80).unwrap();
    assert!(before >= 10 * PERIOD);
    assert!(heard[before..][..hole].iter().all(|byte| *byte == 0x80));
    heard.drain(before..before + hole);
    assert!(samples.starts_with(&heard), "heard twice, or passed over");
}

#[test]
fn a_stream_that_has_been_prepared_captures_the_file_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let (start, samples) = recording(&folder);
    let (mut device, mut kept) = (start(), None);
    let mut card = attach(&device, &mut kept);
    card.prepare(0, &SMALL);
    let heads = start_capture(&mut card, 0, 10);
    captured(&mut card, &heads);
    card.close(0);
    card.prepare(0, &SMALL);
    replace(&mut card, &mut device, SIGKILL, &mut kept, start());
    let heads = start_capture(&mut card, 0, 10);
    let heard = captured(&mut card, &heads);
    card.close(0);
    assert!(samples.starts_with(&heard));
}

#[test]
fn a_stream_whose_file_cannot_be_written_any_more_plays_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut device, mut kept) = (player(&folder), None);
    let mut card = attach(&device, &mut kept);
    let heads = play_ten(&mut card, &noise(PERIOD * PERIODS, 28));
    let full = Device::start(&["--host", "file", "--playback-file", "/dev/full"]);
    replace(&mut card, &mut device, SIGKILL, &mut kept, full);
    for &head in &heads[10..] {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
}

#[test]
fn a_stream_that_pauses_is_kept_with_its_messages() {
    let folder = tempfile::tempdir().unwrap();
    let (mut device, mut kept) = (player(&folder), None);
    let mut card = attach(&device, &mut kept);
    let samples = noise(PERIOD * 4, 22);
    card.prepare(0, &SMALL);
    let heads = card.queue_periods(0, &samples, PERIOD);
    card.kick(TX);
    card.pcm_infos(1);
    for _ in 0..3 {
        let new = player(&folder);
        replace(&mut card, &mut device, SIGKILL, &mut kept, new);
    }
    card.must(START, 0);
    for head in heads {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
    assert!(read(&folder, "out.wav").is_empty() || read(&folder, "out.wav") == samples);
}

#[test]
fn both_ends_die_at_once() {
    let (mut device, mut kept) = (Device::null(), None);
    let mut card = attach(&device, &mut kept);
    card.prepare(0, &SMALL);
    let head = card.queue_playback(0, &vec![1; 800]);
    card.kick(TX);
    card.must(START, 0);
    card.detach();
    replace(&mut card, &mut device, SIGKILL, &mut kept, Device::null());
    card.completion(TX).expect_played(head);
    card.close(0);
}

/// As adapters do that come after each other: the device process lives, and not a frame is lost.
#[test]
fn frontends_come_and_go_with_the_area_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let samples = noise(PERIOD * PERIODS, 24);
    let path = folder.path().join("in.wav");
    wav::write(&path, wav::spec(8000, 1, 8), &samples);
    let device = Device::start_in(folder, &["--host", "file", "--capture-file", "in.wav"]);
    let mut kept = None;
    let mut card = attach(&device, &mut kept);
    card.prepare(0, &SMALL);
    let heads = start_capture(&mut card, 0, PERIODS);
    let mut heard = Vec::new();
    for (count, head) in heads.into_iter().enumerate() {
        if count % 7 == 3 {
            card.detach();
            card.reattach_keeping(device.connect(), &mut kept);
        }
        let completion = card.completion(RX);
        completion.expect_captured(head, PERIOD);
        heard.extend(completion.samples);
    }
    card.close(0);
    assert!(heard == samples);
}

#[test]
fn a_frontend_that_lost_the_area_gets_another_from_a_living_device() {
    let (mut device, mut kept) = (Device::null(), None);
    let mut card = attach(&device, &mut kept);
    card.prepare(0, &SMALL);
    let heads = card.queue_periods(0, &vec![1; PERIOD * 8], PERIOD);
    card.kick(TX);
    card.must(START, 0);
    card.detach();
    kept = None;
    card.reattach_keeping(device.connect(), &mut kept);
    // What was in flight before is in the new one, too.
    replace(&mut card, &mut device, SIGKILL, &mut kept, Device::null());
    for head in heads {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
}

#[test]
fn a_driver_that_was_reset_is_not_taken_for_the_last_one() {
    let (mut device, mut kept) = (Device::null(), None);
    let mut card = attach(&device, &mut kept);
    card.prepare(0, &SMALL);
    card.queue_playback(0, &[1; PERIOD]);
    card.kick(TX);
    card.pcm_infos(2);
    device.end_by(SIGKILL);
    card.detach();
    card.forget();
    device = Device::null();
    card.reattach_keeping(device.connect(), &mut kept);
    assert_eq!(card.ask(START, 0), BAD_MSG);
    card.expect_service();
}

/// Whatever the area holds, the next process serves the queues, and says what it does not know.
#[test]
fn nonsense_in_the_area_is_a_fresh_start() {
    let mut random = noise(1 << 17, 23).into_iter().cycle();
    for part in 0..12 {
        let (mut device, mut kept) = (Device::null(), None);
        let mut card = attach(&device, &mut kept);
        card.prepare(0, &SMALL);
        card.queue_playback(0, &[1; PERIOD * 4]);
        card.kick(TX);
        card.pcm_infos(2);
        device.end_by(SIGKILL);
        card.detach();
        let area = kept.as_ref().unwrap();
        let size = area.message.mmap_size as usize;
        // All of it, or every twelfth byte.
        let step = if part == 0 { 1 } else { 12 };
        for at in (part..size).step_by(step) {
            let byte = [random.next().unwrap()];
            area.file.write_all_at(&byte, at as u64).unwrap();
        }
        device = Device::null();
        card.reattach_keeping(device.connect(), &mut kept);
        // A message that comes back early, or never, is the driver's to find.
        while card.completed(TX).is_some() {}
        let used = card
            .queues
            .iter()
            .map(Virtqueue::used_index_in_memory)
            .sum::<u16>();
        assert!(used > 0);
        card.pcm_infos(2);
    }
}
