// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Hosts that have no clock of their own: CLOCK_MONOTONIC stands in for the sound card's.
//!
//! Frames are taken exactly as the clock passes them, not earlier: what a driver still changes in a
//! queued message is heard, as it would be on a card that reads its buffer while playing.

use super::{Host, HostError, Nanos, Progress};
use crate::stream::Params;
use crate::wire::PcmInfo;

const NANOS: u128 = 1_000_000_000;
/// When a medium that did not take all that was due is asked again.
const BACKLOG: Nanos = 2_000_000;

/// What lies behind a clock: takes and gives samples whenever the clock says so.
pub trait Medium: Send {
    /// See [`Host::streams`].
    fn streams(&self) -> &[PcmInfo];
    /// See [`Host::prepare`]. Where it fails, what follows is silence, at the right pace.
    ///
    /// # Errors
    /// The medium cannot be used so.
    fn prepare(&mut self, stream: usize, params: &Params) -> Result<(), HostError>;
    /// See [`Host::inherit`].
    fn inherit(&mut self, _stream: usize, _frames: u64) {}
    /// The clock of the stream runs from now on.
    fn started(&mut self, _stream: usize) {}
    /// The stream has been stopped; what was written should be safe now.
    fn settle(&mut self, _stream: usize) {}
    /// See [`Host::release`].
    fn release(&mut self, _stream: usize) {}
    /// Takes up to `frames` frames, and returns how many. The rest comes again a little later.
    fn write(&mut self, stream: usize, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64;
    /// Gives `frames` frames.
    fn read(&mut self, stream: usize, frames: u64, drain: &mut dyn FnMut(&[u8]));
    /// The clock has passed `frames` frames that the driver did not deliver or had no room for.
    fn starve(&mut self, _stream: usize, _frames: u64) {}
    /// See [`Host::fault`].
    fn fault(&mut self, _stream: usize) -> Option<HostError> {
        None
    }
    /// See [`Host::returned`].
    fn returned(&mut self, _stream: usize) -> bool {
        false
    }
}

/// A frame clock. All clocks of one rate tick at the same instants, so that two streams stay a
/// whole number of frames apart for ever.
#[derive(Clone, Copy, Debug)]
struct FrameClock {
    rate: u32,
    /// Ticks of CLOCK_MONOTONIC at the start; `None` while the clock stands.
    origin: Option<u128>,
    /// Position at the start.
    base: u64,
}

impl FrameClock {
    fn ticks(&self, now: Nanos) -> u128 {
        u128::from(now) * u128::from(self.rate) / NANOS
    }

    fn position(&self, now: Nanos) -> u64 {
        let run = self
            .origin
            .map_or(0, |origin| self.ticks(now).saturating_sub(origin));
        self.base
            .saturating_add(u64::try_from(run).unwrap_or(u64::MAX))
    }

