// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a PCM can do, asked of the PCM.

use std::ffi::CString;
use std::str::FromStr;

use alsa::pcm::{Access, Format as AlsaFormat, HwParams, PCM};

use super::super::HostError;
use crate::description::Stream;
use crate::pcm_format::{self, FORMATS, MAX_CHANNELS, RATES};
use crate::wire::{Direction, PcmInfo};

/// What ALSA calls a direction.
pub fn alsa_direction(direction: Direction) -> alsa::Direction {
    match direction {
        Direction::Playback => alsa::Direction::Playback,
        Direction::Capture => alsa::Direction::Capture,
    }
}

/// Wraps what ALSA said.
pub fn failure<'a>(
    device: &'a str,
    step: &'static str,
) -> impl Fn(alsa::Error) -> HostError + Copy + 'a {
    move |error| HostError::Alsa {
        device: device.to_owned(),
        step,
        reason: error.to_string(),
    }
}

/// Opens a PCM, without waiting for one that is in use.
pub fn open(device: &str, direction: Direction) -> Result<PCM, HostError> {
    let name = CString::new(device).map_err(|error| HostError::Alsa {
        device: device.to_owned(),
        step: "its name",
        reason: error.to_string(),
    })?;
    PCM::open(&name, alsa_direction(direction), true).map_err(failure(device, "open"))
}

/// The format's number in ALSA.
pub fn alsa_format(format: pcm_format::Format) -> Option<AlsaFormat> {
    AlsaFormat::from_str(format.name).ok()
}

/// Opens the PCM and asks what it can do with its buffer mapped.
///
/// # Errors
/// The PCM cannot be opened, cannot be mapped, or has nothing that virtio has a number for.
pub fn probe(device: &str, direction: Direction) -> Result<PcmInfo, HostError> {
    let pcm = open(device, direction)?;
    let params = HwParams::any(&pcm).map_err(failure(device, "parameters"))?;
    params
        .set_rate_resample(false)
        .map_err(failure(device, "no resampling"))?;
    params
        .set_access(Access::MMapInterleaved)
        .map_err(failure(device, "mapped access"))?;
    let formats = FORMATS.iter().filter(|format| {
        alsa_format(**format).is_some_and(|format| params.test_format(format).is_ok())
    });
    let rates = RATES.iter().filter(|rate| params.test_rate(**rate).is_ok());
    let least = params
        .get_channels_min()
        .map_err(failure(device, "channels"))?;
    let most = params
        .get_channels_max()
        .map_err(failure(device, "channels"))?;
    let info = PcmInfo {
        device: 0,
        formats: formats.fold(0, |bits, format| bits | format.bit()),
        rates: rates.fold(0, |bits, &rate| bits | pcm_format::rate_bit(rate)),
        direction,
        channels_min: u8::try_from(least).unwrap_or(u8::MAX).max(1),
        channels_max: most.min(MAX_CHANNELS.into()) as u8,
        features: 0,
    };
    if info.formats == 0 || info.rates == 0 || info.channels_min > info.channels_max {
        return Err(HostError::Alsa {
            device: device.to_owned(),
            step: "parameters",
            reason: "nothing that a virtio sound card can offer".to_owned(),
        });
    }
    Ok(info)
}

/// What a PCM that cannot be asked is offered with: its description, and for the rest what most
/// cards can do.
pub fn usual(stream: &Stream) -> PcmInfo {
    let or = |described: u64, usual| if described == 0 { usual } else { described };
    let formats = stream.formats.iter();
    let rates = stream.rates.iter();
    let (channels_min, channels_max) = stream.channels.unwrap_or((2, 2));
    PcmInfo {
        device: 0,
        formats: or(
            formats.fold(0, |bits, format| bits | format.bit()),
            pcm_format::S16.bit() | pcm_format::S32.bit(),
        ),
        rates: or(
            rates.fold(0, |bits, &rate| bits | pcm_format::rate_bit(rate)),
            pcm_format::rate_bit(44_100) | pcm_format::rate_bit(48_000),
        ),
        direction: stream.direction,
        channels_min,
        channels_max,
        features: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alsa_knows_every_format_by_its_name() {
        for format in FORMATS {
            let known = alsa_format(format).unwrap_or_else(|| panic!("{format:?}"));
            assert_eq!(
                known.physical_width(),
                Ok(i32::from(format.bytes) * 8),
                "{format:?}"
            );
        }
    }
}
