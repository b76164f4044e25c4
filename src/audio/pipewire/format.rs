// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What PipeWire calls sample formats and channel positions: one table each.

use std::io::Cursor;

use pipewire::spa::param::ParamType;
use pipewire::spa::param::audio::{AudioFormat, AudioInfoRaw, MAX_CHANNELS as MAX_POSITIONS};
use pipewire::spa::pod::serialize::{GenError, PodSerializer};
use pipewire::spa::pod::{Object, Value};
use pipewire::spa::sys;
use pipewire::spa::utils::SpaTypes;

use crate::channel_map;
use crate::pcm_format::{Format, MAX_CHANNELS, RATES, rate_bit};
use crate::stream::Params;
use crate::wire::{Direction, PcmInfo};

/// PipeWire's names of formats, by ALSA's. Its packed S24 is ALSA's S24_3; ALSA's S24 is its S24_32. Left
/// out is what PipeWire has no name for, and what it has a name for but converts in no version (18
/// and 20 bits).
const FORMATS: [(&str, AudioFormat); 14] = [
    ("MU_LAW", AudioFormat::ULAW),
    ("A_LAW", AudioFormat::ALAW),
    ("S8", AudioFormat::S8),
    ("U8", AudioFormat::U8),
    ("S16_LE", AudioFormat::S16LE),
    ("U16_LE", AudioFormat::U16LE),
    ("S24_3LE", AudioFormat::S24LE),
    ("U24_3LE", AudioFormat::U24LE),
    ("S24_LE", AudioFormat::S24_32LE),
    ("U24_LE", AudioFormat::U24_32LE),
    ("S32_LE", AudioFormat::S32LE),
    ("U32_LE", AudioFormat::U32LE),
    ("FLOAT_LE", AudioFormat::F32LE),
    ("FLOAT64_LE", AudioFormat::F64LE),
];

/// PipeWire's numbers of channel positions, by ALSA's names.
const POSITIONS: [(&str, u32); 34] = [
    ("NA", sys::SPA_AUDIO_CHANNEL_NA),
    ("MONO", sys::SPA_AUDIO_CHANNEL_MONO),
    ("FL", sys::SPA_AUDIO_CHANNEL_FL),
    ("FR", sys::SPA_AUDIO_CHANNEL_FR),
    ("RL", sys::SPA_AUDIO_CHANNEL_RL),
    ("RR", sys::SPA_AUDIO_CHANNEL_RR),
    ("FC", sys::SPA_AUDIO_CHANNEL_FC),
    ("LFE", sys::SPA_AUDIO_CHANNEL_LFE),
    ("SL", sys::SPA_AUDIO_CHANNEL_SL),
    ("SR", sys::SPA_AUDIO_CHANNEL_SR),
    ("RC", sys::SPA_AUDIO_CHANNEL_RC),
    ("FLC", sys::SPA_AUDIO_CHANNEL_FLC),
    ("FRC", sys::SPA_AUDIO_CHANNEL_FRC),
    ("RLC", sys::SPA_AUDIO_CHANNEL_RLC),
    ("RRC", sys::SPA_AUDIO_CHANNEL_RRC),
    ("FLW", sys::SPA_AUDIO_CHANNEL_FLW),
    ("FRW", sys::SPA_AUDIO_CHANNEL_FRW),
    ("FLH", sys::SPA_AUDIO_CHANNEL_FLH),
    ("FCH", sys::SPA_AUDIO_CHANNEL_FCH),
    ("FRH", sys::SPA_AUDIO_CHANNEL_FRH),
    ("TC", sys::SPA_AUDIO_CHANNEL_TC),
    ("TFL", sys::SPA_AUDIO_CHANNEL_TFL),
    ("TFR", sys::SPA_AUDIO_CHANNEL_TFR),
    ("TFC", sys::SPA_AUDIO_CHANNEL_TFC),
    ("TRL", sys::SPA_AUDIO_CHANNEL_TRL),
    ("TRR", sys::SPA_AUDIO_CHANNEL_TRR),
    ("TRC", sys::SPA_AUDIO_CHANNEL_TRC),
    ("TFLC", sys::SPA_AUDIO_CHANNEL_TFLC),
    ("TFRC", sys::SPA_AUDIO_CHANNEL_TFRC),
    ("TSL", sys::SPA_AUDIO_CHANNEL_TSL),
    ("TSR", sys::SPA_AUDIO_CHANNEL_TSR),
    ("BC", sys::SPA_AUDIO_CHANNEL_BC),
    ("BLC", sys::SPA_AUDIO_CHANNEL_BLC),
    ("BRC", sys::SPA_AUDIO_CHANNEL_BRC),
];

