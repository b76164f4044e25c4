// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `--host loop`: what is played is captured.

use crate::card::{Card, RX, TX};
use crate::device::Device;
use crate::frontend::EVENT_IDX;
use crate::sound::*;

/// 100 ms.
const PERIOD: usize = 800;
const LONG: Params = Params {
    buffer_bytes: 4 * PERIOD as u32,
    period_bytes: PERIOD as u32,
    ..SMALL
};

fn device() -> Device {
    Device::start(&["--host", "loop"])
}

#[test]
fn what_is_played_is_captured_between_silence() {
    let device = device();
    let mut card = Card::attach_with(&device, [1024; 4], EVENT_IDX);
    card.prepare(0, &LONG);
    card.prepare(1, &LONG);
    // Room for half a minute: no scheduling of this test can make it miss the beginning.
    for _ in 0..300 {
        card.queue_capture(1, PERIOD);
    }
    card.kick(RX);
    card.must(START, 1);
    // No sample is that of silence, so that the beginning is found.
    let played: Vec<u8> = noise(3 * PERIOD, 7).iter().map(|byte| byte | 1).collect();
    for period in played.chunks(PERIOD) {
        card.queue_playback(0, period);
    }
    card.kick(TX);
    card.must(START, 0);
    let mut heard = Vec::new();
    let mut start = None;
    while start.is_none_or(|start| heard.len() < start + played.len() + PERIOD) {
        let completion = card.completion(RX);
        assert_eq!(
            (completion.length, completion.status),
            (8 + PERIOD as u32, OK)
        );
        heard.extend(completion.samples);
        start = heard.iter().position(|&sample| sample != 0x80);
    }
    let (before, rest) = heard.split_at(start.unwrap());
    let (during, after) = rest.split_at(played.len());
    assert!(during == played, "something else than what was played");
    assert!(before.iter().chain(after).all(|&sample| sample == 0x80));
    card.close(0);
    card.close(1);
}

#[test]
fn streams_of_different_formats_do_not_meet() {
    let device = device();
    let mut card = Card::attach(&device);
    let wide = Params {
        format: S16,
        ..SMALL
    };
    card.prepare(0, &wide);
    card.prepare(1, &SMALL);
    for _ in 0..20 {
        card.queue_playback(0, &[1; 80]);
        card.queue_capture(1, 80);
    }
    card.kick(TX);
    card.kick(RX);
    card.must(START, 1);
    card.must(START, 0);
    for _ in 0..20 {
        assert_eq!(card.completion(RX).samples, [0x80; 80]);
    }
    for _ in 0..20 {
        assert_eq!(card.completion(TX).status, OK);
    }
    card.close(0);
    card.close(1);
}

#[test]
fn each_direction_works_alone() {
    Card::attach(&device()).expect_service();
}