    /// The first instant at which `position` has been reached.
    fn when(&self, position: u64) -> Nanos {
        let run = u128::from(position.saturating_sub(self.base));
        let ticks = self.origin.unwrap_or(0) + run;
        let nanos = (ticks * NANOS).div_ceil(u128::from(self.rate.max(1)));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// A host made of a clock and a medium.
pub struct Clocked<M> {
    medium: M,
    streams: Vec<(FrameClock, u64)>,
}

impl<M: Medium> Clocked<M> {
    /// Puts a clock before each stream of `medium`.
    pub fn new(medium: M) -> Self {
        let stopped = FrameClock {
            rate: 1,
            origin: None,
            base: 0,
        };
        let streams = vec![(stopped, 0); medium.streams().len()];
        Self { medium, streams }
    }
}

impl<M: Medium> Host for Clocked<M> {
    fn streams(&self) -> &[PcmInfo] {
        self.medium.streams()
    }

    fn inherit(&mut self, stream: usize, frames: u64) {
        self.medium.inherit(stream, frames);
    }

    fn prepare(&mut self, stream: usize, params: &Params) -> Result<(), HostError> {
        if let Some((clock, cursor)) = self.streams.get_mut(stream) {
            *clock = FrameClock {
                rate: params.rate,
                origin: None,
                base: 0,
            };
            *cursor = 0;
        }
        self.medium.prepare(stream, params)
    }

    fn start(&mut self, stream: usize, now: Nanos) -> Result<(), HostError> {
        if let Some((clock, _)) = self.streams.get_mut(stream) {
            clock.origin = Some(clock.ticks(now));
        }
        self.medium.started(stream);
        Ok(())
    }

    fn stop(&mut self, stream: usize, now: Nanos) -> u64 {
        self.medium.settle(stream);
        let Some((clock, cursor)) = self.streams.get_mut(stream) else {
            return 0;
        };
        clock.base = clock.position(now);
        clock.origin = None;
        // Frames that nobody delivered do not stay due over a pause.
        *cursor = clock.base;
        clock.base
    }

    fn release(&mut self, stream: usize) {
        self.medium.release(stream);
        if let Some((clock, _)) = self.streams.get_mut(stream) {
            clock.origin = None;
        }
    }

    fn progress(&mut self, stream: usize, now: Nanos) -> Progress {
        let Some((clock, cursor)) = self.streams.get(stream) else {
            return Progress::default();
        };
        let position = clock.position(now);
        Progress {
            position,
            ready: position.saturating_sub(*cursor),
            latency: 0,
        }
    }

    fn cursor(&self, stream: usize) -> u64 {
        self.streams.get(stream).map_or(0, |(_, cursor)| *cursor)
    }

    fn write(&mut self, stream: usize, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        let taken = self.medium.write(stream, frames, fill);
        self.advance(stream, taken);
        taken
    }

    fn read(&mut self, stream: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) -> u64 {
        self.medium.read(stream, frames, drain);
        self.advance(stream, frames);
        frames
    }

    fn starve(&mut self, stream: usize, frames: u64, _now: Nanos) -> u64 {
        self.medium.starve(stream, frames);
        self.advance(stream, frames);
        frames
    }

    fn when(&self, stream: usize, position: u64, now: Nanos) -> Nanos {
        let due = self
            .streams
            .get(stream)
            .map_or(now, |(clock, _)| clock.when(position));
        if due > now {
            return due;
        }
        // It is due already: the medium did not take it.
        now.saturating_add(BACKLOG)
    }

    fn upkeep(&self, _stream: usize, _now: Nanos) -> Option<Nanos> {
        None
    }

    fn fault(&mut self, stream: usize) -> Option<HostError> {
        self.medium.fault(stream)
    }

    fn returned(&mut self, stream: usize) -> bool {
        self.medium.returned(stream)
    }
}

impl<M> Clocked<M> {
    fn advance(&mut self, stream: usize, frames: u64) {
        if let Some((_, cursor)) = self.streams.get_mut(stream) {
            *cursor = cursor.saturating_add(frames);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_reached_exactly_when_the_clock_says_so() {
        for rate in [5512, 8000, 44_100, 48_000, 384_000] {
            for start in [0, 1, 999_999_999, 123_456_789_012_345] {
                let mut clock = FrameClock {
                    rate,
                    origin: None,
                    base: 5,
                };
                clock.origin = Some(clock.ticks(start));
                for position in [6, 7, 1000, 1_000_000_007] {
                    let due = clock.when(position);
                    assert_eq!(clock.position(due), position);
                    assert_eq!(clock.position(due - 1), position - 1);
                }
            }
        }
    }

    /// Takes three frames at a time.
    struct Slow([PcmInfo; 1]);

    impl Medium for Slow {
        fn streams(&self) -> &[PcmInfo] {
            &self.0
        }
        fn prepare(&mut self, _stream: usize, _params: &Params) -> Result<(), HostError> {
            Ok(())
        }
        fn settle(&mut self, _stream: usize) {}
        fn release(&mut self, _stream: usize) {}
        fn write(&mut self, _stream: usize, frames: u64, _: &mut dyn FnMut(&mut [u8])) -> u64 {
            frames.min(3)
        }
        fn read(&mut self, _stream: usize, _frames: u64, _drain: &mut dyn FnMut(&[u8])) {}
        fn starve(&mut self, _stream: usize, _frames: u64) {}
        fn fault(&mut self, _stream: usize) -> Option<HostError> {
            None
        }
    }

    #[test]
    fn what_a_medium_does_not_take_stays_due_and_comes_again() {
        let mut host = Clocked::new(Slow([PcmInfo {
            device: 0,
            features: 0,
            formats: 1,
            rates: 1,
            direction: crate::wire::Direction::Playback,
            channels_min: 1,
            channels_max: 1,
        }]));
        let params = Params {
            format: crate::pcm_format::U8,
            rate: 1000,
            channels: 1,
            buffer_bytes: 20,
            period_bytes: 10,
            features: 0,
        };
        host.prepare(0, &params).unwrap();
        host.start(0, 0).unwrap();
        let now = 10_000_000;
        assert_eq!(host.progress(0, now).ready, 10);
        assert_eq!(host.write(0, 10, &mut |_| ()), 3);
        assert_eq!((host.cursor(0), host.progress(0, now).ready), (3, 7));
        // Not at once: the medium needs a while. What is not due yet comes when it is.
        assert_eq!(host.when(0, 10, now), now + BACKLOG);
        assert_eq!(host.when(0, 11, now), 11_000_000);
    }

    #[test]
    fn two_clocks_stay_a_whole_number_of_frames_apart() {
        let mut one = FrameClock {
            rate: 44_100,
            origin: None,
            base: 0,
        };
        let mut two = one;
        one.origin = Some(one.ticks(1_000_003));
        two.origin = Some(two.ticks(7_777_777));
        let apart = one.position(8_000_000) - two.position(8_000_000);
        for now in (8_000_000u64..2_000_000_000).step_by(77_777) {
            assert_eq!(one.position(now) - two.position(now), apart);
        }
    }
}
