// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every sample format of virtio but IMA ADPCM is carried bit for bit, and has its own silence.

use std::collections::HashMap;

use crate::card::{Card, RX, TX};
use crate::device::Device;
use crate::frontend::EVENT_IDX;
use crate::sound::*;

/// `VIRTIO_SND_PCM_FMT_*` and a sample of silence, as alsa-lib has it.
const FORMATS: [(u8, &[u8]); 24] = [
    (1, &[0x7f]),           // MU_LAW
    (2, &[0x55]),           // A_LAW
    (3, &[0]),              // S8
    (4, &[0x80]),           // U8
    (5, &[0, 0]),           // S16
    (6, &[0, 0x80]),        // U16
    (7, &[0; 3]),           // S18_3
    (8, &[0, 0, 2]),        // U18_3
    (9, &[0; 3]),           // S20_3
    (10, &[0, 0, 8]),       // U20_3
    (11, &[0; 3]),          // S24_3
    (12, &[0, 0, 0x80]),    // U24_3
    (13, &[0; 4]),          // S20
    (14, &[0, 0, 8, 0]),    // U20
    (15, &[0; 4]),          // S24
    (16, &[0, 0, 0x80, 0]), // U24
    (17, &[0; 4]),          // S32
    (18, &[0, 0, 0, 0x80]), // U32
    (19, &[0; 4]),          // FLOAT
    (20, &[0; 8]),          // FLOAT64
    (21, &[0x69]),          // DSD_U8
    (22, &[0x69; 2]),       // DSD_U16
    (23, &[0x69; 4]),       // DSD_U32
    (24, &[0; 4]),          // IEC958_SUBFRAME
];

/// Frames of a period: 100 ms.
const FRAMES: usize = 800;

fn params(format: u8, sample: usize) -> Params {
    let period_bytes = u32::try_from(FRAMES * sample).unwrap();
    Params {
        buffer_bytes: 4 * period_bytes,
        period_bytes,
        format,
        ..SMALL
    }
}

/// Plays two periods on each device, all at once, and returns what their capture streams heard from
/// the first sound on, two periods and one more each.
fn through_cables(formats: &[(u8, &[u8])], sounds: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let devices = formats.len();
    let device = Device::start(&[
        "--host=loop",
        "--controls=none",
        &format!("--devices={devices}"),
    ]);
    let mut card = Card::attach_with(&device, [1024; 4], EVENT_IDX);
    let mut owner = HashMap::new();
    for (id, (format, silence)) in formats.iter().enumerate() {
        let (playback, capture) = (id as u32, (devices + id) as u32);
        let params = params(*format, silence.len());
        card.prepare(playback, &params);
        card.prepare(capture, &params);
        for period in sounds[id].chunks(params.period_bytes as usize) {
            card.queue_playback(playback, period);
        }
        // Room for three seconds: no scheduling of this test can make it miss the beginning.
        for _ in 0..30 {
            owner.insert(
                card.queue_capture(capture, params.period_bytes as usize),
                id,
            );
        }
    }
    card.kick(RX);
    card.kick(TX);
    let captures = devices as u32..2 * devices as u32;
    for stream in captures.chain(0..devices as u32) {
        card.must(START, stream);
    }
    let mut heard = vec![Vec::new(); devices];
    let mut missing = devices;
    while missing > 0 {
        let completion = card.completion(RX);
        let id = owner[&completion.head];
        let (silence, heard) = (formats[id].1, &mut heard[id]);
        heard.extend(completion.samples);
        let samples = heard.chunks(silence.len());
        let before = samples.take_while(|sample| *sample == silence).count();
        let wanted = (before + 3 * FRAMES) * silence.len();
        if heard.len() >= wanted && heard.len() - wanted < FRAMES * silence.len() {
            missing -= 1;
        }
    }
    for stream in 0..2 * devices as u32 {
        card.close(stream);
    }
    heard
}

#[test]
fn every_format_passes_a_cable_bit_for_bit_between_its_own_silence() {
    for formats in FORMATS.chunks(8) {
        let sounds: Vec<_> = formats
            .iter()
            .map(|(format, silence)| {
                let mut sound = noise(2 * FRAMES * silence.len(), (*format).into());
                // No format's silence: the beginning is found.
                sound[0] = 1;
                sound
            })
            .collect();
        let heard = through_cables(formats, &sounds);
        for (((format, silence), sound), heard) in formats.iter().zip(&sounds).zip(heard) {
            let samples = heard.chunks(silence.len());
            let before = samples.take_while(|sample| sample == silence).count();
            let (sent, behind) = heard[before * silence.len()..].split_at(sound.len());
            assert!(sent == sound, "format {format}");
            let quiet = behind
                .chunks(silence.len())
                .all(|sample| sample == *silence);
            assert!(
                quiet && behind.len() >= FRAMES * silence.len(),
                "format {format}"
            );
        }
    }
}

#[test]
fn every_format_is_captured_from_nothing_as_its_silence() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    for (format, silence) in FORMATS {
        for channels in [1, 3, 8] {
            let period_bytes = 80 * silence.len() as u32 * channels;
            let params = Params {
                buffer_bytes: 4 * period_bytes,
                period_bytes,
                channels: channels as u8,
                format,
                ..SMALL
            };
            let heard = card.record(1, &params, 1);
            assert!(
                heard.chunks(silence.len()).all(|sample| sample == silence),
                "format {format}"
            );
        }
    }
}

#[test]
fn ima_adpcm_is_neither_offered_nor_taken() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    assert!(
        card.pcm_infos(2)
            .iter()
            .all(|info| info.formats == (1 << 25) - 2)
    );
    for format in [0, 25, 63, 64, 255] {
        let params = Params { format, ..SMALL };
        assert_eq!(card.set_params(0, &params), NOT_SUPP, "format {format}");
    }
}

#[test]
fn every_rate_of_virtio_is_offered_and_taken() {
    let device = Device::null();
    let mut card = Card::attach(&device);
    assert!(
        card.pcm_infos(2)
            .iter()
            .all(|info| info.rates == (1 << 14) - 1)
    );
    for rate in 0..14 {
        let params = Params { rate, ..SMALL };
        card.play(0, &params, &noise(2 * 80, 1));
    }
    assert_eq!(card.set_params(0, &Params { rate: 14, ..SMALL }), NOT_SUPP);
}
