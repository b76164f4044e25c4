// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Plays into and captures from GStreamer pipelines, paced by a clock.
//!
//! A description such as `audioconvert ! autoaudiosink` lacks one end: this program is that end. Each
//! time that a driver chooses parameters, the pipeline is played anew, from its start to its end of
//! stream. Its clock is CLOCK_MONOTONIC, as the stream's is, so neither runs away from the other. Between
//! the audio thread and the pipeline lies a ring, which a thread of the stream serves.

mod caps;
mod capturer;
mod pipeline;
mod player;
mod work;
mod worker;

pub use capturer::Capturer;
pub use player::Player;

use super::HostError;

/// A pipeline cannot be used at all.
fn refused(description: &str, what: impl Into<String>) -> HostError {
    HostError::Pipeline {
        pipeline: description.to_owned(),
        what: what.into(),
    }
}

#[cfg(test)]
mod tests;
