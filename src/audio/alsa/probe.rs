// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a PCM can do, asked of the PCM.

use std::ffi::CString;
use std::str::FromStr;
use std::sync::Arc;

use alsa::ValueOr;
use alsa::pcm::{Access, Format as AlsaFormat, HwParams, PCM};

use super::offer::Offer;
use crate::audio::HostError;
use crate::description::Stream;
use crate::pcm_format::{self, FORMATS, Format, MAX_CHANNELS, RATES};
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
    device: &'a Arc<str>,
    step: &'static str,
) -> impl Fn(alsa::Error) -> HostError + Copy + 'a {
    move |source| HostError::Alsa {
        device: Arc::clone(device),
        step,
        source,
    }
}

/// Opens a PCM, without waiting for one that is in use.
pub fn open(device: &Arc<str>, direction: Direction) -> Result<PCM, HostError> {
    let no_name = |_| failure(device, "its name")(alsa::Error::unsupported("snd_pcm_open"));
    let name = CString::new(&**device).map_err(no_name)?;
    PCM::open(&name, alsa_direction(direction), true).map_err(failure(device, "open"))
}

/// The format's number in ALSA.
pub fn alsa_format(format: Format) -> Option<AlsaFormat> {
    AlsaFormat::from_str(format.name).ok()
}

/// Opens the PCM and asks what it can do with its buffer mapped, of what the stream is described
/// with. Whatever is offered works with whatever else is.
///
/// # Errors
/// The PCM cannot be opened, cannot be mapped, or has nothing that virtio has a number for.
pub fn probe(device: &Arc<str>, stream: &Stream) -> Result<PcmInfo, HostError> {
    let pcm = open(device, stream.direction)?;
    let hw = mapped(&pcm, device)?;
    let single = single(&hw, stream).map_err(failure(device, "channels"))?;
    // Channels change fastest; format and rate are set once for all of them. What lies between the
    // least and the most channels is asked for only where one of those does not work, or where there
    // is a hole at all: the restart of this process waits for the answers, and each is a call.
    let all = single.channels.clone();
    let mut numbers = all.clone();
    let holes = numbers.any(|channels| hw.test_channels(channels.into()).is_err());
    let ask = |format, rate| {
        let hw = narrowed(&hw, format, rate)?;
        let least = hw.get_channels_min().ok()?.max((*all.start()).into());
        let most = hw.get_channels_max().ok()?.min((*all.end()).into());
        let ends = [least, most];
        let whole = !holes && ends.iter().all(|&ends| hw.test_channels(ends).is_ok());
        Some((hw, whole.then_some(least..=most)))
    };
    let mut known = None;
    let offer = single.that_works(|format, rate, channels| {
        let (_, answer) = match known.take() {
            Some(same @ (of, _)) if of == (format, rate) => known.insert(same),
            _ => known.insert(((format, rate), ask(format, rate))),
        };
        let channels = u32::from(channels);
        match answer {
            Some((_, Some(whole))) => whole.contains(&channels),
            Some((hw, None)) => hw.test_channels(channels).is_ok(),
            None => false,
        }
    });
    if offer.is_empty() {
        let nothing = alsa::Error::unsupported("snd_pcm_hw_params_any");
        return Err(failure(device, "nothing that virtio can offer")(nothing));
    }
    let (formats, rates) = (offer.formats.iter(), offer.rates.iter());
    Ok(PcmInfo {
        device: 0,
        formats: formats.fold(0, |bits, format| bits | format.bit()),
        rates: rates.fold(0, |bits, &rate| bits | pcm_format::rate_bit(rate)),
        direction: stream.direction,
        channels_min: *offer.channels.start(),
        channels_max: *offer.channels.end(),
        features: 0,
    })
}

/// All that the PCM can do with its buffer mapped and nothing converted.
pub fn mapped<'a>(pcm: &'a PCM, device: &Arc<str>) -> Result<HwParams<'a>, HostError> {
    let hw = HwParams::any(pcm).map_err(failure(device, "parameters"))?;
    hw.set_rate_resample(false)
        .map_err(failure(device, "no resampling"))?;
    hw.set_access(Access::MMapInterleaved)
        .map_err(failure(device, "mapped access"))?;
    Ok(hw)
}

/// What works taken one by one.
fn single(hw: &HwParams<'_>, stream: &Stream) -> alsa::Result<Offer> {
    let formats = FORMATS
        .iter()
        .copied()
        .filter(|format| alsa_format(*format).is_some_and(|format| hw.test_format(format).is_ok()));
    let rates = RATES
        .iter()
        .copied()
        .filter(|rate| hw.test_rate(*rate).is_ok());
    let least = u8::try_from(hw.get_channels_min()?).unwrap_or(u8::MAX);
    let most = u8::try_from(hw.get_channels_max()?).unwrap_or(u8::MAX);
    let (least, most) = (least.max(1), most.min(MAX_CHANNELS));
    let (first, last) = stream.channels.unwrap_or((least, most));
    let channels = least.max(first)..=most.min(last);
    Ok(Offer {
        formats: wanted(formats.collect(), &stream.formats),
        rates: wanted(rates.collect(), &stream.rates),
        channels: if channels.is_empty() {
            least..=most
        } else {
            channels
        },
    })
}

/// What there is of what is asked for. All of it where nothing is, so that whoever asked can be told.
fn wanted<T: PartialEq + Copy>(all: Vec<T>, asked: &[T]) -> Vec<T> {
    let both: Vec<T> = all
        .iter()
        .copied()
        .filter(|one| asked.contains(one))
        .collect();
    if both.is_empty() { all } else { both }
}

/// What is left with this format and this rate.
fn narrowed<'a>(hw: &HwParams<'a>, format: Format, rate: u32) -> Option<HwParams<'a>> {
    let hw = hw.clone();
    hw.set_format(alsa_format(format)?).ok()?;
    hw.set_rate(rate, ValueOr::Nearest).ok()?;
    Some(hw)
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

    #[test]
    fn what_is_asked_for_narrows_what_there_is() {
        assert_eq!(wanted(vec![1, 2, 3], &[2, 3, 4]), [2, 3]);
        assert_eq!(wanted(vec![1, 2, 3], &[]), [1, 2, 3]);
        assert_eq!(wanted(vec![1, 2, 3], &[4]), [1, 2, 3]);
    }
}
