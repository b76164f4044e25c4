// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where a stream is between two cycles of the graph, and how full to keep its ring: calculations
//! only.
//!
//! The graph takes a cycle's frames at once. Where a driver's buffer holds a cycle and a period, its
//! position is simply what the graph has taken: the driver has a whole cycle to come with more. Where
//! it is shorter, the position runs smoothly through the cycle and ahead of the graph by what the
//! buffer lacks, or the driver would find its buffer empty, or full, at every cycle.

use super::meter::Cycle;
use crate::audio::Nanos;
use crate::stream::Params;
use crate::wire::Direction;

const SECOND: u128 = 1_000_000_000;
/// What the ring holds beyond what is asked for next, in parts of a second.
const MARGIN: u64 = 100;
/// How long before a cycle a driver has to be asked for what it takes, in parts of a second.
const TURN: u64 = 500;
/// The cycle that is expected before there has been one, in parts of a second: PipeWire's usual one.
const USUAL: u64 = 47;
/// How long a graph may be silent before it is taken to stand. Linux tells an application of an I/O error
/// when nothing has moved for 100 ms, or 1.1 times the length of its buffer.
const PATIENCE: Nanos = 80_000_000;

/// `frames` frames as a time.
pub fn time(frames: u64, rate: u64) -> Nanos {
    let nanos = u128::from(frames) * SECOND / u128::from(rate.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// The frames of a time.
fn frames(time: Nanos, rate: u64) -> u64 {
    let frames = u128::from(time) * u128::from(rate) / SECOND;
    u64::try_from(frames).unwrap_or(u64::MAX)
}

/// What there is to calculate with: a driver's wishes. Frames.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    direction: Direction,
    rate: u64,
    period: u64,
    buffer: u64,
}

impl Pace {
    /// For a driver with these parameters.
    pub fn new(direction: Direction, params: &Params) -> Self {
        Self {
            direction,
            rate: u64::from(params.rate),
            period: params.period_frames(),
            buffer: u64::from(params.buffer_bytes / params.frame_bytes()),
        }
    }

    /// How long the graph is waited for after this cycle.
    pub fn patience(&self, cycle: &Cycle) -> Nanos {
        PATIENCE
            .max(time(self.buffer, self.rate))
            .max(time(2 * cycle.frames, self.rate))
    }

    fn expected(&self, cycle: &Cycle) -> u64 {
        if cycle.at == 0 {
            self.rate / USUAL
        } else {
            cycle.frames
        }
    }

    /// How many frames the ring is to hold for the graph: a cycle or a period, and a margin.
    pub fn target(&self, cycle: &Cycle) -> u64 {
        self.expected(cycle)
            .max(self.period)
            .saturating_add(self.rate / MARGIN)
    }

    /// With so many frames, the ring is filled again even if no message of the driver ends.
    pub fn low(&self, cycle: &Cycle) -> u64 {
        self.expected(cycle).saturating_add(self.rate / MARGIN / 2)
    }

    /// Frames that the ring needs room for: the longest cycle of PipeWire, and more than a target.
    pub fn capacity(&self) -> u64 {
        let cycle = 8192 * self.rate.div_ceil(48_000);
        4 * cycle.max(self.period).saturating_add(self.rate / MARGIN)
    }

    /// Whether the driver's buffer is too short to leave all of it to the graph at once.
    fn is_short(&self, cycle: &Cycle) -> bool {
        cycle.frames.saturating_add(self.period) > self.buffer
    }

    /// Position within the cycle at its start: frames of it that count as passed.
    fn lead(&self, cycle: &Cycle) -> u64 {
        match self.direction {
            Direction::Playback => {
                let needed = cycle.frames + self.period + self.rate / TURN;
                needed.saturating_sub(self.buffer)
            }
            Direction::Capture => self.buffer.saturating_sub(self.period).min(cycle.frames),
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

    /// The most that the position of a short playback buffer is ahead of the graph.
    fn ahead(&self, cycle: &Cycle) -> u64 {
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
