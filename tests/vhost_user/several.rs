// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Two streams of one device, and two devices, at once.

use crate::card::{Card, RX, TX};
use crate::device::Device;
use crate::sound::*;
use crate::wav;

const PERIODS: usize = 30;

#[test]
fn a_device_plays_and_captures_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let spoken = noise(4 * 441 * PERIODS, 1);
    wav::write(
        &folder.path().join("in.wav"),
        wav::spec(44_100, 2, 16),
        &spoken,
    );
    let arguments = [
        "--host",
        "file",
        "--playback-file",
        "out.wav",
        "--capture-file",
        "in.wav",
    ];
    let device = Device::start_in(folder, &arguments);
    let mut card = Card::attach(&device);
    let capture = Params {
        buffer_bytes: 4 * 441 * 4,
        period_bytes: 4 * 441,
        channels: 2,
        format: S16,
        rate: RATE_44100,
        ..SMALL
    };
    let played = noise(80 * PERIODS, 2);
    card.prepare(0, &SMALL);
    card.prepare(1, &capture);
    let out = card.queue_periods(0, &played, 80);
    let room: Vec<_> = (0..PERIODS)
        .map(|_| card.queue_capture(1, 4 * 441))
        .collect();
    card.kick(TX);
    card.kick(RX);
    card.must(START, 0);
    card.must(START, 1);
    let mut heard = Vec::new();
    for (played, captured) in out.into_iter().zip(room) {
        card.completion(TX).expect_played(played);
        let completion = card.completion(RX);
        completion.expect_captured(captured, 4 * 441);
        heard.extend(completion.samples);
    }
    card.close(1);
    card.close(0);
    assert!(heard == spoken);
    assert!(wav::read(&device.path("out.wav")).1 == played);
}

#[test]
fn two_devices_play_at_once_and_hear_nothing_of_each_other() {
    let devices = [Device::player(), Device::player()];
    let sounds = [noise(80 * PERIODS, 3), noise(80 * PERIODS, 4)];
    let mut cards = [0, 1].map(|which| Card::attach(&devices[which]));
    for (card, sound) in cards.iter_mut().zip(&sounds) {
        card.prepare(0, &SMALL);
        for period in sound.chunks(80) {
            card.queue_playback(0, period);
        }
        card.kick(TX);
        card.must(START, 0);
    }
    for _ in 0..PERIODS {
        for card in &mut cards {
            assert_eq!(card.completion(TX).status, OK);
        }
    }
    for ((mut card, device), sound) in cards.into_iter().zip(&devices).zip(&sounds) {
        card.close(0);
        assert!(wav::read(&device.path("out.wav")).1 == *sound);
    }
}

#[test]
fn one_device_ends_and_the_other_plays_on() {
    let stays = Device::player();
    let mut card = Card::attach(&stays);
    let samples = noise(80 * PERIODS, 5);
    card.prepare(0, &SMALL);
    let heads = card.queue_periods(0, &samples, 80);
    card.kick(TX);
    card.must(START, 0);
    let goes = Device::null();
    Card::attach(&goes).expect_service();
    drop(goes);
    for head in heads {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
    assert!(wav::read(&stays.path("out.wav")).1 == samples);
}
