// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the graph's real-time thread does in each of its cycles: between a buffer of the graph and the
//! ring to the audio thread. Takes no lock, allocates nothing, waits for nobody.

use std::sync::Arc;

use rtrb::{Consumer, Producer};

use super::meter::{Cycle, Meter, Turn};
use crate::audio::Nanos;
use crate::pcm_format::Format;

/// The graph's end of a stream that plays.
pub struct Playback {
    meter: Arc<Meter>,
    ring: Consumer<u8>,
    format: Format,
    frame_bytes: usize,
    /// Frames taken out of the ring.
    taken: u64,
}

impl Playback {
    /// The end of this ring, whose other end is filled with frames of `frame_bytes` bytes.
    pub fn new(meter: Arc<Meter>, ring: Consumer<u8>, format: Format, frame_bytes: usize) -> Self {
        Self {
            meter,
            ring,
            format,
            frame_bytes: frame_bytes.max(1),
            taken: 0,
        }
    }

    /// Fills `room` with what the cycle asks for, or whole where it does not say, and returns the
    /// bytes. Frames that are missing are silence; all others are sound, in order.
    pub fn fill(&mut self, room: &mut [u8], cycle: &Cycle) -> usize {
        let whole = (room.len() / self.frame_bytes) as u64;
        let asked = if cycle.frames == 0 {
            whole
        } else {
            cycle.frames.min(whole)
        };
        self.meter.note(&Cycle {
            frames: asked,
            ..*cycle
        });
        let bytes = asked as usize * self.frame_bytes;
        let room = room.get_mut(..bytes).unwrap_or(&mut []);
        let sound = match self.turn(asked, cycle.at) {
            Some(turn) => {
                self.skip(turn.from);
                self.take(room.get_mut(..turn.frames as usize * self.frame_bytes))
            }
            None => 0,
        };
        self.format
            .fill_silence(room.get_mut(sound..).unwrap_or(&mut []));
        self.meter.wake();
        bytes
    }

    /// The frames that are the cycle's; `None` while there are none to be had.
    fn turn(&self, asked: u64, at: Nanos) -> Option<Turn> {
        if self.meter.settles(at) {
            return None;
        }
        self.meter.advance(|count, end| {
            let there = self.taken + (self.ring.slots() / self.frame_bytes) as u64;
            let from = count.max(self.meter.void()).min(there.max(count));
            // Behind the end nothing is missing.
            let asked = asked.min(end.saturating_sub(from));
            let frames = asked.min(there.saturating_sub(from));
            Turn {
                from,
                frames,
                missing: asked - frames,
            }
        })
    }

    /// Takes void frames out of the ring.
    fn skip(&mut self, to: u64) {
        let frames = to.saturating_sub(self.taken);
        let bytes = frames as usize * self.frame_bytes;
        if let Ok(chunk) = self.ring.read_chunk(bytes.min(self.ring.slots())) {
            chunk.commit_all();
        }
        self.taken = self.taken.max(to);
    }

    /// Takes frames out of the ring; returns their bytes.
    fn take(&mut self, room: Option<&mut [u8]>) -> usize {
        let room = room.unwrap_or(&mut []);
        if self.ring.pop_entire_slice(room).is_err() {
            return 0;
        }
        self.taken += (room.len() / self.frame_bytes) as u64;
        room.len()
    }
}

/// The graph's end of a stream that captures.
pub struct Capture {
    meter: Arc<Meter>,
    ring: Producer<u8>,
    frame_bytes: usize,
}

impl Capture {
    /// The end of this ring, for frames of `frame_bytes` bytes.
    pub fn new(meter: Arc<Meter>, ring: Producer<u8>, frame_bytes: usize) -> Self {
        Self {
            meter,
            ring,
            frame_bytes: frame_bytes.max(1),
        }
    }

    /// Puts `size` bytes of `data` from `offset` on into the ring: `data` is a ring itself. What finds no
    /// room there is lost. `cycle` says when this is; its frames are counted here.
    pub fn take(&mut self, data: &[u8], offset: usize, size: usize, cycle: &Cycle) {
        let start = offset.checked_rem(data.len()).unwrap_or(0);
        let frames = size.min(data.len()) / self.frame_bytes;
        let bytes = frames * self.frame_bytes;
        let first = data.get(start..).unwrap_or(&[]);
        let first = first.get(..bytes).unwrap_or(first);
        let second = data.get(..bytes - first.len()).unwrap_or(&[]);
        self.meter.note(&Cycle {
            frames: frames as u64,
            ..*cycle
        });
        let room = (self.ring.slots() / self.frame_bytes) as u64;
        let taken = room.min(frames as u64);
        let turn = self.meter.advance(|from, _| Turn {
            from,
            frames: taken,
            missing: frames as u64 - taken,
        });
        if turn.is_some() {
            let mut left = taken as usize * self.frame_bytes;
            for part in [first, second] {
                let part = part.get(..left).unwrap_or(part);
                // There is room: nobody else puts anything in.
                let _ = self.ring.push_entire_slice(part);
                left -= part.len();
            }
        }
        self.meter.wake();
    }
}

#[cfg(test)]
mod tests;
