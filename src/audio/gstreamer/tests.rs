// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Real pipelines behind a stream, under a test that is its audio thread.

use std::path::Path;
use std::time::{Duration, Instant};

use super::super::clock::Medium;
use super::super::wav;
use super::{Capturer, Player};
use crate::pcm_format::{self, FORMATS, Format};
use crate::stream::Params;

/// A pipeline may take its time, but not for ever.
const LIMIT: Duration = Duration::from_secs(30);

fn params(format: Format, channels: u8) -> Params {
    let frame_bytes = u32::from(format.bytes) * u32::from(channels);
    Params {
        format,
        rate: 48_000,
        channels,
        buffer_bytes: 400 * frame_bytes,
        period_bytes: 100 * frame_bytes,
        features: 0,
    }
}

/// Bytes that repeat nowhere near.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7u64;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

fn play(player: &mut Player, params: &Params, sound: &[u8]) {
    let frame_bytes = params.frame_bytes() as usize;
    for part in sound.chunks(100 * frame_bytes) {
        let mut at = 0;
        let frames = (part.len() / frame_bytes) as u64;
        let taken = player.write(0, frames, &mut |room| {
            room.copy_from_slice(&part[at..at + room.len()]);
            at += room.len();
        });
        assert_eq!(taken, frames);
    }
}

/// A whole life of a stream.
fn live(player: &mut Player, params: &Params, sound: &[u8]) {
    player.prepare(0, params).unwrap();
    player.started(0);
    play(player, params, sound);
    player.settle(0);
    player.release(0);
}

fn names(bits: u64) -> Vec<&'static str> {
    let offered = FORMATS.iter().filter(|format| bits & format.bit() != 0);
    offered.map(|format| format.name).collect()
}

#[test]
fn every_format_that_gstreamer_has_a_name_for_passes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.raw");
    let description = format!("filesink location={}", path.display());
    let mut player = Player::new(&description).unwrap();
    let offered = player.streams()[0];
    assert_eq!((offered.channels_min, offered.channels_max), (1, 8));
    assert_eq!(offered.rates.count_ones(), 14);
    let offered = names(offered.formats);
    assert_eq!(offered.len(), 18, "{offered:?}");
    for name in offered {
        for channels in [1, 2, 6, 8] {
            let params = params(Format::from_name(name).unwrap(), channels);
            let sound = noise(2500 * params.frame_bytes() as usize);
            live(&mut player, &params, &sound);
            assert_eq!(std::fs::read(&path).unwrap(), sound, "{name} {channels}");
            assert!(player.fault(0).is_none());
        }
    }
}

#[test]
fn a_stream_that_stops_and_goes_on_stays_in_one_pipeline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.wav");
    let description = format!("wavenc ! filesink location={}", path.display());
    let mut player = Player::new(&description).unwrap();
    let params = params(pcm_format::S16, 2);
    let sound = noise(4000 * 4);
    let (first, second) = sound.split_at(1500 * 4);
    player.prepare(0, &params).unwrap();
    for part in [first, second] {
        player.prepare(0, &params).unwrap();
        player.started(0);
        play(&mut player, &params, part);
        player.settle(0);
    }
    // The end of the program ends the pipeline as well.
    drop(player);
    let file = std::fs::read(&path).unwrap();
    let (layout, samples) = wav::parse(&file).unwrap();
    assert_eq!((layout.rate, layout.channels), (48_000, 2));
    assert_eq!(samples, sound);
}

#[test]
fn what_makes_no_pipeline_is_refused_in_gstreamers_words() {
    let wrong = [
        ("nosuchelement ! fakesink", "nosuchelement"),
        ("audioconvert ! ! fakesink", "syntax error"),
        ("audioconvert volume=3 ! fakesink", "volume"),
        ("", "empty"),
        ("audioconvert", "ends in nothing"),
        ("audiotestsrc ! fakesink", "takes no sound"),
        ("videoconvert ! fakesink", "videoconvert"),
        (
            "capsfilter caps=text/x-raw ! fakesink",
            "takes no sound of a card",
        ),
    ];
    for (description, says) in wrong {
        let error = Player::new(description).err().unwrap().to_string();
        assert!(error.contains(says), "{description}: {error}");
        let named = format!("pipeline '{description}': ");
        assert!(error.starts_with(&named), "{error}");
    }
    for (description, says) in [
        ("audioconvert", "starts with nothing"),
        ("audiotestsrc ! fakesink", "gives no sound"),
    ] {
        let error = Capturer::new(description).err().unwrap().to_string();
        assert!(error.contains(says), "{description}: {error}");
    }
}

