// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sample formats and frame rates: one table each, for the virtio number, the ALSA name and the bytes
//! of a sample. Imports nothing from this crate.

/// What the bits of a sample mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// A number of so many bits, below zero too, in the low bits.
    Signed(u32),
    /// A number of so many bits around half of its range.
    Unsigned(u32),
    /// IEEE 754.
    Float,
    /// ITU-T G.711, mu-law.
    MuLaw,
    /// ITU-T G.711, A-law.
    ALaw,
    /// No number: DSD, IEC 60958 subframes.
    Opaque,
}

/// A sample format that this device can carry: all of virtio 1.3 except IMA ADPCM, whose samples
/// are no whole bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// `VIRTIO_SND_PCM_FMT_*`.
    pub wire: u8,
    /// Name in ALSA; little endian, as virtio is.
    pub name: &'static str,
    /// Bytes of one sample.
    pub bytes: u8,
    /// What its bits mean.
    pub coding: Coding,
    /// One sample of silence, in its first `bytes` bytes.
    silence: [u8; 8],
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn format(wire: u8, name: &'static str, bytes: u8, coding: Coding, silence: u64) -> Format {
    Format {
        wire,
        name,
        bytes,
        coding,
        silence: silence.to_le_bytes(),
    }
}

/// ITU-T G.711, mu-law.
pub const MU_LAW: Format = format(1, "MU_LAW", 1, Coding::MuLaw, 0x7f);
/// ITU-T G.711, A-law.
pub const A_LAW: Format = format(2, "A_LAW", 1, Coding::ALaw, 0x55);
/// Unsigned 8 bits.
pub const U8: Format = format(4, "U8", 1, Coding::Unsigned(8), 0x80);
/// Signed 16 bits.
pub const S16: Format = format(5, "S16_LE", 2, Coding::Signed(16), 0);
/// Signed 24 bits in 3 bytes.
pub const S24_3: Format = format(11, "S24_3LE", 3, Coding::Signed(24), 0);
/// Signed 24 bits in the low bytes of 4.
pub const S24: Format = format(15, "S24_LE", 4, Coding::Signed(24), 0);
/// Signed 32 bits.
pub const S32: Format = format(17, "S32_LE", 4, Coding::Signed(32), 0);
/// IEEE 754, 32 bits.
pub const FLOAT: Format = format(19, "FLOAT_LE", 4, Coding::Float, 0);
/// IEEE 754, 64 bits.
pub const FLOAT64: Format = format(20, "FLOAT64_LE", 8, Coding::Float, 0);

/// Every format.
pub const FORMATS: [Format; 24] = [
    MU_LAW,
    A_LAW,
    format(3, "S8", 1, Coding::Signed(8), 0),
    U8,
    S16,
    format(6, "U16_LE", 2, Coding::Unsigned(16), 0x8000),
    format(7, "S18_3LE", 3, Coding::Signed(18), 0),
    format(8, "U18_3LE", 3, Coding::Unsigned(18), 0x02_0000),
    format(9, "S20_3LE", 3, Coding::Signed(20), 0),
    format(10, "U20_3LE", 3, Coding::Unsigned(20), 0x08_0000),
    S24_3,
    format(12, "U24_3LE", 3, Coding::Unsigned(24), 0x80_0000),
    format(13, "S20_LE", 4, Coding::Signed(20), 0),
    format(14, "U20_LE", 4, Coding::Unsigned(20), 0x08_0000),
    S24,
    format(16, "U24_LE", 4, Coding::Unsigned(24), 0x80_0000),
    S32,
    format(18, "U32_LE", 4, Coding::Unsigned(32), 0x8000_0000),
    FLOAT,
    FLOAT64,
    format(21, "DSD_U8", 1, Coding::Opaque, 0x69),
    format(22, "DSD_U16_LE", 2, Coding::Opaque, 0x6969),
    format(23, "DSD_U32_LE", 4, Coding::Opaque, 0x6969_6969),
    format(24, "IEC958_SUBFRAME_LE", 4, Coding::Opaque, 0),
];

impl Format {
    /// The format with this virtio number.
    pub fn from_wire(wire: u8) -> Option<Self> {
        FORMATS.iter().copied().find(|format| format.wire == wire)
    }

    /// The format with this ALSA name, in any case; `_LE` may be left out.
    pub fn from_name(name: &str) -> Option<Self> {
        let wanted = name.to_ascii_uppercase();
        FORMATS.iter().copied().find(|format| {
            format.name == wanted
                || format.name.strip_suffix("_LE") == Some(&wanted)
                || format.name.strip_suffix("LE") == Some(&wanted)
        })
    }

    /// Its bit in `virtio_snd_pcm_info.formats`.
    pub fn bit(self) -> u64 {
        1 << self.wire
    }

    /// Fills whole samples with silence.
    pub fn fill_silence(&self, samples: &mut [u8]) {
        let bytes = self.silence.get(..usize::from(self.bytes)).unwrap_or(&[]);
        if let [first, rest @ ..] = bytes
            && rest.iter().all(|byte| byte == first)
        {
            return samples.fill(*first);
        }
        for sample in samples.chunks_mut(usize::from(self.bytes).max(1)) {
            for (to, from) in sample.iter_mut().zip(self.silence) {
                *to = from;
            }
        }
    }
}

/// Most channels of a stream.
pub const MAX_CHANNELS: u8 = 8;

