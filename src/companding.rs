// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! ITU-T G.711: samples of 8 bits that stand for numbers of 16 bits, finer where they are small.

use crate::gain::nearest;

/// Added to a mu-law number, so that its segments are powers of two.
const BIAS: i32 = 0x84;
/// What the even bits of an A-law sample are turned by.
const A_LAW_TURN: u8 = 0x55;
const SIGN: u8 = 0x80;

/// Scales a mu-law sample.
pub fn mu_law(sample: u8, gain: f64) -> u8 {
    compress_mu_law(scale(mu_law_number(sample), gain))
}

/// Scales an A-law sample.
pub fn a_law(sample: u8, gain: f64) -> u8 {
    compress_a_law(scale(a_law_number(sample), gain))
}

fn scale(number: i32, gain: f64) -> i32 {
    nearest((f64::from(number) * gain).clamp(-32768.0, 32767.0))
}

/// The number of 16 bits that a mu-law sample stands for.
pub fn mu_law_number(sample: u8) -> i32 {
    let sample = !sample;
    let segment = (sample & 0x70) >> 4;
    let size = ((i32::from(sample & 0x0f) << 3) + BIAS) << segment;
    if sample & SIGN != 0 {
        BIAS - size
    } else {
        size - BIAS
    }
}

fn compress_mu_law(number: i32) -> u8 {
    let sign = if number < 0 { SIGN } else { 0 };
    let size = (number.abs() + BIAS).min(0x7fff);
    // The bias makes the highest bit one of 7 to 14.
    let segment = size.ilog2() - 7;
    let step = (size >> (segment + 3)) & 0x0f;
    !(sign | (segment << 4) as u8 | step as u8)
}

/// The number of 16 bits that an A-law sample stands for.
pub fn a_law_number(sample: u8) -> i32 {
    let sample = sample ^ A_LAW_TURN;
    let (segment, step) = ((sample & 0x70) >> 4, i32::from(sample & 0x0f) << 4);
    let size = match segment {
        0 => step + 8,
        _ => (step + 0x108) << (segment - 1),
    };
    if sample & SIGN != 0 { size } else { -size }
}

fn compress_a_law(number: i32) -> u8 {
    // The numbers just above and just below 0 have a sample each.
    let (sign, size) = if number >= 0 {
        (SIGN, number)
    } else {
        (0, -number - 1)
    };
    let size = size.min(0x7fff);
    let segment = size.checked_ilog2().unwrap_or(0).saturating_sub(7);
    let step = (size >> (segment.max(1) + 3)) & 0x0f;
    (sign | (segment << 4) as u8 | step as u8) ^ A_LAW_TURN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_recommendation() {
        // G.711, tables 1 and 2, in 16 bits.
        assert_eq!(mu_law_number(0x80), 32124);
        assert_eq!(mu_law_number(0x00), -32124);
        assert_eq!((mu_law_number(0xff), mu_law_number(0xfe)), (0, 8));
        assert_eq!(a_law_number(0xaa), 32256);
        assert_eq!(a_law_number(0x2a), -32256);
        assert_eq!((a_law_number(0xd5), a_law_number(0x55)), (8, -8));
    }

    #[test]
    fn every_sample_comes_back() {
        for sample in 0..=u8::MAX {
            // Mu-law has two zeros.
            let expected = if sample == 0x7f { 0xff } else { sample };
            assert_eq!(mu_law(sample, 1.0), expected);
            assert_eq!(a_law(sample, 1.0), sample);
        }
    }

    #[test]
    fn half_as_loud_is_half_the_number_within_a_step() {
        for sample in 0..=u8::MAX {
            let near = |number: i32, half: i32| {
                let wanted = f64::from(number) / 2.0;
                assert!((f64::from(half) - wanted).abs() <= wanted.abs() / 16.0 + 8.0);
            };
            near(mu_law_number(sample), mu_law_number(mu_law(sample, 0.5)));
            near(a_law_number(sample), a_law_number(a_law(sample, 0.5)));
        }
    }

    #[test]
    fn too_loud_is_as_loud_as_can_be() {
        assert_eq!((mu_law(0x90, 100.0), mu_law(0x10, 100.0)), (0x80, 0x00));
        assert_eq!((a_law(0xba, 100.0), a_law(0x3a, 100.0)), (0xaa, 0x2a));
    }
}
