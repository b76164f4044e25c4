// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The headers of WAV files, in memory. Samples stay as they are: WAV is little endian as virtio is.

use std::io::Write;

use crate::pcm_format::{self, Format};

/// Bytes of the header that [`header`] makes.
pub const HEADER_SIZE: usize = 44;

const TAG_PCM: u16 = 1;
const TAG_FLOAT: u16 = 3;
const TAG_A_LAW: u16 = 6;
const TAG_MU_LAW: u16 = 7;
const TAG_EXTENSIBLE: u16 = 0xfffe;

/// What the samples of a WAV file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Format of a sample in the file; `S24` never is: 24 bits are 3 bytes in a WAV file.
    pub format: Format,
    /// Frames per second.
    pub rate: u32,
    /// Samples per frame.
    pub channels: u8,
}

impl Layout {
    /// The tag and the bits of a sample; `None` for a format that WAV files do not carry.
    fn tag(self) -> Option<(u16, u16)> {
        let tag = match self.format {
            pcm_format::U8 | pcm_format::S16 | pcm_format::S24_3 | pcm_format::S32 => TAG_PCM,
            pcm_format::FLOAT | pcm_format::FLOAT64 => TAG_FLOAT,
            pcm_format::A_LAW => TAG_A_LAW,
            pcm_format::MU_LAW => TAG_MU_LAW,
            _ => return None,
        };
        Some((tag, u16::from(self.format.bytes) * 8))
    }

    fn from_tag(tag: u16, bits: u16) -> Option<Format> {
        match (tag, bits) {
            (TAG_PCM, 8) => Some(pcm_format::U8),
            (TAG_PCM, 16) => Some(pcm_format::S16),
            (TAG_PCM, 24) => Some(pcm_format::S24_3),
            (TAG_PCM, 32) => Some(pcm_format::S32),
            (TAG_FLOAT, 32) => Some(pcm_format::FLOAT),
            (TAG_FLOAT, 64) => Some(pcm_format::FLOAT64),
            (TAG_A_LAW, 8) => Some(pcm_format::A_LAW),
            (TAG_MU_LAW, 8) => Some(pcm_format::MU_LAW),
            _ => None,
        }
    }

    /// Bytes of one frame.
    pub fn frame_bytes(self) -> u32 {
        u32::from(self.format.bytes) * u32::from(self.channels)
    }
}

/// The header before `data_bytes` bytes of samples; `None` for a format that WAV does not carry. A
/// file above 4 GiB gets the largest size that a header can say.
pub fn header(layout: Layout, data_bytes: u64) -> Option<[u8; HEADER_SIZE]> {
    let (tag, bits) = layout.tag()?;
    let data = u32::try_from(data_bytes).unwrap_or(u32::MAX - HEADER_SIZE as u32);
    let frame_bytes = layout.frame_bytes();
    let mut out = [0; HEADER_SIZE];
    let mut room = &mut out[..];
    // It is written while sound runs, so it is put together where it is.
    let fields: [&[u8]; 12] = [
        b"RIFF",
        // A data chunk of odd length is padded to an even one.
        &(data.saturating_add(36 + (data & 1))).to_le_bytes(),
        b"WAVEfmt ",
        &16u32.to_le_bytes(),
        &tag.to_le_bytes(),
        &u16::from(layout.channels).to_le_bytes(),
        &layout.rate.to_le_bytes(),
        &layout.rate.saturating_mul(frame_bytes).to_le_bytes(),
        &(frame_bytes as u16).to_le_bytes(),
        &bits.to_le_bytes(),
        b"data",
        &data.to_le_bytes(),
    ];
    fields
        .iter()
        .try_for_each(|field| room.write_all(field))
        .ok()?;
    Some(out)
}

