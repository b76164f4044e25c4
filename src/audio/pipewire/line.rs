// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The audio thread's end of a stream in the graph: keeps the ring filled, or empties it, and knows
//! from the meter where the stream is.

use std::sync::Arc;

use rtrb::{Consumer, Producer};

use super::meter::{Meter, Status};
use super::pace::Pace;
use crate::audio::{Nanos, Progress, sample_ring};
use crate::stream::Params;
use crate::time::time;

/// How long after a cycle was expected a look is taken all the same.
const LATE: Nanos = 5_000_000;
/// How long before a cycle a driver that had less than what was asked for is looked at once more.
const NEARLY: Nanos = 1_000_000;
/// The meter is not asked again sooner.
const SHORTEST_SLEEP: Nanos = 500_000;
/// How often a stream that stands is looked at.
pub const STANDING: Nanos = 500_000_000;

/// The ring's end.
pub enum Ring {
    /// To be filled.
    Playback(Producer<u8>),
    /// To be emptied.
    Capture(Consumer<u8>),
}

/// A stream in the graph.
pub struct Line {
    meter: Arc<Meter>,
    ring: Ring,
    pace: Pace,
    rate: u64,
    frame_bytes: usize,
    /// Frames put into the ring, or taken out, ever.
    moved: u64,
    /// Position of the stream, and the count that belongs to it.
    origin: (u64, u64),
    /// The position that was last told; it never goes back.
    told: u64,
    /// START has come, and the first frames have not.
    starting: bool,
    going: bool,
    /// The graph lets the stream wait.
    standing: bool,
    /// The stream then waits itself, and goes on where it stopped.
    holds: bool,
    /// The driver had less than what was asked for.
    short: bool,
    /// The count at which the graph wakes this thread.
    awaited: u64,
    /// The count at which the ring is low.
    low: u64,
    /// The count when progress was asked for.
    seen: u64,
    /// Since when a first cycle is waited for.
    since: Nanos,
    /// Cycles have come since then.
    flowing: bool,
}

impl Line {
    /// An end that is halted, at position 0.
    pub fn new(meter: Arc<Meter>, ring: Ring, pace: Pace, params: &Params) -> Self {
        Self {
            meter,
            ring,
            pace,
            rate: u64::from(params.rate),
            frame_bytes: params.frame_bytes() as usize,
            moved: 0,
            origin: (0, 0),
            told: 0,
            starting: false,
            going: false,
            standing: false,
            holds: false,
            short: false,
            awaited: u64::MAX,
            low: u64::MAX,
            seen: 0,
            since: 0,
            flowing: false,
        }
    }

    /// The same end, of a stream that waits while the graph lets it wait, if it plays.
    pub fn holding(self, holds: bool) -> Self {
        let plays = matches!(self.ring, Ring::Playback(_));
        Self {
            holds: holds && plays,
            ..self
        }
    }

    fn position_of(&self, count: u64) -> u64 {
        let (position, at) = self.origin;
        position.saturating_add(count.saturating_sub(at))
    }

    fn count_of(&self, position: u64) -> u64 {
        let (start, at) = self.origin;
        at.saturating_add(position.saturating_sub(start))
    }

    /// The count, as the stream sees it: what is void counts as taken.
    fn count(&self) -> u64 {
        self.meter.count().max(self.origin.1)
    }

    /// Position of the next frame to be written or read.
    pub fn cursor(&self) -> u64 {
        self.position_of(self.moved)
    }

    /// The halted stream goes on from `position`; nothing that is in the ring belongs to it.
    pub fn place(&mut self, position: u64) {
        if let Ring::Capture(ring) = &mut self.ring {
            // What the graph counted and is still putting in is skipped when it is there.
            self.moved = discard(ring, self.moved, self.meter.count(), self.frame_bytes);
            self.origin = (position, self.meter.count());
        } else {
            self.origin = (position, self.moved);
        }
        self.told = position;
    }

    /// Lets the graph take frames, as soon as it is known how many it takes at once and the first have been
    /// written, or there are none to be had; or lets it bring them.
    pub fn start(&mut self, now: Nanos) {
        self.forget_cycles(now);
        self.meter.set_alarm(0);
        self.starting = true;
        if let Ring::Capture(_) = self.ring {
            self.go();
        }
    }

    /// Waits until the graph has taken what was left to it, which would be void then.
    fn go(&mut self) {
        if !self.meter.is_leaving() && std::mem::take(&mut self.starting) {
            self.going = true;
            self.meter.take_missing();
            self.meter.go(self.origin.1);
        }
    }