fn wave(path: &Path, frames: usize) -> Vec<u8> {
    let sound = noise(frames * 4);
    let layout = wav::Layout {
        format: pcm_format::S16,
        rate: 48_000,
        channels: 2,
    };
    let mut file = wav::header(layout, sound.len() as u64).unwrap().to_vec();
    file.extend(&sound);
    std::fs::write(path, file).unwrap();
    sound
}

#[test]
fn a_captured_file_starts_over_at_prepare_and_ends_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.wav");
    // Longer than the ring.
    let sound = wave(&path, 100_000);
    let description = format!("filesrc location={} ! wavparse", path.display());
    let mut capturer = Capturer::new(&description).unwrap();
    assert!(capturer.fault(0).is_none());
    let offered = capturer.streams()[0];
    assert_eq!(names(offered.formats), ["S16_LE"]);
    assert_eq!(offered.rates, pcm_format::rate_bit(48_000));
    assert_eq!((offered.channels_min, offered.channels_max), (2, 2));
    let params = params(pcm_format::S16, 2);
    for _ in 0..2 {
        capturer.prepare(0, &params).unwrap();
        capturer.started(0);
        let mut heard = Vec::new();
        let end = Instant::now() + LIMIT;
        while heard.len() < sound.len() && Instant::now() < end {
            // A clock would not ask for more than there is.
            let there = capturer.waiting() as u64;
            capturer.read(0, there, &mut |part| heard.extend_from_slice(part));
            std::thread::sleep(Duration::from_millis(2));
        }
        capturer.read(0, 5, &mut |part| heard.extend_from_slice(part));
        assert_eq!(heard.len(), sound.len() + 20);
        assert!(heard.starts_with(&sound) && heard.ends_with(&[0; 20]));
        assert!(capturer.fault(0).is_none());
        capturer.release(0);
    }
}

/// Waits for something that the stream's thread does.
fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "not within the limit: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_pipeline_that_fails_is_silence_once_told_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later/out.raw");
    let description = format!("filesink location={}", path.display());
    let mut player = Player::new(&description).unwrap();
    let params = params(pcm_format::S16, 2);
    player.prepare(0, &params).unwrap();
    player.started(0);
    let error = wait_for("a fault", || player.fault(0)).to_string();
    assert!(
        error.contains("later/out.raw") && error.contains("silence"),
        "{error}"
    );
    let sound = noise(480 * 4);
    // Nothing is kept from the clock meanwhile, and nothing said again.
    for _ in 0..600 {
        play(&mut player, &params, &sound);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(player.fault(0).is_none() && !player.returned(0));
    std::fs::create_dir(folder.path().join("later")).unwrap();
    wait_for("the pipeline", || {
        play(&mut player, &params, &sound);
        player.returned(0).then_some(())
    });
    player.settle(0);
    player.release(0);
    let written = std::fs::metadata(&path).unwrap().len();
    assert!(written > 0 && written.is_multiple_of(4));
    assert!(player.fault(0).is_none());
}

#[test]
fn a_pipeline_that_ends_while_it_plays_is_a_fault() {
    let mut player = Player::new("identity eos-after=3 ! fakesink").unwrap();
    let params = params(pcm_format::S16, 2);
    player.prepare(0, &params).unwrap();
    player.started(0);
    let sound = noise(480 * 4);
    let error = wait_for("a fault", || {
        play(&mut player, &params, &sound);
        player.fault(0)
    });
    assert!(error.to_string().contains("has ended"), "{error}");
    player.release(0);
}

#[test]
fn a_live_source_is_heard_from_the_start_on() {
    let description = "audiotestsrc is-live=true wave=square volume=1 ! audioconvert";
    let mut capturer = Capturer::new(description).unwrap();
    assert_eq!(capturer.streams()[0].channels_max, 8);
    let params = params(pcm_format::S16, 2);
    capturer.prepare(0, &params).unwrap();
    capturer.started(0);
    wait_for("sound", || {
        let mut heard = Vec::new();
        capturer.read(0, 48, &mut |part| heard.extend_from_slice(part));
        assert_eq!(heard.len(), 48 * 4);
        heard.iter().any(|&byte| byte != 0).then_some(())
    });
    capturer.release(0);
}
