// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a driver plays is what the host gets, and messages come back when they have been heard.

use std::fs;

use crate::card::{Card, TX};
use crate::device::Device;
use crate::frontend::EVENT_IDX;
use crate::sound::*;
use crate::wav;

fn params(format: u8, sample_bytes: u32, channels: u8, rate: u8, period_frames: u32) -> Params {
    let period_bytes = period_frames * sample_bytes * u32::from(channels);
    Params {
        buffer_bytes: 4 * period_bytes,
        period_bytes,
        features: 0,
        channels,
        format,
        rate,
    }
}

#[test]
fn every_sample_arrives_whatever_its_format() {
    for (format, bytes) in [(U8, 1), (S16, 2), (S24_3, 3), (S32, 4)] {
        for channels in [1, 2, 6] {
            let device = Device::player();
            let mut card = Card::attach(&device);
            let params = params(format, bytes, channels, RATE_48000, 441);
            let samples = noise(8 * params.period_bytes as usize, u64::from(format));
            card.play(0, &params, &samples);
            let (spec, heard) = wav::read(&device.path("out.wav"));
            let expected = wav::spec(48_000, channels.into(), bytes as u16 * 8);
            assert_eq!(spec, expected);
            assert!(
                heard == samples,
                "{spec:?}: other samples than those played"
            );
        }
    }
}

#[test]
fn samples_of_24_bits_in_4_bytes_are_written_as_3() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    let params = params(S24, 4, 2, RATE_44100, 500);
    let samples = noise(4 * params.period_bytes as usize, 9);
    card.play(0, &params, &samples);
    let (spec, heard) = wav::read(&device.path("out.wav"));
    assert_eq!(spec, wav::spec(44_100, 2, 24));
    let packed: Vec<u8> = samples
        .chunks(4)
        .flat_map(|sample| sample[..3].to_vec())
        .collect();
    assert!(heard == packed);
}

#[test]
fn every_sample_arrives_whatever_the_period() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    let mut all = Vec::new();
    // One frame, odd numbers, exactly one descriptor, several, more than the host writes at once.
    for period_frames in [1, 7, 1023, 1024, 1025, 5000] {
        let params = params(S16, 2, 2, RATE_48000, period_frames);
        let samples = noise(3 * params.period_bytes as usize, period_frames.into());
        card.play(0, &params, &samples);
        all.extend(samples);
    }
    let (_, heard) = wav::read(&device.path("out.wav"));
    assert!(heard == all);
}

#[test]
fn messages_need_not_be_periods() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    let params = params(S16, 2, 2, RATE_48000, 480);
    card.prepare(0, &params);
    let samples = noise(4 * 2000, 5);
    let mut rest = &samples[..];
    let mut heads = Vec::new();
    for frames in [1, 2, 479, 480, 481, 3, 554] {
        let (message, behind) = rest.split_at(4 * frames);
        heads.push(card.queue_playback(0, message));
        rest = behind;
    }
    assert!(rest.is_empty());
    card.kick(TX);
    card.must(START, 0);
    for head in heads {
        card.completion(TX).expect_played(head);
    }
    card.close(0);
    assert!(wav::read(&device.path("out.wav")).1 == samples);
}

#[test]
fn messages_added_one_by_one_while_playing_arrive_in_order() {
    for features in [0, EVENT_IDX] {
        let device = Device::player();
        let mut card = Card::attach_with(&device, [16; 4], features);
        card.prepare(0, &SMALL);
        let samples = noise(80 * 30, 3);
        let mut periods = samples.chunks(80);
        for period in periods.by_ref().take(4) {
            card.queue_playback(0, period);
        }
        card.kick(TX);
        card.must(START, 0);
        for _ in 0..30 {
            let completion = card.completion(TX);
            assert_eq!((completion.length, completion.status), (8, OK));
            if let Some(period) = periods.next() {
                card.queue_playback(0, period);
                card.kick(TX);
            }
        }
        card.close(0);
        assert!(wav::read(&device.path("out.wav")).1 == samples);
    }
}