    /// Goes once there are frames enough, or there is no room for more: the graph takes void frames out only
    /// then.
    fn go_if_filled(&mut self) {
        let held = self.moved.saturating_sub(self.count());
        if self.starting && (self.is_full() || held >= self.pace.enough(&self.meter.cycle())) {
            self.go();
        }
    }

    /// Whether there is room for no frame more: what is void is taken out by the graph's next cycle.
    fn is_full(&self) -> bool {
        match &self.ring {
            Ring::Playback(ring) => ring.slots() < self.frame_bytes,
            Ring::Capture(_) => false,
        }
    }

    /// Whether the graph comes, so that its cycle is known.
    fn is_fed(&self, now: Nanos) -> bool {
        let cycle = self.meter.cycle();
        cycle.at > 0 && now.saturating_sub(cycle.at) < self.pace.patience(&cycle)
    }

    /// Halts the graph's hand at once, but for what was told to have passed: that it still takes. Returns the
    /// position, at which the stream can go on.
    pub fn halt(&mut self) -> u64 {
        let told = self.count_of(self.told);
        if let Ring::Playback(_) = self.ring
            && told > self.origin.1
        {
            self.meter.leave(self.origin.1, told);
        }
        self.stand()
    }

    /// Halts the graph's hand at once, and leaves nothing to it: it may not come for long. Returns the position.
    pub fn abandon(&mut self) -> u64 {
        self.meter.leave(self.origin.1, 0);
        self.stand()
    }

    fn stand(&mut self) -> u64 {
        let count = self.meter.halt().max(self.origin.1);
        self.meter.set_settling(false);
        self.going = false;
        self.starting = false;
        self.standing = false;
        self.meter.set_alarm(u64::MAX);
        let passed = match self.ring {
            Ring::Playback(_) => count.max(self.count_of(self.told)).min(self.moved),
            Ring::Capture(_) => self.moved,
        };
        let position = self.position_of(passed);
        self.place(position);
        position
    }

    /// The halted stream does without the graph for now, and asks to be told when it is back.
    pub fn listen(&mut self, now: Nanos) {
        self.forget_cycles(now);
        self.meter.set_alarm(0);
    }

    /// Whether the graph has come since the stream does without it.
    pub fn is_back(&self, now: Nanos) -> bool {
        let cycle = self.meter.cycle();
        self.meter.status() == Status::Streaming
            && cycle.at > self.since
            && now.saturating_sub(cycle.at) < self.pace.patience(&cycle)
    }

    /// Whether the graph stands: it has told so, or has not come for longer than can be waited for. A stream
    /// that holds goes on when the graph has settled again.
    pub fn stands(&mut self, now: Nanos) -> bool {
        let cycle = self.meter.cycle();
        self.flowing |= cycle.at > self.since;
        let told = self.flowing && self.meter.status() == Status::Paused;
        let stands = told || now >= self.deadline();
        let has_waited = self.going || now.saturating_sub(self.since) >= STANDING;
        if self.holds && stands && has_waited {
            self.meter.set_settling(true);
        }
        self.standing = stands || self.meter.is_settling();
        self.standing
    }

    /// From now on, only cycles to come count as its coming.
    fn forget_cycles(&mut self, now: Nanos) {
        self.since = now;
        self.flowing = false;
    }

    /// When the graph has to have come; `None` where nothing waits for it.
    pub fn upkeep(&self) -> Option<Nanos> {
        let dry = self.short && self.count() >= self.moved;
        let waits = self.starting || (self.going && !dry);
        (waits && !self.standing).then(|| self.deadline())
    }

    fn deadline(&self) -> Nanos {
        let cycle = self.meter.cycle();
        let last = cycle.at.max(self.since);
        last.saturating_add(self.pace.patience(&cycle))
    }

    /// Where the stream is, and what the graph wants.
    pub fn progress(&mut self, now: Nanos) -> Progress {
        self.short = false;
        self.skip_debt();
        if self.starting && self.is_fed(now) {
            // What was written before START may be all that there is room for.
            self.go_if_filled();
        }
        let cycle = self.meter.cycle();
        let count = self.count();
        self.seen = count;
        let fed = !self.starting || self.is_fed(now);
        let smooth = if self.going {
            self.pace.position(count, &cycle, now)
        } else if self.starting && fed && !self.meter.is_leaving() {
            count.saturating_add(self.pace.ahead(&cycle))
        } else {
            count
        };
        let passed = smooth.max(self.count_of(self.told));
        let (passed, ready) = match &self.ring {
            Ring::Playback(_) => {
                let held = self.moved.saturating_sub(count);
                let ready = self.pace.target(&cycle).saturating_sub(held);
                (passed.min(self.moved), if fed { ready } else { 0 })
            }
            Ring::Capture(ring) => {
                let there = self.moved + (ring.slots() / self.frame_bytes) as u64;
                let passed = passed.min(there).max(self.moved);
                let own = self.moved >= self.origin.1;
                (passed, if own { passed - self.moved } else { 0 })
            }
        };
        self.told = self.position_of(passed).max(self.told);
        Progress {
            position: self.told,
            ready,
            latency: self.pace.latency(passed, count, &cycle, now),
        }
    }

