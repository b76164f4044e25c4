// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A stream that is captured from a pipeline, which starts over at every PREPARE and is followed by
//! silence.

use std::sync::atomic::Ordering;

use rtrb::{Consumer, RingBuffer};

use super::super::HostError;
use super::super::clock::Medium;
use super::super::null::Silence;
use super::super::sample_ring;
use super::worker::{Order, Ring, Worker};
use super::{caps, pipeline, refused};
use crate::stream::Params;
use crate::wire::{Direction, PcmInfo};

/// Room in the ring in seconds of sound, and its bounds in bytes.
const RING_SECONDS: usize = 1;
const LEAST_RING: usize = 1 << 12;
const MOST_RING: usize = 1 << 22;
/// What a live source has to have given, in parts of a second, before it is heard: it comes in pieces.
const CUSHION: u32 = 20;

/// The medium of a capture stream of `--host gstreamer`.
pub struct Capturer {
    streams: [PcmInfo; 1],
    worker: Worker,
    samples: Option<Consumer<u8>>,
    frame_bytes: usize,
    /// Frames that a live source has to have given.
    cushion: usize,
    /// It is heard.
    flows: bool,
    silence: Silence,
    complaint: Option<HostError>,
}

impl Capturer {
    /// A stream that offers what the pipeline gives. One that does not start is tried again when an
    /// application captures.
    ///
    /// # Errors
    /// It is no pipeline, or gives nothing that a card has.
    pub fn new(description: &str) -> Result<Self, HostError> {
        let direction = Direction::Capture;
        let able = pipeline::ability(description, direction);
        let (able, trouble) = able.map_err(|what| refused(description, what))?;
        let offered = caps::offer(&able, direction)
            .ok_or_else(|| refused(description, format!("it gives no sound of a card: {able}")))?;
        let complaint = trouble.map(|what| HostError::PipelineFailed {
            pipeline: description.to_owned(),
            what,
        });
        Ok(Self {
            streams: [offered],
            worker: Worker::start(description, direction, complaint.is_some())
                .map_err(HostError::PipelineThread)?,
            samples: None,
            frame_bytes: 1,
            cushion: 0,
            flows: false,
            silence: Silence::default(),
            complaint,
        })
    }

    /// Frames that can be read.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        let samples = self.samples.as_ref().map_or(0, Consumer::slots);
        samples / self.frame_bytes
    }

    fn is_live(&self) -> bool {
        self.worker.signs.live.load(Ordering::Acquire)
    }
}

impl Medium for Capturer {
    fn streams(&self) -> &[PcmInfo] {
        &self.streams
    }

    fn prepare(&mut self, _stream: usize, params: &Params) -> Result<(), HostError> {
        self.frame_bytes = params.frame_bytes() as usize;
        self.cushion = (params.rate / CUSHION) as usize;
        self.flows = false;
        self.silence = Silence::new(params);
        let room = sample_ring::room(
            self.frame_bytes,
            params.rate,
            RING_SECONDS,
            LEAST_RING,
            MOST_RING,
        );
        let (producer, consumer) = RingBuffer::new(room);
        self.samples = Some(consumer);
        self.worker
            .ask(|answer| Order::Open(*params, Ring::Capture(producer), answer));
        Ok(())
    }

    fn started(&mut self, _stream: usize) {
        if self.is_live()
            && let Some(samples) = &mut self.samples
        {
            // What a microphone has heard before is of no use.
            let old = samples.slots() / self.frame_bytes;
            sample_ring::take(samples, self.frame_bytes, old as u64, &mut |_| ());
        }
        self.worker.order(Order::Run);
    }

    fn settle(&mut self, _stream: usize) {
        self.worker.ask(Order::Settle);
    }

    fn release(&mut self, _stream: usize) {
        if self.samples.take().is_some() {
            self.worker.ask(Order::Close);
        }
    }

    fn write(&mut self, _stream: usize, frames: u64, _fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        frames
    }

    fn read(&mut self, _stream: usize, frames: u64, drain: &mut dyn FnMut(&[u8])) {
        let live = self.is_live();
        let mut given = 0;
        if let Some(samples) = &mut self.samples {
            let there = samples.slots() / self.frame_bytes;
            self.flows |= !live || there >= self.cushion;
            if self.flows {
                given = sample_ring::take(samples, self.frame_bytes, frames, drain);
                self.flows = given == frames;
            }
        }
        self.silence.give(frames.saturating_sub(given), drain);
    }

    fn fault(&mut self, _stream: usize) -> Option<HostError> {
        self.complaint.take().or_else(|| self.worker.fault())
    }

    fn returned(&mut self, _stream: usize) -> bool {
        self.worker.signs.returned.swap(false, Ordering::AcqRel)
    }
}
