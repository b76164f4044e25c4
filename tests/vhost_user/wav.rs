// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! WAV files as others write and read them.

use std::fs;
use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec};

/// The samples of a WAV file as they are, after another reader has found the file in order.
pub fn read(path: &Path) -> (WavSpec, Vec<u8>) {
    let reader = WavReader::open(path).unwrap();
    let spec = reader.spec();
    let frame = u32::from(spec.bits_per_sample / 8) * u32::from(spec.channels);
    let bytes = (reader.duration() * frame) as usize;
    let file = fs::read(path).unwrap();
    let place = file
        .windows(4)
        .position(|window| window == b"data")
        .unwrap()
        + 8;
    let riff = u32::from_le_bytes(file[4..8].try_into().unwrap());
    assert!(
        riff as usize >= place + bytes - 8,
        "the header says too little"
    );
    (spec, file[place..place + bytes].to_vec())
}

/// Writes a WAV file with these bytes as its samples.
pub fn write(path: &Path, spec: WavSpec, samples: &[u8]) {
    let frame = spec.bits_per_sample / 8 * spec.channels;
    let length = u32::try_from(samples.len()).unwrap();
    let mut file = Vec::new();
    file.extend(b"RIFF");
    file.extend((36 + length).to_le_bytes());
    file.extend(b"WAVEfmt ");
    file.extend(16u32.to_le_bytes());
    file.extend(1u16.to_le_bytes());
    file.extend(spec.channels.to_le_bytes());
    file.extend(spec.sample_rate.to_le_bytes());
    file.extend((spec.sample_rate * u32::from(frame)).to_le_bytes());
    file.extend(frame.to_le_bytes());
    file.extend(spec.bits_per_sample.to_le_bytes());
    file.extend(b"data");
    file.extend(length.to_le_bytes());
    file.extend(samples);
    fs::write(path, file).unwrap();
    WavReader::open(path).unwrap();
}

/// Integer samples.
pub fn spec(sample_rate: u32, channels: u16, bits_per_sample: u16) -> WavSpec {
    WavSpec {
        channels,
        sample_rate,
        bits_per_sample,
        sample_format: SampleFormat::Int,
    }
}
