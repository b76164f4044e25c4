// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where a stream is between two cycles of the graph, and how full to keep its ring: calculations
//! only.
//!
//! The graph takes a cycle's frames at once. Where a driver's buffer holds a cycle and a period, its
//! position is simply what the graph has taken: the driver has a whole cycle to come with more. Where
//! it is shorter, the position runs smoothly through the cycle and ahead of the graph by what the
//! buffer lacks, or the driver would find its buffer empty, or full, at every cycle.

use super::meter::Cycle;
use crate::audio::{HostError, Nanos};
use crate::graph_node::Latency;
use crate::stream::Params;
use crate::time::{frames, time};
use crate::wire::Direction;

/// What the ring holds beyond what is asked for next, in parts of a second.
const MARGIN: u64 = 100;
/// How long before a cycle a driver has to be asked for what it takes, in parts of a second.
const TURN: u64 = 500;
/// How long Linux lets an application wait for a period, at least; 1.1 times its buffer if that is longer.
const KERNEL_WAITS: Nanos = 100_000_000;
/// What is left of that when a clock has taken over and a period of it has passed.
const SPARE: Nanos = 10_000_000;
/// The shortest time that a graph is waited for.
const SHORTEST_PATIENCE: Nanos = 30_000_000;

/// The longest period, in seconds, that there is memory for. Linux has none of more than a second or two.
const LONGEST_PERIOD: u64 = 10;

/// Whether there is memory for what a driver wishes for: the ring grows with the period.
///
/// # Errors
/// There is not.
pub fn check(params: &Params) -> Result<(), HostError> {
    if params.period_frames() > LONGEST_PERIOD * u64::from(params.rate) {
        return Err(HostError::LongPeriod(LONGEST_PERIOD));
    }
    Ok(())
}

/// What there is to calculate with: a driver's wishes. Frames.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    direction: Direction,
    rate: u64,
    period: u64,
    buffer: u64,
    /// The longest cycle that the stream asks for: others may come and go, and ask for shorter ones.
    longest: u64,
}

impl Pace {
    /// For a driver with these parameters, and a stream that asks for this latency.
    pub fn new(direction: Direction, params: &Params, latency: Latency) -> Self {
        let rate = u64::from(params.rate);
        let asked = u64::from(latency.frames) * rate / u64::from(latency.rate).max(1);
        Self {
            direction,
            rate,
            period: params.period_frames(),
            buffer: u64::from(params.buffer_bytes / params.frame_bytes()),
            longest: params.period_frames().max(asked),
        }
    }

    /// How long the graph is waited for after this cycle: a clock that takes over then ends a period
    /// before the kernel tells an application of an I/O error.
    pub fn patience(&self, cycle: &Cycle) -> Nanos {
        let limit = KERNEL_WAITS.max(time(self.buffer, self.rate));
        let period = time(self.period, self.rate);
        limit
            .saturating_sub(period.saturating_add(SPARE))
            .max(SHORTEST_PATIENCE)
            .max(time(2 * cycle.frames, self.rate))
    }

    /// How many frames the ring is to hold for the graph: a cycle, the longest that may come or a period,
    /// and a margin.
    pub fn target(&self, cycle: &Cycle) -> u64 {
        cycle
            .frames
            .max(self.longest)
            .saturating_add(self.rate / MARGIN)
    }

    /// With fewer frames than this, the ring is filled again even if no message of the driver ends.
    pub fn low(&self, cycle: &Cycle) -> u64 {
        cycle.frames.saturating_add(self.rate / MARGIN / 2)
    }

    /// With so many frames, a stream can start: those of a cycle. What a short buffer lacks of them, its
    /// driver is asked for before.
    pub fn enough(&self, cycle: &Cycle) -> u64 {
        if self.is_short(cycle) {
            cycle.frames
        } else {
            1
        }
    }

    /// Frames that the ring needs room for: the longest cycle of PipeWire, and more than a target. It grows
    /// with what a driver wishes for: see [`check`].
    pub fn capacity(&self) -> u64 {
        let cycle = 8192 * self.rate.div_ceil(48_000);
        4 * cycle.max(self.longest).saturating_add(self.rate / MARGIN)
    }

    /// Whether the driver's buffer is too short to leave all of it to the graph at once.
    fn is_short(&self, cycle: &Cycle) -> bool {
        cycle.frames.saturating_add(self.period) > self.buffer
    }

