// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the card writes down of a stream for the process that comes after it, and how that is read:
//! with doubt. Two places take turns, each with a checksum, so that there is a whole record whenever
//! this process dies.

use std::sync::Arc;

use crate::area::Area;
use crate::audio::Nanos;
use crate::pcm::Tally;
use crate::stream::{Params, State};
use crate::wire::{PcmInfo, RawParams};

/// Words of one place: turn, contents, checksum.
const CONTENTS: usize = 11;
const PLACE: usize = CONTENTS + 2;
/// Words of the record of one stream.
pub const RECORD_WORDS: usize = 2 * PLACE;

/// How a stream is at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it is in its life.
    pub state: State,
    /// Its parameters, from SET_PARAMS on.
    pub params: Option<Params>,
    /// When that was.
    pub time: Nanos,
    /// Number of the oldest message that is not through; those before it are.
    pub front: u64,
    /// Frames of that message that are.
    pub heard: u64,
    /// Frames behind that which the host had already: it may have played them since.
    pub ahead: u64,
    /// What the stream went through since PREPARE.
    pub tally: Tally,
}

const STATES: [State; 6] = [
    State::Idle,
    State::ParametersSet,
    State::Prepared,
    State::Running,
    State::Stopped,
    State::Released,
];

impl Snapshot {
    fn encode(&self) -> [u64; CONTENTS] {
        let place = STATES.iter().position(|&state| state == self.state);
        let raw = self.params.as_ref().map(Params::raw);
        let (mut choice, mut sizes) = (0, 0);
        if let Some(raw) = raw {
            let [channels, format, rate] = [raw.channels, raw.format, raw.rate].map(u64::from);
            choice = 1 << 8 | channels << 16 | format << 24 | u64::from(raw.features) << 32;
            choice |= rate << 9;
            sizes = u64::from(raw.buffer_bytes) << 32 | u64::from(raw.period_bytes);
        }
        let [frames, gaps, lost, open] = self.tally.counts();
        [
            choice | place.unwrap_or(0) as u64,
            sizes,
            self.time,
            self.front,
            self.heard,
            self.ahead,
            frames,
            gaps,
            lost,
            open,
            0,
        ]
    }

    /// `None` for what this program does not write of a stream with this direction, these channels
    /// and these features. Formats and rates may be others than `offered` says: a real card that is
    /// busy while this process starts could not be asked for its own.
    fn decode(words: &[u64; CONTENTS], offered: &PcmInfo) -> Option<Self> {
        let [choice, sizes, time, front, heard, ahead, counts @ .., 0] = *words else {
            return None;
        };
        let offered = PcmInfo {
            formats: u64::MAX,
            rates: u64::MAX,
            ..*offered
        };
        let byte = |shift: u32| (choice >> shift) as u8;
        let raw = RawParams {
            buffer_bytes: (sizes >> 32) as u32,
            period_bytes: sizes as u32,
            features: (choice >> 32) as u32,
            channels: byte(16),
            format: byte(24),
            rate: byte(9) & 0x7f,
        };
        let params = match choice >> 8 & 1 {
            0 => None,
            _ => Some(Params::check(&raw, &offered).ok()?),
        };
        let state = *STATES.get(usize::from(byte(0)))?;
        // Only a stream that never had parameters may be without.
        (params.is_some() || state == State::Idle).then_some(Self {
            state,
            params,
            time,
            front,
            heard,
            ahead,
            tally: Tally::from_counts(counts),
        })
    }
}

fn checksum(place: usize, turn: u64, words: &[u64; CONTENTS]) -> u64 {
    fnv([place as u64, turn].into_iter().chain(*words))
}

