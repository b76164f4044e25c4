// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Parameters in GStreamer's words, and what a pipeline takes or gives of them.

use gstreamer as gst;

use crate::pcm_format::{self, FORMATS, Format, MAX_CHANNELS};
use crate::stream::Params;
use crate::wire::{Direction, PcmInfo};

/// GStreamer's name of a format, and its media type; `None` where it has none.
fn words(format: Format) -> Option<(&'static str, Option<&'static str>)> {
    let raw = |name| Some(("audio/x-raw", Some(name)));
    match format.name {
        "MU_LAW" => Some(("audio/x-mulaw", None)),
        "A_LAW" => Some(("audio/x-alaw", None)),
        "S8" => raw("S8"),
        "U8" => raw("U8"),
        "S16_LE" => raw("S16LE"),
        "U16_LE" => raw("U16LE"),
        "S18_3LE" => raw("S18LE"),
        "U18_3LE" => raw("U18LE"),
        "S20_3LE" => raw("S20LE"),
        "U20_3LE" => raw("U20LE"),
        "S24_3LE" => raw("S24LE"),
        "U24_3LE" => raw("U24LE"),
        "S24_LE" => raw("S24_32LE"),
        "U24_LE" => raw("U24_32LE"),
        "S32_LE" => raw("S32LE"),
        "U32_LE" => raw("U32LE"),
        "FLOAT_LE" => raw("F32LE"),
        "FLOAT64_LE" => raw("F64LE"),
        _ => None,
    }
}

/// Sound of this format, and of these rates and channels if they are said.
fn sound(
    format: Format,
    rate: Option<u32>,
    channels: Option<u8>,
    direction: Direction,
) -> Option<gst::Caps> {
    let (media, name) = words(format)?;
    let mut caps = gst::Caps::builder(media);
    if let Some(name) = name {
        caps = caps.field("format", name).field("layout", "interleaved");
    }
    if let Some(rate) = rate.and_then(|rate| i32::try_from(rate).ok()) {
        caps = caps.field("rate", rate);
    }
    if let Some(channels) = channels {
        caps = caps.field("channels", i32::from(channels));
        if channels > 2 && name.is_some() && direction == Direction::Playback {
            // Channels stay in their order, whatever loudspeakers they belong to.
            caps = caps.field("channel-mask", gst::Bitmask::new(0));
        }
    }
    Some(caps.build())
}

/// The parameters of a stream; `None` for a format that GStreamer does not know.
pub fn of(params: &Params, direction: Direction) -> Option<gst::Caps> {
    let (rate, channels) = (Some(params.rate), Some(params.channels));
    sound(params.format, rate, channels, direction)
}

/// What a stream offers whose pipeline can do this; `None` for nothing.
pub fn offer(able: &gst::Caps, direction: Direction) -> Option<PcmInfo> {
    let can = |format, rate, channels| {
        sound(format, rate, channels, direction).is_some_and(|caps| able.can_intersect(&caps))
    };
    let formats: Vec<_> = FORMATS
        .into_iter()
        .filter(|&format| can(format, None, None))
        .collect();
    let rates = pcm_format::RATES.iter().filter(|&&rate| {
        let mut formats = formats.iter();
        formats.any(|&format| can(format, Some(rate), None))
    });
    let channels: Vec<_> = (1..=MAX_CHANNELS)
        .filter(|&channels| {
            let mut formats = formats.iter();
            formats.any(|&format| can(format, None, Some(channels)))
        })
        .collect();
    let info = PcmInfo {
        device: 0,
        formats: formats.iter().fold(0, |bits, format| bits | format.bit()),
        rates: rates.fold(0, |bits, &rate| bits | pcm_format::rate_bit(rate)),
        direction,
        channels_min: *channels.first()?,
        channels_max: *channels.last()?,
        features: 0,
    };
    (info.formats != 0 && info.rates != 0).then_some(info)
}