    /// Position within the cycle at its start: frames of it that count as passed. A short capture buffer
    /// gets them smoothly.
    fn lead(&self, cycle: &Cycle) -> u64 {
        match self.direction {
            Direction::Playback => {
                let needed = cycle.frames + self.period + self.rate / TURN;
                needed.saturating_sub(self.buffer)
            }
            Direction::Capture => 0,
        }
    }

    /// The position behind which the driver's frames have passed, if the graph has counted `count`
    /// frames up to and with this cycle.
    pub fn position(&self, count: u64, cycle: &Cycle, now: Nanos) -> u64 {
        if !self.is_short(cycle) {
            return count;
        }
        let run = frames(now.saturating_sub(cycle.at), self.rate);
        let start = count.saturating_sub(cycle.frames);
        let smooth = start.saturating_add(self.lead(cycle)).saturating_add(run);
        smooth.min(count.saturating_add(self.ahead(cycle)))
    }

    /// The most that the position of a short playback buffer is ahead of the graph, also before it starts.
    pub fn ahead(&self, cycle: &Cycle) -> u64 {
        match self.direction {
            Direction::Playback => (cycle.frames + self.period).saturating_sub(self.buffer),
            Direction::Capture => 0,
        }
    }

    /// When `position` will have been passed; `None` where only the graph's next cycle can tell.
    pub fn when(&self, position: u64, count: u64, cycle: &Cycle) -> Option<Nanos> {
        if !self.is_short(cycle) || position > count.saturating_add(self.ahead(cycle)) {
            return None;
        }
        let start = count.saturating_sub(cycle.frames) + self.lead(cycle);
        let run = position.saturating_sub(start);
        // One more nanosecond: a time is rounded down.
        Some(cycle.at.saturating_add(time(run, self.rate) + 1))
    }

