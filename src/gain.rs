// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Software volume and mute of one stream: what the card's control elements make of its samples.
//!
//! At 0 dB samples are not looked at, so they stay as they are, bit for bit. Anything else is
//! multiplied, rounded to the nearest number and limited to the format's range; numbers in floating
//! point are not limited. MU_LAW and A_LAW samples are expanded, multiplied and compressed again.
//! DSD and IEC958 samples are no numbers: silence takes their place where the gain is 0, and any
//! other gain leaves them alone.
//!
//! A new gain is reached in steps of a frame, so that it does not click. Nothing here allocates
//! once a [`Gain`] exists.

use crate::companding::{a_law, mu_law};
use crate::pcm_format::{Coding, Format, S16};
use crate::stream::Params;

/// How long the way to a new gain takes, in parts of a second.
const RAMP: u32 = 200;
/// Bytes that are changed at once on their way to a driver.
const SCRATCH_BYTES: usize = 4096;

/// The gain of one channel.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Channel {
    now: f64,
    /// Added after each frame.
    step: f64,
    target: f64,
}

/// The gains of a stream's channels.
pub struct Gain {
    /// One for each channel that the stream can have.
    all: Vec<Channel>,
    /// How many the stream has now.
    channels: usize,
    format: Format,
    rate: u32,
    /// Frames until the targets are reached.
    ramp: u32,
    /// Nothing is to be done.
    plain: bool,
    scratch: Box<[u8]>,
}

impl Gain {
    /// 0 dB for up to `channels` channels.
    pub fn new(channels: u8) -> Self {
        let unity = Channel {
            now: 1.0,
            step: 0.0,
            target: 1.0,
        };
        Self {
            all: vec![unity; usize::from(channels)],
            channels: 0,
            format: S16,
            rate: 1,
            ramp: 0,
            plain: true,
            scratch: vec![0; SCRATCH_BYTES].into(),
        }
    }

    /// The samples to come have these parameters.
    pub fn prepare(&mut self, params: &Params) {
        self.channels = usize::from(params.channels).min(self.all.len());
        self.format = params.format;
        self.rate = params.rate;
        self.settle();
    }

    /// Sets the gain of each channel, which is reached within a few milliseconds of sound.
    pub fn set(&mut self, gain: impl Fn(usize) -> f64) {
        self.ramp = (self.rate / RAMP).max(1);
        for (channel, place) in self.all.iter_mut().zip(0..) {
            channel.target = gain(place);
            channel.step = (channel.target - channel.now) / f64::from(self.ramp);
        }
        self.plain = false;
    }

    /// Takes the gains that were set as reached: there is no sound that could click.
    pub fn settle(&mut self) {
        self.ramp = 0;
        for channel in &mut self.all {
            channel.now = channel.target;
            channel.step = 0.0;
        }
        self.plain = self.active().iter().all(|channel| channel.now == 1.0);
    }

    /// Whether samples stay as they are.
    #[cfg(test)]
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    fn active(&self) -> &[Channel] {
        self.all.get(..self.channels).unwrap_or(&[])
    }

    fn frame_bytes(&self) -> usize {
        (usize::from(self.format.bytes) * self.channels).max(1)
    }

    /// Changes whole frames in place.
    pub fn apply(&mut self, samples: &mut [u8]) {
        if self.plain {
            return;
        }
        let frames = samples.len() / self.frame_bytes();
        let ramp = frames.min(self.ramp as usize);
        let (ramped, steady) = samples.split_at_mut(ramp * self.frame_bytes());
        if self.ramp > 0 {
            self.scale(ramped);
            self.ramp -= ramp as u32;
            if self.ramp > 0 {
                return;
            }
            self.settle();
        }
        if self.active().iter().all(|channel| channel.now == 0.0) {
            self.format.fill_silence(steady);
        } else if !self.plain {
            self.scale(steady);
        }
    }

    /// Hands `samples`, which are whole frames, to `visit` as they are to be heard, in one or
    /// several parts.
    pub fn pass(&mut self, samples: &[u8], mut visit: impl FnMut(&[u8])) {
        if self.plain {
            return visit(samples);
        }
        let frame_bytes = self.frame_bytes();
        let mut scratch = std::mem::take(&mut self.scratch);
        let part = (scratch.len() / frame_bytes).max(1) * frame_bytes;
        for from in samples.chunks(part) {
            if let Some(to) = scratch.get_mut(..from.len()) {
                to.copy_from_slice(from);
                self.apply(to);
                visit(to);
            }
        }
        self.scratch = scratch;
    }

