// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plays into WAV files and captures from them, paced by a clock.

mod disk;
mod player;
mod recorder;
mod recording;

pub use disk::Disk;
pub use player::Player;
pub use recorder::Recorder;

use std::path::Path;

use super::HostError;
use crate::pcm_format::{self, Format};

/// The formats that a WAV file can take.
pub const FORMATS: [Format; 9] = [
    pcm_format::MU_LAW,
    pcm_format::A_LAW,
    pcm_format::U8,
    pcm_format::S16,
    pcm_format::S24_3,
    pcm_format::S24,
    pcm_format::S32,
    pcm_format::FLOAT,
    pcm_format::FLOAT64,
];

fn failure(path: &Path, source: std::io::Error) -> HostError {
    HostError::File {
        path: path.display().to_string(),
        source,
    }
}
