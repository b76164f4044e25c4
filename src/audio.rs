// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where sound goes to and comes from. A host knows samples, frames and clocks; it never sees a
//! queue, a descriptor or a driver's memory.
//!
//! Each stream counts its frames from PREPARE on in a *position*: frames that the host has consumed
//! (playback) or captured. The host's clock moves it; the audio thread asks for it at each wake-up,
//! hands over the frames that are wanted, and sleeps until the position passes the next message.

#[cfg(feature = "alsa")]
pub mod alsa;
pub mod clock;
pub mod file;
#[cfg(feature = "gstreamer")]
pub mod gstreamer;
pub mod loopback;
pub mod mixer;
pub mod null;
#[cfg(any(feature = "alsa", feature = "pipewire"))]
pub mod orders;
#[cfg(feature = "pipewire")]
pub mod pipewire;
pub mod routes;
pub mod sample_ring;
pub mod wav;

use std::os::fd::BorrowedFd;

use nix::poll::PollFlags;

use crate::stream::Params;
pub use crate::time::Nanos;
use crate::wire::PcmInfo;

/// Why a host cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A file cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Path of the file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file that was to be captured is none that this device can read.
    #[error("{path}: not a WAV file that can be captured: {reason}")]
    Wav {
        /// Path of the file.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A description makes no pipeline, or one that is of no use.
    #[cfg(feature = "gstreamer")]
    #[error("pipeline '{pipeline}': {what}")]
    Pipeline {
        /// The description.
        pipeline: String,
        /// What GStreamer said, or what is wrong with it.
        what: String,
    },
    /// A pipeline does not play, or not any more.
    #[cfg(feature = "gstreamer")]
    #[error("pipeline '{pipeline}': {what}; the stream goes on in silence until it plays again")]
    PipelineFailed {
        /// The description.
        pipeline: String,
        /// What GStreamer said.
        what: String,
    },
    /// There is no thread to speak with GStreamer.
    #[cfg(feature = "gstreamer")]
    #[error("cannot start the thread that speaks with GStreamer: {0}")]
    PipelineThread(#[source] std::io::Error),
    /// There is no thread to open sound cards in.
    #[cfg(feature = "alsa")]
    #[error("cannot start the thread that opens sound cards: {0}")]
    Thread(#[source] std::io::Error),
    /// There is no thread to speak with a server.
    #[cfg(feature = "pipewire")]
    #[error("cannot start the thread that speaks with PipeWire: {0}")]
    ServerThread(#[source] std::io::Error),
    /// There is no PipeWire server, or it does not have the stream.
    #[cfg(feature = "pipewire")]
    #[error(transparent)]
    PipeWire(PipeWireError),
    /// A driver wishes for a longer period than there is memory for.
    #[cfg(feature = "pipewire")]
    #[error("periods of more than {0} s are not played")]
    LongPeriod(u64),
    /// An ALSA device cannot be used.
    #[cfg(feature = "alsa")]
    #[error(
        "ALSA device {device}: {step}: {source}; the stream goes on in silence until it can be used"
    )]
    Alsa {
        /// Name of the PCM.
        device: std::sync::Arc<str>,
        /// What was being done.
        step: &'static str,
        /// What ALSA said.
        source: ::alsa::Error,
    },
}

/// What is wrong with a PipeWire server, or with a stream there.
#[cfg(feature = "pipewire")]
#[derive(Clone, Debug, thiserror::Error)]
#[error("PipeWire: {what}; the stream goes on in silence until it can be used")]
pub struct PipeWireError {
    /// What the server or the library said.
    pub what: String,
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Frames consumed or captured so far; never goes back.
    pub position: u64,
    /// Playback: frames that the host wants now. Capture: frames that can be read now.
    pub ready: u64,
    /// Frames between this position and the loudspeaker or microphone.
    pub latency: u64,
}

/// What plays and captures. Streams are named by their virtio stream id, which is their place in
/// [`Host::streams`]; ids beyond it are ignored.
///
/// PREPARE, START, STOP and RELEASE may take their time, within a fraction of a second. Everything
/// else is called by the audio thread while sound runs: it must not block, allocate, lock or log.
pub trait Host: Send {
    /// What each stream can do.
    fn streams(&self) -> &[PcmInfo];

    /// The stream goes on of which another process has played or captured `frames` frames since the last
    /// PREPARE: what that has left behind is to stay.
    fn inherit(&mut self, _stream: usize, _frames: u64) {}

    /// Gets a stream ready with these parameters, from position 0. May be repeated.
    ///
    /// # Errors
    /// The device or file behind the stream cannot be used so.
    fn prepare(&mut self, stream: usize, params: &Params) -> Result<(), HostError>;

    /// Lets the clock run. Frames may have been written before.
    ///
    /// # Errors
    /// The device behind the stream does not start.
    fn start(&mut self, stream: usize, now: Nanos) -> Result<(), HostError>;

    /// Halts the clock at once. Returns the position, at which START goes on: frames that were
    /// written but lie beyond it have not been heard and are handed over again.
    fn stop(&mut self, stream: usize, now: Nanos) -> u64;

    /// Gives back what PREPARE took.
    fn release(&mut self, stream: usize);

    /// How far the stream is.
    fn progress(&mut self, stream: usize, now: Nanos) -> Progress;

    /// The position at which the next frame is written or read.
    fn cursor(&self, stream: usize) -> u64;

    /// Takes up to `frames` frames, in one or several calls of `fill`, each with whole frames in
    /// order. Returns the frames taken; a host that needs no samples may take them unseen.
    fn write(&mut self, stream: usize, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64;

    /// Hands out up to `frames` frames in one or several calls of `drain`, each with whole frames
    /// in order. Returns the frames handed out.
    fn read(&mut self, stream: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) -> u64;

    /// `frames` frames are ready, but the driver has none, or no room for them. Returns how many of
    /// them the host did without, as silence or as lost sound: its clock goes on.
    fn starve(&mut self, stream: usize, frames: u64, now: Nanos) -> u64;

    /// Frames of sound that the host has lost by itself since the last call, though the driver had them, or
    /// room for them, in time.
    fn lost(&mut self, _stream: usize) -> u64 {
        0
    }

    /// The stream is to be served when it passes `position`. Called before each sleep; a card that
    /// tells by itself names its descriptor in [`Host::wakers`] and is late in [`Host::when`].
    fn expect(&mut self, _stream: usize, _position: u64) {}

    /// Hands out the descriptors that wake the audio thread, each with what to wait for: what they
    /// tell is taken in [`Host::wake`] or [`Host::progress`].
    fn wakers<'a>(&'a self, _wait: &mut dyn FnMut(BorrowedFd<'a>, PollFlags)) {}

    /// Called first at every wake-up, whatever the streams do.
    fn wake(&mut self, _now: Nanos) {}

    /// When the position is expected to pass `position`; later than `now`.
    fn when(&self, stream: usize, position: u64, now: Nanos) -> Nanos;

    /// When the host has to be served even if no message ends then, or even if it is stopped.
    fn upkeep(&self, stream: usize, now: Nanos) -> Option<Nanos>;

    /// Called at wake-ups while the stream does not run.
    fn rest(&mut self, _stream: usize, _now: Nanos) {}

    /// What went wrong with the stream since the last call.
    fn fault(&mut self, stream: usize) -> Option<HostError>;

    /// Whether what went wrong has come right by itself since the last call.
    fn returned(&mut self, _stream: usize) -> bool {
        false
    }
}
