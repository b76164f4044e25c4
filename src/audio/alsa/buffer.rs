// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The buffer of an open PCM, mapped: samples are copied straight into it and out of it.

use alsa::pcm::PCM;

use crate::pcm_format::Format;
use crate::stream::Params;

/// A PCM that is set up, and what its frames are.
pub struct Buffer {
    /// The PCM.
    pub pcm: PCM,
    format: Format,
    frame_bytes: usize,
}

impl Buffer {
    /// The buffer of a PCM with these parameters.
    pub fn new(pcm: PCM, params: &Params) -> Self {
        Self {
            pcm,
            format: params.format,
            frame_bytes: params.frame_bytes() as usize,
        }
    }

    /// Visits the next `frames` frames, in pieces, as far as there are so many. Returns how many.
    pub fn transfer(&self, frames: u64, visit: &mut dyn FnMut(&mut [u8])) -> u64 {
        let io = self.pcm.io_bytes();
        let mut left = frames;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX);
            let moved = io.mmap(wanted, |room| {
                visit(room);
                room.len() / self.frame_bytes
            });
            match moved {
                Ok(moved) if moved > 0 => left = left.saturating_sub(moved as u64),
                // What is wrong shows when the card is asked for its position next.
                _ => break,
            }
        }
        frames - left
    }

    /// Makes the next `frames` frames silent; returns how many there were.
    pub fn write_silence(&self, frames: u64) -> u64 {
        self.transfer(frames, &mut |room| self.format.fill_silence(room))
    }
}