/// Frame rates in Hz; the place in the table is `VIRTIO_SND_PCM_RATE_*`.
pub const RATES: [u32; 14] = [
    5512, 8000, 11025, 16000, 22050, 32000, 44100, 48000, 64000, 88200, 96000, 176_400, 192_000,
    384_000,
];

/// The frame rate with this virtio number, in Hz.
pub fn rate_from_wire(wire: u8) -> Option<u32> {
    RATES.get(usize::from(wire)).copied()
}

/// The virtio number of a frame rate in Hz; `None` where virtio has none for it.
pub fn rate_to_wire(rate: u32) -> Option<u8> {
    let place = RATES.iter().position(|&known| known == rate)?;
    u8::try_from(place).ok()
}

/// The bit of a frame rate in `virtio_snd_pcm_info.rates`; 0 where virtio has no number for it.
pub fn rate_bit(rate: u32) -> u64 {
    rate_to_wire(rate).map_or(0, |place| 1 << place)
}

/// The format that a user names.
///
/// # Errors
/// Says which formats there are.
pub fn parse_format(name: &str) -> Result<Format, String> {
    Format::from_name(name).ok_or_else(|| {
        let known: Vec<_> = FORMATS.iter().map(|format| format.name).collect();
        format!("one of {}", known.join(", "))
    })
}

/// The frame rate that a user names.
///
/// # Errors
/// Says which rates there are.
pub fn parse_rate(rate: &str) -> Result<u32, String> {
    rate.parse()
        .ok()
        .filter(|&rate| rate_bit(rate) != 0)
        .ok_or_else(|| {
            let known: Vec<_> = RATES.iter().map(u32::to_string).collect();
            format!("one of {}", known.join(", "))
        })
}

/// A number of channels, or a range such as `1-2`: fewest and most.
///
/// # Errors
/// Says what is allowed.
pub fn parse_channels(range: &str) -> Result<(u8, u8), String> {
    let (min, max) = range.split_once('-').unwrap_or((range, range));
    let bounds = (min.parse(), max.parse());
    match bounds {
        (Ok(min), Ok(max)) if (1..=max).contains(&min) && max <= MAX_CHANNELS => Ok((min, max)),
        _ => Err(format!(
            "a number from 1 to {MAX_CHANNELS}, or a range such as 1-2"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_found_by_number_and_by_name() {
        for format in FORMATS {
            assert_eq!(Format::from_wire(format.wire), Some(format));
            assert_eq!(Format::from_name(format.name), Some(format));
            assert_eq!(Format::from_name(&format.name.to_lowercase()), Some(format));
        }
        assert_eq!(Format::from_name("s16"), Some(S16));
        assert_eq!(Format::from_name("S24_3"), Some(S24_3));
        assert_eq!(Format::from_name("S24"), Some(S24));
    }

    #[test]
    fn numbers_that_do_not_exist_are_refused() {
        for wire in [0, 25, 63, 64, 255] {
            assert_eq!(Format::from_wire(wire), None);
        }
        for wire in [14, 64, 255] {
            assert_eq!(rate_from_wire(wire), None);
        }
        assert_eq!(rate_bit(47_999), 0);
    }

    /// As snd_pcm_format_silence_64 of alsa-lib says.
    const SILENCE: [(&str, &[u8]); 24] = [
        ("MU_LAW", &[0x7f]),
        ("A_LAW", &[0x55]),
        ("S8", &[0]),
        ("U8", &[0x80]),
        ("S16_LE", &[0, 0]),
        ("U16_LE", &[0, 0x80]),
        ("S18_3LE", &[0, 0, 0]),
        ("U18_3LE", &[0, 0, 2]),
        ("S20_3LE", &[0, 0, 0]),
        ("U20_3LE", &[0, 0, 8]),
        ("S24_3LE", &[0, 0, 0]),
        ("U24_3LE", &[0, 0, 0x80]),
        ("S20_LE", &[0, 0, 0, 0]),
        ("U20_LE", &[0, 0, 8, 0]),
        ("S24_LE", &[0, 0, 0, 0]),
        ("U24_LE", &[0, 0, 0x80, 0]),
        ("S32_LE", &[0, 0, 0, 0]),
        ("U32_LE", &[0, 0, 0, 0x80]),
        ("FLOAT_LE", &[0, 0, 0, 0]),
        ("FLOAT64_LE", &[0; 8]),
        ("DSD_U8", &[0x69]),
        ("DSD_U16_LE", &[0x69, 0x69]),
        ("DSD_U32_LE", &[0x69; 4]),
        ("IEC958_SUBFRAME_LE", &[0; 4]),
    ];

    #[test]
    fn silence_is_that_of_alsa() {
        for (format, (name, silence)) in FORMATS.iter().zip(SILENCE) {
            let mut samples = vec![1; 3 * silence.len()];
            format.fill_silence(&mut samples);
            assert_eq!((format.name, samples), (name, silence.repeat(3)));
        }
    }

    #[test]
    fn every_bit_of_the_maps_is_used_once() {
        let all = RATES.iter().fold(0, |bits, &rate| bits | rate_bit(rate));
        assert_eq!(all, (1 << 14) - 1);
        let all = FORMATS.iter().fold(0, |bits, format| bits | format.bit());
        assert_eq!(all, (1 << 25) - 2);
    }
}
