// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How a stream goes on that was played by a process which has died: from the record that it left.
//!
//! Its clock has gone on meanwhile, so what would have been heard is passed over, and nothing is heard
//! twice; but the driver keeps half of its buffer, so that its application does not run dry from it.

use vm_memory::GuestMemoryMmap;

use super::Pcm;
use crate::audio::{Host, HostError, Nanos};
use crate::gain::Gain;
use crate::record::{Record, Snapshot};
use crate::ring::Ring;
use crate::stream::State;
use crate::wire::{Direction, PcmInfo};

/// Bytes of silence that are written at once; whole samples of every format.
const SILENCE: usize = 15_360;
/// Bytes of silence that are written at most, 4096 pages of 4 KiB as the longest period of Linux has: a
/// record that somebody has forged does not keep the audio thread for long.
const MOST_SILENCE: usize = 1 << 24;

impl Pcm {
    /// Writes down how the stream is from now on.
    pub fn keep(&mut self, record: Option<Record>) {
        self.record = record;
    }

    /// Offers what another process had offered.
    pub fn offer(&mut self, info: PcmInfo) {
        self.info = info;
        self.gain = Gain::new(info.channels_max);
    }

    /// Takes the stream over as its record says. Returns whether there is one.
    pub fn restore(&mut self) -> bool {
        let record = self.record.as_ref();
        let Some(snapshot) = record.and_then(|record| record.read(&self.info)) else {
            return false;
        };
        self.state = snapshot.state;
        self.params = snapshot.params;
        self.tally = snapshot.tally;
        if let Some(params) = &self.params {
            self.lane.set_frame_bytes(params.frame_bytes());
            self.gain.prepare(params);
            self.meter.prepare(params);
        }
        self.resume = self.state.takes_messages().then_some(snapshot);
        true
    }

    /// Whether the stream has been taken over, and its messages not yet.
    pub fn is_resuming(&self) -> bool {
        self.resume.is_some()
    }

    /// Its messages will not come.
    pub fn give_up_resuming(&mut self) {
        self.resume = None;
    }

    /// Its messages have been taken again: goes on in the middle of them.
    ///
    /// # Errors
    /// The host does not start.
    pub fn resume(
        &mut self,
        host: &mut dyn Host,
        memory: &GuestMemoryMmap,
        ring: &mut Ring,
        now: Nanos,
    ) -> Result<(), HostError> {
        let Some(snapshot) = self.resume.take() else {
            return Ok(());
        };
        self.lane.go_on(snapshot.front, snapshot.heard);
        if self.state != State::Running {
            return Ok(());
        }
        let gap = self.params.map_or(0, |params| {
            params.frames_in(now.saturating_sub(snapshot.time))
        });
        let passed = self.passed(gap, snapshot.ahead);
        self.pass(memory, passed);
        // What the driver keeps is played later; what was to be captured meanwhile has gone.
        self.tally.restarted(match self.info.direction {
            Direction::Playback => passed,
            Direction::Capture => gap,
        });
        self.gain.settle();
        self.serve(host, memory, ring, now);
        self.start(host, now)
    }

    /// How many frames the clock has passed in a gap of so many, of which the host may have played
    /// `ahead`.
    fn passed(&self, gap: u64, ahead: u64) -> u64 {
        let Some(params) = self.params else {
            return 0;
        };
        let pending = self.lane.pending_frames();
        let buffer = u64::from(params.buffer_bytes / params.frame_bytes());
        let played = ahead.min(pending.saturating_sub(params.period_frames()));
        gap.min(pending.saturating_sub(buffer / 2).max(played))
    }

    /// Passes over these frames; what was to be captured in them is silence.
    fn pass(&mut self, memory: &GuestMemoryMmap, frames: u64) {
        if let (Direction::Capture, Some(params)) = (self.info.direction, self.params) {
            let mut silence = [0; SILENCE];
            params.format.fill_silence(&mut silence);
            let frames = usize::try_from(frames).unwrap_or(usize::MAX);
            let bytes = frames.saturating_mul(params.frame_bytes() as usize);
            let bytes = bytes.min(MOST_SILENCE);
            for skip in (0..bytes).step_by(SILENCE) {
                let part = silence.get(..(bytes - skip).min(SILENCE));
                self.lane.copy_in(memory, skip, part.unwrap_or(&[]));
            }
        }
        self.lane.pass(frames);
    }

    /// Writes down how the stream is when its host has passed `position`, before anything is given
    /// back for that. `next`: the number of the message to come.
    pub(super) fn note(&mut self, host: &dyn Host, position: u64, next: u64, now: Nanos) {
        let Some(record) = self.record.as_mut().filter(|_| self.resume.is_none()) else {
            return;
        };
        let (front, heard) = self.lane.mark(position, next);
        let ahead = match self.info.direction {
            Direction::Playback => host.cursor(self.id).saturating_sub(position),
            Direction::Capture => 0,
        };
        record.write(&Snapshot {
            state: self.state,
            params: self.params,
            time: now,
            front,
            heard,
            ahead,
            tally: self.tally,
        });
    }

    /// The same after a request, wherever the host is.
    pub fn note_state(&mut self, host: &mut dyn Host, ring: Option<&Ring>, now: Nanos) {
        if self.record.is_some() {
            let position = host.progress(self.id, now).position;
            self.note(host, position, ring.map_or(0, Ring::serial) + 1, now);
        }
    }
}
