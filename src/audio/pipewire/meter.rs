// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the graph's real-time thread and the audio thread know of each other: numbers without locks.
//!
//! The graph counts the frames that it takes out of the ring between them, or puts in. The count and
//! the permission to go on are one number, so that a stream that is halted knows to the frame what
//! has been played. Without the permission the graph only takes what a stream has left to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use nix::sys::eventfd::EventFd;

use crate::audio::Nanos;

/// The graph may take frames or put them in; the rest of the number counts them.
const GO: u64 = 1 << 63;

/// How long a graph that comes back to a stream gets silence first. What lies behind the stream may come to life
/// some cycles later than the graph, and then does not hear them.
pub const SETTLING: Nanos = 300_000_000;
/// [`Meter::settling`] begins with the next cycle.
const NEXT: Nanos = Nanos::MAX;

/// What the server has told of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// It takes part in no graph.
    Paused,
    /// It does.
    Streaming,
}

/// The last cycle of the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cycle {
    /// Frames that it asked for, or brought.
    pub frames: u64,
    /// When it was.
    pub at: Nanos,
    /// Frames between its first frame and the loudspeaker or microphone.
    pub delay: u64,
}

/// What a cycle takes out of the ring, or puts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The first frame.
    pub from: u64,
    /// How many there are.
    pub frames: u64,
    /// How many are silence for want of others, or lost for want of room.
    pub missing: u64,
}

/// The numbers.
pub struct Meter {
    /// [`GO`] and the count.
    count: AtomicU64,
    /// Playback: frames in the ring before this one are void.
    void: AtomicU64,
    /// Playback: a halted stream leaves the graph the frames before this one.
    end: AtomicU64,
    /// The audio thread is woken when the count has reached this.
    alarm: AtomicU64,
    /// Frames of silence for want of others, or lost for want of room.
    missing: AtomicU64,
    frames: AtomicU64,
    at: AtomicU64,
    delay: AtomicU64,
    /// Playback: until then the graph gets silence; 0 where it gets frames.
    settling: AtomicU64,
    status: AtomicU8,
    bell: Arc<EventFd>,
}

impl Meter {
    /// For a stream that is halted; `bell` wakes the audio thread.
    pub fn new(bell: Arc<EventFd>) -> Self {
        Self {
            count: AtomicU64::new(0),
            void: AtomicU64::new(0),
            end: AtomicU64::new(0),
            alarm: AtomicU64::new(u64::MAX),
            missing: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            at: AtomicU64::new(0),
            delay: AtomicU64::new(0),
            settling: AtomicU64::new(0),
            status: AtomicU8::new(Status::Paused as u8),
            bell,
        }
    }

    // The graph's side.

    /// Takes note of a cycle.
    pub fn note(&self, cycle: &Cycle) {
        self.frames.store(cycle.frames, Ordering::Relaxed);
        self.delay.store(cycle.delay, Ordering::Relaxed);
        self.at.store(cycle.at, Ordering::Release);
    }

    /// Takes the turn that `step` makes of the count and of the first frame that is not for the graph: counts
    /// its frames. `None` while there are none for the graph.
    pub fn advance(&self, step: impl Fn(u64, u64) -> Turn) -> Option<Turn> {
        let mut seen = self.count.load(Ordering::SeqCst);
        loop {
            let (go, count) = (seen & GO, seen & !GO);
            let end = if go > 0 { GO } else { self.end() };
            if count >= end {
                return None;
            }
            let turn = step(count, end);
            let next = go | (turn.from.saturating_add(turn.frames) & !GO);
            let order = Ordering::SeqCst;
            match self.count.compare_exchange(seen, next, order, order) {
                Ok(_) => {
                    self.miss(turn.missing);
                    return Some(turn);
                }
                Err(now) => seen = now,
            }
        }
    }

    fn end(&self) -> u64 {
        self.end.load(Ordering::SeqCst)
    }

    /// Whether the graph, in a cycle at this time, gets silence while it settles.
    pub fn settles(&self, at: Nanos) -> bool {
        let until = self.settling.load(Ordering::SeqCst);
        let next = match until {
            0 => return false,
            NEXT => at.saturating_add(SETTLING),
            _ if at < until => return true,
            _ => 0,
        };
        // Where the audio thread has changed its mind meanwhile, this cycle is silent.
        let order = Ordering::SeqCst;
        let changed = self.settling.compare_exchange(until, next, order, order);
        next > 0 || changed.is_err()
    }

    /// The first frame of the ring that is not void.
    pub fn void(&self) -> u64 {
        self.void.load(Ordering::Acquire)
    }

    fn miss(&self, frames: u64) {
        if frames > 0 {
            self.missing.fetch_add(frames, Ordering::Relaxed);
        }
    }

    /// Wakes the audio thread, if it has asked for that.
    pub fn wake(&self) {
        let count = self.count.load(Ordering::SeqCst) & !GO;
        if count >= self.alarm.load(Ordering::SeqCst) {
            self.ring();
        }
    }

    /// Wakes the audio thread.
    pub fn ring(&self) {
        // The counter is full only if the thread has been woken already.
        let _ = self.bell.write(1);
    }

    /// What the server has told.
    pub fn set_status(&self, status: Status) {
        self.status.store(status as u8, Ordering::Release);
    }

    // The audio thread's side.

    /// The count.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst) & !GO
    }

    /// Lets the graph go on, from this frame of the ring at least.
    pub fn go(&self, void: u64) {
        self.void.store(void, Ordering::Release);
        self.count.fetch_or(GO, Ordering::SeqCst);
    }

    /// Whatever is halted from now on leaves the frames from `void` to `end` to the graph, as far as it has not
    /// taken them.
    pub fn leave(&self, void: u64, end: u64) {
        self.void.store(void, Ordering::Release);
        self.end.store(end, Ordering::SeqCst);
    }

    /// Whether the graph has not taken yet all that a halted stream has left to it.
    pub fn is_leaving(&self) -> bool {
        self.count() < self.end()
    }

    /// Halts the graph's hand: the count stands from now on, but for what is left to it. Returns it.
    pub fn halt(&self) -> u64 {
        self.count.fetch_and(!GO, Ordering::SeqCst) & !GO
    }

    /// From its next cycle on, the graph gets silence until it has settled; or it does no longer.
    pub fn set_settling(&self, settling: bool) {
        let until = if settling { NEXT } else { 0 };
        self.settling.store(until, Ordering::SeqCst);
    }

    /// Whether the graph gets silence until it has settled, or will.
    pub fn is_settling(&self) -> bool {
        self.settling.load(Ordering::SeqCst) > 0
    }

    /// Wakes the audio thread when the count has reached this.
    pub fn set_alarm(&self, count: u64) {
        self.alarm.store(count, Ordering::SeqCst);
    }

    /// The last cycle; at 0 where there has been none.
    pub fn cycle(&self) -> Cycle {
        Cycle {
            at: self.at.load(Ordering::Acquire),
            frames: self.frames.load(Ordering::Relaxed),
            delay: self.delay.load(Ordering::Relaxed),
        }
    }

    /// Frames missed since this was last asked.
    pub fn take_missing(&self) -> u64 {
        self.missing.swap(0, Ordering::Relaxed)
    }

    /// What the server has told.
    pub fn status(&self) -> Status {
        if self.status.load(Ordering::Acquire) == Status::Streaming as u8 {
            Status::Streaming
        } else {
            Status::Paused
        }
    }
}
