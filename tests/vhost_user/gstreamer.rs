// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Cards in front of GStreamer pipelines.

use std::fs;
use std::time::{Duration, Instant};

use crate::card::{Card, TX};
use crate::command_line::{fails_with, output};
use crate::device::Device;
use crate::driver::LIMIT;
use crate::sound::*;
use crate::wav;

/// Of a card that has one direction alone.
const PARAMS: Params = Params {
    format: S16,
    channels: 2,
    rate: RATE_48000,
    buffer_bytes: 4 * 1920,
    period_bytes: 1920,
    ..SMALL
};

#[test]
fn a_file_sink_holds_what_was_played_once_the_card_is_given_up() {
    let pipeline = "wavenc ! filesink location=out.wav";
    let device = Device::start(&["--host", "gstreamer", "--playback-pipeline", pipeline]);
    let mut card = Card::attach(&device);
    let sound = noise(1920 * 30, 1);
    // RELEASE comes with this.
    card.play(0, &PARAMS, &sound);
    assert_eq!(wav::read(&device.path("out.wav")).1, sound);
    // Other parameters: the pipeline is played anew.
    let params = Params {
        channels: 1,
        buffer_bytes: 4 * 960,
        period_bytes: 960,
        ..PARAMS
    };
    let sound = noise(960 * 30, 2);
    card.play(0, &params, &sound);
    let (spec, samples) = wav::read(&device.path("out.wav"));
    assert_eq!((spec.channels, spec.sample_rate), (1, 48_000));
    assert_eq!(samples, sound);
}

#[test]
fn the_end_of_the_program_ends_the_pipeline() {
    let pipeline = "wavenc ! filesink location=out.wav";
    let mut device = Device::start(&["--host", "gstreamer", "--playback-pipeline", pipeline]);
    let mut card = Card::attach(&device);
    let sound = noise(1920 * 10, 1);
    card.prepare(0, &PARAMS);
    let heads = card.queue_periods(0, &sound, 1920);
    card.kick(TX);
    card.must(START, 0);
    for head in heads {
        card.completion(TX).expect_played(head);
    }
    assert!(device.end_by(nix::sys::signal::Signal::SIGTERM).success());
    assert_eq!(wav::read(&device.path("out.wav")).1, sound);
}

#[test]
fn a_file_source_is_captured_and_its_card_offers_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let sound = noise(1920 * 30, 3);
    wav::write(
        &folder.path().join("in.wav"),
        wav::spec(48_000, 2, 16),
        &sound,
    );
    let pipeline = "filesrc location=in.wav ! wavparse";
    let device = Device::start_in(
        folder,
        &["--host", "gstreamer", "--capture-pipeline", pipeline],
    );
    let mut card = Card::attach(&device);
    let info = card.pcm_infos(1).remove(0);
    assert_eq!((info.formats.count_ones(), info.rates.count_ones()), (1, 1));
    assert_eq!(info.channels, (2, 2));
    assert!(card.record(0, &PARAMS, 30) == sound);
}

#[test]
fn a_pipeline_that_is_none_is_refused_with_gstreamers_words() {
    let folder = tempfile::tempdir().unwrap();
    let line = ["--socket-path", "socket", "--host", "gstreamer"];
    let wrong = ["--playback-pipeline", "nosuch ! fakesink"];
    let words = ["pipeline 'nosuch ! fakesink'", "no element \"nosuch\""];
    fails_with(&folder, &[&line[..], &wrong].concat(), &words);
    fails_with(&folder, &line, &["--playback-pipeline, --capture-pipeline"]);
    let misplaced = ["--socket-path", "socket", "--capture-pipeline", "x"];
    fails_with(&folder, &misplaced, &["--capture-pipeline", "null"]);
    let card = "[[stream]]\ndirection = 'capture'\nhost = 'gstreamer'\npipeline = 'fakesink'\n";
    fs::write(folder.path().join("card.toml"), card).unwrap();
    let line = ["--socket-path", "socket", "--card", "card.toml"];
    fails_with(&folder, &line, &["pipeline 'fakesink'", "gives no sound"]);
    let card = card.replace("fakesink", "audiotestsrc");
    fs::write(folder.path().join("card.toml"), card).unwrap();
    let checked = output(&folder, &["--check", "--card", "card.toml"]);
    let checked = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.contains("gstreamer audiotestsrc\n"), "{checked}");
}

#[test]
fn a_sink_that_fails_while_it_plays_is_named_once_and_the_clock_goes_on() {
    let pipeline = "identity error-after=5 ! fakesink";
    let device = Device::start(&["--host", "gstreamer", "--playback-pipeline", pipeline]);
    let mut card = Card::attach(&device);
    for _ in 0..3 {
        card.play(0, &PARAMS, &noise(1920 * 20, 1));
    }
    let end = Instant::now() + LIMIT;
    while !device.log().contains("goes on in silence") {
        assert!(Instant::now() < end, "{}", device.log());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!device.log().contains("gaps"), "{}", device.log());
}
