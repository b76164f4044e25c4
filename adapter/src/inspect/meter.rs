// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

//! A level meter of one line.

/// Characters of the bar.
const WIDTH: usize = 12;
/// Steps of one character.
const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
const FULL: char = '█';
/// Where the bar begins; what is softer shows as a number.
const FLOOR: f64 = -60.0;
/// From here on sound is loud.
const LOUD: f64 = -6.0;
/// From here on a sample is, in all likelihood, cut off.
const FULL_SCALE: f64 = -0.05;

/// How loud something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loudness {
    /// Nothing at all.
    Silent,
    /// Neither.
    Usual,
    /// Little is left to full scale.
    Loud,
    /// Full scale.
    Clipped,
}

impl Loudness {
    /// Of a peak in dB of full scale.
    pub fn of(peak: Option<f64>) -> Self {
        match peak {
            None => Self::Silent,
            Some(peak) if peak >= FULL_SCALE => Self::Clipped,
            Some(peak) if peak >= LOUD => Self::Loud,
            Some(_) => Self::Usual,
        }
    }
}

/// A bar and the peak as a number. Always of the same width.
pub fn meter(peak: Option<f64>) -> String {
    match peak {
        None => format!("{}   silent", " ".repeat(WIDTH)),
        Some(peak) => {
            let peak = if peak.is_finite() {
                peak.clamp(-999.0, 99.0)
            } else {
                FLOOR
            };
            format!("{}{peak:>6.1} dB", bar(peak))
        }
    }
}

fn bar(peak: f64) -> String {
    let part = ((peak - FLOOR) / -FLOOR).clamp(0.0, 1.0);
    let eighths = (part * (WIDTH * EIGHTHS.len()) as f64).round() as usize;
    let (full, rest) = (eighths / EIGHTHS.len(), eighths % EIGHTHS.len());
    let rest = EIGHTHS.get(rest).filter(|_| full < WIDTH);
    let bar = std::iter::repeat_n(FULL, full).chain(rest.copied());
    let bar: String = bar.collect();
    format!("{bar:WIDTH$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_grows_with_the_peak() {
        assert_eq!(bar(0.0), "█".repeat(WIDTH));
        assert_eq!(bar(12.0), "█".repeat(WIDTH));
        assert_eq!(bar(-60.0), " ".repeat(WIDTH));
        assert_eq!(bar(-90.0), " ".repeat(WIDTH));
        assert_eq!(bar(-30.0), "██████      ");
        // A quarter of one of the twelve: 1.25 dB.
        assert_eq!(bar(-30.0 + 1.25), "██████▎     ");
        let bars: Vec<_> = (0..=96)
            .map(|step| bar(f64::from(step) * 0.625 - 60.0))
            .collect();
        assert!(bars.windows(2).all(|pair| pair[0] != pair[1]), "{bars:?}");
    }

    #[test]
    fn a_meter_keeps_its_width() {
        let width = meter(None).chars().count();
        let peaks = [
            -120.0,
            -60.0,
            -0.1,
            0.0,
            6.0,
            f64::NAN,
            f64::NEG_INFINITY,
            -1e300,
            1e300,
        ];
        for peak in peaks {
            assert_eq!(meter(Some(peak)).chars().count(), width, "{peak}");
        }
        assert_eq!(meter(Some(-12.34)), "█████████▌   -12.3 dB");
    }

    #[test]
    fn loudness_has_four_kinds() {
        let of = [None, Some(-30.0), Some(-6.0), Some(0.0)].map(Loudness::of);
        let kinds = [
            Loudness::Silent,
            Loudness::Usual,
            Loudness::Loud,
            Loudness::Clipped,
        ];
        assert_eq!(of, kinds);
    }
}
