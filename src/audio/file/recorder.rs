// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A stream that is captured from a WAV file. It starts over at every PREPARE, and when its rings have
//! been away (a virtual machine that was paused), and is followed by silence.

use std::path::Path;

use super::super::HostError;
use super::super::clock::Medium;
use super::super::null::Silence;
use super::super::wav;
use super::failure;
use crate::pcm_format;
use crate::stream::Params;
use crate::wire::{Direction, PcmInfo};

/// The medium of a capture stream of `--host file`.
pub struct Recorder {
    streams: [PcmInfo; 1],
    samples: Vec<u8>,
    at: usize,
    /// Frames that another process has captured before this one goes on.
    inherited: u64,
    frame_bytes: usize,
    silence: Silence,
}

impl Recorder {
    /// A stream that offers what the file at `path` is.
    ///
    /// # Errors
    /// The file cannot be read, or is no WAV file of a supported format.
    pub fn new(path: &Path) -> Result<Self, HostError> {
        let file = std::fs::read(path).map_err(|source| failure(path, source))?;
        let (layout, samples) = wav::parse(&file).map_err(|reason| HostError::Wav {
            path: path.display().to_string(),
            reason,
        })?;
        let info = PcmInfo {
            device: 0,
            formats: layout.format.bit(),
            rates: pcm_format::rate_bit(layout.rate),
            direction: Direction::Capture,
            channels_min: layout.channels,
            channels_max: layout.channels,
            features: 0,
        };
        Ok(Self {
            streams: [info],
            samples: samples.to_vec(),
            at: 0,
            inherited: 0,
            frame_bytes: 1,
            silence: Silence::default(),
        })
    }
}

impl Medium for Recorder {
    fn streams(&self) -> &[PcmInfo] {
        &self.streams
    }

    fn inherit(&mut self, _stream: usize, frames: u64) {
        self.inherited = frames;
    }

    fn prepare(&mut self, _stream: usize, params: &Params) -> Result<(), HostError> {
        self.frame_bytes = params.frame_bytes() as usize;
        let captured = usize::try_from(std::mem::take(&mut self.inherited)).unwrap_or(usize::MAX);
        self.at = captured
            .saturating_mul(self.frame_bytes)
            .min(self.samples.len());
        self.silence = Silence::new(params);
        Ok(())
    }

    fn write(&mut self, _stream: usize, frames: u64, _fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        frames
    }

    fn read(&mut self, _stream: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) {
        let wanted = usize::try_from(frames)
            .unwrap_or(usize::MAX)
            .saturating_mul(self.frame_bytes);
        let left = self.samples.get(self.at..).unwrap_or(&[]);
        let found = left.get(..wanted.min(left.len())).unwrap_or(&[]);
        drain(found);
        self.at += found.len();
        self.silence.give(
            frames - (found.len() / self.frame_bytes.max(1)) as u64,
            drain,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pcm_format::U8;
    use wav::Layout;

    #[test]
    fn a_captured_file_starts_over_at_prepare_and_ends_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.wav");
        let layout = Layout {
            format: U8,
            rate: 48_000,
            channels: 2,
        };
        let mut file = wav::header(layout, 6).unwrap().to_vec();
        file.extend([1, 2, 3, 4, 5, 6]);
        std::fs::write(&path, &file).unwrap();
        let mut files = Recorder::new(&path).unwrap();
        let info = files.streams()[0];
        assert_eq!(
            (info.formats, info.direction),
            (U8.bit(), Direction::Capture)
        );
        assert_eq!((info.channels_min, info.channels_max), (2, 2));
        let params = Params {
            format: U8,
            rate: 48_000,
            channels: 2,
            buffer_bytes: 8,
            period_bytes: 4,
            features: 0,
        };
        for _ in 0..2 {
            files.prepare(0, &params).unwrap();
            let mut heard = Vec::new();
            files.read(0, 2, &mut |part| heard.extend_from_slice(part));
            files.read(0, 3, &mut |part| heard.extend_from_slice(part));
            assert_eq!(heard, [1, 2, 3, 4, 5, 6, 128, 128, 128, 128]);
        }
    }

    #[test]
    fn what_is_no_wav_file_is_refused() {
        for path in ["/nonexistent.wav", "/dev/null"] {
            assert!(Recorder::new(Path::new(path)).is_err(), "{path}");
        }
    }
}