/// What every stream of a graph can do: the server converts.
pub fn offer(direction: Direction) -> PcmInfo {
    let known = |(name, _): &(&str, AudioFormat)| Format::from_name(name);
    let formats = FORMATS.iter().filter_map(known);
    PcmInfo {
        device: 0,
        formats: formats.fold(0, |bits, format| bits | format.bit()),
        rates: RATES.iter().fold(0, |bits, &rate| bits | rate_bit(rate)),
        direction,
        channels_min: 1,
        channels_max: MAX_CHANNELS,
        features: 0,
    }
}

/// PipeWire's number of a channel position of ALSA.
fn position(alsa: u8) -> u32 {
    let name = channel_map::POSITIONS.get(usize::from(alsa));
    let known = POSITIONS.iter().find(|(known, _)| Some(known) == name);
    known.map_or(sys::SPA_AUDIO_CHANNEL_UNKNOWN, |(_, number)| *number)
}

/// The parameters as PipeWire's EnumFormat, with this map of channels.
///
/// # Errors
/// They cannot be written down.
pub fn describe(params: &Params, map: &[u8]) -> Result<Vec<u8>, GenError> {
    let mut info = AudioInfoRaw::new();
    let known = FORMATS.iter().find(|(name, _)| *name == params.format.name);
    info.set_format(known.map_or(AudioFormat::Unknown, |(_, format)| *format));
    info.set_rate(params.rate);
    info.set_channels(params.channels.into());
    let mut positions = [sys::SPA_AUDIO_CHANNEL_UNKNOWN; MAX_POSITIONS];
    for (place, &at) in positions.iter_mut().zip(map) {
        *place = position(at);
    }
    info.set_position(positions);
    let object = Value::Object(Object {
        type_: SpaTypes::ObjectParamFormat.as_raw(),
        id: ParamType::EnumFormat.as_raw(),
        properties: info.into(),
    });
    let (cursor, _) = PodSerializer::serialize(Cursor::new(Vec::new()), &object)?;
    Ok(cursor.into_inner())
}

#[cfg(test)]
mod tests {
    use pipewire::spa::pod::Pod;

    use super::*;
    use crate::pcm_format::{self, FORMATS as ALL};

    #[test]
    fn every_format_has_the_size_of_its_name_in_pipewire() {
        let offered = offer(Direction::Playback).formats;
        for (name, format) in FORMATS {
            let alsa = Format::from_name(name).unwrap();
            assert_ne!(offered & alsa.bit(), 0);
            let spa = format!("{format:?}");
            let bytes = match spa.trim_start_matches("AudioFormat::") {
                "S8" | "U8" | "ULAW" | "ALAW" => 1,
                "S16LE" | "U16LE" => 2,
                "S24LE" | "U24LE" => 3,
                "S24_32LE" | "U24_32LE" | "S32LE" | "U32LE" | "F32LE" => 4,
                "F64LE" => 8,
                other => panic!("{other}"),
            };
            assert_eq!(alsa.bytes, bytes, "{name} is {spa}");
        }
        let count = ALL
            .iter()
            .filter(|format| offered & format.bit() != 0)
            .count();
        assert_eq!(count, FORMATS.len());
    }

    #[test]
    fn a_format_is_described_as_pipewire_reads_it() {
        let params = Params {
            format: pcm_format::S24,
            rate: 96_000,
            channels: 6,
            buffer_bytes: 960,
            period_bytes: 240,
            features: 0,
        };
        let bytes = describe(&params, channel_map::USUAL[5]).unwrap();
        let mut info = AudioInfoRaw::new();
        info.parse(Pod::from_bytes(&bytes).unwrap()).unwrap();
        assert_eq!(info.format(), AudioFormat::S24_32LE);
        assert_eq!((info.rate(), info.channels()), (96_000, 6));
        let expected = [
            sys::SPA_AUDIO_CHANNEL_FL,
            sys::SPA_AUDIO_CHANNEL_FR,
            sys::SPA_AUDIO_CHANNEL_RL,
            sys::SPA_AUDIO_CHANNEL_RR,
            sys::SPA_AUDIO_CHANNEL_FC,
            sys::SPA_AUDIO_CHANNEL_LFE,
        ];
        assert_eq!(info.position()[..6], expected);
    }

    #[test]
    fn positions_of_alsa_that_pipewire_knows_are_found_by_name() {
        for (name, number) in POSITIONS {
            let alsa = channel_map::parse_position(name).unwrap();
            assert_eq!(position(alsa), number, "{name}");
        }
        for unknown in ["UNKNOWN", "LLFE", "RLFE"] {
            let alsa = channel_map::parse_position(unknown).unwrap();
            assert_eq!(position(alsa), sys::SPA_AUDIO_CHANNEL_UNKNOWN);
        }
    }
}
