// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A stream that is played into a pipeline.

use std::sync::atomic::Ordering;

use rtrb::{Producer, RingBuffer};

use super::super::HostError;
use super::super::clock::Medium;
use super::super::sample_ring;
use super::worker::{Order, Ring, Worker};
use super::{caps, pipeline, refused};
use crate::stream::Params;
use crate::wire::{Direction, PcmInfo};

/// Room in the ring in seconds of sound, and its bounds in bytes: how long a pipeline may take a rest.
const RING_SECONDS: usize = 4;
const LEAST_RING: usize = 1 << 16;
const MOST_RING: usize = 1 << 24;

/// The medium of a playback stream of `--host gstreamer`.
pub struct Player {
    streams: [PcmInfo; 1],
    worker: Worker,
    /// What the pipeline is played with now.
    params: Option<Params>,
    samples: Option<Producer<u8>>,
}

impl Player {
    /// A stream that offers what the pipeline takes.
    ///
    /// # Errors
    /// It is no pipeline, or takes nothing that a card has.
    pub fn new(description: &str) -> Result<Self, HostError> {
        let direction = Direction::Playback;
        let able = pipeline::ability(description, direction);
        let (able, _) = able.map_err(|what| refused(description, what))?;
        let offered = caps::offer(&able, direction)
            .ok_or_else(|| refused(description, format!("it takes no sound of a card: {able}")))?;
        Ok(Self {
            streams: [offered],
            worker: Worker::start(description, direction, false)
                .map_err(HostError::PipelineThread)?,
            params: None,
            samples: None,
        })
    }
}

impl Medium for Player {
    fn streams(&self) -> &[PcmInfo] {
        &self.streams
    }

    fn prepare(&mut self, _stream: usize, params: &Params) -> Result<(), HostError> {
        // Prepared again, as after an underrun, it goes on.
        if self.samples.is_some() && self.params == Some(*params) {
            return Ok(());
        }
        let frame_bytes = params.frame_bytes() as usize;
        let room = sample_ring::room(
            frame_bytes,
            params.rate,
            RING_SECONDS,
            LEAST_RING,
            MOST_RING,
        );
        let (producer, consumer) = RingBuffer::new(room);
        self.params = Some(*params);
        self.samples = Some(producer);
        self.worker
            .ask(|answer| Order::Open(*params, Ring::Play(consumer), answer));
        Ok(())
    }

    fn started(&mut self, _stream: usize) {
        self.worker.order(Order::Run);
    }

    fn settle(&mut self, _stream: usize) {
        if self.samples.is_some() {
            self.worker.ask(Order::Settle);
        }
    }

    fn release(&mut self, _stream: usize) {
        if self.samples.take().is_some() {
            self.worker.ask(Order::Close);
        }
    }

    fn write(&mut self, _stream: usize, frames: u64, fill: &mut dyn FnMut(&mut [u8])) -> u64 {
        let frame_bytes = self.params.map_or(1, |params| params.frame_bytes());
        match &mut self.samples {
            Some(samples) => sample_ring::put(samples, frame_bytes as usize, frames, fill),
            None => frames,
        }
    }

    fn read(&mut self, _stream: usize, _frames: u64, _drain: &mut dyn FnMut(&[u8])) {}

    fn fault(&mut self, _stream: usize) -> Option<HostError> {
        self.worker.fault()
    }

    fn returned(&mut self, _stream: usize) -> bool {
        self.worker.signs.returned.swap(false, Ordering::AcqRel)
    }
}
