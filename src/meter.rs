// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How loud a stream has been: the highest peak of each channel since somebody asked last.
//!
//! Samples are looked at only while somebody asks every few seconds, so a card that nobody watches pays
//! nothing. Nothing here allocates. DSD and IEC958 samples are no numbers and have no peak.

use crate::audio::Nanos;
use crate::companding::{a_law_number, mu_law_number};
use crate::gain::number;
use crate::pcm_format::{Coding, Format, MAX_CHANNELS, S16};
use crate::stream::Params;

/// How long after a question samples are measured.
const WATCH: Nanos = 5_000_000_000;
/// A-law has no zero: this number and its negative are its silence.
const A_LAW_SILENCE: i32 = 8;

/// The highest magnitude of each channel, 1 for full scale; 0 is silence.
pub type Peaks = [f64; MAX_CHANNELS as usize];

/// What a stream's samples are measured with.
pub struct Meter {
    format: Format,
    channels: usize,
    peaks: Peaks,
    /// Until when samples are measured.
    watched: Nanos,
}

impl Meter {
    /// One that nobody watches.
    pub fn new() -> Self {
        Self {
            format: S16,
            channels: 1,
            peaks: Peaks::default(),
            watched: 0,
        }
    }

    /// The samples to come have these parameters.
    pub fn prepare(&mut self, params: &Params) {
        self.format = params.format;
        self.channels = usize::from(params.channels.max(1));
        self.peaks = Peaks::default();
    }

    /// The peaks since the last call; `None` where it is so long ago that nobody has measured.
    pub fn ask(&mut self, now: Nanos) -> Option<Peaks> {
        let measured = self.is_watched(now);
        self.watched = now.saturating_add(WATCH);
        let peaks = std::mem::take(&mut self.peaks);
        measured.then_some(peaks)
    }

    /// Whether samples are to be measured.
    pub fn is_watched(&self, now: Nanos) -> bool {
        now < self.watched
    }

    /// Measures whole frames.
    pub fn measure(&mut self, samples: &[u8]) {
        let peaks = self.peaks.get_mut(..self.channels).unwrap_or(&mut []);
        match (self.format.coding, self.format.bytes) {
            (Coding::Signed(16), 2) => each(samples, peaks, |s| linear::<2>(s, 16, true)),
            (Coding::Signed(24), 3) => each(samples, peaks, |s| linear::<3>(s, 24, true)),
            (Coding::Signed(24), 4) => each(samples, peaks, |s| linear::<4>(s, 24, true)),
            (Coding::Signed(32), 4) => each(samples, peaks, |s| linear::<4>(s, 32, true)),
            (Coding::Signed(bits), 1) => each(samples, peaks, |s| linear::<1>(s, bits, true)),
            (Coding::Signed(bits), 2) => each(samples, peaks, |s| linear::<2>(s, bits, true)),
            (Coding::Signed(bits), 3) => each(samples, peaks, |s| linear::<3>(s, bits, true)),
            (Coding::Signed(bits), 4) => each(samples, peaks, |s| linear::<4>(s, bits, true)),
            (Coding::Unsigned(bits), 1) => each(samples, peaks, |s| linear::<1>(s, bits, false)),
            (Coding::Unsigned(bits), 2) => each(samples, peaks, |s| linear::<2>(s, bits, false)),
            (Coding::Unsigned(bits), 3) => each(samples, peaks, |s| linear::<3>(s, bits, false)),
            (Coding::Unsigned(bits), 4) => each(samples, peaks, |s| linear::<4>(s, bits, false)),
            (Coding::Float, 4) => each(samples, peaks, |s| f32::from_le_bytes(s).abs().into()),
            (Coding::Float, 8) => each(samples, peaks, |s| f64::from_le_bytes(s).abs()),
            (Coding::MuLaw, 1) => each(samples, peaks, |[s]| companded(mu_law_number(s))),
            (Coding::ALaw, 1) => each(samples, peaks, |[s]| match a_law_number(s) {
                number if number.abs() == A_LAW_SILENCE => 0.0,
                number => companded(number),
            }),
            _ => {}
        }
    }
}

/// Raises each channel's peak to its highest sample. What is no number, as floating point has it, is
/// passed over.
fn each<const BYTES: usize>(
    samples: &[u8],
    peaks: &mut [f64],
    magnitude: impl Fn([u8; BYTES]) -> f64,
) {
    let (samples, _) = samples.as_chunks::<BYTES>();
    for frame in samples.chunks_exact(peaks.len().max(1)) {
        for (sample, peak) in frame.iter().zip(peaks.iter_mut()) {
            *peak = peak.max(magnitude(*sample));
        }
    }
}

#[inline]
fn linear<const BYTES: usize>(sample: [u8; BYTES], bits: u32, signed: bool) -> f64 {
    let half = f64::from(0x8000_0000u32.unbounded_shr(32u32.saturating_sub(bits)));
    f64::from(number(sample, bits, signed)).abs() / half
}

/// A number of 16 bits.
fn companded(number: i32) -> f64 {
    f64::from(number).abs() / 32768.0
}

