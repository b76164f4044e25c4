// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is played is captured, frame for frame, on one clock.
//!
//! Stream 0 plays, stream 1 captures. Where nothing is played, or where the two streams differ in
//! format, rate or channels, silence is captured; what is played while nobody captures is gone.

use super::HostError;
use super::clock::Medium;
use super::null::Silence;
use super::sample_ring;
use crate::stream::Params;
use crate::wire::PcmInfo;

/// Room between the two streams, in bytes: a second of sound within these bounds. They are served at
/// the same wake-ups, so that only what was played since the last one lies here.
const LEAST_ROOM: usize = 1 << 16;
const MOST_ROOM: usize = 1 << 23;

const PLAYBACK: usize = 0;
const CAPTURE: usize = 1;

/// The medium of `--host loop`.
pub struct Loopback {
    streams: [PcmInfo; 2],
    params: [Option<Params>; 2],
    /// Bytes of a frame, if what is played can be captured.
    frame_bytes: Option<usize>,
    silence: [Silence; 2],
    /// Empty while nothing that is played can be captured.
    ring: Box<[u8]>,
    /// Offset of the oldest byte, and how many bytes there are; whole frames always.
    start: usize,
    length: usize,
    playing: bool,
    capturing: bool,
}

impl Loopback {
    /// A medium with one stream of each direction.
    pub fn new(streams: [PcmInfo; 2]) -> Self {
        Self {
            streams,
            params: [None, None],
            frame_bytes: None,
            silence: Default::default(),
            ring: Box::default(),
            start: 0,
            length: 0,
            playing: false,
            capturing: false,
        }
    }

    /// The longest run of free bytes behind the newest frame, up to `wanted`; whole frames if that is.
    fn free(&mut self, wanted: usize) -> &mut [u8] {
        let size = self.ring.len();
        let end = (self.start + self.length) % size;
        let run = (size - end).min(size - self.length);
        self.ring
            .get_mut(end..end + run.min(wanted))
            .unwrap_or(&mut [])
    }

    /// Makes room for what is played, if it can be captured at all.
    fn fit(&mut self) {
        self.frame_bytes = None;
        let mut room = 0;
        let same = |p: &Params| (p.format, p.rate, p.channels);
        if let [Some(played), Some(captured)] = &self.params
            && same(played) == same(captured)
        {
            let frame_bytes = played.frame_bytes() as usize;
            room = sample_ring::room(frame_bytes, played.rate, 1, LEAST_ROOM, MOST_ROOM);
            self.frame_bytes = Some(frame_bytes);
        }
        if room != self.ring.len() {
            self.ring = vec![0; room].into();
        }
        self.clear();
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
        self.fit();
        Ok(())
    }

    fn started(&mut self, stream: usize) {
        self.playing |= stream == PLAYBACK;
        self.capturing |= stream == CAPTURE;
    }

    fn settle(&mut self, stream: usize) {
        if stream == CAPTURE {
            self.capturing = false;
            self.clear();
        } else {
            self.playing = false;
        }
    }

    fn release(&mut self, stream: usize) {
        self.settle(stream);
        if let Some(params) = self.params.get_mut(stream) {
            *params = None;
        }
        // While one stream is left, the last that was played can still be captured.
        if self.params == [None, None] {
            self.fit();
        }
    }

    fn write(&mut self, stream: usize, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        let Some(frame_bytes) = self.frame_bytes else {
            return frames;
        };
        if stream != PLAYBACK || !self.capturing {
            return frames;
        }
        let size = self.ring.len();
        let mut left = frames;
        while left > 0 {
            let wanted = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .saturating_mul(frame_bytes)
                .min(size);
            // Where the capturing side sleeps, the oldest frames make room.
            let lacking = wanted.saturating_sub(size - self.length);
            self.start = (self.start + lacking) % size;
            self.length -= lacking;
            let free = self.free(wanted);
            let taken = free.len();
            fill(free);
            self.length += taken;
            left -= (taken / frame_bytes) as u64;
        }
        frames
    }

    fn read(&mut self, stream: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) {
        let frame_bytes = self.frame_bytes.unwrap_or(1);
        let mut sound = frames.min((self.length / frame_bytes) as u64);
        let silence = frames - sound;
        // What is played now reaches up to now, what was played before a stop came first.
        if let Some(source) = self.silence.get(stream).filter(|_| self.playing) {
            source.give(silence, drain);
        }
        let size = self.ring.len();
        while sound > 0 {
            let wanted = usize::try_from(sound)
                .unwrap_or(usize::MAX)
                .saturating_mul(frame_bytes);
            let run = (size - self.start).min(wanted);
            drain(self.ring.get(self.start..self.start + run).unwrap_or(&[]));
            self.start = (self.start + run) % size;
            self.length -= run;
            sound -= (run / frame_bytes) as u64;
        }
        if let Some(source) = self.silence.get(stream).filter(|_| !self.playing) {
            source.give(silence, drain);
        }
    }

    fn starve(&mut self, stream: usize, frames: u64) {
        // What is older would have to make room for it.
        let frames = frames.min((self.ring.len() / self.frame_bytes.unwrap_or(1)) as u64);
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
}

#[cfg(test)]
mod tests {
    use super::super::clock::Clocked;
    use super::super::{Host, Nanos};
    use super::*;
    use crate::pcm_format;
    use crate::wire::Direction;

    fn info(direction: Direction) -> PcmInfo {
        let (formats, rates) = (u64::MAX, u64::MAX);
        PcmInfo {
            device: 0,
            formats,
            rates,
            direction,
            channels_min: 1,
            channels_max: 8,
            features: 0,
        }
    }