    /// Captured frames that came while the stream was halted are not its own.
    fn skip_debt(&mut self) {
        if let Ring::Capture(ring) = &mut self.ring
            && self.moved < self.origin.1
        {
            self.moved = discard(ring, self.moved, self.origin.1, self.frame_bytes);
        }
    }

    /// Copies up to `frames` frames into the ring.
    pub fn write(&mut self, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        let Ring::Playback(ring) = &mut self.ring else {
            return 0;
        };
        let frames = sample_ring::put(ring, self.frame_bytes, frames, fill);
        self.moved += frames;
        self.go_if_filled();
        frames
    }

    /// Copies up to `frames` frames out of the ring.
    pub fn read(&mut self, frames: u64, drain: &mut dyn FnMut(&[u8])) -> u64 {
        let Ring::Capture(ring) = &mut self.ring else {
            return 0;
        };
        let frames = sample_ring::take(ring, self.frame_bytes, frames, drain);
        self.moved += frames;
        frames
    }

    /// The driver has no more frames, or no room. Returns the frames that the graph did without, or that
    /// were lost, since the last call.
    pub fn starve(&mut self, now: Nanos) -> u64 {
        // A sound may be shorter than a cycle.
        let waited = now.saturating_sub(self.since);
        if waited >= self.pace.patience(&self.meter.cycle()) {
            self.go();
        }
        self.go_if_filled();
        self.short = true;
        if self.going && self.count() >= self.moved {
            // Dry: until the driver's next message the graph has nothing to tell.
            self.meter.set_alarm(u64::MAX);
        }
        self.lost()
    }

    /// The frames that the graph did without, or that were lost, since the last call, whatever the driver had.
    pub fn lost(&mut self) -> u64 {
        if self.going {
            self.meter.take_missing()
        } else {
            0
        }
    }

    /// The next wake-up is wanted when the stream has passed `position`, or the ring is low.
    pub fn expect(&mut self, position: u64) {
        let waits = self.standing || self.starting || self.is_full();
        self.low = match self.ring {
            Ring::Playback(_) if !waits && !self.short => {
                let low = self.pace.low(&self.meter.cycle());
                (self.moved + 1).saturating_sub(low)
            }
            _ => u64::MAX,
        };
        let passed = if waits { 0 } else { self.count_of(position) };
        self.awaited = passed.min(self.low);
        self.meter.set_alarm(self.awaited);
    }

    /// When `position` is expected to be passed.
    pub fn when(&self, position: u64, now: Nanos) -> Nanos {
        if self.standing {
            return now.saturating_add(STANDING);
        }
        if !self.going {
            return now.saturating_add(LATE);
        }
        let count = self.count();
        // What a short buffer waits for may have been taken, and not have passed.
        let came = count > self.seen && count >= self.awaited;
        if came || count >= self.low {
            // The graph came while the alarm was set, or there is more to fill the ring with.
            return now.saturating_add(1);
        }
        let cycle = self.meter.cycle();
        let wanted = self.count_of(position);
        let mut due = self.pace.when(wanted, count, &cycle).unwrap_or_else(|| {
            let cycles = wanted.saturating_sub(count).div_ceil(cycle.frames.max(1));
            let run = time(cycles.max(1).saturating_mul(cycle.frames), self.rate);
            cycle
                .at
                .max(self.since)
                .saturating_add(run)
                .saturating_add(LATE)
        });
        let next = cycle.at.saturating_add(time(cycle.frames, self.rate));
        let nearly = next.saturating_sub(NEARLY);
        if self.short && matches!(self.ring, Ring::Playback(_)) && nearly > now {
            due = due.min(nearly);
        }
        due.max(now.saturating_add(SHORTEST_SLEEP))
    }
}

/// Takes frames before `end` out of the ring, as far as they are there; returns how far that is.
fn discard(ring: &mut Consumer<u8>, moved: u64, end: u64, frame_bytes: usize) -> u64 {
    moved + sample_ring::take(ring, frame_bytes, end.saturating_sub(moved), &mut |_| ())
}

#[cfg(test)]
mod tests;