/// A magnitude in decibels below full scale, to a hundredth; `None` for silence.
pub fn decibels(magnitude: f64) -> Option<f64> {
    let decibels = 20.0 * magnitude.min(f64::MAX).log10();
    // Adding 0 makes a 0 of what would be printed as -0.
    (magnitude > 0.0).then(|| (decibels * 100.0).round() / 100.0 + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm_format::{self, FORMATS};

    const NOW: Nanos = 1_000_000_000_000;

    fn meter(format: Format, channels: u8) -> Meter {
        let mut meter = Meter::new();
        meter.prepare(&Params {
            format,
            rate: 48_000,
            channels,
            buffer_bytes: 0,
            period_bytes: 0,
            features: 0,
        });
        meter.ask(NOW);
        meter
    }

    fn peak(format: Format, samples: &[u8]) -> Option<f64> {
        let mut meter = meter(format, 1);
        meter.measure(samples);
        decibels(meter.ask(NOW).unwrap()[0])
    }

    /// Full scale, half of it and a small one, up or down, as the format writes them; `None` for those
    /// that are no numbers. By the format's name, and not by its coding.
    fn samples(format: Format) -> Option<[Vec<u8>; 3]> {
        let of_float = |value: f64| match format.name {
            "FLOAT_LE" => Some((value as f32).to_le_bytes().to_vec()),
            "FLOAT64_LE" => Some(value.to_le_bytes().to_vec()),
            _ => None,
        };
        match format.name {
            // The numbers of these are 32124, 15996 and 988; 32256, 16128 and 1008.
            "MU_LAW" => return Some([vec![0x80], vec![0x10], vec![0xce]]),
            "A_LAW" => return Some([vec![0xaa], vec![0x3a], vec![0xfa]]),
            "FLOAT_LE" | "FLOAT64_LE" => {
                return Some([-1.0, 0.5, -0.0316].map(|value| of_float(value).unwrap()));
            }
            name if name.starts_with("DSD") || name.starts_with("IEC") => return None,
            _ => {}
        }
        let digits = format.name[1..].split('_').next().unwrap();
        let bits: u32 = digits.parse().unwrap();
        let half = 1i64 << (bits - 1);
        let offset = if format.name.starts_with('U') {
            half
        } else {
            0
        };
        let bytes = usize::from(format.bytes);
        // What lies above the number's bits does not count, whatever it is.
        let above = if bits == 8 * u32::from(format.bytes) {
            0
        } else {
            -1i64 << bits
        };
        let word = |number: i64| {
            let low = (number + offset) & ((1i64 << bits) - 1);
            (low | above).to_le_bytes()[..bytes].to_vec()
        };
        Some([-half, half / 2, -half / 32].map(word))
    }

    #[test]
    fn every_format_is_measured() {
        let mut measured = 0;
        for format in FORMATS {
            let Some(known) = samples(format) else {
                assert_eq!(peak(format, &[0x5a; 64]), None, "{format:?}");
                continue;
            };
            let expected = match format.name {
                "MU_LAW" => [-0.17, -6.23, -30.41],
                "A_LAW" => [-0.14, -6.16, -30.24],
                "FLOAT_LE" | "FLOAT64_LE" => [0.0, -6.02, -30.01],
                _ => [0.0, -6.02, -30.1],
            };
            for (sample, expected) in known.iter().zip(expected) {
                assert_eq!(peak(format, sample), Some(expected), "{format:?}");
            }
            // The loudest one counts, wherever it is.
            let [_, half, small] = &known;
            let sound = [small.repeat(9), half.clone(), small.repeat(9)].concat();
            assert_eq!(peak(format, &sound), Some(expected[1]), "{format:?}");
            measured += 1;
        }
        assert_eq!(measured, 20);
    }

    #[test]
    fn silence_has_no_peak() {
        for format in FORMATS {
            let mut silence = [0; 96];
            format.fill_silence(&mut silence);
            assert_eq!(peak(format, &silence), None, "{format:?}");
            assert_eq!(peak(format, &[]), None);
        }
        assert_eq!(peak(pcm_format::A_LAW, &[0xd5, 0x55]), None);
    }

    #[test]
    fn numbers_that_are_none_do_not_count_and_those_without_end_are_loud() {
        let of = |value: f32| peak(pcm_format::FLOAT, &value.to_le_bytes());
        assert_eq!(of(f32::NAN), None);
        assert_eq!(of(4.0), Some(12.04));
        assert!(of(f32::NEG_INFINITY).is_some_and(|peak| peak > 1000.0 && peak.is_finite()));
        let mixed = [f32::NAN, 0.5, f32::NAN].map(f32::to_le_bytes).concat();
        assert_eq!(peak(pcm_format::FLOAT, &mixed), Some(-6.02));
    }

    #[test]
    fn each_channel_has_its_peak_and_each_question_starts_anew() {
        let mut meter = meter(pcm_format::S16, 3);
        let frames = [[-32768i16, 0, 16384], [100, 0, -16384]];
        for frame in frames {
            meter.measure(&frame.map(i16::to_le_bytes).concat());
        }
        let peaks = meter.ask(NOW + WATCH - 1).unwrap().map(decibels);
        assert_eq!(peaks[..3], [Some(0.0), None, Some(-6.02)]);
        assert_eq!(peaks[3..], [None; 5]);
        assert_eq!(meter.ask(NOW + WATCH), Some(Peaks::default()));
    }

    #[test]
    fn nobody_measures_what_nobody_asks_for() {
        let mut meter = Meter::new();
        assert!(!meter.is_watched(NOW));
        assert_eq!(meter.ask(NOW), None);
        assert!(meter.is_watched(NOW + WATCH - 1) && !meter.is_watched(NOW + WATCH));
        assert_eq!(meter.ask(NOW + WATCH), None);
    }
}