/// Finds layout and samples in a whole WAV file: the layout and the samples' bytes.
///
/// # Errors
/// Says what is wrong with the file.
pub fn parse(file: &[u8]) -> Result<(Layout, &[u8]), &'static str> {
    let rest = file
        .strip_prefix(b"RIFF")
        .ok_or("it does not start with RIFF")?;
    let mut rest = rest
        .get(4..)
        .and_then(|rest| rest.strip_prefix(b"WAVE"))
        .ok_or("it does not say WAVE")?;
    let mut layout = None;
    while let Some((head, body)) = rest.split_at_checked(8) {
        let (name, size) = head.split_at(4);
        let size = u32::from_le_bytes(size.try_into().map_err(|_| "a chunk is cut short")?);
        let body_size = usize::try_from(size).unwrap_or(usize::MAX).min(body.len());
        let (body, behind) = body.split_at(body_size);
        if name == b"fmt " {
            layout = Some(parse_format(body).ok_or("its sample format is not supported")?);
        } else if name == b"data" {
            let layout = layout.ok_or("its data come before their format")?;
            let whole = body.len() - body.len() % layout.frame_bytes() as usize;
            return Ok((layout, body.split_at(whole).0));
        }
        rest = behind.get((size & 1) as usize..).unwrap_or(&[]);
    }
    Err("it has no data")
}

fn parse_format(body: &[u8]) -> Option<Layout> {
    let le16 = |at: usize| Some(u16::from_le_bytes(body.get(at..at + 2)?.try_into().ok()?));
    let mut tag = le16(0)?;
    if tag == TAG_EXTENSIBLE {
        // The sub-format's first bytes are the tag; valid bits must fill the sample.
        tag = le16(24)?;
        if le16(18)? != le16(14)? {
            return None;
        }
    }
    let channels = u8::try_from(le16(2)?)
        .ok()
        .filter(|&channels| channels > 0)?;
    let rate = u32::from_le_bytes(body.get(4..8)?.try_into().ok()?);
    let format = Layout::from_tag(tag, le16(14)?)?;
    (pcm_format::rate_bit(rate) != 0).then_some(Layout {
        format,
        rate,
        channels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcm_format::{A_LAW, FLOAT, FLOAT64, MU_LAW, S16, S24, S24_3, S32, U8};

    #[test]
    fn a_header_is_read_back_and_understood_by_others() {
        for (format, bits) in [(U8, 8), (S16, 16), (S24_3, 24), (S32, 32), (FLOAT, 32)] {
            let layout = Layout {
                format,
                rate: 44_100,
                channels: 6,
            };
            let data = vec![1; 10 * layout.frame_bytes() as usize];
            let mut file = header(layout, data.len() as u64).unwrap().to_vec();
            file.extend_from_slice(&data);
            assert_eq!(parse(&file), Ok((layout, &data[..])));
            let reader = hound::WavReader::new(&file[..]).unwrap();
            let spec = reader.spec();
            assert_eq!(
                (spec.channels, spec.sample_rate, spec.bits_per_sample),
                (6, 44_100, bits)
            );
            assert_eq!(reader.duration(), 10);
        }
    }

    #[test]
    fn formats_are_tagged_as_everybody_does() {
        let tags = [(FLOAT64, 3, 64), (A_LAW, 6, 8), (MU_LAW, 7, 8)];
        for (format, tag, bits) in tags {
            let layout = Layout {
                format,
                rate: 8000,
                channels: 2,
            };
            let header = header(layout, 0).unwrap();
            assert_eq!(header[20..24], [tag, 0, 2, 0]);
            assert_eq!(header[32..36], [format.bytes * 2, 0, bits, 0]);
        }
    }

    #[test]
    fn formats_that_wav_does_not_carry_have_no_header() {
        assert_eq!(
            header(
                Layout {
                    format: S24,
                    rate: 48_000,
                    channels: 2
                },
                0
            ),
            None
        );
    }

    #[test]
    fn a_file_cut_short_anywhere_is_refused_or_shorter() {
        let layout = Layout {
            format: S16,
            rate: 48_000,
            channels: 2,
        };
        let mut file = header(layout, 8).unwrap().to_vec();
        file.extend_from_slice(&[7; 8]);
        for length in 0..HEADER_SIZE {
            assert!(parse(&file[..length]).is_err(), "{length} bytes");
        }
        assert_eq!(parse(&file[..HEADER_SIZE + 7]), Ok((layout, &[7u8; 4][..])));
    }

    #[test]
    fn other_chunks_are_skipped() {
        let layout = Layout {
            format: U8,
            rate: 8000,
            channels: 1,
        };
        let plain = header(layout, 3).unwrap();
        let mut file = plain[..12].to_vec();
        file.extend_from_slice(b"LIST\x03\0\0\0abc\0");
        file.extend_from_slice(&plain[12..]);
        file.extend_from_slice(&[1, 2, 3]);
        assert_eq!(parse(&file), Ok((layout, &[1u8, 2, 3][..])));
    }
}