/// FNV-1a, by words.
pub fn fnv(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0xcbf2_9ce4_8422_2325, |sum, word| {
        (sum ^ word).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The record of one stream.
#[derive(Debug)]
pub struct Record {
    area: Arc<Area>,
    at: usize,
    turn: u64,
}

impl Record {
    /// A record at this word of the area.
    pub fn new(area: &Arc<Area>, at: usize) -> Self {
        let mut record = Self {
            area: Arc::clone(area),
            at,
            turn: 0,
        };
        record.turn = record.newest().map_or(0, |(turn, _)| turn);
        record
    }

    /// The last snapshot that is whole, of a stream that offers this.
    pub fn read(&self, offered: &PcmInfo) -> Option<Snapshot> {
        Snapshot::decode(&self.newest()?.1, offered)
    }

    /// Writes a snapshot in the place of the last but one.
    pub fn write(&mut self, snapshot: &Snapshot) {
        self.turn = self.turn.wrapping_add(1);
        let at = self.place(self.turn);
        let words = snapshot.encode();
        self.area.store(at, self.turn);
        for (to, word) in (at + 1..).zip(words) {
            self.area.store(to, word);
        }
        let sum = checksum(at, self.turn, &words);
        self.area.store(at + 1 + CONTENTS, sum);
    }

    fn place(&self, turn: u64) -> usize {
        self.at + (turn & 1) as usize * PLACE
    }

    fn newest(&self) -> Option<(u64, [u64; CONTENTS])> {
        let whole = |turn| {
            let at = self.place(turn);
            let turn = self.area.load(at);
            let words = std::array::from_fn(|word| self.area.load(at + 1 + word));
            let sum = self.area.load(at + 1 + CONTENTS);
            (turn > 0 && sum == checksum(at, turn, &words)).then_some((turn, words))
        };
        [0, 1]
            .into_iter()
            .filter_map(whole)
            .max_by_key(|(turn, _)| *turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm_format;
    use crate::wire::Direction;

    const OFFERED: PcmInfo = PcmInfo {
        device: 0,
        formats: 1 << 5,
        rates: 1 << 7,
        direction: Direction::Playback,
        channels_min: 1,
        channels_max: 2,
        features: 1 << 4,
    };

    fn area() -> Arc<Area> {
        let (message, file) = Area::create(4, 8, RECORD_WORDS).unwrap();
        Arc::new(Area::map(&message, file).unwrap())
    }

    fn snapshot(time: Nanos) -> Snapshot {
        Snapshot {
            state: State::Running,
            params: Some(Params {
                format: pcm_format::S16,
                rate: 48_000,
                channels: 2,
                buffer_bytes: 7680,
                period_bytes: 1920,
                features: 1 << 4,
            }),
            time,
            front: 77,
            heard: 13,
            ahead: 960,
            tally: Tally::from_counts([48_000, 1, 480, 7]),
        }
    }

    #[test]
    fn the_last_whole_snapshot_is_read() {
        let area = area();
        let at = area.behind_queues();
        let mut record = Record::new(&area, at);
        assert_eq!(record.read(&OFFERED), None);
        for time in 1..5 {
            record.write(&snapshot(time));
            assert_eq!(record.read(&OFFERED), Some(snapshot(time)));
        }
        // Another process reads the same, and goes on.
        let mut record = Record::new(&area, at);
        assert_eq!(record.read(&OFFERED), Some(snapshot(4)));
        record.write(&snapshot(5));
        assert_eq!(record.read(&OFFERED), Some(snapshot(5)));
    }

    #[test]
    fn a_process_that_dies_while_it_writes_leaves_the_snapshot_before() {
        let area = area();
        let at = area.behind_queues();
        let mut record = Record::new(&area, at);
        record.write(&snapshot(1));
        record.write(&snapshot(2));
        // The third is in the place of the first; each word of it could have been the last.
        let place = record.place(3);
        for written in 0..PLACE - 1 {
            area.store(place + written, 3 + written as u64);
            assert_eq!(Record::new(&area, at).read(&OFFERED), Some(snapshot(2)));
        }
    }

    #[test]
    fn every_state_is_read_as_it_was_written() {
        let area = area();
        let mut record = Record::new(&area, area.behind_queues());
        for state in STATES {
            for format in pcm_format::FORMATS {
                for rate in pcm_format::RATES {
                    let mut wanted = snapshot(9);
                    wanted.state = state;
                    let frame = u32::from(format.bytes) * 2;
                    wanted.params = wanted.params.map(|params| Params {
                        format,
                        rate,
                        buffer_bytes: 8 * frame,
                        period_bytes: 4 * frame,
                        ..params
                    });
                    record.write(&wanted);
                    assert_eq!(record.read(&OFFERED), Some(wanted));
                }
            }
        }
        let idle = Snapshot {
            state: State::Idle,
            params: None,
            ..snapshot(3)
        };
        record.write(&idle);
        assert_eq!(record.read(&OFFERED), Some(idle));
    }

    #[test]
    fn nonsense_with_a_right_checksum_is_no_snapshot() {
        let good = snapshot(1).encode();
        assert!(Snapshot::decode(&good, &OFFERED).is_some());
        let wrong: [(usize, u64); 8] = [
            (0, good[0] | 1 << 40),       // a feature
            (0, good[0] | 4 << 16),       // channels
            (0, good[0] | 0xff),          // state
            (0, good[0] & !(1 << 8)),     // running without parameters
            (0, good[0] | 0xff << 24),    // format
            (0, good[0] & !(0xff << 16)), // no channel
            (1, 0),                       // no period
            (10, 1),                      // reserved
        ];
        for (place, word) in wrong {
            let mut words = good;
            words[place] = word;
            assert_eq!(
                Snapshot::decode(&words, &OFFERED),
                None,
                "word {place}: {word:#x}"
            );
        }
    }
}