    fn scale(&mut self, samples: &mut [u8]) {
        let format = self.format;
        let channels = self.all.get_mut(..self.channels).unwrap_or(&mut []);
        match (format.coding, format.bytes) {
            (Coding::Signed(8), 1) => each(samples, channels, |s, g| linear::<1>(s, 8, true, g)),
            (Coding::Signed(16), 2) => each(samples, channels, |s, g| linear::<2>(s, 16, true, g)),
            (Coding::Signed(24), 3) => each(samples, channels, |s, g| linear::<3>(s, 24, true, g)),
            (Coding::Signed(24), 4) => each(samples, channels, |s, g| linear::<4>(s, 24, true, g)),
            (Coding::Signed(32), 4) => each(samples, channels, |s, g| linear::<4>(s, 32, true, g)),
            (Coding::Signed(bits), 3) => {
                each(samples, channels, |s, g| linear::<3>(s, bits, true, g));
            }
            (Coding::Signed(bits), 4) => {
                each(samples, channels, |s, g| linear::<4>(s, bits, true, g));
            }
            (Coding::Unsigned(bits), 1) => {
                each(samples, channels, |s, g| linear::<1>(s, bits, false, g));
            }
            (Coding::Unsigned(bits), 2) => {
                each(samples, channels, |s, g| linear::<2>(s, bits, false, g));
            }
            (Coding::Unsigned(bits), 3) => {
                each(samples, channels, |s, g| linear::<3>(s, bits, false, g));
            }
            (Coding::Unsigned(bits), 4) => {
                each(samples, channels, |s, g| linear::<4>(s, bits, false, g));
            }
            (Coding::Float, 4) => each(samples, channels, |s, g| {
                ((f64::from(f32::from_le_bytes(s)) * g) as f32).to_le_bytes()
            }),
            (Coding::Float, 8) => each(samples, channels, |s, g| {
                (f64::from_le_bytes(s) * g).to_le_bytes()
            }),
            (Coding::MuLaw, 1) => each(samples, channels, |[s], g| [mu_law(s, g)]),
            (Coding::ALaw, 1) => each(samples, channels, |[s], g| [a_law(s, g)]),
            _ => replace(format, samples, channels),
        }
    }
}

/// Scales each sample by its channel's gain.
fn each<const BYTES: usize>(
    samples: &mut [u8],
    channels: &mut [Channel],
    scale: impl Fn([u8; BYTES], f64) -> [u8; BYTES],
) {
    let (samples, _) = samples.as_chunks_mut::<BYTES>();
    for frame in samples.chunks_exact_mut(channels.len().max(1)) {
        for (sample, channel) in frame.iter_mut().zip(channels.iter_mut()) {
            *sample = scale(*sample, channel.now);
            channel.now += channel.step;
        }
    }
}

/// Silence for the channels that are to have a gain of 0; the others stay as they are.
fn replace(format: Format, samples: &mut [u8], channels: &[Channel]) {
    let all = samples.chunks_exact_mut(usize::from(format.bytes).max(1));
    for (sample, channel) in all.zip(channels.iter().cycle()) {
        if channel.target == 0.0 {
            format.fill_silence(sample);
        }
    }
}

/// The nearest number, away from 0 where two are as near.
pub fn nearest(number: f64) -> i32 {
    (number + 0.5f64.copysign(number)) as i32
}

/// The number of `bits` bits in the low bits of a sample; that of an unsigned one is around 0 too.
#[inline]
pub fn number<const BYTES: usize>(sample: [u8; BYTES], bits: u32, signed: bool) -> i32 {
    let mut word = [0; 4];
    for (to, from) in word.iter_mut().zip(sample) {
        *to = from;
    }
    let spare = 32u32.saturating_sub(bits);
    let middle = if signed { 0 } else { 0x8000_0000 };
    // What lies above the number's bits is no part of it.
    (u32::from_le_bytes(word).unbounded_shl(spare) ^ middle).cast_signed() >> spare
}

