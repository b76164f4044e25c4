// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which loudspeaker or microphone each channel of a frame belongs to.

use crate::description::Stream;
use crate::wire::{Chmap, PcmInfo};

/// The names of channel positions in ALSA; the place in the table is `VIRTIO_SND_CHMAP_*`
/// (virtio 1.3, 5.14.6.9.1).
pub const POSITIONS: [&str; 37] = [
    "UNKNOWN", "NA", "MONO", "FL", "FR", "RL", "RR", "FC", "LFE", "SL", "SR", "RC", "FLC", "FRC",
    "RLC", "RRC", "FLW", "FRW", "FLH", "FCH", "FRH", "TC", "TFL", "TFR", "TFC", "TRL", "TRR",
    "TRC", "TFLC", "TFRC", "TSL", "TSR", "LLFE", "RLFE", "BC", "BLC", "BRC",
];

/// The number of the position with this name, in any case.
///
/// # Errors
/// Says which names there are.
pub fn parse_position(name: &str) -> Result<u8, String> {
    let place = POSITIONS
        .iter()
        .position(|known| known.eq_ignore_ascii_case(name));
    place
        .and_then(|place| u8::try_from(place).ok())
        .ok_or_else(|| format!("one of {}", POSITIONS.join(", ")))
}

const MONO: u8 = 2;
const FL: u8 = 3;
const FR: u8 = 4;
const RL: u8 = 5;
const RR: u8 = 6;
const FC: u8 = 7;
const LFE: u8 = 8;
const SL: u8 = 9;
const SR: u8 = 10;
const RC: u8 = 11;

/// The usual order of channels in ALSA for each number of channels.
pub const USUAL: [&[u8]; 8] = [
    &[MONO],
    &[FL, FR],
    &[FL, FR, FC],
    &[FL, FR, RL, RR],
    &[FL, FR, RL, RR, FC],
    &[FL, FR, RL, RR, FC, LFE],
    &[FL, FR, RL, RR, FC, LFE, RC],
    &[FL, FR, RL, RR, FC, LFE, SL, SR],
];

/// The channel maps of a card: for each PCM device and direction those that its streams were
/// described with, or the usual ones for every number of channels that they offer. `infos` are what
/// the streams offer, in the same order.
pub fn of_card(streams: &[Stream], infos: &[PcmInfo]) -> Vec<Chmap> {
    let mut maps: Vec<Chmap> = Vec::new();
    for (stream, info) in streams.iter().zip(infos) {
        let channels = usize::from(info.channels_min)..=usize::from(info.channels_max);
        let usual = || USUAL.iter().map(|map| map.to_vec()).collect();
        let known: Vec<Vec<u8>> = stream.channel_maps.clone().unwrap_or_else(usual);
        for positions in known
            .into_iter()
            .filter(|map| channels.contains(&map.len()))
        {
            let map = Chmap {
                device: info.device,
                direction: info.direction,
                positions,
            };
            if !maps.contains(&map) {
                maps.push(map);
            }
        }
    }
    maps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::description::StreamHost;
    use crate::wire::Direction;

    fn stream(device: u32, direction: Direction, maps: Option<Vec<Vec<u8>>>) -> (Stream, PcmInfo) {
        let stream = Stream {
            channel_maps: maps,
            ..Stream::new(direction, device, StreamHost::Null)
        };
        let info = PcmInfo {
            device,
            formats: 1,
            rates: 1,
            direction,
            channels_min: 1,
            channels_max: 3,
            features: 0,
        };
        (stream, info)
    }

    #[test]
    fn every_usual_map_has_its_number_of_channels_and_no_position_twice() {
        for (map, channels) in USUAL.iter().zip(1..) {
            assert_eq!(map.len(), channels);
            let mut sorted = map.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), channels);
        }
        let names = |map: &[u8]| {
            map.iter()
                .map(|&at| POSITIONS[usize::from(at)])
                .collect::<Vec<_>>()
        };
        assert_eq!(names(USUAL[0]), ["MONO"]);
        assert_eq!(names(USUAL[6]), ["FL", "FR", "RL", "RR", "FC", "LFE", "RC"]);
        assert_eq!(names(USUAL[7])[6..], ["SL", "SR"]);
    }

    #[test]
    fn each_device_and_direction_has_its_own_maps_and_substreams_share_them() {
        let (streams, infos): (Vec<_>, Vec<_>) = [
            stream(0, Direction::Playback, None),
            stream(0, Direction::Playback, None),
            stream(
                1,
                Direction::Playback,
                Some(vec![vec![4, 3], vec![3, 4, 5, 6]]),
            ),
            stream(1, Direction::Capture, None),
        ]
        .into_iter()
        .unzip();
        let maps = of_card(&streams, &infos);
        let found: Vec<_> = maps
            .iter()
            .map(|map| (map.device, map.direction, map.positions.len()))
            .collect();
        let (play, capture) = (Direction::Playback, Direction::Capture);
        let expected = [
            (0, play, 1),
            (0, play, 2),
            (0, play, 3),
            (1, play, 2),
            (1, capture, 1),
            (1, capture, 2),
            (1, capture, 3),
        ];
        assert_eq!(found, expected);
        assert_eq!(maps[3].positions, [4, 3]);
    }
}