    fn loopback() -> Clocked<Loopback> {
        Clocked::new(Loopback::new([
            info(Direction::Playback),
            info(Direction::Capture),
        ]))
    }

    fn params(rate: u32) -> Params {
        Params {
            format: pcm_format::S24_3,
            rate,
            channels: 1,
            buffer_bytes: 1200,
            period_bytes: 300,
            features: 0,
        }
    }

    /// Serves both streams at `now`, as the audio thread does; what is played counts up from 1.
    fn serve(host: &mut Clocked<Loopback>, now: Nanos, next: &mut u32, heard: &mut Vec<u32>) {
        let due = host.progress(PLAYBACK, now).ready;
        host.write(PLAYBACK, due, &mut |room| {
            for sample in room.chunks_mut(3) {
                sample.copy_from_slice(&next.to_le_bytes()[..3]);
                *next += 1;
            }
        });
        let due = host.progress(CAPTURE, now).ready;
        host.read(CAPTURE, due, &mut |part| {
            heard.extend(
                part.chunks(3)
                    .map(|s| u32::from_le_bytes([s[0], s[1], s[2], 0])),
            );
        });
    }

    #[test]
    fn not_a_frame_is_lost_or_repeated_at_any_pace() {
        for rate in [44_100, 48_000] {
            let mut host = loopback();
            let (mut next, mut heard) = (1, Vec::new());
            host.prepare(PLAYBACK, &params(rate)).unwrap();
            host.prepare(CAPTURE, &params(rate)).unwrap();
            host.start(CAPTURE, 1_000_003).unwrap();
            host.start(PLAYBACK, 5_123_457).unwrap();
            let mut now = 5_200_000;
            for step in 0..5000u64 {
                serve(&mut host, now, &mut next, &mut heard);
                now += 1 + step * 7919 % 3_000_000;
            }
            let silence = heard.iter().take_while(|&&sample| sample == 0).count();
            let sound = &heard[silence..];
            assert!(sound.len() > 100_000);
            assert!(
                sound
                    .iter()
                    .zip(1..)
                    .all(|(&heard, played)| heard == played)
            );
        }
    }

    #[test]
    fn a_hole_in_playback_is_captured_as_silence_of_its_length() {
        let mut host = loopback();
        host.prepare(PLAYBACK, &params(48_000)).unwrap();
        host.prepare(CAPTURE, &params(48_000)).unwrap();
        host.start(PLAYBACK, 0).unwrap();
        host.start(CAPTURE, 0).unwrap();
        let (mut next, mut heard) = (1, Vec::new());
        serve(&mut host, 1_000_000, &mut next, &mut heard);
        assert_eq!(host.starve(PLAYBACK, 48, 2_000_000), 48);
        serve(&mut host, 3_000_000, &mut next, &mut heard);
        let expected: Vec<u32> = (1..=48)
            .chain(std::iter::repeat_n(0, 48))
            .chain(49..=96)
            .collect();
        assert_eq!(heard, expected);
    }

    #[test]
    fn different_parameters_capture_silence() {
        let mut host = loopback();
        host.prepare(PLAYBACK, &params(48_000)).unwrap();
        host.prepare(CAPTURE, &params(44_100)).unwrap();
        host.start(PLAYBACK, 0).unwrap();
        host.start(CAPTURE, 0).unwrap();
        let (mut next, mut heard) = (1, Vec::new());
        serve(&mut host, 1_000_000_000, &mut next, &mut heard);
        assert_eq!(heard, vec![0; 44_100]);
    }

    #[test]
    fn what_was_played_last_is_captured_after_playback_has_been_released() {
        let mut host = loopback();
        host.prepare(PLAYBACK, &params(48_000)).unwrap();
        host.prepare(CAPTURE, &params(48_000)).unwrap();
        host.start(PLAYBACK, 0).unwrap();
        host.start(CAPTURE, 0).unwrap();
        host.write(PLAYBACK, 2, &mut |room| {
            room.copy_from_slice(&[1, 0, 0, 2, 0, 0])
        });
        host.stop(PLAYBACK, 1_000_000);
        host.release(PLAYBACK);
        let mut heard = Vec::new();
        host.read(CAPTURE, 3, &mut |part| heard.extend_from_slice(part));
        assert_eq!(heard, [1, 0, 0, 2, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_cable_that_nobody_uses_has_no_memory() {
        let both = [info(Direction::Playback), info(Direction::Capture)];
        let mut cable = Loopback::new(both);
        for (used, rate) in [(1 << 16, 8000), (144_000, 48_000)] {
            assert_eq!(cable.ring.len(), 0);
            for stream in [PLAYBACK, CAPTURE] {
                cable.prepare(stream, &params(rate)).unwrap();
            }
            assert_eq!(cable.ring.len(), used / 3 * 3);
            cable.release(PLAYBACK);
            cable.release(CAPTURE);
        }
        assert_eq!(cable.ring.len(), 0);
    }

    #[test]
    fn a_capturing_side_that_sleeps_loses_the_oldest_frames() {
        let mut host = loopback();
        host.prepare(PLAYBACK, &params(48_000)).unwrap();
        host.prepare(CAPTURE, &params(48_000)).unwrap();
        host.start(PLAYBACK, 0).unwrap();
        host.start(CAPTURE, 0).unwrap();
        let mut next = 1u32;
        // A second is more than the least room.
        let room = 48_000;
        host.write(PLAYBACK, room + 5, &mut |room| {
            for sample in room.chunks_mut(3) {
                sample.copy_from_slice(&next.to_le_bytes()[..3]);
                next += 1;
            }
        });
        let mut heard = Vec::new();
        host.read(CAPTURE, 2, &mut |part| heard.extend_from_slice(part));
        assert_eq!(heard, [6, 0, 0, 7, 0, 0]);
    }
}