/// Scales a number of `bits` bits in the low bits of its bytes.
#[inline]
fn linear<const BYTES: usize>(
    sample: [u8; BYTES],
    bits: u32,
    signed: bool,
    gain: f64,
) -> [u8; BYTES] {
    let spare = 32u32.saturating_sub(bits);
    let middle = if signed { 0 } else { 0x8000_0000 };
    let number = number(sample, bits, signed);
    let half = f64::from(0x8000_0000u32 >> spare);
    let scaled = nearest((f64::from(number) * gain).clamp(-half, half - 1.0));
    let word = if signed {
        scaled.cast_unsigned()
    } else {
        (scaled.cast_unsigned() ^ (middle >> spare)) & (u32::MAX >> spare)
    };
    let mut bytes = [0; BYTES];
    for (to, from) in bytes.iter_mut().zip(word.to_le_bytes()) {
        *to = from;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm_format::{self, FORMATS};

    fn params(format: Format, channels: u8) -> Params {
        Params {
            format,
            rate: 48_000,
            channels,
            buffer_bytes: 0,
            period_bytes: 0,
            features: 0,
        }
    }

    /// A gain for one channel that has been reached.
    fn steady(format: Format, factor: f64) -> Gain {
        let mut gain = Gain::new(1);
        gain.set(|_| factor);
        gain.prepare(&params(format, 1));
        gain
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

    /// A sample as a number from -1 to 1, by the format's name and not by its coding.
    fn number(name: &str, sample: &[u8]) -> f64 {
        let mut bytes = [0; 8];
        bytes[..sample.len()].copy_from_slice(sample);
        let word = i64::from_le_bytes(bytes);
        match name {
            "FLOAT_LE" => f32::from_le_bytes(sample.try_into().unwrap()).into(),
            "FLOAT64_LE" => f64::from_le_bytes(sample.try_into().unwrap()),
            _ => {
                let digits = name[1..].split('_').next().unwrap();
                let bits: u32 = digits.parse().unwrap();
                let low = word & ((1 << bits) - 1);
                let half = 1i64 << (bits - 1);
                let value = match name.as_bytes()[0] {
                    b'U' => low - half,
                    _ if low >= half => low - 2 * half,
                    _ => low,
                };
                value as f64 / half as f64
            }
        }
    }

    fn linear_formats() -> impl Iterator<Item = Format> {
        FORMATS.into_iter().filter(|format| {
            matches!(
                format.coding,
                Coding::Signed(_) | Coding::Unsigned(_) | Coding::Float
            )
        })
    }

    #[test]
    fn at_0_db_nothing_is_touched() {
        for format in FORMATS {
            let mut gain = steady(format, 1.0);
            assert!(gain.is_plain());
            let samples = noise(960);
            let mut heard = samples.clone();
            gain.apply(&mut heard);
            assert_eq!(heard, samples, "{format:?}");
        }
    }

    #[test]
    fn every_linear_format_is_multiplied_and_rounded() {
        let mut formats = 0;
        for format in linear_formats() {
            let bytes = usize::from(format.bytes);
            // Bytes of noise would be infinities in floating point.
            let mut samples = noise(bytes * 500);
            if format.coding == Coding::Float {
                for (place, sample) in samples.chunks_mut(bytes).enumerate() {
                    let value = place as f64 / 300.0 - 0.8;
                    match bytes {
                        4 => sample.copy_from_slice(&(value as f32).to_le_bytes()),
                        _ => sample.copy_from_slice(&value.to_le_bytes()),
                    }
                }
            }
            for decibels in [-0.5, -6.0, -60.0] {
                let factor = 10f64.powf(decibels / 20.0);
                let mut heard = samples.clone();
                steady(format, factor).apply(&mut heard);
                let half_a_step = match format.coding {
                    Coding::Signed(bits) | Coding::Unsigned(bits) => {
                        0.5 / 2f64.powi(bits as i32 - 1)
                    }
                    _ if bytes == 4 => 1e-7,
                    _ => 1e-15,
                };
                for (old, new) in samples.chunks(bytes).zip(heard.chunks(bytes)) {
                    let (old, new) = (number(format.name, old), number(format.name, new));
                    let off = (old * factor - new).abs();
                    assert!(
                        off <= half_a_step * 1.0001,
                        "{format:?} {decibels} dB: {old} {new}"
                    );
                }
            }
            formats += 1;
        }
        assert_eq!(formats, 18);
    }

    #[test]
    fn numbers_that_do_not_fit_are_limited() {
        for format in linear_formats().filter(|format| format.coding != Coding::Float) {
            let bytes = usize::from(format.bytes);
            let mut heard = noise(bytes * 500);
            let before = heard.clone();
            steady(format, 100.0).apply(&mut heard);
            for (old, new) in before.chunks(bytes).zip(heard.chunks(bytes)) {
                let (old, new) = (number(format.name, old), number(format.name, new));
                assert!(new == 1.0f64.min(new) && new >= -1.0, "{format:?}");
                if old.abs() > 0.02 {
                    assert!(
                        (old.signum() - new).abs() <= 1.0 / 128.0,
                        "{format:?} {old} {new}"
                    );
                }
            }
        }
    }

    #[test]
    fn silence_is_that_of_the_format() {
        for format in FORMATS {
            let mut heard = noise(960);
            let mut silence = heard.clone();
            format.fill_silence(&mut silence);
            let mut gain = steady(format, 0.0);
            gain.apply(&mut heard);
            assert_eq!(heard, silence, "{format:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_left_alone_or_silenced_by_channel() {
        let format = Format::from_name("DSD_U16").unwrap();
        let mut gain = Gain::new(2);
        gain.set(|channel| if channel == 0 { 0.3 } else { 0.0 });
        gain.prepare(&params(format, 2));
        let before = noise(400);
        let mut heard = before.clone();
        gain.apply(&mut heard);
        for (old, new) in before.chunks(4).zip(heard.chunks(4)) {
            assert_eq!((&new[..2], &new[2..]), (&old[..2], &[0x69, 0x69][..]));
        }
    }

    #[test]
    fn each_channel_has_its_own_gain() {
        let mut gain = Gain::new(8);
        gain.set(|channel| [1.0, 0.5, 0.0][channel.min(2)]);
        gain.prepare(&params(pcm_format::S16, 3));
        let mut heard = [1000i16, 1000, 1000]
            .map(i16::to_le_bytes)
            .concat()
            .repeat(3);
        gain.apply(&mut heard);
        assert_eq!(
            heard,
            [1000i16, 500, 0].map(i16::to_le_bytes).concat().repeat(3)
        );
    }

    fn values(samples: &[u8]) -> Vec<i32> {
        let samples = samples.chunks(4);
        samples
            .map(|s| i32::from_le_bytes(s.try_into().unwrap()))
            .collect()
    }

    #[test]
    fn a_change_is_a_short_ramp_whatever_the_parts_it_comes_in() {
        const LEVEL: i32 = 1 << 30;
        let frames = 48_000 / RAMP as usize;
        for part in [1, 7, 239, 240, 241, 1000] {
            let mut gain = steady(pcm_format::S32, 1.0);
            gain.set(|_| 0.25);
            let mut samples = LEVEL.to_le_bytes().repeat(1000);
            samples
                .chunks_mut(4 * part)
                .for_each(|part| gain.apply(part));
            let heard = values(&samples);
            let largest = LEVEL / frames as i32;
            assert_eq!(heard[0], LEVEL);
            assert!(
                heard
                    .windows(2)
                    .all(|pair| (0..=largest).contains(&(pair[0] - pair[1])))
            );
            assert!(
                heard[frames..].iter().all(|&value| value == LEVEL / 4),
                "{part}"
            );
            assert!(!gain.is_plain());
            // And back, to samples that are not touched any more.
            gain.set(|_| 1.0);
            let mut samples = LEVEL.to_le_bytes().repeat(1000);
            samples
                .chunks_mut(4 * part)
                .for_each(|part| gain.apply(part));
            let heard = values(&samples);
            assert!(
                heard
                    .windows(2)
                    .all(|pair| (0..=largest).contains(&(pair[1] - pair[0])))
            );
            assert!(heard[frames..].iter().all(|&value| value == LEVEL) && gain.is_plain());
        }
    }

    #[test]
    fn sound_passes_in_parts_of_whole_frames() {
        let mut gain = Gain::new(6);
        gain.set(|channel| 1.0 / (channel + 1) as f64);
        gain.prepare(&params(pcm_format::S24_3, 6));
        let samples = noise(18 * 1000);
        let mut expected = samples.clone();
        gain.apply(&mut expected);
        let mut heard = Vec::new();
        gain.pass(&samples, |part| {
            assert!(part.len() <= SCRATCH_BYTES && part.len().is_multiple_of(18));
            heard.extend_from_slice(part);
        });
        assert_eq!(heard, expected);
        heard.clear();
        gain.set(|_| 1.0);
        gain.settle();
        gain.pass(&samples, |part| heard.extend_from_slice(part));
        assert_eq!(heard, samples);
    }
}
