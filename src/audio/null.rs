// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plays nothing and captures silence, at the right pace.

use super::HostError;
use super::clock::Medium;
use crate::pcm_format::Format;
use crate::stream::Params;
use crate::wire::PcmInfo;

/// Frames of silence that are handed out at once.
const SILENCE_FRAMES: u64 = 256;

/// Silence of one format, ready to be handed out.
#[derive(Default)]
pub struct Silence {
    frame_bytes: usize,
    samples: Vec<u8>,
}

impl Silence {
    /// Silence for streams with these parameters.
    pub fn new(params: &Params) -> Self {
        Self::of(params.format, params.frame_bytes() as usize)
    }

    fn of(format: Format, frame_bytes: usize) -> Self {
        let mut samples = vec![0; frame_bytes * SILENCE_FRAMES as usize];
        format.fill_silence(&mut samples);
        Self {
            frame_bytes,
            samples,
        }
    }

    /// Hands out `frames` frames of silence.
    pub fn give(&self, mut frames: u64, drain: &mut dyn FnMut(&[u8])) {
        while frames > 0 {
            let step = frames.min(SILENCE_FRAMES);
            drain(
                self.samples
                    .get(..step as usize * self.frame_bytes)
                    .unwrap_or(&[]),
            );
            frames -= step;
        }
    }
}

/// The medium of `--host null`.
pub struct Null {
    streams: Vec<PcmInfo>,
    silence: Vec<Silence>,
}

impl Null {
    /// One medium for all `streams`.
    pub fn new(streams: Vec<PcmInfo>) -> Self {
        let silence = streams.iter().map(|_| Silence::default()).collect();
        Self { streams, silence }
    }
}

impl Medium for Null {
    fn streams(&self) -> &[PcmInfo] {
        &self.streams
    }

    fn prepare(&mut self, stream: usize, params: &Params) -> Result<(), HostError> {
        if let Some(silence) = self.silence.get_mut(stream) {
            *silence = Silence::new(params);
        }
        Ok(())
    }

    fn write(&mut self, _stream: usize, frames: u64, _fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        frames
    }

    fn read(&mut self, stream: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) {
        if let Some(silence) = self.silence.get(stream) {
            silence.give(frames, drain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm_format;

    #[test]
    fn silence_keeps_whole_frames_over_any_length() {
        let silence = Silence::of(pcm_format::Format::from_name("U24_3").unwrap(), 9);
        let mut all = Vec::new();
        silence.give(1000, &mut |bytes| all.extend_from_slice(bytes));
        assert_eq!(all.len(), 9000);
        assert!(all.chunks(3).all(|sample| sample == [0, 0, 0x80]));
    }
}
