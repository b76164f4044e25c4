// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is played is captured, frame for frame, on one clock.
//!
//! Stream 0 plays, stream 1 captures. Where nothing is played, or where the two streams differ in
//! format, rate or channels, silence is captured; what is played while nobody captures is gone.

use super::HostError;
use super::clock::Medium;
use super::null::Silence;
use crate::stream::Params;
use crate::wire::PcmInfo;

/// Room between the two streams; they are served at the same wake-ups, so that only what was played
/// since the last one lies here.
const RING_BYTES: usize = 1 << 20;

const PLAYBACK: usize = 0;
const CAPTURE: usize = 1;

/// The medium of `--host loop`.
pub struct Loopback {
    streams: [PcmInfo; 2],
    params: [Option<Params>; 2],
    silence: [Silence; 2],
    ring: Box<[u8]>,
    /// Offset of the oldest byte, and how many bytes there are; whole frames always.
    start: usize,
    length: usize,
    capturing: bool,
}

impl Loopback {
    /// A medium with one stream of each direction.
    pub fn new(streams: [PcmInfo; 2]) -> Self {
        Self {
            streams,
            params: [None, None],
            silence: Default::default(),
            ring: vec![0; RING_BYTES].into(),
            start: 0,
            length: 0,
            capturing: false,
        }
    }

    /// Bytes of a frame, if what is played can be captured at all.
    fn frame_bytes(&self) -> Option<usize> {
        let [Some(played), Some(captured)] = &self.params else {
            return None;
        };
        let same = |p: &Params| (p.format, p.rate, p.channels);
        (same(played) == same(captured)).then_some(played.frame_bytes() as usize)
    }

    /// The longest run of free bytes behind the newest frame, in whole frames.
    fn free(&mut self, frame_bytes: usize, frames: u64) -> &mut [u8] {
        let size = self.ring_size(frame_bytes);
        let end = (self.start + self.length) % size;
        let run = (size - end).min(size - self.length);
        let wanted = usize::try_from(frames)
            .unwrap_or(usize::MAX)
            .saturating_mul(frame_bytes);
        self.ring
            .get_mut(end..end + run.min(wanted))
            .unwrap_or(&mut [])
    }

    fn ring_size(&self, frame_bytes: usize) -> usize {
        self.ring.len() / frame_bytes * frame_bytes
    }

    fn clear(&mut self) {
        self.start = 0;
        self.length = 0;
    }
}

impl Medium for Loopback {
    fn streams(&self) -> &[PcmInfo] {
        &self.streams
    }

    fn prepare(&mut self, stream: usize, params: &Params) -> Result<(), HostError> {
        if let (Some(known), Some(silence)) =
            (self.params.get_mut(stream), self.silence.get_mut(stream))
        {
            *known = Some(*params);
            *silence = Silence::new(params);
        }
        self.capturing &= stream != CAPTURE;
        self.clear();
        Ok(())
    }

    fn started(&mut self, stream: usize) {
        self.capturing |= stream == CAPTURE;
    }

    fn settle(&mut self, stream: usize) {
        if stream == CAPTURE {
            self.capturing = false;
            self.clear();
        }
    }

    fn release(&mut self, stream: usize) {
        self.settle(stream);
        if let Some(params) = self.params.get_mut(stream) {
            *params = None;
        }
    }

    fn write(&mut self, stream: usize, mut frames: u64, fill: &mut dyn FnMut(&mut [u8])) {
        let Some(frame_bytes) = self.frame_bytes() else {
            return;
        };
        if stream != PLAYBACK || !self.capturing {
            return;
        }
        while frames > 0 {
            let free = self.free(frame_bytes, frames);
            let taken = free.len();
            if taken == 0 {
                // The capturing side sleeps; the oldest frame makes room.
                self.start = (self.start + frame_bytes) % self.ring_size(frame_bytes);
                self.length -= frame_bytes;
                continue;
            }
            fill(free);
            self.length += taken;
            frames -= (taken / frame_bytes) as u64;
        }
    }

    fn read(&mut self, stream: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) {
        let mut left = frames;
        if let Some(frame_bytes) = self.frame_bytes() {
            let size = self.ring_size(frame_bytes);
            while left > 0 && self.length > 0 {
                let wanted = usize::try_from(left)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(frame_bytes);
                let run = self.length.min(size - self.start).min(wanted);
                drain(self.ring.get(self.start..self.start + run).unwrap_or(&[]));
                self.start = (self.start + run) % size;
                self.length -= run;
                left -= (run / frame_bytes) as u64;
            }
        }
        if let Some(silence) = self.silence.get(stream) {
            silence.give(left, drain);
        }
    }

    fn starve(&mut self, stream: usize, frames: u64) {
        if stream == PLAYBACK {
            let format = self.params[PLAYBACK].map(|params| params.format);
            self.write(PLAYBACK, frames, &mut |room| {
                if let Some(format) = format {
                    format.fill_silence(room);
                }
            });
        } else {
            self.read(stream, frames, &mut |_| ());
        }
    }

    fn fault(&mut self, _stream: usize) -> Option<HostError> {
        None
    }
}