    /// Frames between `position` and the loudspeaker or microphone.
    pub fn latency(&self, position: u64, count: u64, cycle: &Cycle, now: Nanos) -> u64 {
        if cycle.at == 0 {
            return 0;
        }
        let run = frames(now.saturating_sub(cycle.at), self.rate);
        match self.direction {
            // The cycle's first frame is heard when its delay is over.
            Direction::Playback => position
                .saturating_add(cycle.delay)
                .saturating_sub(count.saturating_sub(cycle.frames).saturating_add(run)),
            Direction::Capture => count
                .saturating_sub(position)
                .saturating_add(cycle.delay)
                .saturating_add(run),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm_format;

    const MILLISECOND: Nanos = 1_000_000;

    fn params(period: u32, periods: u32) -> Params {
        Params {
            format: pcm_format::S16,
            rate: 48_000,
            channels: 2,
            period_bytes: period * 4,
            buffer_bytes: period * periods * 4,
            features: 0,
        }
    }

    #[test]
    fn a_period_that_no_memory_is_enough_for_is_refused() {
        assert!(check(&params(480_000, 4)).is_ok());
        assert!(check(&params(480_001, 1)).is_err());
        assert!(check(&params(u32::MAX / 4, 1)).is_err());
    }

    fn pace(direction: Direction, period: u32, periods: u32) -> Pace {
        let params = params(period, periods);
        let latency = Latency {
            frames: period,
            rate: 48_000,
        };
        Pace::new(direction, &params, latency)
    }

    fn cycle(frames: u64, at: Nanos) -> Cycle {
        Cycle {
            frames,
            at,
            delay: 0,
        }
    }

    #[test]
    fn a_buffer_that_holds_a_cycle_and_a_period_follows_the_graph() {
        for direction in [Direction::Playback, Direction::Capture] {
            let pace = pace(direction, 480, 4);
            let cycle = cycle(1024, 50 * MILLISECOND);
            for later in [0, 1, 20, 2000] {
                let now = (50 + later) * MILLISECOND;
                assert_eq!(pace.position(4096, &cycle, now), 4096);
            }
            assert_eq!(pace.when(4097, 4096, &cycle), None);
            assert_eq!(pace.ahead(&cycle), 0);
        }
    }

    #[test]
    fn a_shorter_playback_buffer_is_never_empty_and_always_brings_the_next_cycle() {
        for (period, periods, frames) in [
            (240u64, 4, 1024u64),
            (480, 2, 1024),
            (64, 4, 256),
            (480, 2, 512),
        ] {
            let pace = pace(Direction::Playback, period as u32, periods);
            let buffer = period * u64::from(periods);
            let length = time(frames, 48_000);
            // The driver refills each period at once; the graph takes a cycle each time.
            let (mut position, mut start) = (0, MILLISECOND);
            for turn in 1..200 {
                let count = turn * frames;
                let cycle = cycle(frames, start);
                for step in 0..=100 {
                    let now = start + length * step / 100;
                    let next = pace.position(count, &cycle, now).max(position);
                    let completed = next / period - position / period;
                    assert!(
                        completed < u64::from(periods),
                        "{completed} periods at once"
                    );
                    position = next;
                }
                let there = position / period * period + buffer;
                assert!(there >= count + frames, "{there} of {}", count + frames);
                assert!(position <= count + pace.ahead(&cycle));
                start += length;
            }
        }
    }

    #[test]
    fn a_shorter_capture_buffer_is_filled_period_by_period() {
        let pace = pace(Direction::Capture, 240, 4);
        let cycle = cycle(1024, 10 * MILLISECOND);
        assert_eq!(pace.position(2048, &cycle, 10 * MILLISECOND), 1024);
        assert_eq!(pace.position(2048, &cycle, 15 * MILLISECOND), 1264);
        assert_eq!(pace.position(2048, &cycle, 90 * MILLISECOND), 2048);
        let due = pace.when(1264, 2048, &cycle).unwrap();
        assert_eq!(pace.position(2048, &cycle, due), 1264);
        assert_eq!(pace.position(2048, &cycle, due - 2), 1263);
        assert_eq!(pace.when(2049, 2048, &cycle), None);
    }

    #[test]
    fn the_ring_holds_the_next_cycle_the_longest_that_is_asked_for_and_a_margin() {
        let pace = pace(Direction::Playback, 480, 8);
        assert_eq!(pace.target(&cycle(256, 1)), 480 + 480);
        assert_eq!(pace.target(&cycle(2048, 1)), 2048 + 480);
        assert_eq!(pace.low(&cycle(256, 1)), 256 + 240);
        assert!(pace.capacity() >= 4 * 8192);
        assert!(pace.patience(&cycle(8192, 1)) > 300 * MILLISECOND);
        // The kernel waits for 100 ms, of which the clock's first period takes 10.
        assert_eq!(pace.patience(&cycle(256, 1)), 80 * MILLISECOND);
    }

    #[test]
    fn a_clock_that_takes_over_ends_a_period_before_the_kernel_gives_up() {
        for (period, periods) in [
            (1920u32, 4),
            (2160, 2),
            (2400, 2),
            (4800, 2),
            (480, 2),
            (64, 4),
            (24_000, 2),
        ] {
            let pace = pace(Direction::Playback, period, periods);
            let buffer = time(u64::from(period * periods), 48_000);
            let kernel = (100 * MILLISECOND).max(buffer * 11 / 10);
            for frames in [0, 256, 512] {
                let first = pace.patience(&cycle(frames, 1)) + time(u64::from(period), 48_000);
                assert!(first + 5 * MILLISECOND <= kernel, "{period} x {periods}");
            }
        }
    }

    #[test]
    fn the_latency_is_what_lies_between_the_position_and_the_ear() {
        let playback = pace(Direction::Playback, 480, 8);
        let cycle = Cycle {
            frames: 1024,
            at: 10 * MILLISECOND,
            delay: 4800,
        };
        // At the start of the cycle its first frame is 4800 frames away, its last one 5824.
        assert_eq!(playback.latency(2048, 2048, &cycle, 10 * MILLISECOND), 5824);
        assert_eq!(playback.latency(1024, 2048, &cycle, 10 * MILLISECOND), 4800);
        // 10 ms later all is 480 frames nearer.
        assert_eq!(playback.latency(2048, 2048, &cycle, 20 * MILLISECOND), 5344);
        let capture = pace(Direction::Capture, 480, 8);
        assert_eq!(capture.latency(2048, 2048, &cycle, 10 * MILLISECOND), 4800);
        assert_eq!(capture.latency(2000, 2048, &cycle, 20 * MILLISECOND), 5328);
        assert_eq!(capture.latency(0, 0, &Cycle::default(), 0), 0);
    }
}