#[test]
fn a_message_comes_back_only_after_the_ones_before_it_and_all_of_itself_were_heard() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    let samples = noise(80 * 10, 4);
    let heads = card.queue_periods(0, &samples, 80);
    card.kick(TX);
    card.must(START, 0);
    for (place, head) in heads.into_iter().enumerate() {
        card.completion(TX).expect_played(head);
        // From here on nothing is heard, and what was is in the file.
        card.must(STOP, 0);
        let heard = fs::metadata(device.path("out.wav")).unwrap().len();
        let least = 44 + 80 * (place as u64 + 1);
        assert!(
            heard >= least,
            "message {place} came back after {heard} of {least} bytes"
        );
        card.must(START, 0);
    }
    card.close(0);
}

#[test]
fn a_message_that_has_not_been_heard_does_not_come_back() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    let short = card.queue_playback(0, &[1; 80]);
    // Half a minute of sound.
    let long = card.queue_playback(0, &vec![2; 1 << 18]);
    card.kick(TX);
    card.must(START, 0);
    card.completion(TX).expect_played(short);
    card.pcm_infos(1);
    assert!(
        card.completed(TX).is_none(),
        "half a minute went by in no time"
    );
    card.must(STOP, 0);
    assert!(card.completed(TX).is_none(), "STOP keeps messages");
    card.must(RELEASE, 0);
    assert_eq!(card.completed(TX).unwrap().head, long);
    let heard = fs::metadata(device.path("out.wav")).unwrap().len();
    assert!(heard < 1 << 18);
}

#[test]
fn a_pause_loses_and_repeats_nothing() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    let samples = noise(80 * 12, 6);
    let heads = card.queue_periods(0, &samples, 80);
    card.kick(TX);
    for head in heads {
        card.must(START, 0);
        card.completion(TX).expect_played(head);
        card.must(STOP, 0);
    }
    card.must(RELEASE, 0);
    assert!(wav::read(&device.path("out.wav")).1 == samples);
}

#[test]
fn latency_is_told_in_bytes_and_a_file_has_none() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    let head = card.queue_playback(0, &[1; 80]);
    card.kick(TX);
    let completion = card.completion(TX);
    completion.expect_played(head);
    assert_eq!(completion.latency_bytes, 0);
    card.close(0);
}

#[test]
fn an_underrun_stops_nothing_and_adds_nothing_to_the_file() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    let samples = noise(80 * 5, 8);
    for period in samples.chunks(80) {
        // The queue is empty each time this one comes.
        let head = card.queue_playback(0, period);
        card.kick(TX);
        card.completion(TX).expect_played(head);
    }
    card.close(0);
    assert!(wav::read(&device.path("out.wav")).1 == samples);
}

#[test]
fn a_header_and_samples_in_one_descriptor_or_byte_by_byte_are_the_same() {
    use crate::driver::Buffer;
    let device = Device::player();
    let mut card = Card::attach(&device);
    card.prepare(0, &SMALL);
    card.must(START, 0);
    let samples = noise(160, 10);
    let head = card.queue_short_playback(0, &samples[..80]);
    card.kick(TX);
    card.completion(TX).expect_played(head);
    let message = [&0u32.to_le_bytes()[..], &samples[80..]].concat();
    let at = card.bytes(&message);
    let mut parts: Vec<_> = (0..84).map(|byte| Buffer::readable(at + byte, 1)).collect();
    let status = card.status_room();
    parts.extend((0..8).map(|byte| Buffer::writable(status + byte, 1)));
    assert_eq!(card.exchange(TX, &parts).length, 8);
    assert_eq!(card.memory.read(status, 8), words(&[OK, 0]));
    card.close(0);
    assert!(wav::read(&device.path("out.wav")).1 == samples);
}

#[test]
fn another_format_gets_a_file_of_its_own() {
    let device = Device::player();
    let mut card = Card::attach(&device);
    let first = noise(160, 11);
    card.play(0, &SMALL, &first);
    let wide = params(S16, 2, 2, RATE_44100, 441);
    let second = noise(2 * wide.period_bytes as usize, 12);
    card.play(0, &wide, &second);
    assert!(wav::read(&device.path("out.wav")).1 == first);
    let (spec, heard) = wav::read(&device.path("out-2.wav"));
    assert_eq!(spec, wav::spec(44_100, 2, 16));
    assert!(heard == second);
}
