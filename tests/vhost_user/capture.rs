// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the host captures is what a driver gets, in full periods.

use crate::card::{Card, RX, UNTOUCHED};
use crate::device::Device;
use crate::sound::*;
use crate::wav;

fn microphone(spec: hound::WavSpec, samples: &[u8]) -> Device {
    let folder = tempfile::tempdir().unwrap();
    wav::write(&folder.path().join("in.wav"), spec, samples);
    Device::start_in(folder, &["--host", "file", "--capture-file", "in.wav"])
}

#[test]
fn every_sample_arrives_whatever_its_format() {
    for (format, bytes) in [(U8, 1u16), (S16, 2), (S24_3, 3), (S32, 4)] {
        for channels in [1u8, 2, 6] {
            let period_bytes = 441 * u32::from(bytes) * u32::from(channels);
            let samples = noise(6 * period_bytes as usize, u64::from(format));
            let spec = wav::spec(44_100, channels.into(), bytes * 8);
            let device = microphone(spec, &samples);
            let mut card = Card::attach(&device);
            let params = Params {
                buffer_bytes: 2 * period_bytes,
                period_bytes,
                channels,
                format,
                rate: RATE_44100,
                ..SMALL
            };
            let heard = card.record(0, &params, 6);
            assert!(
                heard == samples,
                "{spec:?}: other samples than those in the file"
            );
        }
    }
}

#[test]
fn silence_follows_the_end_of_the_file() {
    // U8: its silence is not zero.
    let samples = noise(100, 1);
    let device = microphone(wav::spec(8000, 1, 8), &samples);
    let mut card = Card::attach(&device);
    let heard = card.record(0, &SMALL, 3);
    assert_eq!(heard[..100], samples);
    assert_eq!(heard[100..], [0x80; 140]);
}

#[test]
fn the_file_starts_over_with_each_prepare() {
    let samples = noise(800, 2);
    let device = microphone(wav::spec(8000, 1, 8), &samples);
    let mut card = Card::attach(&device);
    for _ in 0..2 {
        assert_eq!(card.record(0, &SMALL, 3), samples[..240]);
    }
}

#[test]
fn a_pause_captures_on_where_it_was() {
    let samples = noise(8000, 3);
    let device = microphone(wav::spec(8000, 1, 8), &samples);
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    let heads: Vec<_> = (0..8).map(|_| card.queue_capture(0, 80)).collect();
    card.kick(RX);
    let mut heard = Vec::new();
    for head in heads {
        card.must(START, 0);
        let completion = card.completion(RX);
        completion.expect_captured(head, 80);
        heard.extend(completion.samples);
        card.must(STOP, 0);
    }
    card.must(RELEASE, 0);
    assert_eq!(heard, samples[..640]);
}

#[test]
fn room_comes_back_full_or_not_at_all() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(1, &SMALL);
    let short = card.queue_capture(1, 80);
    let long = card.queue_capture(1, 1 << 18);
    card.kick(RX);
    card.must(START, 1);
    card.completion(RX).expect_captured(short, 80);
    card.pcm_infos(2);
    assert!(card.completed(RX).is_none());
    card.must(STOP, 1);
    assert!(card.completed(RX).is_none());
    card.must(RELEASE, 1);
    let completion = card.completed(RX).unwrap();
    assert_eq!((completion.head, completion.length), (long, 8));
}

#[test]
fn room_before_start_waits_for_it_and_is_not_touched() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(1, &SMALL);
    let head = card.queue_capture(1, 80);
    card.kick(RX);
    card.pcm_infos(2);
    assert!(card.completed(RX).is_none());
    card.must(RELEASE, 1);
    let completion = card.completed(RX).unwrap();
    assert_eq!((completion.head, completion.length), (head, 8));
    assert!(completion.samples.iter().all(|&byte| byte == UNTOUCHED));
}

#[test]
fn room_added_late_gets_later_sound_and_the_clock_goes_on() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    card.prepare(1, &SMALL);
    card.must(START, 1);
    for _ in 0..5 {
        // There is no room each time this one comes.
        let head = card.queue_capture(1, 80);
        card.kick(RX);
        let completion = card.completion(RX);
        completion.expect_captured(head, 80);
        assert_eq!(completion.samples, [0x80; 80]);
    }
    card.close(1);
}
